"""Annulments: what an act changed returns to what it was, unless a later act stands on it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from npd.civil_status.v1.civil_status_pb2 import ActKind
from npd.common.v1.person_pb2 import Person
from npd_client.errors import Refusal
from tests.mesh_fixture import new_id, wire_date
from tests.rpc.test_civil_status_callers import (
    DEATH_GROUND,
    DIVORCED,
    MARRIAGE_GROUND,
    MARRIED,
    SERVICE,
    SINGLE,
    TODAY,
    WIDOWED,
    Scene,
    numbers,
    scene,
)
from tests.rpc.test_civil_status_marriages import named, told_of
from tests.rpc.test_sharing_callers import refusal_or

__all__ = ["numbers", "scene"]


def test_annulled_marriage_leaves_both_as_they_were(scene: Scene) -> None:
    first, second = scene.person(marital=DIVORCED), scene.registrar.bear(birth_date=wire_date(date(2000, 1, 1)))
    marriage = scene.registrar.marry(first, second)
    with scene.recording() as entries:
        act = scene.registrar.annul(marriage)
    assert (act.kind, act.event_date, act.annulled_by) == (ActKind.ACT_KIND_ANNULMENT, wire_date(TODAY), "")
    scene.require_recorded(act, entries, "annul_act", MARRIAGE_GROUND, 2)
    assert {entry.method for entry in entries} == {f"{SERVICE}/AnnulAct"}
    told = told_of(scene, act.act_id)
    assert {pin: one[:2] for pin, one in told.items()} == {
        first.pin: (Person(marital_status=DIVORCED), MARRIAGE_GROUND),
        second.pin: (Person(marital_status=SINGLE), MARRIAGE_GROUND),
    }
    register_time = act.register_time.ToDatetime(told[first.pin][2].tzinfo)
    assert {one[2] for one in told.values()} == {register_time}, "an annulment overrides what it annuls"
    shown = scene.registrar.status(first)
    assert (shown.marital_status, shown.HasField("spouse")) == (DIVORCED, False)
    assert [one.annulled_by for one in shown.acts] == [act.act_id, ""]
    again = scene.registrar.marry(first, second, date(2026, 1, 1))
    assert {one[2] for one in told_of(scene, again.act_id).values()} == {register_time}, "not told as overtaken"


def test_act_is_annulled_once(scene: Scene) -> None:
    marriage, death = scene.registrar.marry(scene.person(), scene.person()), scene.registrar.bury(scene.person())
    for act in (marriage, death):
        request = scene.registrar.annulment(act.act_id)
        first = scene.registrar.stub.AnnulAct(request)
        assert scene.registrar.stub.AnnulAct(request) == first
        again = scene.registrar.annulment(act.act_id)
        refusal = scene.refuse(scene.registrar.stub.AnnulAct, again, "STATE_NOT_ALLOWED")
        assert refusal.metadata == {"object": f"act {act.act_id}", "state": "ANNULLED"}
        request.entry_number = "HB/2"
        scene.refuse(scene.registrar.stub.AnnulAct, request, "REQUEST_ID_REUSED")


def test_of_annulments_at_once_one_is_registered(scene: Scene) -> None:
    marriage = scene.registrar.marry(scene.person(), scene.person())
    requests = [scene.registrar.annulment(marriage.act_id) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: refusal_or(scene.registrar.stub.AnnulAct, one), requests))
    assert [one.reason for one in answers if isinstance(one, Refusal)] == ["STATE_NOT_ALLOWED"] * 3


def test_what_is_neither_a_marriage_nor_a_death_is_not_annulled(scene: Scene) -> None:
    birth = scene.registrar.stub.RegisterBirth(scene.registrar.birth()).act
    annulment = scene.registrar.annul(scene.registrar.bury(scene.person()))
    for act, state in ((birth, "BIRTH"), (annulment, "ANNULMENT")):
        refusal = scene.refuse(
            scene.registrar.stub.AnnulAct, scene.registrar.annulment(act.act_id), "STATE_NOT_ALLOWED"
        )
        assert refusal.metadata["state"] == state


def test_unknown_act_and_decision_to_come_are_refused(scene: Scene) -> None:
    scene.refuse(scene.registrar.stub.AnnulAct, scene.registrar.annulment(new_id()), "ACT_UNKNOWN")
    scene.refuse(scene.registrar.stub.AnnulAct, scene.registrar.annulment("act-1"), "FIELD_INVALID")
    request = scene.registrar.annulment(scene.registrar.bury(scene.person()).act_id)
    request.decision_date.CopyFrom(wire_date(TODAY + timedelta(days=1)))
    scene.refuse(scene.registrar.stub.AnnulAct, request, "EVENT_IN_FUTURE")


def test_marriage_that_a_death_ended_is_annulled_only_after_the_death(scene: Scene) -> None:
    dead, spouse = scene.person(), scene.person()
    marriage = scene.registrar.marry(dead, spouse)
    death = scene.registrar.bury(dead)
    refusal = scene.refuse(
        scene.registrar.stub.AnnulAct, scene.registrar.annulment(marriage.act_id), "STATE_NOT_ALLOWED"
    )
    assert refusal.metadata["state"] == "ENDED"
    scene.registrar.annul(death)
    scene.registrar.annul(marriage)
    assert [scene.registrar.status(one).marital_status for one in (dead, spouse)] == [SINGLE, SINGLE]


def test_annulled_death_lets_the_person_live_and_the_marriage_go_on(scene: Scene) -> None:
    dead, spouse = scene.person(), scene.person()
    scene.registrar.marry(dead, spouse)
    death = scene.registrar.bury(dead, date(2026, 6, 1))
    with scene.recording() as entries:
        act = scene.registrar.annul(death)
    scene.require_recorded(act, entries, "annul_act", DEATH_GROUND, 2)
    items = scene.told(act.act_id)
    assert [(item.pin, item.person, sorted(item.update_mask.paths)) for item in items] == [
        (dead.pin, Person(), DEATH_GROUND),
        (spouse.pin, Person(marital_status=MARRIED, spouses=[named(dead)]), MARRIAGE_GROUND),
        (dead.pin, Person(marital_status=MARRIED, spouses=[named(spouse)]), MARRIAGE_GROUND),
    ]
    for one, other in ((dead, spouse), (spouse, dead)):
        shown = scene.registrar.status(one)
        assert (shown.marital_status, shown.spouse, shown.HasField("death")) == (MARRIED, named(other), False)
    again = scene.registrar.bury(dead, date(2026, 5, 1))
    later = {item.event_time.ToDatetime() for item in scene.told(again.act_id)}
    assert later == {act.register_time.ToDatetime()}, "not told as overtaken"
    assert scene.registrar.status(dead).death.date == wire_date(date(2026, 5, 1))


def test_annulled_death_leaves_a_later_marriage_of_the_spouse(scene: Scene) -> None:
    dead, spouse, third = scene.person(), scene.person(), scene.person()
    scene.registrar.marry(dead, spouse, date(2020, 1, 1))
    death = scene.registrar.bury(dead, date(2026, 1, 1))
    scene.registrar.marry(spouse, third, date(2026, 2, 2))
    act = scene.registrar.annul(death)
    told = [(item.pin, item.person, sorted(item.update_mask.paths)) for item in scene.told(act.act_id)]
    assert told == [(dead.pin, Person(), DEATH_GROUND), (dead.pin, Person(), MARRIAGE_GROUND)]
    assert scene.registrar.status(spouse).spouse == named(third)
    assert not scene.registrar.status(dead).HasField("spouse")
    assert scene.registrar.marry(dead, scene.person(), date(2026, 3, 3)).act_id, "he is free to marry"


def test_annulled_death_of_one_whose_spouse_died_since_makes_a_widow(scene: Scene) -> None:
    first, second = scene.person(), scene.person()
    scene.registrar.marry(first, second, date(2020, 1, 1))
    death_of_first = scene.registrar.bury(first, date(2026, 1, 1))
    death_of_second = scene.registrar.bury(second, date(2026, 2, 1))
    scene.registrar.annul(death_of_first)
    assert scene.registrar.status(first).marital_status == WIDOWED
    scene.registrar.annul(death_of_second)
    for one, other in ((first, second), (second, first)):
        shown = scene.registrar.status(one)
        assert (shown.marital_status, shown.spouse) == (MARRIED, named(other))


def test_marriage_that_stood_in_the_way_of_one_who_came_back_gives_way_to_the_first(scene: Scene) -> None:
    back, spouse, third = scene.person(), scene.person(), scene.person()
    first = scene.registrar.marry(back, spouse, date(2020, 1, 1))
    death = scene.registrar.bury(back, date(2022, 1, 1))
    second = scene.registrar.marry(spouse, third, date(2024, 1, 1))
    scene.registrar.annul(death)
    act = scene.registrar.annul(second)
    told = [(item.pin, item.person, sorted(item.update_mask.paths)) for item in scene.told(act.act_id)]
    assert told == [
        (spouse.pin, Person(), ["spouses"]),
        (spouse.pin, Person(marital_status=MARRIED, spouses=[named(back)]), MARRIAGE_GROUND),
        (back.pin, Person(marital_status=MARRIED, spouses=[named(spouse)]), MARRIAGE_GROUND),
        (third.pin, Person(marital_status=SINGLE), MARRIAGE_GROUND),
    ]
    for one, other in ((back, spouse), (spouse, back)):
        shown = scene.registrar.status(one)
        assert (shown.marital_status, shown.spouse) == (MARRIED, named(other))
    assert scene.registrar.status(third).marital_status == SINGLE
    scene.registrar.annul(first)
    assert [scene.registrar.status(one).marital_status for one in (back, spouse)] == [SINGLE, SINGLE]


def test_marriage_is_not_annulled_into_widowhood_by_an_annulled_death(scene: Scene) -> None:
    for happened_since in ("marriage", "death"):
        back, spouse, third = scene.person(), scene.person(), scene.person()
        scene.registrar.marry(back, spouse, date(2020, 1, 1))
        death = scene.registrar.bury(back, date(2022, 1, 1))
        second = scene.registrar.marry(spouse, third, date(2024, 1, 1))
        scene.registrar.annul(death)
        if happened_since == "marriage":
            since = scene.registrar.marry(back, scene.person(), date(2025, 1, 1))
        else:
            since = scene.registrar.bury(back, date(2025, 1, 1))
        request = scene.registrar.annulment(second.act_id)
        refusal = scene.refuse(scene.registrar.stub.AnnulAct, request, "STATE_NOT_ALLOWED")
        assert refusal.metadata["state"] == "FOLLOWS_ANNULLED"
        scene.registrar.annul(since)
        scene.registrar.annul(second)
        assert scene.registrar.status(spouse).spouse == named(back)


def test_annulment_is_not_decided_before_what_it_annuls(scene: Scene) -> None:
    request = scene.registrar.annulment(scene.registrar.bury(scene.person(), date(2026, 6, 1)).act_id)
    request.decision_date.CopyFrom(wire_date(date(2026, 5, 31)))
    refusal = scene.refuse(scene.registrar.stub.AnnulAct, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["decision_date"]


def test_id_used_again_for_an_unknown_act_is_refused_as_used_again(scene: Scene) -> None:
    request = scene.registrar.annulment(scene.registrar.bury(scene.person()).act_id)
    scene.registrar.stub.AnnulAct(request)
    request.act_id = new_id()
    scene.refuse(scene.registrar.stub.AnnulAct, request, "REQUEST_ID_REUSED")
