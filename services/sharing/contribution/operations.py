"""The use case of contributions: many items of one source, each with its own result, in one transaction."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy.exc import IntegrityError
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.errors import FieldRequired, MeshError, Violation
from services.mesh.core.rights import Access, Lane, Mode, Policy
from services.sharing.changes.domain import Change
from services.sharing.contribution.domain import (
    MINTING_ROOM,
    EventIdReused,
    Item,
    Malformed,
    PinTaken,
    Result,
    Results,
    Status,
    SubjectNotMinted,
    WriteRight,
    rejected,
    require_times,
    write_right,
)
from services.sharing.record.fields import select
from services.sharing.record.subject import Subject, Telling
from services.sharing.unit import Sharing

Mark: TypeAlias = Callable[[str], bytes]
"""Makes a keyed hash of a text."""


class Contributing:
    """Takes in contributions.

    After a commit `wake` is called, since it may have left changes for the sequencer, and `taken` is told from which
    source the record took something, and when. `mark` names changes.
    """

    def __init__(
        self,
        database: Database[Sharing],
        policy: Callable[[], Policy],
        clock: Clock,
        wake: Callable[[], None],
        taken: Callable[[str, datetime], None],
        mark: Mark,
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._wake = wake
        self._taken = taken
        self._mark = mark

    # two calls may name the same new PIN or subject, or one event twice, at the same moment: the later looks again
    @retry(retry=retry_if_exception_type((IntegrityError, UniqueViolation)), stop=stop_after_attempt(5), reraise=True)
    def contribute(
        self, caller: Caller, access: Access | None, items: Sequence[Item | Malformed], key: AnswerKey
    ) -> Results:
        """Take in items, each for itself; when this returns, what it reports is durable.

        1. The source's right to write is settled for the call.
        2. An item known under its event id is a DUPLICATE, or refused if its content differs.
        3. Its person is found, or the item is HELD until its PIN comes.
        4. What it tells joins what others told; the record follows by the authority rule, and the feed moves with it.

        An agency that repeats its request gets its first answer. Of a room no answer is kept: it calls many times a
        second, and a repeat gives DUPLICATE for each item.

        Raises what `Policy.authorise` raises, FieldRequired for an agency without access, RequestIdReused.
        """
        right = self._right(caller, access)  # (1)
        with self._db.transaction() as tx:
            if caller.kind is CallerKind.ROOM:
                batch, results = self._take(tx, right, access, items)
            else:
                with tx.answers.once(caller, key, Results) as answer:
                    if answer.given:
                        return answer.given
                    batch, results = self._take(tx, right, access, items)
                    answer.give(results)
        self._wake()
        if batch.has_taken:
            self._taken(right.source, batch.time)
        return results

    def _take(
        self, tx: Sharing, right: WriteRight, access: Access | None, items: Sequence[Item | Malformed]
    ) -> tuple["_Batch", Results]:
        batch = _Batch(tx, self._policy(), self._clock.now(), right, access, self._mark)
        results = Results(batch.take_all(items))
        batch.save()
        return batch, results

    def _right(self, caller: Caller, access: Access | None) -> WriteRight:
        policy, day = self._policy(), legal_date(self._clock.now())
        if caller.kind is CallerKind.ROOM:
            return write_right(caller, frozenset(), policy, day)
        if access is None:
            raise FieldRequired(Violation("access", "is required of agencies"))
        policy.authorise(caller.agency_id, caller.system_id, access, Mode.CONTRIBUTE, (), day)
        agreement = policy.agreements[access.agreement_id]
        return write_right(caller, policy.usable_paths(agreement, Mode.CONTRIBUTE, day), policy, day)


class _Batch:
    """The items of one call in one transaction: read at once, decided in memory, written at once."""

    def __init__(
        self, tx: Sharing, policy: Policy, now: datetime, right: WriteRight, access: Access | None, mark: Mark
    ) -> None:
        self._tx, self._now, self._right, self._access, self._mark = tx, now, right, access, mark
        self._definitions = policy.fields_in_force(legal_date(now))
        self._known: dict[str, bytes] = {}
        self._subjects: dict[UUID, Subject] = {}
        self._by_pin: dict[str, Subject] = {}
        self._new_pins: list[tuple[str, Subject]] = []
        self._taken: list[tuple[Item, Subject | None]] = []
        self._changes: list[Change] = []

    @property
    def has_taken(self) -> bool:
        """Whether the record took any of the items, be it to wait."""
        return bool(self._taken)

    @property
    def time(self) -> datetime:
        """When it was recorded."""
        return self._now

    def take_all(self, items: Sequence[Item | Malformed]) -> tuple[Result, ...]:
        """Decide about every item, in order."""
        readable = [item for item in items if isinstance(item, Item)]
        self._known = self._tx.contributions.known(self._right.source, {item.event_id for item in readable})
        named = {pin for item in readable for pin in (item.pin, item.pin_told) if pin}
        owners = self._tx.records.subject_ids(named)
        unknown = {item.pin for item in readable if item.pin and item.pin not in owners}
        minted = {item.pin_told for item in readable if item.pin_told and item.pin_told not in owners}
        if minted:
            self._tx.contributions.announce_minting(minted)
        if unknown:
            self._tx.contributions.hold_off_minting(unknown)
            owners = self._tx.records.subject_ids(named)
        wanted = {*owners.values(), *(item.subject_id for item in readable if item.subject_id)}
        self._subjects = self._tx.records.lock_subjects(wanted)
        self._by_pin = {pin: self._subjects[owner] for pin, owner in owners.items()}
        return tuple(self._take(item) for item in items)

    def save(self) -> None:
        """Apply what waited for the new PINs, and write everything that was decided."""
        tx, now = self._tx, self._now
        released = tx.contributions.release([pin for pin, _ in self._new_pins])
        for source, item in released:
            self._tell(self._by_pin[item.pin], item, source)
        settled = [(source, item.event_id, self._by_pin[item.pin].subject_id) for source, item in released]
        tx.contributions.settle(sorted(settled))
        # in one order whatever the call's, or two calls with the same people would wait for each other
        tx.records.add_pins(sorted((pin, subject.subject_id) for pin, subject in self._new_pins))
        told = [subject for subject in self._subjects.values() if subject.told]
        tx.records.save(sorted(told, key=lambda subject: subject.subject_id), now)
        in_order = sorted(self._taken, key=lambda one: one[0].event_id)
        taken = [(item, subject.subject_id if subject else None) for item, subject in in_order]
        tx.contributions.add(self._right.source, self._access, taken, now)
        tx.contributions.hold(self._right.source, [item for item, subject in self._taken if subject is None], now)
        tx.changes.put(self._changes)

    def _take(self, item: Item | Malformed) -> Result:
        try:
            if isinstance(item, Malformed):
                raise item.error
            known = self._known.get(item.event_id)
            if known is not None and known != item.content_hash:  # (2)
                raise EventIdReused()
            if known is not None:
                return Result(item.event_id, Status.DUPLICATE)
            require_times(item.event_time, item.register_time, self._now)
            self._right.require(item.paths)
            subject = self._subject_of(item)  # (3)
        except MeshError as error:
            return rejected(item.event_id, error)
        self._known[item.event_id] = item.content_hash
        self._taken.append((item, subject))
        if subject is None:
            return Result(item.event_id, Status.HELD)
        return Result(item.event_id, Status.APPLIED, self._tell(subject, item, self._right.source))

    def _subject_of(self, item: Item) -> Subject | None:
        """Whom the item is about, with the PIN that it tells made his. None: the PIN that names him is not known yet.

        Raises SubjectNotMinted for a subject or PIN that only the minting room may bring in, PinTaken.
        """
        subject = self._subjects.get(item.subject_id) if item.subject_id else self._by_pin.get(item.pin)
        owner = self._by_pin.get(item.pin_told)
        if owner is not None and owner is not subject:
            raise PinTaken()
        if subject is None and item.subject_id is None and not item.pin_told:
            return None
        if subject is None:
            if item.subject_id is None or not item.pin_told or self._right.source != MINTING_ROOM:
                raise SubjectNotMinted()
            subject = self._subjects[item.subject_id] = Subject(item.subject_id, item.pin_told)
        if item.pin_told and owner is None:
            self._by_pin[item.pin_told] = subject
            self._new_pins.append((item.pin_told, subject))
        return subject

    def _tell(self, subject: Subject, item: Item, source: str) -> tuple[str, ...]:
        """Tell it (4). Returns the paths for which the record keeps another value."""
        telling = Telling(source, item.event_id, item.values, item.event_time, item.register_time)
        before, disputed_before = subject.person, subject.disputed
        effect = subject.tell(telling, self._now, self._definitions)
        if paths := effect.changed_paths:
            disputed = tuple(path for path in paths if path in subject.disputed)
            person = select(subject.person, paths).SerializeToString(deterministic=True)
            course = _Course(
                source=source,
                event_id=item.event_id,
                subject_id=subject.subject_id,
                paths=paths,
                before=select(before, paths).SerializeToString(deterministic=True) if before else b"",
                disputed_before=tuple(path for path in paths if path in disputed_before),
                after=person,
                disputed_after=disputed,
                history=tuple(
                    (one.source, one.path, one.item_key, one.value, one.event_time.timestamp())
                    for one in subject.history(paths)
                ),
            )
            self._changes.append(
                Change(
                    position=0,
                    change_id=course.change_id(self._mark),
                    subject_id=subject.subject_id,
                    pin=subject.pin,
                    paths=paths,
                    disputed=disputed,
                    person=person,
                    source=source,
                    event_time=item.event_time,
                    record_time=self._now,
                    causation=item.causation,
                    lane=self._lane(paths),
                )
            )
        return effect.not_followed

    def _lane(self, paths: Iterable[str]) -> Lane:
        """Where a change travels: a vital field makes all of it vital."""
        definitions = (self._definitions.get(path) for path in paths)
        return Lane.VITAL if any(one is not None and one.lane is Lane.VITAL for one in definitions) else Lane.NORMAL


class _Course(NamedTuple):
    """What an event did to a record, at the paths that changed: what others told besides may come in any order."""

    source: str
    event_id: str
    subject_id: UUID
    paths: tuple[str, ...]
    before: bytes
    disputed_before: tuple[str, ...]
    after: bytes
    disputed_after: tuple[str, ...]
    history: tuple[tuple[str, str, str, bytes | None, float], ...]

    def change_id(self, mark: Mark) -> UUID:
        """The same whenever the event does the same to the same record; keyed, for a record could be guessed from it.

        A record that was restored from a backup is told again what it lost. Followers who took such a change before
        know it by its id; where the record took another course since, the change has another id, and is news. So are
        then all later ones of the same paths, by their history: whoever took the former value as news must not pass
        over the latter.
        """
        return UUID(bytes=mark(f"change {tuple(self)!r}")[:16], version=4)
