"""From a certificate to a caller, step by step, with one property broken at a time."""

import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from npd_client.credentials import Credentials
from npd_pki.identity import Kind
from npd_pki.issuance import issuer_key_id
from npd_pki.profile import SIGNING
from npd_pki.validity import Validity
from services.mesh.core.authorities import Authority, AuthorityState, Revoked
from services.mesh.core.caller import (
    Caller,
    CallerKind,
    CertificateExpired,
    CertificateNotYetValid,
    CertificateRevoked,
    CertificateUsage,
    EnvironmentForeign,
    IdentityMalformed,
    IssuerNotEntitled,
    Leaf,
    accept,
    identify,
    key_id,
    read_leaf,
)
from services.mesh.core.rights import OperatorUnknown, Policy, State, System, SystemSuspended, SystemUnknown
from tests.certificates import DAY, SERVER_AUTH, Holder, TestPki, expired, malformed_uris, not_yet_valid

ENV = "test.npd.example"
AGENCY_HOST, OPERATOR_HOST = f"agency.{ENV}", f"operator.{ENV}"
OPERATOR_URI, ROOM_URI = f"spiffe://{OPERATOR_HOST}/lan", f"spiffe://mesh.{ENV}/sharing"
NOW = datetime.now(UTC) + timedelta(hours=1)  # later than any leaf of this run begins
SINCE = datetime(2026, 1, 5, 8, tzinfo=UTC)
REVOKED = Revoked(SINCE, 1)


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


def policy(state: State = State.ACTIVE, **known: object) -> Policy:
    system = System("tax", "core", "Core tax", state, "audit", SINCE)
    return Policy(systems={("tax", "core"): system}, operators=frozenset({"lan"}), **known)  # type: ignore[arg-type]


def leaf_of(holder: Holder, *, presented: Sequence[x509.Certificate] | None = None) -> Leaf:
    return read_leaf(holder.certificate, holder.chain if presented is None else presented, holder.roots)


def caller_of(holder: Holder, now: datetime = NOW) -> Caller:
    return accept(leaf_of(holder), ENV, policy(), now)


def test_a_system_an_operator_and_a_room_are_accepted(pki: TestPki) -> None:
    assert caller_of(pki.agency("tax", "core")) == Caller(
        f"spiffe://{AGENCY_HOST}/tax/core", CallerKind.AGENCY, "tax/core", agency_id="tax", system_id="core"
    )
    assert caller_of(pki.operator("lan")) == Caller(OPERATOR_URI, CallerKind.OPERATOR, "lan")
    assert caller_of(pki.room("sharing")) == Caller(ROOM_URI, CallerKind.ROOM, "sharing")


def test_the_forge_breaks_only_what_it_is_told_to(pki: TestPki) -> None:
    assert caller_of(pki.agency("tax", "core", dns_names=())).name == "tax/core"
    assert caller_of(pki.agency("tax", "core", issuer=pki.issuing_ca(Kind.AGENCY))).name == "tax/core"


def test_what_a_holder_writes_is_what_the_client_reads(pki: TestPki, tmp_path: Path) -> None:
    holder = pki.agency("tax", "core")
    credentials = Credentials.from_directory(holder.write(tmp_path / "tls"))
    assert (credentials.identity, credentials.leaf) == (f"spiffe://{AGENCY_HOST}/tax/core", holder.certificate)
    assert stat.S_IMODE((tmp_path / "tls" / "tls.key").stat().st_mode) == 0o600


# 1. one strict URI in our environment, on a certificate that may authenticate a TLS client


@pytest.mark.parametrize("fault", malformed_uris(ENV))
def test_a_malformed_identity_is_refused(pki: TestPki, fault: str) -> None:
    with pytest.raises(IdentityMalformed):
        caller_of(pki.agency("tax", "core", uris=malformed_uris(ENV)[fault]))


def test_exactly_one_uri_is_an_identity(pki: TestPki) -> None:
    uri = f"spiffe://{AGENCY_HOST}/tax/core"
    for uris in ((), (uri, uri), (uri, f"spiffe://{AGENCY_HOST}/moh/medical"), (uri, "https://npd.example/")):
        with pytest.raises(IdentityMalformed):
            caller_of(pki.agency("tax", "core", uris=uris))


def test_a_uri_spelt_in_a_dns_name_is_no_identity(pki: TestPki) -> None:
    uri = f"spiffe://{AGENCY_HOST}/tax/core"
    with pytest.raises(IdentityMalformed):
        caller_of(pki.agency("tax", "core", uris=(), dns_names=(uri,)))
    with pytest.raises(IdentityMalformed):
        caller_of(pki.agency("tax", "core", uris=(), dns_names=()))


def test_another_environment_is_named_even_below_the_same_root(pki: TestPki) -> None:
    with pytest.raises(EnvironmentForeign) as refused:
        caller_of(pki.agency("tax", "core", environment="other.npd.example"))
    assert refused.value.metadata == {"environment": "other.npd.example"}


def test_an_environment_below_ours_is_another_one(pki: TestPki) -> None:
    with pytest.raises(EnvironmentForeign):
        caller_of(pki.agency("tax", "core", environment=f"sub.{ENV}"))


def test_a_certificate_that_is_not_a_tls_clients_is_refused(pki: TestPki) -> None:
    unfit = [
        pki.agency("tax", "core", purposes=None),
        pki.agency("tax", "core", purposes=(SERVER_AUTH,)),
        pki.agency("tax", "core", purposes=SIGNING.purposes),
        pki.agency("tax", "core", is_ca=True),
        pki.signing(Kind.AGENCY, "tax", "core"),
    ]
    for holder in unfit:
        with pytest.raises(CertificateUsage):
            caller_of(holder)


# 2. the direct issuer is entitled to that kind of identity


@pytest.mark.parametrize("kind", list(Kind))
def test_no_issuing_ca_can_make_an_identity_of_another_kind(pki: TestPki, kind: Kind) -> None:
    issuer, others = pki.hierarchy.of(kind), set(Kind) - {kind}
    forged = {
        Kind.MESH: pki.room("sharing", issuer=issuer),
        Kind.AGENCY: pki.agency("tax", "core", issuer=issuer),
        Kind.OPERATOR: pki.operator("lan", issuer=issuer),
    }
    for other in others:
        with pytest.raises(IssuerNotEntitled):
            caller_of(forged[other])


@pytest.mark.parametrize("host", [None, f".{ENV}", ENV, f"agency.sub.{ENV}"])
def test_an_issuer_constrained_to_anything_but_the_host_is_entitled_to_nothing(pki: TestPki, host: str | None) -> None:
    with pytest.raises(IssuerNotEntitled):
        caller_of(pki.agency("tax", "core", issuer=pki.issuing_ca(Kind.AGENCY, host=host)))


def test_a_chain_without_its_issuer_is_refused(pki: TestPki) -> None:
    with pytest.raises(IssuerNotEntitled):
        caller_of(pki.agency("tax", "core", chain=()))
    with pytest.raises(IssuerNotEntitled):
        caller_of(pki.agency("tax", "core", chain=(pki.hierarchy.mesh.certificate, pki.hierarchy.root.certificate)))


def test_a_leaf_of_a_foreign_root_is_refused(pki: TestPki) -> None:
    with pytest.raises(IssuerNotEntitled):
        caller_of(pki.foreign().agency("tax", "core"))


def test_the_root_itself_issues_no_caller(pki: TestPki) -> None:
    with pytest.raises(IssuerNotEntitled):
        caller_of(pki.operator("lan", issuer=pki.hierarchy.root))


def test_the_issuer_is_found_wherever_it_stands_in_the_chain(pki: TestPki) -> None:
    issuer = pki.hierarchy.agency.certificate
    presented = (pki.hierarchy.root.certificate, pki.hierarchy.mesh.certificate, issuer)
    leaf = leaf_of(pki.agency("tax", "core"), presented=presented)
    assert (leaf.issuer_key_id, leaf.issuer_hosts) == (key_id(issuer), (AGENCY_HOST,))


def test_a_decoy_with_the_issuers_name_and_key_lends_no_entitlement(pki: TestPki) -> None:
    ours = pki.hierarchy.agency
    decoy = pki.foreign().issuing_ca(Kind.AGENCY, host=OPERATOR_HOST, like=ours)
    forged = pki.operator("lan", issuer=ours)
    for presented in ((decoy.certificate, ours.certificate), (ours.certificate, decoy.certificate)):
        leaf = leaf_of(forged, presented=presented)
        assert leaf.issuer_hosts == (AGENCY_HOST,)
        with pytest.raises(IssuerNotEntitled):
            identify(leaf, ENV, policy(), NOW)
    with pytest.raises(IssuerNotEntitled):
        leaf_of(forged, presented=(decoy.certificate,))


def test_a_decoy_hides_no_revocation_of_the_issuer(pki: TestPki) -> None:
    ours = pki.hierarchy.agency
    decoy = pki.foreign().issuing_ca(Kind.AGENCY, like=ours)
    leaf = leaf_of(pki.agency("tax", "core"), presented=(decoy.certificate, ours.certificate))
    revoked = {(key_id(pki.hierarchy.root.certificate), f"{ours.certificate.serial_number:x}"): REVOKED}
    with pytest.raises(CertificateRevoked):
        identify(leaf, ENV, policy(revoked=revoked), NOW)


# 3. it and its issuer are valid at this moment


def test_an_expired_certificate_is_refused_with_its_date(pki: TestPki) -> None:
    holder = pki.agency("tax", "core", validity=expired())
    with pytest.raises(CertificateExpired) as refused:
        caller_of(holder)
    assert refused.value.metadata == {"expire_time": holder.certificate.not_valid_after_utc.isoformat()}


def test_a_certificate_of_tomorrow_is_refused_with_its_date(pki: TestPki) -> None:
    holder = pki.agency("tax", "core", validity=not_yet_valid())
    with pytest.raises(CertificateNotYetValid) as refused:
        caller_of(holder)
    assert refused.value.metadata == {"valid_from_time": holder.certificate.not_valid_before_utc.isoformat()}


def test_validity_is_judged_at_the_moment_of_the_call(pki: TestPki) -> None:
    holder, second = pki.agency("tax", "core"), timedelta(seconds=1)
    start, end = holder.certificate.not_valid_before_utc, holder.certificate.not_valid_after_utc
    assert caller_of(holder, start).name == caller_of(holder, end - second).name == "tax/core"
    with pytest.raises(CertificateNotYetValid):
        caller_of(holder, start - second)
    with pytest.raises(CertificateExpired):
        caller_of(holder, end + second)


def test_a_leaf_does_not_outlive_its_issuer(pki: TestPki) -> None:
    short = pki.issuing_ca(Kind.AGENCY, validity=Validity(NOW - DAY, NOW + DAY))
    holder = pki.agency("tax", "core", issuer=short, validity=Validity(NOW - DAY, NOW + 30 * DAY))
    assert caller_of(holder).name == "tax/core"
    with pytest.raises(CertificateExpired) as refused:
        caller_of(holder, NOW + 2 * DAY)
    assert refused.value.metadata == {"expire_time": short.certificate.not_valid_after_utc.isoformat()}


# 4. neither it nor its issuer is revoked


def test_a_revoked_leaf_is_refused_and_its_sibling_is_not(pki: TestPki) -> None:
    holder, sibling = pki.agency("tax", "core"), pki.agency("tax", "core")
    known = policy(revoked={holder.revocation: REVOKED})
    with pytest.raises(CertificateRevoked) as refused:
        accept(leaf_of(holder), ENV, known, NOW)
    assert refused.value.metadata == {"revoke_time": SINCE.isoformat()}
    assert accept(leaf_of(sibling), ENV, known, NOW).name == "tax/core"


def test_the_same_serial_of_another_issuer_is_another_certificate(pki: TestPki) -> None:
    holder = pki.agency("tax", "core")
    other = issuer_key_id(pki.hierarchy.operator.certificate)
    known = policy(revoked={(other, holder.revocation[1]): REVOKED})
    assert accept(leaf_of(holder), ENV, known, NOW).name == "tax/core"


def test_a_revoked_issuer_takes_its_leaves_with_it(pki: TestPki) -> None:
    issuer = pki.hierarchy.agency.certificate
    root = issuer_key_id(pki.hierarchy.root.certificate)
    known = policy(revoked={(root, f"{issuer.serial_number:x}"): REVOKED})
    with pytest.raises(CertificateRevoked):
        accept(leaf_of(pki.agency("tax", "core")), ENV, known, NOW)
    assert accept(leaf_of(pki.operator("lan")), ENV, known, NOW).name == "lan"


# 5. if the policy names authorities of its host, it stands on one of them


def authorities(*named: Authority) -> Policy:
    return policy(authorities={one.key_id: one for one in named})


def agency_ca(pki: TestPki, state: AuthorityState, host: str = AGENCY_HOST) -> Authority:
    return Authority(issuer_key_id(pki.hierarchy.agency.certificate), host, state, SINCE)


@pytest.mark.parametrize("state", [AuthorityState.PREPARED, AuthorityState.ACTIVE, AuthorityState.TAINTED])
def test_leaves_of_an_authority_that_is_in_use_are_accepted(pki: TestPki, state: AuthorityState) -> None:
    assert accept(leaf_of(pki.agency("tax", "core")), ENV, authorities(agency_ca(pki, state)), NOW).name == "tax/core"


def test_leaves_of_a_revoked_authority_are_revoked_with_it(pki: TestPki) -> None:
    with pytest.raises(CertificateRevoked) as refused:
        accept(leaf_of(pki.agency("tax", "core")), ENV, authorities(agency_ca(pki, AuthorityState.REVOKED)), NOW)
    assert refused.value.metadata == {"revoke_time": SINCE.isoformat()}


def test_an_authority_that_is_retired_or_not_named_is_entitled_to_nothing(pki: TestPki) -> None:
    other = Authority("ab" * 32, AGENCY_HOST, AuthorityState.ACTIVE, SINCE)
    for known in (authorities(agency_ca(pki, AuthorityState.RETIRED)), authorities(other)):
        with pytest.raises(IssuerNotEntitled):
            accept(leaf_of(pki.agency("tax", "core")), ENV, known, NOW)


def test_a_host_of_which_no_authority_is_accepted_any_more_does_not_fall_open(pki: TestPki) -> None:
    gone = Authority("ab" * 32, AGENCY_HOST, AuthorityState.RETIRED, SINCE)
    with pytest.raises(IssuerNotEntitled):
        accept(leaf_of(pki.agency("tax", "core")), ENV, authorities(gone), NOW)


def test_an_authority_counts_for_its_own_host_alone(pki: TestPki) -> None:
    misnamed = agency_ca(pki, AuthorityState.ACTIVE, OPERATOR_HOST)
    another = Authority("ab" * 32, AGENCY_HOST, AuthorityState.ACTIVE, SINCE)
    with pytest.raises(IssuerNotEntitled):
        accept(leaf_of(pki.agency("tax", "core")), ENV, authorities(misnamed, another), NOW)
    named = authorities(agency_ca(pki, AuthorityState.REVOKED))
    assert accept(leaf_of(pki.operator("lan")), ENV, named, NOW).name == "lan", "no authority of operators is named"


def test_operators_stand_on_named_authorities_too(pki: TestPki) -> None:
    with pytest.raises(IssuerNotEntitled):
        accept(
            leaf_of(pki.operator("lan")),
            ENV,
            authorities(Authority("ab" * 32, OPERATOR_HOST, AuthorityState.ACTIVE, SINCE)),
            NOW,
        )


def test_rooms_are_judged_by_their_chain_whatever_is_named(pki: TestPki) -> None:
    named = Authority(issuer_key_id(pki.hierarchy.mesh.certificate), f"mesh.{ENV}", AuthorityState.REVOKED, SINCE)
    assert accept(leaf_of(pki.room("sharing")), ENV, authorities(named), NOW).name == "sharing"


def test_what_is_expired_is_said_to_be_expired_whoever_issued_it(pki: TestPki) -> None:
    with pytest.raises(CertificateExpired):
        accept(
            leaf_of(pki.agency("tax", "core", validity=expired())),
            ENV,
            authorities(agency_ca(pki, AuthorityState.RETIRED)),
            NOW,
        )


# 6. the registry knows it


def test_a_system_must_be_registered_and_active(pki: TestPki) -> None:
    known = leaf_of(pki.agency("tax", "core"))
    with pytest.raises(SystemUnknown) as unknown:
        accept(leaf_of(pki.agency("tax", "other")), ENV, policy(), NOW)
    assert unknown.value.metadata == {"system": "tax/other"}
    with pytest.raises(SystemSuspended) as suspended:
        accept(known, ENV, policy(State.SUSPENDED), NOW)
    assert suspended.value.metadata == {"system": "tax/core", "cause": "audit", "suspend_time": SINCE.isoformat()}


def test_a_suspended_or_unknown_system_is_still_identified(pki: TestPki) -> None:
    assert identify(leaf_of(pki.agency("tax", "core")), ENV, policy(State.SUSPENDED), NOW).name == "tax/core"
    assert identify(leaf_of(pki.agency("tax", "other")), ENV, policy(), NOW).name == "tax/other"


def test_an_operator_must_be_on_the_list_and_a_room_need_not(pki: TestPki) -> None:
    with pytest.raises(OperatorUnknown) as refused:
        caller_of(pki.operator("mai"))
    assert refused.value.metadata == {"operator": "mai"}
    assert accept(leaf_of(pki.room("registry")), ENV, Policy(), NOW).kind is CallerKind.ROOM
