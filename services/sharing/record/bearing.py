"""What a record says to a claimed value, part by part: only what the claim sets counts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import cache
from typing import Any

from google.protobuf.message import Message
from google.type import date_pb2

from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.sharing.record import fields

_NOT_COMPARED = {"as_of_date"}  # when an address was confirmed does not make it another address
_LISTS = {"unit_code": "unit_list_version", "code": "list_version"}


class Bearing(Enum):
    """Whether a record bears a claim out, says otherwise, or does not say."""

    AGREES = 1
    DIFFERS = 2
    SILENT = 3


def bearing(path: str, claimed: Iterable[bytes], record: fields.Person) -> Bearing:
    """What a record that holds a value of the path says to claimed values of it, one for each item."""
    values = [fields.payload(value, path) for value in claimed]
    held, comparison = getattr(record, path), _Comparison()
    if fields.has_items(path):
        return comparison.of_items(values, held, fields.item_key_field(path))
    return _all(comparison.of_part(value, held) for value in values)


class _Comparison:
    """One comparison; it brings each text into its comparable form once, however many items there are."""

    def __init__(self) -> None:
        self._key = cache(text.name_key)

    def of_items(self, claimed: Sequence[Any], held: Sequence[Any], key_field: str) -> Bearing:
        """Each claimed item is one of those held under its key; without a key it may be any."""
        by_key: defaultdict[str, list[Any]] = defaultdict(list)
        for one in held:
            by_key[self._key(getattr(one, key_field))].append(one)

        def meant(item: Any) -> Sequence[Any]:
            key = self._key(getattr(item, key_field))
            return (by_key.get(key) or by_key[""]) if key else held

        return _all(self._of_any(item, meant(item)) for item in claimed)

    def of_part(self, claimed: Any, held: Any) -> Bearing:
        """One part; a held part that is not set is silent."""
        if isinstance(claimed, date_pb2.Date):
            return _of_date(claimed, held)
        if isinstance(claimed, Message):
            return _all(self._of_parts(claimed, held))
        if not held:
            return Bearing.SILENT
        if isinstance(claimed, str):
            return Bearing.AGREES if self._key(claimed) == self._key(held) else Bearing.DIFFERS
        if hasattr(claimed, "__len__"):
            return _all(self._of_any(item, held) for item in claimed)
        return Bearing.AGREES if claimed == held else Bearing.DIFFERS

    def _of_parts(self, claimed: Message, held: Message) -> Iterator[Bearing]:
        incomparable = _of_other_lists(claimed, held)
        for field, value in claimed.ListFields():
            if field.name in _NOT_COMPARED:
                continue
            yield Bearing.SILENT if field.name in incomparable else self.of_part(value, getattr(held, field.name))

    def _of_any(self, claimed: Any, held: Iterable[Any]) -> Bearing:
        found = Bearing.DIFFERS
        for one in held:
            match self.of_part(claimed, one):
                case Bearing.AGREES:
                    return Bearing.AGREES
                case Bearing.SILENT:
                    found = Bearing.SILENT
        return found


def _of_date(claimed: date_pb2.Date, held: date_pb2.Date) -> Bearing:
    """A date that is less precise than the claim does not bear it out; one that is more precise does."""
    if not held.year:
        return Bearing.SILENT
    mine, others = (PartialDate(wire.year, wire.month, wire.day) for wire in (claimed, held))
    if not mine.agrees_with(others):
        return Bearing.DIFFERS
    says_more = (claimed.month and not held.month) or (claimed.day and not held.day)
    return Bearing.SILENT if says_more else Bearing.AGREES


def _of_other_lists(claimed: Message, held: Message) -> set[str]:
    """The parts that are codes of different lists: the same code means nothing across them, nor does another."""
    found = set[str]()
    for code, version in _LISTS.items():
        if version in claimed.DESCRIPTOR.fields_by_name:
            claimed_list, held_list = getattr(claimed, version), getattr(held, version)
            if claimed_list and held_list and claimed_list != held_list:
                found |= {code, version}
    return found


def _all(bearings: Iterable[Bearing]) -> Bearing:
    """One part that differs decides; then one that is silent, as is a claim without any part."""
    found = set[Bearing]()
    for one in bearings:
        if one is Bearing.DIFFERS:
            return one
        found.add(one)
    return Bearing.AGREES if found == {Bearing.AGREES} else Bearing.SILENT
