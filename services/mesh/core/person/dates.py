"""Dates of a person: precise to the year, the month or the day. An unknown month is unknown, never January."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date

from google.type import date_pb2

from services.mesh.core.errors import InvalidField

_EARLIEST_YEAR = 1800


@dataclass(frozen=True, slots=True)
class PartialDate:
    """Year, and month and day where known (0 otherwise)."""

    year: int
    month: int = 0
    day: int = 0

    def agrees_with(self, other: "PartialDate") -> bool:
        """Whether the two are the same at the coarser precision of them. Source: DOMAIN.md 5.2."""
        mine, others = (self.year, self.month, self.day), (other.year, other.month, other.day)
        return all(one == another for one, another in zip(mine, others, strict=True) if one and another)

    def is_matched_by(self, stated: "PartialDate") -> bool:
        """Whether a stated date agrees and says as much as this one: who states less than is known proves nothing."""
        says_as_much = bool(stated.month or not self.month) and bool(stated.day or not self.day)
        return says_as_much and self.agrees_with(stated)

    def first_day(self) -> date:
        """The earliest day that it may mean."""
        return date(self.year, self.month or 1, self.day or 1)

    def last_day(self) -> date:
        """The latest day that it may mean."""
        month = self.month or 12
        return date(self.year, month, self.day or monthrange(self.year, month)[1])


def partial_date(wire: date_pb2.Date, field: str, *, latest: date) -> PartialDate:
    """A date of life: year required, day only with a month, possible, not after `latest`. Raises InvalidField."""
    if not _EARLIEST_YEAR <= wire.year <= 9999:
        raise InvalidField(field, f"must have a year from {_EARLIEST_YEAR} on")
    possible = wire.month == 0 and wire.day == 0
    if 1 <= wire.month <= 12:
        possible = 0 <= wire.day <= monthrange(wire.year, wire.month)[1]
    if not possible:
        raise InvalidField(field, "is not a possible date; month 0, or month and day 0, mean not known")
    partial = PartialDate(wire.year, wire.month, wire.day)
    if partial.first_day() > latest:
        raise InvalidField(field, "must not lie in the future")
    return partial
