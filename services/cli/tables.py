"""Answers of the registry for the human eye, and as JSON. What is printed is never taken for markup."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from npd.registry.v1 import agency_pb2, directory_pb2

_STYLES = {"CONNECTED": "green", "DEGRADED": "yellow", "SILENT": "red", "SUSPENDED": "red"}


def console() -> Console:
    """The standard output; wide where nobody looks, so that nothing is cut."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)


def json_of(message: Message) -> dict[str, Any]:
    """Proto JSON with the contract's field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def show_connections(connections: Iterable[directory_pb2.Connection]) -> None:
    """The connected databases and rooms."""
    console().print(connections_table(connections))


def connections_table(connections: Iterable[directory_pb2.Connection]) -> Table:
    """The same as a table."""
    table = Table("name", "what it is", "connection", "registration", "last contact", "last served")
    for one in connections:
        state = directory_pb2.ConnectionState.Name(one.state).removeprefix("CONNECTION_STATE_")
        registered = agency_pb2.SystemState.Name(one.system_state).removeprefix("SYSTEM_STATE_")
        table.add_row(
            one.name,
            one.title,
            Text(state, style=_STYLES.get(state, "")),
            Text("" if registered == "UNSPECIFIED" else registered, style=_STYLES.get(registered, "")),
            ago_text(one.last_contact_time),
            ago_text(one.last_success_time),
        )
    return table


def sentence_of(system: agency_pb2.System) -> str:
    """A system's state in a sentence."""
    state = agency_pb2.SystemState.Name(system.state).removeprefix("SYSTEM_STATE_")
    cause = f": {system.cause}" if system.cause else ""
    return f"{system.agency_id}/{system.system_id} is {state} since {time_text(system.state_time)}{cause}"


def time_text(moment: Timestamp) -> str:
    """An instant in UTC, or nothing."""
    return moment.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment.seconds else ""


def ago_text(moment: Timestamp) -> str:
    """How long ago an instant was."""
    if not moment.seconds:
        return "never"
    seconds = max(0.0, (datetime.now(UTC) - moment.ToDatetime(tzinfo=UTC)).total_seconds())
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else time_text(moment)
