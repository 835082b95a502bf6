"""Registers systems, suspends and resumes them."""

from dataclasses import replace

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.errors import AlreadyRegistered, StateNotAllowed
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.rights import State, System, SystemUnknown
from services.registry.domain import AgencyUnknown, NewSystem, Page
from services.registry.repository import Store


class SystemOperations:
    """Agencies' systems."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def register_system(self, caller: Caller, new: NewSystem, key: AnswerKey) -> System:
        """Register a system; it is ACTIVE at once. Raises AgencyUnknown, AlreadyRegistered."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, System) as answer:
            if answer.given:
                return answer.given
            tx.policy.lock()
            if tx.policy.agency(new.agency_id) is None:
                raise AgencyUnknown(agency=new.agency_id)
            if tx.policy.system(new.agency_id, new.system_id) is not None:
                raise AlreadyRegistered(object=f"system {new.agency_id}/{new.system_id}")
            system = System(new.agency_id, new.system_id, new.name, State.ACTIVE, "", self._clock.now())
            tx.policy.put(system, revision=tx.policy.advance())
            tx.log.record(_entry(caller, key, new.agency_id, new.system_id))
            return answer.give(system)

    def suspend_system(self, caller: Caller, agency_id: str, system_id: str, cause: str, key: AnswerKey) -> System:
        """Suspend an ACTIVE system. Raises SystemUnknown, StateNotAllowed."""
        return self._change_state(caller, agency_id, system_id, State.SUSPENDED, cause, key)

    def resume_system(self, caller: Caller, agency_id: str, system_id: str, key: AnswerKey) -> System:
        """Resume a SUSPENDED system. Raises SystemUnknown, StateNotAllowed."""
        return self._change_state(caller, agency_id, system_id, State.ACTIVE, "", key)

    def list_systems(self, agency_id: str, page: Page) -> list[System]:
        """Systems by agency and id; of one agency, if it is given."""
        with self._store.unrecorded() as tx:
            return tx.policy.systems(page, agency_id=agency_id)

    def _change_state(
        self, caller: Caller, agency_id: str, system_id: str, state: State, cause: str, key: AnswerKey
    ) -> System:
        with self._store.transaction() as tx, tx.answers.once(caller, key, System) as answer:
            if answer.given:
                return answer.given
            tx.policy.lock()
            before = tx.policy.system(agency_id, system_id)
            if before is None:
                raise SystemUnknown(system=f"{agency_id}/{system_id}")
            if before.state is state:
                raise StateNotAllowed(object=f"system {agency_id}/{system_id}", state=before.state.name)
            system = replace(before, state=state, cause=cause, state_time=self._clock.now())
            tx.policy.put(system, revision=tx.policy.advance())
            tx.log.record(_entry(caller, key, agency_id, system_id))
            return answer.give(system)


def _entry(caller: Caller, key: AnswerKey, agency_id: str, system_id: str) -> Entry:
    return Entry(caller, key.method, Outcome.DONE, object=f"system {agency_id}/{system_id}")
