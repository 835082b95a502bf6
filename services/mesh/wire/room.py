"""What a room is made of, and how it starts, serves and ends. A room's app.py describes itself as a `Room`."""

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from sqlalchemy import Connection, Engine
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_exponential_jitter

import services
from npd.common.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    chain_pb2,
    chain_pb2_grpc,
    evidence_pb2,
    evidence_pb2_grpc,
    relay_pb2,
    relay_pb2_grpc,
)
from npd_client.channel import RotatingChannel
from services.mesh.core import answers, config, failpoints, schema
from services.mesh.core.background import Background, Stopping
from services.mesh.core.caller import Caller, CallerKind, SpiffeId
from services.mesh.core.clock import Clock, SystemClock
from services.mesh.core.config import RoomSettings, SettingsInvalid
from services.mesh.core.contacts import Contacts, Flow, Report
from services.mesh.core.db import Database, Unit, itself, open_engine
from services.mesh.core.errors import MeshError, StoreUnavailable
from services.mesh.core.evidence.entry import Entry, PseudonymKey, Sealer
from services.mesh.core.evidence.integrator import Integrator, log_origin
from services.mesh.core.evidence.log import Log
from services.mesh.core.evidence.refusals import RefusalRate
from services.mesh.core.logs import describe
from services.mesh.core.methods import Methods
from services.mesh.core.rights import Access
from services.mesh.core.sequencer import Sequencer
from services.mesh.wire import approvals, chain, evidence, relay
from services.mesh.wire.chain import Links, own_links
from services.mesh.wire.credentials import ServerCredentials
from services.mesh.wire.directory import registry_report
from services.mesh.wire.door import Door, DoorServer
from services.mesh.wire.health import HealthPort
from services.mesh.wire.interceptors import Interceptors
from services.mesh.wire.interceptors.caller import CallerGuard
from services.mesh.wire.interceptors.deadline import deadline
from services.mesh.wire.interceptors.errors import Errors
from services.mesh.wire.interceptors.policy import PolicyGuard
from services.mesh.wire.interceptors.telemetry import Telemetry
from services.mesh.wire.interceptors.validation import validation
from services.mesh.wire.metrics import REFUSALS_UNRECORDED, SEQUENCED
from services.mesh.wire.policy import open_keeper
from services.mesh.wire.policy_follower import PolicyFollower, PolicySource, registry_source
from services.mesh.wire.server import HEALTH_METHODS, MeshServer, Served, ServerLimits
from services.mesh.wire.streams import Streams

log = structlog.get_logger(__name__)

_MESH_PACKAGE = "services.mesh"
_REGISTRY = "registry"
_PRUNE_EVERY, _PRUNED = 3600.0, 5000
OWN_METHODS: Methods = {**approvals.METHODS, **evidence.METHODS, **chain.METHODS, **relay.METHODS, **HEALTH_METHODS}
"""The method table of what every room serves by itself."""
# A whole snapshot of the policy is one message: agreements, and the rosters of the whole country.
_REGISTRY_OPTIONS = (("grpc.max_receive_message_length", 256 << 20),)


@dataclass(frozen=True, slots=True)
class Room:
    """A room as its app.py describes it. `compose` wires it; `package` holds its migrations."""

    name: str
    package: str
    settings: type[RoomSettings]
    compose: Callable[["House"], "Composition"]

    @property
    def schema_packages(self) -> tuple[str, ...]:
        """Packages whose migrations make this room's tables, in their order."""
        return (_MESH_PACKAGE, self.package)


@dataclass(frozen=True, slots=True)
class Composition:
    """What a room serves. Source and report are the registry's own in the registry, else taken over the wire.

    `flow` tells the directory how far messages and changes have flowed, `links` reads a chain's links in this room,
    `retry` is called when a command made set-aside messages due, `approved` when somebody has approved or denied, after
    the commit. `door` is a second port, for those without a certificate.
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


class House:
    """What the mesh gives a room to stand on."""

    def __init__(self, room: Room, settings: RoomSettings, clock: Clock | None = None) -> None:
        """Open all that needs no peer: files, keys, the policy on disk. Raises SettingsInvalid, CredentialsError."""
        self.room = room
        self.settings = settings
        self.clock = clock or SystemClock()
        self.identity = str(SpiffeId(CallerKind.ROOM, settings.environment, (self.room.name,)))
        self.credentials = ServerCredentials(settings.tls_directory, self.identity)
        self.origin = log_origin(settings.environment, self.room.name)
        self.sealer = Sealer(self.origin, _pseudonym_key(settings), self.clock)
        self.keeper = open_keeper(
            settings.environment,
            _policy_public_key(settings.policy_public_key_file),
            lambda: self.credentials.roots,
            settings.policy_directory,
        )
        self.streams = Streams(settings.stream_slots, settings.watch_lifetime, self.clock)
        self.contacts = Contacts(self.clock)
        self.engine: Engine = open_engine(settings.database_url(), connections=settings.database_connections)
        integrator = Integrator(self.origin, private_key(settings.checkpoint_key_file))
        self.log_sequencer = Sequencer(self.database(itself), "log", integrator.integrate, after=_count("log"))
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
            options = _REGISTRY_OPTIONS if peer == _REGISTRY else ()
            self._channels[peer] = RotatingChannel(address, self.settings.tls_directory, options=options)
        return self._channels[peer]

    def close_channels(self) -> None:
        """Close the channels to other rooms: whatever waits on them ends."""
        for channel in self._channels.values():
            channel.close()

    def close(self) -> None:
        """Close the store's connections."""
        self.engine.dispose()


class Serving:
    """A room at work: from a house and its composition to an open port, and to a graceful end."""

    def __init__(self, house: House) -> None:
        """Wire the room; nothing is open yet. Raises MethodsIncomplete."""
        self.house = house
        settings = house.settings
        composition = house.room.compose(house)
        policy = lambda: house.keeper.current  # noqa: E731
        self._refusals = RefusalRate(house.clock)
        self._log = house.database(house.log_of)
        deciding = house.database(house.deciding_of)
        served = [
            *composition.served,
            Served(
                evidence_pb2.DESCRIPTOR.services_by_name["EvidenceService"],
                evidence_pb2_grpc.add_EvidenceServiceServicer_to_server,
                evidence.EvidenceServicer(self._log),
            ),
            Served(
                chain_pb2.DESCRIPTOR.services_by_name["ChainService"],
                chain_pb2_grpc.add_ChainServiceServicer_to_server,
                chain.ChainServicer(house.database(itself), composition.links, policy),
            ),
            Served(
                relay_pb2.DESCRIPTOR.services_by_name["RelayService"],
                relay_pb2_grpc.add_RelayServiceServicer_to_server,
                relay.RelayServicer(house.database(house.traffic_of), composition.retry),
            ),
            Served(
                approval_pb2.DESCRIPTOR.services_by_name["ApprovalService"],
                approval_pb2_grpc.add_ApprovalServiceServicer_to_server,
                approvals.ApprovalServicer(deciding, house.clock, composition.approved),
            ),
        ]
        methods = {**composition.methods, **OWN_METHODS}
        caller_guard = CallerGuard(settings.environment, lambda: house.credentials.roots, policy, house.clock)
        limit = min(settings.rights_max_age, settings.revocations_max_age)
        policy_guard = PolicyGuard(methods, policy, limit, house.clock)
        approval_guard = approvals.ApprovalGuard(methods, deciding, settings.approval_life, house.clock)
        interceptors = Interceptors(
            Errors(self._record_refusal),
            Telemetry(house.contacts.note),
            guards=(deadline, caller_guard, policy_guard, validation, approval_guard),
            standing=(caller_guard, policy_guard),
        )
        limits = ServerLimits(
            settings.unary_workers,
            settings.stream_slots,
            settings.max_connection_age,
            settings.watch_lifetime,
            settings.stop_grace,
        )
        self._server = MeshServer(served, methods, interceptors, limits)
        self._door = DoorServer(composition.door, settings.stop_grace) if composition.door else None
        for listener in (house.streams.wake, *composition.on_policy_change):
            house.keeper.on_change(listener)
        source = composition.policy_source or registry_source(house.channel(_REGISTRY))
        report = composition.report or registry_report(house.channel(_REGISTRY))
        self._background = [
            Background(
                "credentials", partial(house.credentials.run, poll=settings.credentials_poll, taken=house.streams.wake)
            ),
            Background("policy", PolicyFollower(house.keeper, source).run),
            Background("streams", house.streams.run),
            Background("log", house.log_sequencer.run),
            Background(
                "contacts",
                partial(
                    house.contacts.run,
                    report=report,
                    flow=composition.flow,
                    policy_revision=lambda: house.keeper.current.revision,
                ),
            ),
            Background("refusals", self._write_counted_refusals),
            Background("answers", self._prune_answers),
            *composition.background,
        ]
        self._opened = threading.Event()
        self.health = HealthPort(
            settings.health_listen,
            required={
                "start": self._not_open,
                "store": self._store_fault,
                "policy": self._policy_fault,
                "tls": self._tls_fault,
            },
            reported={"policy": self._policy_note, "work": self._work_note},
        )
        self.port = 0
        self.door_port = 0

    def open(self, stopping: Stopping) -> None:
        """Open the probes, wait for the store, then open the mTLS port. Raises SchemaOutdated."""
        self.health.start()
        self._await_store(stopping)
        if stopping.is_set():
            return
        for work in self._background:
            work.start()
        self.port = self._server.listen(self.house.settings.listen, self.house.credentials.for_server())
        if self._door:
            self.door_port = self._door.listen(self.house.credentials.for_door())
        self._server.set_serving(True)
        self._opened.set()
        log.info("serving", port=self.port, policy_revision=self.house.keeper.current.revision)

    def close(self) -> None:
        """End gracefully: NOT_SERVING, the drain delay, streams with their cursor, calls in flight, background work."""
        self._opened.clear()
        self._server.set_serving(False)
        threading.Event().wait(self.house.settings.drain_delay.total_seconds())
        self.house.streams.close()
        if self._door:
            self._door.stop()
        self._server.stop()
        self._record(self._refusals.overdue(all_of_them=True))
        for work in self._background:
            work.ask_to_stop()
        self.house.close_channels()
        for work in self._background:
            if work.is_running:
                work.stop(1.0)
        self.house.close()
        self.health.stop()
        log.info("stopped")

    def _await_store(self, stopping: Stopping) -> None:
        def report(state: RetryCallState) -> None:
            log.warning("the store cannot be reached, trying again")

        def pause(seconds: float) -> None:
            stopping.wait(seconds)

        @retry(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            stop=lambda state: stopping.is_set(),
            sleep=pause,
            before_sleep=report,
            retry_error_callback=lambda state: None,
        )
        def look() -> None:
            with self.house.database(itself).transaction() as connection:
                schema.require_current(connection, self.house.room.schema_packages, self.house.room.name)

        look()

    def _record_refusal(self, caller: Caller, method: str, error: MeshError, stated: Access | None) -> None:
        """Record a refusal in a transaction of its own. If that fails the refusal stands all the same."""
        self._record(self._refusals.due(caller, method, error, stated))

    def _record(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            with self._log.transaction() as own:
                own.record_all(entries)
        except Exception as error:  # whatever it is, it must not take the place of the refusal
            REFUSALS_UNRECORDED.inc(len(entries))
            log.error("refusals could not be recorded", count=len(entries), fault=describe(error))

    def _write_counted_refusals(self, stopping: Stopping) -> None:
        while not stopping.wait(10.0):
            self._record(self._refusals.overdue())

    def _prune_answers(self, stopping: Stopping) -> None:
        database, kept = self.house.database(itself), self.house.settings.answers_kept
        while not stopping.wait(_PRUNE_EVERY):
            forgotten = _PRUNED
            while forgotten == _PRUNED and not stopping.is_set():
                with database.transaction() as connection:
                    forgotten = answers.prune(connection, self.house.clock.now() - kept, _PRUNED)

    def _not_open(self) -> str:
        return "" if self._opened.is_set() else "the port is not open"

    def _store_fault(self) -> str:
        try:
            self._log.require_reachable()
        except StoreUnavailable:
            return "the store does not answer"
        return ""

    def _policy_fault(self) -> str:
        keeper = self.house.keeper
        if keeper.current.revision == 0:
            return "no policy was received yet"
        limit = min(self.house.settings.rights_max_age, self.house.settings.revocations_max_age).total_seconds()
        age = keeper.age(self.house.clock.now())
        return f"the policy is {age:.0f} s old, over the limit of {limit:.0f} s" if age > limit else ""

    def _policy_note(self) -> str:
        age = self.house.keeper.age(self.house.clock.now())
        stale = age > self.house.settings.policy_stale_after.total_seconds()
        return f"the policy was confirmed {age:.0f} s ago" if stale else ""

    def _work_note(self) -> str:
        return "; ".join(f"{work.name} is failing: {work.problem}" for work in self._background if work.problem)

    def _tls_fault(self) -> str:
        return "gRPC was imported before the TLS 1.3 setting" if services.GRPC_CAME_FIRST else ""


def serve(room: Room) -> None:
    """Serve a room until SIGTERM or SIGINT. Raises SettingsInvalid, CredentialsError, SchemaOutdated, RuntimeError."""
    stopping = Stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    serving = Serving(House(room, config.load(room.settings)))
    serving.open(stopping)
    stopping.wait()
    serving.close()


def private_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 key from its PEM file. Raises SettingsInvalid."""
    pem = config.read_secret(path).encode()
    with suppress(ValueError):
        key = load_pem_private_key(pem, None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise SettingsInvalid(f"{path}: must hold an Ed25519 private key, PEM, unencrypted")


def _policy_public_key(path: Path) -> Ed25519PublicKey:
    pem = config.read_secret(path).encode()
    with suppress(ValueError):
        key = load_pem_public_key(pem)
        if isinstance(key, Ed25519PublicKey):
            return key
    raise SettingsInvalid(f"{path}: must hold the registry's Ed25519 public policy key, PEM")


def _pseudonym_key(settings: RoomSettings) -> PseudonymKey:
    try:
        key = bytes.fromhex(config.read_secret(settings.pseudonym_key_file))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SettingsInvalid(f"{settings.pseudonym_key_file}: must hold 64 hex digits")
    return PseudonymKey(settings.pseudonym_key_id, key)


def _count(sequence: str) -> Callable[[], None]:
    return SEQUENCED.labels(sequence).inc
