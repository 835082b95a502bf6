"""The sample of a local mesh: two operators, and agencies, each with systems, officers and agreements. Data only.

The agreements are what the law's purposes allow (registry law files); `registration` puts them into a registry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from npd.common.v1.person_pb2 import Person

OPERATORS: Final = ("lan", "minh")
"""The first registers and draws up agreements, the second signs them."""


@dataclass(frozen=True, slots=True)
class SampleSystem:
    """A system, its agency, the officers who use it, and what its one agreement grants: top-level paths by mode."""

    agency: str
    agency_name: str
    system: str
    name: str
    officers: tuple[str, ...]
    purpose: str
    provision: str
    grants: Mapping[str, tuple[str, ...]]

    @property
    def title(self) -> str:
        """Its name in the mesh, "tax/core"."""
        return f"{self.agency}/{self.system}"


MEDICAL: Final = SampleSystem(
    agency="moh",
    agency_name="Bộ Y tế",
    system="medical",
    name="Medical database",
    officers=("bs.hoa", "feed"),
    purpose="DATABASE_FEED",
    provision="C46/2022.4",
    grants=MappingProxyType({"CONTRIBUTE": ("blood_type",)}),
)
TAX: Final = SampleSystem(
    agency="tax",
    agency_name="Cục Thuế",
    system="core",
    name="Tax administration",
    officers=("cb.thu", "sync"),
    purpose="STATE_MANAGEMENT",
    provision="D70/2024.9",
    grants=MappingProxyType(
        {
            "LOOKUP": ("full_name", "birth_date", "sex", "permanent_residence", "marital_status", "death_or_missing"),
            "CHANGES": ("full_name", "permanent_residence", "marital_status", "death_or_missing"),
        }
    ),
)
ONE_STOP: Final = SampleSystem(
    agency="hanoi",
    agency_name="Ủy ban nhân dân thành phố Hà Nội",
    system="one-stop",
    name="Ha Noi one-stop system",
    officers=("mc.an", "mc.binh"),
    purpose="ADMINISTRATIVE_PROCEDURE",
    provision="D70/2024.10",
    grants=MappingProxyType(
        {
            "LOOKUP": ("full_name", "birth_date", "sex", "hometown", "permanent_residence", "current_residence"),
            "VERIFY": ("birth_date", "permanent_residence", "marital_status", "death_or_missing"),
        }
    ),
)
PORTAL: Final = SampleSystem(
    agency="portal",
    agency_name="Cổng Dịch vụ công quốc gia",
    system="national",
    name="National public service portal",
    officers=("citizen",),
    purpose="OWN_DATA",
    provision="D70/2024.10",
    grants=MappingProxyType({"USAGE": ("pin",), "LOOKUP": tuple(field.name for field in Person.DESCRIPTOR.fields)}),
)
REGISTRAR: Final = SampleSystem(
    agency="moj",
    agency_name="Bộ Tư pháp",
    system="civil-status",
    name="Civil-status offices",
    officers=("ht.lan",),
    purpose="CIVIL_STATUS_REGISTRATION",
    provision="L60/2014.3",
    grants=MappingProxyType(
        {
            "REGISTER": (
                "full_name",
                "birth_date",
                "sex",
                "place_of_birth",
                "birth_registration_place",
                "hometown",
                "ethnicity",
                "marital_status",
                "spouses",
                "death_or_missing",
            ),
            "LOOKUP": ("marital_status", "spouses", "death_or_missing"),
        }
    ),
)
RESIDENCE_OFFICE: Final = SampleSystem(
    agency="mps",
    agency_name="Bộ Công an",
    system="residence",
    name="Residence offices",
    officers=("ct.nam",),
    purpose="RESIDENCE_REGISTRATION",
    provision="L68/2020",
    grants=MappingProxyType(
        {
            "REGISTER": ("permanent_residence", "temporary_residence", "household", "relation_to_head"),
            "LOOKUP": ("permanent_residence", "temporary_residence", "household"),
        }
    ),
)
IDENTITY_OFFICE: Final = SampleSystem(
    agency="mps",
    agency_name="Bộ Công an",
    system="identity",
    name="Identity offices",
    officers=("cc.mai",),
    purpose="IDENTITY_MANAGEMENT",
    provision="L26/2023",
    grants=MappingProxyType({"REGISTER": ("pin", "id_cards"), "LOOKUP": ("pin", "id_cards"), "VERIFY": ("id_cards",)}),
)
SYSTEMS: Final = (MEDICAL, TAX, ONE_STOP, PORTAL, REGISTRAR, RESIDENCE_OFFICE, IDENTITY_OFFICE)
