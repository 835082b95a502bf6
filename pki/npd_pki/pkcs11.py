"""Keys that never leave a hardware module (HSM), spoken to by PKCS #11. Tries a PIN once, never again by itself.

Needs `python-pkcs11`, which is imported when a token is first opened: pip install 'npd-pki[pkcs11]'.
Source: OASIS PKCS #11 v2.40 (base specification; 2.3.6 for ECDSA).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from secrets import token_bytes
from typing import Any, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from npd_pki.errors import (
    KeyUnacceptable,
    PassphraseMalformed,
    PinLocked,
    PinWrong,
    TokenKeyExists,
    TokenSupportMissing,
    TokenUnavailable,
)
from npd_pki.keys import require_ec_public_key

_CURVES: dict[str, type[ec.EllipticCurve]] = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1}
_ID_BYTES = 20


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Where a key is: the module's library, the label of its token, the label of the key pair in it."""

    module: Path
    token_label: str
    key_label: str


class Pkcs11Key(ec.EllipticCurvePrivateKey):
    """The private half of a key pair in a token. Signs; gives nothing of itself away."""

    def __init__(self, handle: Any, public_key: ec.EllipticCurvePublicKey, where: TokenKey) -> None:
        """Use `open_token_key` or `generate_token_key`. `handle` is python-pkcs11's PrivateKey in an open session."""
        self._handle, self._public_key, self._where = handle, public_key, where

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """The DER signature of data, or of a digest that comes as Prehashed. Raises KeyUnacceptable, TokenUnavailable.

        The digest is computed here: not every module hashes, and one that does has to be sent the whole list. The
        signature is verified before anybody gets it: the two halves in a token can be of different pairs.
        """
        if not isinstance(signature_algorithm, ec.ECDSA):
            raise KeyUnacceptable("a key in a token signs by ECDSA alone")
        digest = _digest(bytes(data), signature_algorithm.algorithm)[: (self.key_size + 7) // 8]
        with _refusals(self._where):
            raw = self._handle.sign(digest, mechanism=import_module("pkcs11").Mechanism.ECDSA)
        half = len(raw) // 2
        signature = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
        try:
            self._public_key.verify(signature, data, signature_algorithm)
        except InvalidSignature:
            raise TokenUnavailable(
                f"the public key {self._where.key_label} does not verify what the token signs"
            ) from None
        return signature

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256 or P-384."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """In bits."""
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refused: a CA's key signs. Raises KeyUnacceptable."""
        self._refuse()

    def private_numbers(self) -> NoReturn:
        """Refused: the key does not leave its token. Raises KeyUnacceptable."""
        self._refuse()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:
        """Refused: the key does not leave its token. Raises KeyUnacceptable."""
        self._refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def _refuse(self) -> NoReturn:
        raise KeyUnacceptable(f"the key {self._where.key_label} signs, and never leaves its token")


def open_token_key(where: TokenKey, pin: bytes, *, unattended: bool = False) -> Pkcs11Key:
    """Log in to a token, once, and take a key pair in it.

    `unattended` says that nobody watches and whoever runs this may be started again and again, each time with the same
    PIN: then a token that has seen a wrong PIN since its last good one is left alone until a person has logged in.
    Raises PinWrong, PinLocked, TokenUnavailable, TokenSupportMissing, KeyUnacceptable, PassphraseMalformed.
    """
    library = _library()
    session = _session(library, where, pin, writable=False, unattended=unattended)
    with _refusals(where):
        found = list(session.get_objects({library.Attribute.LABEL: where.key_label}))
    halves = {one.object_class: one for one in found if one.object_class in _halves(library)}
    if len(found) != len(halves) or set(halves) != _halves(library):
        raise TokenUnavailable(f"the token {where.token_label} does not hold one key pair labelled {where.key_label}")
    return _key(library, where, halves[library.ObjectClass.PRIVATE_KEY], halves[library.ObjectClass.PUBLIC_KEY])


def generate_token_key(where: TokenKey, pin: bytes, curve: ec.EllipticCurve) -> Pkcs11Key:
    """Make a key pair in a token, of which the private half can never be read; none is replaced.

    Raises TokenKeyExists, and what `open_token_key` raises.
    """
    if curve.name not in _CURVES:
        raise KeyUnacceptable("a CA of the mesh has an EC key on P-256 or P-384, no other")
    library = _library()
    session = _session(library, where, pin, writable=True, unattended=False)
    with _refusals(where):
        if list(session.get_objects({library.Attribute.LABEL: where.key_label})):
            raise TokenKeyExists(f"the token {where.token_label} holds {where.key_label} already: take another label")
        parameters = session.create_domain_parameters(
            library.KeyType.EC,
            {library.Attribute.EC_PARAMS: library.util.ec.encode_named_curve_parameters(curve.name)},
            local=True,
        )
        public, private = parameters.generate_keypair(
            id=token_bytes(_ID_BYTES),
            label=where.key_label,
            store=True,
            capabilities=library.MechanismFlag.SIGN | library.MechanismFlag.VERIFY,
            private_template={library.Attribute.SENSITIVE: True, library.Attribute.EXTRACTABLE: False},
        )
    return _key(library, where, private, public)


def _key(library: Any, where: TokenKey, private: Any, public: Any) -> Pkcs11Key:
    with _refusals(where):
        encoded = library.util.ec.encode_ec_public_key(public)
    try:
        public_key = load_der_public_key(encoded)
    except ValueError as error:
        raise KeyUnacceptable(f"the token {where.token_label} holds a public key that cannot be read") from error
    return Pkcs11Key(private, require_ec_public_key(public_key), where)


def _library() -> Any:
    try:
        return import_module("pkcs11")
    except ImportError as error:
        raise TokenSupportMissing("keys in a token need python-pkcs11: pip install 'npd-pki[pkcs11]'") from error


def _session(library: Any, where: TokenKey, pin: bytes, *, writable: bool, unattended: bool) -> Any:
    """A session that is logged in. A process logs in to a token once, whoever of its keys comes first."""
    with _refusals(where):
        token = library.lib(str(where.module)).get_token(token_label=where.token_label)
        _require_open(library, token.flags, where, unattended=unattended)
        try:
            return token.open(rw=writable, user_pin=_text(pin))
        except library.UserAlreadyLoggedIn:
            return token.open(rw=writable)


def _require_open(library: Any, flags: Any, where: TokenKey, *, unattended: bool) -> None:
    if flags & library.TokenFlag.USER_PIN_LOCKED:
        raise PinLocked(f"the token {where.token_label} is locked: its security officer has to set a new PIN")
    if flags & library.TokenFlag.USER_PIN_FINAL_TRY or (unattended and flags & library.TokenFlag.USER_PIN_COUNT_LOW):
        raise PinLocked(
            f"the token {where.token_label} was given a wrong PIN last time, and too many lock it: correct the PIN, "
            "then log in once by hand with the tool of its maker"
        )


def _text(pin: bytes) -> str:
    try:
        return pin.decode()
    except UnicodeDecodeError as error:
        raise PassphraseMalformed("the PIN is not UTF-8") from error


def _halves(library: Any) -> set[Any]:
    return {library.ObjectClass.PRIVATE_KEY, library.ObjectClass.PUBLIC_KEY}


def _digest(data: bytes, algorithm: hashes.HashAlgorithm | Prehashed) -> bytes:
    if isinstance(algorithm, Prehashed):
        return data
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


@contextmanager
def _refusals(where: TokenKey) -> Iterator[None]:
    """Turn what the module refuses into facts about the token. No cause of a refused PIN is kept."""
    library = _library()
    try:
        yield
    except (library.PinIncorrect, library.PinInvalid, library.PinLenRange):
        raise PinWrong(f"the token {where.token_label} refuses the PIN; it was tried once: correct it") from None
    except (library.PinLocked, library.PinExpired):
        raise PinLocked(f"the token {where.token_label} is locked: its security officer has to set a new PIN") from None
    except (library.PKCS11Error, OSError) as error:
        said = f"{type(error).__name__} {error}".strip()
        raise TokenUnavailable(f"the token {where.token_label} of {where.module} cannot be used: {said}") from error
