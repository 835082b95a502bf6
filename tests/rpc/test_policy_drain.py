"""The end of a room, as SIGTERM begins it: no call in flight is lost, every stream is told, nothing new is taken."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc, person_pb2
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import Outcome
from npd.sharing.v1 import change_pb2, change_pb2_grpc, lookup_pb2, lookup_pb2_grpc
from npd_client import merkle
from npd_client.errors import Unreachable, refusal_of
from npd_pki.identity import Kind
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, wait_until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NOBODY = person_pb2.StatedIdentity(
    pin="001099000001", full_name="Nguyễn Văn An", birth_date=Date(year=1999, month=1, day=2)
)
_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
def access(stage: Stage, desk: Desk) -> AccessContext:
    """The right of tax/core to look up and to follow changes."""
    desk.register("tax/core", officers=["o-1"])
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["full_name"], AccessMode.ACCESS_MODE_LOOKUP: ["full_name"]}
    agreement_id = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    return AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")


def is_blocked(room: Running) -> bool:
    """Whether a transaction of the room waits for a lock."""
    with room.house.engine.connect() as connection:
        return bool(connection.execute(text(_BLOCKED)).scalar_one())


def is_closed(channel: grpc.Channel) -> bool:
    """Whether a new call is not even taken."""
    try:
        evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=5)
    except grpc.RpcError as error:
        return isinstance(refusal_of(error), Unreachable)
    return False


def test_a_room_ends_gracefully(stage: Stage, access: AccessContext) -> None:
    room = stage.start(SHARING, stop_grace=timedelta(seconds=10))
    channel = room.channel(Kind.AGENCY, "tax/core")
    watch = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(
        change_pb2.WatchChangesRequest(access=access), timeout=60
    )
    changes = cast(Iterator[change_pb2.WatchChangesResponse], watch)
    next(changes)
    health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(health).status == SERVING
    request = lookup_pb2.GetCitizenRequest(access=access, identity=NOBODY, read_mask=FieldMask(paths=["full_name"]))

    with room.house.engine.connect() as blocker:
        blocker.execute(text("LOCK TABLE pins IN ACCESS EXCLUSIVE MODE"))
        in_flight = lookup_pb2_grpc.LookupServiceStub(channel).GetCitizen.future(request, timeout=30)
        wait_until(lambda: is_blocked(room))
        closing = threading.Thread(target=room.serving.close)
        closing.start()
        assert next(health).status == NOT_SERVING
        health.cancel()  # gRPC's health service does not end a watch by itself, and would be waited for
        with pytest.raises(grpc.RpcError) as ended:
            next(changes)
        refusal = refusal_of(ended.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "ROOM_STOPPING")
        assert refusal.retry_after == timedelta(seconds=1)
        wait_until(lambda: is_closed(channel))
        assert not in_flight.done()
    answer = in_flight.result()
    closing.join(10)
    assert not closing.is_alive()
    assert answer.outcome == Outcome.OUTCOME_NO_MATCH
    hashes = [merkle.leaf_hash(entry.SerializeToString()) for entry in room.entries()]
    assert hashes == [answer.receipt.leaf_hash], "the answer's entry alone: being told to go is no refusal"
