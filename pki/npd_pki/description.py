"""Certificates, requests and revocation lists in plain lines, for people who compare them. Shows no private key."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from npd_pki.profile import DOCUMENT_SIGNING

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    DOCUMENT_SIGNING: "documentSigning",
}
_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "contentCommitment",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_WIDTH = 22


def line(label: str, value: object) -> str:
    """One fact: its name in a column of its own, then its value."""
    return f"  {label:<{_WIDTH}}{printable(str(value))}"


def printable(text: str) -> str:
    """A text of which every character that could steer a terminal is shown as its code."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def moment(instant: datetime) -> str:
    """An instant as all output of this library shows it: UTC, to the second."""
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")


def fingerprint(content: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return sha256(content).hexdigest()


def public_key_id(key: PublicKeyTypes) -> str:
    """The key id of a public key of any type, also of one that the mesh would refuse."""
    return fingerprint(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def public_key_words(key: PublicKeyTypes) -> str:
    """A public key's type and size."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def certificate_lines(certificate: x509.Certificate) -> Iterator[str]:
    """Everything in a certificate that its issuer signs."""
    yield line("subject", certificate.subject.rfc4514_string())
    yield line("issuer", certificate.issuer.rfc4514_string())
    yield line("serial", f"{certificate.serial_number:x}")
    yield line("valid from", moment(certificate.not_valid_before_utc))
    yield line("valid until", moment(certificate.not_valid_after_utc))
    yield line("signature algorithm", certificate.signature_algorithm_oid._name)
    yield line("public key", public_key_words(certificate.public_key()))
    yield line("key id", public_key_id(certificate.public_key()))
    for extension in certificate.extensions:
        yield from _extension_lines(extension)


def request_lines(request: x509.CertificateSigningRequest) -> Iterator[str]:
    """What a signing request asks for; of all this only the public key is ever used."""
    yield line("subject", request.subject.rfc4514_string() or "(none)")
    yield line("public key", public_key_words(request.public_key()))
    yield line("key id", public_key_id(request.public_key()))
    yield line(
        "signed by its key", "yes" if request.is_signature_valid else "NO: whoever sent it does not have the key"
    )
    for extension in request.extensions:
        yield from _extension_lines(extension)


def list_lines(revoked: x509.CertificateRevocationList) -> Iterator[str]:
    """Everything in a revocation list, an entry a line."""
    yield line("issuer", revoked.issuer.rfc4514_string())
    yield line("this update", moment(revoked.last_update_utc))
    yield line("next update", moment(revoked.next_update_utc) if revoked.next_update_utc else "(none)")
    if revoked.signature_algorithm_oid is not None:
        yield line("signature algorithm", revoked.signature_algorithm_oid._name)
    for extension in revoked.extensions:
        yield from _extension_lines(extension)
    yield line("revoked certificates", len(revoked))
    for entry in revoked:
        yield line("", f"{entry.serial_number:x}  {moment(entry.revocation_date_utc)}  {_reason(entry)}")


def bundle_lines(environment: str, sequence: int, roots: Iterable[x509.Certificate]) -> Iterator[str]:
    """A trust bundle: which roots it tells everybody to trust."""
    yield line("environment", environment)
    yield line("sequence", sequence)
    for root in roots:
        yield line("root", root.subject.rfc4514_string())
        yield line("", f"key id {public_key_id(root.public_key())}")
        yield line(
            "", f"SHA-256 {fingerprint(root.public_bytes(Encoding.DER))}, until {moment(root.not_valid_after_utc)}"
        )


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        return "unspecified"


def _extension_lines(extension: x509.Extension[x509.ExtensionType]) -> Iterator[str]:
    label, values = _extension(extension.value)
    for place, value in enumerate(values):
        yield line("" if place else label, f"{value} (critical)" if extension.critical else value)


def _extension(value: x509.ExtensionType) -> tuple[str, list[str]]:
    match value:
        case x509.BasicConstraints():
            length = "" if value.path_length is None else f", at most {value.path_length} CA(s) below"
            return "basic constraints", [f"CA{length}" if value.ca else "not a CA"]
        case x509.KeyUsage():
            return "key usage", [", ".join(word for usage, word in _USAGES.items() if getattr(value, usage))]
        case x509.ExtendedKeyUsage():
            return "purposes", [", ".join(_PURPOSES.get(oid, oid.dotted_string) for oid in value)]
        case x509.SubjectAlternativeName():
            return "names", [_name(name) for name in value]
        case x509.NameConstraints():
            permitted = [f"permitted {_name(name)}" for name in value.permitted_subtrees or ()]
            return "name constraints", [*permitted, *(f"excluded {_name(n)}" for n in value.excluded_subtrees or ())]
        case x509.SubjectKeyIdentifier():
            return "subject key id", [value.digest.hex()]
        case x509.AuthorityKeyIdentifier():
            return "authority key id", [(value.key_identifier or b"").hex()]
        case x509.CRLDistributionPoints():
            return "revocation list at", [_name(name) for point in value for name in point.full_name or ()]
        case x509.CRLNumber():
            return "number", [str(value.crl_number)]
    return "extension", [f"{value.oid.dotted_string} {value.public_bytes().hex()}"]


def _name(name: x509.GeneralName) -> str:
    match name:
        case x509.UniformResourceIdentifier():
            return f"URI {name.value}"
        case x509.DNSName():
            return f"DNS {name.value or '(all)'}"
        case x509.IPAddress():
            return f"IP {name.value}"
    return f"{type(name).__name__} {name.value}"
