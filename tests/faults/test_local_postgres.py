"""The embedded PostgreSQL under faults: killed, orphaned, interrupted, claimed twice. Real processes throughout."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

import services.local.postgres
from services.local.account import ServerAccount
from services.local.errors import (
    DatabaseNameRefused,
    DirectoryInUse,
    DirectoryUnusable,
    PasswordMissing,
    ServerNotReady,
    SocketDirectoryUnusable,
)
from services.local.postgres import EmbeddedPostgres, PostgresSettings
from services.local.sockets import SocketDirectory
from services.local.supervisor import Supervisor

REPOSITORY = Path(__file__).parents[2]
SMALL = PostgresSettings(shared_buffers="16MB", max_connections=20, start_timeout=30)
NAME = "Nguyễn Thị Mẫu"

DRIVER = """
import sys, threading
from pathlib import Path
from services.local.postgres import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]))
thread = threading.Thread(target=getattr(postgres, sys.argv[2]))  # the thread that starts it ends; the server must not
thread.start()
thread.join()
print(postgres.pid, flush=True)
threading.Event().wait(60)
"""


def accounts() -> list[ServerAccount]:
    """Every way to run the server that works here."""
    if os.geteuid() != 0:
        return [ServerAccount.own()]
    return [account for account in (ServerAccount.in_namespace(), ServerAccount.as_nobody()) if account.works()]


def callers() -> list[tuple[str, ...]]:
    """What to put before a program to run it as we are and, if we are root and may, as somebody who is not."""
    return [(), *(account.prefix for account in accounts() if "unshare" in account.prefix)]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_under(directory: Path) -> set[int]:
    """Live processes that work in a directory; a zombie works nowhere."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.add(int(process.name))
        except OSError:
            continue
    return found


def connect(postgres: EmbeddedPostgres, name: str) -> psycopg.Connection:
    return psycopg.connect(postgres.url(name).replace("+psycopg", ""), connect_timeout=5, autocommit=True)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("mesh") / "data", settings=SMALL) as server:
        server.ensure_database("registry")
        server.ensure_database("identity")
        yield server


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run DRIVER as another process, working in tmp_path, with a temporary directory that we remove after its death."""
    temporary = tempfile.mkdtemp(prefix="npd-")
    started: list[subprocess.Popen[str]] = []

    def run(prefix: tuple[str, ...], *arguments: str) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, "-c", DRIVER, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": temporary}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()
    shutil.rmtree(temporary)


@pytest.mark.parametrize("account", accounts(), ids=lambda account: account.prefix[:1])
def test_a_server_in_a_private_place_is_made_once_and_keeps_its_rows(tmp_path: Path, account: ServerAccount) -> None:
    tmp_path.chmod(0o700)
    server = EmbeddedPostgres(tmp_path / "data", settings=SMALL, account=account)
    server.prepare()
    made = (tmp_path / "data" / "global" / "pg_control").stat().st_ino
    with server:
        server.ensure_database("registry")
        with create_engine(server.url("registry")).connect() as connection:
            connection.execute(text("CREATE TABLE fact AS SELECT 1 AS id"))
            connection.commit()
    assert server.pid is None
    with server:
        server.ensure_database("registry")
        with connect(server, "registry") as connection2:
            assert connection2.execute("SELECT id FROM fact").fetchall() == [(1,)]
            wanted = {"fsync": "on", "synchronous_commit": "on", "data_checksums": "on", "listen_addresses": ""}
            found = {name: connection2.execute(f"SHOW {name}").fetchone() for name in wanted}
            assert found == {name: (value,) for name, value in wanted.items()}
    assert (tmp_path / "data" / "global" / "pg_control").stat().st_ino == made
    assert until(lambda: not processes_under(tmp_path / "data"))


def test_a_role_reaches_its_own_database_only(postgres: EmbeddedPostgres) -> None:
    for other in ("identity", "postgres", "template1"):
        address = postgres.url("registry").replace("+psycopg", "").replace("@/registry", f"@/{other}")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(address)
    stranger = postgres.url("registry").replace("+psycopg", "").replace("//registry:", "//identity:")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stranger)
    with connect(postgres, "registry") as connection:
        assert connection.execute(
            "SELECT current_user, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ).fetchone() == ("registry", False, False, False)
        connection.execute("CREATE TABLE fact (id int)")


def test_passwords_are_ours_alone_and_survive_a_second_ensure(postgres: EmbeddedPostgres) -> None:
    before = postgres.url("registry")
    postgres.ensure_database("registry")
    assert postgres.url("registry") == before
    assert postgres.url("registry") != postgres.url("identity").replace("identity", "registry")
    files = list(postgres.log.with_suffix(".passwords").iterdir())
    assert {file.name for file in files} == {"postgres", "registry", "identity"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in (*files, postgres.log)} == {0o600}
    with pytest.raises(PasswordMissing):
        postgres.url("residence")


@pytest.mark.parametrize("name", ["postgres", "template1", "pg_room", "Room", "a b", 'x"; DROP', "", "x" * 64])
def test_a_name_that_is_none_of_a_room_is_refused(postgres: EmbeddedPostgres, name: str) -> None:
    with pytest.raises(DatabaseNameRefused):
        postgres.ensure_database(name)


def test_the_log_names_nobody(postgres: EmbeddedPostgres) -> None:
    with connect(postgres, "identity") as connection:
        connection.execute("CREATE TABLE person (name text UNIQUE, born date)")
        connection.execute("INSERT INTO person VALUES (%s)", [NAME])
        for statement in (
            "INSERT INTO person VALUES (%s)",  # its DETAIL quotes the key
            "INSERT INTO person VALUES ('x', %s::text::date)",  # its message quotes the value
            f"SELECT '{NAME}'::int",
            "DO $$ BEGIN RAISE WARNING 'found %', (SELECT name FROM person LIMIT 1); END $$",
        ):
            with pytest.raises(psycopg.Error) if "RAISE" not in statement else connection.transaction():
                connection.execute(statement, [NAME] if "%s" in statement else None)
    log = postgres.log.read_text()
    assert "ready to accept connections" in log
    assert NAME not in log


def test_a_killed_server_returns_with_all_that_was_committed(postgres: EmbeddedPostgres) -> None:
    with connect(postgres, "registry") as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
        killed = postgres.pid
        postgres.kill()
        assert postgres.pid is None
        postgres.start()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with connect(postgres, "registry") as again:
        assert again.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    assert postgres.pid not in {None, killed}


def test_a_lock_whose_process_id_a_stranger_has_does_not_block(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    postgres.kill()
    lock = postgres.log.with_suffix("") / "postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as stranger:
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        try:
            postgres.start()
            assert int(lock.read_text().splitlines()[0]) == postgres.pid
        finally:
            stranger.kill()


def test_a_slow_start_tells_what_it_waits_for(postgres: EmbeddedPostgres) -> None:
    told: list[str] = []

    def tell(clause: str) -> None:
        told.append(clause)
        postgres.kill(signal.SIGCONT)

    postgres.kill(signal.SIGSTOP)
    postgres.start(tell)
    assert told
    assert "no answer yet" in told[0]


def test_a_second_server_of_the_same_directory_is_refused(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.local.postgres, "_LEAVING_TIMEOUT", 0.2)
    intruder = EmbeddedPostgres(postgres.log.with_suffix(""), settings=SMALL)
    with pytest.raises(DirectoryInUse, match=f"process {os.getpid()} of npd-mesh"):
        intruder.start()
    postgres.log.with_suffix(".lock").unlink()  # as if the server had been started by other means than ours
    with pytest.raises(DirectoryInUse, match=f"PostgreSQL process {postgres.pid}"):
        intruder.start()
    with connect(postgres, "registry") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_two_meshes_do_not_meet(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data", settings=SMALL) as other:
        other.ensure_database("registry")
        with connect(postgres, "registry") as here, connect(other, "registry") as there:
            identity = "SELECT system_identifier FROM pg_control_system()"
            assert here.execute(identity).fetchone() != there.execute(identity).fetchone()


def test_a_supervised_server_returns_by_itself(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", settings=SMALL)
    try:
        with Supervisor([server.as_child()]) as supervisor:
            supervisor.start(seconds=30)
            server.ensure_database("registry")
            with connect(server, "registry") as connection:
                connection.execute("CREATE TABLE kept (id int)")
            supervisor.kill("postgres")
            supervisor.wait_ready("postgres")
            with connect(server, "registry") as connection:
                assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
            assert supervisor.statuses()[0].restarts >= 1
    finally:
        server.stop()
    assert until(lambda: not processes_under(tmp_path / "data"))
    assert "database system is shut down" in server.log.read_text().splitlines()[-1]


@pytest.mark.parametrize("prefix", callers(), ids=lambda prefix: prefix[:1] or "as we are")
def test_no_server_outlives_a_killed_parent(
    tmp_path: Path, prefix: tuple[str, ...], drive: Callable[..., subprocess.Popen[str]]
) -> None:
    parent = drive(prefix, str(tmp_path / "data"), "start")
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    assert server in processes_under(tmp_path / "data")
    parent.kill()
    parent.wait()
    with EmbeddedPostgres(tmp_path / "data", settings=SMALL):  # at once: it waits for the orphan to end
        assert server not in processes_under(tmp_path)
    assert until(lambda: not processes_under(tmp_path))
    assert "received fast shutdown request" in (tmp_path / "data.log").read_text()


def test_an_interrupted_initdb_is_made_anew(tmp_path: Path, drive: Callable[..., subprocess.Popen[str]]) -> None:
    parent = drive((), str(tmp_path / "data"), "prepare")
    assert until(lambda: (tmp_path / "data.draft" / "PG_VERSION").exists())
    parent.kill()
    parent.wait()
    assert not (tmp_path / "data").exists()
    with EmbeddedPostgres(tmp_path / "data", settings=SMALL) as server:
        server.ensure_database("registry")
    assert not (tmp_path / "data.draft").exists()
    assert until(lambda: not processes_under(tmp_path))


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DirectoryUnusable, match="neither empty"):
        EmbeddedPostgres(tmp_path).start()
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(DirectoryUnusable, match="16"):
        EmbeddedPostgres(tmp_path).start()
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_root_does_not_take_over_the_directory_of_a_person(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, 12345)
    with pytest.raises(DirectoryUnusable, match="12345"):
        ServerAccount.find().own_directory(tmp_path / "data")
    assert (tmp_path / "data").stat().st_uid == 12345


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", settings=PostgresSettings(shared_buffers="lots"))
    with pytest.raises(ServerNotReady, match=r'exit code 1.*\n.*"shared_buffers"'):
        server.start()
    assert server.pid is None


def test_a_temporary_directory_that_is_too_deep_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    address = SocketDirectory.of(tmp_path / "data").path / ".s.PGSQL.5432"
    assert len(os.fsencode(address)) <= 107
    with socket.socket(socket.AF_UNIX) as listener:
        address.parent.mkdir(mode=0o700)
        try:
            listener.bind(str(address))
        finally:
            address.unlink(missing_ok=True)
            address.parent.rmdir()


def test_a_socket_directory_that_another_put_there_is_refused(tmp_path: Path) -> None:
    sockets = SocketDirectory.of(tmp_path / "data")
    sockets.path.symlink_to(tmp_path)
    try:
        with pytest.raises(SocketDirectoryUnusable):
            EmbeddedPostgres(tmp_path / "data").start()
    finally:
        sockets.path.unlink(missing_ok=True)
