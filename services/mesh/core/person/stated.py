"""A person as a caller states him, and the refusals that acts about persons share in every room."""

from dataclasses import dataclass
from datetime import date

from services.mesh.core.errors import InvalidField, Kind, MeshError
from services.mesh.core.person.dates import PartialDate


class PersonUnknown(MeshError):
    """This room does not know the person."""

    kind, reason = Kind.NOT_FOUND, "PERSON_UNKNOWN"


class IdentityMismatch(MeshError):
    """PIN, full name and birth date are not those of one person."""

    kind, reason = Kind.FAILED_PRECONDITION, "IDENTITY_MISMATCH"


class PersonDeceased(MeshError):
    """The person's death is registered."""

    kind, reason = Kind.FAILED_PRECONDITION, "PERSON_DECEASED"


class PlaceCodeUnknown(MeshError):
    """The place is not a unit of the list that was in force on the day."""

    kind, reason = Kind.FAILED_PRECONDITION, "PLACE_CODE_UNKNOWN"


class EventInFuture(InvalidField):
    """A date of an event lies in the future."""

    reason = "EVENT_IN_FUTURE"


class EventBeforeBirth(InvalidField):
    """A date of an event lies before the person's birth."""

    reason = "EVENT_BEFORE_BIRTH"


@dataclass(frozen=True, slots=True)
class StatedIdentity:
    """What a caller states of a citizen: PIN, full name as a key, birth date."""

    pin: str
    name_key: str
    birth_date: PartialDate

    def matches(self, name_key: str, birth_date: PartialDate) -> bool:
        """Whether a person of this name key and birth date (year 0: not known) is meant, given that the PIN is his."""
        return name_key == self.name_key and birth_date.year > 0 and birth_date.is_matched_by(self.birth_date)


def require_happened(day: date, field: str, today: date, birth: PartialDate | None = None) -> date:
    """The day of an event: not in the future, not before the birth. Raises EventInFuture, EventBeforeBirth."""
    if day > today:
        raise EventInFuture(field, "must not lie in the future")
    if birth is not None and birth.year and day < birth.first_day():
        raise EventBeforeBirth(field, "must not lie before the birth")
    return day
