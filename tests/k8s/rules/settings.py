"""Rules over what a room is told: its settings load, its files are mounted, its peers and its database are there."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from sqlalchemy.engine import make_url

from services.mesh.core import config
from services.mesh.core.config import PREFIX, SettingsInvalid
from tests.k8s.manifests import Container, Keys, Manifests, Workload
from tests.k8s.rules import rooms
from tests.k8s.rules.fault import Fault

# Directories that a room writes to; in others it looks for files.
WRITTEN = ("policy_directory", "revocation_list_directory")
_DIAL = re.compile(r"dns:///([a-z0-9-]+):(\d+)")


def loaded(manifests: Manifests) -> Iterator[Fault]:
    """The environment of every room loads as its settings; that of a migration has no other name than they."""
    for workload in manifests.workloads():
        for container in workload.containers:
            room, told = rooms.room_of(container), manifests.environment(container)
            if room is None:
                continue
            if rooms.serves(workload):
                with rooms.environment(told):
                    try:
                        config.load(room.settings)
                    except SettingsInvalid as error:
                        yield Fault(str(workload), str(error))
            known = {config.name_of(setting) for setting in room.settings.model_fields}
            for name in told:
                if name not in known:
                    yield Fault(str(workload), f"{name} is not a setting of {room.name}")


def mounted(manifests: Manifests, keys: Keys) -> Iterator[Fault]:
    """Every file that a setting names is put there by a volume, every directory holds files or can be written."""
    for workload in manifests.workloads():
        for container in workload.containers:
            told = manifests.environment(container)
            present = {one.path for one in manifests.files(workload, container, keys)}
            for name, value in told.items():
                if name.endswith("_FILE") and name.startswith(PREFIX) and PurePosixPath(value) not in present:
                    yield Fault(str(workload), f"{name}: no volume puts {value} there")
            for name, value in told.items():
                if name.endswith("_DIRECTORY") and name.startswith(PREFIX):
                    written = name.removeprefix(PREFIX).lower() in WRITTEN
                    problem = _directory(workload, container, PurePosixPath(value), present, written=written)
                    if problem:
                        yield Fault(str(workload), f"{name}: {value} {problem}")
            if "NPD_TLS_DIRECTORY" in told:
                directory = PurePosixPath(told["NPD_TLS_DIRECTORY"])
                wanted = {directory / "tls.crt", directory / "tls.key"}
                wanted.add(PurePosixPath(told.get("NPD_ROOTS_FILE", str(directory / "ca.crt"))))
                for path in sorted(wanted - present):
                    yield Fault(str(workload), f"NPD_TLS_DIRECTORY: no volume puts {path} there")


def _directory(
    workload: Workload, container: Container, place: PurePosixPath, present: set[PurePosixPath], *, written: bool
) -> str:
    """What is wrong with a directory, empty if nothing."""
    if not written:
        return "" if any(place in path.parents for path in present) else "holds no file of a volume"
    over = [path for path in container.mounts if path == place or path in place.parents]
    if not over:
        return "is not in a volume, and the root of the image is read-only"
    mount = container.mounts[max(over, key=lambda path: len(path.parts))]
    volume = workload.volumes.get(mount["name"], {})
    writable = set(volume) & {"emptyDir", "persistentVolumeClaim"} and not mount.get("readOnly")
    return "" if writable else "is in a volume that cannot be written"


def database(manifests: Manifests, keys: Keys) -> Iterator[Fault]:
    """The URL names the room's own role and database, no password, and a server whose certificate is verified."""
    for workload in manifests.workloads():
        for container in workload.containers:
            room, told = rooms.room_of(container), manifests.environment(container)
            if room is None:
                continue
            present = {one.path: one for one in manifests.files(workload, container, keys)}
            source = present.get(PurePosixPath(told.get("NPD_DATABASE_URL_FILE", "")))
            found = manifests.get("ConfigMap", source.name) if source and source.kind == "ConfigMap" else None
            if source is None or found is None:
                yield Fault(str(workload), "the URL of the database is not here to be looked at")
                continue
            url = make_url(found.body["data"][source.key].strip())
            role = f"npd_{room.name}"
            if (url.drivername, url.username, url.database) != ("postgresql+psycopg", role, role):
                yield Fault(str(workload), f"{url.drivername}, {url.username}, {url.database}: not {role}'s own")
            if url.password is not None:
                yield Fault(str(workload), "a password in the URL")
            if url.query.get("sslmode") != "verify-full":
                yield Fault(str(workload), "sslmode must be verify-full")
            if PurePosixPath(str(url.query.get("sslrootcert", ""))) not in present:
                yield Fault(str(workload), f"sslrootcert: no volume puts {url.query.get('sslrootcert')} there")
            clusters = {f"{one.name}-rw" for one in manifests.of_kind("Cluster")}
            if clusters and url.host != f"npd-{rooms.object_name(room.name)}-postgres-rw":
                yield Fault(str(workload), f"{url.host} is not the room's own cluster")


def dialled(manifests: Manifests) -> Iterator[Fault]:
    """Every address is a headless Service of the room that its setting names, by a name that is resolved anew."""
    for workload in manifests.workloads():
        for container in rooms.serving(workload):
            room, told = rooms.room_of(container), manifests.environment(container)
            for setting, peer in (rooms.address_settings(room.settings, room.name) if room else {}).items():
                name = config.name_of(setting)
                if name not in told:
                    yield Fault(str(workload), f"{name} is not stated")
                    continue
                if problem := _undialled(manifests, told[name], peer):
                    yield Fault(str(workload), f"{name}: {told[name]} {problem}")


def _undialled(manifests: Manifests, address: str, peer: str) -> str:
    match = _DIAL.fullmatch(address)
    if not match:
        return "must be dns:///SERVICE:PORT, so that calls go round among all pods"
    service = manifests.get("Service", match[1])
    if service is None:
        return "is no Service of this rendering"
    if service.spec.get("clusterIP") != "None":
        return "is not headless: all calls of a connection would go to one pod"
    if int(match[2]) not in {port["port"] for port in service.spec.get("ports") or ()}:
        return f"is no port of {service}"
    selected = selected_by(manifests, service.spec.get("selector") or {})
    names = {room.name for one in selected for room in map(rooms.room_of, one.containers) if room}
    return "" if names == {peer} else f"leads to {', '.join(sorted(names)) or 'nobody'}, not to {peer}"


def selected_by(manifests: Manifests, selector: Mapping[str, str]) -> list[Workload]:
    """The workloads whose pods a Service's selector chooses; an empty one chooses none."""
    return [one for one in manifests.workloads() if selector and selector.items() <= one.labels.items()]
