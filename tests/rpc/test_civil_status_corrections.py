"""Corrections of births, and what the feed of changes makes civil status do."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from unicodedata import normalize
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date

from npd.civil_status.v1.civil_status_pb2 import ActKind, BirthCorrection, CorrectBirthRequest
from npd.common.v1.evidence_pb2 import Outcome
from npd.common.v1.person_pb2 import CodedValue, Person, PersonName, RelatedPerson, Sex
from npd.common.v1.place_pb2 import AdminPlace
from npd.sharing.v1.contribution_pb2 import ContributionItem
from services.civil_status.domain import ROOM_NAME
from services.mesh.core.chain import Causation
from tests.mesh_fixture import new_id, wait_until, wire_date
from tests.rpc.test_civil_status_callers import (
    DIVORCED,
    MARRIED,
    SERVICE,
    SINGLE,
    TODAY,
    Known,
    Registrar,
    Scene,
    numbers,
    scene,
)
from tests.rpc.test_civil_status_marriages import named, told_of

__all__ = ["numbers", "scene"]
OLD_DISTRICT = AdminPlace(unit_code="001", unit_list_version="2024-12-31")


def correction(registrar: Registrar, one: Known, *paths: str, **values: Any) -> CorrectBirthRequest:
    """A correction of somebody, by default of just the values that are given."""
    return CorrectBirthRequest(
        request_id=new_id(),
        access=registrar.access,
        identity=one.stated,
        correction=BirthCorrection(**values),
        corrected_mask=FieldMask(paths=paths or sorted(values)),
        decision_date=wire_date(TODAY),
        entry_number="CC/2026-001",
    )


def correct(scene: Scene, one: Known, **values: Any) -> Any:
    """Correct somebody's birth; returns the act."""
    return scene.registrar.stub.CorrectBirth(correction(scene.registrar, one, **values)).act


def test_corrected_values_are_told_and_known_from_then_on(scene: Scene) -> None:
    one = scene.registrar.bear(birth_date=wire_date(date(2001, 2, 3)))
    values = {
        "full_name": PersonName(full=normalize("NFD", "Nguyễn Thị Đúng")),
        "birth_date": wire_date(date(2000, 2, 3)),
        "place_of_birth": OLD_DISTRICT,
        "hometown": OLD_DISTRICT,
        "ethnicity": CodedValue(code="04", list_version="2008"),
    }
    with scene.recording() as entries:
        act = correct(scene, one, **values)
    assert (act.kind, act.event_date) == (ActKind.ACT_KIND_CORRECTION, wire_date(TODAY))
    scene.require_recorded(act, entries, "correct_birth", sorted(values), 1)
    assert entries[0].method == f"{SERVICE}/CorrectBirth"
    ((pin, (person, paths, event_time)),) = told_of(scene, act.act_id).items()
    assert (pin, paths) == (one.pin, sorted(values))
    assert person == Person(**{**values, "full_name": PersonName(full="Nguyễn Thị Đúng")})
    assert event_time == act.register_time.ToDatetime(event_time.tzinfo)
    corrected = Known(one.subject_id, one.pin, "Nguyễn Thị Đúng", wire_date(date(2000, 2, 3)))
    assert scene.registrar.status(corrected).outcome == Outcome.OUTCOME_DISCLOSED
    assert scene.registrar.status(one).outcome == Outcome.OUTCOME_NO_MATCH
    refused = correction(scene.registrar, corrected, **values)
    scene.refuse(scene.registrar.stub.CorrectBirth, refused, "NOTHING_CORRECTED")


def test_only_what_differs_is_told_and_only_what_the_mask_names_is_looked_at(scene: Scene) -> None:
    one = scene.registrar.bear()
    request = correction(scene.registrar, one, "birth_date", "hometown")
    request.correction.CopyFrom(
        BirthCorrection(birth_date=one.born, hometown=OLD_DISTRICT, full_name=PersonName(full="Không Ai"))
    )
    act = scene.registrar.stub.CorrectBirth(request).act
    assert told_of(scene, act.act_id)[one.pin][:2] == (Person(hometown=OLD_DISTRICT), ["hometown"])


def test_history_is_corrected_too_the_dead_and_those_known_by_year_included(scene: Scene) -> None:
    one = scene.person(born=Date(year=1950), dead=True)
    act = correct(
        scene, one, birth_date=wire_date(date(1950, 7, 7)), ethnicity=CodedValue(code="01", list_version="2008")
    )
    assert told_of(scene, act.act_id)[one.pin][1] == ["birth_date", "ethnicity"]
    again = Known(one.subject_id, one.pin, one.name, wire_date(date(1950, 7, 7)))
    request = correction(scene.registrar, again, ethnicity=CodedValue(code="01", list_version="2008"))
    scene.refuse(scene.registrar.stub.CorrectBirth, request, "NOTHING_CORRECTED")


def test_new_name_reaches_the_records_of_spouse_and_parents(scene: Scene) -> None:
    mother, father, spouse = scene.person(), scene.person(), scene.person()
    child = scene.registrar.bear(mother, father, birth_date=wire_date(date(2001, 1, 1)))
    scene.registrar.marry(child, spouse)
    act = correct(scene, child, full_name=PersonName(full="Nguyễn Văn Mới"))
    item = RelatedPerson(name=PersonName(full="Nguyễn Văn Mới"), pin=child.pin)
    told = told_of(scene, act.act_id)
    assert {pin: one[:2] for pin, one in told.items()} == {
        child.pin: (Person(full_name=item.name), ["full_name"]),
        spouse.pin: (Person(spouses=[item]), ["spouses"]),
        mother.pin: (Person(children=[item]), ["children"]),
        father.pin: (Person(children=[item]), ["children"]),
    }
    assert scene.registrar.status(spouse).spouse == item


def test_corrected_birth_is_not_registered_again_and_leaves_its_former_name_free(scene: Scene) -> None:
    request = scene.registrar.birth()
    answer = scene.registrar.stub.RegisterBirth(request)
    one = Known(uuid4(), answer.pin, request.birth.full_name.full, request.birth.birth_date)
    correct(scene, one, full_name=PersonName(full="Nguyễn Văn Sửa Rồi"))
    again = scene.registrar.birth(full_name=PersonName(full="Nguyễn Văn Sửa Rồi"))
    scene.refuse(scene.registrar.stub.RegisterBirth, again, "BIRTH_ALREADY_REGISTERED")
    twin = scene.registrar.bear(full_name=PersonName(full=one.name))
    back = correction(scene.registrar, twin, full_name=PersonName(full="nguyễn văn sửa rồi"))
    scene.refuse(scene.registrar.stub.CorrectBirth, back, "BIRTH_ALREADY_REGISTERED")


@pytest.mark.parametrize("year", [1850, 1899])
def test_nobody_is_corrected_to_a_year_that_has_no_number(scene: Scene, year: int) -> None:
    request = correction(scene.registrar, scene.person(), birth_date=wire_date(date(year, 1, 1)))
    _refuse_birth_date(scene, request)


def _refuse_birth_date(scene: Scene, request: CorrectBirthRequest) -> None:
    refusal = scene.refuse(scene.registrar.stub.CorrectBirth, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["correction.birth_date"]


def test_corrected_birth_stays_before_death_and_marriage_and_after_the_parents(scene: Scene) -> None:
    dead, married, mother = scene.person(), scene.person(), scene.person(born=date(1990, 5, 1))
    scene.registrar.bury(dead, date(2020, 1, 1))
    scene.registrar.marry(married, scene.person(), date(2015, 2, 2))
    child = scene.registrar.bear(mother)
    for one, wrong, right in (
        (dead, date(2020, 1, 2), date(2020, 1, 1)),
        (married, date(2015, 2, 3), date(2015, 2, 2)),
        (child, date(1990, 5, 1), date(1990, 5, 2)),
    ):
        _refuse_birth_date(scene, correction(scene.registrar, one, birth_date=wire_date(wrong)))
        assert correct(scene, one, birth_date=wire_date(right)).act_id


def test_correction_is_not_decided_before_the_birth(scene: Scene) -> None:
    request = correction(scene.registrar, scene.person(), full_name=PersonName(full="Lê Mới"))
    request.decision_date.CopyFrom(wire_date(date(1990, 4, 30)))
    scene.refuse(scene.registrar.stub.CorrectBirth, request, "EVENT_BEFORE_BIRTH")


def test_repeated_correction_gets_the_first_answer(scene: Scene) -> None:
    one = scene.person()
    request = correction(scene.registrar, one, full_name=PersonName(full="Trần Thị Lại"))
    first, before = scene.registrar.stub.CorrectBirth(request), scene.state()
    assert scene.registrar.stub.CorrectBirth(request) == first
    assert scene.state() == before
    request.correction.full_name.full = "Trần Thị Nữa"
    scene.refuse(scene.registrar.stub.CorrectBirth, request, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("paths", "values", "reason"),
    [
        (["full_name"], {}, "FIELD_REQUIRED"),
        (["full_name", "hometown"], {"hometown": OLD_DISTRICT}, "FIELD_INVALID"),
        (["sex"], {"hometown": OLD_DISTRICT}, "MASK_UNKNOWN_PATH"),
        (["full_name.full"], {"full_name": PersonName(full="A B")}, "MASK_UNKNOWN_PATH"),
        (["Trần Thị"], {"full_name": PersonName(full="A B")}, "MASK_UNKNOWN_PATH"),
        ([], {"full_name": PersonName()}, "FIELD_INVALID"),
        ([], {"birth_date": Date(year=2000)}, "FIELD_INVALID"),
        ([], {"birth_date": wire_date(TODAY + timedelta(days=1))}, "EVENT_IN_FUTURE"),
        ([], {"hometown": AdminPlace(unit_code="99999", unit_list_version="2024-12-31")}, "FIELD_INVALID"),
        ([], {"hometown": AdminPlace(unit_code="001", unit_list_version="1999-01-01")}, "FIELD_INVALID"),
        ([], {"ethnicity": CodedValue(code="99x", list_version="2008")}, "FIELD_INVALID"),
    ],
)
def test_correction_is_refused(scene: Scene, paths: list[str], values: dict[str, Any], reason: str) -> None:
    request = correction(scene.registrar, scene.person(), *paths, **values)
    if not values:
        request.ClearField("correction")
    refusal = scene.refuse(scene.registrar.stub.CorrectBirth, request, reason)
    assert "Trần" not in str(refusal.metadata)


def test_empty_mask_and_decision_to_come_are_refused(scene: Scene) -> None:
    request = correction(scene.registrar, scene.person(), full_name=PersonName(full="A B"))
    request.decision_date.CopyFrom(wire_date(TODAY + timedelta(days=1)))
    scene.refuse(scene.registrar.stub.CorrectBirth, request, "EVENT_IN_FUTURE")
    request.decision_date.CopyFrom(wire_date(TODAY))
    request.corrected_mask.CopyFrom(FieldMask())
    scene.refuse(scene.registrar.stub.CorrectBirth, request, "MASK_EMPTY")


def test_who_is_unknown_or_misstated_is_not_corrected(scene: Scene) -> None:
    one = scene.person()
    stranger = Known(one.subject_id, "901090777779", one.name, one.born)
    misnamed = Known(one.subject_id, one.pin, "Trần Văn Lạ", one.born)
    for who, reason in ((stranger, "PERSON_UNKNOWN"), (misnamed, "IDENTITY_MISMATCH")):
        request = correction(scene.registrar, who, full_name=PersonName(full="A B"))
        scene.refuse(scene.registrar.stub.CorrectBirth, request, reason)


def test_status_that_others_tell_counts_until_this_room_has_a_word_of_its_own(scene: Scene) -> None:
    one, other = scene.person(marital=MARRIED), scene.person()
    request = scene.registrar.marriage(one, other)
    scene.refuse(scene.registrar.stub.RecordMarriage, request, "PERSON_MARRIED")
    scene.tell(one, Person(marital_status=DIVORCED), ["marital_status"], source="court/core")
    assert scene.registrar.status(one).marital_status == DIVORCED
    scene.registrar.stub.RecordMarriage(request)
    scene.tell(one, Person(marital_status=SINGLE), ["marital_status"], source="court/core")
    assert scene.registrar.status(one).marital_status == MARRIED


def test_echo_of_what_this_room_told_changes_nothing(scene: Scene) -> None:
    one = scene.registrar.bear()
    told = Person(pin=one.pin, full_name=PersonName(full="Ai Khác"), marital_status=MARRIED)
    act_id = UUID(scene.registrar.status(one).acts[0].act_id)
    before = scene.state()
    change = scene.tell(one, told, ["marital_status"], source=ROOM_NAME)
    echo = replace(change, causation=Causation(act_id, change.change_id), caused_by=act_id)
    scene.apply(replace(echo, paths=("pin", "full_name", "marital_status")))
    assert scene.state() == before


def test_death_that_others_tell_is_known_and_nothing_else_is_done(scene: Scene) -> None:
    one, spouse = scene.person(), scene.person()
    scene.registrar.marry(one, spouse)
    death = Person()
    death.death_or_missing.kind = 2  # type: ignore[assignment]
    change = scene.tell(one, death, ["death_or_missing"], source="court/core")
    scene.refuse(scene.registrar.stub.RegisterDeath, scene.registrar.death(one), "PERSON_DECEASED")
    assert scene.registrar.status(spouse).marital_status == MARRIED
    assert scene.links(change.causation.correlation_id) == []
    scene.tell(one, Person(), ["death_or_missing"], source="court/core")
    assert scene.registrar.bury(one).act_id


def test_new_number_reaches_the_records_of_spouse_parents_and_children(scene: Scene) -> None:
    mother, spouse = scene.person(), scene.person()
    one = scene.registrar.bear(mother, birth_date=wire_date(date(1999, 1, 1)), sex=Sex.SEX_FEMALE)
    sibling = scene.registrar.bear(mother)
    child = scene.registrar.bear(one)
    scene.registrar.marry(one, spouse)
    with scene.recording() as entries:
        change = scene.tell(one, Person(pin="901090997001"), ["pin"])
    one.pin = "901090997001"
    chain = change.causation.correlation_id
    room = scene.room.house.identity
    assert scene.links(chain) == [("civil_status.follow_pin", room)]
    (link,) = scene.rows("SELECT link_id, causation_id FROM chain_links WHERE correlation_id = :id", id=str(chain))
    assert link[1] == change.change_id
    assert [(entry.caller, entry.object, list(entry.paths)) for entry in entries] == [
        (room, f"act {link[0]}", [path]) for path in ("spouses", "children", "mother")
    ]
    told = [(item.pin, list(item.update_mask.paths), item.person) for item in scene.told(chain)]
    both = sorted([named(one), named(sibling)], key=lambda item: item.pin)
    assert told[0] == (spouse.pin, ["spouses"], Person())
    assert told[1] == (spouse.pin, ["spouses"], Person(spouses=[named(one)]))
    assert told[2] == (mother.pin, ["children"], Person())
    assert told[3][:2] == (mother.pin, ["children"])
    assert sorted(told[3][2].children, key=lambda item: item.pin) == both
    assert told[4][:2] == (child.pin, ["mother"])
    assert told[4][2].mother == RelatedPerson(name=PersonName(full=one.name), pin=one.pin, nationality="VN")
    assert len(told) == 5
    assert len({item.event_time.ToNanoseconds() for item in scene.told(chain)}) == 1
    before = scene.state()
    scene.apply(change)
    assert scene.state() == before, "the same change again finds its effect there"


@pytest.mark.parametrize("other_act", ["birth of a sibling", "correction of a sibling"])
def test_new_number_and_an_act_about_a_sibling_are_told_one_after_the_other(scene: Scene, other_act: str) -> None:
    mother = scene.person()
    one, sibling = scene.registrar.bear(mother), scene.registrar.bear(mother)
    call: Any = scene.registrar.stub.CorrectBirth
    request: Any = correction(scene.registrar, sibling, full_name=PersonName(full="Nguyễn Văn Đổi"))
    if other_act.startswith("birth"):
        call, request = scene.registrar.stub.RegisterBirth, scene.registrar.birth(mother)
    number = f"9011260{one.pin[-5:]}"
    with scene.room.house.engine.connect() as blocker, ThreadPoolExecutor(2) as pool:
        held = blocker.begin()  # the act has told of the sibling already, and waits to be logged
        blocker.exec_driver_sql("LOCK TABLE log_pending IN EXCLUSIVE MODE")
        act = pool.submit(call, request)
        _wait_for_waiting(scene, 1)
        change = pool.submit(scene.tell, one, Person(pin=number), ["pin"])
        _wait_for_waiting(scene, 2)
        held.rollback()
        act.result(20), change.result(20)
    query = "SELECT payload FROM outbox WHERE kind = 'contribution' AND subject_id = :id ORDER BY outbox_id"
    children: dict[str, str] = {}
    for (raw,) in scene.rows(query, id=str(mother.subject_id)):
        told = ContributionItem.FromString(raw).person.children
        children = {**children, **{child.pin: child.name.full for child in told}} if told else {}
    born = {act.result().pin: request.birth.full_name.full} if other_act.startswith("birth") else {}
    name = sibling.name if born else "Nguyễn Văn Đổi"
    assert children == {number: one.name, sibling.pin: name, **born}


def _wait_for_waiting(scene: Scene, count: int) -> None:
    """Wait until so many acts wait for a lock: of a person, or of the log that the test holds."""
    query = """
        SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
        AND (query ILIKE 'INSERT INTO log_pending%' OR query LIKE '%FROM people%FOR UPDATE%')
    """
    wait_until(lambda: len(scene.rows(query)) >= count)


def test_new_number_of_one_without_relations_does_nothing(scene: Scene) -> None:
    one = scene.person()
    change = scene.tell(one, Person(pin="901090997002"), ["pin"])
    assert scene.links(change.causation.correlation_id) == []
    former = Known(one.subject_id, one.pin, one.name, one.born)
    assert scene.registrar.status(former).outcome == Outcome.OUTCOME_DISCLOSED, "a former number still finds him"
