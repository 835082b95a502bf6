"""Certificate signing requests (PKCS #10, RFC 2986): a public key with proof that the requester has its private half.

Nothing else of a request is believed. The names in a certificate come from whoever approved the request; those that
the request asks for are compared with them and never used, its subject and other extensions are never read.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from npd_pki.errors import UNREADABLE, KeyUnacceptable, NamesForeign, PemMalformed, ProofOfPossessionFailed
from npd_pki.identity import Identity
from npd_pki.keys import LeafKey, LeafPublicKey, require_leaf_public_key, signature_hash


def create_request(key: LeafKey) -> x509.CertificateSigningRequest:
    """Ask for a certificate for a key. The request names nobody, because no CA of the mesh would read it."""
    return x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, signature_hash(key.public_key()))


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """Read a request from PEM; its signature is not checked yet (`proven_public_key` does). Raises PemMalformed."""
    try:
        return x509.load_pem_x509_csr(pem)
    except UNREADABLE as error:
        raise PemMalformed("not a PEM certificate signing request") from error


def proven_public_key(request: x509.CertificateSigningRequest) -> LeafPublicKey:
    """The key of a request, once the request proves possession of its private half (RFC 2986 section 3).

    1. The key is of a type that certificates of the mesh hold; a costly one is refused before it is computed with.
    2. The request's own signature verifies under that key.
    Raises KeyUnacceptable, ProofOfPossessionFailed.
    """
    try:
        key = require_leaf_public_key(request.public_key())  # (1)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnacceptable("the request holds a key that cannot be read") from error
    try:
        proven = request.is_signature_valid  # (2)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProofOfPossessionFailed("the request's signature cannot be verified") from error
    if not proven:
        raise ProofOfPossessionFailed("the request is not signed by the key that it holds")
    return key


def require_names(request: x509.CertificateSigningRequest, identity: Identity) -> None:
    """Refuse a request that asks for any alternative name but the URI of this identity; none at all is fine.

    The certificate would not hold such a name in any case: whoever asks is told before he relies on it.
    Raises NamesForeign.
    """
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    except UNREADABLE as error:
        raise NamesForeign("the names that the request asks for cannot be read") from error
    entitled = x509.UniformResourceIdentifier(str(identity))
    foreign = [name for name in extension.value if name != entitled]
    if foreign:
        raise NamesForeign(f"the request asks for {len(foreign)} name(s) that are not {identity}: leave them out")
