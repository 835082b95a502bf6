"""What the record holds, given all that its sources told: the current value of each field, and who tells otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.mesh.core.rights import FieldDefinition
from services.sharing.record.comparison import Difference, difference

AGENCY = "agency"


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a source told for a path and item. `ordinal` grows with the order of recording within a subject."""

    ordinal: int
    path: str
    item_key: str
    source: str
    value: bytes | None
    event_time: datetime
    record_time: datetime


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A source that tells another value than the record keeps."""

    path: str
    item_key: str
    source: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class Resolution:
    """The current assertion of one path and item, if a value is held, and the discrepancies with it."""

    current: Assertion | None
    discrepancies: tuple[Discrepancy, ...]


def source_class(source: str) -> str:
    """How the authority rule names a source: a room by its name, any agency's system as "agency"."""
    return AGENCY if "/" in source else source


def resolve(assertions: Sequence[Assertion], definition: FieldDefinition | None) -> Resolution:
    """Resolve the assertions of one path and item.

    1. Of each source only its latest word counts: by the event's time, then by the order of recording.
    2. The value is that of the most authoritative source, also if that says that there is none any more; of equals, of
       the one that told first of those that tell a value. So a source may correct or withdraw what it said, a higher
       authority may correct others, and nobody else overwrites anything.
    3. Every other source that tells another value, after normalisation, is a discrepancy - unless its word is of an
       earlier event than the value's: then it is no contradiction, only overtaken.
    """
    latest: dict[str, Assertion] = {}
    first: dict[str, int] = {}
    for assertion in sorted(assertions, key=lambda one: (one.event_time, one.ordinal)):  # (1)
        latest[assertion.source] = assertion
        first[assertion.source] = min(first.get(assertion.source, assertion.ordinal), assertion.ordinal)
    authority = definition.authority if definition else ()
    if not latest:
        return Resolution(None, ())
    current = min(  # (2)
        latest.values(),
        key=lambda one: (_rank(one.source, authority), one.value is None, first[one.source]),
    )
    discrepancies = tuple(  # (3)
        Discrepancy(assertion.path, assertion.item_key, assertion.source, kind)
        for assertion in latest.values()
        if assertion is not current
        and assertion.value is not None
        and assertion.event_time >= current.event_time
        and (kind := difference(current.path, current.value, assertion.value))
    )
    return Resolution(current if current.value is not None else None, discrepancies)


def resolve_all(
    assertions: Iterable[Assertion], definitions: Mapping[str, FieldDefinition]
) -> dict[tuple[str, str], Resolution]:
    """Resolve the assertions of a subject, by path and item, in the order of their paths and keys."""
    told: dict[tuple[str, str], list[Assertion]] = {}
    for assertion in assertions:
        told.setdefault((assertion.path, assertion.item_key), []).append(assertion)
    return {key: resolve(told[key], definitions.get(key[0])) for key in sorted(told)}


def _rank(source: str, authority: tuple[str, ...]) -> int:
    named = source_class(source)
    return authority.index(named) if named in authority else len(authority)
