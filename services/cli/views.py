"""Answers of the registry for the human eye, and as JSON. What is printed is never taken for markup."""

import sys
from collections.abc import Iterable
from datetime import UTC
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from npd.registry.v1 import agency_pb2, directory_pb2
from services.local import views


def console() -> Console:
    """The standard output; wide where nobody looks, so that nothing is cut."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)


def json_of(message: Message) -> dict[str, Any]:
    """Proto JSON with the contract's field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def show_connections(connections: Iterable[directory_pb2.Connection]) -> None:
    """The connected databases and rooms."""
    console().print(views.connections(connections))


def sentence_of(system: agency_pb2.System) -> str:
    """A system's state in a sentence."""
    state = agency_pb2.SystemState.Name(system.state).removeprefix("SYSTEM_STATE_")
    cause = f": {system.cause}" if system.cause else ""
    return f"{system.agency_id}/{system.system_id} is {state} since {time_text(system.state_time)}{cause}"


def time_text(moment: Timestamp) -> str:
    """An instant in UTC, or nothing."""
    return moment.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment.seconds else ""
