"""Cursors of the feed, and changes as a follower gets them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import lane_pb2, person_pb2
from npd.sharing.v1 import change_pb2
from services.mesh.core.chain import Causation
from services.mesh.core.clock import Validity
from services.mesh.core.errors import InvalidField
from services.mesh.core.evidence.entry import Receipt
from services.mesh.core.rights import Agreement, FieldDefinition, Lane, Mode, Policy, Purpose, State
from services.sharing.changes import convert
from services.sharing.changes.domain import (
    ALL_LANES,
    Change,
    Cursor,
    CursorOutdated,
    CursorOutOfRange,
    Delivered,
    Delivery,
    Feed,
    Marks,
    in_force,
    reach,
)

FEED = Feed(incarnation=2, oldest=100, head=200)
AT = datetime(2026, 3, 14, 8, tzinfo=UTC)
ID = UUID("6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21")
CAUSATION = Causation(UUID(int=11), UUID(int=12))
positions = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize("position", [100, 150, 200])
def test_a_cursor_within_the_feed_is_its_position(position: int) -> None:
    assert FEED.require(Cursor(2, position)) == position
    assert FEED.at(position) == Cursor(2, position)


@pytest.mark.parametrize("position", [99, 0, -1, 201, 2**63 - 1])
def test_a_cursor_outside_the_feed_is_told_its_ends(position: int) -> None:
    with pytest.raises(CursorOutOfRange) as refused:
        FEED.require(Cursor(2, position))
    assert refused.value.metadata == {"incarnation": "2", "oldest": "100", "head": "200"}


@pytest.mark.parametrize("position", [150, 250, 7, -7])
@pytest.mark.parametrize("incarnation", [1, 3, 0, -1])
def test_a_cursor_of_another_incarnation_is_told_to_begin_with_the_oldest(incarnation: int, position: int) -> None:
    with pytest.raises(CursorOutdated) as refused:
        FEED.require(Cursor(incarnation, position))
    assert refused.value.metadata == {"incarnation": "2", "position": "100"}


def test_an_empty_feed_has_one_place() -> None:
    empty = Feed(1, 0, 0)
    assert empty.require(Cursor(1, 0)) == 0
    with pytest.raises(CursorOutOfRange):
        empty.require(Cursor(1, 1))


@settings(deadline=None)
@given(positions, positions, st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_place_to_resume_from_is_always_one_that_may_be_named(
    incarnation: int, position: int, oldest: int, length: int
) -> None:
    feed = Feed(2, oldest, oldest + length)
    try:
        assert feed.oldest <= feed.require(Cursor(incarnation, position)) <= feed.head
    except CursorOutOfRange:
        assert incarnation == 2
    except CursorOutdated as outdated:
        told = outdated.metadata
        assert feed.require(Cursor(int(told["incarnation"]), int(told["position"]))) >= oldest


# On the wire


def delivered(*paths: str) -> Delivered:
    person = person_pb2.Person(phone="+84", sex=person_pb2.SEX_FEMALE)
    change = Change(
        position=150,
        change_id=ID,
        subject_id=UUID(int=1),
        pin="079303012345",
        paths=("father", "phone", "sex"),
        disputed=("phone", "sex"),
        person=person.SerializeToString(),
        source="identity",
        event_time=AT,
        record_time=AT,
        causation=CAUSATION,
        lane=Lane.VITAL,
    )
    return Delivered(change, paths, Receipt("mesh.test/sharing", b"h" * 32))


def delivery(*changes: Delivered) -> Delivery:
    return Delivery(changes, Cursor(2, 150), FEED)


def test_a_change_shows_the_granted_paths_alone() -> None:
    [change] = convert.page_to_wire(delivery(delivered("father", "sex"))).changes
    assert list(change.changed_paths) == ["father", "sex"]
    assert change.citizen == person_pb2.Person(sex=person_pb2.SEX_FEMALE), "father was cleared, phone is not granted"
    assert list(change.disputed_paths) == ["sex"]
    assert (change.position, change.change_id, change.pin) == (150, str(ID), "079303012345")
    assert (change.receipt.log_origin, change.receipt.leaf_hash) == ("mesh.test/sharing", b"h" * 32)
    assert change.record_time.ToDatetime(UTC) == change.event_time.ToDatetime(UTC) == AT


def test_a_change_names_its_lane_and_its_chain() -> None:
    [change] = convert.page_to_wire(delivery(delivered("sex"))).changes
    assert change.lane == lane_pb2.LANE_VITAL
    assert change.causation.correlation_id == str(CAUSATION.correlation_id)
    assert change.causation.causation_id == str(CAUSATION.causation_id)


def test_lanes_are_those_of_the_contract() -> None:
    numbers = {f"LANE_{lane.name}": lane.value for lane in Lane}
    assert numbers == {name: number for name, number in lane_pb2.Lane.items() if number != ALL_LANES}


def test_a_room_is_told_the_internal_id_of_the_subject() -> None:
    [change] = convert.news_to_wire(replace(delivery(delivered("sex")), names_subjects=True)).changes
    assert change.subject_id == str(UUID(int=1))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=20))
def test_marks_never_go_back_and_received_is_never_behind_applied(said: list[tuple[int, int]]) -> None:
    marks = Marks("tax/core", None, 1)
    for received, applied in said:
        moved = marks.moved_to(received, applied)
        assert moved.received >= max(marks.received, moved.applied)
        assert moved.applied == max(marks.applied, applied)
        assert moved.moved_to(received, applied) == moved, "a repeat moves nothing"
        marks = moved


def agreed(mode: Mode, *, end: date, state: State = State.ACTIVE) -> Agreement:
    return Agreement(
        "a", "tax", "core", "P", "L", {mode: frozenset({"phone", "sex"})}, Validity(date(2026, 1, 1), end), state, ""
    )


@pytest.mark.parametrize(
    ("agreement", "current", "with_lapsed"),
    [
        (agreed(Mode.CHANGES, end=date(2026, 12, 31)), {"phone"}, {"phone"}),
        (agreed(Mode.CHANGES, end=date(2026, 12, 31), state=State.SUSPENDED), {"phone"}, {"phone"}),
        (agreed(Mode.CHANGES, end=date(2026, 1, 31)), set(), {"phone"}),
        (agreed(Mode.LOOKUP, end=date(2026, 12, 31)), set(), set()),
    ],
)
def test_a_follower_reaches_what_its_agreements_and_purposes_give(
    agreement: Agreement, current: set[str], with_lapsed: set[str]
) -> None:
    forever = Validity(date(2020, 1, 1))
    policy = Policy(
        agreements={"a": agreement},
        purposes={"P": Purpose("P", "", "", frozenset({"phone"}), forever)},
        fields={"pin": FieldDefinition("pin", "", False, (), forever, followers=frozenset({"residence"}))},
    )
    found = reach(policy, AT.date())
    assert found["residence"] == {"pin"}
    assert found.get("tax/core", frozenset()) == current
    assert reach(policy, AT.date(), with_lapsed=True)["tax/core"] == with_lapsed


def test_the_internal_id_of_the_subject_never_leaves_for_an_agency() -> None:
    page = convert.page_to_wire(delivery(delivered("sex"))).SerializeToString()
    assert UUID(int=1).bytes not in page
    assert str(UUID(int=1)).encode() not in page


def test_a_page_and_a_streamed_message_say_where_the_feed_stands() -> None:
    page, news = convert.page_to_wire(delivery()), convert.news_to_wire(delivery())
    assert (page.next_cursor.position, page.oldest.position, page.head.position) == (150, 100, 200)
    assert (news.cursor.position, news.head.position, news.head.incarnation) == (150, 200, 2)


def test_an_absent_cursor_is_none_and_not_the_first_place() -> None:
    assert convert.cursor_from_wire(change_pb2.PullChangesRequest()) is None
    empty = change_pb2.WatchChangesRequest(cursor=change_pb2.Cursor())
    assert convert.cursor_from_wire(empty) == Cursor(0, 0)


@settings(deadline=None)
@given(positions, positions)
def test_a_cursor_comes_back_as_it_was_given(incarnation: int, position: int) -> None:
    wire = convert.cursor_to_wire(Cursor(incarnation, position))
    assert convert.cursor_from_wire(change_pb2.PullChangesRequest(cursor=wire)) == Cursor(incarnation, position)


@pytest.mark.parametrize(("asked", "given_"), [(0, 100), (1, 1), (1000, 1000)])
def test_a_page_has_a_size(asked: int, given_: int) -> None:
    assert convert.page_size_from_wire(asked) == given_


@pytest.mark.parametrize("asked", [-1, 1001, 2**31 - 1])
def test_an_impossible_size_is_refused(asked: int) -> None:
    with pytest.raises(InvalidField) as refused:
        convert.page_size_from_wire(asked)
    assert refused.value.violations[0].field == "page_size"


def moved(lane: Lane | None, second: int) -> Marks:
    return Marks("tax/core", lane, 1, 5, 5, AT + timedelta(seconds=second))


WHOLE, VITAL, NORMAL = moved(None, 5), moved(Lane.VITAL, 6), moved(Lane.NORMAL, 6)


@pytest.mark.parametrize(
    ("marks", "left"),
    [
        ([WHOLE], [WHOLE]),
        ([VITAL, NORMAL], [VITAL, NORMAL]),
        ([WHOLE, VITAL, NORMAL], [VITAL, NORMAL]),
        ([WHOLE, VITAL], [WHOLE, VITAL]),
        ([WHOLE, moved(Lane.VITAL, 4), moved(Lane.NORMAL, 4)], [WHOLE]),
        ([WHOLE, moved(Lane.VITAL, 4), NORMAL], [WHOLE, NORMAL]),
        ([WHOLE, moved(Lane.VITAL, 5), moved(Lane.NORMAL, 5)], [WHOLE, moved(Lane.VITAL, 5), moved(Lane.NORMAL, 5)]),
    ],
)
def test_newer_marks_overtake_those_of_the_other_way_to_follow(marks: list[Marks], left: list[Marks]) -> None:
    assert in_force(marks) == left
