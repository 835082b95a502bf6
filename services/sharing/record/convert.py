"""What the requests of this room have in common on the wire: the ground of a request and a stated identity."""

import re
from datetime import UTC, date, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from npd.common.v1 import access_pb2
from npd.sharing.v1 import lookup_pb2
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField
from services.mesh.core.rights import Access
from services.sharing.record import text
from services.sharing.record.dates import partial_date
from services.sharing.record.identification import StatedIdentity
from services.sharing.record.pin import require_pin

_CASE = re.compile(r"[A-Za-z0-9._/:-]{3,64}", re.ASCII)
_OFFICER = re.compile(r"[!-~]{1,64}", re.ASCII)
_PIN_LIKE = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_NAME_LIMIT = 200


def access_from_wire(wire: access_pb2.AccessContext) -> Access:
    """The ground of a request. Raises InvalidField for an id or reference that is malformed, or reads like a PIN."""
    return Access(
        agreement_id=uuid_from_wire(wire.agreement_id, "access.agreement_id"),
        case_reference=_case_reference(wire.case_reference),
        officer_id=_officer_id(wire.officer_id),
    )


def identity_from_wire(wire: lookup_pb2.StatedIdentity, now: datetime, *, sandbox: bool) -> StatedIdentity:
    """A stated identity. Raises InvalidField, SandboxPin."""
    today: date = legal_date(now)
    if len(wire.full_name) > _NAME_LIMIT:
        raise InvalidField("identity.full_name", f"must not be longer than {_NAME_LIMIT} characters")
    name_key = text.name_key(wire.full_name)
    if not name_key:  # it would match a record that holds no name yet
        raise InvalidField("identity.full_name", "must not be blank")
    return StatedIdentity(
        pin=require_pin(wire.pin, "identity.pin", sandbox=sandbox),
        name_key=name_key,
        birth_date=partial_date(wire.birth_date, "identity.birth_date", latest=today),
    )


def uuid_from_wire(value: str, field: str) -> str:
    """A UUID in its canonical form. Raises InvalidField."""
    try:
        return str(UUID(value))
    except ValueError:
        raise InvalidField(field, "must be a UUID") from None


def instant_from_wire(wire: Timestamp, field: str) -> datetime:
    """An instant. Raises InvalidField for one that no calendar has."""
    try:
        instant: datetime = wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "is not a possible instant") from None
    return instant


def _case_reference(value: str) -> str:
    if not _CASE.fullmatch(value):
        raise InvalidField("access.case_reference", "must be 3 to 64 letters, digits and . _ / : -")
    if _PIN_LIKE.search(value):
        raise InvalidField("access.case_reference", "names a file, never a person: it must not hold a PIN")
    return value


def _officer_id(value: str) -> str:
    if not _OFFICER.fullmatch(value) or _PIN_LIKE.search(value):
        raise InvalidField("access.officer_id", "must be 1 to 64 visible ASCII characters, and no PIN")
    return value
