"""Hands the outbox on to one peer: ordered by subject, at least once, retried for ever, poison set aside.

Knows no wire: a deliverer sends messages of a kind and says of each what became of it.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from services.mesh.core import failpoints
from services.mesh.core.background import Stopping
from services.mesh.core.db import Database, DirectConnection
from services.mesh.core.errors import PeerUnavailable
from services.mesh.core.logs import describe
from services.mesh.core.outbox import Fate, Message, Outbox, Waiting, backoff, fate_of

log = structlog.get_logger(__name__)

Deliver = Callable[[Sequence[Message]], Sequence[Fate]]
"""Sends messages of one kind, in order, and returns the fate of each. Raises PeerUnavailable: then none is known to
have come; anything else it raises is looked into message by message."""

_BATCH = 500
# The replica that commits wakes its own relay, and often it is another one's that holds the lock: this is how long an
# event waits then. The cost is ten small reads a second, half a percent of a core.
_IDLE_WAIT = 0.1
_SOMETHING_WAITS = "SELECT EXISTS (SELECT FROM outbox WHERE peer = %s AND set_aside_time IS NULL)"
_ATTEMPTS_OF_A_FAULT = 5


class Relay:
    """Hands messages on to one peer. Of all replicas of a room one at a time does, by an advisory lock.

    Two at a time would do no harm, since receivers take a message once and a subject's next message leaves only when
    the one before is known to have come; it would be wasted work.
    """

    def __init__(
        self,
        peer: str,
        database: Database[Outbox],
        lock: DirectConnection,
        deliverers: Mapping[str, Deliver],
        *,
        keeps: bool = False,
        counted: Callable[[str, int], None] = lambda outcome, count: None,
    ) -> None:
        """`deliverers` by kind of message; `keeps`: what is delivered is kept, to be told again; `counted` is told how
        many were "delivered", "postponed", "set_aside".
        """
        self.peer = peer
        self._database = database
        self._lock = lock
        self._deliverers = deliverers
        self._keeps = keeps
        self._counted = counted
        self._pending = threading.Event()
        self._holder: object = None
        self._portion, self._turn = _BATCH, 0
        self._delivered_at = 0.0
        self._failed_at: dict[int, float] = {}

    def wake(self) -> None:
        """Messages were committed: hand them on now instead of at the next look."""
        self._pending.set()

    def run(self, stopping: Stopping) -> None:
        """Hand on until told to stop. While the peer is away it is tried again after 0.1 s to 5 s, with jitter."""

        def pause(seconds: float) -> None:
            stopping.wait(seconds)

        try:
            while not stopping.is_set():
                retrying = Retrying(
                    retry=retry_if_exception_type(PeerUnavailable),
                    wait=_wait,
                    stop=lambda state: stopping.is_set(),
                    sleep=pause,
                    before_sleep=self._report,
                    retry_error_callback=lambda state: 0,
                )
                self._pending.clear()
                if not retrying(self.step):
                    self._pending.wait(_IDLE_WAIT)
        finally:
            self._lock.close()  # another replica need not wait until this process has ended

    def step(self) -> int:
        """Hand on one batch: the next message of each subject that has one; returns how many left the outbox.

        1. One replica at a time.
        2. The batch is read, and sent outside any transaction. A kind that is not known here waits for a replica of a
           newer release.
        3. What its receiver has leaves; what it refuses is set aside; what merely failed is tried again later.

        Raises PeerUnavailable; then everything stays as it is.
        """
        if not self._has_work():  # (1)
            return 0
        with self._database.transaction() as outbox:  # (2)
            batch = outbox.next_due(self.peer, self._deliverers, datetime.now(UTC), _BATCH)
        if not batch:
            return 0
        failpoints.reach("relay.read")
        portion = self._portion_of(batch)
        fates = self._deliver_all(portion)
        failpoints.reach("relay.delivered")
        with self._database.transaction() as outbox:  # (3)
            left = self._settle(outbox, portion, fates)
        failpoints.reach("relay.settled")
        return left

    def _portion_of(self, batch: Sequence[Waiting]) -> Sequence[Waiting]:
        """As much of a batch as the peer has lately coped with, each time another part of it.

        One message that makes the peer time out looks like a peer that is away: in small portions the others pass it.
        """
        start = self._turn % len(batch) if self._portion < len(batch) else 0
        return batch[start : start + self._portion]

    def _has_work(self) -> bool:
        """Whether this replica holds the lock, which lasts as long as its connection, and a message waits.

        While it does hold it, the look itself says whether the connection lives.
        """
        with self._lock.use() as driver:
            if driver is self._holder:
                return driver.execute(_SOMETHING_WAITS, (self.peer,)).fetchone() == (True,)
            query = "SELECT pg_try_advisory_lock(hashtext(%s))"
            if driver.execute(query, (f"relay/{self.peer}",)).fetchone() != (True,):
                return False
            self._holder = driver
            return True

    def _deliver_all(self, batch: Sequence[Waiting]) -> dict[int, Fate | Exception]:
        kinds: dict[str, list[Waiting]] = {}
        for waiting in batch:
            kinds.setdefault(waiting.message.kind, []).append(waiting)
        fates: dict[int, Fate | Exception] = {}
        try:
            for kind, group in kinds.items():
                fates |= self._deliver(kind, group)
        except PeerUnavailable:
            self._portion, self._turn = max(1, self._portion // 4), self._turn + 1
            if not fates:
                raise
            return fates  # what is settled is settled; the rest is tried with the next batch
        self._portion = min(_BATCH, self._portion * 2)
        return fates

    def _deliver(self, kind: str, group: Sequence[Waiting]) -> dict[int, Fate | Exception]:
        deliver = self._deliverers[kind]
        try:
            fates = deliver([waiting.message for waiting in group])
            return {waiting.number: fate for waiting, fate in zip(group, fates, strict=True)}
        except PeerUnavailable:
            raise
        except Exception as error:
            if len(group) == 1:
                log.warning("a message failed", peer=self.peer, kind=kind, fault=describe(error))
                return {group[0].number: error}
        fates_alone: dict[int, Fate | Exception] = {}
        for waiting in group:  # one of them is at fault: it must not take the others with it
            try:
                fates_alone |= self._deliver(kind, [waiting])
            except PeerUnavailable:
                if not fates_alone:
                    raise
                break  # what is settled is settled
        return fates_alone

    def _settle(self, outbox: Outbox, batch: Sequence[Waiting], fates: Mapping[int, Fate | Exception]) -> int:
        now, delivered, postponed, aside = datetime.now(UTC), list[int](), 0, 0
        for waiting in batch:
            fate = fates.get(waiting.number)
            if fate is None:
                continue
            if isinstance(fate, Exception):
                counted = self._counts(waiting.number)
                if waiting.attempts + counted < _ATTEMPTS_OF_A_FAULT:
                    until = now + backoff(waiting.attempts)
                    outbox.postpone(waiting.number, until, fate_of(fate).reason, counted=counted)
                    postponed += 1
                    continue
                fate = fate_of(fate)
            self._failed_at.pop(waiting.number, None)
            if fate.is_delivered:
                delivered.append(waiting.number)
            else:
                outbox.set_aside(waiting.number, fate, now)
                aside += 1
                log.error(
                    "a message was set aside",
                    peer=self.peer,
                    kind=waiting.message.kind,
                    message_id=str(waiting.message.message_id),
                    reason=fate.reason,
                    field=fate.field,
                )
        if self._keeps:
            outbox.keep_delivered(delivered, now)
        else:
            outbox.remove(delivered)
        if delivered:
            self._delivered_at = time.monotonic()
        for outcome, count in (("delivered", len(delivered)), ("postponed", postponed), ("set_aside", aside)):
            self._counted(outcome, count)
        return len(delivered) + aside

    def _counts(self, number: int) -> bool:
        """Whether a failure is the message's own: the peer took others since it last failed, or it never did here."""
        failed_at, self._failed_at[number] = self._failed_at.get(number), time.monotonic()
        return failed_at is None or self._delivered_at > failed_at

    def _report(self, state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning("a peer is away; what is for it waits", peer=self.peer)


_BACKOFF = wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.1)


def _wait(state: RetryCallState) -> float:
    """With jitter, and no sooner than the peer asked for."""
    error = state.outcome.exception() if state.outcome else None
    pause = error.pause.total_seconds() if isinstance(error, PeerUnavailable) else 0.0
    return max(_BACKOFF(state), pause)
