"""Certificates a second of one issuer on one core, against a bare signature and two commits.

An issue is: the request judged, its intent committed, the certificate built, linted and signed, the result committed
with the act for the authority log.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import psycopg
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from rich.table import Table

from services.local.mesh import LocalMesh
from tests.bench.load import Measured
from tests.bench.lookup import cpu_seconds, pin
from tests.bench.renewers import Renewing

_CALLERS = 8
_SIGNED = b"\0" * 700
"""About as long as what is signed of a leaf."""
_YARDSTICK = 2000
TARGET = 50


def measure(mesh: LocalMesh, holders: Sequence[Path], count: int, counted: Callable[[int], object]) -> Table:
    """Issue so many certificates to many holders at once."""
    places = [str(place) for place in holders]
    issuer = next(one.pid for one in mesh.statuses() if one.name == "issuer") or 0
    pin(issuer, min(os.sched_getaffinity(0)))
    renewing = Renewing(mesh.endpoints["issuer"], places, count, _CALLERS)
    before, rising = cpu_seconds(issuer), threading.Event()
    watching = threading.Thread(target=_watch, args=[mesh, counted, rising], daemon=True)
    watching.start()
    generator = [sys.executable, "-m", "tests.bench.renewers"]
    done = subprocess.run(generator, input=json.dumps(asdict(renewing)), capture_output=True, text=True, check=True)
    rising.set()
    watching.join()
    measured = Measured(**json.loads(done.stdout))
    for thread in Path(f"/proc/{issuer}/task").iterdir():
        os.sched_setaffinity(int(thread.name), os.sched_getaffinity(0))
    spent = (cpu_seconds(issuer) - before) / max(1, measured.calls)
    bare_rate, bare_cpu = _yardstick(mesh)
    drawn = Table("issued by one process on one core", "a second", "server CPU each", "p50 ms", "p99 ms", "refused")
    rate = measured.calls / measured.seconds
    drawn.add_row(
        f"{measured.calls:,} renewals, {_CALLERS} at once",
        f"{rate:.0f}",
        f"{spent * 1000:.1f} ms",
        f"{measured.p50:.0f}",
        f"{measured.p99:.0f}",
        str(measured.refused),
    )
    drawn.add_row("bare: P-256 signature, two commits", f"{bare_rate:.0f}", f"{bare_cpu * 1000:.2f} ms", "", "", "")
    drawn.caption = (
        f"target {TARGET} a second; by its CPU alone {1 / spent:.0f}; bare CPU / CPU: {bare_cpu / spent:.3f}"
    )
    return drawn


def _watch(mesh: LocalMesh, counted: Callable[[int], object], ended: threading.Event) -> None:
    """Count certificates as they appear in the store."""
    with psycopg.connect(_url(mesh), autocommit=True) as connection:
        query = "SELECT count(*) FROM certificates"
        (began,) = connection.execute(query).fetchone() or (0,)
        while not ended.wait(0.5):
            (held,) = connection.execute(query).fetchone() or (0,)
            counted(held - began)


def _yardstick(mesh: LocalMesh) -> tuple[float, float]:
    """Signatures with two commits each, as many at once: how many a second, and our CPU for one."""
    key = ec.generate_private_key(ec.SECP256R1())
    with psycopg.connect(_url(mesh), autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_yardstick (line integer)")

    def work(count: int) -> None:
        with psycopg.connect(_url(mesh), autocommit=True) as connection:
            for number in range(count):
                connection.execute("INSERT INTO bench_yardstick VALUES (%s)", [number])
                key.sign(_SIGNED, ec.ECDSA(hashes.SHA256()))
                connection.execute("INSERT INTO bench_yardstick VALUES (%s)", [number])

    start, cpu = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(_CALLERS) as pool:
        list(pool.map(work, [_YARDSTICK // _CALLERS] * _CALLERS))
    seconds, spent = time.monotonic() - start, time.process_time() - cpu
    with psycopg.connect(_url(mesh), autocommit=True) as connection:
        connection.execute("DROP TABLE bench_yardstick")
    return _YARDSTICK / seconds, spent / _YARDSTICK


def _url(mesh: LocalMesh) -> str:
    return mesh.layout.room("issuer").database_url.read_text().strip().replace("postgresql+psycopg:", "postgresql:")
