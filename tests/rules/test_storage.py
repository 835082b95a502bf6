"""Tables are as the migrations make them, and every key of a growing one holds its shard key."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Table, create_engine
from sqlalchemy.pool import NullPool

from services.cli.rooms import names
from services.local.postgres import EmbeddedPostgres
from services.mesh.distribution import distribution_column, tables_of, unique_keys
from services.mesh.migrate import migrate

MESH = tables_of(["services.mesh"])
ROOMS = {room: tables_of([f"services.{room}"]) for room in names()}
TABLES = [table for metadata in (MESH, *ROOMS.values()) for table in metadata.sorted_tables]


def test_every_room_is_looked_at() -> None:
    assert {"registry", "sharing"} <= set(ROOMS)
    assert all(metadata.tables for metadata in ROOMS.values())


@pytest.mark.parametrize("room", ROOMS)
def test_migrations_make_the_tables_that_the_code_names(room: str, postgres: EmbeddedPostgres) -> None:
    database = f"rules_{room}"
    postgres.ensure_database(database)
    migrate(postgres.url(database), ("services.mesh", f"services.{room}"))
    with create_engine(postgres.url(database), poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, tables_of(["services.mesh", f"services.{room}"]))
    assert [difference for difference in found if "alembic_version" not in str(difference)] == []


def test_migrating_again_changes_nothing(postgres: EmbeddedPostgres) -> None:
    postgres.ensure_database("rules_again")
    for _ in range(2):
        migrate(postgres.url("rules_again"), ("services.mesh", "services.sharing"))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_key_holds_the_shard_key(table: Table) -> None:
    shard_key = set(table.info.get("shard_key", ()))
    for name, columns in unique_keys(table).items():
        assert shard_key <= columns, name
    if shard_key:
        assert distribution_column(table).name in shard_key


def test_every_growing_table_names_its_shard_key() -> None:
    small = {"store", "schema_floors"} | {table.name for table in ROOMS["registry"].sorted_tables}
    assert [table.name for table in TABLES if "shard_key" not in table.info and table.name not in small] == []


def test_migrations_are_numbered_without_gaps() -> None:
    for versions in (Path(__file__).parents[2] / "services").rglob("migrations/versions"):
        numbers = sorted(int(path.name[:4]) for path in versions.glob("0*.py"))
        assert numbers == list(range(1, len(numbers) + 1)), versions
