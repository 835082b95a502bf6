"""Following the feed on a real store: each change once and in order; what cannot be applied is set aside."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID, uuid4

import grpc
import pytest
from sqlalchemy import Connection, Engine

from npd.common.v1.person_pb2 import Person
from npd_client.errors import Refusal
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.background import Background, Stopping
from services.mesh.core.chain import Causation
from services.mesh.core.db import Database
from services.mesh.core.errors import InvalidField, PeerUnavailable, StoreUnavailable
from services.mesh.core.evidence.log import Log
from services.mesh.core.following import Cursor, Followed, FollowedChange, Page
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.tables import STORE
from services.mesh.wire.follower import Feed, Follower
from services.mesh.wire.peer import PeerRefused
from tests.mesh_fixture import wait_until
from tests.mesh_store import empty, open_store

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
ANNA, BINH = UUID(int=1), UUID(int=2)
NO_LOG = cast(Log, None)  # reactions of these tests record nothing

Acknowledged = tuple[Cursor | None, list[tuple[UUID, str]], list[UUID]]


class ScriptedFeed(Feed):
    """A feed that gives the pages it is told to, then stops the follower; keeps what was acknowledged."""

    def __init__(self, stopping: Stopping, *pages: Page | Exception) -> None:
        self.pages = list(pages)
        self.watched: list[Cursor] = []
        self.acknowledged: list[Acknowledged] = []
        self.is_away = False
        self._stopping = stopping

    def watch(self, cursor: Cursor) -> Iterator[Page]:
        self.watched.append(cursor)
        while self.pages:
            page = self.pages.pop(0)
            if isinstance(page, Exception):
                raise page
            yield page
        self._stopping.set()

    def acknowledge(
        self, applied: Cursor | None, rejected: Sequence[tuple[UUID, str]], recovered: Sequence[UUID]
    ) -> None:
        if self.is_away:
            raise PeerUnavailable("sharing")
        self.acknowledged.append((applied, list(rejected), list(recovered)))


class Room:
    """A room that knows people from the feed; it refuses and breaks on the changes that it is told to."""

    def __init__(self, engine: Engine) -> None:
        self.database = Database(engine, lambda connection: RingUnit(connection, NO_LOG, "residence"))
        self.applied: list[int] = []
        self.faults: dict[int, Exception] = {}

    def react(self, unit: RingUnit, change: FollowedChange) -> None:
        unit.people.note(change)
        if change.position in self.faults:
            raise self.faults[change.position]
        self.applied.append(change.position)

    def follow(self, *pages: Page | Exception) -> ScriptedFeed:
        """Follow these pages to their end."""
        stopping = Stopping()
        feed = ScriptedFeed(stopping, *pages)
        Follower(self.database, feed, self.react).run(stopping)
        return feed

    def cursor(self) -> Cursor:
        with self.database.transaction() as unit:
            return unit.followed.cursor()

    def pin_of(self, subject_id: UUID) -> str | None:
        """The number by which this room knows somebody."""
        with self.database.transaction() as unit:
            known = unit.people.lock([subject_id]).get(subject_id)
        return known.pin if known else None

    def aside(self) -> list[UUID]:
        """What waits for a command."""
        with self.database.transaction() as unit:
            return [one.message_id for one in unit.followed.all_set_aside()]


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    engine = open_store(postgres, "mesh_follower")
    yield engine
    engine.dispose()


@pytest.fixture
def room(engine: Engine) -> Room:
    empty(engine)
    return Room(engine)


def change(position: int, subject: UUID = ANNA) -> FollowedChange:
    """A change that gives a person the number 00000000000<position>."""
    pin = f"{position:012}"
    causation = Causation(uuid4(), uuid4())
    person = Person(pin=pin).SerializeToString()
    return FollowedChange(position, uuid4(), subject, pin, ("pin",), person, "identity", NOW, NOW, causation)


def page(*changes: FollowedChange, incarnation: int = 7) -> Page:
    return Page(changes, Cursor(incarnation, changes[-1].position))


@pytest.fixture
def retrying(room: Room) -> Iterator[Callable[[ScriptedFeed], Follower[RingUnit]]]:
    """Starts a follower's recovery beside the test."""
    started: list[Background] = []

    def start(feed: ScriptedFeed) -> Follower[RingUnit]:
        follower = Follower(room.database, feed, room.react)
        started.append(Background("recovery", follower.recover))
        started[-1].start()
        return follower

    yield start
    for background in started:
        background.stop()


def retry(room: Room, *change_ids: UUID) -> list[UUID]:
    """The operator's command."""
    with room.database.transaction() as unit:
        return unit.followed.retry(change_ids)


def test_changes_are_applied_in_order_and_the_cursor_moves_with_them(room: Room) -> None:
    feed = room.follow(page(change(3), change(4, BINH)), page(change(9)))
    assert room.applied == [3, 4, 9]
    assert room.cursor() == Cursor(7, 9)
    assert (room.pin_of(ANNA), room.pin_of(BINH)) == ("000000000009", "000000000004")
    assert feed.acknowledged == [(Cursor(7, 4), [], []), (Cursor(7, 9), [], [])]


def test_after_a_restart_it_goes_on_behind_what_it_applied_and_says_so_again(room: Room) -> None:
    room.follow(page(change(3)))
    feed = room.follow(page(change(5)))
    assert feed.watched[0] == Cursor(7, 3)
    assert feed.acknowledged == [(Cursor(7, 3), [], []), (Cursor(7, 5), [], [])]
    assert room.applied == [3, 5]


def test_a_page_that_another_replica_applied_is_passed_over(room: Room) -> None:
    one, two, three = change(1), change(2), change(3)
    room.follow(page(one, two))
    room.follow(page(one, two, three))
    assert room.applied == [1, 2, 3]
    room.follow(page(one, two))
    assert room.applied == [1, 2, 3]
    assert room.cursor() == Cursor(7, 3), "a page of the past does not move it back"


def test_what_is_lost_with_its_transaction_comes_again_whole(room: Room) -> None:
    room.faults[2] = StoreUnavailable()
    lost = page(change(1), change(2))
    with pytest.raises(StoreUnavailable):
        room.follow(lost)
    assert room.cursor() == Cursor(0, 0)
    assert room.pin_of(ANNA) is None
    assert room.aside() == []
    room.faults.clear()
    room.applied.clear()
    room.follow(lost)
    assert room.applied == [1, 2]
    assert room.cursor() == Cursor(7, 2)


def test_what_is_refused_is_set_aside_and_only_its_own_subject_waits(room: Room) -> None:
    refused, waiting, other = change(1), change(2), change(3, BINH)
    room.faults[1] = InvalidField("pin", "is wrong")
    feed = room.follow(page(refused, waiting, other))
    assert room.applied[-1] == 3
    assert 2 not in room.applied
    assert room.pin_of(ANNA) is None, "what a refused change did is undone"
    assert room.pin_of(BINH) == other.pin
    assert room.cursor() == Cursor(7, 3)
    expected = [(refused.change_id, "FIELD_INVALID"), (waiting.change_id, "WAITS_BEHIND_ANOTHER")]
    assert feed.acknowledged == [(Cursor(7, 3), expected, [])]
    with room.database.transaction() as unit:
        (aside,) = unit.followed.all_set_aside()
        assert unit.followed.set_aside_count() == 1
    assert (aside.message_id, aside.direction, aside.kind) == (refused.change_id, "INCOMING", "change")
    assert (aside.reason, aside.field, aside.attempts) == ("FIELD_INVALID", "pin", 1)
    assert aside.causation == Causation(refused.causation.correlation_id, refused.change_id)


def test_a_later_page_waits_behind_an_earlier_refusal(room: Room) -> None:
    room.faults[1] = RuntimeError()
    later, other = change(2), change(3, BINH)
    feed = room.follow(page(change(1)), page(later, other))
    assert room.applied[-1] == 3
    assert 2 not in room.applied
    assert feed.acknowledged[-1] == (Cursor(7, 3), [(later.change_id, "WAITS_BEHIND_ANOTHER")], [])


def test_a_fault_without_a_reason_is_internal(room: Room) -> None:
    room.faults[1] = ZeroDivisionError()
    broken = change(1)
    assert room.follow(page(broken)).acknowledged == [(Cursor(7, 1), [(broken.change_id, "INTERNAL")], [])]


def test_what_was_rejected_is_said_again_after_a_crash_between_applying_and_saying_so(room: Room) -> None:
    refused, waiting = change(1), change(2)
    room.faults[1] = InvalidField("pin", "is wrong")
    stopping = Stopping()
    feed = ScriptedFeed(stopping, page(refused, waiting))
    feed.is_away = True
    with pytest.raises(PeerUnavailable):
        Follower(room.database, feed, room.react).run(stopping)
    assert room.cursor() == Cursor(7, 2), "it is applied, said or not"
    expected = [(refused.change_id, "FIELD_INVALID"), (waiting.change_id, "WAITS_BEHIND_ANOTHER")]
    assert room.follow().acknowledged == [(Cursor(7, 2), expected, [])]


def test_a_command_recovers_a_change_and_then_what_waited_behind_it(
    room: Room, retrying: Callable[[ScriptedFeed], Follower[RingUnit]]
) -> None:
    changes = [change(position) for position in (1, 2, 3)]
    room.faults[1] = InvalidField("pin", "is wrong")
    room.follow(page(*changes))
    room.applied.clear()
    room.faults.clear()
    feed = ScriptedFeed(Stopping())
    follower = retrying(feed)
    assert retry(room, changes[1].change_id) == [], "what only waits is not for a command"
    assert retry(room, changes[0].change_id) == [changes[0].change_id]
    follower.wake()
    wait_until(lambda: [one for _, _, said in feed.acknowledged for one in said] == [one.change_id for one in changes])
    assert room.applied == [1, 2, 3]
    assert room.pin_of(ANNA) == changes[2].pin
    assert room.aside() == []
    room.follow(page(change(4)))
    assert room.applied[-1] == 4, "nothing waits any more"


def test_what_is_refused_again_waits_for_the_next_command(
    room: Room, retrying: Callable[[ScriptedFeed], Follower[RingUnit]]
) -> None:
    refused = change(1)
    room.faults[1] = InvalidField("pin", "is wrong")
    room.follow(page(refused))
    room.faults[1] = InvalidField("sex", "is wrong")
    follower = retrying(ScriptedFeed(Stopping()))

    def attempts() -> tuple[int, str]:
        with room.database.transaction() as unit:
            (aside,) = unit.followed.all_set_aside()
        return aside.attempts, aside.field

    for tried in (2, 3):
        assert retry(room) == [refused.change_id]
        follower.wake()
        wait_until(lambda expected=tried: attempts() == (expected, "sex"))  # type: ignore[misc]


def test_a_recovery_is_said_until_it_is_heard(
    room: Room, retrying: Callable[[ScriptedFeed], Follower[RingUnit]]
) -> None:
    refused = change(1)
    room.faults[1] = InvalidField("pin", "is wrong")
    room.follow(page(refused))
    room.faults.clear()
    feed = ScriptedFeed(Stopping())
    feed.is_away = True
    follower = retrying(feed)
    retry(room)
    follower.wake()
    wait_until(lambda: room.aside() == [])
    feed.is_away = False
    wait_until(lambda: feed.acknowledged == [(Cursor(7, 1), [], [refused.change_id])])


def test_a_restored_feed_is_followed_from_where_it_says(room: Room) -> None:
    room.follow(page(change(8)))
    feed = room.follow(Page([], Cursor(9, 5)), page(change(6, BINH), incarnation=9))
    assert feed.watched[0] == Cursor(7, 8)
    assert room.cursor() == Cursor(9, 6)
    assert room.applied == [8, 6], "positions of another incarnation are not compared"


def test_a_change_set_aside_that_a_restored_feed_tells_again_is_kept_once(room: Room) -> None:
    refused = change(8)
    room.faults[8] = InvalidField("pin", "is wrong")
    room.follow(page(refused))
    feed = room.follow(Page([], Cursor(9, 0)), page(refused, incarnation=9))
    assert room.aside() == [refused.change_id]
    said = [(refused.change_id, "FIELD_INVALID")]
    assert feed.acknowledged[-1] == (Cursor(9, 8), said, []), "who restored it may have forgotten"


def test_what_another_replica_set_aside_and_did_not_say_is_said(room: Room) -> None:
    refused = change(1)
    room.faults[1] = InvalidField("pin", "is wrong")
    dying = ScriptedFeed(Stopping(), page(refused))
    dying.is_away = True
    with pytest.raises(PeerUnavailable):
        Follower(room.database, dying, room.react).run(Stopping())
    feed = ScriptedFeed(Stopping())
    Follower(room.database, feed, room.react)._take(page(change(2, BINH)))  # it was following all the time
    assert feed.acknowledged == [(Cursor(7, 2), [(refused.change_id, "FIELD_INVALID")], [])]


def test_a_recovery_that_was_not_said_before_a_crash_is_said_at_the_start(
    room: Room, retrying: Callable[[ScriptedFeed], Follower[RingUnit]]
) -> None:
    refused = change(1)
    room.faults[1] = InvalidField("pin", "is wrong")
    room.follow(page(refused))
    room.faults.clear()
    away = ScriptedFeed(Stopping())
    away.is_away = True
    follower = retrying(away)
    retry(room)
    follower.wake()
    wait_until(lambda: room.aside() == [])
    assert (Cursor(7, 1), [], [refused.change_id]) in room.follow().acknowledged


def test_a_refused_acknowledgement_at_the_start_stops_nobody(room: Room) -> None:
    room.follow(page(change(1)))

    class Outdated(ScriptedFeed):
        def acknowledge(self, applied: Cursor | None, rejected: object, recovered: object) -> None:
            if not self.watched:
                raise PeerRefused(Refusal(grpc.StatusCode.OUT_OF_RANGE, reason="CURSOR_OUTDATED"))
            super().acknowledge(applied, [], [])

    stopping = Stopping()
    feed = Outdated(stopping, page(change(2)))
    Follower(room.database, feed, room.react).run(stopping)
    assert room.applied == [1, 2]


def test_a_feed_that_is_away_ends_the_run_and_loses_nothing(room: Room) -> None:
    with pytest.raises(PeerUnavailable):
        room.follow(page(change(1)), PeerUnavailable("sharing"))
    assert room.cursor() == Cursor(7, 1)


def test_two_replicas_apply_each_change_once(room: Room) -> None:
    pages = [page(change(position, UUID(int=position % 5))) for position in range(1, 60)]
    replicas, feeds = [], []
    for number in range(2):
        stopping = Stopping()
        feed = ScriptedFeed(stopping, *pages)
        feeds.append(feed)
        follower = Follower(room.database, feed, room.react)

        def run(_: Stopping, follower: Follower[RingUnit] = follower, stopping: Stopping = stopping) -> None:
            follower.run(stopping)

        replicas.append(Background(f"follower {number}", run))
    for replica in replicas:
        replica.start()
    wait_until(lambda: not any(replica.is_running for replica in replicas), 20)
    assert room.applied == list(range(1, 60))
    assert room.cursor() == Cursor(7, 59)


def test_a_cursor_is_read_without_being_made(engine: Engine) -> None:
    empty(engine)

    def followed(connection: Connection) -> Followed:
        return Followed(connection)

    with Database(engine, followed).transaction() as opened:
        assert opened.cursor() == Cursor(0, 0)
        assert opened.lock_cursor() == Cursor(0, 0)
        opened.move(Cursor(7, 1))
        assert opened.cursor() == Cursor(7, 1)


def test_a_room_has_caught_up_once_it_followed_the_feed_to_its_head(room: Room, engine: Engine) -> None:
    def has_caught_up() -> bool:
        with room.database.transaction() as unit:
            return unit.followed.has_caught_up()

    room.follow(page(change(1)))
    assert not has_caught_up()
    with room.database.transaction() as unit, pytest.raises(PeerUnavailable):
        unit.followed.require_caught_up()
    feed = room.follow(Page([], Cursor(7, 1), is_head=True), Page([], Cursor(7, 1), is_head=True))
    assert has_caught_up(), "an empty page says so too"
    assert [cursor for cursor, _, _ in feed.acknowledged] == [Cursor(7, 1)] * 2, "once, besides the first word"
    room.follow(page(change(2)))
    assert has_caught_up(), "later news change nothing"
    with engine.begin() as connection:
        connection.execute(STORE.insert().values(incarnation=2))  # as after a restore from a backup
    try:
        assert not has_caught_up(), "what was told since the backup is not known"
        room.follow(Page([change(3)], Cursor(7, 3), is_head=True))
        assert has_caught_up()
    finally:
        with engine.begin() as connection:
            connection.execute(STORE.delete().where(STORE.c.incarnation == 2))
