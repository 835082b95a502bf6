"""Rules over who may connect to whom: NetworkPolicies allow what the method tables and the addresses say, no more."""

import re
from collections.abc import Iterator, Mapping, Sequence

from services.mesh.core import config
from services.mesh.core.config import RoomSettings
from tests.k8s.manifests import Json, Manifests
from tests.k8s.rules import rooms
from tests.k8s.rules.fault import Fault
from tests.k8s.rules.policies import (
    DATABASE_METRICS,
    DATABASE_PORT,
    NAMESPACE,
    STATUS_PORT,
    Edge,
    End,
    ends,
    policies_of,
    port_open,
    possible_edges,
    selects,
)
from tests.k8s.rules.settings import selected_by

MONITORING, SYSTEM, OPERATOR = "monitoring", "kube-system", "cnpg-system"
DNS = {NAMESPACE: SYSTEM}, {"k8s-app": "kube-dns"}
API_SERVER = 6443
_DIAL = re.compile(r"dns:///([a-z0-9-]+):(\d+)")


def wanted_edges(manifests: Manifests) -> set[Edge]:
    """What must be possible: each room's workload reaches the addresses that it is told, and its own database."""
    edges = set()
    for workload in manifests.workloads():
        for container in workload.containers:
            room = rooms.room_of(container)
            if room is None:
                continue
            edges.add((workload.name, f"npd-{rooms.object_name(room.name)}-postgres", DATABASE_PORT))
            if not rooms.serves(workload):
                continue
            told = manifests.environment(container)
            for setting in rooms.address_settings(room.settings, room.name):
                match = _DIAL.fullmatch(told.get(config.name_of(setting), ""))
                service = manifests.get("Service", match[1]) if match else None
                if match and service:
                    for one in selected_by(manifests, service.spec.get("selector") or {}):
                        edges.add((workload.name, one.name, int(match[2])))
    return edges


def edges_are_the_tables(manifests: Manifests) -> Iterator[Fault]:
    """Between rooms, connections to the addresses that pods are told are those that the method tables admit."""
    rooms_of = {workload.name: workload.labels.get(rooms.NAME, "") for workload in manifests.workloads()}
    told = {
        (rooms.room_name(rooms_of[caller]), rooms.room_name(rooms_of[callee]))
        for caller, callee, _ in wanted_edges(manifests)
        if caller in rooms_of and callee in rooms_of
    }
    for caller, callee in told ^ rooms.edges_of_tables():
        yield Fault(
            f"{caller} -> {callee}",
            "dialled, but not in the method table"
            if (caller, callee) in told
            else "in the method table, but nothing dials it",
        )


def tables_are_used(settings: Mapping[str, type[RoomSettings]]) -> Iterator[Fault]:
    """Every room that a table names has the address of that table's room; every address is of a room that admits it.

    `settings` are each room's.
    """
    for room, shape in settings.items():
        peers = set(rooms.address_settings(shape, room).values())
        for peer in peers:
            if not rooms.admits_room(peer, room):
                yield Fault(f"{room} -> {peer}", "an address of a room whose table does not admit this one")
        for other in settings:
            if room in rooms.named_callers(other) and other not in peers:
                yield Fault(f"{room} -> {other}", "a table names a room that has no such address")


def exactly_the_wanted(manifests: Manifests) -> Iterator[Fault]:
    """Pods reach each other and their databases where it is wanted, and nowhere else; each direction says so itself."""
    wanted = wanted_edges(manifests)
    clusters = {one.name for one in manifests.of_kind("Cluster")}
    every = {end.name: end for end in ends(manifests)}
    migrations = {name for name, end in every.items() if end.component == rooms.MIGRATION}
    for direction in ("ingress", "egress"):
        # a database is closed by policies of its own only where its cluster is in the rendering
        judged = {
            edge
            for edge in possible_edges(manifests, direction)
            if not every[edge[0]].is_database
            and (edge[1] in clusters or not every[edge[1]].is_database or direction == "egress")
        }
        due = {
            edge for edge in wanted if direction == "egress" or edge[1] in clusters or not every[edge[1]].is_database
        }
        for caller, callee, port in sorted(due - judged):
            yield Fault(f"{caller} -> {callee}:{port}", f"{direction} is closed")
        for caller, callee, port in sorted(judged - due):
            if caller not in migrations or direction == "egress":  # a migration's own egress is closed
                yield Fault(f"{caller} -> {callee}:{port}", f"{direction} is open, and nobody needs it")


def closed_by_default(manifests: Manifests) -> Iterator[Fault]:
    """One policy closes every pod of the namespace, whatever else selects it, in both directions."""
    every = [
        one
        for one in manifests.of_kind("NetworkPolicy")
        if not one.spec.get("podSelector") and set(one.spec.get("policyTypes") or ()) == {"Ingress", "Egress"}
    ]
    if not every:
        yield Fault("NetworkPolicy", "none closes every pod in both directions")
    for one in every:
        if one.spec.get("ingress"):
            yield Fault(str(one), "opens a way in to every pod")


def names_resolved(manifests: Manifests) -> Iterator[Fault]:
    """Every pod may ask the cluster's name servers, by UDP and by TCP."""
    for end in ends(manifests):
        if end.is_database:
            continue
        rules = [rule for policy in policies_of(manifests, end, "Egress") for rule in policy.spec.get("egress") or ()]
        asking = [rule for rule in rules if any(map(_is_dns, rule.get("to") or ()))]
        for protocol in ("UDP", "TCP"):
            if not any(port_open(rule, {}, 53, protocol) for rule in asking):
                yield Fault(end.name, f"cannot resolve names by {protocol}")


def strangers(manifests: Manifests) -> Iterator[Fault]:
    """Beside pods of the mesh, a policy opens a pod only to monitoring, to name servers, and to those outside as far as
    the room's method table admits any; out of the cluster only a database goes, to its backup.
    """
    for policy in manifests.of_kind("NetworkPolicy"):
        chosen = [end for end in ends(manifests) if selects(policy.spec.get("podSelector") or {}, end.labels)]
        if not chosen:
            yield Fault(str(policy), "selects nothing of this rendering")
        databases = bool(chosen) and all(end.is_database for end in chosen)
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in policy.spec.get(direction) or ():
                if not rule.get(side) or not rule.get("ports"):
                    yield Fault(str(policy), f"an {direction} rule without peers or ports is open to everybody")
                for peer in rule.get(side) or ():
                    if problem := _stranger(peer, rule, direction, chosen, databases=databases):
                        yield Fault(str(policy), f"{direction}: {problem}")


def _stranger(peer: Json, rule: Json, direction: str, chosen: Sequence[End], *, databases: bool) -> str:
    """What is wrong with a peer, empty if nothing."""
    ports = {port.get("port") for port in rule.get("ports") or ()}
    if set(peer) == {"podSelector"}:
        return "" if peer["podSelector"] else "every pod of the namespace is a peer"
    namespace = ((peer.get("namespaceSelector") or {}).get("matchLabels") or {}).get(NAMESPACE, "")
    if direction == "egress" and _is_dns(peer):
        return "" if ports == {53} else f"name servers are asked at port 53, not {ports}"
    if direction == "ingress" and namespace == MONITORING:
        allowed: set[object] = {DATABASE_METRICS, "metrics"} if databases else {"health"}
        return "" if ports <= allowed else f"monitoring is let in to {ports}"
    if databases:
        return "" if namespace == OPERATOR or "ipBlock" in peer else f"a database has no business with {dict(peer)}"
    if direction == "egress":
        return f"{dict(peer)} is none of the mesh's"
    if "namespaceSelector" in peer and not namespace:
        return "every namespace is a peer"
    for end in chosen:
        if end.component == rooms.MIGRATION or not rooms.admits_outside(rooms.room_name(end.room)):
            return f"{end.name} has nothing to say to those outside"
        if not ports <= ({"grpc", "door", "lists"} if end.component == "door" else {"grpc"}):
            return f"{end.name} is opened to those outside at {ports}"
    return ""


def clusters_connected(manifests: Manifests) -> Iterator[Fault]:
    """The pods of a database in the rendering replicate among themselves, and their operator reaches them."""
    every = {end.name: end for end in ends(manifests)}
    for cluster in manifests.of_kind("Cluster"):
        for direction in ("ingress", "egress"):
            if (cluster.name, cluster.name, DATABASE_PORT) not in possible_edges(manifests, direction):
                yield Fault(str(cluster), f"its pods cannot replicate: {direction} is closed")
        mine = policies_of(manifests, every[cluster.name], "Ingress")
        opened = [rule for policy in mine for rule in policy.spec.get("ingress") or () if _from_operator(rule)]
        if mine and not any(port_open(rule, every[cluster.name].ports, STATUS_PORT, "TCP") for rule in opened):
            yield Fault(str(cluster), f"its operator, in {OPERATOR}, cannot reach port {STATUS_PORT}")
        mine = policies_of(manifests, every[cluster.name], "Egress")
        if mine and not any(
            port_open(rule, {}, API_SERVER, "TCP") for policy in mine for rule in policy.spec.get("egress") or ()
        ):
            yield Fault(str(cluster), f"its pods cannot reach the Kubernetes API, port {API_SERVER}")


def _from_operator(rule: Json) -> bool:
    spaces = [(peer.get("namespaceSelector") or {}).get("matchLabels") or {} for peer in rule.get("from") or ()]
    return any(space.get(NAMESPACE) == OPERATOR for space in spaces)


def _is_dns(peer: Json) -> bool:
    selectors = [(peer.get(side) or {}).get("matchLabels") for side in ("namespaceSelector", "podSelector")]
    return selectors == list(DNS)
