"""Alerts on the figures of a real run: none while all is well, and each for its own cause alone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.recording import (
    METRIC,
    MINUTES,
    OBSERVABILITY,
    WORKLOADS,
    Recording,
    Series,
    evaluate,
    promtool,
    rules,
    selector,
)

pytestmark = pytest.mark.timeout(300)  # the first test waits for the run

RULES = [rule for group in rules()["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]
USED = frozenset(name for rule in RULES for name in METRIC.findall(rule["expr"]))
NOW = MINUTES * 60
DAY = 86400
LOOKUP = "/npd.sharing.v1.LookupService/GetCitizen"
RUNBOOK = Path(__file__).parents[2] / "k8s/README.md"


def stays(value: float) -> str:
    """Values that never change."""
    return f"{value}+0x{MINUTES}"


def since(minutes: int, value: float) -> str:
    """0, and a value in the last minutes."""
    before = MINUTES - minutes
    return f"0+0x{before} {value}+0x{minutes - 1}"


def grows(a_minute: float) -> str:
    """A counter that grows evenly."""
    return f"0+{a_minute}x{MINUTES}"


def resolved(labels: Mapping[str, str], recording: Recording) -> dict[str, str]:
    """Labels with the key ids of the run: "of": the host and issuer of an authority; "list of": its issuer alone."""
    told = {name: value for name, value in labels.items() if name not in ("of", "list of")}
    for key in labels.keys() & {"of", "list of"}:
        host = f"{labels[key]}.sandbox.npd.local"
        authorities = (one.labels for one in recording.samples["issuer"] if one.name == AUTHORITY_END)
        (issuer,) = (one["issuer"] for one in authorities if one["host"] == host)
        told |= {"issuer": issuer} if key == "list of" else {**NPD, "host": host, "issuer": issuer}
    return told


def firing(name: str, labels: Mapping[str, str], recording: Recording) -> str:
    """An alert that fires, as Prometheus keeps it."""
    (rule,) = (rule for rule in RULES if rule["alert"] == name)
    told = {"alertname": name, "alertstate": "firing", **rule["labels"], **resolved(labels, recording)}
    return selector("ALERTS", told)


@dataclass(frozen=True)
class Case:
    """What must happen for an alert: series (by name and some labels) that have other values, and its labels then."""

    alert: str
    changes: Sequence[tuple[str, Mapping[str, str], str]]
    labels: Mapping[str, str] = field(default_factory=dict)
    others: Sequence[tuple[str, Mapping[str, str]]] = ()
    further: Sequence[Series] = ()


NPD = {"namespace": "npd"}
REGISTRY, RESIDENCE, SHARING, STREAMS, DOOR = (
    {"namespace": "npd", "room": room, "component": component}
    for room, component in (
        ("registry", "room"),
        ("residence", "room"),
        ("sharing", "room"),
        ("sharing", "streams"),
        ("issuer", "door"),
    )
)
SHARING_A = {**SHARING, "pod": "npd-sharing-a"}
OF_RESIDENCE, OF_SHARING, OF_REGISTRY = (
    {"namespace": "npd", "room": room} for room in ("residence", "sharing", "registry")
)
CALLS, NOT_READY, POLICY_TIME = "npd_calls_by_code_total", "npd_not_ready", "npd_policy_issue_timestamp_seconds"
LEAF_START, LEAF_END = "npd_certificate_start_timestamp_seconds", "npd_certificate_expire_timestamp_seconds"
AUTHORITY_END, LISTS = "npd_authority_expire_timestamp_seconds", "npd_revocation_list_next_timestamp_seconds"
OLDEST, FOLLOWERS = "npd_outbox_oldest_timestamp_seconds", "npd_followers_oldest_timestamp_seconds"
UNPLACED = "npd_sequence_oldest_age_seconds"

CASES = [
    Case("NpdRoomDown", [("up", RESIDENCE, stays(0))], RESIDENCE),
    Case(
        "NpdRoomDown",
        [(NOT_READY, {**STREAMS, "condition": "store"}, since(4, 1))],
        STREAMS,
    ),
    Case("NpdRoomWithoutSpare", [("up", SHARING_A, stays(0))], SHARING),
    Case(
        "NpdRoomNotReady",
        [(NOT_READY, {**SHARING_A, "condition": "policy"}, since(10, 1))],
        {**SHARING_A, "condition": "policy"},
    ),
    Case("NpdVersionsMixed", [], NPD, further=[Series("npd_build_info", {**SHARING_A, "version": "0.0.9"}, stays(1))]),
    Case("NpdClockApart", [("npd_clock_difference_seconds", SHARING_A, stays(-12))], SHARING),
    Case("NpdCallsFailing", [(CALLS, {**SHARING, "code": "UNAVAILABLE"}, grows(600))], SHARING),
    Case("NpdInternalErrors", [(CALLS, {**SHARING_A, "code": "INTERNAL"}, since(5, 1))], SHARING),
    Case("NpdCallersUnauthenticated", [(CALLS, {**SHARING, "code": "UNAUTHENTICATED"}, grows(6000))], SHARING),
    Case("NpdCallersNotPermitted", [(CALLS, {**SHARING, "code": "PERMISSION_DENIED"}, grows(6000))], SHARING),
    Case("NpdOverloaded", [(CALLS, {**STREAMS, "code": "RESOURCE_EXHAUSTED"}, grows(600))], STREAMS),
    Case("NpdDoorFlooded", [(CALLS, {**DOOR, "code": "RESOURCE_EXHAUSTED"}, grows(600))], NPD),
    Case(
        "NpdLookupsSlow",
        [
            ("npd_call_seconds_bucket", {"method": LOOKUP, "le": le}, grows(count))
            for le, count in (("0.1", 60000), ("0.25", 60000), ("0.5", 70000), ("1.0", 70000), ("2.5", 70000))
        ]
        + [
            ("npd_call_seconds_bucket", {"method": LOOKUP, "le": le}, grows(70000))
            for le in ("10.0", "60.0", "300.0", "+Inf")
        ],
        NPD,
    ),
    Case("NpdRefusalsUnrecorded", [("npd_refusals_unrecorded_total", SHARING_A, since(5, 1))], OF_SHARING),
    Case("NpdPolicyStale", [(POLICY_TIME, SHARING_A, stays(NOW - 200))], SHARING_A),
    Case(
        "NpdPolicyExpiring",
        [(POLICY_TIME, SHARING_A, stays(NOW - 700))],
        SHARING_A,
        [("NpdPolicyStale", SHARING_A)],
    ),
    Case("NpdPolicyUpdatesRefused", [("npd_policy_updates_refused_total", SHARING_A, since(5, 1))], SHARING),
    Case("NpdPolicyUnkept", [("npd_policy_updates_unkept_total", SHARING_A, since(5, 1))], SHARING),
    Case("NpdAgreementsDefective", [("npd_agreements_defective", SHARING, stays(1))], NPD),
    Case(
        "NpdRoomCertificateEnds",
        [(LEAF_START, SHARING_A, stays(-70 * DAY)), (LEAF_END, SHARING_A, stays(20 * DAY))],
        SHARING_A,
    ),
    Case(
        "NpdRoomCertificateEndsNow",
        [(LEAF_START, SHARING_A, stays(-83 * DAY)), (LEAF_END, SHARING_A, stays(7 * DAY))],
        SHARING_A,
        [("NpdRoomCertificateEnds", SHARING_A)],
    ),
    Case("NpdCredentialsRefused", [("npd_credentials_refused_total", SHARING_A, since(30, 1))], SHARING_A),
    Case(
        "NpdAuthorityEnds", [(AUTHORITY_END, {"host": "agency.sandbox.npd.local"}, stays(60 * DAY))], {"of": "agency"}
    ),
    Case(
        "NpdAuthorityEndsNow",
        [(AUTHORITY_END, {"of": "operator"}, stays(10 * DAY))],
        {"of": "operator"},
        [("NpdAuthorityEnds", {"of": "operator"})],
    ),
    Case(
        "NpdAuthorityWithoutKey",
        [("npd_authority_has_key", {"of": "agency", "pod": "npd-issuer-b"}, stays(0))],
        {"of": "agency"},
    ),
    Case(
        "NpdAgencyCertificatesEnd",
        [("npd_certificates_soonest_expire_timestamp_seconds", {"profile": "SIGNING"}, stays(5 * DAY))],
        {**NPD, "profile": "SIGNING"},
    ),
    Case("NpdRevocationListEnds", [(LISTS, {"list of": "agency"}, stays(NOW + DAY / 2))], {**NPD, "list of": "agency"}),
    Case("NpdOutboxStalled", [(OLDEST, OF_RESIDENCE, stays(NOW - 500))], OF_RESIDENCE),
    Case("NpdOutboxGrows", [("npd_outbox_waiting", OF_RESIDENCE, grows(200))], OF_RESIDENCE),
    Case("NpdSetAside", [("npd_set_aside", OF_RESIDENCE, stays(1))], OF_RESIDENCE),
    Case(
        "NpdLogStalled",
        [("npd_sequence_oldest_age_seconds", {**OF_REGISTRY, "sequence": "log"}, stays(6))],
        OF_REGISTRY,
    ),
    Case("NpdFeedStalled", [("npd_sequence_oldest_age_seconds", {"sequence": "feed"}, stays(6))], NPD),
    Case("NpdRoomsBehindFeed", [(FOLLOWERS, {"kind": "room"}, stays(NOW - 700))], NPD),
    Case("NpdSystemsBehindFeed", [(FOLLOWERS, {"kind": "system"}, stays(NOW - 1.1 * DAY))], NPD),
    Case(
        "NpdChainsOverdue",
        [("npd_chains_overdue", {**OF_RESIDENCE, "clock": "RESIDENCE_CLOSED_AFTER_DEATH"}, stays(1))],
        {**OF_RESIDENCE, "clock": "RESIDENCE_CLOSED_AFTER_DEATH"},
    ),
    Case("NpdRoomsSilent", [("npd_connections", {"kind": "room", "state": "SILENT"}, stays(1))], NPD),
    Case("NpdDatabasesSilent", [("npd_connections", {"kind": "database", "state": "SILENT"}, stays(1))], NPD),
]


def changed(series: Sequence[Series], case: Case, recording: Recording) -> list[Series]:
    """The series with the values that the case gives; each change must meet a series that a room has."""
    found = list(series)
    for name, labels, values in case.changes:
        wanted = resolved(labels, recording)
        met = [one for one in found if one.has(name, wanted)]
        assert met, f"no room has {selector(name, wanted)}"
        found = [replace(one, values=values) if one in met else one for one in found]
    return [*found, *case.further]


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    assert f"{len(RULES)} rules found" in promtool(tmp_path, "check", "rules", "rules.yaml")


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"k8s/README.md#{rule['alert'].lower()}"


def test_every_alert_has_its_paragraph_in_the_runbook() -> None:
    headings = set(re.findall(r"^#+ (Npd\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == set(NAMES)


def test_every_metric_of_a_rule_is_exported_by_a_room(recording: Recording) -> None:
    assert USED - recording.names == frozenset()


def test_hours_of_a_healthy_run_raise_no_alert(recording: Recording, tmp_path: Path) -> None:
    series = recording.series(USED, minutes=360, method=LOOKUP)
    evaluate(tmp_path, rules(), series, {"count_over_time(ALERTS[6h])": []}, at=360)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_for_its_own_cause_alone(case: Case, recording: Recording, tmp_path: Path) -> None:
    series = changed(recording.series(USED, method=LOOKUP), case, recording)
    expected = [firing(case.alert, case.labels, recording)]
    expected += [firing(name, labels, recording) for name, labels in case.others]
    evaluate(tmp_path, rules(), series, {'ALERTS{alertstate="firing"}': expected}, at=MINUTES)


def test_a_pod_that_has_just_started_raises_no_alert(recording: Recording, tmp_path: Path) -> None:
    starting = [(POLICY_TIME, SHARING_A, stays(0)), (NOT_READY, {**SHARING_A, "condition": "start"}, since(2, 1))]
    series = changed(recording.series(USED, method=LOOKUP), Case("", starting), recording)
    evaluate(tmp_path, rules(), series, {'ALERTS{alertstate="firing"}': []}, at=MINUTES)


def test_a_mesh_that_nobody_scrapes_raises_an_alert(recording: Recording, tmp_path: Path) -> None:
    expected = [firing("NpdUnmonitored", {"job": "npd-mesh"}, recording)]
    evaluate(tmp_path, rules(), [Series("unrelated", {}, stays(1))], {"ALERTS": expected}, at=MINUTES)


def test_a_mesh_that_vanishes_raises_an_alert_for_each_workload(recording: Recording, tmp_path: Path) -> None:
    gone = [replace(one, values=f"1+0x{MINUTES - 20}") for one in recording.series(frozenset())]
    down = ({**NPD, "room": room, "component": component} for room, component in WORKLOADS)
    expected = [firing("NpdRoomDown", labels, recording) for labels in down]
    expected.append(firing("NpdUnmonitored", {"job": "npd-mesh"}, recording))
    evaluate(tmp_path, rules(), gone, {'ALERTS{alertstate="firing"}': expected}, at=MINUTES)


def test_every_alert_was_seen_firing() -> None:
    assert {case.alert for case in CASES} | {"NpdUnmonitored"} == set(NAMES)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_texts_name_only_labels_that_the_alert_has(rule: Mapping[str, Any], recording: Recording) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    had = [resolved(case.labels, recording).keys() for case in CASES if case.alert == rule["alert"]]
    assert all(named <= labels for labels in had)
    assert named == set() or had


def test_the_monitor_finds_every_workload_and_tells_room_and_component() -> None:
    monitor = yaml.safe_load((OBSERVABILITY / "monitor.yaml").read_text(encoding="utf-8"))["spec"]
    base = OBSERVABILITY.parents[1] / "base"
    bodies = [body for file in base.glob("*.yaml") for body in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    pods = [body["spec"]["template"] for body in bodies if body["kind"] == "Deployment" and "selector" in body["spec"]]
    labels = [pod["metadata"]["labels"] for pod in pods]
    room, component = (f"app.kubernetes.io/{name}" for name in ("name", "component"))
    assert {(one[room], one[component]) for one in labels} == set(WORKLOADS)
    (chosen,) = monitor["selector"]["matchExpressions"]
    assert (chosen["key"], set(chosen["values"])) == (component, {one[component] for one in labels})
    (endpoint,) = monitor["podMetricsEndpoints"]
    sources = {one["targetLabel"]: one["sourceLabels"] for one in endpoint["relabelings"]}
    assert sources == {
        target: [f"__meta_kubernetes_pod_label_app_kubernetes_io_{name}"]
        for target, name in (("room", "name"), ("component", "component"))
    }
    (every,) = yaml.safe_load((base / "pod.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]["containers"]
    assert endpoint["port"] in {port["name"] for port in every["ports"]}
