"""Who serves a PostgreSQL data directory, judged by what the server leaves there. Starts and ends no process.

PostgreSQL takes the process id in `postmaster.pid` for a server if any process has it. After `kill -9`, and more often
after a container's restart, the number may be a stranger's, and the server would never start again. The shared memory
that the file names tells the truth: the server and each of its backends are attached to it until they end.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from services.local.errors import DirectoryInUse, DirectoryUnusable

_SHARED_MEMORY: Final = Path("/proc/sysvipc/shm")
_PID_LINE, _MEMORY_LINE, _STATUS_LINE = 0, 6, 7
_WORD: Final = 1 << 32  # the kernel prints the key with a sign, PostgreSQL without


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The server that `postmaster.pid` names; it may be long dead."""

    directory: Path
    pid: int
    is_leaving: bool  # it was told to stop
    memory: tuple[int, int] | None  # key, which comes from the directory's inode, and id, which repeats after a boot

    @classmethod
    def named_in(cls, directory: Path) -> Self | None:
        """Read `postmaster.pid`; None if there is none, or none with a process id."""
        try:
            lines = (directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[_PID_LINE].strip().lstrip("-").isdigit():
            return None
        memory = [int(word) for word in lines[_MEMORY_LINE].split()] if len(lines) > _MEMORY_LINE else []
        return cls(
            directory=directory,
            pid=abs(int(lines[_PID_LINE])),
            is_leaving=len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "stopping",
            memory=(memory[0], memory[1]) if len(memory) == 2 else None,
        )

    def serves(self) -> bool:
        """Whether the server or one of its backends still runs."""
        return self._memory_is_attached() or self._works_in_directory()

    def is_impersonated(self) -> bool:
        """Whether the server is dead while a stranger has its process id.

        Only where /proc can tell; elsewhere PostgreSQL's own, more timid judgement stands.
        """
        return Path("/proc/self/cwd").exists() and Path(f"/proc/{self.pid}").exists() and not self.serves()

    def forget(self) -> None:
        """Remove `postmaster.pid`. Only for a server that is dead: the file guards the directory."""
        (self.directory / "postmaster.pid").unlink(missing_ok=True)

    def _memory_is_attached(self) -> bool:
        if self.memory is None or not _SHARED_MEMORY.exists():
            return False
        header, *segments = (line.split() for line in _SHARED_MEMORY.read_text().splitlines())
        key, identity, attached = (header.index(column) for column in ("key", "shmid", "nattch"))
        return any(
            (int(each[key]) % _WORD, int(each[identity])) == (self.memory[0] % _WORD, self.memory[1])
            and int(each[attached]) > 0
            for each in segments
        )

    def _works_in_directory(self) -> bool:
        try:
            return Path(f"/proc/{self.pid}/cwd").samefile(self.directory)
        except OSError:
            return False


class Claim:
    """The right of one process of ours to prepare and serve a directory: a lock that the kernel drops when we die."""

    def __init__(self, file: Path) -> None:
        """Take the claim. Raises DirectoryInUse if another holds it, DirectoryUnusable if another user made it."""
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError:
            raise DirectoryUnusable(f"{file} cannot be written: the data directory is another user's") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise DirectoryInUse(f"{file.with_suffix('')}: process {holder} of npd-mesh already serves it") from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the claim up; a second call is an error of the caller."""
        os.close(self._descriptor)
