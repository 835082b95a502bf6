"""Usage between wire and domain."""

import re
from collections.abc import Mapping

from npd.common.v1 import evidence_pb2
from npd.sharing.v1 import usage_pb2
from services.mesh.core.errors import PageTokenInvalid
from services.mesh.core.evidence.entry import Receipt
from services.mesh.core.evidence.log import StoredEntry
from services.mesh.wire import paging
from services.mesh.wire.evidence import receipt_to_wire
from services.sharing.usage.domain import Usage

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
