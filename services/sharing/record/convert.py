"""What the requests of this room have in common on the wire: a stated identity, instants."""

from datetime import UTC, date, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from npd.sharing.v1 import lookup_pb2
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField
from services.sharing.record import text
from services.sharing.record.dates import partial_date
from services.sharing.record.identification import StatedIdentity
from services.sharing.record.pin import require_pin

_NAME_LIMIT = 200


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


def instant_from_wire(wire: Timestamp, field: str) -> datetime:
    """An instant. Raises InvalidField for one that no calendar has."""
    try:
        instant: datetime = wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "is not a possible instant") from None
    return instant
