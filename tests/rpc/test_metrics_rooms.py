"""What every room measures: calls by code, rows without a position, its clock, its readiness, its version."""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from functools import partial
from importlib import metadata
from urllib.request import urlopen

import pytest
from prometheus_client import REGISTRY as METRICS
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from npd.common.v1 import chain_pb2, chain_pb2_grpc
from npd_pki.identity import Kind
from services.mesh.wire import measurement, store_check
from services.registry.app import ROOM as REGISTRY
from tests.mesh_fixture import Desk, Running, Stage, refused, wait_until
from tests.rpc.test_policy_health import readiness

STALLED = text("SELECT pg_advisory_lock(hashtext('sequencer/log'))")


@pytest.fixture(scope="module")
def registry(stage: Stage) -> Iterator[Running]:
    """The only room of this process, so that every figure is its own; it measures all the time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measurement, "_MEASURE_EVERY", 0.05)
        yield stage.start(REGISTRY, operators=["lan"])


def figure(room: Running, name: str, **labels: str) -> float | None:
    """What the room's own page of metrics says; None if it has no such series."""
    with urlopen(f"http://127.0.0.1:{room.serving.health.port}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    samples = (sample for family in families for sample in family.samples)
    return next((one.value for one in samples if (one.name, one.labels) == (name, labels)), None)


def test_rows_that_get_no_position_show_by_number_and_age(registry: Running) -> None:
    pending = partial(figure, registry, "npd_sequence_pending", sequence="log")
    oldest = partial(figure, registry, "npd_sequence_oldest_age_seconds", sequence="log")
    placed = partial(figure, registry, "npd_sequenced_total", sequence="log")
    wait_until(lambda: (pending(), oldest()) == (0, 0))
    before = placed() or 0
    with registry.house.engine.connect() as connection:
        connection.execute(STALLED)
        for number in range(3):
            Desk(registry, "lan").register(f"stalled/system-{number}")
        wait_until(lambda: pending() == 4)  # the agency, and three systems
        wait_until(lambda: 0.3 < (oldest() or 0) < 60)  # older than any row becomes while rows get positions
        assert (placed() or 0) == before
        connection.execute(text("SELECT pg_advisory_unlock_all()"))
    wait_until(lambda: (pending(), oldest()) == (0, 0))
    assert placed() == before + 4, "rows are counted, not batches"


def test_a_backlog_is_counted_no_further_than_to_a_bound(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.mesh.core.sequencer._COUNTED", 3)
    with registry.house.engine.connect() as connection:
        connection.execute(STALLED)
        for number in range(5):
            Desk(registry, "lan").register(f"many/system-{number}")
        assert registry.house.log_sequencer.unplaced().count == 3
        connection.execute(text("SELECT pg_advisory_unlock_all()"))
    wait_until(lambda: registry.house.log_sequencer.unplaced().count == 0)


def test_calls_are_counted_by_code_and_every_code_is_there_from_the_start(registry: Running) -> None:
    assert figure(registry, "npd_calls_by_code_total", code="INTERNAL") is not None
    stub = chain_pb2_grpc.ChainServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    served, invalid = (
        partial(figure, registry, "npd_calls_by_code_total", code=code) for code in ("OK", "INVALID_ARGUMENT")
    )
    before = served() or 0, invalid() or 0
    assert refused(stub.ListLinks, chain_pb2.ListLinksRequest(correlation_id="x")).reason == "FIELD_INVALID"
    assert (invalid() or 0) == before[1] + 1
    Desk(registry, "lan").register("counted/core")
    assert (served() or 0) > before[0]


def test_a_clock_that_is_ahead_of_the_stores_shows(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def difference() -> float:
        readiness(registry)
        return figure(registry, "npd_clock_difference_seconds") or 0.0

    assert abs(difference()) < 5

    class Ahead:
        """This machine's clock, 40 seconds ahead."""

        @staticmethod
        def now(zone: tzinfo) -> datetime:
            return datetime.now(zone) + timedelta(seconds=40)

    monkeypatch.setattr(store_check, "datetime", Ahead)
    assert 35 < difference() < 45


def test_what_stands_in_the_way_of_readiness_shows(registry: Running) -> None:
    def asked(condition: str) -> float | None:
        readiness(registry)
        return figure(registry, "npd_not_ready", condition=condition)

    wait_until(lambda: asked("store") == 0)
    engine = registry.house.engine
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as kept:
        kept.execute(text(f"ALTER DATABASE {engine.url.database} CONNECTION LIMIT 0"))
        try:
            kept.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            wait_until(lambda: asked("store") == 1)
        finally:
            kept.execute(text(f"ALTER DATABASE {engine.url.database} CONNECTION LIMIT -1"))
    wait_until(lambda: asked("store") == 0)


def test_the_version_and_the_certificates_life_show(registry: Running) -> None:
    assert figure(registry, "npd_build_info", version=metadata.version("npd-mesh")) == 1
    leaf = registry.authority.leaf(Kind.MESH, "registry")
    began, ends = "npd_certificate_start_timestamp_seconds", "npd_certificate_expire_timestamp_seconds"
    assert figure(registry, began) == leaf.not_valid_before_utc.timestamp()
    assert figure(registry, ends) == leaf.not_valid_after_utc.timestamp()


def test_no_label_names_anybody(registry: Running) -> None:
    Desk(registry, "lan").register("secretive/core")
    labels = {label for family in METRICS.collect() for sample in family.samples for label in sample.labels}
    assert labels >= {"method", "reason", "code", "sequence"}
    values = {value for family in METRICS.collect() for sample in family.samples for value in sample.labels.values()}
    assert not [value for value in values if "secretive" in value or value in ("lan", "minh")]
