"""Residences beside each other: what a new one replaces, and what it may not stand beside."""

from dataclasses import replace
from datetime import date, timedelta
from unicodedata import normalize
from uuid import UUID, uuid4

import pytest

from npd.residence.v1 import residence_pb2
from services.mesh.core.errors import InvalidField, StateNotAllowed
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import PlaceCodeUnknown, StatedIdentity
from services.residence.domain import (
    Address,
    AlreadyResident,
    ClosingGround,
    Facts,
    History,
    NewResidence,
    Residence,
    ResidenceInSameCommune,
    ResidenceKind,
    ResidenceState,
)
from services.residence.household import Joining

PERMANENT, TEMPORARY = ResidenceKind.PERMANENT, ResidenceKind.TEMPORARY
DAY = date(2026, 6, 1)
SUBJECT = UUID(int=7)
SOMEBODY = StatedIdentity("901090000001", "le an", PartialDate(1990))


def address(code: str = "00004", detail: str = "Số 1, phố Huế", version: str = "2026-04-30") -> Address:
    return Address(code, version, "", detail, PartialDate(0))


def residence(kind: ResidenceKind, at: Address, start: date | None = DAY) -> Residence:
    return Residence(uuid4(), SUBJECT, kind, at, start)


def new(kind: ResidenceKind, at: Address, start: date = DAY + timedelta(days=30)) -> NewResidence:
    return NewResidence(SOMEBODY, kind, at, start, None, None)


def test_numbers_are_those_of_the_contract() -> None:
    for enum, wire, prefix in (
        (ResidenceKind, residence_pb2.ResidenceKind, "RESIDENCE_KIND_"),
        (ResidenceState, residence_pb2.ResidenceState, "RESIDENCE_STATE_"),
        (ClosingGround, residence_pb2.ClosingGround, "CLOSING_GROUND_"),
    ):
        names = {f"{prefix}{one.name}": one.value for one in enum}
        assert {**names, f"{prefix}UNSPECIFIED": 0} == dict(wire.items())


def test_new_permanent_residence_replaces_the_old_one_on_its_first_day() -> None:
    old = residence(PERMANENT, address())
    moved = new(PERMANENT, address("00008"))
    assert History((old,)).closed_by(moved, DAY) == [old.closed(ClosingGround.MOVED, moved.start_date)]
    assert History(()).closed_by(moved, DAY) == []


def test_move_within_a_commune_is_a_move() -> None:
    old = residence(PERMANENT, address())
    (ended,) = History((old,)).closed_by(new(PERMANENT, address(detail="Số 2, phố Huế")), DAY)
    assert (ended.residence_id, ended.ground) == (old.residence_id, ClosingGround.MOVED)


@pytest.mark.parametrize("detail", ["Số 1, phố Huế", "SỐ 1,  PHỐ HUẾ ", normalize("NFD", "Số 1, phố Huế")])
def test_who_resides_there_already_is_refused(detail: str) -> None:
    with pytest.raises(AlreadyResident):
        History((residence(PERMANENT, address()),)).closed_by(new(PERMANENT, address(detail=detail)), DAY)


def test_where_somebody_has_resided_before_he_may_reside_again() -> None:
    closed = residence(PERMANENT, address()).closed(ClosingGround.EMIGRATED, DAY)
    assert History((closed,)).closed_by(new(PERMANENT, address()), DAY) == []


def test_temporary_residence_in_the_commune_of_the_new_permanent_one_ends_too() -> None:
    old, stay = residence(PERMANENT, address()), residence(TEMPORARY, address("00008", "Ngõ 3"))
    ended = History((old, stay)).closed_by(new(PERMANENT, address("00008")), DAY)
    assert [(one.residence_id, one.ground) for one in ended] == [
        (old.residence_id, ClosingGround.MOVED),
        (stay.residence_id, ClosingGround.MOVED),
    ]
    assert History((old, stay)).closed_by(new(PERMANENT, address("00025")), DAY) == ended[:1]


def test_temporary_residence_never_ends_before_it_began() -> None:
    stay = residence(TEMPORARY, address("00008"), DAY + timedelta(days=60))
    (ended,) = History((stay,)).closed_by(new(PERMANENT, address("00008")), DAY)
    assert ended.closing_date == stay.start_date


def test_second_temporary_residence_is_refused() -> None:
    with pytest.raises(AlreadyResident):
        History((residence(TEMPORARY, address("00008")),)).closed_by(new(TEMPORARY, address("00025")), DAY)


def test_expired_stay_ends_with_any_registration_and_stands_in_nobodys_way() -> None:
    last = DAY + timedelta(days=20)
    stay = replace(residence(TEMPORARY, address("00008")), end_date=last)
    expired = stay.closed(ClosingGround.EXPIRED, last)
    for wanted in (new(TEMPORARY, address("00025")), new(PERMANENT, address()), new(PERMANENT, address("00008"))):
        assert History((stay,)).closed_by(wanted, last + timedelta(days=1)) == [expired]
    assert History((stay,)).closed_by(new(PERMANENT, address()), last) == [], "its last day counts"
    with pytest.raises(AlreadyResident):
        History((stay,)).closed_by(new(TEMPORARY, address("00025")), last)
    with pytest.raises(InvalidField, match="start_date"):
        History((stay,)).closed_by(new(TEMPORARY, address("00025"), last - timedelta(days=1)), last + timedelta(days=1))


def test_stay_that_the_record_ends_before_it_began_expires_all_the_same() -> None:
    odd = replace(residence(TEMPORARY, address("00008")), end_date=DAY - timedelta(days=9), is_adopted=True)
    (expired,) = History((odd,)).closed_by(new(TEMPORARY, address("00025")), DAY)
    assert (expired.ground, expired.closing_date) == (ClosingGround.EXPIRED, DAY)


def test_only_the_household_is_new_where_somebody_lives_already() -> None:
    home = residence(PERMANENT, address())
    founding = replace(new(PERMANENT, address(detail="SỐ 1,  PHỐ HUẾ")), joining=Joining(None, None))
    assert History((home,)).home_of(founding) == home
    assert History((home,)).home_of(replace(founding, joining=None)) is None
    assert History((home,)).home_of(replace(founding, address=address("00008"))) is None
    assert History(()).home_of(founding) is None
    one = uuid4()
    assert replace(founding, joining=Joining(one, None)).is_joining(one)
    assert not founding.is_joining(None)
    assert not founding.is_joining(one)


@pytest.mark.parametrize("version", ["2026-04-30", "2025-07-01", "2024-12-31"])
def test_temporary_residence_lies_outside_the_commune_of_the_permanent_one(version: str) -> None:
    history = History((residence(PERMANENT, address(version=version)),))
    with pytest.raises(ResidenceInSameCommune):
        history.closed_by(new(TEMPORARY, address(detail="Elsewhere")), DAY)
    assert history.closed_by(new(TEMPORARY, address("00008")), DAY) == []


@pytest.mark.parametrize("code", ["", "01"])
def test_address_without_a_commune_lies_in_none(code: str) -> None:
    vague = address(code)
    assert not vague.is_in_commune_of(vague)
    assert not vague.is_same_as(vague)


@pytest.mark.parametrize("kind", list(ResidenceKind))
def test_residence_does_not_begin_before_the_one_that_went_before_has_ended(kind: ResidenceKind) -> None:
    before = residence(kind, address()).closed(ClosingGround.ABSENT, DAY + timedelta(days=9))
    with pytest.raises(InvalidField, match="start_date"):
        History((before,)).closed_by(new(kind, address("00008"), DAY + timedelta(days=8)), DAY)
    assert History((before,)).closed_by(new(kind, address("00008"), DAY + timedelta(days=9)), DAY) == []


def test_permanent_residence_does_not_begin_before_the_one_that_it_replaces() -> None:
    old = residence(PERMANENT, address())
    with pytest.raises(InvalidField, match="start_date"):
        History((old,)).closed_by(new(PERMANENT, address("00008"), DAY - timedelta(days=1)), DAY)
    (ended,) = History((old,)).closed_by(new(PERMANENT, address("00008"), DAY), DAY)
    assert ended.closing_date == DAY
    assert History((replace(old, start_date=None),)).closed_by(new(PERMANENT, address("00008"), DAY), DAY)


def test_death_that_was_annulled_does_not_bound_a_first_day() -> None:
    before = residence(PERMANENT, address()).closed(ClosingGround.DEATH, DAY + timedelta(days=9))
    assert History((before,)).closed_by(new(PERMANENT, address(), DAY), DAY) == []


def test_residence_is_closed_once_and_not_before_it_began() -> None:
    one = residence(PERMANENT, address())
    with pytest.raises(InvalidField, match="closing_date"):
        one.closed(ClosingGround.ABSENT, DAY - timedelta(days=1))
    closed = one.closed(ClosingGround.ABSENT, DAY)
    assert (closed.state, closed.ground, closed.closing_date) == (ResidenceState.CLOSED, ClosingGround.ABSENT, DAY)
    with pytest.raises(StateNotAllowed) as refused:
        closed.closed(ClosingGround.ABSENT, DAY)
    assert refused.value.metadata == {"object": f"residence {one.residence_id}", "state": "CLOSED"}


@pytest.mark.parametrize(
    ("at", "day", "field"),
    [
        (address(), date(2026, 4, 29), "unit_list_version"),
        (address(version=""), DAY, "unit_list_version"),
        (address("01"), DAY, "unit_code"),
        (address("99999"), DAY, "unit_code"),
        (address(""), DAY, "unit_code"),
        (address("001", version="2024-12-31"), date(2020, 1, 1), "unit_code"),
        (replace(address(), country_code="LA"), DAY, "country_code"),
    ],
)
def test_address_lies_in_a_commune_of_the_list_in_force(at: Address, day: date, field: str) -> None:
    with pytest.raises(PlaceCodeUnknown) as refused:
        at.require_commune(day)
    assert refused.value.metadata == {"field": f"address.place.{field}"}


def test_commune_of_the_day_is_one() -> None:
    address().require_commune(DAY)
    replace(address(), country_code="VN").require_commune(DAY)
    address("00001", version="2024-12-31").require_commune(date(2025, 6, 30))


def test_record_is_of_account_until_this_room_has_a_word_of_its_own() -> None:
    own = residence(PERMANENT, address())
    adopted = replace(own, is_adopted=True)
    assert History((own,)).has_word_on(PERMANENT)
    assert not History((own,)).has_word_on(TEMPORARY)
    assert not History((adopted,)).has_word_on(PERMANENT)
    assert History((adopted.closed(ClosingGround.DEATH, DAY),)).has_word_on(PERMANENT)


def test_somebody_lives_where_he_resides_for_a_time() -> None:
    stay = residence(TEMPORARY, address("00008"))
    assert Facts(permanent=address(), temporary=stay).current == address("00008")
    assert Facts(permanent=address()).current == address()
    assert Facts().current is None


def test_history_holds_each_residence_as_it_stands_now() -> None:
    one, other = residence(PERMANENT, address()), residence(TEMPORARY, address("00008"))
    closed = one.closed(ClosingGround.MOVED, DAY)
    history = History((one,)).with_each(closed, other)
    assert set(history.residences) == {closed, other}
    assert (history.active(PERMANENT), history.active(TEMPORARY)) == (None, other)


def test_agreement_must_grant_the_household_that_is_joined() -> None:
    plain = new(PERMANENT, address())
    assert plain.paths == ("permanent_residence",)
    assert replace(plain, joining=Joining(None, None)).paths == ("permanent_residence", "household", "relation_to_head")
    assert new(TEMPORARY, address()).paths == ("temporary_residence",)
