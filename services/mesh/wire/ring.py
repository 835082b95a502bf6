"""What makes a room one of the ring: its outbox is relayed to its peers, and it follows the feed of changes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from sqlalchemy import Connection

from services.mesh.core.background import Background
from services.mesh.core.config import SourceSettings
from services.mesh.core.contacts import Flow
from services.mesh.core.db import Database
from services.mesh.core.following import FollowedChange
from services.mesh.core.relay import Deliver
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.telling import SHARING
from services.mesh.wire.deliveries import to_sharing
from services.mesh.wire.follower import Feed, Follower
from services.mesh.wire.outgoing import Outgoing
from services.mesh.wire.room import House

Unit = TypeVar("Unit", bound=RingUnit)

CHANGES = "changes"
"""What the settings call the streams of `sharing` where they have processes of their own."""


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
        self._outgoing = Outgoing(house, {SHARING: to_sharing(sharing), **(peers or {})}, backlog_limit=backlog_limit)
        self._feed = Feed(house.channel(CHANGES) if _has_streams_elsewhere(house) else sharing)
        self._follower: Follower[Unit] | None = None
        self.database: Database[Unit] = house.database(unit, self._outgoing.committed)

    def background(self, react: Callable[[Unit, FollowedChange], None]) -> Sequence[Background]:
        """The relays, the follower that applies changes with `react`, and their measurement."""
        follower = self._follower = Follower(self.database, self._feed, react)
        return [
            *self._outgoing.background(),
            Background("follower", follower.run),
            Background("set-aside changes", follower.recover),
        ]

    def wake(self) -> None:
        """A command made set-aside messages due."""
        self._outgoing.wake()
        if self._follower is not None:
            self._follower.wake()

    def flow(self) -> Flow:
        """How much this room still has to hand on, as last measured."""
        return self._outgoing.flow()

    def require_room(self) -> None:
        """Back-pressure: raises Overloaded while too many messages wait to be handed on, or for a command."""
        self._outgoing.require_room()


def _has_streams_elsewhere(house: House) -> bool:
    return isinstance(house.settings, SourceSettings) and bool(house.settings.changes_address)
