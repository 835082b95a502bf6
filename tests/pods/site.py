"""What a platform team has besides the manifests: certificates, keys, a database, operators; and agencies that call.

Two rooms of the overlay `sandbox`, the registry and sharing, because synthetic people exist there.
"""

import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from cryptography import x509

from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import mesh_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import ROOM_TLS
from services.local.credentials import LocalAuthority
from services.local.layout import Layout
from services.local.leash import Leashed
from services.local.sample import ONE_STOP, OPERATORS, TAX
from tests.k8s.manifests import Manifests, migrations, overlay
from tests.pods.cluster import Cluster
from tests.pods.deployment import Deployment
from tests.pods.store import Store

OVERLAY: Final = "sandbox"
ROOMS: Final = ("registry", "sharing")
_PROJECT: Final = Path(__file__).resolve().parents[2]


class Site:
    """A cluster with the two rooms' inputs in it. As a context it leaves nothing behind."""

    def __init__(self, image: Path, directory: Path) -> None:
        """`image` is its built directory; `directory` takes everything else."""
        rooms, jobs = overlay(OVERLAY), migrations(OVERLAY)
        self.manifests = rooms + Manifests(tuple(one for one in jobs if rooms.get(one.kind, one.name) is None))
        sharing = self.manifests.workload("npd-sharing")
        self._environment = self.manifests.environment(sharing.containers[0])["NPD_ENVIRONMENT"]
        self._namespace = sharing.manifest.namespace
        self.layout, self._directory = Layout(directory / "parties"), directory
        self._stack = ExitStack()
        self.cluster = Cluster(self.manifests, self._namespace, image, directory)
        self.store = Store(self.cluster.network, directory / "store", [f"npd-{room}-postgres-rw" for room in ROOMS])

    def __enter__(self) -> Self:
        self.layout.make()
        self._authority = LocalAuthority(self.layout, self._environment)
        with ExitStack() as stack:
            stack.enter_context(self.cluster)
            stack.enter_context(self.store)
            self._callers = self.cluster.network.join("callers")
            for room in ROOMS:
                self.cluster.nameserver.publish(f"npd-{room}-postgres-rw", [self.store.address])
            self._make_objects()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def migrate(self) -> None:
        """Run the rooms' migrations; the registry's records our operators besides those that the Job names."""
        known = [part for name in OPERATORS for part in ("--operator", name)]
        for room in ROOMS:
            job = self.manifests.workload(f"npd-migrate-{room}")
            self.cluster.run_job(job, *(known if room == "registry" else ()))

    def deploy(self, room: str, replicas: int) -> Deployment:
        """Start a room, and return when all its pods are available."""
        return self.cluster.deploy(f"npd-{room}", replicas)

    def start_callers(self, act: str, name: str) -> Leashed:
        """A process of `tests.pods.callers`; SIGTERM ends it well, and our own end kills it."""
        program = (sys.executable, "-m", "tests.pods.callers", str(self.layout.directory), act, name)
        caller = Leashed(
            self.cluster.command_at(self._callers, program),
            env={"PYTHONPATH": str(_PROJECT)},
            log=self._directory / f"{name}.log",
            stop_plan=((signal.SIGTERM, 40.0),),
        )
        self._stack.callback(caller.stop)
        return caller

    def call_once(self, act: str, name: str) -> None:
        """Run a process of `tests.pods.callers` that ends by itself. Fails with what it said if it did not end well."""
        caller = self.start_callers(act, name)
        assert caller.wait(60.0) == 0, f"{act}: {caller.log_tail()}"

    def finish(self, callers: Sequence[Leashed]) -> None:
        """End callers. Fails with what they said if one did not end well."""
        for caller in callers:
            assert caller.stop() == 0, f"{caller.argv[-2:]}: {caller.log_tail()}"

    def renew_certificate(self, room: str) -> x509.Certificate:
        """Put a new leaf and key into a room's Secret."""
        key = generate_p256_key()
        service = f"npd-{room}"
        names = (service, f"{service}.{self._namespace}.svc")
        hierarchy = self._authority.hierarchy
        leaf = hierarchy.mesh.issue(ROOM_TLS, mesh_uri(self._environment, room), key.public_key(), dns_names=names)
        place = self._directory / "leaves" / secrets.token_hex(4)
        place.mkdir(parents=True)
        write_credentials(place, Credentials(leaf, key, (hierarchy.root.certificate,)))
        files = {name: (place / name).read_bytes() for name in ("tls.crt", "tls.key")}
        self.cluster.objects.put("Secret", f"{service}-tls", files)
        self.cluster.objects.put("ConfigMap", "npd-roots", {"ca.crt": (place / "ca.crt").read_bytes()})
        return leaf.certificate

    def _make_objects(self) -> None:
        self._authority.ensure_policy_key()
        self._authority.ensure_room_certificate("identity")
        for name in OPERATORS:
            self._authority.ensure_operator(name)
        for sample in (TAX, ONE_STOP):
            self._authority.ensure_system(sample.agency, sample.system)
        put = self.cluster.objects.put
        put("ConfigMap", "npd-policy", {"policy.pub": self.layout.policy_public_key.read_bytes()})
        for room in ROOMS:
            self._authority.ensure_room(room)
            places, role = self.layout.room(room), f"npd_{room}"
            keys = {"checkpoint.key": places.checkpoint_key, "pseudonym.key": places.pseudonym_key}
            if room == "registry":
                keys["policy.key"] = self.layout.policy_key
            put("Secret", f"npd-{room}-keys", {name: path.read_bytes() for name, path in keys.items()})
            password = self.store.make_database(role)
            put("Secret", f"npd-{room}-database", {"username": role.encode(), "password": password.encode()})
            put("Secret", f"npd-{room}-postgres-ca", {"ca.crt": self.store.roots})
            self.renew_certificate(room)
