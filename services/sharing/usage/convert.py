"""Usage between wire and domain."""

import base64
import binascii
from collections.abc import Mapping

from npd.common.v1 import evidence_pb2
from npd.sharing.v1 import usage_pb2
from services.mesh.core.errors import InvalidField, PageTokenInvalid
from services.mesh.core.evidence.entry import Receipt
from services.mesh.core.evidence.log import StoredEntry
from services.mesh.wire.evidence import receipt_to_wire
from services.sharing.usage.domain import Usage

_PAGE_DEFAULT, _PAGE_LIMIT = 50, 200


def page_size_from_wire(page_size: int) -> int:
    """How many records at most. Raises InvalidField."""
    if not 0 <= page_size <= _PAGE_LIMIT:
        raise InvalidField("page_size", f"must be 1 to {_PAGE_LIMIT}, or 0 for {_PAGE_DEFAULT}")
    return page_size or _PAGE_DEFAULT


def before_from_wire(page_token: str) -> int | None:
    """Below which position the page begins; None for the first. Raises PageTokenInvalid."""
    if not page_token:
        return None
    try:
        return int(base64.urlsafe_b64decode(page_token.encode()).decode("ascii"))
    except (binascii.Error, ValueError):
        raise PageTokenInvalid("page_token", "is not a token of this list") from None


def usage_to_wire(usage: Usage, agency_names: Mapping[str, str]) -> usage_pb2.FindUsageResponse:
    """The answer; agencies are named as they are registered now."""
    token = "" if usage.next_before is None else base64.urlsafe_b64encode(str(usage.next_before).encode()).decode()
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
