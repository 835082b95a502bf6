"""A client that does not read its stream: it holds nobody else up, and cannot sit out its own end."""

import threading
from collections.abc import Iterator
from typing import cast

import grpc
import pytest
from prometheus_client import REGISTRY as METRICS

from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.registry.v1 import agency_pb2
from npd.sharing.v1 import change_pb2, change_pb2_grpc, contribution_pb2, contribution_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from npd_pki.identity import Kind
from services.local import citizens
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until

CHANGES = AccessMode.ACCESS_MODE_CHANGES
_CITIZENS = 1500
_SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 << 10)]


@pytest.fixture(scope="module")
def sharing(stage: Stage, registry: Running) -> Running:
    """A room with one stream slot, and more to tell than fits into a connection's buffers."""
    room = stage.start(SHARING, stream_slots=1, sandbox=True)
    people = citizens.population(_CITIZENS)
    stub = contribution_pb2_grpc.ContributionServiceStub(room.channel(Kind.MESH, "identity"))
    for first in range(0, _CITIZENS, 500):
        items = [citizens.item_of(people.citizen(index)) for index in range(first, first + 500)]
        stub.Contribute(contribution_pb2.ContributeRequest(request_id=new_id(), items=items))
    return room


def reader(stage: Stage, desk: Desk, name: str) -> change_pb2.WatchChangesRequest:
    """Register a system with a right to follow; the request with which it watches from the beginning."""
    desk.register(name, officers=["o-1"])
    paths = ["full_name", "permanent_residence", "marital_status", "death_or_missing"]
    agreement_id = desk.agree(name, "STATE_MANAGEMENT", "D70/2024.9", {CHANGES: paths})
    stage.settle()
    access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")
    return change_pb2.WatchChangesRequest(access=access, cursor=change_pb2.Cursor(incarnation=1, position=0))


def test_x(stage: Stage, desk: Desk, sharing: Running, capfd) -> None:
    request = reader(stage, desk, "deaf/core")
    channel = RotatingChannel(sharing.address, sharing.authority.tls(Kind.AGENCY, "deaf/core"), options=_SMALL_WINDOW)
    stub = change_pb2_grpc.ChangeServiceStub(channel)
    pull = stub.PullChanges(change_pb2.PullChangesRequest(access=request.access, page_size=500))
    import time
    with capfd.disabled():
        print(len(pull.changes), pull.ByteSize(), pull.head)
        t=time.monotonic()
        stream = stub.WatchChanges(request, timeout=60)
        s=cast(Iterator, stream)
        m=next(s); print(m.ByteSize(), len(m.changes))
        time.sleep(3)
        desk.systems.SuspendSystem(agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="deaf", system_id="core", cause="Risk."))
        time.sleep(3)
        try:
            for m in s: print(time.monotonic()-t, m.ByteSize(), len(m.changes))
        except grpc.RpcError as e: print(refusal_of(e).code, refusal_of(e))
        print(METRICS.get_sample_value("npd_streams_cut_total"))
