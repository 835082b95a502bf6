"""Numbers: reserved for a birth, confirmed by it, succeeded when the law asks for another, resolved for ever."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

from services.identity.domain import (
    REGISTRAR,
    BirthFacts,
    Confirmation,
    Number,
    NumberSpaceExhausted,
    NumberState,
    NumberUnknown,
    PostponedSuccession,
    Reservation,
    Resolution,
    Succession,
    SuccessionGround,
)
from services.identity.numbering import Space, correction_ground, fits, has_numbers
from services.identity.operations.cards import CardOperations
from services.identity.repository import Identity
from services.mesh.core.answers import AnswerKey
from services.mesh.core.background import Stopping
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Act, Causation
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.errors import FieldRequired, PeerUnavailable, StateNotAllowed, Violation
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.people import KnownPerson, Name
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access, Ground, Mode, Policy
from services.mesh.core.telling import Told, contributions, use

_PATHS = ("pin",)
_OBJECT = "number"  # never the number itself
_RELEASED_AT_ONCE = 1000
_SUCCEEDED_AT_ONCE = 100
_HISTORY_ASKED_EVERY = timedelta(seconds=1)
_SUCCEED = "identity.succeed_pin"
_NO_NUMBER = "NO_NUMBER_POSSIBLE"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a reservation lasts, and how long an expired one is kept; whether numbers are synthetic.

    An expired reservation is kept because its confirmation travels by the outbox of the room that registers births: a
    registered birth must not lose its number because that room was cut off for some days. Until then the number is
    nobody else's, and a late confirmation succeeds.
    """

    reservation_life: timedelta
    expired_kept: timedelta
    sandbox: bool


class NumberOperations:
    """Personal identification numbers. `pin_to_bytes` makes what the record is told of a number."""

    def __init__(
        self,
        database: Database[Identity],
        policy: Callable[[], Policy],
        clock: Clock,
        cards: CardOperations,
        terms: Terms,
        *,
        random: Random,
        room: Caller,
        require_room: Callable[[], None],
        pin_to_bytes: Callable[[str], bytes],
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._history_known_time = datetime.min.replace(tzinfo=UTC)
        self._cards = cards
        self._terms = terms
        self._random = random
        self._room = room
        self._require_room = require_room
        self._pin_to_bytes = pin_to_bytes

    def reserve_pin(self, caller: Caller, access: Access, birth: BirthFacts, key: AnswerKey) -> Reservation:
        """Reserve a number for a birth that is about to be registered, and mint the person's subject id.

        It stays reserved until the birth confirms it, or the reservation has expired and was kept its time. Raises
        PlaceCodeUnknown, InvalidField, NumberSpaceExhausted, PeerUnavailable until every number of history is known.
        Source: Decree 137/2015 Art. 13 (structure).
        """
        now = self._clock.now()
        space = Space.of(birth, legal_date(now), sandbox=self._terms.sandbox)
        with self._db.transaction() as tx, tx.answers.once(caller, key, Reservation) as answer:
            if answer.given:
                return answer.given
            self._require_history(tx)
            expire_time = now + self._terms.reservation_life
            wanted = Number("", uuid4(), NumberState.RESERVED, birth.birth_date, birth.sex, now, expire_time)
            number = self._take(tx, space, wanted)
            entry = Entry(
                caller, key.method, Outcome.DONE, None, number.subject_id, _PATHS, object=_OBJECT, stated=access
            )
            tx.log.record(entry)
            return answer.give(Reservation(number.pin, number.subject_id, expire_time))

    def confirm_pin(
        self, caller: Caller, pin: str, subject_id: UUID, causation: Causation, key: AnswerKey
    ) -> Confirmation:
        """Put a reserved number into force, also a while after its reservation expired: its birth is registered.

        One that is in force already stays as it is. A store that was restored from a backup may have forgotten that it
        reserved a number: it believes the birth until all were told again; and it may be told again of a number that is
        cancelled by now. Raises NumberUnknown, also for a number of another subject; StateNotAllowed for a cancelled
        one; PeerUnavailable while a restored store does not know what the feed tells. Source: Decree 70/2024 Art. 11.
        """
        self._require_room()
        with self._db.transaction() as tx, tx.answers.once(caller, key, Confirmation) as answer:
            if answer.given:
                return answer.given
            if is_restored := tx.followed.is_restored():
                tx.followed.require_caught_up()  # else an old number would be told as this room's newest word
            number = tx.numbers.lock(pin)
            if number is None and not tx.followed.is_told_again():
                number = self._forgotten(tx, pin, subject_id)
            if number is None or number.subject_id != subject_id:
                raise NumberUnknown()
            if number.state is NumberState.CANCELLED and is_restored:
                return answer.give(Confirmation(number.state))
            if number.state is NumberState.CANCELLED:
                raise StateNotAllowed(object=_OBJECT, state=number.state.name)
            if number.state is NumberState.RESERVED:
                self._put_into_force(tx, caller, number, causation, key)
            return answer.give(Confirmation(NumberState.ACTIVE))

    def resolve_pin(self, caller: Caller, access: Access | None, pin: str, method: str) -> Resolution:
        """What became of a number, and which one its person has now, through any number of successions.

        Rooms learn the subject id; what an agency learns is a use of the person's data. Raises NumberUnknown, of
        agencies also FieldRequired and what `Policy.authorise` raises.
        """
        ground = self._lookup_ground(caller, access)
        with self._db.transaction() as tx:
            number = tx.numbers.find(pin)
            if number is None:
                raise NumberUnknown()
            current = tx.numbers.active_of(number.subject_id)
            has_person = number.state is not NumberState.RESERVED
            if ground is not None and has_person:
                tx.outbox.put(use(caller, ground, method, number.subject_id, _PATHS, self._clock.now()))
            entry = Entry(caller, method, Outcome.DISCLOSED, ground, number.subject_id, _PATHS, object=_OBJECT)
            tx.log.record(entry)
        subject_id = number.subject_id if caller.kind is CallerKind.ROOM else None
        return Resolution(number.state, current.pin if current else "", number.ground, subject_id)

    def succeed_pin(
        self,
        caller: Caller,
        access: Access,
        identity: StatedIdentity,
        ground: SuccessionGround,
        birth: BirthFacts,
        key: AnswerKey,
    ) -> Succession:
        """Cancel a person's number and give another, built from facts that the officer states.

        Raises what `Policy.authorise` raises, PersonUnknown, IdentityMismatch, PersonDeceased, PlaceCodeUnknown,
        InvalidField, NumberSpaceExhausted; NumberUnknown for a person without a number of this room, StateNotAllowed if
        the number stated is not the one in force; PeerUnavailable as `reserve_pin`. Source: Decree 70/2024 Art. 11
        clause 7.
        """
        self._require_room()
        today = legal_date(self._clock.now())
        confirmed = self._policy().authorise(caller.agency_id, caller.system_id, access, Mode.REGISTER, _PATHS, today)
        space = Space.of(birth, today, sandbox=self._terms.sandbox)
        with self._db.transaction() as tx, tx.answers.once(caller, key, Succession) as answer:
            if answer.given:
                return answer.given
            self._require_history(tx)
            (person,) = tx.people.require_alive(identity)
            now = self._clock.now()  # once the person is locked: an act that waited is later than what it waited for
            old = tx.numbers.active_of(person.subject_id)
            if old is None:
                raise NumberUnknown()
            if old.pin != identity.pin:
                raise StateNotAllowed(object=_OBJECT, state=NumberState.CANCELLED.name)
            act = Act.begun(_SUCCEED, caller, access, now)
            wanted = Number("", person.subject_id, NumberState.ACTIVE, birth.birth_date, birth.sex, now)
            new = self._succeed(tx, person, old, ground, space, wanted, act)
            tx.log.record(_done(caller, key.method, person.subject_id, confirmed))
            return answer.give(Succession(new.pin, act.act_id))

    def succeed_corrected(self, tx: Identity, before: KnownPerson, person: KnownPerson, cause: Causation) -> None:
        """Give a person another number because the birth year or sex, known before, was corrected.

        It keeps the old number's place prefix: a correction of year or sex does not move the place of registration.
        Nothing happens if the number fits. If no number can be built the old one stays, and the chain says so. While
        not every number of history is known it waits: history may tell the one given for this very correction. Raises
        NumberSpaceExhausted.
        """
        old = tx.numbers.active_of(person.subject_id)
        if old is None:
            return
        facts = (before.birth_date.year, before.sex), (person.birth_date.year, person.sex)
        ground = correction_ground(old.pin, *facts)
        if ground is None:
            return
        if not (tx.followed.has_caught_up() and tx.followed.is_told_again()):
            tx.numbers.postpone(PostponedSuccession(person.subject_id, ground, cause))
            return
        self._correct(tx, person, old, ground, cause)

    def succeed_postponed(self) -> int:
        """Give numbers for corrections that came before every number of history was known; how many are settled.

        Who has a fitting number by now got it in history. Whose space is exhausted waits until a number is free in it,
        and keeps nobody else from his.
        """
        with self._db.transaction() as tx:
            if not (tx.followed.has_caught_up() and tx.followed.is_told_again()):
                return 0
            postponed = tx.numbers.take_postponed(_SUCCEEDED_AT_ONCE)
            people, settled = tx.people.lock([one.subject_id for one in postponed]), len(postponed)
            for one in postponed:
                person, old = people.get(one.subject_id), tx.numbers.active_of(one.subject_id)
                if person is None or old is None or fits(old.pin, person.birth_date.year, person.sex):
                    continue
                try:
                    self._correct(tx, person, old, one.ground, one.cause)
                except NumberSpaceExhausted:  # nothing of it was written
                    tx.numbers.postpone(one)
                    settled -= 1
        return settled

    def _correct(
        self, tx: Identity, person: KnownPerson, old: Number, ground: SuccessionGround, cause: Causation
    ) -> None:
        now = self._clock.now()
        if not has_numbers(person.birth_date.year, person.sex):
            tx.chain.add(Act.caused(_SUCCEED, self._room.identity, cause, now, _NO_NUMBER))
            tx.log.record(replace(_done(self._room, _SUCCEED, person.subject_id), object="no number possible"))
            return
        act = Act.caused(_SUCCEED, self._room.identity, cause, now)
        space = Space.beside(old.pin, person.birth_date.year, person.sex)
        wanted = Number("", person.subject_id, NumberState.ACTIVE, person.birth_date, person.sex, now)
        self._succeed(tx, person, old, ground, space, wanted, act)
        tx.log.record(_done(self._room, act.name, person.subject_id))

    def adopt(self, tx: Identity, person: KnownPerson, pin: str, time: datetime) -> None:
        """Know a number that the record has from this room and this room does not: history, or a backup restored.

        It is in force since `time`. One that the person had is cancelled by it, on which ground is lost. Raises
        StateNotAllowed if the number is reserved or given to somebody else here: an operator must look.
        """
        known = tx.numbers.lock(pin)
        if known is not None and known.subject_id != person.subject_id:
            raise StateNotAllowed(object=_OBJECT, state=known.state.name)
        if known is not None and known.state is not NumberState.RESERVED:
            return
        if (old := tx.numbers.active_of(person.subject_id)) is not None:
            tx.numbers.cancel(old.pin, None, pin, time)
        if known is not None:
            tx.numbers.confirm(pin, time)
        else:
            tx.numbers.adopt(Number(pin, person.subject_id, NumberState.ACTIVE, PartialDate(0), 0, time))
        if person.pin != pin:
            tx.people.put(replace(person, pin=pin))

    def release_expired(self) -> int:
        """Return numbers to the free space whose reservation expired and was kept its time; how many it were."""
        with self._db.transaction() as tx:
            return tx.numbers.release(self._clock.now() - self._terms.expired_kept, _RELEASED_AT_ONCE)

    def sweep(self, stopping: Stopping, *, every: timedelta) -> None:
        """Release what has expired, and do what was postponed, again and again, until told to stop."""
        while not stopping.is_set():
            if self.succeed_postponed() < _SUCCEEDED_AT_ONCE and self.release_expired() < _RELEASED_AT_ONCE:
                stopping.wait(every.total_seconds())

    def _forgotten(self, tx: Identity, pin: str, subject_id: UUID) -> Number:
        """A number that a birth took and that this store forgot to have reserved; nothing else is known of it."""
        number = Number(pin, subject_id, NumberState.RESERVED, PartialDate(0), 0, self._clock.now())
        tx.numbers.adopt(number)
        return number

    def _require_history(self, tx: Identity) -> None:
        """Every number that was ever given is known: those that the feed tells, and after a restore from a backup also
        those that births took and the feed may not tell. Raises PeerUnavailable.

        Asked once a second: what becomes true stays so, unless the store is restored, which takes longer.
        """
        now = self._clock.now()
        if now - self._history_known_time > _HISTORY_ASKED_EVERY:
            tx.followed.require_caught_up()
            if not tx.followed.is_told_again():
                raise PeerUnavailable(REGISTRAR)
            self._history_known_time = now

    def _take(self, tx: Identity, space: Space, wanted: Number) -> Number:
        number = tx.numbers.take(space, wanted, self._random)
        if number is None:
            raise NumberSpaceExhausted()
        return number

    def _put_into_force(
        self, tx: Identity, caller: Caller, number: Number, causation: Causation, key: AnswerKey
    ) -> None:
        now = self._clock.now()
        tx.numbers.confirm(number.pin, now)
        if not tx.people.lock([number.subject_id]):
            nameless = Name("", "", "", "")  # the name comes with the feed, once the record has the birth
            tx.people.put(KnownPerson(number.subject_id, number.pin, nameless, number.birth_date, number.sex))
        act = Act.caused("identity.confirm_pin", caller.identity, causation, now)
        tx.chain.add(act)
        tx.outbox.put(*contributions(act, [self._told(number, act)]))
        tx.log.record(_done(caller, key.method, number.subject_id))

    def _succeed(
        self,
        tx: Identity,
        person: KnownPerson,
        old: Number,
        ground: SuccessionGround,
        space: Space,
        wanted: Number,
        act: Act,
    ) -> Number:
        """1. The new number is in force, and the old one names it. 2. The record learns it. 3. The card falls."""
        new = self._take(tx, space, wanted)  # (1)
        tx.numbers.cancel(old.pin, ground, new.pin, act.time)
        tx.people.put(replace(person, pin=new.pin))
        tx.chain.add(act)  # (2)
        tx.outbox.put(*contributions(act, [self._told(new, act)]))
        self._cards.cancel_of_succeeded(tx, person.subject_id, act.causation)  # (3)
        return new

    def _told(self, number: Number, act: Act) -> Told:
        return Told(number.subject_id, "", self._pin_to_bytes(number.pin), _PATHS, act.time)

    def _lookup_ground(self, caller: Caller, access: Access | None) -> Ground | None:
        if caller.kind is not CallerKind.AGENCY:
            return None
        if access is None:
            raise FieldRequired(Violation("access", "is required of agencies"))
        self._require_room()
        day = legal_date(self._clock.now())
        return self._policy().authorise(caller.agency_id, caller.system_id, access, Mode.LOOKUP, _PATHS, day)


def _done(caller: Caller, method: str, subject_id: UUID, ground: Ground | None = None) -> Entry:
    return Entry(caller, method, Outcome.DONE, ground, subject_id, _PATHS, object=_OBJECT)
