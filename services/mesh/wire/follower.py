"""Follows the feed of changes: applies each once and in order, acknowledges it, sets aside what cannot be applied."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Generic, TypeVar
from uuid import UUID

import grpc
import structlog

from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.errors import refusal_of
from services.mesh.core import failpoints
from services.mesh.core.background import Stopping
from services.mesh.core.chain import Causation
from services.mesh.core.db import STORE_FAULTS, Database
from services.mesh.core.errors import PeerUnavailable, StoreUnavailable
from services.mesh.core.following import FEED, Cursor, FollowedChange, Page
from services.mesh.core.logs import describe
from services.mesh.core.outbox import Fate, fate_of
from services.mesh.core.ring_unit import RingUnit
from services.mesh.wire.metrics import CHANGES_FOLLOWED
from services.mesh.wire.peer import PeerRefused, call_peer

log = structlog.get_logger(__name__)

# Longer than the server's planned end of a Watch, so that a stream that is silently dead does not last.
_WATCH_TIMEOUT = 270.0
_LOOK_EVERY = 1.0
_ONE_ACKNOWLEDGEMENT = 1000
_BEHIND = "WAITS_BEHIND_ANOTHER"


Unit = TypeVar("Unit", bound=RingUnit)


class Feed:
    """The feed as `sharing` serves it to a room. Methods raise PeerUnavailable, PeerRefused."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = change_pb2_grpc.ChangeServiceStub(channel)

    def watch(self, cursor: Cursor) -> Iterator[Page]:
        """Changes after a cursor, page by page, until the stream ends. It begins with a page, if only an empty one.

        A cursor of another incarnation is replaced by where the feed says to resume: its changes come again.
        """
        request = change_pb2.WatchChangesRequest(cursor=_to_wire(cursor))
        stream = self._stub.WatchChanges(request, timeout=_WATCH_TIMEOUT)
        try:
            for response in stream:
                changes = [_change(wire) for wire in response.changes]
                yield Page(changes, _cursor(response.cursor), response.cursor == response.head)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            if refusal.reason == "CURSOR_OUTDATED":
                if cursor.incarnation:
                    log.warning("the feed was restored; following it again", **refusal.metadata)
                yield Page([], Cursor(int(refusal.metadata["incarnation"]), int(refusal.metadata["position"])))
            elif refusal.code is not grpc.StatusCode.CANCELLED:
                raise PeerUnavailable(FEED) from error
        finally:
            stream.cancel()

    def acknowledge(
        self, applied: Cursor | None, rejected: Sequence[tuple[UUID, str]], recovered: Sequence[UUID]
    ) -> None:
        """Say that everything up to here is applied, but for what is rejected."""
        request = change_pb2.AcknowledgeRequest(
            received=_to_wire(applied),
            applied=_to_wire(applied),
            rejected=[change_pb2.Rejection(change_id=str(change_id), reason=why) for change_id, why in rejected],
            recovered=map(str, recovered),
        )
        call_peer(FEED, self._stub.Acknowledge, request)


class Follower(Generic[Unit]):
    """Applies the feed's changes with `react(unit, change)`, in transactions that also move the cursor.

    So each takes effect once, whatever dies when. A change that `react` refuses is set aside, its subject's later ones
    behind it; `react` must therefore raise only for what another try would not cure by itself.
    """

    def __init__(self, database: Database[Unit], feed: Feed, react: Callable[[Unit, FollowedChange], None]) -> None:
        self._database = database
        self._feed = feed
        self._react = react
        self._due = threading.Event()
        self._mutex = threading.Lock()
        self._has_caught_up = False

    def wake(self) -> None:
        """A command made set-aside changes due: try them now instead of at the next look."""
        self._due.set()

    def run(self, stopping: Stopping) -> None:
        """Follow until told to stop. Raises PeerUnavailable, StoreUnavailable; it is then run again."""
        cursor = self._say_again()
        while not stopping.is_set():
            for page in self._feed.watch(cursor):
                if stopping.is_set():
                    return
                if page.changes or page.reached != cursor or (page.is_head and not self._has_caught_up):
                    self._take(page)
                cursor = page.reached

    def recover(self, stopping: Stopping) -> None:
        """Try set-aside changes again, whenever a command makes some due, until told to stop."""
        while not stopping.is_set():
            self._due.wait(_LOOK_EVERY)
            self._due.clear()
            if not stopping.is_set():
                self._retry_due()

    def _say_again(self) -> Cursor:
        """Acknowledge where this room stands: it may have died between doing and saying so."""
        with self._mutex:
            with self._database.transaction() as unit:
                cursor = unit.followed.cursor()
                self._has_caught_up = unit.followed.has_caught_up()
            if cursor.incarnation:
                with suppress(PeerRefused):  # the feed was restored since: the Watch says how to go on
                    self._say(cursor)
        return cursor

    def _say(self, cursor: Cursor) -> None:
        """Acknowledge that all up to the cursor is applied, but for what is set aside, whichever replica did that.

        Nothing is acknowledged as applied before every rejection is heard. Under the mutex, so that a rejection cannot
        overtake its recovery.
        """
        while True:
            with self._database.transaction() as unit:
                unsaid = unit.followed.unsaid()
            rejected = [(one.change_id, one.reason or _BEHIND) for one in unsaid if not one.is_recovered]
            recovered = [one.change_id for one in unsaid if one.is_recovered]
            is_all = len(unsaid) < _ONE_ACKNOWLEDGEMENT
            try:
                self._feed.acknowledge(cursor if is_all else None, rejected, recovered)
            except PeerRefused as refusal:
                if not unsaid or refusal.reason != "FIELD_INVALID":
                    raise
                log.warning("the feed does not know changes that are set aside here: it was restored since")
                is_all = False  # then the mark alone
            if unsaid:
                with self._database.transaction() as unit:
                    unit.followed.note_said(unsaid)
            if is_all:
                return

    def _take(self, page: Page) -> None:
        """Apply a page.

        1. No other replica applies at the same time; what was taken before, by it or before a restore, is passed over.
        2. The changes are applied together. If one is refused, all of it is undone, and each is applied by itself: then
           only what that one did is undone.
        3. The cursor moves with them; that the feed's head was reached is noted once.
        4. What is committed is acknowledged.
        """
        failpoints.reach("follower.received")
        reached, is_first_head = page.reached, page.is_head and not self._has_caught_up
        with self._mutex:
            with self._database.transaction() as unit:
                before = unit.followed.lock_cursor()  # (1)
                changes = unit.followed.new_of(page.changes)
                subject_ids = [change.subject_id for change in changes]
                unit.people.lock(subject_ids)  # in the one order in which acts lock too
                waiting = unit.followed.waiting_subjects(subject_ids)
                applied = len(changes)
                if waiting or not self._apply(unit, changes).is_delivered:  # (2)
                    applied = self._apply_each(unit, changes, waiting)
                if before.incarnation != reached.incarnation or reached.position > before.position:  # (3)
                    unit.followed.move(reached)
                if is_first_head:
                    unit.followed.catch_up()
            self._has_caught_up = self._has_caught_up or page.is_head
            failpoints.reach("follower.applied")
            CHANGES_FOLLOWED.labels("applied").inc(applied)
            CHANGES_FOLLOWED.labels("rejected").inc(len(changes) - applied)
            self._say(reached)  # (4)
        failpoints.reach("follower.acknowledged")

    def _apply_each(self, unit: Unit, changes: Sequence[FollowedChange], waiting: set[UUID]) -> int:
        """Apply changes one by one, and set aside what is refused or waits behind such; returns how many applied."""
        applied = 0
        for change in changes:
            if change.subject_id in waiting:
                unit.followed.set_aside(change, None)
                continue
            fate = self._apply(unit, [change])
            if fate.is_delivered:
                applied += 1
            else:
                log.error("a change was set aside", change_id=str(change.change_id), reason=fate.reason)
                unit.followed.set_aside(change, fate)
                waiting.add(change.subject_id)
        return applied

    def _retry_due(self) -> None:
        """Try what is due, and say how it stands; what `sharing` did not hear then is said at a later look."""
        with self._mutex:
            with self._database.transaction() as unit:
                cursor, due, recovered = unit.followed.lock_cursor(), unit.followed.next_due(), 0
                unit.people.lock([change.subject_id for change in due])
                for change in due:
                    fate = self._apply(unit, [change])
                    if fate.is_delivered:
                        unit.followed.take_back(change)
                        recovered += 1
                    else:
                        unit.followed.refuse_again(change, fate)
                is_unsaid = bool(unit.followed.unsaid())
            if recovered:
                CHANGES_FOLLOWED.labels("recovered").inc(recovered)
                self._due.set()  # others may have waited behind them
            if is_unsaid:
                self._say(cursor)

    def _apply(self, unit: Unit, changes: Sequence[FollowedChange]) -> Fate:
        try:
            with unit.connection.begin_nested():
                for change in changes:
                    self._react(unit, change)
        except (StoreUnavailable, *STORE_FAULTS):
            raise  # the page's transaction is lost with it, and the page comes again
        except Exception as error:
            log.warning("changes could not be applied", count=len(changes), fault=describe(error))
            return fate_of(error)
        return Fate()


def _change(wire: change_pb2.Change) -> FollowedChange:
    change_id = UUID(wire.change_id)
    return FollowedChange(
        position=wire.position,
        change_id=change_id,
        subject_id=UUID(wire.subject_id),
        pin=wire.pin,
        paths=tuple(wire.changed_paths),
        person=wire.citizen.SerializeToString(deterministic=True),
        source=wire.source,
        event_time=wire.event_time.ToDatetime(UTC),
        record_time=wire.record_time.ToDatetime(UTC),
        causation=Causation(UUID(wire.causation.correlation_id), change_id),
        caused_by=UUID(wire.causation.causation_id),
    )


def _cursor(wire: change_pb2.Cursor) -> Cursor:
    return Cursor(wire.incarnation, wire.position)


def _to_wire(cursor: Cursor | None) -> change_pb2.Cursor | None:
    if cursor is None:
        return None
    return change_pb2.Cursor(incarnation=cursor.incarnation, position=cursor.position)
