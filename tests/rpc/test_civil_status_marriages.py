"""Marriages and deaths: what they change, what they refuse, and what stays when two come at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, timedelta
from typing import Any
from unicodedata import normalize

import pytest
from google.type.date_pb2 import Date

from npd.civil_status.v1.civil_status_pb2 import ActKind, RecordMarriageRequest
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.common.v1.person_pb2 import DeathOrMissing, Person, PersonName, RelatedPerson
from npd_client.errors import Refusal
from tests.mesh_fixture import new_id, wire_date
from tests.rpc.test_civil_status_callers import (
    DEATH_GROUND,
    DIVORCED,
    MARRIAGE_GROUND,
    MARRIED,
    READ,
    SERVICE,
    SINGLE,
    TODAY,
    WIDOWED,
    Known,
    Scene,
    day_start,
    numbers,
    scene,
)
from tests.rpc.test_sharing_callers import refusal_or

__all__ = ["numbers", "scene"]


def named(one: Known) -> RelatedPerson:
    """Somebody as the record of his spouse names him."""
    return RelatedPerson(name=PersonName(full=one.name), pin=one.pin)


def told_of(scene: Scene, act_id: str) -> dict[str, tuple[Person, list[str], Any]]:
    """What an act tells, by PIN: values, paths, instant of the event."""
    return {
        item.pin: (item.person, sorted(item.update_mask.paths), item.event_time.ToDatetime(day_start(TODAY).tzinfo))
        for item in scene.told(act_id)
    }


def test_marriage_makes_both_married_to_each_other(scene: Scene) -> None:
    first, second = scene.person(), scene.person(marital=DIVORCED)
    with scene.recording() as entries:
        act = scene.registrar.marry(first, second, date(2026, 3, 8))
    assert (act.kind, act.event_date, act.entry_number) == (
        ActKind.ACT_KIND_MARRIAGE,
        wire_date(date(2026, 3, 8)),
        "KH/2026-001",
    )
    scene.require_recorded(act, entries, "record_marriage", MARRIAGE_GROUND, 2)
    assert {entry.method for entry in entries} == {f"{SERVICE}/RecordMarriage"}
    time = day_start(date(2026, 3, 8))
    assert told_of(scene, act.act_id) == {
        first.pin: (Person(marital_status=MARRIED, spouses=[named(second)]), MARRIAGE_GROUND, time),
        second.pin: (Person(marital_status=MARRIED, spouses=[named(first)]), MARRIAGE_GROUND, time),
    }
    for one, other in ((first, second), (second, first)):
        shown = scene.registrar.status(one)
        assert (shown.marital_status, shown.spouse) == (MARRIED, named(other))
        assert [one_act.act_id for one_act in shown.acts] == [act.act_id]


def test_repeated_marriage_gets_the_first_answer_and_another_payload_is_refused(scene: Scene) -> None:
    first, second = scene.person(), scene.person()
    request = scene.registrar.marriage(first, second)
    answer = scene.registrar.stub.RecordMarriage(request)
    before = scene.state()
    assert scene.registrar.stub.RecordMarriage(request) == answer
    assert scene.state() == before
    request.entry_number = "KH/2026-002"
    scene.refuse(scene.registrar.stub.RecordMarriage, request, "REQUEST_ID_REUSED")


def test_names_are_matched_however_they_are_composed(scene: Scene) -> None:
    first, second = scene.person("Hoàng Thị Thuỷ"), scene.person()
    request = scene.registrar.marriage(first, second)
    request.first_spouse.full_name = normalize("NFD", "HOÀNG THỊ THỦY")
    assert scene.registrar.stub.RecordMarriage(request).act.act_id
    assert scene.registrar.status(second).spouse.name.full == "Hoàng Thị Thuỷ"


def test_nobody_marries_himself_not_even_under_a_former_number(scene: Scene) -> None:
    one = scene.person()
    scene.refuse(scene.registrar.stub.RecordMarriage, scene.registrar.marriage(one, one), "SAME_PERSON")
    former = Known(one.subject_id, one.pin, one.name, one.born)
    scene.tell(one, Person(pin="901090998001"), ["pin"])
    one.pin = "901090998001"
    scene.refuse(scene.registrar.stub.RecordMarriage, scene.registrar.marriage(one, former), "SAME_PERSON")


def test_married_and_dead_people_do_not_marry(scene: Scene) -> None:
    first, second, third = scene.person(), scene.person(), scene.person()
    scene.registrar.marry(first, second)
    married_before = scene.person(marital=MARRIED)
    dead, buried = scene.person(dead=True), scene.person()
    scene.registrar.bury(buried)
    for other, reason in (
        (first, "PERSON_MARRIED"),
        (married_before, "PERSON_MARRIED"),
        (dead, "PERSON_DECEASED"),
        (buried, "PERSON_DECEASED"),
    ):
        for pair in ((third, other), (other, third)):
            scene.refuse(scene.registrar.stub.RecordMarriage, scene.registrar.marriage(*pair), reason)


def test_who_is_unknown_or_misstated_does_not_marry(scene: Scene) -> None:
    first, second = scene.person(), scene.person(born=Date(year=1980))
    stranger = Known(first.subject_id, "901090777777", first.name, first.born)
    misnamed = Known(second.subject_id, second.pin, "Trần Văn Lạ", second.born)
    for one, reason in ((stranger, "PERSON_UNKNOWN"), (misnamed, "IDENTITY_MISMATCH")):
        refusal = scene.refuse(scene.registrar.stub.RecordMarriage, scene.registrar.marriage(first, one), reason)
        assert refusal.metadata == {}
        scene.refuse(scene.registrar.stub.RegisterDeath, scene.registrar.death(one), reason)


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (wire_date(TODAY + timedelta(days=1)), "EVENT_IN_FUTURE"),
        (wire_date(date(1990, 4, 30)), "EVENT_BEFORE_BIRTH"),
        (wire_date(date(1, 1, 1)), "EVENT_BEFORE_BIRTH"),
        (Date(year=2026, month=3), "FIELD_INVALID"),
        (Date(year=2026, month=2, day=30), "FIELD_INVALID"),
    ],
)
def test_day_of_a_marriage_or_death_is_whole_past_and_after_birth(scene: Scene, day: Date, reason: str) -> None:
    marriage = scene.registrar.marriage(scene.person(), scene.person())
    marriage.marriage_date.CopyFrom(day)
    death = scene.registrar.death(scene.person())
    death.death_date.CopyFrom(day)
    for call, request, field in (
        (scene.registrar.stub.RecordMarriage, marriage, "marriage_date"),
        (scene.registrar.stub.RegisterDeath, death, "death_date"),
    ):
        assert [violation.field for violation in scene.refuse(call, request, reason).violations] == [field]


def test_events_of_today_and_of_long_ago_are_registered(scene: Scene) -> None:
    first, second = scene.person(born=date(1940, 1, 1)), scene.person(born=Date(year=1941))
    assert scene.registrar.marry(first, second, date(1960, 5, 5)).event_date == wire_date(date(1960, 5, 5))
    act = scene.registrar.bury(scene.person(), TODAY)
    assert next(iter(told_of(scene, act.act_id).values()))[2] == day_start(TODAY)


def test_of_marriages_of_one_person_at_once_one_is_recorded(scene: Scene) -> None:
    one, others = scene.person(), [scene.person() for _ in range(6)]
    pairs = [(one, other) if number % 2 else (other, one) for number, other in enumerate(others)]
    requests = [scene.registrar.marriage(*pair) for pair in pairs]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda request: refusal_or(scene.registrar.stub.RecordMarriage, request), requests))
    refusals = [answer.reason for answer in answers if isinstance(answer, Refusal)]
    assert refusals == ["PERSON_MARRIED"] * 5
    statuses = [scene.registrar.status(other).marital_status for other in others]
    assert sorted(statuses) == [SINGLE] * 5 + [MARRIED]


def test_two_couples_crosswise_at_once_end_without_a_deadlock(scene: Scene) -> None:
    for _ in range(5):
        first, second = scene.person(), scene.person()
        requests = [scene.registrar.marriage(first, second), scene.registrar.marriage(second, first)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda one: refusal_or(scene.registrar.stub.RecordMarriage, one), requests))
        assert [one.reason for one in answers if isinstance(one, Refusal)] == ["PERSON_MARRIED"]


def test_death_is_told_and_the_spouse_is_widowed(scene: Scene) -> None:
    dead, spouse = scene.person(), scene.person()
    scene.registrar.marry(dead, spouse, date(2020, 1, 1))
    with scene.recording() as entries:
        act = scene.registrar.bury(dead, date(2026, 6, 1))
    scene.require_recorded(act, entries, "register_death", DEATH_GROUND, 2)
    assert list(entries[1].paths) == MARRIAGE_GROUND
    assert entries[0].method == f"{SERVICE}/RegisterDeath"
    time, day = day_start(date(2026, 6, 1)), wire_date(date(2026, 6, 1))
    death = DeathOrMissing(kind=1, date=day)  # type: ignore[arg-type]
    items = scene.told(act.act_id)
    assert [(item.pin, item.person, sorted(item.update_mask.paths)) for item in items] == [
        (dead.pin, Person(death_or_missing=death), DEATH_GROUND),
        (dead.pin, Person(), ["spouses"]),
        (spouse.pin, Person(marital_status=WIDOWED), MARRIAGE_GROUND),
    ]
    assert {item.event_time.ToDatetime(UTC) for item in items} == {time}
    widow, departed = scene.registrar.status(spouse), scene.registrar.status(dead)
    assert (widow.marital_status, widow.HasField("spouse"), widow.HasField("death")) == (WIDOWED, False, False)
    assert (departed.marital_status, departed.HasField("spouse"), departed.death) == (MARRIED, False, death)
    assert [one.kind for one in departed.acts] == [ActKind.ACT_KIND_MARRIAGE, ActKind.ACT_KIND_DEATH]
    third = scene.person()
    assert scene.registrar.marry(spouse, third, date(2026, 7, 1)).act_id
    assert scene.registrar.status(spouse).spouse == named(third)


def test_death_before_the_marriage_in_force_is_refused(scene: Scene) -> None:
    dead, spouse = scene.person(), scene.person()
    scene.registrar.marry(dead, spouse, date(2026, 3, 8))
    request = scene.registrar.death(dead, date(2026, 3, 7))
    refusal = scene.refuse(scene.registrar.stub.RegisterDeath, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["death_date"]
    assert scene.registrar.bury(dead, date(2026, 3, 8)).act_id


def test_widow_does_not_marry_before_the_death_that_widowed_her(scene: Scene) -> None:
    dead, widow, third = scene.person(), scene.person(), scene.person()
    scene.registrar.marry(dead, widow, date(2020, 1, 1))
    death = scene.registrar.bury(dead, date(2026, 1, 5))
    for pair in ((widow, third), (third, widow)):
        request = scene.registrar.marriage(*pair, date(2026, 1, 4))
        refusal = scene.refuse(scene.registrar.stub.RecordMarriage, request, "FIELD_INVALID")
        assert [violation.field for violation in refusal.violations] == ["marriage_date"]
    shown = scene.registrar.status(widow)
    assert shown.acts[-1].act_id == death.act_id, "the act that widowed her is hers too"
    assert not shown.HasField("death")
    assert scene.registrar.marry(widow, third, date(2026, 1, 5)).act_id


def test_act_is_not_older_than_what_another_replica_told_before(scene: Scene) -> None:
    dead, spouse = scene.person(), scene.person()
    scene.registrar.marry(dead, spouse)
    ahead = scene.clock.now() + timedelta(hours=1)
    with scene.room.house.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE statuses SET told_time = %s WHERE subject_id = %s", (ahead, spouse.subject_id)
        )
    act = scene.registrar.bury(dead)
    assert act.register_time.ToDatetime(UTC) == ahead
    assert told_of(scene, act.act_id)[spouse.pin][2] == ahead


def test_nobody_dies_twice(scene: Scene) -> None:
    one = scene.person()
    request = scene.registrar.death(one)
    first = scene.registrar.stub.RegisterDeath(request)
    assert scene.registrar.stub.RegisterDeath(request) == first
    scene.refuse(scene.registrar.stub.RegisterDeath, scene.registrar.death(one), "PERSON_DECEASED")
    request.death_date.day = 2
    scene.refuse(scene.registrar.stub.RegisterDeath, request, "REQUEST_ID_REUSED")


def test_both_spouses_dying_at_once_end_without_a_deadlock(scene: Scene) -> None:
    for _ in range(5):
        first, second = scene.person(), scene.person()
        scene.registrar.marry(first, second)
        requests = [scene.registrar.death(first), scene.registrar.death(second)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda one: refusal_or(scene.registrar.stub.RegisterDeath, one), requests))
        assert not [one for one in answers if isinstance(one, Refusal)]
        assert sorted(scene.registrar.status(one).marital_status for one in (first, second)) == [MARRIED, WIDOWED]


def test_read_is_recorded_and_told_before_it_is_answered(scene: Scene) -> None:
    one = scene.person()
    uses = len(scene.uses())
    with scene.recording() as entries:
        assert scene.registrar.status(one).outcome == Outcome.OUTCOME_DISCLOSED
    assert [(entry.outcome, list(entry.paths), entry.method) for entry in entries] == [
        (Outcome.OUTCOME_DISCLOSED, READ, f"{SERVICE}/GetCivilStatus")
    ]
    assert scene.uses()[uses:] == [str(one.subject_id)]


def test_mismatch_is_an_answer_recorded_and_no_use(scene: Scene) -> None:
    one = scene.person()
    misnamed = Known(one.subject_id, one.pin, "Trần Văn Lạ", one.born)
    stranger = Known(one.subject_id, "901090777778", one.name, one.born)
    uses = len(scene.uses())
    found: list[LogEntry] = []
    for who in (misnamed, stranger):
        with scene.recording() as entries:
            answer = scene.registrar.status(who)
        assert answer.outcome == Outcome.OUTCOME_NO_MATCH
        assert answer == type(answer)(outcome=Outcome.OUTCOME_NO_MATCH)
        found += entries
    assert [entry.outcome for entry in found] == [Outcome.OUTCOME_NO_MATCH] * 2
    assert [len(entry.subject.pseudonym) for entry in found] == [32, 0]
    assert len(scene.uses()) == uses


def test_request_id_of_another_method_means_nothing(scene: Scene) -> None:
    first, second = scene.person(), scene.person()
    request = scene.registrar.marriage(first, second)
    scene.registrar.stub.RecordMarriage(request)
    death = scene.registrar.death(scene.person())
    death.request_id = request.request_id
    assert scene.registrar.stub.RegisterDeath(death).act.act_id
    other = RecordMarriageRequest()
    other.CopyFrom(request)
    other.request_id = new_id()
    scene.refuse(scene.registrar.stub.RecordMarriage, other, "PERSON_MARRIED")


def test_a_marriage_of_history_ends_by_a_death_and_leaves_the_record(scene: Scene) -> None:
    dead, spouse = scene.person(marital=MARRIED), scene.person(marital=MARRIED)
    for one, other in ((dead, spouse), (spouse, dead)):
        scene.tell(one, Person(spouses=[named(other)]), ["spouses"])
    assert scene.registrar.status(dead).spouse == named(spouse)
    act = scene.registrar.bury(dead, date(2026, 6, 1))
    items = [(item.pin, item.person, sorted(item.update_mask.paths)) for item in scene.told(act.act_id)]
    assert items[1:] == [  # what history told, this room can take back only after telling it itself
        (dead.pin, Person(marital_status=MARRIED, spouses=[named(spouse)]), MARRIAGE_GROUND),
        (dead.pin, Person(), ["spouses"]),
        (spouse.pin, Person(marital_status=MARRIED, spouses=[named(dead)]), MARRIAGE_GROUND),
        (spouse.pin, Person(marital_status=WIDOWED), MARRIAGE_GROUND),
    ]
    assert scene.registrar.status(spouse).marital_status == WIDOWED
    assert scene.registrar.marry(spouse, scene.person(), date(2026, 7, 1)).act_id


def test_a_new_number_renews_a_marriage_of_history(scene: Scene) -> None:
    one, spouse = scene.person(marital=MARRIED), scene.person(marital=MARRIED)
    for who, other in ((one, spouse), (spouse, one)):
        scene.tell(who, Person(spouses=[named(other)]), ["spouses"])
    former = named(one)
    change = scene.tell(one, Person(pin="901091000077"), ["pin"])
    items = [(item.pin, item.person) for item in scene.told(change.causation.correlation_id)]
    renewed = RelatedPerson(name=former.name, pin="901091000077")
    assert items == [
        (spouse.pin, Person(marital_status=MARRIED, spouses=[former])),
        (spouse.pin, Person()),
        (spouse.pin, Person(spouses=[renewed])),
    ]


def test_nobody_is_tied_to_a_spouse_whose_own_record_says_otherwise(scene: Scene) -> None:
    one, other = scene.person(marital=MARRIED), scene.person()
    scene.tell(one, Person(spouses=[named(other)]), ["spouses"])
    act = scene.registrar.bury(one, date(2026, 6, 1))
    assert {item.pin for item in scene.told(act.act_id)} == {one.pin}
    assert scene.registrar.status(other).marital_status != WIDOWED


def wed_in_history(scene: Scene, one: Known, *others: Known) -> Any:
    """The record names those as spouses of one; the change that says so."""
    return scene.tell(one, Person(spouses=[named(other) for other in others]), ["spouses"])


def test_death_before_the_history_of_the_marriage_widows_the_spouse(scene: Scene) -> None:
    dead, spouse = scene.person(marital=MARRIED), scene.person(marital=MARRIED)
    death = scene.registrar.bury(dead)
    wed_in_history(scene, dead, spouse)
    with scene.recording() as entries:
        change = wed_in_history(scene, spouse, dead)
    chain = change.causation.correlation_id
    room = scene.room.house.identity
    assert scene.links(chain) == [("civil_status.widow", room)]
    told = [(item.pin, item.person, sorted(item.update_mask.paths)) for item in scene.told(chain)]
    assert told == [
        (dead.pin, Person(marital_status=MARRIED, spouses=[named(spouse)]), MARRIAGE_GROUND),
        (dead.pin, Person(), ["spouses"]),
        (spouse.pin, Person(marital_status=MARRIED, spouses=[named(dead)]), MARRIAGE_GROUND),
        (spouse.pin, Person(marital_status=WIDOWED), MARRIAGE_GROUND),
    ]
    assert [(entry.caller, list(entry.paths)) for entry in entries] == [(room, MARRIAGE_GROUND)] * 2
    assert scene.registrar.status(spouse).marital_status == WIDOWED
    before = scene.state()
    scene.apply(change)
    assert scene.state() == before, "the same change again finds its effect there"
    scene.registrar.annul(death)
    for one, other in ((dead, spouse), (spouse, dead)):
        shown = scene.registrar.status(one)
        assert (shown.marital_status, shown.spouse) == (MARRIED, named(other))


@pytest.mark.parametrize("is_death_first", [True, False])
def test_death_of_history_widows_the_spouse_of_history(scene: Scene, is_death_first: bool) -> None:
    dead, spouse = scene.person(marital=MARRIED, dead=is_death_first), scene.person(marital=MARRIED)
    wed_in_history(scene, spouse, dead)
    wed_in_history(scene, dead, spouse)
    if not is_death_first:
        assert scene.registrar.status(spouse).spouse == named(dead)
        death = Person()
        death.death_or_missing.kind = 1  # type: ignore[assignment]
        scene.tell(dead, death, ["death_or_missing"])
    shown = scene.registrar.status(spouse)
    assert (shown.marital_status, shown.HasField("spouse")) == (WIDOWED, False)
    assert scene.registrar.marry(spouse, scene.person()).act_id


def test_of_all_spouses_that_history_lists_the_living_one_counts(scene: Scene) -> None:
    first, second, one = scene.person(marital=MARRIED, dead=True), scene.person(marital=MARRIED), scene.person()
    scene.tell(one, Person(marital_status=MARRIED), ["marital_status"])
    wed_in_history(scene, first, one)
    wed_in_history(scene, second, one)
    wed_in_history(scene, one, first, second)
    assert scene.registrar.status(one).spouse == named(second)
    scene.registrar.bury(second)
    assert scene.registrar.status(one).marital_status == WIDOWED


def test_who_may_be_married_to_somebody_not_known_yet_is_not_widowed(scene: Scene) -> None:
    dead, one, second = scene.person(marital=MARRIED, dead=True), scene.person(marital=MARRIED), scene.person()
    stranger = Known(second.subject_id, "901090777771", second.name, second.born)
    wed_in_history(scene, one, dead, stranger)
    wed_in_history(scene, dead, one)
    assert scene.registrar.status(one).marital_status == MARRIED
