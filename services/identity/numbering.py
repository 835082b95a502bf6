"""How a personal identification number is built and read: PPP G YY RRRRRR. Rules alone; no store.

Source: Decree 137/2015 Article 13, as DOMAIN.md 5.1 gives it. No check digit is published.
"""

from dataclasses import dataclass
from datetime import date
from random import Random

from services.identity.domain import BirthFacts, RegistrationPlace, SuccessionGround
from services.mesh.core.errors import InvalidField
from services.mesh.core.person.stated import PlaceCodeUnknown
from services.mesh.core.places import list_version, province_of

SERIALS = 1_000_000
"""How many numbers a place, sex and year have."""

CANDIDATES = 16
"""How many serials are drawn at a time."""

FIRST_YEAR, LAST_YEAR = 1900, 2399
_MALE, _FEMALE = 1, 2
_VIET_NAM = ("", "VN")
# The numbers of the civil range open with 0 and the province's code of two digits. That is known of the 63 provinces
# before 2025-07-01; which prefix the law gives to births registered since was not obtained, so the rule is provisional:
# it goes on with the codes of the list in force, seven of which another province had before. Country codes (annex of
# Circular 59/2021) were not obtained either: a place abroad has no code here. DOMAIN.md 5.1, 5.4, 8.
_CIVIL = "0"
# 900 and more: synthetic numbers, in a sandbox only; services/mesh/core/person/pin.py refuses them everywhere else.
_SYNTHETIC = "9"
_SERIAL_BITS = 20


@dataclass(frozen=True, slots=True)
class Space:
    """The numbers that a place, sex and year share. `prefix` is their first six digits: PPP G YY."""

    prefix: str

    @classmethod
    def of(cls, birth: BirthFacts, day: date, *, sandbox: bool) -> "Space":
        """The space of a birth that is registered on a day. Raises PlaceCodeUnknown, InvalidField."""
        place = place_prefix(birth.registration_place, day, sandbox=sandbox)
        return cls(f"{place}{century_sex(birth.birth_date.year, birth.sex)}{birth.birth_date.year % 100:02}")

    @classmethod
    def beside(cls, pin: str, birth_year: int, sex: int) -> "Space":
        """The space of the same place as a number's, for another year or sex. Raises InvalidField."""
        return cls(f"{pin[:3]}{century_sex(birth_year, sex)}{birth_year % 100:02}")

    def number(self, serial: int) -> str:
        """The number of a serial, 0 to SERIALS - 1."""
        return f"{self.prefix}{serial:06}"

    def draw(self, random: Random) -> list[str]:
        """Up to CANDIDATES numbers, drawn evenly from the whole space; at least one."""
        drawn: list[str] = []
        while not drawn:
            bits = random.getrandbits(_SERIAL_BITS * CANDIDATES)  # at once: each fetch may go to the kernel
            serials = (bits >> _SERIAL_BITS * place & (1 << _SERIAL_BITS) - 1 for place in range(CANDIDATES))
            drawn = [self.number(serial) for serial in serials if serial < SERIALS]
        return drawn


def place_prefix(place: RegistrationPlace, day: date, *, sandbox: bool) -> str:
    """PPP: the province of a unit of the list in force on the day. Raises PlaceCodeUnknown."""
    province = None
    if place.country_code in _VIET_NAM and place.list_version == list_version(day):
        province = province_of(place.unit_code, place.list_version)
    if province is None:
        raise PlaceCodeUnknown(field="birth.registration_place")
    return (_SYNTHETIC if sandbox else _CIVIL) + province.code


def century_sex(birth_year: int, sex: int) -> int:
    """G: 0 and 1 for men and women born in 1900 to 1999, and two more for each century. Raises InvalidField."""
    if not FIRST_YEAR <= birth_year <= LAST_YEAR:
        raise InvalidField(
            "birth.birth_date", f"must have a year from {FIRST_YEAR} to {LAST_YEAR}: others have no number"
        )
    if sex not in (_MALE, _FEMALE):
        raise InvalidField("birth.sex", "must be male or female")
    return (birth_year - FIRST_YEAR) // 100 * 2 + (sex - _MALE)


def has_numbers(birth_year: int, sex: int) -> bool:
    """Whether there are numbers for a birth year and sex."""
    return FIRST_YEAR <= birth_year <= LAST_YEAR and sex in (_MALE, _FEMALE)


def fits(pin: str, birth_year: int, sex: int) -> bool:
    """Whether a number's year and sex are those of its person. A year that has no number fits none."""
    return has_numbers(birth_year, sex) and pin[3:6] == f"{century_sex(birth_year, sex)}{birth_year % 100:02}"


def correction_ground(pin: str, before: tuple[int, int], after: tuple[int, int]) -> SuccessionGround | None:
    """On which ground a correction from one (birth year, sex) to another asks for a new number; None if it does not.

    What was not known before (0) is no correction, nor is what is not known any more; and a number that fits what is
    known now stands. Source: Decree 70/2024 Article 11 clause 7 point a.
    """
    (old_year, old_sex), (year, sex) = before, after
    is_year = bool(old_year and year and old_year != year)
    is_sex = bool(old_sex and sex and old_sex != sex)
    if not (is_year or is_sex) or not (year and sex) or fits(pin, year, sex):
        return None
    return SuccessionGround.BIRTH_YEAR_CORRECTED if is_year else SuccessionGround.SEX_REDETERMINED
