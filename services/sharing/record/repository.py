"""SQL of the record: subjects, their assertions and discrepancies, many at a time."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, update
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.db import copy_rows
from services.sharing.record.comparison import Difference
from services.sharing.record.resolution import Assertion, Discrepancy
from services.sharing.record.subject import Subject, Telling, finding_columns
from services.sharing.record.tables import ASSERTIONS, DISCREPANCIES, PINS, RECORDS


class Records:
    """The record's tables, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def subject_ids(self, pins: Iterable[str]) -> dict[str, UUID]:
        """Who has or had these PINs."""
        rows = self._connection.execute(PINS.select().where(PINS.c.pin.in_(list(pins))))
        return {row.pin: row.subject_id for row in rows}

    def lock_subjects(self, subject_ids: Iterable[UUID]) -> dict[UUID, Subject]:
        """The subjects that exist, with all their assertions and open discrepancies, locked in one order."""
        wanted = sorted(set(subject_ids))
        if not wanted:
            return {}
        locked = RECORDS.select().where(RECORDS.c.subject_id.in_(wanted)).order_by(RECORDS.c.subject_id)
        subjects = {
            row.subject_id: Subject(row.subject_id, row.pin, row.person, tuple(row.disputed), row.assertion_count)
            for row in self._connection.execute(locked.with_for_update())
        }
        for row in self._connection.execute(ASSERTIONS.select().where(ASSERTIONS.c.subject_id.in_(list(subjects)))):
            subjects[row.subject_id].assertions.append(_assertion(row))
        still_open = DISCREPANCIES.c.subject_id.in_(list(subjects)) & DISCREPANCIES.c.close_time.is_(None)
        for row in self._connection.execute(DISCREPANCIES.select().where(still_open)):
            found = Discrepancy(row.path, row.item_key, row.source, Difference(row.difference))
            subject = subjects[row.subject_id]
            subject.discrepancies = subject.stored_discrepancies = subject.discrepancies | {found}
        return subjects

    def add_pins(self, pins: Sequence[tuple[str, UUID]]) -> None:
        """Give PINs to subjects for good. Raises IntegrityError if another transaction was faster."""
        if pins:
            self._connection.execute(PINS.insert(), [{"pin": pin, "subject_id": owner} for pin, owner in pins])

    def save(self, subjects: Sequence[Subject], at: datetime) -> None:
        """Write what was told about subjects, the records that follow from it, and what opened or closed."""
        told = [_told_row(subject, *one) for subject in subjects for one in subject.told]
        copy_rows(self._connection, ASSERTIONS, told)
        upsert = insert(RECORDS)
        changed = {column.name: column for column in upsert.excluded if column.name != "subject_id"}
        upsert = upsert.on_conflict_do_update(index_elements=[RECORDS.c.subject_id], set_=changed)
        if subjects:
            self._connection.execute(upsert, [_record_row(subject) for subject in subjects])
        for subject in subjects:
            self._close(subject, subject.stored_discrepancies - subject.discrepancies, at)
            self._open(subject, subject.discrepancies - subject.stored_discrepancies, at)

    def _close(self, subject: Subject, settled: Iterable[Discrepancy], at: datetime) -> None:
        for one in settled:
            mine = (
                (DISCREPANCIES.c.subject_id == subject.subject_id)
                & (DISCREPANCIES.c.path == one.path)
                & (DISCREPANCIES.c.item_key == one.item_key)
                & (DISCREPANCIES.c.source == one.source)
                & DISCREPANCIES.c.close_time.is_(None)
            )
            self._connection.execute(update(DISCREPANCIES).where(mine).values(close_time=at))

    def _open(self, subject: Subject, new: Iterable[Discrepancy], at: datetime) -> None:
        rows = [
            {
                "subject_id": subject.subject_id,
                "path": one.path,
                "item_key": one.item_key,
                "source": one.source,
                "open_time": at,
                "difference": one.difference.value,
            }
            for one in new
        ]
        if rows:
            self._connection.execute(DISCREPANCIES.insert(), rows)


def _assertion(row: Row[Any]) -> Assertion:
    return Assertion(row.ordinal, row.path, row.item_key, row.source, row.value, row.event_time, row.record_time)


def _told_row(subject: Subject, assertion: Assertion, telling: Telling) -> dict[str, object]:
    return {
        "subject_id": subject.subject_id,
        "ordinal": assertion.ordinal,
        "path": assertion.path,
        "item_key": assertion.item_key,
        "source": assertion.source,
        "event_id": telling.event_id,
        "value": assertion.value,
        "event_time": assertion.event_time,
        "register_time": telling.register_time,
        "record_time": assertion.record_time,
    }


def _record_row(subject: Subject) -> dict[str, object]:
    columns = finding_columns(subject.person)
    return {
        "subject_id": subject.subject_id,
        "pin": subject.pin,
        "name_key": columns.name_key,
        "birth_year": columns.birth[0],
        "birth_month": columns.birth[1],
        "birth_day": columns.birth[2],
        "person": subject.person,
        "disputed": list(subject.disputed),
        "assertion_count": subject.assertion_count,
    }
