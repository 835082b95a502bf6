"""Annuls marriages and deaths that were registered in error: what they changed returns to what it was."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from services.civil_status.domain import (
    ActKind,
    AnnulmentFacts,
    Before,
    Death,
    Facts,
    MaritalStatus,
    RegisteredAct,
    Relative,
    require_not_before,
)
from services.civil_status.operations.office import DEATH_PATHS, MARRIAGE_PATHS, Filing, Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, ActUnknown
from services.mesh.core.errors import StateNotAllowed
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.stated import require_happened
from services.mesh.core.rights import Access, Mode
from services.mesh.core.telling import Told

_PATHS: Final = {ActKind.MARRIAGE: MARRIAGE_PATHS, ActKind.DEATH: DEATH_PATHS}


class AnnulmentOperations:
    """Annulments."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def annul_act(self, caller: Caller, access: Access, annulment: AnnulmentFacts, key: AnswerKey) -> RegisteredAct:
        """Annul a marriage or a death, unless a later act stands on it.

        The caller's ground is confirmed before anything is said of the act, and then for what the act changed.
        Raises what `Policy.authorise` raises, ActUnknown, StateNotAllowed, EventInFuture, InvalidField,
        RequestIdReused, Overloaded.
        Source: Law 60/2014 Art. 3 clause 2 (dd), Art. 69 clause 1 (h); Law 52/2014 Art. 67.
        """
        office = self._office
        office.require_room()
        office.authorise(caller, access, Mode.REGISTER, ())
        with office.database.transaction() as tx, tx.answers.once(caller, key, RegisteredAct) as answer:
            if answer.given:
                return answer.given
            annulled = tx.acts.find(annulment.act_id)
            if annulled is None:
                raise ActUnknown()
            paths = _PATHS.get(annulled.kind, ())
            filing = Filing(caller, key, office.authorise(caller, access, Mode.REGISTER, paths), paths)
            require_happened(annulment.decision_date, "decision_date", office.today)
            require_not_before(annulment.decision_date, annulled.event_date, "decision_date", "the act annulled")
            if annulled.kind is ActKind.MARRIAGE:
                return answer.give(self._annul_marriage(tx, filing, annulment))
            if annulled.kind is ActKind.DEATH:
                return answer.give(self._annul_death(tx, filing, annulment))
            raise StateNotAllowed(object=f"act {annulment.act_id}", state=annulled.kind.name)

    def _annul_marriage(self, tx: CivilRegister, filing: Filing, annulment: AnnulmentFacts) -> RegisteredAct:
        marriage = tx.unions.find(annulment.act_id)
        befores, ids = (marriage.first, marriage.second), [marriage.first.subject_id, marriage.second.subject_id]
        widowed_by = [_widowed_by(tx, before) for before in befores]
        people = tx.people.lock([*ids, *(death.subject_id for death in widowed_by if death)])
        _require_standing(tx, annulment)
        if any(tx.statuses.of(subject_id).act_id != marriage.act_id for subject_id in ids):
            raise StateNotAllowed(object=f"act {annulment.act_id}", state="ENDED")
        returned = [death if death and _is_annulled(tx, death.act_id) else None for death in widowed_by]
        for death in returned:
            if death and not _is_free(tx, people[death.subject_id], death):
                raise StateNotAllowed(object=f"act {annulment.act_id}", state="FOLLOWS_ANNULLED")
        act = self._office.begin(ActKind.ANNULMENT, filing, [tx.statuses.of(subject_id) for subject_id in people])
        told: list[Told] = []
        for before, death in zip(befores, returned, strict=True):
            person = people[before.subject_id]
            told.append(self._return(tx, person, before, act, ("spouses",) if death else MARRIAGE_PATHS))
            if death:
                told += self._revive_marriage(tx, people[death.subject_id], person, death, act)
        return self._register(tx, filing, annulment, act, told)

    def _return(self, tx: CivilRegister, person: KnownPerson, before: Before, act: Act, paths: Sequence[str]) -> Told:
        """Make a spouse what he was before the marriage; `paths` are those that nothing else is told of then."""
        status = tx.statuses.of(person.subject_id)
        tx.statuses.put(
            replace(status, marital=before.marital, spouse_id=None, act_id=before.act_id, told_time=act.time)
        )
        facts = Facts(marital_status=before.marital) if "marital_status" in paths else Facts()
        return self._office.told(person.subject_id, person.pin, facts, paths, act.time)

    def _annul_death(self, tx: CivilRegister, filing: Filing, annulment: AnnulmentFacts) -> RegisteredAct:
        death, people = _locked_death(tx, annulment.act_id)
        _require_standing(tx, annulment)
        person = people[death.subject_id]
        act = self._office.begin(ActKind.ANNULMENT, filing, [tx.statuses.of(subject_id) for subject_id in people])
        tx.people.put(replace(person, is_deceased=False))
        tx.statuses.put(replace(tx.statuses.of(person.subject_id), death_told_time=act.time))
        told = [self._office.told(person.subject_id, person.pin, Facts(), DEATH_PATHS, act.time)]
        if death.spouse_id is not None:
            told += self._revive_marriage(tx, person, people[death.spouse_id], death, act)
        return self._register(tx, filing, annulment, act, told)

    def _revive_marriage(
        self, tx: CivilRegister, person: KnownPerson, spouse: KnownPerson, death: Death, act: Act
    ) -> Iterator[Told]:
        """What the annulment of a death, or of the marriage that stood in its way, does to what the death ended.

        1. If the spouse has married again since, that marriage stands and the old one stays ended. No value of the
           list says what the person is then, so none is told. Source: Law 52/2014 Art. 67 clause 2.
        2. Else it is in force again, and the spouse is MARRIED as before.
        3. Unless the spouse has died since: then that death ended it, and the person is WIDOWED by it.
        """
        office, mine, other = self._office, tx.statuses.of(person.subject_id), tx.statuses.of(spouse.subject_id)
        if other.act_id != death.act_id:  # (1)
            ended = replace(mine, marital=MaritalStatus.UNKNOWN, spouse_id=None, act_id=act.act_id, told_time=act.time)
            tx.statuses.put(ended)
            yield office.told(person.subject_id, person.pin, Facts(), MARRIAGE_PATHS, act.time)
            return
        married = replace(
            other,
            marital=MaritalStatus.MARRIED,
            spouse_id=person.subject_id,
            act_id=death.marriage_id,
            told_time=act.time,
        )
        tx.statuses.put(married)  # (2)
        facts = Facts(marital_status=married.marital, spouses=(Relative(person.name, person.pin),))
        yield office.told(spouse.subject_id, spouse.pin, facts, MARRIAGE_PATHS, act.time)
        later = tx.unions.standing_death(spouse.subject_id)
        if later is None:
            again = replace(married, subject_id=person.subject_id, spouse_id=spouse.subject_id)
            tx.statuses.put(replace(again, is_own=True, death_told_time=mine.death_told_time))
            facts = Facts(marital_status=again.marital, spouses=(Relative(spouse.name, spouse.pin),))
            yield office.told(person.subject_id, person.pin, facts, MARRIAGE_PATHS, act.time)
        else:  # (3)
            widowed = replace(
                mine, marital=MaritalStatus.WIDOWED, spouse_id=None, act_id=later.act_id, told_time=act.time
            )
            tx.statuses.put(widowed)
            tx.unions.end_by(Death(later.act_id, spouse.subject_id, person.subject_id, death.marriage_id))
            tx.acts.concern(later.act_id, person.subject_id)
            yield office.told(
                person.subject_id, person.pin, Facts(marital_status=widowed.marital), MARRIAGE_PATHS, act.time
            )

    def _register(
        self, tx: CivilRegister, filing: Filing, annulment: AnnulmentFacts, act: Act, told: list[Told]
    ) -> RegisteredAct:
        """Write the annulment as an act of the persons whom the annulled one is of."""
        tx.acts.annul(annulment.act_id, act.act_id)
        registered = RegisteredAct(
            act.act_id, ActKind.ANNULMENT, annulment.decision_date, act.time, annulment.entry_number
        )
        return self._office.register(tx, filing, act, registered, tx.acts.subjects_of(annulment.act_id), told)


def _locked_death(tx: CivilRegister, act_id: UUID) -> tuple[Death, dict[UUID, KnownPerson]]:
    """A death and its persons, locked: the annulment of an earlier death may have given it a marriage to end."""
    death = tx.unions.find_death(act_id)
    while death is not None:
        people = tx.people.lock({death.subject_id, death.spouse_id or death.subject_id})
        again = tx.unions.find_death(act_id)
        if again == death:
            return death, people
        death = again
    raise ActUnknown()


def _require_standing(tx: CivilRegister, annulment: AnnulmentFacts) -> None:
    """Under the lock of the act's persons, nobody else annuls it. Raises StateNotAllowed if somebody did."""
    act = tx.acts.find(annulment.act_id)
    if act is None or act.annulled_by is not None:
        raise StateNotAllowed(object=f"act {annulment.act_id}", state="ANNULLED")


def _widowed_by(tx: CivilRegister, before: Before) -> Death | None:
    """The death here, annulled or not, by which somebody was a widower before he married."""
    return tx.unions.find_death(before.act_id) if before.act_id and before.marital is MaritalStatus.WIDOWED else None


def _is_annulled(tx: CivilRegister, act_id: UUID) -> bool:
    act = tx.acts.find(act_id)
    return act is not None and act.annulled_by is not None


def _is_free(tx: CivilRegister, person: KnownPerson, death: Death) -> bool:
    """Whether somebody who came back from a death stands as its annulment left him: alive, and not married since."""
    act = tx.acts.find(death.act_id)
    is_as_left = act is not None and tx.statuses.of(person.subject_id).act_id == act.annulled_by
    return is_as_left and not person.is_deceased
