"""Logs: structured JSON lines on standard output, without personal data. What is logged is named one by one."""

import atexit
import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress

import structlog

_LINES_WAITING = 100_000
_WRITE_EVERY = 0.05


def configure(room: str, level: str) -> None:
    """Send all logging of the process to standard output as JSON lines that name the room."""

    def name_room(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["room"] = room
        return event

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_room,
    ]
    lines = _Lines()
    structlog.configure(
        processors=[*shared, _safe_exception, structlog.processors.JSONRenderer(ensure_ascii=False)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(ensure_ascii=False),
            foreign_pre_chain=[*shared, _safe_exception],
        )
    )
    logging.basicConfig(
        handlers=[handler], level=max(logging.WARNING, logging.getLevelNamesMapping()[level]), force=True
    )


class _Lines:
    """Writes lines twenty times a second from a thread of its own: a call neither waits for a write nor wakes a thread.

    If standard output blocks for long, the oldest lines are lost, not the calls. Errors are written at once.
    """

    def __init__(self) -> None:
        self._waiting: deque[str] = deque(maxlen=_LINES_WAITING)
        self._writing = threading.Lock()
        atexit.register(self.flush)
        threading.Thread(target=self._run, name="log-lines", daemon=True).start()

    def msg(self, line: str) -> None:
        """Take a line."""
        self._waiting.append(line)

    debug = info = warning = msg

    def error(self, line: str) -> None:
        """Take a line that may be the last."""
        self._waiting.append(line)
        self.flush()

    critical = exception = error

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if taken:
                with suppress(OSError, ValueError):  # nobody reads them, or the disk is full: the calls go on
                    sys.stdout.write("\n".join(taken) + "\n")
                    sys.stdout.flush()

    def _run(self) -> None:
        while True:
            time.sleep(_WRITE_EVERY)
            self.flush()


def _safe_exception(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Replace an exception by its types and the code lines it passed: its text may quote values of a record."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["fault"] = describe(error)
    return event


def describe(error: BaseException) -> list[str]:
    """The chain of an error, innermost first: type, and file:line of where it was raised. No text, no values."""
    chain: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 5:
        trace = seen.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else "?"
        state = getattr(getattr(seen, "orig", None) or seen, "sqlstate", None)
        chain.append(f"{type(seen).__name__} at {where}" + (f" sqlstate {state}" if state else ""))
        seen = seen.__cause__ or seen.__context__
    return chain[::-1]
