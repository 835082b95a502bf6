"""Fixtures of all tests. `services` comes before grpc, which reads the TLS 1.3 setting when it is imported."""

import signal
from collections.abc import Iterator

import pytest

import services
from services.local.postgres import EmbeddedPostgres
from services.registry.app import ROOM as REGISTRY
from tests.mesh_fixture import Authority, Desk, Running, Stage

assert not services.GRPC_CAME_FIRST
# A shell that starts the tests in its background ignores SIGINT for them, and so for every program they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL for the whole session."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certification authorities of the test environment."""
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def stage(
    postgres: EmbeddedPostgres, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Where a module's rooms stand, each with a fresh database. Start them with `stage.start(ROOM)`, registry first."""
    with Stage(postgres, authority, tmp_path_factory.mktemp("stage")) as opened:
        yield opened


@pytest.fixture(scope="module")
def registry(stage: Stage) -> Running:
    """A registry with the law and the operators lan and minh."""
    return stage.start(REGISTRY, operators=["lan", "minh"])


@pytest.fixture(scope="module")
def desk(registry: Running) -> Desk:
    """The operator lan at work in the registry."""
    return Desk(registry, "lan")
