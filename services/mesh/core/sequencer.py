"""Gives positions to committed rows, densely and in one place, so that no late commit can hide behind a cursor."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Table, func, select

from services.mesh.core.background import Stopping
from services.mesh.core.db import Database

_IDLE_WAIT = 0.25
_COUNTED = 10_001


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Committed rows that have no position yet: how many, up to 10,001, and how old the oldest one is."""

    count: int
    oldest_age: timedelta


class Sequencer:
    """Runs `integrate` whenever rows may be pending. Of all replicas of a room one at a time integrates.

    `integrate(connection, limit)` moves up to `limit` pending rows to their positions, in the transaction it is given,
    and returns how many; `pending` is the table where they wait, and `after(moved)` is told after the commit. The
    advisory lock ends with the transaction, so that a killed replica never keeps it.
    """

    def __init__(
        self,
        database: Database[Connection],
        name: str,
        integrate: Callable[[Connection, int], int],
        *,
        pending: Table,
        limit: int = 5000,
        after: Callable[[int], None] = lambda moved: None,
    ) -> None:
        self.name = name
        self._database = database
        self._integrate = integrate
        self._table = pending
        self._limit = limit
        self._after = after
        self._pending = threading.Event()

    def wake(self) -> None:
        """Rows were committed: integrate them now instead of at the next look, a quarter of a second away at most."""
        self._pending.set()

    def run(self, stopping: Stopping) -> None:
        """Integrate until told to stop."""
        while not stopping.is_set():
            self._pending.clear()
            moved = self.step()
            if moved:
                self._after(moved)
            if moved < self._limit:
                self._pending.wait(_IDLE_WAIT)

    def step(self) -> int:
        """Integrate one batch; returns how many rows got a position, 0 also when another replica is at it."""
        with self._database.transaction() as connection:
            lock = func.pg_try_advisory_xact_lock(func.hashtext(f"sequencer/{self.name}"))
            if not connection.execute(select(lock)).scalar_one():
                return 0
            return self._integrate(connection, self._limit)

    def unplaced(self) -> Unplaced:
        """What waits for a position. It reads no further than it counts, in the order of the primary key."""
        oldest_first = select(self._table.c.record_time).order_by(self._table.c.pending_id).limit(_COUNTED).subquery()
        age = func.clock_timestamp() - func.min(oldest_first.c.record_time)
        with self._database.transaction() as connection:
            count, oldest_age = connection.execute(select(func.count(), age).select_from(oldest_first)).one()
        return Unplaced(count, max(oldest_age or timedelta(), timedelta()))
