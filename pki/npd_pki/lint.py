"""Does a certificate say what its profile allows, and nothing else? Reads the encoded certificate, trusts no builder.

It runs on a certificate that a throwaway key has signed, before the real key signs the same bytes (`issuance`), which
is how Let's Encrypt's CA does it. The sources of what is expected are those of `profile`.
"""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from npd_pki.distribution import crl_distribution_points
from npd_pki.errors import KeyUnacceptable, LintFailed
from npd_pki.identity import Identity, Kind
from npd_pki.issuance import issuer_key_id
from npd_pki.keys import require_ec_public_key, require_leaf_public_key
from npd_pki.profile import ISSUING, AuthorityProfile, Profile
from npd_pki.tbs import environment_of
from npd_pki.validity import BACKDATING, Validity

_SIGNATURES = {
    "secp256r1": SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    "secp384r1": SignatureAlgorithmOID.ECDSA_WITH_SHA384,
}
_EVERY_ADDRESS = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

_OF_THE_ISSUER = frozenset({ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_DISTRIBUTION_POINTS})

_Expected = tuple[x509.ExtensionType, bool]  # the value and whether it is critical


def lint_leaf(
    certificate: x509.Certificate,
    *,
    profile: Profile,
    identity: Identity,
    dns_names: Sequence[str],
    issuer: x509.Certificate,
) -> None:
    """Check a leaf against its profile and the names it was asked for. Raises LintFailed with every finding."""
    names = [x509.UniformResourceIdentifier(str(identity)), *map(x509.DNSName, dns_names)]
    expected: list[_Expected] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (profile.key_usage, True),
        (x509.ExtendedKeyUsage(profile.purposes), profile.purposes_critical),
        (x509.SubjectAlternativeName(names), False),
        (_key_of(issuer), False),
        (crl_distribution_points(identity.environment, issuer_key_id(issuer)), False),
    ]
    _raise(
        *_field_findings(certificate, issuer, require_leaf_public_key),
        *_leaf_subject_findings(certificate),
        *_life_findings(certificate, issuer, profile.longest_life),
        *_extension_findings(certificate, expected),
    )


def lint_issuing_ca(
    certificate: x509.Certificate,
    *,
    profile: AuthorityProfile,
    kind: Kind,
    environment: str,
    issuer: x509.Certificate,
) -> None:
    """Check an issuing CA against its profile, its kind and its environment. Raises LintFailed with every finding."""
    excluded: list[x509.GeneralName] = [x509.DNSName("")] if profile.excludes_dns else []
    if profile.excludes_ip:
        excluded += map(x509.IPAddress, _EVERY_ADDRESS)
    permitted = x509.UniformResourceIdentifier(f"{kind}.{environment}")
    expected: list[_Expected] = [
        *_authority_extensions(profile),
        (x509.ExtendedKeyUsage(profile.purposes), False),
        (x509.NameConstraints([permitted], excluded or None), True),
        (_key_of(issuer), False),
        (crl_distribution_points(environment, issuer_key_id(issuer)), False),
    ]
    _raise(
        *_field_findings(certificate, issuer, require_ec_public_key),
        *_authority_subject_findings(certificate, profile, environment),
        *_life_findings(certificate, issuer, profile.longest_life),
        *_extension_findings(certificate, expected),
    )


def lint_cross_certificate(
    certificate: x509.Certificate, *, existing: x509.Certificate, kind: Kind, issuer: x509.Certificate
) -> None:
    """Check another root's certificate for an existing issuing CA. Raises LintFailed, with every finding.

    It differs from the existing one in serial number, issuer, dates and where the issuer is found; in nothing else.
    """
    environment = environment_of(issuer.subject)
    lint_issuing_ca(certificate, profile=ISSUING[kind], kind=kind, environment=environment, issuer=issuer)
    own = {extension.oid: extension for extension in certificate.extensions if extension.oid not in _OF_THE_ISSUER}
    others = {extension.oid: extension for extension in existing.extensions if extension.oid not in _OF_THE_ISSUER}
    findings = [
        f"extension {oid.dotted_string} is not that of the existing certificate"
        for oid in {**own, **others}
        if own.get(oid) != others.get(oid)
    ]
    if certificate.subject != existing.subject:
        findings.append(f"the subject is not {existing.subject.rfc4514_string()!r}, that of the existing certificate")
    if certificate.public_key() != existing.public_key():
        findings.append("the key is not that of the existing certificate")
    _raise(*findings)


def lint_root(certificate: x509.Certificate, *, profile: AuthorityProfile, environment: str) -> None:
    """Check a self-signed root against its profile. Raises LintFailed with every finding."""
    _raise(
        *_field_findings(certificate, certificate, require_ec_public_key),
        *_authority_subject_findings(certificate, profile, environment),
        *_life_findings(certificate, certificate, profile.longest_life),
        *_extension_findings(certificate, _authority_extensions(profile)),
    )


def signature_findings(algorithm: x509.ObjectIdentifier, issuer: x509.Certificate) -> Iterator[str]:
    """Whether an issuer signs with this algorithm: what is wrong with it, if anything."""
    issuer_key = issuer.public_key()
    if not isinstance(issuer_key, ec.EllipticCurvePublicKey):
        yield "the issuer's key is not an EC key"
    elif algorithm != _SIGNATURES.get(issuer_key.curve.name):
        yield "the signature algorithm does not match the issuer's curve"


def _raise(*findings: str) -> None:
    if findings:
        raise LintFailed(findings)


def _authority_extensions(profile: AuthorityProfile) -> list[_Expected]:
    return [(x509.BasicConstraints(ca=True, path_length=profile.path_length), True), (profile.key_usage, True)]


def _key_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    digest = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return x509.AuthorityKeyIdentifier(digest, authority_cert_issuer=None, authority_cert_serial_number=None)


def _field_findings(
    certificate: x509.Certificate, issuer: x509.Certificate, require_key: Callable[[PublicKeyTypes], object]
) -> Iterator[str]:
    """RFC 5280 4.1: serial number, signature algorithm, issuer, key."""
    if not 1 << 64 <= certificate.serial_number < 1 << 159:
        yield "the serial number is too short to be random, or does not fit 20 octets"
    yield from signature_findings(certificate.signature_algorithm_oid, issuer)
    if certificate.issuer != issuer.subject:
        yield "the issuer is not the subject of the issuing certificate"
    try:
        require_key(certificate.public_key())
    except KeyUnacceptable as error:
        yield str(error)
    if issuer is not certificate and certificate.public_key() == issuer.public_key():
        yield "the key is the issuer's own"


def _leaf_subject_findings(certificate: x509.Certificate) -> Iterator[str]:
    attributes = list(certificate.subject)
    if [attribute.oid for attribute in attributes] != [NameOID.COMMON_NAME]:
        yield "the subject is not a single common name"
    elif not 1 <= len(attributes[0].value) <= 64 or "." in str(attributes[0].value):
        yield "the common name is empty, longer than 64 characters, or could be read as a host name"


def _authority_subject_findings(
    certificate: x509.Certificate, profile: AuthorityProfile, environment: str
) -> Iterator[str]:
    attributes = [(attribute.oid, str(attribute.value)) for attribute in certificate.subject]
    if attributes[:-1] != [(NameOID.DOMAIN_COMPONENT, label) for label in reversed(environment.split("."))]:
        yield f"the subject does not place the CA in {environment}"
    elif attributes[-1][0] != NameOID.COMMON_NAME or not attributes[-1][1].startswith(f"{profile.label} "):
        yield f"the common name does not start with {profile.label}"


def _life_findings(certificate: x509.Certificate, issuer: x509.Certificate, ceiling: timedelta) -> Iterator[str]:
    validity = Validity.of(certificate)
    if validity.span > ceiling + BACKDATING:
        yield "the validity is longer than the ceiling of the profile"
    if validity.not_after > issuer.not_valid_after_utc:
        yield "the certificate outlives its issuer"


def _extension_findings(certificate: x509.Certificate, expected: Sequence[_Expected]) -> Iterator[str]:
    present = {extension.oid: extension for extension in certificate.extensions}
    identifier = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    for value, critical in [*expected, (identifier, False)]:
        noun, extension = type(value).__name__, present.pop(value.oid, None)
        if extension is None:
            yield f"{noun} is missing"
            continue
        if extension.critical is not critical:
            yield f"{noun} is {'' if extension.critical else 'not '}critical"
        if extension.value != value:
            yield f"{noun} is {extension.value!r}, not {value!r}"
    for oid in present:
        yield f"extension {oid.dotted_string} is not in the profile"
