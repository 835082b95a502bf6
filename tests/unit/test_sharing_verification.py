"""Verdicts: what a record says to claims and predicates, and what it does not."""

from datetime import date, timedelta

import pytest
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2
from npd.common.v1.person_pb2 import (
    DeathOrMissing,
    IdentityCard,
    Person,
    PersonName,
)
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.sharing.v1 import verification_pb2
from services.mesh.core import places
from services.sharing.record.fields import values_of
from services.sharing.verification.domain import (
    AgeAtLeast,
    Alive,
    Claimed,
    HasNationality,
    ResidesIn,
    Verdict,
    judge_field,
    judge_predicate,
)

TODAY = date(2026, 3, 1)
LIST = "2025-07-01"


def judged(claim: Person, record: Person, path: str, *, was_told: bool = False) -> Verdict:
    return judge_field(Claimed(path, tuple(values_of(claim, [path]))), record, was_told=was_told)


def born(year: int, month: int = 0, day: int = 0) -> Person:
    return Person(birth_date=Date(year=year, month=month, day=day))


def living_in(code: str, version: str = LIST, country: str = "") -> Person:
    place = AdminPlace(unit_code=code, unit_list_version=version, country_code=country)
    return Person(permanent_residence=Address(place=place, detail_text="số 1"))


@pytest.mark.parametrize(
    ("claimed", "record", "verdict"),
    [
        (born(1990, 5, 17), born(1990, 5, 17), Verdict.CONFIRMED),
        (born(1990), born(1990, 5, 17), Verdict.CONFIRMED),
        (born(1990, 5), born(1990, 5, 17), Verdict.CONFIRMED),
        (born(1990, 5, 17), born(1990), Verdict.UNKNOWN),
        (born(1990, 5, 17), born(1990, 5), Verdict.UNKNOWN),
        (born(1990, 5), born(1990, 6, 1), Verdict.CONTRADICTED),
        (born(1991, 5, 17), born(1990), Verdict.CONTRADICTED),
        (born(1990), Person(), Verdict.UNKNOWN),
    ],
)
def test_a_date_is_confirmed_as_far_as_the_record_knows_it(claimed: Person, record: Person, verdict: Verdict) -> None:
    assert judged(claimed, record, "birth_date") is verdict


def test_precision_counts_below_a_field_too() -> None:
    dead = person_pb2.DEATH_OR_MISSING_KIND_DEAD
    less, more = (
        Person(death_or_missing=DeathOrMissing(kind=dead, date=known))
        for known in (Date(year=2020), Date(year=2020, month=2, day=3))
    )
    assert judged(less, more, "death_or_missing") is Verdict.CONFIRMED
    assert judged(more, less, "death_or_missing") is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("claimed", "verdict"),
    [("Lê Văn An", Verdict.CONFIRMED), ("LÊ VĂN  AN", Verdict.CONFIRMED), ("Le Van An", Verdict.CONTRADICTED)],
)
def test_names_are_compared_after_normalisation_and_never_without_diacritics(claimed: str, verdict: Verdict) -> None:
    record = Person(full_name=PersonName(full="Lê Văn An"))
    assert judged(Person(full_name=PersonName(full=claimed)), record, "full_name") is verdict


@pytest.mark.parametrize(
    ("record", "was_told", "verdict"),
    [
        (Person(), False, Verdict.UNKNOWN),
        (Person(), True, Verdict.CONFIRMED),
        (Person(phone="+84"), True, Verdict.CONTRADICTED),
    ],
)
def test_no_value_is_confirmed_only_if_a_source_said_so(record: Person, was_told: bool, verdict: Verdict) -> None:
    assert judged(Person(), record, "phone", was_told=was_told) is verdict


def cards(*numbers: str, issued: int = 2020) -> Person:
    return Person(id_cards=[IdentityCard(document_number=one, issue_date=Date(year=issued)) for one in numbers])


@pytest.mark.parametrize(
    ("claimed", "record", "verdict"),
    [
        (cards("1"), cards("1", "2"), Verdict.CONFIRMED),
        (cards("2", "1"), cards("1", "2"), Verdict.CONFIRMED),
        (cards("1", "3"), cards("1", "2"), Verdict.CONTRADICTED),
        (cards("1", issued=2019), cards("1"), Verdict.CONTRADICTED),
        (cards("1"), Person(), Verdict.UNKNOWN),
        (Person(), cards("1"), Verdict.CONTRADICTED),
    ],
)
def test_each_claimed_item_must_be_an_item_of_the_record(claimed: Person, record: Person, verdict: Verdict) -> None:
    assert judged(claimed, record, "id_cards") is verdict


def test_an_item_whose_key_is_written_otherwise_is_the_same() -> None:
    names = [Person(other_names=[PersonName(full=full)]) for full in ("Hoà", "hòa")]
    assert judged(names[0], names[1], "other_names") is Verdict.CONFIRMED


@pytest.mark.parametrize(
    ("record", "years", "verdict"),
    [
        (born(2008, 3, 1), 18, Verdict.CONFIRMED),
        (born(2008, 3, 2), 18, Verdict.CONTRADICTED),
        (born(2008, 2, 29), 18, Verdict.CONFIRMED),
        (born(2008, 2), 18, Verdict.CONFIRMED),
        (born(2008, 3), 18, Verdict.UNKNOWN),
        (born(2008, 4), 18, Verdict.CONTRADICTED),
        (born(2007), 18, Verdict.CONFIRMED),
        (born(2008), 18, Verdict.UNKNOWN),
        (born(2009), 18, Verdict.CONTRADICTED),
        (born(1876, 3, 1), 150, Verdict.CONFIRMED),
        (Person(), 18, Verdict.UNKNOWN),
    ],
)
def test_an_age_is_reached_when_the_birth_date_leaves_no_doubt(record: Person, years: int, verdict: Verdict) -> None:
    assert judge_predicate(AgeAtLeast(years), record, TODAY) is verdict


def test_who_was_born_on_the_leap_day_is_of_age_on_the_first_of_march() -> None:
    assert judge_predicate(AgeAtLeast(18), born(2008, 2, 29), TODAY - timedelta(days=1)) is Verdict.CONTRADICTED


@settings(deadline=None)
@given(st.dates(date(1900, 1, 1), date(2025, 12, 31)), st.integers(1, 150))
def test_knowing_less_of_a_birth_never_turns_a_verdict_round(day: date, years: int) -> None:
    whole = judge_predicate(AgeAtLeast(years), born(day.year, day.month, day.day), TODAY)
    for less in (born(day.year, day.month), born(day.year)):
        assert judge_predicate(AgeAtLeast(years), less, TODAY) in (whole, Verdict.UNKNOWN)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_dead_and_missing_are_not_alive(kind: "person_pb2.DeathOrMissingKind.ValueType") -> None:
    record = Person(death_or_missing=DeathOrMissing(kind=kind))
    assert judge_predicate(Alive(True), record, TODAY) is Verdict.CONTRADICTED
    assert judge_predicate(Alive(False), record, TODAY) is Verdict.CONFIRMED


def test_of_whom_no_death_is_registered_is_alive() -> None:
    assert judge_predicate(Alive(True), Person(), TODAY) is Verdict.CONFIRMED
    assert judge_predicate(Alive(False), Person(), TODAY) is Verdict.CONTRADICTED


COMMUNE = next(unit for unit in places.units_of(LIST).values() if unit.level == "COMMUNE")
PROVINCE = COMMUNE.parent_code
OTHER = next(unit for unit in places.units_of(LIST).values() if unit.level == "PROVINCE" and unit.code != PROVINCE)


@pytest.mark.parametrize(
    ("record", "code", "version", "verdict"),
    [
        (living_in(COMMUNE.code), COMMUNE.code, LIST, Verdict.CONFIRMED),
        (living_in(COMMUNE.code), PROVINCE, LIST, Verdict.CONFIRMED),
        (living_in(COMMUNE.code), OTHER.code, LIST, Verdict.CONTRADICTED),
        (living_in(PROVINCE), COMMUNE.code, LIST, Verdict.UNKNOWN),
        (living_in(COMMUNE.code, "2024-12-31"), COMMUNE.code, LIST, Verdict.UNKNOWN),
        (living_in("99999"), PROVINCE, LIST, Verdict.UNKNOWN),
        (living_in("", "", "LA"), PROVINCE, LIST, Verdict.CONTRADICTED),
        (living_in("", ""), PROVINCE, LIST, Verdict.UNKNOWN),
        (Person(), PROVINCE, LIST, Verdict.UNKNOWN),
    ],
)
def test_a_residence_lies_in_a_unit_of_its_own_list(record: Person, code: str, version: str, verdict: Verdict) -> None:
    assert judge_predicate(ResidesIn(code, version), record, TODAY) is verdict


def test_a_district_of_the_old_list_lies_in_its_province() -> None:
    units = places.units_of("2024-12-31")
    commune = next(unit for unit in units.values() if unit.level == "COMMUNE")
    province = units[commune.parent_code].parent_code
    record = living_in(commune.code, "2024-12-31")
    assert judge_predicate(ResidesIn(province, "2024-12-31"), record, TODAY) is Verdict.CONFIRMED


@pytest.mark.parametrize(
    ("known", "verdict"),
    [(["VN", "FR"], Verdict.CONFIRMED), (["FR"], Verdict.CONTRADICTED), ([], Verdict.UNKNOWN)],
)
def test_one_of_several_nationalities_is_enough(known: list[str], verdict: Verdict) -> None:
    assert judge_predicate(HasNationality("VN"), Person(nationalities=known), TODAY) is verdict


def test_verdicts_are_those_of_the_contract() -> None:
    numbers = {f"VERDICT_{verdict.name}": verdict.value for verdict in Verdict}
    assert numbers == {name: number for name, number in verification_pb2.Verdict.items() if number}
