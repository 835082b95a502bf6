"""Contribute gives each item its own result; who may write what, and what an item must be to be taken in."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from google.type.date_pb2 import Date

from npd.common.v1 import person_pb2
from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.common.v1.person_pb2 import IdentityCard, Person, PersonName
from npd.common.v1.place_pb2 import AdminPlace
from npd.sharing.v1.contribution_pb2 import ContributionItem, ContributionResult
from tests.mesh_fixture import Desk, Stage, new_id
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CONTRIBUTE,
    DISCLOSED,
    DUPLICATE,
    HELD,
    LOOKUP,
    REJECTED,
    Party,
    Scene,
)

A_POSITIVE = Person(blood_type=person_pb2.BLOOD_TYPE_A_POSITIVE)
READABLE = ["full_name", "blood_type", "id_cards", "marital_status", "phone", "pin"]


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: READABLE})


@pytest.fixture(scope="module")
def medical(scene: Scene) -> Party:
    return scene.system("moh/medical", {CONTRIBUTE: ["blood_type", "phone", "pin"]})


def require_rejected(result: ContributionResult, reason: str, field: str) -> None:
    """The item is refused with this reason and field, in a sentence."""
    assert result.status == REJECTED
    assert (ErrorReason.Name(result.reason), result.field) == (f"ERROR_REASON_{reason}", field)
    assert result.message


def taken(scene: Scene, *items: ContributionItem) -> list[tuple[str, bool]]:
    """Which of the items' events are noted as taken in, in their order, and whether their subject is known."""
    query = "SELECT event_id, subject_id IS NOT NULL FROM contributions WHERE event_id = ANY(:ids)"
    found = dict(scene.rows(query, ids=[item.event_id for item in items]))
    return [(item.event_id, found[item.event_id]) for item in items if item.event_id in found]


def test_each_item_has_its_own_result_and_none_fails_its_neighbours(scene: Scene, tax: Party, medical: Party) -> None:
    one, other = scene.citizen(blood_type=None), scene.citizen(blood_type=None)
    known = scene.news(one, A_POSITIVE, "blood_type")
    medical.contribute(known)
    items = [
        known,
        scene.news("90109000000A", A_POSITIVE, "blood_type"),
        scene.news(scene.birth().person, A_POSITIVE, "blood_type"),
        scene.news(other, Person(full_name=PersonName(full="Lê An")), "full_name"),
        scene.news(other, A_POSITIVE, "blood_type"),
    ]
    with scene.recording() as entries:
        results = medical.contribute(*items)
    assert [result.event_id for result in results] == [item.event_id for item in items]
    assert [result.status for result in results] == [DUPLICATE, REJECTED, HELD, REJECTED, APPLIED]
    require_rejected(results[1], "FIELD_INVALID", "pin")
    require_rejected(results[3], "FIELD_NOT_WRITABLE", "full_name")
    assert entries == [], "who contributes is told nothing of the person: no disclosure"
    assert taken(scene, *items) == [
        (items[0].event_id, True),
        (items[2].event_id, False),
        (items[4].event_id, True),
    ]
    stored = "SELECT path, source FROM assertions WHERE event_id = :id"
    assert scene.rows(stored, id=items[4].event_id) == [("blood_type", "moh/medical")]
    with scene.recording() as entries:
        citizen = tax.get_citizen(other, "blood_type", "full_name").citizen
    assert citizen == Person(blood_type=A_POSITIVE.blood_type, full_name=other.full_name)
    assert [entry.outcome for entry in entries] == [DISCLOSED]


def test_held_items_are_applied_in_order_when_the_pin_is_minted(scene: Scene, tax: Party, medical: Party) -> None:
    born = scene.birth(blood_type=None, phone=None)
    first = scene.news(born.person, Person(phone="+84000000001"), "phone")
    second = scene.news(born.person, Person(phone="+84000000002"), "phone")
    blood = scene.news(born.person, A_POSITIVE, "blood_type")
    for item in (first, second, blood):
        scene.clock.go_on(timedelta(seconds=1))
        assert [result.status for result in medical.contribute(item)] == [HELD]
    waiting = "SELECT event_id, source FROM held_items WHERE pin = :pin ORDER BY record_time"
    assert scene.rows(waiting, pin=born.person.pin) == [
        (item.event_id, "moh/medical") for item in (first, second, blood)
    ]
    assert [result.status for result in medical.contribute(blood)] == [DUPLICATE]
    assert [result.status for result in scene.identity.contribute(born)] == [APPLIED]
    assert scene.rows(waiting, pin=born.person.pin) == []
    with scene.recording() as entries:
        citizen = tax.get_citizen(born.person, "blood_type", "phone").citizen
    assert citizen == Person(blood_type=A_POSITIVE.blood_type, phone="+84000000002")
    assert [entry.outcome for entry in entries] == [DISCLOSED]
    assert [result.status for result in medical.contribute(blood)] == [DUPLICATE]


def test_held_items_of_one_call_keep_its_order(scene: Scene, tax: Party, medical: Party) -> None:
    born = scene.birth(phone=None)
    items = [scene.news(born.person, Person(phone=f"+8400000001{digit}"), "phone") for digit in range(5)]
    for place, item in enumerate(items):
        item.event_id = f"{5 - place}-{item.event_id}"
    assert [result.status for result in medical.contribute(*items)] == [HELD] * 5
    scene.identity.contribute(born)
    with scene.recording() as entries:
        assert tax.get_citizen(born.person, "phone").citizen == Person(phone="+84000000014")
    assert [entry.outcome for entry in entries] == [DISCLOSED]


def test_agency_writes_only_what_its_agreement_grants(scene: Scene, medical: Party) -> None:
    person = scene.citizen()
    items = [
        scene.news(person, Person(email="a@example.vn", blood_type=A_POSITIVE.blood_type), "blood_type", "email"),
        scene.news(person, Person(pin=scene.birth().person.pin), "pin"),
    ]
    mixed, pin = medical.contribute(*items)
    require_rejected(mixed, "FIELD_NOT_WRITABLE", "email")
    require_rejected(pin, "FIELD_NOT_WRITABLE", "pin")
    assert "moh/medical" in mixed.message
    assert "CONTRIBUTE of blood_type, phone" in pin.message, "the rule: no agency mints PINs, whatever is granted"
    assert taken(scene, *items) == []


@pytest.mark.parametrize(
    ("room", "path", "told"),
    [
        ("civil_status", "permanent_residence", Person()),
        ("civil_status", "pin", Person(pin="901090000002")),
        ("residence", "full_name", Person(full_name=PersonName(full="Lê An"))),
        ("residence", "blood_type", A_POSITIVE),
    ],
)
def test_room_writes_only_where_the_authority_rule_names_it(scene: Scene, room: str, path: str, told: Person) -> None:
    item = scene.news(scene.citizen(), told, path)
    [result] = scene.room(room).contribute(item)
    require_rejected(result, "FIELD_NOT_WRITABLE", path)
    assert room in result.message
    assert taken(scene, item) == []


def test_only_identity_mints_subjects_and_only_with_their_pin(scene: Scene, medical: Party) -> None:
    unknown, known = new_id(), scene.birth()
    scene.identity.contribute(known)
    single = Person(marital_status=person_pb2.MARITAL_STATUS_SINGLE)
    by_room = scene.news("", single, "marital_status", subject_id=unknown)
    without_pin = scene.news("", single, "marital_status", subject_id=unknown)
    pin_of_nobody = scene.news(scene.birth().person, Person(pin=scene.birth().person.pin), "pin")
    taken_pin = scene.birth(pin=known.person.pin)
    by_agency = scene.news("", A_POSITIVE, "blood_type", subject_id=known.subject_id)
    require_rejected(scene.civil_status.contribute(by_room)[0], "SUBJECT_NOT_MINTED", "")
    require_rejected(scene.identity.contribute(without_pin)[0], "SUBJECT_NOT_MINTED", "")
    require_rejected(scene.identity.contribute(pin_of_nobody)[0], "SUBJECT_NOT_MINTED", "")
    require_rejected(scene.identity.contribute(taken_pin)[0], "PIN_TAKEN", "")
    require_rejected(medical.contribute(by_agency)[0], "FIELD_INVALID", "subject_id")
    assert taken(scene, by_room, without_pin, pin_of_nobody, taken_pin, by_agency) == []
    assert (
        scene.rows("SELECT 1 FROM records WHERE subject_id IN (:one, :two)", one=unknown, two=taken_pin.subject_id)
        == []
    )


def test_field_named_without_a_value_is_withdrawn(scene: Scene, tax: Party, medical: Party) -> None:
    person = scene.citizen(phone=None)
    medical.contribute(scene.news(person, Person(phone="+84000000001"), "phone"))
    withdrawn = scene.news(person, Person(), "phone")
    withdrawn.person.blood_type = person_pb2.BLOOD_TYPE_O  # not named in the mask: not told
    assert [result.status for result in medical.contribute(withdrawn)] == [APPLIED]
    with scene.recording() as entries:
        assert tax.get_citizen(person, "phone", "blood_type").citizen == Person()
    assert [list(entry.paths) for entry in entries] == [["phone", "blood_type"]]


def test_items_of_a_field_are_told_one_by_one(scene: Scene, tax: Party) -> None:
    old, renewed = (IdentityCard(document_number="S-1", issuing_office=office) for office in ("Hà Nội", "Bộ Công an"))
    another = IdentityCard(document_number="S-2")
    person = scene.citizen(id_cards=[old])
    scene.identity.contribute(scene.news(person, Person(id_cards=[another]), "id_cards"))
    scene.identity.contribute(scene.news(person, Person(id_cards=[renewed]), "id_cards"))
    with scene.recording() as entries:
        cards = tax.get_citizen(person, "id_cards").citizen.id_cards
    assert sorted(cards, key=lambda card: card.document_number) == [renewed, another]
    assert [list(entry.paths) for entry in entries] == [["id_cards"]]


def _change(name: str, value: object) -> Callable[[ContributionItem], None]:
    return lambda item: setattr(item, name, value)


def _name(**parts: str) -> Callable[[ContributionItem], None]:
    return lambda item: item.person.full_name.CopyFrom(PersonName(**parts))


def _born(birth: Date) -> Callable[[ContributionItem], None]:
    return lambda item: item.person.birth_date.CopyFrom(birth)


@pytest.mark.parametrize(
    ("spoil", "reason", "field"),
    [
        (_change("event_id", ""), "FIELD_REQUIRED", "event_id"),
        (_change("event_id", "x" * 65), "FIELD_INVALID", "event_id"),
        (_change("event_id", "sự-kiện"), "FIELD_INVALID", "event_id"),
        (lambda item: item.ClearField("pin"), "FIELD_INVALID", "pin"),
        (_change("subject_id", "no uuid"), "FIELD_INVALID", "subject_id"),
        (lambda item: item.ClearField("person"), "FIELD_REQUIRED", "person"),
        (lambda item: item.ClearField("update_mask"), "FIELD_REQUIRED", "update_mask"),
        (lambda item: item.update_mask.paths.clear(), "MASK_EMPTY", "update_mask"),
        (lambda item: item.update_mask.paths.append("nope"), "MASK_UNKNOWN_PATH", "update_mask"),
        (lambda item: item.update_mask.paths.append("full_name.given"), "MASK_UNKNOWN_PATH", "update_mask"),
        (lambda item: item.ClearField("event_time"), "FIELD_REQUIRED", "event_time"),
        (lambda item: item.ClearField("register_time"), "FIELD_REQUIRED", "register_time"),
        (lambda item: setattr(item.event_time, "seconds", 1 << 60), "FIELD_INVALID", "event_time"),
        (_name(full="Lê\x00An"), "FIELD_INVALID", "person.full_name.full"),
        (_name(full="Lê " * 70), "FIELD_INVALID", "person.full_name.full"),
        (_name(given="An"), "FIELD_INVALID", "person.full_name.full"),
        (_born(Date(year=1990, month=2, day=30)), "FIELD_INVALID", "person.birth_date"),
        (_born(Date(year=2199)), "FIELD_INVALID", "person.birth_date"),
        (lambda item: setattr(item.person, "sex", 7), "FIELD_INVALID", "person.sex"),
        (lambda item: item.person.spouses.add(pin="12345"), "FIELD_INVALID", "person.spouses[0].pin"),
        (lambda item: item.person.nationalities.append("VNM"), "FIELD_INVALID", "person.nationalities[0]"),
        (
            lambda item: item.person.hometown.CopyFrom(AdminPlace(unit_code="0001")),
            "FIELD_INVALID",
            "person.hometown.unit_code",
        ),
    ],
)
def test_malformed_item_is_rejected_by_field_and_alone(
    scene: Scene, spoil: Callable[[ContributionItem], None], reason: str, field: str
) -> None:
    person = scene.citizen()
    told = Person(full_name=PersonName(full="Lê Thị Riêng"), sex=person.sex)
    item, sound = scene.news(person, told, "full_name"), scene.news(person, told, "sex")
    spoil(item)
    bad, good = scene.civil_status.contribute(item, sound)
    require_rejected(bad, reason, field)
    assert good.status == APPLIED
    for secret in ("Riêng", person.pin, "12345"):
        assert secret not in bad.message
    assert taken(scene, item, sound) == [(sound.event_id, True)]


@pytest.mark.parametrize(
    ("event", "register"), [(timedelta(), timedelta(hours=-1)), (timedelta(hours=-1), timedelta(minutes=6))]
)
def test_event_is_registered_after_it_happened_and_before_it_is_told(
    scene: Scene, event: timedelta, register: timedelta
) -> None:
    item = scene.news(scene.citizen(), Person(sex=person_pb2.SEX_MALE), "sex")
    item.event_time.FromDatetime(scene.clock.now() + event)
    item.register_time.FromDatetime(scene.clock.now() + register)
    require_rejected(scene.civil_status.contribute(item)[0], "FIELD_INVALID", "register_time")
    assert taken(scene, item) == []


def test_clock_of_a_source_may_go_a_little_fast(scene: Scene) -> None:
    item = scene.news(scene.citizen(), Person(sex=person_pb2.SEX_MALE), "sex")
    item.register_time.FromDatetime(scene.clock.now() + timedelta(minutes=4))
    assert [result.status for result in scene.civil_status.contribute(item)] == [APPLIED]
    assert taken(scene, item) == [(item.event_id, True)]


def test_a_thousand_items_are_taken_and_one_more_refuses_the_call(scene: Scene, medical: Party) -> None:
    person = scene.citizen()
    items = [scene.news(person, A_POSITIVE, "blood_type") for _ in range(1001)]
    refusal = scene.refuse(medical, medical.contribution.Contribute, medical.tells(*items), "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["items"]
    assert taken(scene, *items) == []
    assert {result.status for result in medical.contribute(*items[1:])} == {APPLIED}
    assert len(taken(scene, *items)) == 1000


@pytest.mark.parametrize(("clear", "field"), [("request_id", "request_id"), ("items", "items"), ("access", "access")])
def test_call_without_what_it_needs_is_refused(scene: Scene, medical: Party, clear: str, field: str) -> None:
    request = medical.tells(scene.news(scene.citizen(), A_POSITIVE, "blood_type"))
    request.ClearField(clear)  # type: ignore[arg-type]  # the stub wants a literal
    refusal = scene.refuse(medical, medical.contribution.Contribute, request, "FIELD_REQUIRED")
    assert [violation.field for violation in refusal.violations] == [field]
    assert taken(scene, *request.items) == []
