"""ReservePin - a free number drawn, reserved and recorded before it is answered - at 16 callers, in a mesh of its own.

`python -m tests.bench.reservation --help`. Nothing is pinned: the room, PostgreSQL and the load generator share all
cores, as in a small installation.
"""

import argparse
import base64
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from uuid import uuid4

from google.type.date_pb2 import Date
from rich.console import Console
from rich.table import Table

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE
from npd.common.v1.place_pb2 import AdminPlace
from npd.identity.v1.number_pb2 import BirthFacts, ReservePinRequest
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS
from services.mesh.core.clock import legal_date
from services.mesh.core.places import list_version
from tests.bench.load import Load
from tests.bench.lookup import Round, measure

RESERVE_PIN = "/npd.identity.v1.NumberService/ReservePin"
MOST_A_SECOND = 3000
"""More requests than can be answered: none is asked twice, which would be answered from memory."""


def requests(environment: str) -> Iterator[ReservePinRequest]:
    """Births of this year in Ho Chi Minh City and Ha Noi."""
    today = legal_date(datetime.now(UTC))
    access = AccessContext(
        agreement_id=str(uuid4()),
        case_reference="bench/1",
        officer_id="r-1",
        origin=f"spiffe://agency.{environment}/hcm/civil-status",
    )
    while True:
        for unit in ("79", "01"):
            for sex in (SEX_FEMALE, SEX_MALE):
                place = AdminPlace(unit_code=unit, unit_list_version=list_version(today))
                birth = BirthFacts(sex=sex, birth_date=Date(year=today.year), registration_place=place)
                yield ReservePinRequest(request_id=str(uuid4()), access=access, birth=birth)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch, console.status("starting a mesh") as status:
        settings = MeshSettings(first_port=7601)
        mesh = LocalMesh(Path(scratch), discover(), prepare=prepare_store, operators=OPERATORS, settings=settings)
        drawn = Table("round", "callers", "reservations a second", "p50 ms", "p99 ms", "server CPU each", "refused")
        with mesh:
            place, credentials = mesh.endpoints["identity"], mesh.layout.room("civil_status").tls
            pid = next(one.pid for one in mesh.statuses() if one.name == "identity") or 0
            for number in range(options.rounds):
                status.update(f"round {number + 1} of {options.rounds}")
                count = int(options.seconds * MOST_A_SECOND)
                asked = islice(requests(settings.environment), count)
                encoded = [base64.b64encode(one.SerializeToString()).decode() for one in asked]
                load = Load(place, str(credentials), RESERVE_PIN, encoded, options.callers, options.seconds)
                drawn.add_row(str(number + 1), str(options.callers), *figures(measure(pid, load)))
    console.print(drawn)


def figures(taken: Round) -> tuple[str, ...]:
    """A round's figures as the table shows them."""
    return (
        f"{taken.throughput:.0f}",
        f"{taken.p50:.1f}",
        f"{taken.p99:.1f}",
        f"{taken.cpu_microseconds:.0f} us",
        str(taken.measured.refused),
    )


if __name__ == "__main__":
    main()
