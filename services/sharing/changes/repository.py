"""SQL of the feed: changes are put where they are committed, and read by position."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, select, text

from services.mesh.core.db import copy_rows
from services.mesh.core.tables import STORE
from services.sharing.changes.domain import Change, Feed
from services.sharing.changes.tables import CHANGES, CHANGES_PENDING

_INTEGRATE = text(
    """
    WITH due AS (SELECT pending_id FROM changes_pending ORDER BY pending_id LIMIT :limit),
    moved AS (DELETE FROM changes_pending p USING due WHERE p.pending_id = due.pending_id RETURNING p.*)
    INSERT INTO changes (position, change_id, subject_id, pin, paths, disputed, person, source, event_time, record_time)
    SELECT :head + row_number() OVER (ORDER BY pending_id),
           change_id, subject_id, pin, paths, disputed, person, source, event_time, record_time
    FROM moved
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

    def after(self, position: int, limit: int) -> list[Change]:
        """The next changes after a position."""
        rows = CHANGES.select().where(CHANGES.c.position > position).order_by(CHANGES.c.position).limit(limit)
        return [
            Change(
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
            )
            for row in self._connection.execute(rows)
        ]


def integrate(connection: Connection, limit: int) -> int:
    """Give pending changes their positions: the feed's part of the sequencer."""
    head = connection.execute(select(func.coalesce(func.max(CHANGES.c.position), 0))).scalar_one()
    return connection.execute(_INTEGRATE, {"limit": limit, "head": head}).rowcount
