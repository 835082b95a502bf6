"""Open streams: their slots, what wakes them, and the end of one whose caller may no longer have it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from services.mesh.core.background import Stopping
from services.mesh.core.clock import Clock
from services.mesh.core.errors import Kind, MeshError
from services.mesh.wire.call import Call
from services.mesh.wire.metrics import STREAMS_CUT, STREAMS_OPEN

_UNREAD_AFTER = 1.0


class StreamSlotsTaken(MeshError):
    """All stream slots of this replica are taken."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "STREAM_SLOTS_TAKEN"
    retry_after = timedelta(seconds=5)


class RoomStopping(MeshError):
    """The room is stopping."""

    kind, reason = Kind.UNAVAILABLE, "ROOM_STOPPING"
    retry_after = timedelta(seconds=1)


class Stream:
    """One open stream, as its handler sees it: it waits, is woken, and looks whether it may go on."""

    def __init__(self, streams: "Streams", call: Call, standing: Callable[[], object]) -> None:
        self._streams = streams
        self._call = call
        self._standing = standing
        self._woken = threading.Event()
        self._busy_since: float | None = time.monotonic()
        self._end = time.monotonic() + streams.lifetime.total_seconds()

    @property
    def has_ended(self) -> bool:
        """Whether its planned end has come, or the client has left: finish with a cursor and OK."""
        return time.monotonic() >= self._end or not self._call.context.is_active()

    def wait(self, seconds: float) -> None:
        """Wait until woken, for `seconds`, until the planned end or that of the certificate; then `require_standing`.

        A certificate ends with its issuer at the latest.
        """
        leaf, until_expiry = self._call.leaf, seconds
        if leaf is not None:
            expire_time = min(leaf.expire_time, leaf.issuer_expire_time)
            until_expiry = (expire_time - self._streams.now()).total_seconds()
        self._busy_since = None
        self._woken.wait(max(0.0, min(seconds, until_expiry, self._end - time.monotonic())))
        self._woken.clear()
        self._busy_since = time.monotonic()
        self.require_standing()

    def require_standing(self) -> None:
        """Raises what the caller would be refused with if he called now, RoomStopping when the room stops."""
        if self._streams.is_closing:
            raise RoomStopping()
        self._call.recheck()
        self._standing()

    def wake(self) -> None:
        """There is something to look at."""
        self._woken.set()

    def cut_if_unread(self) -> None:
        """Cancel the stream if its handler has been stuck in sending while the caller lost its standing.

        Such a handler cannot look for itself: its client does not read. It gets CANCELLED, without a reason.
        """
        busy_since = self._busy_since
        if busy_since is None or time.monotonic() - busy_since < _UNREAD_AFTER:
            return
        try:
            self.require_standing()
        except MeshError:
            STREAMS_CUT.inc()
            self._call.context.cancel()


class Streams:
    """The stream slots of one process, apart from the workers of unary calls."""

    def __init__(self, slots: int, lifetime: timedelta, clock: Clock) -> None:
        self.slots = slots
        self.lifetime = lifetime
        self.now = clock.now
        self.is_closing = False
        self._mutex = threading.Lock()
        self._open: set[Stream] = set()

    @contextmanager
    def open(self, call: Call, standing: Callable[[], object]) -> Iterator[Stream]:
        """Take a slot for a call. `standing` raises once the stream's own ground is gone. Raises StreamSlotsTaken."""
        stream = Stream(self, call, standing)
        with self._mutex:
            if len(self._open) >= self.slots:
                raise StreamSlotsTaken(slots=self.slots)
            self._open.add(stream)
            STREAMS_OPEN.set(len(self._open))
        try:
            call.context.add_callback(stream.wake)
            stream.require_standing()
            yield stream
        finally:
            with self._mutex:
                self._open.discard(stream)
                STREAMS_OPEN.set(len(self._open))

    def wake(self) -> None:
        """Wake all streams: there is something new, or the policy changed."""
        for stream in self._snapshot():
            stream.wake()

    def close(self) -> None:
        """End all streams with RoomStopping."""
        self.is_closing = True
        self.wake()

    def run(self, stopping: Stopping) -> None:
        """Look twice a second for streams that lost their standing while their client does not read."""
        while not stopping.wait(0.5):
            for stream in self._snapshot():
                stream.cut_if_unread()

    def _snapshot(self) -> list[Stream]:
        with self._mutex:
            return list(self._open)
