"""A chain as operators see it: in the order of time, under its causes, with what became of its legal clocks."""

import io
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from rich.console import Console

from npd.common.v1 import relay_pb2
from npd.common.v1.chain_pb2 import LegalClock, Link
from npd.registry.v1 import agency_pb2, directory_pb2
from npd_client.errors import Refusal
from services.cli import chain_view, views
from services.cli.chain_view import ClockState
from services.mesh.core.chain import LINKS_LIMIT

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
AWAY = {"residence": Refusal(grpc.StatusCode.UNAVAILABLE)}


def link(name: str, cause: str = "", *, seconds: float = 0, act: str = "", due: float | None = None) -> Link:
    """A link; with `due` it starts a clock that runs out so many seconds after NOW, 0 with no calendar."""
    made = Link(link_id=name, causation_id=cause, act=act or f"room.{name}", actor="spiffe://agency.test/hn/civil")
    made.link_time.FromDatetime(NOW + timedelta(seconds=seconds))
    if due is not None:
        clock = LegalClock(code="C", title="Residence is closed", provision="D58/2026.4.7", end_act="room.close")
        if due:
            clock.due_time.FromDatetime(NOW + timedelta(seconds=due))
        made.clocks.append(clock)
    return made


def outline(**answers: list[Link]) -> list[tuple[str, str, int]]:
    """Room, link and depth, in the order in which they are shown."""
    return [(one.room, one.link.link_id, one.depth) for one in chain_view.seen(answers, now=NOW).links]


def shown(console_width: int, printed: object) -> str:
    out = io.StringIO()
    Console(file=out, width=console_width, markup=False, highlight=False).print(printed)
    return out.getvalue()


def test_links_of_all_rooms_stand_in_the_order_of_time_under_their_causes() -> None:
    death, change = link("death"), link("change", "death", seconds=1)
    close, applied = link("close", "change", seconds=2), link("applied", "change", seconds=3)
    assert outline(sharing=[change, applied], residence=[close], civil_status=[death]) == [
        ("civil_status", "death", 0),
        ("sharing", "change", 1),
        ("residence", "close", 2),
        ("sharing", "applied", 2),
    ]


def test_no_link_stands_before_its_cause_however_clocks_lie_apart() -> None:
    death, change = link("death", seconds=5), link("change", "death", seconds=1)
    close = link("close", "change", seconds=2)
    assert [name for _, name, _ in outline(a=[close, change], b=[death])] == ["death", "change", "close"]


def test_a_cause_that_no_room_told_of_counts_as_one_step() -> None:
    assert outline(a=[link("change", "gone"), link("close", "change", seconds=1)]) == [
        ("a", "change", 1),
        ("a", "close", 2),
    ]


def test_links_that_cause_each_other_are_shown_all_the_same() -> None:
    assert {name for _, name, _ in outline(a=[link("x", "y"), link("y", "x"), link("z", "z")])} == {"x", "y", "z"}


@pytest.mark.parametrize(
    ("due", "done", "state"),
    [
        (60, 30, ClockState.MET),
        (60, 60, ClockState.MET),
        (-60, -90, ClockState.MET),
        (-60, -30, ClockState.LATE),
        (-60, None, ClockState.OVERDUE),
        (60, None, ClockState.OPEN),
        (0, None, ClockState.OPEN),
        (0, 30, ClockState.MET),
    ],
)
def test_a_clock_is_met_late_overdue_or_open(due: float, done: float | None, state: ClockState) -> None:
    links = [link("death", seconds=-100, due=due)]
    links += [link("close", "death", seconds=done)] if done is not None else []
    chain = chain_view.seen({"a": links}, now=NOW)
    (clock,) = chain.clocks
    assert clock.state is state
    facts = chain_view.facts("id", chain, {})
    assert facts["clocks"][0]["state"] == state.value
    assert facts["clocks"][0]["started_by"] == "death"
    assert facts["missing"] == []


def test_the_first_act_that_stops_a_clock_counts() -> None:
    links = [link("death", due=60), link("late", act="room.close", seconds=90), link("close", seconds=30)]
    (clock,) = chain_view.seen({"a": links}, now=NOW).clocks
    assert clock.state is ClockState.MET
    assert clock.done_time == NOW + timedelta(seconds=30)


def test_a_chain_is_printed_with_its_clocks_and_with_who_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    death = link("death", due=3600)
    death.access.case_reference, death.access.officer_id = "HT/[1]", "o-1"
    later = link("close", "death", seconds=3 * 86_400)
    chain_view.show("6f1c", chain_view.seen({"civil_status": [death], "residence": [later]}, now=NOW), AWAY)
    said = capsys.readouterr().out
    for part in ("Chain 6f1c", "hn/civil", "HT/[1]", "o-1", "begun on 2026-11-23", "15:00:00", "room.death"):
        assert part in said
    assert "LATE: Residence is closed (D58/2026.4.7): done 2026-11-26 15:00, due 2026-11-23 16:00" in said
    assert "+3 d 15:00:00" in said
    assert "residence did not answer (UNAVAILABLE)" in said


def test_a_chain_of_which_only_a_missing_room_may_know_is_said_to_be_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chain_view.show("6f1c", chain_view.seen({"sharing": []}, now=NOW), AWAY)
    assert capsys.readouterr().out.splitlines() == [
        "No room that answered knows a chain 6f1c.",
        "residence did not answer (UNAVAILABLE): what it holds of the chain is missing here.",
    ]


def test_an_overdue_clock_is_not_certain_while_a_room_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    late = chain_view.seen({"civil_status": [link("death", seconds=-100, due=-60)]}, now=NOW)
    chain_view.show("6f1c", late, AWAY)
    assert "OVERDUE, unless a missing room did it: Residence is closed" in capsys.readouterr().out
    assert [one["is_certain"] for one in chain_view.facts("6f1c", late, AWAY)["clocks"]] == [False]
    chain_view.show("6f1c", late, {})
    assert "OVERDUE: Residence is closed" in capsys.readouterr().out
    assert [one["is_certain"] for one in chain_view.facts("6f1c", late, {})["clocks"]] == [True]


def test_a_list_that_may_be_cut_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    links = [link("death", seconds=-100, due=-60), *(link(f"m{number}", "death") for number in range(LINKS_LIMIT - 1))]
    whole = chain_view.seen({"a": links[:-1], "b": []}, now=NOW)
    chain_view.show("6f1c", whole, {})
    assert "there may be more" not in capsys.readouterr().out
    assert chain_view.facts("6f1c", whole, {})["cut"] == []
    cut = chain_view.seen({"a": links, "b": []}, now=NOW)
    chain_view.show("6f1c", cut, {})
    said = capsys.readouterr().out
    assert "a tells the oldest 1,000 links of a chain at most: there may be more." in said
    assert "OVERDUE, unless an act not shown did it" in said
    assert chain_view.facts("6f1c", cut, {})["cut"] == ["a"]


def test_times_for_scripts_are_those_of_proto_json() -> None:
    links = [link("death", seconds=-100, due=60), link("close", "death", seconds=30)]
    (clock,) = chain_view.facts("6f1c", chain_view.seen({"a": links}, now=NOW), {})["clocks"]
    assert (clock["due_time"], clock["done_time"]) == ("2026-11-23T08:01:00Z", "2026-11-23T08:00:30Z")
    (clock,) = chain_view.facts("6f1c", chain_view.seen({"a": links[:1]}, now=NOW), {})["clocks"]
    assert clock["done_time"] is None


def test_who_is_missing_has_one_shape_for_scripts() -> None:
    expected = [{"room": "residence", "reason": "UNAVAILABLE"}]
    assert views.missing_of(AWAY) == expected
    assert chain_view.facts("6f1c", chain_view.seen({}, now=NOW), AWAY)["missing"] == expected


def test_rooms_where_all_is_well_are_named_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    rooms = [f"room_with_a_long_name_{number}" for number in range(12)]
    views.show_set_aside({room: [] for room in rooms}, {})
    assert capsys.readouterr().out == f"Nothing is set aside in {', '.join(rooms)}.\n"
    message = relay_pb2.SetAside(message_id="m-1", kind="change", peer="sharing", reason="INTERNAL")
    views.show_set_aside({"identity": [message], "registry": [], "sharing": []}, AWAY)
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "Nothing is set aside in registry, sharing.",
        "residence did not answer (UNAVAILABLE): what it holds is missing here.",
    ]
    assert "m-1" in said[1]


def test_connections_are_readable_within_100_columns() -> None:
    system = directory_pb2.Connection(
        name="social-insurance/eligibility-engine",
        title="Social insurance: eligibility and contributions of all provinces",
        state=directory_pb2.CONNECTION_STATE_CONNECTED,
        system_state=agency_pb2.SYSTEM_STATE_SUSPENDED,
        unapplied_count=12,
        rejected_count=3,
    )
    room = directory_pb2.Connection(
        name="civil_status",
        title="room civil_status",
        state=directory_pb2.CONNECTION_STATE_DEGRADED,
        backlog_count=123456,
        set_aside_count=17,
    )
    for moment, age in (
        (system.last_contact_time, 5),
        (system.last_contribution_time, 600),
        (system.oldest_unapplied_time, 7200),
        (room.last_contact_time, 3),
    ):
        moment.FromDatetime(NOW - timedelta(seconds=age))
    said = shown(100, views.connections([system, room], NOW))
    assert all(len(line) <= 100 for line in said.splitlines())
    assert "…" not in said
    for part in ("contributed", "set aside", "rejected", "CONNECTED", "SUSPENDED", "DEGRADED", "10 min", "2 h", "5 s"):
        assert part in said
    (figures,) = [line.split() for line in said.splitlines() if line.startswith("civil_status")]
    assert figures == ["civil_status", "DEGRADED", "3", "s", "never", "123456", "17"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "2 h"), (200_000, "2 d"), (-5, "0 s")]
)
def test_ages_are_told_in_the_unit_that_suits(seconds: float, text: str) -> None:
    moment = directory_pb2.Connection().last_contact_time
    moment.FromDatetime(NOW - timedelta(seconds=seconds))
    assert views.age_text(moment, NOW) == text
