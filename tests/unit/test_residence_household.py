"""Households: who is in them, who is at their head."""

from uuid import UUID, uuid4

import pytest

from services.mesh.core.people import KnownPerson, Name
from services.mesh.core.person.dates import PartialDate
from services.residence.household import (
    HeadAlready,
    Household,
    Member,
    PersonNotInHousehold,
    Rehousing,
    Relation,
)

CHILD = Relation("02", "provisional", "")


def member(number: int, name: str, relation: Relation | None = None, *, is_head: bool = False) -> Member:
    known = KnownPerson(UUID(int=number), f"90109000000{number}", Name("", "", "", name), PartialDate(1990), 1)
    return Member.of(known, relation, is_head=is_head)


AN, BINH, CHI = member(1, "An", is_head=True), member(2, "Bình", CHILD), member(3, "Chi", CHILD)
HOUSEHOLD = Household(uuid4(), (CHI, BINH, AN))


def test_head_comes_first_and_others_by_name() -> None:
    assert HOUSEHOLD.head == AN
    assert HOUSEHOLD.in_order == (AN, BINH, CHI)
    assert HOUSEHOLD.without(AN.subject_id).in_order == (BINH, CHI)


def test_nobody_is_in_a_stated_relation_to_a_new_head_and_the_former_one_stays() -> None:
    headed = HOUSEHOLD.headed_by(BINH.subject_id)
    assert headed.in_order == (
        member(2, "Bình", is_head=True),
        member(1, "An"),
        member(3, "Chi"),
    )


def test_household_without_a_head_gets_one() -> None:
    vacant = HOUSEHOLD.without(AN.subject_id)
    assert vacant.head is None
    assert vacant.headed_by(CHI.subject_id).in_order == (member(3, "Chi", is_head=True), member(2, "Bình"))


def test_only_a_member_becomes_head_and_only_once() -> None:
    with pytest.raises(PersonNotInHousehold):
        HOUSEHOLD.headed_by(UUID(int=9))
    with pytest.raises(HeadAlready) as refused:
        HOUSEHOLD.headed_by(AN.subject_id)
    assert refused.value.metadata["object"] == f"household {HOUSEHOLD.household_id}"
    assert refused.value.reason == "STATE_NOT_ALLOWED"


def test_who_joins_twice_is_one_member() -> None:
    assert HOUSEHOLD.with_member(member(2, "Bình")).in_order == (AN, member(2, "Bình"), CHI)


def test_household_misses_its_head_only_if_somebody_stays() -> None:
    left = HOUSEHOLD.without(AN.subject_id)
    assert Rehousing(left, None, was_head=True).is_headless
    assert not Rehousing(left, None, was_head=False).is_headless
    assert not Rehousing(Household(uuid4(), ()), None, was_head=True).is_headless
    assert not Rehousing().is_headless
