"""The CAs of one environment in a directory, for a mesh on one machine. Made once as a whole, never changed in place.

<directory>/            mode 0700
  root/ca.crt  ca.key   the root; ca.key has mode 0600 and can be taken offline
  mesh/ca.crt  ca.key   the issuing CAs, likewise
  agency/...
  operator/...

The directory of one CA alone holds `ca.crt`, and either `ca.key` or `pkcs11.toml` (`token_settings`).
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509

from npd_pki.authority import CertificateAuthority, IssuingCA, RootCA, create_root
from npd_pki.errors import (
    HierarchyInconsistent,
    NotAuthority,
    PassphraseMissing,
    StoreAmbiguous,
    StoreIncomplete,
    StoreOccupied,
)
from npd_pki.files import PRIVATE, PUBLIC, PemFile, force_directory, replace_files
from npd_pki.identity import Kind
from npd_pki.keys import SigningKey, load_ec_private_key, private_key_pem
from npd_pki.passphrase import read_passphrase
from npd_pki.pkcs11 import open_token_key
from npd_pki.token_settings import load_token_settings
from npd_pki.trust_bundle import certificates_pem, is_issued_by, load_certificates

_ROOT = "root"
CERTIFICATE_FILE, KEY_FILE, SETTINGS_FILE = "ca.crt", "ca.key", "pkcs11.toml"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The root of an environment and its three issuing CAs.

    Raises HierarchyInconsistent unless the root issued all three, each for its own kind and this environment.
    """

    root: RootCA
    mesh: IssuingCA
    agency: IssuingCA
    operator: IssuingCA

    def __post_init__(self) -> None:
        for kind in Kind:
            _require_issued(self.root.certificate, self.of(kind), kind)

    @classmethod
    def create(cls, environment: str) -> Self:
        """Make a hierarchy with new keys and the longest lives. Raises HostNameMalformed for the environment."""
        root = create_root(environment)
        return cls(root, *map(root.issue_issuing_ca, (Kind.MESH, Kind.AGENCY, Kind.OPERATOR)))

    @property
    def environment(self) -> str:
        """The environment that all four stand for."""
        return self.root.environment

    def of(self, kind: Kind) -> IssuingCA:
        """The issuing CA of a kind."""
        return {Kind.MESH: self.mesh, Kind.AGENCY: self.agency, Kind.OPERATOR: self.operator}[kind]


def save_hierarchy(directory: Path, hierarchy: Hierarchy, passphrase: bytes | None = None) -> None:
    """Write a hierarchy into a directory that does not exist yet, or is empty; its keys encrypted with the passphrase.

    1. Write everything into a directory beside it, which only its owner may enter.
    2. Rename that: the store appears complete, and one of two writers loses.
    Raises StoreOccupied, and then nothing has changed; PassphraseMalformed, OSError.
    """
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        _write_authority(staged / _ROOT, hierarchy.root, passphrase)  # (1)
        for kind in Kind:
            _write_authority(staged / kind, hierarchy.of(kind), passphrase)
        force_directory(staged)
        try:
            staged.rename(directory)  # (2)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreOccupied(f"{directory} holds something already") from error
        except OSError as error:
            if directory.is_dir() and any(directory.iterdir()):
                raise StoreOccupied(f"{directory} holds something already") from error
            raise
        force_directory(directory.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def load_hierarchy(directory: Path, passphrase: bytes | None = None) -> Hierarchy:
    """Read the hierarchy in a directory, all private keys included.

    Raises HierarchyInconsistent, and what `load_authority` raises.
    """
    root = load_root(directory / _ROOT, passphrase)
    return Hierarchy(root, *(load_authority(directory / kind, passphrase) for kind in Kind))


def load_authority(directory: Path, passphrase: bytes | None = None) -> IssuingCA:
    """Read an issuing CA from its own directory: `ca.crt`, and its key from `ca.key` or the token of `pkcs11.toml`.

    The passphrase opens `ca.key`; it is the PIN of a token whose settings name no PIN file.
    Raises StoreIncomplete, StoreAmbiguous, NotAuthority, PemMalformed, OSError, and what `load_ec_private_key`,
    `load_token_settings` and `open_token_key` raise.
    """
    return IssuingCA(*_read_authority(directory, passphrase))


def load_root(directory: Path, passphrase: bytes | None = None) -> RootCA:
    """Read a root from its own directory, as `load_authority` does an issuing CA."""
    return RootCA(*_read_authority(directory, passphrase))


def _require_issued(root: x509.Certificate, authority: IssuingCA, kind: Kind) -> None:
    if authority.kind is not kind:
        raise HierarchyInconsistent(f"the CA in the place of the {kind} CA is of kind {authority.kind}")
    if not is_issued_by(authority.certificate, root):
        raise HierarchyInconsistent(f"the {kind} CA was not issued by this root")


def _write_authority(directory: Path, authority: CertificateAuthority, passphrase: bytes | None) -> None:
    directory.mkdir(mode=0o700)
    replace_files(
        directory,
        [
            PemFile(KEY_FILE, private_key_pem(authority.key, passphrase), PRIVATE),
            PemFile(CERTIFICATE_FILE, certificates_pem([authority.certificate]), PUBLIC),
        ],
    )


def _read_authority(directory: Path, passphrase: bytes | None) -> tuple[x509.Certificate, SigningKey]:
    certificate = _read_certificate(directory / CERTIFICATE_FILE)
    if (directory / SETTINGS_FILE).exists():
        if (directory / KEY_FILE).exists():
            raise StoreAmbiguous(f"{directory} holds {KEY_FILE} and {SETTINGS_FILE}: remove the wrong one")
        return certificate, _open_token(directory / SETTINGS_FILE, passphrase)
    try:
        return certificate, load_ec_private_key(directory / KEY_FILE, passphrase)
    except FileNotFoundError as error:
        raise StoreIncomplete(f"{directory / KEY_FILE} is missing") from error


def _open_token(path: Path, passphrase: bytes | None) -> SigningKey:
    settings = load_token_settings(path)
    pin = read_passphrase(settings.pin_file) if settings.pin_file else passphrase
    if pin is None:
        raise PassphraseMissing(f"{path} names no PIN file: give the PIN of the token")
    return open_token_key(settings.key, pin, unattended=True)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        certificates = load_certificates(path)
    except FileNotFoundError as error:
        raise StoreIncomplete(f"{path} is missing") from error
    if len(certificates) != 1:
        raise NotAuthority(f"{path} holds {len(certificates)} certificates, not one")
    return certificates[0]
