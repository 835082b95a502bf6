"""The outbox: what a transaction hands to another room is written with it, and leaves after it, in order by subject.

A message leaves when its receiver has it, and is kept for a while: a receiver that was restored from a backup has to be
told again. One that the receiver refuses for what it is is set aside: it waits for a command, and so do later ones of
its subject to that receiver; nothing is ever dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, literal, or_, select, text, tuple_

from services.mesh.core.chain import Causation
from services.mesh.core.errors import MeshError
from services.mesh.core.tables import OUTBOX, OUTBOX_DELIVERED


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a room. `message_id` tells it apart for ever: the receiver takes it once however often it comes.

    `subject_id` is what orders: the messages of one to a peer leave one after the other.
    """

    message_id: UUID
    peer: str
    kind: str
    subject_id: UUID
    payload: bytes
    causation: Causation


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is the next of its subject; `number` orders the outbox, `attempts` counts failures of its own."""

    number: int
    message: Message
    attempts: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a message: delivered, or refused for a reason, maybe of a field."""

    reason: str = ""
    field: str = ""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has it."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message or change that waits for a command. `direction` is "OUTGOING" or "INCOMING"."""

    message_id: UUID
    direction: str
    peer: str
    kind: str
    reason: str
    field: str
    causation: Causation
    record_time: datetime
    set_aside_time: datetime
    attempts: int


# One statement each: a delivered message never stands in both tables, nor in none.
_COLUMNS = "outbox_id, message_id, peer, kind, subject_id, payload, correlation_id, causation_id, record_time"
_KEEP = text(
    f"""
    WITH gone AS (DELETE FROM outbox WHERE outbox_id = ANY(CAST(:numbers AS bigint[])) RETURNING {_COLUMNS})
    INSERT INTO outbox_delivered ({_COLUMNS}, delivered_time) SELECT {_COLUMNS}, :at FROM gone
    """  # noqa: S608 - our own names
)
_REDELIVER = text(
    f"""
    WITH chosen AS (
      SELECT outbox_id FROM outbox_delivered WHERE peer = :peer AND delivered_time >= :since AND delivered_time < :until
      ORDER BY delivered_time, outbox_id LIMIT :limit FOR UPDATE
    ), gone AS (
      DELETE FROM outbox_delivered USING chosen WHERE outbox_delivered.outbox_id = chosen.outbox_id
      RETURNING {", ".join(f"outbox_delivered.{name}" for name in _COLUMNS.split(", "))}
    )
    INSERT INTO outbox ({_COLUMNS}) OVERRIDING SYSTEM VALUE SELECT {_COLUMNS} FROM gone ORDER BY outbox_id
    """  # noqa: S608 - our own names
)

Place: TypeAlias = tuple[datetime, UUID]
"""A place in the order of what is set aside: when, and which."""
FIRST: Place = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
"""Before all that is set aside."""


class Outbox:
    """The messages that wait, inside a transaction. `has_new` says whether this transaction put any."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.has_new = False

    def put(self, *messages: Message) -> None:
        """Write messages in the transaction of the act that they tell of; a subject's leave in their order."""
        rows = [
            {
                "message_id": message.message_id,
                "peer": message.peer,
                "kind": message.kind,
                "subject_id": message.subject_id,
                "payload": message.payload,
                "correlation_id": message.causation.correlation_id,
                "causation_id": message.causation.causation_id,
            }
            for message in messages
        ]
        if rows:
            self._connection.execute(OUTBOX.insert(), rows)
            self.has_new = True

    def next_due(self, peer: str, kinds: Iterable[str], now: datetime, limit: int) -> list[Waiting]:
        """The next message of each subject to a peer, in the order of writing, if it is due and of one of the kinds."""
        earlier = OUTBOX.alias("earlier")
        behind = exists().where(
            earlier.c.peer == OUTBOX.c.peer,
            earlier.c.subject_id == OUTBOX.c.subject_id,
            earlier.c.outbox_id < OUTBOX.c.outbox_id,
        )
        rows = (
            OUTBOX.select()
            .where(
                OUTBOX.c.peer == peer,
                OUTBOX.c.kind.in_(list(kinds)),
                OUTBOX.c.set_aside_time.is_(None),
                or_(OUTBOX.c.due_time.is_(None), OUTBOX.c.due_time <= now),
                ~behind,
            )
            .order_by(OUTBOX.c.outbox_id)
            .limit(limit)
        )
        return [Waiting(row.outbox_id, _message(row), row.attempts) for row in self._connection.execute(rows)]

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget messages that their receiver has."""
        self._connection.execute(OUTBOX.delete().where(OUTBOX.c.outbox_id.in_(list(numbers))))

    def keep_delivered(self, numbers: Iterable[int], at: datetime) -> None:
        """Take messages that their receiver has out of the outbox, and keep them for `redeliver`."""
        self._connection.execute(_KEEP, {"numbers": list(numbers), "at": at})

    def redeliver(self, peer: str, since: datetime, until: datetime, limit: int) -> int:
        """Put back what was delivered to a peer between two instants, so many messages at most; returns how many.

        Each takes its old place: it leaves before what was written later of its subject.
        """
        values = {"peer": peer, "since": since, "until": until, "limit": limit}
        return self._connection.execute(_REDELIVER, values).rowcount

    def forget_delivered(self, before: datetime, limit: int) -> int:
        """Forget messages that were delivered before an instant, so many at a time; returns how many it were."""
        number, time = OUTBOX_DELIVERED.c.outbox_id, OUTBOX_DELIVERED.c.delivered_time
        old = select(number).where(time < before).order_by(time).limit(limit)
        return self._connection.execute(OUTBOX_DELIVERED.delete().where(number.in_(old))).rowcount

    def postpone(self, number: int, until: datetime, reason: str, *, counted: bool = True) -> None:
        """Note that a message failed, `counted` if for itself, and when to try it again."""
        values = {"attempts": OUTBOX.c.attempts + int(counted), "due_time": until, "reason": reason}
        self._connection.execute(OUTBOX.update().where(OUTBOX.c.outbox_id == number).values(values))

    def set_aside(self, number: int, fate: Fate, at: datetime) -> None:
        """Let a message wait for a command."""
        values = {
            "attempts": OUTBOX.c.attempts + 1,
            "set_aside_time": at,
            "reason": fate.reason,
            "field": fate.field,
        }
        self._connection.execute(OUTBOX.update().where(OUTBOX.c.outbox_id == number).values(values))

    def retry(self, message_ids: Sequence[UUID], *, at: datetime) -> list[UUID]:
        """Make set-aside messages due again, with none named all of them; returns which."""
        chosen: ColumnElement[bool] = OUTBOX.c.set_aside_time.is_not(None)
        if message_ids:
            chosen = and_(chosen, OUTBOX.c.message_id.in_(list(message_ids)))
        values = {"set_aside_time": None, "due_time": at, "attempts": 0}
        row = OUTBOX.update().where(chosen).values(values).returning(OUTBOX.c.message_id)
        return list(self._connection.execute(row).scalars())

    def all_set_aside(self, after: Place = FIRST, limit: int = 1000) -> list[SetAside]:
        """What waits for a command, oldest first, after a place in that order."""
        columns = [column for column in OUTBOX.c if column is not OUTBOX.c.payload]
        order = (OUTBOX.c.set_aside_time, OUTBOX.c.message_id)
        rows = select(*columns).where(
            OUTBOX.c.set_aside_time.is_not(None), tuple_(*order) > tuple_(*map(literal, after))
        )
        return [
            SetAside(
                row.message_id,
                "OUTGOING",
                row.peer,
                row.kind,
                row.reason or "",
                row.field or "",
                Causation(row.correlation_id, row.causation_id),
                row.record_time,
                row.set_aside_time,
                row.attempts,
            )
            for row in self._connection.execute(rows.order_by(*order).limit(limit))
        ]

    def extent(self) -> tuple[int, datetime | None, int]:
        """How many messages wait, since when the oldest of them, and how many are set aside."""
        is_waiting = OUTBOX.c.set_aside_time.is_(None)
        figures = select(
            func.count().filter(is_waiting),
            func.min(OUTBOX.c.record_time).filter(is_waiting),
            func.count().filter(~is_waiting),
        ).select_from(OUTBOX)
        waiting, oldest, aside = self._connection.execute(figures).one()
        return waiting, oldest, aside


def fate_of(error: Exception) -> Fate:
    """Why a message or change was refused: the reason of a refusal, or INTERNAL for a fault of our own."""
    if not isinstance(error, MeshError):
        return Fate("INTERNAL")
    field = error.violations[0].field if error.violations else error.metadata.get("field", "")
    return Fate(error.reason, field)


def backoff(attempts: int) -> timedelta:
    """How long a message that fails for itself waits for its next attempt: 1, 2, 4, 8 s and so on, 60 s at most."""
    return timedelta(seconds=min(60.0, 2.0**attempts))


def _message(row: Row) -> Message:  # type: ignore[type-arg]
    causation = Causation(row.correlation_id, row.causation_id)
    return Message(row.message_id, row.peer, row.kind, row.subject_id, row.payload, causation)
