"""How numbers are built and read: PPP G YY RRRRRR."""

from datetime import date
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain import BirthFacts, RegistrationPlace, SuccessionGround
from services.identity.numbering import CANDIDATES, SERIALS, Space, century_sex, correction_ground, fits, place_prefix
from services.mesh.core.errors import InvalidField
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.pin import require_pin
from services.mesh.core.person.stated import PlaceCodeUnknown
from services.mesh.core.places import LIST_VERSIONS, list_version, units_of

DAY = date(2026, 11, 23)
YEARS, SEXES = st.integers(1900, 2399), st.sampled_from([1, 2])
PROVINCES = sorted(unit.code for unit in units_of(list_version(DAY)).values() if unit.level == "PROVINCE")


def place(code: str, version: str = "2026-04-30", country: str = "") -> RegistrationPlace:
    return RegistrationPlace(code, version, country)


def birth(year: int, sex: int, code: str = "79") -> BirthFacts:
    return BirthFacts(sex, PartialDate(year), place(code))


@pytest.mark.parametrize(
    ("year", "sex", "digit"),
    [
        (1900, 1, 0), (1999, 1, 0), (1900, 2, 1), (1999, 2, 1), (2000, 1, 2), (2099, 2, 3),
        (2100, 1, 4), (2199, 2, 5), (2200, 1, 6), (2299, 2, 7), (2300, 1, 8), (2399, 2, 9),
    ],
)  # fmt: skip
def test_century_and_sex_are_the_digit_of_the_decree(year: int, sex: int, digit: int) -> None:
    assert century_sex(year, sex) == digit


@pytest.mark.parametrize(("year", "sex"), [(1899, 1), (2400, 2), (0, 1), (1990, 0), (1990, 3)])
def test_a_year_or_sex_without_numbers_is_refused_and_fits_no_number(year: int, sex: int) -> None:
    with pytest.raises(InvalidField):
        century_sex(year, sex)
    assert not fits("001090000001", year, sex)


def test_the_worked_example_of_the_domain_page() -> None:
    assert Space.of(birth(2003, 2), DAY, sandbox=False).number(7) == "079303000007"


@given(YEARS, SEXES, st.sampled_from(PROVINCES), st.booleans(), st.integers(0, SERIALS - 1))
def test_a_number_built_is_well_formed_and_reads_back_as_built(
    year: int, sex: int, code: str, sandbox: bool, serial: int
) -> None:
    pin = Space.of(birth(year, sex, code), DAY, sandbox=sandbox).number(serial)
    assert require_pin(pin, "pin", sandbox=sandbox) == pin
    assert pin[0] == ("9" if sandbox else "0")
    assert (pin[1:3], pin[4:6], int(pin[6:])) == (code, f"{year % 100:02}", serial)
    assert fits(pin, year, sex)
    assert Space.beside(pin, year, sex).number(serial) == pin


@given(YEARS, SEXES, YEARS, SEXES)
def test_a_number_fits_its_own_year_and_sex_and_no_other(year: int, sex: int, other_year: int, other_sex: int) -> None:
    pin = Space.of(birth(year, sex), DAY, sandbox=True).number(1)
    assert fits(pin, other_year, other_sex) is ((year, sex) == (other_year, other_sex))


@given(st.integers(), YEARS, SEXES)
def test_draws_lie_in_the_space(seed: int, year: int, sex: int) -> None:
    space = Space.of(birth(year, sex), DAY, sandbox=True)
    drawn = space.draw(Random(seed))
    assert 1 <= len(drawn) <= CANDIDATES
    assert all(pin.startswith(space.prefix) and len(pin) == 12 and pin.isdigit() for pin in drawn)


def test_draws_cover_the_space_evenly() -> None:
    random, space = Random(5), Space("079303")
    serials = [int(pin[6:]) for _ in range(4000) for pin in space.draw(random)]
    shares = [sum(serial // 100_000 == tenth for serial in serials) / len(serials) for tenth in range(10)]
    assert all(0.09 < share < 0.11 for share in shares)
    assert len(set(serials)) > 0.95 * len(serials)


def test_a_commune_counts_as_its_province() -> None:
    commune = next(
        unit for unit in units_of("2026-04-30").values() if unit.level == "COMMUNE" and unit.parent_code == "01"
    )
    assert place_prefix(place(commune.code), DAY, sandbox=False) == "001"
    assert place_prefix(place(commune.code, country="VN"), DAY, sandbox=True) == "901"


@pytest.mark.parametrize(
    "unknown",
    [
        place("79", "2025-07-01"),
        place("79", "2024-12-31"),
        place("79", ""),
        place("79", "2026-05-01"),
        place("001"),
        place("99999"),
        place(""),
        place("79", country="LA"),
        place("", "", "FR"),
    ],
)
def test_a_place_that_is_not_on_the_list_of_the_day_has_no_code(unknown: RegistrationPlace) -> None:
    with pytest.raises(PlaceCodeUnknown) as refused:
        place_prefix(unknown, DAY, sandbox=False)
    assert refused.value.metadata == {"field": "birth.registration_place"}


@pytest.mark.parametrize("version", LIST_VERSIONS)
def test_every_province_of_a_list_has_a_code_on_its_days(version: str) -> None:
    day = date.fromisoformat(version)
    for unit in units_of(version).values():
        if unit.level == "PROVINCE":
            assert place_prefix(place(unit.code, version), day, sandbox=False) == f"0{unit.code}"


@pytest.mark.parametrize(
    ("before", "after", "ground"),
    [
        ((1990, 1), (1991, 1), SuccessionGround.BIRTH_YEAR_CORRECTED),
        ((1990, 1), (1890, 1), SuccessionGround.BIRTH_YEAR_CORRECTED),
        ((1990, 1), (1990, 2), SuccessionGround.SEX_REDETERMINED),
        ((1990, 1), (1991, 2), SuccessionGround.BIRTH_YEAR_CORRECTED),
        ((1990, 1), (1990, 1), None),
        ((0, 0), (1991, 2), None),
        ((0, 1), (1991, 1), None),
        ((1990, 1), (0, 1), None),
        ((1991, 1), (1990, 1), None),
    ],
)
def test_only_a_correction_that_the_number_does_not_fit_asks_for_another(
    before: tuple[int, int], after: tuple[int, int], ground: SuccessionGround | None
) -> None:
    assert correction_ground("079090000001", before, after) is ground
