"""A volume as the kubelet writes it: Secret, ConfigMap, projected and most CSI volumes have this layout.

tls = Volume.mount(tmp_path / "tls", {"tls.crt": chain, "tls.key": key, "ca.crt": roots})
tls.replace({"tls.crt": newer, "tls.key": newer_key, "ca.crt": roots})    # at once, for who reads through the links

    ..2026_11_24_04_14_03.0000000001/tls.crt    the files of one generation
    ..data -> ..2026_11_24_04_14_03.0000000001  the generation in use, replaced by rename
    tls.crt -> ..data/tls.crt                   what the container sees

Source: Kubernetes, pkg/volume/util/atomic_writer.go, which cert-manager's csi-lib uses too.
"""

import itertools
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

DATA_LINK = "..data"
_NEW_DATA_LINK = "..data_tmp"
OWNER_ALONE = 0o400
"""For a reader that owns the files. In a pod root does, and lends them to the pod's group: mode 0440."""
_generations = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Volume:
    """A mounted volume. `mode` is its defaultMode, `group` its fsGroup (by default whatever the process has)."""

    directory: Path
    mode: int = OWNER_ALONE
    group: int = -1

    @classmethod
    def mount(cls, directory: Path, files: Mapping[str, bytes], *, mode: int = OWNER_ALONE, group: int = -1) -> Self:
        """A new volume with its first files. The directory is made if absent and must be empty."""
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise FileExistsError(f"{directory} is not empty")
        volume = cls(directory, mode, group)
        volume.replace(files)
        return volume

    @property
    def files(self) -> dict[str, bytes]:
        """What it holds now."""
        return {path.name: path.read_bytes() for path in (self.directory / DATA_LINK).iterdir()}

    def replace(self, files: Mapping[str, bytes]) -> None:
        """Swap all files for these at once, as the kubelet does when the Secret behind has changed.

        1. Equal files change nothing, not even a time.
        2. The new generation is written whole, beside the old one.
        3. One rename of a link swaps them.
        4. A link for every file leads through that one; those of files that are gone go.
        5. The old generation goes: who has it open may finish, nobody finds it again.
        """
        data = self.directory / DATA_LINK
        old = self.directory / os.readlink(data) if data.is_symlink() else None
        if old is not None and self.files == dict(files):  # (1)
            return
        generation = self._write(files)  # (2)
        self._link(generation.name, _NEW_DATA_LINK)
        (self.directory / _NEW_DATA_LINK).rename(data)  # (3)
        for name in files:  # (4)
            if not (self.directory / name).is_symlink():
                self._link(f"{DATA_LINK}/{name}", name)
        for path in self.directory.iterdir():
            if path.is_symlink() and path.name != DATA_LINK and path.name not in files:
                path.unlink()
        if old is not None:  # (5)
            shutil.rmtree(old)

    def _write(self, files: Mapping[str, bytes]) -> Path:
        name = f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S}.{next(_generations):010d}"
        generation = self.directory / name
        generation.mkdir(mode=0o755)
        for name, content in files.items():
            path = generation / name
            path.write_bytes(content)
            path.chmod(self.mode)
            os.chown(path, -1, self.group)
        return generation

    def _link(self, target: str, name: str) -> None:
        (self.directory / name).symlink_to(target)
