"""Changes, and what followers acknowledge, between wire and domain."""

import re
from functools import lru_cache
from uuid import UUID

from npd.common.v1 import lane_pb2
from npd.sharing.v1 import change_pb2
from services.mesh.core.errors import InvalidField
from services.mesh.core.person.pin import holds_pin
from services.mesh.core.rights import Access, Lane
from services.mesh.core.telling import causation_to_wire
from services.mesh.wire import paging
from services.mesh.wire.access import access_from_wire, uuid_from_wire
from services.mesh.wire.evidence import receipt_to_wire
from services.mesh.wire.payload import require_fields
from services.sharing.changes.domain import Acknowledgement, Change, Cursor, Delivered, Delivery, Rejection, Standing
from services.sharing.record.fields import select

_REQUEST = change_pb2.PullChangesRequest | change_pb2.WatchChangesRequest | change_pb2.AcknowledgeRequest
_IDS_LIMIT = 1000
_SHARED = 512  # messages of some 16 KB each; followers who keep up all want the same few
_REASON = re.compile(r"[A-Z0-9_]{1,64}", re.ASCII)


def access_of(request: _REQUEST) -> Access | None:
    """The ground, if one is given. Raises InvalidField."""
    return access_from_wire(request.access) if request.HasField("access") else None


def lane_of(request: _REQUEST) -> Lane | None:
    """The lane; None for all of them. Raises InvalidField for a number that is no lane."""
    if request.lane == lane_pb2.LANE_UNSPECIFIED:
        return None
    try:
        return Lane(request.lane)
    except ValueError:
        raise InvalidField("lane", "is not a lane of the feed") from None


def cursor_from_wire(request: change_pb2.PullChangesRequest | change_pb2.WatchChangesRequest) -> Cursor | None:
    """The cursor, if one is given."""
    return _cursor(request.cursor) if request.HasField("cursor") else None


def acknowledgement_from_wire(request: change_pb2.AcknowledgeRequest) -> Acknowledgement:
    """What a follower says. Raises InvalidField, FieldRequired."""
    if max(len(request.rejected), len(request.recovered)) > _IDS_LIMIT:
        field = "rejected" if len(request.rejected) > _IDS_LIMIT else "recovered"
        raise InvalidField(field, f"must not be more than {_IDS_LIMIT}")
    rejected = {one.change_id: one for one in map(_rejection, request.rejected)}
    recovered = {UUID(uuid_from_wire(change_id, "recovered")) for change_id in request.recovered}
    if recovered & rejected.keys():
        raise InvalidField("recovered", "names a change that is rejected in the same call")
    return Acknowledgement(
        lane=lane_of(request),
        received=_cursor(request.received) if request.HasField("received") else None,
        applied=_cursor(request.applied) if request.HasField("applied") else None,
        rejected=tuple(rejected.values()),
        recovered=tuple(recovered),
    )


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
        changes=_changes_to_wire(delivery),
        next_cursor=cursor_to_wire(delivery.cursor),
        head=cursor_to_wire(feed.at(feed.head)),
        oldest=cursor_to_wire(feed.at(feed.oldest)),
    )


def news_to_wire(delivery: Delivery) -> change_pb2.WatchChangesResponse:
    """A streamed message."""
    feed = delivery.feed
    return change_pb2.WatchChangesResponse(
        changes=_changes_to_wire(delivery),
        cursor=cursor_to_wire(delivery.cursor),
        head=cursor_to_wire(feed.at(feed.head)),
    )


def standing_to_wire(standing: Standing) -> change_pb2.AcknowledgeResponse:
    """What the record knows of a follower."""
    return change_pb2.AcknowledgeResponse(
        received=cursor_to_wire(standing.received),
        applied=cursor_to_wire(standing.applied),
        rejected_count=standing.rejected_count,
    )


def _cursor(wire: change_pb2.Cursor) -> Cursor:
    return Cursor(wire.incarnation, wire.position)


def _rejection(wire: change_pb2.Rejection) -> Rejection:
    require_fields(wire)
    if not _REASON.fullmatch(wire.reason) or holds_pin(wire.reason):
        raise InvalidField("rejected.reason", "must be 1 to 64 capital letters, digits and _, and hold no PIN")
    return Rejection(UUID(uuid_from_wire(wire.change_id, "rejected.change_id")), wire.reason)


def _changes_to_wire(delivery: Delivery) -> list[change_pb2.Change]:
    return [_change_to_wire(one, names_subject=delivery.names_subjects) for one in delivery.changes]


def _change_to_wire(delivered: Delivered, *, names_subject: bool) -> change_pb2.Change:
    wire = change_pb2.Change()
    wire.CopyFrom(_shared_to_wire(delivered.change, delivered.paths, names_subject))
    wire.receipt.CopyFrom(receipt_to_wire(delivered.receipt))
    return wire


@lru_cache(_SHARED)
def _shared_to_wire(change: Change, paths: tuple[str, ...], names_subject: bool) -> change_pb2.Change:
    """A change without a receipt: the same for all followers who see these paths. Never to be changed."""
    wire = change_pb2.Change(
        position=change.position,
        change_id=str(change.change_id),
        pin=change.pin,
        changed_paths=paths,
        citizen=select(change.person, paths),
        disputed_paths=[path for path in change.disputed if path in paths],
        source=change.source,
        lane=change.lane.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        causation=causation_to_wire(change.causation),
        subject_id=str(change.subject_id) if names_subject else "",
    )
    wire.event_time.FromDatetime(change.event_time)
    wire.record_time.FromDatetime(change.record_time)
    return wire
