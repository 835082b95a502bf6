"""Tables of the demonstration and of `npd up`: what a person wants to see of the mesh, the record and the log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from npd.common.v1.chain_pb2 import Link
from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.common.v1.evidence_pb2 import Outcome
from npd.common.v1.person_pb2 import Person
from npd.registry.v1 import agency_pb2, directory_pb2
from npd.sharing.v1.contribution_pb2 import ContributionResult
from npd.sharing.v1.usage_pb2 import UsageRecord
from npd_client.cli.tables import flatten
from services.local import handshake
from services.local.mesh import LocalMesh
from services.local.sample import SampleSystem

_ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
_STATES = {"CONNECTED": "green", "DEGRADED": "yellow", "SILENT": "red"}


@dataclass(frozen=True, slots=True)
class RoomsSeen:
    """The rooms as they answer at this moment."""

    table: Table
    names: list[str]
    tls_versions: set[str]
    speak_tls_1_2: list[str]


def rooms(mesh: LocalMesh, directory: Path) -> RoomsSeen:
    """Look at each room with the credentials in `directory`."""
    table = Table("room", "address", "TLS", "probes and metrics", "process", "memory")
    versions: dict[str, str] = {}
    old: list[str] = []
    pids = {status.name: status.pid for status in mesh.statuses()}
    for name, address in mesh.endpoints.items():
        versions[name] = handshake.negotiated(address, directory)
        if handshake.accepts_tls_1_2(address, directory):
            old.append(name)
        pid = pids.get(name)
        table.add_row(name, address, versions[name], f"{mesh.probes[name]}/readyz", str(pid), memory_text(pid))
    return RoomsSeen(table, list(versions), set(versions.values()), old)


def memory_text(pid: int | None) -> str:
    """Resident memory of a process, where the system tells it."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if pid and status.exists() else []
    kibibytes = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
    return f"{kibibytes / 1024:.0f} MiB" if kibibytes else ""


def agreements(systems: Sequence[SampleSystem], ids: Mapping[str, str]) -> Table:
    """Who is connected, and what each agreement grants."""
    table = Table("system", "agency", "purpose, legal basis", "grants", "agreement")
    for sample in systems:
        grants = "\n".join(f"{mode}: {_fields_text(paths)}" for mode, paths in sample.grants.items())
        ground = f"{sample.purpose}\n{sample.provision}"
        table.add_row(sample.title, sample.agency_name, ground, grants, ids[sample.title][:8])
    return table


def record(person: Person) -> Table:
    """The released fields of a citizen."""
    table = Table("field", "value")
    for path, value in flatten(person):
        table.add_row(path, value)
    return table


def results(subjects: Sequence[str], answered: Iterable[ContributionResult]) -> Table:
    """What became of contributed items."""
    table = Table("field told", "result", "reason")
    for subject, result in zip(subjects, answered, strict=True):
        status = ContributionResult.Status.Name(result.status).removeprefix("STATUS_")
        reason = ErrorReason.Name(result.reason).removeprefix("ERROR_REASON_") if result.reason else ""
        table.add_row(subject, status, f"{reason}\n{result.message}".strip())
    return table


def usage(records: Iterable[UsageRecord]) -> Table:
    """Who used a record."""
    table = Table("when", "who", "officer", "why", "case", "outcome", "what")
    for one in records:
        entry = one.entry
        outcome = Outcome.Name(entry.outcome).removeprefix("OUTCOME_")
        times = f" ({entry.count} times)" if entry.count > 1 else ""
        table.add_row(
            entry.entry_time.ToDatetime(UTC).astimezone(_ZONE).strftime("%H:%M:%S"),
            one.agency_name or entry.agency_id or f"room {entry.caller.rpartition('/')[2]}",
            entry.access.officer_id,
            entry.purpose,
            entry.access.case_reference,
            f"{outcome} {entry.reason}".strip() + times,
            ", ".join(entry.paths),
        )
    return table


def chain(links: Iterable[Link]) -> Table:
    """What follows from what, in the order of time."""
    table = Table("when", "what", "who", "officer", "case", "outcome")
    for link in links:
        table.add_row(
            link.link_time.ToDatetime(UTC).astimezone(_ZONE).strftime("%H:%M:%S.%f")[:-3],
            link.act,
            link.actor.partition("://")[2].partition("/")[2],
            link.access.officer_id,
            link.access.case_reference,
            link.outcome,
        )
    return table


def connections(listed: Iterable[directory_pb2.Connection]) -> Table:
    """The connected databases, as the registry's directory has them."""
    table = Table("name", "what it is", "connection", "registration", "last contact", "last served")
    for one in listed:
        state = directory_pb2.ConnectionState.Name(one.state).removeprefix("CONNECTION_STATE_")
        registered = agency_pb2.SystemState.Name(one.system_state).removeprefix("SYSTEM_STATE_")
        table.add_row(
            one.name,
            one.title,
            Text(state, style=_STATES.get(state, "")),
            "" if registered == "UNSPECIFIED" else registered,
            ago_text(one.last_contact_time),
            ago_text(one.last_success_time),
        )
    return table


def ago_text(moment: Timestamp) -> str:
    """How long ago an instant was."""
    if not moment.seconds:
        return "never"
    seconds = max(0.0, (datetime.now(UTC) - moment.ToDatetime(UTC)).total_seconds())
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{moment.ToDatetime(UTC):%Y-%m-%d %H:%M}Z"


def _fields_text(paths: Sequence[str]) -> str:
    return ", ".join(paths) if len(paths) < 10 else f"all {len(paths)} fields"
