"""The record walks the descriptor of Person: what is told, merged and selected is just what the paths say."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2
from services.mesh.core.errors import MaskEmpty, MaskUnknownPath
from services.sharing.record import fields
from services.sharing.record.fields import PATHS, Person, Value

WITH_ITEMS = {"other_names", "id_cards", "spouses", "children", "represented", "other"}


def deep_paths(descriptor: Descriptor, prefix: str = "") -> Iterator[str]:
    """Every path below the top level that a mask may name."""
    for field in descriptor.fields:
        if prefix:
            yield prefix + field.name
        if field.message_type is not None and not field.is_repeated:
            yield from deep_paths(field.message_type, f"{prefix}{field.name}.")


DEEP = sorted(deep_paths(Person.DESCRIPTOR))
texts = st.text(st.sampled_from("aàđ '1"), max_size=4)


def fill(draw: Callable[..., Any], message: Message, depth: int = 0) -> None:
    """Set some fields of a message, of any kind that it has."""
    known, most = list(message.DESCRIPTOR.fields), 3 if depth else 6
    for field in draw(st.lists(st.sampled_from(known), max_size=most, unique=True)):
        values = [value_of(draw, field, depth) for _ in range(draw(st.integers(1, 3)) if field.is_repeated else 1)]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(values[0])
        else:
            setattr(message, field.name, values[0])


def value_of(draw: Callable[..., Any], field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        nested = message_factory.GetMessageClass(field.message_type)()
        fill(draw, nested, depth + 1)
        return nested
    if field.enum_type is not None:
        return draw(st.sampled_from(sorted(field.enum_type.values_by_number)))
    return draw(texts) if field.type == FieldDescriptor.TYPE_STRING else draw(st.integers(-3, 2030))


@st.composite
def people(draw: Callable[..., Any]) -> Person:
    person = Person()
    fill(draw, person)
    return person


def set_paths(person: Message) -> set[str]:
    return {field.name for field, _ in person.ListFields()}


def leaves(message: Message) -> dict[str, str]:
    """Every field that is set below a message, by its path; a list is one, an empty message is none."""
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        if field.message_type is None or field.is_repeated:
            found[field.name] = str(value)
        else:
            found |= {f"{field.name}.{path}": leaf for path, leaf in leaves(value).items()}
    return found


# Select


@settings(deadline=None)
@given(people())
def test_all_that_is_set_is_the_whole_person(person: Person) -> None:
    stored = person.SerializeToString()
    assert fields.select(stored, set_paths(person)) == person
    assert fields.select(stored, PATHS) == person


@settings(deadline=None)
@given(people(), st.sets(st.sampled_from(sorted(PATHS))))
def test_what_is_not_named_is_never_there(person: Person, named: set[str]) -> None:
    selected = fields.select(person.SerializeToString(), named)
    assert set_paths(selected) == named & set_paths(person)
    for path in named:
        assert getattr(selected, path) == getattr(person, path)


@settings(deadline=None)
@given(people(), st.sets(st.sampled_from([*DEEP, *PATHS]), max_size=5))
def test_deep_paths_select_exactly_themselves(person: Person, named: set[str]) -> None:
    selected = fields.select(person.SerializeToString(), sorted(named))
    below = tuple(f"{path}." for path in named)
    wanted = {leaf: value for leaf, value in leaves(person).items() if leaf in named or leaf.startswith(below)}
    assert leaves(selected) == wanted
    assert fields.select(selected.SerializeToString(), named) == selected


def test_a_list_is_not_doubled_by_a_path_above_it() -> None:
    person = Person(household=person_pb2.Household(members=[person_pb2.RelatedPerson(pin="1")]))
    for named in (["household", "household.members"], ["household.members", "household"], ["household.members"] * 2):
        assert fields.select(person.SerializeToString(), named) == person


def test_a_place_is_released_without_the_house_number() -> None:
    person = Person()
    person.permanent_residence.place.unit_code = "00001"
    person.permanent_residence.detail_text = "12 Hàng Bạc"
    selected = fields.select(person.SerializeToString(), ["permanent_residence.place"])
    assert selected.permanent_residence.place.unit_code == "00001"
    assert selected.permanent_residence.detail_text == ""


# Values


@settings(deadline=None)
@given(people())
def test_told_values_make_up_the_person_again(person: Person) -> None:
    values = list(fields.values_of(person, sorted(PATHS)))
    assert fields.merge(value.value for value in values if value.value is not None) == person
    assert {value.path for value in values if value.value is None} == PATHS - set_paths(person)


@settings(deadline=None)
@given(people(), st.sampled_from(sorted(PATHS)))
def test_a_value_holds_its_own_path_alone(person: Person, path: str) -> None:
    for value in fields.values_of(person, [path]):
        assert value.path == path
        if value.value is not None:
            assert set_paths(Person.FromString(value.value)) == {path}


@settings(deadline=None)
@given(people(), people(), st.sets(st.sampled_from(sorted(PATHS))))
def test_new_values_replace_their_paths_and_no_others(old: Person, new: Person, told: set[str]) -> None:
    values = [value.value for value in fields.values_of(new, sorted(told)) if value.value is not None]
    merged = fields.merge([fields.without(old.SerializeToString(), told), *values])
    for path in PATHS:
        assert getattr(merged, path) == getattr(new if path in told else old, path)


def test_fields_with_items_are_those_that_the_contract_marks() -> None:
    assert {path for path in PATHS if fields.has_items(path)} == WITH_ITEMS


def test_items_are_told_one_by_one_under_their_own_key() -> None:
    person = Person(children=[person_pb2.RelatedPerson(pin="1"), person_pb2.RelatedPerson(pin="2")])
    told = list(fields.values_of(person, ["children"]))
    assert [(value.path, value.item_key) for value in told] == [("children", "1"), ("children", "2")]
    assert [fields.payload(value.value or b"", "children").pin for value in told] == ["1", "2"]


def test_an_item_without_a_key_is_known_by_its_content() -> None:
    def key_of(name: str) -> str:
        child = person_pb2.RelatedPerson(name=person_pb2.PersonName(full=name))
        [value] = fields.values_of(Person(children=[child]), ["children"])
        return value.item_key

    assert key_of("Lê An") == key_of("Lê An") != key_of("Lê Anh")
    assert key_of("Lê An").startswith("sha256:")


def test_a_path_that_is_not_set_is_told_as_no_value() -> None:
    for path in ("sex", "father", "nationalities", "children"):
        assert list(fields.values_of(Person(), [path])) == [Value(path, "", None)]


# Masks


def mask(*paths: str) -> FieldMask:
    return FieldMask(paths=paths)


def test_a_mask_keeps_its_order_and_loses_its_repeats() -> None:
    assert fields.require_mask(mask("sex", "pin", "sex", "father.name"), "m") == ("sex", "pin", "father.name")
    assert fields.require_top_level(mask("sex", "pin", "sex"), "m") == ("sex", "pin")


@pytest.mark.parametrize("require", [fields.require_mask, fields.require_top_level])
def test_an_empty_mask_never_means_everything(require: Callable[[FieldMask, str], object]) -> None:
    with pytest.raises(MaskEmpty) as refused:
        require(mask(), "read_mask")
    assert refused.value.violations[0].field == "read_mask"


@settings(deadline=None)
@given(st.sampled_from([*DEEP, *PATHS]), st.sampled_from(["{}.", ".{}", "{}..", "{}.x", "{}x", "{} ", "{}.*", "*", ""]))
def test_a_path_that_does_not_exist_is_refused(path: str, spoilt: str) -> None:
    assert fields.require_mask(mask(path), "m") == (path,)
    with pytest.raises(MaskUnknownPath) as refused:
        fields.require_mask(mask("pin", spoilt.format(path)), "m")
    assert refused.value.violations[0].field == "m"


@pytest.mark.parametrize("path", ["other_names.full", "household.members.pin", "sex.value", "nationalities.0"])
def test_there_is_no_path_into_a_list_or_a_scalar(path: str) -> None:
    with pytest.raises(MaskUnknownPath) as refused:
        fields.require_mask(mask(path), "m")
    assert set(refused.value.metadata) == {"field"}


def test_text_that_is_no_field_name_is_not_repeated() -> None:
    with pytest.raises(MaskUnknownPath) as refused:
        fields.require_mask(mask("Nguyễn Văn An 079303012345"), "m")
    assert "079303012345" not in str(refused.value)


def test_a_deep_path_is_no_top_level_path() -> None:
    with pytest.raises(MaskUnknownPath):
        fields.require_top_level(mask("pin", "father.name"), "update_mask")


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_path_or_refused(path: str) -> None:
    try:
        [accepted] = fields.require_mask(mask(path), "m")
    except MaskUnknownPath:
        return
    assert accepted in {*DEEP, *PATHS}
