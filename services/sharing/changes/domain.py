"""What a change is, and where a follower stands. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.mesh.core.errors import Kind, MeshError
from services.mesh.core.evidence.entry import Receipt


class CursorOutdated(MeshError):
    """The cursor is of an earlier incarnation of the store."""

    kind, reason = Kind.FAILED_PRECONDITION, "CURSOR_OUTDATED"


class CursorOutOfRange(MeshError):
    """The cursor is beyond the feed's head or before its oldest change."""

    kind, reason = Kind.OUT_OF_RANGE, "CURSOR_OUT_OF_RANGE"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one person. `position` is 0 until the sequencer has given one; `person` holds the new values."""

    position: int
    change_id: UUID
    subject_id: UUID
    pin: str
    paths: tuple[str, ...]
    disputed: tuple[str, ...]
    person: bytes
    source: str
    event_time: datetime
    record_time: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the feed of one incarnation of the store: the position of the last change seen."""

    incarnation: int
    position: int


@dataclass(frozen=True, slots=True)
class Feed:
    """The feed's extent: cursors from `oldest` to `head` may be named."""

    incarnation: int
    oldest: int
    head: int

    def at(self, position: int) -> Cursor:
        """A cursor of this incarnation."""
        return Cursor(self.incarnation, position)

    def require(self, cursor: Cursor) -> int:
        """The position of a cursor. Raises CursorOutdated with a place to resume from, CursorOutOfRange."""
        if cursor.incarnation != self.incarnation:
            # a restored feed gives positions anew, so what stood at the old cursor says nothing: begin with the oldest
            raise CursorOutdated(incarnation=self.incarnation, position=self.oldest)
        if not self.oldest <= cursor.position <= self.head:
            raise CursorOutOfRange(incarnation=self.incarnation, oldest=self.oldest, head=self.head)
        return cursor.position


@dataclass(frozen=True, slots=True)
class Delivered:
    """A change as one follower gets it: the granted paths of it, and the receipt of this disclosure."""

    change: Change
    paths: tuple[str, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Delivery:
    """Changes for a follower, where to go on, and how far the feed goes. Their entries are committed."""

    changes: tuple[Delivered, ...]
    cursor: Cursor
    feed: Feed
