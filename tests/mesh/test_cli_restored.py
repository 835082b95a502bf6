"""`npd restored`: a store from a backup is a new incarnation, and whoever reads the output knows what comes next."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner, Result

from services.cli.commands import app
from services.cli.rooms import load
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.restoration import note
from services.mesh.migrate import migrate


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> str:
    """An empty database."""
    name = f"restored_{secrets.token_hex(4)}"
    postgres.ensure_database(name)
    return name


@pytest.fixture
def url(postgres: EmbeddedPostgres, database: str, tmp_path: Path) -> str:
    """The address of that database, in the file that a room's Job is told of."""
    (tmp_path / "database.url").write_text(postgres.url(database))
    return postgres.url(database)


def npd(tmp_path: Path, *words: str) -> Result:
    """Run the command as a Job does, which is told nothing but the database."""
    return CliRunner().invoke(app, list(words), env={"NPD_DATABASE_URL_FILE": str(tmp_path / "database.url")})


def noted(tmp_path: Path, room: str) -> dict[str, Any]:
    """What the command says for a script."""
    done = npd(tmp_path, "restored", room, "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """Rows of the database."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        found = connection.execute(text(query))
        return [tuple(row) for row in found] if found.returns_rows else []


def test_each_restore_is_an_incarnation_of_its_own_also_from_the_same_backup(tmp_path: Path, url: str) -> None:
    migrate(url, load("residence").schema_packages)
    first = noted(tmp_path, "residence")
    assert first["incarnation_before"] == 1
    assert first["incarnation"] > 1_700_000_000, "by the clock: a count would give one number to two restores"
    second = noted(tmp_path, "residence")
    assert second["incarnation_before"] == first["incarnation"] < second["incarnation"], "twice does no harm"
    assert rows(url, "SELECT told_again FROM store") == [(True,)] * 3


def test_it_says_what_the_store_holds_and_who_must_tell_it_what(tmp_path: Path, url: str) -> None:
    migrate(url, load("sharing").schema_packages)
    rows(url, "INSERT INTO log VALUES (7, '', NULL, '', '2026-11-24T02:10:00Z')")
    rows(url, "INSERT INTO log_pending (leaf_hash, entry, record_time) VALUES ('', '', '2026-11-24T02:10:01Z')")
    told = npd(tmp_path, "restored", "sharing").stdout
    assert "2026-11-24 02:10:00Z  act in the log, position 7" in told
    since = "--peer sharing --since 2026-11-24T02:00:01Z"  # ten minutes for clocks that differ
    for teller in ("civil_status", "identity", "residence"):
        assert f"npd redeliver {teller} {since}" in told
    assert "--told-again" not in told


def test_a_store_that_holds_nothing_is_asked_about(tmp_path: Path, url: str) -> None:
    migrate(url, load("residence").schema_packages)
    assert "is it the right backup?" in npd(tmp_path, "restored", "residence").stdout


def test_identity_waits_until_it_is_said_that_births_were_told_again(tmp_path: Path, url: str) -> None:
    migrate(url, load("identity").schema_packages)
    assert "npd restored identity --told-again" in npd(tmp_path, "restored", "identity").stdout
    assert rows(url, "SELECT told_again FROM store ORDER BY incarnation") == [(True,), (False,)]
    assert npd(tmp_path, "restored", "identity", "--told-again").stdout == "identity acts again\n"
    assert rows(url, "SELECT bool_and(told_again) FROM store") == [(True,)]
    assert npd(tmp_path, "restored", "identity", "--told-again").stdout == "identity waited for nobody\n"


def test_the_registry_goes_on_above_every_revision_that_may_have_been_given(tmp_path: Path, url: str) -> None:
    migrate(url, load("registry").schema_packages)
    given = 500
    for _ in range(3):
        rows(url, "UPDATE policy_revision SET revision = 0, whole_below = 0")  # the backup
        noted(tmp_path, "registry")
        [(revision, whole_below)] = rows(url, "SELECT revision, whole_below FROM policy_revision")
        assert revision == whole_below > given, "also where a restore of the same backup was served before"
        given = revision + 5
    noted(tmp_path, "registry")
    [(revision, whole_below)] = rows(url, "SELECT revision, whole_below FROM policy_revision")
    assert revision == whole_below > given, "twice does no harm"


def test_a_room_that_serves_is_not_noted_as_restored(tmp_path: Path, url: str) -> None:
    migrate(url, load("sharing").schema_packages)
    with create_engine(url, poolclass=NullPool).connect() as serving:
        serving.execute(text("SELECT 1"))
        refused = npd(tmp_path, "restored", "sharing")
    assert refused.exit_code == 1
    assert "kubectl scale deployment npd-sharing" in refused.stderr
    assert rows(url, "SELECT count(*) FROM store") == [(1,)]


def test_what_stands_in_the_way_is_said(tmp_path: Path, url: str) -> None:
    outdated = npd(tmp_path, "restored", "sharing")
    assert (outdated.exit_code, "npd migrate sharing" in outdated.stderr) == (1, True)
    migrate(url, load("sharing").schema_packages)
    foreign = npd(tmp_path, "restored", "identity")
    assert (foreign.exit_code, "sharing" in foreign.stderr) == (1, True)
    assert npd(tmp_path, "restored", "attic").exit_code == 2
    (tmp_path / "database.url").write_text("postgresql+psycopg://nobody:secret@localhost:1/nowhere")
    away = npd(tmp_path, "restored", "sharing")
    assert (away.exit_code, "secret" in away.stderr) == (1, False)


def test_the_incarnation_rises_with_what_a_room_does_then_or_not_at_all(url: str) -> None:
    migrate(url, load("residence").schema_packages)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        noted_then_lost = note(connection, waits=False)
        connection.rollback()
    assert noted_then_lost.after > 1
    assert rows(url, "SELECT incarnation FROM store") == [(1,)]


@pytest.mark.parametrize("since", ["2026-11-24T02:10:00", "yesterday", "02:10"])
def test_a_time_without_its_zone_is_refused_before_anybody_is_asked(since: str) -> None:
    refused = CliRunner().invoke(app, ["redeliver", "identity", "--peer", "sharing", "--since", since])
    assert (refused.exit_code, "zone" in refused.stderr) == (2, True)
