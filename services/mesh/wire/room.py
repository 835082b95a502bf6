"""What a room is made of. A room's app.py describes itself as a `Room`; `serving` starts and ends it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from sqlalchemy import Connection, Engine

from npd_client.channel import RotatingChannel
from services.mesh.core import failpoints
from services.mesh.core.address import StoreAddress
from services.mesh.core.background import Background
from services.mesh.core.caller import CallerKind, SpiffeId
from services.mesh.core.clock import Clock, SystemClock
from services.mesh.core.config import RoomSettings, SettingsInvalid
from services.mesh.core.contacts import Contacts, Flow, Report
from services.mesh.core.db import Database, Unit, itself, open_engine
from services.mesh.core.evidence.entry import PseudonymKey, Sealer
from services.mesh.core.evidence.integrator import Integrator, log_origin
from services.mesh.core.evidence.log import Log
from services.mesh.core.methods import Methods
from services.mesh.core.sequencer import Sequencer
from services.mesh.core.tables import LOG_PENDING
from services.mesh.wire import approvals, relay
from services.mesh.wire.chain import Links, own_links
from services.mesh.wire.credentials import ServerCredentials
from services.mesh.wire.door import Door
from services.mesh.wire.metrics import SEQUENCED
from services.mesh.wire.policy import open_keeper
from services.mesh.wire.policy_follower import PolicySource
from services.mesh.wire.server import Served
from services.mesh.wire.streams import Streams

log = structlog.get_logger(__name__)

_MESH_PACKAGE = "services.mesh"
REGISTRY = "registry"
# A whole snapshot of the policy is one message: agreements, and the rosters of the whole country.
_REGISTRY_OPTIONS = (("grpc.max_receive_message_length", 256 << 20),)


@dataclass(frozen=True, slots=True)
class Room:
    """A room as its app.py describes it. `compose` wires it; `package` holds its migrations.

    For after a restore from a backup: `told_by` are the rooms whose messages it takes, and who must tell it again; with
    `waits_to_be_told` it refuses until then what would be wrong without; `on_restore` is done in the restored store.
    """

    name: str
    package: str
    settings: type[RoomSettings]
    compose: Callable[["House"], "Composition"]
    told_by: tuple[str, ...] = ()
    waits_to_be_told: bool = False
    on_restore: Callable[[Connection], None] = lambda connection: None

    @property
    def schema_packages(self) -> tuple[str, ...]:
        """Packages whose migrations make this room's tables, in their order."""
        return (_MESH_PACKAGE, self.package)


@dataclass(frozen=True, slots=True)
class Composition:
    """What a room serves. Source and report are the registry's own in the registry, else taken over the wire.

    `flow` tells the directory how far messages and changes have flowed, `links` reads a chain's links in this room,
    `retry` is called when a command made set-aside messages due, `approved` when somebody has approved or denied, after
    the commit. `door` is a second port, for those without a certificate. `sequencers` are measured as the log's is.
    """

    served: Sequence[Served]
    methods: Methods
    background: Sequence[Background] = ()
    on_policy_change: Sequence[Callable[[], None]] = ()
    policy_source: PolicySource | None = None
    report: Report | None = None
    flow: Callable[[], Flow] = Flow
    links: Links = own_links
    retry: Callable[[], None] = lambda: None
    approved: Callable[[], None] = lambda: None
    door: Door | None = None
    sequencers: Sequence[Sequencer] = ()


class House:
    """What the mesh gives a room to stand on."""

    def __init__(self, room: Room, settings: RoomSettings, clock: Clock | None = None) -> None:
        """Open all that needs no peer: files, keys, the policy on disk. Raises SettingsInvalid, CredentialsError."""
        self.room = room
        self.settings = settings
        self.clock = clock or SystemClock()
        self.identity = str(SpiffeId(CallerKind.ROOM, settings.environment, (self.room.name,)))
        self.credentials = ServerCredentials(settings.tls_directory, self.identity, roots_file=settings.roots_file)
        self.origin = log_origin(settings.environment, self.room.name)
        self.sealer = Sealer(self.origin, _pseudonym_key(settings), self.clock)
        settings.require_writable("policy_directory")
        self.keeper = open_keeper(
            settings.environment,
            _policy_public_key(settings),
            lambda: self.credentials.roots,
            settings.policy_directory,
        )
        self.streams = Streams(settings.stream_slots, settings.watch_lifetime, self.clock)
        self.contacts = Contacts(self.clock)
        store = StoreAddress.of(settings.database_url(), settings.database_password_file)
        self.engine: Engine = open_engine(store, connections=settings.database_connections)
        integrator = Integrator(self.origin, private_key(settings, "checkpoint_key_file"))
        self.log_sequencer = Sequencer(
            self.database(itself), "log", integrator.integrate, pending=LOG_PENDING, after=SEQUENCED.labels("log").inc
        )
        self._channels: dict[str, RotatingChannel] = {}
        failpoints.arm(settings.failpoint_file)

    def database(
        self, unit: Callable[[Connection], Unit], committed: Callable[[Unit], None] = lambda unit: None
    ) -> Database[Unit]:
        """The room's store, opening transactions that give a `unit` of work; `committed` is told of each commit."""
        return Database(self.engine, unit, committed)

    def log_of(self, connection: Connection) -> Log:
        """The room's log, inside a transaction."""
        return Log(connection, self.sealer)

    def traffic_of(self, connection: Connection) -> relay.Traffic:
        """What the room has set aside, inside a transaction."""
        return relay.Traffic(connection, self.log_of(connection))

    def deciding_of(self, connection: Connection) -> approvals.Deciding:
        """The room's approvals, inside a transaction."""
        return approvals.Deciding(connection, self.log_of(connection))

    def channel(self, peer: str) -> RotatingChannel:
        """The channel to another room, by the setting `<peer>_address`; opened at its first use."""
        if peer not in self._channels:
            address = getattr(self.settings, f"{peer}_address", "")
            if not address:
                raise SettingsInvalid(f"NPD_{peer.upper()}_ADDRESS is needed: host:port of the room {peer}")
            options = _REGISTRY_OPTIONS if peer == REGISTRY else ()
            self._channels[peer] = RotatingChannel(
                address, self.settings.tls_directory, roots_file=self.settings.roots_file, options=options
            )
        return self._channels[peer]

    def close_channels(self) -> None:
        """Close the channels to other rooms: whatever waits on them ends."""
        for channel in self._channels.values():
            channel.close()

    def close(self) -> None:
        """Close the store's connections."""
        self.engine.dispose()


def private_key(settings: RoomSettings, setting: str) -> Ed25519PrivateKey:
    """An Ed25519 key from the PEM file that a setting names. Raises SettingsInvalid."""
    pem = settings.secret(setting).encode()
    with suppress(ValueError):
        key = load_pem_private_key(pem, None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise settings.fault(setting, "it must hold an Ed25519 private key, PEM, unencrypted")


def _policy_public_key(settings: RoomSettings) -> Ed25519PublicKey:
    pem = settings.secret("policy_public_key_file").encode()
    with suppress(ValueError):
        key = load_pem_public_key(pem)
        if isinstance(key, Ed25519PublicKey):
            return key
    raise settings.fault("policy_public_key_file", "it must hold the registry's Ed25519 public policy key, PEM")


def _pseudonym_key(settings: RoomSettings) -> PseudonymKey:
    try:
        key = bytes.fromhex(settings.secret("pseudonym_key_file"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise settings.fault("pseudonym_key_file", "it must hold 64 hex digits")
    return PseudonymKey(settings.pseudonym_key_id, key)
