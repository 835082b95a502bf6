"""What requests about persons have in common on the wire: a stated identity, dates, instants."""

from datetime import UTC, date, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2

from npd.common.v1 import person_pb2
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField
from services.mesh.core.people import Name
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate, partial_date
from services.mesh.core.person.pin import require_pin
from services.mesh.core.person.stated import StatedIdentity

_NAME_LIMIT = 200


def identity_from_wire(
    wire: person_pb2.StatedIdentity, now: datetime, *, sandbox: bool, field: str = "identity"
) -> StatedIdentity:
    """A stated identity. Raises InvalidField, SandboxPin."""
    today: date = legal_date(now)
    if len(wire.full_name) > _NAME_LIMIT:
        raise InvalidField(f"{field}.full_name", f"must not be longer than {_NAME_LIMIT} characters")
    name_key = text.name_key(wire.full_name)
    if not name_key:  # it would match a record that holds no name yet
        raise InvalidField(f"{field}.full_name", "must not be blank")
    return StatedIdentity(
        pin=require_pin(wire.pin, f"{field}.pin", sandbox=sandbox),
        name_key=name_key,
        birth_date=partial_date(wire.birth_date, f"{field}.birth_date", latest=today),
    )


def instant_from_wire(wire: Timestamp, field: str) -> datetime:
    """An instant. Raises InvalidField for one that no calendar has."""
    try:
        instant: datetime = wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "is not a possible instant") from None
    return instant


def day_from_wire(wire: date_pb2.Date, field: str) -> date:
    """A whole calendar day. Raises InvalidField."""
    try:
        return date(wire.year, wire.month, wire.day)
    except ValueError:
        raise InvalidField(field, "must be a whole and possible date") from None


def day_to_wire(day: date | None) -> date_pb2.Date | None:
    """A whole calendar day, or none."""
    return None if day is None else date_pb2.Date(year=day.year, month=day.month, day=day.day)


def partial_to_wire(known: PartialDate) -> date_pb2.Date:
    """A date as far as it is known."""
    return date_pb2.Date(year=known.year, month=known.month, day=known.day)


def name_to_wire(name: Name | None) -> person_pb2.PersonName | None:
    """A name; None of somebody whose name is not known."""
    if name is None or not name.full:
        return None
    return person_pb2.PersonName(family=name.family, middle=name.middle, given=name.given, full=name.full)
