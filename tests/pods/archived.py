"""A PostgreSQL cluster of one room as CloudNativePG keeps it: its WAL is archived, it is backed up while it works.

A lost cluster is recovered from both to a named point in time.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from services.local.cluster import SUPERUSER, Cluster, binary
from services.local.postgres import EmbeddedPostgres, PostgresSettings
from services.local.sockets import PORT, SocketDirectory
from tests.mesh_fixture import wait_until

_SETTINGS = PostgresSettings(shared_buffers="16MB", max_connections=60)
_START_OF_BACKUP = re.compile(r"START WAL LOCATION: (\S+)")


@dataclass(frozen=True)
class Figures:
    """What a backup or a recovery took."""

    size: int
    seconds: float


@dataclass(frozen=True)
class Point:
    """A named place in the WAL, and when it was passed."""

    name: str
    lsn: str
    time: datetime


class ArchivedCluster:
    """The cluster of one room. `url` is the room's, with its password."""

    def __init__(self, directory: Path, room: str) -> None:
        """Make the cluster with its archive, start it, and make the room's database and role."""
        directory.mkdir()
        self._data, self._archive, self._base = (directory / name for name in ("data", "archive", "base"))
        self._archive.mkdir(mode=0o777)
        self._cluster = Cluster(self._data)
        self._server = EmbeddedPostgres(self._data, settings=_SETTINGS)
        self._server.prepare()
        self._configure(archive_mode="on", archive_command=f"test ! -f {self._archive}/%f && cp %p {self._archive}/%f")
        self._server.start()
        self._server.ensure_database(room)
        self.url = self._server.url(room)

    def back_up(self) -> Figures:
        """Take a base backup, and verify what was taken against its manifest. The WAL comes from the archive."""
        began = time.monotonic()
        how = ("--wal-method=none", "--checkpoint=fast", "--no-password", "--manifest-checksums=SHA256")
        self._run("pg_basebackup", f"--pgdata={self._base}", *how)
        seconds = time.monotonic() - began
        self._verify()
        return Figures(sum(file.stat().st_size for file in self._base.rglob("*") if file.is_file()), seconds)

    def mark(self, name: str) -> Point:
        """Name this moment, to recover to it."""
        [(lsn, moment)] = self._ask(f"SELECT pg_create_restore_point('{name}')::text, clock_timestamp()")
        return Point(name, lsn, moment)

    def destroy(self) -> None:
        """Lose the whole cluster, once the archive has all that it wrote: what remains are backup and archive."""
        [(segment,)] = self._ask("SELECT pg_walfile_name(pg_switch_wal())")
        wait_until(lambda: (self._archive / segment).exists(), 30)
        self._server.kill()
        self._server.stop()
        shutil.rmtree(self._data)

    def recover(self, point: Point) -> Figures:
        """Recover to a point, as a new cluster of a new timeline; returns the bytes of WAL replayed, and the time."""
        shutil.copytree(self._base, self._data)
        self._data.chmod(0o700)
        [start] = _START_OF_BACKUP.findall((self._data / "backup_label").read_text())
        (self._data / "recovery.signal").touch()
        self._configure(
            restore_command=f"cp {self._archive}/%f %p",
            recovery_target_name=point.name,
            recovery_target_action="promote",
        )
        began = time.monotonic()
        self._server.start()
        wait_until(lambda: self._ask("SELECT pg_is_in_recovery()") == [(False,)], 60)
        seconds = time.monotonic() - began
        [(replayed,)] = self._ask(f"SELECT pg_wal_lsn_diff('{point.lsn}', '{start}')::bigint")
        return Figures(replayed, seconds)

    def close(self) -> None:
        """Stop the server."""
        self._server.stop()

    def _verify(self) -> None:
        """As pg_verifybackup does; the one of our wheel cannot even tell its version."""
        manifest = json.loads((self._base / "backup_manifest").read_text())
        assert manifest["Files"]
        for file in manifest["Files"]:
            content = (self._base / file["Path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["Checksum"], file["Path"]

    def _configure(self, **settings: str) -> None:
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=str(SocketDirectory.of(self._data).path), port=PORT, user=SUPERUSER, dbname="postgres",
            password=self._cluster.passwords.of(SUPERUSER), autocommit=True,
        ) as connection:  # fmt: skip
            return connection.execute(query).fetchall()

    def _run(self, program: str, *arguments: str) -> None:
        server = {
            "PGHOST": str(SocketDirectory.of(self._data).path),
            "PGPORT": str(PORT),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": self._cluster.passwords.of(SUPERUSER),
        }
        command = [str(binary(program)), *arguments]
        done = subprocess.run(command, env={**os.environ, **server}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
