"""How far messages and changes have flowed, as this room knows it: from which sources, and to which followers."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.contacts import Activity, Flow, Lag
from services.mesh.core.db import Database
from services.mesh.core.rights import Policy
from services.sharing.changes.domain import Feed, Following, Marks, in_force, reach
from services.sharing.unit import Sharing

_TOLD_FOR = timedelta(minutes=1)
_LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was counted of the changes that follow a mark, and up to where. The next look goes on from there."""

    marks: Marks
    paths: frozenset[str]
    until: int
    count: int
    first_time: datetime | None


class FlowReport:
    """Makes the room's part of the directory.

    What sources told is kept in memory, by source, and told for a minute: a report that fails loses nothing, and who
    told nothing since then has been reported. Each replica reports what itself took in. `measure` is shown each look at
    the followers.
    """

    def __init__(
        self,
        database: Database[Sharing],
        policy: Callable[[], Policy],
        clock: Clock,
        measure: Callable[[Sequence[Lag], datetime], None] = lambda lags, now: None,
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._measure = measure
        self._mutex = threading.Lock()
        self._taken: dict[str, datetime] = {}
        self._seen: dict[tuple[str, str], _Seen] = {}

    def taken(self, source: str, time: datetime) -> None:
        """The record took something from a source."""
        with self._mutex:
            self._taken[source] = max(time, self._taken.get(source, time))

    def flow(self) -> Flow:
        """What sources told of late, and how far each follower is behind. Raises StoreUnavailable."""
        now = self._clock.now()
        with self._mutex:
            self._taken = {source: time for source, time in self._taken.items() if time > now - _TOLD_FOR}
            activities = tuple(Activity(source, time) for source, time in self._taken.items())
        seen = reach(self._policy(), legal_date(now))
        with self._db.transaction() as tx:
            feed, rejected = tx.changes.extent(), tx.followers.rejected_counts()
            followings = tx.followers.all_followings(feed.incarnation)
            by_follower: defaultdict[str, list[Marks]] = defaultdict(list)
            for marks in tx.followers.all_marks():
                by_follower[marks.follower].append(_started(marks, feed, followings))
            lags: dict[str, Lag] = {}
            for follower, marks_of_one in by_follower.items():
                for marks in in_force(marks_of_one):
                    lag = self._lag(tx, feed, marks, seen.get(follower, frozenset()), rejected)
                    lags[follower] = _worst(lag, lags.get(follower, lag))
        self._measure(tuple(lags.values()), now)
        return Flow(activities=activities, lags=tuple(lags.values()))

    def _lag(self, tx: Sharing, feed: Feed, marks: Marks, paths: frozenset[str], rejected: dict[str, int]) -> Lag:
        """The changes after a mark that the follower may see; others it never gets, and so never acknowledges.

        Each look counts a bounded stretch and goes on from the last one; what lies beyond it counts as it stands.
        """
        key = marks.follower, "" if marks.lane is None else marks.lane.name
        seen = self._seen.get(key)
        if seen is None or (seen.marks, seen.paths) != (marks, paths):
            seen = _Seen(marks, paths, marks.applied, 0, None)
        until = min(feed.head, seen.until + _LOOKED_AT)
        if until > seen.until:
            more = tx.changes.pending(seen.until, until, marks.lane, paths)
            seen = _Seen(marks, paths, until, seen.count + more.count, seen.first_time or more.first_time)
        self._seen[key] = seen
        beyond = feed.head - until
        first_time = seen.first_time or (tx.changes.first_time_after(until) if beyond else None)
        return Lag(marks.follower, seen.count + beyond, first_time, rejected.get(marks.follower, 0))


def _started(marks: Marks, feed: Feed, followings: Sequence[Following]) -> Marks:
    """A follower's marks in this incarnation; what lies before the place from which it is served is none of its."""
    if marks.incarnation != feed.incarnation:
        marks = replace(marks, incarnation=feed.incarnation, received=feed.oldest, applied=feed.oldest)
    mine = [one for one in followings if one.follower == marks.follower and one.lane in (None, marks.lane)]
    start = min((one.position_from for one in mine), default=0)
    return marks.moved_to(start, start)


def _worst(one: Lag, other: Lag) -> Lag:
    """Of the marks of one follower: the one that is most behind."""
    return max(one, other, key=lambda lag: lag.unapplied_count)
