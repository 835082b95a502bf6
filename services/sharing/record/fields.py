"""Walks the descriptor of Person: paths, masks, values by path and item, and a person made of values again.

A value is a serialised Person in which only its own field is set, for a field with items just one item. So values merge
into a person by concatenation, whatever fields the contract has.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask

from npd.common.v1 import options_pb2, person_pb2
from services.mesh.core.errors import MaskEmpty, MaskUnknownPath

Person = person_pb2.Person
_FIELDS: dict[str, FieldDescriptor] = dict(Person.DESCRIPTOR.fields_by_name)
PATHS = frozenset(_FIELDS)
_FIELD_NAME = re.compile(r"[a-z_][a-z_.]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Value:
    """What a source tells for a path; no `value`: none any more.

    `item_key` tells the items of a field apart and is empty otherwise; empty with such a field, it means all its items.
    """

    path: str
    item_key: str
    value: bytes | None


def has_items(path: str) -> bool:
    """Whether sources assert the field item by item."""
    return bool(item_key_field(path))


def holds(person: Person, path: str) -> bool:
    """Whether a person holds a value of a top-level path."""
    return _is_set(person, _FIELDS[path])


def values_of(person: Person, paths: Iterable[str]) -> Iterator[Value]:
    """The values that a person message tells for top-level paths; a path that is not set is told as no value."""
    for path in paths:
        field = _FIELDS[path]
        key_field = item_key_field(path)
        if key_field:
            if not getattr(person, path):
                yield Value(path, "", None)
            for item in getattr(person, path):
                alone = Person()
                getattr(alone, path).add().CopyFrom(item)
                yield Value(path, _item_key(item, key_field), alone.SerializeToString(deterministic=True))
        elif _is_set(person, field):
            yield Value(path, "", _only(person, field).SerializeToString(deterministic=True))
        else:
            yield Value(path, "", None)


def merge(values: Iterable[bytes]) -> Person:
    """The person that values make up."""
    return Person.FromString(b"".join(values))


def select(stored: bytes, paths: Iterable[str]) -> Person:
    """The named paths of a stored person, and nothing else: what is not named is never copied."""
    person = Person.FromString(stored)
    selected = Person()
    deep = []
    for path in paths:
        field = _FIELDS.get(path)
        if field is None:
            deep.append(path)
        elif _is_set(person, field):
            _copy(person, selected, field)
    if deep:  # a list below a message that is selected as a whole must not stand twice
        FieldMask(paths=deep).MergeMessage(person, selected, False, True)
    return selected


def without(stored: bytes, paths: Iterable[str]) -> bytes:
    """A stored person without the named top-level paths."""
    person = Person.FromString(stored)
    for path in paths:
        person.ClearField(path)  # type: ignore[arg-type]  # the stub wants a literal
    return person.SerializeToString(deterministic=True)


def require_mask(mask: FieldMask, name: str) -> tuple[str, ...]:
    """The paths of a mask, in its order and without repeats, if every one exists. Raises MaskEmpty, MaskUnknownPath."""
    paths = tuple(dict.fromkeys(mask.paths))
    if not paths:
        raise MaskEmpty(name, "must name at least one field")
    for path in paths:
        if path not in _FIELDS and not _exists(Person.DESCRIPTOR, path):
            raise MaskUnknownPath(name, "names a field that Person does not have", field=_shown(path))
    return paths


def require_top_level(mask: FieldMask, name: str) -> tuple[str, ...]:
    """As require_mask, for a mask that may name top-level paths only."""
    for path in require_mask(mask, name):
        if path not in _FIELDS:
            raise MaskUnknownPath(name, "must name top-level fields of Person", field=_shown(path))
    return require_mask(mask, name)


def payload(value: bytes, path: str) -> Any:
    """The field itself of a value: a scalar, a message, or for a field with items its one item."""
    told = getattr(Person.FromString(value), path)
    return told[0] if has_items(path) else told


def _shown(path: str) -> str:
    """A path as an error may quote it: what does not read like a field's name may be a person's."""
    return path if _FIELD_NAME.fullmatch(path) else "something that is no field name"


@cache
def item_key_field(path: str) -> str:
    """The field of an item that tells the items of a path apart; empty for a field without items."""
    key: str = _FIELDS[path].GetOptions().Extensions[options_pb2.item_key]
    return key


def _item_key(item: Any, key_field: str) -> str:
    """The item's own key, or if it has none a hash of it: then it is never told apart from itself only."""
    key: str = getattr(item, key_field)
    return key or "sha256:" + hashlib.sha256(item.SerializeToString(deterministic=True)).hexdigest()


def _is_set(person: Person, field: FieldDescriptor) -> bool:
    if field.is_repeated or not field.has_presence:
        return bool(getattr(person, field.name))
    return person.HasField(field.name)  # type: ignore[arg-type]  # the stub wants a literal


def _only(person: Person, field: FieldDescriptor) -> Person:
    alone = Person()
    _copy(person, alone, field)
    return alone


def _copy(source: Person, target: Person, field: FieldDescriptor) -> None:
    if field.is_repeated:
        getattr(target, field.name).MergeFrom(getattr(source, field.name))
    elif field.message_type is not None:
        getattr(target, field.name).CopyFrom(getattr(source, field.name))
    else:
        setattr(target, field.name, getattr(source, field.name))


def _exists(descriptor: Descriptor, path: str) -> bool:
    name, dot, rest = path.partition(".")
    field = descriptor.fields_by_name.get(name)
    if field is None:
        return False
    if not dot:
        return True
    return field.message_type is not None and not field.is_repeated and _exists(field.message_type, rest)
