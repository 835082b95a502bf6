"""A seeded synthetic population for demonstrations, tests and benchmarks. None of its PINs can exist in production.

`Population(seed=1, size=10_000, as_of=today).citizen(0)` is the first citizen; iterate over the population for all.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Final

from google.type import date_pb2

from npd.common.v1 import person_pb2
from services.local import data, names, units
from services.local.block import CITIES, EARLIEST_DAY, Blocks, Member, day_between, wire_date, write_address
from services.local.households import Human, by_age

# Two sexes, each with a million serials in every place code and year of the PIN. (DOMAIN.md 5.1)
CAPACITY: Final = 2_000_000
# Families and households lie within blocks of so many indices, of which CAPACITY is a multiple.
BLOCK: Final = 20

_BITS: Final = CAPACITY.bit_length()
_MASK: Final = (1 << _BITS) - 1
_NAMESPACE: Final = uuid.UUID("9c2f6e0a-58d1-4b7e-8a33-0f5d7c41b6e2")
# From which age on, the share of people with a birth date known to the year only, and to the month.
_VAGUE_BIRTHS: Final = by_age((0, (0.0, 0.0)), (18, (0.0015, 0.0005)), (35, (0.011, 0.003)), (60, (0.092, 0.012)))
# From which age on, the birthday that called for the card in force and the one that ends it; from 60 on none does.
_FIRST_CARD_AGE: Final = 14
_CARD_AGES: Final = by_age((0, (0, 14)), (14, (14, 25)), (25, (25, 40)), (40, (40, 60)), (60, (60, None)))
# Blocks kept at hand; neighbours ask for the same one.
_BLOCKS_KEPT: Final = 8


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
    """Citizens 0 to size - 1 of a seed, living on a day. None is held for long: each is made when it is asked for.

    A citizen depends on seed, day and index alone, not on the size nor on who was made before. The people of a block
    of indices are each other's families and households, so a size that ends inside a block leaves some of the last
    citizens with family whom this population does not have: choose a multiple of BLOCK where that matters.
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
        self._units_since = max(EARLIEST_DAY, self._land.list_on(as_of).first_day)
        self._blocks = Blocks(as_of)
        self._block = lru_cache(maxsize=_BLOCKS_KEPT)(self._make_block)
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
        block, place = divmod(index, BLOCK)
        member = self._block(block)[place]
        human, number = member.human, member.number
        person = person_pb2.Person()
        person.CopyFrom(member.person)
        person.birth_date.CopyFrom(_date_as_known(random, human))
        if random.random() < 0.02:
            family = person.full_name.family
            person.other_names.append(self._names.draw(random, member.tradition, human.sex, human.birth.year, family))
        self._origin(random, person, member)
        self._residence(random, person, member)
        if human.age >= _FIRST_CARD_AGE:
            person.id_cards.append(self._card(random, human, number))
        if human.age >= 18 and random.random() < 0.7:
            # Numbers in Viet Nam never begin with 0 after the country code: nobody can be rung up.
            person.phone = f"+8400{number:07d}"
        if random.random() < 0.13:
            person.religion.code = random.choice(self._religions)
            person.religion.list_version = "provisional"
        return SyntheticCitizen(subject_id, person, _office_hour(random, member.register_date))

    def _make_block(self, block: int) -> tuple[Member, ...]:
        """Make the people of a block, all of it whatever the size."""
        random = Random(uuid.uuid5(self._namespace, f"block {block}").int)  # noqa: S311 - repeatable on purpose
        return self._blocks.make(
            random, [self._numbering.number(index) for index in range(block * BLOCK, (block + 1) * BLOCK)]
        )

    def _origin(self, random: Random, person: person_pb2.Person, member: Member) -> None:
        """Where the person comes from, in the list of units by which the birth was registered."""
        listed, home = self._land.list_on(member.register_date), member.home
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
            ancestral = home if drawn < 0.8 else random.choice(member.group.homes)
            hometown = random.choice(listed.communes[ancestral.code]).place
        else:
            hometown = listed.provinces[home.code]
        person.hometown.CopyFrom(hometown)

    def _residence(self, random: Random, person: person_pb2.Person, member: Member) -> None:
        """The household's address is where the person lives; some adults live for a time in a city instead."""
        person.current_residence.CopyFrom(person.permanent_residence)
        if not 18 <= member.human.age < 45 or random.random() > 0.12:
            return
        city = self._land.provinces[random.choice(CITIES)]
        earliest = max(self._units_since, member.register_date, self._as_of - timedelta(days=700))
        start = day_between(random, earliest, self._as_of)
        stay = person.temporary_residence
        stay.address.CopyFrom(write_address(random, self._land, city, start))
        stay.start_date.CopyFrom(wire_date(start))
        stay.end_date.CopyFrom(wire_date(start + timedelta(days=729)))
        person.current_residence.CopyFrom(stay.address)

    def _card(self, random: Random, human: Human, number: int) -> person_pb2.IdentityCard:
        """The card in force, issued after the birthday that called for it."""
        reached, following = _CARD_AGES[human.age]
        since = max(_birthday(human.birth, reached), EARLIEST_DAY)
        return person_pb2.IdentityCard(
            document_number=f"S{number:07d}{reached}",
            issue_date=wire_date(day_between(random, since, self._as_of)),
            issuing_office="Bộ Công an",
            expiry_date=wire_date(_birthday(human.birth, following)) if following else None,
        )


def _date_as_known(random: Random, human: Human) -> date_pb2.Date:
    """The birth date as recorded: of some of the old only the year is known, of a few the year and month."""
    birth = human.birth
    year_only, month_only = _VAGUE_BIRTHS[human.age]
    drawn = random.random()
    if drawn < year_only:
        return date_pb2.Date(year=birth.year)
    if drawn < year_only + month_only:
        return date_pb2.Date(year=birth.year, month=birth.month)
    return wire_date(birth)


def _birthday(birth: date, age: int) -> date:
    """The day on which that age is reached; who was born on 29 February reaches it on 1 March of a common year."""
    try:
        return birth.replace(year=birth.year + age)
    except ValueError:
        return date(birth.year + age, 3, 1)


def _office_hour(random: Random, day: date) -> datetime:
    """An instant of that day from 8 to 17 o'clock in Viet Nam, which is seven hours ahead of UTC all year."""
    opening = datetime(day.year, day.month, day.day, 1, tzinfo=UTC)
    return opening + timedelta(seconds=random.randrange(9 * 3600))
