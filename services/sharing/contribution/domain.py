"""What a contributed item is, what can become of it, and what a source may write. No I/O."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from uuid import UUID, uuid4

from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Causation
from services.mesh.core.clock import CLOCKS_APART
from services.mesh.core.errors import InvalidField, Kind, MeshError
from services.mesh.core.messages import sentence
from services.mesh.core.rights import Access, Policy
from services.sharing.record.fields import Value
from services.sharing.record.resolution import source_class

ITEMS_LIMIT = 1000
MINTING_ROOM = "identity"


class FieldNotWritable(MeshError):
    """The source may not write the field."""

    kind, reason = Kind.PERMISSION_DENIED, "FIELD_NOT_WRITABLE"


class EventIdReused(MeshError):
    """The event id was used before with another content."""

    kind, reason = Kind.FAILED_PRECONDITION, "EVENT_ID_REUSED"


class PinTaken(MeshError):
    """The PIN belongs to another subject."""

    kind, reason = Kind.FAILED_PRECONDITION, "PIN_TAKEN"


class SubjectNotMinted(MeshError):
    """Only the room that mints subjects may name a new one, and with its PIN."""

    kind, reason = Kind.FAILED_PRECONDITION, "SUBJECT_NOT_MINTED"


class Status(Enum):
    """What became of an item, with the numbers of ContributionResult.Status."""

    APPLIED = 1
    DUPLICATE = 2
    HELD = 3
    REJECTED = 4


def new_chain() -> Causation:
    """The place of an item that begins a chain: no link of the mesh caused it."""
    correlation_id = uuid4()
    return Causation(correlation_id, correlation_id)


@dataclass(frozen=True, slots=True)
class Item:
    """What one event at a source says about one person, named by PIN or by subject id.

    `pin_told` is the PIN among the values told, for an item that gives its subject one. `causation` is its place in the
    chain that it belongs to or begins; `access` the ground of the act that a room tells of.
    """

    event_id: str
    pin: str
    subject_id: UUID | None
    pin_told: str
    values: tuple[Value, ...]
    event_time: datetime
    register_time: datetime
    content_hash: bytes
    causation: Causation = field(default_factory=new_chain)
    access: Access | None = None

    @property
    def paths(self) -> frozenset[str]:
        """The paths that it tells."""
        return frozenset(value.path for value in self.values)


@dataclass(frozen=True, slots=True)
class TakenItem:
    """An item of a chain that was taken in: its source, its cause, the ground of the act that it tells of."""

    source: str
    event_id: str
    causation: Causation
    access: Access | None
    record_time: datetime
    is_held: bool


@dataclass(frozen=True, slots=True)
class Malformed:
    """An item that could not be read: its event id as far as known, and why."""

    event_id: str
    error: MeshError


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item."""

    event_id: str
    status: Status
    disputed_paths: tuple[str, ...] = ()
    reason: str = ""
    field: str = ""
    message: str = ""


def rejected(event_id: str, error: MeshError) -> Result:
    """The result of an item that an error refuses: its reason, the field that it is about, and a sentence."""
    if error.violations:
        violation = error.violations[0]
        message = f"{violation.field} {violation.description}"
        return Result(event_id, Status.REJECTED, (), error.reason, violation.field, message)
    return Result(event_id, Status.REJECTED, (), error.reason, error.metadata.get("field", ""), sentence(error))


@dataclass(frozen=True, slots=True)
class Results:
    """What became of a call's items, in their order."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class WriteRight:
    """What a source may write: the paths that its grant or the authority rule gives it, and the rule's words."""

    source: str
    paths: Set[str]
    rule: str

    def require(self, paths: Iterable[str]) -> None:
        """Raises FieldNotWritable for the first path outside."""
        for path in sorted(paths):
            if path not in self.paths:
                raise FieldNotWritable(field=path, source=self.source, rule=self.rule)


def write_right(caller: Caller, granted: Set[str], policy: Policy, day: date) -> WriteRight:
    """What a caller may write on a day: a system what it was granted, where the authority rule knows agencies; a room
    the fields whose authority rule names it. Source: DESIGN.md part 7.
    """
    named = source_class(caller.name)
    authoritative = {
        path
        for path in policy.fields
        if (definition := policy.field_in_force(path, day)) is not None and named in definition.authority
    }
    if caller.kind is CallerKind.ROOM:
        return WriteRight(caller.name, authoritative, f"the authority rule names {caller.name} for other fields")
    rule = f"its agreement grants CONTRIBUTE of {', '.join(sorted(granted & authoritative)) or 'nothing'}"
    return WriteRight(caller.name, granted & authoritative, rule)


def require_times(event_time: datetime, register_time: datetime, now: datetime) -> None:
    """An event happens before it is registered, and both before now. Raises InvalidField."""
    if event_time > register_time:
        raise InvalidField("register_time", "must not lie before the event")
    if register_time > now + CLOCKS_APART:
        raise InvalidField("register_time", "must not lie in the future")
