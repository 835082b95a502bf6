"""Refusals read from the errors of calls."""

from collections.abc import Iterable
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from npd.common.v1.error_reason_pb2 import ErrorReason
from npd_client import Refusal, Unreachable, refusal_of

DETAILS = "grpc-status-details-bin"


class CallFailed(grpc.RpcError):
    """What a stub raises, without a call."""

    def __init__(
        self, code: grpc.StatusCode, details: str = "", trailing: Iterable[tuple[str, str | bytes]] = ()
    ) -> None:
        super().__init__(details)
        self._parts = code, details, tuple(trailing)

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:  # type: ignore[override]
        return self._parts[2]


def failed_with(code: grpc.StatusCode, *details: Message, message: str = "the sentence") -> CallFailed:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return CallFailed(code, message, [(DETAILS, status.SerializeToString())])


def info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="npd", metadata=metadata)


def test_every_detail_of_the_mesh_is_read() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="identity.pin", description="12 digits")
    refusal = refusal_of(
        failed_with(
            grpc.StatusCode.PERMISSION_DENIED,
            info("FIELD_NOT_GRANTED", field="phone", rule="not in the grant"),
            error_details_pb2.LocalizedMessage(locale="vi", message="Trường phone không được cấp."),
            error_details_pb2.LocalizedMessage(locale="en", message="The field phone is not granted."),
            error_details_pb2.RequestInfo(request_id="r-1"),
            error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2)),
            error_details_pb2.Help(),
            bad,
        )
    )
    assert type(refusal) is Refusal
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    assert refusal.reason == "FIELD_NOT_GRANTED"
    assert refusal.error_reason == ErrorReason.ERROR_REASON_FIELD_NOT_GRANTED
    assert refusal.metadata == {"field": "phone", "rule": "not in the grant"}
    assert [(one.field, one.description) for one in refusal.violations] == [("identity.pin", "12 digits")]
    assert refusal.retry_after == timedelta(seconds=2)
    assert refusal.request_id == "r-1"
    assert refusal.sentence("vi") == "Trường phone không được cấp."
    assert refusal.sentence() == refusal.sentence("fr") == "The field phone is not granted."
    assert str(refusal) == (
        "FIELD_NOT_GRANTED (PERMISSION_DENIED). The field phone is not granted. identity.pin: 12 digits. "
        "request id r-1."
    )


def test_a_reason_newer_than_this_library_is_kept_as_text() -> None:
    refusal = refusal_of(failed_with(grpc.StatusCode.FAILED_PRECONDITION, info("MOON_NOT_FULL")))
    assert (refusal.reason, refusal.error_reason) == ("MOON_NOT_FULL", None)
    assert refusal.sentence("vi") == "the sentence"


def test_the_request_id_of_a_fault_is_found_in_its_metadata() -> None:
    assert refusal_of(failed_with(grpc.StatusCode.INTERNAL, info("INTERNAL", request_id="r-2"))).request_id == "r-2"


def test_an_unavailable_room_that_says_why_is_not_unreachable() -> None:
    refusal = refusal_of(failed_with(grpc.StatusCode.UNAVAILABLE, info("POLICY_STALE", age_seconds="99")))
    assert not isinstance(refusal, Unreachable)
    assert refusal.reason == "POLICY_STALE"


def test_a_status_that_contradicts_its_details_is_not_believed() -> None:
    status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="other")
    status.details.add().Pack(info("AGENCY_UNKNOWN"))
    refusal = refusal_of(CallFailed(grpc.StatusCode.INTERNAL, "x", [(DETAILS, status.SerializeToString())]))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "")


@pytest.mark.parametrize("noise", [b"\xff\xff", b""])
def test_details_that_cannot_be_parsed_leave_the_code(noise: bytes) -> None:
    refusal = refusal_of(CallFailed(grpc.StatusCode.ABORTED, "said", [(DETAILS, noise)]))
    assert (refusal.code, refusal.reason, refusal.sentence()) == (grpc.StatusCode.ABORTED, "", "said")


def test_an_error_that_is_no_call_is_unknown() -> None:
    refusal = refusal_of(grpc.RpcError("bare"))
    assert (type(refusal), refusal.code) == (Refusal, grpc.StatusCode.UNKNOWN)


@pytest.mark.parametrize(
    ("details", "hint"),
    [
        ("failed to connect to all addresses; last error: UNAVAILABLE: ipv4:1.2.3.4:5: Socket closed", "handshake"),
        ("… Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.", "name"),
        ("… last error: UNKNOWN: ipv4:127.0.0.1:5: Peer name 127.0.0.1 is not in peer certificate", "name"),
        ("… SSL_ERROR_SSL: …CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK", "ca.crt"),
        ("… SSL_ERROR_SSL: …WRONG_VERSION_NUMBER: Invalid certificate verification context: OK", "speak TLS"),
        ("… Failed to connect to remote host: Connection refused", "Nothing listens"),
        ("errors resolving a.invalid:77: [field:hostname lookup error: Domain name not found]", "resolved"),
        ("DNS resolution failed for a.invalid:77: C-ares status is not ARES_SUCCESS", "resolved"),
        ("ping timeout", "stopped answering"),
        ("Cancelling all calls", "room stopped"),
        ("Socket closed", "cannot be reached"),
        ("", "cannot be reached"),
    ],
)
def test_a_failed_connection_says_what_can_be_known_from_here(
    monkeypatch: pytest.MonkeyPatch, details: str, hint: str
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    refusal = refusal_of(CallFailed(grpc.StatusCode.UNAVAILABLE, details), target="localhost:7005")
    assert isinstance(refusal, Unreachable)
    assert hint in refusal.hint
    assert refusal.hint.endswith("(localhost:7005)")
    assert refusal.sentence("vi") != refusal.hint


def test_a_proxy_that_stands_between_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    refusal = refusal_of(CallFailed(grpc.StatusCode.UNAVAILABLE, "Connection refused"))
    assert "https_proxy" in refusal.sentence()
    assert "proxy.example" not in refusal.sentence()


def test_a_deadline_leaves_the_outcome_open() -> None:
    refusal = refusal_of(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
    assert isinstance(refusal, Unreachable)
    assert "same request id" in refusal.hint
