"""Refusals as entries: one each up to ten a minute, then one a minute with a count; nobody can fill the log."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import MeshError
from services.mesh.core.evidence import refusals
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.evidence.refusals import LISTED_A_MINUTE, RefusalRate
from services.mesh.core.rights import Access, AgreementExpired, OfficerNotOnRoster

CALLER = Caller("spiffe://agency.test.npd.example/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")
OTHER = Caller("spiffe://agency.test.npd.example/moh/medical", CallerKind.AGENCY, "moh/medical", "moh", "medical")
METHOD = "/npd.sharing.v1.LookupService/GetCitizen"
EXPIRED = AgreementExpired(agreement="a-1", end_date="2026-01-01")
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 14, 8, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


def counts(entries: list[Entry]) -> list[int]:
    return [entry.count for entry in entries]


def refuse(rate: RefusalRate, times: int, error: MeshError = EXPIRED, caller: Caller = CALLER) -> list[Entry]:
    return [entry for _ in range(times) for entry in rate.due(caller, METHOD, error)]


def test_a_refusal_is_an_entry_with_its_reason() -> None:
    [entry] = RefusalRate(Clock()).due(CALLER, METHOD, EXPIRED)
    assert entry == Entry(CALLER, METHOD, Outcome.REFUSED, reason="AGREEMENT_EXPIRED", count=1)


def test_a_refusal_keeps_the_ground_that_was_stated_and_a_count_has_none() -> None:
    rate, stated = RefusalRate(Clock()), Access("a-1", "HS-1", "o-1")
    [entry] = rate.due(CALLER, METHOD, EXPIRED, stated)
    assert entry.stated == stated
    refuse(rate, 10)
    [counted] = rate.overdue(all_of_them=True)
    assert (counted.count, counted.stated) == (1, None)


def test_ten_a_minute_are_listed_and_the_rest_is_counted() -> None:
    clock = Clock()
    rate = RefusalRate(clock)
    assert counts(refuse(rate, 25)) == [1] * LISTED_A_MINUTE == [1] * 10
    assert rate.overdue() == []
    clock.time += MINUTE
    assert rate.overdue() == [Entry(CALLER, METHOD, Outcome.REFUSED, reason="AGREEMENT_EXPIRED", count=15)]
    assert rate.overdue(all_of_them=True) == []


def test_a_new_minute_begins_with_the_count_of_the_last_and_ten_more() -> None:
    clock = Clock()
    rate = RefusalRate(clock)
    refuse(rate, 13)
    clock.time += MINUTE - SECOND
    assert refuse(rate, 1) == []
    clock.time += SECOND
    assert counts(refuse(rate, 12)) == [4, *[1] * 10]


def test_a_minute_without_a_count_ends_silently() -> None:
    clock = Clock()
    rate = RefusalRate(clock)
    refuse(rate, 10)
    clock.time += MINUTE
    assert rate.overdue() == []
    assert counts(refuse(rate, 1)) == [1]


def test_each_caller_method_and_reason_has_a_rate_of_its_own() -> None:
    rate = RefusalRate(Clock())
    refuse(rate, 20)
    assert counts(refuse(rate, 2, caller=OTHER)) == [1, 1]
    assert counts(refuse(rate, 2, OfficerNotOnRoster(officer="o-2"))) == [1, 1]
    assert counts(rate.due(CALLER, "/npd.sharing.v1.UsageService/FindUsage", EXPIRED)) == [1]
    assert refuse(rate, 1, AgreementExpired(agreement="a-2", end_date="2026-01-01")) == []


def test_all_counts_are_told_when_the_room_stops() -> None:
    rate = RefusalRate(Clock())
    refuse(rate, 12)
    refuse(rate, 11, caller=OTHER)
    assert sorted(counts(rate.overdue(all_of_them=True))) == [1, 2]


def test_past_its_bound_the_memory_of_ended_minutes_is_given_up_with_their_counts() -> None:
    clock = Clock()
    rate = RefusalRate(clock)
    refuse(rate, 12)
    for number in range(refusals._SUBJECTS):
        rate.due(CALLER, f"/npd/Method{number}", EXPIRED)
    clock.time += MINUTE
    assert counts(rate.due(OTHER, METHOD, EXPIRED)) == [2, 1]
    assert len(rate._minutes) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([CALLER, OTHER]), st.integers(0, 40)), max_size=150))
def test_no_refusal_goes_uncounted(told: list[tuple[Caller, int]]) -> None:
    clock = Clock()
    rate, entries = RefusalRate(clock), list[Entry]()
    for caller, seconds in told:
        clock.time += timedelta(seconds=seconds)
        entries += rate.due(caller, METHOD, EXPIRED)
    entries += rate.overdue(all_of_them=True)
    for caller in (CALLER, OTHER):
        refused = [one for one, _ in told if one == caller]
        assert sum(entry.count for entry in entries if entry.caller == caller) == len(refused)
