"""Replaces the credentials of a directory, all files at once: no reader ever sees parts of two generations.

The layout is the kubelet's: files lie in a generation, a directory `..20261124T010706.123456Z`; the symbolic link
`..data` points to the one in use, and `tls.crt`, `tls.key` and `ca.crt` are links through it. Judges no certificate.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from npd_client.credentials import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    DATA_LINK,
    KEY_FILE,
    CredentialsError,
    DirectoryPath,
)

BUNDLE_FILE = "trust.bundle"
"""The signed trust bundle from which the roots in `ca.crt` were taken last."""
LOCK_FILE = ".npd-client.lock"
"""Locked (flock) by the one process that changes the directory."""

_LINKED = (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE)
_KEPT = (*_LINKED, BUNDLE_FILE)
_STAGED_LINK = "..data_next"
_STAMP = "..%Y%m%dT%H%M%S.%fZ"


class DirectoryNotWritable(CredentialsError):
    """The files in this directory cannot be replaced by this process."""


class DirectoryKept(CredentialsError):
    """Another program, such as Kubernetes, keeps the files of this directory; it has to bring the new ones."""


class DirectoryBusy(CredentialsError):
    """Another process is replacing the files of this directory right now."""


def require_replaceable(directory: DirectoryPath) -> None:
    """Raise DirectoryNotWritable or DirectoryKept unless `replace_credentials` could do its work here."""
    place = Path(directory)
    generation = _generation(place)
    if generation is not None and not _is_ours(generation.name):
        raise DirectoryKept(
            f"{place} is kept by another program (its {DATA_LINK} is not npd-client's), as in a volume that Kubernetes "
            "mounts. Renew where that volume comes from (cert-manager, or whoever writes the Secret); the new files "
            "are taken by themselves."
        )
    if sys.platform == "win32":
        raise DirectoryNotWritable(f"{place}: files are replaced at once only where symbolic links can be swapped.")
    if not place.is_dir():
        raise DirectoryNotWritable(f"The directory {place} does not exist. Make it, for your service's user alone.")
    if not os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_RDONLY:
        raise DirectoryNotWritable(
            f"{place} cannot be written by this user, so a new certificate could not be kept. Run as the owner of the "
            "directory, or make it writable; where a deployment brings the files, let it bring the new ones too."
        )


@contextmanager
def locked(directory: DirectoryPath, *, patience: float = 0.0) -> Iterator[None]:
    """Be the only process, and thread, that changes this directory. The lock ends with the process, whatever happens.

    Waits `patience` seconds for another to finish. Raises DirectoryBusy, DirectoryNotWritable, DirectoryKept.
    """
    require_replaceable(directory)
    import fcntl  # not on Windows, where the line above refuses

    place, give_up = Path(directory), monotonic() + patience
    descriptor = os.open(place / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        keep_owner(place / LOCK_FILE, place)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() >= give_up:
                    raise DirectoryBusy(
                        f"Another process is renewing the certificate in {place}. Wait a moment; its result counts for "
                        "all."
                    ) from None
            sleep(0.05)
        try:
            yield
        finally:
            # Closing alone would leave it locked for as long as a process lives that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def replace_credentials(directory: DirectoryPath, files: Mapping[str, bytes]) -> None:
    """Replace the files of a directory by `files`: tls.crt, tls.key, ca.crt and trust.bundle, or those there are.

    To be called under `locked`. A crash at any moment leaves the old files or the new ones, and the next call puts in
    order what it left. Raises DirectoryNotWritable, DirectoryKept, OSError.
    """
    for _ in steps(directory, files):
        pass


def steps(directory: DirectoryPath, files: Mapping[str, bytes]) -> Iterator[str]:
    """What `replace_credentials` does, a step at a time; after each the directory may be left as it is.

    1. Files that are not links yet, as an administrator or a copy left them, are copied into a generation.
    2. `..data` is pointed to it.
    3. One by one they are replaced by links through `..data`, to the very same bytes.
    4. The new files are written as a generation of their own and forced to the disk; nobody sees it yet.
    5. Files that there were none of before get their links, which lead nowhere until the swap.
    6. `..data` is pointed to it, in one rename: this is the swap.
    7. Generations but this one and the one before are removed.
    """
    require_replaceable(directory)
    place = Path(directory)
    plain = {name: (place / name).read_bytes() for name in _LINKED if (place / name).exists()}
    if any(not _is_linked(place, name) for name in plain):
        yield from _steps_to_links(place, plain)  # (1) to (3)
    before = _generation(place)
    new = _write_generation(place, files)
    yield "new generation"  # (4)
    for name in _LINKED:
        if name in files and not _is_linked(place, name):
            _point(place, name, f"{DATA_LINK}/{name}")
            yield f"link {name}"  # (5)
    _point(place, DATA_LINK, new.name)
    yield "swap"  # (6)
    for old in place.iterdir():
        if _is_ours(old.name) and old != new and old != before:
            shutil.rmtree(old, ignore_errors=True)
    yield "old generations"  # (7)


def read_bundle(directory: DirectoryPath) -> bytes:
    """The trust bundle that was taken last; empty if there is none."""
    with suppress(OSError):
        return (Path(directory) / DATA_LINK / BUNDLE_FILE).read_bytes()
    return b""


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, and force it to the disk. Raises OSError."""
    _write(path, content, 0o600)


def force_directory(directory: Path) -> None:
    """Force a directory's own entries (new names, renames) to the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps_to_links(place: Path, plain: Mapping[str, bytes]) -> Iterator[str]:
    bundle = read_bundle(place)
    adopted = _write_generation(place, {**plain, **({BUNDLE_FILE: bundle} if bundle else {})})
    yield "generation of the old files"
    # Only where a file is no link, readers look at the plain paths, so that pointing `..data` elsewhere moves none.
    _point(place, DATA_LINK, adopted.name)
    yield "link to the old files"
    for name in plain:
        if not _is_linked(place, name):
            _point(place, name, f"{DATA_LINK}/{name}")
            yield f"link {name} to the old file"


def _write_generation(place: Path, files: Mapping[str, bytes]) -> Path:
    """A new generation, whole on the disk. Its files belong to whom the old ones belonged, also if root wrote them."""
    generation = place / datetime.now(UTC).strftime(_STAMP)
    generation.mkdir(mode=0o755)
    try:
        for name in _KEPT:
            if name in files:
                old, new = place / name, generation / name
                _write(new, files[name], 0o600 if name == KEY_FILE else 0o644)
                keep_owner(new, old if old.exists() else place)
        generation.chmod(0o755)
        keep_owner(generation, place)
        force_directory(generation)
        force_directory(place)
    except OSError:
        # On a full disk every attempt would leave one more, with a private key.
        shutil.rmtree(generation, ignore_errors=True)
        raise
    return generation


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)


def keep_owner(new: Path, old: Path) -> None:
    """Give what root writes to whom the old file, or the directory, belongs: the service must go on reading it."""
    if os.geteuid() == 0:
        status = old.stat()
        os.chown(new, status.st_uid, status.st_gid, follow_symlinks=False)


def _point(place: Path, name: str, target: str) -> None:
    """Put a symbolic link in its place in one rename, whatever stood there. The parent of all guarantees here."""
    staged = place / _STAGED_LINK
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    staged.replace(place / name)
    force_directory(place)


def _is_linked(place: Path, name: str) -> bool:
    path = place / name
    return path.is_symlink() and os.readlink(path) == f"{DATA_LINK}/{name}"


def _generation(place: Path) -> Path | None:
    """The generation in use; None where there is no `..data`."""
    link = place / DATA_LINK
    return place / os.readlink(link) if link.is_symlink() else None


def _is_ours(name: str) -> bool:
    """Kubernetes names its generations otherwise (`..2026_11_24_01_07_06.123456789`)."""
    try:
        datetime.strptime(name, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
