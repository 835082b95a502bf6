"""What cannot be recorded is not released: with a log that takes no entry nothing about a person leaves the room."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from npd.common.v1.person_pb2 import Person, PersonName
from npd.sharing.v1.change_pb2 import Cursor, PullChangesRequest, WatchChangesRequest
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd.sharing.v1.usage_pb2 import FindUsageRequest
from npd_client.errors import Refusal, refusal_of
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CHANGES,
    CONTRIBUTE,
    DISCLOSED,
    LOOKUP,
    NO_MATCH,
    USAGE,
    Party,
    Scene,
    bare,
    stated,
    whole,
)

FAULTS = {
    "no right to write": (
        "REVOKE INSERT ON log_pending FROM CURRENT_USER",
        "GRANT INSERT ON log_pending TO CURRENT_USER",
    ),
    "a constraint": (
        "ALTER TABLE log_pending ADD CONSTRAINT full_up CHECK (false) NOT VALID",
        "ALTER TABLE log_pending DROP CONSTRAINT full_up",
    ),
    "a trigger": (
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON log_pending FOR EACH ROW EXECUTE FUNCTION refuse()""",
        "DROP TRIGGER refuse ON log_pending; DROP FUNCTION refuse()",
    ),
}


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["sex"], CHANGES: ["sex"], USAGE: ["pin"], CONTRIBUTE: ["phone"]})


@contextmanager
def unwritable(scene: Scene, fault: str = "no right to write") -> Iterator[None]:
    """While the block runs the log takes no entry."""
    begin, end = FAULTS[fault]
    scene.rows(begin)
    try:
        yield
    finally:
        scene.rows(end)


def unavailable(call: Callable[..., Any], request: Message) -> Refusal:
    """What a call gets that finds the log unwritable."""
    with pytest.raises(grpc.RpcError) as raised:
        whole(call, request)
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert refusal.retry_after == timedelta(seconds=1)
    return refusal


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_released_while_the_log_takes_no_entry(scene: Scene, tax: Party, fault: str) -> None:
    person = scene.citizen()
    with scene.recording() as entries:
        with unwritable(scene, fault):
            refusal = unavailable(tax.lookup.GetCitizen, tax.asks(person))
            assert person.pin not in str(refusal)
            unavailable(tax.usage.FindUsage, FindUsageRequest(access=tax.access, identity=stated(person)))
        assert entries == []
        assert tax.get_citizen(person).outcome == DISCLOSED, "and then it recovers by itself"
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, "sex")]


def test_changes_wait_until_they_can_be_recorded(scene: Scene, tax: Party) -> None:
    def head() -> Cursor:
        wait_until(lambda: scene.rows("SELECT 1 FROM changes_pending") == [])
        [(position,)] = scene.rows("SELECT max(position) FROM changes")
        return Cursor(incarnation=1, position=position)

    scene.citizen()
    start = head()
    with scene.recording() as entries:
        with unwritable(scene):
            person = scene.citizen()
            wait_until(lambda: head() != start)
            unavailable(tax.changes.WatchChanges, WatchChangesRequest(access=tax.access, cursor=start))
            unavailable(tax.changes.PullChanges, PullChangesRequest(access=tax.access, cursor=start))
        answer = tax.changes.PullChanges(PullChangesRequest(access=tax.access, cursor=start))
    assert [change.pin for change in answer.changes] == [person.pin], "the cursor has not moved"
    assert [bare(entry) for entry in entries] == [tax.entry(PullChangesRequest, DISCLOSED, CHANGES, "pin", "sex")]


def test_mismatch_that_cannot_be_recorded_is_not_told_either(scene: Scene, tax: Party) -> None:
    person, counted = scene.citizen(), "SELECT coalesce(sum(count), 0) FROM mismatches"
    wrong = Person(pin=person.pin, full_name=PersonName(full="Ai Đó"), birth_date=person.birth_date)
    before = scene.rows(counted)
    with unwritable(scene):
        for _ in range(6):
            unavailable(tax.lookup.GetCitizen, tax.asks(wrong))
    assert scene.rows(counted) == before, "what was not answered is not counted"
    with scene.recording() as entries:
        assert tax.get_citizen(wrong).outcome == NO_MATCH
    assert [entry.outcome for entry in entries] == [NO_MATCH]


def test_refusal_stands_though_it_cannot_be_recorded(scene: Scene, tax: Party) -> None:
    request = tax.asks(scene.citizen(), "religion")
    with scene.recording() as entries, unwritable(scene), pytest.raises(grpc.RpcError) as raised:
        tax.lookup.GetCitizen(request)
    assert refusal_of(raised.value).reason == "FIELD_NOT_GRANTED"
    assert entries == []


def test_contributions_are_taken_for_they_disclose_nothing(scene: Scene, tax: Party) -> None:
    item = scene.news(scene.citizen(), Person(phone="+84000000003"), "phone")
    with scene.recording() as entries, unwritable(scene):
        assert [result.status for result in tax.contribute(item)] == [APPLIED]
    assert entries == []
