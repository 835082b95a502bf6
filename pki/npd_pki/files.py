"""Files that appear whole or not at all, and private keys that nobody else may read. Knows no certificates."""

import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npd_pki.errors import OutputExists, PrivateKeyExposed

PRIVATE = 0o600
PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class PemFile:
    """What is to stand in one file: its name within a directory, its bytes and its mode (PRIVATE or PUBLIC)."""

    name: str
    content: bytes
    mode: int


def replace_files(directory: Path, files: Sequence[PemFile]) -> None:
    """Put files into an existing directory, replacing those of the same names.

    1. Each is written beside its place, with its final mode, and forced to the disk; nothing visible has changed yet.
    2. Each is renamed into its place, in the given order; a reader sees the old file or the new one, never a part.
    3. The directory itself is forced to the disk.

    Between two renames a reader can see files of two generations: it must check that they belong together.
    Raises OSError; if that happens in step 1, the old files are untouched. No temporary file is left in any case.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for file in files:  # (1)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=directory)
            staged.append((Path(temporary), directory / file.name))
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, file.mode)
                stream.write(file.content)
                stream.flush()
                os.fsync(descriptor)
        while staged:  # (2)
            temporary_path, place = staged[0]
            temporary_path.replace(place)
            staged.pop(0)
    finally:
        for temporary_path, _ in staged:
            temporary_path.unlink(missing_ok=True)
    force_directory(directory)  # (3)


def require_absent(path: Path) -> None:
    """Refuse a path that is taken, if only by a link that leads nowhere. Raises OutputExists."""
    if os.path.lexists(path):
        raise OutputExists(path)


def force_directory(directory: Path) -> None:
    """Force a directory's own entries (new names, renames) to the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """Read a file that nobody else may touch, or that root has lent us.

    By PostgreSQL's rule for key files: one's own is for oneself alone, but what is root's, a group may read. So a
    Kubernetes volume with fsGroup lends a Secret: root's, of the pod's group, mode 0440.

    The mode is that of the opened file, so that it cannot be swapped between the check and the reading.
    Raises PrivateKeyExposed; OSError.
    """
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
        lent_by_root = status.st_uid == 0 and os.geteuid() != 0
        mode = stat.S_IMODE(status.st_mode)
        if mode & (0o037 if lent_by_root else 0o077):
            raise PrivateKeyExposed(path, mode)
        return stream.read()
