"""From an event at a source to a lookup and to a follower, and what 200 open Watches do to lookups, in one run.

`make bench-ring`, or `python -m tests.bench.ring --help`. Events are permanent residences registered at the room
residence, by 16 clerks at a steady pace. "Committed" is the instant at which the clerk has the answer.
"""

import argparse
import base64
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from npd.common.v1.place_pb2 import Address
from npd_client.errors import Refusal
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local import citizens
from services.local.cast import Cast
from services.local.life import a_commune
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox, Stated, stated
from services.local.watching import Watch
from services.mesh.core.clock import SystemClock, legal_date
from tests.bench.load import Load, Measured
from tests.bench.lookup import GET_CITIZEN, questions

_CLERKS = 16
_LOOKUPS = 200.0  # a second, in the measurement beside Watches: 12 times the mean of the whole country
_LOOKED_UP = 5  # every so-manieth event is awaited by lookups


@dataclass
class Seen:
    """Seconds from the commit of each event to its being seen."""

    by_lookup: list[float] = field(default_factory=list)
    by_follower: list[float] = field(default_factory=list)
    late: int = 0
    sent: int = 0


class Events:
    """Moves of citizens at a steady pace, until the time is over."""

    def __init__(self, cast: Cast, people: Sequence[Stated]) -> None:
        self._cast = cast
        self._people = itertools.cycle(people)
        self._numbers = itertools.count(1)
        self._today = legal_date(SystemClock().now())
        self.seen = Seen()

    def run(self, pace: float, seconds: float, watch: Watch | None) -> None:
        """Send `pace` events a second for so many seconds, and note when each is seen."""
        committed: dict[str, float] = {}
        with ThreadPoolExecutor(_CLERKS) as clerks, ThreadPoolExecutor(_CLERKS) as lookers:
            start = time.monotonic()
            for number in range(int(pace * seconds)):
                time.sleep(max(0.0, start + number / pace - time.monotonic()))
                person, detail = next(self._people), f"Số {next(self._numbers)} phố Đo"
                clerks.submit(self._move, person, detail, committed, lookers if number % _LOOKED_UP == 0 else None)
        if watch is not None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and len(self._arrived(watch, committed)) < len(committed):
                time.sleep(0.05)
            self.seen.by_follower += self._arrived(watch, committed)
            self.seen.late += len(committed) - len(self.seen.by_follower)

    def _move(
        self, person: Stated, detail: str, committed: dict[str, float], lookers: ThreadPoolExecutor | None
    ) -> None:
        address = Address(place=a_commune(), detail_text=detail)
        try:
            self._cast.residence_office.register_permanent(person, address, self._today, case="DO-1")
        except Refusal:
            return
        instant = committed[detail] = time.monotonic()
        self.seen.sent += 1
        if lookers is not None:
            lookers.submit(self._look, person, detail, instant)

    def _look(self, person: Stated, detail: str, instant: float) -> None:
        while time.monotonic() < instant + 10:
            answer = self._cast.tax.look_up(person, ("permanent_residence",), case="DO-2")
            if answer.citizen.permanent_residence.detail_text == detail:
                self.seen.by_lookup.append(time.monotonic() - instant)
                return
            time.sleep(0.002)
        self.seen.late += 1

    @staticmethod
    def _arrived(watch: Watch, committed: dict[str, float]) -> list[float]:
        return [
            one.instant - committed[detail]
            for one in watch.arrivals()
            if (detail := one.change.citizen.permanent_residence.detail_text) in committed
        ]


@contextmanager
def watchers(mesh: LocalMesh, agreement_id: str, count: int) -> Iterator[None]:
    """So many open Watches of tax, in a process of their own."""
    credentials = mesh.layout.system(TAX.agency, TAX.system).tls
    argv = [mesh.endpoints["sharing"], str(credentials), agreement_id, TAX.officers[1], str(count)]
    command = [sys.executable, "-m", "tests.bench.watchers", *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "open"
            yield
        finally:
            process.kill()


def lookups(mesh: LocalMesh, requests: list[str], seconds: float) -> Measured:
    """Lookups by 8 callers at a steady pace, from a process of their own."""
    credentials = mesh.layout.system(TAX.agency, TAX.system).tls
    load = Load(mesh.endpoints["sharing"], str(credentials), GET_CITIZEN, requests, 8, seconds, _LOOKUPS)
    generator = [sys.executable, "-m", "tests.bench.load"]
    done = subprocess.run(generator, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout))


def percentile(values: Sequence[float], share: float) -> str:
    """A percentile in milliseconds."""
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000:.0f}" if ordered else "-"


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pace", type=float, default=50, help="events a second (default 50)")
    parser.add_argument("--seconds", type=float, default=20, help="how long events are sent (default 20)")
    parser.add_argument("--watchers", type=int, default=200, help="open Watches (default 200)")
    parser.add_argument("--people", type=int, default=400, help="citizens who move (default 400)")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="npd-bench-") as scratch, console.status("starting the mesh") as status:
        settings = MeshSettings(first_port=26001)
        with LocalMesh(
            Path(scratch), discover(), prepare=prepare_store, operators=OPERATORS, settings=settings
        ) as mesh:
            sandbox = Sandbox(mesh)
            agreements = sandbox.register(lambda _: None)
            sandbox.contribute(options.people, lambda _: None)
            cast = Cast(agreements, mesh.endpoints, mesh.layout)
            people = [stated(one) for one in citizens.population(options.people)]
            status.update("the room residence learns of the people")
            await_known(cast, people[-1])
            status.update(f"{options.pace:g} events a second")
            events = Events(cast, people)
            with Watch(cast.tax.new_client(), cast.tax.ground("DO-3", TAX.officers[1])) as watch:
                watch.wait_open(10)
                events.run(options.pace, options.seconds, watch)
            console.print(flow_table(events.seen))
            status.update("lookups, without and with Watches")
            asked = questions(options.people, agreements[TAX.title])
            requests = [base64.b64encode(question.SerializeToString()).decode() for question in asked]
            rows = [(0, lookups_beside_events(mesh, cast, people, requests, options.pace))]
            with watchers(mesh, agreements[TAX.title], options.watchers):
                rows.append((options.watchers, lookups_beside_events(mesh, cast, people, requests, options.pace)))
            cast.close()
    console.print(watch_table(rows))


def await_known(cast: Cast, person: Stated) -> None:
    """Wait until the room residence knows a citizen."""
    deadline = time.monotonic() + 60
    while not cast.residence_office.residence(person, case="DO-0").residences:
        if time.monotonic() > deadline:
            sys.exit("the room residence did not learn of the citizens in 60 s")
        time.sleep(0.1)


def lookups_beside_events(
    mesh: LocalMesh, cast: Cast, people: Sequence[Stated], requests: list[str], pace: float
) -> Measured:
    """Lookups for 8 seconds, while events go on."""
    events = threading.Thread(target=Events(cast, people).run, args=[pace, 9.0, None])
    events.start()
    measured = lookups(mesh, requests, 8.0)
    events.join()
    return measured


def flow_table(seen: Seen) -> Table:
    """Times from the commit at the source."""
    drawn = Table("committed at residence, then", "events", "p50 ms", "p95 ms", "p99 ms", "mean ms")
    for title, values in (("visible to a lookup", seen.by_lookup), ("delivered to a follower", seen.by_follower)):
        mean = f"{statistics.fmean(values) * 1000:.0f}" if values else "-"
        drawn.add_row(title, str(len(values)), *(percentile(values, share) for share in (0.5, 0.95, 0.99)), mean)
    drawn.caption = f"{seen.sent} events sent; {seen.late} not seen within 10 s"
    return drawn


def watch_table(rows: Sequence[tuple[int, Measured]]) -> Table:
    """Lookups beside events, by the number of open Watches."""
    drawn = Table("open Watches", "lookups a second", "p50 ms", "p99 ms", "refused")
    for count, measured in rows:
        rate = f"{measured.calls / measured.seconds:.0f}"
        drawn.add_row(str(count), rate, f"{measured.p50:.1f}", f"{measured.p99:.1f}", str(measured.refused))
    (_, without), (_, beside) = rows
    drawn.caption = f"p99 with Watches / without: {beside.p99 / without.p99:.2f}"
    return drawn


if __name__ == "__main__":
    main()
