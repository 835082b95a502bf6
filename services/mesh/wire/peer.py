"""Calls from room to room: with a deadline, and with the other room's refusals as ours."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc

from npd_client.errors import Refusal, refusal_of
from services.mesh.core.errors import Internal, Kind, MeshError, PeerUnavailable

_TIMEOUT = 10.0
# Whoever refuses so refuses the room, not the message: it is tried again as it is.
_NOT_THE_MESSAGE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,  # an older room: it will be newer
    }
)
_KINDS = {kind.value for kind in Kind}


class PeerRefused(MeshError):
    """Another room refused a call for what it says; its kind, reason and metadata become ours."""

    kind, reason = Internal.kind, Internal.reason

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(**{name: value for name, value in refusal.metadata.items() if name != "request_id"})
        if refusal.reason and refusal.code.name in _KINDS:
            self.kind = Kind(refusal.code.name)  # type: ignore[misc]
            self.reason = refusal.reason  # type: ignore[misc]


def call_peer(peer: str, call: Callable[..., Any], request: object) -> Any:
    """Call another room. Raises PeerUnavailable if it takes no calls of ours now, PeerRefused if it refuses this."""
    try:
        return call(request, timeout=_TIMEOUT)
    except ValueError as error:  # the channel is closed: this room is stopping
        raise PeerUnavailable(peer) from error
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        if refusal.code in _NOT_THE_MESSAGE and refusal.reason != "NUMBER_SPACE_EXHAUSTED":
            raise PeerUnavailable(peer, refusal.retry_after or timedelta()) from error
        raise PeerRefused(refusal) from error
