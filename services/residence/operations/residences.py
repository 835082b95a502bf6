"""Residences: registered and closed by officers, closed by a death, and taken over from the record's history."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from uuid import uuid4

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, ActUnknown, Causation
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.stated import require_happened
from services.mesh.core.rights import Access, Mode, Policy
from services.residence.domain import (
    AlreadyResident,
    Closing,
    ClosingGround,
    HeldResidence,
    NewResidence,
    Residence,
    ResidenceAct,
    ResidenceKind,
    ResidenceUnknown,
)
from services.residence.household import Rehousing
from services.residence.operations.effects import MEMBERSHIP_PATHS, PERMANENT_PATHS, TEMPORARY_PATHS, Effects
from services.residence.operations.households import rehouse
from services.residence.repository import ResidenceUnit

_PATHS = {ResidenceKind.PERMANENT: PERMANENT_PATHS, ResidenceKind.TEMPORARY: TEMPORARY_PATHS}


class ResidenceOperations:
    """Keeps people's residences. `require_room` raises Overloaded while too much waits to be handed on."""

    def __init__(
        self,
        database: Database[ResidenceUnit],
        policy: Callable[[], Policy],
        clock: Clock,
        effects: Effects,
        require_room: Callable[[], None],
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._effects = effects
        self._require_room = require_room

    def register_residence(self, caller: Caller, access: Access, new: NewResidence, key: AnswerKey) -> ResidenceAct:
        """Register a residence.

        1. The person lives, and his row is locked: of two registrations at once the later sees the earlier.
        2. The first day has come, not before the birth, and the address lay in a commune on it.
        3. What the act is said to follow is known to concern him.
        4. Who lives there already keeps his residence, and only changes his household.
        5. The new residence replaces what it cannot stand beside, or is refused.
        6. With a permanent residence the person leaves his household, and founds or joins the one stated.
        7. The record is told of him, and of everybody whose household has changed.

        Raises what Policy.authorise raises, PersonUnknown, IdentityMismatch, PersonDeceased, EventInFuture,
        EventBeforeBirth, PlaceCodeUnknown, ActUnknown, AlreadyResident, ResidenceInSameCommune, HouseholdUnknown,
        HouseholdFull, InvalidField, Overloaded. Source: Residence Law 68/2020; DOMAIN.md 2.4.
        """
        self._require_room()
        today = legal_date(self._clock.now())
        ground = self._policy().authorise(caller.agency_id, caller.system_id, access, Mode.REGISTER, new.paths, today)
        with self._db.transaction() as tx, tx.answers.once(caller, key, ResidenceAct) as answer:
            if answer.given:
                return answer.given
            (person,) = tx.people.require_alive(new.identity)  # (1)
            require_happened(new.start_date, "start_date", today, person.birth_date)  # (2)
            new.address.require_commune(new.start_date)
            if new.follows is not None and not tx.followed.has_heard(person.subject_id, new.follows):  # (3)
                raise ActUnknown()
            history = tx.residences.of_person(person.subject_id)
            home = history.home_of(new)  # (4)
            if home is not None and new.is_joining(tx.households.id_of(person.subject_id)):
                raise AlreadyResident()
            ended = [] if home else history.closed_by(new, today)  # (5)
            rehousing = Rehousing()
            if new.kind is ResidenceKind.PERMANENT:
                rehousing = rehouse(tx, person, new.joining)  # (6)
            joined = rehousing.joined
            household_id = joined.household_id if joined else None
            residence = replace(home or new.residence_of(person.subject_id), household_id=household_id)
            tx.residences.put(*ended, residence)
            act = Act.begun("residence.register_residence", caller, access, self._clock.now(), new.follows)
            registered = {path for one in (*ended, residence) for path in _PATHS[one.kind]}
            paths = MEMBERSHIP_PATHS if home else sorted(registered)
            now_held = history.with_each(*ended, residence)
            told = [  # (7)
                self._effects.resident(person, now_held, joined, paths, act.time),
                *self._effects.others(rehousing, person.subject_id, act.time),
            ]
            self._effects.by_officer(tx, act, caller, key.method, ground, person.subject_id, told)
            self._effects.vacate_head(tx, rehousing, person.subject_id, act)
            return answer.give(ResidenceAct(residence, act.act_id))

    def close_residence(self, caller: Caller, access: Access, closing: Closing, key: AnswerKey) -> ResidenceAct:
        """Close a residence on a ground of the law; with a permanent one the person leaves his household.

        Raises what Policy.authorise raises, ResidenceUnknown, StateNotAllowed, EventInFuture, InvalidField, Overloaded.
        Source: Residence Law 68/2020 Art. 24, 29.
        """
        self._require_room()
        policy, today = self._policy(), legal_date(self._clock.now())
        policy.authorise(caller.agency_id, caller.system_id, access, Mode.REGISTER, (), today)
        with self._db.transaction() as tx, tx.answers.once(caller, key, ResidenceAct) as answer:
            if answer.given:
                return answer.given
            found = tx.residences.find(closing.residence_id)
            if found is None:
                raise ResidenceUnknown()
            paths = (found.kind.path,)
            ground = policy.authorise(caller.agency_id, caller.system_id, access, Mode.REGISTER, paths, today)
            person = tx.people.lock([found.subject_id])[found.subject_id]
            history = tx.residences.of_person(person.subject_id)
            residence = next((one for one in history.residences if one.residence_id == found.residence_id), None)
            if residence is None:
                raise ResidenceUnknown()
            require_happened(closing.closing_date, "closing_date", today)
            closed = residence.closed(closing.ground, closing.closing_date)
            tx.residences.put(closed)
            rehousing = _departure(tx, person, closed)
            act = Act.begun("residence.close_residence", caller, access, self._clock.now())
            told = [
                self._effects.resident(person, history.with_each(closed), None, _PATHS[closed.kind], act.time),
                *self._effects.others(rehousing, person.subject_id, act.time),
            ]
            self._effects.by_officer(tx, act, caller, key.method, ground, person.subject_id, told)
            self._effects.vacate_head(tx, rehousing, person.subject_id, act)
            return answer.give(ResidenceAct(closed, act.act_id))

    def close_by_death(self, tx: ResidenceUnit, person: KnownPerson, cause: Causation, *, is_news: bool) -> None:
        """Close the residences of somebody who is dead, and let him leave his household, by one act.

        If he has neither, the act says so when the death `is_news`: the law's clock waits for it. Otherwise nothing
        happens. Source: Residence Law 68/2020 Art. 24, 29.
        """
        history = tx.residences.of_person(person.subject_id)
        in_force = [one for one in history.residences if one.is_active]
        rehousing = rehouse(tx, person, None)
        if not in_force and rehousing.left is None and not is_news:
            return
        now = self._clock.now()
        today = legal_date(now)
        closed = [one.closed(ClosingGround.DEATH, max(today, one.start_date or date.min)) for one in in_force]
        tx.residences.put(*closed)
        paths = {path for one in closed for path in _PATHS[one.kind]}
        if rehousing.left is not None:
            paths.update(MEMBERSHIP_PATHS)
        told = self._effects.others(rehousing, person.subject_id, now)
        if paths:
            told.insert(0, self._effects.resident(person, history.with_each(*closed), None, sorted(paths), now))
        name, outcome = "residence.close_residence", "" if closed else "NOTHING_TO_CLOSE"
        act = self._effects.by_itself(tx, name, cause, person.subject_id, told, now, outcome=outcome)
        self._effects.vacate_head(tx, rehousing, person.subject_id, act)

    def adopt(self, tx: ResidenceUnit, person: KnownPerson, held: HeldResidence) -> None:
        """Know a residence from the record, as long as this room has no word of its own on it: it can then be closed.

        An adopted residence follows the record; the record is told nothing, for it said so itself.
        """
        history = tx.residences.of_person(person.subject_id)
        if history.has_word_on(held.kind):
            return
        adopted = history.active(held.kind)
        if held.address is None:
            if adopted is not None:
                tx.residences.forget(adopted)
            return
        residence = adopted or Residence(
            residence_id=uuid4(),
            subject_id=person.subject_id,
            kind=held.kind,
            address=held.address,
            start_date=held.start_date,
            is_adopted=True,
        )
        tx.residences.put(replace(residence, address=held.address, start_date=held.start_date, end_date=held.end_date))


def _departure(tx: ResidenceUnit, person: KnownPerson, closed: Residence) -> Rehousing:
    """Who closes his permanent residence leaves his household."""
    return rehouse(tx, person, None) if closed.kind is ResidenceKind.PERMANENT else Rehousing()
