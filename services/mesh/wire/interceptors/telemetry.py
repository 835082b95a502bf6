"""Frame: one log line and one measurement per call. Names of methods, callers and reasons; never what was asked."""

import time
from collections.abc import Callable
from types import TracebackType

import structlog

from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import Internal, MeshError
from services.mesh.core.logs import describe
from services.mesh.wire.call import Call
from services.mesh.wire.metrics import CALL_SECONDS, CALLS, CALLS_BY_CODE, CLIENT_LEFT, OK

log = structlog.get_logger("npd.call")


class Telemetry:
    """Measures calls and tells `note_contact(caller, served)` about each known caller's.

    Refusals for a reason of `unlogged` are measured alone.
    """

    def __init__(self, note_contact: Callable[[Caller, bool], None], unlogged: frozenset[str] = frozenset()) -> None:
        self._note_contact = note_contact
        self._unlogged = unlogged

    def __call__(self, call: Call) -> "_TelemetryFrame":
        """The frame of one call."""
        return _TelemetryFrame(self._note_contact, self._unlogged, call)


class _TelemetryFrame:
    __slots__ = ("_call", "_is_stream", "_note_contact", "_start", "_unlogged")

    def __init__(self, note_contact: Callable[[Caller, bool], None], unlogged: frozenset[str], call: Call) -> None:
        self._note_contact, self._unlogged, self._call = note_contact, unlogged, call
        self._start = 0.0
        self._is_stream = False

    def __enter__(self) -> None:
        self._start = time.perf_counter()
        self._call.progressed = self._progressed

    def _progressed(self) -> None:
        """A stream was admitted, or delivered something: its caller is in contact, long before the stream ends."""
        self._is_stream = True
        self._contact(True)

    def _contact(self, served: bool) -> None:
        """Note a contact. A room says by itself that it lives; what a stream hands to one that hangs proves nothing."""
        caller = self._call.caller
        if caller is not None and not (self._is_stream and caller.kind is CallerKind.ROOM):
            self._note_contact(caller, served)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._call
        seconds = time.perf_counter() - self._start
        reason, code = "OK", OK
        if isinstance(error, MeshError):
            reason, code = error.reason, error.kind.value
        elif isinstance(error, Exception):
            reason, code = Internal.reason, Internal.kind.value
        elif error is not None:
            reason, code = "CLIENT_LEFT", CLIENT_LEFT
        CALLS.labels(call.method, reason).inc()
        CALLS_BY_CODE.labels(code).inc()
        CALL_SECONDS.labels(call.method).observe(seconds)
        self._contact(error is None)
        if reason in self._unlogged:
            return
        facts: dict[str, object] = {
            "request_id": call.request_id,
            "method": call.method,
            "caller": call.caller.name if call.caller else None,
            "reason": reason,
            "ms": round(seconds * 1000, 1),
        }
        if isinstance(error, MeshError) and error.__cause__ is not None:
            facts["fault"] = describe(error.__cause__)
        if reason == Internal.reason and error is not None:
            log.error("call", fault=describe(error), **facts)
        else:
            log.info("call", **facts)
