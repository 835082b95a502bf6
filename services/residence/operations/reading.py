"""Reading: what an officer is shown of a person's residences, recorded before he sees it."""

from collections.abc import Callable
from datetime import date

from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access, Mode, Policy
from services.mesh.core.telling import use
from services.residence.domain import Disclosure
from services.residence.repository import ResidenceUnit

_PATHS = ("household", "permanent_residence", "temporary_residence")


class ReadingOperations:
    """Shows residences to officers. `require_room` raises Overloaded while too much waits to be handed on."""

    def __init__(
        self,
        database: Database[ResidenceUnit],
        policy: Callable[[], Policy],
        clock: Clock,
        require_room: Callable[[], None],
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._require_room = require_room

    def get_residence(self, caller: Caller, access: Access, identity: StatedIdentity, method: str) -> Disclosure:
        """A person's residences, newest first, and his household, if the stated identity matches.

        What is shown is on its way to the disclosure log when the answer leaves. Raises what Policy.authorise raises,
        Overloaded.
        """
        self._require_room()
        now = self._clock.now()
        ground = self._policy().authorise(
            caller.agency_id, caller.system_id, access, Mode.LOOKUP, _PATHS, legal_date(now)
        )
        with self._db.transaction() as tx:
            person = tx.people.match(identity)
            if person is None:
                meant = tx.people.find(identity.pin)
                subject_id = meant.subject_id if meant else None
                tx.log.record(Entry(caller, method, Outcome.NO_MATCH, ground, subject_id, _PATHS))
                return Disclosure(is_match=False)
            tx.outbox.put(use(caller, ground, method, person.subject_id, _PATHS, now))
            tx.log.record(Entry(caller, method, Outcome.DISCLOSED, ground, person.subject_id, _PATHS))
            recorded = tx.residences.of_person(person.subject_id).residences
            residences = sorted(recorded, key=lambda one: one.start_date or date.min, reverse=True)
            household_id = tx.households.id_of(person.subject_id)
            household = tx.households.composed(household_id) if household_id else None
            return Disclosure(True, tuple(residences), household)
