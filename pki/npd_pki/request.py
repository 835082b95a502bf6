"""Certificate signing requests (PKCS #10, RFC 2986): a public key with proof that the requester has its private half.

Nothing else of a request is believed: its subject, attributes and requested extensions are never read. The names in a
certificate come from whoever approved the request.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.errors import KeyUnacceptable, PemMalformed, ProofOfPossessionFailed
from npd_pki.keys import SigningKey, require_ec_public_key, signature_hash


def create_request(key: SigningKey) -> x509.CertificateSigningRequest:
    """Ask for a certificate for a key. The request names nobody, because no CA of the mesh would read it."""
    return x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, signature_hash(key.public_key()))


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """Read a request from PEM; its signature is not checked yet (`proven_public_key` does). Raises PemMalformed."""
    try:
        return x509.load_pem_x509_csr(pem)
    except ValueError as error:
        raise PemMalformed("not a PEM certificate signing request") from error


def proven_public_key(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """The key of a request, once the request proves possession of its private half (RFC 2986 section 3).

    1. The key is of a type that certificates of the mesh hold; a costly one is refused before it is computed with.
    2. The request's own signature verifies under that key.
    Raises KeyUnacceptable, ProofOfPossessionFailed.
    """
    try:
        key = require_ec_public_key(request.public_key())  # (1)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnacceptable("the request holds a key that cannot be read") from error
    try:
        proven = request.is_signature_valid  # (2)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProofOfPossessionFailed("the request's signature cannot be verified") from error
    if not proven:
        raise ProofOfPossessionFailed("the request is not signed by the key that it holds")
    return key
