"""Files that a command makes: whole or not at all, and never in the place of one that is there."""

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from npd_pki.errors import OutputExists
from npd_pki.files import PemFile, force_directory, require_absent


def require_directory(directory: Path) -> None:
    """Refuse a directory that is none, or that could not be made or written into, before anything is signed for it.

    Raises NotADirectoryError, PermissionError.
    """
    place = directory.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def write_new(directory: Path, files: Sequence[PemFile]) -> None:
    """Write files into a directory, which is made if absent; each appears whole, none replaces another.

    Raises OutputExists, OSError.
    """
    for file in files:
        require_absent(directory / file.name)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for file in files:
        _write_new(directory, file)
    force_directory(directory)


def _write_new(directory: Path, file: PemFile) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, file.mode)
            stream.write(file.content)
            stream.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, directory / file.name)  # unlike a rename, a link replaces nothing
        except FileExistsError as error:
            raise OutputExists(directory / file.name) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
