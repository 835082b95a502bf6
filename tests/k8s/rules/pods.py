"""Rules over pods: restricted, measured, probed, told what to run, spread, and given the time that their end takes."""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import typer.main

from services.cli.commands import app
from services.mesh.core import config
from services.mesh.core.config import RoomSettings, SettingsInvalid
from tests.k8s.manifests import K8S, Container, Manifests, Workload
from tests.k8s.rules import rooms
from tests.k8s.rules.fault import Fault

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
# Of what a pod under the Pod Security Standard "restricted" may mount, what these pods have use for.
VOLUMES = {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
LISTENS = {"grpc": "listen", "health": "health_listen", "door": "door_listen"}
MARGIN = timedelta(seconds=5)

_ENTRYPOINT = re.compile(r"^ENTRYPOINT (\[.*\])$", re.MULTILINE)
_USER = re.compile(r"^USER (\d+)", re.MULTILINE)
_PROBES = {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def isolated(manifests: Manifests) -> Iterator[Fault]:
    """Every pod is restricted, sees no Kubernetes API, and is told of no Service by its environment."""
    for account in manifests.of_kind("ServiceAccount"):
        if account.body.get("automountServiceAccountToken") is not False:
            yield Fault(str(account), "automountServiceAccountToken must be false")
    for workload in manifests.workloads():
        yield from (Fault(str(workload), what) for what in _unisolated(workload))


def _unisolated(workload: Workload) -> Iterator[str]:
    pod, security = workload.pod, workload.pod.get("securityContext") or {}
    for field in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(field) is not False:
            yield f"{field} must be false"
    for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.get(field):
            yield f"{field} must not be set"
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot must be true"
    if (security.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "seccompProfile must be RuntimeDefault"
    for volume in workload.volumes.values():
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"the volume {volume['name']} is a {kind}"
        if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
            yield f"the volume {volume['name']} has no sizeLimit"
    for container in workload.containers:
        mine = container.body.get("securityContext") or {}
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        for field, value in wanted.items():
            if mine.get(field) != value:
                yield f"{container.name}: {field} must be {value}"
        for field in set(mine) - set(wanted):
            yield f"{container.name}: {field} is the pod's to say"
        for port in container.body.get("ports") or ():
            if "hostPort" in port:
                yield f"{container.name}: hostPort must not be set"


def as_the_images_user(manifests: Manifests, dockerfile: Path = K8S / "Dockerfile") -> Iterator[Fault]:
    """Our pods run as the user of the image, and files are lent to its group."""
    user = int(_said(dockerfile, _USER))
    for workload in _of_ours(manifests):
        security = workload.pod.get("securityContext") or {}
        for field in ("runAsUser", "runAsGroup", "fsGroup"):
            if security.get(field) != user:
                yield Fault(str(workload), f"{field} must be {user}, as the Dockerfile's USER")


def _of_ours(manifests: Manifests) -> list[Workload]:
    return [one for one in manifests.workloads() if any(map(rooms.is_ours, one.containers))]


def secrets_closed(manifests: Manifests) -> Iterator[Fault]:
    """Files of Secrets are mounted read-only, and others on the node cannot read them."""
    for workload in manifests.workloads():
        for volume in workload.volumes.values():
            sources = [(volume["secret"], volume["secret"])] if "secret" in volume else []
            projected = volume.get("projected", {})
            sources += [(projected, one["secret"]) for one in projected.get("sources") or () if "secret" in one]
            for outer, secret in sources:
                modes = [outer.get("defaultMode", 0o644), *(item.get("mode", 0) for item in secret.get("items") or ())]
                if any(mode & 0o337 for mode in modes):
                    yield Fault(str(workload), f"the volume {volume['name']} needs the mode 0440, or a closer one")
        for container in workload.containers:
            for path, mount in container.mounts.items():
                volume = workload.volumes.get(mount["name"], {})
                if set(volume) & {"secret", "projected", "configMap", "csi"} and mount.get("readOnly") is not True:
                    yield Fault(str(workload), f"{path} must be mounted read-only")
                if "subPath" in mount:
                    yield Fault(str(workload), f"{path} has a subPath: the kubelet would never renew it")


def resources(manifests: Manifests, footprint: Path = K8S / "footprint.toml") -> Iterator[Fault]:
    """Each container has requests, and a limit of memory; those of rooms are the measured ones.

    No limit of CPU is wanted: footprint.toml says why.
    """
    measured = tomllib.loads(footprint.read_text(encoding="utf-8"))["workload"]
    for workload in manifests.workloads():
        for container in workload.containers:
            wanted = container.body.get("resources") or {}
            for part, names in (("requests", {"cpu", "memory"}), ("limits", {"memory"})):
                if set(wanted.get(part) or ()) != names:
                    yield Fault(str(workload), f"{container.name}: {part} must be of {' and '.join(sorted(names))}")
            if container not in rooms.serving(workload):
                continue
            known = measured.get(workload.name)
            if known is None:
                yield Fault(str(workload), "was never measured: make bench-footprint")
            elif {part: wanted.get(part) for part in ("requests", "limits")} != {
                part: known[part] for part in ("requests", "limits")
            }:
                yield Fault(str(workload), f"{container.name}: resources are not those of {footprint.name}")


def probed(manifests: Manifests) -> Iterator[Fault]:
    """Every room is asked on its plain port whether it lives and is ready; so is what stands beside it, on its own."""
    for workload in filter(rooms.serves, manifests.workloads()):
        for container in workload.containers:
            if container not in rooms.serving(workload):
                for probe in _PROBES.keys() - container.body.keys():
                    yield Fault(str(workload), f"{container.name}: has no {probe}")
                continue
            for probe, path in _PROBES.items():
                asked = (container.body.get(probe) or {}).get("httpGet") or {}
                if (asked.get("path"), asked.get("port"), asked.get("scheme", "HTTP")) != (path, "health", "HTTP"):
                    yield Fault(str(workload), f"{container.name}: {probe} must ask {path} on the port health")


def named_ports(manifests: Manifests) -> Iterator[Fault]:
    """The ports that a container names are those that its room is told to open, on every address of the pod."""
    for workload in manifests.workloads():
        for container in rooms.serving(workload):
            told = manifests.environment(container)
            opened = {}
            for port, setting in LISTENS.items():
                host, _, number = told.get(config.name_of(setting), "").rpartition(":")
                if number:
                    opened[port] = int(number)
                    if host not in ("0.0.0.0", "[::]"):  # noqa: S104 - a pod's addresses are its own
                        yield Fault(str(workload), f"{config.name_of(setting)} opens {host} alone")
            if opened != container.ports:
                yield Fault(str(workload), f"{container.name}: opens {opened}, names {dict(container.ports)}")


def command_exists(manifests: Manifests, dockerfile: Path = K8S / "Dockerfile") -> Iterator[Fault]:
    """What our containers run is a command of the image, about a room that exists."""
    entry = json.loads(_said(dockerfile, _ENTRYPOINT))
    if entry != ["/app/bin/npd"]:
        yield Fault(dockerfile.name, f"ENTRYPOINT {entry} is not npd")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for workload in manifests.workloads():
        for container in filter(rooms.is_ours, workload.containers):
            if "command" in container.body:
                yield Fault(str(workload), f"{container.name}: the image's entry point is the command")
            if container.args[:1] == () or container.args[0] not in commands:
                yield Fault(str(workload), f"{container.name}: {container.args} is no command of npd")
                continue
            name, *rest = container.args
            try:
                commands[name].make_context(name, rest).close()
            except Exception as error:  # the class of usage errors is typer's own secret
                yield Fault(str(workload), f"{container.name}: {container.args}: {error}")
            if rooms.room_of(container) is None:
                yield Fault(str(workload), f"{container.name}: {container.args[1:]} names no room")


def labelled(manifests: Manifests) -> Iterator[Fault]:
    """Labels say which room a pod is of; selectors choose by them, and no workload another's pods."""
    workloads = _of_ours(manifests)
    for workload in workloads:
        room = next(filter(None, map(rooms.room_of, filter(rooms.is_ours, workload.containers))), None)
        wanted = {rooms.PART_OF: rooms.MESH, rooms.NAME: rooms.object_name(room.name) if room else ""}
        for holder, labels in (("the object", workload.manifest.labels), ("the pods", workload.labels)):
            if {name: labels.get(name) for name in wanted} != wanted:
                yield Fault(str(workload), f"{holder} must carry {wanted}")
            if labels.get(rooms.COMPONENT) not in rooms.COMPONENTS:
                yield Fault(str(workload), f"{holder} must carry {rooms.COMPONENT}, one of {rooms.COMPONENTS}")
        if rooms.serves(workload) == (workload.labels.get(rooms.COMPONENT) == rooms.MIGRATION):
            yield Fault(str(workload), f"{rooms.COMPONENT} does not say what it is")
        selector = (workload.manifest.spec.get("selector") or {}).get("matchLabels") or {}
        chosen = [one.name for one in workloads if selector and selector.items() <= one.labels.items()]
        if workload.manifest.kind == "Deployment" and chosen != [workload.name]:
            yield Fault(str(workload), f"its selector chooses the pods of {chosen}")


def spread(manifests: Manifests) -> Iterator[Fault]:
    """The pods of each room's workload are spread over zones and nodes, each workload by itself."""
    for workload in filter(rooms.serves, manifests.workloads()):
        constraints = workload.pod.get("topologySpreadConstraints") or []
        if sorted(one["topologyKey"] for one in constraints) != sorted((ZONE, HOST)):
            yield Fault(str(workload), f"must be spread by {ZONE} and {HOST}")
        for one in constraints:
            selector = (one.get("labelSelector") or {}).get("matchLabels") or {}
            if not selector or not selector.items() <= workload.labels.items():
                yield Fault(str(workload), f"{one['topologyKey']}: the selector is not of its own pods")
            if not {rooms.NAME, rooms.COMPONENT} <= {*selector, *(one.get("matchLabelKeys") or ())}:
                yield Fault(str(workload), f"{one['topologyKey']}: counts the pods of other workloads too")


def ends_in_time(manifests: Manifests) -> Iterator[Fault]:
    """A pod has the time for its drain and the calls in flight, and some more; connections end by themselves."""
    for workload in manifests.workloads():
        for container in rooms.serving(workload):
            told = manifests.environment(container)
            for setting in ("max_connection_age", "drain_delay", "stop_grace"):
                if config.name_of(setting) not in told:
                    yield Fault(str(workload), f"{config.name_of(setting)} is not stated")
            settings = _settings(manifests, container)
            if settings is None:
                continue
            needed = settings.drain_delay + settings.stop_grace + MARGIN
            given = timedelta(seconds=workload.pod.get("terminationGracePeriodSeconds", 30))
            if given <= needed:
                yield Fault(str(workload), f"has {given} to end, needs more than {needed}")
            if settings.drain_delay <= timedelta(0):
                yield Fault(str(workload), "ends before whoever balances has heard of it")


def _settings(manifests: Manifests, container: Container) -> RoomSettings | None:
    """The container's settings; None if they do not load, which is another rule's fault."""
    room = rooms.room_of(container)
    with rooms.environment(manifests.environment(container)):
        try:
            return config.load(room.settings) if room else None
        except SettingsInvalid:
            return None


def _said(dockerfile: Path, wanted: re.Pattern[str]) -> str:
    found = wanted.findall(dockerfile.read_text(encoding="utf-8"))
    assert found, f"the Dockerfile has no {wanted.pattern}"
    return str(found[-1])
