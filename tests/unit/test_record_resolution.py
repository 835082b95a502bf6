"""What the record holds when several sources tell: the rule of authority, corrections, and discrepancies."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2
from services.mesh.core.clock import Validity
from services.mesh.core.rights import FieldDefinition
from services.sharing.record.comparison import Difference
from services.sharing.record.fields import Person
from services.sharing.record.resolution import (
    Assertion,
    Discrepancy,
    Resolution,
    resolve,
    resolve_all,
    source_class,
)

START = datetime(2026, 1, 5, tzinfo=UTC)
RULE = FieldDefinition("sex", "L26", False, ("civil_status", "identity", "agency"), Validity(date(2024, 7, 1)))
MALE, FEMALE = (Person(sex=sex).SerializeToString() for sex in (person_pb2.SEX_MALE, person_pb2.SEX_FEMALE))
SOURCES = ("civil_status", "identity", "residence", "moh/medical", "tax/core")


def told(ordinal: int, source: str, value: bytes | None, day: int = 0, path: str = "sex", key: str = "") -> Assertion:
    event_time = START + timedelta(days=day)
    return Assertion(ordinal, path, key, source, value, event_time, START + timedelta(days=ordinal))


def value_of(resolution: Resolution) -> bytes | None:
    return resolution.current.value if resolution.current else None


def sources_in_dispute(resolution: Resolution) -> set[str]:
    return {one.source for one in resolution.discrepancies}


words = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from([MALE, FEMALE, None]), st.integers(0, 5)), max_size=8
)


def assertions(said: Sequence[tuple[str, bytes | None, int]]) -> list[Assertion]:
    return [told(ordinal, *word) for ordinal, word in enumerate(said, start=1)]


def test_nothing_told_is_nothing_held() -> None:
    assert resolve([], RULE) == Resolution(None, ())


def test_the_higher_authority_holds_whenever_it_came() -> None:
    first, second = told(1, "identity", MALE), told(2, "civil_status", FEMALE)
    resolution = resolve([first, second], RULE)
    assert resolution == Resolution(second, (Discrepancy("sex", "", "identity", Difference.SUBSTANCE),))
    lower_later = resolve([told(1, "civil_status", FEMALE), told(2, "identity", MALE, day=9)], RULE)
    assert (value_of(lower_later), sources_in_dispute(lower_later)) == (FEMALE, {"identity"})


def test_of_equals_the_first_holds() -> None:
    resolution = resolve([told(1, "moh/medical", MALE), told(2, "tax/core", FEMALE, day=9)], RULE)
    assert (value_of(resolution), sources_in_dispute(resolution)) == (MALE, {"tax/core"})


def test_a_source_without_authority_comes_after_all_that_have_it() -> None:
    resolution = resolve([told(1, "residence", MALE), told(2, "tax/core", FEMALE)], RULE)
    assert (value_of(resolution), sources_in_dispute(resolution)) == (FEMALE, {"residence"})
    without_rule = resolve([told(1, "residence", MALE), told(2, "civil_status", FEMALE)], None)
    assert value_of(without_rule) == MALE


def test_a_source_may_correct_itself_and_keeps_its_place() -> None:
    said = [told(1, "moh/medical", MALE), told(2, "tax/core", FEMALE), told(3, "moh/medical", FEMALE, day=1)]
    assert resolve(said, RULE) == Resolution(said[2], ())


def test_late_news_of_an_older_event_corrects_nothing() -> None:
    said = [told(1, "identity", FEMALE, day=5), told(2, "identity", MALE, day=1)]
    assert resolve(said, RULE) == Resolution(said[0], ())


def test_of_one_moment_the_later_word_counts() -> None:
    assert value_of(resolve([told(1, "identity", FEMALE), told(2, "identity", MALE)], RULE)) == MALE


def test_a_source_may_withdraw_what_it_said() -> None:
    assert resolve([told(1, "identity", MALE), told(2, "identity", None)], RULE) == Resolution(None, ())
    said = [told(1, "tax/core", MALE), told(2, "identity", MALE), told(3, "tax/core", None, day=1)]
    lower = resolve(said, RULE)
    assert (value_of(lower), sources_in_dispute(lower)) == (MALE, set()), "who tells none contradicts nobody"


def test_that_there_is_none_any_more_is_a_word_of_authority_too() -> None:
    said = [told(1, "identity", MALE), told(2, "tax/core", FEMALE), told(3, "identity", None, day=1)]
    assert resolve(said, RULE) == Resolution(None, ())
    again = resolve([*said, told(4, "tax/core", FEMALE, day=2)], RULE)
    assert (value_of(again), sources_in_dispute(again)) == (None, {"tax/core"})


def test_a_word_of_an_earlier_event_is_overtaken_not_contradicted() -> None:
    assert resolve([told(1, "tax/core", FEMALE), told(2, "identity", MALE, day=1)], RULE).discrepancies == ()
    later = resolve([told(1, "tax/core", FEMALE, day=1), told(2, "identity", MALE)], RULE)
    assert (value_of(later), sources_in_dispute(later)) == (MALE, {"tax/core"})


def test_a_discrepancy_closes_when_they_agree_again() -> None:
    said = [told(1, "identity", MALE), told(2, "tax/core", FEMALE)]
    assert sources_in_dispute(resolve(said, RULE)) == {"tax/core"}
    for who in ("tax/core", "identity"):
        settled = told(3, who, MALE if who == "tax/core" else FEMALE, day=1)
        assert resolve([*said, settled], RULE).discrepancies == ()


def test_another_way_of_writing_is_no_discrepancy() -> None:
    one, other, plain = (
        Person(full_name=person_pb2.PersonName(full=full)).SerializeToString()
        for full in ("Trần Thị Hoà", "TRẦN THỊ HÒA", "Tran Thi Hoa")
    )
    said = [told(n, who, v, path="full_name") for n, (who, v) in enumerate([("a", one), ("b", other), ("c", plain)], 1)]
    [found] = resolve(said, None).discrepancies
    assert found == Discrepancy("full_name", "", "c", Difference.DIACRITICS)


@pytest.mark.parametrize(("source", "named"), [("identity", "identity"), ("tax/core", "agency")])
def test_rooms_are_named_and_systems_are_agencies(source: str, named: str) -> None:
    assert source_class(source) == named


@settings(deadline=None)
@given(words, st.randoms(use_true_random=False))
def test_the_order_in_which_assertions_are_read_never_matters(
    said: list[tuple[str, bytes | None, int]], chance: random.Random
) -> None:
    stored = assertions(said)
    shuffled = chance.sample(stored, len(stored))
    assert value_of(resolve(shuffled, RULE)) == value_of(resolve(stored, RULE))
    assert set(resolve(shuffled, RULE).discrepancies) == set(resolve(stored, RULE).discrepancies)


@settings(deadline=None)
@given(st.permutations([("civil_status", FEMALE, 0), ("identity", MALE, 0), ("tax/core", MALE, 0)]))
def test_the_order_of_arrival_never_matters_to_authority(said: list[tuple[str, bytes | None, int]]) -> None:
    resolution = resolve(assertions(said), RULE)
    assert (value_of(resolution), sources_in_dispute(resolution)) == (FEMALE, {"identity", "tax/core"})


@settings(deadline=None)
@given(words)
def test_the_holder_is_of_the_highest_rank_and_all_others_are_weighed(
    said: list[tuple[str, bytes | None, int]],
) -> None:
    stored = assertions(said)
    latest = {one.source: one for one in sorted(stored, key=lambda one: (one.event_time, one.ordinal))}
    resolution = resolve(stored, RULE)
    highest = {source for source in latest if rank(source) == min(map(rank, latest))}
    holder = resolution.current
    if holder is None:
        assert not latest or any(latest[source].value is None for source in highest)
    else:
        assert holder is latest[holder.source]
        assert holder.source in highest
        contradicting = {
            source
            for source, one in latest.items()
            if one.value not in (None, holder.value) and one.event_time >= holder.event_time
        }
        assert sources_in_dispute(resolution) == contradicting


def rank(source: str) -> int:
    order = ["civil_status", "identity", "moh/medical tax/core", "residence"]
    return next(place for place, names in enumerate(order) if source in names)


@settings(deadline=None)
@given(words, st.sampled_from(SOURCES))
def test_nobody_but_its_source_or_a_higher_one_changes_a_value(
    said: list[tuple[str, bytes | None, int]], newcomer: str
) -> None:
    stored = assertions(said)
    before = resolve(stored, RULE).current
    after = resolve([*stored, told(99, newcomer, FEMALE, day=9)], RULE).current
    if before and newcomer != before.source and rank(newcomer) >= rank(before.source):
        first = {one.source: one.ordinal for one in reversed(stored)}
        if rank(newcomer) > rank(before.source) or first.get(newcomer, 99) > first[before.source]:
            assert after == before


def test_paths_and_items_are_resolved_apart_and_in_order() -> None:
    said = [
        told(1, "identity", b"x", path="spouses", key="2"),
        told(2, "identity", b"y", path="spouses", key="1"),
        told(3, "identity", MALE),
        told(4, "tax/core", FEMALE),
    ]
    for order in permutations(said):
        resolved = resolve_all(order, {"sex": RULE})
        assert list(resolved) == [("sex", ""), ("spouses", "1"), ("spouses", "2")]
        assert [one.current and one.current.ordinal for one in resolved.values()] == [3, 2, 1]
        assert sources_in_dispute(resolved["sex", ""]) == {"tax/core"}
