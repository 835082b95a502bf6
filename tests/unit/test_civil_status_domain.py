"""The rules of civil status: keys of births, ids of reservations, times told, places."""

from dataclasses import replace
from datetime import UTC, date, datetime
from unicodedata import normalize
from uuid import UUID

import pytest
from google.protobuf.descriptor import EnumDescriptor
from hypothesis import given
from hypothesis import strategies as st

from npd.civil_status.v1 import civil_status_pb2
from npd.common.v1 import person_pb2
from npd.identity.v1 import number_pb2
from services.civil_status import convert, peers
from services.civil_status.domain import (
    ActKind,
    BirthFacts,
    BirthTies,
    Coded,
    CorrectedValues,
    Facts,
    MaritalStatus,
    Place,
    Relative,
    Reservation,
    birth_keys,
    day_start,
    event_time,
    require_born_before,
    require_number_year,
    require_unit_of_its_list,
    require_units,
    reservation_id,
)
from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Causation
from services.mesh.core.errors import InvalidField
from services.mesh.core.people import Name
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import PlaceCodeUnknown

HANOI = Place("01", "2025-07-01", "")
FRANCE = Place("", "", "FR")
DAY = date(2026, 1, 15)
BIRTH = BirthFacts(
    Name("", "", "", "Lê An"), DAY, 1, HANOI, HANOI, HANOI, Coded("01", "2008", ""), ("VN",), None, None, "KS/1"
)
LAN = Caller("spiffe://agency.test/justice/civil", CallerKind.AGENCY, "justice/civil", "justice", "civil")
TIES = BirthTies(1, UUID(int=1), "lê thị mẹ", "01")
KEY = AnswerKey("/m", "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21", b"one")


def test_keys_of_a_birth_are_the_same_however_the_name_is_composed() -> None:
    keys = birth_keys("Nguyễn Văn Thuỷ", DAY, TIES)
    assert [len(key) for key in keys] == [32, 32]
    for same in (normalize("NFD", "Nguyễn Văn Thuỷ"), "NGUYỄN  văn Thủy"):
        assert birth_keys(same, DAY, TIES) == keys


@pytest.mark.parametrize(
    ("name", "day", "ties"),
    [
        ("Nguyen Van Thuy", DAY, TIES),
        ("Nguyễn Văn Thuỷ", date(2026, 1, 16), TIES),
        ("Nguyễn Văn Thuỷ", DAY, replace(TIES, sex=2)),
        ("Nguyễn Văn Thuỷ", DAY, BirthTies(1, UUID(int=2), "lê thị khác", "01")),
        ("Nguyễn Văn Thuỷ", DAY, BirthTies(1, None, "lê thị mẹ", "79")),
    ],
)
def test_keys_of_another_birth_differ(name: str, day: date, ties: BirthTies) -> None:
    assert not set(birth_keys(name, day, ties)) & set(birth_keys("Nguyễn Văn Thuỷ", DAY, TIES))


def test_mother_stated_by_name_alone_shares_a_key_with_her_number() -> None:
    by_name = birth_keys("Nguyễn Văn Thuỷ", DAY, replace(TIES, mother_id=None))
    assert len(by_name) == 1
    assert set(by_name) < set(birth_keys("Nguyễn Văn Thuỷ", DAY, TIES))


@pytest.mark.parametrize("year", [1899, 2400])
def test_year_without_a_number_is_no_year_of_birth(year: int) -> None:
    require_number_year(date(1900, 1, 1), "birth_date")
    require_number_year(date(2399, 12, 31), "birth_date")
    with pytest.raises(InvalidField):
        require_number_year(date(year, 6, 1), "birth_date")


def test_parent_is_born_before_the_child_as_far_as_is_known() -> None:
    for early in (PartialDate(0), PartialDate(2026), PartialDate(2026, 1, 14)):
        require_born_before(early, DAY, "birth.mother.pin")
    for late in (PartialDate(2026, 2), PartialDate(2026, 1, 15), PartialDate(2027)):
        with pytest.raises(InvalidField):
            require_born_before(late, DAY, "birth.mother.pin")


def test_repeat_asks_for_its_number_under_the_same_id_and_nobody_else_does() -> None:
    first = reservation_id(LAN, KEY, 0)
    assert first == reservation_id(LAN, replace(KEY, request_id=KEY.request_id.upper()), 0)
    others = {
        reservation_id(replace(LAN, identity="spiffe://agency.test/justice/other"), KEY, 0),
        reservation_id(LAN, replace(KEY, request_id="7f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"), 0),
        reservation_id(LAN, replace(KEY, payload_hash=b"two"), 0),
        reservation_id(LAN, KEY, 1),
    }
    assert len(others | {first}) == 5


@given(st.dates(date(1800, 1, 2), date(2200, 1, 1)), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_event_is_never_told_as_earlier_than_the_latest_word(day: date, told: datetime | None) -> None:
    time = event_time(day, told)
    assert time in (day_start(day), told)
    assert time >= day_start(day)
    assert told is None or time >= told


def test_day_begins_in_viet_nam() -> None:
    assert day_start(date(2026, 3, 8)) == datetime(2026, 3, 7, 17, tzinfo=UTC)


def test_places_of_a_birth_are_units_in_force_or_countries() -> None:
    require_units(BIRTH, DAY)
    require_units(replace(BIRTH, place_of_birth=FRANCE, hometown=FRANCE), DAY)
    for field in ("place_of_birth", "registration_place", "hometown"):
        for place in (Place("99", "2025-07-01", ""), Place("001", "2024-12-31", ""), Place("01", "", "")):
            with pytest.raises(PlaceCodeUnknown) as refusal:
                require_units(replace(BIRTH, **{field: place}), DAY)  # type: ignore[arg-type]  # a place each
            assert refusal.value.metadata == {"field": f"birth.{field}"}
    with pytest.raises(PlaceCodeUnknown):
        require_units(replace(BIRTH, registration_place=FRANCE), DAY)


def test_list_in_force_is_that_of_the_day_of_registration() -> None:
    require_units(BIRTH, date(2026, 4, 29))
    with pytest.raises(PlaceCodeUnknown):
        require_units(BIRTH, date(2026, 4, 30))


def test_corrected_place_is_a_unit_of_its_own_list() -> None:
    require_unit_of_its_list(Place("001", "2024-12-31", ""), "correction.hometown")
    require_unit_of_its_list(FRANCE, "correction.hometown")
    with pytest.raises(InvalidField):
        require_unit_of_its_list(Place("001", "2025-07-01", ""), "correction.hometown")


def test_corrected_paths_are_those_with_a_value() -> None:
    assert CorrectedValues().paths == ()
    assert CorrectedValues(birth_date=DAY, hometown=HANOI).paths == ("birth_date", "hometown")


@pytest.mark.parametrize(
    ("ours", "contract", "prefix"),
    [
        (ActKind, civil_status_pb2.ActKind.DESCRIPTOR, "ACT_KIND_"),
        (MaritalStatus, person_pb2.MaritalStatus.DESCRIPTOR, "MARITAL_STATUS_"),
    ],
)
def test_numbers_are_those_of_the_contract(
    ours: type[ActKind | MaritalStatus], contract: EnumDescriptor, prefix: str
) -> None:
    known = {one.name: one.value for one in ours if one.value}
    assert known == {value.name.removeprefix(prefix): value.number for value in contract.values if value.number}


def test_nothing_told_is_an_empty_person() -> None:
    assert convert.facts_to_bytes(Facts()) == b""


def test_relative_whose_name_is_not_known_is_told_by_number_alone() -> None:
    told = convert.facts_to_bytes(Facts(children=(Relative(Name("", "", "", ""), "901090000001"),)))
    (child,) = person_pb2.Person.FromString(told).children
    assert child == person_pb2.RelatedPerson(pin="901090000001")


def test_confirmation_of_a_birth_is_always_the_same_message() -> None:
    subject_id, chain = UUID(int=1), Causation(UUID(int=2), UUID(int=2))
    reservation = Reservation("901126000001", subject_id, datetime(2026, 1, 1, tzinfo=UTC))
    message = peers.confirmation(reservation, chain)
    assert message == peers.confirmation(reservation, chain)
    request = number_pb2.ConfirmPinRequest.FromString(message.payload)
    assert (request.request_id, request.pin, request.subject_id) == (
        str(message.message_id),
        "901126000001",
        str(subject_id),
    )
    assert (message.peer, message.kind, message.subject_id) == ("identity", "confirmation", subject_id)
