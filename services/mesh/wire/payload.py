"""Looks into a request by its descriptor: its hash, and which of its required fields are missing."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.mesh.core.errors import FieldRequired, Violation

_MAX_VIOLATIONS = 20


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    required: bool
    presence: bool
    nested: Descriptor | None


def payload_hash(request: Message) -> bytes:
    """SHA-256 of a request's deterministic serialisation."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def require_fields(request: Message) -> None:
    """Raises FieldRequired, naming every field marked REQUIRED that is absent, empty or unspecified.

    Items of a list are not looked into: each is judged where it is read, so that one bad item can be refused alone.
    """
    violations: list[Violation] = []
    for field in _missing(request, ""):
        violations.append(Violation(field, "is required"))
        if len(violations) == _MAX_VIOLATIONS:
            break
    if violations:
        raise FieldRequired(*violations)


def _missing(message: Message, prefix: str) -> Iterator[str]:
    for step in _plan(message.DESCRIPTOR):
        if step.presence:
            present = message.HasField(step.name)
            if step.required and not present:
                yield prefix + step.name
            elif present and step.nested is not None:
                yield from _missing(getattr(message, step.name), f"{prefix}{step.name}.")
            continue
        value = getattr(message, step.name)
        if step.required and not value:
            yield prefix + step.name


@cache
def _plan(descriptor: Descriptor) -> tuple[_Step, ...]:
    """The fields of a message that are required, or may hold required ones."""
    steps = []
    for field in descriptor.fields:
        required = field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        nested = None if field.is_repeated else field.message_type
        if nested is not None and not _holds_required(nested, frozenset()):
            nested = None
        if required or nested is not None:
            steps.append(_Step(field.name, required, field.has_presence, nested))
    return tuple(steps)


def _holds_required(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen |= {descriptor.full_name}
    for field in descriptor.fields:
        if field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
            return True
        if field.message_type is not None and not field.is_repeated and _holds_required(field.message_type, seen):
            return True
    return False
