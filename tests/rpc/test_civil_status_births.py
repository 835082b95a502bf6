"""Births: registered with a number of the room identity, once, or not at all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any
from unicodedata import normalize

import pytest
from google.type.date_pb2 import Date

from npd.civil_status.v1.civil_status_pb2 import ActKind, Birth, Parent, RegisterBirthRequest
from npd.common.v1.person_pb2 import CodedValue, Person, PersonName, RelatedPerson, Sex
from npd.common.v1.place_pb2 import AdminPlace
from npd_client.errors import Refusal
from services.mesh.core.errors import Internal, Kind, MeshError
from services.mesh.core.places import list_version
from tests.mesh_fixture import new_id, wait_until, wire_date
from tests.rpc.test_civil_status_callers import (
    BIRTH_GROUND,
    DETAILS,
    SERVICE,
    SINGLE,
    TODAY,
    Scene,
    day_start,
    numbers,
    parent,
    scene,
)
from tests.rpc.test_sharing_callers import refusal_or

__all__ = ["numbers", "scene"]
METHOD = f"{SERVICE}/RegisterBirth"
YESTERDAY = TODAY - timedelta(days=1)


class SpaceExhausted(MeshError):
    """As the room identity says it."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "NUMBER_SPACE_EXHAUSTED"


class StateNotAllowed(MeshError):
    """As the room identity says it."""

    kind, reason = Kind.FAILED_PRECONDITION, "STATE_NOT_ALLOWED"


@pytest.fixture
def refusing(scene: Scene) -> Iterator[Scene]:
    """The scene; whatever the room identity refuses, it refuses no longer afterwards."""
    yield scene
    scene.numbers.refusals.clear()


def test_birth_is_registered_told_and_confirmed(scene: Scene) -> None:
    mother, father = scene.person("Lê Thị Mẹ"), scene.person("Nguyễn Văn Cha")
    registrar = scene.registrar
    request = registrar.birth(mother, father)
    with scene.recording() as entries:
        answer = registrar.stub.RegisterBirth(request)
    act = answer.act
    assert (act.kind, act.event_date, act.entry_number) == (
        ActKind.ACT_KIND_BIRTH,
        request.birth.birth_date,
        "KS/2026-001",
    )
    assert act.annulled_by == ""
    assert act.HasField("register_time")
    scene.require_recorded(act, entries, "register_birth", BIRTH_GROUND, 3)
    assert [list(entry.paths) for entry in entries[1:]] == [["children"]] * 2
    assert entries[0].method == METHOD

    asked = scene.numbers.asked[-1]
    assert asked.access.origin == registrar.identity
    assert (asked.access.agreement_id, asked.access.officer_id) == (registrar.access.agreement_id, "o-1")
    assert (asked.birth.sex, asked.birth.birth_date) == (Sex.SEX_MALE, request.birth.birth_date)
    assert asked.birth.registration_place == request.birth.registration_place

    child, first, second = scene.told(act.act_id)
    birth = request.birth
    assert child.pin == answer.pin
    assert sorted(child.update_mask.paths) == sorted(
        [*BIRTH_GROUND, *DETAILS, "nationalities", "marital_status", "mother", "father"]
    )
    assert child.person == Person(
        full_name=birth.full_name,
        birth_date=birth.birth_date,
        sex=Sex.SEX_MALE,
        place_of_birth=birth.place_of_birth,
        birth_registration_place=birth.registration_place,
        hometown=birth.hometown,
        ethnicity=birth.ethnicity,
        nationalities=["VN"],
        marital_status=SINGLE,
        mother=RelatedPerson(name=PersonName(full="Lê Thị Mẹ"), pin=mother.pin, nationality="VN"),
        father=RelatedPerson(name=PersonName(full="Nguyễn Văn Cha"), pin=father.pin, nationality="VN"),
    )
    named = Person(children=[RelatedPerson(name=birth.full_name, pin=answer.pin)])
    assert [(item.pin, item.person, list(item.update_mask.paths)) for item in (first, second)] == [
        (mother.pin, named, ["children"]),
        (father.pin, named, ["children"]),
    ]
    for item in (child, first, second):
        assert item.event_time.ToDatetime(day_start(YESTERDAY).tzinfo) == day_start(YESTERDAY)
        assert item.register_time == act.register_time
        assert item.access.origin == registrar.identity
        assert (item.causation.correlation_id, item.causation.causation_id) == (act.act_id, act.act_id)

    wait_until(lambda: any(one.pin == answer.pin for one in scene.numbers.confirmed))
    confirmed = next(one for one in scene.numbers.confirmed if one.pin == answer.pin)
    assert confirmed.causation.correlation_id == act.act_id
    assert [(str(row[0]), row[1], row[2]) for row in scene.rows("SELECT subject_id, pin, full_name FROM people")].count(
        (confirmed.subject_id, answer.pin, birth.full_name.full)
    ) == 1
    wait_until(lambda: not scene.rows("SELECT 1 FROM outbox WHERE kind = 'confirmation'"))


def test_child_is_known_at_once_and_single(scene: Scene) -> None:
    child = scene.registrar.bear()
    shown = scene.registrar.status(child)
    assert shown.marital_status == SINGLE
    assert [act.kind for act in shown.acts] == [ActKind.ACT_KIND_BIRTH]


def test_parents_without_a_number_and_unknown_parents_are_told_as_far_as_given(scene: Scene) -> None:
    request = scene.registrar.birth()
    request.birth.mother.CopyFrom(Parent(name=PersonName(full="John Smith"), nationality="GB"))
    answer = scene.registrar.stub.RegisterBirth(request)
    (child,) = scene.told(answer.act.act_id)
    assert child.person.mother == RelatedPerson(name=PersonName(full="John Smith"), nationality="GB")
    assert "mother" in child.update_mask.paths
    assert "father" not in child.update_mask.paths


def test_parent_is_named_by_the_number_that_he_has_now(scene: Scene) -> None:
    mother = scene.person("Phạm Thị Cũ")
    former = mother.pin
    scene.tell(mother, Person(pin="901090999001"), ["pin"])
    request = scene.registrar.birth(birth_date=wire_date(YESTERDAY))
    request.birth.mother.CopyFrom(Parent(pin=former))
    child, told = scene.told(scene.registrar.stub.RegisterBirth(request).act.act_id)
    assert child.person.mother == RelatedPerson(name=PersonName(full="Phạm Thị Cũ"), pin="901090999001")
    assert told.pin == "901090999001"


def test_repeat_gets_the_first_answer_even_while_identity_is_away(scene: Scene) -> None:
    request = scene.registrar.birth()
    first = scene.registrar.stub.RegisterBirth(request)
    scene.numbers.stop()
    try:
        before = scene.state()
        assert scene.registrar.stub.RegisterBirth(request) == first
        assert scene.state() == before
        again = RegisterBirthRequest()
        again.CopyFrom(request)
        again.birth.full_name.full = "Nguyễn Văn Khác"
        scene.refuse(scene.registrar.stub.RegisterBirth, again, "REQUEST_ID_REUSED")
    finally:
        scene.numbers.start()
    assert len(scene.rows("SELECT 1 FROM acts WHERE act_id = :id", id=first.act.act_id)) == 1


def test_nothing_is_registered_while_identity_is_away_and_all_of_it_afterwards(scene: Scene) -> None:
    request, before = scene.registrar.birth(), scene.state()
    scene.numbers.stop()
    try:
        refusal = refusal_or(scene.registrar.stub.RegisterBirth, request)
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.metadata) == ("PEER_UNAVAILABLE", {"peer": "identity"})
        assert refusal.retry_after is not None
        assert scene.state() == before
    finally:
        scene.numbers.start()
    answers: list[Any] = []

    def is_registered() -> bool:
        answers.append(refusal_or(scene.registrar.stub.RegisterBirth, request))
        return not isinstance(answers[-1], Refusal)

    wait_until(is_registered, seconds=30)
    assert scene.registrar.stub.RegisterBirth(request) == answers[-1]


def test_repeat_after_the_reservation_expired_gets_another_number(scene: Scene) -> None:
    numbers, request = scene.numbers, scene.registrar.birth()
    numbers.life = timedelta(seconds=-1)
    try:
        refusal = refusal_or(scene.registrar.stub.RegisterBirth, request)
        assert refusal.reason == "PEER_UNAVAILABLE"
    finally:
        numbers.life = timedelta(days=1)
    expired = {one.pin for one in numbers.given.values()}
    numbers.given.popitem()  # the last attempt's reservation is renewed, the others stay expired
    assert scene.registrar.stub.RegisterBirth(request).pin not in expired


def test_what_identity_refuses_is_refused_here_as_it_said(refusing: Scene) -> None:
    refusing.numbers.refusals["ReservePin"] = SpaceExhausted()
    refusing.refuse(refusing.registrar.stub.RegisterBirth, refusing.registrar.birth(), "NUMBER_SPACE_EXHAUSTED")


def test_confirmation_that_identity_refuses_is_set_aside_and_no_other_waits_for_it(refusing: Scene) -> None:
    numbers = refusing.numbers
    wait_until(lambda: not refusing.rows("SELECT 1 FROM outbox WHERE kind = 'confirmation'"), 30)
    numbers.refusals["ConfirmPin"] = StateNotAllowed(object="the number", state="CANCELLED")
    refused_pin = refusing.registrar.bear().pin
    aside = "SELECT reason FROM outbox WHERE kind = 'confirmation' AND set_aside_time IS NOT NULL"
    wait_until(lambda: refusing.rows(aside) == [("STATE_NOT_ALLOWED",)])
    numbers.refusals.clear()
    pin = refusing.registrar.bear().pin
    wait_until(lambda: pin in {one.pin for one in numbers.confirmed})
    assert refused_pin not in {one.pin for one in numbers.confirmed}
    assert refusing.rows(aside) == [("STATE_NOT_ALLOWED",)]


def test_confirmation_at_which_identity_fails_is_tried_again(refusing: Scene) -> None:
    numbers = refusing.numbers
    numbers.refusals["ConfirmPin"] = Internal(request_id="there")
    pin = refusing.registrar.bear().pin
    waits = "SELECT 1 FROM outbox WHERE kind = 'confirmation' AND attempts > 0 AND set_aside_time IS NULL"
    wait_until(lambda: refusing.rows(waits))
    numbers.refusals.clear()
    wait_until(lambda: pin in {one.pin for one in numbers.confirmed})


def test_same_birth_is_not_registered_twice_however_its_name_is_written(scene: Scene) -> None:
    mother = scene.person()
    request = scene.registrar.birth(mother)
    scene.registrar.stub.RegisterBirth(request)
    asked = len(scene.numbers.asked)
    for name in (request.birth.full_name.full, normalize("NFD", request.birth.full_name.full), "nguyễn  văn con"):
        again = scene.registrar.birth(mother)
        again.birth.full_name.full = name.replace("nguyễn  văn con", request.birth.full_name.full.lower())
        scene.refuse(scene.registrar.stub.RegisterBirth, again, "BIRTH_ALREADY_REGISTERED")
    assert len(scene.numbers.asked) == asked, "no number is reserved for a birth that is registered"
    twin = scene.registrar.birth(mother)
    twin.birth.full_name.full = request.birth.full_name.full
    twin.birth.sex = Sex.SEX_FEMALE
    assert scene.registrar.stub.RegisterBirth(twin).pin


def test_of_two_registrars_at_once_one_registers_the_birth(scene: Scene) -> None:
    request = scene.registrar.birth(scene.person())
    requests = []
    for _ in range(6):
        one = RegisterBirthRequest()
        one.CopyFrom(request)
        one.request_id = new_id()
        requests.append(one)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: refusal_or(scene.registrar.stub.RegisterBirth, one), requests))
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [refusal.reason for refusal in refusals] == ["BIRTH_ALREADY_REGISTERED"] * 5
    name = request.birth.full_name.full
    assert len(scene.rows("SELECT 1 FROM people WHERE full_name = :name", name=name)) == 1


def test_one_request_sent_many_times_at_once_gets_one_answer(scene: Scene) -> None:
    request = scene.registrar.birth()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: refusal_or(scene.registrar.stub.RegisterBirth, request), range(6)))
    assert all(answer == answers[0] for answer in answers)
    assert not isinstance(answers[0], Refusal)


def test_names_are_stored_and_told_in_nfc(scene: Scene) -> None:
    request = scene.registrar.birth()
    whole = request.birth.full_name.full
    request.birth.full_name.full = normalize("NFD", whole)
    request.birth.full_name.family = normalize("NFD", "Nguyễn")
    answer = scene.registrar.stub.RegisterBirth(request)
    (child,) = scene.told(answer.act.act_id)
    assert (child.person.full_name.full, child.person.full_name.family) == (whole, "Nguyễn")
    assert scene.rows("SELECT full_name FROM people WHERE pin = :pin", pin=answer.pin) == [(whole,)]


def test_birth_long_ago_is_registered_late(scene: Scene) -> None:
    answer = scene.registrar.stub.RegisterBirth(scene.registrar.birth(birth_date=wire_date(date(1951, 2, 3))))
    (child,) = scene.told(answer.act.act_id)
    assert child.event_time.ToDatetime(day_start(date(1951, 2, 3)).tzinfo) == day_start(date(1951, 2, 3))


def _place(code: str, version: str = "2025-07-01", country: str = "") -> AdminPlace:
    return AdminPlace(unit_code=code, unit_list_version=version, country_code=country)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("birth_date", wire_date(TODAY + timedelta(days=1)), "EVENT_IN_FUTURE"),
        ("birth_date", Date(year=2026), "FIELD_INVALID"),
        ("birth_date", Date(year=2025, month=2, day=29), "FIELD_INVALID"),
        ("birth_date", Date(year=1799, month=2, day=2), "FIELD_INVALID"),
        ("full_name", PersonName(full="  "), "FIELD_INVALID"),
        ("full_name", PersonName(full="x" * 201), "FIELD_INVALID"),
        ("full_name", PersonName(full="Lê\x00An"), "FIELD_INVALID"),
        ("sex", 7, "FIELD_INVALID"),
        ("place_of_birth", _place("99"), "PLACE_CODE_UNKNOWN"),
        ("hometown", _place("001", "2024-12-31"), "PLACE_CODE_UNKNOWN"),
        ("registration_place", _place("24", "2024-12-31"), "PLACE_CODE_UNKNOWN"),
        ("registration_place", _place("01", ""), "PLACE_CODE_UNKNOWN"),
        ("registration_place", _place("", "", "FR"), "PLACE_CODE_UNKNOWN"),
        ("hometown", _place("1"), "FIELD_INVALID"),
        ("hometown", _place("", "", "vn"), "FIELD_INVALID"),
        ("hometown", _place("", "", ""), "FIELD_INVALID"),
        ("hometown", _place("01", "2025-07-01", "FR"), "FIELD_INVALID"),
        ("ethnicity", CodedValue(code="01", list_version="1979"), "FIELD_INVALID"),
        ("ethnicity", CodedValue(code="1", list_version="2008"), "FIELD_INVALID"),
        ("nationalities", ["Viet Nam"], "FIELD_INVALID"),
        ("nationalities", [], "FIELD_REQUIRED"),
        ("mother", Parent(), "FIELD_INVALID"),
        ("mother", Parent(name=PersonName(family="Lê")), "FIELD_INVALID"),
        ("mother", Parent(pin="12345"), "FIELD_INVALID"),
        ("father", Parent(name=PersonName(full="Lê An"), nationality="vn"), "FIELD_INVALID"),
        ("mother", Parent(pin="901090888888"), "PERSON_UNKNOWN"),
    ],
)
def test_birth_is_refused(scene: Scene, field: str, value: Any, reason: str) -> None:
    asked = len(scene.numbers.asked)
    request = scene.registrar.birth()
    request.birth.ClearField(field)  # type: ignore[arg-type]  # the stub wants a literal
    request.birth.MergeFrom(Birth(**{field: value}))
    refusal = scene.refuse(scene.registrar.stub.RegisterBirth, request, reason)
    assert len(scene.numbers.asked) == asked
    if reason == "PLACE_CODE_UNKNOWN":
        assert refusal.metadata == {"field": f"birth.{field}"}


@pytest.mark.parametrize("entry_number", ["a b", "x" * 41, "số 1"])
def test_entry_number_has_its_form(scene: Scene, entry_number: str) -> None:
    request = scene.registrar.birth()
    request.entry_number = entry_number
    scene.refuse(scene.registrar.stub.RegisterBirth, request, "FIELD_INVALID")


def test_birth_abroad_is_registered_here(scene: Scene) -> None:
    request = scene.registrar.birth(place_of_birth=_place("", "", "FR"))
    answer = scene.registrar.stub.RegisterBirth(request)
    assert scene.told(answer.act.act_id)[0].person.place_of_birth.country_code == "FR"


def test_mother_and_father_are_two_persons(scene: Scene) -> None:
    one = scene.person()
    former = parent(one)
    scene.tell(one, Person(pin="901090999002"), ["pin"])
    one.pin = "901090999002"
    for request in (scene.registrar.birth(one, one), scene.registrar.birth(one)):
        if not request.birth.HasField("father"):
            request.birth.father.CopyFrom(former)
        scene.refuse(scene.registrar.stub.RegisterBirth, request, "SAME_PERSON")


def test_children_of_mothers_of_one_name_are_two_and_one_child_is_one(scene: Scene) -> None:
    stub, mother, namesake = scene.registrar.stub, scene.person("Nguyễn Thị Lan"), scene.person("Nguyễn Thị Lan")
    request = scene.registrar.birth(mother)
    stub.RegisterBirth(request)

    def again(place: str = "01", *, mother: Parent) -> RegisterBirthRequest:
        other = scene.registrar.birth(
            full_name=request.birth.full_name, registration_place=_place(place, list_version(TODAY))
        )
        other.birth.mother.CopyFrom(mother)
        return other

    by_name = Parent(name=PersonName(full="Nguyễn Thị Lan"))
    scene.refuse(stub.RegisterBirth, again(mother=by_name), "BIRTH_ALREADY_REGISTERED")
    scene.refuse(stub.RegisterBirth, again("79", mother=parent(mother)), "BIRTH_ALREADY_REGISTERED")
    assert stub.RegisterBirth(again(mother=parent(namesake))).pin, "another mother, as her number says"
    assert stub.RegisterBirth(again("79", mother=by_name)).pin, "another mother, as the place says"
    scene.refuse(stub.RegisterBirth, again("79", mother=by_name), "BIRTH_ALREADY_REGISTERED")
    third = scene.person("Nguyễn Thị Lan")
    scene.refuse(stub.RegisterBirth, again("79", mother=parent(third)), "BIRTH_ALREADY_REGISTERED")


@pytest.mark.parametrize("role", ["mother", "father"])
def test_parent_is_who_his_number_says_and_born_before_the_child(scene: Scene, role: str) -> None:
    asked = len(scene.numbers.asked)
    request = scene.registrar.birth()
    getattr(request.birth, role).CopyFrom(parent(scene.person("Trần Thị Mẹ")))
    getattr(request.birth, role).name.full = "Nguyễn Văn Khác Hẳn"
    scene.refuse(scene.registrar.stub.RegisterBirth, request, "IDENTITY_MISMATCH")
    getattr(request.birth, role).CopyFrom(parent(scene.person(born=YESTERDAY)))
    refusal = scene.refuse(scene.registrar.stub.RegisterBirth, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == [f"birth.{role}.pin"]
    assert len(scene.numbers.asked) == asked
    known = scene.person("Hoàng Thị Thuỷ")
    getattr(request.birth, role).CopyFrom(parent(known))
    getattr(request.birth, role).name.full = normalize("NFD", "HOÀNG THỊ THỦY")
    assert scene.registrar.stub.RegisterBirth(request).pin
