"""A room's place in the feed of changes: its cursor, and the changes that it could not apply."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Update, and_, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.chain import Causation
from services.mesh.core.errors import PeerUnavailable
from services.mesh.core.outbox import FIRST, Fate, Place, SetAside
from services.mesh.core.stored import from_stored, to_stored
from services.mesh.core.tables import CHANGES_SET_ASIDE, CHANGES_TAKEN, FEED_CURSOR, STORE

FEED = "sharing"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the feed of one incarnation of its store: the position of the last change seen."""

    incarnation: int
    position: int


@dataclass(frozen=True, slots=True)
class FollowedChange:
    """A change of one person as a room follows it.

    `paths` are the followed paths that changed, `person` a serialised npd.common.v1.Person with their new values; a
    path that is not set there holds no value any more. `causation` names the change itself as the cause of what
    follows.
    """

    position: int
    change_id: UUID
    subject_id: UUID
    pin: str
    paths: tuple[str, ...]
    person: bytes
    source: str
    event_time: datetime
    record_time: datetime
    causation: Causation
    caused_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Unsaid:
    """How a set-aside change stands: recovered, or refused for a reason (empty: it waits behind another)."""

    change_id: UUID
    reason: str
    is_recovered: bool


@dataclass(frozen=True, slots=True)
class Page:
    """What the feed gave at once: changes, where to go on after them, and whether that was its head just then."""

    changes: Sequence[FollowedChange]
    reached: Cursor
    is_head: bool = False


class Followed:
    """How far this room has come in the feed, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def cursor(self) -> Cursor:
        """Up to where every change is applied or set aside; the start of all feeds, if none ever was."""
        row = self._connection.execute(FEED_CURSOR.select().where(FEED_CURSOR.c.feed == FEED)).first()
        return Cursor(row.incarnation, row.position) if row else Cursor(0, 0)

    def lock_cursor(self) -> Cursor:
        """The cursor, which no other replica moves until this transaction ends."""
        first = insert(FEED_CURSOR).values(feed=FEED, incarnation=0, position=0).on_conflict_do_nothing()
        self._connection.execute(first)
        row = self._connection.execute(FEED_CURSOR.select().where(FEED_CURSOR.c.feed == FEED).with_for_update()).one()
        return Cursor(row.incarnation, row.position)

    def move(self, cursor: Cursor) -> None:
        """Move the cursor, in the transaction that applies the changes up to it."""
        values = {"incarnation": cursor.incarnation, "position": cursor.position}
        self._connection.execute(FEED_CURSOR.update().where(FEED_CURSOR.c.feed == FEED).values(values))

    def has_caught_up(self) -> bool:
        """Whether the feed was followed to its head since this store exists, or since it was restored from a backup."""
        mine = select(FEED_CURSOR.c.caught_up == select(func.max(STORE.c.incarnation)).scalar_subquery())
        return bool(self._connection.execute(mine.where(FEED_CURSOR.c.feed == FEED)).scalar())

    def require_caught_up(self) -> None:
        """For acts that must know everything that was ever told. Raises PeerUnavailable until `has_caught_up`."""
        if not self.has_caught_up():
            raise PeerUnavailable(FEED)

    def is_restored(self) -> bool:
        """Whether this store was ever restored from a backup: it may have forgotten what it answered."""
        return bool(self._connection.execute(select(func.bool_or(STORE.c.restore_time.is_not(None)))).scalar())

    def is_told_again(self) -> bool:
        """Whether those who tell this room have told again what it forgot by a restore from a backup."""
        return bool(self._connection.execute(select(func.bool_and(STORE.c.told_again))).scalar())

    def catch_up(self) -> None:
        """Note that everything up to the feed's head is taken. Who calls holds the cursor locked."""
        now = select(func.max(STORE.c.incarnation)).scalar_subquery()
        self._connection.execute(FEED_CURSOR.update().where(FEED_CURSOR.c.feed == FEED).values(caught_up=now))

    def new_of(self, changes: Sequence[FollowedChange]) -> list[FollowedChange]:
        """Those of the changes that come for the first time; from now on they are taken.

        A restored feed tells all it has again, former values before those that corrected them: who took a former value
        for news would, say, take a number away again.
        """
        rows = [
            {
                "subject_id": change.subject_id,
                "change_id": change.change_id,
                "correlation_id": change.causation.correlation_id,
            }
            for change in changes
        ]
        if not rows:
            return []
        first = insert(CHANGES_TAKEN).values(rows).on_conflict_do_nothing().returning(CHANGES_TAKEN.c.change_id)
        new = set(self._connection.execute(first).scalars())
        if len(new) < len(changes):  # who tells them again may not know any more how they stand
            self._connection.execute(_among(change.change_id for change in changes).values(said=False))
        return [change for change in changes if change.change_id in new]

    def has_heard(self, subject_id: UUID, correlation_id: UUID) -> bool:
        """Whether the feed told something of a subject because of this chain."""
        heard = select(CHANGES_TAKEN.c.change_id).where(
            CHANGES_TAKEN.c.subject_id == subject_id, CHANGES_TAKEN.c.correlation_id == correlation_id
        )
        return self._connection.execute(heard.limit(1)).first() is not None

    def waiting_subjects(self, subject_ids: Sequence[UUID]) -> set[UUID]:
        """Those of the subjects of whom an earlier change is set aside: what follows must wait behind it."""
        mine = CHANGES_SET_ASIDE.c.subject_id.in_(list(subject_ids))
        wanted = select(CHANGES_SET_ASIDE.c.subject_id).where(mine, ~CHANGES_SET_ASIDE.c.recovered)
        return set(self._connection.execute(wanted.distinct()).scalars())

    def set_aside(self, change: FollowedChange, fate: Fate | None) -> None:
        """Keep a change that was refused, or with no fate one that waits behind another of its subject."""
        row = insert(CHANGES_SET_ASIDE).values(
            subject_id=change.subject_id,
            change_id=change.change_id,
            change=to_stored(change, FollowedChange),
            correlation_id=change.causation.correlation_id,
            reason=fate.reason if fate else "",
            field=fate.field if fate else "",
            record_time=change.record_time,
            attempts=1 if fate else 0,
        )
        self._connection.execute(row)

    def next_due(self) -> list[FollowedChange]:
        """The first waiting change of each subject, if a command, or the end of what it waited behind, makes it due."""
        earlier = CHANGES_SET_ASIDE.alias("earlier")
        behind = (
            select(earlier.c.change_id)
            .where(
                earlier.c.subject_id == CHANGES_SET_ASIDE.c.subject_id,
                earlier.c.waiting_id < CHANGES_SET_ASIDE.c.waiting_id,
                ~earlier.c.recovered,
            )
            .exists()
        )
        due = and_(or_(CHANGES_SET_ASIDE.c.due, CHANGES_SET_ASIDE.c.reason == ""), ~CHANGES_SET_ASIDE.c.recovered)
        rows = CHANGES_SET_ASIDE.select().where(and_(due, ~behind)).order_by(CHANGES_SET_ASIDE.c.waiting_id)
        locked = rows.limit(100).with_for_update()
        return [from_stored(row.change, FollowedChange) for row in self._connection.execute(locked)]

    def take_back(self, change: FollowedChange) -> None:
        """Note that a set-aside change is applied after all; it is forgotten once the feed has heard so."""
        values = {"recovered": True, "said": False}
        self._connection.execute(CHANGES_SET_ASIDE.update().where(*_is(change)).values(values))

    def refuse_again(self, change: FollowedChange, fate: Fate) -> None:
        """Note that a set-aside change failed again; it waits for the next command."""
        values = {
            "attempts": CHANGES_SET_ASIDE.c.attempts + 1,
            "reason": fate.reason,
            "field": fate.field,
            "due": False,
            "said": False,
            "set_aside_time": func.clock_timestamp(),
        }
        self._connection.execute(CHANGES_SET_ASIDE.update().where(*_is(change)).values(values))

    def retry(self, change_ids: Sequence[UUID]) -> list[UUID]:
        """Make set-aside changes due again, with none named all of them; returns which."""
        chosen = _REFUSED
        if change_ids:
            chosen = and_(chosen, CHANGES_SET_ASIDE.c.change_id.in_(list(change_ids)))
        row = CHANGES_SET_ASIDE.update().where(chosen).values(due=True).returning(CHANGES_SET_ASIDE.c.change_id)
        return list(self._connection.execute(row).scalars())

    def all_set_aside(self, after: Place = FIRST, limit: int = 1000) -> list[SetAside]:
        """The changes that wait for a command, oldest first, after a place in that order."""
        columns = [column for column in CHANGES_SET_ASIDE.c if column is not CHANGES_SET_ASIDE.c.change]
        order = (CHANGES_SET_ASIDE.c.set_aside_time, CHANGES_SET_ASIDE.c.change_id)
        refused = select(*columns).where(_REFUSED, tuple_(*order) > tuple_(*map(literal, after)))
        return [
            SetAside(
                row.change_id,
                "INCOMING",
                FEED,
                "change",
                row.reason,
                row.field,
                Causation(row.correlation_id, row.change_id),
                row.record_time,
                row.set_aside_time,
                row.attempts,
            )
            for row in self._connection.execute(refused.order_by(*order).limit(limit))
        ]

    def unsaid(self) -> list[Unsaid]:
        """How set-aside changes stand, as far as the feed has not heard it, oldest first; 1,000 at most."""
        table = CHANGES_SET_ASIDE.c
        wanted = select(table.change_id, table.reason, table.recovered).where(~table.said).order_by(table.waiting_id)
        rows = self._connection.execute(wanted.limit(1000))
        return [Unsaid(row.change_id, row.reason, row.recovered) for row in rows]

    def note_said(self, heard: Sequence[Unsaid]) -> None:
        """The feed has heard how these stand: who is recovered is forgotten."""
        recovered = [one.change_id for one in heard if one.is_recovered]
        refused = [one.change_id for one in heard if not one.is_recovered]
        table = CHANGES_SET_ASIDE.c
        self._connection.execute(CHANGES_SET_ASIDE.delete().where(table.change_id.in_(recovered), table.recovered))
        self._connection.execute(_among(refused).where(~table.recovered).values(said=True))

    def set_aside_count(self) -> int:
        """How many changes wait for a command."""
        return self._connection.execute(
            select(func.count()).select_from(CHANGES_SET_ASIDE).where(_REFUSED)
        ).scalar_one()


_REFUSED: ColumnElement[bool] = and_(CHANGES_SET_ASIDE.c.reason != "", ~CHANGES_SET_ASIDE.c.recovered)


def _among(change_ids: Iterable[UUID]) -> Update:
    return CHANGES_SET_ASIDE.update().where(CHANGES_SET_ASIDE.c.change_id.in_(list(change_ids)))


def _is(change: FollowedChange) -> tuple[ColumnElement[bool], ...]:
    return (
        CHANGES_SET_ASIDE.c.subject_id == change.subject_id,
        CHANGES_SET_ASIDE.c.change_id == change.change_id,
    )
