"""Rows of births, inside a transaction: what they say of the child, and who the parents are. Decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from services.civil_status.domain import BirthTies, Coded, Place, Relative, Role
from services.civil_status.tables import BIRTH_DETAILS, BIRTH_KEYS, BIRTHS, PARENTS
from services.mesh.core.people import Name
from services.mesh.core.stored import from_stored, to_stored


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent as the birth registration names him; `subject_id` if he had a number."""

    role: Role
    subject_id: UUID | None
    named: Relative


class Births:
    """Births, what they say of the child, and who the parents are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, keys: Sequence[bytes], ties: BirthTies, subject_id: UUID) -> bool:
        """Take a birth's keys for a child instead of those he had, unless they are those of another birth.

        Waits for one that is about to take them.
        """
        for key in sorted(keys):
            lock = int.from_bytes(key[:8], signed=True)
            self._connection.execute(select(func.pg_advisory_xact_lock(lock)))
        if self.is_registered(keys, ties, but=subject_id):
            return False
        self._connection.execute(BIRTH_KEYS.delete().where(BIRTH_KEYS.c.subject_id == subject_id))
        rows = [{"birth_key": key, "subject_id": subject_id, "mother_id": ties.mother_id} for key in keys]
        self._connection.execute(BIRTH_KEYS.insert(), rows)
        return True

    def is_registered(self, keys: Sequence[bytes], ties: BirthTies, but: UUID | None = None) -> bool:
        """Whether the birth of anybody `but` this child has one of the keys. Mothers of two numbers are two."""
        same = select(BIRTH_KEYS.c.subject_id).where(BIRTH_KEYS.c.birth_key.in_(keys))
        if but is not None:
            same = same.where(BIRTH_KEYS.c.subject_id != but)
        if ties.mother_id is not None:
            same = same.where(or_(BIRTH_KEYS.c.mother_id.is_(None), BIRTH_KEYS.c.mother_id == ties.mother_id))
        return self._connection.execute(same.limit(1)).first() is not None

    def add(self, subject_id: UUID, act_id: UUID, ties: BirthTies, parents: Sequence[Parent]) -> None:
        """Write a birth."""
        row = {
            "subject_id": subject_id,
            "act_id": act_id,
            "sex": ties.sex,
            "mother_id": ties.mother_id,
            "mother_name": ties.mother_name,
            "unit_code": ties.unit_code,
        }
        self._connection.execute(BIRTHS.insert(), row)
        rows = [
            {
                "child_id": subject_id,
                "role": parent.role,
                "parent_id": parent.subject_id,
                "family": parent.named.name.family,
                "middle": parent.named.name.middle,
                "given": parent.named.name.given,
                "full_name": parent.named.name.full,
                "nationality": parent.named.nationality,
            }
            for parent in parents
        ]
        if rows:
            self._connection.execute(PARENTS.insert(), rows)

    def ties(self, subject_id: UUID) -> BirthTies | None:
        """What ties a person's birth down, if it was registered here."""
        row = self._connection.execute(BIRTHS.select().where(BIRTHS.c.subject_id == subject_id)).first()
        return BirthTies(row.sex, row.mother_id, row.mother_name, row.unit_code) if row else None

    def keep_detail(self, subject_id: UUID, path: str, value: Place | Coded) -> None:
        """Keep what is registered for a path."""
        stored = to_stored(value, type(value))
        row = insert(BIRTH_DETAILS).values(subject_id=subject_id, path=path, value=stored)
        self._connection.execute(
            row.on_conflict_do_update(
                index_elements=[BIRTH_DETAILS.c.subject_id, BIRTH_DETAILS.c.path], set_={"value": stored}
            )
        )

    def detail(self, subject_id: UUID, path: str, shape: type[Place | Coded]) -> Place | Coded | None:
        """What is registered for a path, if this room knows it."""
        mine = (BIRTH_DETAILS.c.subject_id == subject_id, BIRTH_DETAILS.c.path == path)
        value = self._connection.execute(select(BIRTH_DETAILS.c.value).where(*mine)).scalar()
        return None if value is None else from_stored(value, shape)

    def parents_of(self, child_id: UUID) -> list[Parent]:
        """The parents that a registration here names."""
        rows = PARENTS.select().where(PARENTS.c.child_id == child_id).order_by(PARENTS.c.role)
        return [_parent(row) for row in self._connection.execute(rows)]

    def children_of(self, parent_id: UUID) -> list[tuple[UUID, Parent]]:
        """The children whose registration here names this parent by number, and how it names him."""
        rows = PARENTS.select().where(PARENTS.c.parent_id == parent_id).order_by(PARENTS.c.child_id)
        return [(row.child_id, _parent(row)) for row in self._connection.execute(rows)]


def _parent(row: Row[Any]) -> Parent:
    return Parent(
        Role(row.role),
        row.parent_id,
        Relative(Name(row.family, row.middle, row.given, row.full_name), "", row.nationality),
    )
