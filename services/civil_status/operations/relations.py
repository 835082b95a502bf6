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
    adopted_marriage_id,
)
from services.civil_status.operations.deaths import history_told, spouse_in_force
from services.civil_status.operations.office import Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Act, Causation
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.people import KnownPerson
from services.mesh.core.telling import Told, contributions

FOLLOW_PIN: Final = "civil_status.follow_pin"


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

    def adopt_marriage(self, tx: CivilRegister, person: KnownPerson, spouse_pin: str) -> None:
        """Tie together a couple of whose marriage only the record tells, so that the death of one widows the other.

        Whoever of them becomes known later does it. A word of this room's own on either stands above the record's.
        """
        spouse = tx.people.find(spouse_pin)
        if spouse is None or spouse.subject_id == person.subject_id:
            return
        tx.people.lock([person.subject_id, spouse.subject_id])
        couple = [tx.statuses.of(one.subject_id) for one in (person, spouse)]
        if any(status.is_own or status.marital is not MaritalStatus.MARRIED for status in couple):
            return
        marriage_id = adopted_marriage_id(person.subject_id, spouse.subject_id)
        for status, other in zip(couple, reversed(couple), strict=True):
            tx.statuses.put(replace(status, spouse_id=other.subject_id, act_id=marriage_id))

    def follow_pin(self, tx: CivilRegister, person: KnownPerson, former: KnownPerson, because: Causation) -> None:
        """Name a person by his new number wherever the records of others name him by acts of this room.

        Items are told apart by the number: all of this room's are taken back first, then told with the new one.
        Source: Decree 70/2024 Art. 11 clause 7.
        """
        act = Act.caused(FOLLOW_PIN, self._self.identity, because, self._office.clock.now())
        told = [
            *self._spouse(tx, person, former, act),
            *self._parents(tx, person, act),
            *self._children(tx, person, act),
        ]
        if not told:
            return
        tx.chain.add(act)
        tx.outbox.put(*contributions(act, told))
        paths = sorted({path for one in told for path in one.paths})
        tx.log.record(
            Entry(
                self._self,
                FOLLOW_PIN,
                Outcome.DONE,
                subject_id=person.subject_id,
                paths=paths,
                object=f"act {act.act_id}",
            )
        )

    def _spouse(self, tx: CivilRegister, person: KnownPerson, former: KnownPerson, act: Act) -> Iterator[Told]:
        spouse = spouse_in_force(tx, person.subject_id)
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
