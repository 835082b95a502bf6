"""The people that a source room knows: who has a number, how he is registered, whether he lives. Fed by the feed.

A room adds those whom its own acts bring into being; all others, and what other rooms change, come with the feed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.postgresql import insert

from npd.common.v1 import person_pb2
from services.mesh.core.following import FollowedChange
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import IdentityMismatch, PersonDeceased, PersonUnknown, StatedIdentity
from services.mesh.core.tables import CHAIN_LINKS, PEOPLE, PEOPLE_PINS

FOLLOWED = frozenset({"pin", "full_name", "birth_date", "sex", "death_or_missing"})
"""The paths of the feed from which people are known."""

_DECEASED = {person_pb2.DEATH_OR_MISSING_KIND_DEAD, person_pb2.DEATH_OR_MISSING_KIND_DECLARED_DEAD}


@dataclass(frozen=True, slots=True)
class Name:
    """A name as registered; parts may be empty, `full` is empty only while it is not known."""

    family: str
    middle: str
    given: str
    full: str


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """A person as this room knows him. `birth_date.year` 0 and `sex` 0 (npd.common.v1.Sex): not known."""

    subject_id: UUID
    pin: str
    name: Name
    birth_date: PartialDate
    sex: int
    is_deceased: bool = False


class People:
    """The people, inside a transaction. `room` is this room's name."""

    def __init__(self, connection: Connection, room: str) -> None:
        self._connection = connection
        self._room = room

    def find(self, pin: str) -> KnownPerson | None:
        """Whose number it is or was, not locked."""
        wanted = PEOPLE.join(PEOPLE_PINS, PEOPLE_PINS.c.subject_id == PEOPLE.c.subject_id)
        row = self._connection.execute(PEOPLE.select().select_from(wanted).where(PEOPLE_PINS.c.pin == pin)).first()
        return _person(row) if row else None

    def match(self, stated: StatedIdentity) -> KnownPerson | None:
        """The person whose number, name and birth date are stated, for a read; None if they do not all match."""
        person = self.find(stated.pin)
        return person if person and stated.matches(text.name_key(person.name.full), person.birth_date) else None

    def require(self, *stated: StatedIdentity) -> list[KnownPerson]:
        """The persons stated, in their order, locked until the transaction ends, for an act.

        Raises PersonUnknown, also for one of whom only the number has come yet, IdentityMismatch.
        """
        found = [self.find(one.pin) for one in stated]
        ids = [person.subject_id for person in found if person is not None and person.name.full]
        if len(ids) < len(stated):
            raise PersonUnknown()
        locked = self.lock(ids)
        persons = [locked[subject_id] for subject_id in ids]
        for one, person in zip(stated, persons, strict=True):
            if not one.matches(text.name_key(person.name.full), person.birth_date):
                raise IdentityMismatch()
        return persons

    def require_alive(self, *stated: StatedIdentity) -> list[KnownPerson]:
        """As `require`; raises PersonDeceased besides."""
        persons = self.require(*stated)
        if any(person.is_deceased for person in persons):
            raise PersonDeceased()
        return persons

    def lock(self, subject_ids: Iterable[UUID]) -> dict[UUID, KnownPerson]:
        """Those of the subjects who are known, locked in one order until the transaction ends."""
        wanted = PEOPLE.select().where(PEOPLE.c.subject_id.in_(list(subject_ids))).order_by(PEOPLE.c.subject_id)
        return {row.subject_id: _person(row) for row in self._connection.execute(wanted.with_for_update())}

    def put(self, person: KnownPerson, before: KnownPerson | None = None) -> None:
        """Know a person, or, if he was known `before`, as he is now; a former number of his still finds him."""
        values = {
            "subject_id": person.subject_id,
            "pin": person.pin,
            "family": person.name.family,
            "middle": person.name.middle,
            "given": person.name.given,
            "full_name": person.name.full,
            "birth_year": person.birth_date.year,
            "birth_month": person.birth_date.month,
            "birth_day": person.birth_date.day,
            "sex": person.sex,
            "is_deceased": person.is_deceased,
        }
        row = insert(PEOPLE).values(values)
        self._connection.execute(row.on_conflict_do_update(index_elements=[PEOPLE.c.subject_id], set_=values))
        if person.pin and (before is None or before.pin != person.pin):
            mine = insert(PEOPLE_PINS).values(pin=person.pin, subject_id=person.subject_id)
            self._connection.execute(mine.on_conflict_do_nothing())

    def note(self, change: FollowedChange) -> KnownPerson:
        """Take what a change says of a person, if it does, and return him as he is known now, locked.

        What an act in this room's chains told of somebody whom it knows it knows better already: an echo may be older
        than its newest act. What this room told before its store was restored to an older state is news.
        """
        known = self.lock([change.subject_id]).get(change.subject_id)
        if known is not None and change.source == self._room and self._did(change):
            return known
        noted = _noted(known or _nobody(change), change)
        if noted != known:
            self.put(noted, known)
        return noted

    def _did(self, change: FollowedChange) -> bool:
        mine = select(CHAIN_LINKS.c.link_id).where(
            CHAIN_LINKS.c.correlation_id == change.causation.correlation_id, CHAIN_LINKS.c.link_id == change.caused_by
        )
        return self._connection.execute(mine).first() is not None

    def note_history(self, change: FollowedChange) -> KnownPerson:
        """As `note`, of what is told in this room's name and is older than it: all of it, but no known person's number.

        The number is what the room itself tells: there an echo may be older than its newest act.
        """
        known = self.lock([change.subject_id]).get(change.subject_id)
        noted = _noted(known or _nobody(change), change)
        if known is not None:
            noted = replace(noted, pin=known.pin)
        if noted != known:
            self.put(noted, known)
        return noted


def _noted(known: KnownPerson, change: FollowedChange) -> KnownPerson:
    told, paths = person_pb2.Person.FromString(change.person), set(change.paths)
    name, birth = told.full_name, told.birth_date
    return KnownPerson(
        subject_id=known.subject_id,
        pin=told.pin if "pin" in paths and told.pin else known.pin,
        name=Name(name.family, name.middle, name.given, name.full) if "full_name" in paths else known.name,
        birth_date=PartialDate(birth.year, birth.month, birth.day) if "birth_date" in paths else known.birth_date,
        sex=int(told.sex) if "sex" in paths else known.sex,
        is_deceased=told.death_or_missing.kind in _DECEASED if "death_or_missing" in paths else known.is_deceased,
    )


def _nobody(change: FollowedChange) -> KnownPerson:
    return KnownPerson(change.subject_id, change.pin, Name("", "", "", ""), PartialDate(0), 0)


def _person(row: Row) -> KnownPerson:  # type: ignore[type-arg]
    return KnownPerson(
        subject_id=row.subject_id,
        pin=row.pin,
        name=Name(row.family, row.middle, row.given, row.full_name),
        birth_date=PartialDate(row.birth_year, row.birth_month, row.birth_day),
        sex=row.sex,
        is_deceased=row.is_deceased,
    )
