"""What makes a room hand its outbox on: a relay for each peer, the measure of what waits, and back-pressure."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from services.mesh.core.background import Background, Stopping
from services.mesh.core.contacts import Backlog, Flow
from services.mesh.core.db import Database, DirectConnection
from services.mesh.core.errors import Overloaded
from services.mesh.core.following import Followed
from services.mesh.core.outbox import Outbox
from services.mesh.core.relay import Deliver, Relay
from services.mesh.wire.metrics import OUTBOX_MESSAGES, OUTBOX_OLDEST_TIME, OUTBOX_WAITING, SET_ASIDE
from services.mesh.wire.room import House

_MEASURE_EVERY = 2.0


class Posting(Protocol):
    """A unit of work that can put messages into the outbox."""

    @property
    def outbox(self) -> Outbox:
        """The room's outbox."""


class Outgoing:
    """Hands on what a room's transactions put into its outbox. `peers` are deliverers by room and kind of message."""

    def __init__(self, house: House, peers: Mapping[str, Mapping[str, Deliver]], *, backlog_limit: int) -> None:
        self._outbox: Database[Outbox] = house.database(Outbox)
        self._followed: Database[Followed] = house.database(Followed)
        self._limit = backlog_limit
        self._backlog = Backlog(0, None, 0)
        self._relays = [
            Relay(peer, self._outbox, DirectConnection(house.engine), deliverers, counted=partial(_count, peer))
            for peer, deliverers in peers.items()
        ]

    def background(self) -> Sequence[Background]:
        """The relays and their measurement."""
        return [
            *(Background(f"relay to {relay.peer}", relay.run) for relay in self._relays),
            Background("backlog", self._measure),
        ]

    def committed(self, unit: Posting) -> None:
        """A transaction was committed: what it put is handed on now."""
        if unit.outbox.has_new:
            self.wake()

    def wake(self) -> None:
        """Hand on now, for instance because a command made set-aside messages due."""
        for relay in self._relays:
            relay.wake()

    def flow(self) -> Flow:
        """How much this room still has to hand on, as last measured."""
        return Flow(backlog=self._backlog)

    def require_room(self) -> None:
        """Back-pressure: raises Overloaded while too many messages wait to be handed on, or for a command."""
        if self._backlog.count + self._backlog.set_aside_count >= self._limit:
            raise Overloaded()

    def _measure(self, stopping: Stopping) -> None:
        while not stopping.is_set():
            with self._outbox.transaction() as outbox:
                count, oldest, aside = outbox.extent()
            with self._followed.transaction() as followed:
                aside += followed.set_aside_count()
            self._backlog = Backlog(count, oldest, aside)
            OUTBOX_WAITING.set(count)
            OUTBOX_OLDEST_TIME.set(oldest.timestamp() if oldest else 0)
            SET_ASIDE.set(aside)
            stopping.wait(_MEASURE_EVERY)


def _count(peer: str, outcome: str, count: int) -> None:
    OUTBOX_MESSAGES.labels(peer, outcome).inc(count)
