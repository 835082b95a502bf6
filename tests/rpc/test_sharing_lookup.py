"""GetCitizen releases exactly what is granted and asked for, says where it comes from, and records each answer."""

from datetime import timedelta

import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.evidence_pb2 import Receipt
from npd.common.v1.person_pb2 import Person, PersonName
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from tests.mesh_fixture import Desk, Stage
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CONTRIBUTE,
    DISCLOSED,
    LOOKUP,
    Party,
    Scene,
    bare,
    require_no_value,
)

GRANTED = ["pin", "full_name", "sex", "permanent_residence", "temporary_residence", "id_cards", "marital_status"]
HOME = Address(place=AdminPlace(unit_code="00004", unit_list_version="2026-04-30"), detail_text="Số 9 ngõ Huyện")


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: GRANTED})


def test_exactly_the_granted_and_requested_fields_are_released(scene: Scene, tax: Party) -> None:
    person = scene.citizen(religion=person_pb2.CodedValue(code="01", list_version="provisional"))
    with scene.recording() as entries:
        answer = tax.get_citizen(person, "sex", "full_name")
    assert answer.outcome == DISCLOSED
    assert answer.citizen == Person(sex=person.sex, full_name=person.full_name)
    assert (list(answer.disputed_paths), list(answer.provenance)) == ([], [])
    [entry] = entries
    assert bare(entry) == tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, "sex", "full_name")
    require_no_value(entry, person)
    assert entry.entry_time.ToDatetime() == scene.clock.now().replace(tzinfo=None)


def test_receipt_names_the_log_and_the_entry_as_it_is_stored(scene: Scene, tax: Party) -> None:
    with scene.recording() as entries:
        receipt = tax.get_citizen(scene.citizen(), "sex").receipt
    stored = scene.rows(
        "SELECT entry FROM log WHERE leaf_hash = :leaf UNION ALL SELECT entry FROM log_pending WHERE leaf_hash = :leaf",
        leaf=receipt.leaf_hash,
    )
    assert [row[0] for row in stored] == [entry.SerializeToString() for entry in entries]
    assert receipt == Receipt(log_origin="mesh.test.npd.example/sharing", leaf_hash=receipt.leaf_hash)


def test_deep_path_releases_no_more_than_it_names(scene: Scene, tax: Party) -> None:
    person = scene.citizen(permanent_residence=HOME)
    with scene.recording() as entries:
        answer = tax.get_citizen(person, "permanent_residence.place.unit_code", "full_name.given")
    expected = Person(full_name=PersonName(given=person.full_name.given))
    expected.permanent_residence.place.unit_code = "00004"
    assert answer.citizen == expected
    assert list(entries[0].paths) == ["permanent_residence.place.unit_code", "full_name.given"]
    require_no_value(entries[0], person)


def test_granted_field_without_a_value_is_released_as_absent(scene: Scene, tax: Party) -> None:
    person = scene.citizen(temporary_residence=None, marital_status=None, id_cards=None)
    with scene.recording() as entries:
        answer = tax.get_citizen(person, "temporary_residence.address.place", "marital_status", "id_cards")
    assert (answer.outcome, answer.citizen) == (DISCLOSED, Person())
    assert list(entries[0].paths) == ["temporary_residence.address.place", "marital_status", "id_cards"]


def test_path_that_is_named_twice_is_recorded_once(scene: Scene, tax: Party) -> None:
    with scene.recording() as entries:
        assert tax.get_citizen(scene.citizen(), "sex", "sex").outcome == DISCLOSED
    assert list(entries[0].paths) == ["sex"]


def test_provenance_says_which_source_told_each_released_field_and_when(scene: Scene, tax: Party) -> None:
    item = scene.birth(id_cards=[person_pb2.IdentityCard(document_number="S-1"), {"document_number": "S-2"}])
    scene.identity.contribute(item)
    with scene.recording() as entries:
        answer = tax.lookup.GetCitizen(tax.asks(item.person, "sex", "id_cards", provenance=True))
    assert [(one.path, one.item_key, one.source) for one in answer.provenance] == [
        ("id_cards", "S-1", "identity"),
        ("id_cards", "S-2", "identity"),
        ("sex", "", "identity"),
    ]
    assert {one.event_time.ToDatetime() for one in answer.provenance} == {item.event_time.ToDatetime()}
    assert {one.record_time.ToDatetime() for one in answer.provenance} == {scene.clock.now().replace(tzinfo=None)}
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, "sex", "id_cards")]
    require_no_value(entries[0], item.person)


def test_provenance_of_a_deep_path_is_that_of_its_field(scene: Scene, tax: Party) -> None:
    person = scene.citizen(permanent_residence=HOME)
    with scene.recording() as entries:
        request = tax.asks(person, "permanent_residence.detail_text", provenance=True)
        answer = tax.lookup.GetCitizen(request)
    assert [(one.path, one.source) for one in answer.provenance] == [("permanent_residence", "identity")]
    assert list(entries[0].paths) == ["permanent_residence.detail_text"]


def test_disputed_field_is_released_with_its_mark_wherever_it_is_asked_for(scene: Scene, tax: Party) -> None:
    land = scene.system("land/core", {CONTRIBUTE: ["permanent_residence"]})
    person = scene.citizen(permanent_residence=HOME)
    other = Person(permanent_residence=Address(place=HOME.place, detail_text="Số 8"))
    [result] = land.contribute(scene.news(person, other, "permanent_residence"))
    assert (result.status, list(result.disputed_paths)) == (APPLIED, ["permanent_residence"])
    with scene.recording() as entries:
        answers = [tax.get_citizen(person, *paths) for paths in (["permanent_residence", "sex"], ["sex"])]
        deep = tax.get_citizen(person, "permanent_residence.place")
    assert [list(answer.disputed_paths) for answer in answers] == [["permanent_residence"], []]
    assert answers[0].citizen.permanent_residence == HOME, "the record keeps the value of the higher authority"
    assert list(deep.disputed_paths) == ["permanent_residence"]
    assert [entry.outcome for entry in entries] == [DISCLOSED] * 3


def test_pseudonym_is_one_for_each_citizen(scene: Scene, tax: Party) -> None:
    one, other = scene.citizen(), scene.citizen()
    with scene.recording() as entries:
        for person in (one, one, other):
            assert tax.get_citizen(person).outcome == DISCLOSED
            scene.clock.go_on(timedelta(seconds=1))
    first, again, others = [entry.subject.pseudonym for entry in entries]
    assert first == again != others
