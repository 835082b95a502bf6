"""Agencies that call the mesh from processes of their own, with npd_client as it is. Run as a program by the rehearsal.

python -m tests.pods.callers DIRECTORY register NAME    # agencies, agreements and CITIZENS, by real calls
python -m tests.pods.callers DIRECTORY read NAME        # calls at a steady rate until SIGTERM; DIRECTORY/NAME.calls
python -m tests.pods.callers DIRECTORY contribute NAME  # a citizen after the other until SIGTERM
python -m tests.pods.callers DIRECTORY watch NAME       # follows the feed until SIGTERM; DIRECTORY/NAME.changes
python -m tests.pods.callers DIRECTORY pull NAME        # reads the whole feed; DIRECTORY/NAME.changes

DIRECTORY is a layout of services.local with the credentials in it.
"""

import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import grpc

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.change_pb2 import Cursor
from npd_client.client import Client
from npd_client.errors import Refusal, Unreachable
from services.local import citizens
from services.local.layout import Layout
from services.local.population import SyntheticCitizen
from services.local.registration import Registration
from services.local.sample import ONE_STOP, TAX, SampleSystem
from services.local.sandbox import stated

ADDRESSES: Final = {"registry": "dns:///npd-registry:7000", "sharing": "dns:///npd-sharing:7000"}
THREADS: Final = 16
CALLS_A_SECOND: Final = 5.0
"""Of each thread."""
CONTRIBUTIONS_A_SECOND: Final = 5.0
CITIZENS: Final = 500
MOST_FURTHER: Final = 5_000
AGREEMENTS: Final = "agreements.json"
METHODS: Final = ("GetCitizen", "VerifyCitizen", "GetCitizen", "PullChanges")
"""What `read` calls in turn: idempotent, so the channel may repeat them."""
_PAGE: Final = 20


@dataclass(frozen=True, slots=True)
class Call:
    """A call as its caller saw it: when it began (monotonic), how long it took, and the error, empty if answered."""

    method: str
    begin: float
    seconds: float
    error: str


def calls(path: Path) -> list[Call]:
    """What a process that `read` has written."""
    return [Call(**json.loads(line)) for line in path.read_text().splitlines()]


def positions(path: Path) -> list[int]:
    """What a process that watches or pulls has written."""
    return [int(line) for line in path.read_text().splitlines()]


class Caller:
    """A process of an agency."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._layout = directory, Layout(directory)
        self._stopping = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self._stopping.set())

    def register(self) -> None:
        """Register what the others need."""
        agreements = Registration(self._layout, ADDRESSES["registry"], print).register((TAX, ONE_STOP))
        (self._directory / AGREEMENTS).write_text(json.dumps(agreements))
        identity = self._layout.room("identity").tls
        citizens.contribute(ADDRESSES["sharing"], identity, citizens.population(CITIZENS), lambda _: None)

    def read(self, name: str) -> None:
        """Look up, verify and pull from several threads at a steady rate; write down every call."""
        made: list[Call] = []
        with ExitStack() as stack:
            tax, one_stop = (stack.enter_context(self._client(sample)) for sample in (TAX, ONE_STOP))
            reading = _Reading(tax, one_stop, *self._grounds())

            def run(place: int) -> None:
                for number in self._paced(CALLS_A_SECOND, place / THREADS / CALLS_A_SECOND):
                    made.append(reading.call(place + number * THREADS))

            threads = [threading.Thread(target=run, args=(place,)) for place in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        (self._directory / f"{name}.calls").write_text("".join(f"{json.dumps(asdict(one))}\n" for one in made))

    def contribute(self, name: str) -> None:
        """Tell the record of further citizens, as the room identity; who gets no answer repeats, as the client says."""
        people, told = citizens.population(CITIZENS + MOST_FURTHER), 0
        with Client({"sharing": ADDRESSES["sharing"]}, self._layout.room("identity").tls) as client:
            for number in self._paced(CONTRIBUTIONS_A_SECOND):
                item, request_id = citizens.item_of(people.citizen(CITIZENS + number)), str(uuid4())
                while True:
                    try:
                        client.contribute([item], request_id=request_id)
                        break
                    except Unreachable:
                        continue
                told += 1
        (self._directory / f"{name}.told").write_text(str(told))

    def watch(self, name: str) -> None:
        """Follow the feed from its head; write down the position of every change, as it comes."""
        (ground, _), interruptions = self._grounds(), 0

        def interrupted(refusal: Refusal, seconds: float) -> None:
            nonlocal interruptions
            interruptions += 1

        with self._client(TAX) as client, (self._directory / f"{name}.changes").open("w", buffering=1) as written:
            cursor = Cursor()
            while (page := client.pull_changes(ground, cursor if cursor.position else None)).changes:
                cursor = page.next_cursor
            written.write(f"{cursor.position}\n")
            threading.Thread(target=self._close_when_stopping, args=(client,), daemon=True).start()
            for message in client.watch_changes(ground, cursor, on_interruption=interrupted):
                written.writelines(f"{change.position}\n" for change in message.changes)
        (self._directory / f"{name}.interruptions").write_text(str(interruptions))

    def pull(self, name: str) -> None:
        """Read the whole feed and write down the position of every change."""
        ground, _ = self._grounds()
        positions: list[int] = []
        with self._client(TAX) as client:
            page = client.pull_changes(ground)
            while page.changes:
                positions += [change.position for change in page.changes]
                page = client.pull_changes(ground, page.next_cursor)
        (self._directory / f"{name}.changes").write_text("".join(f"{position}\n" for position in positions))

    def _close_when_stopping(self, client: Client) -> None:
        self._stopping.wait()
        client.close()

    def _client(self, sample: SampleSystem) -> Client:
        return Client(ADDRESSES, self._layout.system(sample.agency, sample.system).tls)

    def _grounds(self) -> tuple[AccessContext, AccessContext]:
        agreements: dict[str, str] = json.loads((self._directory / AGREEMENTS).read_text())
        tax, one_stop = (
            AccessContext(agreement_id=agreements[one.title], case_reference="HS-1", officer_id=one.officers[0])
            for one in (TAX, ONE_STOP)
        )
        return tax, one_stop

    def _paced(self, rate: float, delay: float = 0.0) -> Iterator[int]:
        """Count up at a rate until SIGTERM; who is late does not catch up."""
        due = time.monotonic() + delay
        for number in itertools.count():
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            yield number
            due = max(due + 1 / rate, time.monotonic())


class _Reading:
    """The idempotent calls of two agencies' systems, in turn."""

    def __init__(self, tax: Client, one_stop: Client, for_tax: AccessContext, for_one_stop: AccessContext) -> None:
        self._tax, self._one_stop, self._for_tax, self._for_one_stop = tax, one_stop, for_tax, for_one_stop
        self._people = citizens.population(CITIZENS)

    def call(self, number: int) -> Call:
        """One call; what comes back must be the answer for this citizen, or it counts as an error."""
        method = METHODS[number % len(METHODS)]
        begin, error = time.monotonic(), ""
        try:
            if not getattr(self, f"_{method}")(self._people.citizen(number % CITIZENS)):
                error = "another answer than is right"
        except Refusal as refusal:
            cause = refusal.__cause__
            error = f"{refusal.code.name} {refusal.reason} {cause.details() if isinstance(cause, grpc.Call) else ''}"
        return Call(method, begin, time.monotonic() - begin, error)

    def _GetCitizen(self, citizen: SyntheticCitizen) -> bool:
        one = stated(citizen)
        answer = self._tax.get_citizen(self._for_tax, one.pin, one.full_name, one.birth_date, ["full_name"])
        return bool(answer.citizen.full_name.full == one.full_name)

    def _VerifyCitizen(self, citizen: SyntheticCitizen) -> bool:
        one = stated(citizen)
        claimed = Person(birth_date=citizen.person.birth_date)
        answer = self._one_stop.verify_citizen(self._for_one_stop, one.pin, one.full_name, one.birth_date, claimed)
        return bool(answer.outcome == OUTCOME_DISCLOSED)

    def _PullChanges(self, citizen: SyntheticCitizen) -> bool:
        return len(self._tax.pull_changes(self._for_tax, page_size=_PAGE).changes) == _PAGE


def main(directory: str, act: str, name: str) -> None:
    """Run one of the acts."""
    caller = Caller(Path(directory))
    acts = {act.__name__: act for act in (caller.read, caller.contribute, caller.watch, caller.pull)}
    caller.register() if act == "register" else acts[act](name)


if __name__ == "__main__":
    main(*sys.argv[1:])
