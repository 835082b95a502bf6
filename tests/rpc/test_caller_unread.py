"""A client that does not read its stream: it holds nobody else up, and cannot sit out its own end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import cast

import grpc
import pytest
from prometheus_client import REGISTRY as METRICS

from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.registry.v1 import agency_pb2
from npd.sharing.v1 import change_pb2, change_pb2_grpc, contribution_pb2, contribution_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from npd_pki.identity import Kind, agency_uri
from npd_pki.profile import CLIENT_TLS
from npd_pki.validity import Validity
from services.local import citizens
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, refused, wait_until

CHANGES = AccessMode.ACCESS_MODE_CHANGES
KEEN = agency_uri(ENVIRONMENT, "keen", "core")
_CITIZENS = 1500


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


class Reader:
    """A system that follows changes from the beginning, and reads only when it is told to."""

    def __init__(self, stage: Stage, desk: Desk, room: Running, name: str, expire_time: datetime | None = None) -> None:
        desk.register(name, officers=["o-1"])
        paths = ["full_name", "permanent_residence", "marital_status", "death_or_missing"]
        agreement_id = desk.agree(name, "STATE_MANAGEMENT", "D70/2024.9", {CHANGES: paths})
        stage.settle()
        access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")
        self.request = change_pb2.WatchChangesRequest(access=access, cursor=change_pb2.Cursor(incarnation=1))
        directory = room.authority.tls(Kind.AGENCY, name)
        if expire_time is not None:
            validity = Validity(datetime.now(UTC) - timedelta(minutes=1), expire_time)
            directory = room.authority.issue(directory / "short", Kind.AGENCY, name, CLIENT_TLS, validity=validity)
        # without them, gRPC grows its buffers as it pleases
        small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 << 10)]
        self.channel = RotatingChannel(room.address, directory, options=small)
        self.stub = change_pb2_grpc.ChangeServiceStub(self.channel)

    def watch(self) -> Iterator[change_pb2.WatchChangesResponse]:
        """An open stream, of which the first of three large messages has been read, and the others cannot be sent."""
        stream = cast(Iterator[change_pb2.WatchChangesResponse], self.stub.WatchChanges(self.request, timeout=60))
        assert next(stream).ByteSize() > 2 * (64 << 10)
        return stream


@pytest.fixture
def reader(stage: Stage, desk: Desk, sharing: Running) -> Iterator[Callable[..., Reader]]:
    """Makes readers."""
    with ExitStack() as stack:

        def make(name: str, expire_time: datetime | None = None) -> Reader:
            made = Reader(stage, desk, sharing, name, expire_time)
            stack.callback(made.channel.close)
            return made

        yield make
    wait_until(lambda: not sharing.house.streams._snapshot())


def cut() -> float:
    """How many streams were cut because their client did not read."""
    return METRICS.get_sample_value("npd_streams_cut_total") or 0.0


def last_words(stream: Iterator[change_pb2.WatchChangesResponse]) -> grpc.StatusCode:
    """Read what is left of a stream, and then the code with which it ended."""
    with pytest.raises(grpc.RpcError) as ended:
        for _ in stream:
            pass
    return refusal_of(ended.value).code


def test_who_does_not_read_is_cancelled_when_suspended(
    desk: Desk, sharing: Running, reader: Callable[..., Reader]
) -> None:
    before, deaf, other = cut(), reader("deaf/core"), reader("keen/core")
    stream = deaf.watch()
    refusal = refused(other.stub.WatchChanges, other.request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_SLOTS_TAKEN")
    assert refusal.retry_after == timedelta(seconds=5)
    assert [entry.reason for entry in sharing.entries() if entry.caller == KEEN] == ["STREAM_SLOTS_TAKEN"]
    other.stub.PullChanges(change_pb2.PullChangesRequest(access=other.request.access))
    desk.systems.SuspendSystem(
        agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="deaf", system_id="core", cause="Risk.")
    )
    wait_until(lambda: cut() == before + 1, seconds=5)
    assert last_words(stream) is grpc.StatusCode.CANCELLED
    assert len(list(islice(other.watch(), 2))) == 2, "the slot is free again"


def test_who_does_not_read_is_cancelled_when_his_certificate_expires(reader: Callable[..., Reader]) -> None:
    before, end = cut(), datetime.now(UTC) + timedelta(seconds=3)
    stream = reader("tardy/core", end).watch()
    wait_until(lambda: cut() == before + 1, seconds=8)
    assert datetime.now(UTC) > end - timedelta(seconds=1), "a certificate holds whole seconds"
    assert last_words(stream) is grpc.StatusCode.CANCELLED


def test_who_reads_slowly_is_left_alone(
    sharing: Running, reader: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.mesh.wire.streams._UNREAD_AFTER", 0.0)
    before, stream = cut(), reader("slow/core").watch()
    for open_stream in sharing.house.streams._snapshot():
        open_stream.cut_if_unread()
    read = list(islice(stream, 2))
    assert [len(message.changes) for message in read] == [500, 500]
    assert cut() == before
