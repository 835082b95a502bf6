"""What a change is, and where a follower stands. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import Enum
from uuid import UUID

from services.mesh.core.chain import Causation
from services.mesh.core.errors import Kind, MeshError
from services.mesh.core.evidence.entry import Receipt
from services.mesh.core.rights import Lane, Mode, Policy

ALL_LANES = 0
"""The number that stands for all lanes together."""


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
    causation: Causation
    lane: Lane


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
    """Changes for a follower, where to go on, and how far the feed goes. Their entries are committed.

    `names_subjects`: it is for a room, which may see internal subject ids.
    """

    changes: tuple[Delivered, ...]
    cursor: Cursor
    feed: Feed
    names_subjects: bool = False


class Status(Enum):
    """What a follower acknowledges by a mark."""

    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A change that a follower could not apply, and its code for why."""

    change_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a follower says of one lane, or of all: how far it has come, what it could not apply, what it has since."""

    lane: Lane | None
    received: Cursor | None
    applied: Cursor | None
    rejected: tuple[Rejection, ...] = ()
    recovered: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Marks:
    """The positions up to which a follower has received and applied the changes of a lane, or of all."""

    follower: str
    lane: Lane | None
    incarnation: int
    received: int = 0
    applied: int = 0
    move_time: datetime | None = None

    def at(self, status: Status) -> int:
        """The mark of a status."""
        return self.received if status is Status.RECEIVED else self.applied

    def moved_to(self, received: int, applied: int) -> "Marks":
        """The marks, moved forward only; what is applied has been received."""
        reached = max(self.applied, applied)
        return replace(self, received=max(self.received, received, reached), applied=reached)


@dataclass(frozen=True, slots=True)
class Following:
    """After which position a follower has been served the changes of a lane, or of all. Its marks claim none before."""

    follower: str
    lane: Lane | None
    incarnation: int
    position_from: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the record knows of a follower: its marks, and how many changes count as rejected."""

    received: Cursor
    applied: Cursor
    rejected_count: int


@dataclass(frozen=True, slots=True)
class Pending:
    """Changes that a follower has not applied: how many, and when the first of them was recorded."""

    count: int
    first_time: datetime | None


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """When a follower acknowledged a change as applied, or with a reason as rejected."""

    change_id: UUID
    follower: str
    time: datetime
    reason: str = ""


def in_force(marks: Sequence[Marks]) -> list[Marks]:
    """Of one follower's marks those that are not overtaken.

    The marks of both lanes overtake those of all lanes together if they are newer, and these the older one of a lane:
    so a follower who changes from one way to the other does not seem to stand still.
    """
    whole = next((one for one in marks if one.lane is None), None)
    lanes = [one for one in marks if one.lane is not None]
    if whole is None:
        return lanes
    newer = [one for one in lanes if _is_newer(one, whole)]
    if len(newer) == len(Lane):
        return newer
    return [whole, *(one for one in lanes if not _is_newer(whole, one))]


def _is_newer(one: Marks, other: Marks) -> bool:
    return one.move_time is not None and other.move_time is not None and one.move_time > other.move_time


def lane_number(lane: Lane | None) -> int:
    """The number of a lane, or of all together."""
    return ALL_LANES if lane is None else lane.value


def reach(policy: Policy, day: date, *, with_lapsed: bool = False) -> dict[str, frozenset[str]]:
    """The paths whose changes each follower may see.

    A room sees those that the catalogue names it for, a system those that an agreement grants it in mode CHANGES, be it
    suspended; `with_lapsed`, also if it is not in force on the day.
    """
    found: dict[str, frozenset[str]] = {}
    rooms = {room for definition in policy.fields.values() for room in definition.followers}
    for room in rooms:
        found[room] = policy.followed_by(room, day)
    for agreement in policy.agreements.values():
        if not with_lapsed and not agreement.validity.covers(day):
            continue
        purpose = policy.purposes.get(agreement.purpose)
        granted = agreement.grants.get(Mode.CHANGES, frozenset()) & (purpose.paths if purpose else frozenset())
        name = f"{agreement.agency_id}/{agreement.system_id}"
        found[name] = found.get(name, frozenset()) | granted
    return found
