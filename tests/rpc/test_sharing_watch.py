"""WatchChanges: delivers as changes come, ends as planned with its cursor, or at once when the right to it is gone."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import grpc
import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.person_pb2 import Person
from npd.registry.v1 import agency_pb2, agreement_pb2
from npd.sharing.v1.change_pb2 import Change, Cursor, WatchChangesRequest, WatchChangesResponse
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd_client import merkle
from npd_client.errors import Refusal, refusal_of
from tests.mesh_fixture import Desk, Stage, new_id, wait_until
from tests.rpc.test_sharing_callers import (
    CHANGES,
    DISCLOSED,
    LOOKUP,
    REFUSED,
    Party,
    Scene,
    bare,
    require_no_value,
)
from tests.rpc.test_sharing_changes import now

LIFETIME = 3.0
SLOTS = 2
SINGLE = Person(marital_status=person_pb2.MARITAL_STATUS_SINGLE)


class Watching:
    """An open stream, read by a thread of its own."""

    def __init__(self, party: Party, cursor: Cursor | None = None) -> None:
        self.messages: list[WatchChangesResponse] = []
        self.refusal: Refusal | None = None
        self.call = party.changes.WatchChanges(WatchChangesRequest(access=party.access, cursor=cursor), timeout=30)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self.call:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.refusal = refusal_of(error)

    @property
    def changes(self) -> list[Change]:
        """What has come until now."""
        return [change for message in self.messages for change in message.changes]

    @property
    def cursor(self) -> Cursor:
        """Where to go on."""
        return self.messages[-1].cursor

    def end(self) -> Refusal | None:
        """Wait for the end: what it was refused with, None for OK."""
        self._thread.join(LIFETIME + 10)
        assert not self._thread.is_alive()
        return self.refusal


@contextmanager
def watching(scene: Scene, party: Party, cursor: Cursor | None = None) -> Iterator[Watching]:
    """A stream that has given its first sign of life; left, and its slot free again, at the end of the block."""
    slots_taken = scene.sharing.house.streams._open
    before = len(slots_taken)
    stream = Watching(party, cursor)
    wait_until(lambda: stream.messages or stream.refusal)
    assert stream.refusal is None
    try:
        yield stream
    finally:
        stream.call.cancel()
        stream.end()
        wait_until(lambda: len(slots_taken) <= before)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk, stream_slots=SLOTS, watch_lifetime=timedelta(seconds=LIFETIME))


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {CHANGES: ["marital_status"], LOOKUP: ["sex"]})


def tell(scene: Scene, person: Person, told: Person, *paths: str) -> None:
    scene.clock.go_on(timedelta(seconds=1))
    scene.identity.contribute(scene.news(person, told, *paths))


def test_changes_come_as_they_happen_each_with_an_entry(scene: Scene, tax: Party) -> None:
    people = [scene.citizen(marital_status=None) for _ in range(3)]
    with scene.recording() as entries, watching(scene, tax) as stream:
        assert stream.changes == [], "without a cursor a stream begins now"
        scene.identity.contribute(*(scene.news(person, SINGLE, "marital_status") for person in people[:2]))
        wait_until(lambda: len(stream.changes) == 2)
        tell(scene, people[2], Person(phone="+84000000001"), "phone")
        tell(scene, people[2], SINGLE, "marital_status")
        wait_until(lambda: len(stream.changes) == 3)
        assert {change.pin for change in stream.changes} == {person.pin for person in people}
        assert [change.citizen for change in stream.changes] == [SINGLE] * 3
        positions = [change.position for change in stream.changes]
        assert positions == sorted(set(positions))
        assert stream.cursor.position == positions[-1]
    expected = tax.entry(WatchChangesRequest, DISCLOSED, CHANGES, "marital_status", "pin")
    assert [bare(entry) for entry in entries] == [expected] * 3
    leaves = {merkle.leaf_hash(entry.SerializeToString()) for entry in entries}
    assert {change.receipt.leaf_hash for change in stream.changes} == leaves
    for entry, person in zip(entries, sorted(people, key=lambda one: _order(stream, one)), strict=True):
        require_no_value(entry, person)


def _order(stream: Watching, person: Person) -> int:
    return [change.pin for change in stream.changes].index(person.pin)


def test_stream_ends_as_planned_with_ok_and_the_cursor_to_go_on_from(scene: Scene, tax: Party) -> None:
    first, second, third = (scene.citizen(marital_status=None) for _ in range(3))
    with scene.recording() as entries:
        stream = Watching(tax)
        wait_until(lambda: bool(stream.messages))
        tell(scene, first, SINGLE, "marital_status")
        assert stream.end() is None
        assert stream.call.code() is grpc.StatusCode.OK
        assert [change.pin for change in stream.changes] == [first.pin]
        assert stream.cursor == stream.messages[-1].head
        assert list(stream.messages[-1].changes) == [], "the last word is where to go on"
        tell(scene, second, SINGLE, "marital_status")
        with watching(scene, tax, stream.cursor) as resumed:
            tell(scene, third, SINGLE, "marital_status")
            wait_until(lambda: len(resumed.changes) == 2)
            assert [change.pin for change in resumed.changes] == [second.pin, third.pin], "no gap and no repeat"
    assert [entry.outcome for entry in entries] == [DISCLOSED] * 3


@pytest.mark.parametrize(("away", "reason"), [(1_000_000, "CURSOR_OUT_OF_RANGE"), (-1_000_000, "CURSOR_OUT_OF_RANGE")])
def test_stream_does_not_begin_outside_the_feed(scene: Scene, tax: Party, away: int, reason: str) -> None:
    request = WatchChangesRequest(access=tax.access, cursor=Cursor(incarnation=1, position=away))
    scene.refuse(tax, tax.changes.WatchChanges, request, reason)


def test_stream_of_another_incarnation_does_not_begin(scene: Scene, tax: Party) -> None:
    request = WatchChangesRequest(access=tax.access, cursor=Cursor(incarnation=7, position=0))
    refusal = scene.refuse(tax, tax.changes.WatchChanges, request, "CURSOR_OUTDATED")
    assert refusal.metadata == {"incarnation": "1", "position": "0"}


def test_streams_have_their_own_slots_and_leave_the_other_calls_alone(scene: Scene, tax: Party) -> None:
    person = scene.citizen()
    behind_him = now(scene)
    request = WatchChangesRequest(access=tax.access)
    with ExitStack() as streams:
        for _ in range(SLOTS):
            streams.enter_context(watching(scene, tax, behind_him))
        refusal = scene.refuse(tax, tax.changes.WatchChanges, request, "STREAM_SLOTS_TAKEN")
        assert (refusal.code, refusal.metadata) == (grpc.StatusCode.RESOURCE_EXHAUSTED, {"slots": str(SLOTS)})
        assert refusal.retry_after == timedelta(seconds=5)
        with scene.recording() as entries:
            assert [tax.get_citizen(person).outcome for _ in range(10)] == [DISCLOSED] * 10
        assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, "sex")] * 10
    with watching(scene, tax) as stream:
        assert stream.refusal is None, "a slot that was left is free again"


def test_suspended_agreement_ends_its_stream_with_the_reason(scene: Scene) -> None:
    bank = scene.system("bank/core", {CHANGES: ["marital_status"]})
    with scene.recording() as entries, watching(scene, bank) as stream:
        scene.desk.agreements.SuspendAgreement(
            agreement_pb2.SuspendAgreementRequest(
                request_id=new_id(), agreement_id=bank.access.agreement_id, cause="Audit."
            )
        )
        tell(scene, scene.citizen(marital_status=None), SINGLE, "marital_status")
        refusal = stream.end()
        assert refusal is not None
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "AGREEMENT_SUSPENDED")
        assert refusal.metadata == {"agreement": bank.access.agreement_id, "cause": "Audit."}
    assert [(entry.caller, entry.outcome, entry.reason) for entry in entries if entry.outcome == REFUSED] == [
        (bank.identity, REFUSED, "AGREEMENT_SUSPENDED")
    ]


def test_officer_who_leaves_the_roster_takes_his_stream_along(scene: Scene) -> None:
    left = scene.system("left/core", {CHANGES: ["marital_status"]})
    with scene.recording() as entries, watching(scene, left) as stream:
        scene.desk.agencies.RemoveOfficers(
            agency_pb2.RemoveOfficersRequest(request_id=new_id(), agency_id="left", officer_ids=["o-1"])
        )
        refusal = stream.end()
        assert refusal is not None
        assert (refusal.reason, refusal.metadata) == ("OFFICER_NOT_ON_ROSTER", {"officer": "o-1"})
    assert [(entry.outcome, entry.reason) for entry in entries] == [(REFUSED, "OFFICER_NOT_ON_ROSTER")]


def test_suspended_system_loses_its_stream(scene: Scene, tax: Party) -> None:
    shop = scene.system("shop/core", {CHANGES: ["marital_status"]})
    with scene.recording() as entries, watching(scene, tax) as other, watching(scene, shop) as stream:
        scene.desk.systems.SuspendSystem(
            agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="shop", system_id="core", cause="Breach.")
        )
        refusal = stream.end()
        assert refusal is not None
        assert (refusal.reason, refusal.metadata["cause"]) == ("SYSTEM_SUSPENDED", "Breach.")
        assert other.refusal is None, "nobody else's stream is touched"
    assert [(entry.caller, entry.reason) for entry in entries] == [(shop.identity, "SYSTEM_SUSPENDED")]


def test_stream_is_told_of_a_restored_store(scene: Scene, tax: Party) -> None:
    tell(scene, scene.citizen(marital_status=None), SINGLE, "marital_status")
    with scene.recording() as entries, watching(scene, tax) as stream:
        scene.rows("INSERT INTO store (incarnation) VALUES (2)")
        tell(scene, scene.citizen(marital_status=None), SINGLE, "marital_status")
        refusal = stream.end()
    assert refusal is not None
    assert (refusal.reason, refusal.metadata["incarnation"]) == ("CURSOR_OUTDATED", "2")
    assert entries[-1].reason == "CURSOR_OUTDATED"
