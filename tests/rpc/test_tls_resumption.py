"""A resumed TLS session brings back the certificate that began it: a room judges that at every call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.protobuf.message import Message
from grpc.experimental import session_cache

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.registry.v1 import revocation_pb2, revocation_pb2_grpc
from npd_client.credentials import Credentials
from npd_client.errors import Refusal, refusal_of
from npd_pki.credentials import load_credentials
from npd_pki.identity import Kind
from npd_pki.profile import CLIENT_TLS
from npd_pki.validity import Validity
from services.mesh.wire.call import Call
from services.mesh.wire.interceptors.caller import CallerGuard
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, new_id, wait_until

METHOD = "/npd.common.v1.EvidenceService/GetCheckpoint"
_SHORT = timedelta(seconds=3)


class Resuming:
    """A client that keeps TLS sessions and tries to resume them on each new connection."""

    def __init__(self, address: str, directory: Path) -> None:
        self._address = address
        names = ("ca.crt", "tls.key", "tls.crt")
        self._credentials = grpc.ssl_channel_credentials(*((directory / name).read_bytes() for name in names))
        self._sessions = session_cache.ssl_session_cache_lru(8)  # type: ignore[no-untyped-call]

    def call(self) -> None:
        """One call on a new connection. Raises Refusal."""
        options = [
            ("grpc.ssl_session_cache", self._sessions),
            ("grpc.use_local_subchannel_pool", 1),  # or two channels would share one connection
        ]
        with grpc.secure_channel(self._address, self._credentials, options) as channel:
            try:
                evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(
                    evidence_pb2.GetCheckpointRequest(), timeout=10
                )
            except grpc.RpcError as error:
                raise refusal_of(error) from error


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk) -> Running:
    """A room to call."""
    desk.register("tax/core")
    desk.register("late/core")
    desk.register("lost/core")
    return stage.start(SHARING)


@pytest.fixture
def reused(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each call that reached the room's interceptors: whether its connection resumed a TLS session."""
    seen: list[bool] = []
    judge = CallerGuard.__call__

    def look(guard: CallerGuard, call: Call, request: Message) -> None:
        if call.method == METHOD:
            seen.append(session_reused(call.context))
        judge(guard, call, request)

    monkeypatch.setattr(CallerGuard, "__call__", look)
    return seen


@pytest.fixture
def plain(sharing: Running) -> Iterator[tuple[str, list[bool]]]:
    """A server as grpcio's manual has it, with fixed credentials; its address, and what it saw of TLS sessions."""
    seen: list[bool] = []

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(session_reused(context))
        return b""

    directory = sharing.authority.tls(Kind.MESH, "sharing")
    pair = ((directory / "tls.key").read_bytes(), (directory / "tls.crt").read_bytes())
    server = grpc.server(ThreadPoolExecutor(2))
    service, _, method = METHOD[1:].partition("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    credentials = grpc.ssl_server_credentials([pair], (directory / "ca.crt").read_bytes(), require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield f"localhost:{port}", seen
    server.stop(None)


def session_reused(context: grpc.ServicerContext) -> bool:
    """Whether TLS resumed a session on the connection of a call."""
    facts = cast(Mapping[str, Sequence[bytes]], context.auth_context())
    return facts["ssl_session_reused"] == [b"true"]


def refused(call: Callable[[], None]) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        call()
    return refusal.value


def expiring(sharing: Running, directory: Path, name: str) -> datetime:
    """Write credentials that are valid for some seconds more; returns their end."""
    now = datetime.now(UTC)
    validity = Validity(now - timedelta(minutes=1), now + _SHORT)
    sharing.authority.issue(directory, Kind.AGENCY, name, CLIENT_TLS, validity=validity)
    return validity.not_after


def test_a_plain_server_resumes_even_after_expiry(
    sharing: Running, plain: tuple[str, list[bool]], tmp_path: Path
) -> None:
    """The control: with fixed credentials the same client resumes, and its dead certificate gets an answer."""
    address, seen = plain
    end = expiring(sharing, tmp_path, "late/core")
    client = Resuming(address, tmp_path)
    client.call()
    wait_until(lambda: datetime.now(UTC) > end)
    client.call()
    assert seen == [False, True]


def test_a_resumed_session_is_served_while_its_certificate_is_good(sharing: Running, reused: list[bool]) -> None:
    client = Resuming(sharing.address, sharing.authority.tls(Kind.AGENCY, "tax/core"))
    for _ in range(3):
        client.call()
    assert reused == [False, True, True]


def test_new_files_end_all_sessions(sharing: Running, reused: list[bool]) -> None:
    client = Resuming(sharing.address, sharing.authority.tls(Kind.AGENCY, "tax/core"))
    client.call()
    credentials = sharing.house.credentials
    credentials._use(Credentials.from_directory(sharing.authority.tls(Kind.MESH, "sharing")))  # as a reload does
    client.call()
    client.call()
    assert reused == [False, False, True], "who was judged by the old bundle is judged by the new one"


def test_an_expired_identity_that_is_resumed_is_refused(sharing: Running, reused: list[bool], tmp_path: Path) -> None:
    end = expiring(sharing, tmp_path, "late/core")
    client = Resuming(sharing.address, tmp_path)
    client.call()
    recorded = sharing.entries()
    wait_until(lambda: datetime.now(UTC) > end)
    refusal = refused(client.call)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
    assert reused == [False, True]
    assert sharing.entries() == recorded


def test_a_revoked_identity_that_is_resumed_is_refused(
    stage: Stage, registry: Running, sharing: Running, reused: list[bool]
) -> None:
    directory = sharing.authority.tls(Kind.AGENCY, "lost/core")
    client = Resuming(sharing.address, directory)
    client.call()
    recorded, issued = sharing.entries(), load_credentials(directory).issued
    revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan")).RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(),
            issuer_key_id=issued.issuer_key_id,
            serial_number=f"{issued.serial:x}",
            reason=revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE,
        )
    )
    stage.settle()
    refusal = refused(client.call)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")
    assert reused == [False, True]
    assert sharing.entries() == recorded
