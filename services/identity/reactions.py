"""What the feed makes this room do: another number when the law asks for one, no card in force for the dead."""

from services.identity import convert
from services.identity.domain import ROOM_NAME
from services.identity.operations.cards import CardOperations
from services.identity.operations.numbers import NumberOperations
from services.identity.repository import Identity
from services.mesh.core.following import FollowedChange


class Reactions:
    """Applies a change inside the follower's transaction."""

    def __init__(self, numbers: NumberOperations, cards: CardOperations) -> None:
        self._numbers = numbers
        self._cards = cards

    def __call__(self, tx: Identity, change: FollowedChange) -> None:
        """Know what the change tells of its person, and do what follows.

        1. What this room is said to have told and does not know, it adopts: history, or what a restored backup lacks. A
           correction among it asks for no number: history tells the numbers too.
        2. A death cancels the card; a death annulled gives none back, the person requests another.
        3. A birth year or sex that was known before and differs now asks for another number.

        Raises StateNotAllowed, NumberSpaceExhausted for what only an operator can cure.
        """
        if change.source == ROOM_NAME:  # (1)
            self._adopt(tx, change)
            return
        before = tx.people.lock([change.subject_id]).get(change.subject_id)
        person = tx.people.note(change)
        if convert.is_death_told(change):  # (2)
            self._cards.cancel_of_deceased(tx, person.subject_id, change.causation)
        if before is not None:  # (3)
            self._numbers.succeed_corrected(tx, before, person, change.causation)

    def _adopt(self, tx: Identity, change: FollowedChange) -> None:
        person = tx.people.note_history(change)
        if pin := convert.pin_told(change):
            self._numbers.adopt(tx, person, pin, change.event_time)
        self._cards.adopt(tx, person, convert.documents_told(change), change.event_time)
        if convert.is_death_told(change):
            self._cards.cancel_of_deceased(tx, person.subject_id, change.causation)
