"""Signed notes with Ed25519 (C2SP signed-note): text that keys signed; says nothing about what the text means.

The form is checked strictly and has exactly one spelling, so that a note read and written again has the same bytes.
Signatures by keys that the reader does not know, such as the cosignatures of witnesses, are kept and not judged.
Source: https://c2sp.org/signed-note.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from npd_client.merkle import EvidenceInvalid

MAX_SIGNATURES = 100
MAX_NOTE_SIZE = 1_000_000

_ED25519 = b"\x01"
_KEY_SIZE = 32
_KEY_ID_SIZE = 4
_SIGNATURE_LINE = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteMalformed(EvidenceInvalid):
    """These bytes are not a signed note."""


class KeyMalformed(EvidenceInvalid):
    """This is not a verifier key, or not one for Ed25519."""


class KeyAmbiguous(EvidenceInvalid):
    """Two different trusted keys share a name and a key id, so a signature line cannot tell which of them signed."""


class SignatureInvalid(EvidenceInvalid):
    """A signature that names a trusted key was not made by it over this text."""


class SignatureMissing(EvidenceInvalid):
    """No key that had to sign did."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A trusted Ed25519 public key and the name under which it signs.

    Raises KeyMalformed for a name that is empty or holds a space, a plus or a control character, and for a key that is
    not 32 bytes long.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise KeyMalformed("a key name is not empty and holds no space, plus or control character")
        if len(self.public_key) != _KEY_SIZE:
            raise KeyMalformed(f"an Ed25519 public key has {_KEY_SIZE} bytes")

    @classmethod
    def of(cls, name: str, private_key: Ed25519PrivateKey) -> Self:
        """The public half of a signing key."""
        return cls(name, private_key.public_key().public_bytes_raw())

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read `name+hexid+base64(0x01 || key)`; the id must be that of the name and the key."""
        name, _, rest = vkey.partition("+")
        encoded = from_base64(rest.partition("+")[2], KeyMalformed)
        if encoded[:1] != _ED25519:
            raise KeyMalformed("the key is not of type Ed25519 (0x01)")
        key = cls(name, encoded[1:])
        if str(key) != vkey:
            raise KeyMalformed("the key id is not that of this name and key")
        return key

    def __str__(self) -> str:
        """The verifier key string that is given to those who shall trust this key."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(_ED25519 + self.public_key)}"

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, tell which key made a signature: a hint, not a fingerprint."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_SIZE]

    def verify(self, text: str, signature: bytes) -> None:
        """Raise SignatureInvalid unless this key signed this text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature:
            raise SignatureInvalid(f"the signature of {self.name} is not over this text") from None


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who claims to have signed, and the signature's own bytes, in the form of its key type."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if not _is_key_name(self.name) or len(self.key_id) != _KEY_ID_SIZE or not self.signature:
            raise NoteMalformed("a signature line has a key name, a key id and a signature")

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read an em dash, the key name and base64(key id || signature), with one space between; no newline."""
        if not line.startswith(_SIGNATURE_LINE):
            raise NoteMalformed("a signature line begins with an em dash and a space")
        name, _, encoded = line.removeprefix(_SIGNATURE_LINE).partition(" ")
        decoded = from_base64(encoded, NoteMalformed)
        return cls(name, decoded[:_KEY_ID_SIZE], decoded[_KEY_ID_SIZE:])

    def __str__(self) -> str:
        return f"{_SIGNATURE_LINE}{self.name} {to_base64(self.key_id + self.signature)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A signed text: not to be believed, nor shown, before `verify` has told who signed it."""

    text: str
    """Ends with a newline; no control character but newlines."""
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        _require_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise NoteMalformed(f"a note has 1 to {MAX_SIGNATURES} signatures")

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a note; raise NoteMalformed unless the bytes are exactly those that `to_bytes` would write.

        The last blank line ends the text, which may hold blank lines of its own.
        """
        if len(raw) > MAX_NOTE_SIZE:
            raise NoteMalformed(f"a note has at most {MAX_NOTE_SIZE} bytes")
        try:
            content = raw.decode()
        except UnicodeDecodeError:
            raise NoteMalformed("a note is UTF-8") from None
        text, blank, signatures = content.rpartition("\n\n")
        if not blank or not signatures.endswith("\n"):
            raise NoteMalformed("a note is a text, a blank line and signature lines, each ended by a newline")
        return cls(text + "\n", tuple(Signature.parse(line) for line in signatures[:-1].split("\n")))

    def to_bytes(self) -> bytes:
        """The note as it is published."""
        return "\n".join([self.text, *map(str, self.signatures), ""]).encode()

    def with_signature(self, signature: Signature) -> Self:
        """The same text, signed once more; nothing changes if this very signature is there already."""
        if signature in self.signatures:
            return self
        return replace(self, signatures=(*self.signatures, signature))

    def verify(self, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
        """Tell which of the trusted keys signed, each once however often its line is repeated.

        1. The trusted keys can be told apart by name and key id.
        2. A line that matches none of them in both is somebody else's: left alone.
        3. A line that matches is verified; a single bad one condemns the whole note.
        4. At least one trusted key signed.

        Raises KeyAmbiguous, SignatureInvalid, SignatureMissing. Source: C2SP signed-note, "Signatures".
        """
        trusted: dict[tuple[str, bytes], VerifierKey] = {}
        for key in keys:
            if trusted.setdefault((key.name, key.key_id), key) != key:  # (1)
                raise KeyAmbiguous(f"two keys are {key.name}+{key.key_id.hex()}")
        signers: dict[VerifierKey, None] = {}
        for line in self.signatures:
            signer = trusted.get((line.name, line.key_id))
            if signer is not None:  # (2)
                signer.verify(self.text, line.signature)  # (3)
                signers[signer] = None
        if not signers:  # (4)
            raise SignatureMissing("no trusted key signed this note")
        return tuple(signers)


def sign(text: str, name: str, private_key: Ed25519PrivateKey) -> Note:
    """Sign a text under a key name. Raises NoteMalformed for a text, KeyMalformed for a name, that no note may hold."""
    _require_text(text)
    key = VerifierKey.of(name, private_key)
    return Note(text, (Signature(name, key.key_id, private_key.sign(text.encode())),))


def to_base64(raw: bytes) -> str:
    """Standard base64 with padding (RFC 4648, section 4)."""
    return b64encode(raw).decode()


def from_base64(encoded: str, refusal: type[EvidenceInvalid]) -> bytes:
    """Read base64 in its one canonical spelling, or raise the refusal: a second spelling would be a second note."""
    try:
        raw = b64decode(encoded, validate=True)
    except ValueError:
        raise refusal("this is not base64") from None
    if to_base64(raw) != encoded:
        raise refusal("this is not canonical base64")
    return raw


def _require_text(text: str) -> None:
    if not text.endswith("\n") or not _is_plain(text):
        raise NoteMalformed("a note's text is UTF-8, ends with a newline and holds no other control character")


def _is_plain(text: str) -> bool:
    """True for what UTF-8 can hold (no lone surrogate) without control characters below U+0020 but newlines."""
    return not _CONTROL.search(text) and not any("\ud800" <= character <= "\udfff" for character in text)


def _is_key_name(name: str) -> bool:
    return bool(name) and _is_plain(name) and not any(character.isspace() or character == "+" for character in name)
