"""A Deployment and the Services in front of it: as many pods as are wanted, replaced one by one, named when ready."""

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence

from tests.k8s.manifests import Manifest, Workload
from tests.pods.nameserver import NameServer
from tests.pods.pod import Pod

Spawn = Callable[[str, Callable[[], None]], Pod]
"""Starts a pod by its name; the function is called whenever its readiness may have changed."""


class Deployment:
    """Keeps so many pods of a workload. It acts in `reconcile` alone; but the name server is told at once."""

    def __init__(
        self, workload: Workload, replicas: int, services: Sequence[Manifest], nameserver: NameServer, spawn: Spawn
    ) -> None:
        """`services` are the headless Services that select its pods."""
        self.replicas, self.pods = replicas, list[Pod]()
        self._name, self._services, self._nameserver, self._spawn = workload.name, services, nameserver, spawn
        spec = workload.manifest.spec
        limits = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        self._surge = _count(limits.get("maxSurge", "25%"), replicas, math.ceil)
        self._unavailable = _count(limits.get("maxUnavailable", "25%"), replicas, math.floor)
        self._settling = float(spec.get("minReadySeconds", 0))
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        self._current: list[Pod] = []

    @property
    def ready(self) -> list[Pod]:
        """The pods that are ready and were not told to go."""
        return [pod for pod in self.pods if pod.is_ready]

    def restart(self) -> None:
        """Replace every pod, as `kubectl rollout restart` asks for; `reconcile` does it."""
        self._current = []

    def reconcile(self) -> bool:
        """One step of the controller: start what is missing, let go what is superseded. True when all is done.

        1. Pods of the current template are started up to the replicas, but never more pods than these and the surge.
        2. A superseded pod goes while enough others are available: ready for minReadySeconds.
        """
        staying = [pod for pod in self.pods if not pod.is_leaving]
        current = [pod for pod in self._current if not pod.is_leaving]
        for _ in range(min(self.replicas - len(current), self.replicas + self._surge - len(staying))):  # (1)
            current.append(self._start())
        superseded = [pod for pod in staying if pod not in current]
        available = [pod for pod in self.pods if self._is_available(pod)]
        dispensable = len(available) - (self.replicas - self._unavailable)
        for pod in sorted(superseded, key=self._is_available):  # (2)
            if not self._is_available(pod) or dispensable > 0:
                dispensable -= self._is_available(pod)
                pod.delete()
        return not superseded and sum(map(self._is_available, current)) == self.replicas

    def delete_all(self) -> None:
        """Kill every pod."""
        for pod in self.pods:
            pod.delete(grace=0)
        for pod in self.pods:
            pod.wait_gone()

    def _start(self) -> Pod:
        pod = self._spawn(f"{self._name}-{next(self._numbers)}", self._publish)
        self.pods.append(pod)
        self._current.append(pod)
        self._publish()
        return pod

    def _is_available(self, pod: Pod) -> bool:
        since = pod.ready_time
        return pod.is_ready and since is not None and time.monotonic() - since >= self._settling

    def _publish(self) -> None:
        with self._lock:
            for service in self._services:
                named = self.pods if service.spec.get("publishNotReadyAddresses") else self.ready
                self._nameserver.publish(service.name, [pod.namespace.address for pod in named if not pod.is_gone])


def _count(limit: int | str, replicas: int, rounding: Callable[[float], int]) -> int:
    return limit if isinstance(limit, int) else rounding(int(limit.removesuffix("%")) * replicas / 100)
