"""Keeps the directory: which systems and rooms are connected, when last heard of, and how far behind."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.mesh.core.caller import CallerKind
from services.mesh.core.clock import Clock
from services.mesh.core.contacts import Contact, Flow
from services.mesh.core.errors import MethodNotAllowed
from services.registry.domain import Connection, LastContact, LastFlow, Thresholds
from services.registry.repository import Store

_KEEPER = "sharing"
"""The room that keeps the record and the feed."""
_NO_FLOW = LastFlow()


class DirectoryOperations:
    """The directory. Reports are measurements, not acts: they are not recorded in the log, nor part of the policy."""

    def __init__(self, store: Store, clock: Clock, thresholds: Thresholds) -> None:
        self._store = store
        self._clock = clock
        self._thresholds = thresholds

    def report_contacts(
        self, room: str, contacts: Sequence[Contact], flow: Flow, policy_revision: int, *, method: str
    ) -> None:
        """Take a room's report. The room itself is in contact by reporting; a time ahead of our clock counts as now.

        What a report does not tell of stays as it was told last. The policy revision may fall, for a room that
        starts anew. Raises MethodNotAllowed if a room that does not keep record and feed tells of contributions or
        followers.
        """
        if (flow.activities or flow.lags) and room != _KEEPER:
            raise MethodNotAllowed(method=method, caller_kind=CallerKind.ROOM.name.lower())
        now = self._clock.now()
        heard = {contact.name: _heard(contact, now) for contact in contacts}
        heard[room] = LastContact(room, now, now)
        with self._store.unrecorded() as tx:
            tx.contacts.note(list(heard.values()))
            tx.flows.note(room, _flowed(flow, now), policy_revision)

    def list_connections(self) -> list[Connection]:
        """Registered systems by agency and id, then rooms by name."""
        now = self._clock.now()
        with self._store.unrecorded() as tx:
            systems, contacts, flows = tx.policy.systems(), tx.contacts.all(), tx.flows.all()
        titles = {f"{system.agency_id}/{system.system_id}": (system.name, system.state) for system in systems}
        rooms = sorted(name for name in contacts.keys() | flows.keys() if "/" not in name)
        return [
            Connection(
                name=name,
                title=title,
                state=self._thresholds.judge(contacts.get(name), now),
                system_state=state,
                contact=contacts.get(name),
                flow=flows.get(name, _NO_FLOW),
            )
            for name, (title, state) in (titles | {room: (f"room {room}", None) for room in rooms}).items()
        ]


def _heard(contact: Contact, now: datetime) -> LastContact:
    return LastContact(contact.name, min(contact.contact_time, now), _past(contact.success_time, now))


def _flowed(flow: Flow, now: datetime) -> Flow:
    """The report with no time ahead of our clock."""
    backlog = flow.backlog and replace(flow.backlog, oldest_time=_past(flow.backlog.oldest_time, now))
    activities = (replace(one, contribution_time=min(one.contribution_time, now)) for one in flow.activities)
    lags = (replace(lag, oldest_time=_past(lag.oldest_time, now)) for lag in flow.lags)
    return Flow(backlog, tuple(activities), tuple(lags))


def _past(time: datetime | None, now: datetime) -> datetime | None:
    return None if time is None else min(time, now)
