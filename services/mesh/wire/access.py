"""The ground of a request on the wire: npd.common.v1.AccessContext, the same in every request about a person."""

import re
from dataclasses import replace
from uuid import UUID

from google.protobuf.message import Message

from npd.common.v1 import access_pb2, chain_pb2
from services.mesh.core.caller import IdentityMalformed, SpiffeId
from services.mesh.core.chain import Causation
from services.mesh.core.errors import InvalidField
from services.mesh.core.person.pin import holds_pin
from services.mesh.core.rights import Access

_CASE = re.compile(r"[A-Za-z0-9._/:-]{3,64}", re.ASCII)
_OFFICER = re.compile(r"[!-~]{1,64}", re.ASCII)


def access_from_wire(wire: access_pb2.AccessContext) -> Access:
    """The ground of a caller's own request.

    Raises InvalidField for an id or reference that is malformed, or reads like a PIN, and for an origin: only rooms act
    for others.
    """
    if wire.origin:
        raise InvalidField("access.origin", "is for rooms: leave it empty")
    return _access(wire)


def relayed_access_from_wire(wire: access_pb2.AccessContext) -> Access:
    """The ground of an act that a room tells of, with its origin. Raises InvalidField."""
    try:
        SpiffeId.parse(wire.origin)
    except IdentityMalformed:
        raise InvalidField("access.origin", "must be the identity of the system whose act it is") from None
    return replace(_access(wire), origin=wire.origin)


def _access(wire: access_pb2.AccessContext) -> Access:
    return Access(
        agreement_id=uuid_from_wire(wire.agreement_id, "access.agreement_id"),
        case_reference=_case_reference(wire.case_reference),
        officer_id=_officer_id(wire.officer_id),
    )


def stated_access(request: Message) -> Access | None:
    """The ground that a request states, confirmed by nobody; None if it states none, or one that is malformed."""
    wire = getattr(request, "access", None)
    if not isinstance(wire, access_pb2.AccessContext):
        return None
    try:
        return _access(wire)
    except InvalidField:
        return None


def uuid_from_wire(value: str, field: str) -> str:
    """A UUID in its canonical form. Raises InvalidField."""
    try:
        return str(UUID(value))
    except ValueError:
        raise InvalidField(field, "must be a UUID") from None


def _case_reference(value: str) -> str:
    if not _CASE.fullmatch(value):
        raise InvalidField("access.case_reference", "must be 3 to 64 letters, digits and . _ / : -")
    if holds_pin(value):
        raise InvalidField("access.case_reference", "names a file, never a person: it must not hold a PIN")
    return value


def _officer_id(value: str) -> str:
    if not _OFFICER.fullmatch(value) or holds_pin(value):
        raise InvalidField("access.officer_id", "must be 1 to 64 visible ASCII characters, and no PIN")
    return value


def causation_from_wire(wire: chain_pb2.Causation, field: str) -> Causation:
    """A place in a chain. Raises InvalidField."""
    return Causation(
        UUID(uuid_from_wire(wire.correlation_id, f"{field}.correlation_id")),
        UUID(uuid_from_wire(wire.causation_id, f"{field}.causation_id")),
    )
