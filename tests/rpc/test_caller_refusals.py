"""Refusals of known callers in the log: each one up to a rate, then a count. Without a log they stand all the same."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from prometheus_client import REGISTRY as METRICS
from sqlalchemy import text

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.evidence_pb2 import Outcome
from npd_client.errors import Refusal
from npd_pki.identity import Kind, agency_uri
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import ENVIRONMENT, Running, Stage, refused

CHECKPOINT = "/npd.common.v1.EvidenceService/GetCheckpoint"


@pytest.fixture
def sharing(stage: Stage, registry: Running) -> Running:
    """A room that knows none of its callers."""
    return stage.start(SHARING)


def refused_call(room: Running, name: str) -> Refusal:
    """A call of a system that nobody registered."""
    stub = evidence_pb2_grpc.EvidenceServiceStub(room.channel(Kind.AGENCY, name))
    return refused(stub.GetCheckpoint, evidence_pb2.GetCheckpointRequest())


@contextmanager
def read_only_store(room: Running) -> Iterator[None]:
    """The room's store takes no writes, as a standby after a failover."""
    set_it = f"ALTER DATABASE {room.house.engine.url.database} SET default_transaction_read_only"
    connect = room.house.engine.connect
    try:
        with connect() as connection, connection.begin():
            connection.execute(text(f"{set_it} = on"))
        room.house.engine.dispose()
        yield
    finally:
        with connect() as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.commit()
            connection.execute(text(f"{set_it} = off"))
            connection.commit()
        room.house.engine.dispose()


def unrecorded() -> float:
    """How many refusals could not be recorded."""
    return METRICS.get_sample_value("npd_refusals_unrecorded_total") or 0.0


def test_ten_refusals_a_minute_are_listed_and_the_others_counted(sharing: Running) -> None:
    for _ in range(13):
        assert refused_call(sharing, "ghost/core").reason == "SYSTEM_UNKNOWN"
    assert refused_call(sharing, "ghost/other").reason == "SYSTEM_UNKNOWN"
    sharing.serving.close()
    entries = sharing.entries()
    facts = {(entry.method, entry.outcome, entry.reason) for entry in entries}
    assert facts == {(CHECKPOINT, Outcome.OUTCOME_REFUSED, "SYSTEM_UNKNOWN")}
    ghost, other = (agency_uri(ENVIRONMENT, "ghost", system) for system in ("core", "other"))
    assert [(entry.caller, entry.count) for entry in entries] == [*[(ghost, 1)] * 10, (other, 1), (ghost, 3)]


def test_a_refusal_stands_when_it_cannot_be_recorded(sharing: Running) -> None:
    before = unrecorded()
    with read_only_store(sharing):
        refusal = refused_call(sharing, "ghost/core")
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SYSTEM_UNKNOWN")
        assert "INSERT" not in str(refusal)
    assert unrecorded() == before + 1
    assert not sharing.entries()
    refused_call(sharing, "ghost/core")
    assert [entry.reason for entry in sharing.entries()] == ["SYSTEM_UNKNOWN"]
