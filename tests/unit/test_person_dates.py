"""Dates of life: precise to the year, the month or the day, and never made more precise than they are."""

from calendar import monthrange
from datetime import date

import pytest
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.core.errors import InvalidField
from services.mesh.core.person.dates import PartialDate, partial_date

TODAY = date(2026, 3, 14)
years = st.integers(1800, 2026)
partial_dates = st.one_of(
    st.builds(PartialDate, years),
    st.builds(PartialDate, years, st.integers(1, 12)),
    st.dates(date(1800, 1, 1), TODAY).map(lambda day: PartialDate(day.year, day.month, day.day)),
)


def read(year: int, month: int = 0, day: int = 0, latest: date = TODAY) -> PartialDate:
    return partial_date(Date(year=year, month=month, day=day), "birth_date", latest=latest)


@settings(deadline=None)
@given(partial_dates)
def test_every_precision_is_read_as_it_is(wanted: PartialDate) -> None:
    if wanted.first_day() <= TODAY:
        assert read(wanted.year, wanted.month, wanted.day) == wanted


@pytest.mark.parametrize(
    "wire",
    [
        (0, 0, 0),
        (0, 3, 14),
        (1799, 12, 31),
        (10000, 1, 1),
        (-1990, 1, 1),
        (1990, 13, 1),
        (1990, -1, 1),
        (1990, 0, 1),
        (1990, 2, 30),
        (1990, 4, 31),
        (1990, 2, -1),
        (1990, 1, 32),
        (1900, 2, 29),
        (2023, 2, 29),
    ],
)
def test_an_impossible_date_is_refused_by_its_field(wire: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidField) as refused:
        read(*wire)
    [violation] = refused.value.violations
    assert violation.field == "birth_date"
    assert str(wire[0]) not in violation.description.replace("1800", "")


def test_a_leap_day_is_possible_in_its_years() -> None:
    assert read(2024, 2, 29) == PartialDate(2024, 2, 29)
    assert read(2000, 2, 29) == PartialDate(2000, 2, 29)


@pytest.mark.parametrize("wire", [(2026, 3, 15), (2026, 4, 0), (2027, 0, 0)])
def test_the_future_is_refused(wire: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidField, match="future"):
        read(*wire)


@pytest.mark.parametrize("wire", [(2026, 3, 14), (2026, 3, 0), (2026, 0, 0)])
def test_what_may_lie_in_the_past_is_not_the_future(wire: tuple[int, int, int]) -> None:
    assert read(*wire) == PartialDate(*wire)


@settings(deadline=None)
@given(st.integers(1790, 10010), st.integers(-2, 14), st.integers(-2, 33))
def test_three_numbers_are_read_as_they_are_or_refused(year: int, month: int, day: int) -> None:
    is_possible = month == day == 0
    if 1 <= month <= 12 and 1 <= year <= 9999:
        is_possible = 0 <= day <= monthrange(year, month)[1]
    if is_possible and 1800 <= year <= 9999:
        assert read(year, month, day, latest=date.max) == PartialDate(year, month, day)
    else:
        with pytest.raises(InvalidField):
            read(year, month, day, latest=date.max)


@settings(deadline=None)
@given(partial_dates, partial_dates)
def test_agreement_is_mutual_and_at_the_coarser_precision(one: PartialDate, other: PartialDate) -> None:
    assert one.agrees_with(one)
    assert one.agrees_with(other) == other.agrees_with(one)
    precision = min(sum(map(bool, (d.year, d.month, d.day))) for d in (one, other))
    cut = [(d.year, d.month, d.day)[:precision] for d in (one, other)]
    assert one.agrees_with(other) == (cut[0] == cut[1])


@settings(deadline=None)
@given(partial_dates, partial_dates)
def test_who_states_less_than_is_known_proves_nothing(known: PartialDate, stated: PartialDate) -> None:
    assert known.is_matched_by(known)
    parts = [(one.year, one.month, one.day) for one in (known, stated)]
    says_as_much = all(said or not held for held, said in zip(*parts, strict=True))
    assert known.is_matched_by(stated) == (says_as_much and known.agrees_with(stated))


def test_a_birth_year_alone_is_never_the_first_of_january() -> None:
    only_year = PartialDate(1952)
    assert only_year.agrees_with(PartialDate(1952, 11, 3))
    assert only_year.agrees_with(PartialDate(1952, 1, 1))
    assert not PartialDate(1952, 1, 1).agrees_with(PartialDate(1952, 11, 3))
    assert not only_year.agrees_with(PartialDate(1953))
    assert (only_year.month, only_year.day) == (0, 0)
