"""Records marriages."""

from dataclasses import replace

from services.civil_status.domain import (
    ActKind,
    Before,
    Facts,
    MaritalStatus,
    Marriage,
    MarriageFacts,
    PersonMarried,
    RegisteredAct,
    Relative,
    SamePerson,
    event_time,
    require_not_before,
)
from services.civil_status.operations.kin import day_of_status
from services.civil_status.operations.office import MARRIAGE_PATHS, Filing, Office
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.person.stated import require_happened
from services.mesh.core.rights import Access, Mode


class MarriageOperations:
    """Marriages."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def record_marriage(self, caller: Caller, access: Access, marriage: MarriageFacts, key: AnswerKey) -> RegisteredAct:
        """Record a marriage of two living persons who are not married.

        Both are locked first, in one order: of two marriages of one person at once the later finds him married.
        Raises what `Policy.authorise` raises, PersonUnknown, IdentityMismatch, PersonDeceased, SamePerson,
        PersonMarried, EventInFuture, EventBeforeBirth, InvalidField (before the death that widowed one of them),
        RequestIdReused, Overloaded.
        Source: Law 60/2014 Art. 3 clause 1 (b); Law 52/2014 Art. 5 clause 2.
        """
        office = self._office
        office.require_room()
        filing = Filing(caller, key, office.authorise(caller, access, Mode.REGISTER, MARRIAGE_PATHS), MARRIAGE_PATHS)
        with office.database.transaction() as tx, tx.answers.once(caller, key, RegisteredAct) as answer:
            if answer.given:
                return answer.given
            if marriage.first.pin == marriage.second.pin:
                raise SamePerson()
            spouses = tx.people.require_alive(marriage.first, marriage.second)
            if spouses[0].subject_id == spouses[1].subject_id:  # under a former number of his
                raise SamePerson()
            statuses = [tx.statuses.of(spouse.subject_id) for spouse in spouses]
            if any(status.marital is MaritalStatus.MARRIED for status in statuses):
                raise PersonMarried()
            for spouse in spouses:
                require_happened(marriage.day, "marriage_date", office.today, spouse.birth_date)
            for status in statuses:
                widowed_on = day_of_status(tx, status, ActKind.DEATH)
                require_not_before(marriage.day, widowed_on, "marriage_date", "the death that ended the last marriage")
            act = office.begin(ActKind.MARRIAGE, filing, statuses)
            told = []
            for spouse, other, status in zip(spouses, reversed(spouses), statuses, strict=True):
                time = event_time(marriage.day, status.told_time)
                facts = Facts(marital_status=MaritalStatus.MARRIED, spouses=(Relative(other.name, other.pin),))
                told.append(office.told(spouse.subject_id, spouse.pin, facts, MARRIAGE_PATHS, time))
                tx.statuses.put(
                    replace(
                        status,
                        marital=MaritalStatus.MARRIED,
                        spouse_id=other.subject_id,
                        act_id=act.act_id,
                        is_own=True,
                        told_time=time,
                    )
                )
            first, second = (Before(status.subject_id, status.marital, status.act_id) for status in statuses)
            tx.unions.add(Marriage(act.act_id, first, second))
            registered = RegisteredAct(act.act_id, ActKind.MARRIAGE, marriage.day, act.time, marriage.entry_number)
            ids = [spouse.subject_id for spouse in spouses]
            return answer.give(office.register(tx, filing, act, registered, ids, told))
