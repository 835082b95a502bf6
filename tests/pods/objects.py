"""The ConfigMaps and Secrets of a cluster, and the volumes of a pod that show them."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from tests.k8s.manifests import Manifests, Provided, Workload
from tests.pods.container import Mount
from tests.volumes import Volume

_EMPTY_DIRECTORY_MODE: Final = 0o2777


class Objects:
    """What the API server holds: the ConfigMaps of the manifests, and what the platform team puts beside them."""

    def __init__(self, *rendered: Manifests) -> None:
        self._files: dict[tuple[str, str], dict[str, bytes]] = {}
        for manifests in rendered:
            for one in manifests.of_kind("ConfigMap"):
                texts: Mapping[str, str] = one.body.get("data") or {}
                self.put("ConfigMap", one.name, {key: text.encode() for key, text in texts.items()})

    def put(self, kind: str, name: str, files: Mapping[str, bytes]) -> None:
        """Make or replace an object."""
        self._files[kind, name] = dict(files)

    def get(self, kind: str, name: str) -> Mapping[str, bytes]:
        """The files of an object by key. Raises LookupError: no pod starts before it is there."""
        if (kind, name) not in self._files:
            raise LookupError(f"no {kind}/{name}")
        return self._files[kind, name]

    def keys(self, kind: str, name: str) -> frozenset[str]:
        """The keys of an object. Raises LookupError."""
        return frozenset(self.get(kind, name))


class PodVolumes:
    """The volumes of a pod on the node's disk. They outlive a restart of the container, not the pod."""

    def __init__(self, manifests: Manifests, workload: Workload, objects: Objects, directory: Path) -> None:
        """Make them below a directory. Raises LookupError for an object that is missing."""
        self._objects, self._shown = objects, dict[PurePosixPath, tuple[Volume, list[Provided]]]()
        self.mounts: list[Mount] = []
        (container,) = workload.containers
        group = int(workload.pod["securityContext"]["fsGroup"])
        files = manifests.files(workload, container, objects.keys)
        for path, mount in container.mounts.items():
            place = directory / str(mount["name"])
            if "emptyDir" in workload.volumes[mount["name"]]:
                place.mkdir(parents=True)
                os.chown(place, 0, group)
                place.chmod(_EMPTY_DIRECTORY_MODE)
            else:
                mine = [file for file in files if file.path.parent == path]
                (mode,) = {file.mode for file in mine}
                self._shown[path] = Volume.mount(place, self._content(mine), mode=mode, group=group), mine
            self.mounts.append(Mount(str(path), place, read_only=bool(mount.get("readOnly", False))))

    def update(self) -> None:
        """Show what the objects hold now, as the kubelet does about once a minute."""
        for volume, files in self._shown.values():
            volume.replace(self._content(files))

    def _content(self, files: list[Provided]) -> dict[str, bytes]:
        return {file.path.name: self._objects.get(file.kind, file.name)[file.key] for file in files}
