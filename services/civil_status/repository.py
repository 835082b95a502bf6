"""Rows of civil status, inside a transaction: domain objects in, domain objects out. Decides nothing."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.dialects.postgresql import insert

from services.civil_status.births_repository import Births
from services.civil_status.domain import (
    ROOM_NAME,
    ActKind,
    Before,
    Death,
    MaritalStatus,
    Marriage,
    RegisteredAct,
    Relative,
    Status,
)
from services.civil_status.tables import (
    ACT_SUBJECTS,
    ACTS,
    ANNULMENTS,
    DEATHS,
    LISTED_SPOUSES,
    MARRIAGES,
    STATUSES,
)
from services.mesh.core.chain import Act
from services.mesh.core.evidence.log import Log
from services.mesh.core.people import Name
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.tables import PEOPLE


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

    def find_death(self, act_id: UUID) -> Death | None:
        """The death that an act registered; None if it is no such act."""
        row = self._connection.execute(DEATHS.select().where(DEATHS.c.act_id == act_id)).first()
        return _death(row) if row else None

    def standing_death(self, subject_id: UUID) -> Death | None:
        """The registration of a person's death here, if it is not annulled."""
        his = DEATHS.join(ACT_SUBJECTS, ACT_SUBJECTS.c.act_id == DEATHS.c.act_id)
        joined = his.outerjoin(ANNULMENTS, ANNULMENTS.c.act_id == DEATHS.c.act_id)
        standing = (
            DEATHS.select()
            .select_from(joined)
            .where(
                ACT_SUBJECTS.c.subject_id == subject_id,
                DEATHS.c.subject_id == subject_id,
                ANNULMENTS.c.act_id.is_(None),
            )
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


def _name(row: Row[Any]) -> Name:
    return Name(row.family, row.middle, row.given, row.full_name)
