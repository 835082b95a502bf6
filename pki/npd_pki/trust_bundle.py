"""Roots that a party trusts, and certificates as PEM. Holds no key, and never takes an issuing CA for a root."""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.errors import UNREADABLE, NotAuthority, PemMalformed, TrustBundleMalformed

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def certificates_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates as concatenated PEM, in their order."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def load_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a PEM file in their order, at least one. Raises PemMalformed, OSError."""
    return read_certificates(path.read_bytes(), str(path))


def read_certificates(content: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """Read the certificates of PEM in their order, at least one; `name` is what a refusal calls the content.

    Their keys and extensions are read too, so that nobody meets one later that cannot be. Raises PemMalformed.
    """
    try:
        certificates = tuple(x509.load_pem_x509_certificates(content))
        for certificate in certificates:
            certificate.public_key()
            tuple(certificate.extensions)
    except UNREADABLE as error:
        raise PemMalformed(f"{name} holds no whole PEM certificate, or one that cannot be read") from error
    # pyca (44 to 50) passes over a certificate that is cut off, and over blocks of another sort.
    marks = [line.rstrip() for line in content.splitlines() if line.startswith(b"-")]
    if marks != [_BEGIN, _END] * len(certificates):
        raise PemMalformed(f"{name} holds something beside whole certificates: was it cut off?")
    return certificates


def load_trust_bundle(path: Path) -> tuple[x509.Certificate, ...]:
    """Read the roots of a `ca.crt`. Raises TrustBundleMalformed, PemMalformed, OSError."""
    return require_roots(load_certificates(path))


def require_roots(certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the certificates if there is one at least and each is a root. Raises TrustBundleMalformed.

    gRPC takes any certificate of a bundle as an anchor, so trust in a lone issuing CA would survive the removal of its
    root.
    """
    roots = tuple(certificates)
    if not roots:
        raise TrustBundleMalformed("a trust bundle holds at least one root")
    try:
        return tuple(map(require_root, roots))
    except NotAuthority as error:
        raise TrustBundleMalformed(f"a trust bundle holds roots only: {error}") from error


def require_root(certificate: x509.Certificate) -> x509.Certificate:
    """Return the certificate if it is a CA's and signed by its own key. Raises NotAuthority."""
    if not (is_authority(certificate) and is_issued_by(certificate, certificate)):
        raise NotAuthority(f"{certificate.subject.rfc4514_string()!r} is not a self-signed CA")
    return certificate


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the basic constraints say that this is a CA's certificate (RFC 5280 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key signed the certificate; says nothing of validity, constraints or revocation."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
