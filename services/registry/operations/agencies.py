"""Registers agencies and keeps their officers' rosters."""

from collections.abc import Sequence

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import MethodNotAllowed
from services.mesh.core.evidence.entry import Entry, Outcome
from services.registry.domain import Agency, AgencyUnknown, AlreadyRegistered, Officer, Page, RosterChange
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

    def list_agencies(self, page: Page) -> list[Agency]:
        """Agencies by id."""
        with self._store.unrecorded() as tx:
            return tx.policy.agencies(page)

    def add_officers(self, caller: Caller, agency_id: str, officer_ids: Sequence[str], key: AnswerKey) -> RosterChange:
        """Put officers on an agency's roster; who is on it stays. Raises MethodNotAllowed, AgencyUnknown."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, RosterChange) as answer:
            if answer.given:
                return answer.given
            on_it = _open_roster(tx, caller, agency_id, officer_ids, key)
            added = [officer_id for officer_id in officer_ids if officer_id not in on_it]
            return answer.give(_change_roster(tx, caller, agency_id, added, key, removed=False))

    def remove_officers(
        self, caller: Caller, agency_id: str, officer_ids: Sequence[str], key: AnswerKey
    ) -> RosterChange:
        """Take officers off an agency's roster. Raises MethodNotAllowed, AgencyUnknown."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, RosterChange) as answer:
            if answer.given:
                return answer.given
            on_it = _open_roster(tx, caller, agency_id, officer_ids, key)
            removed = [officer_id for officer_id in officer_ids if officer_id in on_it]
            return answer.give(_change_roster(tx, caller, agency_id, removed, key, removed=True))


def _open_roster(
    tx: Transaction, caller: Caller, agency_id: str, officer_ids: Sequence[str], key: AnswerKey
) -> set[str]:
    """Those of the officers who are on the roster, which nobody else can change from now on."""
    if caller.kind is CallerKind.AGENCY and caller.agency_id != agency_id:
        raise MethodNotAllowed(method=key.method, caller_kind=caller.kind.name.lower())
    tx.policy.lock()
    if tx.policy.agency(agency_id) is None:
        raise AgencyUnknown(agency=agency_id)
    return tx.policy.on_roster(agency_id, officer_ids)


def _change_roster(
    tx: Transaction, caller: Caller, agency_id: str, officer_ids: Sequence[str], key: AnswerKey, *, removed: bool
) -> RosterChange:
    if officer_ids:
        officers = [Officer(agency_id, officer_id) for officer_id in officer_ids]
        tx.policy.put(*officers, revision=tx.policy.advance(), removed=removed)
    changed = f": {', '.join(officer_ids)}" if officer_ids else ""
    tx.log.record(Entry(caller, key.method, Outcome.DONE, object=f"roster {agency_id}{changed}"))
    return RosterChange(len(officer_ids))
