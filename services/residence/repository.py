"""The rows of residence, inside a transaction: domain objects in, domain objects out. Decides nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.evidence.log import Log
from services.mesh.core.people import Name
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.tables import PEOPLE
from services.residence.domain import Address, ClosingGround, History, Residence, ResidenceKind, ResidenceState
from services.residence.household import Household, Member, Relation
from services.residence.tables import HOUSEHOLDS, MEMBERS, RESIDENCES


class ResidenceUnit(RingUnit):
    """What an operation of this room works with inside its transaction."""

    def __init__(self, connection: Connection, log: Log, room: str) -> None:
        super().__init__(connection, log, room)
        self.residences = Residences(connection)
        self.households = Households(connection)


class Residences:
    """The residences. Whoever changes those of a person holds his row of `people`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, residence_id: UUID) -> Residence | None:
        """A residence by its id, not locked."""
        row = self._connection.execute(RESIDENCES.select().where(RESIDENCES.c.residence_id == residence_id)).first()
        return _residence(row) if row else None

    def of_person(self, subject_id: UUID) -> History:
        """All residences of a person, those last recorded first."""
        rows = RESIDENCES.select().where(RESIDENCES.c.subject_id == subject_id)
        ordered = rows.order_by(RESIDENCES.c.record_time.desc(), RESIDENCES.c.residence_id)
        return History(tuple(_residence(row) for row in self._connection.execute(ordered)))

    def put(self, *residences: Residence) -> None:
        """Write residences as they are now, in this order."""
        for residence in residences:
            values = _values(residence)
            row = insert(RESIDENCES).values(values)
            keys = list(RESIDENCES.primary_key.columns)
            self._connection.execute(row.on_conflict_do_update(index_elements=keys, set_=values))

    def forget(self, residence: Residence) -> None:
        """Know no longer what only the record told."""
        mine = [
            RESIDENCES.c.subject_id == residence.subject_id,
            RESIDENCES.c.residence_id == residence.residence_id,
        ]
        self._connection.execute(RESIDENCES.delete().where(*mine))


class Households:
    """The households and their members, who are named as `people` knows them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def found(self, household_id: UUID) -> None:
        """Begin a household; nobody is a member of it yet."""
        self._connection.execute(HOUSEHOLDS.insert().values(household_id=household_id, is_adopted=False))

    def adopt(self, household_id: UUID) -> None:
        """Know a household from the record, if it is not known yet."""
        row = insert(HOUSEHOLDS).values(household_id=household_id, is_adopted=True)
        self._connection.execute(row.on_conflict_do_nothing())

    def own(self, *household_ids: UUID) -> None:
        """Have a word of this room's own on households, which are locked: from now on the record's is of no account."""
        mine = HOUSEHOLDS.update().where(HOUSEHOLDS.c.household_id.in_(household_ids), HOUSEHOLDS.c.is_adopted)
        self._connection.execute(mine.values(is_adopted=False))

    def id_of(self, subject_id: UUID) -> UUID | None:
        """The household of which a person is a member."""
        row = self._connection.execute(MEMBERS.select().where(MEMBERS.c.subject_id == subject_id)).first()
        return row.household_id if row else None

    def lock(self, household_ids: Iterable[UUID]) -> dict[UUID, Household]:
        """Those of the households that exist, locked in one order until the transaction ends."""
        wanted = HOUSEHOLDS.select().where(HOUSEHOLDS.c.household_id.in_(list(household_ids)))
        rows = self._connection.execute(wanted.order_by(HOUSEHOLDS.c.household_id).with_for_update()).all()
        return {row.household_id: replace(self.composed(row.household_id), is_adopted=row.is_adopted) for row in rows}

    def composed(self, household_id: UUID) -> Household:
        """A household as it is composed; without members, if it does not exist."""
        rows = (
            MEMBERS.join(PEOPLE, PEOPLE.c.subject_id == MEMBERS.c.subject_id)
            .select()
            .where(MEMBERS.c.household_id == household_id)
            .with_only_columns(*MEMBERS.c, *(PEOPLE.c[name] for name in _NAMING))
        )
        return Household(household_id, tuple(_member(row) for row in self._connection.execute(rows)))

    def put(self, household_id: UUID, *members: Member) -> None:
        """Write members of a household as they are now."""
        for member in members:
            relation = member.relation
            values = {
                "subject_id": member.subject_id,
                "household_id": household_id,
                "relation_code": relation.code if relation else None,
                "relation_list_version": relation.list_version if relation else None,
                "relation_name": relation.alternative_name if relation else None,
                "is_head": member.is_head,
            }
            row = insert(MEMBERS).values(values)
            self._connection.execute(row.on_conflict_do_update(index_elements=[MEMBERS.c.subject_id], set_=values))

    def remove(self, subject_id: UUID) -> None:
        """Let a person be no member any more."""
        self._connection.execute(MEMBERS.delete().where(MEMBERS.c.subject_id == subject_id))


_NAMING = ("pin", "family", "middle", "given", "full_name")


def _residence(row: Row[Any]) -> Residence:
    as_of_date = PartialDate(row.as_of_year, row.as_of_month, row.as_of_day)
    return Residence(
        residence_id=row.residence_id,
        subject_id=row.subject_id,
        kind=ResidenceKind[row.kind],
        address=Address(row.unit_code, row.unit_list_version, row.country_code, row.detail_text, as_of_date),
        start_date=row.start_date,
        end_date=row.end_date,
        household_id=row.household_id,
        state=ResidenceState[row.state],
        ground=ClosingGround[row.ground] if row.ground else None,
        closing_date=row.closing_date,
        is_adopted=row.is_adopted,
    )


def _values(residence: Residence) -> dict[str, object]:
    address = residence.address
    return {
        "subject_id": residence.subject_id,
        "residence_id": residence.residence_id,
        "kind": residence.kind.name,
        "unit_code": address.unit_code,
        "unit_list_version": address.unit_list_version,
        "country_code": address.country_code,
        "detail_text": address.detail_text,
        "as_of_year": address.as_of_date.year,
        "as_of_month": address.as_of_date.month,
        "as_of_day": address.as_of_date.day,
        "start_date": residence.start_date,
        "end_date": residence.end_date,
        "household_id": residence.household_id,
        "state": residence.state.name,
        "ground": residence.ground.name if residence.ground else None,
        "closing_date": residence.closing_date,
        "is_adopted": residence.is_adopted,
    }


def _member(row: Row[Any]) -> Member:
    relation = None
    if row.relation_code is not None:
        relation = Relation(row.relation_code, row.relation_list_version, row.relation_name)
    name = Name(row.family, row.middle, row.given, row.full_name)
    return Member(row.subject_id, row.pin, name, relation, row.is_head)
