"""The to-be-signed certificate (RFC 5280 4.1.2): profile, names, key, validity. Decides and signs nothing."""

import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from npd_pki.distribution import crl_distribution_points
from npd_pki.errors import NotAuthority
from npd_pki.identity import Identity, Kind, host_of
from npd_pki.keys import LeafPublicKey, key_id, require_ec_public_key
from npd_pki.profile import AuthorityProfile, Profile
from npd_pki.validity import Validity

LONGEST_COMMON_NAME = 64  # ub-common-name, RFC 5280 appendix A.1


def leaf_tbs(
    profile: Profile,
    identity: Identity,
    dns_names: Sequence[str],
    public_key: LeafPublicKey,
    validity: Validity,
    issuer: x509.Certificate,
) -> x509.CertificateBuilder:
    """A leaf of a profile, ready to be signed by the issuer.

    The common name is decoration and holds no dot, because a verifier that falls back to it would take a dotted one for
    a host name. The alternative name is not critical since the subject is not empty (RFC 5280 4.2.1.6).
    """
    names = [x509.UniformResourceIdentifier(str(identity)), *map(x509.DNSName, dns_names)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, " ".join(identity.path)[:LONGEST_COMMON_NAME])])
    return (
        _tbs(subject, issuer.subject, public_key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(profile.key_usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(profile.purposes), critical=profile.purposes_critical)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
        .add_extension(revocation_list_of(issuer), critical=False)
    )


def root_tbs(
    profile: AuthorityProfile, environment: str, public_key: ec.EllipticCurvePublicKey, validity: Validity
) -> x509.CertificateBuilder:
    """A self-signed root. It needs no authority key identifier (RFC 5280 4.2.1.1)."""
    subject = authority_subject(profile, environment, public_key)
    return _authority_tbs(profile, subject, subject, public_key, validity)


def issuing_ca_tbs(
    profile: AuthorityProfile,
    kind: Kind,
    environment: str,
    public_key: ec.EllipticCurvePublicKey,
    validity: Validity,
    issuer: x509.Certificate,
) -> x509.CertificateBuilder:
    """An issuing CA, constrained to the URI host of its kind, ready to be signed by the root."""
    subject = authority_subject(profile, environment, public_key)
    return (
        _authority_tbs(profile, subject, issuer.subject, public_key, validity)
        .add_extension(x509.ExtendedKeyUsage(profile.purposes), critical=False)
        .add_extension(name_constraints(profile, kind, environment), critical=True)
        .add_extension(authority_key_identifier(issuer), critical=False)
        .add_extension(revocation_list_of(issuer), critical=False)
    )


def name_constraints(profile: AuthorityProfile, kind: Kind, environment: str) -> x509.NameConstraints:
    """What the names below an issuing CA may be (RFC 5280 4.2.1.10).

    A host without a leading dot permits that host alone. All DNS names are excluded by one of length zero, as the
    CA/Browser Forum Baseline Requirements 7.1.2.5.2 have it; OpenSSL 3 and the BoringSSL in gRPC accept and enforce it.
    """
    excluded: list[x509.GeneralName] = []
    if profile.excludes_dns:
        excluded.append(x509.DNSName(""))
    if profile.excludes_ip:
        excluded += [x509.IPAddress(ipaddress.ip_network(network)) for network in ("0.0.0.0/0", "::/0")]
    permitted = x509.UniformResourceIdentifier(host_of(kind, environment))
    return x509.NameConstraints(permitted_subtrees=[permitted], excluded_subtrees=excluded or None)


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The issuer's key by its subject key identifier (RFC 5280 4.2.1.1)."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def revocation_list_of(issuer: x509.Certificate) -> x509.CRLDistributionPoints:
    """Where the issuer's revocation list is. Raises NotAuthority, KeyUnacceptable."""
    issuer_key_id = key_id(require_ec_public_key(issuer.public_key()))
    return crl_distribution_points(environment_of(issuer.subject), issuer_key_id)


def authority_subject(profile: AuthorityProfile, environment: str, public_key: ec.EllipticCurvePublicKey) -> x509.Name:
    """The name of a CA: its environment as domain components (RFC 2247), what it is, and the beginning of its key id.

    The key id keeps the names of a CA and its successor apart, so that no verifier tries the wrong one of two issuers.
    """
    domain = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in reversed(environment.split("."))]
    common_name = f"{profile.label} {key_id(public_key)[:12]}"
    return x509.Name([*domain, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def environment_of(subject: x509.Name) -> str:
    """The environment in the name of a CA. Raises NotAuthority if there is none."""
    labels = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)]
    if not labels:
        raise NotAuthority(f"{subject.rfc4514_string()!r} names no environment")
    return ".".join(reversed(labels))


def _authority_tbs(
    profile: AuthorityProfile,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=profile.path_length)
    return (
        _tbs(subject, issuer, public_key, validity)
        .add_extension(constraints, critical=True)
        .add_extension(profile.key_usage, critical=True)
    )


def _tbs(
    subject: x509.Name, issuer: x509.Name, public_key: LeafPublicKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())  # 159 random bits: positive, in 20 octets (RFC 5280 4.1.2.2)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
