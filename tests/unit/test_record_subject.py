"""A subject in the hands of one transaction: what telling changes, and what it leaves alone."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2
from services.mesh.core.clock import Validity
from services.mesh.core.person import text
from services.mesh.core.rights import FieldDefinition
from services.sharing.record.fields import PATHS, Person, merge, values_of
from services.sharing.record.resolution import resolve_all
from services.sharing.record.subject import Effect, Subject, Telling, finding_columns

NOW = datetime(2026, 3, 14, 8, tzinfo=UTC)
ID = UUID("6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21")
RULES = {
    path: FieldDefinition(path, "L26", False, ("identity", "agency"), Validity(date(2024, 7, 1))) for path in PATHS
}
MALE, FEMALE = person_pb2.SEX_MALE, person_pb2.SEX_FEMALE


def tell(subject: Subject, source: str, *paths: str, day: int = 0, **values: Any) -> Effect:
    """Tell some fields; `paths` are those told as held no more."""
    person = Person(**values)
    at = NOW + timedelta(days=day)
    told = tuple(values_of(person, [*values, *paths]))
    return subject.tell(Telling(source, f"e-{len(subject.told)}", told, at, at), NOW, RULES)


def record(subject: Subject) -> Person:
    return Person.FromString(subject.person)


def related(pin: str) -> person_pb2.RelatedPerson:
    return person_pb2.RelatedPerson(pin=pin)


def test_a_first_telling_makes_the_record() -> None:
    subject = Subject(ID, "079303012345")
    effect = tell(subject, "identity", pin="079303012345", sex=FEMALE)
    assert effect == Effect(("pin", "sex"), ())
    assert record(subject) == Person(pin="079303012345", sex=FEMALE)
    assert (subject.assertion_count, [one.ordinal for one, _ in subject.told]) == (2, [1, 2])


def test_what_is_not_told_of_stays_as_it_is() -> None:
    stored = Person(pin="079303012345", sex=FEMALE, phone="+84").SerializeToString()
    subject = Subject(ID, "079303012345", person=stored, disputed=(), assertion_count=40)
    effect = tell(subject, "tax/core", phone="+85")
    assert effect == Effect(("phone",), ())
    assert record(subject) == Person(pin="079303012345", sex=FEMALE, phone="+85")
    assert subject.told[0][0].ordinal == 41


def test_telling_the_same_again_changes_nothing() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", sex=FEMALE, nationalities=["VN"])
    before = subject.person
    assert tell(subject, "identity", day=1, sex=FEMALE, nationalities=["VN"]) == Effect((), ())
    assert subject.person == before
    assert subject.assertion_count == 4, "that it was told again is kept"


def test_another_value_is_not_followed_and_marks_the_field() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", sex=FEMALE, phone="+84")
    effect = tell(subject, "tax/core", sex=MALE, phone="+84")
    assert effect == Effect(("sex",), ("sex",))
    assert record(subject).sex == FEMALE
    assert subject.disputed == ("sex",)
    assert {one.source for one in subject.discrepancies} == {"tax/core"}


def test_a_dispute_ends_when_they_agree_again() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", sex=FEMALE)
    tell(subject, "tax/core", sex=MALE)
    assert tell(subject, "tax/core", day=1, sex=FEMALE) == Effect(("sex",), ())
    assert (subject.disputed, subject.discrepancies) == ((), frozenset())


def test_a_higher_authority_changes_the_value_and_leaves_the_other_in_dispute() -> None:
    subject = Subject(ID, "1")
    tell(subject, "tax/core", sex=MALE)
    assert tell(subject, "identity", sex=FEMALE) == Effect(("sex",), ())
    assert (record(subject).sex, subject.disputed) == (FEMALE, ("sex",))


def test_a_dispute_elsewhere_is_not_touched() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", sex=FEMALE)
    tell(subject, "tax/core", sex=MALE)
    subject.stored_discrepancies = subject.discrepancies
    effect = tell(subject, "tax/core", phone="+84")
    assert effect == Effect(("phone",), ())
    assert subject.disputed == ("sex",)
    assert subject.discrepancies == subject.stored_discrepancies


def test_a_field_held_no_more_is_cleared() -> None:
    subject = Subject(ID, "1")
    tell(subject, "residence", temporary_absence=person_pb2.TemporaryAbsence(start_date=Date(year=2026)))
    assert tell(subject, "residence", "temporary_absence", day=1) == Effect(("temporary_absence",), ())
    assert record(subject) == Person()


def test_items_are_told_apart_and_stay_unless_told_of() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", children=[related("2"), related("1")])
    effect = tell(subject, "identity", day=1, children=[related("3")])
    assert effect == Effect(("children",), ())
    assert [child.pin for child in record(subject).children] == ["1", "2", "3"]
    named = person_pb2.RelatedPerson(pin="1", nationality="VN")
    tell(subject, "tax/core", children=[named])
    assert subject.disputed == ("children",)
    assert [one.item_key for one in subject.discrepancies] == ["1"]


def test_all_items_of_a_source_can_be_taken_back_at_once_and_none_of_another() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", children=[related("1"), related("2")])
    tell(subject, "civil_status", children=[related("3")])
    assert tell(subject, "identity", "children", day=1) == Effect(("children",), ())
    assert [child.pin for child in record(subject).children] == ["3"]
    assert tell(subject, "nobody", "children", day=2) == Effect((), ())


def test_a_new_pin_becomes_the_pin_in_force() -> None:
    subject = Subject(ID, "1")
    tell(subject, "identity", pin="2")
    assert subject.pin == "2"
    tell(subject, "identity", "pin", day=1)
    assert subject.pin == "2", "without any PIN the last one stays"


def test_columns_of_finding_are_those_of_the_record() -> None:
    person = Person(full_name=person_pb2.PersonName(full="Trần Thị Hoà"), birth_date=Date(year=1990, month=5))
    columns = finding_columns(person.SerializeToString())
    assert (columns.name_key, columns.birth) == (text.name_key("TRẦN THỊ HÒA"), (1990, 5, 0))
    assert finding_columns(b"").name_key == ""
    assert finding_columns(b"").birth == (0, 0, 0)


FIELDS: dict[str, list[Any]] = {
    "sex": [MALE, FEMALE],
    "phone": ["+84", "+85"],
    "nationalities": [["VN"], ["VN", "FR"]],
    "father": [related("8"), related("9")],
    "children": [[related("5")], [related("6"), related("7")]],
}
tellings = st.lists(
    st.tuples(
        st.sampled_from(["identity", "residence", "tax/core", "moh/medical"]),
        st.dictionaries(st.sampled_from(sorted(FIELDS)), st.integers(0, 1), max_size=3),
        st.sets(st.sampled_from(sorted(FIELDS)), max_size=1),
        st.integers(0, 3),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(tellings)
def test_an_effect_names_exactly_what_changed(said: list[tuple[str, dict[str, int], set[str], int]]) -> None:
    subject = Subject(ID, "1")
    for source, chosen, gone, day in said:
        before, disputed = record(subject), set(subject.disputed)
        values = {path: FIELDS[path][choice] for path, choice in chosen.items()}
        effect = tell(subject, source, *(gone - set(chosen)), day=day, **values)
        after = record(subject)
        differing = {path for path in PATHS if plain(after, path) != plain(before, path)}
        assert set(effect.changed_paths) == differing | (disputed ^ set(subject.disputed))
        assert set(effect.changed_paths) <= set(chosen) | gone
        assert set(effect.not_followed) == {
            one.path for one in subject.discrepancies if one.source == source and one.path in set(chosen) | gone
        }
        assert set(subject.disputed) == {one.path for one in subject.discrepancies}


@settings(deadline=None)
@given(tellings)
def test_the_record_is_always_what_its_assertions_resolve_to(
    said: list[tuple[str, dict[str, int], set[str], int]],
) -> None:
    subject = Subject(ID, "1")
    for source, chosen, gone, day in said:
        tell(subject, source, *(gone - set(chosen)), day=day, **{p: FIELDS[p][c] for p, c in chosen.items()})
        resolved = resolve_all(subject.assertions, RULES).values()
        held = [one.current.value for one in resolved if one.current and one.current.value]
        assert subject.person == merge(held).SerializeToString(deterministic=True)
        assert subject.discrepancies == {one for resolution in resolved for one in resolution.discrepancies}


def plain(person: Person, path: str) -> str:
    value = getattr(person, path)
    return str(value.SerializeToString(deterministic=True) if isinstance(value, Message) else list_of(value))


def list_of(value: Any) -> Any:
    return [str(item) for item in value] if hasattr(value, "__len__") and not isinstance(value, str) else value
