"""Metrics of the sharing room (Prometheus): how far followers are behind. Labels are kinds, never names."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from prometheus_client import Gauge

from services.mesh.core.contacts import Lag

FOLLOWERS_OLDEST_TIME = Gauge(
    "npd_followers_oldest_timestamp_seconds",
    "When the oldest change was recorded that a follower has not acknowledged as applied; 0: there is none.",
    ["kind"],
)
FOLLOWERS_UNAPPLIED = Gauge(
    "npd_followers_unapplied", "Changes not acknowledged as applied, of the follower that has most of them.", ["kind"]
)
FOLLOWERS_BEHIND = Gauge("npd_followers_behind", "Followers that are behind by more than five minutes.", ["kind"])

_BEHIND_AFTER = timedelta(minutes=5)


def measure(lags: Iterable[Lag], now: datetime) -> None:
    """Show how far followers are behind: rooms, without whom the ring stands still, and systems of agencies."""
    by_kind: dict[str, list[Lag]] = {"room": [], "system": []}
    for lag in lags:
        by_kind["system" if "/" in lag.name else "room"].append(lag)
    for kind, of_kind in by_kind.items():
        times = [lag.oldest_time for lag in of_kind if lag.oldest_time is not None]
        FOLLOWERS_OLDEST_TIME.labels(kind).set(min(times).timestamp() if times else 0)
        FOLLOWERS_UNAPPLIED.labels(kind).set(max((lag.unapplied_count for lag in of_kind), default=0))
        FOLLOWERS_BEHIND.labels(kind).set(sum(now - time > _BEHIND_AFTER for time in times))
