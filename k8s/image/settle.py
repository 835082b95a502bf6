"""Settles an environment, wherever it was made, as the one that the image has at /app. `python settle.py APP`.

Afterwards it holds only our own commands, names no other place than /app, and is byte-compiled, the same way each time.
Runs on the environment's own Python, with the standard library alone.
"""

import base64
import compileall
import csv
import hashlib
import io
import sys
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path, PurePosixPath
from py_compile import PycInvalidationMode

HOME = PurePosixPath("/app")
OURS = ("npd-mesh", "npd-client", "npd-pki")


def main(app: Path) -> None:
    """Settle it."""
    for distribution in distributions():
        settle_commands(app, distribution)
    programs = app / "bin"
    for path in programs.iterdir():
        if path.name.lower().startswith("activate"):
            path.unlink()
    settings = app / "pyvenv.cfg"
    lines = settings.read_text().splitlines()
    settings.write_text("".join(f"{line}\n" for line in lines if not line.startswith("command ")))
    # Files of an image never change, so that what was compiled needs no comparison with its source, nor its time.
    library = next((app / "lib").glob("python3.*")) / "site-packages"
    is_compiled = compileall.compile_dir(
        library, quiet=1, stripdir=str(app), prependdir=str(HOME), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not is_compiled:
        sys.exit("not every module could be compiled")


def settle_commands(app: Path, distribution: Distribution) -> None:
    """Write a distribution's commands anew, for /app, if it is ours; remove those of others. Its RECORD follows."""
    record = next(file for file in distribution.files or () if file.name == "RECORD")
    place = Path(str(distribution.locate_file(record)))
    rows = list(csv.reader(place.read_text(encoding="utf-8").splitlines()))
    programs = (app / "bin").resolve()
    commands = {entry.name: entry for entry in distribution.entry_points.select(group="console_scripts")}
    kept = []
    for name, digest, size in rows:
        path = Path(str(distribution.locate_file(name))).resolve()
        if path.parent != programs:
            kept.append((name, digest, size))
        elif distribution.name in OURS:
            content = command(commands[path.name])
            path.write_bytes(content)
            kept.append((name, f"sha256={_digest(content)}", str(len(content))))
        else:
            path.unlink()
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(kept)
    place.write_text(written.getvalue(), encoding="utf-8")


def command(entry: EntryPoint) -> bytes:
    """The program of a command."""
    return (
        f"#!{HOME}/bin/python\nimport sys\n\nfrom {entry.module} import {entry.attr}\n\nsys.exit({entry.attr}())\n"
    ).encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
