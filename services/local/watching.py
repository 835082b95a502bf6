"""One system's open Watch, in a thread beside whoever looks at it: what it received and when, and how it ended."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from npd.common.v1.access_pb2 import AccessContext
from npd.sharing.v1.change_pb2 import Change, Cursor
from npd_client.client import Client
from npd_client.errors import Refusal

T = TypeVar("T")


class WatchSilent(Exception):
    """What was waited for did not come in time; says what."""


@dataclass(frozen=True, slots=True)
class Received:
    """A change, and the monotonic instant at which it arrived."""

    change: Change
    instant: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Why the mesh ended the Watch, and the monotonic instant at which it did."""

    refusal: Refusal
    instant: float


class Watch:
    """Follows changes as a ministry does, until it is cut or left. As a context manager it is left at the end."""

    def __init__(self, client: Client, access: AccessContext, cursor: Cursor | None = None) -> None:
        """Begin to follow, after the cursor or from now. The client is the Watch's own: leaving it closes it."""
        self._client, self._access, self.cursor = client, access, cursor
        self._received: list[Received] = []
        self._is_open = False
        self._ended: Cut | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._thread.start()

    def wait_open(self, seconds: float) -> None:
        """Wait for the first sign of life. Raises WatchSilent."""
        self._wait("a sign of life", lambda: self._is_open or None, seconds)

    def wait_change(self, change_of: Callable[[Change], bool], seconds: float) -> Received:
        """Wait for a change like this. Raises WatchSilent."""
        return self._wait(
            "the change", lambda: next((each for each in self._received if change_of(each.change)), None), seconds
        )

    def wait_cut(self, seconds: float) -> Cut:
        """Wait until the mesh ends it. Raises WatchSilent."""
        return self._wait("its end", lambda: self._ended, seconds)

    def received(self) -> tuple[Change, ...]:
        """All changes so far."""
        with self._changed:
            return tuple(each.change for each in self._received)

    def arrivals(self) -> tuple[Received, ...]:
        """All changes so far, with the instants of their arrival."""
        with self._changed:
            return tuple(self._received)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._thread.join(5.0)

    def _follow(self) -> None:
        try:
            for message in self._client.watch_changes(self._access, self.cursor):
                now = time.monotonic()
                with self._changed:
                    self._is_open, self.cursor = True, message.cursor
                    self._received += [Received(change, now) for change in message.changes]
                    self._changed.notify_all()
        except Refusal as refusal:
            now = time.monotonic()
            with self._changed:
                self._ended = Cut(refusal, now)
                self._changed.notify_all()

    def _wait(self, what: str, look: Callable[[], T | None], seconds: float) -> T:
        with self._changed:
            if not self._changed.wait_for(lambda: look() is not None or self._ended is not None, seconds):
                raise WatchSilent(f"{what} did not come within {seconds:g} s")
            found = look()
            if found is None:
                raise WatchSilent(f"the Watch ended before {what} came: {self._ended.refusal if self._ended else ''}")
            return found
