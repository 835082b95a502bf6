"""Metrics of the registry (Prometheus): how many are connected, and how well. Labels are kinds and states, never names.

A room is one of ours. A database is a system that an agreement in force lets contribute or follow changes: it is
connected around the clock. Every other system is a caller, which may well be silent at night.
"""

from collections import Counter
from collections.abc import Callable

from prometheus_client import Gauge

from services.mesh.core.background import Stopping
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.rights import Mode, Policy, State
from services.registry.domain import Connection, ConnectionState
from services.registry.operations.directory import DirectoryOperations

CONNECTIONS = Gauge(
    "npd_connections",
    "Rooms and active systems by kind and state; NEVER: nothing was ever heard of it.",
    ["kind", "state"],
)

_MEASURE_EVERY = 15.0
_NEVER = "NEVER"
_KINDS = ("room", "database", "caller")
_STATES = (*(state.name for state in ConnectionState), _NEVER)
_OF_DATABASES = frozenset({Mode.CONTRIBUTE, Mode.CHANGES})


class Measurement:
    """Measures every quarter of a minute."""

    def __init__(self, directory: DirectoryOperations, policy: Callable[[], Policy], clock: Clock) -> None:
        self._directory = directory
        self._policy = policy
        self._clock = clock

    def run(self, stopping: Stopping) -> None:
        """Measure until told to stop."""
        while not stopping.is_set():
            self.measure()
            stopping.wait(_MEASURE_EVERY)

    def measure(self) -> None:
        """Measure once. A suspended system may be silent: it is not counted."""
        databases = self._databases()
        counts = Counter(
            (_kind(one, databases), _NEVER if one.contact is None else one.state.name)
            for one in self._directory.list_connections()
            if one.system_state in (None, State.ACTIVE)
        )
        for kind in _KINDS:
            for state in _STATES:
                CONNECTIONS.labels(kind, state).set(counts[kind, state])

    def _databases(self) -> frozenset[str]:
        today = legal_date(self._clock.now())
        return frozenset(
            f"{one.agency_id}/{one.system_id}"
            for one in self._policy().agreements.values()
            if one.state is State.ACTIVE and one.validity.covers(today) and _OF_DATABASES & one.grants.keys()
        )


def _kind(one: Connection, databases: frozenset[str]) -> str:
    if one.system_state is None:
        return "room"
    return "database" if one.name in databases else "caller"
