"""Calls from room to room: who is away is tried again, who refuses the message is heard."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from services.mesh.core.errors import Kind, MeshError, PeerUnavailable
from services.mesh.wire.peer import PeerRefused, call_peer


class Failed(grpc.RpcError):
    """What a stub raises: the code, and the details as they stand in the trailing metadata."""

    def __init__(self, code: grpc.StatusCode, reason: str = "", pause: float = 0, **metadata: str) -> None:
        self._code = code
        status = Status(code=code.value[0], message="said")
        for detail in self._details(reason, pause, metadata):
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        self._trailer = (("grpc-status-details-bin", status.SerializeToString()),)

    @staticmethod
    def _details(reason: str, pause: float, metadata: dict[str, str]) -> list[Any]:
        told: list[Any] = [ErrorInfo(reason=reason, domain="npd", metadata=metadata)] if reason else []
        return told + ([RetryInfo(retry_delay=Duration(seconds=int(pause)))] if pause else [])

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "said"

    def trailing_metadata(self) -> Any:
        return self._trailer


def raised(error: Failed) -> MeshError:
    """What calling a peer that fails so raises."""

    def call(request: object, timeout: float) -> None:
        assert timeout > 0
        raise error

    with pytest.raises(MeshError) as caught:
        call_peer("identity", call, object())
    return caught.value


def test_an_answer_is_handed_through() -> None:
    assert call_peer("identity", lambda request, timeout: (request, timeout > 0), "asked") == ("asked", True)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
)
def test_who_refuses_the_room_is_away(code: grpc.StatusCode) -> None:
    error = raised(Failed(code, "OVERLOADED", pause=3))
    assert isinstance(error, PeerUnavailable)
    assert error.metadata["peer"] == "identity"
    assert error.pause == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"),
        (grpc.StatusCode.NOT_FOUND, "PERSON_UNKNOWN"),
        (grpc.StatusCode.FAILED_PRECONDITION, "PLACE_CODE_UNKNOWN"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "NUMBER_SPACE_EXHAUSTED"),
    ],
)
def test_what_refuses_the_message_becomes_our_refusal(code: grpc.StatusCode, reason: str) -> None:
    error = raised(Failed(code, reason, field="sex", request_id="r-1"))
    assert isinstance(error, PeerRefused)
    assert (error.kind, error.reason) == (Kind(code.name), reason)
    assert error.metadata == {"field": "sex"}, "the peer's request id is not ours"
    assert (PeerRefused.kind, PeerRefused.reason) == (Kind.INTERNAL, "INTERNAL"), "no other refusal is changed by it"


@pytest.mark.parametrize(
    "failed",
    [Failed(grpc.StatusCode.UNKNOWN, "X"), Failed(grpc.StatusCode.INTERNAL), Failed(grpc.StatusCode.NOT_FOUND)],
)
def test_a_fault_without_a_reason_is_a_fault(failed: Failed) -> None:
    error = raised(failed)
    assert isinstance(error, PeerRefused)
    assert (error.kind, error.reason) == (Kind.INTERNAL, "INTERNAL")
