"""Synthetic citizens a block at a time: what each of them shares with his family or his household, and no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Final

from google.type import date_pb2

from npd.common.v1 import person_pb2, place_pb2
from services.local import data, names, units
from services.local.households import RELATIONS_VERSION, Household, Human, Relation, settle

# There are PINs since the law of 2014 came into force. (DOMAIN.md 1)
EARLIEST_DAY: Final = date(2016, 1, 1)

# Provinces have the place codes 001 to 096; those from 900 on are for synthetic people.
_SYNTHETIC_PLACE: Final = 900
_NATIONALITY: Final = "VN"
_DAYS_A_YEAR: Final = 365.2425

# How many of 100,000 people are in each five-year age group, from birth to below 110: rough weights.
_AGE_WEIGHTS: Final = (
    *(7600, 8000, 7900, 7100, 6600, 7700, 8500, 8000, 7400, 6600, 6000),
    *(5400, 4500, 3300, 2200, 1400, 950, 600, 200, 50, 10, 2),
)
_AGE_GROUPS: Final = data.by_weight((5 * group, weight) for group, weight in enumerate(_AGE_WEIGHTS))
_OLDEST: Final = 5.0 * len(_AGE_WEIGHTS)
# So many men have a woman of their generation in the block; by how many years such a man is older: least, most, mode.
_SAME_GENERATION_SHARE: Final = 0.7
_MAN_OLDER: Final = (-3.0, 9.0, 3.0)
# In this population, everybody born before EARLIEST_DAY is on record by this day.
_COLLECTED_BY: Final = date(2021, 7, 1)
# Late registration is normal: 84.9 % of births are registered within 60 days. (DOMAIN.md 5.5)
_ON_TIME_SHARE: Final = 0.849
_ON_TIME_DAYS: Final = 60
_PARENTS_NAMED_BELOW_AGE: Final = 30
_FATHER_KNOWN_SHARE: Final = 0.97
_NATIVE_SHARE: Final = 0.7
_STAYED_SHARE: Final = 0.85
# Ho Chi Minh City, Binh Duong, Ha Noi, Dong Nai, Bac Ninh, Da Nang, Hai Phong, Can Tho: codes of 2024.
CITIES: Final = data.by_weight(
    (("79", 30), ("74", 22), ("01", 22), ("75", 12), ("27", 6), ("48", 5), ("31", 4), ("92", 3))
)


@dataclass(frozen=True, slots=True)
class Member:
    """A citizen as far as his family and household make him. `person` is kept by others too: copy it, never change it.

    The record may know less than the human's true birth date. `person` holds PIN, name, sex, ethnicity, nationality,
    marital status, family, household and permanent residence.
    """

    human: Human
    number: int
    register_date: date
    group: units.Group
    home: units.Province
    person: person_pb2.Person

    @property
    def tradition(self) -> str:
        """By which he is named."""
        if self.group.tradition != names.KINH:
            return self.group.tradition
        return names.KINH_NORTH if self.home.region in ("north", "mountains") else names.KINH_SOUTH


class Blocks:
    """Makes the people of a block as of a day."""

    def __init__(self, as_of: date) -> None:
        self._as_of = as_of
        self._land = units.load_land()
        self._names = names.load_names()
        self._units_since = max(EARLIEST_DAY, self._land.list_on(as_of).first_day)

    def make(self, random: Random, numbers: Sequence[int]) -> tuple[Member, ...]:
        """Make the people with these numbers (see Numbering), in this order.

        1. Everybody is born, registered, and settled in a household.
        2. The people of a household are of one ethnic group; each comes from a home of it, which gives him his PIN.
        3. They are named, the oldest generation first, so that family names are handed down.
        4. They name each other as family and household, and live at one address since all of them are registered.
        """
        humans = self._born(random, numbers)  # (1)
        register_dates = [self._register_date(random, human.birth) for human in humans]
        settlement = settle(random, humans)
        made: dict[int, Member] = {}
        for household in settlement.households:
            group = random.choice(self._land.groups)  # (2)
            root = random.choice(group.homes)
            members = {}
            for place, relation in household.relations():
                native = relation is Relation.CHILD or random.random() < _NATIVE_SHARE
                home = root if native else random.choice(group.homes)
                person = person_pb2.Person(
                    pin=_pin(home, humans[place], numbers[place]),
                    sex=humans[place].sex,
                    ethnicity=person_pb2.CodedValue(code=group.code, list_version="2008"),
                    nationalities=(_NATIONALITY,),
                    marital_status=settlement.statuses[place],
                )
                members[place] = Member(humans[place], numbers[place], register_dates[place], group, home, person)
            self._name(random, household, members)  # (3)
            _acquaint(household, members)  # (4)
            self._house(random, root, members)
            made.update(members)
        return tuple(made[place] for place in range(len(numbers)))

    def _born(self, random: Random, numbers: Sequence[int]) -> list[Human]:
        """Everybody's sex by his number, and birth; many of the men and women are of one generation, two by two."""
        ages = [random.choice(_AGE_GROUPS) + 5 * random.random() for _ in numbers]
        women = [place for place, number in enumerate(numbers) if number & 1]
        men = [place for place, number in enumerate(numbers) if not number & 1]
        for man, woman in zip(men, women, strict=False):
            if random.random() < _SAME_GENERATION_SHARE:
                older = random.triangular(*_MAN_OLDER)
                if random.random() < 0.5:
                    ages[woman] = ages[man] - older
                else:
                    ages[man] = ages[woman] + older
        births = [self._as_of - timedelta(days=int(min(abs(age), _OLDEST) * _DAYS_A_YEAR)) for age in ages]
        return [
            Human(person_pb2.SEX_FEMALE if number & 1 else person_pb2.SEX_MALE, birth, age_on(self._as_of, birth))
            for number, birth in zip(numbers, births, strict=True)
        ]

    def _register_date(self, random: Random, birth: date) -> date:
        """When the birth was registered; for people born before PINs, when the database first recorded them."""
        if birth < EARLIEST_DAY:
            return day_between(random, EARLIEST_DAY, min(self._as_of, _COLLECTED_BY))
        on_time = random.random() < _ON_TIME_SHARE
        days = int(_ON_TIME_DAYS * random.random() ** 2) if on_time else random.randint(_ON_TIME_DAYS + 1, 1500)
        lived = (self._as_of - birth).days
        return birth + timedelta(days=days if days <= lived else random.randint(0, lived))

    def _name(self, random: Random, household: Household, members: Mapping[int, Member]) -> None:
        parents: dict[int, list[person_pb2.Person]] = {place: [] for place in members}
        for parent, child in household.descents():
            parents[child].append(members[parent].person)
        for place in (*household.parents, *(place for place in members if place not in household.parents)):
            self._name_one(random, members[place], parents[place])

    def _name_one(self, random: Random, member: Member, parents: Sequence[person_pb2.Person]) -> None:
        """Name somebody, and his parents: those given, who are named already, and whoever lives elsewhere or is dead.

        The parents of a grown-up of whom neither is given stay unknown, as most are in the record.
        """
        draw, tradition, person = self._names.draw, member.tradition, member.person
        birth_year = member.human.birth.year
        mother = next((parent for parent in parents if parent.sex == person_pb2.SEX_FEMALE), None)
        father = next((parent for parent in parents if parent.sex == person_pb2.SEX_MALE), None)
        fatherless = father is None and random.random() >= _FATHER_KNOWN_SHARE
        of_mother = tradition in names.MATRILINEAL or fatherless
        bequeathing, other = (mother, father) if of_mother else (father, mother)
        family = ""
        if bequeathing is not None:
            family = bequeathing.full_name.family or (other.full_name.family if other is not None else "")
        name = draw(random, tradition, person.sex, birth_year, family)
        if bequeathing is not None and not family:
            name = person_pb2.PersonName(given=name.given, full=name.given)
        person.full_name.CopyFrom(name)
        if not parents and member.human.age >= _PARENTS_NAMED_BELOW_AGE:
            return
        generation = birth_year - random.randint(19, 38)
        maternal, paternal = (name.family, "") if of_mother else ("", name.family)
        if mother is None:
            elsewhere = draw(random, tradition, person_pb2.SEX_FEMALE, generation, maternal)
            person.mother.CopyFrom(person_pb2.RelatedPerson(name=elsewhere, nationality=_NATIONALITY))
        if father is None and not fatherless:
            elsewhere = draw(random, tradition, person_pb2.SEX_MALE, generation, paternal)
            person.father.CopyFrom(person_pb2.RelatedPerson(name=elsewhere, nationality=_NATIONALITY))

    def _house(self, random: Random, root: units.Province, members: Mapping[int, Member]) -> None:
        """Permanent residence at home or in a city, last confirmed when everybody of the household was on record."""
        settled = root if random.random() < _STAYED_SHARE else self._land.provinces[random.choice(CITIES)]
        since = max(self._units_since, *(member.register_date for member in members.values()))
        address = write_address(random, self._land, settled, day_between(random, since, self._as_of))
        for member in members.values():
            member.person.permanent_residence.CopyFrom(address)


def _acquaint(household: Household, members: Mapping[int, Member]) -> None:
    """Let everybody's record name his spouse, parents, children and household."""
    related = {
        place: person_pb2.RelatedPerson(name=member.person.full_name, pin=member.person.pin, nationality=_NATIONALITY)
        for place, member in members.items()
    }
    for one, other in household.couples():
        members[one].person.spouses.append(related[other])
        members[other].person.spouses.append(related[one])
    for parent, child in household.descents():
        members[parent].person.children.append(related[child])
        is_mother = members[parent].human.sex == person_pb2.SEX_FEMALE
        (members[child].person.mother if is_mother else members[child].person.father).CopyFrom(related[parent])
    listed = person_pb2.Household(
        head=related[household.head], members=[related[place] for place in members if place != household.head]
    )
    for place, relation in household.relations():
        members[place].person.household.CopyFrom(listed)
        members[place].person.relation_to_head.code = relation
        members[place].person.relation_to_head.list_version = RELATIONS_VERSION


def _pin(home: units.Province, human: Human, number: int) -> str:
    """Build `PPP G YY RRRRRR`: place code, century and sex, year, serial (DOMAIN.md 5.1)."""
    year = human.birth.year
    century_and_sex = 2 * (year // 100 - 19) + (human.sex == person_pb2.SEX_FEMALE)
    return f"{_SYNTHETIC_PLACE + int(home.code)}{century_and_sex}{year % 100:02d}{number >> 1:06d}"


def write_address(random: Random, land: units.Land, province: units.Province, as_of: date) -> place_pb2.Address:
    """Make up an address in a province, coded by the list of the day on which it is declared."""
    commune = random.choice(land.list_on(as_of).communes[province.code])
    detail = land.detail_text(random, province, commune)
    return place_pb2.Address(place=commune.place, detail_text=detail, as_of_date=wire_date(as_of))


def age_on(day: date, birth: date) -> int:
    """The age in years that somebody has reached on a day."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def day_between(random: Random, first: date, last: date) -> date:
    """Draw a day, the first and the last included."""
    return first + timedelta(days=random.randint(0, (last - first).days))


def wire_date(day: date) -> date_pb2.Date:
    """A day that is wholly known."""
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)
