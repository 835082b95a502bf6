"""Administrative units of Viet Nam, effective-dated: which codes each list has, and which province a unit lies in.

The table is admin_units.csv beside this file (its source and notice: README.md). Source: DOMAIN.md 5.4.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final

LIST_VERSIONS: Final = ("2024-12-31", "2025-07-01", "2026-04-30")
"""A list is named by its first day; the one before 2025-07-01 by a day on which it held."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of one list. `level` is PROVINCE, DISTRICT or COMMUNE; `parent_code` is empty for a province."""

    code: str
    name: str
    full_name: str
    level: str
    parent_code: str


def list_version(day: date) -> str:
    """The name of the list that was in force on a day; of the oldest for all days before."""
    known = [version for version in LIST_VERSIONS if version <= day.isoformat()]
    return known[-1] if known else LIST_VERSIONS[0]


@cache
def units_of(version: str) -> Mapping[str, Unit]:
    """The units of a list by code; empty for a version that is no list."""
    if version not in LIST_VERSIONS:
        return MappingProxyType({})
    table = resources.files(__name__).joinpath("admin_units.csv").read_text(encoding="utf-8")
    found = {
        row["code"]: Unit(row["code"], row["name"], row["full_name"], row["level"], row["parent_code"])
        for row in csv.DictReader(table.splitlines())
        if row["valid_from"] <= version and (not row["valid_to"] or version <= row["valid_to"])
    }
    return MappingProxyType(found)


def province_of(code: str, version: str) -> Unit | None:
    """The province that a unit of a list lies in (itself, if it is one); None for a code that is not on the list."""
    units = units_of(version)
    unit = units.get(code)
    while unit is not None and unit.parent_code:
        unit = units.get(unit.parent_code)
    return unit
