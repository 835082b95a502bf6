"""Lookups between wire and domain."""

from datetime import datetime

from npd.common.v1 import evidence_pb2
from npd.sharing.v1 import lookup_pb2
from services.mesh.core.caller import Caller
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.evidence import receipt_to_wire
from services.mesh.wire.person import identity_from_wire
from services.sharing.lookup.domain import Disclosure, Lookup, Provenance
from services.sharing.record.fields import require_mask


def lookup_from_wire(
    request: lookup_pb2.GetCitizenRequest, caller: Caller, method: str, now: datetime, *, sandbox: bool
) -> Lookup:
    """A question. Raises InvalidField, MaskEmpty, MaskUnknownPath, SandboxPin."""
    return Lookup(
        caller=caller,
        method=method,
        access=access_from_wire(request.access),
        identity=identity_from_wire(request.identity, now, sandbox=sandbox),
        paths=require_mask(request.read_mask, "read_mask"),
        include_provenance=request.include_provenance,
    )


def disclosure_to_wire(disclosure: Disclosure) -> lookup_pb2.GetCitizenResponse:
    """An answer."""
    return lookup_pb2.GetCitizenResponse(
        outcome=evidence_pb2.Outcome.Name(disclosure.outcome.value),  # type: ignore[arg-type]
        citizen=disclosure.citizen,
        disputed_paths=disclosure.disputed_paths,
        provenance=map(_provenance_to_wire, disclosure.provenance),
        receipt=receipt_to_wire(disclosure.receipt),
    )


def _provenance_to_wire(provenance: Provenance) -> lookup_pb2.FieldProvenance:
    wire = lookup_pb2.FieldProvenance(path=provenance.path, item_key=provenance.item_key, source=provenance.source)
    wire.event_time.FromDatetime(provenance.event_time)
    wire.record_time.FromDatetime(provenance.record_time)
    return wire
