"""Publishes the policy: signs what changed and tells it to the rooms, and to this room's own keeper, at once."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from npd.registry.v1 import policy_pb2
from services.mesh.core.background import Stopping
from services.mesh.core.clock import Clock
from services.mesh.core.errors import StoreUnavailable
from services.mesh.wire.policy import CONTEXT, SignedUpdate
from services.registry.entries import entry_to_wire
from services.registry.repository import CHANNEL, Store

SIGN_OF_LIFE_EVERY = 3.0
"""Seconds between two updates. Each is read from the store, so it is also the fallback when no NOTIFY comes through."""

_LOOK_FOR_STOP_EVERY = 0.25
_FURTHEST_LOST = 1_000_000
"""Revisions that a restore can have lost; what is further ahead is no revision of this registry.

They count on from the store's, or from the clock's milliseconds, where an earlier restore went on.
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """An update and the revision that it leads to; one that changes nothing is a sign of life."""

    revision: int
    changes_anything: bool
    signed: SignedUpdate


class Publisher:
    """Makes signed updates from the store. Holds no policy of its own, so all replicas tell the same."""

    def __init__(self, store: Store, environment: str, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._store = store
        self._environment = environment
        self._key = key
        self._clock = clock

    def update_since(self, revision: int) -> Update:
        """What changed after a revision, signed.

        It is issued at the time before the store was read: it vouches for no moment after that.
        Who holds a revision that the store has not reached shows that it was restored: the store goes on above it, and
        everybody gets a whole snapshot. Else rooms would refuse what leads back, and later pass over what was changed
        under revisions that they know by other changes.
        Raises StoreUnavailable; a sign of life from memory would vouch for what nobody looked at.
        """
        issue_time = self._clock.now()
        with self._store.unrecorded() as tx:
            base, newest, changes = tx.policy.since(revision)
        furthest = max(newest, int(issue_time.timestamp() * 1000)) + _FURTHEST_LOST
        if newest < revision <= furthest:
            log.warning("the store was restored, its policy goes on above", revision=revision, store_revision=newest)
            with self._store.unrecorded() as tx:
                tx.policy.go_on_above(revision)
            return self.update_since(revision)
        update = policy_pb2.PolicyUpdate(
            environment=self._environment,
            base_revision=base,
            revision=newest,
            entries=map(entry_to_wire, changes),
        )
        update.issue_time.FromDatetime(issue_time)
        stated = update.SerializeToString()
        return Update(newest, bool(changes), SignedUpdate(stated, self._key.sign(CONTEXT + stated)))

    def follow(
        self, revision: int, wait: Callable[[float], None], has_ended: Callable[[], bool]
    ) -> Iterator[SignedUpdate]:
        """Updates from a revision on until `has_ended`: the first at once, then changes and signs of life.

        `wait(seconds)` returns sooner when the policy has changed.
        """
        due = 0.0
        while not has_ended():
            update = self.update_since(revision)
            if update.changes_anything or time.monotonic() >= due:
                due = time.monotonic() + SIGN_OF_LIFE_EVERY
                yield update.signed
            revision = update.revision
            wait(max(0.0, due - time.monotonic()))


class LocalSource:
    """The policy for the registry's own keeper: `LocalSource(...).follow` is a `PolicySource` that crosses no wire."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._woken = threading.Event()

    def wake(self) -> None:
        """The policy has changed."""
        self._woken.set()

    def follow(self, revision: int, stopping: Stopping) -> Iterator[SignedUpdate]:
        """Updates from a revision on until the room stops."""

        def wait(seconds: float) -> None:
            end = time.monotonic() + seconds
            while not stopping.is_set() and time.monotonic() < end:
                if self._woken.wait(_LOOK_FOR_STOP_EVERY):
                    break
            self._woken.clear()

        return self._publisher.follow(revision, wait, stopping.is_set)


class PolicyListener:
    """Listens on a connection of its own for commits that changed the policy, and tells at once."""

    def __init__(self, engine: Engine, tell: Callable[[], None]) -> None:
        self._engine = engine
        self._tell = tell

    def run(self, stopping: Stopping) -> None:
        """Listen until told to stop. Raises StoreUnavailable when the connection breaks; it is then run again."""
        try:
            with self._connection() as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                self._tell()  # of what was committed before we listened
                while not stopping.is_set():
                    if any(True for _ in connection.notifies(timeout=_LOOK_FOR_STOP_EVERY, stop_after=1)):
                        self._tell()
        except (psycopg.OperationalError, DBAPIError) as error:
            raise StoreUnavailable() from error

    def _connection(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection outside the pool, with the pool's settings."""
        pooled = self._engine.raw_connection()
        driver = pooled.driver_connection
        pooled.detach()
        assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the engine's dialect is psycopg
        driver.autocommit = True
        return driver
