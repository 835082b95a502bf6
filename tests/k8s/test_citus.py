"""The distribution statements: fresh, whole, true of the tables that migrations make. They are not run on Citus."""

import re
from pathlib import Path

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    text,
)
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from k8s.citus.generate import HERE, content
from services.cli import rooms
from services.local.postgres import EmbeddedPostgres
from services.mesh.distribution import Placement, Undistributable, distribution, tables_of
from services.mesh.migrate import migrate

STATEMENT = re.compile(r"^SELECT create_(?:reference|distributed)_table\('(\w+)'", re.MULTILINE)
# What stands for Citus here refuses what its documentation says that Citus refuses; it distributes nothing.
STAND_IN = """
CREATE FUNCTION create_reference_table(placed regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO placed VALUES (placed::text);
END $$;
CREATE FUNCTION create_distributed_table(placed regclass, key text, colocate_with text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE number smallint := (SELECT attnum FROM pg_attribute WHERE attrelid = placed AND attname = key AND attnotnull);
BEGIN
    IF number IS NULL THEN
        RAISE EXCEPTION USING MESSAGE = placed || ' has no such column, or it may be null: ' || key;
    END IF;
    IF EXISTS (SELECT FROM pg_index WHERE indrelid = placed AND indisunique AND NOT number = ANY(indkey)) THEN
        RAISE EXCEPTION USING MESSAGE = 'a unique key of ' || placed || ' does not hold ' || key;
    END IF;
    IF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND placed IN (conrelid, confrelid)) THEN
        RAISE EXCEPTION USING MESSAGE = placed || ' has a foreign key';
    END IF;
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = placed AND attidentity <> '' AND atttypid <> 'bigint'::regtype)
    THEN RAISE EXCEPTION USING MESSAGE = placed || ' has an identity column that is no bigint'; END IF;
    IF colocate_with <> 'none' AND NOT EXISTS (
        SELECT FROM placed p JOIN pg_attribute a ON a.attrelid = p.name::regclass AND a.attname = p.key
        JOIN pg_attribute mine ON mine.attrelid = placed AND mine.attnum = number AND mine.atttypid = a.atttypid
        WHERE p.name = colocate_with
    ) THEN RAISE EXCEPTION USING MESSAGE = placed || ' cannot stand beside ' || colocate_with; END IF;
    INSERT INTO placed VALUES (placed::text, key);
END $$;
CREATE TEMPORARY TABLE placed (name text PRIMARY KEY, key text);
"""


@pytest.mark.parametrize("room", rooms.names())
def test_statements_are_those_of_the_metadata(room: str) -> None:
    assert (HERE / f"{room}.sql").read_text(encoding="utf-8") == content(rooms.load(room)), "run `make citus`"


def test_there_is_no_other_file() -> None:
    assert {path.stem for path in Path(HERE).glob("*.sql")} == set(rooms.names())


@pytest.mark.parametrize("room", rooms.names())
def test_statements_run_where_citus_would_refuse_a_bad_key(room: str, postgres: EmbeddedPostgres) -> None:
    database = f"citus_{room}"
    postgres.ensure_database(database)
    migrate(postgres.url(database), rooms.load(room).schema_packages)
    statements = (HERE / f"{room}.sql").read_text(encoding="utf-8")
    with create_engine(postgres.url(database), poolclass=NullPool).begin() as connection:
        made = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        connection.exec_driver_sql(STAND_IN)
        connection.exec_driver_sql(statements)
        placed = connection.execute(text("SELECT name FROM placed")).scalars().all()
        assert sorted(placed) == sorted(name for name in made if not name.startswith("alembic_version_"))
        assert sorted(STATEMENT.findall(statements)) == sorted(placed)
        for bad in ("'answers', 'answer'", "'records', 'pin'", "'missing', 'pin'"):
            with pytest.raises(ProgrammingError), connection.begin_nested():
                connection.exec_driver_sql(f"SELECT create_distributed_table({bad}, colocate_with => 'none')")


def test_people_of_one_room_are_together() -> None:
    placements = distribution(tables_of(rooms.load("sharing").schema_packages).sorted_tables)
    by_subject = {one.table: one.beside for one in placements if one.column == "subject_id"}
    assert {"records", "assertions", "discrepancies", "people"} <= set(by_subject)
    (first,) = (table for table, beside in by_subject.items() if beside == "none")
    assert {beside for table, beside in by_subject.items() if table != first} == {first}


def _table(*columns: Column[object], key: tuple[str, ...] = ("one",)) -> Table:
    return Table("rows", MetaData(), *columns, info={"shard_key": key})


def test_small_table_is_copied_and_growing_one_goes_by_the_last_column_of_its_key() -> None:
    small = Table("small", MetaData(), Column("id", Integer, primary_key=True))
    growing = _table(Column("one", Text, primary_key=True), Column("two", Text, primary_key=True), key=("one", "two"))
    assert distribution([small, growing]) == (Placement("rows", "two", "none"), Placement("small"))


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (_table(Column("one", Text), Column("two", Text, primary_key=True)), "must hold one"),
        (_table(Column("one", Text, primary_key=True), Column("two", Text, unique=True)), "must hold one"),
        (
            _table(Column("one", Text, primary_key=True), Column("two", Text), Index("two_once", "two", unique=True)),  # type: ignore[arg-type]
            "two_once must hold one",
        ),
        (_table(Column("one", Integer, Identity(), primary_key=True)), "must be a bigint"),
        (_table(Column("one", BigInteger)), "without a value"),
        (_table(Column("one", Text, ForeignKey("others.id"), primary_key=True)), "foreign key"),
    ],
)
def test_table_that_citus_would_refuse_is_refused(table: Table, why: str) -> None:
    with pytest.raises(Undistributable, match=why):
        distribution([table])
