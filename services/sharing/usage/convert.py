"""Usage between wire and domain."""

import re
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from npd.common.v1 import evidence_pb2
from npd.sharing.v1 import usage_pb2
from services.mesh.core.caller import Caller, CallerKind, SpiffeId
from services.mesh.core.errors import InvalidField, PageTokenInvalid
from services.mesh.core.evidence.entry import Outcome, Receipt
from services.mesh.core.evidence.log import StoredEntry
from services.mesh.core.rights import Agency, Ground, Mode, require_code
from services.mesh.wire import paging
from services.mesh.wire.access import relayed_access_from_wire, uuid_from_wire
from services.mesh.wire.evidence import receipt_to_wire
from services.mesh.wire.payload import require_fields
from services.mesh.wire.person import instant_from_wire
from services.sharing.record.fields import PATHS
from services.sharing.usage.domain import USES_LIMIT, Usage, Use

_METHOD = re.compile(r"/npd\.([a-z_]{1,40})\.v1\.[A-Za-z]{1,60}/[A-Za-z]{1,60}", re.ASCII)
_OUTCOMES = {Outcome.DISCLOSED.value: Outcome.DISCLOSED, Outcome.NO_MATCH.value: Outcome.NO_MATCH}
_POSITION = re.compile(r"[0-9]{1,18}", re.ASCII)


def page_size_from_wire(value: int) -> int:
    """How many records at most. Raises InvalidField."""
    return paging.page_size(value, default=50, most=200)


def before_from_wire(page_token: str) -> int | None:
    """Below which position the page begins; None for the first. Raises PageTokenInvalid."""
    key = paging.from_token(page_token, 1)
    if not key:
        return None
    if not _POSITION.fullmatch(key[0]):
        raise PageTokenInvalid("page_token", "must be the next_page_token of the answer before")
    return int(key[0])


def uses_from_wire(request: usage_pb2.RecordUsesRequest, room: Caller) -> list[Use]:
    """What officers read in a room. Raises InvalidField, FieldRequired for all of them together."""
    if len(request.uses) > USES_LIMIT:
        raise InvalidField("uses", f"must not be more than {USES_LIMIT}")
    return [_use(wire, room) for wire in request.uses]


def usage_to_wire(usage: Usage, agencies: Mapping[str, Agency]) -> usage_pb2.FindUsageResponse:
    """The answer; agencies are named as they are registered now."""
    token = "" if usage.next_before is None else paging.to_token(str(usage.next_before))
    origin = usage.receipt.log_origin
    return usage_pb2.FindUsageResponse(
        outcome=evidence_pb2.Outcome.Name(usage.outcome.value),  # type: ignore[arg-type]
        records=[_record_to_wire(use, origin, agencies) for use in usage.uses],
        next_page_token=token,
        receipt=receipt_to_wire(usage.receipt),
    )


def _record_to_wire(use: StoredEntry, origin: str, agencies: Mapping[str, Agency]) -> usage_pb2.UsageRecord:
    entry = evidence_pb2.LogEntry.FromString(use.entry)
    agency = agencies.get(entry.agency_id)
    return usage_pb2.UsageRecord(
        entry=entry,
        agency_name="" if agency is None else agency.name,
        receipt=receipt_to_wire(Receipt(origin, use.leaf_hash)),
    )


def _use(wire: usage_pb2.Use, room: Caller) -> Use:
    require_fields(wire)
    if wire.outcome not in _OUTCOMES:
        raise InvalidField("uses.outcome", "must be DISCLOSED or NO_MATCH")
    access = relayed_access_from_wire(wire.access)
    purpose = require_code("uses.purpose", wire.purpose)
    provision = require_code("uses.provision", wire.provision)
    return Use(
        use_id=UUID(uuid_from_wire(wire.use_id, "uses.use_id")),
        subject_id=UUID(uuid_from_wire(wire.subject_id, "uses.subject_id")),
        reader=_reader(access.origin, SpiffeId.parse(room.identity).environment),
        method=_method(wire.method, room.name),
        ground=Ground(replace(access, origin=""), Mode.LOOKUP, purpose, provision),
        outcome=_OUTCOMES[wire.outcome],
        paths=tuple(_path(path) for path in wire.paths),
        use_time=instant_from_wire(wire.use_time, "uses.use_time"),
    )


def _reader(origin: str, environment: str) -> Caller:
    identity = SpiffeId.parse(origin)
    if identity.kind is not CallerKind.AGENCY or identity.environment != environment:
        raise InvalidField("uses.access.origin", "must be the identity of an agency's system in this environment")
    agency_id, system_id = identity.path
    return Caller(origin, identity.kind, f"{agency_id}/{system_id}", agency_id, system_id)


def _method(value: str, room: str) -> str:
    form = _METHOD.fullmatch(value)
    if form is None or form[1] != room:
        raise InvalidField("uses.method", "must be a method of the room that tells it")
    return value


def _path(value: str) -> str:
    if value not in PATHS:
        raise InvalidField("uses.paths", "must be top-level fields of Person")  # never quoted: it may be a person's
    return value
