"""The database's password in a file of its own: taken anew by each connection, and told to nobody."""

import json
from http.client import HTTPConnection
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
from sqlalchemy import Connection, make_url, text

from services.cli.migration import prepare_store
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.address import StoreAddress
from services.mesh.core.db import Database, itself, open_engine, reason_of
from services.mesh.core.errors import StoreUnavailable
from services.registry.app import ROOM as REGISTRY
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Running, Stage, wait_until
from tests.volumes import Volume


class Secret:
    """A database whose role's password lies in a mounted volume."""

    def __init__(self, postgres: EmbeddedPostgres, name: str, place: Path) -> None:
        postgres.ensure_database(name)
        url = make_url(postgres.url(name))
        assert isinstance(url.password, str)
        self.password, self._role = url.password, name
        self.url = postgres.url(name).replace(f":{url.password}@", "@")
        self.volume = Volume.mount(place, {"password": f"{url.password}\n".encode(), "username": name.encode()})
        self.file = place / "password"
        self._postgres = postgres

    @property
    def address(self) -> StoreAddress:
        """The address, as a room reads it."""
        return StoreAddress.of(self.url, self.file)

    def rotate_in_store(self) -> str:
        """Give the role another password and end its connections; returns the password, which no file holds yet."""
        password = token_urlsafe(16)
        with self._postgres._connection() as connection:
            connection.execute(f"ALTER ROLE {self._role} PASSWORD '{password}'")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [self._role]
            )
        return password


@pytest.fixture
def secret(postgres: EmbeddedPostgres, tmp_path: Path) -> Secret:
    """A database whose password lies in a mounted volume."""
    return Secret(postgres, f"password_{token_urlsafe(4).lower().replace('-', '_')}", tmp_path / "database")


def ask(store: Database[Connection]) -> None:
    """Ask the store something. Raises StoreUnavailable."""
    with store.transaction() as connection:
        connection.execute(text("SELECT 1"))


def test_a_rotated_password_is_taken_by_the_next_connection(secret: Secret) -> None:
    engine = open_engine(secret.address, connections=4)
    store = Database(engine, itself)
    ask(store)
    rotated = secret.rotate_in_store()

    def refusal() -> str:
        try:
            ask(store)
        except StoreUnavailable as error:
            return reason_of(error)
        return ""

    wait_until(lambda: "password authentication failed" in refusal())
    assert secret.password not in refusal()
    secret.volume.replace({"password": b"", "username": b"npd"})
    assert "NPD_DATABASE_PASSWORD_FILE" in refusal()
    secret.volume.replace({"password": rotated.encode(), "username": b"npd"})
    assert refusal() == ""
    engine.dispose()


def test_migrating_takes_the_password_from_its_file(secret: Secret) -> None:
    prepare_store(REGISTRY, secret.address, ["lan"])
    with secret.address.engine_for_once().connect() as connection:
        assert connection.execute(text("SELECT name FROM operators")).scalars().all() == ["lan"]


@pytest.fixture
def room(stage: Stage, registry: Running, secret: Secret, tmp_path: Path) -> Running:
    """A room whose database's password lies in a file of its own."""
    assert registry.serving.port
    prepare_store(SHARING, secret.address)
    (tmp_path / "database.url").write_text(secret.url)
    return stage.start(SHARING, database_url_file=tmp_path / "database.url", database_password_file=secret.file)


def not_ready(room: Running) -> dict[str, Any]:
    """What /readyz says is wrong."""
    connection = HTTPConnection("127.0.0.1", room.serving.health.port, timeout=10)
    connection.request("GET", "/readyz")
    told: dict[str, Any] = json.loads(connection.getresponse().read())["not_ready"]
    connection.close()
    return told


def test_a_room_goes_on_when_its_password_was_rotated(room: Running, secret: Secret) -> None:
    wait_until(lambda: not_ready(room) == {})
    rotated = secret.rotate_in_store()
    wait_until(lambda: "password authentication failed" in not_ready(room).get("store", ""))
    secret.volume.replace({"password": rotated.encode(), "username": b"npd"})
    wait_until(lambda: not_ready(room) == {})
