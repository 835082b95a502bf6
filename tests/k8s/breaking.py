"""Broken copies of what is rendered: each function gives a way to break it, which a rule must then find."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tests.k8s.manifests import Manifest, Manifests, overlay

Body: TypeAlias = dict[str, Any]
Breaking: TypeAlias = Callable[[Manifests], Manifests]
ROOM, STREAMS, DOOR = "npd-sharing", "npd-sharing-streams", "npd-issuer-door"


def put(kind: str, name: str, path: str, value: object) -> Breaking:
    """Sets one field of one object, by its path of keys and numbers; None takes it away."""

    def edit(body: Body) -> None:
        at: Any = body
        *places, last = [int(part) if part.isdigit() else part.replace("~", ".") for part in path.split(".")]
        for place in places:
            at = at.setdefault(place, {}) if isinstance(at, dict) else at[place]
        if value is None:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(value)
        else:
            at[last] = value

    return lambda manifests: manifests.changed(kind, name, edit)


def pod(path: str, value: object, name: str = ROOM) -> Breaking:
    """Sets a field of a Deployment's pods."""
    return put("Deployment", name, f"spec.template.spec.{path}", value)


def room(path: str, value: object, name: str = ROOM) -> Breaking:
    """Sets a field of a Deployment's container."""
    return pod(f"containers.0.{path}", value, name)


def job(path: str, value: object) -> Breaking:
    """Sets a field of a migration's pods."""
    return put("Job", "npd-migrate-sharing", f"spec.template.spec.{path}", value)


def told(name: str, value: str | None, of: str = ROOM) -> Breaking:
    """Tells a room something else by its container's own environment; None: what its ConfigMaps say is left out."""

    def edit(manifests: Manifests) -> Manifests:
        container = manifests.workload(of).containers[0]
        rest = {key: held for key, held in manifests.environment(container).items() if key != name}
        said = rest if value is None else {**rest, name: value}
        entries = [{"name": key, "value": held} for key, held in said.items()]
        return room("env", entries, of)(room("envFrom", [], of)(manifests))

    return edit


def database(old: str, new: str) -> Breaking:
    """Changes the URL of a room's database."""

    def edit(manifests: Manifests) -> Manifests:
        name = next(one.name for one in manifests.of_kind("ConfigMap") if one.name.startswith(f"{ROOM}-database-"))
        url = manifests.find("ConfigMap", name).body["data"]["url"]
        assert old in url
        return put("ConfigMap", name, "data.url", url.replace(old, new))(manifests)

    return edit


def added(body: Mapping[str, Any]) -> Breaking:
    """One more object, in the namespace of the others."""
    metadata = {"namespace": "npd", **body["metadata"]}
    return lambda manifests: manifests + Manifests((Manifest({**body, "metadata": metadata}),))


def taken(kind: str, name: str) -> Breaking:
    """One object less."""
    return lambda manifests: manifests.without(kind, name)


def policy(name: str, path: str, value: object) -> Breaking:
    """Sets a field of a NetworkPolicy."""
    return put("NetworkPolicy", name, f"spec.{path}", value)


def peer(name: str, direction: str, who: Body, port: object) -> Breaking:
    """One more rule of a NetworkPolicy."""
    side = "from" if direction == "ingress" else "to"

    def edit(body: Body) -> None:
        body["spec"].setdefault(direction, []).append({side: [who], "ports": [{"protocol": "TCP", "port": port}]})

    return lambda manifests: manifests.changed("NetworkPolicy", name, edit)


def mesh(room_label: str) -> Body:
    """A peer: the pods of a room."""
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": room_label}}}


def named(namespace: str) -> Body:
    """A selector of a namespace."""
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def volume(name: str) -> int:
    """Where a volume stands among those of the room."""
    return list(overlay("prod").workload(ROOM).volumes).index(name)
