"""What is told twice is taken once: repeated requests, repeated events, and callers who tell the same at once."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.error_reason_pb2 import ERROR_REASON_EVENT_ID_REUSED, ERROR_REASON_PIN_TAKEN
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.contribution_pb2 import ContributeRequest, ContributeResponse, ContributionItem
from tests.mesh_fixture import Desk, Stage, new_id, wait_until
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CONTRIBUTE,
    DISCLOSED,
    DUPLICATE,
    HELD,
    LOOKUP,
    REJECTED,
    Party,
    Scene,
    refusal_or,
)

SINGLE = Person(marital_status=person_pb2.MARITAL_STATUS_SINGLE)
MARRIED = Person(marital_status=person_pb2.MARITAL_STATUS_MARRIED)
A_POSITIVE = Person(blood_type=person_pb2.BLOOD_TYPE_A_POSITIVE)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["blood_type", "pin"]})


@pytest.fixture(scope="module")
def medical(scene: Scene) -> Party:
    return scene.system("moh/medical", {CONTRIBUTE: ["blood_type"]})


def told(scene: Scene, *items: ContributionItem) -> int:
    """How many assertions the items' events have left."""
    query = "SELECT count(*) FROM assertions WHERE event_id = ANY(:ids)"
    return int(scene.rows(query, ids=[item.event_id for item in items])[0][0])


def answers_kept(scene: Scene, request: ContributeRequest) -> int:
    """How many answers the room keeps for the request's id."""
    query = "SELECT count(*) FROM answers WHERE request_id = :id"
    return int(scene.rows(query, id=request.request_id)[0][0])


def at_once(calls: Sequence[tuple[Party, ContributeRequest]]) -> list[ContributeResponse]:
    """The answers of calls that are begun together."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: refusal_or(call[0].contribution.Contribute, call[1]), calls))


def test_agency_that_repeats_its_request_gets_its_first_answer_and_changes_nothing(
    scene: Scene, medical: Party
) -> None:
    request = medical.tells(scene.news(scene.citizen(blood_type=None), A_POSITIVE, "blood_type"))
    with scene.recording() as entries:
        first = medical.contribution.Contribute(request)
        assert [result.status for result in first.results] == [APPLIED]
        assert medical.contribution.Contribute(request) == first
    assert told(scene, *request.items) == 1
    assert answers_kept(scene, request) == 1
    assert entries == []


def test_room_that_repeats_its_request_gets_duplicates_and_no_answer_is_kept(scene: Scene) -> None:
    item, refused = (scene.news(scene.citizen(), SINGLE, "marital_status") for _ in range(2))
    refused.update_mask.paths.append("religion")
    request = scene.civil_status.tells(item, refused)
    answers = [scene.civil_status.contribution.Contribute(request) for _ in range(2)]
    statuses = [[result.status for result in answer.results] for answer in answers]
    assert statuses == [[APPLIED, REJECTED], [DUPLICATE, REJECTED]]
    assert told(scene, item) == 1
    assert answers_kept(scene, request) == 0


def test_request_id_with_another_payload_is_refused(scene: Scene, medical: Party) -> None:
    request = medical.tells(scene.news(scene.citizen(blood_type=None), A_POSITIVE, "blood_type"))
    medical.contribution.Contribute(request)
    request.items[0].event_id = new_id()
    refusal = scene.refuse(medical, medical.contribution.Contribute, request, "REQUEST_ID_REUSED")
    assert refusal.code.name == "FAILED_PRECONDITION"
    assert told(scene, *request.items) == 0


def test_request_id_of_another_caller_means_nothing(scene: Scene, medical: Party) -> None:
    request_id, person = new_id(), scene.citizen(blood_type=None)
    first = scene.civil_status.tells(scene.news(person, SINGLE, "marital_status"), request_id=request_id)
    other = medical.tells(scene.news(person, A_POSITIVE, "blood_type"), request_id=request_id)
    answers = [
        party.contribution.Contribute(request) for party, request in ((scene.civil_status, first), (medical, other))
    ]
    assert [answer.results[0].event_id for answer in answers] == [first.items[0].event_id, other.items[0].event_id]
    assert told(scene, *first.items, *other.items) == 2


@pytest.mark.parametrize("request_id", ["1", "6f1c24a0-9d8b-4d57-9e0f", "{6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21}"])
def test_request_id_that_is_no_uuid_is_refused(scene: Scene, request_id: str) -> None:
    request = scene.civil_status.tells(scene.news(scene.citizen(), SINGLE, "marital_status"), request_id=request_id)
    refusal = scene.refuse(scene.civil_status, scene.civil_status.contribution.Contribute, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["request_id"]
    assert told(scene, *request.items) == 0


def test_repeated_event_is_a_duplicate_in_another_call_and_in_the_same(scene: Scene) -> None:
    item = scene.news(scene.citizen(), SINGLE, "marital_status")
    statuses = [result.status for result in scene.civil_status.contribute(item, item)]
    assert statuses == [APPLIED, DUPLICATE]
    assert [result.status for result in scene.civil_status.contribute(item)] == [DUPLICATE]
    assert told(scene, item) == 1


def test_event_id_with_another_content_is_refused(scene: Scene) -> None:
    person = scene.citizen()
    item, changed = (scene.news(person, value, "marital_status") for value in (SINGLE, MARRIED))
    changed.event_id = item.event_id
    in_one_call = scene.civil_status.contribute(item, changed)
    later = scene.civil_status.contribute(changed)
    assert [result.status for result in (*in_one_call, *later)] == [APPLIED, REJECTED, REJECTED]
    assert in_one_call[1].reason == later[0].reason == ERROR_REASON_EVENT_ID_REUSED
    assert told(scene, item) == 1


def test_event_id_of_another_source_means_nothing(scene: Scene) -> None:
    item = scene.news(scene.citizen(), SINGLE, "marital_status")
    for source in (scene.civil_status, scene.identity):
        assert [result.status for result in source.contribute(item)] == [APPLIED]
    assert told(scene, item) == 2


def test_rejected_item_may_be_corrected_under_its_event_id(scene: Scene) -> None:
    item = scene.news(scene.citizen(), SINGLE, "marital_status")
    item.update_mask.paths.append("religion")
    assert [result.status for result in scene.civil_status.contribute(item)] == [REJECTED]
    item.update_mask.paths.remove("religion")
    assert [result.status for result in scene.civil_status.contribute(item)] == [APPLIED]


def test_same_request_at_once_is_done_once(scene: Scene, medical: Party) -> None:
    people = [scene.citizen(blood_type=None) for _ in range(5)]
    request = medical.tells(*(scene.news(person, A_POSITIVE, "blood_type") for person in people))
    answers = at_once([(medical, request)] * 8)
    assert [result.status for result in answers[0].results] == [APPLIED] * 5
    assert answers == [answers[0]] * 8
    assert told(scene, *request.items) == 5


def test_same_request_of_a_room_at_once_is_taken_once(scene: Scene) -> None:
    request = scene.civil_status.tells(*(scene.news(scene.citizen(), SINGLE, "marital_status") for _ in range(5)))
    statuses = [[result.status for result in one.results] for one in at_once([(scene.civil_status, request)] * 8)]
    assert sorted(statuses) == sorted([[APPLIED] * 5, *[[DUPLICATE] * 5] * 7])
    assert told(scene, *request.items) == 5


def test_same_events_at_once_in_opposite_order_are_taken_once(scene: Scene) -> None:
    items = [scene.news(scene.citizen(), SINGLE, "marital_status") for _ in range(40)]
    calls = [(scene.civil_status, scene.civil_status.tells(*order)) for order in (items, items[::-1]) * 3]
    answers = at_once(calls)
    statuses = [result.status for answer in answers for result in answer.results]
    assert (statuses.count(APPLIED), statuses.count(DUPLICATE)) == (40, 200)
    assert told(scene, *items) == 40


def test_same_births_at_once_in_opposite_order_are_taken_once(scene: Scene) -> None:
    births = [scene.birth() for _ in range(60)]
    calls = [(scene.identity, scene.identity.tells(*order)) for order in (births, births[::-1]) * 3]
    answers = at_once(calls)
    statuses = [result.status for answer in answers for result in answer.results]
    assert (statuses.count(APPLIED), statuses.count(DUPLICATE)) == (60, 300)


def test_of_two_subjects_given_the_same_new_pin_at_once_one_wins_whole(scene: Scene, tax: Party) -> None:
    for _ in range(5):
        one, other = scene.birth(), scene.birth()
        other.person.pin = one.person.pin
        answers = at_once([(scene.identity, scene.identity.tells(item)) for item in (one, other)])
        results = [answer.results[0] for answer in answers]
        assert sorted(result.status for result in results) == [APPLIED, REJECTED]
        won, lost = (one, other) if results[0].status == APPLIED else (other, one)
        assert {result.reason for result in results if result.status == REJECTED} == {ERROR_REASON_PIN_TAKEN}
        owner = scene.rows("SELECT subject_id::text FROM pins WHERE pin = :pin", pin=one.person.pin)
        assert owner == [(won.subject_id,)]
        for table in ("records", "assertions", "contributions", "changes", "changes_pending"):
            query = f"SELECT 1 FROM {table} WHERE subject_id::text = :lost"  # noqa: S608 - names from the line above
            assert scene.rows(query, lost=lost.subject_id) == []
        with scene.recording() as entries:
            assert tax.get_citizen(won.person, "pin").citizen.pin == won.person.pin
        assert [entry.outcome for entry in entries] == [DISCLOSED]


def test_one_subject_given_two_pins_at_once_gets_both_or_is_told_why(scene: Scene, tax: Party) -> None:
    for _ in range(5):
        one, other = scene.birth(), scene.birth()
        other.subject_id = one.subject_id
        answers = at_once([(scene.identity, scene.identity.tells(item)) for item in (one, other)])
        assert [answer.results[0].status for answer in answers] == [APPLIED, APPLIED]
        pins = scene.rows("SELECT pin FROM pins WHERE subject_id::text = :id", id=one.subject_id)
        assert {pin for (pin,) in pins} == {one.person.pin, other.person.pin}


@contextmanager
def blocked(scene: Scene, source: str, item: ContributionItem) -> Any:
    """While the block runs, the source's call with this event waits just before its commit."""
    with scene.sharing.house.engine.connect() as connection, connection.begin() as blocker:
        connection.exec_driver_sql(
            "INSERT INTO contributions (source, event_id, content_hash, record_time) VALUES (%s, %s, '', now())",
            (source, item.event_id),
        )
        yield
        blocker.rollback()


def test_item_whose_pin_is_minted_at_the_same_moment_is_not_held_for_ever(
    scene: Scene, tax: Party, medical: Party
) -> None:
    born = scene.birth(blood_type=None)
    item = scene.news(born.person, A_POSITIVE, "blood_type")

    def waiting() -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(scene.rows(query))

    with ThreadPoolExecutor(2) as pool:
        with blocked(scene, "moh/medical", item):
            early: Future[Any] = pool.submit(medical.contribute, item)
            wait_until(waiting)
            minting: Future[Any] = pool.submit(scene.identity.contribute, born)
            wait_until(lambda: minting.done() or len(scene.rows(WAITING)) > 1)
        assert [result.status for result in minting.result(10)] == [APPLIED]
        assert [result.status for result in early.result(10)] in ([APPLIED], [HELD])
    assert scene.rows("SELECT 1 FROM held_items WHERE pin = :pin", pin=born.person.pin) == []
    with scene.recording() as entries:
        assert tax.get_citizen(born.person, "blood_type").citizen == A_POSITIVE
    assert [entry.outcome for entry in entries] == [DISCLOSED]


WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
