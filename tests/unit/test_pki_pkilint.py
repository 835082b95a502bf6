"""What pkilint, a linter that is not ours, makes of each kind of certificate and revocation list (RFC 5280)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import CertificateAuthority, create_root
from npd_pki.ca_store import Hierarchy
from npd_pki.identity import Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.keys import generate_p256_key, generate_p384_key
from npd_pki.profile import CLIENT_TLS, ROOM_TLS, SIGNING
from npd_pki.revocation_list import RevocationReason, RevokedEntry, build_revocation_list
from npd_pki.trust_bundle import is_authority

ENV = "npd.gov.vn"
AGENCY = agency_uri(ENV, "gdt", "tax")
NOW = datetime.now(UTC)


def spiffe_finding(uri: str) -> str:
    """The one error that stays. pkilint asks the package `validators`, whose URLs have one of nine schemes, from ftp to
    telnet; RFC 5280 4.2.1.6 asks for a scheme and an absolute URI, and `spiffe` is registered with IANA."""
    return f'pkix.invalid_uri_syntax at subjectAltName.0.uniformResourceIdentifier: Invalid URI syntax: "{uri}"'


@dataclass(frozen=True)
class Linter:
    """pkilint, which takes a second to import: its findings of severity ERROR and FATAL in a DER document."""

    certificate: Callable[[bytes], set[str]]
    revocation_list: Callable[[bytes], set[str]]


@pytest.fixture(scope="module")
def pkilint() -> Linter:
    from pkilint import loader, pkix
    from pkilint.pkix import certificate, crl, extension, name
    from pkilint.validation import ValidationFindingSeverity, ValidationResult

    certificates = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    lists = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )

    def grave(results: list[ValidationResult]) -> set[str]:
        return {
            f"{one.finding.code} at {result.node.path.rpartition('extnValue.')[2]}: {one.message}"
            for result in results
            for one in result.finding_descriptions
            if one.finding.severity in (ValidationFindingSeverity.FATAL, ValidationFindingSeverity.ERROR)
        }

    return Linter(
        lambda der: grave(
            certificates.validate(loader.RFC5280CertificateDocumentLoader().load_der_document(der, "").root)
        ),
        lambda der: grave(
            lists.validate(loader.RFC5280CertificateListDocumentLoader().load_der_document(der, "").root)
        ),
    )


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


@pytest.fixture(scope="module")
def certificates(hierarchy: Hierarchy) -> Mapping[str, x509.Certificate]:
    p256, p384 = generate_p256_key().public_key(), generate_p384_key().public_key()
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=3072).public_key()
    room = hierarchy.mesh.issue(ROOM_TLS, mesh_uri(ENV, "civil_status"), p256, dns_names=["civil-status.npd.svc"])
    return {
        "root": hierarchy.root.certificate,
        **{f"{kind} CA": hierarchy.of(kind).certificate for kind in Kind},
        "cross certificate": create_root(ENV).cross_certify(hierarchy.agency.certificate),
        "room": room.certificate,
        "client on P-256": hierarchy.agency.issue(CLIENT_TLS, AGENCY, p256).certificate,
        "client on P-384": hierarchy.agency.issue(CLIENT_TLS, AGENCY, p384).certificate,
        "client with RSA": hierarchy.agency.issue(CLIENT_TLS, AGENCY, rsa_key).certificate,
        "operator": hierarchy.operator.issue(CLIENT_TLS, operator_uri(ENV, "thu"), p256).certificate,
        "signing": hierarchy.agency.issue(SIGNING, AGENCY, p256).certificate,
        "signing with RSA": hierarchy.agency.issue(SIGNING, AGENCY, rsa_key).certificate,
    }


def uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


KINDS = (
    "root",
    *(f"{kind} CA" for kind in Kind),
    "cross certificate",
    "room",
    "client on P-256",
    "client on P-384",
    "client with RSA",
    "operator",
    "signing",
    "signing with RSA",
)


@pytest.mark.parametrize("kind", KINDS)
def test_certificate_has_no_error_but_that_of_its_spiffe_uri(
    kind: str, certificates: Mapping[str, x509.Certificate], pkilint: Linter
) -> None:
    certificate = certificates[kind]
    expected = {spiffe_finding(uri) for uri in uris(certificate)}
    assert len(expected) == (0 if is_authority(certificate) else 1)
    assert pkilint.certificate(certificate.public_bytes(Encoding.DER)) == expected


def test_linter_finds_what_is_wrong_with_a_certificate(hierarchy: Hierarchy, pkilint: Linter) -> None:
    root = hierarchy.root
    identifier = x509.SubjectKeyIdentifier.from_public_key(root.key.public_key())
    broken = (
        x509.CertificateBuilder(root.certificate.subject, root.certificate.subject, root.key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(identifier, critical=True)  # RFC 5280 4.2.1.2: MUST be non-critical
        .sign(root.key, SHA384())
    )
    assert any("critical" in finding for finding in pkilint.certificate(broken.public_bytes(Encoding.DER)))


def test_every_kind_of_certificate_is_linted(certificates: Mapping[str, x509.Certificate]) -> None:
    assert set(KINDS) == set(certificates)


@pytest.mark.parametrize("of", ["root", "agency"])
@pytest.mark.parametrize("reasons", [(), tuple(RevocationReason)], ids=["empty", "every reason"])
def test_revocation_list_has_no_error(
    of: str, reasons: tuple[RevocationReason, ...], hierarchy: Hierarchy, pkilint: Linter
) -> None:
    authority: CertificateAuthority = hierarchy.root if of == "root" else hierarchy.agency
    entries = [RevokedEntry(serial, NOW, reason) for serial, reason in enumerate(reasons, 1)]
    revocation_list = build_revocation_list(authority, 1, entries, now=NOW, life=timedelta(days=7))
    assert pkilint.revocation_list(revocation_list.public_bytes(Encoding.DER)) == set()
