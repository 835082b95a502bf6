"""Schemas older and newer than the code, on a real store: what serves, what is refused, what migrating leaves alone."""

import secrets
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.pool import NullPool

from services.cli.migration import prepare_store
from services.local.postgres import EmbeddedPostgres
from services.mesh.core import schema
from services.mesh.core.schema import SchemaForeign, SchemaOutdated, SchemaTooNew, head, require_current
from services.mesh.core.tables import SCHEMA_FLOORS
from services.mesh.migrate import migrate
from services.registry.app import ROOM as REGISTRY
from tests.releases import LATER, MESH, Releases

SHARING = "services.sharing"
OURS = (MESH, SHARING)


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    """Makes other releases of the mesh's tables."""
    return Releases(tmp_path, monkeypatch)


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    """An empty database."""
    name = f"schema_{secrets.token_hex(4)}"
    postgres.ensure_database(name)
    return postgres.url(name)


def judge(url: str, packages: tuple[str, ...] = OURS) -> None:
    """Look at the store as a room does that starts."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        require_current(connection, packages, "sharing")


def floors(url: str) -> dict[str, tuple[str, str]]:
    """The floors that the store has."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return {row.package: (row.oldest_code, row.release) for row in connection.execute(select(SCHEMA_FLOORS))}


def test_a_schema_of_this_release_serves_it(url: str) -> None:
    with pytest.raises(SchemaOutdated, match="is at nothing"):
        judge(url)
    assert migrate(url, OURS) == []
    judge(url)
    assert floors(url) == {}, "no migration of this release ends the service of older code"


def test_an_old_schema_is_refused_and_can_be_migrated(url: str, releases: Releases) -> None:
    migrate(url, (releases.make("past", up_to="0002"), SHARING))
    with pytest.raises(SchemaOutdated, match=rf"at 0002, the code needs {head(MESH)}: run `npd migrate sharing`"):
        judge(url)
    migrate(url, OURS)
    judge(url)


@pytest.mark.parametrize("floor", ["", head(MESH), "0001"], ids=["none", "this release", "an older one"])
def test_a_newer_schema_serves_older_code_down_to_its_floor(url: str, releases: Releases, floor: str) -> None:
    migrate(url, (releases.make("next", declaring=floor), SHARING))
    judge(url)
    assert migrate(url, OURS) == [MESH], "and migrating with the older code leaves it as it is"
    judge(url)
    assert floors(url) == ({"mesh": (floor, schema.release())} if floor else {})


@pytest.mark.parametrize("floor", ["9000", LATER])
def test_code_below_the_floor_is_refused(url: str, releases: Releases, floor: str) -> None:
    later = releases.make("later", declaring=floor)
    migrate(url, (later, SHARING))
    judge(url, (later, SHARING))
    refusal = rf"at {LATER} and serves code from {floor} on, this release has {head(MESH)}. Deploy release .* restore"
    with pytest.raises(SchemaTooNew, match=refusal):
        judge(url)
    with pytest.raises(SchemaTooNew):
        migrate(url, OURS)


def test_a_floor_does_not_go_down(url: str, releases: Releases) -> None:
    migrate(url, (releases.make("later", declaring="9000"), SHARING))
    migrate(url, (releases.make("careless", declaring="0002"), SHARING))
    assert floors(url) == {"mesh": ("9000", schema.release())}


def test_migrating_that_fails_leaves_no_floor(url: str, releases: Releases) -> None:
    migrate(url, OURS)
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("ALTER TABLE store ADD of_a_release_to_come text"))
    with pytest.raises(Exception, match="already exists"):
        migrate(url, (releases.make("later", declaring="9000"), SHARING))
    assert floors(url) == {}
    judge(url)


def test_a_room_is_not_served_from_another_rooms_database(url: str) -> None:
    migrate(url, (MESH, "services.identity"))
    with pytest.raises(SchemaForeign, match="the database of identity, which is not that of sharing"):
        judge(url)
    with pytest.raises(SchemaForeign):
        migrate(url, OURS)


def test_older_code_does_not_bring_back_older_law(
    url: str, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_store(REGISTRY, url)
    migrate(url, (releases.make("next", declaring=""), "services.registry"))
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE purposes SET title = 'of the newer release'"))
    assert prepare_store(REGISTRY, url, ["lan"]) == [MESH]
    with create_engine(url, poolclass=NullPool).connect() as connection:
        titles = set(connection.execute(text("SELECT title FROM purposes")).scalars())
        assert titles == {"of the newer release"}
        assert connection.execute(text("SELECT name FROM operators")).scalars().all() == ["lan"]
