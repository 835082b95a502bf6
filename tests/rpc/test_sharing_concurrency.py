"""Callers at once: each gets his own answer and leaves his own entry, whatever befalls the others of his batch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from npd.common.v1.evidence_pb2 import LogEntry
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest, GetCitizenResponse
from npd_client import merkle
from npd_client.errors import Refusal
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_sharing_callers import (
    DISCLOSED,
    LOOKUP,
    NO_MATCH,
    REFUSED,
    Party,
    Scene,
    bare,
    refusal_or,
    require_no_value,
)

CALLERS = 32
ROUNDS = 5


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def systems(scene: Scene) -> Sequence[Party]:
    granted = {LOOKUP: ["sex", "full_name", "pin", "permanent_residence", "id_cards"]}
    return [scene.system(f"agency-{number}/core", granted) for number in range(4)]


@pytest.fixture(scope="module")
def people(scene: Scene) -> Sequence[Person]:
    items = [scene.birth() for _ in range(CALLERS)]
    scene.identity.contribute(*items)
    return [item.person for item in items]


def at_once(calls: Sequence[tuple[Party, GetCitizenRequest]]) -> list[GetCitizenResponse | Refusal]:
    """What each of the calls gets, all begun at the same moment."""
    barrier = Barrier(len(calls), timeout=10)

    def one(call: tuple[Party, GetCitizenRequest]) -> GetCitizenResponse | Refusal:
        party, request = call
        barrier.wait()
        answer: GetCitizenResponse | Refusal = refusal_or(party.lookup.GetCitizen, request)
        return answer

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def asking(party: Party, person: Person, case: str, *, provenance: bool = False) -> GetCitizenRequest:
    request: GetCitizenRequest = party.asks(person, "pin", "full_name", "permanent_residence", provenance=provenance)
    request.access.case_reference = case
    return request


def by_case(entries: Sequence[LogEntry]) -> dict[str, LogEntry]:
    found = {entry.access.case_reference: entry for entry in entries}
    assert len(found) == len(entries), "one entry for each call"
    return found


def test_each_of_32_callers_gets_his_own_answer_and_entry(
    scene: Scene, systems: Sequence[Party], people: Sequence[Person]
) -> None:
    for number in range(ROUNDS):
        calls = [
            (party := systems[index % 4], asking(party, person, f"round-{number}/{index}", provenance=index % 5 == 0))
            for index, person in enumerate(people)
        ]
        with scene.recording() as entries:
            answers = at_once(calls)
        recorded = by_case(entries)
        pseudonyms = set()
        for (party, request), answer, person in zip(calls, answers, people, strict=True):
            assert isinstance(answer, GetCitizenResponse)
            expected = Person(pin=person.pin, full_name=person.full_name)
            expected.permanent_residence.CopyFrom(person.permanent_residence)
            assert (answer.outcome, answer.citizen) == (DISCLOSED, expected)
            assert bool(answer.provenance) is request.include_provenance
            entry = recorded[request.access.case_reference]
            left = party.entry(GetCitizenRequest, DISCLOSED, LOOKUP, *request.read_mask.paths)
            left.access.CopyFrom(request.access)
            assert bare(entry) == left
            assert answer.receipt.leaf_hash == merkle.leaf_hash(entry.SerializeToString())
            require_no_value(entry, person)
            pseudonyms.add(entry.subject.pseudonym)
        assert len(pseudonyms) == CALLERS


def test_receipts_of_callers_at_once_are_all_in_the_log(
    scene: Scene, systems: Sequence[Party], people: Sequence[Person]
) -> None:
    calls = [(systems[index % 4], systems[index % 4].asks(person)) for index, person in enumerate(people)]
    with scene.recording() as entries:
        answers = at_once(calls)
    assert len(entries) == CALLERS
    leaves = {answer.receipt.leaf_hash for answer in answers if isinstance(answer, GetCitizenResponse)}
    assert len(leaves) == CALLERS

    def placed() -> list[int]:
        query = "SELECT position FROM log WHERE leaf_hash = ANY(:leaves)"
        return [row[0] for row in scene.rows(query, leaves=list(leaves))]

    wait_until(lambda: len(placed()) == CALLERS)
    positions = [row[0] for row in scene.rows("SELECT position FROM log ORDER BY position")]
    assert positions == list(range(len(positions))), "positions are dense"


def test_refusal_and_mismatch_of_some_disturb_no_neighbour(
    scene: Scene, systems: Sequence[Party], people: Sequence[Person]
) -> None:
    calls = [
        (systems[index % 4], asking(systems[index % 4], person, f"mixed/{index}"))
        for index, person in enumerate(people)
    ]
    calls[7][1].access.officer_id = "o-99"
    calls[11][1].read_mask.paths.append("religion")
    calls[13][1].identity.full_name = "Nguyễn Thị Khác"
    with scene.recording() as entries:
        answers = at_once(calls)
    refusals = {index: answer.reason for index, answer in enumerate(answers) if isinstance(answer, Refusal)}
    assert refusals == {7: "OFFICER_NOT_ON_ROSTER", 11: "FIELD_NOT_GRANTED"}
    for index, answer in enumerate(answers):
        if isinstance(answer, GetCitizenResponse):
            assert answer.outcome == (NO_MATCH if index == 13 else DISCLOSED)
            assert answer.citizen.pin == ("" if index == 13 else people[index].pin)
    recorded = by_case([entry for entry in entries if entry.outcome != REFUSED])
    assert len(recorded) == CALLERS - 2
    assert recorded["mixed/13"].outcome == NO_MATCH
    reasons = [(entry.caller, entry.reason) for entry in entries if entry.outcome == REFUSED]
    assert sorted(reasons) == [
        (systems[3].identity, "FIELD_NOT_GRANTED"),
        (systems[3].identity, "OFFICER_NOT_ON_ROSTER"),
    ]
