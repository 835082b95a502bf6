"""Registers births. The number comes from the room `identity`, asked for outside any transaction."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from services.civil_status.births_repository import Parent
from services.civil_status.domain import (
    ActKind,
    BirthAlreadyRegistered,
    BirthFacts,
    BirthTies,
    Facts,
    MaritalStatus,
    RegisteredAct,
    RegisteredBirth,
    Relative,
    Reservation,
    ReservePin,
    Role,
    SamePerson,
    Status,
    birth_keys,
    day_start,
    require_born_before,
    require_units,
    reservation_id,
)
from services.civil_status.operations.office import Filing, Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, Causation
from services.mesh.core.errors import PeerUnavailable
from services.mesh.core.outbox import Message
from services.mesh.core.people import KnownPerson
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import IdentityMismatch, PersonUnknown, require_happened
from services.mesh.core.rights import Access, Mode
from services.mesh.core.telling import Told

REQUIRED_PATHS: Final = ("full_name", "birth_date", "sex", "birth_registration_place")
_TOLD_PATHS: Final = (
    *REQUIRED_PATHS,
    "place_of_birth",
    "hometown",
    "ethnicity",
    "nationalities",
    "marital_status",
)
_ATTEMPTS: Final = 8

Confirm = Callable[[Reservation, Causation], Message]
"""Makes the message by which `identity` learns that a birth took its number."""


class _NotAnswered(Exception):
    """The request was not answered before; undoes the look that found it out."""


@dataclass(frozen=True, slots=True)
class _Family:
    mother: Parent | None
    father: Parent | None
    ties: BirthTies

    @property
    def parents(self) -> list[Parent]:
        return [parent for parent in (self.mother, self.father) if parent is not None]


class BirthOperations:
    """Births."""

    def __init__(self, office: Office, reserve: ReservePin, confirm: Confirm) -> None:
        self._office = office
        self._reserve = reserve
        self._confirm = confirm

    def register_birth(self, caller: Caller, access: Access, birth: BirthFacts, key: AnswerKey) -> RegisteredBirth:
        """Register a birth.

        1. The ground is confirmed.
        2. A look whether the request was answered, or the birth registered, before: then `identity` is not asked.
        3. `identity` reserves the number; while it is away nothing is registered. A repeat gets the same number.
        4. One transaction writes the birth, and what confirms the number and tells of child and parents.

        Raises what `Policy.authorise` raises, EventInFuture, PlaceCodeUnknown, PersonUnknown, SamePerson,
        IdentityMismatch (a parent's name), InvalidField (a parent not born before the child), BirthAlreadyRegistered,
        PeerUnavailable, what `identity` refuses, RequestIdReused, Overloaded.
        Source: Law 60/2014 Art. 3 clause 1 (a); Decree 137/2015 Art. 13.
        """
        office = self._office
        office.require_room()
        filing = Filing(caller, key, office.authorise(caller, access, Mode.REGISTER, REQUIRED_PATHS), REQUIRED_PATHS)
        if given := self._look(caller, birth, key):
            return given
        reservation = self._reserve_pin(caller, access, birth, key)
        with office.database.transaction() as tx, tx.answers.once(caller, key, RegisteredBirth) as answer:
            if answer.given:
                return answer.given
            family = _family(tx, birth)
            keys = birth_keys(birth.name.full, birth.birth_date, family.ties)
            if not tx.births.claim(keys, family.ties, reservation.subject_id):
                raise BirthAlreadyRegistered()
            act = office.begin(ActKind.BIRTH, filing)
            registered = RegisteredAct(act.act_id, ActKind.BIRTH, birth.birth_date, act.time, birth.entry_number)
            _write(tx, birth, family, reservation, act)
            told = [self._child(birth, family, reservation), *self._parents(birth, family, reservation)]
            tx.outbox.put(self._confirm(reservation, act.causation))
            office.register(tx, filing, act, registered, [reservation.subject_id], told)
            return answer.give(RegisteredBirth(registered, reservation.pin))

    def _look(self, caller: Caller, birth: BirthFacts, key: AnswerKey) -> RegisteredBirth | None:
        """The answer given before, if one was; else what can be refused already is. Leaves nothing written."""
        office = self._office
        with (
            suppress(_NotAnswered),
            office.database.transaction() as tx,
            tx.answers.once(caller, key, RegisteredBirth) as answer,
        ):
            if answer.given:
                return answer.given
            require_happened(birth.birth_date, "birth.birth_date", office.today)
            require_units(birth, office.today)
            ties = _family(tx, birth).ties
            if tx.births.is_registered(birth_keys(birth.name.full, birth.birth_date, ties), ties):
                raise BirthAlreadyRegistered()
            raise _NotAnswered()
        return None

    def _reserve_pin(self, caller: Caller, access: Access, birth: BirthFacts, key: AnswerKey) -> Reservation:
        """A number that is still reserved; a repeat after the first one expired gets another."""
        ground = Access(access.agreement_id, access.case_reference, access.officer_id, caller.identity)
        for attempt in range(_ATTEMPTS):
            reservation = self._reserve(reservation_id(caller, key, attempt), ground, birth)
            if reservation.expire_time > self._office.clock.now():
                return reservation
        raise PeerUnavailable("identity")

    def _child(self, birth: BirthFacts, family: _Family, reservation: Reservation) -> Told:
        facts = Facts(
            full_name=birth.name,
            birth_date=birth.birth_date,
            sex=birth.sex,
            place_of_birth=birth.place_of_birth,
            birth_registration_place=birth.registration_place,
            hometown=birth.hometown,
            ethnicity=birth.ethnicity,
            nationalities=birth.nationalities,
            marital_status=MaritalStatus.SINGLE,
            mother=family.mother.named if family.mother else None,
            father=family.father.named if family.father else None,
        )
        parents = [parent.role.name.lower() for parent in family.parents]
        paths = [*_TOLD_PATHS, *parents]
        return self._office.told(reservation.subject_id, reservation.pin, facts, paths, day_start(birth.birth_date))

    def _parents(self, birth: BirthFacts, family: _Family, reservation: Reservation) -> list[Told]:
        facts, time = Facts(children=(Relative(birth.name, reservation.pin),)), day_start(birth.birth_date)
        return [
            self._office.told(parent.subject_id, parent.named.pin, facts, ("children",), time)
            for parent in family.parents
            if parent.subject_id is not None
        ]


def _family(tx: CivilRegister, birth: BirthFacts) -> _Family:
    """The parents, those with a number locked. Raises PersonUnknown, SamePerson, IdentityMismatch, InvalidField."""
    stated = {Role.MOTHER: birth.mother, Role.FATHER: birth.father}
    found = {role: tx.people.find(parent.pin) for role, parent in stated.items() if parent and parent.pin}
    ids = {role: person.subject_id if person else None for role, person in found.items()}
    if None in ids.values():
        raise PersonUnknown()
    if len(set(ids.values())) < len(ids):
        raise SamePerson()
    locked = tx.people.lock(subject_id for subject_id in ids.values() if subject_id)

    def parent_of(role: Role) -> Parent | None:
        parent, subject_id = stated[role], ids.get(role)
        if parent is None or subject_id is None:
            return Parent(role, None, parent) if parent else None
        known = locked[subject_id]
        is_named = parent.name.full and known.name.full
        if is_named and text.name_key(parent.name.full) != text.name_key(known.name.full):
            raise IdentityMismatch()
        require_born_before(known.birth_date, birth.birth_date, f"birth.{role.name.lower()}.pin")
        name = parent.name if parent.name.full else known.name
        return Parent(role, subject_id, Relative(name, known.pin, parent.nationality))

    mother, father = parent_of(Role.MOTHER), parent_of(Role.FATHER)
    mother_name = text.name_key(mother.named.name.full) if mother else ""
    mother_id = mother.subject_id if mother else None
    return _Family(mother, father, BirthTies(birth.sex, mother_id, mother_name, birth.registration_place.unit_code))


def _write(tx: CivilRegister, birth: BirthFacts, family: _Family, reservation: Reservation, act: Act) -> None:
    day, subject_id = birth.birth_date, reservation.subject_id
    known = KnownPerson(subject_id, reservation.pin, birth.name, PartialDate(day.year, day.month, day.day), birth.sex)
    tx.people.put(known)
    tx.births.add(subject_id, act.act_id, family.ties, family.parents)
    for path in ("place_of_birth", "hometown", "ethnicity"):
        tx.births.keep_detail(subject_id, path, getattr(birth, path))
    tx.statuses.put(
        Status(
            subject_id,
            MaritalStatus.SINGLE,
            act_id=act.act_id,
            is_own=True,
            told_time=day_start(day),
        )
    )
