"""Corrects what birth registrations say, also those that history made."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Final
from uuid import UUID

from services.civil_status.domain import (
    ActKind,
    BirthAlreadyRegistered,
    Coded,
    CorrectedValues,
    CorrectionFacts,
    Facts,
    NothingCorrected,
    Place,
    RegisteredAct,
    Relative,
    birth_keys,
    require_born_before,
    require_number_year,
    require_unit_of_its_list,
)
from services.civil_status.operations.kin import day_of_status, death_day, lock_kin, spouse_in_force
from services.civil_status.operations.office import Filing, Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act
from services.mesh.core.errors import InvalidField
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import require_happened
from services.mesh.core.rights import Access, Mode
from services.mesh.core.telling import Told

_BIRTH_DATE: Final = "correction.birth_date"
_DETAILS: Final[tuple[tuple[str, type[Place | Coded]], ...]] = (
    ("place_of_birth", Place),
    ("hometown", Place),
    ("ethnicity", Coded),
)


class CorrectionOperations:
    """Corrections."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def correct_birth(
        self, caller: Caller, access: Access, correction: CorrectionFacts, key: AnswerKey
    ) -> RegisteredAct:
        """Correct what a birth registration says of a person, living or dead.

        What differs from what is registered is told as of the act's time; so are the names of the person where the
        records of his spouse and his parents hold them. A correction of the birth year makes `identity` give another
        number, by its own reaction.
        Raises what `Policy.authorise` raises, PersonUnknown, IdentityMismatch, EventInFuture, EventBeforeBirth,
        NothingCorrected, BirthAlreadyRegistered, InvalidField, RequestIdReused, Overloaded.
        Source: Law 60/2014 Art. 3 clause 1 (dd); Decree 70/2024 Art. 11 clause 7.
        """
        office, values = self._office, correction.values
        office.require_room()
        filing = Filing(caller, key, office.authorise(caller, access, Mode.REGISTER, values.paths), values.paths)
        with office.database.transaction() as tx, tx.answers.once(caller, key, RegisteredAct) as answer:
            if answer.given:
                return answer.given
            meant = tx.people.find(correction.identity.pin)
            kin = lock_kin(tx, meant.subject_id) if meant else {}
            (person,) = tx.people.require(correction.identity)
            corrected = _corrected(person, values)
            require_happened(correction.decision_date, "decision_date", office.today, corrected.birth_date)
            _require_places(values)
            if values.birth_date is not None:
                _require_possible(tx, person, values.birth_date, kin, office.today)
            paths = list(_differing(tx, person, values))
            if not paths:
                raise NothingCorrected()
            act = office.begin(ActKind.CORRECTION, filing, [tx.statuses.of(subject_id) for subject_id in kin])
            _keep(tx, corrected, values, paths)
            facts = Facts(**{path: getattr(values, path) for path in paths})
            told = [office.told(person.subject_id, person.pin, facts, paths, act.time)]
            if "full_name" in paths:
                told += self._rename(tx, corrected, act)
            registered = RegisteredAct(
                act.act_id, ActKind.CORRECTION, correction.decision_date, act.time, correction.entry_number
            )
            return answer.give(office.register(tx, filing, act, registered, [person.subject_id], told))

    def _rename(self, tx: CivilRegister, person: KnownPerson, act: Act) -> Iterator[Told]:
        """The person under his new name, in the records of his spouse and his parents."""
        office, named = self._office, Relative(person.name, person.pin)
        spouse = spouse_in_force(tx, person.subject_id)
        if spouse is not None:
            tx.statuses.put(replace(spouse, is_own=True, told_time=act.time))
            pin = tx.statuses.named(spouse.subject_id).pin
            yield office.told(spouse.subject_id, pin, Facts(spouses=(named,)), ("spouses",), act.time)
        for parent in tx.births.parents_of(person.subject_id):
            if parent.subject_id is not None:
                pin = tx.statuses.named(parent.subject_id).pin
                yield office.told(parent.subject_id, pin, Facts(children=(named,)), ("children",), act.time)


def _corrected(person: KnownPerson, values: CorrectedValues) -> KnownPerson:
    day = values.birth_date
    birth = PartialDate(day.year, day.month, day.day) if day else person.birth_date
    return replace(person, name=values.full_name or person.name, birth_date=birth)


def _require_possible(
    tx: CivilRegister, person: KnownPerson, birth: date, kin: Mapping[UUID, KnownPerson], today: date
) -> None:
    """A corrected birth has a number's year, follows that of the parents, and precedes marriage and death."""
    require_happened(birth, _BIRTH_DATE, today)
    require_number_year(birth, _BIRTH_DATE)
    for parent in tx.births.parents_of(person.subject_id):
        if parent.subject_id is not None:
            require_born_before(kin[parent.subject_id].birth_date, birth, _BIRTH_DATE)
    married_on = day_of_status(tx, tx.statuses.of(person.subject_id), ActKind.MARRIAGE)
    for day, what in ((married_on, "marriage"), (death_day(tx, person.subject_id), "death")):
        if day is not None and birth > day:
            raise InvalidField(_BIRTH_DATE, f"must not lie after the {what}")


def _require_places(values: CorrectedValues) -> None:
    for name in ("place_of_birth", "hometown"):
        place = getattr(values, name)
        if place is not None:
            require_unit_of_its_list(place, f"correction.{name}")


def _differing(tx: CivilRegister, person: KnownPerson, values: CorrectedValues) -> Iterator[str]:
    """The paths whose value is not registered already; what this room does not know it takes for different."""
    if values.full_name is not None and values.full_name != person.name:
        yield "full_name"
    day = values.birth_date
    if day is not None and PartialDate(day.year, day.month, day.day) != person.birth_date:
        yield "birth_date"
    for path, shape in _DETAILS:
        value = getattr(values, path)
        if value is not None and value != tx.births.detail(person.subject_id, path, shape):
            yield path


def _keep(tx: CivilRegister, person: KnownPerson, values: CorrectedValues, paths: list[str]) -> None:
    """Register the corrected values. Raises BirthAlreadyRegistered if they make it another birth registered here.

    The birth's keys follow: as it was called before, another child may be registered.
    """
    for path, _ in _DETAILS:
        if path in paths:
            tx.births.keep_detail(person.subject_id, path, getattr(values, path))
    tx.people.put(person)
    ties = tx.births.ties(person.subject_id)
    if ties is not None and {"full_name", "birth_date"} & set(paths):
        keys = birth_keys(person.name.full, person.birth_date.first_day(), ties)
        if not tx.births.claim(keys, ties, person.subject_id):
            raise BirthAlreadyRegistered()
