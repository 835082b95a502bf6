"""Work beside the calls: a named thread that is started again when it fails and stops when it is told."""

import threading
from collections.abc import Callable

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

log = structlog.get_logger(__name__)


class Stopping(threading.Event):
    """Set when the room stops. Wait on it instead of sleeping."""


class Background:
    """A thread that runs `work(stopping)`; if that raises, it is run again after 0.1 s to 5 s, with jitter."""

    def __init__(self, name: str, work: Callable[[Stopping], None]) -> None:
        self.name = name
        self._work = work
        self._stopping = Stopping()
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

    def _run(self) -> None:
        retrying = Retrying(
            retry=retry_if_exception_type(Exception),
            stop=lambda state: self._stopping.is_set(),
            wait=wait_exponential_jitter(multiplier=0.1, max=5.0),
            sleep=self._pause,
            before_sleep=self._report,
            retry_error_callback=lambda state: None,
        )
        retrying(self._work, self._stopping)

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("background work failed, trying again", work=self.name, error=type(error).__name__)
