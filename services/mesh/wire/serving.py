"""A room at work: how it starts, serves and ends."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

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
from services.mesh.core import answers, config, schema
from services.mesh.core.background import Background, Stopping
from services.mesh.core.caller import Caller
from services.mesh.core.db import itself
from services.mesh.core.errors import MeshError
from services.mesh.core.evidence.entry import Entry
from services.mesh.core.evidence.refusals import RefusalRate
from services.mesh.core.logs import describe
from services.mesh.core.methods import Methods
from services.mesh.core.rights import Access
from services.mesh.wire import approvals, chain, evidence, relay
from services.mesh.wire.directory import registry_report
from services.mesh.wire.door import DoorServer
from services.mesh.wire.health import HealthPort
from services.mesh.wire.interceptors import Interceptors
from services.mesh.wire.interceptors.caller import CallerGuard
from services.mesh.wire.interceptors.deadline import deadline
from services.mesh.wire.interceptors.errors import Errors
from services.mesh.wire.interceptors.policy import PolicyGuard
from services.mesh.wire.interceptors.telemetry import Telemetry
from services.mesh.wire.interceptors.validation import validation
from services.mesh.wire.measurement import Measurement
from services.mesh.wire.metrics import REFUSALS_UNRECORDED
from services.mesh.wire.policy_follower import PolicyFollower, registry_source
from services.mesh.wire.room import REGISTRY, House, Room
from services.mesh.wire.server import HEALTH_METHODS, MeshServer, Served, ServerLimits
from services.mesh.wire.store_check import StoreCheck

log = structlog.get_logger(__name__)

_WAKE_EVERY = 0.5
_LOOK_EVERY = 1.0
_PRUNE_EVERY, _PRUNED = 3600.0, 5000

OWN_METHODS: Methods = {**approvals.METHODS, **evidence.METHODS, **chain.METHODS, **relay.METHODS, **HEALTH_METHODS}
"""The method table of what every room serves by itself."""


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
                relay.RelayServicer(house.database(house.traffic_of), composition.retry, settings.delivered_kept),
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
        self._opened = threading.Event()
        self._welcoming, self._is_welcoming = threading.Lock(), False
        for listener in (self._welcome, house.streams.wake, *composition.on_policy_change):
            house.keeper.on_change(listener)
        source = composition.policy_source or registry_source(house.channel(REGISTRY))
        report = composition.report or registry_report(house.channel(REGISTRY))
        self._background = [
            Background(
                "credentials", partial(house.credentials.run, poll=settings.credentials_poll, taken=house.streams.wake)
            ),
            Background("policy", PolicyFollower(house.keeper, source).run),
            Background("welcome", self._keep_welcoming),
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
            Background("measurement", Measurement(house, composition.sequencers).run),
            *composition.background,
        ]
        self._store = StoreCheck(house.database(itself), settings)
        with _port_of("health_listen"):
            self.health = HealthPort(
                settings.health_listen,
                required={
                    "start": self._not_open,
                    "store": self._store_fault,
                    "clock": lambda: self._store.clock_problem,  # as the look at the store found it
                    "policy": self._policy_fault,
                    "tls": self._tls_fault,
                },
                reported={"policy": self._policy_note, "work": self._work_note},
            )
        self.port = 0
        self.door_port = 0

    def open(self, stopping: Stopping) -> None:
        """Open the probes, wait for the store, then open the mTLS port. Raises SchemaUnfit, RuntimeError."""
        self.health.start()
        room = self.house.room
        self._store.wait(stopping, lambda store: schema.require_current(store, room.schema_packages, room.name))
        if stopping.is_set():
            return
        for work in self._background:
            work.start()
        with _port_of("listen"):
            self.port = self._server.listen(self.house.settings.listen, self.house.credentials.for_server())
        if self._door:
            with _port_of("door_listen"):
                self.door_port = self._door.listen(self.house.credentials.for_door())
        self._opened.set()
        self._welcome()
        log.info("serving", port=self.port, policy_revision=self.house.keeper.current.revision)

    def close(self) -> None:
        """End gracefully: NOT_SERVING, the drain delay, streams with their cursor, calls in flight, background work."""
        self._opened.clear()
        self._server.turn_away()
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

    def _welcome(self) -> None:
        """Let those who balance by health come as long as the room may answer them, by its policy and by its clock.

        The store is left out: the replicas have it in common, and a call's refusal says that it is away; health could
        only say that nobody is there.
        """
        with self._welcoming:
            is_fit = self._opened.is_set() and not self._policy_fault() and not self._store.clock_problem
            if is_fit is not self._is_welcoming:
                self._is_welcoming = is_fit
                self._server.set_serving(is_fit)

    def _keep_welcoming(self, stopping: Stopping) -> None:
        """A policy grows old, and is confirmed again, without a change that would be told."""
        while not stopping.wait(_LOOK_EVERY):
            self._welcome()

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
        if self._opened.is_set():  # until then the start looks at it
            self._store.look()
        return self._store.problem

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


@contextmanager
def _port_of(setting: str) -> Iterator[None]:
    """Name the setting of a port that cannot be opened. Raises RuntimeError."""
    try:
        yield
    except (OSError, OverflowError, RuntimeError) as error:
        raise RuntimeError(f"{config.name_of(setting)}: the port cannot be opened: {error}") from error


def serve(room: Room) -> None:
    """Serve a room until SIGTERM or SIGINT. Raises SettingsInvalid, CredentialsError, SchemaUnfit, RuntimeError."""
    stopping = Stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    serving = Serving(House(room, config.load(room.settings)))
    serving.open(stopping)
    # The system may hand the signal to another thread, and Python runs its handler in this one, when it next wakes: a
    # room that waited here without end was seen to sleep through its SIGTERM.
    while not stopping.wait(_WAKE_EVERY):
        pass
    serving.close()
