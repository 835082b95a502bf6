"""Rights that are too old: agencies and rooms are refused until the registry is heard of again, operators are not."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import grpc
import pytest

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.errors import Refusal, refusal_of
from npd_pki.identity import Kind
from services.mesh.core.clock import SystemClock
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, refused

LIMIT = timedelta(seconds=60)


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


@pytest.fixture(params=["revocations_max_age", "rights_max_age"], scope="module")
def sharing(request: pytest.FixtureRequest, stage: Stage, desk: Desk, clock: ShiftedClock) -> Running:
    """A room with a clock of its own, to which one of the two limits is short."""
    limits: dict[str, Any] = {request.param: LIMIT}
    return stage.start(SHARING, clock=clock, **limits)


@pytest.fixture(scope="module")
def access(stage: Stage, desk: Desk) -> AccessContext:
    """The right of tax/core to follow changes."""
    desk.register("tax/core", officers=["o-1"])
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["full_name"]}
    agreement_id = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    return AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")


def call(room: Running, kind: Kind, name: str) -> None:
    """A call that every caller may make whose standing is good."""
    stub = evidence_pb2_grpc.EvidenceServiceStub(room.channel(kind, name))
    stub.GetCheckpoint(evidence_pb2.GetCheckpointRequest())


def stale(refusal: Refusal) -> None:
    """It is refused because the policy is too old, and shall try again."""
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "POLICY_STALE")
    assert refusal.retry_after == timedelta(seconds=5)
    assert refusal.metadata["limit_seconds"] == "60"
    assert int(refusal.metadata["age_seconds"]) >= 60


def test_agencies_and_rooms_are_refused_while_the_policy_is_too_old_and_operators_are_not(
    stage: Stage, sharing: Running, clock: ShiftedClock, access: AccessContext
) -> None:
    stage.settle()
    stub = change_pb2_grpc.ChangeServiceStub(sharing.channel(Kind.AGENCY, "tax/core"))
    stream = stub.WatchChanges(change_pb2.WatchChangesRequest(access=access), timeout=60)
    answers = cast(Iterator[change_pb2.WatchChangesResponse], stream)
    next(answers)
    recorded = sharing.entries()

    clock.ahead = LIMIT - timedelta(seconds=10)
    call(sharing, Kind.AGENCY, "tax/core")

    clock.ahead = LIMIT + timedelta(seconds=1)
    stale(refused(stub.PullChanges, change_pb2.PullChangesRequest(access=access)))
    sharing.house.streams.wake()
    with pytest.raises(grpc.RpcError) as ended:
        next(answers)
    stale(refusal_of(ended.value))
    follow = change_pb2_grpc.ChangeServiceStub(sharing.channel(Kind.MESH, "identity")).PullChanges
    stale(refused(follow, change_pb2.PullChangesRequest()))  # what a room may follow and tell is policy too
    call(sharing, Kind.OPERATOR, "lan")
    assert sharing.entries() == recorded, "it is the mesh's own fault, which refuses nobody anything"

    clock.ahead = timedelta()
    call(sharing, Kind.AGENCY, "tax/core")
