"""Dataclasses as bytes that a later version of the code can read back: JSON, bytes in base64."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, create_model

T = TypeVar("T")


def to_stored(value: T, shape: type[T]) -> bytes:
    """The stored form of a dataclass of type `shape`."""
    return _model(cast(Hashable, shape))(value=value).model_dump_json().encode()


def from_stored(raw: bytes, shape: type[T]) -> T:
    """The dataclass again. Raises pydantic.ValidationError for what is not one."""
    return cast(T, _model(cast(Hashable, shape)).model_validate_json(raw).value)  # type: ignore[attr-defined]


@cache
def _model(shape: Hashable) -> type[BaseModel]:
    # a dataclass takes these settings only from a model around it
    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    return create_model("Stored", __config__=config, value=(cast(Any, shape), ...))
