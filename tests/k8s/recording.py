"""The figures of a real run of all rooms, and Prometheus's own test program over them.

A run is scraped twice; what grew between the two goes on growing in the series that promtool reads, each with the
labels that the PodMonitor gives it. Time is counted from the second scrape, because promtool's begins with 0.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.request import urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE
from npd_client.errors import Refusal
from services.local.sandbox import Stated
from tests.mesh_fixture import wait_until
from tests.programs import program
from tests.ring import Ring, open_ring, some_day

OBSERVABILITY = Path(__file__).parents[2] / "k8s/components/observability"
METRIC = re.compile(r"\bnpd_[a-z_]+\b")
MINUTES = 80
"""How long a test's series go on; it looks at the alerts at the end."""
Labels: TypeAlias = tuple[tuple[str, str], ...]
WORKLOADS = {
    ("registry", "room"): "registry",
    ("identity", "room"): "identity",
    ("residence", "room"): "residence",
    ("civil-status", "room"): "civil_status",
    ("sharing", "room"): "sharing",
    ("sharing", "streams"): "sharing",
    ("issuer", "room"): "issuer",
    ("issuer", "door"): "issuer",
}
"""Room and component of each Deployment, and the room whose process runs in it."""
_TIMESTAMP = "_timestamp_seconds"
_BETWEEN = 10.0


@dataclass(frozen=True, slots=True)
class Series:
    """A time series for promtool: its labels, and its values minute by minute as promtool writes them."""

    name: str
    labels: Mapping[str, str]
    values: str

    def has(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it is of this name and has these labels, among others."""
        return self.name == name and labels.items() <= self.labels.items()

    @property
    def selector(self) -> str:
        """As PromQL writes it."""
        return selector(self.name, self.labels)


@dataclass(frozen=True, slots=True)
class Sample:
    """A figure of a room at both scrapes."""

    name: str
    labels: Mapping[str, str]
    kind: str
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Recording:
    """What all rooms told: samples by room, when the second scrape was, and how many seconds after the first."""

    samples: Mapping[str, tuple[Sample, ...]]
    time: float
    seconds: float

    @property
    def names(self) -> frozenset[str]:
        """The names of all series."""
        return frozenset(sample.name for samples in self.samples.values() for sample in samples)

    def series(self, wanted: Iterable[str], minutes: int = MINUTES, method: str = "") -> list[Series]:
        """The series of these names as Prometheus would have them, two pods of each workload, and `up`.

        With a `method`, only that one of those that tell of methods: they are most of all, and cost time.
        """
        names, found = frozenset(wanted), list[Series]()
        for (room, component), process in WORKLOADS.items():
            for pod in ("a", "b"):
                target = {
                    "job": "npd-mesh",
                    "namespace": "npd",
                    "pod": f"{workload(room, component)}-{pod}",
                    "container": "room",
                    "endpoint": "health",
                    "room": room,
                    "component": component,
                }
                found.append(Series("up", target, f"1+0x{minutes}"))
                chosen = [
                    sample
                    for sample in self.samples[process]
                    if sample.name in names and (not method or sample.labels.get("method", method) == method)
                ]
                found += [
                    Series(sample.name, {**sample.labels, **target}, self._values(sample, minutes)) for sample in chosen
                ]
        return found

    def _values(self, sample: Sample, minutes: int) -> str:
        start, growth = sample.last, 0.0
        if sample.name.endswith(_TIMESTAMP) and start:
            start -= self.time
            # what is confirmed all the time stays as old as it is
            growth = 60.0 if sample.first and sample.last - sample.first > self.seconds / 2 else 0.0
        elif sample.kind in ("counter", "histogram"):
            growth = (sample.last - sample.first) / self.seconds * 60
        return f"{start:.4f}+{growth:.4f}x{minutes}"


def workload(room: str, component: str) -> str:
    """The name of a Deployment."""
    return f"npd-{room}" if component == "room" else f"npd-{room}-{component}"


def selector(name: str, labels: Mapping[str, str]) -> str:
    """A series as PromQL writes it."""
    told = ", ".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{told}}}"


def record(directory: Path, first_port: int) -> Recording:
    """Run all rooms in processes of their own, use them for a while, and scrape them."""
    with open_ring(directory, first_port) as ring:
        mother = ring.birth("Tran Thi Ghi", SEX_FEMALE, some_day(30))
        child = ring.birth("Tran Van Ghi", SEX_MALE, some_day(1), mother)
        ring.die(child)
        ring.settle()
        _use(ring, mother.stated, 10)
        wait_until(lambda: _is_at_rest(ring), 60.0)
        first, began = _scrape(ring), time.time()
        _use(ring, mother.stated, 100)
        ring.marry(mother, ring.birth("Le Van Ghi", SEX_MALE, some_day(35)))
        wait_until(lambda: time.time() - began > _BETWEEN and _is_at_rest(ring) and _has_measured(ring), 90.0)
        last, ended = _scrape(ring), time.time()
    samples = {
        room: tuple(
            Sample(name, dict(labels), kind, first[room].get((name, labels), (kind, 0.0))[1], value)
            for (name, labels), (kind, value) in series.items()
        )
        for room, series in last.items()
    }
    return Recording(samples, ended, ended - began)


def rules() -> dict[str, Any]:
    """The groups of rules as promtool reads them; the PrometheusRule is their only source."""
    loaded: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "rules.yaml").read_text(encoding="utf-8"))
    spec: dict[str, Any] = loaded["spec"]
    return spec


def promtool(directory: Path, *words: str) -> str:
    """Run promtool there; it must be content. Returns what it said."""
    done = subprocess.run([program("promtool"), *words], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def evaluate(
    directory: Path, groups: Mapping[str, Any], series: Sequence[Series], expected: Mapping[str, Sequence[str]], at: int
) -> None:
    """Evaluate rules over series, minute by minute; at one minute each expression must give the series named, as 1."""
    (directory / "rules.yaml").write_text(json.dumps(groups))
    claims = [
        {"expr": expr, "eval_time": f"{at}m", "exp_samples": [{"labels": one, "value": 1} for one in selectors]}
        for expr, selectors in expected.items()
    ]
    told = [{"series": one.selector, "values": one.values} for one in series]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": told, "promql_expr_test": claims}],
    }
    (directory / "test.yaml").write_text(json.dumps(test))
    promtool(directory, "test", "rules", "test.yaml")


def _use(ring: Ring, citizen: Stated, times: int) -> None:
    """Lookups that are served, and some that are refused."""
    cast = ring.cast
    for number in range(times):
        cast.portal.look_up(citizen, ("full_name",), case="TK-1")
        if number % 5 == 0:
            for fields in (("religion",), ("no_such_field",)):
                with suppress(Refusal):
                    cast.tax.look_up(citizen, fields, case="HS-1")


def _is_at_rest(ring: Ring) -> bool:
    """Whether everything has flowed to its end, and the figures say so."""
    figures = _scrape(ring)
    waiting = (
        value
        for series in figures.values()
        for (name, _), (_, value) in series.items()
        if name in ("npd_outbox_waiting", "npd_sequence_pending", "npd_followers_unapplied", "npd_not_ready")
    )
    return not any(waiting)


def _has_measured(ring: Ring) -> bool:
    """Whether what is measured now and then was."""
    known = {name for series in _scrape(ring).values() for name, _ in series}
    measured = {"npd_connections", "npd_chains_overdue", "npd_authority_has_key"}
    return measured | {"npd_revocation_list_next_timestamp_seconds"} <= known


def _scrape(ring: Ring) -> dict[str, dict[tuple[str, Labels], tuple[str, float]]]:
    """What each room's page of metrics says of it: kind and value by name and labels."""
    told = {}
    for room, address in ring.mesh.probes.items():
        with urlopen(f"{address}/metrics") as page:  # noqa: S310 - a room of ours
            families = text_string_to_metric_families(page.read().decode())
            told[room] = {
                (sample.name, tuple(sorted(sample.labels.items()))): (family.type, sample.value)
                for family in families
                for sample in family.samples
                if sample.name.startswith("npd_")
            }
    return told
