"""Who of some synthetic people keep house together, as which family. Knows sex and birth; draws no name, no place."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from random import Random
from typing import Final, TypeVar

from npd.common.v1 import person_pb2

T = TypeVar("T")

MARRIAGEABLE_AGE: Final = {person_pb2.SEX_MALE: 20, person_pb2.SEX_FEMALE: 18}
_OF_AGE: Final = 18
_YEAR: Final = 365.2425


class Relation(StrEnum):
    """Relation to the head of the household. Provisional codes: the national table was not obtained (DOMAIN.md 5.4)."""

    HEAD = "1"
    SPOUSE = "2"
    CHILD = "3"
    PARENT = "4"
    OTHER = "9"


RELATIONS_VERSION: Final = "provisional"


def by_age(*steps: tuple[int, T]) -> tuple[T, ...]:
    """What holds at each age below 120, given from which age on it holds, youngest first."""
    return tuple([value for since, value in steps if since <= age][-1] for age in range(120))


# From which age on, the share of people never married, and divorced.
_UNMARRIED: Final = by_age(
    (0, (0.78, 0.005)), (25, (0.40, 0.02)), (30, (0.18, 0.03)), (35, (0.08, 0.04)), (45, (0.06, 0.04))
)
# By how many years a husband may be older than his wife, and by how many most are.
_HUSBAND_OLDER: Final = (-4.0, 12.0)
_HUSBAND_USUALLY_OLDER: Final = 3.0
# How old a mother and a father may be when a child is born.
_MOTHERHOOD: Final = (18.2, 45.0)
_FATHERHOOD: Final = (20.2, 62.0)
# Brothers and sisters by one mother are twins or at least so far apart.
_BIRTHS_APART_DAYS: Final = 300
_MOST_CHILDREN: Final = 4
_LEAVES_HOME_AGE: Final = 40
_STAYS_HOME_SHARE: Final = 0.85
_OLD_AGE: Final = 55
_OLD_TAKEN_IN_SHARE: Final = 0.8
_WIFE_HEADS_SHARE: Final = 0.3
_LODGER_SHARE: Final = 0.5
_BEREFT: Final = (person_pb2.MARITAL_STATUS_DIVORCED, person_pb2.MARITAL_STATUS_WIDOWED)


@dataclass(frozen=True, slots=True)
class Human:
    """What decides who may be whose family: sex, birth date, and the age on the day of the population."""

    sex: "person_pb2.Sex.ValueType"
    birth: date
    age: int


@dataclass(frozen=True, slots=True)
class Household:
    """People who keep house together, each by his place in the sequence they were settled from.

    The spouse is the head's, `children` are the head's and the spouse's, `parents` (one, or a couple) the head's.
    """

    head: int
    spouse: int | None = None
    children: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    def relations(self) -> list[tuple[int, Relation]]:
        """Everybody of the household with his relation to its head; the head comes first."""
        spouse = () if self.spouse is None else (self.spouse,)
        groups = (
            (Relation.HEAD, (self.head,)),
            (Relation.SPOUSE, spouse),
            (Relation.CHILD, self.children),
            (Relation.PARENT, self.parents),
            (Relation.OTHER, self.others),
        )
        return [(place, relation) for relation, places in groups for place in places]

    def couples(self) -> list[tuple[int, int]]:
        """The marriages of the household: of the head, and of the head's parents."""
        own = [] if self.spouse is None else [(self.head, self.spouse)]
        return own if len(self.parents) < 2 else [*own, (self.parents[0], self.parents[1])]

    def descents(self) -> list[tuple[int, int]]:
        """Every (parent, child) of the household."""
        parents = (self.head,) if self.spouse is None else (self.head, self.spouse)
        down = [(parent, child) for child in self.children for parent in parents]
        return [*down, *((parent, self.head) for parent in self.parents)]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The households of some people, each of whom is in exactly one, and everybody's marital status by his place."""

    households: tuple[Household, ...]
    statuses: "tuple[person_pb2.MaritalStatus.ValueType, ...]"


def settle(random: Random, people: Sequence[Human]) -> Settlement:
    """Settle people into households in which everybody's age is plausible for what he is to the others.

    1. A woman who would marry by her age marries the man of the likeliest age, if there is one.
    2. Those who have lost a spouse keep house alone; minors and most of the young unmarried have parents, if any fit.
    3. Old couples and old people who have lost a spouse are taken in by a grown child, if one fits.
    4. Minors without parents, and some of the unmarried, lodge with others; the rest live alone.
    """
    places = range(len(people))
    marriages = _marriages(random, people)  # (1)
    married = {place for marriage in marriages for place in marriage}
    statuses = [
        person_pb2.MARITAL_STATUS_MARRIED if place in married else _unmarried_status(random, people[place])
        for place in places
    ]
    nests = [_Nest.of_couple(random, wife, husband) for wife, husband in marriages]  # (2)
    single = [place for place in places if statuses[place] == person_pb2.MARITAL_STATUS_SINGLE]
    nests += [_Nest(place) for place in places if statuses[place] in _BEREFT]
    left = [place for place in single if not _born_into(random, people, place, nests)]
    kept = _take_in_the_old(random, people, nests)  # (3)
    lodgers = [place for place in left if people[place].age < _OF_AGE or random.random() < _LODGER_SHARE]  # (4)
    alone = [place for place in left if place not in lodgers]
    if lodgers and not kept and not alone:
        eldest = min(lodgers, key=lambda place: people[place].birth)
        lodgers.remove(eldest)
        alone.append(eldest)
    kept += [_Nest(place) for place in alone]
    for place in lodgers:
        random.choice(kept).others.append(place)
    return Settlement(tuple(nest.household() for nest in kept), tuple(statuses))


@dataclass(slots=True)
class _Nest:
    """A household that is still growing."""

    head: int
    spouse: int | None = None
    children: list[int] = field(default_factory=list)
    parents: tuple[int, ...] = ()
    others: list[int] = field(default_factory=list)

    @classmethod
    def of_couple(cls, random: Random, wife: int, husband: int) -> "_Nest":
        return cls(wife, husband) if random.random() < _WIFE_HEADS_SHARE else cls(husband, wife)

    @property
    def adults(self) -> tuple[int, ...]:
        return (self.head,) if self.spouse is None else (self.head, self.spouse)

    def household(self) -> Household:
        return Household(self.head, self.spouse, tuple(self.children), self.parents, tuple(self.others))


def _marriages(random: Random, people: Sequence[Human]) -> list[tuple[int, int]]:
    """Wives with their husbands."""
    marriageable = [place for place, human in enumerate(people) if human.age >= MARRIAGEABLE_AGE[human.sex]]
    women = [place for place in marriageable if people[place].sex == person_pb2.SEX_FEMALE]
    men = [place for place in marriageable if people[place].sex == person_pb2.SEX_MALE]
    marriages = []
    youngest, eldest = _HUSBAND_OLDER
    for woman in women:
        if random.random() >= _married_share(people[woman]):
            continue
        unlikeliness = {
            man: abs(years - _HUSBAND_USUALLY_OLDER)
            for man in men
            if youngest <= (years := _years_older(people[man], people[woman])) <= eldest
        }
        if unlikeliness:
            husband = min(unlikeliness, key=unlikeliness.__getitem__)
            men.remove(husband)
            marriages.append((woman, husband))
    return marriages


def _married_share(human: Human) -> float:
    single, divorced = _UNMARRIED[human.age]
    return 1 - single - divorced - _widowed_share(human)


def _widowed_share(human: Human) -> float:
    return max(0, human.age - 45) * (0.014 if human.sex == person_pb2.SEX_FEMALE else 0.005)


def _unmarried_status(random: Random, human: Human) -> "person_pb2.MaritalStatus.ValueType":
    """Why somebody is not married, as frequent as the reasons are at that age."""
    if human.age < MARRIAGEABLE_AGE[human.sex]:
        return person_pb2.MARITAL_STATUS_SINGLE
    single, divorced = _UNMARRIED[human.age]
    widowed = _widowed_share(human)
    drawn = random.random() * (single + divorced + widowed)
    if drawn < single:
        return person_pb2.MARITAL_STATUS_SINGLE
    return person_pb2.MARITAL_STATUS_DIVORCED if drawn < single + divorced else person_pb2.MARITAL_STATUS_WIDOWED


def _born_into(random: Random, people: Sequence[Human], place: int, nests: Sequence[_Nest]) -> bool:
    """Give somebody unmarried the parents he lives with, if he is young and any fit; say whether he has them."""
    child = people[place]
    if child.age >= _LEAVES_HOME_AGE or (child.age >= _OF_AGE and random.random() >= _STAYS_HOME_SHARE):
        return False
    fitting = [
        nest
        for nest in nests
        if len(nest.children) < _MOST_CHILDREN
        and _may_be_parents(people, nest.adults, child)
        and all(_may_be_siblings(people[other], child) for other in nest.children)
    ]
    if not fitting:
        return False
    couples = [nest for nest in fitting if nest.spouse is not None]
    random.choice(couples or fitting).children.append(place)
    return True


def _take_in_the_old(random: Random, people: Sequence[Human], nests: Sequence[_Nest]) -> list[_Nest]:
    """Let grown children take in old people whose own children have left home; the households that remain."""
    taken: set[int] = set()
    for old in nests:
        if old.children or old.parents or any(people[place].age < _OLD_AGE for place in old.adults):
            continue
        if random.random() >= _OLD_TAKEN_IN_SHARE:
            continue
        hosts = [
            nest
            for nest in nests
            if nest.head not in taken and not nest.parents and _may_be_parents(people, old.adults, people[nest.head])
        ]
        if hosts:
            random.choice(hosts).parents = old.adults
            taken.add(old.head)
    return [nest for nest in nests if nest.head not in taken]


def _may_be_parents(people: Sequence[Human], parents: Sequence[int], child: Human) -> bool:
    for place in parents:
        youngest, eldest = _MOTHERHOOD if people[place].sex == person_pb2.SEX_FEMALE else _FATHERHOOD
        if not youngest <= _years_older(people[place], child) <= eldest:
            return False
    return True


def _may_be_siblings(one: Human, other: Human) -> bool:
    days = abs((one.birth - other.birth).days)
    return days == 0 or days >= _BIRTHS_APART_DAYS


def _years_older(one: Human, other: Human) -> float:
    return (other.birth - one.birth).days / _YEAR
