"""The use cases of followers: what they may see, recorded person by person before it leaves, and how far they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.errors import (
    DeadlinePassed,
    FieldRequired,
    InvalidField,
    MeshError,
    StoreUnavailable,
    Violation,
)
from services.mesh.core.evidence.entry import Entry, Outcome, Receipt
from services.mesh.core.gather import Gatherer
from services.mesh.core.rights import Access, Ground, Lane, Mode, Policy
from services.sharing.changes.domain import (
    Acknowledgement,
    Change,
    Cursor,
    Delivered,
    Delivery,
    Feed,
    Following,
    Standing,
    Status,
)
from services.sharing.changes.reader import FeedReader
from services.sharing.unit import Sharing

_PAGE_BYTES = 1 << 20
_STREAMS, _TOGETHER = 5000, 64
_RECORD_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Right:
    """What a follower may see now: the ground, None for a room, and the paths."""

    ground: Ground | None
    paths: frozenset[str]


class Delivering:
    """Delivers changes. The entries of many streams that have news at one moment are committed together."""

    def __init__(
        self,
        database: Database[Sharing],
        reader: FeedReader,
        policy: Callable[[], Policy],
        clock: Clock,
    ) -> None:
        self._db = database
        self._reader = reader
        self._policy = policy
        self._clock = clock
        self._records = Gatherer(self._record_all, queue=_STREAMS, batch=_TOGETHER)
        self._served: dict[tuple[str, Lane | None, int], int] = {}

    def require_right(self, caller: Caller, access: Access | None) -> Right:
        """What the caller may follow now: an agency what its agreement grants, a room what the catalogue names it for.

        Raises what `Policy.authorise` raises, FieldRequired for an agency without access, InvalidField for a room with.
        """
        policy, day = self._policy(), legal_date(self._clock.now())
        if caller.kind is CallerKind.ROOM:
            if access is not None:
                raise InvalidField("access", "is for agencies: a room leaves it out")
            return Right(None, policy.followed_by(caller.name, day))
        if access is None:
            raise FieldRequired(Violation("access", "is required of agencies"))
        ground = policy.authorise(caller.agency_id, caller.system_id, access, Mode.CHANGES, (), day)
        return Right(ground, policy.usable_paths(policy.agreements[access.agreement_id], Mode.CHANGES, day))

    def start(self, cursor: Cursor | None) -> Cursor:
        """Where a stream begins: at the cursor, or with none at the head. Raises CursorOutdated, CursorOutOfRange."""
        feed = self._reader.extent(cursor)
        return feed.at(feed.head if cursor is None else feed.require(cursor))

    def next_changes(
        self, caller: Caller, method: str, access: Access | None, cursor: Cursor | None, limit: int, lane: Lane | None
    ) -> Delivery:
        """The next changes after a cursor (None: from the oldest), of one lane or of all, that the caller may see.

        1. The right is settled by the policy in force now.
        2. Of each change only the granted paths count; one without any is passed over, and the cursor moves over it,
           as over those of other lanes.
        3. One entry for each person disclosed is committed. Only then do the changes leave.

        Raises what `require_right` raises, CursorOutdated, CursorOutOfRange, StoreUnavailable.
        """
        right = self.require_right(caller, access)  # (1)
        feed = self._reader.extent(cursor)
        position = feed.oldest if cursor is None else feed.require(cursor)
        self._note(Following(caller.name, lane, feed.incarnation, position))
        found = self._reader.after(position, feed.head, limit, lane)  # the reader may have read on meanwhile
        changes = _within_bytes(found)
        visible = [(change, paths) for change in changes if (paths := _visible(change, right.paths))]  # (2)
        delivered = self._record(caller, method, right.ground, visible) if visible else ()  # (3)
        is_all = len(changes) == len(found) < limit
        reached = feed.head if is_all else changes[-1].position
        return Delivery(delivered, feed.at(reached), feed, names_subjects=caller.kind is CallerKind.ROOM)

    def _note(self, following: Following) -> None:
        """Keep from where a follower is served, if it never was from so far back."""
        key = following.follower, following.lane, following.incarnation
        if following.position_from < self._served.get(key, following.position_from + 1):
            with self._db.transaction() as tx:
                tx.followers.serve(following)
            self._served[key] = following.position_from

    def _record(
        self, caller: Caller, method: str, ground: Ground | None, visible: Sequence[tuple[Change, tuple[str, ...]]]
    ) -> tuple[Delivered, ...]:
        entries = [
            Entry(caller, method, Outcome.DISCLOSED, ground, change.subject_id, sorted({"pin", *paths}))
            for change, paths in visible
        ]
        try:
            receipts = self._records.ask(entries, _RECORD_SECONDS)
        except DeadlinePassed:
            raise StoreUnavailable() from None  # the caller's own deadline it is not: the log took too long
        return tuple(
            Delivered(change, paths, receipt) for (change, paths), receipt in zip(visible, receipts, strict=True)
        )

    def _record_all(self, asked: Sequence[Sequence[Entry]]) -> list[Sequence[Receipt] | MeshError]:
        with self._db.transaction() as tx:
            receipts = iter(tx.log.record_all([entry for entries in asked for entry in entries]))
        return [list(islice(receipts, len(entries))) for entries in asked]


class Acknowledging:
    """Keeps the marks of followers. `require_right` is what a Pull asks of the caller."""

    def __init__(
        self, database: Database[Sharing], require_right: Callable[[Caller, Access | None], object], clock: Clock
    ) -> None:
        self._db = database
        self._require_right = require_right
        self._clock = clock

    def acknowledge(self, caller: Caller, access: Access | None, said: Acknowledgement) -> Standing:
        """Take what a follower says of a lane, and tell it what stands now.

        1. The right is that of a Pull; nothing is disclosed, so the log says nothing of it.
        2. Cursors are of this incarnation and not beyond the head; a rejected change is one of the feed.
        3. Marks only move forward, and each move is noted with its time. A repeat moves and notes nothing.
        4. Who was never served begins where his first mark stands: it claims none of the changes before.

        Raises what `Delivering.require_right` raises, CursorOutdated, CursorOutOfRange, InvalidField.
        """
        self._require_right(caller, access)  # (1)
        now = self._clock.now()
        with self._db.transaction() as tx:
            feed = tx.changes.extent()
            received, applied = _position(feed, said.received), _position(feed, said.applied)  # (2)
            if tx.changes.unknown({one.change_id for one in said.rejected}):
                raise InvalidField("rejected", "names a change that is not of the feed")
            before = tx.followers.lock(caller.name, said.lane, feed.incarnation, now)
            marks = before.moved_to(received, applied)  # (3)
            if max(received, applied) > 0:  # (4)
                tx.followers.begin(Following(caller.name, said.lane, feed.incarnation, max(received, applied)))
            if moved := [status for status in Status if marks.at(status) > before.at(status)]:
                tx.followers.move(marks, moved, now)
            tx.followers.reject(caller.name, said.rejected, now)
            tx.followers.recover(caller.name, said.recovered, now)
            rejected_count = tx.followers.rejected_count(caller.name)
        return Standing(feed.at(marks.received), feed.at(marks.applied), rejected_count)


def _visible(change: Change, granted: frozenset[str]) -> tuple[str, ...]:
    return tuple(path for path in change.paths if path in granted)


def _within_bytes(changes: Sequence[Change]) -> Sequence[Change]:
    """As many changes as make one message of a bearable size, one at least: else one page could never be received."""
    size = 0
    for count, change in enumerate(changes):
        size += len(change.person)
        if size > _PAGE_BYTES and count > 0:
            return changes[:count]
    return changes


def _position(feed: Feed, cursor: Cursor | None) -> int:
    return 0 if cursor is None else feed.require(cursor)
