"""Errors as facts: what was refused and why, without a wire and without personal data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """How an error is classed on the wire: the names of gRPC's status codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request and how it must look. Never the value that was given."""

    field: str
    description: str


class MeshError(Exception):
    """A refusal. Subclasses are facts of a domain, each with its kind and its reason of `npd.common.v1.ErrorReason`.

    `metadata` holds what the reason's comment in the contract names; none of it is personal data.
    """

    kind: ClassVar[Kind]
    reason: ClassVar[str]
    retry_after: ClassVar[timedelta | None] = None

    def __init__(self, *violations: Violation, **metadata: object) -> None:
        self.violations = violations
        self.metadata: Mapping[str, str] = {name: str(value) for name, value in metadata.items()}
        super().__init__(self.reason)

    def __str__(self) -> str:
        facts = [f"{name}={value}" for name, value in self.metadata.items()]
        facts += [f"{violation.field}: {violation.description}" for violation in self.violations]
        return f"{self.reason} ({', '.join(facts)})" if facts else self.reason


class Internal(MeshError):
    """A fault of the mesh itself; its detail stands in the log under the request id."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class StoreUnavailable(MeshError):
    """The store cannot be reached or does not accept writes, so nothing may leave."""

    kind, reason = Kind.UNAVAILABLE, "STORE_UNAVAILABLE"
    retry_after = timedelta(seconds=1)


class PeerUnavailable(MeshError):
    """A room that this needs does not answer, or not now; `pause` is how long it asked to be left alone."""

    kind, reason = Kind.UNAVAILABLE, "PEER_UNAVAILABLE"
    retry_after = timedelta(seconds=1)

    def __init__(self, peer: str, pause: timedelta = timedelta()) -> None:
        super().__init__(peer=peer)
        self.pause = pause


class Overloaded(MeshError):
    """A bounded queue is full."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "OVERLOADED"
    retry_after = timedelta(seconds=1)


class DeadlinePassed(MeshError):
    """The caller's deadline passed before the work was done."""

    kind, reason = Kind.DEADLINE_EXCEEDED, "DEADLINE_PASSED"


class InvalidField(MeshError):
    """A field's value is malformed."""

    kind, reason = Kind.INVALID_ARGUMENT, "FIELD_INVALID"

    def __init__(self, field: str, description: str, /, **metadata: object) -> None:
        super().__init__(Violation(field, description), **metadata)


class FieldRequired(MeshError):
    """Required fields are missing."""

    kind, reason = Kind.INVALID_ARGUMENT, "FIELD_REQUIRED"


class MaskEmpty(InvalidField):
    """A field mask names nothing; that never means everything."""

    reason = "MASK_EMPTY"


class MaskUnknownPath(InvalidField):
    """A field mask names a path that the message does not have."""

    reason = "MASK_UNKNOWN_PATH"


class PageTokenInvalid(InvalidField):
    """A page token is not one of this list."""

    reason = "PAGE_TOKEN_INVALID"


class MethodNotAllowed(MeshError):
    """Callers of this kind may not call this method, or not for this object."""

    kind, reason = Kind.PERMISSION_DENIED, "METHOD_NOT_ALLOWED"


class StateNotAllowed(MeshError):
    """The object is not in a state that allows this."""

    kind, reason = Kind.FAILED_PRECONDITION, "STATE_NOT_ALLOWED"


class AlreadyRegistered(MeshError):
    """It is registered already."""

    kind, reason = Kind.ALREADY_EXISTS, "ALREADY_REGISTERED"
