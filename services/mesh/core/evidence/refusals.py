"""Refusals of known callers: one entry each, up to a rate; past it one entry a minute with a count."""

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.errors import MeshError
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.rights import Access

LISTED_A_MINUTE = 10
_MINUTE = timedelta(minutes=1)
_SUBJECTS = 10_000


@dataclass(slots=True)
class _Minute:
    start: datetime
    entry: Entry
    listed: int = 0
    withheld: int = field(default=0)


class RefusalRate:
    """Decides which refusals become entries, so that nobody can fill the log. Nothing is stored here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._minutes: dict[tuple[str, str, str], _Minute] = {}

    def due(self, caller: Caller, method: str, error: MeshError, stated: Access | None = None) -> list[Entry]:
        """The entries to write now for a refusal, often just its own. Counts it otherwise."""
        now = self._clock.now()
        entry = Entry(caller, method, Outcome.REFUSED, stated=stated, reason=error.reason)
        key = (caller.identity, method, error.reason)
        with self._mutex:
            minute = self._minutes.get(key)
            counted: list[Entry] = []
            if minute is None or now - minute.start >= _MINUTE:
                counted = [] if minute is None else _counted(minute)
                if minute is None and len(self._minutes) >= _SUBJECTS:
                    counted += self._drop_old(now)
                minute = self._minutes[key] = _Minute(now, entry)
            if minute.listed < LISTED_A_MINUTE:
                minute.listed += 1
                return [*counted, entry]
            minute.withheld += 1
            return counted

    def overdue(self, *, all_of_them: bool = False) -> list[Entry]:
        """The counts of minutes that have ended; of all minutes when the room stops."""
        now = self._clock.now()
        with self._mutex:
            return self._drop_old(now + _MINUTE if all_of_them else now)

    def _drop_old(self, now: datetime) -> list[Entry]:
        ended = [key for key, minute in self._minutes.items() if now - minute.start >= _MINUTE]
        return [entry for key in ended for entry in _counted(self._minutes.pop(key))]


def _counted(minute: _Minute) -> list[Entry]:
    if not minute.withheld:
        return []
    entry = minute.entry
    return [Entry(entry.caller, entry.method, Outcome.REFUSED, reason=entry.reason, count=minute.withheld)]
