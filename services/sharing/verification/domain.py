"""Claims about a citizen, and what the record says to them. No I/O.

A verdict says no more than its name: how far a claim is off, and what the record holds instead, stays here.
"""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TypeAlias

from services.mesh.core import places
from services.mesh.core.caller import Caller
from services.mesh.core.evidence.entry import Outcome, Receipt
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access
from services.sharing.record.bearing import Bearing, bearing
from services.sharing.record.fields import Person, Value, holds

HOME_COUNTRY = "VN"


class Verdict(Enum):
    """What the record says to a claim, with the numbers of npd.sharing.v1.Verdict."""

    CONFIRMED = 1
    CONTRADICTED = 2
    UNKNOWN = 3
    NOT_GRANTED = 4
    DISPUTED = 5


_VERDICTS = {
    Bearing.AGREES: Verdict.CONFIRMED,
    Bearing.DIFFERS: Verdict.CONTRADICTED,
    Bearing.SILENT: Verdict.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed field: its values, one for each item of a field with items; no value claims that there is none."""

    path: str
    values: tuple[Value, ...]

    @property
    def claims_none(self) -> bool:
        """Whether it claims that there is no value."""
        return all(value.value is None for value in self.values)


@dataclass(frozen=True, slots=True)
class AgeAtLeast:
    """The citizen has reached an age in years."""

    years: int
    path = "birth_date"


@dataclass(frozen=True, slots=True)
class Alive:
    """The citizen is, or is not, alive and not declared missing."""

    is_alive: bool
    path = "death_or_missing"


@dataclass(frozen=True, slots=True)
class ResidesIn:
    """The permanent residence lies in a unit of a list, or below it."""

    unit_code: str
    list_version: str
    path = "permanent_residence"


@dataclass(frozen=True, slots=True)
class HasNationality:
    """The citizen has a nationality."""

    country_code: str
    path = "nationalities"


Predicate: TypeAlias = AgeAtLeast | Alive | ResidesIn | HasNationality
"""A claim that follows from a field, which its `path` names."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Claims about one citizen."""

    caller: Caller
    method: str
    access: Access
    identity: StatedIdentity
    claims: tuple[Claimed, ...]
    predicates: tuple[Predicate, ...]

    @property
    def paths(self) -> frozenset[str]:
        """The fields that it needs."""
        return frozenset(one.path for one in (*self.claims, *self.predicates))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The answer: nothing but the outcome for NO_MATCH. Its entry is committed."""

    outcome: Outcome
    receipt: Receipt
    fields: tuple[tuple[str, Verdict], ...] = ()
    predicates: tuple[Verdict, ...] = ()

    @property
    def contradicted_count(self) -> int:
        """How many claims it contradicts."""
        return [*(verdict for _, verdict in self.fields), *self.predicates].count(Verdict.CONTRADICTED)


def judge_field(claimed: Claimed, record: Person, *, was_told: bool) -> Verdict:
    """What the record says to a claimed field. `was_told`: some source told of the field, be it that there is none.

    Only what the claim sets is compared, and what the record lacks of it is not known.
    """
    is_held = holds(record, claimed.path)
    if claimed.claims_none:
        if is_held:
            return Verdict.CONTRADICTED
        return Verdict.CONFIRMED if was_told else Verdict.UNKNOWN
    if not is_held:
        return Verdict.UNKNOWN
    values = [value.value for value in claimed.values if value.value is not None]
    return _VERDICTS[bearing(claimed.path, values, record)]


def judge_predicate(predicate: Predicate, record: Person, today: date) -> Verdict:
    """What the record says to a predicate on a legal day."""
    match predicate:
        case AgeAtLeast(years):
            return _judge_age(record, years, today)
        case Alive(is_alive):
            return _verdict(is_alive is not record.HasField("death_or_missing"))
        case ResidesIn(unit_code, list_version):
            return _judge_residence(record, unit_code, list_version)
        case HasNationality(country_code):
            known = record.nationalities
            return _verdict(country_code in known) if known else Verdict.UNKNOWN


def _judge_age(record: Person, years: int, today: date) -> Verdict:
    """By the day on which the age is reached: of a birth known to the year or month, by the first and last such day."""
    wire = record.birth_date
    if not wire.year:
        return Verdict.UNKNOWN
    birth = PartialDate(wire.year, wire.month, wire.day)
    if today >= _birthday(birth.last_day(), years):
        return Verdict.CONFIRMED
    return Verdict.UNKNOWN if today >= _birthday(birth.first_day(), years) else Verdict.CONTRADICTED


def _birthday(born: date, years: int) -> date:
    """The day on which an age is complete; who was born on 29 February has it on 1 March of a common year."""
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return date(born.year + years, 3, 1)


def _judge_residence(record: Person, unit_code: str, list_version: str) -> Verdict:
    """Codes mean nothing across lists, so the record says nothing to a unit of another one."""
    place = record.permanent_residence.place
    if not place.unit_code:
        is_abroad = place.country_code not in ("", HOME_COUNTRY)
        return Verdict.CONTRADICTED if is_abroad else Verdict.UNKNOWN
    if place.unit_list_version != list_version:
        return Verdict.UNKNOWN
    if unit_code in (place.unit_code, *_above(place.unit_code, list_version)):
        return Verdict.CONFIRMED
    if place.unit_code not in places.units_of(list_version) or place.unit_code in _above(unit_code, list_version):
        return Verdict.UNKNOWN  # nobody knows where it lies, or it is not known how far down
    return Verdict.CONTRADICTED


def _above(code: str, list_version: str) -> list[str]:
    """The units that a unit of a list lies in, from the smallest up."""
    units, found = places.units_of(list_version), list[str]()
    unit = units.get(code)
    while unit is not None and unit.parent_code:
        found.append(unit.parent_code)
        unit = units.get(unit.parent_code)
    return found


def _verdict(is_so: bool) -> Verdict:
    return Verdict.CONFIRMED if is_so else Verdict.CONTRADICTED
