"""GetCitizen - authorised, gathered, recorded before it is answered - against a bare mTLS echo, in one run.

`make bench`, or `python -m tests.bench.lookup --help`. The server measured has the first core to itself; the load
generator and PostgreSQL share the second.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGKILL

from google.protobuf.field_mask_pb2 import FieldMask
from rich.console import Console
from rich.table import Table

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import Outcome
from npd.common.v1.person_pb2 import StatedIdentity
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest, GetCitizenResponse
from npd.sharing.v1.lookup_pb2_grpc import LookupServiceStub
from npd_client.channel import RotatingChannel
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local import citizens
from services.local.mesh import LocalMesh
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox
from services.mesh.core.config import RoomSettings
from tests.bench import echo
from tests.bench.load import Load, Measured

ECHO = "bare echo"
GET_CITIZEN = "/npd.sharing.v1.LookupService/GetCitizen"
FIELDS = ("full_name", "birth_date", "sex", "permanent_residence")
TICK = os.sysconf("SC_CLK_TCK")
WORKERS = RoomSettings.model_fields["unary_workers"].default


@dataclass(frozen=True, slots=True)
class Round:
    """One round of load against one server, and the processor time that the server spent on it."""

    measured: Measured
    cpu_seconds: float

    @property
    def cpu_microseconds(self) -> float:
        """Processor time of the server for one call."""
        return self.cpu_seconds / self.measured.calls * 1e6

    @property
    def throughput(self) -> float:
        """Calls a second."""
        return self.measured.calls / self.measured.seconds

    @property
    def p50(self) -> float:
        """Median latency, in milliseconds."""
        return self.measured.p50

    @property
    def p99(self) -> float:
        """Latency that one call in a hundred exceeds, in milliseconds."""
        return self.measured.p99


def pin(pid: int, core: int) -> None:
    """Give every thread of a process this core alone, one of those that we had ourselves when we were started."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has spent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def measure(pid: int, load: Load) -> Round:
    """One round."""
    generator = [sys.executable, "-m", "tests.bench.load"]
    before = cpu_seconds(pid)
    done = subprocess.run(generator, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    return Round(Measured(**json.loads(done.stdout)), cpu_seconds(pid) - before)


@contextmanager
def echo_server(credentials: Path, size: int, *further: str) -> Iterator[tuple[int, str]]:
    """The yardstick's process id and address."""
    command = [sys.executable, "-m", "tests.bench.echo", str(credentials), str(size), str(WORKERS), *further]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.pid, f"localhost:{server.stdout.readline().strip()}"
        finally:
            server.send_signal(SIGKILL)


def questions(count: int, agreement_id: str) -> list[GetCitizenRequest]:
    """A question about each of so many citizens."""
    access = AccessContext(agreement_id=agreement_id, case_reference="bench/1", officer_id=TAX.officers[0])
    return [
        GetCitizenRequest(
            access=access,
            identity=StatedIdentity(pin=person.pin, full_name=person.full_name.full, birth_date=person.birth_date),
            read_mask=FieldMask(paths=FIELDS),
        )
        for person in (citizen.person for citizen in citizens.population(count))
    ]


def table(rounds: dict[str, list[Round]]) -> Table:
    """Medians of the rounds, and the ratios of GetCitizen to the echo with as many callers."""
    drawn = Table("", "callers", "server CPU a call", "calls a second", "p50 ms", "p99 ms", "refused")
    for callers in sorted({int(name.split()[0]) for name in rounds}, reverse=True):
        bare, own = rounds[f"{callers} {ECHO}"], rounds[f"{callers} {GET_CITIZEN}"]
        for title, taken in ((ECHO, bare), ("GetCitizen", own)):
            drawn.add_row(
                title,
                str(callers),
                f"{median(taken, 'cpu_microseconds'):.0f} us",
                f"{median(taken, 'throughput'):.0f}",
                f"{median(taken, 'p50'):.1f}",
                f"{median(taken, 'p99'):.1f}",
                str(sum(one.measured.refused for one in taken)),
            )
        names = ("cpu_microseconds", "throughput", "p50", "p99")
        cpu, throughput, p50, p99 = (median(bare, name) / median(own, name) for name in names)
        ratios = (cpu, 1 / throughput, p50, p99)
        drawn.add_row("ratio (1: as the echo)", str(callers), *(f"{ratio:.2f}" for ratio in ratios), end_section=True)
    return drawn


def median(rounds: list[Round], name: str) -> float:
    """The median of a property of rounds."""
    return statistics.median([float(getattr(one, name)) for one in rounds])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=32, help="calls in flight at once (default 32; also 1)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, in turn (default 3)")
    parser.add_argument("--citizens", type=int, default=2000, help="citizens in the record (default 2000)")
    options = parser.parse_args()
    console = Console()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})  # ourselves and what we start; the servers measured get the first core
    with tempfile.TemporaryDirectory(prefix="npd-bench-") as scratch, console.status("starting the mesh") as status:
        mesh = LocalMesh(Path(scratch), discover(), prepare=prepare_store, operators=OPERATORS)
        with mesh:
            sandbox = Sandbox(mesh)
            agreement_id = sandbox.register(lambda _: None)[TAX.title]
            sandbox.contribute(options.citizens, lambda _: None)
            asked = questions(options.citizens, agreement_id)
            requests = [base64.b64encode(question.SerializeToString()).decode() for question in asked]
            credentials = mesh.layout.system(TAX.agency, TAX.system).tls
            sharing = next(one.pid for one in mesh.statuses() if one.name == "sharing") or 0
            size = len(answer_to(asked[0], mesh.endpoints["sharing"], credentials).SerializeToString())
            with echo_server(mesh.layout.room("sharing").tls, size) as (bare, address):
                targets = (
                    (ECHO, bare, address, echo.METHOD),
                    (GET_CITIZEN, sharing, mesh.endpoints["sharing"], GET_CITIZEN),
                )
                rounds: dict[str, list[Round]] = {}
                for number in range(options.rounds):
                    for callers in (options.callers, 1):
                        for title, pid, place, method in targets:
                            status.update(f"round {number + 1} of {options.rounds}: {title}, {callers} callers")
                            pin(pid, cores[0])
                            load = Load(place, str(credentials), method, requests, callers, options.seconds)
                            rounds.setdefault(f"{callers} {title}", []).append(measure(pid, load))
    console.print(table(rounds))


def answer_to(question: GetCitizenRequest, address: str, credentials: Path) -> GetCitizenResponse:
    """One answer, which must be a disclosure: what is measured must do its work."""
    with RotatingChannel(address, credentials) as channel:
        answer = LookupServiceStub(channel).GetCitizen(question, timeout=10)
    if answer.outcome != Outcome.OUTCOME_DISCLOSED:
        sys.exit("the citizen was not disclosed, so there is nothing to measure")
    return answer


if __name__ == "__main__":
    main()
