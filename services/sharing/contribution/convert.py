"""Contributions between wire and domain."""

import re
from datetime import datetime
from uuid import UUID

from npd.common.v1 import error_reason_pb2
from npd.sharing.v1 import contribution_pb2
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Causation
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField, MeshError
from services.mesh.core.person.pin import require_pin
from services.mesh.core.person.validity import normalise
from services.mesh.core.rights import Access
from services.mesh.wire.access import (
    access_from_wire,
    causation_from_wire,
    relayed_access_from_wire,
    uuid_from_wire,
)
from services.mesh.wire.payload import payload_hash, require_fields
from services.mesh.wire.person import instant_from_wire
from services.sharing.contribution.domain import ITEMS_LIMIT, Item, Malformed, Result, Results, new_chain
from services.sharing.record.fields import require_top_level, values_of

_ITEM_BYTES = 64 << 10
_EVENT_ID = re.compile(r"[!-~]{1,64}", re.ASCII)


def access_of(request: contribution_pb2.ContributeRequest) -> Access | None:
    """The ground, if one is given. Raises InvalidField."""
    return access_from_wire(request.access) if request.HasField("access") else None


def items_from_wire(
    request: contribution_pb2.ContributeRequest, now: datetime, caller: Caller, *, sandbox: bool
) -> list[Item | Malformed]:
    """The items; one that is malformed is refused alone. Raises InvalidField for too many of them."""
    if len(request.items) > ITEMS_LIMIT:
        raise InvalidField("items", f"must not be more than {ITEMS_LIMIT}")
    items: list[Item | Malformed] = []
    for wire in request.items:
        try:
            items.append(_item(wire, now, caller, sandbox=sandbox))
        except MeshError as error:
            items.append(Malformed(wire.event_id if _EVENT_ID.fullmatch(wire.event_id) else "", error))
    return items


def results_to_wire(results: Results) -> contribution_pb2.ContributeResponse:
    """The results, in their order."""
    return contribution_pb2.ContributeResponse(results=map(_result_to_wire, results.results))


def _item(wire: contribution_pb2.ContributionItem, now: datetime, caller: Caller, *, sandbox: bool) -> Item:
    require_fields(wire)
    if not _EVENT_ID.fullmatch(wire.event_id):
        raise InvalidField("event_id", "must be 1 to 64 visible ASCII characters")
    if wire.ByteSize() > _ITEM_BYTES:
        raise InvalidField("person", f"must not be larger than {_ITEM_BYTES // 1024} KiB")
    content_hash = payload_hash(wire)
    paths = require_top_level(wire.update_mask, "update_mask")
    normalise(wire.person, "person.", legal_date(now), sandbox=sandbox)
    pin, subject_id = _subject(wire, caller, sandbox=sandbox)
    return Item(
        event_id=wire.event_id,
        pin=pin,
        subject_id=subject_id,
        pin_told=wire.person.pin if "pin" in paths else "",
        values=tuple(values_of(wire.person, paths)),
        event_time=instant_from_wire(wire.event_time, "event_time"),
        register_time=instant_from_wire(wire.register_time, "register_time"),
        content_hash=content_hash,
        causation=_causation(wire, caller),
        access=_access(wire, caller),
    )


def _causation(wire: contribution_pb2.ContributionItem, caller: Caller) -> Causation:
    if not wire.HasField("causation"):
        return new_chain()
    if caller.kind is not CallerKind.ROOM:
        raise InvalidField("causation", "is for rooms: leave it out")
    return causation_from_wire(wire.causation, "causation")


def _access(wire: contribution_pb2.ContributionItem, caller: Caller) -> Access | None:
    if not wire.HasField("access"):
        return None
    if caller.kind is not CallerKind.ROOM:
        raise InvalidField("access", "is for rooms: name the ground of the whole call")
    return relayed_access_from_wire(wire.access)


def _subject(wire: contribution_pb2.ContributionItem, caller: Caller, *, sandbox: bool) -> tuple[str, UUID | None]:
    named = wire.WhichOneof("subject")
    if named == "pin":
        return require_pin(wire.pin, "pin", sandbox=sandbox), None
    if named == "subject_id":
        if caller.kind is not CallerKind.ROOM:
            raise InvalidField("subject_id", "is for rooms; name persons by PIN")
        return "", UUID(uuid_from_wire(wire.subject_id, "subject_id"))
    raise InvalidField("pin", "is required: whom the item is about")


def _result_to_wire(result: Result) -> contribution_pb2.ContributionResult:
    reason = f"ERROR_REASON_{result.reason}" if result.reason else "ERROR_REASON_UNSPECIFIED"
    return contribution_pb2.ContributionResult(
        event_id=result.event_id,
        status=contribution_pb2.ContributionResult.Status.Name(result.status.value),  # type: ignore[arg-type]
        disputed_paths=result.disputed_paths,
        reason=error_reason_pb2.ErrorReason.Value(reason),
        field=result.field,
        message=result.message,
    )
