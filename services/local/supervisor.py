"""Keeps the processes of a local mesh running: starts them, restarts what dies, stops in reverse. Knows no room."""

import http.client
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Final, Self
from urllib.parse import urlsplit

from services.local.errors import ChildNotReady, ChildUnknown
from services.local.leash import Leashed

_PROBE_TIMEOUT: Final = 1.0
_FIRST_PROBE_PAUSE: Final = 0.05
_LONGEST_PROBE_PAUSE: Final = 0.5
_JOIN_MARGIN: Final = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run, and how to see that it is ready.

    `ready` is asked from a thread of the supervisor and must answer within seconds; a string is an address such as
    http://127.0.0.1:8080/readyz that answers 200 when ready. `env` is all that the child gets besides a minimal base
    (`leash.base_environment`). `before` runs before each start; what it raises counts as a failed start.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool] | str
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    before: Callable[[], None] | None = None

    def is_ready(self) -> bool:
        """Whether the child says of itself that it is ready."""
        return answers_ok(self.ready) if isinstance(self.ready, str) else self.ready()


class ChildState(StrEnum):
    """Where a child is in its life."""

    WAITING = "waiting"  # not started yet
    STARTING = "starting"
    READY = "ready"
    PAUSING = "pausing"  # it died; it will be started again after a pause
    FAILED = "failed"  # it died before it was ready for the first time: it is not started again
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """A child at one moment, for display."""

    name: str
    pid: int | None
    state: ChildState
    restarts: int


Progress = Callable[[ChildStatus], None]
"""Told of each change of a child's state, from whichever thread sees it."""


def answers_ok(url: str) -> bool:
    """Whether a plain HTTP address answers 200 within a second. Follows no proxy: the address is on this machine."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=_PROBE_TIMEOUT)
    try:
        connection.request("GET", address.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def orderly_exit() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the main thread as Ctrl-C does, so that each `with` stops what it started.

    A signal that somebody already catches or ignores (nohup) is left alone. Main thread only.
    """

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    default = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in default:
        signal.signal(each, leave)
    try:
        yield
    finally:
        for each in default:
            signal.signal(each, signal.SIG_DFL)


@dataclass(slots=True)
class BackOff:
    """Seconds to pause before the next start of a child that keeps dying: they double; a healthy life forgets them."""

    first: float = 0.2
    longest: float = 5.0
    healthy_after: float = 30.0
    _next: float = 0.0

    def pause(self, ready_for: float) -> float:
        """Return the pause after a life in which the child was ready for so long."""
        due = self.first if ready_for >= self.healthy_after else max(self._next, self.first)
        self._next = min(due * 2, self.longest)
        return due


class _Child:
    """One child and the thread that starts it, again and again."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._progress: Progress = _tell_nobody
        self._process: Leashed | None = None
        self._state = ChildState.WAITING
        self._fault = ""
        self._restarts = 0
        self._changed, self._stopping = threading.Condition(), threading.Event()
        self._runner = threading.Thread(target=self._run, name=f"run-{spec.name}", daemon=True)

    def status(self) -> ChildStatus:
        with self._changed:
            alive = self._process is not None and self._process.exit_code is None
            pid = self._process.pid if alive and self._process else None
            state = ChildState.PAUSING if self._state is ChildState.READY and not alive else self._state
            return ChildStatus(self.spec.name, pid, state, self._restarts)

    def begin(self, progress: Progress) -> None:
        self._progress = progress
        self._runner.start()

    def wait_ready(self, seconds: float) -> None:
        ends = {ChildState.READY, ChildState.FAILED, ChildState.STOPPED}
        with self._changed:
            self._changed.wait_for(lambda: self.status().state in ends, timeout=seconds)
            if self.status().state is not ChildState.READY:
                raise ChildNotReady(self._why_not(seconds))

    def signal(self, number: signal.Signals) -> int | None:
        process = self._process
        if process is None or not process.send(number):
            return None
        if number is signal.SIGKILL:
            process.wait(_JOIN_MARGIN)  # so that who waits for readiness next does not meet the dead
        return process.pid

    def stop(self) -> None:
        with self._changed:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.stop()
        if self._runner.is_alive():
            self._runner.join(_JOIN_MARGIN)

    def _run(self) -> None:
        back_off = BackOff()
        while not self._stopping.is_set():
            ready_since = self._live_once()
            if self._stopping.is_set():
                break
            if ready_since is None and self._restarts == 0:
                self._enter(ChildState.FAILED)
                return
            self._enter(ChildState.PAUSING)
            self._stopping.wait(back_off.pause(time.monotonic() - ready_since if ready_since is not None else 0.0))
            with self._changed:
                self._restarts += 1
        self._enter(ChildState.STOPPED)

    def _live_once(self) -> float | None:
        """Start the child and wait for its end; return when it became ready, if it did."""
        try:
            process = self._launch()
        except Exception as fault:  # this thread is the last that could see it
            self._fault = f"{type(fault).__name__}: {fault}"
            return None
        if process is None:
            return None
        pause, ready_since = _FIRST_PROBE_PAUSE, None
        while process.wait(pause) is None:
            if self._says_ready():
                ready_since = time.monotonic()
                self._enter(ChildState.READY)
                process.wait(None)
                break
            pause = min(pause * 1.5, _LONGEST_PROBE_PAUSE)
        return ready_since

    def _says_ready(self) -> bool:
        try:
            return self.spec.is_ready()
        except Exception:
            _log.debug("asking %s whether it is ready failed", self.spec.name, exc_info=True)
            return False

    def _launch(self) -> Leashed | None:
        if self.spec.before is not None:
            self.spec.before()
        with self._changed:
            if self._stopping.is_set():
                return None
            plan = ((self.spec.stop_signal, self.spec.grace),)
            self._process = Leashed(self.spec.argv, env=self.spec.env, log=self.spec.log, stop_plan=plan)
        self._enter(ChildState.STARTING)
        return self._process

    def _enter(self, state: ChildState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
        try:
            self._progress(self.status())
        except Exception:
            _log.exception("the display of a child's state failed")  # supervision goes on

    def _why_not(self, seconds: float) -> str:
        if self._process is None:
            return f"{self.spec.name} could not be started: {self._fault or 'it is still being prepared'}"
        code = self._process.exit_code
        what = f"did not become ready in {seconds:g} s" if code is None else f"ended with exit code {code}"
        return (
            f"{self.spec.name} {what}. The end of {self.spec.log}:\n{self._process.log_tail() or '(it wrote nothing)'}"
        )


class Supervisor:
    """The children of one mesh. Methods may be called from any thread.

    As a context manager it stops them all at the end; with `orderly_exit` around it, after SIGTERM too. Should we die
    without that, their leashes end them.
    """

    def __init__(self, specs: Iterable[ChildSpec]) -> None:
        self._children = {spec.name: _Child(spec) for spec in specs}

    def start(self, *, seconds: float = 60.0, progress: Progress | None = None) -> None:
        """Start the first child, and when it is ready all others at once; return when they are ready. Once only.

        `seconds` is the time that each has. Raises ChildNotReady, after stopping them all: no half of a mesh remains.
        """
        first, *others = self._children.values()
        try:
            for together in ([first], others):
                for child in together:
                    child.begin(progress or _tell_nobody)
                for child in together:
                    child.wait_ready(seconds)
        except BaseException:
            self.stop_all()
            raise

    def wait_ready(self, name: str, seconds: float = 30.0) -> None:
        """Wait until a child is ready, for instance after `kill`. Raises ChildNotReady."""
        self._child(name).wait_ready(seconds)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Send a signal to a child and return its process id, None if it was not running; it will be started again."""
        return self._child(name).signal(number)

    def stop(self, name: str) -> None:
        """Stop a child; it is not started again by itself."""
        self._child(name).stop()

    def begin_again(self, name: str) -> None:
        """Start a child anew that was stopped."""
        child = self._children[name] = _Child(self._child(name).spec)
        child.begin(_tell_nobody)

    def statuses(self) -> tuple[ChildStatus, ...]:
        """The children in the order of their start."""
        return tuple(child.status() for child in self._children.values())

    def stop_all(self) -> None:
        """Stop the children in reverse order: stop signal, grace, SIGKILL. May be repeated."""
        for child in reversed(self._children.values()):
            child.stop()

    def _child(self, name: str) -> _Child:
        if name not in self._children:
            raise ChildUnknown(f"{name} is none of {', '.join(self._children)}")
        return self._children[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()


def _tell_nobody(_: ChildStatus) -> None:
    """The default progress."""
