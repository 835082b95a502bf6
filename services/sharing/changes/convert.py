"""Changes between wire and domain."""

from npd.sharing.v1 import change_pb2
from services.mesh.wire import paging
from services.mesh.wire.evidence import receipt_to_wire
from services.sharing.changes.domain import Cursor, Delivered, Delivery
from services.sharing.record.fields import select


def cursor_from_wire(request: change_pb2.PullChangesRequest | change_pb2.WatchChangesRequest) -> Cursor | None:
    """The cursor, if one is given."""
    if not request.HasField("cursor"):
        return None
    return Cursor(request.cursor.incarnation, request.cursor.position)


def page_size_from_wire(value: int) -> int:
    """How many changes at most. Raises InvalidField."""
    return paging.page_size(value, default=100, most=1000)


def cursor_to_wire(cursor: Cursor) -> change_pb2.Cursor:
    """A cursor."""
    return change_pb2.Cursor(incarnation=cursor.incarnation, position=cursor.position)


def page_to_wire(delivery: Delivery) -> change_pb2.PullChangesResponse:
    """A pulled page."""
    feed = delivery.feed
    return change_pb2.PullChangesResponse(
        changes=map(_change_to_wire, delivery.changes),
        next_cursor=cursor_to_wire(delivery.cursor),
        head=cursor_to_wire(feed.at(feed.head)),
        oldest=cursor_to_wire(feed.at(feed.oldest)),
    )


def news_to_wire(delivery: Delivery) -> change_pb2.WatchChangesResponse:
    """A streamed message."""
    feed = delivery.feed
    return change_pb2.WatchChangesResponse(
        changes=map(_change_to_wire, delivery.changes),
        cursor=cursor_to_wire(delivery.cursor),
        head=cursor_to_wire(feed.at(feed.head)),
    )


def _change_to_wire(delivered: Delivered) -> change_pb2.Change:
    change = delivered.change
    wire = change_pb2.Change(
        position=change.position,
        change_id=str(change.change_id),
        pin=change.pin,
        changed_paths=delivered.paths,
        citizen=select(change.person, delivered.paths),
        disputed_paths=[path for path in change.disputed if path in delivered.paths],
        source=change.source,
        receipt=receipt_to_wire(delivered.receipt),
    )
    wire.event_time.FromDatetime(change.event_time)
    wire.record_time.FromDatetime(change.record_time)
    return wire
