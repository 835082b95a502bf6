"""What the feed makes this room do: another number when the law asks for one, no card in force for the dead."""

from services.identity import convert
from services.identity.domain import ROOM_NAME
from services.identity.operations.cards import CardOperations
from services.identity.operations.numbers import NumberOperations
from services.identity.repository import Identity
from services.mesh.core.following import FollowedChange
from services.mesh.core.people import KnownPerson

_WEIGHED = frozenset({"birth_date", "sex", "death_or_missing"})


class Reactions:
    """Applies a change inside the follower's transaction.

    It reacts to each once. A restored feed tells all it has again, former values before those that corrected them:
    whoever took a former value for news would give a person back the number that was taken from him.
    """

    def __init__(self, numbers: NumberOperations, cards: CardOperations) -> None:
        self._numbers = numbers
        self._cards = cards

    def __call__(self, tx: Identity, change: FollowedChange) -> None:
        """Know what the change tells of its person, and do what follows.

        1. What this room is said to have told and does not know, it adopts: history, or what a restored backup lacks.
        2. Another's change is weighed once.
        3. A death cancels the card; a death annulled gives none back, the person requests another.
        4. A birth year or sex that was known before and differs now asks for another number.

        Raises StateNotAllowed, InvalidField, NumberSpaceExhausted for what only an operator can cure.
        """
        if change.source == ROOM_NAME:  # (1)
            self._adopt(tx, tx.people.note(change), change)
            return
        before = tx.people.lock([change.subject_id]).get(change.subject_id)
        person = tx.people.note(change)
        if _WEIGHED.isdisjoint(change.paths) or not tx.weighed.add(change.subject_id, change.change_id):  # (2)
            return
        if convert.is_death_told(change):  # (3)
            self._cards.cancel_of_deceased(tx, person.subject_id, change.causation)
        if before is not None:  # (4)
            self._numbers.succeed_corrected(tx, before, person, change.causation)

    def _adopt(self, tx: Identity, person: KnownPerson, change: FollowedChange) -> None:
        if pin := convert.pin_told(change):
            self._numbers.adopt(tx, person, pin, change.event_time)
        self._cards.adopt(tx, person, convert.documents_told(change), change.event_time)
