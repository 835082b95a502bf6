"""A cluster without Kubernetes: puts rendered manifests to work on this machine's kernel. Only root may."""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

from tests.k8s.manifests import Manifests, Workload
from tests.mesh_fixture import wait_until
from tests.pods.container import Container, Mount
from tests.pods.deployment import Deployment
from tests.pods.nameserver import NameServer
from tests.pods.network import Namespace, Network
from tests.pods.objects import Objects, PodVolumes
from tests.pods.pod import Pod

_ROOM_PORT, _HEALTH_PORT = 7000, 7080


class Cluster:
    """A node with its network and name server. As a context it leaves no process, namespace or mount behind."""

    def __init__(self, manifests: Manifests, namespace: str, image: Path, directory: Path) -> None:
        """`image` is its built directory; `directory` takes volumes and logs."""
        self.manifests, self.objects = manifests, Objects(manifests)
        self.network = Network()
        self.nameserver = NameServer(self.network, directory / "nameserver", namespace)
        self._image, self._directory = image, directory
        self._resolver = directory / "resolv.conf"
        self._volumes: dict[Pod, PodVolumes] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.network)
            stack.enter_context(self.nameserver)
            self._resolver.write_text(self.nameserver.resolver)
            self._scraper = stack.enter_context(ThreadPoolExecutor(1, initializer=self.network.node.enter))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run_job(self, workload: Workload, *further: str) -> str:
        """Run a Job to its end, with `further` arguments after its own; returns what it said. Fails if it failed."""
        namespace = self.network.join(workload.name)
        try:
            volumes = PodVolumes(self.manifests, workload, self.objects, self._place(workload.name))
            (template,) = workload.containers
            done = self._container(workload, namespace, volumes).run(*template.args, *further)
        finally:
            self.network.remove(namespace)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, name: str, replicas: int) -> Deployment:
        """Start a Deployment of the manifests with so many pods, and return when all are available."""
        workload = self.manifests.workload(name)
        services = [
            service
            for service in self.manifests.of_kind("Service")
            if service.spec.get("clusterIP") == "None"
            and service.spec["selector"].items() <= dict(workload.labels).items()
        ]

        def spawn(name: str, changed: Callable[[], None]) -> Pod:
            volumes = PodVolumes(self.manifests, workload, self.objects, self._place(name))
            namespace = self.network.join(name)
            container = self._container(workload, namespace, volumes)
            pod = Pod(self.network, namespace, container, workload.pod, self._directory / f"{name}.log", changed)
            self._volumes[pod] = volumes
            return pod

        deployment = Deployment(workload, replicas, services, self.nameserver, spawn)
        self._stack.callback(deployment.delete_all)
        self.settle(deployment)
        return deployment

    def settle(self, deployment: Deployment, seconds: float = 60.0) -> None:
        """Let the controller work until a Deployment is as it shall be. Fails with what its pods have said."""
        try:
            wait_until(deployment.reconcile, seconds)
        except BaseException:
            for pod in deployment.pods:
                print(pod.log.name, pod.restarts, pod.log.read_text()[-2000:])
            raise

    def update_volumes(self, pod: Pod) -> None:
        """Show a live pod what the objects hold now."""
        self._volumes[pod].update()

    def samples(self, pod: Pod) -> Mapping[str, float]:
        """What a pod's metrics say now, by name and labels as they are written. Empty if it does not answer."""
        return self._scraper.submit(_scraped, pod.namespace.address).result()

    def presented(self, pod: Pod) -> bytes:
        """The certificate that a pod shows to a new connection now (DER)."""
        return self._scraper.submit(_presented, pod.namespace.address).result()

    def command_at(self, namespace: Namespace, argv: Sequence[str]) -> tuple[str, ...]:
        """A command in a namespace that asks our name server, though it has this machine's files otherwise."""
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return (*namespace.command, "unshare", "--mount", "sh", "-c", script, str(self._resolver), *argv)

    def _container(self, workload: Workload, namespace: Namespace, volumes: PodVolumes) -> Container:
        (template,) = workload.containers
        return Container(
            image=self._image,
            env=self.manifests.environment(template),
            mounts=[*volumes.mounts, Mount("/etc/resolv.conf", self._resolver)],
            network=namespace.name,
            uid=int(workload.pod["securityContext"]["runAsUser"]),
        )

    def _place(self, name: str) -> Path:
        place = self._directory / name
        place.mkdir()
        return place


def _scraped(address: str) -> dict[str, float]:
    connection = HTTPConnection(address, _HEALTH_PORT, timeout=2.0)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    except (OSError, HTTPException):
        return {}
    finally:
        connection.close()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def _presented(address: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, not trusted
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((address, _ROOM_PORT), timeout=2.0) as plain, context.wrap_socket(plain) as wrapped:
        return wrapped.getpeercert(binary_form=True) or b""
