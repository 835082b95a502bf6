"""The directory of a server's Unix socket: private, and short enough for the 107 bytes that such a path may have."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from services.local.account import ServerAccount
from services.local.errors import SocketDirectoryUnusable

PORT: Final = 5432
"""Part of the socket's name only: nothing listens on a network."""

_LONGEST_SOCKET_PATH: Final = 107


@dataclass(frozen=True, slots=True)
class SocketDirectory:
    """A directory under the temporary one, named after a hash of the data directory, so that two meshes never meet."""

    path: Path

    @classmethod
    def of(cls, data_directory: Path) -> Self:
        """Return the place for this data directory and user. Raises SocketDirectoryUnusable if none is short enough."""
        mark = hashlib.sha256(f"{os.geteuid()}:{data_directory.resolve()}".encode()).hexdigest()[:16]
        for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - its use is guarded in make()
            path = Path(parent).absolute() / f"npd-{mark}"
            if len(os.fsencode(path / f".s.PGSQL.{PORT}")) <= _LONGEST_SOCKET_PATH:
                return cls(path)
        raise SocketDirectoryUnusable(f"{tempfile.gettempdir()} is too long for a Unix socket: set a shorter TMPDIR")

    def make(self, account: ServerAccount) -> None:
        """Make it, empty, of mode 0700 and the account's own. The caller knows that no server uses it.

        Raises SocketDirectoryUnusable if somebody else made it first: anyone may write under the temporary directory.
        """
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            found = self.path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), account.uid}:
                raise SocketDirectoryUnusable(f"{self.path} is somebody else's: set TMPDIR, or remove it") from None
        for left in self.path.iterdir():  # a lock whose process id a stranger has by now would block the start
            left.unlink()
        self.path.chmod(0o700)
        account.own_directory(self.path)

    def remove(self) -> None:
        """Remove it with all that is in it, if it exists."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def secret_file(self, content: str, account: ServerAccount) -> Iterator[Path]:
        """Lend a file of mode 0600 that only the account can read, for as long as the block lasts."""
        path = self.path / "secret"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as written:
                written.write(content + "\n")
            if os.geteuid() == 0:
                os.chown(path, account.uid, account.gid)
            yield path
        finally:
            path.unlink(missing_ok=True)
