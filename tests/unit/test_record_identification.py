"""Verify, then release: when a stated identity matches, and when a PIN is closed, given what the store answers."""

from collections.abc import Sequence
from datetime import date
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import StatedIdentity
from services.sharing.record.identification import (
    MISMATCHES_A_DAY,
    Claim,
    Finding,
    Found,
    PinClosedToday,
    count_contradictions,
    count_mismatches,
    identify,
)

DAY = date(2026, 3, 14)
ID = UUID("6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21")
PIN = "079303012345"
BORN = PartialDate(1990, 5, 3)


class Store:
    """Stands in for the driver and its cursor: answers with rows, and remembers what it was asked."""

    def __init__(self, rows: Sequence[tuple[Any, ...]] = ()) -> None:
        self.rows = list(rows)
        self.asked: list[tuple[Any, ...]] = []

    def cursor(self, *, binary: bool) -> "Store":
        return self

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute(self, query: str, parameters: tuple[Any, ...]) -> "Store":
        self.asked.append(parameters)
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


def claim(name: str = "Trần Thị Hòa", birth: PartialDate = BORN, system: str = "tax/core") -> Claim:
    return Claim(system, b"mark of the PIN", StatedIdentity(PIN, text.name_key(name), birth))


def row(
    *, name: str = "TRẦN THỊ HOÀ", birth: tuple[int, int, int] = (1990, 5, 3), mismatches: int | None = None
) -> tuple[Any, ...]:
    return (ID, text.name_key(name), *birth, b"person", ["sex"], mismatches)


def nobody(mismatches: int | None = None) -> tuple[Any, ...]:
    return (None,) * 7 + (mismatches,)


def identified(claims: Sequence[Claim], rows: Sequence[tuple[Any, ...]]) -> list[Finding]:
    return identify(cast("psycopg.Connection[tuple[Any, ...]]", Store(rows)), claims, DAY)


def matches(stated: Claim, held: tuple[Any, ...]) -> bool:
    [finding] = identified([stated], [held])
    assert isinstance(finding, Found)
    return finding.is_match


def test_a_match_brings_the_record_and_its_disputes() -> None:
    assert identified([claim()], [row()]) == [Found(ID, True, b"person", ("sex",))]


def test_nobody_with_the_pin_is_nobody() -> None:
    assert identified([claim()], [nobody()]) == [None]


@pytest.mark.parametrize("name", ["Trần Thị Hoa", "Trần Thị Hóa", "Tran Thi Hoa", "Trần Hòa", "Trần Thị Hòa An"])
def test_another_name_is_no_match(name: str) -> None:
    assert not matches(claim(name), row())


def test_the_birth_date_must_say_as_much_as_the_record_knows() -> None:
    assert matches(claim(), row(birth=(1990, 5, 0)))
    assert matches(claim(), row(birth=(1990, 0, 0)))
    assert matches(claim(birth=PartialDate(1990)), row(birth=(1990, 0, 0)))
    for less in (PartialDate(1990), PartialDate(1990, 5)):
        assert not matches(claim(birth=less), row())
    for other in (PartialDate(1990, 6, 3), PartialDate(1991, 5, 3)):
        assert not matches(claim(birth=other), row())


def test_a_record_without_a_birth_year_matches_nothing() -> None:
    for birth in (BORN, PartialDate(0)):
        assert not matches(claim(birth=birth), row(birth=(0, 0, 0)))


def test_a_record_without_a_name_matches_no_stated_one() -> None:
    assert not matches(claim(), row(name=""))


@pytest.mark.parametrize("mismatches", [None, 0, MISMATCHES_A_DAY - 1])
def test_up_to_its_limit_a_pin_is_open(mismatches: int | None) -> None:
    assert matches(claim(), row(mismatches=mismatches))


@pytest.mark.parametrize("held", [row(mismatches=MISMATCHES_A_DAY), nobody(MISMATCHES_A_DAY), row(mismatches=99)])
def test_a_closed_pin_stays_closed_even_for_who_would_match(held: tuple[Any, ...]) -> None:
    [finding] = identified([claim()], [held])
    assert isinstance(finding, PinClosedToday)
    assert finding.metadata == {"limit": "5"}


def test_guesses_made_at_once_count_as_if_made_in_turn() -> None:
    guesses = [claim(f"Lê An {n}") for n in range(7)]
    findings = identified([*guesses, claim()], [row()] * 8)
    kinds = [type(finding) for finding in findings]
    assert kinds == [Found] * MISMATCHES_A_DAY + [PinClosedToday] * 3


def test_guesses_at_a_pin_that_nobody_has_count_too() -> None:
    findings = identified([claim()] * 6, [nobody(3)] * 6)
    assert findings[:2] == [None, None]
    assert [type(finding) for finding in findings[2:]] == [PinClosedToday] * 4


def test_matches_never_close_a_pin() -> None:
    assert identified([claim()] * 9, [row(mismatches=4)] * 9) == [Found(ID, True, b"person", ("sex",))] * 9


def test_one_systems_guesses_close_nothing_to_another() -> None:
    wrong = [claim("Lê An")] * MISMATCHES_A_DAY
    findings = identified([*wrong, claim(system="moh/medical"), claim()], [row()] * 7)
    assert [type(finding) for finding in findings[-2:]] == [Found, PinClosedToday]


def test_mismatches_are_counted_by_pin_and_system() -> None:
    store = Store()
    claims = [claim(), claim(system="moh/medical"), claim()]
    count_mismatches(cast("psycopg.Connection[tuple[Any, ...]]", store), claims, DAY)
    assert store.asked == [(DAY, [b"mark of the PIN"] * 2, ["moh/medical", "tax/core"], [1, 2])]


def test_contradictions_are_counted_by_pin_and_system_and_none_is_not_written() -> None:
    store = Store()
    counts = {claim().key: 3, claim(system="moh/medical").key: 0}
    count_contradictions(cast("psycopg.Connection[tuple[Any, ...]]", store), counts, DAY)
    count_contradictions(cast("psycopg.Connection[tuple[Any, ...]]", store), {claim().key: 0}, DAY)
    assert store.asked == [(DAY, [b"mark of the PIN"], ["tax/core"], [3])]


def test_without_a_mismatch_nothing_is_written() -> None:
    store = Store()
    count_mismatches(cast("psycopg.Connection[tuple[Any, ...]]", store), [], DAY)
    assert store.asked == []
