"""Names of synthetic people by naming tradition, put together from common parts. No name is taken from a person."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from npd.common.v1 import person_pb2
from services.local import data

KINH: Final = "kinh"
# Huỳnh and Võ are the southern forms of Hoàng and Vũ.
KINH_NORTH: Final = "kinh_north"
KINH_SOUTH: Final = "kinh_south"

# Traditions in which a child bears the family name of its mother.
MATRILINEAL: Final = frozenset({"ede", "giarai"})

_SEX_LETTERS: Final = {person_pb2.SEX_MALE: "M", person_pb2.SEX_FEMALE: "F"}
_OWN_GIVEN_SHARE: Final = 0.6
_NO_MIDDLE_SHARE: Final = 0.04
_EARLIEST_FASHION: Final = 1940
_LATEST_FASHION: Final = 2020

# How often a name of these traditions has one part alone ("Y Krông", "A Tik"); all others have family and given name.
_ONE_PART_SHARES: Final = {"ede": 0.4, "mnong": 1.0, "giarai": 0.15, "kontum": 1.0, "bana": 0.3, "coho": 1.0}
# Traditions that write the clan after the given name ("Y Krông Niê").
_CLAN_LAST: Final = frozenset({"ede"})


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a tradition gives to one sex; each tuple repeats its items by weight and may be empty."""

    families: tuple[str, ...]
    customary: tuple[str, ...]
    middles: tuple[str, ...]
    givens: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """Draws names. `parts` holds what each (tradition, sex) has of its own; the rest is borrowed from the Kinh."""

    parts: "Mapping[tuple[str, person_pb2.Sex.ValueType], _Parts]"

    def draw(
        self, random: Random, tradition: str, sex: "person_pb2.Sex.ValueType", birth_year: int, family: str = ""
    ) -> person_pb2.PersonName:
        """Draw a name; of the family named, if one is (as parents and children share it).

        The full name joins the parts in their registered order, which is not always family name first (DOMAIN.md 5.3).
        Raises KeyError if the tradition is none of ours.
        """
        own = self.parts[tradition, sex]
        if tradition in _ONE_PART_SHARES:
            return _highland_name(random, tradition, own, family)
        kinh = self.parts[KINH, sex]
        family = family or random.choice(own.families)
        givens = own.givens if own.givens and random.random() < _OWN_GIVEN_SHARE else kinh.givens
        given = random.choice(givens)
        middle = _middle(random, own, kinh, birth_year)
        if middle.endswith(given):
            middle = ""
        full = f"{family} {middle} {given}" if middle else f"{family} {given}"
        return person_pb2.PersonName(family=family, middle=middle, given=given, full=full)


@cache
def load_names() -> Names:
    """Read the table of name parts once per process."""
    weighted: dict[tuple[str, str, str], list[tuple[str, int]]] = defaultdict(list)
    for row in data.rows("name_parts.csv"):
        for letter in row["sex"] or "MF":
            weighted[row["tradition"], letter, row["part"]].append((row["text"], int(row["weight"])))
    drawn = {key: data.by_weight(texts) for key, texts in weighted.items()}
    return Names(
        {
            (tradition, sex): _Parts(
                *(
                    drawn.get((tradition, letter, part), ())
                    for part in ("family", "customary", "middle", "given", "mark")
                )
            )
            for tradition in {tradition for tradition, _, _ in drawn}
            for sex, letter in _SEX_LETTERS.items()
        }
    )


def _middle(random: Random, own: _Parts, kinh: _Parts, birth_year: int) -> str:
    """The customary Văn or Thị, less and less often from 1940 to 2020, or another; now and then none."""
    if own.customary:
        return random.choice(own.customary)
    fashion = min(max(birth_year, _EARLIEST_FASHION), _LATEST_FASHION) - _EARLIEST_FASHION
    drawn = random.random()
    if drawn < _NO_MIDDLE_SHARE:
        return ""
    if drawn < 0.8 - 0.65 * fashion / (_LATEST_FASHION - _EARLIEST_FASHION):
        return random.choice(kinh.customary)
    return random.choice(kinh.middles)


def _highland_name(random: Random, tradition: str, own: _Parts, family: str) -> person_pb2.PersonName:
    """A given name with the mark of the sex before it (Y, H', A, K'), alone or with the clan's name."""
    given = (random.choice(own.marks) if own.marks else "") + random.choice(own.givens)
    if not own.families or (not family and random.random() < _ONE_PART_SHARES[tradition]):
        return person_pb2.PersonName(given=given, full=given)
    family = family or random.choice(own.families)
    full = f"{given} {family}" if tradition in _CLAN_LAST else f"{family} {given}"
    return person_pb2.PersonName(family=family, given=given, full=full)
