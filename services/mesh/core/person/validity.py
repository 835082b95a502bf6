"""What a told value must be to enter the record: hard rules only. What is merely doubtful enters and is a finding."""

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from google.protobuf.message import Message
from google.type import date_pb2

from npd.common.v1 import person_pb2, place_pb2
from services.mesh.core.errors import InvalidField
from services.mesh.core.person import text
from services.mesh.core.person.dates import partial_date
from services.mesh.core.person.pin import require_pin

_TEXT_LIMIT = 500
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff]")
_NAME_LIMIT = 200
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_UNIT = re.compile(r"[0-9]{2}|[0-9]{3}|[0-9]{5}", re.ASCII)
_OLD_ID = re.compile(r"[0-9]{9}", re.ASCII)
# Dates that may lie ahead: a card's or a stay's end is planned.
_MAY_LIE_AHEAD = {"expiry_date", "end_date", "start_date"}


def normalise(message: Message, prefix: str, today: date, *, sandbox: bool) -> None:
    """Bring every text of a message to NFC, in place, and require that its values are possible.

    Walks the descriptor: texts within their length and without control characters, dates possible and not in the
    future, codes of their form, enum values known. Raises InvalidField or SandboxPin, naming the path below `prefix`.
    """
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.is_repeated:
            for index, item in enumerate(value):
                at = f"{path}[{index}]"
                if field.message_type is None:
                    value[index] = _scalar(field, item, at)
                else:
                    _nested(field.name, item, at, today, sandbox=sandbox)
        elif field.message_type is None:
            setattr(message, field.name, _scalar(field, value, path))
        else:
            _nested(field.name, value, path, today, sandbox=sandbox)
    for name, rule in _FORMS.get(message.DESCRIPTOR.full_name, {}).items():
        if getattr(message, name):
            rule(getattr(message, name), f"{prefix}{name}", sandbox)
    if isinstance(message, person_pb2.PersonName):
        _require_full_name(message, prefix)
    if isinstance(message, person_pb2.DeathOrMissing) and not message.kind:
        raise InvalidField(f"{prefix}kind", "is required: what was registered or declared")
    if isinstance(message, person_pb2.Person):
        for index, country in enumerate(message.nationalities):
            _country(country, f"{prefix}nationalities[{index}]", sandbox)


def _nested(name: str, message: Message, path: str, today: date, *, sandbox: bool) -> None:
    if isinstance(message, date_pb2.Date):
        partial_date(message, path, latest=date.max if name in _MAY_LIE_AHEAD else today)
    else:
        normalise(message, f"{path}.", today, sandbox=sandbox)


def _scalar(field: Any, value: Any, path: str) -> Any:
    if isinstance(value, str):
        if len(value) > _TEXT_LIMIT:
            raise InvalidField(path, f"must not be longer than {_TEXT_LIMIT} characters")
        if _CONTROL.search(value):
            raise InvalidField(path, "must not hold control characters")
        return text.stored(value)
    if field.enum_type is not None and value not in field.enum_type.values_by_number:
        raise InvalidField(path, "is not a value of the list")
    return value


def _require_full_name(name: person_pb2.PersonName, prefix: str) -> None:
    if not text.comparable(name.full):
        raise InvalidField(f"{prefix}full", "is required: the full name as registered")
    if len(name.full) > _NAME_LIMIT:
        raise InvalidField(f"{prefix}full", f"must not be longer than {_NAME_LIMIT} characters")


def _country(value: str, path: str, sandbox: bool) -> None:
    if not _COUNTRY.fullmatch(value):
        raise InvalidField(path, "must be a country code of two capital letters, ISO 3166-1 alpha-2")


def _unit(value: str, path: str, sandbox: bool) -> None:
    if not _UNIT.fullmatch(value):
        raise InvalidField(path, "must be a unit code of 2, 3 or 5 digits")


def _pin(value: str, path: str, sandbox: bool) -> None:
    require_pin(value, path, sandbox=sandbox)


def _old_id(value: str, path: str, sandbox: bool) -> None:
    if not _OLD_ID.fullmatch(value):
        raise InvalidField(path, "must be 9 digits 0-9")


_Rule = Callable[[str, str, bool], None]
_FORMS: dict[str, dict[str, _Rule]] = {
    person_pb2.Person.DESCRIPTOR.full_name: {"pin": _pin, "old_id_number": _old_id},
    person_pb2.RelatedPerson.DESCRIPTOR.full_name: {"pin": _pin, "old_id_number": _old_id, "nationality": _country},
    place_pb2.AdminPlace.DESCRIPTOR.full_name: {"unit_code": _unit, "country_code": _country},
}
