"""Rows of blocked keys."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ARRAY, Connection, DateTime, Text, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert

from services.issuer.tables import BLOCKED_KEYS


class BlockedKeys:
    """Keys that were reported as compromised. None is ever taken off."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def block(self, key_ids: Iterable[str], blocker: str, now: datetime) -> None:
        """Block keys for ever; one that is blocked stays as it is."""
        ids = func.unnest(literal(sorted(set(key_ids)), ARRAY(Text))).table_valued("key_id").render_derived("blocked")
        rows = select(ids.c.key_id, literal(now, DateTime(timezone=True)), literal(blocker))
        row = insert(BLOCKED_KEYS).from_select(["key_id", "block_time", "blocker"], rows)
        self._connection.execute(row.on_conflict_do_nothing())

    def holds(self, key_id: str) -> bool:
        """Whether a key is blocked; none is until the end of the transaction.

        So whoever blocks a key finds the intent that follows on this.
        """
        self._connection.execute(text("LOCK TABLE blocked_keys IN SHARE MODE"))
        return (
            self._connection.execute(BLOCKED_KEYS.select().where(BLOCKED_KEYS.c.key_id == key_id)).first() is not None
        )
