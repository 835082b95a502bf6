"""Where everything of a local mesh lies. Names paths and makes private directories; holds no key and starts nothing.

<directory>/                            mode 0700, by default .npd
  endpoints.json                        the rooms' addresses, while the mesh is up
  postgres/  postgres.passwords/        the database (services.local.postgres)
  pki/                                  the root and the three issuing CAs (npd_pki.ca_store)
  keys/pki.passphrase                   with which the keys in pki/ are encrypted
  keys/policy.key  policy.pub           with which the registry signs policy
  keys/<room>.checkpoint.key  .vkey     with which a room signs its log's checkpoints, and what verifies them
  keys/<room>.pseudonym.key             under which its log names subjects
  rooms/<room>/                         tls.crt, tls.key, ca.crt, database.url, policy/
  rooms/issuer/authorities/<kind>/      ca.crt, ca.key of the agency and operator CAs, and of others put there since
  rooms/issuer/trust.bundle             the roots to trust, signed
  rooms/issuer/revocation_lists/        the newest of each CA
  agencies/<agency>/<system>/           tls.crt, tls.key, ca.crt; signing/ likewise, for agreements
  operators/<name>/                     likewise
  logs/                                 one file per process
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_DIRECTORY: Final = Path(".npd")

_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_PUBLIC_FILE: Final = 0o644


@dataclass(frozen=True, slots=True)
class RoomPlaces:
    """The places of one room. `tls` holds tls.crt, tls.key and ca.crt."""

    tls: Path
    database_url: Path
    policy: Path
    checkpoint_key: Path
    verifier_key: Path
    pseudonym_key: Path
    log: Path


@dataclass(frozen=True, slots=True)
class PartyPlaces:
    """The places of a system or an operator: what it calls with, and what it signs agreements with."""

    tls: Path
    signing: Path


@dataclass(frozen=True, slots=True)
class IssuerPlaces:
    """The places that the room `issuer` has besides those of a room."""

    authorities: Path
    trust_bundle: Path
    revocation_lists: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The directory of one mesh."""

    directory: Path

    @property
    def endpoints(self) -> Path:
        """The rooms' addresses, as `npd_client.read_endpoints` reads them; there while the mesh is up."""
        return self.directory / "endpoints.json"

    @property
    def postgres(self) -> Path:
        """The data directory of PostgreSQL."""
        return self.directory / "postgres"

    @property
    def pki(self) -> Path:
        """The CAs, with their keys."""
        return self.directory / "pki"

    @property
    def pki_passphrase(self) -> Path:
        """The passphrase of the CAs' keys."""
        return self.directory / "keys" / "pki.passphrase"

    @property
    def policy_key(self) -> Path:
        """With which the registry signs policy."""
        return self.directory / "keys" / "policy.key"

    @property
    def policy_public_key(self) -> Path:
        """By which every room verifies policy."""
        return self.directory / "keys" / "policy.pub"

    @property
    def sample(self) -> Path:
        """What was put into this mesh for trying it out."""
        return self.directory / "sample.json"

    def room(self, name: str) -> RoomPlaces:
        """The places of a room."""
        room, keys = self.directory / "rooms" / name, self.directory / "keys"
        return RoomPlaces(
            tls=room,
            database_url=room / "database.url",
            policy=room / "policy",
            checkpoint_key=keys / f"{name}.checkpoint.key",
            verifier_key=keys / f"{name}.vkey",
            pseudonym_key=keys / f"{name}.pseudonym.key",
            log=self.directory / "logs" / f"{name}.log",
        )

    @property
    def issuer(self) -> IssuerPlaces:
        """What the room `issuer` alone has."""
        room = self.directory / "rooms" / "issuer"
        return IssuerPlaces(room / "authorities", room / "trust.bundle", room / "revocation_lists")

    def system(self, agency: str, system: str) -> PartyPlaces:
        """The places of an agency's system."""
        place = self.directory / "agencies" / agency / system
        return PartyPlaces(place, place / "signing")

    def operator(self, name: str) -> PartyPlaces:
        """The places of an operator."""
        place = self.directory / "operators" / name
        return PartyPlaces(place, place / "signing")

    def make(self) -> None:
        """Make the directory and those in it that have no owner of their own, for us alone."""
        for place in (self.directory, self.directory / "keys", self.directory / "logs"):
            make_private(place)

    def write_endpoints(self, endpoints: Mapping[str, str]) -> None:
        """Publish the rooms' addresses, whole or not at all."""
        write_text(self.endpoints, json.dumps(dict(endpoints), indent=2) + "\n", mode=_PUBLIC_FILE)


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for us alone."""
    for place in (*reversed(directory.parents), directory):
        place.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)


def write_text(path: Path, content: str, *, mode: int = _PRIVATE_FILE) -> None:
    """Write a file, whole or not at all, with this mode from its first byte on."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        os.fchmod(descriptor, mode)
        written.write(content)
        written.flush()
        os.fsync(descriptor)
    draft.replace(path)
