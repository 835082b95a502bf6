"""A request for a certificate that is under way: its key, its signing request and its id, kept before it is sent.

So a crash or a lost answer loses nothing: the very same request is sent again, and gets the first answer. The private
key is made here, stays in the directory, and is never shown.
"""

import os
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeAlias
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from npd_client.credentials import AUTHORITIES_FILE, KEY_FILE, CredentialsError, DirectoryPath, spki_of
from npd_client.store import force_directory, keep_owner, write_private

PENDING = "pending"
"""Directory, within that of the credentials, of the request under way."""
KEY_TYPES = ("p256", "p384", "rsa3072", "rsa4096")
"""Keys that are made here. An agency may bring another kind that the mesh takes, by its own signing request."""

HolderKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_CSR, _REQUEST_ID, _TOKEN, _DOOR = "request.csr", "request_id", "token", "door"
_STAGED = f"{PENDING}.new"


class PendingMalformed(CredentialsError):
    """What lies in the directory `pending` is not a request that was written there by this library."""


class RequestMalformed(CredentialsError):
    """A signing request that was brought along cannot be read, or is not signed by its own key."""


class KeyTypeUnknown(CredentialsError):
    """No key of this type is made here."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request under way. `private_key` is empty if the key lies elsewhere, such as in an HSM."""

    request_id: str
    csr: bytes
    """PKCS #10 in PEM."""
    private_key: bytes = field(default=b"", repr=False)
    """PKCS #8 in PEM."""
    token: str = field(default="", repr=False)
    """Of an enrolment: asked with it how the application stands."""
    roots: bytes = field(default=b"", repr=False)
    """Of an enrolment: the content of ca.crt by which the door is trusted."""
    door: str = ""
    """Of an enrolment: the door's address."""

    @classmethod
    def made(cls, key_type: str) -> Self:
        """A request for a new key. Raises KeyTypeUnknown."""
        return cls._of(new_key(key_type))

    @classmethod
    def like(cls, public_key: PublicKeyTypes) -> Self:
        """A request for a new key of the same type and size."""
        return cls._of(new_key(key_type_of(public_key)))

    @classmethod
    def brought(cls, csr: bytes) -> Self:
        """A request whose key its holder keeps elsewhere. Raises RequestMalformed."""
        require_proven(csr)
        return cls(str(uuid4()), csr)

    @classmethod
    def _of(cls, key: HolderKey) -> Self:
        # Without a name: the mesh takes the key alone, the name is that of the enrolment or of the certificate renewed.
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(str(uuid4()), csr.public_bytes(Encoding.PEM), pem)

    @classmethod
    def read(cls, directory: DirectoryPath) -> Self | None:
        """The request under way in a directory; None if there is none. Raises PendingMalformed, OSError."""
        place = Path(directory) / PENDING
        if not place.is_dir():
            return None
        try:
            descriptor = os.open(place, os.O_RDONLY)  # held open, so that no other request gets its inode number
        except FileNotFoundError:
            return None
        try:
            found: Self | None = cls._parsed(place)
        except (ValueError, FileNotFoundError, RequestMalformed):
            found = None
        finally:
            is_another = not _is_at(place, descriptor)
            os.close(descriptor)
        if is_another:  # it ended, or the next began, while it was read
            return cls.read(directory)
        if found is None:
            raise PendingMalformed(
                f"{place} holds no whole request of npd-client. Remove it; if a token of an enrolment was used with "
                "it, ask for a new one."
            )
        return found

    @classmethod
    def _parsed(cls, place: Path) -> Self:
        request_id = str(UUID((place / _REQUEST_ID).read_text(encoding="ascii").strip()))
        found = cls(
            request_id,
            (place / _CSR).read_bytes(),
            _optional(place / KEY_FILE),
            _optional(place / _TOKEN).decode(),
            _optional(place / AUTHORITIES_FILE),
            _optional(place / _DOOR).decode(),
        )
        csr = require_proven(found.csr)
        if found.private_key and spki_of(_public_key_of(found.private_key)) != spki_of(csr.public_key()):
            raise ValueError
        return found

    @property
    def public_key(self) -> bytes:
        """SubjectPublicKeyInfo of the key that the certificate is asked for."""
        return spki_of(require_proven(self.csr).public_key())

    def write(self, directory: DirectoryPath) -> None:
        """Put the request on the disk, whole or not at all, before it is sent. Raises OSError."""
        place = Path(directory)
        staged = place / _STAGED
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        parts = {_REQUEST_ID: self.request_id.encode(), _CSR: self.csr, KEY_FILE: self.private_key}
        parts |= {_TOKEN: self.token.encode(), AUTHORITIES_FILE: self.roots, _DOOR: self.door.encode()}
        for name, content in parts.items():
            if content:
                write_private(staged / name, content)
                keep_owner(staged / name, place)
        keep_owner(staged, place)
        force_directory(staged)
        staged.rename(place / PENDING)
        force_directory(place)

    def at_door(self, directory: DirectoryPath, door: str, roots: bytes) -> Self:
        """The same enrolment at another address or by other roots, should the first have been wrong."""
        place = Path(directory) / PENDING
        for name, content in ((_DOOR, door.encode()), (AUTHORITIES_FILE, roots)):
            staged = place / f".{name}"
            staged.unlink(missing_ok=True)
            write_private(staged, content)
            keep_owner(staged, place)
            staged.replace(place / name)
        return replace(self, door=door, roots=roots)


def remove_pending(directory: DirectoryPath) -> None:
    """Forget the request under way, its key too. Raises OSError."""
    place = Path(directory)
    gone = place / f"{PENDING}.done"
    shutil.rmtree(gone, ignore_errors=True)
    if (place / PENDING).is_dir():
        # Renamed first, so that no crash leaves half a request in its place.
        (place / PENDING).rename(gone)
        force_directory(place)
        shutil.rmtree(gone)


def new_key(key_type: str) -> HolderKey:
    """Make a private key. Raises KeyTypeUnknown."""
    if key_type == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    size = re.fullmatch(r"rsa(\d{4})", key_type)
    if size and 3072 <= int(size[1]) <= 8192:
        return rsa.generate_private_key(65537, int(size[1]))
    raise KeyTypeUnknown(f"A key is of one of the types {', '.join(KEY_TYPES)}, not {key_type!r}.")


def key_type_of(public_key: PublicKeyTypes) -> str:
    """The type to renew a key by: its own; p256 for a kind that the mesh does not take."""
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name == "secp384r1":
        return "p384"
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"rsa{min(max(public_key.key_size, 3072), 8192)}"
    return "p256"


def require_proven(csr: bytes) -> x509.CertificateSigningRequest:
    """Parse a signing request and check that its own key signed it. Raises RequestMalformed."""
    try:
        request = x509.load_pem_x509_csr(csr)
        is_proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        raise RequestMalformed("The signing request is not a whole PKCS #10 request in PEM form.") from None
    if not is_proven:
        raise RequestMalformed("The signing request is not signed by the key that it holds. Make it again.")
    return request


def _public_key_of(private_key: bytes) -> PublicKeyTypes:
    try:
        return load_pem_private_key(private_key, None).public_key()
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError from None


def _is_at(place: Path, descriptor: int) -> bool:
    """Whether an open directory is still the one in its place."""
    try:
        return os.path.samestat(place.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _optional(path: Path) -> bytes:
    return path.read_bytes() if os.path.lexists(path) else b""
