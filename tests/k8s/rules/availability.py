"""Rules over replicas: enough of them, replaced one by one, never evicted all at once, and found by their Services."""

from collections.abc import Iterator

from tests.k8s.manifests import Manifests, Workload
from tests.k8s.rules import rooms
from tests.k8s.rules.fault import Fault
from tests.k8s.rules.settings import selected_by

SINGLE = "npd-dev"
"""The namespace in which one pod of each kind is enough."""


def replicated(manifests: Manifests) -> Iterator[Fault]:
    """Each room's workload has two replicas or more, said by itself or its autoscaler, never by both."""
    scaled = _scaled(manifests)
    for name, scaler in scaled.items():
        if manifests.get("Deployment", name) is None:
            yield Fault(str(manifests.find("HorizontalPodAutoscaler", scaler[0])), f"scales {name}, which is not here")
    for workload in filter(rooms.serves, manifests.workloads()):
        stated = workload.manifest.spec.get("replicas")
        if (workload.name in scaled) == (stated is not None):
            yield Fault(str(workload), "replicas are stated by itself or by its autoscaler, and by one of them")
        if _least(workload, manifests) < 2 and workload.manifest.namespace != SINGLE:
            yield Fault(str(workload), "one replica is none while its node is away")
        rolling = (workload.manifest.spec.get("strategy") or {}).get("rollingUpdate") or {}
        if rolling.get("maxUnavailable", "25%") != 0:
            yield Fault(str(workload), "maxUnavailable must be 0: a new pod is ready before an old one goes")


def _scaled(manifests: Manifests) -> dict[str, tuple[str, int]]:
    """Name of a Deployment -> its autoscaler, and the least number of replicas."""
    scalers = manifests.of_kind("HorizontalPodAutoscaler")
    return {one.spec["scaleTargetRef"]["name"]: (one.name, one.spec.get("minReplicas", 1)) for one in scalers}


def _least(workload: Workload, manifests: Manifests) -> int:
    if workload.name in (scaled := _scaled(manifests)):
        return scaled[workload.name][1]
    return int(workload.manifest.spec.get("replicas", 1))


def drained(manifests: Manifests) -> Iterator[Fault]:
    """Each room's workload has one budget, of its own pods alone, which lets a node be drained."""
    budgets = manifests.of_kind("PodDisruptionBudget")
    guarded: list[str] = []
    for budget in budgets:
        chosen = selected_by(manifests, (budget.spec.get("selector") or {}).get("matchLabels") or {})
        if len(chosen) != 1:
            yield Fault(str(budget), f"is of {len(chosen)} workloads: {', '.join(one.name for one in chosen)}")
            continue
        guarded.append(chosen[0].name)
        kept, given = budget.spec.get("minAvailable"), budget.spec.get("maxUnavailable")
        if isinstance(kept, str) or isinstance(given, str):
            yield Fault(str(budget), "a percentage is rounded: say a number")
        elif (kept is not None and kept >= _least(chosen[0], manifests)) or given == 0:
            yield Fault(str(budget), "blocks the drain of a node")
    for workload in filter(rooms.serves, manifests.workloads()):
        if guarded.count(workload.name) != 1:
            yield Fault(str(workload), f"has {guarded.count(workload.name)} budgets")


def found(manifests: Manifests) -> Iterator[Fault]:
    """Every Service leads to one workload, by ports that it names; each room's has a headless Service of its name."""
    for service in manifests.of_kind("Service"):
        chosen = selected_by(manifests, service.spec.get("selector") or {})
        if len(chosen) != 1:
            yield Fault(str(service), f"leads to {len(chosen)} workloads: {', '.join(one.name for one in chosen)}")
            continue
        names = {name for container in chosen[0].containers for name in container.ports}
        for port in service.spec.get("ports") or ():
            if port.get("targetPort") not in names:
                yield Fault(str(service), f"the target {port.get('targetPort')} is no named port of {chosen[0].name}")
    for workload in filter(rooms.serves, manifests.workloads()):
        own = manifests.get("Service", workload.name)
        if own is None or own.spec.get("clusterIP") != "None":
            yield Fault(str(workload), "has no headless Service of its name")
