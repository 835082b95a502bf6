"""From a to-be-signed certificate to a signed one, in two steps between which the caller can record the intention.

Knows no profile: the lint comes from the caller. Source: the issuance of Boulder, the CA software of Let's Encrypt.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.errors import LintFailed, PreparedElsewhere
from npd_pki.keys import SigningKey, key_id, require_ec_public_key, signature_hash


@dataclass(frozen=True, slots=True)
class PreparedCertificate:
    """A certificate that passed its lint and that the CA's key has not signed yet.

    Its serial number and bytes are final, so a CA can record that it will issue them before it does (an unrecorded
    certificate could never be revoked).
    """

    tbs: x509.CertificateBuilder
    linted: x509.Certificate
    """The same certificate under a throwaway key: to be read, never published."""
    issuer_key_id: str

    @property
    def serial(self) -> int:
        """The serial number that the certificate will have."""
        return self.linted.serial_number

    @property
    def tbs_bytes(self) -> bytes:
        """The DER TBSCertificate that will be signed (RFC 5280 4.1.1.1)."""
        return self.linted.tbs_certificate_bytes


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A leaf and the CAs above it, up to but not including the root."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    @property
    def serial(self) -> int:
        """The leaf's serial number, unique for its issuer."""
        return self.certificate.serial_number

    @property
    def issuer_key_id(self) -> str:
        """The key id of the leaf's direct issuer; with `serial` it names this certificate in a revocation list."""
        return issuer_key_id(self.chain[0])

    def pem(self) -> bytes:
        """The leaf, then its chain, as a TLS server or client presents them (RFC 8446 4.4.2)."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain))


def issuer_key_id(issuer: x509.Certificate) -> str:
    """SHA-256 of an issuer's SubjectPublicKeyInfo in hexadecimal: half of what revocation lists know a certificate by.

    Takes the certificate *of the issuer*, not one that it issued. Raises KeyUnacceptable.
    """
    return key_id(require_ec_public_key(issuer.public_key()))


def prepare(
    tbs: x509.CertificateBuilder, key: SigningKey, lint: Callable[[x509.Certificate], None]
) -> PreparedCertificate:
    """Lint a certificate before it exists.

    1. Sign it with a throwaway key of the same curve, so that the bytes to be signed are those of the real one.
    2. Lint the result.
    Raises LintFailed.
    """
    curve = key.public_key().curve
    linted = tbs.sign(ec.generate_private_key(curve), signature_hash(key.public_key()))  # (1)
    lint(linted)  # (2)
    return PreparedCertificate(tbs, linted, key_id(key.public_key()))


def sign(prepared: PreparedCertificate, key: SigningKey) -> x509.Certificate:
    """Sign a prepared certificate with the CA's key.

    1. It was prepared for this very key.
    2. Sign.
    3. What was signed is, byte for byte, what was linted (and recorded).
    Signing twice gives two certificates with one serial number: record first, sign once.
    Raises PreparedElsewhere, LintFailed.
    """
    if prepared.issuer_key_id != key_id(key.public_key()):  # (1)
        raise PreparedElsewhere(f"certificate {prepared.serial:x} was prepared for another issuing key")
    certificate = prepared.tbs.sign(key, signature_hash(key.public_key()))  # (2)
    if certificate.tbs_certificate_bytes != prepared.tbs_bytes:  # (3)
        raise LintFailed(["the signed certificate is not the linted one"])
    return certificate
