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
from services.mesh.core.rights import Ground, Mode
from services.mesh.wire import paging
from services.mesh.wire.access import relayed_access_from_wire, uuid_from_wire
from services.mesh.wire.evidence import receipt_to_wire
from services.mesh.wire.payload import require_fields
from services.mesh.wire.person import instant_from_wire
from services.sharing.usage.domain import USES_LIMIT, Usage, Use

_METHOD = re.compile(r"/npd\.[a-z_]{1,40}\.v[0-9]{1,3}\.[A-Za-z]{1,60}/[A-Za-z]{1,60}", re.ASCII)
_PATH = re.compile(r"[a-z_][a-z_.]{0,99}", re.ASCII)
_CODE = re.compile(r"[A-Za-z0-9._/:-]{1,100}", re.ASCII)
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


def uses_from_wire(request: usage_pb2.RecordUsesRequest) -> list[Use]:
    """What officers read. Raises InvalidField, FieldRequired for all of them together."""
    if len(request.uses) > USES_LIMIT:
        raise InvalidField("uses", f"must not be more than {USES_LIMIT}")
    return [_use(wire) for wire in request.uses]


def usage_to_wire(usage: Usage, agency_names: Mapping[str, str]) -> usage_pb2.FindUsageResponse:
    """The answer; agencies are named as they are registered now."""
    token = "" if usage.next_before is None else paging.to_token(str(usage.next_before))
    origin = usage.receipt.log_origin
    return usage_pb2.FindUsageResponse(
        outcome=evidence_pb2.Outcome.Name(usage.outcome.value),  # type: ignore[arg-type]
        records=[_record_to_wire(use, origin, agency_names) for use in usage.uses],
        next_page_token=token,
        receipt=receipt_to_wire(usage.receipt),
    )


def _record_to_wire(use: StoredEntry, origin: str, agency_names: Mapping[str, str]) -> usage_pb2.UsageRecord:
    entry = evidence_pb2.LogEntry.FromString(use.entry)
    return usage_pb2.UsageRecord(
        entry=entry,
        agency_name=agency_names.get(entry.agency_id, ""),
        receipt=receipt_to_wire(Receipt(origin, use.leaf_hash)),
    )


def _use(wire: usage_pb2.Use) -> Use:
    require_fields(wire)
    if wire.outcome not in _OUTCOMES:
        raise InvalidField("uses.outcome", "must be DISCLOSED or NO_MATCH")
    access = relayed_access_from_wire(wire.access)
    purpose, provision = _formed(_CODE, wire.purpose, "purpose"), _formed(_CODE, wire.provision, "provision")
    return Use(
        use_id=UUID(uuid_from_wire(wire.use_id, "uses.use_id")),
        subject_id=UUID(uuid_from_wire(wire.subject_id, "uses.subject_id")),
        reader=_reader(access.origin),
        method=_formed(_METHOD, wire.method, "method"),
        ground=Ground(replace(access, origin=""), Mode.LOOKUP, purpose, provision),
        outcome=_OUTCOMES[wire.outcome],
        paths=tuple(_formed(_PATH, path, "paths") for path in wire.paths),
        use_time=instant_from_wire(wire.use_time, "uses.use_time"),
    )


def _reader(origin: str) -> Caller:
    identity = SpiffeId.parse(origin)
    if identity.kind is not CallerKind.AGENCY:
        raise InvalidField("uses.access.origin", "must be the identity of an agency's system")
    agency_id, system_id = identity.path
    return Caller(origin, identity.kind, f"{agency_id}/{system_id}", agency_id, system_id)


def _formed(form: re.Pattern[str], value: str, field: str) -> str:
    if not form.fullmatch(value):
        raise InvalidField(f"uses.{field}", "is not of its form")  # never quoted: it may be a person's
    return value
