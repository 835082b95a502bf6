"""NetworkPolicies, evaluated as Kubernetes does: which pods of a rendering may connect to which, and to which port.

A pod that a policy selects is closed in that policy's directions but for what some policy allows; a connection needs
both ends. A database cluster of CloudNativePG stands for its pods, also where it is not in the rendering.
Source: kubernetes.io/docs/concepts/services-networking/network-policies; CloudNativePG, labels and ports of its pods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from services.cli.rooms import names
from tests.k8s.manifests import Json, Manifest, Manifests
from tests.k8s.rules import rooms

CLUSTER, NAMESPACE = "cnpg.io/cluster", "kubernetes.io/metadata.name"
DATABASE_PORT, STATUS_PORT, DATABASE_METRICS = 5432, 8000, 9187

Edge: TypeAlias = tuple[str, str, int]
"""Who connects, to whom, and to which port."""


@dataclass(frozen=True, slots=True)
class End:
    """The pods of one workload, or of one database cluster, as policies see them."""

    name: str
    room: str
    component: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]

    @property
    def is_database(self) -> bool:
        """Whether it is a cluster of PostgreSQL."""
        return CLUSTER in self.labels


def ends(manifests: Manifests) -> list[End]:
    """All pods of a rendering that have a part in the mesh, and the databases, whether they are in it or not."""
    found = []
    for workload in manifests.workloads():
        room = workload.labels.get(rooms.NAME, "")
        ports = {name: number for container in workload.containers for name, number in container.ports.items()}
        found.append(End(workload.name, room, workload.labels.get(rooms.COMPONENT, ""), workload.labels, ports))
    for room in map(rooms.object_name, names()):
        name = f"npd-{room}-postgres"
        ports = {"postgresql": DATABASE_PORT, "status": STATUS_PORT, "metrics": DATABASE_METRICS}
        found.append(End(name, room, "", {CLUSTER: name, "cnpg.io/podRole": "instance"}, ports))
    return found


def possible_edges(manifests: Manifests, direction: str) -> set[Edge]:
    """What the policies of one direction, "ingress" or "egress", let through between the ends of a rendering."""
    every = ends(manifests)
    return {
        (caller.name, callee.name, port)
        for caller in every
        for callee in every
        for port in callee.ports.values()
        if _allows(manifests, direction, caller, callee, port)
    }


def _allows(manifests: Manifests, direction: str, caller: End, callee: End, port: int) -> bool:
    mine, other = (callee, caller) if direction == "ingress" else (caller, callee)
    policies = policies_of(manifests, mine, direction.capitalize())
    if not policies:
        return True
    side = "from" if direction == "ingress" else "to"
    return any(
        port_open(rule, callee.ports, port, "TCP") and _has_peer(policy, rule.get(side), other)
        for policy in policies
        for rule in policy.spec.get(direction) or ()
    )


def policies_of(manifests: Manifests, end: End, kind: str) -> list[Manifest]:
    """The policies that select a pod in a direction, "Ingress" or "Egress"."""
    return [
        one
        for one in manifests.of_kind("NetworkPolicy")
        if kind in (one.spec.get("policyTypes") or ["Ingress"])
        and selects(one.spec.get("podSelector") or {}, end.labels)
    ]


def _has_peer(policy: Manifest, peers: Sequence[Json] | None, other: End) -> bool:
    """Whether a rule's peers include a pod of the policy's own namespace; none at all include everybody."""
    if not peers:
        return True
    here = {NAMESPACE: policy.namespace}
    return any(
        "ipBlock" not in peer
        and ("namespaceSelector" not in peer or selects(peer["namespaceSelector"], here))
        and selects(peer.get("podSelector") or {}, other.labels)
        for peer in peers
    )


def port_open(rule: Json, named: Mapping[str, int], number: int, protocol: str) -> bool:
    """Whether a rule opens a port; without any it opens all. `named` are the names of the callee's ports."""
    ports = rule.get("ports")
    if not ports:
        return True
    for port in ports:
        first = named.get(port.get("port"), port.get("port", 0))
        if port.get("protocol", "TCP") == protocol and (
            "port" not in port
            or first == number
            or (isinstance(first, int) and first <= number <= port.get("endPort", first))
        ):
            return True
    return False


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses these labels; an empty one chooses all."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for one in selector.get("matchExpressions") or ():
        held, values = labels.get(one["key"]), one.get("values") or ()
        holds = {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": held is not None,
            "DoesNotExist": held is None,
        }[one["operator"]]
        if not holds:
            return False
    return True
