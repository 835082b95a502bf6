"""Households that only the record told of: adopted member by member, until the room has a word of its own."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from npd.common.v1.person_pb2 import CodedValue, Household, Person
from npd.residence.v1.residence_pb2 import Joining
from services.mesh.core.people import KnownPerson, Name
from services.mesh.core.person.dates import PartialDate
from services.residence.household import MEMBERS_LIMIT, Member
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_residence_households import composed, joining, names, pins, shown
from tests.rpc.test_residence_reactions import dies, require_reaction
from tests.rpc.test_residence_registration import BA_DINH, NGOC_HA, Citizen, Office, address, death

LEGACY = "police/legacy"


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def history(office: Office, citizen: Citizen, head_pin: str, relation: str = "3", **more: Any) -> None:
    """The record's history of somebody in a household comes by the feed."""
    one = citizen.person
    told = Person(pin=one.pin, full_name=one.full_name, birth_date=one.birth_date, sex=one.sex, **more)
    told.household.head.pin = head_pin
    told.relation_to_head.CopyFrom(CodedValue(code=relation, list_version="provisional"))
    office.tell(citizen, told, *(each.name for each, _ in told.ListFields()))


def adopted(office: Office, size: int = 3) -> list[Citizen]:
    """A household of history, at home in one place: its head, then children."""
    members = [office.stranger() for _ in range(size)]
    for one in members:
        history(office, one, members[0].pin, permanent_residence=address(office, BA_DINH))
    return members


def household(office: Office, citizen: Citizen) -> UUID | None:
    """The household of which somebody is a member."""
    rows = office.rows("SELECT household_id FROM members WHERE subject_id = :id", id=citizen.subject_id)
    return rows[0].household_id if rows else None


def disturb(office: Office, citizens: Sequence[Citizen], head_pin: str) -> None:
    """Another source tells of somebody's household: the record's value comes along."""
    for citizen in citizens:
        for word in (Person(household=Household()), Person()):
            if head_pin and word.HasField("household"):
                word.household.head.pin = head_pin
            office.tell(citizen, word, "household", "relation_to_head", source=LEGACY)


def require_together(office: Office, citizens: Sequence[Citizen], household_id: UUID | None) -> None:
    assert {household(office, one) for one in citizens} == {household_id}


def test_naming_a_head_is_a_word_of_our_own_for_all_members(office: Office) -> None:
    members = head, child, other = adopted(office)
    household_id = household(office, head)
    office.stub.NameHead(names(office, str(household_id), child))
    disturb(office, members, child.pin)
    disturb(office, members, head.pin)
    disturb(office, members, office.stranger().pin)
    require_together(office, members, household_id)
    assert shown(office, other)[0] == (child.pin, True, "")
    assert office.rows("SELECT is_adopted FROM households WHERE household_id = :id", id=household_id) == [(False,)]


def test_new_number_of_a_head_is_a_word_of_our_own_for_all_members(office: Office) -> None:
    members = adopted(office)
    household_id, number = household(office, members[0]), office.stranger().pin
    office.tell(members[0], Person(pin=number), "pin")
    disturb(office, members, number)
    disturb(office, members, "")
    require_together(office, members, household_id)
    assert shown(office, members[1])[0] == (number, True, "")


def test_who_joins_makes_the_household_our_own(office: Office) -> None:
    members = adopted(office)
    household_id, newcomer = household(office, members[0]), office.citizen()
    office.register(newcomer, address(office, BA_DINH), household=joining(str(household_id)))
    members.append(newcomer)
    disturb(office, members, office.stranger().pin)
    require_together(office, members, household_id)
    assert len(shown(office, newcomer)) == 4


def test_who_leaves_makes_the_household_our_own_and_is_not_taken_back(office: Office) -> None:
    head, child, leaver = adopted(office)
    household_id = household(office, head)
    office.register(leaver, address(office, NGOC_HA))
    disturb(office, [leaver], head.pin)
    disturb(office, [head, child], office.stranger().pin)
    require_together(office, [head, child], household_id)
    assert household(office, leaver) is None


def test_household_is_that_of_the_head_whatever_number_names_him(office: Office) -> None:
    head, *children = (office.stranger() for _ in range(4))
    number = office.stranger().pin
    history(office, head, head.pin)
    history(office, children[0], head.pin)
    office.tell(head, Person(pin=number), "pin")
    history(office, children[1], head.pin)
    history(office, children[2], number)
    require_together(office, [head, *children], household(office, head))
    assert [pin for pin, is_head, _ in shown(office, children[2]) if is_head] == [number]


def test_children_who_come_before_their_head_wait_for_him(office: Office) -> None:
    child, head = office.stranger(), office.stranger()
    history(office, child, head.pin)
    history(office, head, head.pin)
    assert shown(office, child) == [(head.pin, True, ""), (child.pin, False, "3")]


def test_household_of_history_follows_the_record(office: Office) -> None:
    head, child, other = adopted(office)
    household_id = household(office, head)
    for one in (child, head, other):
        word = Person()
        word.household.head.pin = child.pin
        word.relation_to_head.code = "5"
        office.tell(one, word, "household", "relation_to_head", source=LEGACY)
    require_together(office, [head, child, other], household_id)
    assert set(shown(office, other)) == {(child.pin, True, ""), (head.pin, False, "5"), (other.pin, False, "5")}
    office.tell(other, Person(), "household", "relation_to_head", source=LEGACY)
    assert household(office, other) is None


def test_late_history_gives_a_household_of_our_own_no_second_head(office: Office) -> None:
    head, child = office.stranger(), office.stranger()
    for one in (head, child):
        history(office, one, head.pin)
    household_id = household(office, head)
    office.stub.NameHead(names(office, str(household_id), child))
    dies(office, head)
    office.tell(head, Person(), "death_or_missing", source="civil_status")
    history(office, head, head.pin, "1")
    require_together(office, [head, child], household_id)
    assert shown(office, child) == [(child.pin, True, ""), (head.pin, False, "1")]


def test_dead_head_leaves_also_when_no_home_of_his_is_known(office: Office) -> None:
    head, child = office.stranger(), office.stranger()
    for one in (head, child):
        history(office, one, head.pin)
    with office.recording() as recorded:
        change = dies(office, head)
    require_reaction(recorded, change, "residence.close_residence", "residence.vacate_head")
    assert recorded.link("residence.close_residence").outcome == "NOTHING_TO_CLOSE"
    assert (recorded.of(head).person, list(recorded.of(head).update_mask.paths)) == (
        Person(),
        ["household", "relation_to_head"],
    )
    assert recorded.of(child).causation.causation_id == str(recorded.link("residence.vacate_head").link_id)
    assert composed(recorded.of(child).person) == ("", pins(child))
    assert (household(office, head), shown(office, child)) == (None, [(child.pin, False, "3")])


def test_adoption_waits_behind_whoever_changes_the_household(office: Office) -> None:
    head, late = adopted(office, 1)[0], office.stranger()
    household_id = household(office, head)
    with ThreadPoolExecutor(1) as threads:
        with office.database.transaction() as tx:
            tx.households.lock([household_id] if household_id else [])
            adoption = threads.submit(history, office, late, head.pin)
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
            wait_until(lambda: office.rows(waiting) != [] or adoption.done())
            assert not adoption.done()
        adoption.result(10)
    require_together(office, [head, late], household_id)


def test_household_takes_as_many_members_as_can_be_told_of(office: Office) -> None:
    head = office.citizen()
    household_id = office.register(head, address(office, BA_DINH), household=Joining()).household_id
    name = Name("Nguyễn", "Thị Phương", "Thảo", "Nguyễn Thị Phương Thảo")
    with office.database.transaction() as tx:
        for number in range(1, MEMBERS_LIMIT):
            one = KnownPerson(uuid4(), f"0010900{number:05}", name, PartialDate(1990), 1)
            tx.people.put(one)
            tx.households.put(UUID(household_id), Member.of(one))
    request = office.asks(office.citizen(), address(office, BA_DINH), household=joining(household_id))
    refusal = office.refuse(office.stub.RegisterResidence, request, "STATE_NOT_ALLOWED")
    assert refusal.metadata == {"object": f"household {household_id}", "state": "FULL"}
    late = office.stranger()
    history(office, late, head.pin)
    assert household(office, late) is None, "nor is he adopted into it"
    with office.recording() as recorded:
        office.register(head, address(office, NGOC_HA), household=joining(household_id))
    assert len(recorded.told) == MEMBERS_LIMIT
    assert max(len(item.SerializeToString()) for item in recorded.told) < 64 << 10


def test_history_of_the_dead_does_not_stay_in_a_household(office: Office) -> None:
    head = office.stranger()
    history(office, head, head.pin, death_or_missing=death(office.days_ago(99)).death_or_missing)
    assert household(office, head) is None
