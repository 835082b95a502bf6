"""Follows the feed of changes for ever: past planned ends, broken streams and renewals, each change once."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import SystemRandom
from typing import TypeAlias

import grpc

from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.credentials import Credentials, CredentialsError
from npd_client.errors import Refusal, refusal_of

Interruption: TypeAlias = Callable[[Refusal, float], None]
"""Told why a watch was interrupted, and in how many seconds it goes on."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between attempts to watch again: doubled each time, and each time a random part of it."""

_LOG = logging.getLogger(__name__)


def watch(
    channel: RotatingChannel,
    request: change_pb2.WatchChangesRequest,
    closed: threading.Event,
    on_interruption: Interruption | None = None,
) -> Iterator[change_pb2.WatchChangesResponse]:
    """Messages after the request's cursor until `closed` is set; the numbers are those of `Client.watch_changes`."""
    told = on_interruption or _log_interruption
    cursor = request.cursor if request.HasField("cursor") else None
    stub, pause = change_pb2_grpc.ChangeServiceStub(channel), SHORTEST_PAUSE
    while not closed.is_set():
        heard, used = False, channel.credentials
        try:
            stream = stub.WatchChanges(
                change_pb2.WatchChangesRequest(access=request.access, cursor=cursor, lane=request.lane)
            )
            try:
                for message in stream:
                    heard, pause = True, SHORTEST_PAUSE
                    _drop_seen(message, cursor)  # (1)
                    cursor = message.cursor if message.HasField("cursor") else cursor
                    yield message
            finally:
                stream.cancel()
            wait = 0.0 if heard else pause  # (2)
        except ValueError:
            if closed.is_set():  # between the look at it and the call
                return
            raise
        except grpc.RpcError as error:
            if closed.is_set():
                return
            refusal = refusal_of(error, channel.credentials, channel.target)
            if refusal.code is grpc.StatusCode.UNAUTHENTICATED and _is_renewed(channel, used):  # (3)
                continue
            if not _passes(refusal):
                raise refusal from error
            asked = refusal.retry_after.total_seconds() if refusal.retry_after else 0.0
            wait = max(SystemRandom().uniform(pause / 2, pause), min(asked, 60.0))  # (4)
            told(refusal, wait)
        if not heard:
            pause = min(2 * pause, LONGEST_PAUSE)
        closed.wait(wait)


def _drop_seen(message: change_pb2.WatchChangesResponse, cursor: change_pb2.Cursor | None) -> None:
    if cursor is not None and cursor.incarnation == message.cursor.incarnation:
        while message.changes and message.changes[0].position <= cursor.position:
            del message.changes[0]


def _is_renewed(channel: RotatingChannel, used: Credentials) -> bool:
    with suppress(CredentialsError):
        channel.reload()
    return channel.credentials is not used


def _passes(refusal: Refusal) -> bool:
    """Whether the same watch can succeed a little later: unreachable, stopping, without a free slot, or too late."""
    if refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return refusal.retry_after is not None
    return refusal.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _log_interruption(refusal: Refusal, seconds: float) -> None:
    _LOG.warning("the watch was interrupted and goes on in %.1f s: %s", seconds, refusal)
