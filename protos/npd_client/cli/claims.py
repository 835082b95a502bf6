"""What `verify` claims: `--claim field=value` as values of Person, and the options that become predicates."""

from collections.abc import Callable, Sequence
from typing import Any

import typer
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.type.date_pb2 import Date

from npd.common.v1.person_pb2 import Person, PersonName
from npd.common.v1.place_pb2 import AdminPlace
from npd.sharing.v1.verification_pb2 import Predicate
from npd_client.client import date_of

_INTEGERS = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)


def claims_of(given: Sequence[str], ask: Callable[[str], str]) -> tuple[Person, list[str]]:
    """The claimed values and the top-level fields that they are of.

    "phone=+84..." claims a value, "phone=" that there is none; the value of "phone" alone is asked for. Deeper fields
    are named by dots, in a list its one claimed item is meant: "id_cards.document_number=...". Raises BadParameter,
    DateMalformed; neither repeats a value.
    """
    person, paths = Person(), dict[str, None]()
    for claim in given:
        path, equals, value = claim.partition("=")
        path = path.strip()
        if not equals:
            value = ask(path)
        _set(person, path, path.split("."), value.strip())
        paths[path.partition(".")[0]] = None
    return person, list(paths)


def predicates_of(age_at_least: int | None, alive: bool | None, resides_in: str, nationality: str) -> list[Predicate]:
    """The predicates of the options that were given. Raises BadParameter."""
    found = []
    if age_at_least is not None:
        found.append(Predicate(age_at_least=age_at_least))
    if alive is not None:
        found.append(Predicate(alive=alive))
    if resides_in:
        code, at, version = resides_in.partition("@")
        if not at:
            raise typer.BadParameter("--resides-in is CODE@LIST, such as 01@2025-07-01: a code means nothing alone")
        found.append(Predicate(resides_in=AdminPlace(unit_code=code, unit_list_version=version)))
    if nationality:
        found.append(Predicate(has_nationality=nationality))
    return found


def _set(message: Any, path: str, names: Sequence[str], value: str) -> None:
    """Set the field at a path below a message; an empty value leaves it as it is, which claims that there is none."""
    field = message.DESCRIPTOR.fields_by_name.get(names[0])
    if field is None:
        raise typer.BadParameter(f"--claim {path}: Person has no such field")
    if field.message_type is None:
        if len(names) > 1:
            raise typer.BadParameter(f"--claim {path}: Person has no such field")
        if value:
            _set_scalar(message, field, path, value)
        return
    if not value:
        return
    held = getattr(message, field.name)
    below = (held[0] if len(held) else held.add()) if field.is_repeated else held
    if len(names) > 1:
        below.SetInParent()
        _set(below, path, names[1:], value)
    elif isinstance(below, Date):
        below.CopyFrom(date_of(value))
    elif isinstance(below, PersonName):
        below.full = value
    else:
        parts = ", ".join(f"{path}.{part.name}" for part in field.message_type.fields)
        raise typer.BadParameter(f"--claim {path}: name what lies below it: {parts}")


def _set_scalar(message: Any, field: FieldDescriptor, path: str, value: str) -> None:
    if field.enum_type is not None:
        numbers = _numbers(field.enum_type)
        if value.upper() not in numbers:
            raise typer.BadParameter(f"--claim {path}: is not one of {', '.join(numbers)}")
        setattr(message, field.name, numbers[value.upper()])
    elif field.is_repeated:
        getattr(message, field.name).extend(part.strip() for part in value.split(","))
    elif field.cpp_type in _INTEGERS:
        if not value.isdecimal():
            raise typer.BadParameter(f"--claim {path}: must be a number")
        setattr(message, field.name, int(value))
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        setattr(message, field.name, value.lower() == "true")
    else:
        setattr(message, field.name, value)


def _numbers(enum: EnumDescriptor) -> dict[str, int]:
    """The values of an enum by their names without the enum's own."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix): value.number for value in enum.values if value.number}
