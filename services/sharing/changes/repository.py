"""SQL of the feed: changes are put where they are committed, and read by position; and how far followers have come."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, literal, or_, select, text, union_all
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.chain import LINKS_LIMIT, Causation
from services.mesh.core.db import copy_rows
from services.mesh.core.rights import Lane
from services.mesh.core.tables import STORE
from services.sharing.changes.domain import (
    ALL_LANES,
    Change,
    Feed,
    Following,
    Fulfilment,
    Marks,
    Pending,
    Rejection,
    Status,
    lane_number,
)
from services.sharing.changes.tables import (
    ACKNOWLEDGEMENTS,
    CHANGES,
    CHANGES_PENDING,
    FOLLOWERS,
    FOLLOWINGS,
    REJECTIONS,
)

_INTEGRATE = text(
    """
    WITH due AS (SELECT pending_id FROM changes_pending ORDER BY pending_id LIMIT :limit),
    moved AS (DELETE FROM changes_pending p USING due WHERE p.pending_id = due.pending_id RETURNING p.*)
    INSERT INTO changes (position, change_id, subject_id, pin, paths, disputed, person, source, event_time, record_time,
                         correlation_id, causation_id, lane)
    SELECT :head + row_number() OVER (ORDER BY pending_id),
           change_id, subject_id, pin, paths, disputed, person, source, event_time, record_time,
           correlation_id, causation_id, lane
    FROM moved
    """
)
_FULFILMENTS = text(
    """
    SELECT c.change_id, f.follower, min(passed.record_time) AS time, '' AS reason
    FROM changes c
    JOIN followers f ON f.lane IN (0, c.lane) AND f.applied >= c.position
                    AND f.incarnation = (SELECT max(incarnation) FROM store)
    CROSS JOIN LATERAL (
        SELECT a.record_time FROM acknowledgements a
        WHERE a.follower = f.follower AND a.lane = f.lane AND a.incarnation = f.incarnation AND a.status = 'APPLIED'
          AND a.position_to >= c.position
        ORDER BY a.position_to LIMIT 1
    ) passed
    WHERE c.change_id = ANY(:change_ids)
      AND c.position > coalesce((
        SELECT min(s.position_from) FROM followings s
        WHERE s.follower = f.follower AND s.lane IN (0, f.lane) AND s.incarnation = f.incarnation
      ), 0)
      AND NOT EXISTS (SELECT FROM rejections r WHERE r.change_id = c.change_id AND r.follower = f.follower)
    GROUP BY c.change_id, f.follower
    UNION ALL
    SELECT change_id, follower, coalesce(recover_time, reject_time),
           CASE WHEN recover_time IS NULL THEN reason ELSE '' END
    FROM rejections WHERE change_id = ANY(:change_ids)
    """
)


class Changes:
    """The feed's tables, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, changes: Sequence[Change]) -> None:
        """Put changes into the transaction that makes them; they get their position after it commits."""
        rows = [
            {
                "change_id": change.change_id,
                "subject_id": change.subject_id,
                "pin": change.pin,
                "paths": list(change.paths),
                "disputed": list(change.disputed),
                "person": change.person,
                "source": change.source,
                "event_time": change.event_time,
                "record_time": change.record_time,
                "correlation_id": change.causation.correlation_id,
                "causation_id": change.causation.causation_id,
                "lane": change.lane.value,
            }
            for change in changes
        ]
        copy_rows(self._connection, CHANGES_PENDING, rows)

    def extent(self) -> Feed:
        """Where the feed begins and ends."""
        ends = select(
            func.coalesce(func.min(CHANGES.c.position), 1) - 1, func.coalesce(func.max(CHANGES.c.position), 0)
        )
        oldest, head = self._connection.execute(ends).one()
        return Feed(self._connection.execute(select(func.max(STORE.c.incarnation))).scalar_one(), oldest, head)

    def after(self, position: int, limit: int, lane: Lane | None = None) -> list[Change]:
        """The next changes after a position, of one lane or of all."""
        rows = CHANGES.select().where(CHANGES.c.position > position, *_in_lane(lane))
        return [_change(row) for row in self._connection.execute(rows.order_by(CHANGES.c.position).limit(limit))]

    def of_chain(self, correlation_id: UUID) -> list[Change]:
        """The changes of a chain, oldest first; the position of one that has none yet is 0."""
        columns = [column.name for column in CHANGES_PENDING.c if column.name != "pending_id"]
        placed = select(CHANGES.c.position, *(CHANGES.c[name] for name in columns))
        waiting = select(literal(0).label("position"), *(CHANGES_PENDING.c[name] for name in columns))
        both = union_all(  # in one statement: else one that gets its position meanwhile would be missed
            placed.where(CHANGES.c.correlation_id == correlation_id),
            waiting.where(CHANGES_PENDING.c.correlation_id == correlation_id),
        ).subquery()
        rows = both.select().order_by(both.c.record_time, both.c.position).limit(LINKS_LIMIT)
        return [_change(row) for row in self._connection.execute(rows)]

    def unknown(self, change_ids: Collection[UUID]) -> set[UUID]:
        """Those of the ids that are no change of the feed."""
        rows = select(CHANGES.c.change_id).where(CHANGES.c.change_id.in_(list(change_ids)))
        return set(change_ids) - set(self._connection.execute(rows).scalars())

    def pending(self, after: int, until: int, lane: Lane | None, paths: Collection[str]) -> Pending:
        """The changes of some paths between two positions: how many, and when the first of them was recorded."""
        wanted = CHANGES.c.paths.overlap(sorted(paths))
        mine = (CHANGES.c.position > after, CHANGES.c.position <= until, wanted, *_in_lane(lane))
        count, first_time = self._connection.execute(
            select(func.count(), func.min(CHANGES.c.record_time)).where(*mine)
        ).one()
        return Pending(count, first_time)

    def first_time_after(self, position: int) -> datetime | None:
        """When the next change after a position was recorded."""
        rows = select(CHANGES.c.record_time).where(CHANGES.c.position > position)
        return self._connection.execute(rows.order_by(CHANGES.c.position).limit(1)).scalar_one_or_none()


class Followers:
    """From where followers are served and how far they have come, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def serve(self, following: Following) -> None:
        """Note from where a follower is served; who has been served from further back stays there."""
        row = insert(FOLLOWINGS).values(**_following(following))
        further_back = {"position_from": row.excluded.position_from}
        key = [FOLLOWINGS.c.follower, FOLLOWINGS.c.lane, FOLLOWINGS.c.incarnation]
        is_further = FOLLOWINGS.c.position_from > row.excluded.position_from
        self._connection.execute(row.on_conflict_do_update(index_elements=key, set_=further_back, where=is_further))

    def begin(self, following: Following) -> None:
        """Note from where a follower speaks of changes that it was never served; else where it was served from."""
        self._connection.execute(insert(FOLLOWINGS).values(**_following(following)).on_conflict_do_nothing())

    def all_followings(self, incarnation: int) -> list[Following]:
        """From where each follower is served in an incarnation."""
        rows = self._connection.execute(FOLLOWINGS.select().where(FOLLOWINGS.c.incarnation == incarnation))
        return [Following(row.follower, _lane(row.lane), row.incarnation, row.position_from) for row in rows]

    def lock(self, follower: str, lane: Lane | None, incarnation: int, at: datetime) -> Marks:
        """The marks of a follower, which nobody else moves until it ends; 0 in an incarnation new to it."""
        key = {"follower": follower, "lane": lane_number(lane)}
        marks = {"incarnation": incarnation, "received": 0, "applied": 0, "record_time": at}
        self._connection.execute(insert(FOLLOWERS).values(**key, **marks).on_conflict_do_nothing())
        mine = FOLLOWERS.select().where(*_is(follower, lane)).with_for_update()
        row = self._connection.execute(mine).one()
        return _marks(row) if row.incarnation == incarnation else Marks(follower, lane, incarnation)

    def move(self, marks: Marks, moved: Collection[Status], at: datetime) -> None:
        """Keep marks, and note when those that moved did."""
        values = {"incarnation": marks.incarnation, "received": marks.received, "applied": marks.applied}
        mine = FOLLOWERS.update().where(*_is(marks.follower, marks.lane))
        self._connection.execute(mine.values(**values, record_time=at))
        rows = [
            {
                "follower": marks.follower,
                "lane": lane_number(marks.lane),
                "incarnation": marks.incarnation,
                "status": status.value,
                "position_to": marks.at(status),
                "record_time": at,
            }
            for status in moved
        ]
        if rows:
            self._connection.execute(ACKNOWLEDGEMENTS.insert(), rows)

    def reject(self, follower: str, rejections: Collection[Rejection], at: datetime) -> None:
        """Note changes that a follower could not apply; what stands already stays as it is."""
        rows = [
            {"change_id": one.change_id, "follower": follower, "reason": one.reason, "reject_time": at}
            for one in sorted(rejections, key=lambda one: one.change_id)
        ]
        row = insert(REJECTIONS)
        anew = or_(REJECTIONS.c.recover_time.is_not(None), REJECTIONS.c.reason != row.excluded.reason)
        if rows:
            self._connection.execute(
                row.on_conflict_do_update(
                    index_elements=[REJECTIONS.c.change_id, REJECTIONS.c.follower],
                    set_={"reason": row.excluded.reason, "reject_time": row.excluded.reject_time, "recover_time": None},
                    where=anew,
                ),
                rows,
            )

    def recover(self, follower: str, change_ids: Collection[UUID], at: datetime) -> None:
        """Note that changes rejected before are applied; others are passed over."""
        mine = (REJECTIONS.c.change_id == bindparam("change")) & (REJECTIONS.c.follower == follower)
        rows = [{"change": change_id} for change_id in sorted(change_ids)]
        row = REJECTIONS.update().where(mine, REJECTIONS.c.recover_time.is_(None)).values(recover_time=at)
        if rows:
            self._connection.execute(row, rows)

    def rejected_count(self, follower: str) -> int:
        """How many changes still count as rejected by a follower."""
        return self.rejected_counts(follower).get(follower, 0)

    def rejected_counts(self, *followers: str) -> dict[str, int]:
        """How many changes still count as rejected, by follower; of all of them if none is named."""
        mine = (REJECTIONS.c.follower.in_(followers),) if followers else ()
        rows = select(REJECTIONS.c.follower, func.count().label("rejected")).where(
            REJECTIONS.c.recover_time.is_(None), *mine
        )
        found = self._connection.execute(rows.group_by(REJECTIONS.c.follower))
        return {row.follower: row.rejected for row in found}

    def all_marks(self) -> list[Marks]:
        """The marks of all followers."""
        return [_marks(row) for row in self._connection.execute(FOLLOWERS.select())]

    def fulfilments(self, change_ids: Collection[UUID]) -> list[Fulfilment]:
        """Whose mark has passed these changes, or who has rejected them, and when."""
        rows = self._connection.execute(_FULFILMENTS, {"change_ids": list(change_ids)})
        return [Fulfilment(row.change_id, row.follower, row.time, row.reason) for row in rows]


def integrate(connection: Connection, limit: int) -> int:
    """Give pending changes their positions: the feed's part of the sequencer."""
    head = connection.execute(select(func.coalesce(func.max(CHANGES.c.position), 0))).scalar_one()
    return connection.execute(_INTEGRATE, {"limit": limit, "head": head}).rowcount


def _in_lane(lane: Lane | None) -> tuple[ColumnElement[bool], ...]:
    return () if lane is None else (CHANGES.c.lane == lane.value,)


def _is(follower: str, lane: Lane | None) -> tuple[ColumnElement[bool], ...]:
    return (FOLLOWERS.c.follower == follower, FOLLOWERS.c.lane == lane_number(lane))


def _marks(row: Row[Any]) -> Marks:
    return Marks(row.follower, _lane(row.lane), row.incarnation, row.received, row.applied, row.record_time)


def _lane(number: int) -> Lane | None:
    return None if number == ALL_LANES else Lane(number)


def _following(following: Following) -> dict[str, object]:
    return {
        "follower": following.follower,
        "lane": lane_number(following.lane),
        "incarnation": following.incarnation,
        "position_from": following.position_from,
    }


def _change(row: Row[Any]) -> Change:
    return Change(
        row.position,
        row.change_id,
        row.subject_id,
        row.pin,
        tuple(row.paths),
        tuple(row.disputed),
        row.person,
        row.source,
        row.event_time,
        row.record_time,
        Causation(row.correlation_id, row.causation_id),
        Lane(row.lane),
    )
