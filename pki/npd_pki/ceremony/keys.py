"""The keys of a ceremony: stand-ins for its rehearsal, and the real ones, opened or made once. Signs nothing itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.ca_store import KEY_FILE, SETTINGS_FILE
from npd_pki.ceremony.document import KeyFile, KeyInToken, NewKeyFile, OwnKey, SignerKey
from npd_pki.ceremony.errors import InputForeign, InputUnreadable, PassphraseWeak
from npd_pki.ceremony.stand_in import StandIn
from npd_pki.errors import KeyUnacceptable, PassphraseMissing
from npd_pki.files import PRIVATE, PUBLIC, PemFile
from npd_pki.keys import SigningKey, key_id, load_ec_private_key, private_key_pem, require_ec_public_key
from npd_pki.passphrase import read_passphrase
from npd_pki.pkcs11 import generate_token_key, open_token_key
from npd_pki.token_settings import TokenSettings

SHORTEST_PASSPHRASE = 12  # characters of a new one; what protects a CA's key when its file is stolen


class Passphrases(Protocol):
    """Where passphrases come from that no file gives: a person, or an option of the command."""

    def of(self, file: Path) -> bytes:
        """The passphrase of a key that exists."""

    def for_new(self, purpose: str) -> bytes:
        """The passphrase that is to protect a new key, asked for twice."""

    def pin(self, token_label: str) -> bytes:
        """The PIN of a token."""


class Keys(Protocol):
    """What signs, and what is certified."""

    def signer(self, key: SignerKey, certificate: x509.Certificate) -> SigningKey:
        """The key of a CA that exists."""

    def subject(self, purpose: str, key: OwnKey, curve: ec.EllipticCurve) -> SigningKey:
        """The key that a certificate is for."""

    def kept(self, purpose: str, key: OwnKey) -> tuple[PemFile, ...]:
        """What is written beside that certificate: the key's file, or where in a token it is."""


@dataclass(frozen=True, slots=True)
class StandIns:
    """The keys of a rehearsal. `marks` says, for what depends on a key that is not here yet, whose it will be."""

    marks: dict[str, str] = field(default_factory=dict)

    def signer(self, key: SignerKey, certificate: x509.Certificate) -> SigningKey:
        """A stand-in for the CA's key. Raises KeyUnacceptable."""
        return StandIn(require_ec_public_key(certificate.public_key()))

    def subject(self, purpose: str, key: OwnKey, curve: ec.EllipticCurve) -> SigningKey:
        """A throwaway key whose ids are marked."""
        drawn = ec.generate_private_key(curve)
        public = drawn.public_key()
        identifier, words = key_id(public), where_key_is(key)
        self.marks[identifier] = f"<key id of the {words}>"
        self.marks[x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()] = "<SHA-1 of that key>"
        self.marks[f"CA {identifier[:12]}"] = "CA <first 12 digits of the key id>"
        return drawn

    def kept(self, purpose: str, key: OwnKey) -> tuple[PemFile, ...]:
        """The names and modes of the files, without content."""
        return tuple(PemFile(name, b"", mode) for name, mode in _kept_as(key))


class RealKeys:
    """The keys themselves. Each is opened or made once; everything asked of it later is known to be there."""

    def __init__(self, passphrases: Passphrases) -> None:
        self._passphrases = passphrases
        self._signers: dict[SignerKey, SigningKey] = {}
        self._subjects: dict[str, SigningKey] = {}
        self._protecting: dict[str, bytes] = {}
        self._pins: dict[str, bytes] = {}

    def open_signer(self, key: SignerKey, certificate: x509.Certificate) -> SigningKey:
        """Open the key of a CA. Raises InputForeign if it is another's, and what opening a key raises."""
        opened = self._signers[key] = self._opened(key)
        if opened.public_key() != certificate.public_key():
            raise InputForeign(f"the {where_key_is(key)} is not that of {certificate.subject.rfc4514_string()!r}")
        return opened

    def prepare_subject(self, purpose: str, key: OwnKey, curve: ec.EllipticCurve) -> None:
        """Open a key that exists; for a new one get the passphrase or PIN that is to protect it, but make nothing yet.

        Raises KeyUnacceptable for another curve, PassphraseWeak, and what opening a key raises.
        """
        if isinstance(key, NewKeyFile):
            self._protecting[purpose] = self._new_passphrase(purpose, key.passphrase_file)
        elif isinstance(key, KeyInToken) and key.generate:
            self._pin(key)
        else:
            opened = self._subjects[purpose] = self._opened(key)
            if opened.curve.name != curve.name:
                raise KeyUnacceptable(f"the {where_key_is(key)} is on {opened.curve.name}, not {curve.name}")

    def make_subject(self, purpose: str, key: OwnKey, curve: ec.EllipticCurve) -> SigningKey:
        """Make a new key, or give the one that was opened. A key made in a token stays there, whatever follows."""
        if isinstance(key, NewKeyFile):
            self._subjects[purpose] = ec.generate_private_key(curve)
        elif isinstance(key, KeyInToken) and key.generate:
            self._subjects[purpose] = generate_token_key(key.where, self._pin(key), curve)
        return self._subjects[purpose]

    def signer(self, key: SignerKey, certificate: x509.Certificate) -> SigningKey:
        """The opened key of a CA."""
        return self._signers[key]

    def subject(self, purpose: str, key: OwnKey, curve: ec.EllipticCurve) -> SigningKey:
        """The key that was opened or made for a purpose."""
        return self._subjects[purpose]

    def kept(self, purpose: str, key: OwnKey) -> tuple[PemFile, ...]:
        """The new key, encrypted; or where in a token the key is."""
        return tuple(PemFile(name, self._content(name, purpose, key), mode) for name, mode in _kept_as(key))

    def _content(self, name: str, purpose: str, key: OwnKey) -> bytes:
        if isinstance(key, KeyInToken):
            return TokenSettings(key.where, key.pin_file and key.pin_file.absolute()).toml()
        return private_key_pem(self._subjects[purpose], self._protecting[purpose])

    def _opened(self, key: KeyFile | KeyInToken) -> SigningKey:
        if isinstance(key, KeyInToken):
            return open_token_key(key.where, self._pin(key))
        try:
            if key.passphrase_file is not None:
                return load_ec_private_key(key.file, _secret(key.passphrase_file))
            return self._opened_by_hand(key.file)
        except OSError as error:
            raise InputUnreadable(f"the key {key.file} cannot be read: {error.strerror}") from error

    def _opened_by_hand(self, file: Path) -> SigningKey:
        try:
            return load_ec_private_key(file)
        except PassphraseMissing:
            return load_ec_private_key(file, self._passphrases.of(file))

    def _pin(self, key: KeyInToken) -> bytes:
        if key.pin_file is not None:
            return _secret(key.pin_file)
        label = key.where.token_label
        if label not in self._pins:
            self._pins[label] = self._passphrases.pin(label)
        return self._pins[label]

    def _new_passphrase(self, purpose: str, stated: Path | None) -> bytes:
        passphrase = _secret(stated) if stated is not None else self._passphrases.for_new(f"the new {purpose} key")
        return require_strong_passphrase(passphrase)


def require_strong_passphrase(passphrase: bytes) -> bytes:
    """Return what may protect a new key. Raises PassphraseWeak."""
    if len(passphrase.decode(errors="replace")) < SHORTEST_PASSPHRASE:
        raise PassphraseWeak(f"the passphrase of a new key has {SHORTEST_PASSPHRASE} characters or more")
    return passphrase


def where_key_is(key: SignerKey | OwnKey) -> str:
    """A key in words, such as `key to be generated`."""
    match key:
        case KeyFile():
            return f"key in {key.file.name}"
        case NewKeyFile():
            return "key to be generated"
        case KeyInToken():
            place = f"key {key.where.key_label} {'to be generated ' if key.generate else ''}"
            return f"{place}in the token {key.where.token_label}"


def _kept_as(key: OwnKey) -> tuple[tuple[str, int], ...]:
    match key:
        case NewKeyFile():
            return ((KEY_FILE, PRIVATE),)
        case KeyInToken():
            return ((SETTINGS_FILE, PUBLIC),)
        case KeyFile():
            return ()


def _secret(path: Path) -> bytes:
    try:
        return read_passphrase(path)
    except OSError as error:
        raise InputUnreadable(f"the passphrase or PIN file {path} cannot be read: {error.strerror}") from error
