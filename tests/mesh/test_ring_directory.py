"""The directory of connected databases: how the source rooms are, and how far what they tell has flowed."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from signal import SIGCONT, SIGSTOP

import pytest
from google.protobuf.json_format import ParseDict

from npd.common.v1.person_pb2 import SEX_FEMALE
from npd.registry.v1.directory_pb2 import (
    CONNECTION_STATE_CONNECTED,
    CONNECTION_STATE_SILENT,
    Connection,
    ListConnectionsResponse,
)
from services.local.sample import OPERATORS
from tests.mesh.test_cli_operators import Answer, run
from tests.mesh_fixture import wait_until
from tests.ring import SOURCES, Human, Ring, open_ring, some_day

_DEGRADED_AFTER, _SILENT_AFTER = timedelta(seconds=5), timedelta(seconds=6)
_ON_ITS_WAY = timedelta(seconds=1)
_SECONDS = 30.0
_NOTHING = {"backlog_count": 0, "set_aside_count": 0, "unapplied_count": 0, "rejected_count": 0}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """The ring, in processes of its own; a room reports every two seconds, and soon counts as silent if it does not."""
    thresholds = {
        "NPD_DEGRADED_AFTER": f"PT{_DEGRADED_AFTER.seconds}S",
        "NPD_SILENT_AFTER": f"PT{_SILENT_AFTER.seconds}S",
    }
    with open_ring(tmp_path_factory.mktemp("directory"), 27001, room_variables={"registry": thresholds}) as ring:
        ring.mesh.publish()
        yield ring


def npd(ring: Ring, *words: str) -> Answer:
    """Run `npd` as the operator's own process."""
    return run(*words, NPDCTL_DIRECTORY=str(ring.mesh.layout.operator(OPERATORS[0]).tls))


def directory(ring: Ring) -> dict[str, Connection]:
    """What the directory says now, by name."""
    return {one.name: one for one in ring.cast.operator.connections()}


def wait_directory(ring: Ring, claim: Callable[[dict[str, Connection]], object]) -> None:
    """Wait until a claim holds of the directory."""
    wait_until(lambda: claim(directory(ring)), _SECONDS)


def figures(one: Connection) -> dict[str, int]:
    """The counts of a connection."""
    return {name: getattr(one, name) for name in _NOTHING}


def is_at_rest(one: Connection) -> bool:
    """Connected, and nothing waits anywhere."""
    no_times = not one.HasField("oldest_backlog_time") and not one.HasField("oldest_unapplied_time")
    return one.state == CONNECTION_STATE_CONNECTED and figures(one) == _NOTHING and no_times


def are_at_rest(connections: dict[str, Connection]) -> bool:
    """Whether all source rooms are."""
    return all(is_at_rest(connections[room]) for room in SOURCES)


def as_json(ring: Ring) -> dict[str, Connection]:
    """What `npd connections --json` prints, by name."""
    answered = npd(ring, "connections", "--json")
    assert answered.returncode == 0, answered.stderr
    told = ParseDict(json.loads(answered.stdout), ListConnectionsResponse())
    return {one.name: one for one in told.connections}


def states(connections: dict[str, Connection]) -> set[int]:
    """The states of the source rooms."""
    return {connections[room].state for room in SOURCES}


def live(ring: Ring) -> Human:
    """Somebody is born and moves: every source room tells something."""
    human = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(30))
    ring.move(human, "Số 1 đường Lê Lợi")
    return human


def test_each_source_room_is_shown_with_what_it_told_last_and_nothing_that_waits(ring: Ring) -> None:
    wait_directory(ring, lambda listed: set(SOURCES) <= listed.keys() and are_at_rest(listed))
    before = datetime.now(UTC)
    assert all(
        not one.HasField("last_contribution_time") or one.last_contribution_time.ToDatetime(UTC) < before
        for one in directory(ring).values()
    )
    live(ring)
    ring.settle()
    after = datetime.now(UTC)

    def have_told(listed: dict[str, Connection]) -> bool:
        times = [listed[room].last_contribution_time.ToDatetime(UTC) for room in SOURCES]
        return all(before <= time <= after for time in times)

    wait_directory(ring, lambda listed: have_told(listed) and are_at_rest(listed))
    told = as_json(ring)
    assert [figures(told[room]) for room in SOURCES] == [_NOTHING] * len(SOURCES)
    assert have_told(told)
    assert [told[room].title for room in SOURCES] == [f"room {room}" for room in SOURCES]


def test_rooms_that_hang_are_silent_and_are_connected_again_when_they_go_on(ring: Ring) -> None:
    wait_directory(ring, are_at_rest)
    for room in SOURCES:
        ring.mesh.kill(room, SIGSTOP)
    stopped = datetime.now(UTC)
    try:
        wait_directory(ring, lambda listed: states(listed) == {CONNECTION_STATE_SILENT})
        listed, now = directory(ring), datetime.now(UTC)
        for room in SOURCES:
            heard = listed[room].last_contact_time.ToDatetime(UTC)
            assert heard < stopped + _ON_ITS_WAY, "what others still send it says nothing of it"
            assert now - heard > _SILENT_AFTER
        assert listed["sharing"].state == CONNECTION_STATE_CONNECTED, "its neighbours are not blamed"
        told = as_json(ring)
        assert (states(told), told["sharing"].state) == ({CONNECTION_STATE_SILENT}, CONNECTION_STATE_CONNECTED)
        shown = npd(ring, "connections").stdout.splitlines()
        assert [line.split()[:2] for line in shown if "SILENT" in line and line.split()[0] in SOURCES] == [
            [room, "SILENT"] for room in sorted(SOURCES)
        ]
    finally:
        for room in SOURCES:
            ring.mesh.kill(room, SIGCONT)
    wait_directory(ring, are_at_rest)


def test_rooms_that_are_killed_come_back_connected(ring: Ring) -> None:
    live(ring)
    ring.settle()
    for room in SOURCES:
        ring.mesh.kill(room)
    for room in SOURCES:
        ring.mesh.wait_ready(room)
    ready = datetime.now(UTC)

    def have_reported(listed: dict[str, Connection]) -> bool:
        return all(listed[room].last_contact_time.ToDatetime(UTC) > ready for room in SOURCES)

    wait_directory(ring, lambda listed: have_reported(listed) and are_at_rest(listed))
    assert states(as_json(ring)) == {CONNECTION_STATE_CONNECTED}


def test_what_waits_for_sharing_is_shown_and_grows_until_sharing_takes_it(ring: Ring) -> None:
    ring.settle()
    wait_directory(ring, are_at_rest)
    began = datetime.now(UTC)
    ring.mesh.kill("sharing", SIGSTOP)
    try:
        counts = [0]
        for name in ("Lê Thị An", "Lê Thị Bình"):
            ring.birth(name, SEX_FEMALE, some_day(1))
            wait_until(lambda: ring.count("civil_status", "outbox", "peer <> 'sharing'") == 0)  # identity is there
            waiting = ring.count("civil_status", "outbox")
            wait_directory(ring, lambda listed, due=waiting: listed["civil_status"].backlog_count == due)  # type: ignore[misc]
            counts.append(waiting)
        assert counts == sorted(set(counts)), "it grows"
        told = as_json(ring)["civil_status"]
        assert figures(told) == {**_NOTHING, "backlog_count": counts[-1]}
        assert began <= told.oldest_backlog_time.ToDatetime(UTC) <= datetime.now(UTC)
        assert told.state == CONNECTION_STATE_CONNECTED
    finally:
        ring.mesh.kill("sharing", SIGCONT)
    ring.settle()
    wait_directory(ring, are_at_rest)
    assert is_at_rest(as_json(ring)["civil_status"])


def test_what_a_follower_has_yet_to_apply_is_shown_with_its_age(ring: Ring) -> None:
    ring.settle()
    wait_directory(ring, are_at_rest)
    began = datetime.now(UTC)
    ring.mesh.kill("residence", SIGSTOP)
    try:
        ring.birth("Lê Thị Cúc", SEX_FEMALE, some_day(1))
        wait_directory(ring, lambda listed: listed["residence"].unapplied_count > 0)
        wait_directory(ring, lambda listed: listed["civil_status"].unapplied_count == 0)
        told = as_json(ring)["residence"]
        assert began <= told.oldest_unapplied_time.ToDatetime(UTC) <= datetime.now(UTC)
        assert told.unapplied_count > 0
    finally:
        ring.mesh.kill("residence", SIGCONT)
    ring.settle()
    wait_directory(ring, are_at_rest)
