"""Rooms follow what the catalogue names them for; lanes; and how far followers have come: Acknowledge."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Event
from typing import Any

import grpc
import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.chain_pb2 import Causation
from npd.common.v1.lane_pb2 import LANE_NORMAL, LANE_VITAL
from npd.common.v1.person_pb2 import DeathOrMissing, Person
from npd.sharing.v1.change_pb2 import (
    AcknowledgeRequest,
    AcknowledgeResponse,
    Change,
    Cursor,
    PullChangesRequest,
    Rejection,
    WatchChangesRequest,
)
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.mesh.core.evidence.entry import Entry, Receipt
from services.mesh.core.evidence.log import Log
from services.mesh.core.following import Cursor as Place
from services.mesh.core.following import FollowedChange, Page
from services.mesh.core.rights import Lane
from services.mesh.wire.follower import Feed
from services.sharing import flow
from services.sharing.changes import operations
from services.sharing.flow import FlowReport
from services.sharing.unit import Sharing
from tests.mesh_fixture import Desk, Stage, new_id, wait_until
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CHANGES,
    DISCLOSED,
    LOOKUP,
    METHODS,
    Party,
    Scene,
    bare,
    refusal_or,
    require_no_value,
)
from tests.rpc.test_sharing_changes import now

SINGLE, MARRIED = (
    Person(marital_status=status) for status in (person_pb2.MARITAL_STATUS_SINGLE, person_pb2.MARITAL_STATUS_MARRIED)
)
DEAD = Person(death_or_missing=DeathOrMissing(kind=person_pb2.DEATH_OR_MISSING_KIND_DEAD))


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {CHANGES: ["marital_status", "death_or_missing", "phone"], LOOKUP: ["sex"]})


@pytest.fixture
def civil_status(scene: Scene) -> Party:
    """The room, which states no ground."""
    room = scene.room("civil_status")
    room.access.Clear()
    return room


def pulls(party: Party, cursor: Cursor | None, **more: Any) -> PullChangesRequest:
    access = party.access if party.agency_id else None
    return PullChangesRequest(access=access, cursor=cursor, **more)


def follow(party: Party, start: Cursor, end: Cursor, **more: Any) -> list[Change]:
    """All changes that a party sees between two places."""
    cursor, found = start, list[Change]()

    def reached() -> bool:
        nonlocal cursor
        answer = party.changes.PullChanges(pulls(party, cursor, **more))
        found.extend(answer.changes)
        cursor = answer.next_cursor
        return cursor.position >= end.position

    wait_until(reached)
    return found


def acknowledge(party: Party, **said: Any) -> AcknowledgeResponse:
    access = party.access if party.agency_id else None
    answer: AcknowledgeResponse = party.changes.Acknowledge(AcknowledgeRequest(access=access, **said))
    return answer


def notes(scene: Scene, party: Party) -> list[tuple[Any, ...]]:
    """What was appended of a follower's marks."""
    query = "SELECT lane, status, position_to FROM acknowledgements WHERE follower = :name ORDER BY position_to, status"
    return scene.rows(query, name=party.name)


# Rooms


def test_room_sees_the_fields_that_name_it_with_subject_lane_and_chain(scene: Scene, civil_status: Party) -> None:
    person, start = scene.citizen(marital_status=None), now(scene)
    told = Person(marital_status=SINGLE.marital_status, phone="+84000000001")
    scene.identity.contribute(scene.news(person, told, "marital_status", "phone"))
    with scene.recording() as entries:
        [change] = follow(civil_status, start, now(scene))
    assert (list(change.changed_paths), change.citizen) == (["marital_status"], SINGLE)
    [(subject_id,)] = scene.rows("SELECT subject_id FROM pins WHERE pin = :pin", pin=person.pin)
    assert (change.subject_id, change.lane) == (str(subject_id), LANE_NORMAL)
    assert change.causation.correlation_id == change.causation.causation_id != ""
    [entry] = entries
    assert (entry.caller, entry.method) == (civil_status.identity, METHODS["npd.sharing.v1.PullChangesRequest"])
    assert (entry.outcome, list(entry.paths), entry.purpose) == (DISCLOSED, ["marital_status", "pin"], "")
    assert not entry.HasField("access"), "a room follows by the catalogue, not by an agreement"
    require_no_value(entry, person)


def test_change_without_a_followed_field_is_passed_over(scene: Scene, civil_status: Party) -> None:
    person, start = scene.citizen(), now(scene)
    scene.identity.contribute(scene.news(person, Person(phone="+84000000002"), "phone"))
    with scene.recording() as entries:
        assert follow(civil_status, start, now(scene)) == []
    assert entries == []


def test_rooms_watch(scene: Scene) -> None:
    room = scene.room("residence")
    start, born = now(scene), scene.birth()
    with scene.recording() as entries:
        stream = room.changes.WatchChanges(WatchChangesRequest(cursor=start), timeout=20)
        scene.identity.contribute(born)
        change = next(one for message in stream for one in message.changes)
        stream.cancel()
    assert (change.pin, change.lane, bool(change.subject_id)) == (born.person.pin, LANE_VITAL, True)
    assert [(entry.caller, entry.outcome) for entry in entries] == [(room.identity, DISCLOSED)]


@pytest.mark.parametrize("method", ["PullChanges", "WatchChanges", "Acknowledge"])
def test_room_names_no_ground(scene: Scene, civil_status: Party, method: str) -> None:
    access = AccessContext(agreement_id=new_id(), case_reference="case/1", officer_id="o-1")
    request = {
        "PullChanges": PullChangesRequest(access=access),
        "WatchChanges": WatchChangesRequest(access=access),
        "Acknowledge": AcknowledgeRequest(access=access),
    }[method]
    refusal = scene.refuse(civil_status, getattr(civil_status.changes, method), request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["access"]


@pytest.mark.parametrize("method", ["PullChanges", "WatchChanges", "Acknowledge"])
def test_agency_must_name_its_ground(scene: Scene, tax: Party, method: str) -> None:
    request = {
        "PullChanges": PullChangesRequest(),
        "WatchChanges": WatchChangesRequest(),
        "Acknowledge": AcknowledgeRequest(),
    }[method]
    refusal = scene.refuse(tax, getattr(tax.changes, method), request, "FIELD_REQUIRED")
    assert [violation.field for violation in refusal.violations] == ["access"]


def test_feed_of_the_mesh_reads_what_is_served_and_acknowledges_it(scene: Scene) -> None:
    """The client that every room of the ring follows with."""
    feed = Feed(scene.sharing.channel(Kind.MESH, "identity"))
    [begun] = list(feed.watch(Place(0, 0)))
    start = now(scene)
    assert begun == Page([], Place(start.incarnation, 0)), "a room that begins is told where"
    cause = Causation(correlation_id=new_id(), causation_id=new_id())
    person = scene.citizen(marital_status=None)
    scene.identity.contribute(
        scene.news(person, Person(full_name=person_pb2.PersonName(full="Lê An")), "full_name", causation=cause)
    )
    changes: list[FollowedChange] = []
    for page in feed.watch(Place(start.incarnation, start.position)):
        changes += page.changes
        if len(changes) == 2:
            break
    assert [change.pin for change in changes] == [person.pin] * 2
    assert str(changes[1].causation.correlation_id) == cause.correlation_id
    assert changes[1].causation.causation_id == changes[1].change_id, "what follows is caused by the change"
    reached = Place(start.incarnation, changes[1].position)
    feed.acknowledge(reached, [(changes[1].change_id, "WAITS_BEHIND_ANOTHER")], ())
    feed.acknowledge(reached, (), [changes[1].change_id])
    applied = "SELECT applied FROM followers WHERE follower = 'identity' AND lane = 0"
    assert scene.rows(applied) == [(reached.position,)]


# Lanes


def test_lanes_part_the_feed_and_cursors_move_over_the_other(scene: Scene, tax: Party) -> None:
    person, start = scene.citizen(marital_status=None, death_or_missing=None, phone=None), now(scene)
    for told, path in ((SINGLE, "marital_status"), (DEAD, "death_or_missing"), (Person(phone="+84"), "phone")):
        scene.clock.go_on(timedelta(seconds=1))
        [result] = scene.identity.contribute(scene.news(person, told, path))
        assert result.status == APPLIED
    end = now(scene)
    with scene.recording() as entries:
        vital = follow(tax, start, end, lane=LANE_VITAL)
        normal = follow(tax, start, end, lane=LANE_NORMAL)
        both = follow(tax, start, end)
    assert [list(change.changed_paths) for change in vital] == [["death_or_missing"]]
    assert [list(change.changed_paths) for change in normal] == [["marital_status"], ["phone"]]
    assert [change.lane for change in both] == [LANE_NORMAL, LANE_VITAL, LANE_NORMAL]
    assert len(entries) == 6
    answer = tax.changes.PullChanges(pulls(tax, start, lane=LANE_VITAL, page_size=1))
    assert answer.next_cursor == Cursor(incarnation=start.incarnation, position=start.position + 2)
    answer = tax.changes.PullChanges(pulls(tax, answer.next_cursor, lane=LANE_VITAL, page_size=1))
    assert (list(answer.changes), answer.next_cursor) == ([], answer.head)


def test_a_vital_field_makes_the_whole_change_vital(scene: Scene, tax: Party) -> None:
    person, start = scene.citizen(death_or_missing=None, marital_status=None), now(scene)
    told = Person(marital_status=SINGLE.marital_status)
    told.MergeFrom(DEAD)
    scene.identity.contribute(scene.news(person, told, "marital_status", "death_or_missing"))
    with scene.recording() as entries:
        [change] = follow(tax, start, now(scene), lane=LANE_VITAL)
    assert list(change.changed_paths) == ["death_or_missing", "marital_status"]
    assert [bare(entry) for entry in entries] == [
        tax.entry(PullChangesRequest, DISCLOSED, CHANGES, "death_or_missing", "marital_status")
    ]


def test_lane_is_served_alike_to_who_is_far_behind(scene: Scene, tax: Party) -> None:
    """The store answers for what the reader has not in memory: as for one who follows from the oldest change."""
    end = now(scene)
    oldest = Cursor(incarnation=end.incarnation)
    whole = [change.change_id for change in follow(tax, oldest, end) if change.lane == LANE_VITAL]
    with scene.sharing.house.database(partial(Sharing, sealer=scene.sharing.house.sealer)).transaction() as tx:
        stored = [str(one.change_id) for one in tx.changes.after(0, 10_000) if one.lane is Lane.VITAL]
        assert [str(one.change_id) for one in tx.changes.after(0, 10_000, Lane.VITAL)] == stored
    assert set(whole) <= set(stored)


def test_watch_of_a_lane_brings_that_lane_alone(scene: Scene, tax: Party) -> None:
    person, start = scene.citizen(marital_status=None, death_or_missing=None), now(scene)
    request = WatchChangesRequest(access=tax.access, cursor=start, lane=LANE_VITAL)
    with scene.recording() as entries:
        stream = tax.changes.WatchChanges(request, timeout=20)
        scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
        scene.identity.contribute(scene.news(person, DEAD, "death_or_missing"))
        change = next(one for message in stream for one in message.changes)
        stream.cancel()
    assert list(change.changed_paths) == ["death_or_missing"]
    assert len(entries) == 1


@pytest.mark.parametrize("lane", [3, -1, 99])
@pytest.mark.parametrize("request_of", [PullChangesRequest, WatchChangesRequest, AcknowledgeRequest])
def test_number_that_is_no_lane_is_refused(scene: Scene, tax: Party, request_of: Callable[..., Any], lane: int) -> None:
    request = request_of(access=tax.access, lane=lane)
    method = METHODS[request.DESCRIPTOR.full_name].rpartition("/")[2]
    refusal = scene.refuse(tax, getattr(tax.changes, method), request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["lane"]


# Acknowledge


def test_marks_move_forward_only_and_each_move_is_noted_once(scene: Scene) -> None:
    system = scene.system("moh/marks", {CHANGES: ["phone"]})
    for _ in range(3):
        scene.citizen()
    head = now(scene)
    older = Cursor(incarnation=head.incarnation, position=head.position - 2)
    with scene.recording() as entries:
        answer = acknowledge(system, received=head, applied=older)
        assert answer == AcknowledgeResponse(received=head, applied=older)
        first = notes(scene, system)
        assert first == [(0, "APPLIED", older.position), (0, "RECEIVED", head.position)]
        assert acknowledge(system, received=head, applied=older) == answer, "a repeat changes nothing"
        oldest = Cursor(incarnation=head.incarnation, position=1)
        assert acknowledge(system, received=oldest, applied=oldest) == answer, "nor does what came late"
        assert acknowledge(system) == answer
        assert notes(scene, system) == first
        assert acknowledge(system, applied=head) == AcknowledgeResponse(received=head, applied=head)
    assert notes(scene, system)[1:] == [(0, "APPLIED", head.position), (0, "RECEIVED", head.position)]
    assert entries == [], "nothing was disclosed"


def test_what_is_applied_has_been_received(scene: Scene) -> None:
    system = scene.system("moh/applies", {CHANGES: ["phone"]})
    scene.citizen()
    head = now(scene)
    assert acknowledge(system, applied=head).received == head
    assert notes(scene, system) == [(0, "APPLIED", head.position), (0, "RECEIVED", head.position)]


def test_each_lane_has_marks_of_its_own(scene: Scene, civil_status: Party) -> None:
    scene.citizen()
    head = now(scene)
    assert acknowledge(civil_status, lane=LANE_VITAL, applied=head).applied == head
    nowhere = Cursor(incarnation=head.incarnation)
    assert acknowledge(civil_status, lane=LANE_NORMAL).applied == nowhere
    assert acknowledge(civil_status).applied == nowhere


def test_followers_at_once_leave_the_furthest_mark(scene: Scene) -> None:
    system = scene.system("moh/replicas", {CHANGES: ["phone"]})
    for _ in range(8):
        scene.citizen()
    head = now(scene)
    places = [Cursor(incarnation=head.incarnation, position=head.position - away) for away in range(8)] * 2
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda cursor: acknowledge(system, applied=cursor), places))
    assert acknowledge(system).applied == head
    positions = [position for _, status, position in notes(scene, system) if status == "APPLIED"]
    assert len(positions) == len(set(positions)), "no move is noted twice"


def test_rejections_count_until_they_are_recovered(scene: Scene) -> None:
    system = scene.system("moh/rejects", {CHANGES: ["marital_status"]})
    start = now(scene)
    one, other = scene.citizen(), scene.citizen()
    for person in (one, other):
        scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
    ids = [change.change_id for change in follow(system, start, now(scene))][-2:]
    rejected = [Rejection(change_id=change_id, reason="CODE_UNKNOWN") for change_id in ids]
    assert acknowledge(system, rejected=rejected).rejected_count == 2
    stored = "SELECT change_id::text, reason, reject_time, recover_time FROM rejections WHERE follower = :name"
    before = scene.rows(stored, name=system.name)
    scene.clock.go_on(timedelta(minutes=1))
    assert acknowledge(system, rejected=rejected).rejected_count == 2
    assert scene.rows(stored, name=system.name) == before, "a repeat changes nothing"
    assert acknowledge(system, recovered=[ids[0]]).rejected_count == 1
    assert acknowledge(system, recovered=ids[:1]).rejected_count == 1
    assert acknowledge(scene.system("moh/other", {CHANGES: ["phone"]}), recovered=ids).rejected_count == 0
    assert acknowledge(system).rejected_count == 1, "nobody recovers for another"


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"rejected": [Rejection(change_id=new_id(), reason="GONE")]}, "rejected"),
        ({"rejected": [Rejection(change_id="x", reason="GONE")]}, "rejected.change_id"),
        ({"rejected": [Rejection(change_id=new_id(), reason="Lê An")]}, "rejected.reason"),
        ({"rejected": [Rejection(change_id=new_id(), reason="R" * 65)]}, "rejected.reason"),
        ({"rejected": [Rejection(change_id=new_id(), reason="P_901090000001")]}, "rejected.reason"),
        ({"rejected": [Rejection(change_id=new_id(), reason="R")] * 1001}, "rejected"),
        ({"recovered": ["x"]}, "recovered"),
        ({"recovered": [new_id()] * 1001}, "recovered"),
        (
            {
                "rejected": [Rejection(change_id="6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21", reason="R")],
                "recovered": ["6F1C24A0-9D8B-4D57-9E0F-3C1B6A7F5D21"],
            },
            "recovered",
        ),
    ],
)
def test_malformed_acknowledgement_is_refused(scene: Scene, tax: Party, said: dict[str, Any], field: str) -> None:
    request = AcknowledgeRequest(access=tax.access, **said)
    refusal = scene.refuse(tax, tax.changes.Acknowledge, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == [field]
    assert scene.rows("SELECT 1 FROM rejections WHERE follower = :name", name=tax.name) == []


def test_rejection_must_say_which_and_why(scene: Scene, tax: Party) -> None:
    request = AcknowledgeRequest(access=tax.access, rejected=[Rejection()])
    refusal = scene.refuse(tax, tax.changes.Acknowledge, request, "FIELD_REQUIRED")
    assert [violation.field for violation in refusal.violations] == ["change_id", "reason"]


@pytest.mark.parametrize("mark", ["received", "applied"])
def test_mark_beyond_the_head_is_refused_and_moves_nothing(scene: Scene, tax: Party, mark: str) -> None:
    head = now(scene)
    before = notes(scene, tax)
    ahead = Cursor(incarnation=head.incarnation, position=head.position + 1)
    request = AcknowledgeRequest(access=tax.access, **{mark: ahead})  # type: ignore[arg-type]
    refusal = scene.refuse(tax, tax.changes.Acknowledge, request, "CURSOR_OUT_OF_RANGE")
    assert (refusal.code, refusal.metadata["head"]) == (grpc.StatusCode.OUT_OF_RANGE, str(head.position))
    assert notes(scene, tax) == before


def test_acknowledging_needs_the_right_of_a_pull(scene: Scene) -> None:
    reader = scene.system("moh/reader", {LOOKUP: ["sex"]})
    request = AcknowledgeRequest(access=reader.access, applied=now(scene))
    scene.refuse(reader, reader.changes.Acknowledge, request, "MODE_NOT_GRANTED")
    assert notes(scene, reader) == []


def test_rejected_change_is_refused_as_a_whole_when_one_is_unknown(scene: Scene) -> None:
    system = scene.system("moh/whole", {CHANGES: ["phone"]})
    scene.citizen()
    head = now(scene)
    unknown = [Rejection(change_id=new_id(), reason="GONE")]
    answer = refusal_or(
        system.changes.Acknowledge, AcknowledgeRequest(access=system.access, applied=head, rejected=unknown)
    )
    assert isinstance(answer, Refusal)
    assert notes(scene, system) == []


# From where a follower is served


def first_places(scene: Scene, party: Party) -> list[tuple[int, int]]:
    """From where a follower was served, by lane."""
    query = "SELECT lane, position_from FROM followings WHERE follower = :name ORDER BY lane"
    return [(lane, position) for lane, position in scene.rows(query, name=party.name)]


def test_place_from_which_a_follower_is_served_is_kept(scene: Scene) -> None:
    system = scene.system("moh/first", {CHANGES: ["phone"]})
    for _ in range(3):
        scene.citizen()
    head = now(scene)
    back = Cursor(incarnation=head.incarnation, position=head.position - 2)
    system.changes.PullChanges(pulls(system, head))
    assert first_places(scene, system) == [(0, head.position)]
    system.changes.PullChanges(pulls(system, back))
    system.changes.PullChanges(pulls(system, head))
    assert first_places(scene, system) == [(0, back.position)]
    request = WatchChangesRequest(access=system.access, cursor=back, lane=LANE_VITAL)
    stream = system.changes.WatchChanges(request, timeout=20)
    wait_until(lambda: len(first_places(scene, system)) == 2)
    stream.cancel()
    assert first_places(scene, system) == [(0, back.position), (1, back.position)]
    system.changes.PullChanges(pulls(system, None))
    assert first_places(scene, system)[0] == (0, 0)


def test_who_acknowledges_without_being_served_begins_there(scene: Scene) -> None:
    system = scene.system("moh/claims", {CHANGES: ["phone"]})
    scene.citizen()
    head = now(scene)
    acknowledge(system)
    assert first_places(scene, system) == []
    acknowledge(system, applied=head)
    acknowledge(system, applied=head)
    assert first_places(scene, system) == [(0, head.position)]


def test_log_that_takes_too_long_is_an_unavailable_store(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own deadline has not passed."""
    system, start = scene.system("moh/waits", {CHANGES: ["marital_status"]}), now(scene)
    scene.identity.contribute(scene.news(scene.citizen(marital_status=None), SINGLE, "marital_status"))
    now(scene)
    held, release = Event(), Event()
    record = Log.record_all

    def slowly(log: Log, entries: Sequence[Entry]) -> list[Receipt]:
        held.set()
        assert release.wait(30)
        return record(log, entries)

    monkeypatch.setattr(Log, "record_all", slowly)
    monkeypatch.setattr(operations, "_RECORD_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(system.changes.PullChanges, pulls(system, start), timeout=60)
        try:
            assert held.wait(30)
            answer = refusal_or(system.changes.PullChanges, pulls(system, start))
        finally:
            release.set()
        assert leader.result().changes
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.code) == ("STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)


# What the directory is told


def report_of(scene: Scene) -> FlowReport:
    house = scene.sharing.house
    database = house.database(partial(Sharing, sealer=house.sealer))
    return FlowReport(database, lambda: house.keeper.current, scene.clock)


def test_lag_counts_what_the_follower_may_see_and_has_not_applied(scene: Scene) -> None:
    system = scene.system("moh/lags", {CHANGES: ["marital_status"]})
    person = scene.citizen(marital_status=None)
    start = now(scene)
    acknowledge(system, applied=start)
    report = report_of(scene)

    def lag() -> tuple[int, Any, int]:
        [one] = [one for one in report.flow().lags if one.name == system.name]
        return one.unapplied_count, one.oldest_time, one.rejected_count

    assert lag() == (0, None, 0)
    scene.identity.contribute(scene.news(person, Person(phone="+84000000005"), "phone"))
    now(scene)
    assert lag() == (0, None, 0), "it never gets what it may not see"
    scene.clock.go_on(timedelta(seconds=30))
    first = scene.clock.now()
    scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
    scene.clock.go_on(timedelta(seconds=30))
    scene.identity.contribute(scene.news(person, MARRIED, "marital_status"))
    end = now(scene)
    assert lag() == lag() == (2, first, 0)
    [*_, last] = follow(system, start, end)
    acknowledge(system, applied=end, rejected=[Rejection(change_id=last.change_id, reason="R")])
    assert lag() == (0, None, 1)


def test_lag_of_a_follower_is_that_of_its_worst_lane(scene: Scene) -> None:
    system = scene.system("moh/lanes", {CHANGES: ["marital_status", "death_or_missing"]})
    person = scene.citizen(marital_status=None, death_or_missing=None)
    start = now(scene)
    scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
    scene.identity.contribute(scene.news(person, DEAD, "death_or_missing"))
    end = now(scene)
    acknowledge(system, lane=LANE_VITAL, applied=end)
    acknowledge(system, lane=LANE_NORMAL, applied=start)
    [lag] = [one for one in report_of(scene).flow().lags if one.name == system.name]
    assert lag.unapplied_count == 1


def test_follower_that_changes_from_all_lanes_to_each_does_not_stand_still(scene: Scene) -> None:
    system = scene.system("moh/changes-over", {CHANGES: ["marital_status", "death_or_missing"]})
    person = scene.citizen(marital_status=None, death_or_missing=None)
    start = now(scene)
    acknowledge(system, applied=start)
    for told, path in ((SINGLE, "marital_status"), (DEAD, "death_or_missing")):
        scene.identity.contribute(scene.news(person, told, path))
    end = now(scene)

    def lag() -> int:
        [lag] = [one for one in report_of(scene).flow().lags if one.name == system.name]
        return lag.unapplied_count

    assert lag() == 2
    scene.clock.go_on(timedelta(seconds=1))
    acknowledge(system, lane=LANE_VITAL, applied=end)
    assert lag() == 2, "of the other lane nobody knows but by the mark of all"
    acknowledge(system, lane=LANE_NORMAL, applied=end)
    assert lag() == 0
    scene.identity.contribute(scene.news(person, MARRIED, "marital_status"))
    scene.clock.go_on(timedelta(seconds=1))
    acknowledge(system, applied=now(scene))
    assert lag() == 0, "and back again"


def test_what_lies_beyond_the_look_has_a_time_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    system = scene.system("moh/far-behind", {CHANGES: ["marital_status"]})
    person, start = scene.citizen(marital_status=None), now(scene)
    acknowledge(system, applied=start)
    scene.clock.go_on(timedelta(seconds=1))
    scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
    now(scene)
    monkeypatch.setattr(flow, "_LOOKED_AT", 0)
    [lag] = [one for one in report_of(scene).flow().lags if one.name == system.name]
    assert (lag.unapplied_count, lag.oldest_time) == (1, scene.clock.now())


def test_follower_is_not_behind_with_what_lies_before_its_first_place(scene: Scene) -> None:
    system = scene.system("moh/late", {CHANGES: ["marital_status"]})
    person = scene.citizen(marital_status=None)
    scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
    start = now(scene)
    scene.identity.contribute(scene.news(person, MARRIED, "marital_status"))
    end = now(scene)
    system.changes.PullChanges(pulls(system, start))
    [change] = follow(system, start, end)
    acknowledge(system, rejected=[Rejection(change_id=change.change_id, reason="R")])  # its marks still stand at 0
    [lag] = [one for one in report_of(scene).flow().lags if one.name == system.name]
    assert lag.unapplied_count == 1


def test_follower_whose_right_has_lapsed_is_behind_with_nothing(scene: Scene) -> None:
    scene.citizen()
    now(scene)
    scene.rows("INSERT INTO followers VALUES ('gone/core', 0, 1, 0, 0, now()), ('gone/core', 1, 1, 0, 0, now())")
    [lag] = [one for one in report_of(scene).flow().lags if one.name == "gone/core"]
    assert (lag.unapplied_count, lag.oldest_time) == (0, None)


def test_activity_is_told_of_sources_that_told_something_of_late(scene: Scene) -> None:
    report = report_of(scene)
    report.taken("civil_status", scene.clock.now())
    assert [(one.name, one.contribution_time) for one in report.flow().activities] == [
        ("civil_status", scene.clock.now())
    ]
    scene.clock.go_on(timedelta(minutes=2))
    assert report.flow().activities == ()


def test_restored_store_makes_marks_begin_anew(scene: Scene) -> None:
    system = scene.system("moh/restored", {CHANGES: ["phone"]})
    scene.citizen()
    before = now(scene)
    acknowledge(system, applied=before)
    scene.rows("INSERT INTO store (incarnation) VALUES (:next)", next=before.incarnation + 1)  # as after a restore
    request = AcknowledgeRequest(access=system.access, applied=before)
    refusal = scene.refuse(system, system.changes.Acknowledge, request, "CURSOR_OUTDATED")
    resume = Cursor(**{name: int(value) for name, value in refusal.metadata.items()})
    assert resume == Cursor(incarnation=before.incarnation + 1, position=0)
    at = Cursor(incarnation=resume.incarnation, position=1)
    assert acknowledge(system, applied=at) == AcknowledgeResponse(received=at, applied=at)
