"""Legal clocks: within which time the law wants one act to follow another, counted on calendars that are data."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum

from services.mesh.core.clock import LEGAL_ZONE, Validity, legal_date


class ClockUnit(Enum):
    """How a clock counts, with the numbers of npd.registry.v1.ClockUnit."""

    HOUR = 1
    DAY = 2
    WORKING_DAY = 3


class CalendarMissing(Exception):
    """No calendar tells whether a day is a working day; its text names the day."""


@dataclass(frozen=True, slots=True)
class WorkingCalendar:
    """Which days are no working days, for the days that it covers. `rest_days` are ISO weekdays, 1 is Monday."""

    code: str
    rest_days: frozenset[int]
    holidays: frozenset[date]
    validity: Validity

    def is_working_day(self, day: date) -> bool:
        """Whether people work on a day that the calendar covers."""
        return day.isoweekday() not in self.rest_days and day not in self.holidays


@dataclass(frozen=True, slots=True)
class LegalClock:
    """A clock: the act that starts it, the act that stops it, and the time between them."""

    code: str
    title: str
    provision: str
    start_act: str
    end_act: str
    amount: int
    unit: ClockUnit
    validity: Validity

    def due_time(self, start: datetime, calendars: Iterable[WorkingCalendar]) -> datetime:
        """When it runs out, if it starts at an instant. Raises CalendarMissing.

        Hours run on from the instant. Days, and working days, are counted from the day after it, and the last one
        counts to its end, at midnight in Viet Nam.
        """
        if self.unit is ClockUnit.HOUR:
            return start + timedelta(hours=self.amount)
        day, left, known = legal_date(start), self.amount, tuple(calendars)
        while left:
            day += timedelta(days=1)
            left -= self.unit is ClockUnit.DAY or _is_working_day(day, known)
        return datetime.combine(day + timedelta(days=1), time(), LEGAL_ZONE).astimezone(UTC)


def _is_working_day(day: date, calendars: tuple[WorkingCalendar, ...]) -> bool:
    for calendar in calendars:
        if calendar.validity.covers(day):
            return calendar.is_working_day(day)
    raise CalendarMissing(f"no working calendar tells of {day}")
