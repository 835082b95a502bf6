"""PullChanges: granted paths alone, without gap or repeat, each person delivered with an entry of his own."""

from collections.abc import Sequence
from datetime import timedelta

import grpc
import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.change_pb2 import Change, Cursor, PullChangesRequest, PullChangesResponse
from npd_client import merkle
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CHANGES,
    CONTRIBUTE,
    DISCLOSED,
    LOOKUP,
    Party,
    Scene,
    bare,
    require_no_value,
)

SINGLE, MARRIED = (
    Person(marital_status=status) for status in (person_pb2.MARITAL_STATUS_SINGLE, person_pb2.MARITAL_STATUS_MARRIED)
)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    granted = ["marital_status", "full_name"]
    return scene.system("tax/core", {CHANGES: granted, LOOKUP: ["religion"]})


@pytest.fixture(scope="module")
def registrar(scene: Scene) -> Party:
    return scene.system("moj/local", {CONTRIBUTE: ["marital_status", "phone"]})


def pull(party: Party, cursor: Cursor | None = None, page_size: int = 0) -> PullChangesResponse:
    answer: PullChangesResponse = party.changes.PullChanges(
        PullChangesRequest(access=party.access, cursor=cursor, page_size=page_size)
    )
    return answer


def now(scene: Scene) -> Cursor:
    """The place behind all that was told until now, once it has its position."""
    wait_until(lambda: scene.rows("SELECT 1 FROM changes_pending") == [])
    query = "SELECT (SELECT max(incarnation) FROM store), coalesce(max(position), 0) FROM changes"
    [(incarnation, position)] = scene.rows(query)
    return Cursor(incarnation=incarnation, position=position)


def pull_until(party: Party, cursor: Cursor, end: Cursor, page_size: int = 0) -> list[Change]:
    """All changes from a cursor up to a place, page by page."""
    found: list[Change] = []

    def reached() -> bool:
        answer = pull(party, cursor, page_size)
        found.extend(answer.changes)
        assert len(answer.changes) <= (page_size or 100)
        assert cursor.position <= answer.next_cursor.position <= answer.head.position
        cursor.CopyFrom(answer.next_cursor)
        return cursor.position >= end.position

    wait_until(reached)
    return found


def tell(scene: Scene, source: Party, person: Person, told: Person, *paths: str) -> None:
    scene.clock.go_on(timedelta(seconds=1))
    [result] = source.contribute(scene.news(person, told, *paths))
    assert result.status == APPLIED


def test_change_carries_granted_paths_alone_and_leaves_an_entry(scene: Scene, tax: Party, registrar: Party) -> None:
    person = scene.citizen(marital_status=MARRIED.marital_status)
    start = now(scene)
    told = Person(marital_status=SINGLE.marital_status, phone="+84000000009")
    item = scene.news(person, told, "marital_status", "phone")
    with scene.recording() as entries:
        scene.civil_status.contribute(scene.news(person, SINGLE, "marital_status"))
        registrar.contribute(item)
        changes = pull_until(tax, start, now(scene))
    assert [(change.pin, change.source) for change in changes] == [(person.pin, "civil_status")]
    [change] = changes
    assert (list(change.changed_paths), change.citizen) == (["marital_status"], SINGLE)
    assert list(change.disputed_paths) == [], "what identity told of an earlier event is overtaken"
    assert change.event_time.ToDatetime() == (scene.clock.now() - timedelta(hours=1)).replace(tzinfo=None)
    assert change.record_time.ToDatetime() == scene.clock.now().replace(tzinfo=None)
    [entry] = entries
    assert bare(entry) == tax.entry(PullChangesRequest, DISCLOSED, CHANGES, "marital_status", "pin")
    assert change.receipt.leaf_hash == merkle.leaf_hash(entry.SerializeToString())
    require_no_value(entry, person)


def test_change_without_a_granted_field_is_left_out_and_the_cursor_moves_over_it(scene: Scene, tax: Party) -> None:
    person, start = scene.citizen(), now(scene)
    tell(scene, scene.identity, person, Person(phone="+84000000001"), "phone")
    end = now(scene)
    with scene.recording() as entries:
        assert pull_until(tax, start, end) == []
    assert (start, entries) == (end, []), "nothing was disclosed"


def test_dispute_is_a_change_though_the_value_stays(scene: Scene, tax: Party, registrar: Party) -> None:
    person, start = scene.citizen(marital_status=MARRIED.marital_status), now(scene)
    tell(scene, registrar, person, SINGLE, "marital_status")
    tell(scene, registrar, person, MARRIED, "marital_status")
    with scene.recording() as entries:
        opened, closed = pull_until(tax, start, now(scene))[-2:]
    assert [(one.citizen, list(one.disputed_paths)) for one in (opened, closed)] == [
        (MARRIED, ["marital_status"]),
        (MARRIED, []),
    ]
    assert [entry.outcome for entry in entries] == [DISCLOSED] * len(entries)


def test_withdrawn_value_is_a_change_to_nothing(scene: Scene, tax: Party, registrar: Party) -> None:
    person = scene.citizen(marital_status=None)
    tell(scene, registrar, person, SINGLE, "marital_status")
    start = now(scene)
    tell(scene, registrar, person, Person(), "marital_status")
    with scene.recording() as entries:
        [change] = pull_until(tax, start, now(scene))
    assert (list(change.changed_paths), change.citizen) == (["marital_status"], Person())
    assert [list(entry.paths) for entry in entries] == [["marital_status", "pin"]]


def test_word_that_changes_nothing_is_no_change(scene: Scene, tax: Party, registrar: Party) -> None:
    person = scene.citizen(marital_status=MARRIED.marital_status)
    start = now(scene)
    tell(scene, registrar, person, MARRIED, "marital_status")
    assert now(scene) == start


def test_pages_follow_each_other_without_gap_or_repeat(scene: Scene, tax: Party) -> None:
    start = now(scene)
    births = [scene.birth() for _ in range(7)]
    scene.identity.contribute(*births[:5])
    now(scene)
    with scene.recording() as entries:
        first = pull_until(tax, start, Cursor(position=start.position + 2), page_size=2)
        scene.identity.contribute(*births[5:])
        others = pull_until(tax, start, now(scene), page_size=3)
    changes = [*first, *others]
    assert [change.pin for change in changes] == [item.person.pin for item in births]
    positions = [change.position for change in changes]
    assert positions == list(range(positions[0], positions[0] + 7))
    assert len({change.change_id for change in changes}) == 7
    assert len(entries) == len({entry.subject.pseudonym for entry in entries}) == 7, "one entry for each person"
    assert {change.receipt.leaf_hash for change in changes} == {
        merkle.leaf_hash(entry.SerializeToString()) for entry in entries
    }


def test_without_a_cursor_the_feed_begins_at_its_oldest_change(scene: Scene, tax: Party) -> None:
    scene.identity.contribute(*(scene.birth() for _ in range(101)))
    end = now(scene)
    wait_until(lambda: pull(tax, page_size=1).head == end)
    with scene.recording() as entries:
        answer = pull(tax)
    assert answer.changes[0].position == 1
    assert answer.oldest == Cursor(incarnation=end.incarnation, position=0)
    assert answer.next_cursor == Cursor(incarnation=end.incarnation, position=100), "a page that no size was asked for"
    assert 90 < len(answer.changes) == len(entries), "changes without a granted field are left out of it"


def test_followers_see_the_same_change_each_with_his_own_fields(scene: Scene, tax: Party) -> None:
    health = scene.system("moh/feed", {CHANGES: ["phone", "sex"]})
    person, start = scene.citizen(marital_status=None), now(scene)
    told = Person(marital_status=SINGLE.marital_status, phone="+84000000007")
    tell(scene, scene.identity, person, told, "marital_status", "phone")
    end = now(scene)
    seen: Sequence[Change] = []
    with scene.recording() as entries:
        for party in (tax, health):
            cursor = Cursor(incarnation=start.incarnation, position=start.position)
            seen = [*seen, *pull_until(party, cursor, end)]
    assert [list(change.changed_paths) for change in seen] == [["marital_status"], ["phone"]]
    assert [change.citizen for change in seen] == [SINGLE, Person(phone="+84000000007")]
    assert seen[0].change_id == seen[1].change_id
    assert [(entry.caller, list(entry.paths)) for entry in entries] == [
        (tax.identity, ["marital_status", "pin"]),
        (health.identity, ["phone", "pin"]),
    ]
    assert entries[0].subject == entries[1].subject


def test_change_names_the_pin_of_its_time(scene: Scene, tax: Party) -> None:
    start, person = now(scene), scene.citizen(marital_status=None)
    new = scene.birth().person.pin
    tell(scene, scene.identity, person, Person(pin=new, marital_status=SINGLE.marital_status), "pin", "marital_status")
    tell(scene, scene.identity, person, MARRIED, "marital_status")
    with scene.recording() as entries:
        changes = pull_until(tax, start, now(scene))
    assert [change.pin for change in changes if change.pin in (person.pin, new)] == [person.pin, new, new]
    assert len({entry.subject.pseudonym for entry in entries}) == 1


@pytest.mark.parametrize("page_size", [-1, 1001])
def test_page_has_its_limits(scene: Scene, tax: Party, page_size: int) -> None:
    request = PullChangesRequest(access=tax.access, page_size=page_size)
    refusal = scene.refuse(tax, tax.changes.PullChanges, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["page_size"]


@pytest.mark.parametrize("away", [1, 1_000_000])
def test_cursor_beyond_the_head_is_refused_with_the_extent(scene: Scene, tax: Party, away: int) -> None:
    scene.citizen()
    head = now(scene)
    wait_until(lambda: pull(tax, page_size=1).head == head)
    request = PullChangesRequest(access=tax.access, cursor=head)
    request.cursor.position += away
    refusal = scene.refuse(tax, tax.changes.PullChanges, request, "CURSOR_OUT_OF_RANGE")
    assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
    assert refusal.metadata == {"incarnation": str(head.incarnation), "oldest": "0", "head": str(head.position)}


def test_cursor_before_the_oldest_change_is_refused(scene: Scene, tax: Party) -> None:
    cursor = Cursor(incarnation=now(scene).incarnation, position=-1)
    request = PullChangesRequest(access=tax.access, cursor=cursor)
    assert scene.refuse(tax, tax.changes.PullChanges, request, "CURSOR_OUT_OF_RANGE").metadata["oldest"] == "0"


def test_cursor_of_an_earlier_incarnation_is_refused_with_a_place_to_resume_from(scene: Scene, tax: Party) -> None:
    person = scene.citizen(marital_status=None)
    before = now(scene)
    scene.rows("INSERT INTO store (incarnation) VALUES (:next)", next=before.incarnation + 1)  # as after a restore
    wait_until(lambda: pull(tax, page_size=1).head.incarnation == before.incarnation + 1)
    request = PullChangesRequest(access=tax.access, cursor=before)
    refusal = scene.refuse(tax, tax.changes.PullChanges, request, "CURSOR_OUTDATED")
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    resume = Cursor(**{name: int(value) for name, value in refusal.metadata.items()})
    assert resume == Cursor(incarnation=before.incarnation + 1, position=0), (
        "positions are given anew, so from the oldest"
    )
    tell(scene, scene.identity, person, SINGLE, "marital_status")
    with scene.recording() as entries:
        assert next(reversed(list(pull_until(tax, resume, now(scene))))).citizen == SINGLE
    expected = tax.entry(PullChangesRequest, DISCLOSED, CHANGES, "marital_status", "pin")
    assert bare(entries[-1]) == expected
