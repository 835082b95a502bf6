"""Work beside the calls: a named thread that is started again when it fails and stops when it is told."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from tenacity import RetryCallState, Retrying, retry_if_not_exception_type, wait_exponential_jitter

from services.mesh.core.logs import describe

_RAN_WELL = 30.0

log = structlog.get_logger(__name__)


class Stopping(threading.Event):
    """Set when the room stops. Wait on it instead of sleeping."""


class Background:
    """A thread that runs `work(stopping)`; if that raises, it is run again after 0.1 s to 5 s, with jitter."""

    def __init__(self, name: str, work: Callable[[Stopping], None]) -> None:
        self.name = name
        self._work = work
        self._stopping = Stopping()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ask the work to end and wait for it, `timeout` s at most."""
        self._stopping.set()
        self._thread.join(timeout)

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    @property
    def problem(self) -> str:
        """The fault with which the work last failed, while it is being tried again; empty while it runs."""
        return self._problem

    def ask_to_stop(self) -> None:
        """Ask the work to end, without waiting for it."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            retrying = Retrying(
                retry=retry_if_not_exception_type(_RanWell),
                stop=lambda state: self._stopping.is_set(),
                wait=wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.1),
                sleep=self._pause,
                before_sleep=self._report,
                retry_error_callback=lambda state: None,
            )
            with suppress(_RanWell):
                retrying(self._attempt)
                return

    def _attempt(self) -> None:
        """Run the work once. What fails after a long good run is tried again without the pauses of earlier failures."""
        began = time.monotonic()
        problem, self._problem = self._problem, ""
        try:
            self._work(self._stopping)
        except Exception as error:
            self._problem = describe(error)[-1]
            if time.monotonic() - began < _RAN_WELL:
                raise
            log.warning("background work failed, trying again", work=self.name, fault=describe(error), before=problem)
            raise _RanWell from error

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None and not self._stopping.is_set():
            log.warning("background work failed, trying again", work=self.name, fault=describe(error))


class _RanWell(Exception):
    """The work failed, but after a run so long that its earlier failures count no more."""
