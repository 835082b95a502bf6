"""The keys of authorities: found in a directory, opened once, told to nobody. Decides nothing about their use.

<directory>/<any name>/ca.crt         the authority's certificate
                       ca.key         its key, encrypted, or
                       pkcs11.toml    where a hardware module keeps it
"""

import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import structlog

from npd_pki.authority import IssuingCA
from npd_pki.ca_store import CERTIFICATE_FILE, KEY_FILE, SETTINGS_FILE, load_authority
from npd_pki.errors import PkiError, PrivateKeyUnencrypted
from npd_pki.issuance import issuer_key_id
from npd_pki.passphrase import read_passphrase
from npd_pki.trust_bundle import load_certificates
from services.issuer.domain import AuthorityKeyUnusable
from services.mesh.core.config import SettingsInvalid, name_of

log = structlog.get_logger(__name__)


class KeyringUnusable(SettingsInvalid):
    """No authority's key could be opened; says of each why."""


class Keyring:
    """The authorities whose keys this process can use. Safe for threads."""

    def __init__(self, directory: Path, passphrase_file: Path | None, environment: str) -> None:
        """Open what lies in the directory. Raises KeyringUnusable if something does and nothing of it opens."""
        self._directory = directory
        self._passphrase_file = passphrase_file
        self._environment = environment
        self._mutex = threading.Lock()
        self._seen: dict[Path, bytes] = {}
        self._opened: dict[str, IssuingCA] = {}
        self._closed: set[str] = set()
        faults = self._open_new()
        if faults and not self._opened:
            named = ["authorities_directory", *(["authorities_passphrase_file"] if passphrase_file else [])]
            raise KeyringUnusable("\n".join([f"{' and '.join(map(name_of, named))}: no key opens", *faults]))

    @property
    def opened(self) -> Mapping[str, IssuingCA]:
        """The authorities that can sign here, by key id."""
        return self._opened

    def has_closed(self, key_id: str) -> bool:
        """Whether the files of an authority lie here whose key could not be opened."""
        return key_id in self._closed and key_id not in self._opened

    def look(self) -> None:
        """Look for files that came or changed since. One that could not be opened is not tried again until it changes:
        a hardware module locks itself after a few wrong PINs.
        """
        self._open_new()

    def signer(self, key_id: str) -> IssuingCA:
        """The authority that signs with a key. Raises AuthorityKeyUnusable."""
        signer = self._opened.get(key_id)
        if signer is None:
            raise AuthorityKeyUnusable(key_id=key_id)
        return signer

    def _open_new(self) -> list[str]:
        """Open what is new; returns what is wrong with what did not open."""
        faults = []
        with self._mutex:
            found = sorted(self._directory.iterdir()) if self._directory.is_dir() else []
            for place in found:
                digest = _digest(place)
                if not digest or self._seen.get(place) == digest:
                    continue
                self._seen[place] = digest
                try:
                    self._open(place)
                except (PkiError, OSError) as error:
                    self._closed |= _key_ids(place)
                    faults.append(f"{place}: {error}")
                    log.error("an authority cannot be used", directory=str(place), problem=str(error))
        return faults

    def _open(self, place: Path) -> None:
        passphrase = read_passphrase(self._passphrase_file) if self._passphrase_file else None
        authority = load_authority(place, passphrase)
        if passphrase is None and (place / KEY_FILE).is_file():
            raise PrivateKeyUnencrypted(
                f"{place / KEY_FILE} is not encrypted; encrypt it, and name its passphrase's file"
            )
        if authority.environment != self._environment:
            raise PkiError(f"this authority is of the environment {authority.environment}, not of {self._environment}")
        self._opened = {**self._opened, authority.key_id: authority}
        log.info("an authority can be used", key_id=authority.key_id, directory=str(place))


def _key_ids(place: Path) -> set[str]:
    """The key id of the authority whose files lie there, as far as its certificate can be read."""
    try:
        return {issuer_key_id(one) for one in load_certificates(place / CERTIFICATE_FILE)}
    except (PkiError, OSError):
        return set()


def _digest(place: Path) -> bytes:
    """Of the files of an authority; empty if there is none, or it is not complete yet."""
    certificate = place / CERTIFICATE_FILE
    key = next((place / name for name in (KEY_FILE, SETTINGS_FILE) if (place / name).is_file()), None)
    if key is None or not certificate.is_file():
        return b""
    try:
        return sha256(certificate.read_bytes() + key.read_bytes()).digest()
    except OSError as error:
        return sha256(str(error).encode()).digest()
