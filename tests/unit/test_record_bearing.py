"""What a record bears out: only what a claim sets is compared, and what the record lacks is not known."""

from typing import Any

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.person_pb2 import (
    CodedValue,
    Household,
    IdentityCard,
    OtherItem,
    Person,
    PersonName,
    RelatedPerson,
)
from npd.common.v1.place_pb2 import Address, AdminPlace
from services.mesh.core.person import text
from services.sharing.record.bearing import Bearing, bearing
from services.sharing.record.fields import values_of

AGREES, DIFFERS, SILENT = Bearing.AGREES, Bearing.DIFFERS, Bearing.SILENT
AN, BINH = PersonName(full="Lê An"), PersonName(full="Lê Bình")
PIN, OTHER_PIN = "901090000001", "901090000002"
OLD_LIST, NEW_LIST = "2024-12-31", "2025-07-01"


def said(path: str, claim: Any, record: Any) -> Bearing:
    claimed, held = (Person(**{path: value}) for value in (claim, record))
    return bearing(path, [value.value for value in values_of(claimed, [path]) if value.value is not None], held)


def card(number: str = "", **parts: Any) -> IdentityCard:
    return IdentityCard(document_number=number, **parts)


def child(pin: str = "", name: PersonName | None = None, nationality: str = "") -> RelatedPerson:
    return RelatedPerson(pin=pin, name=name, nationality=nationality)


def address(code: str = "01", version: str = NEW_LIST, street: str = "", **more: Any) -> Address:
    return Address(place=AdminPlace(unit_code=code, unit_list_version=version), detail_text=street, **more)


HELD_CARD = card("1", issue_date=Date(year=2020, month=2, day=3), issuing_office="Cục")


@pytest.mark.parametrize(
    ("claim", "bearing_of_it"),
    [
        (card("1"), AGREES),
        (card("1", issuing_office="cục"), AGREES),
        (card("1", issue_date=Date(year=2020)), AGREES),
        (card("1", issue_date=Date(year=2021)), DIFFERS),
        (card("1", expiry_date=Date(year=2030)), SILENT),
        (card("1", issuing_office="Sở", expiry_date=Date(year=2030)), DIFFERS),
        (card("2"), DIFFERS),
        (card(issuing_office="Cục"), AGREES),
        (card(), SILENT),
    ],
)
def test_card_is_compared_by_its_number_and_by_what_the_claim_sets(claim: IdentityCard, bearing_of_it: Bearing) -> None:
    assert said("id_cards", [claim], [card("9"), HELD_CARD]) is bearing_of_it


@pytest.mark.parametrize(
    ("claim", "held", "bearing_of_it"),
    [
        (child(PIN), child(PIN, AN, "VN"), AGREES),
        (child(PIN, AN), child(PIN, AN, "VN"), AGREES),
        (child(PIN, AN, "FR"), child(PIN, AN, "VN"), DIFFERS),
        (child(PIN, BINH), child(PIN, AN), DIFFERS),
        (child(PIN, AN), child("", AN), SILENT),
        (child(PIN, AN), child("", BINH), DIFFERS),
        (child(OTHER_PIN, AN), child(PIN, AN), DIFFERS),
        (child("", AN), child(PIN, AN), AGREES),
        (child("", BINH), child(PIN, AN), DIFFERS),
    ],
)
def test_child_may_be_claimed_by_pin_or_by_name(claim: RelatedPerson, held: RelatedPerson, bearing_of_it: Any) -> None:
    assert said("children", [claim], [held]) is bearing_of_it


def test_item_under_the_claimed_key_is_the_one_that_counts() -> None:
    held = [child(PIN, AN), child("", BINH)]
    assert said("children", [child(PIN, BINH)], held) is DIFFERS
    assert said("children", [child(PIN), child(OTHER_PIN)], held) is SILENT, "the one without a PIN may be it"
    assert said("children", [child(PIN, BINH), child(OTHER_PIN)], held) is DIFFERS


@pytest.mark.parametrize(
    ("claim", "held", "bearing_of_it"),
    [
        (address(), address(street="số 1"), AGREES),
        (address(street="số 1"), address(), SILENT),
        (address(street="số 1"), address(street="số 2"), DIFFERS),
        (address("79", street="số 1"), address(), DIFFERS),
        (address(as_of_date=Date(year=2020)), address(as_of_date=Date(year=2021)), AGREES),
        (Address(as_of_date=Date(year=2020)), address(), SILENT),
        (address("01", OLD_LIST), address("79"), SILENT),
        (address("01", OLD_LIST, "số 1"), address("79", street="số 2"), DIFFERS),
        (Address(detail_text="số 1"), address(street="Số  1"), AGREES),
    ],
)
def test_address_is_compared_part_by_part(claim: Address, held: Address, bearing_of_it: Bearing) -> None:
    assert said("permanent_residence", claim, held) is bearing_of_it


@pytest.mark.parametrize(
    ("claim", "held", "bearing_of_it"),
    [
        (["VN"], ["VN", "FR"], AGREES),
        (["FR", "VN"], ["VN", "FR"], AGREES),
        (["VN", "LA"], ["VN", "FR"], DIFFERS),
    ],
)
def test_each_claimed_nationality_is_held(claim: list[str], held: list[str], bearing_of_it: Bearing) -> None:
    assert said("nationalities", claim, held) is bearing_of_it


@pytest.mark.parametrize(
    ("claim", "held", "bearing_of_it"),
    [
        (PersonName(full="Lê An"), PersonName(family="Lê", given="An", full="Lê An"), AGREES),
        (PersonName(family="Lê", full="Lê An"), PersonName(family="Lê", given="An", full="Lê An"), AGREES),
        (PersonName(family="Trần", full="Lê An"), PersonName(family="Lê", given="An", full="Lê An"), DIFFERS),
        (PersonName(family="Trần", full="Lê An"), AN, SILENT),
        (PersonName(family="Le", full="Lê An"), PersonName(family="Lê", full="Lê An"), DIFFERS),
    ],
)
def test_every_part_of_a_name_counts(claim: PersonName, held: PersonName, bearing_of_it: Bearing) -> None:
    assert said("full_name", claim, held) is bearing_of_it


def test_codes_of_different_lists_are_not_comparable() -> None:
    held = CodedValue(code="01", list_version="2")
    assert said("ethnicity", CodedValue(code="02", list_version="1"), held) is SILENT
    assert said("ethnicity", CodedValue(code="02", list_version="2"), held) is DIFFERS
    assert said("ethnicity", CodedValue(code="01", list_version="2"), held) is AGREES
    assert said("other", [OtherItem(code="A", value="1")], [OtherItem(code="A", value="2")]) is DIFFERS


def test_lists_below_a_field_are_compared_item_by_item() -> None:
    held = Household(head=child(PIN, AN), members=[child(PIN, AN), child(OTHER_PIN, BINH)])
    assert said("household", Household(members=[child(OTHER_PIN)]), held) is AGREES
    assert said("household", Household(head=child(PIN), members=[child("901090000003")]), held) is DIFFERS
    assert said("household", Household(members=[child(PIN)]), Household(head=child(PIN))) is SILENT


def test_each_text_is_brought_into_its_form_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one call could keep the room busy for long: items without a key are compared with all that are held."""
    seen, key_of = list[str](), text.name_key

    def counted(name: str) -> str:
        seen.append(name)
        return key_of(name)

    monkeypatch.setattr(text, "name_key", counted)
    held = [child("", PersonName(full=f"An {nth}")) for nth in range(100)]
    assert said("children", held, held) is AGREES
    assert sorted(seen) == sorted({"", *(one.name.full for one in held)})
