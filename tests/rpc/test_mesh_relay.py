"""The outbox and its relay on a real store: in order by subject, at least once, nothing dropped, poison set aside."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select

from services.local.postgres import EmbeddedPostgres
from services.mesh.core.background import Background
from services.mesh.core.chain import Causation
from services.mesh.core.db import Database, DirectConnection
from services.mesh.core.errors import InvalidField, PeerUnavailable
from services.mesh.core.outbox import Fate, Message, Outbox, backoff
from services.mesh.core.relay import Deliver, Relay
from services.mesh.core.tables import OUTBOX
from tests.mesh_fixture import wait_until
from tests.mesh_store import empty, open_store

PEER = "sharing"
ANNA, BINH, CHI = (UUID(int=number) for number in (1, 2, 3))
OK = Fate()
Open = Callable[..., Relay]


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    engine = open_store(postgres, "mesh_relay")
    yield engine
    engine.dispose()


@pytest.fixture
def database(engine: Engine) -> Database[Outbox]:
    empty(engine)
    return Database(engine, Outbox)


@pytest.fixture
def relay(engine: Engine, database: Database[Outbox]) -> Iterator[Open]:
    """Opens relays, each on a lock's connection of its own, as replicas have."""
    locks: list[DirectConnection] = []

    def opened(deliver: Deliver, **more: Deliver) -> Relay:
        locks.append(DirectConnection(engine))
        return Relay(PEER, database, locks[-1], {"contribution": deliver, **more})

    yield opened
    for lock in locks:
        lock.close()


class Receiver:
    """Takes messages, and refuses or breaks on those it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.refused: dict[str, Fate] = {}
        self.broken: set[str] = set()
        self.is_away = False

    def __call__(self, messages: Sequence[Message]) -> list[Fate]:
        if self.is_away:
            raise PeerUnavailable(PEER)
        texts = [message.payload.decode() for message in messages]
        if self.broken & set(texts):
            raise InvalidField("items", "is broken")
        self.calls.append(texts)
        return [self.refused.get(text, OK) for text in texts]


def put(
    database: Database[Outbox], *told: tuple[UUID, str], peer: str = PEER, kind: str = "contribution"
) -> list[UUID]:
    """Messages of subjects, written in one transaction; returns their ids."""
    messages = [
        Message(uuid4(), peer, kind, subject, text.encode(), Causation(uuid4(), uuid4())) for subject, text in told
    ]
    with database.transaction() as outbox:
        outbox.put(*messages)
    return [message.message_id for message in messages]


def extent(database: Database[Outbox]) -> tuple[int, int]:
    """How many messages wait, and how many are set aside."""
    with database.transaction() as outbox:
        waiting, _, aside = outbox.extent()
    return waiting, aside


def make_due(engine: Engine) -> None:
    """Let the time of postponed messages come."""
    with engine.begin() as connection:
        connection.execute(OUTBOX.update().values(due_time=None))


def test_a_subjects_messages_leave_one_after_the_other_and_in_order(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"), (ANNA, "a2"), (BINH, "b1"), (ANNA, "a3"))
    receiver = Receiver()
    handing = relay(receiver)
    assert [handing.step() for _ in range(4)] == [2, 1, 1, 0]
    assert receiver.calls == [["a1", "b1"], ["a2"], ["a3"]]
    assert extent(database) == (0, 0)


def test_what_is_for_another_peer_stays(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"), peer="identity")
    put(database, (ANNA, "a2"))
    receiver = Receiver()
    assert relay(receiver).step() == 1
    assert receiver.calls == [["a2"]], "the order is kept for each peer by itself"
    assert extent(database) == (1, 0)


def test_while_the_peer_is_away_everything_stays_as_it_is(
    engine: Engine, database: Database[Outbox], relay: Open
) -> None:
    put(database, (ANNA, "a1"), (BINH, "b1"))
    receiver = Receiver()
    receiver.is_away = True
    handing = relay(receiver)
    for _ in range(7):
        with pytest.raises(PeerUnavailable):
            handing.step()
    with engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.attempts, OUTBOX.c.due_time))
        assert [(row.attempts, row.due_time) for row in rows] == [(0, None)] * 2
    receiver.is_away = False
    assert [handing.step(), handing.step()] == [1, 1], "it begins anew with small portions"


def test_one_message_that_the_peer_cannot_cope_with_does_not_stop_the_others(
    database: Database[Outbox], relay: Open
) -> None:
    people = [uuid4() for _ in range(40)]
    put(database, *((one, f"m{number}") for number, one in enumerate(people)))
    receiver = Receiver()

    def deliver(messages: Sequence[Message]) -> list[Fate]:
        if any(message.payload == b"m7" for message in messages):
            raise PeerUnavailable(PEER)  # it makes the peer time out, which looks like a peer that is away
        return receiver(messages)

    handing = relay(deliver)
    for _ in range(200):
        with suppress(PeerUnavailable):
            handing.step()
    assert sorted(text for call in receiver.calls for text in call) == sorted(f"m{n}" for n in range(40) if n != 7)
    assert extent(database) == (1, 0)


def test_while_nothing_is_taken_no_fault_is_counted(engine: Engine, database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"), (BINH, "b1"))
    receiver = Receiver()
    receiver.broken = {"a1", "b1"}
    handing = relay(receiver)
    for _ in range(9):
        make_due(engine)
        handing.step()
    assert extent(database) == (2, 0), "the peer is at fault: it takes nothing at all"
    receiver.broken = set()
    make_due(engine)
    assert handing.step() == 2


def test_what_is_refused_is_set_aside_and_only_its_own_subject_waits(database: Database[Outbox], relay: Open) -> None:
    ids = put(database, (ANNA, "a1"), (ANNA, "a2"), (BINH, "b1"), (BINH, "b2"))
    receiver = Receiver()
    receiver.refused["a1"] = Fate("PERSON_UNKNOWN", "pin")
    handing = relay(receiver)
    while handing.step():
        pass
    assert receiver.calls == [["a1", "b1"], ["b2"]]
    assert extent(database) == (1, 1), "the second message waits behind the first"
    with database.transaction() as outbox:
        (aside,) = outbox.all_set_aside()
    assert (aside.message_id, aside.direction, aside.peer) == (ids[0], "OUTGOING", PEER)
    assert (aside.reason, aside.field, aside.attempts) == ("PERSON_UNKNOWN", "pin", 1)
    assert aside.record_time <= aside.set_aside_time


def test_a_command_lets_it_leave_and_the_others_after_it(database: Database[Outbox], relay: Open) -> None:
    ids = put(database, (ANNA, "a1"), (ANNA, "a2"), (BINH, "b1"))
    receiver = Receiver()
    receiver.refused = {"a1": Fate("FIELD_INVALID"), "b1": Fate("FIELD_INVALID")}
    handing = relay(receiver)
    handing.step()
    receiver.refused = {}
    with database.transaction() as outbox:
        assert outbox.retry([ids[0], ids[1], uuid4()], at=datetime.now(UTC)) == [ids[0]], "what waits is not set aside"
    receiver.calls.clear()
    assert [handing.step() for _ in range(3)] == [1, 1, 0]
    assert receiver.calls == [["a1"], ["a2"]]
    with database.transaction() as outbox:
        assert outbox.retry([], at=datetime.now(UTC)) == [ids[2]], "none named means all"
    assert handing.step() == 1
    assert extent(database) == (0, 0)


def test_what_is_refused_again_is_set_aside_again(database: Database[Outbox], relay: Open) -> None:
    (message_id,) = put(database, (ANNA, "a1"))
    receiver = Receiver()
    receiver.refused["a1"] = Fate("FIELD_INVALID")
    handing = relay(receiver)
    for _ in range(2):
        assert handing.step() == 1
        with database.transaction() as outbox:
            assert outbox.retry([message_id], at=datetime.now(UTC)) == [message_id]
    assert handing.step() == 1
    assert extent(database) == (0, 1)


def test_a_fault_is_pinned_on_its_message_and_no_other_waits_for_it(
    engine: Engine, database: Database[Outbox], relay: Open
) -> None:
    put(database, (ANNA, "a1"), (BINH, "b1"), (CHI, "c1"), (BINH, "b2"))
    receiver = Receiver()
    receiver.broken = {"b1"}
    handing = relay(receiver)
    assert handing.step() == 2
    assert receiver.calls == [["a1"], ["c1"]]
    assert handing.step() == 0, "it is postponed, and what follows it waits"
    for number in range(3):
        put(database, (CHI, f"c{number + 2}"))  # the peer takes others: the fault is the message's
        make_due(engine)
        assert handing.step() == 1
    assert extent(database) == (2, 0)
    put(database, (CHI, "c5"))
    make_due(engine)
    assert handing.step() == 2
    assert extent(database) == (1, 1)
    with database.transaction() as outbox:
        (aside,) = outbox.all_set_aside()
    assert (aside.reason, aside.field, aside.attempts) == ("FIELD_INVALID", "items", 5)


def test_a_peer_that_leaves_while_a_fault_is_looked_for_undoes_nothing(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"), (BINH, "b1"), (CHI, "c1"))
    receiver = Receiver()
    receiver.broken = {"b1"}

    def leaves(messages: Sequence[Message]) -> Sequence[Fate]:
        receiver.is_away = [message.payload for message in messages] == [b"c1"]
        return receiver(messages)

    handing = relay(leaves)
    assert handing.step() == 1
    assert extent(database) == (2, 0)
    with pytest.raises(PeerUnavailable):
        handing.step()  # the broken one is postponed, as its failure was counted
    assert receiver.calls == [["a1"]], "what came does not come again"


def test_a_fault_that_passes_leaves_nothing_behind(engine: Engine, database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"))
    receiver = Receiver()
    receiver.broken = {"a1"}
    handing = relay(receiver)
    for _ in range(4):
        handing.step()
        make_due(engine)
    receiver.broken = set()
    assert handing.step() == 1
    assert extent(database) == (0, 0)


def test_what_came_while_the_answer_was_lost_comes_again(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"), (ANNA, "a2"))
    arrived: list[str] = []

    def lost(messages: Sequence[Message]) -> list[Fate]:
        arrived.extend(message.payload.decode() for message in messages)
        if len(arrived) == 1:
            raise PeerUnavailable(PEER)
        return [OK] * len(messages)

    handing = relay(lost)
    with pytest.raises(PeerUnavailable):
        handing.step()
    while handing.step():
        pass
    assert arrived == ["a1", "a1", "a2"], "never the second before the first is known to have come"


def test_kinds_go_their_own_ways_and_what_is_settled_stays_so(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"))
    put(database, (BINH, "b1"), kind="use")
    receiver, away = Receiver(), Receiver()
    away.is_away = True
    handing = relay(receiver, use=away)
    assert handing.step() == 1
    assert receiver.calls == [["a1"]]
    with pytest.raises(PeerUnavailable):
        handing.step()
    away.is_away = False
    assert handing.step() == 1
    assert away.calls == [["b1"]]


def test_a_kind_that_this_release_does_not_know_waits_and_stops_nobody(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"), kind="newer")
    put(database, (ANNA, "a2"), (BINH, "b1"))
    receiver, newer = Receiver(), Receiver()
    old = relay(receiver)
    assert [old.step(), old.step()] == [1, 0]
    assert receiver.calls == [["b1"]], "what is behind it keeps its place"
    assert extent(database) == (2, 0)
    old._lock.close()
    wait_until(lambda: relay(receiver, newer=newer).step() == 1)
    assert newer.calls == [["a1"]]


def test_one_replica_relays_and_another_takes_over(database: Database[Outbox], engine: Engine) -> None:
    put(database, (ANNA, "a1"), (ANNA, "a2"))
    first_lock, second_lock = DirectConnection(engine), DirectConnection(engine)
    receiver = Receiver()
    first = Relay(PEER, database, first_lock, {"contribution": receiver})
    second = Relay(PEER, database, second_lock, {"contribution": receiver})
    assert (first.step(), second.step()) == (1, 0)
    first_lock.close()
    wait_until(lambda: second.step() == 1)
    assert first.step() == 0, "it has lost its place"
    second_lock.close()
    assert receiver.calls == [["a1"], ["a2"]]


def test_replicas_together_deliver_each_message_once_and_in_order(database: Database[Outbox], relay: Open) -> None:
    subjects = [UUID(int=number) for number in range(1, 21)]
    came: dict[UUID, list[int]] = {subject: [] for subject in subjects}
    mutex = threading.Lock()

    def deliver(messages: Sequence[Message]) -> list[Fate]:
        with mutex:
            for message in messages:
                came[message.subject_id].append(int(message.payload))
        return [OK] * len(messages)

    replicas = [Background(f"relay {number}", relay(deliver).run) for number in range(2)]
    for replica in replicas:
        replica.start()
    for number in range(10):
        put(database, *((subject, str(number)) for subject in subjects))
    wait_until(lambda: extent(database) == (0, 0), 20)
    for replica in replicas:
        replica.stop()
    assert set(map(tuple, came.values())) == {tuple(range(10))}


def test_a_relay_waits_for_its_peer_and_goes_on_by_itself(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"))
    receiver = Receiver()
    receiver.is_away = True
    handing = relay(receiver)
    running = Background("relay", handing.run)
    running.start()
    put(database, (BINH, "b1"))
    handing.wake()
    assert extent(database) == (2, 0)
    receiver.is_away = False
    wait_until(lambda: extent(database) == (0, 0))
    running.stop()
    assert sorted(text for call in receiver.calls for text in call) == ["a1", "b1"]


def test_what_is_due_is_the_first_of_each_subject_if_its_time_has_come(database: Database[Outbox]) -> None:
    now = datetime.now(UTC)
    put(database, (ANNA, "a1"), (BINH, "b1"), (ANNA, "a2"), (CHI, "c1"))

    def due(at: datetime, limit: int = 10) -> list[str]:
        with database.transaction() as outbox:
            return [waiting.message.payload.decode() for waiting in outbox.next_due(PEER, ["contribution"], at, limit)]

    assert due(now) == ["a1", "b1", "c1"]
    assert due(now, limit=2) == ["a1", "b1"]
    with database.transaction() as outbox:
        first = outbox.next_due(PEER, ["contribution"], now, 1)[0]
        outbox.postpone(first.number, now + timedelta(seconds=8), "INTERNAL")
    assert due(now) == ["b1", "c1"]
    assert due(now + timedelta(seconds=8)) == ["a1", "b1", "c1"]


def test_what_is_rolled_back_never_leaves(database: Database[Outbox], relay: Open) -> None:
    def fail() -> None:
        with database.transaction() as outbox:
            outbox.put(Message(uuid4(), PEER, "contribution", ANNA, b"a1", Causation(uuid4(), uuid4())))
            assert outbox.has_new
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    receiver = Receiver()
    assert relay(receiver).step() == 0
    assert receiver.calls == []


def test_pauses_double_up_to_a_minute() -> None:
    pauses = [backoff(attempts).total_seconds() for attempts in range(10)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == 60
    assert all(before <= after for before, after in pairwise(pauses))


def keeping(engine: Engine, database: Database[Outbox], receiver: Receiver) -> Relay:
    """A relay that keeps what it delivers."""
    return Relay(PEER, database, DirectConnection(engine), {"contribution": receiver}, keeps=True)


def redelivered(database: Database[Outbox], since: datetime, limit: int = 100, peer: str = PEER) -> int:
    """How many messages go back into the outbox."""
    with database.transaction() as outbox:
        return outbox.redeliver(peer, since, datetime.now(UTC), limit)


def test_what_was_delivered_is_kept_and_is_told_again_in_its_order_and_before_what_is_newer(
    engine: Engine, database: Database[Outbox]
) -> None:
    ids = put(database, (ANNA, "a1"), (BINH, "b1"), (ANNA, "a2"))
    receiver = Receiver()
    handing = keeping(engine, database, receiver)
    while handing.step():
        pass
    assert extent(database) == (0, 0)
    put(database, (ANNA, "a3"))
    receiver.calls.clear()
    assert redelivered(database, datetime.now(UTC) - timedelta(minutes=1)) == 3
    with database.transaction() as outbox:
        due = outbox.next_due(PEER, ["contribution"], datetime.now(UTC), 10)
    assert [one.message.message_id for one in due] == ids[:2], "with the ids by which they were told"
    while handing.step():
        pass
    assert receiver.calls == [["a1", "b1"], ["a2"], ["a3"]]


def test_only_what_this_peer_had_since_then_is_told_again(engine: Engine, database: Database[Outbox]) -> None:
    receiver = Receiver()
    handing = keeping(engine, database, receiver)
    put(database, (ANNA, "a1"))
    handing.step()
    between = datetime.now(UTC)
    put(database, (ANNA, "a2"), (BINH, "b1"))
    handing.step()
    assert redelivered(database, between, peer="identity") == 0
    assert redelivered(database, datetime.now(UTC) + timedelta(seconds=1)) == 0
    assert [redelivered(database, between, limit=1) for _ in range(3)] == [1, 1, 0]
    receiver.calls.clear()
    handing.step()
    assert receiver.calls == [["a2", "b1"]]


def test_what_was_delivered_long_ago_is_forgotten(engine: Engine, database: Database[Outbox]) -> None:
    receiver = Receiver()
    handing = keeping(engine, database, receiver)
    put(database, (ANNA, "a1"), (BINH, "b1"), (CHI, "c1"))
    handing.step()
    with database.transaction() as outbox:
        assert outbox.forget_delivered(datetime.now(UTC) - timedelta(minutes=1), 10) == 0
        assert [outbox.forget_delivered(datetime.now(UTC), 2) for _ in range(2)] == [2, 1]
    assert redelivered(database, datetime.now(UTC) - timedelta(minutes=1)) == 0


def test_a_relay_that_keeps_nothing_leaves_nothing(database: Database[Outbox], relay: Open) -> None:
    put(database, (ANNA, "a1"))
    assert relay(Receiver()).step() == 1
    assert redelivered(database, datetime.now(UTC) - timedelta(minutes=1)) == 0
