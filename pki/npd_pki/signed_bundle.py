"""Trust bundles that are fetched from whoever has one, because a root that is trusted already has signed them.

    npd trust bundle v1
    environment: npd.gov.vn
    sequence: 7

    -----BEGIN CERTIFICATE----- ... one root after the other
    signed by <key id of the root>: <base64 of its ECDSA signature>

The signature covers every byte before the last line. Whoever follows bundles takes none whose sequence does not rise;
that is his to remember, nothing is stored here.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.authority import RootCA
from npd_pki.errors import HostNameMalformed, NotAuthority, TrustBundleMalformed, TrustBundleUntrusted
from npd_pki.identity import require_environment
from npd_pki.issuance import issuer_key_id
from npd_pki.keys import require_ec_public_key, signature_hash
from npd_pki.tbs import environment_of
from npd_pki.trust_bundle import certificates_pem, require_roots

_TITLE = "npd trust bundle v1"
_HEAD = re.compile(rf"{_TITLE}\nenvironment: ([^\n]+)\nsequence: ([1-9][0-9]{{0,17}})\n\n".encode())
_LAST_LINE = re.compile(rb"signed by ([0-9a-f]{64}): ([A-Za-z0-9+/]+={0,2})\n")
_PEM = re.compile(rb"(?:-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/]+={0,2}\n)+-----END CERTIFICATE-----\n)+")
_LARGEST_SEQUENCE = 10**18 - 1


@dataclass(frozen=True, slots=True)
class SignedTrustBundle:
    """The roots to trust in an environment from this sequence number on; `signer` is the root that says so."""

    environment: str
    sequence: int
    roots: tuple[x509.Certificate, ...]
    signer: x509.Certificate


def sign_trust_bundle(root: RootCA, sequence: int, roots: Iterable[x509.Certificate]) -> bytes:
    """Say, in the name of a root, which roots to trust in its environment; itself need not be among them.

    Raises TrustBundleMalformed for a sequence that is no positive number below 10^18, no roots, one twice, what is no
    root, and a root of another environment.
    """
    if not 1 <= sequence <= _LARGEST_SEQUENCE:
        raise TrustBundleMalformed(f"the sequence of a trust bundle is 1 to {_LARGEST_SEQUENCE}, not {sequence}")
    bundled = _require_bundle(root.environment, roots)
    head = f"{_TITLE}\nenvironment: {root.environment}\nsequence: {sequence}\n\n"
    signed = head.encode() + certificates_pem(bundled)
    signature = root.key.sign(signed, ec.ECDSA(signature_hash(root.key.public_key())))
    return signed + f"signed by {root.key_id}: {base64.b64encode(signature).decode()}\n".encode()


def read_trust_bundle(
    content: bytes, trusted_roots: Iterable[x509.Certificate], *, now: datetime | None = None
) -> SignedTrustBundle:
    """Read a signed bundle, believing nothing in it before its signature.

    1. Its last line names one of the trusted roots, and that is valid now (`now` is the machine's clock unless given).
    2. That root's key signed everything before that line.
    3. What was signed is a bundle of the root's own environment.
    Raises TrustBundleMalformed, TrustBundleUntrusted.
    """
    signed, line_start, line = content.rpartition(b"\nsigned by ")
    seal = _LAST_LINE.fullmatch(line_start[1:] + line)
    if seal is None:
        raise TrustBundleMalformed("a signed trust bundle ends with a line `signed by <key id>: <base64>`")
    signed += b"\n"
    signer = _trusted(seal[1].decode(), trusted_roots, now or datetime.now(UTC))  # (1)
    _require_signature(signer, signed, seal[2])  # (2)
    return _parsed(signed, signer)  # (3)


def _trusted(key_id: str, trusted_roots: Iterable[x509.Certificate], now: datetime) -> x509.Certificate:
    for root in trusted_roots:
        if issuer_key_id(root) == key_id and root.not_valid_before_utc <= now <= root.not_valid_after_utc:
            return root
    raise TrustBundleUntrusted(f"the trust bundle is signed by the root {key_id}, not trusted here or not valid now")


def _require_signature(signer: x509.Certificate, signed: bytes, encoded: bytes) -> None:
    key = require_ec_public_key(signer.public_key())
    try:
        signature = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise TrustBundleMalformed("the signature of the trust bundle is not base64") from error
    if base64.b64encode(signature) != encoded:  # the same bytes have several spellings otherwise
        raise TrustBundleMalformed("the signature of the trust bundle is not base64 in its canonical spelling")
    try:
        key.verify(signature, signed, ec.ECDSA(signature_hash(key)))
    except InvalidSignature as error:
        raise TrustBundleUntrusted("the trust bundle was changed after it was signed, or never was") from error


def _parsed(signed: bytes, signer: x509.Certificate) -> SignedTrustBundle:
    head = _HEAD.match(signed)
    if head is None or not _PEM.fullmatch(signed, head.end()):
        raise TrustBundleMalformed(f"a signed trust bundle is `{_TITLE}`, environment, sequence, and roots as PEM")
    environment, sequence = head[1].decode(errors="replace"), int(head[2])
    if environment != environment_of(signer.subject):
        raise TrustBundleMalformed(f"a root of {environment_of(signer.subject)} does not speak for {environment}")
    try:
        roots = x509.load_pem_x509_certificates(signed[head.end() :])
    except ValueError as error:
        raise TrustBundleMalformed("the trust bundle holds what is no certificate") from error
    return SignedTrustBundle(environment, sequence, _require_bundle(environment, roots), signer)


def _require_bundle(environment: str, certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    roots = require_roots(certificates)
    if len(set(roots)) != len(roots):
        raise TrustBundleMalformed("a trust bundle names each root once")
    for root in roots:
        _require_environment(environment, root)
    return roots


def _require_environment(environment: str, root: x509.Certificate) -> None:
    try:
        place = environment_of(root.subject)
        require_environment(environment)
    except (NotAuthority, HostNameMalformed) as error:
        raise TrustBundleMalformed(f"a trust bundle holds roots of its environment: {error}") from error
    if place != environment:
        raise TrustBundleMalformed(f"the trust bundle of {environment} holds a root of {place}")
