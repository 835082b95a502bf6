"""What makes a room hand its outbox on: a relay for each peer, the measure of what waits, and back-pressure.

What is delivered is kept for a while, so that a peer which was restored from a backup can be told again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from services.mesh.core.background import Background, Stopping
from services.mesh.core.contacts import Backlog, Flow
from services.mesh.core.db import Database, DirectConnection
from services.mesh.core.errors import Overloaded
from services.mesh.core.following import Followed
from services.mesh.core.outbox import Outbox
from services.mesh.core.overdue import HeldUp
from services.mesh.core.relay import Deliver, Relay
from services.mesh.core.rights import Policy
from services.mesh.wire.metrics import CHAINS_OVERDUE, OUTBOX_MESSAGES, OUTBOX_OLDEST_TIME, OUTBOX_WAITING, SET_ASIDE
from services.mesh.wire.room import House

_MEASURE_EVERY = 2.0
_LOOK_FOR_OVERDUE_EVERY = 30.0
_FORGET_EVERY, _FORGOTTEN = 600.0, 5000


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
        self._clock, self._kept = house.clock, house.settings.delivered_kept
        self._held_up: Database[HeldUp] = house.database(lambda connection: HeldUp(connection, house.room.name))
        self._policy: Callable[[], Policy] = lambda: house.keeper.current
        self._limit = backlog_limit
        self._backlog = Backlog(0, None, 0)
        self._relays = [
            Relay(
                peer,
                self._outbox,
                DirectConnection(house.engine),
                deliverers,
                keeps=bool(self._kept),
                counted=partial(_count, peer),
            )
            for peer, deliverers in peers.items()
        ]

    def background(self) -> Sequence[Background]:
        """The relays, their measurement, and the end of what is kept."""
        return [
            *(Background(f"relay to {relay.peer}", relay.run) for relay in self._relays),
            Background("backlog", self._measure),
            Background("overdue chains", self._measure_overdue),
            Background("delivered messages", self._forget_delivered),
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

    def _measure_overdue(self, stopping: Stopping) -> None:
        while not stopping.is_set():
            policy = self._policy()
            with self._held_up.transaction() as held_up:
                overdue = held_up.overdue(policy.clocks.values(), policy.calendars.values(), self._clock.now())
            for clock, count in overdue.items():
                CHAINS_OVERDUE.labels(clock).set(count)
            stopping.wait(_LOOK_FOR_OVERDUE_EVERY)

    def _forget_delivered(self, stopping: Stopping) -> None:
        """Forget what was delivered long enough ago: at the start, and every ten minutes."""
        while not stopping.is_set():
            forgotten = _FORGOTTEN
            while forgotten == _FORGOTTEN and not stopping.is_set():
                with self._outbox.transaction() as outbox:
                    forgotten = outbox.forget_delivered(self._clock.now() - self._kept, _FORGOTTEN)
            stopping.wait(_FORGET_EVERY)


def _count(peer: str, outcome: str, count: int) -> None:
    OUTBOX_MESSAGES.labels(peer, outcome).inc(count)
