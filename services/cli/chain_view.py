"""A chain as operators see it: links in the order of time, under what caused them, and what became of legal clocks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from npd.common.v1.chain_pb2 import LegalClock, Link
from npd_client.errors import Refusal
from services.cli import views
from services.mesh.core.chain import LINKS_LIMIT
from services.mesh.core.clock import LEGAL_ZONE, legal_date

_DEEPEST_INDENT = 8


class ClockState(Enum):
    """What became of a legal clock."""

    MET = "MET"
    LATE = "LATE"
    OVERDUE = "OVERDUE"
    OPEN = "OPEN"


_STYLES = {ClockState.MET: "green", ClockState.LATE: "red", ClockState.OVERDUE: "red", ClockState.OPEN: "yellow"}


@dataclass(frozen=True, slots=True)
class SeenLink:
    """A link, the room that holds it, and how many links it is away from the one that began the chain."""

    room: str
    link: Link
    depth: int

    @property
    def time(self) -> datetime:
        """When it was committed."""
        return self.link.link_time.ToDatetime(UTC)


@dataclass(frozen=True, slots=True)
class SeenClock:
    """A legal clock: the link that started it, its state, and when the act that stops it was done, if it was."""

    started_by: SeenLink
    clock: LegalClock
    state: ClockState
    done_time: datetime | None

    @property
    def due_time(self) -> datetime | None:
        """When it runs out; None if no calendar tells."""
        return self.clock.due_time.ToDatetime(UTC) if self.clock.HasField("due_time") else None


@dataclass(frozen=True, slots=True)
class SeenChain:
    """A chain as far as the rooms that answered know it; those in `cut` told as much as an answer holds."""

    links: tuple[SeenLink, ...]
    clocks: tuple[SeenClock, ...]
    cut: tuple[str, ...] = ()


def seen(answers: Mapping[str, Iterable[Link]], *, now: datetime) -> SeenChain:
    """Put together what rooms told: links by time, but none before the one that caused it, as clocks lie apart."""
    told = [(room, link) for room, links in answers.items() for link in links]
    counts = Counter(room for room, _ in told)
    known = {link.link_id: link for _, link in told}
    ordered = sorted(told, key=lambda one: (max(_times(one[1], known)), len(_causes(one[1], known)), one[1].link_id))
    links = tuple(SeenLink(room, link, _depth(link, known)) for room, link in ordered)
    cut = tuple(room for room, count in counts.items() if count >= LINKS_LIMIT)
    return SeenChain(links, tuple(_clocks(links, now)), cut)


def facts(chain: str, chain_seen: SeenChain, missing: Mapping[str, Refusal]) -> dict[str, Any]:
    """The chain for a script."""
    is_whole = not (missing or chain_seen.cut)
    return {
        "correlation_id": chain,
        "links": [{"room": one.room, "depth": one.depth, **views.json_of(one.link)} for one in chain_seen.links],
        "clocks": [
            {
                "started_by": one.started_by.link.link_id,
                **views.json_of(one.clock),
                "state": one.state.value,
                "done_time": _json_time(one.done_time),
                "is_certain": is_whole or one.state is not ClockState.OVERDUE,
            }
            for one in chain_seen.clocks
        ],
        "missing": views.missing_of(missing),
        "cut": list(chain_seen.cut),
    }


def show(chain: str, chain_seen: SeenChain, missing: Mapping[str, Refusal]) -> None:
    """The chain for the human eye; times are those of Viet Nam, where the law counts its days."""
    console = views.console()
    if not chain_seen.links:
        console.print(f"No room that answered knows a chain {chain}.")
        views.show_missing(missing, "what it holds of the chain is missing here")
        return
    began = min((one.time for one in chain_seen.links), default=None)
    console.print(f"Chain {chain}" + (f", begun on {_legal(began, '%Y-%m-%d')}" if began else ""))
    table = Table("time", "room", "act", "actor", "officer", "case", "outcome", box=None, pad_edge=False)
    table.columns[2].overflow = "fold"
    for one in chain_seen.links:
        days = (legal_date(one.time) - legal_date(began or one.time)).days
        table.add_row(
            _legal(one.time, "%H:%M:%S") if not days else f"+{days} d {_legal(one.time, '%H:%M:%S')}",
            one.room,
            "  " * min(one.depth, _DEEPEST_INDENT) + one.link.act,
            name_of(one.link.actor),
            one.link.access.officer_id,
            one.link.access.case_reference,
            one.link.outcome,
        )
    console.print(table)
    for clock in chain_seen.clocks:
        console.print(_sentence(clock, "a missing room" if missing else "an act not shown" if chain_seen.cut else ""))
    for room in chain_seen.cut:
        console.print(f"{room} tells the oldest {LINKS_LIMIT:,} links of a chain at most: there may be more.")
    views.show_missing(missing, "what it holds of the chain is missing here")


def name_of(identity: str) -> str:
    """The name in an identity URI: "tax/core" of spiffe://agency.npd.gov.vn/tax/core."""
    return identity.partition("://")[2].partition("/")[2] or identity


def _clocks(links: tuple[SeenLink, ...], now: datetime) -> Iterator[SeenClock]:
    for started_by in links:
        for clock in started_by.link.clocks:
            done = [one.time for one in links if one.link.act == clock.end_act and one is not started_by]
            done_time = min(done, default=None)
            yield SeenClock(started_by, clock, _state(clock, done_time, now), done_time)


def _state(clock: LegalClock, done_time: datetime | None, now: datetime) -> ClockState:
    if not clock.HasField("due_time"):
        return ClockState.OPEN if done_time is None else ClockState.MET
    due_time = clock.due_time.ToDatetime(UTC)
    if done_time is not None:
        return ClockState.MET if done_time <= due_time else ClockState.LATE
    return ClockState.OPEN if now <= due_time else ClockState.OVERDUE


def _sentence(seen_clock: SeenClock, unseen: str) -> Text:
    """What became of a clock; `unseen` is what could have stopped it without being seen here, if there is such."""
    due_time, done_time = seen_clock.due_time, seen_clock.done_time
    due = _legal(due_time, "%Y-%m-%d %H:%M") if due_time else "a day that no calendar tells"
    what = f"{seen_clock.clock.title} ({seen_clock.clock.provision})"
    match seen_clock.state:
        case ClockState.MET | ClockState.LATE if done_time is not None:
            rest = f": {what}: done {_legal(done_time, '%Y-%m-%d %H:%M')}, due {due}"
        case ClockState.OVERDUE:
            rest = f"{f', unless {unseen} did it' if unseen else ''}: {what}: was due {due}"
        case _:
            rest = f" until {due}: {what}"
    return Text.assemble((seen_clock.state.value, _STYLES[seen_clock.state]), rest)


def _causes(link: Link, known: Mapping[str, Link]) -> list[Link]:
    """The links that led to a link, nearest first, as far as they are known."""
    causes: list[Link] = []
    passed = {link.link_id}
    while link.causation_id in known and link.causation_id not in passed:
        passed.add(link.causation_id)
        link = known[link.causation_id]
        causes.append(link)
    return causes


def _depth(link: Link, known: Mapping[str, Link]) -> int:
    """How deep it stands; a cause that no room told of counts as one step."""
    causes = _causes(link, known)
    first = causes[-1] if causes else link
    return len(causes) + bool(first.causation_id and first.causation_id not in known)


def _times(link: Link, known: Mapping[str, Link]) -> list[tuple[int, int]]:
    return [_instant(one.link_time) for one in (link, *_causes(link, known))]


def _instant(time: Timestamp) -> tuple[int, int]:
    return time.seconds, time.nanos


def _legal(moment: datetime, form: str) -> str:
    return moment.astimezone(LEGAL_ZONE).strftime(form)


def _json_time(moment: datetime | None) -> str | None:
    """As proto JSON writes it."""
    if moment is None:
        return None
    wire = Timestamp()
    wire.FromDatetime(moment)
    return wire.ToJsonString()
