"""The PostgreSQL of a local mesh: real binaries of a wheel, one directory, a Unix socket. Opens no network port."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from services.local.account import ServerAccount
from services.local.cluster import SERVER_ENVIRONMENT, SUPERUSER, Cluster, binary
from services.local.errors import DatabaseNameRefused, DirectoryInUse, ServerNotReady
from services.local.leash import Leashed
from services.local.postmaster import Claim, Postmaster
from services.local.sockets import PORT, SocketDirectory
from services.local.supervisor import ChildSpec

_LEAVING_TIMEOUT: Final = 5.0
_KILL_TIMEOUT: Final = 10.0
_TOLD_EVERY: Final = 1.0
_STATEMENT_TIMEOUT: Final = "60s"
_NAME: Final = re.compile(r"(?!pg_|template\d|postgres$)[a-z][a-z0-9_]{0,62}")

Progress = Callable[[str], None]
"""Told, about once a second while we wait, what we wait for; each text is a clause that a person can read."""


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """What may differ between two local meshes. Durations in seconds; recovery after a crash may need minutes."""

    shared_buffers: str = "128MB"
    max_connections: int = 100
    start_timeout: float = 300.0
    stop_timeout: float = 10.0

    def options(self) -> dict[str, str]:
        """The server's settings. Durability is the real one, so that measurements and crash tests mean something.

        The log holds what the server has to say of itself and nothing of people: the text of an ERROR may quote a value
        (`invalid input syntax for type date: "..."`), so errors of statements are left to the client that made them;
        a DETAIL line quotes whole rows, and terse omits it.
        """
        return {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_permissions": "0700",
            "shared_buffers": self.shared_buffers,
            "max_connections": str(self.max_connections),
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_min_messages": "log",
            "log_statement": "none",
            "log_min_error_statement": "panic",
            "log_min_duration_statement": "-1",
            "log_error_verbosity": "terse",
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
        }


class EmbeddedPostgres:
    """One PostgreSQL server over one data directory. Methods may be called from any thread.

    As a context manager it starts and stops the server. Should we die without stopping it, its leash does.
    """

    def __init__(
        self, data_directory: Path, *, settings: PostgresSettings | None = None, account: ServerAccount | None = None
    ) -> None:
        self._cluster = Cluster(data_directory.absolute())
        self._settings = settings or PostgresSettings()
        self._given_account = account
        self._lock = threading.RLock()
        self._claim: Claim | None = None
        self._server: Leashed | None = None

    @property
    def log(self) -> Path:
        """The file that the server writes its log to."""
        return self._cluster.log

    @property
    def pid(self) -> int | None:
        """The process id of the server that `start` started, None if it does not run."""
        server = self._server
        return server.pid if server is not None and server.exit_code is None else None

    @property
    def command(self) -> tuple[str, ...]:
        """What `start` runs in the foreground."""
        options = {**self._settings.options(), "unix_socket_directories": str(self._sockets.path)}
        flags = (word for name, value in options.items() for word in ("-c", f"{name}={value}"))
        return (*self._account.prefix, str(binary("postgres")), "-D", str(self._cluster.directory), *flags)

    def prepare(self) -> None:
        """Make the data directory, once, and claim it until `stop`.

        Raises DirectoryInUse, DirectoryUnusable, PasswordMissing, SocketDirectoryUnusable, ServerAccountUnavailable,
        and ServerNotReady if initdb fails.
        """
        with self._lock:
            self._cluster.directory.parent.mkdir(parents=True, exist_ok=True)
            first = self._claim is None
            self._claim = self._claim or Claim(self._cluster.lock)
            try:
                if not self._cluster.is_made():
                    self._cluster.make(self._account, self._sockets)
                self._account.own_directory(self._cluster.directory)
            except BaseException:
                if first:
                    self.stop()
                raise

    def start(self, progress: Progress | None = None) -> None:
        """Start the server and wait until it serves; only waits if it runs.

        Raises what `prepare` raises, DirectoryInUse if a server that is not ours serves the directory, and
        ServerNotReady, after stopping it.
        """
        tell = progress or _tell_nobody
        with self._lock:
            try:
                if self.pid is None:
                    self._make_way(tell)
                    each = self._settings.stop_timeout
                    plan = ((signal.SIGINT, each), (signal.SIGQUIT, each))  # fast, then immediate
                    self._server = Leashed(self.command, env=SERVER_ENVIRONMENT, log=self.log, stop_plan=plan)
                self._await_ready(tell)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the server (fast, then immediate, each within the stop timeout), drop the claim. May be repeated."""
        with self._lock:
            if self._server is not None:
                self._server.stop()
                self._server = None
            if self._claim is not None:
                former = Postmaster.named_in(self._cluster.directory)
                if former is None or not former.serves():
                    self._sockets.remove()
                self._claim.release()
                self._claim = None

    def restart(self, progress: Progress | None = None) -> None:
        """Stop, then start."""
        with self._lock:
            self.stop()
            self.start(progress)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """For fault tests: send the server a signal; after SIGKILL wait for its end. `start` brings it back."""
        server = self._server
        if server is not None and server.send(number) and number is signal.SIGKILL:
            server.wait(_KILL_TIMEOUT)

    def as_child(self, name: str = "postgres") -> ChildSpec:
        """The same server for a `Supervisor` that starts it again when it dies: use it instead of `start`.

        Call `stop` after the supervisor's, to drop the claim.
        """
        return ChildSpec(
            name=name,
            argv=self.command,
            env=SERVER_ENVIRONMENT,
            ready=lambda: self._refusal() is None,
            log=self.log,
            stop_signal=signal.SIGINT,
            grace=self._settings.stop_timeout,
            before=lambda: self._make_way(_tell_nobody),
        )

    def ensure_database(self, name: str) -> None:
        """Make a database and a role of that name with a password of its own, as far as they are missing.

        The role owns the database, is no superuser, and is the only one (superusers apart) that may connect to it.
        Raises DatabaseNameRefused, and psycopg.Error if the server does not run.
        """
        if not _NAME.fullmatch(name):
            raise DatabaseNameRefused(f"{name!r}: at most 63 of a-z, 0-9 and _, and not a name of PostgreSQL's own")
        password = self._cluster.passwords.ensure(name)
        role = database = sql.Identifier(name)
        with self._lock, self._connection() as connection:
            verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {}").format(role))
            rights = sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}")
            connection.execute(rights.format(role, sql.Literal(verifier)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                create = sql.SQL("CREATE DATABASE {} OWNER {} ALLOW_CONNECTIONS false")  # closed until it is private
                connection.execute(create.format(database, role))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {}, postgres, template1 FROM PUBLIC").format(database))
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))

    def url(self, name: str) -> str:
        """The address of a database for SQLAlchemy, its password in it. Raises PasswordMissing before it is ensured."""
        credentials = f"{name}:{quote(self._cluster.passwords.of(name), safe='')}"
        return f"postgresql+psycopg://{credentials}@/{name}?host={quote(str(self._sockets.path))}&port={PORT}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @cached_property
    def _account(self) -> ServerAccount:
        return self._given_account or ServerAccount.find()

    @cached_property
    def _sockets(self) -> SocketDirectory:
        return SocketDirectory.of(self._cluster.directory)

    def _make_way(self, tell: Progress) -> None:
        """Prepare, wait for what a dead server left behind to end, remove a lock that only a stranger's pid holds."""
        self.prepare()
        began = time.monotonic()
        while (former := Postmaster.named_in(self._cluster.directory)) is not None and former.serves():
            patience = 2 * self._settings.stop_timeout if former.is_leaving else _LEAVING_TIMEOUT
            if time.monotonic() - began > patience:
                raise DirectoryInUse(f"{self._cluster.directory}: PostgreSQL process {former.pid} already serves it")
            tell(f"waiting for the former PostgreSQL process {former.pid} to end")
            time.sleep(0.1)
        if former is not None and former.is_impersonated():
            former.forget()
        self._sockets.make(self._account)

    def _await_ready(self, tell: Progress) -> None:
        server, began, pause = self._server, time.monotonic(), 0.02
        told = began
        while server is not None and server.wait(pause) is None:
            refusal, now = self._refusal(), time.monotonic()
            if refusal is None:
                return
            if now - began > self._settings.start_timeout or "authentication failed" in refusal:
                raise ServerNotReady(f"PostgreSQL does not serve after {now - began:.0f} s: {refusal}")
            if now - told >= _TOLD_EVERY:
                told = now
                tell(f"PostgreSQL, {now - began:.0f} s: {refusal}")
            pause = min(pause * 1.5, 0.5)
        code, tail = (server.exit_code, server.log_tail()) if server is not None else (None, "")
        raise ServerNotReady(f"PostgreSQL ended with exit code {code}. The end of {self.log}:\n{tail}")

    def _refusal(self) -> str | None:
        """Why the server takes no connection at this moment, None if it does."""
        try:
            with self._connection():
                return None
        except psycopg.OperationalError as error:
            reason = str(error).partition("FATAL:")[2].strip()
            return reason.splitlines()[0] if reason else "no answer yet"

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(
            host=str(self._sockets.path),
            port=PORT,
            user=SUPERUSER,
            dbname="postgres",
            password=self._cluster.passwords.of(SUPERUSER),
            connect_timeout=2,
            options=f"-c statement_timeout={_STATEMENT_TIMEOUT}",
            autocommit=True,
        ) as connection:
            yield connection


def _tell_nobody(_: str) -> None:
    """The default progress."""
