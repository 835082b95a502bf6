"""Keeps the directory: which systems and rooms are connected, and when each was last heard of."""

from collections.abc import Sequence
from datetime import datetime

from services.mesh.core.clock import Clock
from services.mesh.core.contacts import Contact
from services.registry.domain import Connection, LastContact, Thresholds
from services.registry.repository import Store


class DirectoryOperations:
    """The directory. Contacts are measurements, not acts: they are not recorded in the log, nor part of the policy."""

    def __init__(self, store: Store, clock: Clock, thresholds: Thresholds) -> None:
        self._store = store
        self._clock = clock
        self._thresholds = thresholds

    def report_contacts(self, room: str, contacts: Sequence[Contact]) -> None:
        """Take a room's report. The room itself is in contact by reporting; a time ahead of our clock counts as now."""
        now = self._clock.now()
        heard = {contact.name: _heard(contact, now) for contact in contacts}
        heard[room] = LastContact(room, now, now)
        with self._store.unrecorded() as tx:
            tx.contacts.note(list(heard.values()))

    def list_connections(self) -> list[Connection]:
        """Registered systems by agency and id, then rooms by name."""
        now = self._clock.now()
        with self._store.unrecorded() as tx:
            systems, contacts = tx.policy.systems(), tx.contacts.all()
        connections = []
        for system in systems:
            name = f"{system.agency_id}/{system.system_id}"
            state = self._thresholds.judge(contacts.get(name), now)
            connections.append(Connection(name, system.name, state, system.state, contacts.get(name)))
        for name, contact in contacts.items():
            if "/" not in name:
                state = self._thresholds.judge(contact, now)
                connections.append(Connection(name, f"room {name}", state, None, contact))
        return connections


def _heard(contact: Contact, now: datetime) -> LastContact:
    success_time = None if contact.success_time is None else min(contact.success_time, now)
    return LastContact(contact.name, min(contact.contact_time, now), success_time)
