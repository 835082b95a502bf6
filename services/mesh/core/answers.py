"""Answers given: a repeated request gets its first answer, and changes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core import failpoints
from services.mesh.core.caller import Caller
from services.mesh.core.errors import InvalidField, Kind, MeshError
from services.mesh.core.stored import from_stored, to_stored
from services.mesh.core.tables import ANSWERS

A = TypeVar("A")

# Made once: every act runs them.
_MINE = and_(
    ANSWERS.c.caller == bindparam("by"), ANSWERS.c.method == bindparam("of"), ANSWERS.c.request_id == bindparam("id")
)
_INSERT = (
    insert(ANSWERS)
    .values(caller=bindparam("by"), method=bindparam("of"), request_id=bindparam("id"), payload_hash=bindparam("hash"))
    .on_conflict_do_nothing()
    .returning(ANSWERS.c.request_id)
)
_SELECT = ANSWERS.select().where(_MINE)
_KEEP = ANSWERS.update().where(_MINE).values(answer=bindparam("kept"))


class RequestIdReused(MeshError):
    """The request id was used before with another payload."""

    kind, reason = Kind.FAILED_PRECONDITION, "REQUEST_ID_REUSED"


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Names a request: method, the caller's id of it, and the hash of its payload."""

    method: str
    request_id: str
    payload_hash: bytes

    def __post_init__(self) -> None:
        try:
            canonical = str(UUID(self.request_id)) == self.request_id.lower()
        except ValueError:
            canonical = False
        if not canonical:
            raise InvalidField("request_id", "must be a UUID, such as 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21")


class Answer(Generic[A]):
    """An answer that is being given, or was given before (`given`)."""

    def __init__(self, given: A | None) -> None:
        self.given = given
        self._value: A | None = given

    def give(self, value: A) -> A:
        """Keep the value as the answer; a repeat of the request gets it."""
        self._value = value
        return value

    @property
    def value(self) -> A:
        """The answer to keep."""
        if self._value is None:
            raise RuntimeError("the operation ended without giving its answer")
        return self._value


class Answers:
    """The answers of one room, inside a transaction. An id means nothing with another caller or method."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def once(self, caller: Caller, key: AnswerKey, shape: type[A]) -> Iterator[Answer[A]]:
        """Give an answer of type `shape` (a dataclass) once.

        1. The row is inserted first: a concurrent repeat waits here until this transaction ends.
        2. If it stands already, its payload must be the same; the first answer is returned.
        3. Else the operation runs, and its answer is kept in its own transaction.

        Raises RequestIdReused for another payload.
        """
        names = {"by": caller.identity, "of": key.method, "id": key.request_id.lower()}
        inserted = self._connection.execute(_INSERT, {**names, "hash": key.payload_hash}).first()  # (1)
        if inserted is None:  # (2)
            stored = self._connection.execute(_SELECT, names).one()
            if stored.payload_hash != key.payload_hash:
                raise RequestIdReused()
            yield Answer(from_stored(stored.answer, shape))
            return
        answer: Answer[A] = Answer(None)  # (3)
        yield answer
        kept = to_stored(answer.value, shape)
        self._connection.execute(_KEEP, {**names, "kept": kept})
        failpoints.reach("answer.kept")

    def has(self, caller: Caller, key: AnswerKey) -> bool:
        """Whether the request has its answer already, whatever its payload."""
        names = {"by": caller.identity, "of": key.method, "id": key.request_id.lower()}
        return self._connection.execute(_SELECT, names).first() is not None


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Forget answers given before an instant, so many at a time; returns how many it were."""
    names = (ANSWERS.c.caller, ANSWERS.c.method, ANSWERS.c.request_id)
    old = select(*names).where(ANSWERS.c.record_time < before).limit(limit)
    return connection.execute(ANSWERS.delete().where(tuple_(*names).in_(old))).rowcount
