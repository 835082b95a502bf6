"""The synthetic population: the same for the same seed, without a repeated PIN, and consistent in what it claims."""

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta, timezone
from functools import cache
from importlib import resources

import pytest
from google.type import date_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2, place_pb2
from services.local import data
from services.local.block import EARLIEST_DAY
from services.local.population import BLOCK, CAPACITY, Numbering, Population, SyntheticCitizen
from services.mesh.core import places

AS_OF = date(2026, 9, 1)
VIET_NAM = timezone(timedelta(hours=7))
CITIES = {"79", "74", "01", "75", "27", "48", "31", "92"}

seeds = st.integers(-(2**40), 2**40)
indices = st.integers(0, CAPACITY - 1)
days = st.dates(EARLIEST_DAY, date(2040, 12, 31))


@cache
def sample() -> tuple[SyntheticCitizen, ...]:
    """Some thousand citizens for the tests that look at all of them."""
    return tuple(Population(seed=7, size=6_000, as_of=AS_OF))


def unit_rows() -> Iterator[dict[str, str]]:
    """The table itself."""
    with (resources.files(places) / "admin_units.csv").open(encoding="utf-8") as table:
        yield from csv.DictReader(table)


@cache
def codes_of(version: str) -> frozenset[str]:
    """The codes of one list, read from the table itself."""
    return frozenset(
        row["code"]
        for row in unit_rows()
        if row["valid_from"] <= version and (not row["valid_to"] or version <= row["valid_to"])
    )


@cache
def old_provinces() -> dict[str, str]:
    """The province code of each province, district and commune of the list of 2024."""
    parents = {row["code"]: row["parent_code"] for row in unit_rows() if not row["valid_from"]}

    def root(code: str) -> str:
        return root(parents[code]) if parents[code] else code

    return {code: root(code) for code in parents}


def known_day(day: date_pb2.Date) -> date:
    return date(day.year, day.month, day.day)


def is_precise(person: person_pb2.Person) -> bool:
    return bool(person.birth_date.day)


def age_of(person: person_pb2.Person) -> int:
    """The age in years on AS_OF of a person whose birth date is known to the day."""
    birth = known_day(person.birth_date)
    return AS_OF.year - birth.year - ((AS_OF.month, AS_OF.day) < (birth.month, birth.day))


@settings(max_examples=25)
@given(seed=seeds, as_of=days, asked=st.lists(indices, min_size=2, max_size=8))
def test_same_seed_and_day_make_the_same_citizens_in_any_order(seed: int, as_of: date, asked: list[int]) -> None:
    once, again = Population(seed, CAPACITY, as_of), Population(seed, CAPACITY, as_of)
    made = {index: once.citizen(index) for index in asked}
    assert {index: again.citizen(index) for index in reversed(asked)} == made


def test_iterating_makes_the_citizens_that_are_made_one_by_one() -> None:
    population = Population(seed=3, size=50, as_of=AS_OF)
    assert list(population) == [population.citizen(index) for index in range(len(population))]


@pytest.mark.parametrize("size", [1, 9, BLOCK, BLOCK + 1])
def test_a_citizen_does_not_depend_on_the_size_of_the_population(size: int) -> None:
    assert Population(3, size, AS_OF).citizen(size - 1) == Population(3, CAPACITY, AS_OF).citizen(size - 1)


def test_changing_a_citizen_changes_nobody_made_later() -> None:
    population = Population(3, BLOCK, AS_OF)
    before = population.citizen(4)
    spoilt = population.citizen(4).person
    spoilt.household.head.pin = spoilt.permanent_residence.detail_text = "spoilt"
    spoilt.ClearField("full_name")
    assert population.citizen(4) == before
    assert "spoilt" not in str(list(population))


def test_another_seed_makes_other_citizens() -> None:
    ours, theirs = Population(1, 200, AS_OF), Population(2, 200, AS_OF)
    assert not {citizen.subject_id for citizen in ours} & {citizen.subject_id for citizen in theirs}
    assert [citizen.person.pin for citizen in ours] != [citizen.person.pin for citizen in theirs]


@pytest.mark.parametrize("seed", [0, 7])
def test_numbering_gives_every_number_exactly_once(seed: int) -> None:
    number = Numbering(seed).number
    taken = bytearray(CAPACITY)
    for index in range(CAPACITY):
        taken[number(index)] = 1
    assert sum(taken) == CAPACITY


@given(seed=seeds, pair=st.lists(indices, min_size=2, max_size=2, unique=True))
def test_two_citizens_never_share_a_number(seed: int, pair: list[int]) -> None:
    numbering = Numbering(seed)
    first, second = (numbering.number(index) for index in pair)
    assert first != second
    assert 0 <= first < CAPACITY


@settings(max_examples=50)
@given(seed=seeds, as_of=days, index=indices)
def test_a_pin_says_the_number_of_its_citizen_so_none_occurs_twice(seed: int, as_of: date, index: int) -> None:
    pin = Population(seed, CAPACITY, as_of).citizen(index).person.pin
    assert 2 * int(pin[6:]) + int(pin[3]) % 2 == Numbering(seed).number(index)


def test_no_pin_no_subject_and_no_card_occurs_twice() -> None:
    for values in (
        [citizen.person.pin for citizen in sample()],
        [citizen.subject_id for citizen in sample()],
        [card.document_number for citizen in sample() for card in citizen.person.id_cards],
    ):
        assert len(set(values)) == len(values)


@settings(max_examples=100)
@given(seed=seeds, as_of=days, index=indices)
def test_a_pin_agrees_with_sex_birth_year_and_province_of_registration(seed: int, as_of: date, index: int) -> None:
    person = Population(seed, CAPACITY, as_of).citizen(index).person
    assert person.pin.isascii()
    assert person.pin.isdecimal()
    assert len(person.pin) == 12
    assert int(person.pin[:3]) == 900 + int(old_provinces()[person.birth_registration_place.unit_code])
    assert divmod(int(person.pin[3]), 2) == (
        person.birth_date.year // 100 - 19,
        person.sex == person_pb2.SEX_FEMALE,
    )
    assert int(person.pin[4:6]) == person.birth_date.year % 100


def places_of(person: person_pb2.Person) -> dict[str, place_pb2.AdminPlace]:
    places = {
        "place_of_birth": person.place_of_birth,
        "birth_registration_place": person.birth_registration_place,
        "hometown": person.hometown,
        "permanent_residence": person.permanent_residence.place,
        "current_residence": person.current_residence.place,
    }
    if person.HasField("temporary_residence"):
        places["temporary_residence"] = person.temporary_residence.address.place
    return places


def test_every_unit_code_is_in_the_list_that_is_named_with_it() -> None:
    versions = Counter[str]()
    for citizen in sample():
        for field, place in places_of(citizen.person).items():
            versions[place.unit_list_version] += 1
            assert place.unit_code in codes_of(place.unit_list_version), (field, place)
    assert set(versions) == set(places.LIST_VERSIONS)


def test_origins_are_coded_by_the_list_of_the_day_of_registration() -> None:
    for citizen in sample():
        registered_on = citizen.register_time.astimezone(VIET_NAM).date()
        for field in ("place_of_birth", "birth_registration_place", "hometown"):
            place = places_of(citizen.person)[field]
            assert place.unit_list_version == places.list_version(registered_on)


@settings(max_examples=100)
@given(seed=seeds, as_of=days, index=indices)
def test_addresses_are_coded_by_the_list_of_the_day_they_are_declared(seed: int, as_of: date, index: int) -> None:
    person = Population(seed, CAPACITY, as_of).citizen(index).person
    for address in (person.permanent_residence, person.current_residence):
        declared_on = known_day(address.as_of_date)
        assert declared_on <= as_of
        assert address.place.unit_list_version == places.list_version(declared_on) == places.list_version(as_of)
        assert address.detail_text


def test_the_list_changes_on_the_day_it_came_into_force() -> None:
    assert [
        places.list_version(day)
        for day in (date(1960, 1, 1), date(2025, 6, 30), date(2025, 7, 1), date(2026, 4, 29), date(2026, 4, 30))
    ] == ["2024-12-31", "2024-12-31", "2025-07-01", "2025-07-01", "2026-04-30"]


@settings(max_examples=200)
@given(seed=seeds, as_of=days, index=indices)
def test_nobody_is_born_or_recorded_after_the_day_of_the_population(seed: int, as_of: date, index: int) -> None:
    citizen = Population(seed, CAPACITY, as_of).citizen(index)
    recorded_on = citizen.register_time.astimezone(VIET_NAM).date()
    assert citizen.register_time.tzinfo is not None
    assert EARLIEST_DAY <= recorded_on <= as_of
    assert citizen.person.birth_date.year >= as_of.year - 111
    if is_precise(citizen.person):
        assert known_day(citizen.person.birth_date) <= recorded_on


def test_most_recent_births_are_registered_in_time_and_some_are_late() -> None:
    lags = [
        (citizen.register_time.date() - known_day(citizen.person.birth_date)).days
        for citizen in sample()
        if citizen.person.birth_date.year >= EARLIEST_DAY.year
    ]
    assert 0.8 < sum(lag <= 60 for lag in lags) / len(lags) < 0.95


def test_about_one_birth_date_in_sixty_is_known_to_the_year_only_and_mostly_of_the_old() -> None:
    vague = [citizen.person.birth_date for citizen in sample() if not citizen.person.birth_date.month]
    assert 1 / 80 < len(vague) / len(sample()) < 1 / 45
    assert all(birth.day == 0 for birth in vague)
    assert sum(AS_OF.year - birth.year >= 60 for birth in vague) > len(vague) / 2
    assert any(citizen.person.birth_date.month and not citizen.person.birth_date.day for citizen in sample())


def test_ages_are_as_frequent_as_in_the_country() -> None:
    births = Counter((AS_OF.year - citizen.person.birth_date.year) // 20 for citizen in sample())
    shares = [births[twenty] / len(sample()) for twenty in range(5)]
    assert shares == pytest.approx([0.30, 0.31, 0.26, 0.12, 0.02], abs=0.03)


def test_newborn_and_very_old_people_occur() -> None:
    ages = [age_of(citizen.person) for citizen in sample() if is_precise(citizen.person)]
    assert min(ages) == 0
    assert 90 <= max(ages) < 110


def test_cards_are_held_from_fourteen_on_and_are_in_force() -> None:
    for person in (citizen.person for citizen in sample() if is_precise(citizen.person)):
        assert len(person.id_cards) == (age_of(person) >= 14)
        for card in person.id_cards:
            assert known_day(card.issue_date) <= AS_OF
            assert card.HasField("expiry_date") == (age_of(person) < 60)
            if card.HasField("expiry_date"):
                assert known_day(card.expiry_date) > AS_OF


def test_minors_are_single_and_have_no_telephone() -> None:
    minors = [citizen.person for citizen in sample() if is_precise(citizen.person) and age_of(citizen.person) < 18]
    assert {person.marital_status for person in minors} == {person_pb2.MARITAL_STATUS_SINGLE}
    assert not any(person.phone for person in minors)


def test_every_marital_status_occurs() -> None:
    statuses = {citizen.person.marital_status for citizen in sample()}
    assert statuses == set(person_pb2.MaritalStatus.values()) - {person_pb2.MARITAL_STATUS_UNSPECIFIED}


def test_telephone_numbers_cannot_be_dialled_and_do_not_repeat() -> None:
    phones = [citizen.person.phone for citizen in sample() if citizen.person.phone]
    assert len(phones) > 1_000
    assert len(set(phones)) == len(phones)
    assert all(phone.startswith("+8400") and len(phone) == 12 and phone[1:].isdecimal() for phone in phones)


def test_temporary_residents_live_where_they_stay() -> None:
    stays = [citizen.person for citizen in sample() if citizen.person.HasField("temporary_residence")]
    assert len(stays) > 100
    for person in stays:
        stay = person.temporary_residence
        assert person.current_residence == stay.address
        assert known_day(stay.start_date) <= AS_OF <= known_day(stay.end_date)
        assert old_provinces()[stay.address.place.unit_code] in CITIES


def test_most_people_are_kinh_and_the_codes_are_of_the_list_of_2008() -> None:
    known = {row["code"] for row in data.rows("ethnic_groups_2008.csv")}
    groups = Counter(citizen.person.ethnicity.code for citizen in sample())
    assert 0.83 < groups["01"] / len(sample()) < 0.87
    assert set(groups) <= known
    assert {citizen.person.ethnicity.list_version for citizen in sample()} == {"2008"}


def test_religion_is_given_for_some_and_its_list_is_called_provisional() -> None:
    religions = [citizen.person.religion for citizen in sample() if citizen.person.HasField("religion")]
    assert 0 < len(religions) < len(sample()) / 2
    assert {religion.list_version for religion in religions} == {"provisional"}
    assert {religion.code for religion in religions} <= {row["code"] for row in data.rows("religions_provisional.csv")}


def test_what_other_sources_contribute_is_left_out() -> None:
    for citizen in sample():
        assert citizen.person.nationalities == ["VN"]
        assert not citizen.person.blood_type
        assert not citizen.person.HasField("death_or_missing")


def test_mandatory_items_are_always_present() -> None:
    for citizen in sample():
        for field in ("full_name", "birth_date", "birth_registration_place", "hometown", "ethnicity"):
            assert citizen.person.HasField(field)
        assert citizen.person.sex


@pytest.mark.parametrize(("size", "as_of"), [(CAPACITY + 1, AS_OF), (-1, AS_OF), (1, EARLIEST_DAY - timedelta(days=1))])
def test_a_population_that_cannot_be_numbered_is_refused(size: int, as_of: date) -> None:
    with pytest.raises(ValueError, match=r"citizens|PINs"):
        Population(1, size, as_of)


@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_no_citizen_outside_the_population(index: int) -> None:
    with pytest.raises(IndexError, match="of 5"):
        Population(1, 5, AS_OF).citizen(index)
