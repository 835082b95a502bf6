"""Whether two sources tell the same, and of what kind their difference is."""

from typing import Any

import pytest
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2, place_pb2
from services.sharing.record.comparison import Difference, difference
from services.sharing.record.fields import Person

Name = person_pb2.PersonName
Related = person_pb2.RelatedPerson
Address = place_pb2.Address
DIACRITICS, FORMAT, SUBSTANCE = Difference.DIACRITICS, Difference.FORMAT, Difference.SUBSTANCE


def between(path: str, one: Any, other: Any) -> Difference | None:
    """The difference of two values of a path; it never depends on who comes first."""
    told = [None if value is None else Person(**{path: value}).SerializeToString() for value in (one, other)]
    found = difference(path, told[0], told[1])
    assert found == difference(path, told[1], told[0])
    return found


def name(full: str) -> Name:
    return Name(full=full)


@pytest.mark.parametrize(
    ("path", "one", "other", "kind"),
    [
        ("full_name", name("Nguyễn Thị Hoà"), name("NGUYỄN  THỊ HÒA"), None),
        ("full_name", Name(family="Lê", full="Lê An"), Name(given="An", full="Lê An"), None),
        ("full_name", name("Nguyễn Thị Hoà"), name("Nguyen Thi Hoa"), DIACRITICS),
        ("full_name", name("Đặng Hoà"), name("Dang Hóa"), DIACRITICS),
        ("full_name", name("H'Mông"), name("HMông"), FORMAT),
        ("full_name", name("Lê Thị An"), name("Lê An"), SUBSTANCE),
        ("phone", "+84 90 123 4567", "+84901234567", FORMAT),
        ("phone", "+84901234567", "+84901234568", SUBSTANCE),
        ("email", "An@Example.vn", "an@example.vn", None),
        ("sex", person_pb2.SEX_MALE, person_pb2.SEX_FEMALE, SUBSTANCE),
        ("birth_date", Date(year=1990, month=5, day=1), Date(year=1990), None),
        ("birth_date", Date(year=1990, month=5), Date(year=1990, month=6), SUBSTANCE),
        ("nationalities", ["VN"], ["VN", "FR"], SUBSTANCE),
        ("nationalities", ["VN", "FR"], ["VN", "US"], SUBSTANCE),
        ("father", Related(name=name("Lê Hoà")), Related(name=name("LÊ HÒA")), None),
        ("father", Related(name=name("Lê Hoà")), Related(name=name("Le Hoa")), DIACRITICS),
        ("father", Related(name=name("Lê Hoà"), pin="1"), Related(name=name("Le Hoa"), pin="2"), SUBSTANCE),
        ("father", Related(pin="1"), Related(pin="1", name=name("Lê An")), SUBSTANCE),
        ("permanent_residence", Address(detail_text="12 Hàng Bạc"), Address(detail_text="12, Hàng Bạc"), FORMAT),
        (
            "permanent_residence",
            Address(detail_text="12 Hàng Bạc", as_of_date=Date(year=2025)),
            Address(detail_text="12 hàng bạc", as_of_date=Date(year=2025, month=3)),
            None,
        ),
    ],
)
def test_differences_are_named_by_their_kind(path: str, one: Any, other: Any, kind: Difference | None) -> None:
    assert between(path, one, other) is kind


def test_no_value_differs_in_substance_from_any() -> None:
    assert between("sex", None, person_pb2.SEX_MALE) is SUBSTANCE
    assert between("sex", None, None) is None


def test_items_are_compared_one_by_one() -> None:
    one, other = [Related(pin="1", name=name("Lê Hoà"))], [Related(pin="1", name=name("Lê Hóa"))]
    assert between("children", one, other) is DIACRITICS


def test_the_heaviest_difference_counts() -> None:
    one = Address(detail_text="12 Hàng Bạc", place=place_pb2.AdminPlace(unit_code="00001"))
    other = Address(detail_text="12 Hang Bac", place=place_pb2.AdminPlace(unit_code="00004"))
    assert between("permanent_residence", one, other) is SUBSTANCE


@settings(deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_two_texts_can_be_compared(one: str, other: str) -> None:
    found = between("email", one or "x", other or "x")
    if one == other:
        assert found is None


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=12))
def test_case_and_blanks_around_never_make_a_difference(text: str) -> None:
    assert between("email", text, f"  {text}\u200b ") is None


@settings(deadline=None)
@given(st.text(st.sampled_from("aăâáàảnđ"), min_size=1, max_size=6), st.sampled_from("-.,/ "))
def test_signs_between_the_letters_are_a_matter_of_format(text: str, sign: str) -> None:
    found = between("email", f"{text}{sign}b", f"{text}b")
    assert found is FORMAT
