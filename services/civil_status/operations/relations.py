"""Follows what other rooms tell of people whom acts of this room relate to each other."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from uuid import UUID

from services.civil_status.domain import (
    ROOM_NAME,
    Facts,
    MaritalStatus,
    Relative,
    Role,
    Status,
    adopted_marriage_id,
)
from services.civil_status.operations.kin import end_marriage, history_told, listed_spouses, spouse_in_force
from services.civil_status.operations.office import Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Act, Causation
from services.mesh.core.people import KnownPerson
from services.mesh.core.telling import Told

FOLLOW_PIN: Final = "civil_status.follow_pin"
WIDOW: Final = "civil_status.widow"


class RelationOperations:
    """What changes elsewhere do here, inside the follower's transaction. `identity` is this room's URI."""

    def __init__(self, office: Office, identity: str) -> None:
        self._office = office
        self._self = Caller(identity, CallerKind.ROOM, ROOM_NAME)

    def adopt_status(self, tx: CivilRegister, subject_id: UUID, marital: MaritalStatus) -> None:
        """Keep a marital status that others told, unless this room has a word of its own."""
        status = tx.statuses.of(subject_id)
        if not status.is_own:
            is_married = marital is MaritalStatus.MARRIED
            tx.statuses.put(replace(status, marital=marital, spouse_id=status.spouse_id if is_married else None))

    def adopt_marriages(self, tx: CivilRegister, person: KnownPerson, because: Causation) -> None:
        """Tie together a couple of whose marriage only the record tells, so that the death of one widows the other.

        Each must be named by the other's record. A word of this room's own on either stands above the record's. If one
        of them is dead already, and the record names nobody else who may live, the other is widowed now: of a death
        before its history nobody else would ever say so.
        """
        listed = [one for one in listed_spouses(tx, person.subject_id) if one and one.subject_id != person.subject_id]
        for spouse in sorted(listed, key=lambda one: one.is_deceased):
            if _are_of_history(tx, person, spouse):
                marriage_id = adopted_marriage_id(person.subject_id, spouse.subject_id)
                for one, other in ((person, spouse), (spouse, person)):
                    status = tx.statuses.of(one.subject_id)
                    tx.statuses.put(replace(status, spouse_id=other.subject_id, act_id=marriage_id))
                if person.is_deceased != spouse.is_deceased:
                    dead, living = (person, spouse) if person.is_deceased else (spouse, person)
                    if all(one and one.is_deceased for one in listed_spouses(tx, living.subject_id)):
                        self._widow(tx, dead, living, because)
                return

    def _widow(self, tx: CivilRegister, dead: KnownPerson, living: KnownPerson, because: Causation) -> None:
        """End a marriage of history by a death; by that death's act if it is registered here, so by its annulment."""
        office, death = self._office, tx.unions.standing_death(dead.subject_id)
        status = tx.statuses.of(living.subject_id)
        time = office.time_after([tx.statuses.of(dead.subject_id), status])
        act = Act.caused(WIDOW, self._self.identity, because, time)
        if death is not None:
            tx.unions.end_by(replace(death, spouse_id=living.subject_id, marriage_id=status.act_id))
            tx.acts.concern(death.act_id, living.subject_id)
        by = death.act_id if death else act.act_id
        told = list(end_marriage(office, tx, dead, living, by, time))
        office.tell(tx, self._self, WIDOW, act, told)

    def follow_pin(self, tx: CivilRegister, person: KnownPerson, former: KnownPerson, because: Causation) -> None:
        """Name a person by his new number wherever the records of others name him by acts of this room.

        Items are told apart by the number: all of this room's are taken back first, then told with the new one. Whoever
        tells of one of those records holds its person's lock, as `lock_kin` gives it: nothing is told in between.
        Source: Decree 70/2024 Art. 11 clause 7.
        """
        spouse = spouse_in_force(tx, person.subject_id)
        time = self._office.time_after([spouse] if spouse else [])
        act = Act.caused(FOLLOW_PIN, self._self.identity, because, time)
        told = [
            *self._spouse(tx, spouse, person, former, act),
            *self._parents(tx, person, act),
            *self._children(tx, person, act),
        ]
        if told:
            self._office.tell(tx, self._self, FOLLOW_PIN, act, told)

    def _spouse(
        self, tx: CivilRegister, spouse: Status | None, person: KnownPerson, former: KnownPerson, act: Act
    ) -> Iterator[Told]:
        if spouse is not None:
            if not spouse.is_own:
                yield history_told(self._office, tx, spouse, former, act.time)
            tx.statuses.put(replace(spouse, is_own=True, told_time=act.time))
            yield from self._anew(tx, spouse.subject_id, Facts(spouses=(_named(person),)), "spouses", act)

    def _parents(self, tx: CivilRegister, person: KnownPerson, act: Act) -> Iterator[Told]:
        for parent in tx.births.parents_of(person.subject_id):
            if parent.subject_id is not None:
                children = tx.births.children_of(parent.subject_id)
                named = [tx.statuses.named(child_id) for child_id, _ in children]
                yield from self._anew(tx, parent.subject_id, Facts(children=tuple(named)), "children", act)

    def _children(self, tx: CivilRegister, person: KnownPerson, act: Act) -> Iterator[Told]:
        for child_id, parent in tx.births.children_of(person.subject_id):
            named = replace(parent.named, pin=person.pin)
            facts = Facts(mother=named) if parent.role is Role.MOTHER else Facts(father=named)
            path, pin = parent.role.name.lower(), tx.statuses.named(child_id).pin
            yield self._office.told(child_id, pin, facts, (path,), act.time)

    def _anew(self, tx: CivilRegister, subject_id: UUID, facts: Facts, path: str, act: Act) -> Iterator[Told]:
        pin = tx.statuses.named(subject_id).pin
        for one in (Facts(), facts):
            yield self._office.told(subject_id, pin, one, (path,), act.time)


def _named(person: KnownPerson) -> Relative:
    return Relative(person.name, person.pin)


def _are_of_history(tx: CivilRegister, *couple: KnownPerson) -> bool:
    """Whether two are married to each other by history alone, or are tied together as such already."""
    one, other = (tx.statuses.of(person.subject_id) for person in couple)
    if any(status.marital is not MaritalStatus.MARRIED for status in (one, other)):
        return False
    if one.act_id == other.act_id == adopted_marriage_id(one.subject_id, other.subject_id):
        return True
    named = [{spouse.subject_id for spouse in listed_spouses(tx, who.subject_id) if spouse} for who in couple]
    is_mutual = other.subject_id in named[0] and one.subject_id in named[1]
    return is_mutual and not one.is_own and not other.is_own
