"""Certificates in the demonstration: an enrolment at the issuer's door, renewals that nobody notices, a new start."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED
from npd_client import enrolment
from npd_client.client import Client
from npd_client.credentials import AUTHORITIES_FILE
from npd_client.errors import Refusal
from npd_client.renewal import renew
from npd_client.taking import Taken
from services.local.cast import Cast, Party
from services.local.credentials import read_certificate
from services.local.mesh import LocalMesh
from services.local.sample import TAX
from services.local.sandbox import a_citizen, stated
from services.local.story import Story, Unexpected, expect, expect_refusal

_CALLERS: Final = 4
_RENEWALS: Final = 5


@dataclass
class _Calls:
    """Calls that were answered, and the refusals of others."""

    answered: int = 0
    failed: list[Refusal] = field(default_factory=list)


class Certification:
    """How tax gets certificates, renews them, and begins anew after a revocation."""

    def __init__(self, mesh: LocalMesh, story: Story, cast: Cast) -> None:
        self._mesh, self._story, self._cast = mesh, story, cast
        self._citizen = stated(a_citizen(300))  # nobody else in the story asks about this one

    def enrolment(self) -> None:
        """A further installation of tax comes to the door with a token."""
        place = self._mesh.layout.directory / "enrolled" / TAX.system
        token = self._cast.operator.enrol(TAX)
        self._story.say("an operator enrols tax/core; the agency gets a token, and the issuer knows its digest alone")
        began = time.monotonic()
        taken = self._enrolled(token, place)
        milliseconds = (time.monotonic() - began) * 1000
        with Client(self._mesh.endpoints, place) as client:
            expect("who calls with it", client.who_am_i().identity, taken.identity)
        self._story.say(
            f"key made and certificate {taken.serial_number} got in {milliseconds:.0f} ms, valid until "
            f"{taken.expire_time:%Y-%m-%d}; it calls"
        )
        thief = self._mesh.layout.directory / "enrolled" / "thief"
        refusal = expect_refusal("TOKEN_USED", lambda: self._enrolled(token, thief))
        self._story.say(f"the same token from somebody else: refused, {refusal.reason}")

    def renewal(self) -> None:
        """Tax renews, again and again, while it calls."""
        tax, serials = self._cast.tax, {read_certificate(self._cast.tax.directory).serial}
        with self._calling(tax) as calls:
            for _ in range(_RENEWALS):
                renew(tax.directory, tax.client.channel("issuer"))
                for room in ("issuer", "sharing"):
                    tax.client.channel(room).reload()
                serials.add(read_certificate(tax.directory).serial)
        expect("certificates", len(serials), 1 + _RENEWALS)
        expect("failed calls", [str(one) for one in calls.failed], [])
        self._story.say(
            f"{_RENEWALS} renewals, each with a new key, while {_CALLERS} callers looked citizens up: "
            f"{calls.answered} calls, 0 failed"
        )

    def new_start(self) -> Taken:
        """Tax enrols anew into the directory in use; its client takes the new files."""
        tax = self._cast.tax
        taken = self._enrolled(self._cast.operator.enrol(TAX), tax.directory)
        tax.client.channel("sharing").reload()
        return taken

    def _enrolled(self, token: str, place: Path) -> Taken:
        roots = (self._cast.tax.directory / AUTHORITIES_FILE).read_bytes()
        done = enrolment.enrol(self._mesh.door, token, place, roots=roots, over_existing=True)
        if done.taken is None:
            raise Unexpected(f"expected a certificate at once for an active system, the application is {done.state}")
        return done.taken

    @contextmanager
    def _calling(self, tax: Party) -> Iterator[_Calls]:
        """Callers of tax, until the end of the block; each makes one call at least."""
        calls, mutex, ended = _Calls(), threading.Lock(), threading.Event()

        def call() -> None:
            while True:
                try:
                    answer = tax.look_up(self._citizen, ("full_name",), case="HS-2026/19")
                    expect("the outcome", answer.outcome, OUTCOME_DISCLOSED)
                except Refusal as refusal:
                    calls.failed.append(refusal)
                with mutex:
                    calls.answered += 1
                if ended.is_set():
                    return

        threads = [threading.Thread(target=call, name="caller", daemon=True) for _ in range(_CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield calls
        finally:
            ended.set()
            for thread in threads:
                thread.join()
