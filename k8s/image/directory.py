"""Builds the image's /app into .build/images/KEY/app by install.sh, unless what it is made of has not changed.

Prints the directory; .build/image is a link to the newest. Those of the last few states of the sources stay, since a
room may still run from one. With the standard library alone, so that any Python 3.11 can do it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".build"
_KEPT = 4
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "services", "k8s/image"),
    *("protos/pyproject.toml", "protos/README.md", "protos/npd_client", "protos/gen/npd"),
    *("pki/pyproject.toml", "pki/README.md", "pki/npd_pki", "pki/ceremonies"),
)
"""What install.sh reads; .dockerignore lets the same through."""
_LEFT_OUT = ROOT / "services" / "local"


def sources() -> Iterator[Path]:
    """The files that install.sh reads, in a fixed order."""
    for name in SOURCES:
        place = ROOT / name
        found = (path for path in sorted(place.rglob("*")) if path.is_file()) if place.is_dir() else (place,)
        for path in found:
            if path.suffix != ".pyc" and not path.is_relative_to(_LEFT_OUT):
                yield path


def key() -> str:
    """What the result depends on: the sources and the Python that it is made by."""
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_platform()} {sys.base_prefix}".encode())
    for path in sources():
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def build(images: Path) -> Path:
    """The directory of this state of the sources, made if need be; whole or not at all."""
    while not (target := images / (wanted := key())).is_dir():
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=images))
        try:
            draft.chmod(0o755)
            environment = {**os.environ, "PYTHON": sys.executable}
            subprocess.run(
                [ROOT / "k8s" / "image" / "install.sh", draft], env=environment, stdout=sys.stderr, check=True
            )
            if key() == wanted:  # else somebody edits the sources at this moment
                draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    os.utime(target)
    return target


def publish(target: Path, images: Path) -> None:
    """Point .build/image to a directory, and remove the oldest."""
    link = BUILT / f".image-{os.getpid()}"
    link.symlink_to(target.relative_to(BUILT))
    link.replace(BUILT / "image")
    built = sorted((path for path in images.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in built[:-_KEPT]:
        shutil.rmtree(path)


def main() -> None:
    """Build under a lock, so that two at once make it once."""
    images = BUILT / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (BUILT / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = build(images)
        publish(target, images)
    print(target)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"the image's directory was not built: {error}")
