"""Renews a system's certificate in time and by itself: no call fails for it, and no failure of it fails a call.

The issuer tells a window; each process picks a moment in it at random.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import SystemRandom
from time import monotonic

import grpc

from npd_client.channel import RotatingChannel
from npd_client.credentials import (
    Credentials,
    CredentialsError,
    DirectoryPath,
)
from npd_client.errors import Refusal, Unreachable
from npd_client.pending import Pending, PendingMalformed
from npd_client.renewal import (
    CALL_TIMEOUT,
    AlreadyRenewed,
    Window,
    ask_window,
    renew,
)
from npd_client.store import DirectoryBusy, DirectoryKept, DirectoryNotWritable, require_replaceable
from npd_client.taking import AnswerUnfit, Taken

_LOG = logging.getLogger(__name__)
Issuer = Callable[[], RotatingChannel | None]
"""Gives the channel to the issuer; None once nobody wants renewals any more."""
_RANDOM = SystemRandom()
_REMEDIES: Mapping[str, str] = {
    "KEY_BLOCKED": "The next attempt makes another key.",
    "CERTIFICATE_UNKNOWN": "Ask the operator for an enrolment token, and run `npd-client enrol`.",
    "SYSTEM_SUSPENDED": "Ask the operator why; renewal goes on by itself once the system is resumed.",
    "CERTIFICATE_REVOKED": "Ask the operator for an enrolment token, and run `npd-client enrol`.",
    "CERTIFICATE_EXPIRED": "Ask the operator to enable it, and run `npd-client renew --expired`.",
}
_PASSING = ("RATE_EXCEEDED", "OVERLOADED", "AUTHORITY_MISSING")
_URGENT_POLL = 60.0


@dataclass(frozen=True, slots=True)
class RenewalTiming:
    """How often what is done, in seconds."""

    poll: float = 300.0
    """Between two questions for the window; at most 60 in an incident."""
    first_pause: float = 30.0
    """After a failure; doubled each time, and each time a random part of it."""
    longest_pause: float = 3600.0
    """Between two attempts, also after a refusal that only somebody else can mend."""
    call: float = CALL_TIMEOUT
    """Deadline of a call to the issuer."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """When to renew which certificate."""

    serial: int
    moment: datetime
    is_urgent: bool

    def still_fits(self, serial: int, window: Window) -> bool:
        """Whether the moment picked before stands; the window of an incident moves with the clock, its end does too."""
        return self.serial == serial and window.start_time <= self.moment <= window.end_time


class Renewer:
    """Renews the certificate of a directory in the background, in the window that the issuer tells.

    `promoted` is called after each renewal, to have channels take the new files at once. Several processes may have one
    for the same directory: whoever comes first renews, the others see it. A directory whose files another program
    brings is left to that program. Never raises into the application; each change of failure is a line in the log.
    """

    def __init__(
        self,
        directory: DirectoryPath,
        issuer: Issuer,
        *,
        promoted: Callable[[], None] = lambda: None,
        timing: RenewalTiming | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._issuer = issuer
        self._promoted = promoted
        self._timing = timing or RenewalTiming()
        self._closed = threading.Event()
        self._plan: _Plan | None = None
        self._complaint = ""
        self._failures = 0
        self._rests_until = monotonic()
        self._thread = threading.Thread(target=self._run, name="npd-client-renewal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; a request under way is repeated by whoever comes next."""
        self._closed.set()

    def join(self, seconds: float) -> None:
        """Wait for the end that `close` began."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            require_replaceable(self._directory)
        except (DirectoryKept, DirectoryNotWritable) as error:
            _LOG.warning("the certificate is not renewed from here: %s", error)
            return
        pause = 0.0
        while not self._closed.wait(pause):
            try:
                channel = self._issuer()
                if channel is None:
                    return
                pause = self._look(channel)
                del channel
            except Exception as error:
                if self._closed.is_set():
                    return
                pause = self._pause_after(error)

    def _look(self, channel: RotatingChannel) -> float:
        """Renew if it is time; say in how many seconds to look again."""
        serial = channel.credentials.leaf.serial_number
        pending = Pending.read(self._directory)
        if (pending is not None and not pending.token) or self._is_due(serial):
            self._renew(channel, serial)
            return min(1.0, self._timing.poll)
        window = ask_window(channel, timeout=self._timing.call)
        self._succeeded()
        if self._plan is None or not self._plan.still_fits(serial, window):
            self._plan = _Plan(serial, window.moment(), window.is_urgent)
            _LOG.info("the certificate %x will be renewed at %s", serial, self._plan.moment.isoformat())
        poll = min(self._timing.poll, _URGENT_POLL) if window.is_urgent else self._timing.poll
        left = (self._plan.moment - datetime.now(UTC)).total_seconds()
        if self._is_due(serial):
            return 0.0
        return min(poll * _RANDOM.uniform(0.9, 1.1), left if left > 0 else poll)

    def _is_due(self, serial: int) -> bool:
        """Whether the moment has come. A clock that is months fast must not renew without end, so renewals rest."""
        plan = self._plan
        if plan is None or plan.serial != serial or plan.moment > datetime.now(UTC):
            return False
        return plan.is_urgent or monotonic() >= self._rests_until

    def _renew(self, channel: RotatingChannel, serial: int) -> None:
        try:
            taken = renew(self._directory, channel, only=serial, patience=0.0, timeout=self._timing.call)
        except AlreadyRenewed:
            channel.reload()
            return
        self._plan = None
        self._rests_until = monotonic() + self._in_time(self._timing.longest_pause)
        self._succeeded()
        self._note_taken(taken)

    def _note_taken(self, taken: Taken) -> None:
        _LOG.info("the certificate was renewed: %s until %s", taken.serial_number, taken.expire_time.isoformat())
        self._promoted()

    def _succeeded(self) -> None:
        if self._complaint:
            _LOG.info("the issuer can be asked again")
        self._complaint, self._failures = "", 0

    def _pause_after(self, error: Exception) -> float:
        """Log a failure if it is another one than before; say how long to wait."""
        if isinstance(error, DirectoryBusy):
            return min(1.0, self._timing.poll)
        complaint = _complaint(error)
        if complaint != self._complaint and isinstance(error, Refusal | CredentialsError | OSError):
            remedy = _REMEDIES.get(error.reason, "") if isinstance(error, Refusal) else ""
            _LOG.warning("the certificate could not be renewed, what is in use stays: %s", f"{error} {remedy}".rstrip())
        elif complaint != self._complaint:
            _LOG.error("the certificate could not be renewed", exc_info=error)
        self._complaint = complaint
        if isinstance(error, PendingMalformed):
            return self._timing.longest_pause
        self._failures += 1
        pause = min(self._timing.first_pause * 2 ** min(self._failures - 1, 16), self._timing.longest_pause)
        if _is_lasting(error):
            pause = self._timing.longest_pause
        pause = _RANDOM.uniform(pause / 2, pause)
        asked = error.retry_after.total_seconds() if isinstance(error, Refusal) and error.retry_after else 0.0
        return max(min(asked, self._timing.longest_pause), pause) if asked else self._in_time(pause)

    def _in_time(self, pause: float) -> float:
        """Never wait longer than a tenth of what is left of the certificate, where leaves live shortly."""
        with suppress(CredentialsError):
            left = Credentials.from_directory(self._directory).expire_time - datetime.now(UTC)
            return max(min(pause, left / timedelta(seconds=10)), min(pause, 1.0))
        return pause


def _complaint(error: Exception) -> str:
    """What makes a failure the same as the one before; the id of a request does not."""
    if isinstance(error, Refusal):
        return f"{error.code.name} {error.reason or error.sentence()}"
    return f"{type(error).__name__} {error if isinstance(error, CredentialsError | OSError) else ''}"


def _is_lasting(error: Exception) -> bool:
    """Whether somebody else has to act before an attempt can succeed."""
    if isinstance(error, AnswerUnfit):
        return True
    if not isinstance(error, Refusal) or isinstance(error, Unreachable) or error.reason in _PASSING:
        return False
    return error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
