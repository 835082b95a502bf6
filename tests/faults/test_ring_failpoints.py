"""Rooms that die at every commit, send and acknowledgement: nothing acknowledged is lost, nothing is applied twice."""

from collections.abc import Iterator
from signal import SIGCONT, SIGSTOP

import pytest

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE
from tests.mesh_fixture import wait_until
from tests.ring import SOURCES, Ring, open_ring, some_day

_ACTING = ["answer.kept", "call.answering"]
_HANDING_ON = ["relay.read", "relay.delivered", "relay.settled"]
_FOLLOWING = ["follower.received", "follower.applied", "follower.acknowledged"]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """The ring, in processes that can be killed."""
    with open_ring(tmp_path_factory.mktemp("failpoints"), 25001) as ring:
        yield ring


@pytest.fixture(autouse=True)
def nobody(ring: Ring) -> None:
    """Each test has people of its own."""
    ring.humans = []
    ring.acts = ring.count("civil_status", "acts")


def live(ring: Ring) -> None:
    """A small family's life: every room acts, hands on, follows and reacts."""
    wife = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(40))
    husband = ring.birth("Trần Văn Đức", SEX_MALE, some_day(42))
    ring.birth("Trần Thị Hoà", SEX_FEMALE, some_day(10), wife)
    ring.marry(wife, husband)
    ring.move(husband, "Số 1 đường Lê Lợi")
    ring.issue_card(husband, f"F{ring.count('identity', 'cards'):08d}")
    ring.correct(wife)
    ring.die(husband)


@pytest.mark.parametrize("failpoint", [*_ACTING, *_HANDING_ON, *_FOLLOWING])
def test_every_source_room_dies_there_and_nothing_is_lost_or_done_twice(ring: Ring, failpoint: str) -> None:
    for room in SOURCES:
        ring.die_at(room, failpoint)
    live(ring)
    ring.settle()
    ring.compare()
    assert [room for room in SOURCES if ring.failpoints[room].exists()] == []  # each of them did die there


def test_sharing_dies_before_it_answers_and_nothing_is_lost_or_done_twice(ring: Ring) -> None:
    ring.die_at("sharing", "call.answering")
    live(ring)
    ring.settle()
    ring.compare()
    assert not ring.failpoints["sharing"].exists()


def test_postgresql_dies_and_nothing_is_lost_or_done_twice(ring: Ring) -> None:
    wife = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(40))
    ring.kill("postgres")
    ring.move(wife, "Số 2 đường Lê Lợi")
    ring.kill("postgres")
    ring.correct(wife)
    ring.mesh.wait_ready("postgres")
    ring.settle()
    ring.compare()


def test_a_birth_is_registered_while_sharing_is_down_and_is_contributed_afterwards(ring: Ring) -> None:
    ring.mesh.kill("sharing", SIGSTOP)
    try:
        child = ring.birth("Lê Văn Bình", SEX_MALE, some_day(1))
        wait_until(lambda: ring.count("civil_status", "outbox") > 0)
        assert ring.count("civil_status", "people", f"pin = '{child.pin}'") == 1
    finally:
        ring.mesh.kill("sharing", SIGCONT)
    ring.settle()
    ring.compare()


def test_nothing_is_registered_while_identity_is_down(ring: Ring) -> None:
    before = ring.count("civil_status", "acts"), ring.count("civil_status", "outbox")
    ring.mesh.kill("identity", SIGSTOP)
    try:
        refusal = ring.refusal_of_birth("Lê Văn Tĩnh", SEX_MALE, some_day(1))
        assert (refusal.reason, refusal.metadata["peer"]) == ("PEER_UNAVAILABLE", "identity")
        assert (ring.count("civil_status", "acts"), ring.count("civil_status", "outbox")) == before
    finally:
        ring.mesh.kill("identity", SIGCONT)
    ring.birth("Lê Văn Tĩnh", SEX_MALE, some_day(1))
    ring.settle()
    ring.compare()
