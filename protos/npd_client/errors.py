"""Refusals: what the mesh answers instead of an answer, as one exception with the reason, and what to do next.

Nothing here repeats a request, so no refusal carries personal data.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from npd.common.v1.error_reason_pb2 import ErrorReason
from npd_client.credentials import Credentials, CredentialsError

_REASON_PREFIX = "ERROR_REASON_"
_REQUEST_ID_KEYS = ("npd-request-id", "x-request-id")
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request and how it must look."""

    field: str
    description: str


class Refusal(Exception):
    """A call that was refused.

    `reason` is a name of `npd.common.v1.ErrorReason` without its prefix, empty if the server gave none; `metadata` is
    what the reason's comment in the contract names; `messages` is the sentence by locale ("en", "vi"), which also says
    what to do next; `retry_after` when to try again, if the server said so; `request_id` what to quote to the operator.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: timedelta | None = None,
        messages: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.messages = dict(messages or {})
        self.request_id = request_id
        super().__init__(reason or code.name)

    @property
    def error_reason(self) -> "ErrorReason.ValueType | None":
        """The reason as the contract's enum; None if there is none, or if it is newer than this library."""
        name = _REASON_PREFIX + self.reason
        return ErrorReason.Value(name) if self.reason and name in ErrorReason.keys() else None  # noqa: SIM118 (no dict)

    def sentence(self, language: str = "en") -> str:
        """What is wrong and what to do next, in that language if the server speaks it, otherwise in English."""
        for wanted in (language, "en"):
            for locale, text in self.messages.items():
                if locale.partition("-")[0].lower() == wanted:
                    return text
        return next(iter(self.messages.values()), "")

    def __str__(self) -> str:
        facts = [f"{self.reason} ({self.code.name})" if self.reason else self.code.name, self.sentence()]
        facts += [f"{violation.field}: {violation.description}" for violation in self.violations]
        facts += [f"request id {self.request_id}"] if self.request_id else []
        return ". ".join(fact.rstrip(".") for fact in facts if fact) + "."


class Unreachable(Refusal):
    """No answer of the mesh: the connection failed or no answer came in time. A write may have been done all the same.

    Repeat a write with the same request id; it is never done twice.
    """

    @property
    def hint(self) -> str:
        """What can be told from here: the own certificate, and what gRPC says of the connection."""
        return self.sentence()


def refusal_of(error: grpc.RpcError, credentials: Credentials | None = None, target: str = "") -> Refusal:
    """Turn the error of a call into a Refusal; never raises.

    With the credentials and the target that the call used, an Unreachable can say more.
    """
    code = error.code() if callable(getattr(error, "code", None)) else grpc.StatusCode.UNKNOWN
    status = _status_of(error)
    if status is None and code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        hint = _hint_for(code, _details_of(error), credentials)
        at = f" ({target})" if target else ""
        return Unreachable(code, messages={"en": hint.english + at, "vi": hint.vietnamese + at})
    if status is None:
        return Refusal(code, messages={"en": _details_of(error)}, request_id=_request_id_of(error))
    return _parse(code, status, _request_id_of(error))


def _parse(code: grpc.StatusCode, status: status_pb2.Status, request_id: str) -> Refusal:
    """Read google.rpc.Status: the five details that the mesh sends; others are passed over."""
    refusal = Refusal(code, request_id=request_id)
    localized, violations = error_details_pb2.LocalizedMessage(), error_details_pb2.BadRequest()
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    request = error_details_pb2.RequestInfo()
    try:
        for detail in status.details:
            if detail.Unpack(info):
                refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(localized):
                refusal.messages[localized.locale] = localized.message
            elif detail.Unpack(violations):
                refusal.violations += tuple(
                    FieldViolation(one.field, one.description) for one in violations.field_violations
                )
            elif detail.Unpack(retry):
                refusal.retry_after = retry.retry_delay.ToTimedelta()
            elif detail.Unpack(request):
                refusal.request_id = request.request_id
    except DecodeError:
        pass  # what was read so far stands; a detail that cannot be parsed adds nothing
    refusal.messages = refusal.messages or {"en": status.message}
    refusal.request_id = refusal.request_id or refusal.metadata.get("request_id", "")
    return refusal


def _status_of(error: grpc.RpcError) -> status_pb2.Status | None:
    from_call: Callable[[grpc.RpcError], status_pb2.Status | None] = rpc_status.from_call
    try:
        return from_call(error)
    except (AttributeError, ValueError, DecodeError):  # not a call; or details that contradict the status: not believed
        return None


def _details_of(error: grpc.RpcError) -> str:
    details = error.details() if callable(getattr(error, "details", None)) else None
    return details or ""


def _request_id_of(error: grpc.RpcError) -> str:
    trailing: Any = error.trailing_metadata() if callable(getattr(error, "trailing_metadata", None)) else None
    for key, value in trailing or ():
        if key in _REQUEST_ID_KEYS and isinstance(value, str):
            return value
    return ""


@dataclass(frozen=True, slots=True)
class _Hint:
    """What a text of gRPC (of grpcio 1.76 and of 1.85) means; one that no pattern knows does no harm."""

    pattern: str
    english: str
    vietnamese: str


_SILENT = _Hint(
    "",
    "No answer came in time. Try again with a longer deadline; a write may have been done, so repeat it with the same "
    "request id",
    "Không có trả lời đúng hạn. Hãy thử lại với thời hạn dài hơn; lệnh ghi có thể đã được thực hiện, "
    "nên hãy dùng cùng mã yêu cầu",
)
_UNKNOWN = _Hint(
    "",
    "The room cannot be reached. Check the address and the network, and try again",
    "Không kết nối được dịch vụ. Hãy kiểm tra địa chỉ và mạng rồi thử lại",
)
_HINTS = (
    _Hint(
        "Hostname Verification Check failed|is not in peer certificate",
        "The server's certificate does not name the host that you dialled. Dial the name that the operator published, "
        "not an IP address or an alias",
        "Chứng thư của máy chủ không có tên máy đã gọi. Hãy gọi đúng tên do đơn vị vận hành công bố, "
        "không dùng địa chỉ IP hay tên khác",
    ),
    _Hint(
        "CERTIFICATE_VERIFY_FAILED",
        "Your ca.crt does not vouch for the server's certificate: one of them is of another environment or out of "
        "date. Take the ca.crt that came with your certificate, and check this computer's clock",
        "ca.crt của bạn không xác nhận chứng thư của máy chủ: khác môi trường hoặc đã cũ. "
        "Hãy dùng ca.crt được cấp cùng chứng thư và kiểm tra đồng hồ",
    ),
    _Hint(
        "WRONG_VERSION_NUMBER",
        "What listens at the address does not speak TLS. Check the port",
        "Cổng này không dùng TLS. Hãy kiểm tra cổng",
    ),
    _Hint(
        "Connection refused",
        "Nothing listens at the address that was tried last. Check the address, and whether the room is running; where "
        "a name has several addresses, another may have been tried before and not have accepted your certificate",
        "Không có dịch vụ nào ở địa chỉ gọi sau cùng. Hãy kiểm tra địa chỉ và dịch vụ; nếu tên máy có nhiều địa chỉ, "
        "có thể một địa chỉ khác đã không chấp nhận chứng thư của bạn",
    ),
    _Hint(
        "errors resolving|DNS resolution failed|Domain name not found",
        "The host name cannot be resolved. Check its spelling and the name server",
        "Không phân giải được tên máy. Hãy kiểm tra tên và máy chủ DNS",
    ),
    _Hint(
        "failed to connect.*(Socket closed|[Cc]onnection reset|Broken pipe)",
        "The server closed the connection during the handshake without saying why: it did not accept your certificate. "
        "As far as can be seen here the certificate is in order, so the server does not trust its CA (another "
        "environment, or a CA that was withdrawn), or the two clocks differ. Ask the operator which CA the room trusts",
        "Máy chủ ngắt kết nối khi bắt tay mà không nêu lý do: nó không chấp nhận chứng thư của bạn. "
        "Từ đây không thấy lỗi ở chứng thư, nên máy chủ không tin CA cấp (khác môi trường hoặc CA đã bị thu hồi) "
        "hoặc đồng hồ hai bên lệch nhau. Hãy hỏi đơn vị vận hành dịch vụ tin CA nào",
    ),
    _Hint(
        "ping timeout|keepalive watchdog timeout",
        "The server stopped answering on an open connection: it hangs, or the network path is cut. Try again",
        "Máy chủ không còn trả lời trên kết nối đang mở: máy chủ treo hoặc mạng đứt. Hãy thử lại",
    ),
    _Hint(
        "unhealthy",
        "Every replica says that it is not serving. Try again in a moment",
        "Mọi máy chủ đều báo chưa sẵn sàng. Hãy thử lại sau",
    ),
    _Hint(
        "Cancelling all calls",
        "The room stopped while the call was open. Try again; repeat a write with the same request id",
        "Dịch vụ dừng khi đang xử lý. Hãy thử lại; ghi lại phải dùng cùng mã yêu cầu",
    ),
)


def _hint_for(code: grpc.StatusCode, details: str, credentials: Credentials | None) -> _Hint:
    """First what is wrong here: a certificate that expired while the program ran explains every closed connection."""
    if credentials is not None:
        try:
            credentials.require_valid_at(datetime.now(UTC))
        except CredentialsError as error:
            return _Hint("", str(error).rstrip("."), str(error).rstrip("."))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _SILENT
    known = next((hint for hint in _HINTS if re.search(hint.pattern, details)), _UNKNOWN)
    proxy = next((name for name in _PROXY_VARIABLES if os.environ.get(name)), "")
    if not proxy:
        return known
    return _Hint(
        known.pattern,
        f"{known.english}. Calls go through the proxy of the variable {proxy}; set no_proxy if they should not",
        f"{known.vietnamese}. Kết nối đi qua proxy của biến {proxy}; đặt no_proxy nếu không cần",
    )
