"""A subject in the hands of one transaction: what is told about him, and the record that follows. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from uuid import UUID

from services.mesh.core.person import text
from services.mesh.core.rights import FieldDefinition
from services.sharing.record.fields import Person, Value, has_items, merge, without
from services.sharing.record.resolution import Assertion, Discrepancy, resolve_all


@dataclass(frozen=True, slots=True)
class Telling:
    """Values that a source tells by one event."""

    source: str
    event_id: str
    values: tuple[Value, ...]
    event_time: datetime
    register_time: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """What telling did: the paths whose value or dispute changed, and where the record keeps another value."""

    changed_paths: tuple[str, ...]
    not_followed: tuple[str, ...]


@dataclass(slots=True)
class Subject:
    """A subject. `told` and the difference of `discrepancies` to `stored_discrepancies` are what is to be written."""

    subject_id: UUID
    pin: str
    person: bytes = b""
    disputed: tuple[str, ...] = ()
    assertion_count: int = 0
    assertions: list[Assertion] = field(default_factory=list)
    told: list[tuple[Assertion, Telling]] = field(default_factory=list)
    discrepancies: frozenset[Discrepancy] = frozenset()
    stored_discrepancies: frozenset[Discrepancy] = frozenset()

    def tell(self, telling: Telling, now: datetime, definitions: Mapping[str, FieldDefinition]) -> Effect:
        """Add what a source tells and resolve the paths that it tells of anew; the other paths stay as they are."""
        for value in self._each_item(telling):
            self.assertion_count += 1
            assertion = Assertion(
                self.assertion_count, value.path, value.item_key, telling.source, value.value, telling.event_time, now
            )
            self.assertions.append(assertion)
            self.told.append((assertion, telling))
        paths = {value.path for value in telling.values}
        resolved = resolve_all((one for one in self.assertions if one.path in paths), definitions)
        values = [one.current.value for one in resolved.values() if one.current and one.current.value]
        person = merge([without(self.person, paths), *values])
        found = frozenset(one for resolution in resolved.values() for one in resolution.discrepancies)
        self.discrepancies = frozenset(one for one in self.discrepancies if one.path not in paths) | found
        disputed = tuple(sorted({one.path for one in self.discrepancies}))
        stored = person.SerializeToString(deterministic=True)
        changed = _changed(self.person, stored, paths) | (set(self.disputed) ^ set(disputed))
        self.person, self.disputed, self.pin = stored, disputed, person.pin or self.pin
        not_followed = {one.path for one in found if one.source == telling.source}
        return Effect(tuple(sorted(changed)), tuple(sorted(not_followed)))

    def history(self, paths: Iterable[str]) -> list[Assertion]:
        """All that was told of some paths, newest first, and with it what was told of others before and together.

        So whoever knows two records to have the same history of some paths knows that these went through the same
        values, and each of them by the same changes.
        """
        concerned, found = set(paths), list[Assertion]()
        newest_first = sorted(self.assertions, key=lambda one: -one.ordinal)
        for _, told in groupby(newest_first, key=lambda one: (one.source, one.event_time)):  # at least one event's
            together = list(told)
            if not concerned.isdisjoint(one.path for one in together):
                concerned.update(one.path for one in together)
                found += together
        return found

    def _each_item(self, telling: Telling) -> Iterator[Value]:
        """The values told; where all items of a field are taken back, one for each item that the source ever told."""
        for value in telling.values:
            if value.item_key or not has_items(value.path):
                yield value
                continue
            mine = {one.item_key for one in self.assertions if (one.source, one.path) == (telling.source, value.path)}
            yield from (Value(value.path, item_key, None) for item_key in sorted(mine))


@dataclass(frozen=True, slots=True)
class FindingColumns:
    """The columns by which a subject is found and verified."""

    name_key: str
    birth: tuple[int, int, int]


def finding_columns(person: bytes) -> FindingColumns:
    """The columns of a record; an absent name or birth date matches nothing."""
    parsed = Person.FromString(person)
    birth = parsed.birth_date
    return FindingColumns(text.name_key(parsed.full_name.full), (birth.year, birth.month, birth.day))


def _changed(before: bytes, after: bytes, paths: Iterable[str]) -> set[str]:
    old, new = Person.FromString(before), Person.FromString(after)
    return {path for path in paths if getattr(old, path) != getattr(new, path)}
