"""Legal clocks: hours run on, days are counted from the next one, working days on calendars that are data."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.core.clock import LEGAL_ZONE, Validity
from services.mesh.core.legal_clock import CalendarMissing, ClockUnit, LegalClock, WorkingCalendar

TET = frozenset(date(2026, 2, day) for day in range(16, 21))
YEAR = WorkingCalendar("VN-2026", frozenset({6, 7}), TET, Validity(date(2026, 1, 1), date(2026, 12, 31)))
NEXT = WorkingCalendar(
    "VN-2027", frozenset({6, 7}), frozenset({date(2027, 1, 1)}), Validity(date(2027, 1, 1), date(2027, 12, 31))
)


def clock(amount: int, unit: ClockUnit) -> LegalClock:
    return LegalClock("C", "t", "p", "a", "b", amount, unit, Validity(date(2026, 1, 1)))


def at(text: str) -> datetime:
    """A time on the clocks of Viet Nam, as an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=LEGAL_ZONE).astimezone(UTC)


def end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), LEGAL_ZONE)


@pytest.mark.parametrize(
    ("start", "amount", "last"),
    [
        ("2026-11-23T09:00", 1, date(2026, 11, 24)),
        ("2026-11-23T23:59", 1, date(2026, 11, 24)),
        ("2026-11-27T09:00", 1, date(2026, 11, 30)),  # a Friday
        ("2026-11-28T09:00", 1, date(2026, 11, 30)),  # a Saturday
        ("2026-02-13T09:00", 1, date(2026, 2, 23)),  # the Friday before Tet
        ("2026-02-12T09:00", 2, date(2026, 2, 23)),
        ("2026-02-18T09:00", 2, date(2026, 2, 24)),  # within Tet
        ("2026-12-31T09:00", 2, date(2027, 1, 5)),  # into the next calendar
    ],
)
def test_working_days_end_with_the_last_one(start: str, amount: int, last: date) -> None:
    assert clock(amount, ClockUnit.WORKING_DAY).due_time(at(start), [NEXT, YEAR]) == end_of(last)


def test_the_day_is_that_of_viet_nam() -> None:
    late_in_utc = datetime(2026, 11, 23, 18, tzinfo=UTC)  # one o'clock on Tuesday in Viet Nam
    assert clock(1, ClockUnit.WORKING_DAY).due_time(late_in_utc, [YEAR]) == end_of(date(2026, 11, 25))
    assert clock(1, ClockUnit.DAY).due_time(late_in_utc, []) == end_of(date(2026, 11, 25))


def test_days_count_whatever_day_they_are() -> None:
    assert clock(3, ClockUnit.DAY).due_time(at("2026-02-13T09:00"), []) == end_of(date(2026, 2, 16))


def test_hours_run_on_from_the_instant() -> None:
    start = at("2026-02-13T09:30")
    assert clock(24, ClockUnit.HOUR).due_time(start, []) == start + timedelta(hours=24)


def test_a_due_time_is_an_instant_in_utc() -> None:
    assert clock(1, ClockUnit.WORKING_DAY).due_time(at("2026-11-23T09:00"), [YEAR]).tzinfo is UTC


@pytest.mark.parametrize("calendars", [[], [NEXT]])
def test_without_a_calendar_nothing_is_guessed(calendars: list[WorkingCalendar]) -> None:
    with pytest.raises(CalendarMissing, match="2026-11-24"):
        clock(1, ClockUnit.WORKING_DAY).due_time(at("2026-11-23T09:00"), calendars)


def test_a_calendar_that_ends_too_early_is_none() -> None:
    with pytest.raises(CalendarMissing, match="2027-01-01"):
        clock(1, ClockUnit.WORKING_DAY).due_time(at("2026-12-31T09:00"), [YEAR])


STARTS = st.integers(0, 545 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@given(STARTS, STARTS, st.integers(1, 60), st.sampled_from(ClockUnit))
def test_who_starts_later_is_due_no_earlier(one: datetime, other: datetime, amount: int, unit: ClockUnit) -> None:
    first, second = sorted((one, other))
    counted = clock(amount, unit)
    assert counted.due_time(first, [YEAR, NEXT]) <= counted.due_time(second, [YEAR, NEXT])


@given(STARTS, st.integers(1, 60), st.sampled_from(ClockUnit))
def test_more_time_ends_later_and_after_the_start(start: datetime, amount: int, unit: ClockUnit) -> None:
    due = clock(amount, unit).due_time(start, [YEAR, NEXT])
    assert start < due < clock(amount + 1, unit).due_time(start, [YEAR, NEXT])


@given(STARTS, st.integers(1, 60))
def test_working_days_are_never_sooner_than_days_and_end_on_one(start: datetime, amount: int) -> None:
    due = clock(amount, ClockUnit.WORKING_DAY).due_time(start, [YEAR, NEXT])
    assert due >= clock(amount, ClockUnit.DAY).due_time(start, [])
    last = (due.astimezone(LEGAL_ZONE) - timedelta(seconds=1)).date()
    assert (YEAR if last.year == 2026 else NEXT).is_working_day(last)
