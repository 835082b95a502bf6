"""SQL of uses: which of those that a source room tells are new. What they say stands in the log."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from services.sharing.usage.tables import USES_RECORDED


class Uses:
    """The table of recorded uses, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def note(self, source: str, use_ids: Collection[UUID], at: datetime) -> set[UUID]:
        """Note uses as recorded; returns those that were not. Who tells the same at once waits here for the other."""
        rows = [{"source": source, "use_id": use_id, "record_time": at} for use_id in sorted(use_ids)]
        new = insert(USES_RECORDED).values(rows).on_conflict_do_nothing().returning(USES_RECORDED.c.use_id)
        return set(self._connection.execute(new).scalars())
