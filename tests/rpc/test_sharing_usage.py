"""FindUsage: the citizen sees who read his record, what, why and when; whoever is not he sees nothing."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.type.date_pb2 import Date

from npd.common.v1 import person_pb2
from npd.common.v1.evidence_pb2 import LogEntry
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.change_pb2 import Change, PullChangesRequest
from npd.sharing.v1.usage_pb2 import FindUsageRequest, FindUsageResponse
from npd_client import merkle
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_sharing_callers import (
    CHANGES,
    DISCLOSED,
    LOOKUP,
    NO_MATCH,
    USAGE,
    Party,
    Scene,
    bare,
    refusal_or,
    require_no_value,
    stated,
)

SINGLE = Person(marital_status=person_pb2.MARITAL_STATUS_SINGLE)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def portal(scene: Scene) -> Party:
    return scene.system("portal/national", {USAGE: ["pin"], LOOKUP: ["sex"]}, purpose="OWN_DATA")


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["sex", "full_name"], CHANGES: ["marital_status"]})


def asks(portal: Party, person: Person, page_size: int = 0, page_token: str = "", name: str = "") -> FindUsageRequest:
    return FindUsageRequest(
        access=portal.access, identity=stated(person, name), page_size=page_size, page_token=page_token
    )


def find_usage(portal: Party, person: Person, page_size: int = 0, page_token: str = "") -> FindUsageResponse:
    answer: FindUsageResponse = portal.usage.FindUsage(asks(portal, person, page_size, page_token))
    return answer


def placed(scene: Scene) -> None:
    """Wait until all that is recorded has its position."""
    wait_until(lambda: scene.rows("SELECT 1 FROM log_pending") == [])


@contextmanager
def unplaced(scene: Scene) -> Iterator[None]:
    """While the block runs no entry gets a position, as if the sequencer were slow."""
    with scene.sharing.house.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('sequencer/log'))")
        try:
            yield
        finally:
            connection.exec_driver_sql("SELECT pg_advisory_unlock(hashtext('sequencer/log'))")


def use(tax: Party, person: Person, *cases: str) -> None:
    for case in cases:
        request = tax.asks(person)
        request.access.case_reference = case
        assert tax.lookup.GetCitizen(request).outcome == DISCLOSED


def cases(answer: FindUsageResponse) -> list[str]:
    return [record.entry.access.case_reference for record in answer.records]


def test_citizen_sees_every_use_newest_first(scene: Scene, portal: Party, tax: Party) -> None:
    person, other = scene.citizen(marital_status=None), scene.citizen()
    with scene.recording() as entries:
        use(tax, person, "tax/first")
        tax.lookup.GetCitizen(tax.asks(person, "full_name", name="Ai Đó"))
        tax.get_citizen(other)
        scene.identity.contribute(scene.news(person, SINGLE, "marital_status"))
        delivered = pull_all(tax, person)
    of_person = [entry for entry in entries if entry.subject == entries[0].subject]
    with scene.recording() as own:
        answer = find_usage(portal, person)
    assert answer.outcome == DISCLOSED
    assert [record.entry for record in answer.records] == of_person[::-1]
    assert [(record.entry.outcome, list(record.entry.paths)) for record in answer.records][-2:] == [
        (NO_MATCH, ["full_name"]),
        (DISCLOSED, ["sex"]),
    ]
    assert {record.receipt.leaf_hash for record in answer.records} >= {change.receipt.leaf_hash for change in delivered}
    assert {record.entry.method.rpartition("/")[2] for record in answer.records} == {"GetCitizen", "PullChanges"}
    assert {record.agency_name for record in answer.records} == {"Agency tax"}
    for record in answer.records:
        assert record.receipt.log_origin == "mesh.test.npd.example/sharing"
        assert record.receipt.leaf_hash == merkle.leaf_hash(record.entry.SerializeToString())
        require_no_value(record.entry, person)
    assert [bare(entry) for entry in own] == [portal.entry(FindUsageRequest, DISCLOSED, USAGE, "pin")]
    assert answer.receipt.leaf_hash == merkle.leaf_hash(own[0].SerializeToString())
    assert find_usage(portal, person).records[0].entry == own[0], "who asked for the uses is a use himself"


def pull_all(tax: Party, person: Person) -> list[Change]:
    """The person's changes, once they are in the feed."""
    request, found = PullChangesRequest(access=tax.access), list[Change]()

    def come() -> bool:
        answer = tax.changes.PullChanges(request)
        request.cursor.CopyFrom(answer.next_cursor)
        found.extend(change for change in answer.changes if change.pin == person.pin)
        return bool(found)

    wait_until(come)
    return found


@pytest.mark.parametrize("are_placed", [True, False])
@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 6])
def test_pages_follow_each_other_without_gap_or_repeat(
    scene: Scene, portal: Party, tax: Party, page_size: int, are_placed: bool
) -> None:
    person = scene.citizen()
    use(tax, person, "case/1", "case/2", "case/3")
    placed(scene)
    with unplaced(scene):
        use(tax, person, "case/4", "case/5")
        if not are_placed:
            pages = [find_usage(portal, person, page_size)]
    placed(scene)
    if are_placed:
        pages = [find_usage(portal, person, page_size)]
    while pages[-1].next_page_token:
        pages.append(find_usage(portal, person, page_size, pages[-1].next_page_token))
    seen = [case for page in pages for case in cases(page)]
    if not are_placed and page_size < 2:  # more without a position than a page holds: the newest are for a later look
        seen.insert(0, "case/5")
    assert seen == ["case/5", "case/4", "case/3", "case/2", "case/1"]
    assert {len(page.records) for page in pages[:-1]} <= {page_size}
    assert 0 < len(pages[-1].records) <= page_size
    with scene.recording() as entries:
        find_usage(portal, person, page_size)
    assert [bare(entry) for entry in entries] == [portal.entry(FindUsageRequest, DISCLOSED, USAGE, "pin")]


def test_use_that_has_no_position_yet_is_seen_at_once(scene: Scene, portal: Party, tax: Party) -> None:
    person = scene.citizen()
    with unplaced(scene), scene.recording() as entries:
        use(tax, person, "case/now")
        assert cases(find_usage(portal, person)) == ["case/now"]
    assert [entry.outcome for entry in entries] == [DISCLOSED, DISCLOSED]


def test_who_does_not_know_the_citizen_learns_of_no_use(scene: Scene, portal: Party, tax: Party) -> None:
    person = scene.citizen(birth_date=Date(year=1990, month=5, day=17))
    use(tax, person, "case/1")
    wrong = asks(portal, person)
    wrong.identity.birth_date.day = 18
    with scene.recording() as entries:
        answer = portal.usage.FindUsage(wrong)
    assert answer == FindUsageResponse(outcome=NO_MATCH, receipt=answer.receipt)
    assert [bare(entry) for entry in entries] == [portal.entry(FindUsageRequest, NO_MATCH, USAGE, "pin")]
    require_no_value(entries[0], person)
    for _ in range(4):
        portal.usage.FindUsage(wrong)
    scene.refuse(portal, portal.usage.FindUsage, asks(portal, person), "PIN_CLOSED_TODAY")
    scene.refuse(portal, portal.lookup.GetCitizen, portal.asks(person), "PIN_CLOSED_TODAY")


def test_guesses_at_once_are_no_more_than_guesses_in_turn(scene: Scene, portal: Party) -> None:
    person = scene.citizen()
    guesses = [asks(portal, person, name=f"Lê Văn {name}") for name in "ABCDEGHIKLMNOPQRSTUVXY"]
    with scene.recording() as entries, ThreadPoolExecutor(len(guesses)) as pool:
        answers = list(pool.map(lambda guess: refusal_or(portal.usage.FindUsage, guess), guesses))
    answered = [answer.outcome for answer in answers if isinstance(answer, FindUsageResponse)]
    assert answered == [NO_MATCH] * 5
    assert [entry.outcome for entry in entries].count(NO_MATCH) == 5


def test_refusal_is_no_use(scene: Scene, portal: Party, tax: Party) -> None:
    person = scene.citizen()
    scene.refuse(tax, tax.lookup.GetCitizen, tax.asks(person, "religion"), "FIELD_NOT_GRANTED")
    with scene.recording() as entries:
        assert list(find_usage(portal, person).records) == []
    assert entries[0].subject.pseudonym != LogEntry().subject.pseudonym


@pytest.mark.parametrize("page_size", [-1, 201])
def test_page_has_its_limits(scene: Scene, portal: Party, page_size: int) -> None:
    refusal = scene.refuse(
        portal, portal.usage.FindUsage, asks(portal, scene.citizen(), page_size=page_size), "FIELD_INVALID"
    )
    assert [violation.field for violation in refusal.violations] == ["page_size"]


@pytest.mark.parametrize(
    "page_token",
    [
        *("nonsense", "%%%", "\u0111", "LTE=", "LTE"),
        urlsafe_b64encode(b"9" * 40).decode(),
        urlsafe_b64encode("\u0663".encode()).decode(),
    ],
)
def test_page_token_of_no_list_is_refused(scene: Scene, portal: Party, page_token: str) -> None:
    request = asks(portal, scene.citizen(), page_token=page_token)
    refusal = scene.refuse(portal, portal.usage.FindUsage, request, "PAGE_TOKEN_INVALID")
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == ["page_token"]
