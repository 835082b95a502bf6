"""What a room reports to the directory: whom it heard of, how far messages and changes have flowed, its policy.

Names, times and counts, nothing else.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.mesh.core.background import Stopping
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import Clock

_REPORT_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Contact:
    """The last contact with a caller, and the last that was served since the last report."""

    name: str
    contact_time: datetime
    success_time: datetime | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a room still has to hand on: messages that wait, since when the oldest, and those that are set aside."""

    count: int
    oldest_time: datetime | None
    set_aside_count: int


@dataclass(frozen=True, slots=True)
class Activity:
    """When the record last took something from a source."""

    name: str
    contribution_time: datetime


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a follower is behind: changes that it has not acknowledged as applied, when the oldest was recorded."""

    name: str
    unapplied_count: int
    oldest_time: datetime | None
    rejected_count: int


@dataclass(frozen=True, slots=True)
class Flow:
    """How far messages and changes have flowed, as far as a room knows: of itself, of sources, of followers."""

    backlog: Backlog | None = None
    activities: tuple[Activity, ...] = ()
    lags: tuple[Lag, ...] = ()


Report = Callable[[Sequence[Contact], Flow, int], None]
"""Contacts, flow, and the revision of the policy by which the room decides; 0 before it has one."""


class Contacts:
    """Collects contacts and reports them every two seconds. An empty report still says that this room lives."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._since_report: dict[str, Contact] = {}

    def note(self, caller: Caller, served: bool) -> None:
        """A known caller called. Operators are people: the directory is of systems and rooms."""
        if caller.kind is CallerKind.OPERATOR:
            return
        now = self._clock.now()
        with self._mutex:
            before = self._since_report.get(caller.name)
            success_time = now if served else before.success_time if before else None
            self._since_report[caller.name] = Contact(caller.name, now, success_time)

    def run(
        self, stopping: Stopping, report: Report, flow: Callable[[], Flow], policy_revision: Callable[[], int]
    ) -> None:
        """Report until told to stop. If a report fails its contacts go into the next one, and this raises."""
        while not stopping.wait(_REPORT_EVERY):
            with self._mutex:
                due, self._since_report = self._since_report, {}
            try:
                report(list(due.values()), flow(), policy_revision())
            except Exception:
                with self._mutex:
                    for contact in due.values():
                        self._put_back(contact)
                raise

    def _put_back(self, contact: Contact) -> None:
        newer = self._since_report.get(contact.name, contact)
        success_time = newer.success_time or contact.success_time
        self._since_report[contact.name] = replace(newer, success_time=success_time)
