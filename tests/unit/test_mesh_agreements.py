"""Signatures under an agreement: what makes it grant nothing, although the registry says that it is in force."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd_client.agreement import sign_terms, signed_bytes
from npd_pki.identity import Kind
from npd_pki.validity import Validity
from services.mesh.core.agreements import Signature, SignedTerms, defect_of
from services.mesh.core.rights import State
from tests.certificates import CLIENT_AUTH, DAY, Holder, TestPki

ENV = "test.npd.example"
TERMS = b"the bytes that both parties sign"
NOW = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)  # later than any leaf of this run begins


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


@pytest.fixture(scope="module")
def signed(pki: TestPki) -> SignedTerms:
    agency = signature(pki.signing(Kind.AGENCY, "tax", "core"))
    return SignedTerms(TERMS, agency, signature(pki.signing(Kind.OPERATOR, "lan")), State.ACTIVE, "")


def signature(holder: Holder, terms: bytes = TERMS, sign_time: datetime = NOW) -> Signature:
    made = holder.key.sign(signed_bytes(terms, sign_time), ec.ECDSA(hashes.SHA256()))
    chain = (holder.certificate, *holder.chain)
    return Signature(tuple(one.public_bytes(Encoding.DER) for one in chain), sign_time, made)


def defect(pki: TestPki, signed: SignedTerms) -> str:
    return defect_of(signed, ENV, "tax", "core", pki.roots)


def test_two_good_signatures_have_no_defect(pki: TestPki, signed: SignedTerms) -> None:
    assert defect(pki, signed) == ""


def test_what_the_client_signs_has_no_defect(pki: TestPki, signed: SignedTerms, tmp_path: Path) -> None:
    wire = sign_terms(TERMS, pki.signing(Kind.AGENCY, "tax", "core").write(tmp_path), now=NOW)
    made = Signature(tuple(wire.certificate_chain), wire.sign_time.ToDatetime(UTC), wire.signature)
    assert defect(pki, replace(signed, agency=made)) == ""


def test_a_missing_signature_names_the_side(pki: TestPki, signed: SignedTerms) -> None:
    assert defect(pki, replace(signed, agency=None)) == "the agency's side has not signed"
    assert defect(pki, replace(signed, operator=None)) == "the operator's side has not signed"
    assert defect(pki, replace(signed, agency=Signature((), NOW, b""))) == "the agency's side: no certificate"


def test_altered_terms_are_not_what_was_signed(pki: TestPki, signed: SignedTerms) -> None:
    assert defect(pki, replace(signed, terms=TERMS + b" ")).endswith("the signature is not over these terms")


def test_an_altered_signature_or_time_does_not_hold(pki: TestPki, signed: SignedTerms) -> None:
    assert signed.agency is not None
    broken = [
        replace(signed.agency, signature=signed.agency.signature[:-1]),
        replace(signed.agency, signature=b""),
        replace(signed.agency, sign_time=NOW + timedelta(seconds=1)),
    ]
    for agency in broken:
        assert defect(pki, replace(signed, agency=agency)).endswith("the signature is not over these terms")


@pytest.mark.parametrize("path", [("tax", "other"), ("moh", "core")])
def test_another_systems_signature_is_another_partys(pki: TestPki, signed: SignedTerms, path: tuple[str, str]) -> None:
    other = signature(pki.signing(Kind.AGENCY, *path))
    assert defect(pki, replace(signed, agency=other)) == "the agency's side: the certificate names another party"


def test_neither_party_signs_for_the_other(pki: TestPki, signed: SignedTerms) -> None:
    assert (
        defect(pki, replace(signed, agency=signed.operator))
        == "the agency's side: the certificate is not of the party's CA"
    )
    assert (
        defect(pki, replace(signed, operator=signed.agency))
        == "the operator's side: the certificate is not of the party's CA"
    )


def test_any_operator_may_sign_for_the_operator(pki: TestPki, signed: SignedTerms) -> None:
    assert defect(pki, replace(signed, operator=signature(pki.signing(Kind.OPERATOR, "mai")))) == ""


def test_an_agencys_ca_cannot_make_an_operators_signature(pki: TestPki, signed: SignedTerms) -> None:
    forged = signature(pki.signing(Kind.OPERATOR, "lan", issuer=pki.hierarchy.agency))
    assert defect(pki, replace(signed, operator=forged)) == (
        "the operator's side: the certificate is not of the party's CA"
    )


def test_a_tls_leaf_signs_no_agreement(pki: TestPki, signed: SignedTerms) -> None:
    document_signing = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
    unfit = [
        pki.agency("tax", "core"),
        pki.signing(Kind.AGENCY, "tax", "core", purposes=None),
        pki.signing(Kind.AGENCY, "tax", "core", purposes=(document_signing, CLIENT_AUTH)),
    ]
    for holder in unfit:
        assert defect(pki, replace(signed, agency=signature(holder))) == (
            "the agency's side: the certificate is not a signing certificate"
        )


def test_the_leaf_must_have_been_valid_when_it_signed(pki: TestPki, signed: SignedTerms) -> None:
    holder = pki.signing(Kind.AGENCY, "tax", "core", validity=Validity(NOW - 2 * DAY, NOW - DAY))
    for sign_time in (NOW, NOW - 3 * DAY, NOW - DAY):
        assert defect(pki, replace(signed, agency=signature(holder, sign_time=sign_time))) == (
            "the agency's side: the certificate was not valid when it signed"
        )


def test_a_leaf_that_has_expired_since_still_holds(pki: TestPki, signed: SignedTerms) -> None:
    holder = pki.signing(Kind.AGENCY, "tax", "core", validity=Validity(NOW - 2 * DAY, NOW - DAY))
    in_time = signature(holder, sign_time=NOW - DAY - timedelta(seconds=1))
    assert defect(pki, replace(signed, agency=in_time)) == ""


def test_a_leaf_does_not_sign_past_its_issuers_end(pki: TestPki, signed: SignedTerms) -> None:
    short = pki.issuing_ca(Kind.AGENCY, validity=Validity(NOW - 2 * DAY, NOW - DAY))
    holder = pki.signing(Kind.AGENCY, "tax", "core", issuer=short, validity=Validity(NOW - 2 * DAY, NOW + DAY))
    assert defect(pki, replace(signed, agency=signature(holder))).endswith("was not valid when it signed")
    in_time = signature(holder, sign_time=NOW - DAY - timedelta(seconds=1))
    assert defect(pki, replace(signed, agency=in_time)) == ""


def test_a_chain_must_lead_to_our_root(pki: TestPki, signed: SignedTerms) -> None:
    decoy = pki.foreign().issuing_ca(Kind.AGENCY, like=pki.hierarchy.agency)
    stray = [
        pki.foreign().signing(Kind.AGENCY, "tax", "core"),
        pki.signing(Kind.AGENCY, "tax", "core", chain=()),
        pki.signing(Kind.AGENCY, "tax", "core", chain=(decoy.certificate,)),
        pki.signing(Kind.AGENCY, "tax", "core", uris=()),
    ]
    for holder in stray:
        assert defect(pki, replace(signed, agency=signature(holder))) == (
            "the agency's side: the certificate does not lead to our root, or names no identity"
        )


def test_bytes_that_are_no_certificate_are_a_defect(pki: TestPki, signed: SignedTerms) -> None:
    assert signed.agency is not None
    for chain in ((b"",), (b"not DER",), (signed.agency.chain[0], b"not DER")):
        broken = replace(signed.agency, chain=chain)
        assert "does not lead to our root" in defect(pki, replace(signed, agency=broken))


def test_a_signature_of_another_environment_does_not_hold(pki: TestPki, signed: SignedTerms) -> None:
    other = signature(pki.signing(Kind.AGENCY, "tax", "core", environment="other.npd.example"))
    assert defect(pki, replace(signed, agency=other)).endswith("the certificate is not of the party's CA")


def test_keys_of_other_kinds_sign_as_the_contract_says(pki: TestPki, signed: SignedTerms) -> None:
    message = signed_bytes(TERMS, NOW)
    p384 = ec.generate_private_key(ec.SECP384R1())
    rsa_key = rsa.generate_private_key(65537, 2048)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    made: list[tuple[ec.EllipticCurvePublicKey | rsa.RSAPublicKey, bytes]] = [
        (p384.public_key(), p384.sign(message, ec.ECDSA(hashes.SHA384()))),
        (rsa_key.public_key(), rsa_key.sign(message, pss, hashes.SHA256())),
    ]
    template = pki.signing(Kind.AGENCY, "tax", "core")
    for public_key, value in made:
        certificate = reissued(pki, template.certificate, public_key)
        chain = tuple(one.public_bytes(Encoding.DER) for one in (certificate, *template.chain))
        assert defect(pki, replace(signed, agency=Signature(chain, NOW, value))) == ""
        assert defect(pki, replace(signed, agency=Signature(chain, NOW, value[::-1]))).endswith("over these terms")


def reissued(
    pki: TestPki, certificate: x509.Certificate, public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
) -> x509.Certificate:
    """The certificate for another public key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(pki.hierarchy.agency.key, hashes.SHA256())
