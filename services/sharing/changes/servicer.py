"""npd.sharing.v1.ChangeService: a page at a time, or a stream that waits for news and for the end of its right."""

import time
from collections.abc import Iterator

import grpc

from npd.sharing.v1 import change_pb2, change_pb2_grpc
from services.mesh.core.caller import Caller
from services.mesh.core.rights import Access, Lane
from services.mesh.wire.call import call_of, caller_of
from services.mesh.wire.streams import Stream, Streams
from services.sharing.changes import convert
from services.sharing.changes.domain import Cursor, Delivery
from services.sharing.changes.operations import Acknowledging, Delivering

_BATCH = 500
_COALESCE = 0.1
_SIGN_OF_LIFE = 25.0
_PASSED_OVER = 1.0


class ChangeServicer(change_pb2_grpc.ChangeServiceServicer):
    """Adapts the wire to following and acknowledging."""

    def __init__(self, following: Delivering, acknowledging: Acknowledging, streams: Streams) -> None:
        self._following = following
        self._acknowledging = acknowledging
        self._streams = streams

    def PullChanges(
        self, request: change_pb2.PullChangesRequest, context: grpc.ServicerContext
    ) -> change_pb2.PullChangesResponse:
        caller, method, access = caller_of(context), call_of(context).method, convert.access_of(request)
        cursor, lane = convert.cursor_from_wire(request), convert.lane_of(request)
        size = convert.page_size_from_wire(request.page_size)
        delivery = self._following.next_changes(caller, method, access, cursor, size, lane)
        return convert.page_to_wire(delivery)

    def WatchChanges(
        self, request: change_pb2.WatchChangesRequest, context: grpc.ServicerContext
    ) -> Iterator[change_pb2.WatchChangesResponse]:
        caller, method, access = caller_of(context), call_of(context).method, convert.access_of(request)
        lane, cursor = convert.lane_of(request), self._following.start(convert.cursor_from_wire(request))
        with self._streams.open(call_of(context), lambda: self._following.require_right(caller, access)) as stream:
            for delivery in deliveries(self._following, stream, caller, method, access, cursor, lane):
                yield convert.news_to_wire(delivery)

    def Acknowledge(
        self, request: change_pb2.AcknowledgeRequest, context: grpc.ServicerContext
    ) -> change_pb2.AcknowledgeResponse:
        access, said = convert.access_of(request), convert.acknowledgement_from_wire(request)
        return convert.standing_to_wire(self._acknowledging.acknowledge(caller_of(context), access, said))


def deliveries(
    following: Delivering,
    stream: Stream,
    caller: Caller,
    method: str,
    access: Access | None,
    cursor: Cursor,
    lane: Lane | None,
) -> Iterator[Delivery]:
    """What a stream delivers, gathered for up to 100 ms, until its planned end; the last one carries the cursor.

    A cursor that moved over changes of which the caller sees nothing is told within a second: else the caller, who
    acknowledges cursors, would seem to lag behind. Raises what ends the caller's right, RoomStopping, StoreUnavailable.
    """
    last_sent, told, ended = 0.0, cursor, False
    while not ended:
        ended = stream.has_ended
        stream.require_standing()
        delivery = following.next_changes(caller, method, access, cursor, _BATCH, lane)
        cursor = delivery.cursor
        silence = time.monotonic() - last_sent
        patience = _SIGN_OF_LIFE if cursor == told else _PASSED_OVER
        if delivery.changes or ended or silence > patience:
            last_sent, told, patience = time.monotonic(), cursor, _SIGN_OF_LIFE
            yield delivery
        if ended or cursor.position < delivery.feed.head:
            continue
        stream.wait(patience)
        while (early := last_sent + _COALESCE - time.monotonic()) > 0 and not stream.has_ended:
            stream.wait(early)
