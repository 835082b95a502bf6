"""Rendered manifests as typed values: what `kubectl kustomize` makes of a directory. Reads them; judges nothing.

`render(PROD)` is what the platform team would apply. A pod's environment is resolved through its ConfigMaps, and its
files through its volumes, so that a test or a rehearsal sees what the process in the container would see.
"""

import copy
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import yaml

from tests.programs import program

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("dev", "sandbox", "prod")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")

Json: TypeAlias = Mapping[str, Any]
Keys: TypeAlias = Callable[[str, str], frozenset[str]]
"""Kind and name of a ConfigMap or Secret -> its keys; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as it would be sent to the cluster."""

    body: Json

    @property
    def kind(self) -> str:
        """Such as Deployment."""
        return str(self.body["kind"])

    @property
    def group(self) -> str:
        """The API group, empty for the core's."""
        return str(self.body["apiVersion"]).rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its name, with the hash that a generator put at its end."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace, empty for what has none."""
        return str(self.body["metadata"].get("namespace", ""))

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self.body["metadata"].get("labels") or {}

    @property
    def spec(self) -> Json:
        """Its specification, empty for what has none."""
        return self.body.get("spec") or {}

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Provided:
    """A file that a volume puts into a container: where, and the key of which object it is ("" kind: a CSI driver)."""

    path: PurePosixPath
    kind: str
    name: str
    key: str
    mode: int


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a workload."""

    body: Json

    @property
    def name(self) -> str:
        """Its name in the pod."""
        return str(self.body["name"])

    @property
    def image(self) -> str:
        """Name and tag or digest."""
        return str(self.body["image"])

    @property
    def args(self) -> tuple[str, ...]:
        """What the image's entry point is given."""
        return tuple(self.body.get("args") or ())

    @property
    def ports(self) -> Mapping[str, int]:
        """Number of each named port."""
        return {port.get("name", ""): port["containerPort"] for port in self.body.get("ports") or ()}

    @property
    def mounts(self) -> Mapping[PurePosixPath, Json]:
        """Its volume mounts by their path."""
        return {PurePosixPath(mount["mountPath"]): mount for mount in self.body.get("volumeMounts") or ()}


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that makes pods."""

    manifest: Manifest

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    @property
    def template(self) -> Json:
        """The template of its pods."""
        spec = self.manifest.spec
        if self.manifest.kind == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template: Json = spec["template"]
        return template

    @property
    def pod(self) -> Json:
        """The specification of its pods."""
        spec: Json = self.template["spec"]
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its pods."""
        return (self.template.get("metadata") or {}).get("labels") or {}

    @property
    def containers(self) -> tuple[Container, ...]:
        """Containers of its pods, those of the start first."""
        bodies = [*(self.pod.get("initContainers") or ()), *(self.pod.get("containers") or ())]
        return tuple(map(Container, bodies))

    @property
    def volumes(self) -> Mapping[str, Json]:
        """Volumes of its pods by name."""
        return {volume["name"]: volume for volume in self.pod.get("volumes") or ()}

    def __str__(self) -> str:
        return str(self.manifest)


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of one rendering, in its order."""

    objects: tuple[Manifest, ...]

    @classmethod
    def parse(cls, text: str) -> "Manifests":
        """Objects of a YAML stream. Raises yaml.YAMLError."""
        return cls(tuple(Manifest(body) for body in yaml.safe_load_all(text) if body))

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self.objects)

    def __add__(self, others: "Manifests") -> "Manifests":
        return Manifests(self.objects + others.objects)

    def of_kind(self, *kinds: str) -> tuple[Manifest, ...]:
        """All objects of these kinds."""
        return tuple(one for one in self.objects if one.kind in kinds)

    def get(self, kind: str, name: str) -> Manifest | None:
        """The object of this kind and name, or None."""
        return next((one for one in self.objects if one.kind == kind and one.name == name), None)

    def find(self, kind: str, name: str) -> Manifest:
        """The object of this kind and name. Raises LookupError, naming those that exist."""
        found = self.get(kind, name)
        if found is None:
            raise LookupError(f"no {kind}/{name}, only {', '.join(one.name for one in self.of_kind(kind))}")
        return found

    def workloads(self) -> tuple[Workload, ...]:
        """All that makes pods."""
        return tuple(map(Workload, self.of_kind(*WORKLOADS)))

    def workload(self, name: str) -> Workload:
        """The workload of this name. Raises LookupError."""
        found = next((one for one in self.workloads() if one.name == name), None)
        if found is None:
            raise LookupError(f"no workload {name}, only {', '.join(one.name for one in self.workloads())}")
        return found

    def keys(self, kind: str, name: str) -> frozenset[str]:
        """Keys of a ConfigMap or Secret of this rendering; empty if it is not here."""
        found = self.get(kind, name)
        if found is None:
            return frozenset()
        parts = ("data", "binaryData", "stringData")
        return frozenset(key for part in parts for key in found.body.get(part) or ())

    def environment(self, container: Container) -> dict[str, str]:
        """The variables that the container's process gets, as far as ConfigMaps of this rendering give them.

        What the cluster alone knows (a field of the pod, a Secret's key) is given as "<where from>".
        """
        values: dict[str, str] = {}
        for source in container.body.get("envFrom") or ():
            held = self._data(source.get("configMapRef", {}).get("name", ""))
            values |= {source.get("prefix", "") + key: value for key, value in held.items()}
        for entry in container.body.get("env") or ():
            values[entry["name"]] = self._value(entry)
        return values

    def _value(self, entry: Json) -> str:
        if "valueFrom" not in entry:
            return str(entry.get("value", ""))
        ((how, source),) = entry["valueFrom"].items()
        if how == "configMapKeyRef":
            return self._data(source["name"]).get(source["key"], "")
        return (
            "<"
            + "/".join(str(source[part]) for part in ("name", "key", "fieldPath", "resource") if part in source)
            + ">"
        )

    def _data(self, name: str) -> Mapping[str, str]:
        found = self.get("ConfigMap", name)
        return (found.body.get("data") or {}) if found else {}

    def files(self, workload: Workload, container: Container, keys: Keys | None = None) -> tuple[Provided, ...]:
        """Every file that volumes put into the container; of an object mounted whole, all `keys` that it has."""
        known = keys or self.keys
        return tuple(
            provided
            for path, mount in container.mounts.items()
            for provided in _provided(path, mount, workload.volumes.get(mount["name"], {}), known)
        )

    def changed(self, kind: str, name: str, edit: Callable[[dict[str, Any]], None]) -> "Manifests":
        """A copy in which `edit` has changed the body of one object. Raises LookupError."""
        wanted = self.find(kind, name)
        body = copy.deepcopy(dict(wanted.body))
        edit(body)
        return Manifests(tuple(Manifest(body) if one is wanted else one for one in self.objects))

    def in_namespace(self, namespace: str) -> "Manifests":
        """A copy of which every object is in this one, but for a Namespace itself."""
        moved = copy.deepcopy([dict(one.body) for one in self.objects])
        for body in moved:
            if body["kind"] != "Namespace":
                body["metadata"]["namespace"] = namespace
        return Manifests(tuple(map(Manifest, moved)))

    def without(self, kind: str, name: str) -> "Manifests":
        """A copy that lacks one object. Raises LookupError."""
        unwanted = self.find(kind, name)
        return Manifests(tuple(one for one in self.objects if one is not unwanted))


@cache
def render(directory: Path) -> Manifests:
    """What `kubectl kustomize` makes of a directory, once in a process. Raises AssertionError with its words."""
    done = subprocess.run(
        [program("kubectl"), "kustomize", str(directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Manifests.parse(done.stdout)


def overlay(name: str) -> Manifests:
    """The rooms of an overlay."""
    return render(K8S / "overlays" / name)


def migrations(name: str) -> Manifests:
    """The migrations of an overlay, which are applied before its rooms."""
    return render(K8S / "overlays" / name / "migrations")


def _provided(path: PurePosixPath, mount: Json, volume: Json, keys: Keys) -> Iterator[Provided]:
    """The files of a volume as a mount shows them; with a subPath that one alone, at the mount's own path."""
    below = mount.get("subPath", "")
    for relative, (kind, name, key, mode) in _volume_files(volume, keys):
        if not below:
            yield Provided(path / relative, kind, name, key, mode)
        elif relative == PurePosixPath(below):
            yield Provided(path, kind, name, key, mode)


def _volume_files(volume: Json, keys: Keys) -> Iterator[tuple[PurePosixPath, tuple[str, str, str, int]]]:
    if "csi" in volume:
        attributes = volume["csi"].get("volumeAttributes", {})
        defaults = {"certificate-file": "tls.crt", "privatekey-file": "tls.key", "ca-file": "ca.crt"}
        for attribute, default in defaults.items():
            file = attributes.get(f"csi.cert-manager.io/{attribute}", default)
            yield PurePosixPath(file), ("", str(volume["csi"]["driver"]), file, 0o644)
        return
    projected = volume.get("projected", {})
    sources: Sequence[tuple[Json, int]] = [
        (one, projected.get("defaultMode", 0o644)) for one in projected.get("sources") or ()
    ]
    sources = [
        *sources,
        *(
            (({how: volume[how]}), volume[how].get("defaultMode", 0o644))
            for how in ("secret", "configMap")
            if how in volume
        ),
    ]
    for source, mode in sources:
        for how, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
            if how not in source:
                continue
            name = str(source[how].get("name") or source[how].get("secretName"))
            items = source[how].get("items") or [{"key": key, "path": key} for key in sorted(keys(kind, name))]
            for item in items:
                yield PurePosixPath(item["path"]), (kind, name, item["key"], item.get("mode", mode))
