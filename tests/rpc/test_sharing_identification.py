"""Verify, then release: who states PIN, name and birth date wrongly learns nothing, and cannot try for long."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from google.type.date_pb2 import Date

from npd.common.v1 import error_reason_pb2
from npd.common.v1.person_pb2 import Person, PersonName
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest, GetCitizenResponse
from tests.mesh_fixture import Desk, Stage
from tests.rpc.test_sharing_callers import (
    APPLIED,
    DISCLOSED,
    LOOKUP,
    NO_MATCH,
    REJECTED,
    Party,
    Scene,
    bare,
    refusal_or,
    require_no_value,
)

BORN = Date(year=1990, month=5, day=17)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["sex", "pin"]})


@pytest.fixture
def person(scene: Scene) -> Person:
    return scene.citizen(full_name=named("Nguyễn Thị Hoà"), birth_date=BORN)


def named(full: str) -> PersonName:
    family, middle, given = full.split(" ")
    return PersonName(family=family, middle=middle, given=given, full=full)


def claiming(person: Person, **changes: object) -> Person:
    """The person as somebody states him: PIN, name or birth date replaced."""
    claimed = Person(pin=person.pin, full_name=person.full_name, birth_date=person.birth_date)
    for name, value in changes.items():
        claimed.ClearField(name)  # type: ignore[arg-type]  # the stub wants a literal
        claimed.MergeFrom(Person(**{name: value}))  # type: ignore[arg-type]
    return claimed


def test_mismatch_does_not_say_which_part(scene: Scene, tax: Party, person: Person) -> None:
    claims = [
        claiming(person, birth_date=Date(year=1990, month=5, day=18)),
        claiming(person, full_name=named("Nguyễn Thị Lan")),
        claiming(person, pin="901190999999"),
    ]
    with scene.recording() as entries:
        answers = [tax.get_citizen(claim, "sex") for claim in claims]
    assert {answer.receipt.leaf_hash for answer in answers} != {b""}
    for answer in answers:
        answer.receipt.ClearField("leaf_hash")
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] == GetCitizenResponse(outcome=NO_MATCH, receipt=answers[0].receipt)
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, NO_MATCH, LOOKUP, "sex")] * 3
    assert [entry.HasField("subject") for entry in entries] == [True, True, False]
    for entry in entries[:2]:
        require_no_value(entry, person)


@pytest.mark.parametrize(
    ("recorded", "claimed", "matches"),
    [
        (Date(year=1950), Date(year=1950, month=5, day=17), True),
        (Date(year=1950), Date(year=1950), True),
        (Date(year=1950), Date(year=1951), False),
        (Date(year=1950, month=5), Date(year=1950, month=5, day=17), True),
        (Date(year=1950, month=5), Date(year=1950, month=6, day=17), False),
        (BORN, BORN, True),
        (BORN, Date(year=1990), False),
        (BORN, Date(year=1990, month=5), False),
        (Date(year=1990, month=5), Date(year=1990, month=5), True),
        (Date(year=1990, month=5), Date(year=1990), False),
        (None, Date(year=1990), False),
    ],
)
def test_birth_date_must_say_as_much_as_the_record_and_is_compared_as_far_as_that(
    scene: Scene, tax: Party, recorded: Date | None, claimed: Date, matches: bool
) -> None:
    person = scene.citizen(birth_date=recorded)
    with scene.recording() as entries:
        answer = tax.get_citizen(claiming(person, birth_date=claimed), "sex")
    assert answer.outcome == (DISCLOSED if matches else NO_MATCH)
    assert answer.citizen == (Person(sex=person.sex) if matches else Person())
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, answer.outcome, LOOKUP, "sex")]
    require_no_value(entries[0], person)


@pytest.mark.parametrize(
    ("claimed", "matches"),
    [
        ("NGUYỄN THỊ HOÀ", True),
        (unicodedata.normalize("NFD", "Nguyễn Thị Hoà"), True),
        ("Nguyễn Thị Hòa", True),
        (unicodedata.normalize("NFD", "NGUYỄN  THỊ HÒA "), True),
        ("Nguyễn\u200b Thị Hoà", True),
        ("Nguyen Thi Hoa", False),
        ("Nguyễn Thị Hoa", False),
        ("Nguyễn Thị Hoá", False),
        ("Thị Hoà Nguyễn", False),
        ("Nguyễn Hoà", False),
    ],
)
def test_names_are_compared_as_written_but_for_what_writing_varies(
    scene: Scene, tax: Party, person: Person, claimed: str, matches: bool
) -> None:
    with scene.recording() as entries:
        answer = tax.lookup.GetCitizen(tax.asks(person, "sex", name=claimed))
    assert answer.outcome == (DISCLOSED if matches else NO_MATCH)
    assert answer.HasField("citizen") is matches
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, answer.outcome, LOOKUP, "sex")]
    assert claimed.encode() not in entries[0].SerializeToString()


def test_d_with_stroke_has_look_alikes_but_is_no_d(scene: Scene, tax: Party) -> None:
    person = scene.citizen(full_name=named("Đặng Văn Đạt"))
    with scene.recording() as entries:
        claims = ["\u00d0ặng Văn \u00d0ạt", "Đặng Văn Dạt"]
        outcomes = [tax.lookup.GetCitizen(tax.asks(person, name=claim)).outcome for claim in claims]
    assert outcomes == [DISCLOSED, NO_MATCH] == [entry.outcome for entry in entries]


@pytest.mark.parametrize("names_him_by", ["subject_id", "pin"])
def test_former_pin_still_resolves_after_a_new_one_is_given(scene: Scene, tax: Party, names_him_by: str) -> None:
    item = scene.birth()
    scene.identity.contribute(item)
    old, new = item.person, claiming(item.person, pin=scene.birth().person.pin)
    told = scene.news(old.pin, Person(pin=new.pin), "pin")
    if names_him_by == "subject_id":
        told.subject_id = item.subject_id
    [result] = scene.identity.contribute(told)
    assert result.status == APPLIED, result
    with scene.recording() as entries:
        answers = [tax.get_citizen(claim, "pin") for claim in (old, new)]
    assert [(answer.outcome, answer.citizen.pin) for answer in answers] == [(DISCLOSED, new.pin)] * 2
    assert entries[0].subject == entries[1].subject
    require_no_value(entries[0], old)
    require_no_value(entries[1], new)
    assert {pin for (pin,) in scene.rows("SELECT pin FROM pins WHERE subject_id = :id", id=item.subject_id)} == {
        old.pin,
        new.pin,
    }


@pytest.mark.parametrize("names_him_by", ["subject_id", "pin"])
def test_pin_of_one_person_is_never_given_to_another(scene: Scene, names_him_by: str) -> None:
    item, other = scene.birth(), scene.citizen()
    scene.identity.contribute(item)
    told = scene.news(item.person.pin, Person(pin=other.pin), "pin")
    if names_him_by == "subject_id":
        told.subject_id = item.subject_id
    [result] = scene.identity.contribute(told)
    assert (result.status, result.reason) == (REJECTED, error_reason_pb2.ERROR_REASON_PIN_TAKEN)
    assert scene.rows("SELECT 1 FROM contributions WHERE event_id = :id", id=told.event_id) == []


def test_pin_is_closed_to_a_system_after_five_mismatches_until_the_next_day(scene: Scene, tax: Party) -> None:
    portal = scene.system("portal/national", {LOOKUP: ["sex"]}, purpose="OWN_DATA")
    person = scene.citizen(birth_date=BORN)
    wrong = claiming(person, birth_date=Date(year=1990, month=5, day=18))
    with scene.recording() as entries:
        assert [tax.get_citizen(wrong).outcome for _ in range(5)] == [NO_MATCH] * 5
    assert [entry.outcome for entry in entries] == [NO_MATCH] * 5
    for claim in (wrong, person):
        refusal = scene.refuse(tax, tax.lookup.GetCitizen, tax.asks(claim), "PIN_CLOSED_TODAY")
        assert (refusal.code.name, refusal.metadata) == ("RESOURCE_EXHAUSTED", {"limit": "5"})
    with scene.recording() as entries:
        assert portal.get_citizen(person).outcome == DISCLOSED, "another system's mismatches close nothing"
        scene.clock.go_on(timedelta(days=1))
        assert tax.get_citizen(person).outcome == DISCLOSED, "the next day it is open"
    assert [(entry.caller, entry.outcome) for entry in entries] == [
        (portal.identity, DISCLOSED),
        (tax.identity, DISCLOSED),
    ]


def test_pin_that_nobody_has_is_closed_like_any_other(scene: Scene, tax: Party, person: Person) -> None:
    nobody = claiming(person, pin="901190888888")
    with scene.recording() as entries:
        assert [tax.get_citizen(nobody).outcome for _ in range(5)] == [NO_MATCH] * 5
    assert [entry.HasField("subject") for entry in entries] == [False] * 5
    scene.refuse(tax, tax.lookup.GetCitizen, tax.asks(nobody), "PIN_CLOSED_TODAY")


def test_guesses_at_once_are_no_more_than_guesses_in_turn(scene: Scene, tax: Party, person: Person) -> None:
    guesses = [claiming(person, birth_date=Date(year=1990, month=6, day=day)) for day in range(1, 31)]
    with scene.recording() as entries, ThreadPoolExecutor(len(guesses)) as pool:
        answered = [
            answer
            for answer in pool.map(lambda guess: refusal_or(tax.lookup.GetCitizen, tax.asks(guess)), guesses)
            if isinstance(answer, GetCitizenResponse)
        ]
    assert [answer.outcome for answer in answered] == [NO_MATCH] * 5
    assert [entry.outcome for entry in entries].count(NO_MATCH) == 5
    assert {entry.reason for entry in entries if entry.outcome != NO_MATCH} == {"PIN_CLOSED_TODAY"}


def test_mismatch_counts_against_the_pin_that_was_stated(scene: Scene, tax: Party, person: Person) -> None:
    with scene.recording() as entries:
        for _ in range(4):
            tax.get_citizen(claiming(person, full_name=named("Nguyễn Thị Lan")))
        assert [tax.get_citizen(person).outcome for _ in range(3)] == [DISCLOSED] * 3, "a match burns nothing"
    assert [entry.outcome for entry in entries] == [NO_MATCH] * 4 + [DISCLOSED] * 3
