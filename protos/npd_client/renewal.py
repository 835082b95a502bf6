"""Renews a system's certificate in time and by itself: no call fails for it, and no failure of it fails a call.

The issuer tells a window; each process picks a moment in it at random. The new key is made here and never leaves. What
is sent lies on the disk before (`npd_client.pending`), so that a crash or a lost answer repeats the very request.
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
from cryptography import x509

from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.credentials import Credentials, CredentialsError, DirectoryPath, spki_of
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_client.pending import Pending, PendingMalformed, remove_pending
from npd_client.store import DirectoryBusy, DirectoryKept, DirectoryNotWritable, locked, require_replaceable
from npd_client.taking import Answer, AnswerEarly, AnswerUnfit, Taken, take

CALL_TIMEOUT = 30.0
"""Seconds that a call to the issuer may take."""

Issuer = Callable[[], RotatingChannel | None]
"""Gives the channel to the issuer; None once nobody wants renewals any more."""

_LOG = logging.getLogger(__name__)
_FOR_EVER = ("KEY_BLOCKED", "REQUEST_ID_REUSED", "STATE_NOT_ALLOWED")
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
class Window:
    """When a certificate should be renewed."""

    start_time: datetime
    end_time: datetime
    is_urgent: bool

    @classmethod
    def of(cls, wire: certificate_pb2.RenewalWindow, leaf: x509.Certificate) -> "Window":
        """Read the wire's for a certificate; an end before the start is the start.

        Whatever the issuer tells, no window goes on into the last tenth of the certificate's life.
        """
        end = leaf.not_valid_after_utc
        latest = end - (end - leaf.not_valid_before_utc) / 10
        start = min(wire.start_time.ToDatetime(tzinfo=UTC), latest)
        return cls(start, max(start, min(wire.end_time.ToDatetime(tzinfo=UTC), latest)), wire.is_urgent)

    def moment(self) -> datetime:
        """A moment in it, at random, so that not all certificates of a day are renewed in one second."""
        return self.start_time + (self.end_time - self.start_time) * _RANDOM.random()


@dataclass(frozen=True, slots=True)
class _Plan:
    """When to renew which certificate."""

    serial: int
    moment: datetime
    is_urgent: bool

    def still_fits(self, serial: int, window: Window) -> bool:
        """Whether the moment picked before stands; the window of an incident moves with the clock, its end does too."""
        return self.serial == serial and window.start_time <= self.moment <= window.end_time


class AlreadyRenewed(CredentialsError):
    """Another process has renewed the certificate meanwhile."""


class EnrolmentPending(CredentialsError):
    """The request under way in this directory is an enrolment."""


def ask_window(channel: RotatingChannel, *, timeout: float = CALL_TIMEOUT) -> Window:
    """Ask the issuer when the certificate of this channel should be renewed. Raises Refusal."""
    stub = certificate_pb2_grpc.CertificateServiceStub(channel)
    try:
        answer = stub.GetRenewalWindow(certificate_pb2.GetRenewalWindowRequest(), timeout=timeout)
    except grpc.RpcError as error:
        raise refusal_of(error, channel.credentials, channel.target) from error
    return Window.of(answer.window, channel.credentials.leaf)


def renew(
    directory: DirectoryPath,
    channel: RotatingChannel,
    *,
    only: int | None = None,
    patience: float = 10.0,
    timeout: float = CALL_TIMEOUT,
) -> Taken:
    """Renew the certificate of a directory now, and take the new one into use.

    1. One process and thread at a time; another is waited for `patience` seconds.
    2. The certificate in use is read again: if its serial number is not `only`, another process has renewed it.
    3. A request under way is sent again as it was; otherwise one is made, for a new key of the same type, and written.
       What was under way when the certificate was taken is done.
    4. The request is sent. A refusal that no repetition can mend ends the request: the next has a new key and a new id.
    5. What came back is checked, then all files are replaced at once.

    Raises Refusal (Unreachable: the same request is sent next time), AlreadyRenewed, EnrolmentPending, AnswerUnfit,
    DirectoryBusy, DirectoryKept, DirectoryNotWritable, other CredentialsError for files that cannot open a connection.
    """
    with locked(directory, patience=patience):  # (1)
        current = Credentials.from_directory(directory)
        if only is not None and current.leaf.serial_number != only:  # (2)
            raise AlreadyRenewed(f"The certificate in {directory} was renewed by another process already.")
        pending = successor_request(directory, current.leaf)  # (3)
        stub = certificate_pb2_grpc.CertificateServiceStub(channel)
        request = certificate_pb2.RenewCertificateRequest(
            request_id=pending.request_id,
            profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS,
            csr=pending.csr,
        )
        try:
            answer = stub.RenewCertificate(request, timeout=timeout)  # (4)
        except grpc.RpcError as error:
            refusal = refusal_of(error, channel.credentials, channel.target)
            if ends_request(refusal):
                remove_pending(directory)
            raise refusal from error
        told = Answer.of(answer.certificate, answer.trust_bundle)
        return take_successor(directory, pending, told, current.files.root_certificates, replaces=current.leaf)  # (5)


def successor_request(directory: DirectoryPath, leaf: x509.Certificate) -> Pending:
    """The request under way for the successor of a certificate, otherwise a new one, on the disk.

    One whose key is that of the certificate was granted and taken; only its end was cut off. Raises EnrolmentPending.
    """
    pending = Pending.read(directory)
    if pending is not None and not (pending.private_key and pending.public_key == spki_of(leaf.public_key())):
        if pending.token:
            raise EnrolmentPending(
                f"{directory} waits for the answer to an enrolment: `npd-client enrol --resume` first."
            )
        if pending.private_key:
            return pending
    remove_pending(directory)
    pending = Pending.like(leaf.public_key())
    pending.write(directory)
    return pending


def take_successor(
    directory: DirectoryPath,
    pending: Pending,
    answer: Answer,
    roots: bytes,
    *,
    replaces: x509.Certificate,
    now: datetime | None = None,
) -> Taken:
    """Take a renewed certificate into use; one that will never fit ends the request, so that the next has a new key."""
    try:
        return take(directory, pending, answer, roots, replaces=replaces, now=now)
    except AnswerEarly:
        raise
    except AnswerUnfit:
        remove_pending(directory)
        raise


def ends_request(refusal: Refusal) -> bool:
    """Whether the same request would be refused for ever: its key is blocked, it came too late for what was granted, or
    it is not a request to be granted.
    """
    if isinstance(refusal, Unreachable):
        return False
    return refusal.code is grpc.StatusCode.INVALID_ARGUMENT or refusal.reason in _FOR_EVER


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

    def renew_now(self) -> Taken:
        """Renew now, whatever the window. Raises as `renew` does."""
        channel = self._issuer()
        if channel is None:
            raise ValueError("Cannot renew by a closed client!")
        taken = renew(self._directory, channel, timeout=self._timing.call)
        self._note_taken(taken)
        return taken

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
