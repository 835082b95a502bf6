"""Dates as people state them: a year, a month or a day."""

import datetime

import pytest
from google.type.date_pb2 import Date
from hypothesis import given
from hypothesis import strategies as st

from npd_client import date_of
from npd_client.cli.tables import date_text
from npd_client.client import DateMalformed


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("1990", Date(year=1990)),
        ("1990-05", Date(year=1990, month=5)),
        ("1990-05-17", Date(year=1990, month=5, day=17)),
        (" 2000-02-29\n", Date(year=2000, month=2, day=29)),
    ],
)
def test_what_is_left_out_stays_unknown(text: str, date: Date) -> None:
    assert date_of(text) == date


@pytest.mark.parametrize(
    "text",
    ["", "90", "1990-5", "1990-05-", "17-05-1990", "1990/05/17", "1990-13", "1990-00", "1990-05-00", "1990-02-30",
     "1900-02-29", "0000", "1990-05-17T00:00", "١٩٩٠", "1990-05-17 1"],
)  # fmt: skip
def test_anything_else_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(DateMalformed) as refused:
        date_of(text)
    assert not text or text not in str(refused.value)


def test_a_date_passes_through() -> None:
    date = Date(year=1931)
    assert date_of(date) is date


@given(st.dates(), st.integers(min_value=0, max_value=2))
def test_every_day_of_the_calendar_is_written_as_it_was_read(day: datetime.date, left_out: int) -> None:
    text = day.isoformat()[: 10 - 3 * left_out]
    assert date_text(date_of(text)) == text
