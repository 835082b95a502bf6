"""What a told value must be: hard rules, named by their paths, never by the value."""

import unicodedata
from collections.abc import Callable
from datetime import date

import pytest
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2, place_pb2
from services.mesh.core.errors import InvalidField
from services.mesh.core.person.pin import SandboxPin
from services.mesh.core.person.validity import normalise

TODAY = date(2026, 3, 14)
Person = person_pb2.Person
Related = person_pb2.RelatedPerson
Name = person_pb2.PersonName
FUTURE = Date(year=2026, month=3, day=15)


def normalised(person: Person, *, sandbox: bool = False) -> Person:
    normalise(person, "person.", TODAY, sandbox=sandbox)
    return person


def refused_field(person: Person) -> str:
    with pytest.raises(InvalidField) as refused:
        normalised(person)
    [violation] = refused.value.violations
    return violation.field


def good() -> Person:
    return Person(
        pin="079303012345",
        full_name=Name(family="Nguyễn", middle="Thị", given="Hoà", full="Nguyễn Thị Hoà"),
        birth_date=Date(year=2003),
        sex=person_pb2.SEX_FEMALE,
        place_of_birth=place_pb2.AdminPlace(unit_code="79", unit_list_version="2024-12-31", country_code="VN"),
        nationalities=["VN", "FR"],
        blood_type=person_pb2.BLOOD_TYPE_AB_NEGATIVE,
        old_id_number="012345678",
        id_cards=[
            person_pb2.IdentityCard(issue_date=Date(year=2021, month=5, day=3), expiry_date=Date(year=2043, month=1))
        ],
        father=Related(name=Name(full="Nguyễn Văn An"), old_id_number="012345678", nationality="VN"),
        children=[Related(pin="079223012345")],
        permanent_residence=place_pb2.Address(
            place=place_pb2.AdminPlace(unit_code="00001"), detail_text="12 Hàng Bạc", as_of_date=Date(year=2025)
        ),
        temporary_residence=person_pb2.TemporaryResidence(start_date=FUTURE, end_date=Date(year=2027, month=1, day=1)),
        temporary_absence=person_pb2.TemporaryAbsence(start_date=FUTURE),
    )


def test_a_good_person_passes_unchanged() -> None:
    assert normalised(good()) == good()
    assert normalised(Person()) == Person()


def test_texts_are_composed_in_place_at_every_depth() -> None:
    decomposed = unicodedata.normalize("NFD", "Hoà Bình")
    person = Person(
        full_name=Name(full=decomposed),
        nationalities=["VN"],
        children=[Related(name=Name(full=decomposed))],
        household=person_pb2.Household(head=Related(name=Name(full=decomposed))),
        other=[person_pb2.OtherItem(code="x", value=decomposed)],
    )
    normalised(person)
    told = [
        person.full_name.full,
        person.children[0].name.full,
        person.household.head.name.full,
        person.other[0].value,
    ]
    assert told == ["Hoà Bình"] * 4


Spoil = Callable[[Person], object]


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda p: setattr(p, "pin", "07930301234"), "person.pin"),
        (lambda p: setattr(p, "pin", "０７９３０３０１２３４５"), "person.pin"),
        (lambda p: setattr(p, "old_id_number", "12345678"), "person.old_id_number"),
        (lambda p: p.children.add(pin="1"), "person.children[1].pin"),
        (lambda p: setattr(p.father, "old_id_number", "1234567890"), "person.father.old_id_number"),
        (lambda p: setattr(p.father, "nationality", "VNM"), "person.father.nationality"),
        (lambda p: p.nationalities.append("vn"), "person.nationalities[2]"),
        (lambda p: p.nationalities.append(""), "person.nationalities[2]"),
        (lambda p: setattr(p.place_of_birth, "unit_code", "1"), "person.place_of_birth.unit_code"),
        (lambda p: setattr(p.place_of_birth, "unit_code", "0001"), "person.place_of_birth.unit_code"),
        (lambda p: setattr(p.place_of_birth, "unit_code", "٧٩"), "person.place_of_birth.unit_code"),
        (lambda p: setattr(p.place_of_birth, "country_code", "Vn"), "person.place_of_birth.country_code"),
        (lambda p: p.full_name.ClearField("full"), "person.full_name.full"),
        (lambda p: setattr(p.full_name, "full", " \u00a0"), "person.full_name.full"),
        (lambda p: setattr(p.full_name, "full", "\u200b"), "person.full_name.full"),
        (lambda p: setattr(p.full_name, "full", "x" * 201), "person.full_name.full"),
        (lambda p: p.other_names.add(given="Bé"), "person.other_names[0].full"),
        (lambda p: p.mother.name.SetInParent(), "person.mother.name.full"),
        (lambda p: setattr(p.permanent_residence, "detail_text", "x" * 501), "person.permanent_residence.detail_text"),
        (lambda p: setattr(p, "phone", "+84\x00"), "person.phone"),
        (lambda p: setattr(p, "email", "a\nb@example"), "person.email"),
        (lambda p: setattr(p.full_name, "full", "An\x7f"), "person.full_name.full"),
        (lambda p: setattr(p.full_name, "full", "An\x85"), "person.full_name.full"),
        (lambda p: setattr(p.full_name, "full", "An\ue000"), "person.full_name.full"),
        (lambda p: setattr(p, "sex", 9), "person.sex"),
        (lambda p: setattr(p, "blood_type", -1), "person.blood_type"),
        (lambda p: setattr(p.death_or_missing, "kind", 99), "person.death_or_missing.kind"),
        (lambda p: p.birth_date.CopyFrom(FUTURE), "person.birth_date"),
        (lambda p: p.birth_date.CopyFrom(Date(year=2003, month=2, day=29)), "person.birth_date"),
        (lambda p: p.birth_date.CopyFrom(Date(month=2, day=2)), "person.birth_date"),
        (lambda p: p.birth_date.CopyFrom(Date()), "person.birth_date"),
        (lambda p: p.death_or_missing.date.CopyFrom(FUTURE), "person.death_or_missing.date"),
        (lambda p: p.permanent_residence.as_of_date.CopyFrom(FUTURE), "person.permanent_residence.as_of_date"),
        (lambda p: p.id_cards[0].issue_date.CopyFrom(FUTURE), "person.id_cards[0].issue_date"),
        (lambda p: p.id_cards[0].expiry_date.CopyFrom(Date(year=2026, month=13)), "person.id_cards[0].expiry_date"),
        (lambda p: p.household.members.add().name.SetInParent(), "person.household.members[0].name.full"),
    ],
)
def test_an_impossible_value_is_refused_by_its_path(spoil: Spoil, field: str) -> None:
    person = good()
    spoil(person)
    assert refused_field(person) == field


def test_synthetic_pins_are_of_a_sandbox_at_every_depth() -> None:
    for person in (Person(pin="979303012345"), Person(spouses=[Related(pin="979303012345")])):
        with pytest.raises(SandboxPin):
            normalised(person)
        assert normalised(person, sandbox=True)


def test_lengths_are_counted_in_characters() -> None:
    person = Person(full_name=Name(full="ễ" * 200), permanent_residence=place_pb2.Address(detail_text="ễ" * 500))
    assert normalised(person) == person


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_any_text_is_stored_composed_or_refused(text: str) -> None:
    person = Person(other=[person_pb2.OtherItem(code="x", value=text)])
    if any(unicodedata.category(sign) == "Cc" or "\ue000" <= sign <= "\uf8ff" for sign in text):
        assert refused_field(person) == "person.other[0].value"
    else:
        assert normalised(person).other[0].value == unicodedata.normalize("NFC", text)


def test_a_refusal_never_repeats_the_value() -> None:
    for person in (Person(pin="secret"), Person(nationalities=["secret"]), Person(phone="secret\x00")):
        with pytest.raises(InvalidField) as refused:
            normalised(person)
        assert "secret" not in str(refused.value)


@settings(deadline=None)
@given(st.integers(-(2**31), 2**31 - 1))
def test_a_number_is_of_its_list_or_refused(number: int) -> None:
    person = Person(sex=number)  # type: ignore[arg-type]
    if number in person_pb2.Sex.values():
        assert normalised(person).sex == number
    else:
        assert refused_field(person) == "person.sex"
