"""What the feed of changes makes this room do: know people and their history, close the residences of the dead."""

from services.mesh.core.following import FollowedChange
from services.residence import convert
from services.residence.operations.households import HouseholdOperations
from services.residence.operations.residences import ResidenceOperations
from services.residence.repository import ResidenceUnit


class Reactions:
    """Applies changes. `room` is this room's name: of its own words it hears only the echo."""

    def __init__(self, residences: ResidenceOperations, households: HouseholdOperations, room: str) -> None:
        self._residences = residences
        self._households = households
        self._room = room

    def __call__(self, tx: ResidenceUnit, change: FollowedChange) -> None:
        """Apply a change. What it does depends on what stands here, so that a change that comes again does nothing.

        1. The person is known as the record knows him now.
        2. Residences and a household of his that only the record knows are taken over.
        3. If he is dead, his residences are closed and he leaves his household. That there was nothing to close is said
           once, when the death becomes known.
        4. If he has another name or number, his household is told of anew.
        """
        before = tx.people.lock([change.subject_id]).get(change.subject_id)
        person = tx.people.note(change)  # (1)
        if change.source == self._room:
            return
        for held in convert.held_from_change(change):  # (2)
            self._residences.adopt(tx, person, held)
        membership = convert.membership_from_change(change)
        if membership is not None:
            self._households.adopt(tx, person, membership)
        if person.is_deceased:  # (3)
            is_news = before is None or not before.is_deceased
            self._residences.close_by_death(tx, person, change.causation, is_news=is_news)
        if before is not None and (before.name, before.pin) != (person.name, person.pin):  # (4)
            self._households.tell_anew(tx, person, change.causation)
