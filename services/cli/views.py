"""Answers of the registry and the rooms for the human eye, and as JSON. What is printed is never taken for markup."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from npd.common.v1 import relay_pb2
from npd.registry.v1 import agency_pb2, directory_pb2
from npd_client.errors import Refusal

_STATES = {"CONNECTED": "green", "DEGRADED": "yellow", "SILENT": "red"}


def console() -> Console:
    """The standard output; wide where nobody looks, so that nothing is cut."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)


def json_of(message: Message) -> dict[str, Any]:
    """Proto JSON with the contract's field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def show_connections(listed: Iterable[directory_pb2.Connection]) -> None:
    """The connected databases and rooms."""
    console().print(connections(listed, datetime.now(UTC)))


def connections(listed: Iterable[directory_pb2.Connection], now: datetime) -> Table:
    """The connected databases and rooms, within 100 columns; times are told as how long ago they were."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", max_width=26, overflow="fold")
    for heading in ("state", "heard", "served", "contributed", "backlog", "lag", "set aside", "rejected"):
        table.add_column(heading, max_width=11, justify="left" if heading == "state" else "right")
    for one in listed:
        state = directory_pb2.ConnectionState.Name(one.state).removeprefix("CONNECTION_STATE_")
        is_room = one.system_state == agency_pb2.SYSTEM_STATE_UNSPECIFIED
        registered = "" if is_room else agency_pb2.SystemState.Name(one.system_state).removeprefix("SYSTEM_STATE_")
        table.add_row(
            one.name if one.title == f"room {one.name}" else f"{one.name}\n  {one.title}",
            Text.assemble((state, _STATES.get(state, "")), f"\n{registered}" if registered else ""),
            age_text(one.last_contact_time, now) or "never",
            age_text(one.last_success_time, now) or "never",
            age_text(one.last_contribution_time, now),
            str(one.backlog_count) if is_room else "",
            age_text(one.oldest_unapplied_time, now),
            str(one.set_aside_count) if is_room else "",
            str(one.rejected_count or ""),
        )
    return table


def show_set_aside(held: Mapping[str, Sequence[relay_pb2.SetAside]], missing: Mapping[str, Refusal]) -> None:
    """What rooms have set aside, and in a plain sentence where there is nothing."""
    now, shown = datetime.now(UTC), console()
    table = Table("message", "room", "what", "reason", "since", "tried", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for room, messages in held.items():
        for one in messages:
            way = "from" if one.direction == relay_pb2.DIRECTION_INCOMING else "to"
            why = f"{one.reason} {one.field}".strip()
            since = age_text(one.set_aside_time, now)
            table.add_row(one.message_id, room, f"{one.kind} {way} {one.peer}", why, since, str(one.attempts))
    if table.row_count:
        shown.print(table)
    if well := [room for room, messages in held.items() if not messages]:
        shown.print(f"Nothing is set aside in {', '.join(well)}.", soft_wrap=True)
    show_missing(missing, "what it holds is missing here")


def show_missing(missing: Mapping[str, Refusal], therefore: str) -> None:
    """A sentence for each room that did not answer."""
    for one in missing_of(missing):
        console().print(f"{one['room']} did not answer ({one['reason']}): {therefore}.", soft_wrap=True)


def missing_of(missing: Mapping[str, Refusal]) -> list[dict[str, str]]:
    """The rooms that did not answer, and why, for a script."""
    return [{"room": room, "reason": refusal.reason or refusal.code.name} for room, refusal in missing.items()]


def age_text(moment: Timestamp, now: datetime) -> str:
    """How long ago an instant was, in seconds, minutes, hours or days; nothing for one that never was."""
    if not moment.seconds:
        return ""
    seconds = max(0.0, (now - moment.ToDatetime(UTC)).total_seconds())
    for unit, length, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def sentence_of(system: agency_pb2.System) -> str:
    """A system's state in a sentence."""
    state = agency_pb2.SystemState.Name(system.state).removeprefix("SYSTEM_STATE_")
    cause = f": {system.cause}" if system.cause else ""
    return f"{system.agency_id}/{system.system_id} is {state} since {time_text(system.state_time)}{cause}"


def time_text(moment: Timestamp) -> str:
    """An instant in UTC, or nothing."""
    return moment.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment.seconds else ""
