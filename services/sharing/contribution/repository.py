"""SQL of contributions: which events were taken in, and which items wait."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zlib import crc32

from sqlalchemy import ARRAY, Connection, Integer, Row, bindparam, func, literal, select

from services.mesh.core.chain import LINKS_LIMIT, Causation
from services.mesh.core.rights import Access
from services.mesh.core.stored import from_stored, to_stored
from services.sharing.contribution.domain import Item, TakenItem
from services.sharing.contribution.tables import CONTRIBUTIONS, HELD

_MINTING = func.hashtext("contributions/minting")
_BUCKETS = 4096


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

    def add(self, source: str, access: Access | None, items: Sequence[tuple[Item, UUID | None]], at: datetime) -> None:
        """Note events as taken in, in which chain, and on which ground: an item's own, or that of the call.

        Raises IntegrityError if another transaction was faster.
        """
        rows = [_row(source, item.access or access, item, subject_id, at) for item, subject_id in items]
        if rows:
            self._connection.execute(CONTRIBUTIONS.insert(), rows)

    def announce_minting(self, pins: Iterable[str]) -> None:
        """Say that this transaction gives these PINs: it and the calls that hold items for them wait for each other."""
        self._lock("pg_advisory_xact_lock_shared", pins)

    def hold_off_minting(self, pins: Iterable[str]) -> None:
        """Let nobody give these PINs until this transaction ends.

        Without it a PIN could be minted between the look at it and the commit of the item that is to wait for it: the
        item would wait for ever. PINs share locks by their hash, so that a large call takes a bounded number.
        """
        self._lock("pg_advisory_xact_lock", pins)

    def _lock(self, function: str, pins: Iterable[str]) -> None:
        buckets = sorted({crc32(pin.encode()) % _BUCKETS for pin in pins})
        bucket = func.unnest(literal(buckets, ARRAY(Integer))).column_valued("bucket")
        self._connection.execute(select(getattr(func, function)(_MINTING, bucket)))

    def hold(self, source: str, items: Sequence[Item], at: datetime) -> None:
        """Keep items until their PIN is known; those of one call by a microsecond apart, which keeps their order."""
        rows = [
            {
                "pin": item.pin,
                "source": source,
                "event_id": item.event_id,
                "item": to_stored(item, Item),
                "record_time": at + timedelta(microseconds=nth),
            }
            for nth, item in enumerate(items)
        ]
        if rows:
            self._connection.execute(HELD.insert(), rows)

    def release(self, pins: Iterable[str]) -> list[tuple[str, Item]]:
        """The items that waited for these PINs, with their sources, in the order of their coming; they wait no more."""
        waiting = HELD.delete().where(HELD.c.pin.in_(list(pins))).returning(HELD)
        rows = sorted(self._connection.execute(waiting), key=lambda row: (row.record_time, row.event_id))
        return [(row.source, from_stored(row.item, Item)) for row in rows]

    def settle(self, released: Sequence[tuple[str, str, UUID]]) -> None:
        """Note whom items that had to wait were about: their sources, event ids and subjects."""
        mine = (CONTRIBUTIONS.c.source == bindparam("of")) & (CONTRIBUTIONS.c.event_id == bindparam("event"))
        rows = [
            {"of": source, "event": event_id, "subject_id": subject_id} for source, event_id, subject_id in released
        ]
        if rows:
            self._connection.execute(CONTRIBUTIONS.update().where(mine), rows)

    def of_chain(self, correlation_id: UUID) -> list[TakenItem]:
        """The items of a chain, in the order of their coming."""
        rows = CONTRIBUTIONS.select().where(CONTRIBUTIONS.c.correlation_id == correlation_id)
        in_order = rows.order_by(CONTRIBUTIONS.c.record_time, CONTRIBUTIONS.c.event_id).limit(LINKS_LIMIT)
        return [_taken(row) for row in self._connection.execute(in_order)]


def _row(source: str, access: Access | None, item: Item, subject_id: UUID | None, at: datetime) -> dict[str, object]:
    return {
        "source": source,
        "event_id": item.event_id,
        "content_hash": item.content_hash,
        "subject_id": subject_id,
        "agreement_id": access.agreement_id if access else None,
        "case_reference": access.case_reference if access else None,
        "officer_id": access.officer_id if access else None,
        "origin": access.origin if access else None,
        "correlation_id": item.causation.correlation_id,
        "causation_id": item.causation.causation_id,
        "record_time": at,
    }


def _taken(row: Row[Any]) -> TakenItem:
    access = (
        Access(row.agreement_id, row.case_reference, row.officer_id, row.origin or "") if row.agreement_id else None
    )
    causation = Causation(row.correlation_id, row.causation_id)
    return TakenItem(row.source, row.event_id, causation, access, row.record_time, row.subject_id is None)
