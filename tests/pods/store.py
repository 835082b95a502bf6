"""PostgreSQL as the manifests expect it: on the pods' network, over TLS, a database and a role per room.

Debian's, because the one of the wheel is built without TLS. One server stands for the rooms' clusters: it has all their
names, and its certificate too.
"""

import secrets
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import psycopg
from psycopg import sql

from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import mesh_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import ROOM_TLS
from services.local.account import ServerAccount
from services.local.leash import Leashed
from tests.mesh_fixture import wait_until
from tests.pods.network import Network
from tests.programs import program

_BINARIES: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_SUPERUSER: Final = "postgres"
# As CloudNativePG has it: over the network with TLS alone, and by password.
_ACCESS: Final = "local all all scram-sha-256\nhostssl all all 0.0.0.0/0 scram-sha-256\n"
_SETTINGS: Final = (
    *("-c", "listen_addresses=*", "-c", "max_connections=200", "-c", "shared_buffers=128MB"),
    *("-c", "ssl=on", "-c", "ssl_min_protocol_version=TLSv1.3"),
)


class Store:
    """A server for the rooms that are named. As a context it starts and ends."""

    def __init__(self, network: Network, directory: Path, names: Sequence[str]) -> None:
        """`names` are the DNS names that it answers to."""
        self._network, self._directory, self._names = network, directory, names
        self._server: Leashed | None = None
        self._password = secrets.token_hex(16)
        self.address = ""
        self.roots = b""
        """What its certificate is verified by."""

    def __enter__(self) -> Self:
        account = ServerAccount.find()
        self._directory.mkdir()
        account.own_directory(self._directory)
        self._write_certificate(account)
        cluster = self._made(account)
        joined = self._network.join("store")
        self._server = Leashed(
            (
                *(*joined.command, *account.prefix, _binary("postgres"), "-D", str(cluster), *_SETTINGS),
                *("-c", f"unix_socket_directories={self._directory}"),
                *("-c", f"ssl_cert_file={self._directory}/tls.crt", "-c", f"ssl_key_file={self._directory}/tls.key"),
            ),
            env={"LC_ALL": "C"},
            log=self._directory.with_suffix(".log"),
            stop_plan=((signal.SIGINT, 10.0),),
        )
        self.address = joined.address
        wait_until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()

    def make_database(self, name: str) -> str:
        """A database and the role that owns it, both of this name; returns the password."""
        password = secrets.token_hex(16)
        with self._connect() as connection:
            role = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        return password

    def count_clear_text(self) -> int:
        """How many connections over the network are not encrypted."""
        query = (
            "SELECT pid FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE NOT ssl AND client_addr IS NOT NULL"
        )
        with self._connect() as connection:
            return len(connection.execute(query).fetchall())

    def _write_certificate(self, account: ServerAccount) -> None:
        authority, key = Hierarchy.create("postgres.example"), generate_p256_key()
        leaf = authority.mesh.issue(
            ROOM_TLS, mesh_uri("postgres.example", "postgres"), key.public_key(), dns_names=tuple(self._names)
        )
        write_credentials(self._directory, Credentials(leaf, key, (authority.root.certificate,)))
        self.roots = (self._directory / "ca.crt").read_bytes()
        account.own_directory(self._directory / "tls.key")

    def _made(self, account: ServerAccount) -> Path:
        cluster, password = self._directory / "cluster", self._directory / "password"
        cluster.mkdir(mode=0o700)
        password.write_text(self._password)
        for path in self._directory.iterdir():
            account.own_directory(path)
        made = subprocess.run(
            (
                *(*account.prefix, _binary("initdb"), "-D", str(cluster), "-U", _SUPERUSER, "-A", "scram-sha-256"),
                *(f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        (cluster / "pg_hba.conf").write_text(_ACCESS)
        return cluster

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self._directory), user=_SUPERUSER, password=self._password, dbname="postgres", autocommit=True
        )

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _binary(name: str) -> str:
    return str(_BINARIES[-1] / name) if _BINARIES else program(name)
