"""Time: instants in UTC, and the legal day of Viet Nam."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

CLOCKS_APART = timedelta(minutes=5)
"""How far two parties' clocks may lie apart: what lies no further ahead is not in the future."""

LEGAL_ZONE = ZoneInfo("Asia/Ho_Chi_Minh")


@dataclass(frozen=True, slots=True)
class Validity:
    """A span of legal days, both inclusive; `end` None is open."""

    start: date
    end: date | None = None

    def covers(self, day: date) -> bool:
        """Whether the day lies in the span."""
        return self.start <= day and (self.end is None or day <= self.end)


class Clock(Protocol):
    """Tells the time; what needs the time gets a clock."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC)


def legal_date(instant: datetime) -> date:
    """The calendar day of an instant where the law counts days, Asia/Ho_Chi_Minh."""
    return instant.astimezone(LEGAL_ZONE).date()
