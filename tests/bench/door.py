"""What a flood at the door does to the mTLS port of the same process: ratios in one run.

The flood opens connections and asks without pause from one address, with made-up tokens and with certificates to judge.
The control is the same flood at a bare server in a process of its own: what it costs by the processor time that it
takes from all, on a machine of few cores.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.table import Table

from npd.issuer.v1.certificate_pb2 import GetRenewalWindowRequest
from services.local.mesh import LocalMesh
from services.local.sample import TAX
from tests.bench.flood import Flooded
from tests.bench.load import Load, Measured
from tests.bench.lookup import echo_server

METHOD = "/npd.issuer.v1.CertificateService/GetRenewalWindow"
_CALLERS = 8
_PACE = 100.0


def measure(mesh: LocalMesh, seconds: float) -> Table:
    """Calls of a holder at a steady pace, without a flood, beside one elsewhere, and beside one at the door."""
    alone = _calls(mesh, seconds)
    with echo_server(mesh.layout.room("issuer").tls, 0, "--anybody") as (_, elsewhere), flood(mesh, elsewhere):
        control = _calls(mesh, seconds)
    with flood(mesh, mesh.door) as poured:
        beside = _calls(mesh, seconds)
    flooded = poured[0]
    drawn = Table("the issuer's mTLS port", "calls a second", "p50 ms", "p99 ms", "refused")
    rows = (("no flood", alone), ("the same flood elsewhere", control), ("a flood at the door", beside))
    for title, one in rows:
        rate = f"{one.calls / one.seconds:.0f}"
        drawn.add_row(title, rate, f"{one.p50:.1f}", f"{one.p99:.1f}", str(one.refused))
    drawn.caption = (
        f"p99 with a flood at the door / elsewhere: {beside.p99 / control.p99:.2f}, / none: "
        f"{beside.p99 / alone.p99:.2f}; at the door {flooded.calls / flooded.seconds:.0f} calls "
        f"a second, {flooded.judged} judged, {flooded.throttled} told to come later, {flooded.lost} not answered"
    )
    return drawn


def _calls(mesh: LocalMesh, seconds: float) -> Measured:
    credentials = mesh.layout.system(TAX.agency, TAX.system).tls
    request = base64.b64encode(GetRenewalWindowRequest().SerializeToString()).decode()
    load = Load(mesh.endpoints["issuer"], str(credentials), METHOD, [request], _CALLERS, seconds, _PACE)
    generator = [sys.executable, "-m", "tests.bench.load"]
    done = subprocess.run(generator, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout))


@contextmanager
def flood(mesh: LocalMesh, address: str) -> Iterator[list[Flooded]]:
    """A flood of an address, until the end of the block; then the list holds what became of it."""
    poured: list[Flooded] = []
    directory = mesh.layout.system(TAX.agency, TAX.system).tls
    command = [sys.executable, "-m", "tests.bench.flood", address, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "pouring"
            yield poured
            told, _ = process.communicate("", timeout=60)
            poured.append(Flooded(**json.loads(told)))
        finally:
            process.kill()
