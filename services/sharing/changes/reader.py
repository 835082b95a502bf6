"""The one reader of the feed in this process: it keeps the newest changes in memory and wakes the open streams."""

import threading
from bisect import bisect_right
from collections.abc import Callable
from itertools import islice

from services.mesh.core.background import Stopping
from services.mesh.core.db import Database
from services.mesh.core.rights import Lane
from services.sharing.changes.domain import Change, Cursor, Feed
from services.sharing.unit import Sharing

_KEPT = 10_000
_PAGE = 2_000
_LOOK_EVERY = 0.1


class FeedReader:
    """Follows the feed once for all streams. `news` is called when there are new changes."""

    def __init__(self, database: Database[Sharing], news: Callable[[], None]) -> None:
        self._db = database
        self._news = news
        self._sequenced = threading.Event()
        self._reading = threading.Lock()
        self._kept: tuple[Change, ...] = ()
        self._feed: Feed | None = None

    def wake(self) -> None:
        """The sequencer gave positions here. (What another replica sequenced is seen at the next look.)"""
        self._sequenced.set()

    def run(self, stopping: Stopping) -> None:
        """Follow until told to stop."""
        while not stopping.is_set():
            self._sequenced.clear()
            if self.look() < _PAGE:
                self._sequenced.wait(_LOOK_EVERY)

    def look(self) -> int:
        """Read what is new; returns how many changes were."""
        with self._reading:
            with self._db.transaction() as tx:
                feed = tx.changes.extent()
                known, is_news = self._feed, False
                if known is not None and known.incarnation == feed.incarnation:
                    new = tx.changes.after(known.head, _PAGE) if feed.head > known.head else []
                    feed = Feed(feed.incarnation, feed.oldest, new[-1].position if new else known.head)
                else:  # the store was restored, or is seen for the first time: streams must look at their cursors
                    new, self._kept, is_news = [], (), True
            self._kept = (*self._kept, *new)[-_KEPT:]
            self._feed = feed
        if new or is_news:
            self._news()
        return len(new)

    def extent(self, cursor: Cursor | None = None) -> Feed:
        """The feed's extent, as far as this process has read.

        A cursor beyond it may come from another replica, which has read further: then it looks first.
        """
        feed = self._feed
        if feed is None or (cursor is not None and cursor.position > feed.head):
            self.look()
        return self._feed or Feed(0, 0, 0)

    def after(self, position: int, until: int, limit: int, lane: Lane | None = None) -> tuple[Change, ...]:
        """The next changes between two positions: from memory, or from the store for who is far behind."""
        kept = self._kept
        if kept and kept[0].position <= position + 1:
            start = bisect_right(kept, position, key=lambda change: change.position)
            end = bisect_right(kept, until, key=lambda change: change.position)
            mine = (kept[at] for at in range(start, end) if lane in (None, kept[at].lane))
            return tuple(islice(mine, limit))
        with self._db.transaction() as tx:
            return tuple(change for change in tx.changes.after(position, limit, lane) if change.position <= until)
