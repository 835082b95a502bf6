"""SQL of contributions: which events were taken in, and which items wait."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from services.mesh.core.stored import from_stored, to_stored
from services.sharing.contribution.domain import Item
from services.sharing.contribution.tables import CONTRIBUTIONS, HELD


class Contributions:
    """The tables of contributions, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def known(self, source: str, event_ids: Iterable[str]) -> dict[str, bytes]:
        """Content hashes of a source's events that were taken in before."""
        rows = CONTRIBUTIONS.select().where(
            CONTRIBUTIONS.c.source == source, CONTRIBUTIONS.c.event_id.in_(list(event_ids))
        )
        return {row.event_id: row.content_hash for row in self._connection.execute(rows)}

    def add(self, source: str, items: Sequence[tuple[Item, UUID | None]], at: datetime) -> None:
        """Note events as taken in. Raises IntegrityError if another transaction was faster."""
        rows = [
            {
                "source": source,
                "event_id": item.event_id,
                "content_hash": item.content_hash,
                "subject_id": subject_id,
                "record_time": at,
            }
            for item, subject_id in items
        ]
        if rows:
            self._connection.execute(CONTRIBUTIONS.insert(), rows)

    def hold(self, source: str, items: Sequence[Item], at: datetime) -> None:
        """Keep items until their PIN is known."""
        rows = [
            {
                "pin": item.pin,
                "source": source,
                "event_id": item.event_id,
                "item": to_stored(item, Item),
                "record_time": at,
            }
            for item in items
        ]
        if rows:
            self._connection.execute(HELD.insert(), rows)

    def release(self, pins: Iterable[str]) -> list[tuple[str, Item]]:
        """The items that waited for these PINs, with their sources, in the order of their coming; they wait no more."""
        waiting = HELD.delete().where(HELD.c.pin.in_(list(pins))).returning(HELD)
        rows = sorted(self._connection.execute(waiting), key=lambda row: (row.record_time, row.event_id))
        return [(row.source, from_stored(row.item, Item)) for row in rows]
