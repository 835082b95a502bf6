"""A gRPC channel whose certificate can be renewed under it: stubs bind once, calls never notice. Judges no answer.

gRPC takes credentials as fixed bytes (grpc#15735), so new files mean a new channel. This one watches the files, opens
the new connection before it lets go of the old one, and gives every call a deadline. The servers enforce TLS 1.3:
GRPC_SSL_CIPHER_SUITES would hold for the whole process and cut its owner off from peers that speak TLS 1.2.
"""

import json
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from npd_client.credentials import CredentialFiles, Credentials, CredentialsError, DirectoryPath

if TYPE_CHECKING:  # generic in the stubs of grpc alone
    _UnaryUnaryBase = grpc.UnaryUnaryMultiCallable[Any, Any]
    _UnaryStreamBase = grpc.UnaryStreamMultiCallable[Any, Any]
    _StreamUnaryBase = grpc.StreamUnaryMultiCallable[Any, Any]
    _StreamStreamBase = grpc.StreamStreamMultiCallable[Any, Any]
else:
    _UnaryUnaryBase, _UnaryStreamBase = grpc.UnaryUnaryMultiCallable, grpc.UnaryStreamMultiCallable
    _StreamUnaryBase, _StreamStreamBase = grpc.StreamUnaryMultiCallable, grpc.StreamStreamMultiCallable

ChannelOption: TypeAlias = tuple[str, Any]
Watcher: TypeAlias = Callable[[grpc.ChannelConnectivity], None]

READS: Mapping[str, tuple[str, ...]] = {
    "npd.civil_status.v1.CivilStatusService": ("GetCivilStatus",),
    "npd.common.v1.ApprovalService": ("ListApprovals",),
    "npd.common.v1.ChainService": ("ListLinks",),
    "npd.common.v1.EvidenceService": ("GetCheckpoint", "GetInclusionProof", "GetConsistencyProof"),
    "npd.common.v1.RelayService": ("ListSetAside",),
    "npd.identity.v1.CardService": ("GetCards",),
    "npd.issuer.v1.AuthorityService": ("ListAuthorities",),
    "npd.issuer.v1.CertificateService": (
        "GetApplication",
        "GetCertificate",
        "GetRenewalWindow",
        "ListApplications",
        "ListCertificates",
        "ReportExpiring",
    ),
    "npd.issuer.v1.DoorService": ("Diagnose", "GetApplicationStatus", "GetRevocationList"),
    "npd.issuer.v1.EnrolmentService": ("ListEnrolments",),
    "npd.registry.v1.AgencyService": ("ListAgencies",),
    "npd.registry.v1.AgreementService": ("ListAgreements",),
    "npd.registry.v1.DirectoryService": ("ListConnections",),
    "npd.registry.v1.RightsService": ("WhoAmI", "DescribeRights"),
    "npd.registry.v1.SystemService": ("ListSystems",),
    "npd.residence.v1.ResidenceService": ("GetResidence",),
    "npd.sharing.v1.ChangeService": ("PullChanges",),
    "npd.sharing.v1.LookupService": ("GetCitizen",),
    "npd.sharing.v1.UsageService": ("FindUsage",),
    "npd.sharing.v1.VerificationService": ("VerifyCitizen",),
}
"""Methods that change nothing, which the channel itself repeats when a connection fails. Never wrap them in retries of
your own: the two multiply. Writes are repeated by their caller, who has the request id; streams resume by cursor."""

OPTIONS: Sequence[ChannelOption] = (
    # A dead peer is noticed in 8 seconds while a call waits; without ping_timeout it takes 25 to 40 (grpcio 1.85).
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Core's ceiling between two attempts to connect is 120 s.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Core asks the name server at most every 30 s: two replicas replaced within that time would be all that it knows.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)

_LOG = logging.getLogger(__name__)
LOOPBACK = ("localhost:", "127.", "[::1]:", "ipv4:127.", "ipv6:[::1]", "dns:///localhost:", "unix:")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a channel waits for what, in seconds."""

    poll: float = 5.0
    """Between two looks at the files."""
    ready: float = 10.0
    """For the connection with new credentials; when it does not come, the old ones stay in use."""
    drain: float = 300.0
    """For the last calls on old credentials; longer than a Watch lives."""
    unary: float = 30.0
    """Deadline of a call with one answer that states none."""
    stream: float = 300.0
    """Deadline of a stream that states none; the mesh ends a Watch within 240 s."""


class NotReady(CredentialsError):
    """The new files are in order, but no connection came about with them; the old ones stay in use."""


def service_config(target: str, reads: Mapping[str, Iterable[str]] = READS) -> str:
    """What gRPC shall repeat and how it shall choose among addresses, as JSON.

    A target `dns:///name:port` says that the name stands for several replicas (a headless Service of Kubernetes), and
    `ipv4:a:port,b:port` lists them: then calls go round, past replicas whose health says NOT_SERVING. Any other target
    stands for one server, where going round gains nothing, and each connection's health watch would cost the server a
    stream slot. The scheme decides, not today's number of addresses, because replicas come and go.
    """
    names = [{"service": service, "method": method} for service, methods in reads.items() for method in methods]
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config: dict[str, Any] = {
        "methodConfig": [{"name": names, "retryPolicy": retry}],
        # Half of it is how many calls may fail at once and still be repeated: those that a lost replica held.
        "retryThrottling": {"maxTokens": 200, "tokenRatio": 0.1},
    }
    if target.startswith("dns:///") or "," in target:
        config |= {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    return json.dumps(config)


class RotatingChannel(grpc.Channel):
    """A channel to one room, for any stub, with the credentials of a directory as they are at each moment.

    `roots_file` is the file of the roots if it is not `ca.crt` in the directory, and is followed like the others.
    `options` are gRPC channel options that replace or join OPTIONS. Rooms use this class to call each other.
    Raises CredentialsError if the files cannot open a connection. Close it, or use it as a context.
    """

    def __init__(
        self,
        target: str,
        directory: DirectoryPath,
        *,
        roots_file: DirectoryPath | None = None,
        options: Iterable[ChannelOption] = (),
        timing: Timing | None = None,
        reads: Mapping[str, Iterable[str]] = READS,
    ) -> None:
        self.target = target
        self.timing = timing or Timing()
        self._directory, self._roots_file = directory, roots_file
        direct = [("grpc.enable_http_proxy", 0)] if target.startswith(LOOPBACK) else []
        configured = [("grpc.service_config", service_config(target, reads)), *direct]
        self._options = list(dict([*OPTIONS, *configured, *options]).items())
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._closed = threading.Event()
        self._subscriptions: dict[Watcher, bool] = {}
        self._retired: list[_Slot] = []
        self._complaint = ""
        self._current = self._open(Credentials.from_directory(directory, roots_file=roots_file))
        arguments = (weakref.ref(self), self._closed, self.timing.poll)
        threading.Thread(target=_poll, args=arguments, name="npd-client-credentials", daemon=True).start()

    @property
    def credentials(self) -> Credentials:
        """The credentials of calls that begin now."""
        return self._current.credentials

    def reload(self) -> bool:
        """Look at the files now; say whether calls that begin from here on use other credentials than before.

        1. Files whose bytes are those in use change nothing.
        2. Files that do not stand up to every check (half-written ones, too) change nothing.
        3. A second channel opens with the new credentials. Unless it is ready in time nothing changes; only if the
           certificate in use has expired there is nothing to lose, and it is taken as it is.
        4. From one call to the next, the new channel is taken; calls on the old one go on.
        5. The old one is closed when its last call has ended, or at the drain deadline.

        Called by itself every few seconds. Raises CredentialsError (2), NotReady (3); what was in use stays in use.
        """
        with self._reloading:
            self._close_drained()
            files = CredentialFiles.read(self._directory, self._roots_file)
            if files.digest == self.credentials.digest or self._closed.is_set():  # (1)
                return False
            fresh = self._open(Credentials.of(files))  # (2)
            if not _has_expired(self.credentials) and not _is_ready(fresh.channel, self.timing.ready):  # (3)
                fresh.channel.close()
                raise NotReady(
                    f"No connection to {self.target} came about with the new files in {self._directory}, so the old "
                    "ones stay in use. If the server is up, it may not trust their CA yet."
                )
            if not self._take_over(fresh):  # (4)
                return False
            _LOG.info("new credentials in use, valid until %s", fresh.credentials.expire_time.isoformat())
            self._close_drained()  # (5)
            return True

    def look(self) -> None:
        """Look at the files as `reload` does; a complaint goes to the log once, not at every look."""
        try:
            self.reload()
            complaint = ""
        except CredentialsError as error:
            complaint = f"{error} (The credentials in use are valid until {self.credentials.expire_time.isoformat()}.)"
        if complaint and complaint != self._complaint:
            _LOG.warning("%s", complaint)
        self._complaint = complaint

    def close(self) -> None:
        """Close every connection; calls in flight end as CANCELLED."""
        with self._lock:
            self._closed.set()
            slots, self._retired = [*self._retired, self._current], []
        for slot in slots:
            slot.channel.close()

    def subscribe(self, callback: Watcher, try_to_connect: bool = False) -> None:
        """Report the state of the connection, now and whenever it changes, across rotations."""
        with self._lock:
            self._subscriptions[callback] = try_to_connect
            self._current.channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Watcher) -> None:
        """End the reports to a callback."""
        with self._lock:
            self._subscriptions.pop(callback, None)
            self._current.channel.unsubscribe(callback)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> "_UnaryUnary":
        """A callable for stubs: one request, one answer."""
        return _UnaryUnary(self, partial(_bind, "unary_unary", (method, *args), kwargs), self.timing.unary)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> "_UnaryStream":
        """A callable for stubs: one request, a stream of answers."""
        return _UnaryStream(self, partial(_bind, "unary_stream", (method, *args), kwargs), self.timing.stream)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> "_StreamUnary":
        """A callable for stubs: a stream of requests, one answer."""
        return _StreamUnary(self, partial(_bind, "stream_unary", (method, *args), kwargs), self.timing.unary)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> "_StreamStream":
        """A callable for stubs: streams both ways."""
        return _StreamStream(self, partial(_bind, "stream_stream", (method, *args), kwargs), self.timing.stream)

    def __enter__(self) -> "RotatingChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self) -> "_Slot":
        """Take the current slot for one call, which `_leave` ends. For the callables below."""
        with self._lock:
            if self._closed.is_set():
                raise ValueError("Cannot invoke RPC on closed channel!")
            self._current.calls += 1
            return self._current

    def _leave(self, slot: "_Slot") -> None:
        """End a call that `_enter` began."""
        with self._lock:
            slot.calls -= 1

    def _open(self, credentials: Credentials) -> "_Slot":
        files = credentials.files
        pem = grpc.ssl_channel_credentials(files.root_certificates, files.private_key, files.certificate_chain)
        return _Slot(grpc.secure_channel(self.target, pem, options=self._options), credentials)

    def _take_over(self, fresh: "_Slot") -> bool:
        with self._lock:
            if not self._closed.is_set():
                old, self._current = self._current, fresh
                old.close_by = monotonic() + self.timing.drain
                self._retired.append(old)
                for callback, try_to_connect in self._subscriptions.items():
                    old.channel.unsubscribe(callback)
                    fresh.channel.subscribe(callback, try_to_connect)
                return True
        fresh.channel.close()
        return False

    def _close_drained(self) -> None:
        now = monotonic()
        with self._lock:
            drained = [slot for slot in self._retired if not slot.calls or slot.close_by <= now]
            self._retired = [slot for slot in self._retired if slot not in drained]
        for slot in drained:
            slot.channel.close()


class _Slot:
    """A channel with fixed credentials, and how many calls are on it (guarded by its owner's lock)."""

    __slots__ = ("calls", "channel", "close_by", "credentials")

    def __init__(self, channel: grpc.Channel, credentials: Credentials) -> None:
        self.channel, self.credentials = channel, credentials
        self.calls, self.close_by = 0, 0.0


class _Callable:
    """One method: bound to the slot that it last used, so that a call costs a comparison and two short locks more."""

    def __init__(self, channel: RotatingChannel, bind: Callable[[grpc.Channel], Any], default_timeout: float) -> None:
        self._channel, self._bind, self._default_timeout = channel, bind, default_timeout
        self._bound: tuple[_Slot | None, Any] = (None, None)

    def _blocking(self, verb: str, request: Any, timeout: float | None, args: Any, kwargs: Any) -> Any:
        slot = self._channel._enter()
        try:
            call = getattr(self._on(slot), verb)
            return call(request, self._default_timeout if timeout is None else timeout, *args, **kwargs)
        finally:
            self._channel._leave(slot)

    def _lasting(self, verb: str, request: Any, timeout: float | None, args: Any, kwargs: Any) -> Any:
        """Begin a call that goes on after the return: it leaves the slot when it ends."""
        slot = self._channel._enter()
        leave = partial(self._channel._leave, slot)
        try:
            begin = getattr(self._on(slot), verb)
            call = begin(request, self._default_timeout if timeout is None else timeout, *args, **kwargs)
        except BaseException:
            leave()
            raise
        if not call.add_callback(leave):
            leave()
        return call

    def _on(self, slot: _Slot) -> Any:
        bound_to, bound = self._bound
        if bound_to is not slot:
            bound = self._bind(slot.channel)
            self._bound = (slot, bound)
        return bound


class _UnaryUnary(_Callable, _UnaryUnaryBase):
    def __call__(self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._blocking("__call__", request, timeout, args, kwargs)

    def with_call(self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._blocking("with_call", request, timeout, args, kwargs)

    def future(self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._lasting("future", request, timeout, args, kwargs)


class _StreamUnary(_Callable, _StreamUnaryBase):
    def __call__(self, request_iterator: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._blocking("__call__", request_iterator, timeout, args, kwargs)

    def with_call(self, request_iterator: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._blocking("with_call", request_iterator, timeout, args, kwargs)

    def future(self, request_iterator: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._lasting("future", request_iterator, timeout, args, kwargs)


class _UnaryStream(_Callable, _UnaryStreamBase):
    def __call__(self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._lasting("__call__", request, timeout, args, kwargs)


class _StreamStream(_Callable, _StreamStreamBase):
    def __call__(self, request_iterator: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._lasting("__call__", request_iterator, timeout, args, kwargs)


def _bind(kind: str, args: Sequence[Any], kwargs: Mapping[str, Any], channel: grpc.Channel) -> Any:
    return getattr(channel, kind)(*args, **kwargs)


def _poll(reference: "weakref.ref[RotatingChannel]", closed: threading.Event, seconds: float) -> None:
    """Look at the files until the channel is closed, or forgotten without being closed."""
    while not closed.wait(seconds):
        channel = reference()
        if channel is None:
            return
        try:
            channel.look()
        except Exception:
            _LOG.exception("the credentials could not be looked at")
        del channel


def _is_ready(channel: grpc.Channel, seconds: float) -> bool:
    ready = grpc.channel_ready_future(channel)
    try:
        ready.result(timeout=seconds)
    except grpc.FutureTimeoutError:
        ready.cancel()
        return False
    return True


def _has_expired(credentials: Credentials) -> bool:
    return datetime.now(UTC) > credentials.expire_time
