"""People whom acts relate: who is married to whom, who is named in whose record, and how they are locked."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from uuid import UUID

from services.civil_status.domain import ActKind, Facts, MaritalStatus, Relative, Status
from services.civil_status.operations.office import MARRIAGE_PATHS, Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.people import KnownPerson
from services.mesh.core.telling import Told


def lock_kin(tx: CivilRegister, subject_id: UUID) -> dict[UUID, KnownPerson]:
    """Lock a person, and those whose records name him: spouse and parents, in the one order in which every act locks.

    What is told of a record is so told in the order of what it says. Who the spouse is stands still only once the
    person is locked. If somebody married him meanwhile, the spouse is locked out of order: should that ever meet its
    opposite, the store refuses one of the two, who may try again.
    """
    locked, tried = dict[UUID, KnownPerson](), set[UUID]()
    while not (kin := _kin(tx, subject_id)) <= tried:
        locked |= tx.people.lock(kin)
        tried |= kin
    return locked


def spouse_in_force(tx: CivilRegister, subject_id: UUID) -> Status | None:
    """The status of the spouse by a marriage in force: the same act, or the same history, made both MARRIED."""
    status = tx.statuses.of(subject_id)
    if status.marital is not MaritalStatus.MARRIED or status.spouse_id is None:
        return None
    spouse = tx.statuses.of(status.spouse_id)
    is_mutual = spouse.marital is MaritalStatus.MARRIED and spouse.act_id == status.act_id
    return spouse if is_mutual else None


def listed_spouses(tx: CivilRegister, subject_id: UUID) -> list[KnownPerson | None]:
    """Whom the record names as his spouses by the word of others; None: somebody not known here."""
    return [tx.people.find(pin) for pin in tx.statuses.listed_spouses(subject_id)]


def day_of_status(tx: CivilRegister, status: Status, kind: ActKind) -> date | None:
    """The day of the marriage or death that gave a person his status; None if no act of that kind here did."""
    act = tx.acts.find(status.act_id) if status.act_id else None
    return act.event_date if act and act.kind is kind else None


def death_day(tx: CivilRegister, subject_id: UUID) -> date | None:
    """The day of a person's death, if it is registered here and not annulled."""
    death = tx.unions.standing_death(subject_id)
    act = tx.acts.find(death.act_id) if death else None
    return act.event_date if act else None


def history_told(office: Office, tx: CivilRegister, status: Status, spouse: KnownPerson, time: datetime) -> Told:
    """A marriage of history, told as this room's own word: only what a source told can it take back."""
    facts = Facts(marital_status=status.marital, spouses=(Relative(spouse.name, spouse.pin),))
    return office.told(status.subject_id, tx.statuses.named(status.subject_id).pin, facts, MARRIAGE_PATHS, time)


def end_marriage(
    office: Office, tx: CivilRegister, dead: KnownPerson, widow: KnownPerson, act_id: UUID, start: datetime
) -> Iterator[Told]:
    """A death ends a marriage: the dead person died married, the spouse is WIDOWED by that act.

    `start` is when it is told to have happened, unless this room's latest word is later.
    """
    lost, left = tx.statuses.of(dead.subject_id), tx.statuses.of(widow.subject_id)
    lost_time, left_time = max(start, lost.told_time or start), max(start, left.told_time or start)
    if not lost.is_own:
        yield history_told(office, tx, lost, widow, lost_time)
    tx.statuses.put(replace(lost, is_own=True, told_time=lost_time))
    yield office.told(dead.subject_id, dead.pin, Facts(), ("spouses",), lost_time)
    if not left.is_own:
        yield history_told(office, tx, left, dead, left_time)
    widowed = replace(
        left, marital=MaritalStatus.WIDOWED, spouse_id=None, act_id=act_id, is_own=True, told_time=left_time
    )
    tx.statuses.put(widowed)
    yield office.told(widow.subject_id, widow.pin, Facts(marital_status=widowed.marital), MARRIAGE_PATHS, left_time)


def _kin(tx: CivilRegister, subject_id: UUID) -> set[UUID]:
    parents = [parent.subject_id for parent in tx.births.parents_of(subject_id)]
    listed = [spouse.subject_id for spouse in listed_spouses(tx, subject_id) if spouse]
    related = [tx.statuses.of(subject_id).spouse_id, *parents, *listed]
    return {subject_id, *(one for one in related if one is not None)}
