"""A number is cancelled and another given on a ground of the law; the old one resolves to the new one for ever."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import Outcome
from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE, Person, PersonName
from npd.common.v1.place_pb2 import AdminPlace
from npd.identity.v1 import number_pb2
from services.mesh.core.following import FollowedChange
from tests.mesh_fixture import Desk, Stage, new_id, refused
from tests.rpc.test_identity_callers import (
    BIRTH_DATE,
    DISCLOSED,
    DONE,
    ITSELF,
    LOOKUP,
    NUMBERS,
    REGISTER,
    SEX_REDETERMINED,
    IdentityScene,
    Party,
    event_time,
    stated,
)

RESERVED, ACTIVE = number_pb2.NUMBER_STATE_RESERVED, number_pb2.NUMBER_STATE_ACTIVE
CANCELLED = number_pb2.NUMBER_STATE_CANCELLED
ENTRY_ERROR = number_pb2.SUCCESSION_GROUND_ENTRY_ERROR
YEAR_CORRECTED = number_pb2.SUCCESSION_GROUND_BIRTH_YEAR_CORRECTED


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> IdentityScene:
    return IdentityScene(stage, desk)


@pytest.fixture(scope="module")
def office(scene: IdentityScene) -> Party:
    return scene.agency("mps/office", {REGISTER: ["pin"], LOOKUP: ["pin"]})


def succession(scene: IdentityScene, office: Party, person: Person, **other: Any) -> number_pb2.SucceedPinRequest:
    """A SucceedPinRequest for somebody whose sex was determined anew."""
    told = {"identity": stated(person), "ground": SEX_REDETERMINED, "birth": scene.facts(sex=SEX_MALE), **other}
    return number_pb2.SucceedPinRequest(request_id=new_id(), access=office.access, **told)


def resolve(party: Party, pin: str, access: AccessContext | None = None) -> number_pb2.ResolvePinResponse:
    return party.numbers.ResolvePin(number_pb2.ResolvePinRequest(pin=pin, access=access))


def test_a_number_is_succeeded_told_and_recorded(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        new = office.numbers.SucceedPin(succession(scene, office, person))
    assert new.pin.startswith("979090")
    assert scene.state(person.pin) == ("CANCELLED", "SEX_REDETERMINED", new.pin)
    assert scene.state(new.pin) == ("ACTIVE", None, None)
    (item,) = seen.told
    assert (item.subject_id, item.person, list(item.update_mask.paths)) == (
        str(subject_id),
        Person(pin=new.pin),
        ["pin"],
    )
    assert event_time(item) == scene.clock.now()
    assert (item.access.agreement_id, item.access.origin) == (office.access.agreement_id, office.identity)
    (link,) = scene.links(new.act_id)
    assert (link.name, link.actor, link.causation_id) == ("identity.succeed_pin", office.identity, None)
    assert item.causation.causation_id == new.act_id
    (entry,) = seen.entries
    assert (entry.method, entry.outcome, entry.access, entry.purpose, entry.object) == (
        f"{NUMBERS}/SucceedPin", DONE, office.access, "STATE_MANAGEMENT", "number",
    )  # fmt: skip
    assert person.pin.encode() not in entry.SerializeToString()


def test_any_former_number_resolves_to_the_one_in_force(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    numbers = [person.pin]
    for _ in range(3):
        again = succession(scene, office, person, identity=stated(person, pin=numbers[-1]), ground=ENTRY_ERROR)
        numbers.append(office.numbers.SucceedPin(again).pin)
    for former in numbers[:-1]:
        answer = resolve(scene.residence, former)
        assert (answer.state, answer.current_pin, answer.ground) == (CANCELLED, numbers[-1], ENTRY_ERROR)
        assert answer.subject_id == str(subject_id)
    answer = resolve(scene.residence, numbers[-1])
    assert (answer.state, answer.current_pin, answer.ground) == (ACTIVE, numbers[-1], 0)


def test_what_an_agency_resolves_is_a_use_and_names_no_subject(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        answer = resolve(office, person.pin, office.access)
    assert (answer.state, answer.current_pin, answer.subject_id) == (ACTIVE, person.pin, "")
    (use,), (entry,) = seen.uses, seen.entries
    assert (use.subject_id, use.method, use.outcome, list(use.paths)) == (
        str(subject_id), f"{NUMBERS}/ResolvePin", Outcome.OUTCOME_DISCLOSED, ["pin"],
    )  # fmt: skip
    assert (use.access.agreement_id, use.access.origin) == (office.access.agreement_id, office.identity)
    assert (entry.outcome, entry.access, list(entry.paths)) == (DISCLOSED, office.access, ["pin"])
    assert entry.HasField("subject")


def test_what_a_room_resolves_is_recorded_and_no_use(scene: IdentityScene) -> None:
    _, person = scene.citizen()
    with scene.recording() as seen:
        resolve(scene.civil_status, person.pin)
    assert not seen.uses
    assert [(entry.outcome, entry.method) for entry in seen.entries] == [(DISCLOSED, f"{NUMBERS}/ResolvePin")]


def test_a_reserved_number_has_no_person_yet(scene: IdentityScene, office: Party) -> None:
    reserved = scene.reserve()
    with scene.recording() as seen:
        answer = resolve(office, reserved.pin, office.access)
    assert (answer.state, answer.current_pin) == (RESERVED, "")
    assert not seen.uses
    assert resolve(scene.residence, reserved.pin).subject_id == reserved.subject_id


def test_what_cannot_be_resolved_is_refused(scene: IdentityScene, office: Party) -> None:
    unknown = number_pb2.ResolvePinRequest(pin="901190999999", access=office.access)
    scene.refuse(office.numbers.ResolvePin, unknown, "NUMBER_UNKNOWN")
    scene.refuse(scene.residence.numbers.ResolvePin, number_pb2.ResolvePinRequest(pin="901190999999"), "NUMBER_UNKNOWN")
    refusal = scene.refuse(
        office.numbers.ResolvePin, number_pb2.ResolvePinRequest(pin="901190999999"), "FIELD_REQUIRED"
    )
    assert refusal.violations[0].field == "access"
    scene.refuse(scene.residence.numbers.ResolvePin, number_pb2.ResolvePinRequest(pin="90119099999"), "FIELD_INVALID")


def test_a_repeated_succession_gives_no_second_number(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    request = succession(scene, office, person)
    first = office.numbers.SucceedPin(request)
    with scene.recording() as seen:
        assert office.numbers.SucceedPin(request) == first
    assert seen.is_nothing
    refusal = scene.refuse(office.numbers.SucceedPin, succession(scene, office, person), "STATE_NOT_ALLOWED")
    assert refusal.metadata == {"object": "number", "state": "CANCELLED"}
    request.ground = ENTRY_ERROR
    scene.refuse(office.numbers.SucceedPin, request, "REQUEST_ID_REUSED")


def test_anothers_request_id_means_nothing(scene: IdentityScene, office: Party) -> None:
    (_, one), (_, other) = scene.citizen(), scene.citizen()
    neighbour = scene.agency("hue/office", {REGISTER: ["pin"]})
    first, second = succession(scene, office, one), succession(scene, neighbour, other)
    second.request_id = first.request_id
    assert office.numbers.SucceedPin(first).pin != neighbour.numbers.SucceedPin(second).pin


def test_a_succession_that_may_not_be_is_refused(scene: IdentityScene, office: Party) -> None:
    (subject_id, dead), (_, person) = scene.citizen(), scene.citizen()
    scene.die(subject_id, dead)
    call, place = office.numbers.SucceedPin, scene.facts()
    place.registration_place.CopyFrom(AdminPlace(unit_code="79", unit_list_version="2024-12-31"))
    for reason, request in (
        ("PERSON_UNKNOWN", succession(scene, office, person, identity=stated(person, pin="901190999999"))),
        ("IDENTITY_MISMATCH", succession(scene, office, person, identity=stated(person, full_name="Lê Ân"))),
        ("IDENTITY_MISMATCH", succession(scene, office, person, identity=stated(person, birth_date=Date(year=1990)))),
        ("PERSON_DECEASED", succession(scene, office, dead)),
        ("PLACE_CODE_UNKNOWN", succession(scene, office, person, birth=place)),
        ("FIELD_INVALID", succession(scene, office, person, birth=scene.facts(year=1899))),
    ):
        scene.refuse(call, request, reason)
    unknown = succession(scene, office, person)
    unknown.access.agreement_id = new_id()
    scene.refuse(call, unknown, "AGREEMENT_UNKNOWN")
    assert scene.state(person.pin) == ("ACTIVE", None, None)


def test_a_person_without_a_number_of_this_room_gets_no_other(scene: IdentityScene, office: Party) -> None:
    person = Person(pin="901190777777", full_name=PersonName(full="Lê An"), birth_date=BIRTH_DATE, sex=SEX_FEMALE)
    scene.tell(uuid4(), person, "full_name", "birth_date", "sex")
    scene.refuse(office.numbers.SucceedPin, succession(scene, office, person), "NUMBER_UNKNOWN")


@pytest.mark.parametrize(
    ("corrected", "path", "space", "ground"),
    [
        (Person(birth_date=Date(year=1991, month=5, day=17)), "birth_date", "901191", "BIRTH_YEAR_CORRECTED"),
        (Person(birth_date=Date(year=2001)), "birth_date", "901301", "BIRTH_YEAR_CORRECTED"),
        (Person(sex=SEX_MALE), "sex", "901090", "SEX_REDETERMINED"),
    ],
)
def test_a_correction_of_year_or_sex_gives_another_number_of_the_same_place(
    scene: IdentityScene, corrected: Person, path: str, space: str, ground: str
) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        change = scene.tell(subject_id, corrected, path)
    state, known_ground, successor = scene.state(person.pin)
    assert (state, known_ground, successor[:6]) == ("CANCELLED", ground, space)
    assert scene.state(successor) == ("ACTIVE", None, None)
    (link,) = scene.links(change.causation.correlation_id)
    assert (link.name, link.actor, link.causation_id, link.access) == (
        "identity.succeed_pin", ITSELF, change.change_id, None,
    )  # fmt: skip
    (item,), (entry,) = seen.told, seen.entries
    assert (item.subject_id, item.person) == (str(subject_id), Person(pin=successor))
    assert event_time(item) == scene.clock.now()
    assert (item.causation.correlation_id, item.causation.causation_id, item.HasField("access")) == (
        str(change.causation.correlation_id), str(link.act_id), False,
    )  # fmt: skip
    assert (entry.caller, entry.method, entry.outcome, entry.object) == (ITSELF, "identity.succeed_pin", DONE, "number")
    assert scene.rows("SELECT pin FROM people WHERE subject_id = :id", id=subject_id) == [(successor,)]
    with scene.recording() as seen:
        scene.apply(change)
    assert seen.is_nothing, "the same change again finds its effect done"


def test_a_correction_to_a_year_that_has_no_numbers_leaves_the_number_and_holds_nothing_up(
    scene: IdentityScene, office: Party
) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        change = scene.tell(subject_id, Person(birth_date=Date(year=1850, month=5, day=17)), "birth_date")
    assert scene.state(person.pin) == ("ACTIVE", None, None)
    assert not seen.told
    (link,) = scene.links(change.causation.correlation_id)
    assert (link.name, link.actor, link.causation_id, link.outcome) == (
        "identity.succeed_pin", ITSELF, change.change_id, "NO_NUMBER_POSSIBLE",
    )  # fmt: skip
    (entry,) = seen.entries
    assert (entry.caller, entry.method, entry.outcome, entry.object, entry.HasField("subject")) == (
        ITSELF, "identity.succeed_pin", DONE, "no number possible", True,
    )  # fmt: skip
    assert scene.rows("SELECT birth_year FROM people WHERE subject_id = :id", id=subject_id) == [(1850,)]
    scene.tell(subject_id, Person(birth_date=Date(year=1991, month=5, day=17)), "birth_date")
    state, ground, successor = scene.state(person.pin)
    assert (state, ground, successor[:6]) == ("CANCELLED", "BIRTH_YEAR_CORRECTED", "901191")


def test_no_number_is_drawn_before_those_of_history_are_known(stage: Stage, desk: Desk) -> None:
    scene = IdentityScene(stage, desk, knows_history=False)
    office = scene.agency("mps/early", {REGISTER: ["pin"]})
    _, person = scene.citizen()
    reserving, succeeding = scene.reservation(), succession(scene, office, person)
    for call, request in (
        (scene.civil_status.numbers.ReservePin, reserving),
        (office.numbers.SucceedPin, succeeding),
    ):
        scene.send_away(call, request)
    assert scene.rows("SELECT pin FROM numbers") == [(person.pin,)]
    scene.catch_up()
    assert scene.civil_status.numbers.ReservePin(reserving).pin, "the same request again is served"
    assert office.numbers.SucceedPin(succeeding).pin
    scene.rows("INSERT INTO store (incarnation) VALUES (2)")  # as after a restore from a backup
    scene.clock.go_on(timedelta(seconds=2))
    scene.send_away(scene.civil_status.numbers.ReservePin, scene.reservation())
    scene.catch_up()
    assert scene.reserve().pin


def test_what_history_tells_of_somebody_known_is_known_but_never_an_older_number(
    scene: IdentityScene, office: Party
) -> None:
    subject_id, person = scene.citizen()
    new = office.numbers.SucceedPin(succession(scene, office, person))
    later = Person(pin=person.pin, full_name=PersonName(full="Lê Ân"), birth_date=Date(year=1991), sex=SEX_MALE)
    with scene.recording() as seen:
        scene.tell(subject_id, later, "pin", "full_name", "birth_date", "sex", source="identity")
    assert seen.is_nothing, "history tells the numbers too: none is given for it"
    query = "SELECT pin, full_name, birth_year, birth_month, sex FROM people WHERE subject_id = :id"
    assert scene.rows(query, id=subject_id) == [(new.pin, "Lê Ân", 1991, 0, SEX_MALE)]
    assert scene.state(new.pin) == ("ACTIVE", None, None)


def test_a_restored_feed_that_tells_former_values_again_gives_no_number(scene: IdentityScene) -> None:
    subject_id, person = scene.citizen()
    told = [
        scene.tell(subject_id, Person(sex=SEX_FEMALE, birth_date=BIRTH_DATE), "birth_date", "sex"),
        scene.tell(subject_id, Person(sex=SEX_MALE), "sex"),
        scene.tell(subject_id, Person(birth_date=Date(year=1992)), "birth_date"),
    ]
    last = scene.state(scene.state(person.pin)[2])[2]
    with scene.recording() as seen:
        for change in told:
            scene.apply(change)
    assert seen.is_nothing
    assert scene.state(last) == ("ACTIVE", None, None)
    scene.tell(subject_id, Person(sex=SEX_FEMALE), "sex")
    assert scene.state(last)[:2] == ("CANCELLED", "SEX_REDETERMINED"), "what is new is still weighed"


@pytest.mark.parametrize(
    ("told", "paths"),
    [
        (Person(birth_date=Date(year=1990, month=6, day=1)), ["birth_date"]),
        (Person(full_name=PersonName(full="Lê Ân")), ["full_name"]),
        (Person(), ["birth_date", "sex"]),
        (Person(sex=SEX_FEMALE, birth_date=BIRTH_DATE), ["birth_date", "sex"]),
    ],
)
def test_what_corrects_neither_year_nor_sex_leaves_the_number(
    scene: IdentityScene, told: Person, paths: list[str]
) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        scene.tell(subject_id, told, *paths)
    assert seen.is_nothing
    assert scene.state(person.pin) == ("ACTIVE", None, None)


def test_a_wrongly_built_number_of_history_stands_until_something_is_corrected(scene: IdentityScene) -> None:
    subject_id, person = scene.citizen(birth_date=Date(year=1985), sex=SEX_MALE)
    with scene.recording() as seen:
        scene.tell(subject_id, Person(full_name=PersonName(full="Lê Ân"), sex=SEX_MALE), "full_name", "sex")
    assert seen.is_nothing
    scene.tell(subject_id, Person(birth_date=Date(year=1986)), "birth_date")
    assert scene.state(person.pin)[2].startswith("901086")


def test_facts_that_were_not_known_before_correct_nothing(scene: IdentityScene) -> None:
    subject_id, person = scene.citizen(birth_date=None, sex=None)
    with scene.recording() as seen:
        scene.tell(subject_id, Person(birth_date=Date(year=1950), sex=SEX_MALE), "birth_date", "sex")
    assert seen.is_nothing
    assert scene.state(person.pin) == ("ACTIVE", None, None)


def test_a_number_that_an_officer_has_fitted_before_the_correction_came_stands(
    scene: IdentityScene, office: Party
) -> None:
    subject_id, person = scene.citizen()
    new = office.numbers.SucceedPin(succession(scene, office, person))
    with scene.recording() as seen:
        scene.tell(subject_id, Person(sex=SEX_MALE), "sex")
    assert seen.is_nothing
    assert scene.state(new.pin) == ("ACTIVE", None, None)


def test_history_is_adopted_and_its_echo_changes_nothing(scene: IdentityScene, office: Party) -> None:
    with scene.recording() as seen:
        subject_id, person = scene.citizen()
    assert seen.is_nothing, "what the record has is told to nobody"
    assert resolve(scene.residence, person.pin).subject_id == str(subject_id)
    new = office.numbers.SucceedPin(succession(scene, office, person))
    for echo in (person.pin, new.pin, person.pin):
        with scene.recording() as seen:
            scene.tell(subject_id, Person(pin=echo), "pin", source="identity")
        assert seen.is_nothing
        assert scene.state(new.pin) == ("ACTIVE", None, None)
        assert scene.rows("SELECT pin FROM people WHERE subject_id = :id", id=subject_id) == [(new.pin,)]


def test_a_succession_lost_with_a_backup_is_learnt_from_the_record(scene: IdentityScene) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        scene.tell(subject_id, Person(pin="901190888881"), "pin", source="identity")
    assert seen.is_nothing
    assert scene.state(person.pin) == ("CANCELLED", None, "901190888881")
    answer = resolve(scene.residence, person.pin)
    assert (answer.state, answer.current_pin, answer.ground) == (CANCELLED, "901190888881", 0)
    assert scene.rows("SELECT pin FROM people WHERE subject_id = :id", id=subject_id) == [("901190888881",)]


def test_a_confirmation_lost_with_a_backup_is_learnt_from_the_record(scene: IdentityScene) -> None:
    reserved = scene.reserve()
    scene.tell(UUID(reserved.subject_id), Person(pin=reserved.pin), "pin", source="identity")
    assert scene.state(reserved.pin) == ("ACTIVE", None, None)


def test_a_number_that_the_record_gives_to_another_is_left_to_an_operator(scene: IdentityScene) -> None:
    reserved = scene.reserve()
    change = FollowedChange(
        position=1, change_id=uuid4(), subject_id=uuid4(), pin=reserved.pin, paths=("pin",),
        person=Person(pin=reserved.pin).SerializeToString(), source="identity", event_time=scene.clock.now(),
        record_time=scene.clock.now(), causation=scene.tell(uuid4(), Person(), "sex").causation,
    )  # fmt: skip
    with pytest.raises(Exception, match="STATE_NOT_ALLOWED"):
        scene.apply(change)
    assert scene.state(reserved.pin) == ("RESERVED", None, None)


def test_outside_a_sandbox_numbers_are_civil_and_synthetic_ones_refused(stage: Stage, desk: Desk) -> None:
    scene = IdentityScene(stage, desk, sandbox=False)
    assert scene.reserve(year=2026).pin.startswith("079326")
    refusal = refused(scene.residence.numbers.ResolvePin, number_pb2.ResolvePinRequest(pin="901190000001"))
    assert refusal.reason == "SANDBOX_PIN"
    assert scene.identity.entries()[-1].reason == "SANDBOX_PIN"
