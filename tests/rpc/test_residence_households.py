"""Households: founded, joined, left, and headed; every member's record says of whom they are made up."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from npd.common.v1.person_pb2 import Person
from npd.residence.v1 import residence_pb2
from npd.residence.v1.residence_pb2 import CloseResidenceRequest, GetResidenceRequest, Joining, NameHeadRequest
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from tests.mesh_fixture import Desk, Stage, new_id, wire_date
from tests.rpc.test_residence_registration import (
    BA_DINH,
    CHILD,
    ITSELF,
    NGOC_HA,
    PERMANENT_PATHS,
    REGISTER,
    Citizen,
    Office,
    address,
    require_act,
)
from tests.rpc.test_sharing_callers import refusal_or


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def joining(household_id: str) -> Joining:
    """How a child joins."""
    return Joining(household_id=household_id, relation_to_head=CHILD)


def family(office: Office, size: int = 3) -> tuple[str, list[Citizen]]:
    """A household at one address: its head, then children."""
    members = [office.citizen() for _ in range(size)]
    home = address(office, BA_DINH)
    household_id = office.register(members[0], home, household=Joining()).household_id
    for member in members[1:]:
        office.register(member, home, household=joining(household_id))
    return household_id, members


def names(office: Office, household_id: str, head: Citizen, **fields: Any) -> Any:
    """A NameHeadRequest."""
    told = {"access": office.access, "request_id": new_id(), **fields}
    return NameHeadRequest(household_id=household_id, identity=head.identity, **told)


def closes(office: Office, residence_id: UUID) -> CloseResidenceRequest:
    """A CloseResidenceRequest, as of today."""
    return CloseResidenceRequest(
        request_id=new_id(),
        access=office.access,
        residence_id=str(residence_id),
        ground=residence_pb2.CLOSING_GROUND_EMIGRATED,
        closing_date=wire_date(office.today),
    )


def composed(person: Person) -> tuple[str, set[str]]:
    """Head and other members of a household as the record is told, by PIN; the head's is "" if there is none."""
    for each in (person.household.head, *person.household.members):
        assert bool(each.pin) == bool(each.name.full)
    return person.household.head.pin, {member.pin for member in person.household.members}


def shown(office: Office, citizen: Citizen) -> list[tuple[str, bool, str]]:
    """PIN, headship and relation of the members of somebody's household, as an officer is shown them."""
    found = office.stub.GetResidence(GetResidenceRequest(access=office.access, identity=citizen.identity))
    return [(one.pin, one.is_head, one.relation_to_head.code) for one in found.household.members]


def pins(*citizens: Citizen) -> set[str]:
    return {citizen.pin for citizen in citizens}


def test_who_founds_a_household_is_its_head(office: Office) -> None:
    citizen = office.citizen()
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.asks(citizen, address(office, BA_DINH), household=Joining()))
    assert done.residence.household_id
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    (told,) = recorded.told
    assert sorted(told.update_mask.paths) == sorted(PERMANENT_PATHS)
    assert composed(told.person) == (citizen.pin, set())
    assert told.person.household.head.name == citizen.person.full_name
    assert not told.person.HasField("relation_to_head")
    assert shown(office, citizen) == [(citizen.pin, True, "")]


def test_everybody_is_told_of_who_joins(office: Office) -> None:
    household_id, (head, child) = family(office, 2)
    grandchild = office.citizen()
    request = office.asks(grandchild, address(office, BA_DINH), household=joining(household_id))
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(request)
    assert done.residence.household_id == household_id
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    assert {item.pin for item in recorded.told} == pins(head, child, grandchild)
    for item in recorded.told:
        assert composed(item.person) == (head.pin, pins(child, grandchild))
    assert recorded.of(grandchild).person.relation_to_head == CHILD
    assert list(recorded.of(head).update_mask.paths) == list(recorded.of(child).update_mask.paths) == ["household"]
    assert shown(office, head)[0] == (head.pin, True, "")
    assert set(shown(office, head)[1:]) == {(child.pin, False, "02"), (grandchild.pin, False, "02")}


def test_unknown_household_is_not_joined(office: Office) -> None:
    citizen = office.citizen()
    request = office.asks(citizen, address(office, BA_DINH), household=joining(new_id()))
    office.refuse(office.stub.RegisterResidence, request, "HOUSEHOLD_UNKNOWN")
    assert office.active(citizen) == [], "the residence is not registered either"


def test_emptied_household_is_one_no_more(office: Office) -> None:
    household_id, (head,) = family(office, 1)
    with office.recording() as recorded:
        office.register(head, address(office, NGOC_HA))
    assert recorded.acts == ["residence.register_residence"], "nobody misses a head"
    assert composed(recorded.told[0].person) == ("", set())
    request = office.asks(office.citizen(), address(office, BA_DINH), household=joining(household_id))
    office.refuse(office.stub.RegisterResidence, request, "HOUSEHOLD_UNKNOWN")
    office.refuse(office.stub.NameHead, names(office, household_id, head), "HOUSEHOLD_UNKNOWN")
    household_id, (last,) = family(office, 1)
    request = office.asks(last, address(office, NGOC_HA), household=joining(household_id))
    office.refuse(office.stub.RegisterResidence, request, "HOUSEHOLD_UNKNOWN")
    assert shown(office, last) == [(last.pin, True, "")], "refused, he stays where he was"


def test_member_who_moves_leaves_his_household(office: Office) -> None:
    _, (head, child, other) = family(office)
    with office.recording() as recorded:
        moved = office.register(child, address(office, NGOC_HA))
    assert moved.household_id == ""
    assert recorded.acts == ["residence.register_residence"]
    assert {item.pin for item in recorded.told} == pins(head, child, other)
    assert not recorded.of(child).person.HasField("household")
    assert sorted(recorded.of(child).update_mask.paths) == sorted(PERMANENT_PATHS)
    assert composed(recorded.of(other).person) == composed(recorded.of(head).person) == (head.pin, pins(other))
    assert (shown(office, child), len(shown(office, head))) == ([], 2)


def test_household_whose_head_moves_is_vacant_until_one_is_named(office: Office) -> None:
    household_id, (head, child, other) = family(office)
    request = office.asks(head, address(office, NGOC_HA), household=Joining())
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(request)
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    vacated = recorded.link("residence.vacate_head")
    assert (str(vacated.correlation_id), str(vacated.causation_id)) == (done.act_id, done.act_id)
    assert (vacated.actor, vacated.agreement_id) == (ITSELF, None)
    assert [(one.caller, one.object) for one in recorded.entries[1:]] == [(ITSELF, f"act {vacated.link_id}")] * 2
    assert len({one.subject.pseudonym for one in recorded.entries}) == 3
    assert composed(recorded.of(head).person) == (head.pin, set())
    for left in (child, other):
        told = recorded.of(left)
        assert (told.causation.causation_id, told.HasField("access")) == (str(vacated.link_id), False)
        assert composed(told.person) == ("", pins(child, other))
    assert {is_head for _, is_head, _ in shown(office, child)} == {False}

    with office.recording() as recorded:
        named = office.stub.NameHead(names(office, household_id, child))
    require_act(office, recorded, "residence.name_head", named.act_id, "NameHead")
    assert (recorded.acts, len({one.subject.pseudonym for one in recorded.entries})) == (["residence.name_head"], 2)
    assert {(one.object, tuple(one.paths)) for one in recorded.entries} == {
        (f"act {named.act_id}", ("household", "relation_to_head"))
    }
    members = named.household.members
    assert named.household.household_id == household_id
    assert [(one.pin, one.is_head, one.relation_to_head.code) for one in members] == [
        (child.pin, True, ""),
        (other.pin, False, ""),
    ]
    assert [one.name for one in members] == [child.person.full_name, other.person.full_name]
    assert {item.pin for item in recorded.told} == pins(child, other)
    assert {composed(item.person)[0] for item in recorded.told} == {child.pin}
    for one in (child, other):
        assert sorted(recorded.of(one).update_mask.paths) == ["household", "relation_to_head"]
        assert not recorded.of(one).person.HasField("relation_to_head"), "of the new head nobody has stated it"
    assert shown(office, other) == [(child.pin, True, ""), (other.pin, False, "")]


def test_former_head_stays_a_member(office: Office) -> None:
    household_id, (head, child) = family(office, 2)
    with office.recording() as recorded:
        office.stub.NameHead(names(office, household_id, child))
    assert shown(office, head) == [(child.pin, True, ""), (head.pin, False, "")]
    assert sorted(recorded.of(head).update_mask.paths) == ["household", "relation_to_head"]
    assert not recorded.of(head).person.HasField("relation_to_head")
    assert composed(recorded.of(head).person) == (child.pin, pins(head))


def test_closing_a_residence_leaves_the_household(office: Office) -> None:
    _, (head, child) = family(office, 2)
    rows = office.rows("SELECT residence_id FROM residences WHERE subject_id = :id", id=head.subject_id)
    with office.recording() as recorded:
        done = office.stub.CloseResidence(closes(office, rows[0].residence_id))
    require_act(office, recorded, "residence.close_residence", done.act_id, "CloseResidence")
    assert recorded.acts == ["residence.close_residence", "residence.vacate_head"]
    assert recorded.of(head).person == Person()
    assert composed(recorded.of(child).person) == ("", pins(child))
    assert (shown(office, head), shown(office, child)) == ([], [(child.pin, False, "02")])


def test_stay_elsewhere_leaves_the_household_alone(office: Office) -> None:
    _, (head, _) = family(office, 2)
    with office.recording() as recorded:
        office.stub.RegisterResidence(office.stays(head, address(office, NGOC_HA)))
    assert ([item.pin for item in recorded.told], recorded.acts) == ([head.pin], ["residence.register_residence"])
    query = "SELECT residence_id FROM residences WHERE subject_id = :id AND kind = 'TEMPORARY'"
    with office.recording() as recorded:
        office.stub.CloseResidence(closes(office, office.rows(query, id=head.subject_id)[0].residence_id))
    assert ([item.pin for item in recorded.told], recorded.acts) == ([head.pin], ["residence.close_residence"])
    assert len(shown(office, head)) == 2


def test_head_who_moves_may_join_his_household_again_as_a_member(office: Office) -> None:
    household_id, (head, child) = family(office, 2)
    with office.recording() as recorded:
        office.register(head, address(office, NGOC_HA), household=joining(household_id))
    assert recorded.acts == ["residence.register_residence", "residence.vacate_head"]
    for item in recorded.told:
        assert composed(item.person) == ("", pins(head, child))
    assert {item.pin for item in recorded.told} == pins(head, child)
    assert len(recorded.told) == 2
    assert set(shown(office, head)) == {(head.pin, False, "02"), (child.pin, False, "02")}


def test_only_a_member_becomes_head_and_only_once(office: Office) -> None:
    household_id, (head, child) = family(office, 2)
    call = office.stub.NameHead
    office.refuse(call, names(office, household_id, office.citizen()), "PERSON_NOT_IN_HOUSEHOLD")
    office.refuse(call, names(office, family(office, 1)[0], child), "PERSON_NOT_IN_HOUSEHOLD")
    refusal = office.refuse(call, names(office, household_id, head), "STATE_NOT_ALLOWED")
    assert refusal.metadata["object"] == f"household {household_id}"
    office.refuse(call, names(office, new_id(), child), "HOUSEHOLD_UNKNOWN")
    office.refuse(call, names(office, "h-1", child), "FIELD_INVALID")
    office.refuse(call, names(office, household_id, office.stranger()), "PERSON_UNKNOWN")
    mistaken = names(office, household_id, child)
    mistaken.identity.full_name += "g"
    office.refuse(call, mistaken, "IDENTITY_MISMATCH")
    assert shown(office, head)[0] == (head.pin, True, "")


def test_who_lives_somewhere_already_founds_a_household_there(office: Office) -> None:
    citizen, home = office.citizen(), address(office, BA_DINH)
    before = office.register(citizen, home, start_date=wire_date(office.days_ago(9)))
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.asks(citizen, home, household=Joining()))
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    assert recorded.acts == ["residence.register_residence"]
    founded = done.residence.household_id
    assert founded
    before.household_id = founded
    assert done.residence == before, "the residence stays as it is"
    (told,) = recorded.told
    assert sorted(told.update_mask.paths) == ["household", "relation_to_head"]
    assert composed(told.person) == (citizen.pin, set())
    assert [tuple(entry.paths) for entry in recorded.entries] == [("household", "relation_to_head")]
    early = office.asks(citizen, home, household=Joining(), start_date=wire_date(office.days_ago(10)))
    assert office.refuse(office.stub.RegisterResidence, early, "FIELD_INVALID").violations[0].field == "start_date"


def test_who_lives_there_already_changes_to_another_household(office: Office) -> None:
    household_id, (head, child) = family(office, 2)
    other_id, (leaver, left) = family(office, 2)
    home = address(office, BA_DINH)
    again = office.asks(leaver, home, household=joining(other_id))
    office.refuse(office.stub.RegisterResidence, again, "ALREADY_RESIDENT")
    office.refuse(office.stub.RegisterResidence, office.asks(leaver, home), "ALREADY_RESIDENT")
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.asks(leaver, home, household=joining(household_id)))
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    assert recorded.acts == ["residence.register_residence", "residence.vacate_head"]
    assert {item.pin for item in recorded.told} == pins(head, child, leaver, left)
    assert composed(recorded.of(head).person) == composed(recorded.of(leaver).person)
    assert composed(recorded.of(leaver).person) == (head.pin, pins(child, leaver))
    assert (recorded.of(leaver).person.relation_to_head, composed(recorded.of(left).person)) == (
        CHILD,
        ("", pins(left)),
    )
    assert len({entry.subject.pseudonym for entry in recorded.entries}) == len(recorded.entries) == 4
    assert done.residence.household_id == household_id
    assert office.active(leaver) == [("PERMANENT", "Số 1")]


def test_agreement_grants_the_naming_of_heads(office: Office) -> None:
    household_id, (_, child) = family(office, 2)
    access = office.agree("police/addresses", {REGISTER: ["permanent_residence"]})
    stub = office.stub_of(Kind.AGENCY, "police/addresses")
    refusal = office.refuse(stub.NameHead, names(office, household_id, child, access=access), "FIELD_NOT_GRANTED")
    assert refusal.metadata["field"] == "household"
    access = office.agree("police/households", {REGISTER: ["household"]})
    stub = office.stub_of(Kind.AGENCY, "police/households")
    assert stub.NameHead(names(office, household_id, child, access=access)).household.members[0].pin == child.pin


def test_repeated_naming_gets_its_first_answer(office: Office) -> None:
    household_id, (head, child, other) = family(office)
    request = names(office, household_id, child)
    first = office.stub.NameHead(request)
    office.stub.NameHead(names(office, household_id, other))
    with office.recording() as recorded:
        assert office.stub.NameHead(request) == first
    assert (recorded.told, recorded.links, recorded.entries) == ([], [], [])
    request.identity.CopyFrom(head.identity)
    office.refuse(office.stub.NameHead, request, "REQUEST_ID_REUSED")
    assert shown(office, head)[0][0] == other.pin


def test_what_is_told_last_is_the_composition_that_stands(office: Office) -> None:
    """Members come and go at once; each record's latest word must still be of the household as it is in the end."""
    household_id, members = family(office, 4)
    leaving, arriving = members[1:], [office.citizen() for _ in range(3)]
    requests = [office.asks(one, address(office, NGOC_HA)) for one in leaving]
    requests += [office.asks(one, address(office, BA_DINH), household=joining(household_id)) for one in arriving]
    with office.recording() as recorded, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda one: refusal_or(office.stub.RegisterResidence, one), requests))
    assert not [one for one in answers if isinstance(one, Refusal)]
    for member in (members[0], *arriving):
        latest = [item for item in recorded.told if item.pin == member.pin][-1]
        assert composed(latest.person) == (members[0].pin, pins(*arriving))
    heads = office.rows("SELECT household_id FROM members WHERE is_head GROUP BY household_id HAVING count(*) > 1")
    assert heads == []
