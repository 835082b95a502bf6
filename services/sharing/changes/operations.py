"""The use case of following changes: what a follower may see, recorded person by person before it leaves."""

from collections.abc import Callable, Sequence

from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.rights import Access, Ground, Mode, Policy
from services.sharing.changes.domain import Change, Cursor, Delivered, Delivery
from services.sharing.changes.reader import FeedReader
from services.sharing.unit import Sharing

_PAGE_BYTES = 1 << 20


class Following:
    """Delivers changes."""

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

    def require_right(self, caller: Caller, access: Access) -> Ground:
        """The ground on which the caller follows now. Raises what `Policy.authorise` raises."""
        day = legal_date(self._clock.now())
        return self._policy().authorise(caller.agency_id, caller.system_id, access, Mode.CHANGES, (), day)

    def start(self, cursor: Cursor | None) -> Cursor:
        """Where a stream begins: at the cursor, or with none at the head. Raises CursorOutdated, CursorOutOfRange."""
        feed = self._reader.extent(cursor)
        return feed.at(feed.head if cursor is None else feed.require(cursor))

    def next_changes(self, caller: Caller, method: str, access: Access, cursor: Cursor | None, limit: int) -> Delivery:
        """The next changes after a cursor (None: from the oldest) that the caller's agreement lets it see.

        1. The ground is confirmed by the policy in force now.
        2. Of each change only the granted paths count; one without any is passed over, and the cursor moves over it.
        3. One entry for each person disclosed is committed. Only then do the changes leave.

        Raises what `Policy.authorise` raises, CursorOutdated, CursorOutOfRange, StoreUnavailable.
        """
        ground = self.require_right(caller, access)  # (1)
        policy, feed = self._policy(), self._reader.extent(cursor)
        position = feed.oldest if cursor is None else feed.require(cursor)
        until_head = feed.head - position  # positions are dense; the reader may have read on meanwhile
        changes = _within_bytes(self._reader.after(position, min(limit, until_head)))
        granted = policy.usable_paths(
            policy.agreements[access.agreement_id], Mode.CHANGES, legal_date(self._clock.now())
        )
        visible = [(change, paths) for change in changes if (paths := _visible(change, granted))]  # (2)
        delivered = self._record(caller, method, ground, visible) if visible else ()  # (3)
        return Delivery(delivered, feed.at(changes[-1].position if changes else position), feed)

    def _record(
        self, caller: Caller, method: str, ground: Ground, visible: Sequence[tuple[Change, tuple[str, ...]]]
    ) -> tuple[Delivered, ...]:
        entries = [
            Entry(caller, method, Outcome.DISCLOSED, ground, change.subject_id, sorted({"pin", *paths}))
            for change, paths in visible
        ]
        with self._db.transaction() as tx:
            receipts = tx.log.record_all(entries)
        return tuple(
            Delivered(change, paths, receipt) for (change, paths), receipt in zip(visible, receipts, strict=True)
        )


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
