"""The directory's wire and its domain, turned into each other. Malformed input raises InvalidField."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from npd.registry.v1 import directory_pb2
from services.mesh.core.contacts import Activity, Backlog, Contact, Flow, Lag
from services.mesh.core.errors import InvalidField
from services.registry import domain, formats
from services.registry.convert import SYSTEM_STATES, instant_from_wire


def contacts_from_wire(wire: directory_pb2.ReportContactsRequest) -> list[Contact]:
    """Whom a room heard of."""
    return [_contact_from_wire(f"contacts[{index}]", contact) for index, contact in enumerate(wire.contacts)]


def flow_from_wire(wire: directory_pb2.ReportContactsRequest) -> Flow:
    """How far messages and changes have flowed, as a room knows it."""
    return Flow(
        backlog=_backlog_from_wire(wire.backlog) if wire.HasField("backlog") else None,
        activities=tuple(_activity_from_wire(f"activities[{index}]", one) for index, one in enumerate(wire.activities)),
        lags=tuple(_lag_from_wire(f"lags[{index}]", lag) for index, lag in enumerate(wire.lags)),
    )


def policy_revision_from_wire(wire: directory_pb2.ReportContactsRequest) -> int:
    """The revision by which a room decides; 0 before it has one."""
    if wire.policy_revision < 0:
        raise InvalidField("policy_revision", "must not be negative")
    return wire.policy_revision


def connections_to_wire(connections: Sequence[domain.Connection]) -> directory_pb2.ListConnectionsResponse:
    """The directory."""
    return directory_pb2.ListConnectionsResponse(connections=map(_connection_to_wire, connections))


def _contact_from_wire(field: str, wire: directory_pb2.Contact) -> Contact:
    contact_time = _required_time(field, wire, "contact_time")
    return Contact(_name(field, wire.name), contact_time, _time(field, wire, "success_time"))


def _backlog_from_wire(wire: directory_pb2.Backlog) -> Backlog:
    return Backlog(
        _count("backlog", wire, "backlog_count"),
        _time("backlog", wire, "oldest_time"),
        _count("backlog", wire, "set_aside_count"),
    )


def _activity_from_wire(field: str, wire: directory_pb2.Activity) -> Activity:
    return Activity(_name(field, wire.name), _required_time(field, wire, "contribution_time"))


def _lag_from_wire(field: str, wire: directory_pb2.Lag) -> Lag:
    return Lag(
        _name(field, wire.name),
        _count(field, wire, "unapplied_count"),
        _time(field, wire, "oldest_time"),
        _count(field, wire, "rejected_count"),
    )


def _name(field: str, name: str) -> str:
    segments = name.split("/")
    if len(segments) > 2:
        raise InvalidField(f"{field}.name", "must be agency/system or the name of a room")
    for segment in segments:
        formats.require_identifier(f"{field}.name", segment)
    return name


def _count(field: str, message: Any, name: str) -> int:
    count: int = getattr(message, name)
    if count < 0:
        raise InvalidField(f"{field}.{name}", "must not be negative")
    return count


def _time(field: str, message: Any, name: str) -> datetime | None:
    return instant_from_wire(f"{field}.{name}", getattr(message, name)) if message.HasField(name) else None


def _required_time(field: str, message: Any, name: str) -> datetime:
    time = _time(field, message, name)
    if time is None:
        raise InvalidField(f"{field}.{name}", "is required")
    return time


def _connection_to_wire(connection: domain.Connection) -> directory_pb2.Connection:
    wire = directory_pb2.Connection(
        name=connection.name,
        title=connection.title,
        state=connection.state.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        policy_revision=connection.flow.policy_revision,
    )
    if connection.system_state is not None:
        wire.system_state = SYSTEM_STATES[connection.system_state]
    if connection.contact is not None:
        wire.last_contact_time.FromDatetime(connection.contact.contact_time)
        if connection.contact.success_time is not None:
            wire.last_success_time.FromDatetime(connection.contact.success_time)
    _add_flow(wire, connection.flow)
    return wire


def _add_flow(wire: directory_pb2.Connection, flow: domain.LastFlow) -> None:
    if flow.contribution_time is not None:
        wire.last_contribution_time.FromDatetime(flow.contribution_time)
    if flow.backlog is not None:
        wire.backlog_count, wire.set_aside_count = flow.backlog.count, flow.backlog.set_aside_count
        if flow.backlog.oldest_time is not None:
            wire.oldest_backlog_time.FromDatetime(flow.backlog.oldest_time)
    if flow.lag is not None:
        wire.unapplied_count, wire.rejected_count = flow.lag.unapplied_count, flow.lag.rejected_count
        if flow.lag.oldest_time is not None:
            wire.oldest_unapplied_time.FromDatetime(flow.lag.oldest_time)
