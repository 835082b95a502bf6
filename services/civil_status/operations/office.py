"""What every act of civil status goes through: its ground, its row, its link, its entries, and what it tells."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from services.civil_status.domain import ActKind, Facts, FactsToBytes, RegisteredAct, Status
from services.civil_status.repository import CivilRegister
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.rights import Access, Ground, Mode, Policy
from services.mesh.core.telling import Told, contributions

NAMES: Final = {
    ActKind.BIRTH: "civil_status.register_birth",
    ActKind.MARRIAGE: "civil_status.record_marriage",
    ActKind.DEATH: "civil_status.register_death",
    ActKind.CORRECTION: "civil_status.correct_birth",
    ActKind.ANNULMENT: "civil_status.annul_act",
}
MARRIAGE_PATHS: Final = ("marital_status", "spouses")
DEATH_PATHS: Final = ("death_or_missing",)


@dataclass(frozen=True, slots=True)
class Filing:
    """Who files an act, under which request, and on which confirmed ground."""

    caller: Caller
    key: AnswerKey
    ground: Ground
    paths: Sequence[str]


@dataclass(frozen=True, slots=True)
class Office:
    """What the operations of this room stand on. `require_room` raises Overloaded while too much waits to be told."""

    database: Database[CivilRegister]
    policy: Callable[[], Policy]
    clock: Clock
    require_room: Callable[[], None]
    to_bytes: FactsToBytes

    @property
    def today(self) -> date:
        """The legal day."""
        return legal_date(self.clock.now())

    def authorise(self, caller: Caller, access: Access, mode: Mode, paths: Iterable[str]) -> Ground:
        """The ground as the policy in force confirms it. Raises what `Policy.authorise` raises."""
        return self.policy().authorise(caller.agency_id, caller.system_id, access, mode, paths, self.today)

    def time_after(self, statuses: Iterable[Status]) -> datetime:
        """Now, but not before what this room told of those: the clock of another replica may be ahead of this one's."""
        told = [time for status in statuses for time in (status.told_time, status.death_told_time) if time]
        return max([self.clock.now(), *told])

    def begin(self, kind: ActKind, filing: Filing, statuses: Iterable[Status] = ()) -> Act:
        """An act that begins now, after what is told of those whose statuses it changes."""
        return Act.begun(NAMES[kind], filing.caller, filing.ground.access, self.time_after(statuses))

    def told(self, subject_id: UUID, pin: str, facts: Facts, paths: Sequence[str], time: datetime) -> Told:
        """What an act tells of a person."""
        return Told(subject_id, pin, self.to_bytes(facts), tuple(paths), time)

    def register(
        self,
        tx: CivilRegister,
        filing: Filing,
        act: Act,
        registered: RegisteredAct,
        subject_ids: Sequence[UUID],
        told: Iterable[Told],
    ) -> RegisteredAct:
        """Write an act of some persons: its row, its link, and what is told of them and others."""
        tx.acts.add(act, registered, subject_ids)
        self.tell(tx, filing.caller, filing.key.method, act, list(told), filing)
        return registered

    def tell(
        self,
        tx: CivilRegister,
        caller: Caller,
        method: str,
        act: Act,
        told: Sequence[Told],
        filing: Filing | None = None,
    ) -> None:
        """Write an act's link, what is to be told, and an entry for each person of whose record it tells.

        An entry names the fields of the ground, or, of a person whom none of them is told of, those that are told.
        """
        tx.chain.add(act)
        tx.outbox.put(*contributions(act, told))
        ground, granted = (filing.ground, set(filing.paths)) if filing else (None, set[str]())
        for subject_id in dict.fromkeys(one.subject_id for one in told):
            of_him = {path for one in told if one.subject_id == subject_id for path in one.paths}
            paths = granted if granted & of_him else of_him
            tx.log.record(
                Entry(caller, method, Outcome.DONE, ground, subject_id, sorted(paths), object=f"act {act.act_id}")
            )
