"""Rows of civil status, inside a transaction: domain objects in, domain objects out. Decides nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from services.civil_status.domain import (
    ROOM_NAME,
    ActKind,
    Before,
    BirthTies,
    Coded,
    Death,
    MaritalStatus,
    Marriage,
    Place,
    RegisteredAct,
    Relative,
    Role,
    Status,
)
from services.civil_status.tables import (
    ACT_SUBJECTS,
    ACTS,
    ANNULMENTS,
    BIRTH_DETAILS,
    BIRTH_KEYS,
    BIRTHS,
    DEATHS,
    LISTED_SPOUSES,
    MARRIAGES,
    PARENTS,
    STATUSES,
)
from services.mesh.core.chain import Act
from services.mesh.core.evidence.log import Log
from services.mesh.core.people import Name
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.stored import from_stored, to_stored
from services.mesh.core.tables import PEOPLE


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent as the birth registration names him; `subject_id` if he had a number."""

    role: Role
    subject_id: UUID | None
    named: Relative


class CivilRegister(RingUnit):
    """What an operation works with inside its transaction."""

    def __init__(self, connection: Connection, log: Log) -> None:
        super().__init__(connection, log, ROOM_NAME)
        self.acts = Acts(connection)
        self.births = Births(connection)
        self.unions = Unions(connection)
        self.statuses = Statuses(connection)


class Acts:
    """Acts and their annulments. An act's row never changes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, act: Act, registered: RegisteredAct, subject_ids: Iterable[UUID]) -> None:
        """Write an act of those persons. `act` is its link, with its ground."""
        if act.access is None:
            raise ValueError("an act of civil status needs its ground")
        row = {
            "act_id": registered.act_id,
            "kind": registered.kind,
            "event_date": registered.event_date,
            "register_time": registered.register_time,
            "entry_number": registered.entry_number,
            "actor": act.actor,
            "agreement_id": act.access.agreement_id,
            "case_reference": act.access.case_reference,
            "officer_id": act.access.officer_id,
        }
        self._connection.execute(ACTS.insert(), row)
        for subject_id in subject_ids:
            self.concern(registered.act_id, subject_id)

    def concern(self, act_id: UUID, subject_id: UUID) -> None:
        """Make an act one of a person's, if it is not already."""
        row = insert(ACT_SUBJECTS).values(subject_id=subject_id, act_id=act_id)
        self._connection.execute(row.on_conflict_do_nothing())

    def find(self, act_id: UUID) -> RegisteredAct | None:
        """An act, with the one that annulled it."""
        row = self._connection.execute(_acts().where(ACTS.c.act_id == act_id)).first()
        return _act(row) if row else None

    def of_person(self, subject_id: UUID) -> list[RegisteredAct]:
        """A person's acts, oldest first."""
        mine = _acts().join(ACT_SUBJECTS, ACT_SUBJECTS.c.act_id == ACTS.c.act_id)
        rows = mine.where(ACT_SUBJECTS.c.subject_id == subject_id).order_by(ACTS.c.register_time, ACTS.c.act_id)
        return [_act(row) for row in self._connection.execute(rows)]

    def subjects_of(self, act_id: UUID) -> list[UUID]:
        """Whose act it is."""
        mine = select(ACT_SUBJECTS.c.subject_id).where(ACT_SUBJECTS.c.act_id == act_id)
        return list(self._connection.execute(mine.order_by(ACT_SUBJECTS.c.subject_id)).scalars())

    def annul(self, act_id: UUID, annulled_by: UUID) -> None:
        """Note beside an act that another annulled it."""
        self._connection.execute(ANNULMENTS.insert(), {"act_id": act_id, "annulled_by": annulled_by})


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


class Unions:
    """Marriages, and the deaths that may end them, as far as an annulment needs to know what they changed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, marriage: Marriage) -> None:
        """Write a marriage."""
        first, second = marriage.first, marriage.second
        row = {
            "act_id": marriage.act_id,
            "first_id": first.subject_id,
            "first_before": first.marital,
            "first_before_act_id": first.act_id,
            "second_id": second.subject_id,
            "second_before": second.marital,
            "second_before_act_id": second.act_id,
        }
        self._connection.execute(MARRIAGES.insert(), row)

    def find(self, act_id: UUID) -> Marriage:
        """The marriage that an act recorded."""
        row = self._connection.execute(MARRIAGES.select().where(MARRIAGES.c.act_id == act_id)).one()
        return Marriage(
            row.act_id,
            Before(row.first_id, MaritalStatus(row.first_before), row.first_before_act_id),
            Before(row.second_id, MaritalStatus(row.second_before), row.second_before_act_id),
        )

    def add_death(self, death: Death) -> None:
        """Write a death, and what it ended."""
        row = {
            "act_id": death.act_id,
            "subject_id": death.subject_id,
            "spouse_id": death.spouse_id,
            "marriage_id": death.marriage_id,
        }
        self._connection.execute(DEATHS.insert(), row)

    def end_by(self, death: Death) -> None:
        """Note which marriage a death ended after all, since an earlier one is annulled."""
        values = {"spouse_id": death.spouse_id, "marriage_id": death.marriage_id}
        self._connection.execute(DEATHS.update().where(DEATHS.c.act_id == death.act_id).values(values))

    def find_death(self, act_id: UUID) -> Death:
        """The death that an act registered."""
        return _death(self._connection.execute(DEATHS.select().where(DEATHS.c.act_id == act_id)).one())

    def standing_death(self, subject_id: UUID) -> Death | None:
        """The registration of a person's death here, if it is not annulled."""
        his = DEATHS.join(ACT_SUBJECTS, ACT_SUBJECTS.c.act_id == DEATHS.c.act_id)
        joined = his.outerjoin(ANNULMENTS, ANNULMENTS.c.act_id == DEATHS.c.act_id)
        standing = DEATHS.select().select_from(joined).where(
            ACT_SUBJECTS.c.subject_id == subject_id,
            DEATHS.c.subject_id == subject_id,
            ANNULMENTS.c.act_id.is_(None),
        )
        row = self._connection.execute(standing).first()
        return _death(row) if row else None


class Statuses:
    """Marital statuses, and how others are named. A status is read and written under the lock of its person."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, subject_id: UUID) -> Status:
        """A person's status."""
        row = self._connection.execute(STATUSES.select().where(STATUSES.c.subject_id == subject_id)).first()
        if row is None:
            return Status(subject_id)
        return Status(
            subject_id,
            MaritalStatus(row.marital_status),
            row.spouse_id,
            row.act_id,
            row.is_own,
            row.told_time,
            row.death_told_time,
        )

    def put(self, status: Status) -> None:
        """Write a person's status as it is now."""
        values: dict[str, Any] = {
            "subject_id": status.subject_id,
            "marital_status": status.marital,
            "spouse_id": status.spouse_id,
            "act_id": status.act_id,
            "is_own": status.is_own,
            "told_time": status.told_time,
            "death_told_time": status.death_told_time,
        }
        row = insert(STATUSES).values(values)
        self._connection.execute(row.on_conflict_do_update(index_elements=[STATUSES.c.subject_id], set_=values))

    def list_spouses(self, subject_id: UUID, pins: Sequence[str]) -> None:
        """Keep whom the record names as a person's spouses by the word of others."""
        self._connection.execute(LISTED_SPOUSES.delete().where(LISTED_SPOUSES.c.subject_id == subject_id))
        rows = [{"subject_id": subject_id, "pin": pin} for pin in dict.fromkeys(pins)]
        if rows:
            self._connection.execute(LISTED_SPOUSES.insert(), rows)

    def listed_spouses(self, subject_id: UUID) -> list[str]:
        """The numbers of those whom the record names as a person's spouses by the word of others."""
        mine = select(LISTED_SPOUSES.c.pin).where(LISTED_SPOUSES.c.subject_id == subject_id)
        return list(self._connection.execute(mine.order_by(LISTED_SPOUSES.c.pin)).scalars())

    def named(self, subject_id: UUID) -> Relative:
        """Somebody whom this room knows, as the record of another names him; not locked."""
        row = self._connection.execute(PEOPLE.select().where(PEOPLE.c.subject_id == subject_id)).one()
        return Relative(_name(row), row.pin)


def _acts() -> Select[Any]:
    joined = ACTS.outerjoin(ANNULMENTS, ANNULMENTS.c.act_id == ACTS.c.act_id)
    return select(ACTS, ANNULMENTS.c.annulled_by).select_from(joined)


def _act(row: Row[Any]) -> RegisteredAct:
    return RegisteredAct(
        row.act_id, ActKind(row.kind), row.event_date, row.register_time, row.entry_number, row.annulled_by
    )


def _death(row: Row[Any]) -> Death:
    return Death(row.act_id, row.subject_id, row.spouse_id, row.marriage_id)


def _parent(row: Row[Any]) -> Parent:
    return Parent(Role(row.role), row.parent_id, Relative(_name(row), "", row.nationality))


def _name(row: Row[Any]) -> Name:
    return Name(row.family, row.middle, row.given, row.full_name)
