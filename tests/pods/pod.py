"""A pod as the kubelet runs it: its volumes, its one container, its probes, its end. Reads the rendered template.

What only a cluster has is not here: limits by cgroups, seccomp, network policies.
"""

import signal
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from services.local.leash import Leashed
from tests.k8s.manifests import Json
from tests.pods.container import Container
from tests.pods.network import Namespace, Network

_TICK: Final = 0.05
_RESTART_PAUSES: Final = (0.0, 10.0, 20.0, 40.0)
"""Seconds before each restart of a container that ended (CrashLoopBackOff)."""


class Probe:
    """One of a container's three probes: asks by its period, and counts towards its thresholds."""

    def __init__(self, body: Json, address: str, ports: dict[str, int]) -> None:
        """Defaults are Kubernetes's. Knows httpGet alone."""
        get = body["httpGet"]
        self._address, self._path = address, str(get["path"])
        self._port = ports[get["port"]] if isinstance(get["port"], str) else int(get["port"])
        self._period = float(body.get("periodSeconds", 10))
        self._timeout = float(body.get("timeoutSeconds", 1))
        self._wanted = {True: int(body.get("successThreshold", 1)), False: int(body.get("failureThreshold", 3))}
        self._next = time.monotonic() + float(body.get("initialDelaySeconds", 0))
        self._last, self._count = False, 0

    def ask(self) -> bool | None:
        """True or False when a threshold is reached by this look, None when not, or when it is not time for one."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + self._period
        answer = self._is_well()
        self._count = self._count + 1 if answer is self._last else 1
        self._last = answer
        return answer if self._count >= self._wanted[answer] else None

    def _is_well(self) -> bool:
        connection = HTTPConnection(self._address, self._port, timeout=self._timeout)
        try:
            connection.request("GET", self._path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


class Pod:
    """A running pod. `changed` is called whenever its readiness may have changed."""

    def __init__(
        self,
        network: Network,
        namespace: Namespace,
        container: Container,
        spec: Json,
        log: Path,
        changed: Callable[[], None],
    ) -> None:
        """`spec` is the pod's specification, as rendered; it starts at once."""
        self.namespace, self.log = namespace, log
        self.restarts = 0
        self.ready_time: float | None = None
        self._network, self._container, self._changed = network, container, changed
        (self._template,) = spec["containers"]
        self._grace = float(spec.get("terminationGracePeriodSeconds", 30))
        self._process: Leashed | None = None
        self._leaving, self._gone = threading.Event(), threading.Event()
        self._kubelet = threading.Thread(target=self._run, name=f"kubelet of {namespace.name}", daemon=True)
        self._kubelet.start()

    @property
    def is_ready(self) -> bool:
        """Whether it stands behind its Service: its container answers, and it was not told to go."""
        return self.ready_time is not None and not self._leaving.is_set()

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to go."""
        return self._leaving.is_set()

    @property
    def is_gone(self) -> bool:
        """Whether its container has ended for good."""
        return self._gone.is_set()

    def delete(self, *, grace: float | None = None) -> None:
        """Tell it to go, by default within its own grace period; returns at once."""
        self._grace = self._grace if grace is None else grace
        self._leaving.set()
        self._changed()

    def kill(self) -> None:
        """Kill -9 its process; the kubelet starts the container again."""
        process = self._process
        assert process is not None, "it has no process yet"
        process.send(signal.SIGKILL)

    def wait_gone(self) -> None:
        """Wait until its container has ended for good."""
        self._gone.wait()

    def _run(self) -> None:
        try:
            self._network.node.enter()
            while not self._leaving.is_set():
                self._live()
                self._set_ready(False)
                if not self._leaving.wait(_RESTART_PAUSES[min(self.restarts, len(_RESTART_PAUSES) - 1)]):
                    self.restarts += 1
        finally:
            self._gone.set()
            self._changed()

    def _live(self) -> None:
        """One life of the container: from its start until it has ended, by itself or by us."""
        pairs = [f"{name}={value}" for name, value in self._container.environment.items()]
        argv = ("env", "-i", *pairs, *self._container.argv(*self._template["args"]))
        process = self._process = Leashed(argv, env={}, log=self.log, stop_plan=((signal.SIGTERM, self._grace),))
        ports = {port["name"]: int(port["containerPort"]) for port in self._template["ports"]}
        probes = {
            kind: Probe(self._template[kind], self.namespace.address, ports)
            for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        starting = True
        while process.exit_code is None and not self._leaving.wait(_TICK):
            if starting:
                answer = probes["startupProbe"].ask()
                starting = answer is not True
            else:
                if (is_ready := probes["readinessProbe"].ask()) is not None:
                    self._set_ready(is_ready)
                answer = probes["livenessProbe"].ask()
            if answer is False:
                break
        self._end(process)

    def _end(self, process: Leashed) -> None:
        if process.send(signal.SIGTERM) and process.wait(self._grace) is None:
            process.send(signal.SIGKILL)
        process.stop()

    def _set_ready(self, ready: bool) -> None:
        if ready is not (self.ready_time is not None):
            self.ready_time = time.monotonic() if ready else None
            self._changed()
