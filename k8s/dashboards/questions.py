"""What the dashboards answer: each row is a question, each panel a figure with its queries. Data only.

`$namespace` and `$room` are chosen in Grafana. Metrics and labels are those that rooms export and the PodMonitor adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Line:
    """A query (PromQL), and how Grafana names what it gives."""

    query: str
    legend: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A panel: its title, the unit that Grafana shows, its lines, and what one should know of it."""

    title: str
    unit: str
    lines: Sequence[Line]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A row: what somebody asks, and the figures that answer it."""

    text: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `has_room`: it shows one room, or some, that are chosen in it."""

    uid: str
    title: str
    questions: Sequence[Question]
    has_room: bool = False


def _line(how: str, by: str, query: str, said: str = "") -> Line:
    """Figures put together by labels, which name the lines."""
    names = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return Line(f"{how} by ({by}) ({query})", f"{names} {said}".strip())


def _rate(series: str) -> str:
    return f"rate({series}[$__rate_interval])"


def _increase(series: str) -> str:
    return f"increase({series}[$__rate_interval])"


def _age(series: str) -> str:
    """The age of what has a time; 0 where nothing has."""
    return f"(time() - {series}) * ({series} > bool 0)"


def _left(series: str) -> str:
    """How long until a time; 0 where there is none."""
    return f"({series} - time()) * ({series} > bool 0)"


def _quantile(share: float, by: str, labels: str, legend: str) -> Line:
    buckets = _rate(f"npd_call_seconds_bucket{{{labels}}}")
    return Line(f"histogram_quantile({share}, sum by ({by}) ({buckets}))", legend)


def _certificate(labels: str) -> str:
    """The share of a room certificate's life that is left."""
    end = f"npd_certificate_expire_timestamp_seconds{{{labels}}}"
    return f"({end} - time()) / ({end} - npd_certificate_start_timestamp_seconds{{{labels}}})"


_N: Final = 'namespace="$namespace"'
_R: Final = 'namespace="$namespace", room=~"$room"'
_LOOKUP: Final = f'{_N}, method="/npd.sharing.v1.LookupService/GetCitizen"'
_CALLS: Final = "npd_calls_by_code_total"
_FAULTS: Final = _rate(f'{_CALLS}{{{_N}, code=~"INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED"}}')
_ALL_CALLS: Final = _rate(f"{_CALLS}{{{_N}}}")
_WORKLOAD: Final = "room, component"

_ANSWERED = Question(
    "Are calls answered?",
    (
        Figure("Calls", "reqps", [_line("sum", _WORKLOAD, _ALL_CALLS)]),
        Figure(
            "Share that fails by a fault of ours",
            "percentunit",
            [Line(f"sum by ({_WORKLOAD}) ({_FAULTS}) / sum by ({_WORKLOAD}) ({_ALL_CALLS})", "{{room}} {{component}}")],
            "INTERNAL, UNAVAILABLE and DEADLINE_EXCEEDED; NpdCallsFailing pages at 5 %.",
        ),
        Figure("Refusals", "reqps", [_line("sum", "code", _rate(f'{_CALLS}{{{_N}, code!="OK"}}'))]),
        Figure(
            "How long a lookup takes",
            "s",
            [_quantile(0.5, "le", _LOOKUP, "half of them"), _quantile(0.99, "le", _LOOKUP, "99 of 100")],
        ),
    ),
)
_WHERE = Question(
    "By which room not?",
    (
        Figure(
            "Pods that are ready",
            "short",
            [
                _line(
                    "count",
                    _WORKLOAD,
                    f'up{{job="npd-mesh", {_N}}} == 1 unless on (namespace, pod) npd_not_ready{{{_N}}} == 1',
                )
            ],
        ),
        Figure(
            "What stands in the way",
            "short",
            [_line("sum", "room, component, condition", f"npd_not_ready{{{_N}}}")],
            "Pods by the condition that keeps them from being ready.",
        ),
        Figure("Versions", "short", [_line("count", "room, version", f"npd_build_info{{{_N}}}")]),
        Figure("Clocks ahead of their stores", "s", [_line("max", "room", f"npd_clock_difference_seconds{{{_N}}}")]),
    ),
)
_POLICY = Question(
    "Is the policy fresh?",
    (
        Figure(
            "Age",
            "s",
            [_line("max", _WORKLOAD, f"time() - npd_policy_issue_timestamp_seconds{{{_N}}}")],
            "Agencies are refused at 15 minutes.",
        ),
        Figure("Revision", "none", [_line("min", _WORKLOAD, f"npd_policy_revision{{{_N}}}")]),
        Figure(
            "Updates refused, or not kept on disk",
            "short",
            [
                _line("sum", "room", _increase(f"npd_policy_updates_{what}_total{{{_N}}}"), what)
                for what in ("refused", "unkept")
            ],
        ),
        Figure(
            "Agreements without two valid signatures",
            "short",
            [_line("max", "room", f"npd_agreements_defective{{{_N}}}")],
        ),
    ),
)
_RING = Question(
    "Does the ring flow?",
    (
        Figure("Messages that wait", "short", [_line("max", "room", f"npd_outbox_waiting{{{_N}}}")]),
        Figure(
            "Age of the oldest message",
            "s",
            [_line("max", "room", _age(f"npd_outbox_oldest_timestamp_seconds{{{_N}}}"))],
        ),
        Figure("Set aside", "short", [_line("max", "room", f"npd_set_aside{{{_N}}}")]),
        Figure(
            "Chains held up beyond the legal time",
            "short",
            [_line("max", "room, clock", f"npd_chains_overdue{{{_N}}}")],
        ),
        Figure(
            "Age of the oldest row without a position",
            "s",
            [_line("max", "room, sequence", f"npd_sequence_oldest_age_seconds{{{_N}}}")],
            "A row gets its position within a second.",
        ),
        Figure(
            "How far followers are behind",
            "s",
            [_line("max", "kind", _age(f"npd_followers_oldest_timestamp_seconds{{{_N}}}"))],
        ),
        Figure(
            "Changes that the slowest has not applied",
            "short",
            [_line("max", "kind", f"npd_followers_unapplied{{{_N}}}")],
        ),
        Figure(
            "Not connected as usual",
            "short",
            [_line("max", "kind, state", f'npd_connections{{{_N}, state!="CONNECTED"}}')],
            "Rooms, databases (systems that contribute or follow changes) and callers.",
        ),
    ),
)
_CERTIFICATES = Question(
    "Do certificates hold?",
    (
        Figure(
            "Life left of rooms' certificates",
            "percentunit",
            [_line("min", "room", _certificate(_N))],
            "Renewal is due at a third.",
        ),
        Figure(
            "First certificate of a system to end",
            "s",
            [_line("max", "profile", _left(f"npd_certificates_soonest_expire_timestamp_seconds{{{_N}}}"))],
            "Of those that were not renewed; 0: there is none.",
        ),
        Figure(
            "Active authorities end",
            "s",
            [_line("max", "host", _left(f'npd_authority_expire_timestamp_seconds{{{_N}, state="ACTIVE"}}'))],
        ),
        Figure(
            "Revocation lists end",
            "s",
            [_line("max", "issuer", _left(f"npd_revocation_list_next_timestamp_seconds{{{_N}}}"))],
        ),
    ),
)

_OF_A_ROOM = (
    Question(
        "What is asked of it?",
        (
            Figure("Calls by method", "reqps", [_line("sum", "method", _rate(f"npd_calls_total{{{_R}}}"))]),
            Figure(
                "Refusals by reason",
                "reqps",
                [_line("sum", "reason", _rate(f'npd_calls_total{{{_R}, reason!="OK"}}'))],
            ),
            Figure("Calls by code", "reqps", [_line("sum", "code", _rate(f"{_CALLS}{{{_R}}}"))]),
            Figure("99 of 100 calls take", "s", [_quantile(0.99, "method, le", _R, "{{method}}")]),
            Figure("Open streams", "short", [_line("sum", "pod", f"npd_streams_open{{{_R}}}")]),
            Figure(
                "Streams cut, whose client did not read",
                "short",
                [_line("sum", "pod", _increase(f"npd_streams_cut_total{{{_R}}}"))],
            ),
            Figure(
                "Refusals that could not be recorded",
                "short",
                [_line("sum", "pod", _increase(f"npd_refusals_unrecorded_total{{{_R}}}"))],
            ),
        ),
    ),
    Question(
        "Is it well?",
        (
            Figure("Not ready", "short", [_line("max", "pod, condition", f"npd_not_ready{{{_R}}}")]),
            Figure(
                "Age of the policy",
                "s",
                [_line("max", "pod", f"time() - npd_policy_issue_timestamp_seconds{{{_R}}}")],
            ),
            Figure("Life left of its certificate", "percentunit", [_line("min", "pod", _certificate(_R))]),
            Figure(
                "Certificate files refused",
                "short",
                [_line("sum", "pod", _increase(f"npd_credentials_refused_total{{{_R}}}"))],
            ),
            Figure("Clock ahead of its store's", "s", [_line("max", "pod", f"npd_clock_difference_seconds{{{_R}}}")]),
            Figure("Version", "short", [_line("count", "version", f"npd_build_info{{{_R}}}")]),
        ),
    ),
    Question(
        "What does it pass on?",
        (
            Figure(
                "Messages by peer and outcome",
                "short",
                [_line("sum", "peer, outcome", _rate(f"npd_outbox_messages_total{{{_R}}}"))],
            ),
            Figure("Messages that wait", "short", [_line("max", "room", f"npd_outbox_waiting{{{_R}}}")]),
            Figure(
                "Changes followed, by outcome",
                "short",
                [_line("sum", "outcome", _rate(f"npd_changes_followed_total{{{_R}}}"))],
            ),
            Figure("Set aside", "short", [_line("max", "room", f"npd_set_aside{{{_R}}}")]),
            Figure("Rows given a position", "short", [_line("sum", "sequence", _rate(f"npd_sequenced_total{{{_R}}}"))]),
            Figure(
                "Rows without a position",
                "short",
                [_line("max", "sequence", f"npd_sequence_pending{{{_R}}}")],
                "Counted to 10,001.",
            ),
        ),
    ),
)

_OF_CERTIFICATES = (
    _CERTIFICATES,
    Question(
        "Rooms",
        (
            Figure(
                "Certificates end",
                "s",
                [_line("min", "pod", f"npd_certificate_expire_timestamp_seconds{{{_N}}} - time()")],
            ),
            Figure(
                "Certificate files refused",
                "short",
                [_line("sum", "pod", _increase(f"npd_credentials_refused_total{{{_N}}}"))],
            ),
        ),
    ),
    Question(
        "Systems, operators and their authorities",
        (
            Figure("Certificates by state", "short", [_line("max", "state", f"npd_certificates{{{_N}}}")]),
            Figure(
                "Authorities end",
                "s",
                [_line("max", "host, issuer, state", _left(f"npd_authority_expire_timestamp_seconds{{{_N}}}"))],
            ),
            Figure(
                "Keys at hand",
                "short",
                [_line("min", "host, issuer", f"npd_authority_has_key{{{_N}}}")],
                "1: the issuer can use the authority's key.",
            ),
        ),
    ),
)

BOARDS: Final = (
    Board("npd-mesh", "NPD: the mesh", (_ANSWERED, _WHERE, _POLICY, _RING, _CERTIFICATES)),
    Board("npd-room", "NPD: one room", _OF_A_ROOM, has_room=True),
    Board("npd-certificates", "NPD: certificates", _OF_CERTIFICATES),
)
