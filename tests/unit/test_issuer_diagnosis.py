"""What the door says of a certificate: each defect has its own explanation, and nothing is believed unverified."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ssl import DER_cert_to_PEM_cert

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from npd.issuer.v1 import door_pb2
from npd_pki.identity import Kind
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.profile import SIGNING
from npd_pki.validity import Validity
from services.issuer.diagnosis import diagnose
from services.issuer.domain import Authority, CertificateMalformed
from services.issuer.findings import Explanation, Finding, catalogue, explain
from services.mesh.core import authorities as terms
from services.mesh.core.authorities import AuthorityState
from services.mesh.core.rights import Policy, State, System
from tests.certificates import SERVER_AUTH, Holder, TestPki

ENVIRONMENT = "test.npd.example"
NOW = datetime.now(UTC) + timedelta(hours=1)  # later than any leaf of this run begins
DAY = timedelta(days=1)
PKI = TestPki(ENVIRONMENT)
AGENCY = PKI.hierarchy.agency
HOST = f"agency.{ENVIRONMENT}"
POLICY = Policy(
    revision=1,
    systems={("tax", "core"): System("tax", "core", "Tax", State.ACTIVE, "", NOW)},
    operators=frozenset({"lan"}),
)
KNOWN = [
    Authority(
        ca.key_id,
        f"{ca.kind}.{ENVIRONMENT}",
        AuthorityState.ACTIVE,
        NOW,
        ca.certificate.public_bytes(Encoding.DER),
        ca.certificate.not_valid_after_utc,
    )
    for ca in (AGENCY, PKI.hierarchy.operator)
]


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def explained(chain: bytes, policy: Policy = POLICY, now: datetime = NOW) -> list[Explanation]:
    found = diagnose(chain, roots=PKI.roots, authorities=KNOWN, environment=ENVIRONMENT, policy=policy, now=now)
    return [explain(one) for one in found]


def findings(chain: bytes, policy: Policy = POLICY, now: datetime = NOW) -> list[Finding]:
    return [one.finding for one in explained(chain, policy, now)]


def chain_of(holder: Holder) -> bytes:
    return pem(holder.certificate, *holder.chain)


def revoked(holder: Holder) -> Policy:
    return replace(POLICY, revoked={holder.revocation: terms.Revoked(NOW - DAY, 1)})


def governed(state: terms.AuthorityState, key_id: str = AGENCY.key_id) -> Policy:
    return replace(POLICY, authorities={key_id: terms.Authority(key_id, HOST, state, NOW - DAY)})


def suspended() -> Policy:
    system = replace(POLICY.systems["tax", "core"], state=State.SUSPENDED, cause="secret cause", state_time=NOW - DAY)
    return replace(POLICY, systems={("tax", "core"): system})


def altered(holder: Holder) -> bytes:
    """A certificate in which another system was written over the one that was signed."""
    der = holder.certificate.public_bytes(Encoding.DER)
    assert der.count(b"/tax/core") >= 1
    return pem(x509.load_der_x509_certificate(der.replace(b"/tax/core", b"/tax/corn")), *holder.chain)


def good() -> Holder:
    return PKI.agency("tax", "core")


Case = Callable[[], tuple[bytes, Policy]]
CASES: Mapping[str, tuple[Finding, Case]] = {
    "good": (Finding.ACCEPTED, lambda: (chain_of(good()), POLICY)),
    "expired": (
        Finding.EXPIRED,
        lambda: (chain_of(PKI.agency("tax", "core", validity=Validity(NOW - 9 * DAY, NOW - 4 * DAY))), POLICY),
    ),
    "not yet valid": (
        Finding.NOT_YET_VALID,
        lambda: (chain_of(PKI.agency("tax", "core", validity=Validity(NOW + 3 * DAY, NOW + 9 * DAY))), POLICY),
    ),
    "foreign root": (Finding.ROOT_FOREIGN, lambda: (chain_of(PKI.foreign().agency("tax", "core")), POLICY)),
    "foreign root, leaf alone": (
        Finding.ROOT_FOREIGN,
        lambda: (pem(PKI.foreign().agency("tax", "core").certificate), POLICY),
    ),
    "missing intermediate": (
        Finding.INTERMEDIATE_MISSING,
        lambda: (chain_of(PKI.agency("tax", "core", chain=())), POLICY),
    ),
    "missing intermediate of a room": (
        Finding.INTERMEDIATE_MISSING,
        lambda: (chain_of(PKI.room("sharing", chain=())), POLICY),
    ),
    "revoked": (Finding.REVOKED, lambda: (chain_of(one := good()), revoked(one))),
    "signing certificate": (
        Finding.USAGE,
        lambda: (chain_of(PKI.agency("tax", "core", purposes=SIGNING.purposes)), POLICY),
    ),
    "server's certificate": (
        Finding.USAGE,
        lambda: (chain_of(PKI.agency("tax", "core", purposes=[SERVER_AUTH])), POLICY),
    ),
    "no usage": (Finding.USAGE, lambda: (chain_of(PKI.agency("tax", "core", purposes=None)), POLICY)),
    "issuing CA": (Finding.IS_AUTHORITY, lambda: (pem(AGENCY.certificate, PKI.roots[0]), POLICY)),
    "foreign root CA": (Finding.IS_AUTHORITY, lambda: (pem(PKI.foreign().hierarchy.root.certificate), POLICY)),
    "no URI": (Finding.IDENTITY_MALFORMED, lambda: (chain_of(PKI.agency("tax", "core", uris=())), POLICY)),
    "two URIs": (
        Finding.IDENTITY_MALFORMED,
        lambda: (
            chain_of(PKI.agency("tax", "core", uris=[f"spiffe://{HOST}/tax/core", f"spiffe://{HOST}/moh/core"])),
            POLICY,
        ),
    ),
    "loose URI": (
        Finding.IDENTITY_MALFORMED,
        lambda: (chain_of(PKI.agency("tax", "core", uris=f"spiffe://{HOST}/tax/core?x=1")), POLICY),
    ),
    "another environment": (
        Finding.ENVIRONMENT_FOREIGN,
        lambda: (chain_of(PKI.agency("tax", "core", environment="npd.gov.vn")), POLICY),
    ),
    "another environment, another root": (
        Finding.ENVIRONMENT_FOREIGN,
        lambda: (chain_of(TestPki("npd.gov.vn").agency("tax", "core")), POLICY),
    ),
    "foreign host": (
        Finding.ISSUER_NOT_ENTITLED,
        lambda: (chain_of(PKI.agency("tax", "core", issuer=PKI.hierarchy.operator)), POLICY),
    ),
    "authority revoked": (
        Finding.AUTHORITY_GIVEN_UP,
        lambda: (chain_of(good()), governed(terms.AuthorityState.REVOKED)),
    ),
    "authority retired": (
        Finding.AUTHORITY_GIVEN_UP,
        lambda: (chain_of(good()), governed(terms.AuthorityState.RETIRED)),
    ),
    "authority not named": (
        Finding.AUTHORITY_GIVEN_UP,
        lambda: (chain_of(good()), governed(terms.AuthorityState.ACTIVE, "0" * 64)),
    ),
    "system unknown": (Finding.SYSTEM_UNKNOWN, lambda: (chain_of(PKI.agency("tax", "none")), POLICY)),
    "system suspended": (Finding.SYSTEM_SUSPENDED, lambda: (chain_of(good()), suspended())),
    "operator unknown": (Finding.OPERATOR_UNKNOWN, lambda: (chain_of(PKI.operator("minh")), POLICY)),
    "altered": (Finding.SIGNATURE_INVALID, lambda: (altered(good()), POLICY)),
    "authority tainted": (Finding.RENEW_NOW, lambda: (chain_of(good()), governed(terms.AuthorityState.TAINTED))),
}


@pytest.mark.parametrize("name", CASES)
def test_each_defect_is_found_first(name: str) -> None:
    expected, case = CASES[name]
    chain, policy = case()
    assert findings(chain, policy)[0] is expected


def test_each_defect_has_an_explanation_of_its_own_in_both_languages() -> None:
    told = {expected: explained(*case())[0] for expected, case in CASES.values()}
    assert len(told) >= 16
    for language in ("english", "vietnamese"):
        assert len({getattr(one, language) for one in told.values()}) == len(told)
    for one in told.values():
        assert "{" not in one.english + one.vietnamese
        assert one.english != one.vietnamese


def test_expiry_is_told_with_its_date_how_long_ago_and_what_to_do() -> None:
    end = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    holder = PKI.agency("tax", "core", validity=Validity(end - 9 * DAY, end))
    (one,) = explained(chain_of(holder), now=end + 4 * DAY)
    assert one.english.startswith("The certificate expired on 2026-11-20 10:00 UTC, 4 days ago.")
    assert "`npd-client renew --expired`" in one.english
    assert one.vietnamese.startswith("Chứng thư hết hạn lúc 2026-11-20 10:00 UTC, cách đây 4 ngày.")
    assert findings(chain_of(holder), now=end) == [Finding.EXPIRED], "its end is no part of its life"
    assert findings(chain_of(holder), now=end - timedelta(seconds=1)) == [Finding.ACCEPTED]


def test_an_expired_issuer_takes_its_leaves_along() -> None:
    end = AGENCY.certificate.not_valid_after_utc
    assert findings(chain_of(good()), now=end + DAY) == [Finding.ISSUER_EXPIRED, Finding.EXPIRED]


def test_several_defects_are_told_in_the_order_of_their_cure() -> None:
    holder = PKI.agency("tax", "none", validity=Validity(NOW - 9 * DAY, NOW - 4 * DAY), chain=())
    policy = replace(POLICY, revoked={(AGENCY.key_id, f"{holder.certificate.serial_number:x}"): terms.Revoked(NOW, 4)})
    assert findings(chain_of(holder), policy) == [
        Finding.REVOKED,
        Finding.EXPIRED,
        Finding.INTERMEDIATE_MISSING,
        Finding.SYSTEM_UNKNOWN,
    ]


def test_revocation_of_the_issuing_ca_by_its_root_counts() -> None:
    root = PKI.hierarchy.root.key_id
    policy = replace(POLICY, revoked={(root, f"{AGENCY.certificate.serial_number:x}"): terms.Revoked(NOW, 1)})
    assert findings(chain_of(good()), policy) == [Finding.AUTHORITY_GIVEN_UP]


def test_room_needs_its_chain_alone() -> None:
    assert findings(chain_of(PKI.room("sharing")), governed(terms.AuthorityState.REVOKED)) == [Finding.ACCEPTED]


def test_what_the_mesh_knows_of_a_holder_is_not_told_to_who_merely_names_him() -> None:
    forged = chain_of(PKI.foreign().agency("tax", "core"))
    assert findings(forged, suspended()) == [Finding.ROOT_FOREIGN]
    assert findings(altered(good()), suspended()) == [Finding.SIGNATURE_INVALID]
    (told,) = explained(chain_of(good()), suspended())
    assert "secret cause" not in told.english + told.vietnamese, "the door tells nobody why"


def test_decoy_with_the_issuers_name_is_no_issuer() -> None:
    decoy = PKI.foreign().hierarchy.agency.certificate
    assert findings(pem(good().certificate, decoy)) == [Finding.INTERMEDIATE_MISSING]
    assert findings(pem(PKI.foreign().agency("tax", "core").certificate, AGENCY.certificate)) == [Finding.ROOT_FOREIGN]


def test_names_out_of_a_certificate_are_shown_short_and_printable() -> None:
    (one,) = explained(chain_of(PKI.agency("tax", "core", uris=f"spiffe://{HOST}/" + "x" * 1000)))
    assert len(one.english) < 600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not PEM",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        pem(AGENCY.certificate)[:-80],
        private_key_pem(generate_p256_key()),
        pem(AGENCY.certificate) * 200,
    ],
    ids=["empty", "text", "not DER", "truncated", "a key", "too much"],
)
def test_what_is_no_certificate_is_malformed(content: bytes) -> None:
    with pytest.raises(CertificateMalformed):
        explained(content)


GOOD_DER = good().certificate.public_bytes(Encoding.DER)


@given(st.integers(0, len(GOOD_DER) - 1), st.integers(1, 255))
def test_no_flipped_bit_makes_it_accepted_or_breaks_the_diagnosis(place: int, mask: int) -> None:
    broken = bytearray(GOOD_DER)
    broken[place] ^= mask
    presented = DER_cert_to_PEM_cert(bytes(broken)).encode() + pem(AGENCY.certificate)
    try:
        found = findings(presented)
    except CertificateMalformed:
        return
    assert Finding.ACCEPTED not in found


def test_findings_have_the_numbers_of_the_contract_and_sentences() -> None:
    assert {f"FINDING_{one.name}": one.value for one in Finding} == {
        name: number for name, number in door_pb2.Finding.items() if number
    }
    assert {one.name for one in Finding} <= set(catalogue())
    assert all(set(sentences) == {"en", "vi"} for sentences in catalogue().values())
    assert Kind.AGENCY.value in HOST
