"""Frame, the outermost: the only one that aborts. Records a known caller's refusal, then turns it into a status."""

from collections.abc import Callable
from types import TracebackType

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.mesh.core.caller import Caller
from services.mesh.core.errors import Internal, Kind, MeshError
from services.mesh.core.messages import LANGUAGES, sentence
from services.mesh.core.rights import Access
from services.mesh.wire.call import Call

DOMAIN = "npd"
# Faults of the mesh itself are logged, not recorded: they refuse nobody anything.
_FAULTS = {Kind.INTERNAL, Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED}

RecordRefusal = Callable[[Caller, str, MeshError, Access | None], None]


class Errors:
    """Turns what a call raises into a typed status. `record` writes a refusal in a transaction of its own."""

    def __init__(self, record: RecordRefusal) -> None:
        self._record = record

    def __call__(self, call: Call) -> "_ErrorsFrame":
        """The frame of one call."""
        return _ErrorsFrame(self._record, call)


class _ErrorsFrame:
    __slots__ = ("_call", "_record")

    def __init__(self, record: RecordRefusal, call: Call) -> None:
        self._record, self._call = record, call

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception):
            return
        refusal = error if isinstance(error, MeshError) else Internal(request_id=self._call.request_id)
        if self._call.caller is not None and refusal.kind not in _FAULTS:
            self._record(self._call.caller, self._call.method, refusal, self._call.stated_access)
        self._call.context.abort_with_status(rpc_status.to_status(status_of(refusal, self._call.request_id)))


def status_of(error: MeshError, request_id: str) -> status_pb2.Status:
    """The status of a refusal: ErrorInfo, LocalizedMessages, and BadRequest and RetryInfo where they apply."""
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.kind.value), message=sentence(error, request_id=request_id)
    )
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    details += [
        error_details_pb2.LocalizedMessage(locale=language, message=sentence(error, language, request_id=request_id))
        for language in LANGUAGES
    ]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
        details.append(bad)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(error.retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        status.details.add().Pack(detail)
    return status
