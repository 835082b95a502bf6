"""The rated loads of the rooms, one after the other, for `python -m tests.bench.footprint`.

A rated load is what one pod is to carry; it is chosen, and k8s/footprint.toml says what it is. Where the machine cannot
keep the pace less is done, and the processor time of one unit is still right.
"""

import base64
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from npd.civil_status.v1.civil_status_pb2 import Birth
from npd.common.v1.person_pb2 import SEX_FEMALE, CodedValue, PersonName
from npd.issuer.v1 import door_pb2
from npd.registry.v1.rights_pb2 import DescribeRightsRequest
from services.local import citizens
from services.local.cast import Cast
from services.local.life import a_commune
from services.local.mesh import LocalMesh
from services.local.offices import wire_date
from services.local.sample import MEDICAL, TAX
from services.local.sandbox import stated
from services.mesh.core.clock import SystemClock, legal_date
from tests.bench import reservation
from tests.bench.load import Load, Measured
from tests.bench.lookup import GET_CITIZEN, questions
from tests.bench.renewers import Renewing
from tests.bench.ring import Events, await_known
from tests.holders import register

LOOKUPS, RIGHTS, RESERVATIONS, DIAGNOSES = 400, 100, 100, 50
MOVES, BIRTHS, CERTIFICATES, WATCHES = 50, 20, 20, 200
PEOPLE = 400
_HOLDERS, _RENEWALS, _RENEWING = 20, 400, 8
_CALLERS, _CLERKS = 16, 8
_POLICIES_EVERY = 0.5
_LONGER = 3  # what follows a stream grows with what it was sent
_RIGHTS = "/npd.registry.v1.RightsService/DescribeRights"
_DIAGNOSE = "/npd.issuer.v1.DoorService/Diagnose"


class Loads:
    """The loads, each for so many seconds; every one returns how many units of it were done."""

    def __init__(self, mesh: LocalMesh, streams: str, agreements: Mapping[str, str], seconds: float) -> None:
        self._mesh, self._streams, self._agreements, self._seconds = mesh, streams, agreements, seconds
        self._cast = Cast(agreements, mesh.endpoints, mesh.layout)
        self._holders = register(mesh, _HOLDERS)

    def lookups(self) -> int:
        """Tax looks citizens up."""
        return self._paced("sharing", GET_CITIZEN, questions(PEOPLE, self._agreements[TAX.title]), LOOKUPS)

    def rights(self) -> int:
        """Systems ask for their rights, while a system is suspended and resumed again and again: each a new policy."""
        ended = threading.Event()

        def toggle() -> None:
            while not ended.wait(_POLICIES_EVERY):
                self._cast.operator.suspend(MEDICAL, "footprint")
                self._cast.operator.resume(MEDICAL)

        toggling = threading.Thread(target=toggle)
        toggling.start()
        done = self._paced("registry", _RIGHTS, [DescribeRightsRequest()], RIGHTS)
        ended.set()
        toggling.join()
        return done

    def reservations(self) -> int:
        """The room civil status reserves numbers."""
        asked = itertools.islice(
            reservation.requests(self._mesh.settings.environment), int(RESERVATIONS * self._seconds * 2)
        )
        credentials = self._mesh.layout.room("civil_status").tls
        return self._paced("identity", reservation.RESERVE_PIN, list(asked), RESERVATIONS, credentials)

    def diagnoses(self) -> int:
        """Somebody asks the door why a certificate is refused."""
        chain = (self._mesh.layout.system(TAX.agency, TAX.system).tls / "tls.crt").read_bytes()
        asked = [door_pb2.DiagnoseRequest(certificate_chain=chain)]
        return self._paced("door", _DIAGNOSE, asked, DIAGNOSES)

    def renewals(self) -> int:
        """Holders renew, as fast as they are served."""
        renewing = Renewing(
            self._mesh.endpoints["issuer"], [str(place) for place in self._holders], _RENEWALS, _RENEWING
        )
        return _run("tests.bench.renewers", asdict(renewing)).calls

    def births(self) -> int:
        """Births are registered."""
        today, place = legal_date(SystemClock().now()), a_commune()
        count, start = int(BIRTHS * self._seconds), time.monotonic()

        def register_birth(number: int) -> None:
            time.sleep(max(0.0, start + number / BIRTHS - time.monotonic()))
            given = f"An {chr(ord('A') + number // 26)}{chr(ord('a') + number % 26)}"  # no two are the same birth
            birth = Birth(
                full_name=PersonName(family="Lê", given=given, full=f"Lê {given}"),
                birth_date=wire_date(today - timedelta(days=30)),
                sex=SEX_FEMALE,
                place_of_birth=place,
                registration_place=place,
                hometown=place,
                ethnicity=CodedValue(code="01", list_version="2008"),
                nationalities=["VN"],
            )
            self._cast.registrar.register_birth(birth, entry=f"KS-{number}")

        with ThreadPoolExecutor(_CLERKS) as clerks:
            list(clerks.map(register_birth, range(count)))
        return count

    def moves(self) -> int:
        """Residences are registered, and so many Watches follow."""
        events = Events(self._cast, [stated(one) for one in citizens.population(PEOPLE)])
        with watches(self._streams, self._mesh, self._agreements[TAX.title]):
            events.run(MOVES, _LONGER * self._seconds, None)
        return events.seen.sent

    def prepare(self) -> None:
        """Wait until the room residence knows the people who move."""
        await_known(self._cast, stated(citizens.population(PEOPLE).citizen(PEOPLE - 1)))

    def close(self) -> None:
        """Close all connections."""
        self._cast.close()

    def _paced(
        self, room: str, method: str, requests: Sequence[Message], pace: float, credentials: Path | None = None
    ) -> int:
        address = self._mesh.door if room == "door" else self._mesh.endpoints[room]
        place = credentials or self._mesh.layout.system(TAX.agency, TAX.system).tls
        encoded = [base64.b64encode(one.SerializeToString()).decode() for one in requests]
        measured = _run(
            "tests.bench.load", asdict(Load(address, str(place), method, encoded, _CALLERS, self._seconds, pace))
        )
        if measured.refused:
            sys.exit(f"{measured.refused} calls of {method} were refused, so there is nothing to measure")
        return measured.calls


@contextmanager
def watches(address: str, mesh: LocalMesh, agreement_id: str) -> Iterator[None]:
    """Open Watches of tax at an address, in a process of their own."""
    credentials = mesh.layout.system(TAX.agency, TAX.system).tls
    argv = [address, str(credentials), agreement_id, TAX.officers[1], str(WATCHES)]
    command = [sys.executable, "-m", "tests.bench.watchers", *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "open"
            yield
        finally:
            process.kill()


def _run(module: str, told: dict[str, Any]) -> Measured:
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout))
