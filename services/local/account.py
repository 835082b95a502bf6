"""The account that PostgreSQL runs under: it refuses to be root. Never opens a directory to others.

A clone under a home of mode 0700 must stay reachable for the server although the server is not root:
- in a user namespace of its own it is `nobody` there and keeps our access to files outside;
- where namespaces are forbidden (most containers) it becomes `nobody` and keeps one capability, to reach files
  (CAP_DAC_OVERRIDE). That is no more than root's files, which it reaches in the namespace as well.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.local.errors import DirectoryUnusable, ServerAccountUnavailable

_PROBE_TIMEOUT: Final = 10.0
_DAC_OVERRIDE: Final = 1 << 1


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """How to become the account (`prefix`, put before a command), and who owns its files, seen from here."""

    prefix: tuple[str, ...]
    uid: int
    gid: int

    @classmethod
    def find(cls) -> "ServerAccount":
        """Return the best account that this system permits.

        Raises ServerAccountUnavailable if we are root and may neither make a user namespace nor become `nobody`.
        """
        if os.geteuid() != 0:
            return cls.own()
        for account in (cls.in_namespace(), cls.as_nobody()):
            if account.works():
                return account
        raise ServerAccountUnavailable(
            "PostgreSQL refuses to run as root, and neither 'unshare --user' nor 'setpriv --reuid' works here:"
            " run as an ordinary user"
        )

    @classmethod
    def own(cls) -> "ServerAccount":
        """The account that we run under."""
        return cls((), os.geteuid(), os.getegid())

    @classmethod
    def in_namespace(cls) -> "ServerAccount":
        """`nobody` in a user namespace, ourselves outside."""
        return cls(("unshare", "--user", f"--map-user={_nobody().pw_uid}", "--"), os.geteuid(), os.getegid())

    @classmethod
    def as_nobody(cls) -> "ServerAccount":
        """The real `nobody`, with the capability to reach files if we have it to give."""
        nobody = _nobody()
        keep = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override") if _reaches_all_files() else ()
        change = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *keep, "--")
        return cls(change, nobody.pw_uid, nobody.pw_gid)

    def works(self) -> bool:
        """Whether a command can be run under this account at all."""
        try:
            probe = subprocess.run([*self.prefix, "true"], capture_output=True, timeout=_PROBE_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return probe.returncode == 0

    def own_directory(self, directory: Path) -> None:
        """Make the account the owner of a directory of ours and of all that is in it, if it is not.

        As root it may have served under another of our accounts before. Raises DirectoryUnusable if it is a person's.
        """
        owner = directory.lstat().st_uid
        if owner == self.uid:
            return
        if os.geteuid() != 0 or owner not in {0, _nobody().pw_uid}:
            raise DirectoryUnusable(f"{directory} belongs to user {owner}: run as that user")
        for folder, folders, files in os.walk(directory):
            for name in (*folders, *files):
                os.chown(Path(folder) / name, self.uid, self.gid, follow_symlinks=False)
        os.chown(directory, self.uid, self.gid, follow_symlinks=False)  # last: an interrupted change is made again


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise ServerAccountUnavailable("this system has no account 'nobody' for PostgreSQL to run under") from None


def _reaches_all_files() -> bool:
    status = Path("/proc/self/status")
    if not status.exists():
        return False
    effective = next((line for line in status.read_text().splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(effective.split()[1], 16) & _DAC_OVERRIDE)
