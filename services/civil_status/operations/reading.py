"""Shows officers a person's civil status; what is shown is recorded before the answer leaves."""

from typing import Final

from services.civil_status.domain import CivilStatus
from services.civil_status.operations.kin import death_day, spouse_in_force
from services.civil_status.operations.office import DEATH_PATHS, MARRIAGE_PATHS, Office
from services.civil_status.repository import CivilRegister
from services.mesh.core.caller import Caller
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access, Mode
from services.mesh.core.telling import use

READ_PATHS: Final = tuple(sorted((*MARRIAGE_PATHS, *DEATH_PATHS)))


class ReadingOperations:
    """Reads by officers."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def get_civil_status(
        self, caller: Caller, access: Access, identity: StatedIdentity, method: str
    ) -> CivilStatus | None:
        """A person's civil status; None if the stated identity does not match. Either is recorded.

        Raises what `Policy.authorise` raises, Overloaded: what is read is told as well.
        """
        office = self._office
        office.require_room()
        ground = office.authorise(caller, access, Mode.LOOKUP, READ_PATHS)
        with office.database.transaction() as tx:
            person = tx.people.match(identity)
            if person is None:
                meant = tx.people.find(identity.pin)
                subject_id = meant.subject_id if meant else None
                tx.log.record(Entry(caller, method, Outcome.NO_MATCH, ground, subject_id, READ_PATHS))
                return None
            tx.log.record(Entry(caller, method, Outcome.DISCLOSED, ground, person.subject_id, READ_PATHS))
            tx.outbox.put(use(caller, ground, method, person.subject_id, READ_PATHS, office.clock.now()))
            return _shown(tx, person)


def _shown(tx: CivilRegister, person: KnownPerson) -> CivilStatus:
    spouse, death = spouse_in_force(tx, person.subject_id), death_day(tx, person.subject_id)
    return CivilStatus(
        marital=tx.statuses.of(person.subject_id).marital,
        spouse=tx.statuses.named(spouse.subject_id) if spouse else None,
        death_date=death,
        acts=tuple(tx.acts.of_person(person.subject_id)),
    )
