"""The law as data: provisions, the field catalogue, purposes. States only what the domain notes found in a source."""

from collections.abc import Sequence
from datetime import date
from importlib import resources
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from services.mesh.core.clock import Validity
from services.mesh.core.rights import FieldDefinition, Provision, Purpose
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


class _Purpose(_Row):
    code: str
    title: str
    provision: str
    paths: list[str]


R = TypeVar("R", bound=_Row)


def provisions() -> list[Provision]:
    """The provisions of provisions.yaml."""
    rows = _read("provisions.yaml", _Provision)
    return [Provision(row.provision_id, row.citation, row.summary, row.validity) for row in rows]


def fields() -> list[FieldDefinition]:
    """The field catalogue of fields.yaml."""
    rows = _read("fields.yaml", _Field)
    return [FieldDefinition(row.path, row.provision, row.sensitive, tuple(row.authority), row.validity) for row in rows]


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


def load(connection: Connection) -> int:
    """Bring the law in the store to that of the files; returns how many rows changed.

    The policy's revision is raised only if one did. A row that is in no file any more stays: law ends by a date.
    """
    policy = PolicyRows(connection)
    policy.lock()
    held = {_key(row): row for row in policy.law()}
    wanted: Sequence[PolicyObject] = [*provisions(), *fields(), *purposes()]
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
    raise TypeError(f"{type(row).__name__} is no law")


def _read(name: str, shape: type[R]) -> list[R]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [shape.model_validate(row) for row in yaml.safe_load(text)]
