"""Registers agencies, and keeps their contacts and their officers' rosters."""

from collections.abc import Sequence
from dataclasses import replace

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import AlreadyRegistered, MethodNotAllowed
from services.mesh.core.evidence.entry import Entry, Outcome
from services.registry.domain import Agency, AgencyUnknown, Officer, Page, RosterChange
from services.registry.repository import Store, Transaction


class AgencyOperations:
    """Agencies and rosters."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register_agency(self, caller: Caller, agency: Agency, key: AnswerKey) -> Agency:
        """Register an agency. Raises AlreadyRegistered."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, Agency) as answer:
            if answer.given:
                return answer.given
            tx.policy.lock()
            if tx.policy.agency(agency.agency_id) is not None:
                raise AlreadyRegistered(object=f"agency {agency.agency_id}")
            tx.policy.put(agency, revision=tx.policy.advance())
            tx.log.record(Entry(caller, key.method, Outcome.DONE, object=f"agency {agency.agency_id}"))
            return answer.give(agency)

    def set_agency_contact(self, caller: Caller, agency_id: str, contact: str, key: AnswerKey) -> Agency:
        """Say where an agency's administrators are reached. Raises MethodNotAllowed, AgencyUnknown."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, Agency) as answer:
            if answer.given:
                return answer.given
            known = _open_agency(tx, caller, agency_id, key)
            agency = replace(known, contact=contact)
            if agency != known:
                tx.policy.put(agency, revision=tx.policy.advance())
            tx.log.record(Entry(caller, key.method, Outcome.DONE, object=f"contact of agency {agency_id}"))
            return answer.give(agency)

    def list_agencies(self, page: Page) -> list[Agency]:
        """Agencies by id."""
        with self._store.unrecorded() as tx:
            return tx.policy.agencies(page)

    def add_officers(self, caller: Caller, officers: Sequence[Officer], key: AnswerKey) -> RosterChange:
        """Put officers, all of one agency, on its roster. Raises MethodNotAllowed, AgencyUnknown."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, RosterChange) as answer:
            if answer.given:
                return answer.given
            on_it = _open_roster(tx, caller, officers, key)
            added = [officer for officer in officers if officer not in on_it]
            return answer.give(_change_roster(tx, caller, officers[0].agency_id, added, key, removed=False))

    def remove_officers(self, caller: Caller, officers: Sequence[Officer], key: AnswerKey) -> RosterChange:
        """Take officers, all of one agency, off its roster. Raises MethodNotAllowed, AgencyUnknown."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, RosterChange) as answer:
            if answer.given:
                return answer.given
            on_it = _open_roster(tx, caller, officers, key)
            removed = [officer for officer in officers if officer in on_it]
            return answer.give(_change_roster(tx, caller, officers[0].agency_id, removed, key, removed=True))


def _open_agency(tx: Transaction, caller: Caller, agency_id: str, key: AnswerKey) -> Agency:
    """An agency, which nobody else can change from now on. Raises MethodNotAllowed for a system of another agency."""
    if caller.kind is CallerKind.AGENCY and caller.agency_id != agency_id:
        raise MethodNotAllowed(method=key.method, caller_kind=caller.kind.name.lower())
    tx.policy.lock()
    agency = tx.policy.agency(agency_id)
    if agency is None:
        raise AgencyUnknown(agency=agency_id)
    return agency


def _open_roster(tx: Transaction, caller: Caller, officers: Sequence[Officer], key: AnswerKey) -> set[Officer]:
    """Those of one agency's officers who are on its roster, which nobody else can change from now on."""
    _open_agency(tx, caller, officers[0].agency_id, key)
    return tx.policy.on_roster(officers)


def _change_roster(
    tx: Transaction, caller: Caller, agency_id: str, officers: Sequence[Officer], key: AnswerKey, *, removed: bool
) -> RosterChange:
    """Write what changes; the entry names those officers, so that the log tells who was on a roster when."""
    if officers:
        tx.policy.put(*officers, revision=tx.policy.advance(), removed=removed)
    named = f": {', '.join(officer.officer_id for officer in officers)}" if officers else ""
    tx.log.record(Entry(caller, key.method, Outcome.DONE, object=f"roster {agency_id}{named}"))
    return RosterChange(len(officers))
