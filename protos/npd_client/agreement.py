"""Signs the terms of an agreement with a party's signing leaf; says which bytes are signed. Needs no network."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from npd.registry.v1 import agreement_pb2
from npd_client.credentials import CredentialFiles, CredentialsError, DirectoryPath

CONTEXT = "npd-agreement-v1"


class SigningKeyUnfit(CredentialsError):
    """The key is of a kind that agreements are not signed with."""


def signed_bytes(terms: bytes, sign_time: datetime) -> bytes:
    """What a party signs: the context, the sign time (RFC 3339, Z, whole seconds) and the terms, by lines.

    Source: npd.registry.v1.AgreementSignature.
    """
    return f"{CONTEXT}\n{sign_time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode() + terms


def hash_for(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    """The hash that goes with a key's curve: SHA-384 for P-384, else SHA-256."""
    return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()


def sign_terms(
    terms: bytes, directory: DirectoryPath, *, now: datetime | None = None
) -> agreement_pb2.AgreementSignature:
    """Sign an agreement's terms with the signing leaf in `directory` (tls.crt, tls.key, ca.crt of that leaf).

    Raises CredentialsError for files that cannot be read, SigningKeyUnfit for a key that is neither EC nor RSA.
    """
    files = CredentialFiles.read(directory)
    key = load_pem_private_key(files.private_key, None)
    sign_time = (now or datetime.now(UTC)).replace(microsecond=0)
    message = signed_bytes(terms, sign_time)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(hash_for(key.public_key())))
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        raise SigningKeyUnfit("Agreements are signed with an EC (P-256, P-384) or RSA key. Ask for such a certificate.")
    chain = x509.load_pem_x509_certificates(files.certificate_chain)
    wire = agreement_pb2.AgreementSignature(signature=signature)
    wire.certificate_chain.extend(certificate.public_bytes(Encoding.DER) for certificate in chain)
    wire.sign_time.FromDatetime(sign_time)
    return wire
