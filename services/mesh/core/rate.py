"""How often something may be asked for: token buckets in memory. A new process begins with full ones."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from threading import Lock

from services.mesh.core.errors import Kind, MeshError

_MINUTE = 60.0


class RateExceeded(MeshError):
    """Too many requests of one caller or address, or of all together."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "RATE_EXCEEDED"

    def __init__(self, limit: int, retry_after: timedelta) -> None:
        super().__init__(limit=limit)
        self.retry_after = retry_after  # type: ignore[misc]  # of this refusal, not of all


class Limiter:
    """Lets `per_minute` pass for each key, and as many at once after a quiet minute. Safe for threads.

    It knows `keys` keys at most; the one that was left alone longest is forgotten first, and begins anew.
    """

    def __init__(self, per_minute: int, *, keys: int = 10_000, seconds: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._keys = keys
        self._seconds = seconds
        self._mutex = Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one for a key. Raises RateExceeded, which then says when the next one passes."""
        now, pace = self._seconds(), self._limit / _MINUTE
        with self._mutex:
            left, since = self._buckets.pop(key, (float(self._limit), now))
            left = min(float(self._limit), left + (now - since) * pace)
            passes = left >= 1
            self._buckets[key] = (left - 1 if passes else left, now)
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        if not passes:
            raise RateExceeded(self._limit, timedelta(seconds=math.ceil((1 - left) / pace)))
