"""From a revocation at the issuer to the last call that another room accepts, on every kind of connection at once.

A trial has a certificate of its own. Four callers use it at the room `sharing` when it is revoked: on a connection that
was open, by an open Watch, on a new connection each time, and on one that resumes a TLS session each time. Counted is
from before the operator's call is sent to when the last answer, or the end of the Watch, arrived.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
from grpc.experimental import session_cache
from rich.table import Table

from npd.common.v1.access_pb2 import AccessContext
from npd.registry.v1.revocation_pb2 import REVOCATION_REASON_SUPERSEDED
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd.sharing.v1.lookup_pb2_grpc import LookupServiceStub
from npd_client.client import Client
from npd_client.credentials import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE
from npd_client.errors import refusal_of
from services.local.mesh import LocalMesh
from services.local.sample import TAX
from services.local.watching import Watch
from tests.bench.lookup import questions
from tests.holders import PkiAdmin, further_certificate, name_of

KINDS = ("same connection", "open Watch", "new connection", "resumed TLS session")
TARGET_SECONDS = 1.0
_WARM_UP_CALLS = 3
_PATIENCE = 10.0


class Caller:
    """Calls again and again, until refused as revoked."""

    def __init__(self, address: str, directory: Path, question: GetCitizenRequest, kind: str) -> None:
        self.accepted, self.last, self.reason = 0, 0.0, ""
        names = (AUTHORITIES_FILE, KEY_FILE, CERTIFICATE_FILE)
        self._credentials = grpc.ssl_channel_credentials(*((directory / name).read_bytes() for name in names))
        self._address, self._question, self._kind = address, question, kind
        self._sessions = session_cache.ssl_session_cache_lru(8)  # type: ignore[no-untyped-call]
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with ExitStack() as stack:
            channel = stack.enter_context(self._channel())
            while True:
                try:
                    if self._kind != KINDS[0]:
                        stack.close()
                        channel = stack.enter_context(self._channel())
                    LookupServiceStub(channel).GetCitizen(self._question, timeout=_PATIENCE)
                except grpc.RpcError as error:
                    self.reason = refusal_of(error).reason
                    break
                self.accepted, self.last = self.accepted + 1, time.monotonic()
        self.ended.set()

    def _channel(self) -> grpc.Channel:
        options: list[tuple[str, object]] = [("grpc.use_local_subchannel_pool", 1)]
        if self._kind == KINDS[3]:
            options.append(("grpc.ssl_session_cache", self._sessions))
        return grpc.secure_channel(self._address, self._credentials, options)


def measure(mesh: LocalMesh, agreement_id: str, trials: int, counted: Callable[[int], object]) -> Table:
    """So many trials, each on every kind of connection; the maximum of each kind."""
    [question] = questions(1, agreement_id)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    wrong = 0
    with PkiAdmin(mesh) as admin, tempfile.TemporaryDirectory() as scratch:
        for number in range(trials):
            place = further_certificate(mesh, Path(scratch) / str(number))
            taken, reasons = trial(mesh, admin, place, question)
            wrong += sum(reason != "CERTIFICATE_REVOKED" for reason in reasons)
            for kind, one in taken.items():
                seconds[kind].append(one)
            counted(number + 1)
    drawn = Table("revoked at the issuer, refused by sharing", "trials", "p50 ms", "max ms", "within 1 s")
    for kind, taken_all in seconds.items():
        ordered = sorted(taken_all)
        within = sum(one <= TARGET_SECONDS for one in ordered)
        p50 = f"{ordered[len(ordered) // 2] * 1000:.0f}"
        drawn.add_row(kind, str(len(ordered)), p50, f"{ordered[-1] * 1000:.0f}", f"{within} of {len(ordered)}")
    drawn.caption = f"refused for another reason than CERTIFICATE_REVOKED: {wrong}"
    return drawn


def trial(
    mesh: LocalMesh, admin: PkiAdmin, place: Path, question: GetCitizenRequest
) -> tuple[dict[str, float], list[str]]:
    """Revoke the certificate in a directory; seconds by kind, and the reasons of the refusals."""
    address = mesh.endpoints["sharing"]
    callers = {kind: Caller(address, place, question, kind) for kind in KINDS if kind != KINDS[1]}
    access = AccessContext()
    access.CopyFrom(question.access)
    access.officer_id = TAX.officers[1]
    with Watch(Client({"sharing": address}, place), access) as watch:
        watch.wait_open(_PATIENCE)
        deadline = time.monotonic() + _PATIENCE
        while min(one.accepted for one in callers.values()) < _WARM_UP_CALLS and time.monotonic() < deadline:
            time.sleep(0.005)
        began = time.monotonic()
        admin.revoke(name_of(place), REVOCATION_REASON_SUPERSEDED)
        for one in callers.values():
            one.ended.wait(_PATIENCE)
        cut = watch.wait_cut(_PATIENCE)
    taken = {kind: max(0.0, one.last - began) for kind, one in callers.items()}
    taken[KINDS[1]] = cut.instant - began
    return taken, [*(one.reason for one in callers.values()), cut.refusal.reason]
