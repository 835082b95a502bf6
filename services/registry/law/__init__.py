"""The law as data: provisions, field catalogue, purposes, clocks, calendars.

States only what the domain notes found in a source; what is general knowledge is marked so.
"""

from collections.abc import Sequence
from datetime import date
from importlib import resources
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from services.mesh.core.clock import Validity
from services.mesh.core.legal_clock import ClockUnit, LegalClock, WorkingCalendar
from services.mesh.core.rights import FieldDefinition, Lane, Provision, Purpose
from services.registry.domain import PolicyObject
from services.registry.repository import PolicyRows

EVERY_FIELD = "*"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    start_date: date
    end_date: date | None = None

    @property
    def validity(self) -> Validity:
        return Validity(self.start_date, self.end_date)


class _Provision(_Row):
    provision_id: str
    citation: str
    summary: str


class _Field(_Row):
    path: str
    provision: str
    sensitive: bool = False
    authority: list[str]
    followers: list[str] = []
    lane: Literal["VITAL", "NORMAL"] = "NORMAL"


class _Purpose(_Row):
    code: str
    title: str
    provision: str
    paths: list[str]


class _Clock(_Row):
    code: str
    title: str
    provision: str
    start_act: str
    end_act: str
    amount: Annotated[int, Field(ge=1, le=1000)]
    unit: Literal["HOUR", "DAY", "WORKING_DAY"]


class _Calendar(_Row):
    code: str
    end_date: date
    rest_days: list[Annotated[int, Field(ge=1, le=7)]]
    holidays: list[date]


R = TypeVar("R", bound=_Row)


def provisions() -> list[Provision]:
    """The provisions of provisions.yaml."""
    rows = _read("provisions.yaml", _Provision)
    return [Provision(row.provision_id, row.citation, row.summary, row.validity) for row in rows]


def fields() -> list[FieldDefinition]:
    """The field catalogue of fields.yaml."""
    rows = _read("fields.yaml", _Field)
    return [
        FieldDefinition(
            path=row.path,
            provision=row.provision,
            sensitive=row.sensitive,
            authority=tuple(row.authority),
            validity=row.validity,
            followers=frozenset(row.followers),
            lane=Lane[row.lane],
        )
        for row in rows
    ]


def purposes() -> list[Purpose]:
    """The purposes of purposes.yaml; the path "*" stands for every field of the catalogue."""
    catalogue = [field.path for field in fields()]
    return [
        Purpose(
            row.code,
            row.title,
            row.provision,
            frozenset(catalogue if row.paths == [EVERY_FIELD] else row.paths),
            row.validity,
        )
        for row in _read("purposes.yaml", _Purpose)
    ]


def clocks() -> list[LegalClock]:
    """The legal clocks of clocks.yaml."""
    return [
        LegalClock(
            code=row.code,
            title=row.title,
            provision=row.provision,
            start_act=row.start_act,
            end_act=row.end_act,
            amount=row.amount,
            unit=ClockUnit[row.unit],
            validity=row.validity,
        )
        for row in _read("clocks.yaml", _Clock)
    ]


def calendars() -> list[WorkingCalendar]:
    """The calendars of calendars.yaml."""
    rows = _read("calendars.yaml", _Calendar)
    return [WorkingCalendar(row.code, frozenset(row.rest_days), frozenset(row.holidays), row.validity) for row in rows]


def load(connection: Connection) -> int:
    """Bring the law in the store to that of the files; returns how many rows changed.

    The policy's revision is raised only if one did. A row that is in no file any more stays: law ends by a date.
    """
    policy = PolicyRows(connection)
    policy.lock()
    held = {_key(row): row for row in policy.law()}
    wanted: Sequence[PolicyObject] = [*provisions(), *fields(), *purposes(), *clocks(), *calendars()]
    changed = [row for row in wanted if held.get(_key(row)) != row]
    if changed:
        policy.put(*changed, revision=policy.advance())
    return len(changed)


def _key(row: PolicyObject) -> tuple[str, str]:
    match row:
        case Provision():
            return "provision", row.provision_id
        case FieldDefinition():
            return "field", row.path
        case Purpose():
            return "purpose", row.code
        case LegalClock():
            return "clock", row.code
        case WorkingCalendar():
            return "calendar", row.code
    raise TypeError(f"{type(row).__name__} is no law")


def _read(name: str, shape: type[R]) -> list[R]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [shape.model_validate(row) for row in yaml.safe_load(text)]
