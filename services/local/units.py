"""Administrative units as the synthetic population needs them: lists of codes, homes, addresses that are made up."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from random import Random
from typing import Final

from npd.common.v1 import place_pb2
from services.local import data
from services.mesh.core.places import LIST_VERSIONS, list_version, province_of, units_of

_WARD_TYPES: Final = ("Phường", "Thị trấn")
_WARD_WEIGHT: Final = 3

_WARD_FORMS: Final = (
    "Số {n} đường {street}",
    "{n}/{m} {street}",
    "Số {n}, ngõ {m}, phố {street}",
    "Số {n} {street}, tổ dân phố {m}",
    "Khu phố {m}",
    "Căn hộ {n}, nhà B{m}, đường {street}",
)
_COUNTRY_FORMS: Final = {
    "north": ("Thôn {hamlet}", "Thôn {m}", "Xóm {m}", "Đội {m}, thôn {hamlet}", "Số nhà {n}, thôn {hamlet}"),
    "mountains": ("Bản {hamlet}", "Thôn {hamlet}", "Xóm {m}", "Tổ {m}"),
    "coast": ("Thôn {m}", "Thôn {hamlet}", "Xóm {m}, thôn {hamlet}"),
    "highlands": ("Buôn {hamlet}", "Thôn {m}", "Làng {hamlet}", "Số nhà {n}, thôn {m}"),
    "south": ("Ấp {m}", "Ấp {hamlet}", "Tổ {m}, ấp {hamlet}", "{n}, ấp {hamlet}"),
}


@dataclass(frozen=True, slots=True)
class Province:
    """A province of the list of 2024: a PIN's place code keeps its meaning after provinces merge (DOMAIN.md 5.4)."""

    code: str
    region: str


@dataclass(frozen=True, slots=True)
class Commune:
    """A commune of one list, as a place to put into a record."""

    place: place_pb2.AdminPlace
    is_ward: bool


@dataclass(frozen=True, slots=True)
class UnitList:
    """One list of codes, found by the code of a province of 2024: where it stood, the list has these units.

    In `communes` a ward stands three times and a rural commune once: a draw then meets towns as often as people do.
    """

    version: str
    provinces: Mapping[str, place_pb2.AdminPlace]
    communes: Mapping[str, tuple[Commune, ...]]

    @property
    def first_day(self) -> date:
        """From which day on the list holds; the oldest holds for all days before the next."""
        return date.min if self.version == LIST_VERSIONS[0] else date.fromisoformat(self.version)


@dataclass(frozen=True, slots=True)
class Group:
    """An ethnic group of the list of 2008: how its people are named, and the provinces (by weight) they come from."""

    code: str
    tradition: str
    homes: tuple[Province, ...]


@dataclass(frozen=True, slots=True)
class Land:
    """The provinces of 2024 by code, the lists of units by version, the ethnic groups repeated by weight.

    `streets` and `hamlets` (by region) are common names to write addresses with.
    """

    provinces: Mapping[str, Province]
    lists: Mapping[str, UnitList]
    groups: tuple[Group, ...]
    streets: tuple[str, ...]
    hamlets: Mapping[str, tuple[str, ...]]

    def list_on(self, day: date) -> UnitList:
        """The list that was in force on a day; the oldest for all days before."""
        return self.lists[list_version(day)]

    def detail_text(self, random: Random, province: Province, commune: Commune) -> str:
        """Write the part of an address below the commune; the house is made up."""
        form = random.choice(_WARD_FORMS if commune.is_ward else _COUNTRY_FORMS[province.region])
        return form.format(
            n=random.randint(1, 480),
            m=random.randint(1, 14),
            street=random.choice(self.streets),
            hamlet=random.choice(self.hamlets[province.region]),
        )


@cache
def load_land() -> Land:
    """Read the tables once per process; what they hold never changes while it runs."""
    provinces = {}
    kinh_homes = []
    for row in data.rows("provinces_2024.csv"):
        province = provinces[row["code"]] = Province(row["code"], row["region"])
        kinh_homes.append((province, int(row["weight"])))
    homes_of_kinh = data.by_weight(kinh_homes)
    groups = data.by_weight(
        (
            Group(
                row["code"],
                row["tradition"],
                tuple(provinces[code] for code in row["province_codes"].split()) or homes_of_kinh,
            ),
            int(row["weight"]),
        )
        for row in data.rows("ethnic_group_homes.csv")
    )
    former = _former_provinces(provinces)
    streets: list[str] = []
    hamlets: dict[str, list[str]] = defaultdict(list)
    for row in data.rows("address_parts.csv"):
        (streets if row["part"] == "street" else hamlets[row["region"]]).append(row["text"])
    return Land(
        provinces,
        {version: _unit_list(version, former) for version in LIST_VERSIONS},
        groups,
        tuple(streets),
        {region: tuple(texts) for region, texts in hamlets.items()},
    )


def _former_provinces(provinces: Mapping[str, Province]) -> dict[str, Province]:
    """The province of 2024 of each commune code: communes kept their code when they merged.

    Six codes of 2025 (five islands and Ba Chẽ) were districts without such a code; nobody of ours lives there.
    """
    oldest = LIST_VERSIONS[0]
    communes = (unit.code for unit in units_of(oldest).values() if unit.level == "COMMUNE")
    above = ((code, province_of(code, oldest)) for code in communes)
    return {code: provinces[province.code] for code, province in above if province is not None}


def _unit_list(version: str, former: Mapping[str, Province]) -> UnitList:
    provinces: dict[str, place_pb2.AdminPlace] = {}
    communes: dict[str, list[tuple[Commune, int]]] = defaultdict(list)
    for unit in units_of(version).values():
        if unit.level != "COMMUNE" or unit.code not in former:
            continue
        home = former[unit.code].code
        above = home if version == LIST_VERSIONS[0] else unit.parent_code
        provinces.setdefault(home, place_pb2.AdminPlace(unit_code=above, unit_list_version=version))
        is_ward = unit.full_name.startswith(_WARD_TYPES)
        commune = Commune(place_pb2.AdminPlace(unit_code=unit.code, unit_list_version=version), is_ward)
        communes[home].append((commune, _WARD_WEIGHT if is_ward else 1))
    return UnitList(version, provinces, {home: data.by_weight(found) for home, found in communes.items()})
