"""Registers deaths. A spouse who is known here is widowed by the same act."""

from dataclasses import replace

from services.civil_status.domain import (
    ActKind,
    Death,
    DeathFacts,
    Facts,
    RegisteredAct,
    day_start,
    event_time,
    require_not_before,
)
from services.civil_status.operations.kin import day_of_status, end_marriage, lock_kin, spouse_in_force
from services.civil_status.operations.office import DEATH_PATHS, Filing, Office
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.person.stated import require_happened
from services.mesh.core.rights import Access, Mode


class DeathOperations:
    """Deaths."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def register_death(self, caller: Caller, access: Access, death: DeathFacts, key: AnswerKey) -> RegisteredAct:
        """Register a death; a marriage in force ends by it: the spouse is widowed, the dead person died married.

        Raises what `Policy.authorise` raises, PersonUnknown, IdentityMismatch, PersonDeceased, EventInFuture,
        EventBeforeBirth, InvalidField (before the marriage), RequestIdReused, Overloaded.
        Source: Law 60/2014 Art. 3 clause 1 (e); Law 52/2014 Art. 65.
        """
        office = self._office
        office.require_room()
        filing = Filing(caller, key, office.authorise(caller, access, Mode.REGISTER, DEATH_PATHS), DEATH_PATHS)
        with office.database.transaction() as tx, tx.answers.once(caller, key, RegisteredAct) as answer:
            if answer.given:
                return answer.given
            if meant := tx.people.find(death.identity.pin):
                lock_kin(tx, meant.subject_id)
            (person,) = tx.people.require_alive(death.identity)
            require_happened(death.day, "death_date", office.today, person.birth_date)
            status, spouse = tx.statuses.of(person.subject_id), spouse_in_force(tx, person.subject_id)
            married_on = day_of_status(tx, status, ActKind.MARRIAGE)
            require_not_before(death.day, married_on, "death_date", "the marriage")
            act = office.begin(ActKind.DEATH, filing, [status, spouse] if spouse else [status])
            time = event_time(death.day, status.death_told_time)
            told = [office.told(person.subject_id, person.pin, Facts(death_date=death.day), DEATH_PATHS, time)]
            tx.people.put(replace(person, is_deceased=True))
            tx.statuses.put(replace(status, death_told_time=time))
            ended, ids = Death(act.act_id, person.subject_id), [person.subject_id]
            if spouse is not None:
                ended = replace(ended, spouse_id=spouse.subject_id, marriage_id=spouse.act_id)
                ids.append(spouse.subject_id)
                widow = tx.people.lock([spouse.subject_id])[spouse.subject_id]
                told += end_marriage(office, tx, person, widow, act.act_id, day_start(death.day))
            tx.unions.add_death(ended)
            registered = RegisteredAct(act.act_id, ActKind.DEATH, death.day, act.time, death.entry_number)
            return answer.give(office.register(tx, filing, act, registered, ids, told))
