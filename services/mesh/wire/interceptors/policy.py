"""Guard: the method table lets this caller call, its system is active, and the rights are fresh enough to say so."""

from collections.abc import Callable
from datetime import timedelta

from google.protobuf.message import Message

from services.mesh.core.caller import CallerKind, require_active
from services.mesh.core.clock import Clock
from services.mesh.core.errors import Kind, MeshError, MethodNotAllowed
from services.mesh.core.methods import Methods
from services.mesh.core.rights import Policy
from services.mesh.wire.call import Call, caller_of


class PolicyStale(MeshError):
    """The room's rights are older than their limit."""

    kind, reason = Kind.UNAVAILABLE, "POLICY_STALE"
    retry_after = timedelta(seconds=5)


class PolicyGuard:
    """Holds the room's whole method table. `limit` is the age past which calls of agencies and rooms are refused.

    Rooms too: what a room may follow and tell is policy, and one that is not known yet grants nothing, not everything.
    """

    def __init__(self, methods: Methods, policy: Callable[[], Policy], limit: timedelta, clock: Clock) -> None:
        self._methods = methods
        self._policy = policy
        self._limit = limit
        self._clock = clock

    def __call__(self, call: Call, request: Message) -> None:
        """Raises MethodNotAllowed, PolicyStale, SystemUnknown, SystemSuspended, OperatorUnknown."""
        caller = caller_of(call.as_context())
        rule = self._methods[call.method]
        if not rule.admits(caller):
            raise MethodNotAllowed(method=call.method, caller_kind=caller.kind.name.lower())
        if rule.any_state:
            return
        policy = self._policy()
        age = self._clock.now() - policy.issue_time
        if caller.kind is not CallerKind.OPERATOR and age > self._limit:
            raise PolicyStale(age_seconds=int(age.total_seconds()), limit_seconds=int(self._limit.total_seconds()))
        require_active(caller, policy)
