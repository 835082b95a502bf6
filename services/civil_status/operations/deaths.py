"""Registers deaths. A spouse who is known here is widowed by the same act."""

from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from services.civil_status.domain import (
    ActKind,
    Death,
    DeathFacts,
    Facts,
    MaritalStatus,
    RegisteredAct,
    Relative,
    Status,
    event_time,
)
from services.civil_status.operations.marriages import MARRIAGE_PATHS
from services.civil_status.operations.office import Filing, Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.stated import StatedIdentity, require_happened
from services.mesh.core.rights import Access, Mode
from services.mesh.core.telling import Told

DEATH_PATHS: Final = ("death_or_missing",)


class DeathOperations:
    """Deaths."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def register_death(self, caller: Caller, access: Access, death: DeathFacts, key: AnswerKey) -> RegisteredAct:
        """Register a death; a marriage in force ends by it: the spouse is widowed, the dead person died married.

        Raises what `Policy.authorise` raises, PersonUnknown, IdentityMismatch, PersonDeceased, EventInFuture,
        EventBeforeBirth, RequestIdReused, Overloaded.
        Source: Law 60/2014 Art. 3 clause 1 (e); Law 52/2014 Art. 65.
        """
        office = self._office
        office.require_room()
        filing = Filing(caller, key, office.authorise(caller, access, Mode.REGISTER, DEATH_PATHS), DEATH_PATHS)
        with office.database.transaction() as tx, tx.answers.once(caller, key, RegisteredAct) as answer:
            if answer.given:
                return answer.given
            _lock_couple(tx, death.identity)
            (person,) = tx.people.require_alive(death.identity)
            require_happened(death.day, "death_date", office.today, person.birth_date)
            act = office.begin(ActKind.DEATH, filing)
            status, spouse = tx.statuses.of(person.subject_id), spouse_in_force(tx, person.subject_id)
            time = event_time(death.day, status.death_told_time)
            told = [office.told(person.subject_id, person.pin, Facts(death_date=death.day), DEATH_PATHS, time)]
            tx.people.put(replace(person, is_deceased=True))
            status = replace(status, death_told_time=time)
            ended = Death(act.act_id, person.subject_id)
            if spouse is not None:
                ended = replace(ended, spouse_id=spouse.subject_id, marriage_id=spouse.act_id)
                ended_time = event_time(death.day, status.told_time)
                widow = tx.people.lock([spouse.subject_id])[spouse.subject_id]
                if not status.is_own:
                    told.append(history_told(office, tx, status, widow, ended_time))
                status = replace(status, is_own=True, told_time=ended_time)
                told.append(office.told(person.subject_id, person.pin, Facts(), ("spouses",), ended_time))
                widowed_time = event_time(death.day, spouse.told_time)
                if not spouse.is_own:
                    told.append(history_told(office, tx, spouse, person, widowed_time))
                told.append(self._widow(tx, spouse, act, widowed_time))
            tx.statuses.put(status)
            tx.unions.add_death(ended)
            registered = RegisteredAct(act.act_id, ActKind.DEATH, death.day, act.time, death.entry_number)
            return answer.give(office.register(tx, filing, act, registered, [person.subject_id], told))

    def _widow(self, tx: CivilRegister, spouse: Status, act: Act, time: datetime) -> Told:
        """Make the spouse of a dead person WIDOWED."""
        widowed = replace(
            spouse, marital=MaritalStatus.WIDOWED, spouse_id=None, act_id=act.act_id, is_own=True, told_time=time
        )
        tx.statuses.put(widowed)
        pin, facts = tx.statuses.named(spouse.subject_id).pin, Facts(marital_status=widowed.marital)
        return self._office.told(spouse.subject_id, pin, facts, MARRIAGE_PATHS, time)


def spouse_in_force(tx: CivilRegister, subject_id: UUID) -> Status | None:
    """The status of the spouse by a marriage in force: the same act, or the same history, made both MARRIED."""
    status = tx.statuses.of(subject_id)
    if status.marital is not MaritalStatus.MARRIED or status.spouse_id is None:
        return None
    spouse = tx.statuses.of(status.spouse_id)
    is_mutual = spouse.marital is MaritalStatus.MARRIED and spouse.act_id == status.act_id
    return spouse if is_mutual else None


def history_told(office: Office, tx: CivilRegister, status: Status, spouse: KnownPerson, time: datetime) -> Told:
    """A marriage of history, told as this room's own word: only what a source told can it take back."""
    facts = Facts(marital_status=status.marital, spouses=(Relative(spouse.name, spouse.pin),))
    return office.told(status.subject_id, tx.statuses.named(status.subject_id).pin, facts, MARRIAGE_PATHS, time)


def _lock_couple(tx: CivilRegister, identity: StatedIdentity) -> None:
    """Lock a person and his spouse, in the one order in which every act locks.

    Who the spouse is stands still only once the person is locked. If somebody married him meanwhile, the spouse is
    locked out of order: should that ever meet its opposite, the store refuses one of the two, who may try again.
    """
    person, locked = tx.people.find(identity.pin), set[UUID]()
    while person is not None:
        couple = {person.subject_id, tx.statuses.of(person.subject_id).spouse_id or person.subject_id}
        if couple <= locked:
            return
        locked |= tx.people.lock(couple).keys()
