"""What an act leaves behind beside its rows: its link in the chain, what the record is told, its entry in the log."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, Causation
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.people import KnownPerson
from services.mesh.core.rights import Ground
from services.mesh.core.telling import Told, contributions
from services.residence.domain import Facts, History, ResidenceKind, Serialise
from services.residence.household import Household, Member, Rehousing
from services.residence.repository import ResidenceUnit

MEMBERSHIP_PATHS = ("household", "relation_to_head")
PERMANENT_PATHS = ("permanent_residence", "current_residence", *MEMBERSHIP_PATHS)
TEMPORARY_PATHS = ("temporary_residence", "current_residence")
_COMPOSITION_PATHS = ("household",)


class Effects:
    """Writes what acts leave behind. `itself` is this room, which acts when nobody asked it to.

    The record is told as of the act, not of the first day of a residence: one that is registered late must not be
    overtaken by the word that its predecessor was closed.
    """

    def __init__(self, serialise: Serialise, itself: Caller) -> None:
        self._serialise = serialise
        self._itself = itself

    def resident(
        self, person: KnownPerson, history: History, household: Household | None, paths: Sequence[str], time: datetime
    ) -> Told:
        """What the record is told of a person's residences and household."""
        permanent = history.active(ResidenceKind.PERMANENT)
        member = household.member(person.subject_id) if household else None
        facts = Facts(
            permanent=permanent.address if permanent else None,
            temporary=history.active(ResidenceKind.TEMPORARY),
            household=household,
            relation=member.relation if member else None,
        )
        return self._told(person, facts, paths, time)

    def household(self, household: Household, changed: Iterable[Member], time: datetime) -> list[Told]:
        """What the record is told of each member of a household; of those `changed` also how they are related to its
        head.
        """
        moved = {member.subject_id for member in changed}
        return [
            self._told(
                member,
                Facts(household=household, relation=member.relation),
                MEMBERSHIP_PATHS if member.subject_id in moved else _COMPOSITION_PATHS,
                time,
            )
            for member in household.members
        ]

    def by_officer(
        self,
        tx: ResidenceUnit,
        act: Act,
        caller: Caller,
        method: str,
        ground: Ground,
        subject_id: UUID,
        told: Sequence[Told],
    ) -> None:
        """Write what an officer's act about a person leaves."""
        self._write(tx, act, Entry(caller, method, Outcome.DONE, ground, subject_id), told)

    def by_itself(
        self,
        tx: ResidenceUnit,
        name: str,
        cause: Causation,
        subject_id: UUID,
        told: Sequence[Told],
        time: datetime,
        *,
        outcome: str = "",
    ) -> Act:
        """Do by itself what follows from a link, and write what that leaves."""
        act = Act.caused(name, self._itself.identity, cause, time, outcome)
        self._write(tx, act, Entry(self._itself, name, Outcome.DONE, None, subject_id), told)
        return act

    def others(self, rehousing: Rehousing, subject_id: UUID, time: datetime) -> list[Told]:
        """What the record is told of those whom a person left, or joined; those left without a head hear otherwise."""
        households = {one.household_id: one for one in (rehousing.left, rehousing.joined) if one is not None}
        if rehousing.left is not None and rehousing.is_headless:
            households.pop(rehousing.left.household_id)
        told = [one for household in households.values() for one in self.household(household, (), time)]
        return [one for one in told if one.subject_id != subject_id]

    def vacate_head(self, tx: ResidenceUnit, rehousing: Rehousing, subject_id: UUID, act: Act) -> None:
        """Let a household be without a head, if the one who left others behind in it was its head."""
        if rehousing.left is not None and rehousing.is_headless:
            told = self.household(rehousing.left, (), act.time)
            others = [one for one in told if one.subject_id != subject_id]
            self.by_itself(tx, "residence.vacate_head", act.causation, subject_id, others, act.time)

    def _told(self, person: KnownPerson | Member, facts: Facts, paths: Sequence[str], time: datetime) -> Told:
        return Told(person.subject_id, person.pin, self._serialise(facts, paths), tuple(paths), time)

    def _write(self, tx: ResidenceUnit, act: Act, entry: Entry, told: Sequence[Told]) -> None:
        tx.chain.add(act)
        tx.outbox.put(*contributions(act, told))
        entry = replace(entry, object=f"act {act.act_id}")
        # each finds in the log what was told of him; if nothing was told, whom the act is about
        entries = [replace(entry, subject_id=one.subject_id, paths=sorted(one.paths)) for one in told]
        tx.log.record_all(entries or [entry])
