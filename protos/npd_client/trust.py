"""Learns new roots from those already trusted: reads signed trust bundles, and never trusts at first sight.

A trust bundle is a text, signed by a root's key (ECDSA, SHA-256 for P-256, SHA-384 for P-384) over all bytes before its
last line; a root's id is the SHA-256 of its SubjectPublicKeyInfo in hex:

    npd trust bundle v1
    environment: npd.gov.vn
    sequence: 4

    -----BEGIN CERTIFICATE-----
    ...
    signed by <id of a root>: <base64 of the signature>
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from npd_client.credentials import (
    AUTHORITIES_FILE,
    CredentialsError,
    PemIncomplete,
    certificates_of,
    is_issued_by_itself,
    spki_of,
)

MAX_BUNDLE_SIZE = 1_000_000

_LAST_LINE = re.compile(rb"signed by ([0-9a-f]{64}): ([A-Za-z0-9+/]+={0,2})\n")
_TEXT = re.compile(
    rb"npd trust bundle v1\nenvironment: ([a-z0-9.-]{1,253})\nsequence: ([1-9][0-9]{0,17})\n\n"
    rb"((?:-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/]+={0,2}\n)+-----END CERTIFICATE-----\n)+)"
)
_HASHES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}


class TrustBundleMalformed(CredentialsError):
    """These bytes are not a trust bundle."""


class TrustBundleUntrusted(CredentialsError):
    """No root that is trusted here signed this trust bundle, or it was changed after it was signed."""


class RootsMalformed(CredentialsError):
    """A file of roots holds something else, such as an issuing CA's certificate."""


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The roots of an environment, as of a sequence number, which rises with each change."""

    environment: str
    sequence: int
    roots: tuple[x509.Certificate, ...]

    def roots_pem(self) -> bytes:
        """The content of ca.crt."""
        return b"".join(root.public_bytes(Encoding.PEM) for root in self.roots)


def read_trust_bundle(content: bytes, roots: Sequence[x509.Certificate], *, now: datetime | None = None) -> TrustBundle:
    """Read a trust bundle that one of `roots` signed.

    1. The last line names a root that is trusted here and valid now; an expired root's key may be anybody's.
    2. The signature is that root's, over all bytes before the line.
    3. Only now the text is read: environment, sequence, roots, each signed with its own key.

    Raises TrustBundleUntrusted (1, 2), TrustBundleMalformed.
    """
    text, key_id, signature = _split(content)
    root = next((one for one in roots if root_id(one) == key_id), None)
    moment = now or datetime.now(UTC)
    if root is None or not root.not_valid_before_utc <= moment <= root.not_valid_after_utc:  # (1)
        raise TrustBundleUntrusted(
            f"The trust bundle is signed by the root {key_id[:16]}, which your ca.crt does not hold or which has "
            "expired. Ask your PKI administrator for the present ca.crt."
        )
    _require_signed(root, text, signature)  # (2)
    return _parse(text)  # (3)


def sequence_taken(content: bytes, environment: str) -> int:
    """The sequence of a bundle that was verified when it was stored; 0 for none, or one of another environment."""
    try:
        taken = _parse(_split(content)[0])
    except TrustBundleMalformed:
        return 0
    return taken.sequence if taken.environment == environment else 0


def root_id(root: x509.Certificate) -> str:
    """SHA-256 of the root's SubjectPublicKeyInfo, in lower-case hex."""
    return sha256(spki_of(root.public_key())).hexdigest()


def read_roots(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The roots of a `ca.crt` as a PKI administrator hands it over: one at least, and nothing but roots.

    gRPC takes any certificate in it as an anchor, so an issuing CA would stay trusted after its root was given up.
    Raises RootsMalformed.
    """
    try:
        found = certificates_of(Path(AUTHORITIES_FILE), pem)
    except PemIncomplete as error:
        raise RootsMalformed(f"The file of roots is not in order. {error}") from None
    for one in found:
        if not is_issued_by_itself(one):
            raise RootsMalformed(
                f"{one.subject.rfc4514_string()!r} among the roots is no root but stands below one. Take the ca.crt "
                "that your PKI administrator published: it holds roots alone."
            )
    return tuple(found)


def _split(content: bytes) -> tuple[bytes, str, bytes]:
    """What was signed, the id of the root that signed, and the signature."""
    end = content.rfind(b"\n", 0, -1) + 1
    line = _LAST_LINE.fullmatch(content[end:])
    if line is None or len(content) > MAX_BUNDLE_SIZE:
        raise TrustBundleMalformed("This is not a trust bundle: it does not end with the line of a root's signature.")
    try:
        signature = b64decode(line[2], validate=True)
    except ValueError:
        signature = b""
    if b64encode(signature) != line[2]:
        raise TrustBundleMalformed("The signature of the trust bundle is not base64 in its one canonical spelling.")
    return content[:end], line[1].decode(), signature


def _require_signed(root: x509.Certificate, text: bytes, signature: bytes) -> None:
    key = root.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise TrustBundleUntrusted("The trust bundle is signed by a root whose key is neither P-256 nor P-384.")
    try:
        key.verify(signature, text, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        raise TrustBundleUntrusted(
            "The trust bundle was changed after it was signed, or not signed by the root that it names. Nothing of it "
            "is trusted."
        ) from None


def _parse(text: bytes) -> TrustBundle:
    parts = _TEXT.fullmatch(text)
    if parts is None:
        raise TrustBundleMalformed("This trust bundle is of another form than `npd trust bundle v1`.")
    try:
        roots = read_roots(parts[3])
    except RootsMalformed as error:
        raise TrustBundleMalformed(f"The trust bundle holds something else than roots. {error}") from None
    return TrustBundle(parts[1].decode(), int(parts[2]), roots)
