"""Serves npd.common.v1.RelayService, the same in every room: what is set aside, the command to try it again, and the
command to hand on again what a peer that was restored from a backup has lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
from sqlalchemy import Connection

from npd.common.v1 import relay_pb2, relay_pb2_grpc
from services.mesh.core.answers import AnswerKey, Answers
from services.mesh.core.caller import Caller
from services.mesh.core.clock import CLOCKS_APART
from services.mesh.core.db import Database
from services.mesh.core.errors import InvalidField, Kind, MeshError, PageTokenInvalid
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.evidence.log import Log
from services.mesh.core.following import Followed
from services.mesh.core.methods import allow, operator
from services.mesh.core.outbox import FIRST, Outbox, Place, SetAside
from services.mesh.core.telling import causation_to_wire
from services.mesh.wire import paging
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.call import answer_key, caller_of
from services.mesh.wire.person import instant_from_wire

METHODS = {
    "/npd.common.v1.RelayService/ListSetAside": allow(operator()),
    "/npd.common.v1.RelayService/RetrySetAside": allow(operator()),
    "/npd.common.v1.RelayService/RedeliverMessages": allow(operator()),
}
_AT_ONCE = 5000
_EARLIEST = datetime.fromtimestamp(0, UTC)


class MessageUnknown(MeshError):
    """No message of this id is set aside."""

    kind, reason = Kind.NOT_FOUND, "MESSAGE_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Retried:
    """How many messages will be tried again."""

    count: int


@dataclass(frozen=True, slots=True)
class Redelivery:
    """How many messages will be handed on again, and since when such are kept."""

    count: int
    kept_since: datetime


class Traffic:
    """What a room has set aside in either direction, and what it handed on, inside a transaction."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.answers = Answers(connection)
        self.log = log
        self.outbox = Outbox(connection)
        self.followed = Followed(connection)

    def set_aside(self, after: Place, limit: int) -> list[SetAside]:
        """What is set aside, oldest first, after a place in that order."""
        both = [*self.outbox.all_set_aside(after, limit), *self.followed.all_set_aside(after, limit)]
        return sorted(both, key=lambda one: (one.set_aside_time, one.message_id))[:limit]

    def retry(self, caller: Caller, message_ids: list[UUID], key: AnswerKey) -> Retried:
        """Make messages due again, with none named all; recorded as an act. Raises MessageUnknown."""
        with self.answers.once(caller, key, Retried) as answer:
            if answer.given:
                return answer.given
            retried = {*self.outbox.retry(message_ids, at=datetime.now(UTC)), *self.followed.retry(message_ids)}
            if not retried >= set(message_ids):
                raise MessageUnknown()
            self.log.record(Entry(caller, key.method, Outcome.DONE, object=f"{len(retried)} messages"))
            return answer.give(Retried(len(retried)))

    def note_redelivery(
        self, caller: Caller, peer: str, since: datetime, made: Redelivery, key: AnswerKey
    ) -> Redelivery:
        """Record that messages to a peer are handed on again, as an act; the answer is what was made at first."""
        with self.answers.once(caller, key, Redelivery) as answer:
            if answer.given:
                return answer.given
            done = f"{made.count} messages to {peer} since {since.isoformat()}"
            self.log.record(Entry(caller, key.method, Outcome.DONE, object=done))
            return answer.give(made)


class RelayServicer(relay_pb2_grpc.RelayServiceServicer):
    """Adapts the wire to what is set aside and was handed on: convert, one step, convert.

    `wake` is called after a command. What was delivered is kept for `kept`.
    """

    def __init__(self, database: Database[Traffic], wake: Callable[[], None], kept: timedelta) -> None:
        self._database = database
        self._wake = wake
        self._kept = kept

    def ListSetAside(
        self, request: relay_pb2.ListSetAsideRequest, context: grpc.ServicerContext
    ) -> relay_pb2.ListSetAsideResponse:
        size = paging.page_size(request.page_size, default=100, most=1000)
        after = _place(paging.from_token(request.page_token, 2))
        with self._database.transaction() as traffic:
            waiting = traffic.set_aside(after, size + 1)
        token = paging.to_token(*_key(waiting[size - 1])) if len(waiting) > size else ""
        return relay_pb2.ListSetAsideResponse(messages=map(_to_wire, waiting[:size]), next_page_token=token)

    def RetrySetAside(
        self, request: relay_pb2.RetrySetAsideRequest, context: grpc.ServicerContext
    ) -> relay_pb2.RetrySetAsideResponse:
        key = answer_key(context, request, request.request_id)
        message_ids = [UUID(uuid_from_wire(each, "message_ids")) for each in request.message_ids]
        with self._database.transaction() as traffic:
            retried = traffic.retry(caller_of(context), message_ids, key)
        self._wake()
        return relay_pb2.RetrySetAsideResponse(retried_count=retried.count)

    def RedeliverMessages(
        self, request: relay_pb2.RedeliverMessagesRequest, context: grpc.ServicerContext
    ) -> relay_pb2.RedeliverMessagesResponse:
        key, since = answer_key(context, request, request.request_id), instant_from_wire(request.since, "since")
        made = self._redeliver(caller_of(context), request.peer, since, key)
        self._wake()
        response = relay_pb2.RedeliverMessagesResponse(redelivered_count=made.count)
        response.kept_since.FromDatetime(made.kept_since)
        return response

    def _redeliver(self, caller: Caller, peer: str, since: datetime, key: AnswerKey) -> Redelivery:
        """Put messages back, a portion a transaction, then record the act with the last one.

        A crash between leaves some put back and no answer: the repeat puts back the others. Raises InvalidField.
        """
        now, count, moved = datetime.now(UTC), 0, _AT_ONCE
        if since > now:
            raise InvalidField("since", "must not lie ahead")
        since = max(since, _EARLIEST)
        while moved == _AT_ONCE:
            with self._database.transaction() as traffic:
                moved = 0
                if not traffic.answers.has(caller, key):
                    moved = traffic.outbox.redeliver(peer, since - CLOCKS_APART, now, _AT_ONCE)
                    count += moved
                if moved < _AT_ONCE:
                    made = Redelivery(count, now - self._kept)
                    made = traffic.note_redelivery(caller, peer, since, made, key)
        return made


def _place(token: tuple[str, ...]) -> Place:
    if not token:
        return FIRST
    try:
        return datetime.fromisoformat(token[0]), UUID(token[1])
    except ValueError:
        raise PageTokenInvalid("page_token", "must be the next_page_token of the answer before") from None


def _key(one: SetAside) -> tuple[str, str]:
    return one.set_aside_time.isoformat(), str(one.message_id)


def _to_wire(one: SetAside) -> relay_pb2.SetAside:
    wire = relay_pb2.SetAside(
        message_id=str(one.message_id),
        direction=relay_pb2.Direction.Value(f"DIRECTION_{one.direction}"),
        peer=one.peer,
        kind=one.kind,
        reason=one.reason,
        field=one.field,
        causation=causation_to_wire(one.causation),
        attempts=one.attempts,
    )
    wire.record_time.FromDatetime(one.record_time)
    wire.set_aside_time.FromDatetime(one.set_aside_time)
    return wire
