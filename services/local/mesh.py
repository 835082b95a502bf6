"""A whole mesh on one machine: PostgreSQL, certificates, rooms as processes of their own. Knows what no room does."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import Signals
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from npd_pki.errors import PkiError
from services.local.credentials import HOST, LocalAuthority
from services.local.errors import ChildNotReady, ChildUnknown, DirectoryUnusable
from services.local.layout import Layout, write_text
from services.local.ports import PortBlock
from services.local.postgres import EmbeddedPostgres, PostgresSettings
from services.local.supervisor import ChildSpec, ChildState, ChildStatus, Supervisor
from services.mesh.core.config import PREFIX
from services.mesh.wire.room import Room

ROOM_ORDER: Final = ("registry", "identity", "residence", "civil_status", "sharing", "issuer")
"""Each room has the same place in every block of ports, whether or not its neighbours serve; further rooms follow."""

_POSTGRES: Final = "postgres"
_REGISTRY: Final = "registry"
_ISSUER: Final = "issuer"
_DOOR: Final = "door"
_PROBE_HOST: Final = "127.0.0.1"
_DATABASE_CONNECTIONS: Final = 16
_START_SECONDS: Final = 120.0

Progress = Callable[[str], None]
"""Told what is being done, in a few words."""
Prepare = Callable[[Room, str, Sequence[str]], object]
"""Brings the store of a room, at this URL, to what its code needs; records these operators in it."""


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """What may differ between two local meshes. `room_variables` are further NPD_* variables by room."""

    environment: str = "sandbox.npd.local"
    first_port: int = 7001
    postgres: PostgresSettings = field(default_factory=lambda: PostgresSettings(max_connections=200))
    room_variables: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))


class LocalMesh:
    """The mesh of one directory. A second start of the same directory finds everything as the first left it.

    As a context manager it starts and stops. Should we die without stopping it, nothing of it outlives us.
    """

    def __init__(
        self,
        directory: Path,
        rooms: Iterable[Room],
        *,
        prepare: Prepare,
        operators: Sequence[str] = (),
        settings: MeshSettings | None = None,
        store_of: Callable[[Room], str] | None = None,
    ) -> None:
        """Nothing is made yet. `operators` are those that the registry shall know; they get certificates.

        `store_of` gives the URL of a room's empty database, unless the mesh's own PostgreSQL shall hold it.
        """
        self.settings = settings or MeshSettings()
        self.layout = Layout(directory.absolute())
        self.authority = LocalAuthority(self.layout, self.settings.environment)
        self._rooms, self._numbers = _in_order(rooms)
        self._prepare = prepare
        self._operators = tuple(operators)
        self._store_of = store_of or self._own_store
        self._tell: Progress = _tell_nobody
        self._postgres = EmbeddedPostgres(self.layout.postgres, settings=self.settings.postgres)
        self._store: Supervisor | None = None
        self._serving: Supervisor | None = None
        self._block: PortBlock | None = None
        self._lock = threading.RLock()

    @property
    def endpoints(self) -> Mapping[str, str]:
        """The address of each room, as endpoints.json has it. Only while the mesh is up."""
        return {room.name: f"{HOST}:{self._ports.room(self._numbers[room.name])}" for room in self._rooms}

    @property
    def probes(self) -> Mapping[str, str]:
        """The plain HTTP address of each room's probes and metrics. Only while the mesh is up."""
        return {
            room.name: f"http://{_PROBE_HOST}:{self._ports.probes(self._numbers[room.name])}" for room in self._rooms
        }

    @property
    def door(self) -> str:
        """The address of the issuer's door; empty if no issuer serves. Only while the mesh is up."""
        return f"{HOST}:{self._ports.door}" if self._has_issuer else ""

    def start(self, progress: Progress | None = None) -> None:
        """Bring the mesh up, and return when every room serves. `progress` is also told of later restarts.

        1. The directory becomes ours (DirectoryInUse if another process serves it), and PostgreSQL runs.
        2. Whatever certificates and keys are missing or near their end are made.
        3. A block of free ports is claimed.
        4. Each room's database, role and tables are brought up to date.
        5. The rooms start, the registry first; each is told its own settings and no more.
        Raises LocalError, or what a migration raises; then nothing is left running.
        """
        with self._lock:
            self._tell = progress or _tell_nobody
            try:
                self._start_store()  # (1)
                self._tell("certificates and keys")  # (2)
                self.renew_certificates()
                self._block = PortBlock.claim(self.settings.first_port, len(self._numbers))  # (3)
                for room in self._rooms:  # (4)
                    self._tell(f"database of {room.name}")
                    self._prepare_store(room)
                self._serving = Supervisor(map(self._child, self._rooms))  # (5)
                self._serving.start(seconds=_START_SECONDS, progress=self._tell_state)
            except BaseException:
                self.stop()
                raise

    def publish(self) -> None:
        """Write endpoints.json: from now on clients find the mesh, until it stops."""
        doors = {_DOOR: self.door} if self._has_issuer else {}
        self.layout.write_endpoints({**self.endpoints, **doors})

    def stop(self) -> None:
        """Stop the rooms, then PostgreSQL; the directory stays as it is. May be repeated."""
        with self._lock:
            if self._block is not None:
                self.layout.endpoints.unlink(missing_ok=True)
            for supervisor in (self._serving, self._store):
                if supervisor is not None:
                    supervisor.stop_all()
            self._postgres.stop()
            if self._block is not None:
                self._block.close()
            self._serving = self._store = self._block = None

    def renew_certificates(self) -> None:
        """Issue what rooms and operators lack, and anew what comes near its end; rooms take new files by themselves.

        Raises DirectoryUnusable if what lies there already is not whole, or of another environment.
        """
        try:
            self.authority.ensure_policy_key()
            for room in self._rooms:
                self.authority.ensure_room(room.name)
            if self._has_issuer:
                self.authority.ensure_issuer()
            for name in self._operators:
                self.authority.ensure_operator(name)
        except PkiError as error:
            raise DirectoryUnusable(f"{self.layout.directory}: {error}") from error

    def kill(self, name: str, number: Signals = Signals.SIGKILL) -> int | None:
        """For faults: send a signal to a room, or to "postgres"; it is started again. Returns the process id."""
        return self._supervisor_of(name).kill(name, number)

    def stop_room(self, name: str) -> None:
        """End a room; it stays away until `start_room`."""
        self._supervisor_of(name).stop(name)

    def start_room(self, name: str) -> None:
        """Let a room that was ended serve again; `wait_ready` tells when it does."""
        self._supervisor_of(name).begin_again(name)

    def wait_ready(self, name: str, seconds: float = 60.0) -> None:
        """Wait until a room, or "postgres", is ready, for instance after `kill`. Raises ChildNotReady."""
        self._supervisor_of(name).wait_ready(name, seconds)

    def wait_policy(self, revision: int, seconds: float = 10.0) -> None:
        """Wait until every room decides by this revision of the policy, or a later one. Raises ChildNotReady."""
        deadline = time.monotonic() + seconds
        for name, address in self.probes.items():
            while (held := _policy_revision(address)) < revision:
                if time.monotonic() > deadline:
                    raise ChildNotReady(
                        f"{name} holds revision {held} of the policy after {seconds:g} s, not {revision}"
                    )
                time.sleep(0.02)

    def statuses(self) -> tuple[ChildStatus, ...]:
        """PostgreSQL and the rooms, as they are at this moment."""
        running = (each for each in (self._store, self._serving) if each is not None)
        return tuple(status for supervisor in running for status in supervisor.statuses())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _has_issuer(self) -> bool:
        return any(room.name == _ISSUER for room in self._rooms)

    @property
    def _ports(self) -> PortBlock:
        if self._block is None:
            raise ChildUnknown("the mesh is not up, so its rooms have no addresses")
        return self._block

    def _start_store(self) -> None:
        self._tell("PostgreSQL")
        self.layout.make()
        self._postgres.prepare()
        self._store = Supervisor([self._postgres.as_child(_POSTGRES)])
        self._store.start(seconds=self.settings.postgres.start_timeout, progress=self._tell_state)
        self.layout.endpoints.unlink(missing_ok=True)

    def _prepare_store(self, room: Room) -> None:
        url = self._store_of(room)
        write_text(self.layout.room(room.name).database_url, url + "\n")
        self._prepare(room, url, self._operators if room.name == _REGISTRY else ())

    def _own_store(self, room: Room) -> str:
        self._postgres.ensure_database(room.name)
        return self._postgres.url(room.name)

    def _child(self, room: Room) -> ChildSpec:
        return ChildSpec(
            name=room.name,
            argv=(sys.executable, "-m", "services", "serve", room.name),
            ready=f"{self.probes[room.name]}/readyz",
            log=self.layout.room(room.name).log,
            env=self.variables(room),
            grace=15.0,
        )

    def variables(self, room: Room) -> dict[str, str]:
        """The NPD_* variables of a room: those of what can be told here that its settings have a name for."""
        places, number = self.layout.room(room.name), self._numbers[room.name]
        told = {
            "environment": self.settings.environment,
            "listen": f"{HOST}:{self._ports.room(number)}",
            "health_listen": f"{_PROBE_HOST}:{self._ports.probes(number)}",
            "tls_directory": places.tls,
            "database_url_file": places.database_url,
            "database_connections": _DATABASE_CONNECTIONS,
            "checkpoint_key_file": places.checkpoint_key,
            "pseudonym_key_file": places.pseudonym_key,
            "policy_public_key_file": self.layout.policy_public_key,
            "policy_directory": places.policy,
            "policy_key_file": self.layout.policy_key,
            "authorities_directory": self.layout.issuer.authorities,
            "revocation_list_directory": self.layout.issuer.revocation_lists,
            "trust_bundle_file": self.layout.issuer.trust_bundle,
            "door_listen": f"{HOST}:{self._ports.door}",
            "sandbox": "true",
        }
        if self.layout.pki_passphrase.exists():
            told["authorities_passphrase_file"] = self.layout.pki_passphrase
        addresses = {name: f"{HOST}:{self._ports.room(place)}" for name, place in self._numbers.items()}
        told |= {f"{peer}_address": address for peer, address in addresses.items() if peer != room.name}
        known = {
            PREFIX + name.upper(): str(value) for name, value in told.items() if name in room.settings.model_fields
        }
        return known | dict(self.settings.room_variables.get(room.name, {}))

    def _supervisor_of(self, name: str) -> Supervisor:
        supervisor = self._store if name == _POSTGRES else self._serving
        if supervisor is None:
            raise ChildUnknown(f"the mesh is not up, so there is no {name}")
        return supervisor

    def _tell_state(self, status: ChildStatus) -> None:
        if status.state is not ChildState.STOPPED:
            self._tell(f"{status.name} {status.state}")


def _in_order(rooms: Iterable[Room]) -> tuple[tuple[Room, ...], Mapping[str, int]]:
    """The rooms in the order of their start, and the place of each in a block of ports, from 0."""
    by_name = {room.name: room for room in rooms}
    further = sorted(by_name.keys() - set(ROOM_ORDER))
    numbers = {name: number for number, name in enumerate((*ROOM_ORDER, *further))}
    return tuple(by_name[name] for name in numbers if name in by_name), numbers


def _policy_revision(probes: str) -> int:
    """The revision that a room's metrics tell; 0 if they cannot be read at this moment."""
    address = urlsplit(probes)
    connection = HTTPConnection(address.hostname or _PROBE_HOST, address.port, timeout=1.0)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()
    return next((int(float(line.split()[1])) for line in lines if line.startswith("npd_policy_revision ")), 0)


def _tell_nobody(_: str) -> None:
    """The default progress."""
