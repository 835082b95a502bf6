"""Compares what two sources tell for the same field, after normalisation, and names the kind of a difference."""

from enum import Enum
from typing import Any

from google.protobuf.message import Message
from google.type import date_pb2

from npd.common.v1 import person_pb2
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.sharing.record import fields


class Difference(Enum):
    """What kind of difference a discrepancy is. White space, case and tone placement are none."""

    DIACRITICS = "DIACRITICS"
    FORMAT = "FORMAT"
    SUBSTANCE = "SUBSTANCE"


_NOT_COMPARED = {"as_of_date"}  # when an address was confirmed does not make it another address
_WEIGHT = {Difference.DIACRITICS: 1, Difference.FORMAT: 2, Difference.SUBSTANCE: 3}


def difference(path: str, one: bytes | None, other: bytes | None) -> Difference | None:
    """How two values of a path differ; None if they agree."""
    if one == other:
        return None
    if one is None or other is None:
        return Difference.SUBSTANCE
    return _between(fields.payload(one, path), fields.payload(other, path))


def _between(one: Any, other: Any) -> Difference | None:
    if isinstance(one, str):
        return _between_texts(one, other)
    if isinstance(one, date_pb2.Date):
        mine, others = (PartialDate(wire.year, wire.month, wire.day) for wire in (one, other))
        return None if mine.agrees_with(others) else Difference.SUBSTANCE
    if isinstance(one, person_pb2.PersonName):
        return _between_texts(one.full, other.full)
    if isinstance(one, Message):
        return _between_messages(one, other)
    if hasattr(one, "__len__"):
        if len(one) != len(other):
            return Difference.SUBSTANCE
        if all(isinstance(text_of_one, str) for text_of_one in one):  # nationalities have no order
            one, other = sorted(one), sorted(other)
        return _worst([_between(mine, others) for mine, others in zip(one, other, strict=True)])
    return None if one == other else Difference.SUBSTANCE


def _between_messages(one: Message, other: Message) -> Difference | None:
    found: list[Difference | None] = []
    for field in one.DESCRIPTOR.fields:
        if field.name in _NOT_COMPARED:
            continue
        if field.has_presence and not field.is_repeated and one.HasField(field.name) != other.HasField(field.name):
            found.append(Difference.SUBSTANCE)
        else:
            found.append(_between(getattr(one, field.name), getattr(other, field.name)))
    return _worst(found)


def _between_texts(one: str, other: str) -> Difference | None:
    if text.name_key(one) == text.name_key(other):
        return None
    if text.unaccented(one) == text.unaccented(other):
        return Difference.DIACRITICS
    signs_of_one, signs_of_other = ([sign for sign in text.comparable(side) if sign.isalnum()] for side in (one, other))
    return Difference.FORMAT if signs_of_one == signs_of_other else Difference.SUBSTANCE


def _worst(found: list[Difference | None]) -> Difference | None:
    return max((one for one in found if one is not None), key=_WEIGHT.__getitem__, default=None)
