"""A room that has no policy yet: its port is open, but nobody who balances by health is sent there to be refused."""

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from npd_pki.identity import Kind
from services.mesh.core.background import Stopping
from services.mesh.wire.policy_follower import registry_source
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import NOWHERE, Running, Stage

STATUSES = health_pb2.HealthCheckResponse.ServingStatus


def test_a_room_serves_from_its_first_policy_on(
    stage: Stage, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "settle", lambda: None)  # it would wait for the policy
    sharing = stage.start(SHARING, registry_address=NOWHERE)
    health = health_pb2_grpc.HealthStub(sharing.channel(Kind.MESH, "identity"))
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert next(watch).status == STATUSES.NOT_SERVING
    policy = next(registry_source(registry.channel(Kind.MESH, "sharing"))(0, Stopping()))
    sharing.house.keeper.take(policy)
    assert next(watch).status == STATUSES.SERVING
    watch.cancel()
