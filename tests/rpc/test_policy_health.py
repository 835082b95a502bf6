"""Health: probes and metrics on the plain port, the health service on the mTLS port, and what each gives away."""

import http.client
import json
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text

import services
from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd_client.errors import Unreachable
from npd_pki.identity import Kind
from npd_pki.trust_bundle import certificates_pem
from services.mesh.core.clock import SystemClock
from services.mesh.wire import store_check
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, refused, wait_until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class ShiftedClock:
    """The machine's clock, put forward as far as told."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead


@pytest.fixture(scope="module")
def clock() -> ShiftedClock:
    """The room's clock."""
    return ShiftedClock()


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk, clock: ShiftedClock) -> Running:
    """A room with three threads for calls, and with a clock of its own."""
    desk.register("tax/core")
    return stage.start(SHARING, clock=clock, unary_workers=2, stream_slots=1)


@pytest.fixture(autouse=True)
def _on_time(sharing: Running, clock: ShiftedClock) -> Iterator[None]:
    yield
    clock.ahead = timedelta()
    wait_until(lambda: health_of(sharing) == SERVING)


def get(room: Running, path: str, seconds: float = 5.0) -> tuple[int, str]:
    """Status and text of a page of the plain port."""
    connection = http.client.HTTPConnection("127.0.0.1", room.serving.health.port, timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def readiness(room: Running) -> tuple[int, Any]:
    """Status and content of /readyz."""
    status, text = get(room, "/readyz")
    return status, json.loads(text)


def health_of(room: Running) -> int:
    """What a client that balances by health is told."""
    stub = health_pb2_grpc.HealthStub(room.channel(Kind.AGENCY, "tax/core"))
    return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status)


def is_well(room: Running) -> bool:
    """Whether it is ready and has nothing to report."""
    return readiness(room) == (200, {"ready": True, "not_ready": {}, "degraded": {}})


def test_a_room_at_work_is_live_and_ready(registry: Running, sharing: Running) -> None:
    for room in (registry, sharing):
        assert get(room, "/livez") == (200, '{"live": true}')
        wait_until(partial(is_well, room))


def test_readiness_says_that_the_policy_was_not_confirmed_for_long(sharing: Running, clock: ShiftedClock) -> None:
    clock.ahead = timedelta(minutes=5)
    status, told = readiness(sharing)
    assert (status, told["ready"], told["not_ready"]) == (200, True, {})
    assert "policy" in told["degraded"]
    assert "confirmed 30" in told["degraded"]["policy"] or "confirmed 29" in told["degraded"]["policy"]


def test_a_policy_over_its_limit_is_not_ready_and_still_live(sharing: Running, clock: ShiftedClock) -> None:
    clock.ahead = timedelta(minutes=16)
    status, told = readiness(sharing)
    assert (status, told["ready"]) == (503, False)
    assert set(told["not_ready"]) == {"policy"}
    assert told["not_ready"]["policy"].endswith("over the limit of 900 s")
    assert get(sharing, "/livez")[0] == 200


def test_who_balances_by_health_is_sent_away_while_the_policy_is_too_old(sharing: Running, clock: ShiftedClock) -> None:
    """A headless name in Kubernetes leads to every pod, ready or not: one that refuses every call says so by health."""
    clock.ahead = timedelta(minutes=16)
    wait_until(lambda: health_of(sharing) == NOT_SERVING)
    clock.ahead = timedelta()
    wait_until(lambda: health_of(sharing) == SERVING)


def test_who_balances_by_health_is_sent_away_while_the_clock_is_wrong(
    sharing: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store_check, "clock_difference", lambda connection: timedelta(minutes=6))
        status, told = readiness(sharing)
        assert (status, set(told["not_ready"])) == (503, {"clock"})
        wait_until(lambda: health_of(sharing) == NOT_SERVING)
    assert readiness(sharing)[0] == 200
    wait_until(lambda: health_of(sharing) == SERVING)


def test_a_process_that_imported_grpc_first_is_not_ready(sharing: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "GRPC_CAME_FIRST", True)
    status, told = readiness(sharing)
    assert status == 503
    assert told["not_ready"] == {"tls": "gRPC was imported before the TLS 1.3 setting"}


def test_readiness_says_that_the_store_is_away(sharing: Running) -> None:
    engine = sharing.house.engine
    others = "FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as kept:
        kept.execute(text(f"ALTER DATABASE {engine.url.database} CONNECTION LIMIT 0"))
        try:
            kept.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
            wait_until(lambda: set(readiness(sharing)[1]["not_ready"]) == {"store"})
            told = readiness(sharing)[1]["not_ready"]["store"]
            assert told.startswith("the store cannot be used: ")
            assert "too many connections" in told
            assert readiness(sharing)[0] == 503
            assert get(sharing, "/livez")[0] == 200
            assert refused_call(sharing, Kind.MESH, "identity") == "STORE_UNAVAILABLE"
        finally:
            kept.execute(text(f"ALTER DATABASE {engine.url.database} CONNECTION LIMIT -1"))
    wait_until(partial(is_well, sharing))


def test_metrics_name_methods_and_reasons_and_nobody(sharing: Running) -> None:
    refused_call(sharing, Kind.AGENCY, "ghost/core")
    status, text = get(sharing, "/metrics")
    assert status == 200
    method = "/npd.common.v1.EvidenceService/GetCheckpoint"
    assert f'npd_calls_total{{method="{method}",reason="SYSTEM_UNKNOWN"}} ' in text
    for name in ("npd_policy_revision ", "npd_certificate_expire_timestamp_seconds ", "npd_streams_open "):
        assert f"\n{name}" in text
    assert "ghost" not in text


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz/", "/livez/../metrics", "/npd.registry.v1"])
def test_nothing_else_is_served_on_the_plain_port(sharing: Running, path: str) -> None:
    status, text = get(sharing, path)
    assert (status, json.loads(text)) == (404, {"paths": ["/livez", "/readyz", "/metrics"]})


def test_a_visitor_who_says_nothing_does_not_hold_up_the_probes(sharing: Running) -> None:
    with socket.create_connection(("127.0.0.1", sharing.serving.health.port)):
        assert get(sharing, "/livez", seconds=2)[0] == 200


def test_the_plain_port_speaks_no_grpc(sharing: Running) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{sharing.serving.health.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert isinstance(refused(stub.Check, health_pb2.HealthCheckRequest()), Unreachable)


def test_watchers_of_health_do_not_take_the_threads_of_calls(sharing: Running) -> None:
    """gRPC's Watch must keep its mark `experimental_non_blocking` under the interceptors, or each holds a thread."""
    channel = sharing.channel(Kind.AGENCY, "tax/core")
    health = health_pb2_grpc.HealthStub(channel)
    watches = [health.Watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(6)]
    try:
        assert [next(watch).status for watch in watches] == [SERVING] * 6
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING
        evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=5)
    finally:
        for watch in watches:
            watch.cancel()


def test_health_is_told_to_nobody_without_a_certificate(sharing: Running) -> None:
    roots = certificates_pem([sharing.authority.hierarchy.root.certificate])
    with grpc.secure_channel(sharing.address, grpc.ssl_channel_credentials(roots)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for method in (stub.Check, stub.Watch):
            assert isinstance(refused(method, health_pb2.HealthCheckRequest()), Unreachable)


def refused_call(room: Running, kind: Kind, name: str) -> str:
    """The reason for which a plain call is refused."""
    stub = evidence_pb2_grpc.EvidenceServiceStub(room.channel(kind, name))
    return refused(stub.GetCheckpoint, evidence_pb2.GetCheckpointRequest()).reason
