"""What the feed makes the room do: adopt history, close the residences of the dead, tell households of new names."""

from typing import Any
from uuid import uuid4

import pytest

from npd.common.v1.evidence_pb2 import LogEntry
from npd.common.v1.person_pb2 import CodedValue, Household, Person, PersonName, RelatedPerson, TemporaryResidence
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.residence.v1 import residence_pb2
from npd.residence.v1.residence_pb2 import CloseResidenceRequest, GetResidenceRequest
from services.mesh.core.following import FollowedChange
from tests.mesh_fixture import Desk, Stage, new_id, wire_date
from tests.rpc.test_residence_households import composed, family, joining, pins, shown
from tests.rpc.test_residence_registration import (
    ACTIVE,
    BA_DINH,
    CLOSED,
    DONE,
    GIANG_VO,
    ITSELF,
    NGOC_HA,
    PERMANENT,
    PERMANENT_PATHS,
    TEMPORARY,
    TEMPORARY_PATHS,
    Citizen,
    Office,
    Recorded,
    address,
    death,
)

DEATH = residence_pb2.CLOSING_GROUND_DEATH


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def dies(office: Office, citizen: Citizen) -> FollowedChange:
    """Somebody's death becomes known."""
    return office.tell(citizen, death(office.today), "death_or_missing", source="civil_status")


def residences(office: Office, citizen: Citizen) -> Any:
    """Somebody's residences as an officer is shown them."""
    return office.stub.GetResidence(GetResidenceRequest(access=office.access, identity=citizen.identity)).residences


def stay(office: Office, code: str) -> TemporaryResidence:
    """A temporary residence as the record holds it."""
    return TemporaryResidence(
        address=address(office, code, "Ngõ 3"),
        start_date=wire_date(office.days_ago(30)),
        end_date=wire_date(office.days_ago(-30)),
    )


def require_reaction(recorded: Recorded, change: FollowedChange, *acts: str) -> None:
    """The room acted by itself, because of the change: a link, contributions and an entry of each act."""
    assert recorded.acts == sorted(acts)
    assert {link.correlation_id for link in recorded.links} == {change.causation.correlation_id}
    assert {link.actor for link in recorded.links} == {ITSELF}
    for link in recorded.links:
        if link.act == "residence.vacate_head":
            assert link.causation_id == recorded.link("residence.close_residence").link_id
        else:
            assert link.causation_id == change.causation.causation_id
        assert str(link.link_id) in {item.causation.causation_id for item in recorded.told}
        mine = [item for item in recorded.told if item.causation.causation_id == str(link.link_id)]
        assert [list(entry.paths) for entry in recorded.entries if entry.object == f"act {link.link_id}"] == [
            sorted(item.update_mask.paths) for item in mine
        ]
    assert {one.causation.correlation_id for one in recorded.told} == {str(change.causation.correlation_id)}
    assert not any(item.HasField("access") for item in recorded.told)
    entries: list[LogEntry] = recorded.entries
    assert {entry.method for entry in entries} == set(acts)
    assert len({(entry.subject.pseudonym, entry.object) for entry in entries}) == len(recorded.told), "one for each"
    assert {(entry.caller, entry.outcome) for entry in entries} == {(ITSELF, DONE)}
    assert {entry.object for entry in entries} == {f"act {link.link_id}" for link in recorded.links}


def test_death_closes_residences(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(9)))
    office.stub.RegisterResidence(office.stays(citizen, address(office, NGOC_HA)))
    with office.recording() as recorded:
        change = dies(office, citizen)
    require_reaction(recorded, change, "residence.close_residence")
    assert office.active(citizen) == []
    assert {(one.ground, one.state) for one in residences(office, citizen)} == {(DEATH, CLOSED)}
    assert {one.closing_date.day for one in residences(office, citizen)} == {office.today.day}
    (told,) = recorded.told
    assert (told.pin, told.person) == (citizen.pin, Person()), "no value any more"
    assert sorted(told.update_mask.paths) == sorted({*PERMANENT_PATHS, *TEMPORARY_PATHS})
    assert recorded.link("residence.close_residence").outcome == ""


def test_second_death_does_nothing(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH))
    change = dies(office, citizen)
    with office.recording() as recorded:
        office.react(change)
        dies(office, citizen)
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])


def test_death_of_who_resides_nowhere_meets_the_laws_clock_once(office: Office) -> None:
    citizen = office.citizen()
    with office.recording() as recorded:
        change = dies(office, citizen)
    link = recorded.link("residence.close_residence")
    assert (link.outcome, link.causation_id) == ("NOTHING_TO_CLOSE", change.causation.causation_id)
    assert (link.correlation_id, link.actor) == (change.causation.correlation_id, ITSELF)
    (entry,) = recorded.entries
    assert (entry.outcome, entry.object, list(entry.paths)) == (DONE, f"act {link.link_id}", [])
    assert len(entry.subject.pseudonym) == 32
    assert (recorded.told, recorded.acts) == ([], ["residence.close_residence"])
    with office.recording() as recorded:
        office.react(change)
        dies(office, citizen)
        office.tell(citizen, Person(full_name=PersonName(full="Lê Mới")), "full_name", source="civil_status")
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])


def test_own_word_of_a_death_is_no_event(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH))
    with office.recording() as recorded:
        office.tell(citizen, death(office.today), "death_or_missing", source="residence")
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])
    assert office.active(citizen) == [("PERMANENT", "Số 1")]


def test_annulled_death_reopens_nothing_and_lets_register_anew(office: Office) -> None:
    citizen = office.citizen()
    day = wire_date(office.days_ago(9))
    office.register(citizen, address(office, BA_DINH), start_date=day)
    dies(office, citizen)
    with office.recording() as recorded:
        office.tell(citizen, Person(), "death_or_missing", source="civil_status")
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])
    assert office.active(citizen) == []
    office.register(citizen, address(office, BA_DINH), start_date=day)
    assert office.active(citizen) == [("PERMANENT", "Số 1")]


def test_death_of_a_head_leaves_the_household_vacant(office: Office) -> None:
    _, (head, child, other) = family(office)
    with office.recording() as recorded:
        change = dies(office, head)
    require_reaction(recorded, change, "residence.close_residence", "residence.vacate_head")
    assert recorded.of(head).person == Person()
    for left in (child, other):
        assert composed(recorded.of(left).person) == ("", pins(child, other))
        vacated = recorded.link("residence.vacate_head")
        assert recorded.of(left).causation.causation_id == str(vacated.link_id)
    assert {is_head for _, is_head, _ in shown(office, child)} == {False}


def test_death_of_a_member_is_told_to_the_others(office: Office) -> None:
    _, (head, child, other) = family(office)
    with office.recording() as recorded:
        change = dies(office, child)
    require_reaction(recorded, change, "residence.close_residence")
    assert {item.pin for item in recorded.told} == pins(head, child, other)
    assert composed(recorded.of(other).person) == (head.pin, pins(other))
    assert not recorded.of(child).person.HasField("household")


def test_death_of_the_last_member_empties_the_household(office: Office) -> None:
    household_id, (head,) = family(office, 1)
    with office.recording() as recorded:
        change = dies(office, head)
    require_reaction(recorded, change, "residence.close_residence")
    request = office.asks(office.citizen(), address(office, BA_DINH), household=joining(household_id))
    office.refuse(office.stub.RegisterResidence, request, "HOUSEHOLD_UNKNOWN")


def test_history_is_adopted_and_the_record_told_nothing(office: Office) -> None:
    home = address(office, BA_DINH)
    with office.recording() as recorded:
        citizen = office.citizen(permanent_residence=home, temporary_residence=stay(office, NGOC_HA))
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])
    found = {one.kind: one for one in residences(office, citizen)}
    assert set(found) == {PERMANENT, TEMPORARY}
    assert (found[PERMANENT].address, found[PERMANENT].state) == (home, ACTIVE)
    assert not found[PERMANENT].HasField("start_date"), "the record does not tell it"
    assert found[TEMPORARY].start_date == wire_date(office.days_ago(30))
    assert found[TEMPORARY].end_date == wire_date(office.days_ago(-30))


def test_adopted_residences_follow_the_record(office: Office) -> None:
    citizen = office.citizen(permanent_residence=address(office, BA_DINH))
    (before,) = residences(office, citizen)
    moved = Person(permanent_residence=address(office, NGOC_HA, "Số 9"))
    change = office.tell(citizen, moved, "permanent_residence", source="police/legacy")
    office.react(change)
    assert [(one.residence_id, one.address.detail_text) for one in residences(office, citizen)] == [
        (before.residence_id, "Số 9")
    ]
    office.tell(citizen, Person(), "permanent_residence", source="police/legacy")
    assert list(residences(office, citizen)) == []


def test_adopted_residence_is_replaced_by_one_that_is_registered(office: Office) -> None:
    citizen = office.citizen(permanent_residence=address(office, BA_DINH), temporary_residence=stay(office, NGOC_HA))
    again = office.asks(citizen, address(office, BA_DINH, "số  1"))
    office.refuse(office.stub.RegisterResidence, again, "ALREADY_RESIDENT")
    near = office.stays(office.citizen(permanent_residence=address(office, GIANG_VO)), address(office, GIANG_VO, "2"))
    office.refuse(office.stub.RegisterResidence, near, "RESIDENCE_IN_SAME_COMMUNE")
    with office.recording() as recorded:
        office.register(citizen, address(office, NGOC_HA, "Số 8"), start_date=wire_date(office.days_ago(20)))
    assert office.active(citizen) == [("PERMANENT", "Số 8")]
    assert sorted(recorded.told[0].update_mask.paths) == sorted({*PERMANENT_PATHS, *TEMPORARY_PATHS})


def test_adopted_residence_is_closed_like_any_other(office: Office) -> None:
    citizen = office.citizen(permanent_residence=address(office, BA_DINH))
    (adopted,) = residences(office, citizen)
    request = CloseResidenceRequest(
        request_id=new_id(),
        access=office.access,
        residence_id=adopted.residence_id,
        ground=residence_pb2.CLOSING_GROUND_ABSENT,
        closing_date=wire_date(office.today),
    )
    with office.recording() as recorded:
        office.stub.CloseResidence(request)
    assert sorted(recorded.of(citizen).update_mask.paths) == sorted(PERMANENT_PATHS)
    assert recorded.of(citizen).person == Person()
    home = Person(permanent_residence=address(office, BA_DINH))
    office.tell(citizen, home, "permanent_residence", source="police/legacy")
    assert office.active(citizen) == [], "what the room has closed is not adopted again"


def test_death_closes_what_was_adopted(office: Office) -> None:
    citizen = office.citizen(permanent_residence=address(office, BA_DINH), temporary_residence=stay(office, NGOC_HA))
    with office.recording() as recorded:
        change = dies(office, citizen)
    require_reaction(recorded, change, "residence.close_residence")
    assert (office.active(citizen), [item.person for item in recorded.told]) == ([], [Person()])


def test_history_of_the_dead_is_closed_at_once(office: Office) -> None:
    person = death(office.days_ago(99))
    person.permanent_residence.CopyFrom(address(office, BA_DINH))
    with office.recording() as recorded:
        citizen = office.citizen(
            permanent_residence=person.permanent_residence, death_or_missing=person.death_or_missing
        )
    assert recorded.acts == ["residence.close_residence"]
    assert sorted(recorded.of(citizen).update_mask.paths) == sorted(PERMANENT_PATHS)
    with office.recording() as recorded:
        change = office.tell(citizen, Person(temporary_residence=stay(office, NGOC_HA)), "temporary_residence")
    require_reaction(recorded, change, "residence.close_residence")
    assert office.active(citizen) == []


def test_own_word_outweighs_what_others_say(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH))
    with office.recording() as recorded:
        elsewhere = Person(permanent_residence=address(office, NGOC_HA, "Số 9"))
        office.tell(citizen, elsewhere, "permanent_residence", source="police/legacy")
        office.tell(citizen, Person(), "permanent_residence", source="police/legacy")
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])
    assert office.active(citizen) == [("PERMANENT", "Số 1")]
    echo = Person(permanent_residence=address(office, NGOC_HA), temporary_residence=stay(office, NGOC_HA))
    office.tell(citizen, echo, "permanent_residence", "temporary_residence", source="residence")
    assert office.active(citizen) == [("PERMANENT", "Số 1")], "an echo of an older word"


@pytest.mark.parametrize(
    "home",
    [
        Address(detail_text="Paris"),
        Address(place=AdminPlace(country_code="FR")),
        Address(place=AdminPlace(unit_code="01", unit_list_version="2024-12-31"), detail_text="Hà Nội"),
    ],
    ids=["no place", "abroad", "province"],
)
def test_vague_history_is_adopted_as_it_is(office: Office, home: Address) -> None:
    citizen = office.citizen(permanent_residence=home)
    (adopted,) = residences(office, citizen)
    assert adopted.address == home
    with office.recording() as recorded:
        office.stub.RegisterResidence(office.stays(citizen, address(office, BA_DINH)))
        office.register(citizen, address(office, NGOC_HA))
    assert len(recorded.told) == 2


def test_household_hears_of_a_members_new_name_and_number(office: Office) -> None:
    _, (head, child) = family(office, 2)
    renamed = Person(full_name=PersonName(family="Lê", given="Mới", full="Lê Mới"))
    with office.recording() as recorded:
        change = office.tell(child, renamed, "full_name", source="civil_status")
    require_reaction(recorded, change, "residence.renew_household")
    assert [member.name.full for member in recorded.of(head).person.household.members] == ["Lê Mới"]
    assert {tuple(item.update_mask.paths) for item in recorded.told} == {("household",)}
    number = office.stranger().pin
    with office.recording() as recorded:
        change = office.tell(child, Person(pin=number), "pin")
    require_reaction(recorded, change, "residence.renew_household")
    assert [member.pin for member in recorded.of(head).person.household.members] == [number]
    assert {item.pin for item in recorded.told} == {head.pin, number}
    with office.recording() as recorded:
        office.react(change)
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], []), "it comes again and says nothing new"


def test_new_name_of_who_lives_alone_in_no_household_is_nobodys_business(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH))
    with office.recording() as recorded:
        office.tell(citizen, Person(full_name=PersonName(full="Lê Mới")), "full_name", source="civil_status")
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])


def test_household_of_history_is_adopted_and_its_heads_death_leaves_it_vacant(office: Office) -> None:
    strangers = [office.stranger().person for _ in range(2)]
    home, relatives = address(office, BA_DINH), [RelatedPerson(name=one.full_name, pin=one.pin) for one in strangers]
    household = Household(head=relatives[0], members=relatives[1:])
    head, child = (Citizen(uuid4(), one) for one in strangers)
    with office.recording() as recorded:
        for citizen, relation in ((head, ""), (child, "3")):
            known = citizen.person
            told = Person(permanent_residence=home, household=household)
            told.relation_to_head.CopyFrom(CodedValue(code=relation or "1", list_version="provisional"))
            told.MergeFrom(Person(pin=known.pin, full_name=known.full_name, birth_date=known.birth_date, sex=known.sex))
            office.tell(citizen, told, *(each.name for each, _ in told.ListFields()))
    assert (recorded.entries, recorded.told, recorded.links) == ([], [], [])
    assert {(pin, is_head) for pin, is_head, _ in shown(office, child)} == {(head.pin, True), (child.pin, False)}
    with office.recording() as recorded:
        change = dies(office, head)
    require_reaction(recorded, change, "residence.close_residence", "residence.vacate_head")
    assert composed(recorded.of(child).person) == ("", pins(child))
