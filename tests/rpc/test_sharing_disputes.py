"""Sources that disagree: the record keeps the value of the higher authority, marks it, and settles by itself."""

from datetime import timedelta

import pytest
from google.type.date_pb2 import Date

from npd.common.v1 import person_pb2
from npd.common.v1.person_pb2 import Person, PersonName
from npd.sharing.v1.contribution_pb2 import ContributionItem
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from tests.mesh_fixture import Desk, Stage
from tests.rpc.test_sharing_callers import APPLIED, CONTRIBUTE, DISCLOSED, LOOKUP, Party, Scene, bare

SINGLE, MARRIED = (
    Person(marital_status=status) for status in (person_pb2.MARITAL_STATUS_SINGLE, person_pb2.MARITAL_STATUS_MARRIED)
)
A_POSITIVE, O_NEGATIVE = (
    Person(blood_type=kind) for kind in (person_pb2.BLOOD_TYPE_A_POSITIVE, person_pb2.BLOOD_TYPE_O_NEGATIVE)
)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["full_name", "marital_status", "blood_type", "birth_date", "spouses"]})


@pytest.fixture(scope="module")
def medical(scene: Scene) -> Party:
    return scene.system("moh/medical", {CONTRIBUTE: ["blood_type", "full_name", "marital_status"]})


@pytest.fixture(scope="module")
def blood_bank(scene: Scene) -> Party:
    return scene.system("moh/blood-bank", {CONTRIBUTE: ["blood_type"]})


def disputed(party: Party, item: ContributionItem) -> list[str]:
    """The paths for which the record keeps another value than the item tells."""
    [result] = party.contribute(item)
    assert result.status == APPLIED, result
    return list(result.disputed_paths)


def held(scene: Scene, tax: Party, person: Person, path: str) -> tuple[Person, list[str], list[str]]:
    """What a look-up gets of a path: its value, the mark, and the source of each value."""
    with scene.recording() as entries:
        answer = tax.lookup.GetCitizen(tax.asks(person, path, provenance=True))
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, path)]
    return answer.citizen, list(answer.disputed_paths), [one.source for one in answer.provenance]


def discrepancies(scene: Scene, person: Person) -> list[tuple[str, str, str, bool]]:
    """Path, source and kind of each discrepancy about a person, and whether it is open; oldest first."""
    query = """
    SELECT path, source, difference, close_time IS NULL FROM discrepancies JOIN pins USING (subject_id)
    WHERE pin = :pin ORDER BY open_time, source"""
    return [(path, source, kind, is_open) for path, source, kind, is_open in scene.rows(query, pin=person.pin)]


def test_disagreement_is_kept_and_marked_and_closes_when_they_agree(scene: Scene, tax: Party, medical: Party) -> None:
    person = scene.citizen(marital_status=MARRIED.marital_status)
    scene.clock.go_on(timedelta(seconds=1))
    assert disputed(medical, scene.news(person, SINGLE, "marital_status")) == ["marital_status"]
    assert held(scene, tax, person, "marital_status") == (MARRIED, ["marital_status"], ["identity"])
    assert discrepancies(scene, person) == [("marital_status", "moh/medical", "SUBSTANCE", True)]
    scene.clock.go_on(timedelta(seconds=1))
    assert disputed(medical, scene.news(person, MARRIED, "marital_status")) == []
    assert held(scene, tax, person, "marital_status") == (MARRIED, [], ["identity"])
    assert discrepancies(scene, person) == [("marital_status", "moh/medical", "SUBSTANCE", False)]


def test_value_and_provenance_follow_the_authority(scene: Scene, tax: Party, medical: Party) -> None:
    person = scene.citizen(marital_status=None)
    assert disputed(medical, scene.news(person, SINGLE, "marital_status")) == []
    assert held(scene, tax, person, "marital_status") == (SINGLE, [], ["moh/medical"])
    assert disputed(scene.civil_status, scene.news(person, MARRIED, "marital_status")) == []
    assert held(scene, tax, person, "marital_status") == (MARRIED, ["marital_status"], ["civil_status"])
    assert disputed(scene.identity, scene.news(person, SINGLE, "marital_status")) == ["marital_status"]
    assert held(scene, tax, person, "marital_status") == (MARRIED, ["marital_status"], ["civil_status"])
    assert [row[1] for row in discrepancies(scene, person) if row[3]] == ["identity", "moh/medical"]
    for source in (scene.identity, medical):
        scene.clock.go_on(timedelta(seconds=1))
        assert disputed(source, scene.news(person, MARRIED, "marital_status")) == []
    assert held(scene, tax, person, "marital_status") == (MARRIED, [], ["civil_status"])
    assert [row for row in discrepancies(scene, person) if row[3]] == []


def test_of_equal_sources_the_first_keeps_its_word(scene: Scene, tax: Party, medical: Party, blood_bank: Party) -> None:
    person = scene.citizen(blood_type=None)
    assert disputed(medical, scene.news(person, A_POSITIVE, "blood_type")) == []
    assert disputed(blood_bank, scene.news(person, O_NEGATIVE, "blood_type")) == ["blood_type"]
    assert held(scene, tax, person, "blood_type") == (A_POSITIVE, ["blood_type"], ["moh/medical"])
    scene.clock.go_on(timedelta(seconds=1))
    assert disputed(medical, scene.news(person, O_NEGATIVE, "blood_type")) == [], "a source corrects itself"
    assert held(scene, tax, person, "blood_type") == (O_NEGATIVE, [], ["moh/medical"])


def test_value_that_its_source_withdraws_is_left_to_an_equal_one(
    scene: Scene, tax: Party, medical: Party, blood_bank: Party
) -> None:
    person = scene.citizen(blood_type=None)
    disputed(medical, scene.news(person, A_POSITIVE, "blood_type"))
    disputed(blood_bank, scene.news(person, O_NEGATIVE, "blood_type"))
    scene.clock.go_on(timedelta(seconds=1))
    disputed(medical, scene.news(person, Person(), "blood_type"))
    value, _, sources = held(scene, tax, person, "blood_type")
    assert (value, sources) == (O_NEGATIVE, ["moh/blood-bank"])


def test_value_that_a_higher_authority_withdraws_is_nobody_elses(scene: Scene, tax: Party, medical: Party) -> None:
    person = scene.citizen(marital_status=None)
    disputed(medical, scene.news(person, SINGLE, "marital_status"))
    disputed(scene.civil_status, scene.news(person, MARRIED, "marital_status"))
    scene.clock.go_on(timedelta(seconds=1))
    assert disputed(scene.civil_status, scene.news(person, Person(), "marital_status")) == []
    assert held(scene, tax, person, "marital_status") == (Person(), [], [])
    assert disputed(medical, scene.news(person, SINGLE, "marital_status")) == ["marital_status"]


def test_late_word_of_an_earlier_event_does_not_outlive_a_newer_one(scene: Scene, tax: Party, medical: Party) -> None:
    person = scene.citizen(blood_type=None)
    late = scene.news(person, A_POSITIVE, "blood_type")
    late.event_time.FromDatetime(scene.clock.now() - timedelta(days=300))
    disputed(medical, scene.news(person, O_NEGATIVE, "blood_type"))
    assert disputed(medical, late) == []
    assert held(scene, tax, person, "blood_type") == (O_NEGATIVE, [], ["moh/medical"])


def test_word_of_an_earlier_event_is_overtaken_and_a_later_one_disputes(
    scene: Scene, tax: Party, medical: Party
) -> None:
    person = scene.citizen(marital_status=None)
    value = scene.news(person, MARRIED, "marital_status")
    disputed(scene.civil_status, value)
    for later_by, marks in ((timedelta(days=-1), []), (timedelta(minutes=30), ["marital_status"])):
        item = scene.news(person, SINGLE, "marital_status")
        item.event_time.FromDatetime(value.event_time.ToDatetime() + later_by)
        assert disputed(medical, item) == marks
        assert held(scene, tax, person, "marital_status") == (MARRIED, marks, ["civil_status"])


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("NGUYỄN THỊ HÒA", ""),
        ("Nguyễn  Thị Hoà", ""),
        ("Nguyễn Thị Hoa", "DIACRITICS"),
        ("Nguyễn-Thị Hoà", "FORMAT"),
        ("Nguyễn Thị Lan", "SUBSTANCE"),
    ],
)
def test_discrepancy_says_what_kind_of_difference_it_is(
    scene: Scene, tax: Party, medical: Party, told: str, kind: str
) -> None:
    registered = PersonName(family="Nguyễn", middle="Thị", given="Hoà", full="Nguyễn Thị Hoà")
    person = scene.citizen(full_name=registered)
    paths = disputed(medical, scene.news(person, Person(full_name=PersonName(full=told)), "full_name"))
    assert paths == (["full_name"] if kind else [])
    assert discrepancies(scene, person) == ([("full_name", "moh/medical", kind, True)] if kind else [])
    assert held(scene, tax, person, "full_name") == (Person(full_name=registered), paths, ["identity"])


def test_birth_date_that_is_known_less_precisely_is_no_disagreement(scene: Scene, tax: Party) -> None:
    whole = Person(birth_date=Date(year=1950, month=5, day=17))
    person = scene.citizen(birth_date=whole.birth_date)
    assert disputed(scene.civil_status, scene.news(person, Person(birth_date=Date(year=1950)), "birth_date")) == []
    value, marks, sources = held(scene, tax, person, "birth_date")
    assert (value, marks, sources) == (Person(birth_date=Date(year=1950)), [], ["civil_status"])
    assert disputed(scene.identity, scene.news(person, Person(birth_date=Date(year=1951)), "birth_date")) == [
        "birth_date"
    ]


def test_items_of_a_field_are_disputed_one_by_one(scene: Scene, tax: Party) -> None:
    lan = person_pb2.RelatedPerson(pin="901190000001", name=PersonName(full="Lê Lan"))
    mai = person_pb2.RelatedPerson(pin="901190000002", name=PersonName(full="Lê Mai"))
    misspelt = person_pb2.RelatedPerson(pin=lan.pin, name=PersonName(full="Lê Làn"))
    person = scene.citizen(spouses=None)
    assert disputed(scene.civil_status, scene.news(person, Person(spouses=[lan]), "spouses")) == []
    assert disputed(scene.identity, scene.news(person, Person(spouses=[misspelt, mai]), "spouses")) == ["spouses"]
    value, marks, sources = held(scene, tax, person, "spouses")
    assert (list(value.spouses), marks, sources) == ([lan, mai], ["spouses"], ["civil_status", "identity"])
    assert discrepancies(scene, person) == [("spouses", "identity", "DIACRITICS", True)]
