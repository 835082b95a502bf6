"""`npd check` and `npd migrate`: what is wrong with a room is said before it serves, and its store is brought up."""

import json
import secrets
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner, Result

from npd_pki.identity import Kind
from npd_pki.keys import generate_ed25519_key, save_private_key, save_public_key
from services.cli.commands import app
from services.local.postgres import EmbeddedPostgres
from tests.mesh_fixture import ENVIRONMENT, Authority

Variables = dict[str, str]


def run(variables: Variables, *words: str) -> Result:
    return CliRunner().invoke(app, list(words), env=variables)


@pytest.fixture
def variables(tmp_path: Path, postgres: EmbeddedPostgres, authority: Authority) -> Variables:
    """The settings of a sharing room on an empty database, in order."""
    database = f"check_{secrets.token_hex(4)}"
    postgres.ensure_database(database)
    (tmp_path / "database.url").write_text(postgres.url(database))
    (tmp_path / "pseudonym.key").write_text(secrets.token_hex(32))
    save_private_key(tmp_path / "checkpoint.key", generate_ed25519_key())
    save_public_key(tmp_path / "policy.pub", generate_ed25519_key().public_key())
    return {
        "NPD_ENVIRONMENT": ENVIRONMENT,
        "NPD_LISTEN": "localhost:0",
        "NPD_HEALTH_LISTEN": "127.0.0.1:0",
        "NPD_TLS_DIRECTORY": str(authority.tls(Kind.MESH, "sharing")),
        "NPD_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "NPD_CHECKPOINT_KEY_FILE": str(tmp_path / "checkpoint.key"),
        "NPD_PSEUDONYM_KEY_FILE": str(tmp_path / "pseudonym.key"),
        "NPD_POLICY_PUBLIC_KEY_FILE": str(tmp_path / "policy.pub"),
        "NPD_POLICY_DIRECTORY": str(tmp_path / "policy"),
        "NPD_REGISTRY_ADDRESS": "localhost:1",
    }


def problems(variables: Variables) -> dict[str, str]:
    """What `check` finds wrong, by subject."""
    checked = run(variables, "check", "sharing", "--json")
    told = json.loads(checked.output)
    wrong = {one["subject"]: one["problem"] for one in told["findings"] if one["problem"]}
    assert told["sound"] is (not wrong)
    assert checked.exit_code == (1 if wrong else 0)
    return wrong


def test_a_store_that_is_not_migrated_is_told_and_how_to_migrate_it(variables: Variables) -> None:
    assert list(problems(variables)) == ["schema"]
    assert "npd migrate sharing" in problems(variables)["schema"]
    only_the_url = {"NPD_DATABASE_URL_FILE": variables["NPD_DATABASE_URL_FILE"]}
    assert run(only_the_url, "migrate", "sharing").exit_code == 0
    assert run(only_the_url, "migrate", "sharing").exit_code == 0
    assert problems(variables) == {}


def test_methods_are_printed_with_who_may_call_them(variables: Variables) -> None:
    run(variables, "migrate", "sharing")
    shown = run(variables | {"COLUMNS": "200"}, "check", "sharing", "--methods")
    assert shown.exit_code == 0
    [row] = [line for line in shown.output.splitlines() if "LookupService/GetCitizen" in line]
    assert "agency()" in row
    told = json.loads(run(variables, "check", "sharing", "--methods", "--json").output)
    assert told["methods"]["/npd.sharing.v1.LookupService/GetCitizen"] == "agency()"
    for everywhere in ("RelayService/RetrySetAside", "ChainService/ListLinks"):
        assert told["methods"][f"/npd.common.v1.{everywhere}"] == "operator()"


def test_an_unknown_variable_is_refused(variables: Variables) -> None:
    assert "NPD_LISTN is not a setting" in problems(variables | {"NPD_LISTN": "x"})["settings"]


def test_another_rooms_certificate_is_told(variables: Variables, authority: Authority) -> None:
    found = problems(variables | {"NPD_TLS_DIRECTORY": str(authority.tls(Kind.MESH, "registry"))})
    assert "/registry" in found["certificate"]


def test_a_malformed_key_is_told(variables: Variables) -> None:
    Path(variables["NPD_PSEUDONYM_KEY_FILE"]).write_text("not hex")
    assert "64 hex digits" in problems(variables)["keys"]


def test_a_database_that_does_not_answer_is_told_without_its_password(variables: Variables, tmp_path: Path) -> None:
    url = f"postgresql+psycopg://npd:hush-hush@/npd?host={tmp_path}"
    Path(variables["NPD_DATABASE_URL_FILE"]).write_text(url)
    told = problems(variables)["database"]
    assert "the store cannot be used" in told
    assert "NPD_DATABASE_URL_FILE" in told
    assert "hush-hush" not in told
    answered = run(variables, "migrate", "sharing")
    assert answered.exit_code == 1
    assert "hush-hush" not in answered.output
    assert "Traceback" not in answered.output


def test_migrating_the_registry_records_operators_and_loads_the_law(variables: Variables) -> None:
    only_the_url = {"NPD_DATABASE_URL_FILE": variables["NPD_DATABASE_URL_FILE"]}
    done = run(only_the_url, "migrate", "registry", "--operator", "lan", "--operator", "minh")
    assert done.exit_code == 0
    assert "lan, minh" in done.output
    engine = create_engine(Path(variables["NPD_DATABASE_URL_FILE"]).read_text())
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM operators ORDER BY name")).scalars().all() == ["lan", "minh"]
        assert connection.execute(text("SELECT count(*) FROM purposes")).scalar_one() > 0
    engine.dispose()


def test_an_operators_name_that_no_certificate_carries_is_refused(variables: Variables) -> None:
    only_the_url = {"NPD_DATABASE_URL_FILE": variables["NPD_DATABASE_URL_FILE"]}
    answered = run(only_the_url, "migrate", "registry", "--operator", "Ms Lan")
    assert answered.exit_code == 2
    assert "operator" in answered.stderr
