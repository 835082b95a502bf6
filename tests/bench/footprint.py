"""Memory and processor time of every workload of k8s/base, at rest and under its rated load; writes k8s/footprint.toml.

`make bench-footprint`, or `python -m tests.bench.footprint --help`. Each workload is a process from the image's
directory with the settings that k8s/base/settings gives it. What is measured is the processor time of one unit of load,
and the request follows from the rated pace: so it holds on a machine that others use, or that cannot keep the pace.
"""

import argparse
import math
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.credentials import HOST
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS
from services.local.sandbox import Sandbox
from services.local.supervisor import ChildSpec, Supervisor
from services.mesh.wire.room import Room
from tests.bench import rated
from tests.bench.lookup import cpu_seconds
from tests.holders import UNLIMITED
from tests.pods.container import OF_THE_IMAGE

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "k8s" / "base" / "settings"
WRITTEN = ROOT / "k8s" / "footprint.toml"


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment: its room, and its rated load in words and as (load, units a second); the first is told by unit."""

    room: str
    load: str
    parts: tuple[tuple[str, int], ...]


WORKLOADS: Mapping[str, Workload] = {
    "npd-registry": Workload(
        "registry",
        f"{rated.RIGHTS} DescribeRights a second, a system suspended and resumed twice a second beside",
        (("rights", rated.RIGHTS),),
    ),
    "npd-identity": Workload(
        "identity",
        f"{rated.RESERVATIONS} reservations of numbers a second, {rated.BIRTHS} births a second",
        (("reservations", rated.RESERVATIONS), ("births", rated.BIRTHS)),
    ),
    "npd-residence": Workload(
        "residence", f"{rated.MOVES} permanent residences registered a second", (("moves", rated.MOVES),)
    ),
    "npd-civil-status": Workload(
        "civil_status", f"{rated.BIRTHS} births registered a second", (("births", rated.BIRTHS),)
    ),
    "npd-sharing": Workload(
        "sharing",
        f"{rated.LOOKUPS} GetCitizen a second, {rated.MOVES} contributions a second",
        (("lookups", rated.LOOKUPS), ("moves", rated.MOVES)),
    ),
    "npd-sharing-streams": Workload(
        "sharing", f"{rated.MOVES} events a second to {rated.WATCHES} open Watches", (("moves", rated.MOVES),)
    ),
    "npd-issuer": Workload(
        "issuer", f"{rated.CERTIFICATES} certificates a second", (("renewals", rated.CERTIFICATES),)
    ),
    "npd-issuer-door": Workload("issuer", f"{rated.DIAGNOSES} diagnoses a second", (("diagnoses", rated.DIAGNOSES),)),
}
"""By the name of the Deployment."""
BESIDE = {"npd-sharing-streams", "npd-issuer-door"}
"""The second workloads of their rooms."""
LOADS = ("lookups", "rights", "reservations", "diagnoses", "renewals", "births", "moves")

REST_MOST, LOAD_MOST = 130, 250
"""The limits of the design for one room, in MiB."""

_MEMORY_STEP, _PROCESSOR_STEP = 32, 50
_REST_SECONDS = 8.0
_START_SECONDS = 60.0
_PROBE = "127.0.0.1"
_ELSEWHERE = {"NPD_DRAIN_DELAY", "NPD_STOP_GRACE"}  # how a pod ends costs nothing while it serves
_HEAD = """\
# What each workload needs, measured by `make bench-footprint`, which writes this file. The manifests say the same
# (tests/k8s holds them to it). On {machine}, Python {python}; memory is the resident set, files included.
#
# requests.memory: the highest under load, rounded up to {memory} MiB. limits.memory: twice that; over it the kernel
# ends the pod. requests.cpu: what the rated load takes, rounded up to {processor}m. There is no limits.cpu: the
# kernel enforces one by halting all threads of a pod for the rest of each 100 ms in which they had their share, and
# every call waits, also on an idle node; the requests alone already divide a busy one in proportion.
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took for a while: processor time, and the largest resident set."""

    seconds: float
    processor: float
    peak_mib: float

    @property
    def millicores(self) -> float:
        """Processor time a second, in thousandths of a core."""
        return self.processor / self.seconds * 1000


@dataclass(frozen=True, slots=True)
class Footprint:
    """A workload's figures. `call_us` is the processor time of one unit of its load, beyond that of rest."""

    load: str
    rest_mib: float
    load_mib: float
    rest_millicores: float
    load_millicores: float
    call_us: float

    @property
    def cpu(self) -> str:
        """The request of processor time."""
        return f"{_up(self.load_millicores, _PROCESSOR_STEP)}m"

    @property
    def memory(self) -> int:
        """The request of memory, in MiB."""
        return _up(self.load_mib, _MEMORY_STEP)

    def toml(self, name: str) -> str:
        """Its table in the file."""
        return (
            f"\n[workload.{name}]\n"
            f'load = "{self.load}"\n'
            f"memory_at_rest_mib = {self.rest_mib:.0f}\n"
            f"memory_under_load_mib = {self.load_mib:.0f}\n"
            f"cpu_at_rest_millicores = {self.rest_millicores:.0f}\n"
            f"cpu_under_load_millicores = {self.load_millicores:.0f}\n"
            f"cpu_call_microseconds = {self.call_us:.0f}\n"
            f'requests = {{ cpu = "{self.cpu}", memory = "{self.memory}Mi" }}\n'
            f'limits = {{ memory = "{2 * self.memory}Mi" }}\n'
        )


class Pods(LocalMesh):
    """A local mesh whose rooms run from an image's directory, with two workloads more than rooms."""

    image: Path

    def variables(self, room: Room) -> dict[str, str]:
        """Those of a room; the door has a process of its own."""
        told = super().variables(room)
        told.pop("NPD_DOOR_LISTEN", None)
        return told

    def _child(self, room: Room) -> ChildSpec:
        child = super()._child(room)
        return replace(child, argv=self._argv(room.name), env={**child.env, **OF_THE_IMAGE})

    def beside(self, workload: str, port: int, scratch: Path) -> ChildSpec:
        """A second workload of a room."""
        place, probes = scratch / workload, free_port()
        place.mkdir()
        room = next(one for one in discover() if one.name == WORKLOADS[workload].room)
        told = {
            **OF_THE_IMAGE,
            **self.variables(room),
            **settings_of(workload),
            "NPD_LISTEN": f"{HOST}:{port}",
            "NPD_HEALTH_LISTEN": f"{_PROBE}:{probes}",
            "NPD_POLICY_DIRECTORY": str(place / "policy"),
        }
        if workload == "npd-issuer-door":
            unlimited = str(60 * 1000 * 1000)
            told |= {
                "NPD_DOOR_LISTEN": self.door,
                "NPD_DOOR_LIMIT": unlimited,
                "NPD_DOOR_ADDRESS_LIMIT": unlimited,
                "NPD_REVOCATION_LIST_DIRECTORY": str(place),
            }
        log, ready = place / "log", f"http://{_PROBE}:{probes}/readyz"
        return ChildSpec(name=workload, argv=self._argv(room.name), ready=ready, log=log, env=told)

    def _argv(self, room: str) -> tuple[str, ...]:
        """By the image's Python, which sees nothing of this checkout."""
        return (str(self.image / "app" / "bin" / "python"), "-I", "-m", "services", "serve", room)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server((_PROBE, 0)) as bound:
        return int(bound.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Meter:
    """The processes of the workloads, by name."""

    processes: Mapping[str, int]

    @contextmanager
    def measuring(self) -> Iterator[dict[str, Spent]]:
        """What each takes in a block; filled when it ends."""
        found: dict[str, Spent] = {}
        for pid in self.processes.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is that from now on
        before = {name: cpu_seconds(pid) for name, pid in self.processes.items()}
        start = time.monotonic()
        yield found
        seconds = time.monotonic() - start
        for name, pid in self.processes.items():
            found[name] = Spent(seconds, cpu_seconds(pid) - before[name], peak_mib(pid))


def peak_mib(pid: int) -> float:
    """The largest resident set of a process since the mark was cleared."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def settings_of(workload: str) -> dict[str, str]:
    """What k8s/base/settings tells a workload, without places and addresses, which are other ones here."""
    told: dict[str, str] = {}
    for name in ("common", workload.removeprefix("npd-")):
        for line in (SETTINGS / f"{name}.env").read_text(encoding="utf-8").splitlines():
            variable, _, value = line.partition("=")
            if value and not line.startswith("#"):
                told[variable] = value
    kept = ("_ADDRESS", "_FILE", "_DIRECTORY", "LISTEN")
    return {name: value for name, value in told.items() if not name.endswith(kept) and name not in _ELSEWHERE}


def _up(value: float, step: int) -> int:
    return max(1, math.ceil(value / step)) * step


def room_variables(streams: str) -> dict[str, dict[str, str]]:
    """What the first workload of each room is told beside what a local mesh tells it."""
    told = {one.room: settings_of(name) for name, one in WORKLOADS.items() if name not in BESIDE}
    for room in discover():
        if "changes_address" in room.settings.model_fields:
            told[room.name]["NPD_CHANGES_ADDRESS"] = streams
    told["issuer"] |= UNLIMITED
    return told


def footprint(workload: Workload, rest: Spent, loads: Mapping[str, Spent], done: Mapping[str, int]) -> Footprint:
    """The figures of a workload. Rest is taken off each load, and counted once."""

    def unit(load: str) -> float:
        spent = loads[load]
        return max(0.0, spent.processor - rest.millicores / 1000 * spent.seconds) / done[load]

    return Footprint(
        load=workload.load,
        rest_mib=rest.peak_mib,
        load_mib=max(spent.peak_mib for spent in loads.values()),
        rest_millicores=rest.millicores,
        load_millicores=rest.millicores + sum(unit(load) * pace * 1000 for load, pace in workload.parts),
        call_us=unit(workload.parts[0][0]) * 1e6,
    )


def measure(image: Path, seconds: float, scratch: Path, tell: Console) -> dict[str, Footprint]:
    """Start everything, look at it at rest, then under one load after the other."""
    port = free_port()
    streams = f"{HOST}:{port}"
    settings = MeshSettings(first_port=28001, room_variables=room_variables(streams))
    mesh = Pods(scratch / "mesh", discover(), prepare=prepare_store, operators=OPERATORS, settings=settings)
    mesh.image = image
    with mesh:
        beside = [
            mesh.beside(name, port if name.endswith("streams") else free_port(), scratch) for name in sorted(BESIDE)
        ]
        with Supervisor(beside) as others:
            others.start(seconds=_START_SECONDS)
            pids = {one.name: one.pid or 0 for one in (*mesh.statuses(), *others.statuses())}
            named = {name: pids[name if name in BESIDE else one.room] for name, one in WORKLOADS.items()}
            meter, spent, done = Meter(named), dict[str, dict[str, Spent]](), dict[str, int]()
            time.sleep(_REST_SECONDS / 2)
            with meter.measuring() as rest:
                time.sleep(_REST_SECONDS)
            sandbox = Sandbox(mesh)
            agreements = sandbox.register(lambda _: None)
            sandbox.contribute(rated.PEOPLE, lambda _: None)
            loads = rated.Loads(mesh, streams, agreements, seconds)
            loads.prepare()
            for name in LOADS:
                tell.print(f"{name} ...", style="dim")
                with meter.measuring() as found:
                    done[name] = getattr(loads, name)()
                spent[name] = found
            loads.close()
    return {
        name: footprint(one, rest[name], {load: found[name] for load, found in spent.items()}, done)
        for name, one in WORKLOADS.items()
    }


def table(figures: Mapping[str, Footprint]) -> Table:
    """All figures, and what the manifests are to say."""
    titles = ("workload", "rated load", "MiB at rest", "under load", "mcores at rest", "under load", "us a unit")
    drawn = Table(*titles, "requests", "limits")
    for name, one in figures.items():
        numbers = (one.rest_mib, one.load_mib, one.rest_millicores, one.load_millicores, one.call_us)
        requests, limits = f"{one.cpu} {one.memory}Mi", f"{2 * one.memory}Mi"
        drawn.add_row(name, one.load, *(f"{number:.0f}" for number in numbers), requests, limits)
    over = [name for name, one in figures.items() if one.rest_mib > REST_MOST or one.load_mib > LOAD_MOST]
    drawn.caption = f"over {REST_MOST} MiB at rest or {LOAD_MOST} MiB under load: {', '.join(over) or 'none'}"
    return drawn


def written(figures: Mapping[str, Footprint]) -> str:
    """The file's content."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    head = _HEAD.format(
        machine=machine, python=platform.python_version(), memory=_MEMORY_STEP, processor=_PROCESSOR_STEP
    )
    return head + "".join(one.toml(name) for name, one in figures.items())


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=ROOT / ".build" / "image", help="directory that holds app")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load (default 10)")
    parser.add_argument("--dry", action="store_true", help="print, and leave k8s/footprint.toml as it is")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="npd-bench-") as scratch:
        figures = measure(options.image.resolve(), options.seconds, Path(scratch), console)
    console.print(table(figures))
    if not options.dry:
        WRITTEN.write_text(written(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
