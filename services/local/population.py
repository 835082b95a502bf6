"""A seeded synthetic population for demonstrations, tests and benchmarks. None of its PINs can exist in production.

`Population(seed=1, size=10_000, as_of=today).citizen(0)` is the first citizen; iterate over the population for all.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Final, TypeVar

from google.type import date_pb2

from npd.common.v1 import person_pb2, place_pb2
from services.local import data, names, units

T = TypeVar("T")

# Two sexes, each with a million serials in every place code and year of the PIN. (DOMAIN.md 5.1)
CAPACITY: Final = 2_000_000
# There are PINs since the law of 2014 came into force. (DOMAIN.md 1)
EARLIEST_DAY: Final = date(2016, 1, 1)

_BITS: Final = CAPACITY.bit_length()
_MASK: Final = (1 << _BITS) - 1
# Provinces have the place codes 001 to 096; those from 900 on are for synthetic people.
_SYNTHETIC_PLACE: Final = 900
_NAMESPACE: Final = uuid.UUID("9c2f6e0a-58d1-4b7e-8a33-0f5d7c41b6e2")
_DAYS_A_YEAR: Final = 365.2425


def _by_age(*steps: tuple[int, T]) -> tuple[T, ...]:
    """What holds at each age below 120, given from which age on it holds, youngest first."""
    return tuple([value for since, value in steps if since <= age][-1] for age in range(120))


# How many of 100,000 people are in each five-year age group, from birth to below 110: rough weights.
_AGE_WEIGHTS: Final = (
    *(7600, 8000, 7900, 7100, 6600, 7700, 8500, 8000, 7400, 6600, 6000),
    *(5400, 4500, 3300, 2200, 1400, 950, 600, 200, 50, 10, 2),
)
_AGE_GROUPS: Final = data.by_weight((5 * group, weight) for group, weight in enumerate(_AGE_WEIGHTS))
# From which age on, the share of people with a birth date known to the year only, and to the month.
_VAGUE_BIRTHS: Final = _by_age((0, (0.0, 0.0)), (18, (0.0015, 0.0005)), (35, (0.011, 0.003)), (60, (0.092, 0.012)))
# From which age on, the share of people never married, and divorced.
_UNMARRIED: Final = _by_age(
    (0, (0.78, 0.005)), (25, (0.40, 0.02)), (30, (0.18, 0.03)), (35, (0.08, 0.04)), (45, (0.06, 0.04))
)
_MARRIAGEABLE_AGE: Final = {person_pb2.SEX_MALE: 20, person_pb2.SEX_FEMALE: 18}
# From which age on, the birthday that called for the card in force and the one that ends it; from 60 on none does.
_FIRST_CARD_AGE: Final = 14
_CARD_AGES: Final = _by_age((0, (0, 14)), (14, (14, 25)), (25, (25, 40)), (40, (40, 60)), (60, (60, None)))
# In this population, everybody born before EARLIEST_DAY is on record by this day.
_COLLECTED_BY: Final = date(2021, 7, 1)
_PARENTS_NAMED_BELOW_AGE: Final = 30
_FATHER_KNOWN_SHARE: Final = 0.97
# Late registration is normal: 84.9 % of births are registered within 60 days. (DOMAIN.md 5.5)
_ON_TIME_SHARE: Final = 0.849
_ON_TIME_DAYS: Final = 60
# Ho Chi Minh City, Binh Duong, Ha Noi, Dong Nai, Bac Ninh, Da Nang, Hai Phong, Can Tho: codes of 2024.
_CITIES: Final = data.by_weight(
    (("79", 30), ("74", 22), ("01", 22), ("75", 12), ("27", 6), ("48", 5), ("31", 4), ("92", 3))
)


@dataclass(frozen=True, slots=True)
class SyntheticCitizen:
    """A living person as the sources would report him; `register_time` (UTC) is when he was first recorded."""

    subject_id: uuid.UUID
    person: person_pb2.Person
    register_time: datetime


class Numbering:
    """Gives each index below CAPACITY a number of its own below CAPACITY: a permutation chosen by the seed.

    The lowest bit of the number says the sex, the rest is the serial: two indices never share sex *and* serial, so no
    PIN occurs twice, whatever their places and years of birth.
    """

    def __init__(self, seed: int) -> None:
        random = Random(f"numbering {seed}")  # noqa: S311 - repeatable on purpose; it protects nothing
        self._shift = random.getrandbits(_BITS)
        self._first = random.getrandbits(_BITS) | 1
        self._second = random.getrandbits(_BITS) | 1

    def number(self, index: int) -> int:
        """The number of an index, both from 0 to CAPACITY - 1.

        1. Adding, multiplying by an odd factor and folding high bits onto low ones each permute the numbers of 21 bits.
        2. Going on until the number is below CAPACITY makes of it a permutation of those below CAPACITY.
        """
        number = index
        while True:
            number = (number + self._shift) & _MASK  # (1)
            number ^= number >> 11
            number = number * self._first & _MASK
            number ^= number >> 9
            number = number * self._second & _MASK
            number ^= number >> 11
            if number < CAPACITY:  # (2)
                return number


class Population:
    """Citizens 0 to size - 1 of a seed, living on a day. None is held: each is made when it is asked for.

    A citizen depends on seed, day and index alone, not on the size nor on who was made before.
    Raises ValueError if the size exceeds CAPACITY or the day lies before EARLIEST_DAY.
    """

    def __init__(self, seed: int, size: int, as_of: date) -> None:
        if not 0 <= size <= CAPACITY:
            raise ValueError(f"a population has from 0 to {CAPACITY} citizens, not {size}")
        if as_of < EARLIEST_DAY:
            raise ValueError(f"there are no PINs before {EARLIEST_DAY}, so no population as of {as_of}")
        self._size = size
        self._as_of = as_of
        self._namespace = uuid.uuid5(_NAMESPACE, str(seed))
        self._numbering = Numbering(seed)
        self._land = units.load_land()
        self._names = names.load_names()
        self._units = self._land.list_on(as_of)
        self._units_since = max(EARLIEST_DAY, self._units.first_day)
        self._religions = data.by_weight(
            (row["code"], int(row["weight"])) for row in data.rows("religions_provisional.csv")
        )

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[SyntheticCitizen]:
        return map(self.citizen, range(self._size))

    def citizen(self, index: int) -> SyntheticCitizen:
        """Make one citizen, in the same time for any index. Raises IndexError if there is none of that index."""
        if not 0 <= index < self._size:
            raise IndexError(f"citizen {index} of {self._size}")
        subject_id = uuid.uuid5(self._namespace, str(index))
        random = Random(subject_id.int)  # noqa: S311 - repeatable on purpose; it protects nothing
        number = self._numbering.number(index)
        sex = person_pb2.SEX_FEMALE if number & 1 else person_pb2.SEX_MALE
        birth = self._birth_date(random)
        age = _age(birth, self._as_of)
        register = self._register_date(random, birth)
        group = random.choice(self._land.groups)
        home = random.choice(group.homes)
        person = person_pb2.Person(
            pin=_pin(home, sex, birth, number >> 1),
            birth_date=_date_as_known(random, birth, age),
            sex=sex,
            ethnicity=person_pb2.CodedValue(code=group.code, list_version="2008"),
            nationalities=("VN",),
            marital_status=_marital_status(random, sex, age),
        )
        self._name(random, person, _tradition(group, home), birth, age)
        self._origin(random, person, group, home, register)
        self._residence(random, person, home, age, register)
        if age >= _FIRST_CARD_AGE:
            person.id_cards.append(self._card(random, birth, age, number))
        if age >= 18 and random.random() < 0.7:
            # Numbers in Viet Nam never begin with 0 after the country code: nobody can be rung up.
            person.phone = f"+8400{number:07d}"
        if random.random() < 0.13:
            person.religion.code = random.choice(self._religions)
            person.religion.list_version = "provisional"
        return SyntheticCitizen(subject_id, person, _office_hour(random, register))

    def _birth_date(self, random: Random) -> date:
        years = random.choice(_AGE_GROUPS) + 5 * random.random()
        return self._as_of - timedelta(days=int(years * _DAYS_A_YEAR))

    def _register_date(self, random: Random, birth: date) -> date:
        """When the birth was registered; for people born before PINs, when the database first recorded them."""
        if birth < EARLIEST_DAY:
            return _day_between(random, EARLIEST_DAY, min(self._as_of, _COLLECTED_BY))
        on_time = random.random() < _ON_TIME_SHARE
        days = int(_ON_TIME_DAYS * random.random() ** 2) if on_time else random.randint(_ON_TIME_DAYS + 1, 1500)
        lived = (self._as_of - birth).days
        return birth + timedelta(days=days if days <= lived else random.randint(0, lived))

    def _name(self, random: Random, person: person_pb2.Person, tradition: str, birth: date, age: int) -> None:
        """The person's names, and for the young the parents', one of whom has the same family name."""
        draw = self._names.draw
        name = draw(random, tradition, person.sex, birth.year)
        person.full_name.CopyFrom(name)
        if random.random() < 0.02:
            person.other_names.append(draw(random, tradition, person.sex, birth.year, name.family))
        if age >= _PARENTS_NAMED_BELOW_AGE:
            return
        parents_birth_year = birth.year - random.randint(19, 38)
        of_mother, of_father = (name.family, "") if tradition in names.MATRILINEAL else ("", name.family)
        mother = draw(random, tradition, person_pb2.SEX_FEMALE, parents_birth_year, of_mother)
        person.mother.CopyFrom(person_pb2.RelatedPerson(name=mother, nationality="VN"))
        if random.random() < _FATHER_KNOWN_SHARE:
            father = draw(random, tradition, person_pb2.SEX_MALE, parents_birth_year, of_father)
            person.father.CopyFrom(person_pb2.RelatedPerson(name=father, nationality="VN"))

    def _origin(
        self, random: Random, person: person_pb2.Person, group: units.Group, home: units.Province, register: date
    ) -> None:
        """Where the person comes from, in the list of units by which the birth was registered."""
        listed = self._land.list_on(register)
        registered = random.choice(listed.communes[home.code]).place
        person.birth_registration_place.CopyFrom(registered)
        drawn = random.random()
        if drawn < 0.65:
            born = registered
        elif drawn < 0.93:
            born = random.choice(listed.communes[home.code]).place
        else:
            born = listed.provinces[home.code]
        person.place_of_birth.CopyFrom(born)
        drawn = random.random()
        if drawn < 0.6:
            hometown = registered
        elif drawn < 0.9:
            ancestral = home if drawn < 0.8 else random.choice(group.homes)
            hometown = random.choice(listed.communes[ancestral.code]).place
        else:
            hometown = listed.provinces[home.code]
        person.hometown.CopyFrom(hometown)

    def _residence(
        self, random: Random, person: person_pb2.Person, home: units.Province, age: int, register: date
    ) -> None:
        """Permanent residence at home or in a city; some adults live for a time in a city besides."""
        settled = home if random.random() < 0.85 else self._land.provinces[random.choice(_CITIES)]
        since = max(self._units_since, register)
        permanent = self._address(random, settled, _day_between(random, since, self._as_of))
        person.permanent_residence.CopyFrom(permanent)
        person.current_residence.CopyFrom(permanent)
        if not 18 <= age < 45 or random.random() > 0.12:
            return
        city = self._land.provinces[random.choice(_CITIES)]
        start = _day_between(random, max(since, self._as_of - timedelta(days=700)), self._as_of)
        stay = person.temporary_residence
        stay.address.CopyFrom(self._address(random, city, start))
        stay.start_date.CopyFrom(_wire(start))
        stay.end_date.CopyFrom(_wire(start + timedelta(days=729)))
        person.current_residence.CopyFrom(stay.address)

    def _address(self, random: Random, province: units.Province, as_of: date) -> place_pb2.Address:
        commune = random.choice(self._units.communes[province.code])
        detail = self._land.detail_text(random, province, commune)
        return place_pb2.Address(place=commune.place, detail_text=detail, as_of_date=_wire(as_of))

    def _card(self, random: Random, birth: date, age: int, number: int) -> person_pb2.IdentityCard:
        """The card in force, issued after the birthday that called for it."""
        reached, following = _CARD_AGES[age]
        since = max(_birthday(birth, reached), EARLIEST_DAY)
        return person_pb2.IdentityCard(
            document_number=f"S{number:07d}{reached}",
            issue_date=_wire(_day_between(random, since, self._as_of)),
            issuing_office="Bộ Công an",
            expiry_date=_wire(_birthday(birth, following)) if following else None,
        )


def _pin(home: units.Province, sex: "person_pb2.Sex.ValueType", birth: date, serial: int) -> str:
    """Build `PPP G YY RRRRRR`: place code, century and sex, year, serial (DOMAIN.md 5.1)."""
    century_and_sex = 2 * (birth.year // 100 - 19) + (sex == person_pb2.SEX_FEMALE)
    return f"{_SYNTHETIC_PLACE + int(home.code)}{century_and_sex}{birth.year % 100:02d}{serial:06d}"


def _tradition(group: units.Group, home: units.Province) -> str:
    if group.tradition != names.KINH:
        return group.tradition
    return names.KINH_NORTH if home.region in ("north", "mountains") else names.KINH_SOUTH


def _date_as_known(random: Random, birth: date, age: int) -> date_pb2.Date:
    """The birth date as recorded: of some of the old only the year is known, of a few the year and month."""
    year_only, month_only = _VAGUE_BIRTHS[age]
    drawn = random.random()
    if drawn < year_only:
        return date_pb2.Date(year=birth.year)
    if drawn < year_only + month_only:
        return date_pb2.Date(year=birth.year, month=birth.month)
    return _wire(birth)


def _marital_status(random: Random, sex: "person_pb2.Sex.ValueType", age: int) -> "person_pb2.MaritalStatus.ValueType":
    drawn = random.random()
    single, divorced = _UNMARRIED[age]
    if age < _MARRIAGEABLE_AGE[sex] or drawn < single:
        return person_pb2.MARITAL_STATUS_SINGLE
    if drawn < single + divorced:
        return person_pb2.MARITAL_STATUS_DIVORCED
    widowed = max(0, age - 45) * (0.014 if sex == person_pb2.SEX_FEMALE else 0.005)
    return person_pb2.MARITAL_STATUS_WIDOWED if drawn > 1 - widowed else person_pb2.MARITAL_STATUS_MARRIED


def _age(birth: date, day: date) -> int:
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def _birthday(birth: date, age: int) -> date:
    """The day on which that age is reached; who was born on 29 February reaches it on 1 March of a common year."""
    try:
        return birth.replace(year=birth.year + age)
    except ValueError:
        return date(birth.year + age, 3, 1)


def _day_between(random: Random, first: date, last: date) -> date:
    return first + timedelta(days=random.randint(0, (last - first).days))


def _office_hour(random: Random, day: date) -> datetime:
    """An instant of that day from 8 to 17 o'clock in Viet Nam, which is seven hours ahead of UTC all year."""
    opening = datetime(day.year, day.month, day.day, 1, tzinfo=UTC)
    return opening + timedelta(seconds=random.randrange(9 * 3600))


def _wire(day: date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)
