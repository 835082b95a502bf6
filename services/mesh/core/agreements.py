"""Checks the signatures of agreements: every room does, so that the registry alone cannot grant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from npd_client.agreement import hash_for, signed_bytes
from services.mesh.core.caller import CallerKind, Leaf, read_leaf
from services.mesh.core.errors import MeshError
from services.mesh.core.rights import State

_DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # id-kp-documentSigning, RFC 9336


class SignatureDefect(Exception):
    """A signature does not hold; the text says in a few words why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A party's signature: DER chain of its signing leaf, time, bytes. Empty if it has not signed."""

    chain: tuple[bytes, ...]
    sign_time: datetime
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """The bytes of an agreement and its two signatures."""

    terms: bytes
    agency: Signature | None
    operator: Signature | None
    state: State
    cause: str


def verify_signature(
    terms: bytes, signature: Signature, signer_host: str, signer_path: str, roots: Sequence[x509.Certificate]
) -> Leaf:
    """Check one party's signature over the terms.

    1. The signing leaf stands on an issuing CA that is constrained to the party's host, and that on one of our roots.
    2. It is a signing leaf (it can authenticate no connection) and names the party; an empty `signer_path` means any
       of that host.
    3. It and its issuer were valid when it signed.
    4. The signature is over these bytes and that time.

    Returns the signing leaf. Raises SignatureDefect.
    """
    if not signature.chain:
        raise SignatureDefect("no certificate")
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in signature.chain]
        certificate, presented = certificates[0], certificates[1:]
        leaf = read_leaf(certificate, presented, roots)  # (1)
        identity = leaf.only_identity()
    except (ValueError, MeshError):
        raise SignatureDefect("the certificate does not lead to our root, or names no identity") from None
    if leaf.issuer_hosts != (identity.host,) or identity.host != signer_host:
        raise SignatureDefect("the certificate is not of the party's CA")
    if not _signs_documents(certificate):  # (2)
        raise SignatureDefect("the certificate is not a signing certificate")
    if signer_path and "/".join(identity.path) != signer_path:
        raise SignatureDefect("the certificate names another party")
    if not leaf.valid_from_time <= signature.sign_time < min(leaf.expire_time, leaf.issuer_expire_time):  # (3)
        raise SignatureDefect("the certificate was not valid when it signed")
    message = signed_bytes(terms, signature.sign_time)  # (4)
    key = certificate.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature.signature, message, ec.ECDSA(hash_for(key)))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.signature, message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        else:
            raise SignatureDefect("the key is of a kind that agreements are not signed with")
    except InvalidSignature:
        raise SignatureDefect("the signature is not over these terms") from None
    return leaf


def defect_of(
    signed: SignedTerms, environment: str, agency_id: str, system_id: str, roots: Sequence[x509.Certificate]
) -> str:
    """What is wrong with an agreement's signatures, in a few words; empty if both hold."""
    parties = (
        ("the agency's side", signed.agency, CallerKind.AGENCY, f"{agency_id}/{system_id}"),
        ("the operator's side", signed.operator, CallerKind.OPERATOR, ""),
    )
    for side, signature, kind, path in parties:
        if signature is None:
            return f"{side} has not signed"
        try:
            verify_signature(signed.terms, signature, f"{kind.value}.{environment}", path, roots)
        except SignatureDefect as defect:
            return f"{side}: {defect}"
    return ""


def _signs_documents(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return list(usages) == [_DOCUMENT_SIGNING]
