"""What makes a room one of the ring: its outbox is relayed to its peers, and it follows the feed of changes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import Connection

from services.mesh.core.background import Background, Stopping
from services.mesh.core.contacts import Backlog, Flow
from services.mesh.core.db import Database, DirectConnection
from services.mesh.core.errors import Overloaded
from services.mesh.core.following import Followed, FollowedChange
from services.mesh.core.outbox import Outbox
from services.mesh.core.relay import Deliver, Relay
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.telling import SHARING
from services.mesh.wire.deliveries import to_sharing
from services.mesh.wire.follower import Feed, Follower
from services.mesh.wire.metrics import OUTBOX_MESSAGES, OUTBOX_OLDEST_TIME, OUTBOX_WAITING, SET_ASIDE
from services.mesh.wire.room import House

_MEASURE_EVERY = 2.0


Unit = TypeVar("Unit", bound=RingUnit)


class Ring(Generic[Unit]):
    """A room's part in the ring. Its `database` opens the room's transactions, and wakes the relays after each that put
    messages; `peers` are deliverers by room and kind, besides those to `sharing`.
    """

    def __init__(
        self,
        house: House,
        unit: Callable[[Connection], Unit],
        *,
        backlog_limit: int,
        peers: Mapping[str, Mapping[str, Deliver]] | None = None,
    ) -> None:
        sharing = house.channel(SHARING)
        self._outbox: Database[Outbox] = house.database(Outbox)
        self._followed: Database[Followed] = house.database(Followed)
        self._feed = Feed(sharing)
        self._limit = backlog_limit
        self._backlog = Backlog(0, None, 0)
        self._follower: Follower[Unit] | None = None
        self._relays = [
            Relay(peer, self._outbox, DirectConnection(house.engine), deliverers, counted=partial(_count, peer))
            for peer, deliverers in {SHARING: to_sharing(sharing), **(peers or {})}.items()
        ]
        self.database: Database[Unit] = house.database(unit, self._committed)

    def background(self, react: Callable[[Unit, FollowedChange], None]) -> Sequence[Background]:
        """The relays, the follower that applies changes with `react`, and their measurement."""
        follower = self._follower = Follower(self.database, self._feed, react)
        return [
            *(Background(f"relay to {relay.peer}", relay.run) for relay in self._relays),
            Background("follower", follower.run),
            Background("set-aside changes", follower.recover),
            Background("backlog", self._measure),
        ]

    def wake(self) -> None:
        """A command made set-aside messages due."""
        for relay in self._relays:
            relay.wake()
        if self._follower is not None:
            self._follower.wake()

    def flow(self) -> Flow:
        """How much this room still has to hand on, as last measured."""
        return Flow(backlog=self._backlog)

    def require_room(self) -> None:
        """Back-pressure: raises Overloaded while too many messages wait to be handed on, or for a command."""
        if self._backlog.count + self._backlog.set_aside_count >= self._limit:
            raise Overloaded()

    def _committed(self, unit: Unit) -> None:
        if unit.outbox.has_new:
            for relay in self._relays:
                relay.wake()

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
