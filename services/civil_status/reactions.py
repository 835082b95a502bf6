"""What the feed of changes makes this room do. Decides only whom it concerns; the operations know the rest."""

from services.civil_status import convert
from services.civil_status.domain import ROOM_NAME
from services.civil_status.operations.kin import lock_kin
from services.civil_status.operations.relations import RelationOperations
from services.civil_status.repository import CivilRegister
from services.mesh.core.following import FollowedChange

_COUPLING = frozenset({"spouses", "marital_status", "death_or_missing"})


class Reactions:
    """Applies changes. One that comes again finds its effect there already, and does nothing."""

    def __init__(self, relations: RelationOperations) -> None:
        self._relations = relations

    def __call__(self, tx: CivilRegister, change: FollowedChange) -> None:
        """Know the person as the record does now; then do what another room's word asks of this one."""
        is_own = change.source == ROOM_NAME
        if "spouses" in change.paths and not is_own:
            tx.statuses.list_spouses(change.subject_id, convert.spouse_pins_from_bytes(change.person))
        before = lock_kin(tx, change.subject_id).get(change.subject_id)
        person = tx.people.note(change)
        if is_own:
            return
        if "marital_status" in change.paths:
            self._relations.adopt_status(tx, person.subject_id, convert.marital_status_from_bytes(change.person))
        if _COUPLING & set(change.paths):
            self._relations.adopt_marriages(tx, person, change.causation)
        if before is not None and before.pin and before.pin != person.pin:
            self._relations.follow_pin(tx, person, before, change.causation)
