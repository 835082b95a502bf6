"""Identity cards: requested, issued, cancelled, checked with yes or no, shown to officers."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from uuid import UUID, uuid4

from services.identity.domain import (
    Cancellation,
    Card,
    CardAct,
    CardAlreadyRequested,
    CardsShown,
    CardState,
    CardUnknown,
    Document,
)
from services.identity.repository import Identity
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, Causation
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.errors import AlreadyRegistered, InvalidField
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.stated import PersonDeceased, PersonUnknown, StatedIdentity, require_happened
from services.mesh.core.rights import Access, Ground, Mode, Policy
from services.mesh.core.telling import Told, contributions, use

_PATHS = ("id_cards",)
_CANCEL = "identity.cancel_card"


class CardOperations:
    """Cards. `cards_to_bytes` makes what the record is told of the cards in force.

    A person has one request and one card in force at most: every act holds the person locked, and takes its time since
    then: one that waited is later than what it waited for.
    """

    def __init__(
        self,
        database: Database[Identity],
        policy: Callable[[], Policy],
        clock: Clock,
        *,
        room: Caller,
        require_room: Callable[[], None],
        cards_to_bytes: Callable[[Sequence[Document]], bytes],
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._room = room
        self._require_room = require_room
        self._cards_to_bytes = cards_to_bytes

    def request_card(self, caller: Caller, access: Access, identity: StatedIdentity, key: AnswerKey) -> CardAct:
        """Take in a person's request for a card. Raises what `Policy.authorise` raises, PersonUnknown,
        IdentityMismatch, PersonDeceased, CardAlreadyRequested.
        """
        ground = self._ground(caller, access, Mode.REGISTER)
        with self._db.transaction() as tx, tx.answers.once(caller, key, CardAct) as answer:
            if answer.given:
                return answer.given
            (person,) = tx.people.require_alive(identity)
            now = self._clock.now()
            if any(card.state is CardState.REQUESTED for card in tx.cards.of(person.subject_id)):
                raise CardAlreadyRequested()
            card = Card(uuid4(), person.subject_id, CardState.REQUESTED, now, now)
            tx.cards.put(card)
            act = Act.begun("identity.request_card", caller, access, now)
            tx.chain.add(act)
            tx.log.record(_done(caller, key.method, card, ground))
            return answer.give(CardAct(card, act.act_id))

    def issue_card(self, caller: Caller, access: Access, card_id: UUID, document: Document, key: AnswerKey) -> CardAct:
        """Issue the card that was requested; the one that the person has is cancelled by it.

        Raises what `Policy.authorise` raises, CardUnknown, PersonDeceased, StateNotAllowed, EventInFuture,
        EventBeforeBirth for the day of issue, InvalidField for one before the request and for a card that has expired,
        AlreadyRegistered for a document number that was used before, PeerUnavailable until those of history are known.
        """
        ground = self._ground(caller, access, Mode.REGISTER)
        with self._db.transaction() as tx, tx.answers.once(caller, key, CardAct) as answer:
            if answer.given:
                return answer.given
            tx.followed.require_caught_up()
            person, card = self._locked(tx, tx.cards.find(card_id))
            now = self._clock.now()
            if person.is_deceased:
                raise PersonDeceased()
            issued = card.issued(document, now)
            _require_possible(document, card, person, legal_date(now))
            if not tx.cards.use_document_number(document.document_number, card_id):
                raise AlreadyRegistered(object="document number")
            replaced = self._cancel(tx, tx.cards.of(person.subject_id), Cancellation.REPLACED, now, CardState.ISSUED)
            tx.cards.put(issued)
            act = Act.begun("identity.issue_card", caller, access, now)
            self._tell(tx, act, person.subject_id, taken_back=bool(replaced), in_force=issued)
            tx.log.record_all([_done(caller, key.method, one, ground) for one in (*replaced, issued)])
            return answer.give(CardAct(issued, act.act_id))

    def cancel_card(
        self, caller: Caller, access: Access, document_number: str, reason: Cancellation, key: AnswerKey
    ) -> CardAct:
        """Cancel a card in force. Raises what `Policy.authorise` raises, CardUnknown, StateNotAllowed."""
        ground = self._ground(caller, access, Mode.REGISTER)
        with self._db.transaction() as tx, tx.answers.once(caller, key, CardAct) as answer:
            if answer.given:
                return answer.given
            person, card = self._locked(tx, tx.cards.find_document(document_number))
            now = self._clock.now()
            cancelled = card.cancelled(reason, now)
            tx.cards.put(cancelled)
            act = Act.begun(_CANCEL, caller, access, now)
            self._tell(tx, act, person.subject_id, taken_back=True)
            tx.log.record(_done(caller, key.method, cancelled, ground))
            return answer.give(CardAct(cancelled, act.act_id))

    def check_card(
        self, caller: Caller, access: Access, identity: StatedIdentity, document_number: str, method: str
    ) -> bool:
        """Whether just this card is in force and its holder just this person, whose number is the one stated.

        Either answer about a person who is identified tells something of him: it is recorded and handed on as a use.
        Raises what `Policy.authorise` raises.
        """
        ground, now = self._ground(caller, access, Mode.VERIFY), self._clock.now()
        with self._db.transaction() as tx:
            person = self._read(tx, caller, ground, identity, method)
            if person is None or person.pin != identity.pin:
                return False
            card = tx.cards.find_document(document_number)
        if card is None or card.subject_id != person.subject_id or card.state is not CardState.ISSUED:
            return False
        return card.document is not None and not card.document.has_expired(legal_date(now))

    def get_cards(self, caller: Caller, access: Access, identity: StatedIdentity, method: str) -> CardsShown:
        """A person's cards and requests, newest first; none shown if the identity does not match.

        Raises what `Policy.authorise` raises.
        """
        ground = self._ground(caller, access, Mode.LOOKUP)
        with self._db.transaction() as tx:
            person = self._read(tx, caller, ground, identity, method)
            return CardsShown(None if person is None else tuple(tx.cards.of(person.subject_id)))

    def cancel_of_deceased(self, tx: Identity, subject_id: UUID, cause: Causation) -> None:
        """Cancel the card of somebody who died, and drop the request for another. Nothing happens if he has neither."""
        states = (CardState.ISSUED, CardState.REQUESTED)
        self._cancel_because(tx, subject_id, Cancellation.HOLDER_DECEASED, cause, *states)

    def cancel_of_succeeded(self, tx: Identity, subject_id: UUID, cause: Causation) -> None:
        """Cancel the card that shows a number which is cancelled. A request stays: its card will show the new one."""
        self._cancel_because(tx, subject_id, Cancellation.NUMBER_SUCCEEDED, cause, CardState.ISSUED)

    def adopt(self, tx: Identity, person: KnownPerson, told: Sequence[Document], time: datetime) -> None:
        """Know cards that the record has from this room and this room does not: history, or a backup restored.

        Of them and the one in force here the newest is in force, if its holder lives; an older one it has replaced.
        """
        new: list[Card] = []
        for document in told:
            card = Card(uuid4(), person.subject_id, CardState.ISSUED, time, time, document)
            if tx.cards.use_document_number(document.document_number, card.card_id):
                new.append(card)
        if not new:
            return
        held = [card for card in tx.cards.of(person.subject_id) if card.state is CardState.ISSUED]
        newest = max([*held, *new], key=lambda card: card.document.age_order if card.document else (0, 0, 0))
        now = self._clock.now()
        for card in (*held, *new):
            if person.is_deceased:
                tx.cards.put(card.cancelled(Cancellation.HOLDER_DECEASED, now))
            else:
                tx.cards.put(card if card is newest else card.cancelled(Cancellation.REPLACED, now))

    def _locked(self, tx: Identity, card: Card | None) -> tuple[KnownPerson, Card]:
        """The holder, locked, and the card as it is since then. Raises CardUnknown."""
        if card is None:
            raise CardUnknown()
        person = tx.people.lock([card.subject_id]).get(card.subject_id)
        if person is None:
            raise PersonUnknown()
        return person, tx.cards.find(card.card_id) or card

    def _cancel_because(
        self, tx: Identity, subject_id: UUID, reason: Cancellation, cause: Causation, *states: CardState
    ) -> None:
        now, cards = self._clock.now(), tx.cards.of(subject_id)
        cancelled = self._cancel(tx, cards, reason, now, *states)
        if not cancelled:
            return
        act = Act.caused(_CANCEL, self._room.identity, cause, now)
        self._tell(tx, act, subject_id, taken_back=any(card.document for card in cancelled))
        tx.log.record_all([_done(self._room, act.name, card) for card in cancelled])

    def _cancel(
        self, tx: Identity, cards: Sequence[Card], reason: Cancellation, now: datetime, *states: CardState
    ) -> list[Card]:
        cancelled = [card.cancelled(reason, now) for card in cards if card.state in states]
        for card in cancelled:
            tx.cards.put(card)
        return cancelled

    def _tell(
        self, tx: Identity, act: Act, subject_id: UUID, *, taken_back: bool, in_force: Card | None = None
    ) -> None:
        """Put an act into its chain and tell the record: first what was told is taken back, then what is in force."""
        sets: list[tuple[Document, ...]] = [()] if taken_back else []
        if in_force is not None and in_force.document is not None:
            sets.append((in_force.document,))
        told = [Told(subject_id, "", self._cards_to_bytes(documents), _PATHS, act.time) for documents in sets]
        tx.chain.add(act)
        tx.outbox.put(*contributions(act, told))

    def _read(
        self, tx: Identity, caller: Caller, ground: Ground, identity: StatedIdentity, method: str
    ) -> KnownPerson | None:
        """The person, if the identity matches; what is answered about him is recorded here and handed on as a use."""
        person = tx.people.match(identity)
        if person is not None:
            tx.outbox.put(use(caller, ground, method, person.subject_id, _PATHS, self._clock.now()))
            tx.log.record(Entry(caller, method, Outcome.DISCLOSED, ground, person.subject_id, _PATHS))
            return person
        named = tx.people.find(identity.pin)
        tx.log.record(Entry(caller, method, Outcome.NO_MATCH, ground, named.subject_id if named else None, _PATHS))
        return None

    def _ground(self, caller: Caller, access: Access, mode: Mode) -> Ground:
        self._require_room()
        day = legal_date(self._clock.now())
        return self._policy().authorise(caller.agency_id, caller.system_id, access, mode, _PATHS, day)


def _done(caller: Caller, method: str, card: Card, ground: Ground | None = None) -> Entry:
    return Entry(caller, method, Outcome.DONE, ground, card.subject_id, _PATHS, object=f"card {card.card_id}")


def _require_possible(document: Document, card: Card, person: KnownPerson, today: date) -> None:
    """Raises EventInFuture, EventBeforeBirth, InvalidField for dates of which no card can be that is issued now."""
    if document.issue_date is not None:
        day = require_happened(document.issue_date.first_day(), "issue_date", today, person.birth_date)
        if day < legal_date(card.request_time):
            raise InvalidField("issue_date", "must not lie before the day of the request")
    if document.has_expired(today):
        raise InvalidField("expiry_date", "must not be past")
