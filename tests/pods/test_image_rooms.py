"""Every room starts from the image as in a pod with restricted security, beside a PostgreSQL and a registry.

uid 10001, no capability, a read-only root, secrets that root lends to the group, TLS verified on every connection.
"""

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from npd_pki.ca_store import Hierarchy, save_hierarchy
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import mesh_uri
from npd_pki.keys import generate_ed25519_key, generate_p256_key, save_private_key, save_public_key
from npd_pki.profile import ROOM_TLS
from npd_pki.signed_bundle import sign_trust_bundle
from services.cli import rooms
from services.local.mesh import ROOM_ORDER
from tests.mesh_fixture import ENVIRONMENT, wait_until
from tests.pods.container import TEMPORARY, USER, Container, Mount
from tests.pods.image import built_image
from tests.pods.network import Network
from tests.pods.store import Store
from tests.programs import program
from tests.volumes import Volume

STORE = "npd-postgres"
PEERS = ("registry", "identity", "sharing")


@dataclass(frozen=True, slots=True)
class Site:
    """What the rooms need around them: a network, a PostgreSQL, the certification authorities, the policy key."""

    image: Path
    network: Network
    store: Store
    hierarchy: Hierarchy
    directory: Path

    def container(self, room: str, addresses: Mapping[str, str]) -> Container:
        """A room's container with its volumes, as the kubelet lays them out. Its database is made."""
        place = self.directory / room
        database = f"npd_{room}"
        password = self.store.make_database(database)
        url = f"postgresql+psycopg://{database}@{STORE}/{database}?sslmode=verify-full&sslrootcert=/etc/npd/database/ca.crt"
        volumes = {
            "/etc/npd/tls": self._credentials(room),
            "/etc/npd/keys": self._keys(room),
            "/etc/npd/policy": {"policy.pub": (self.directory / "policy.pub").read_bytes()},
            "/etc/npd/database": {"url": url.encode(), "password": password.encode(), "ca.crt": self.store.roots},
        }
        env = {
            "NPD_ENVIRONMENT": ENVIRONMENT,
            "NPD_LISTEN": "0.0.0.0:7000",
            "NPD_HEALTH_LISTEN": "0.0.0.0:7080",
            "NPD_TLS_DIRECTORY": "/etc/npd/tls",
            "NPD_DATABASE_URL_FILE": "/etc/npd/database/url",
            "NPD_DATABASE_PASSWORD_FILE": "/etc/npd/database/password",
            "NPD_CHECKPOINT_KEY_FILE": "/etc/npd/keys/checkpoint.key",
            "NPD_PSEUDONYM_KEY_FILE": "/etc/npd/keys/pseudonym.key",
            "NPD_POLICY_PUBLIC_KEY_FILE": "/etc/npd/policy/policy.pub",
            "NPD_POLICY_DIRECTORY": "/var/lib/npd/policy",
        }
        if room == "registry":
            env["NPD_POLICY_KEY_FILE"] = "/etc/npd/keys/policy.key"
        if room == "issuer":
            volumes |= self._authorities()
            env |= {
                "NPD_AUTHORITIES_DIRECTORY": "/etc/npd/authorities",
                "NPD_AUTHORITIES_PASSPHRASE_FILE": "/etc/npd/passphrase/passphrase",
                "NPD_REVOCATION_LIST_DIRECTORY": "/var/lib/npd/revocation_lists",
                "NPD_TRUST_BUNDLE_FILE": "/etc/npd/trust/trust.bundle",
                "NPD_DOOR_LISTEN": "0.0.0.0:7100",
            }
        known = rooms.load(room).settings.model_fields
        for peer in PEERS:
            if peer != room and f"{peer}_address" in known:
                env[f"NPD_{peer.upper()}_ADDRESS"] = f"dns:///npd-{peer}:7000"
        mounts = [Mount(TEMPORARY), Mount("/var/lib/npd")]
        for target, files in volumes.items():
            volume = Volume.mount(place / target.lstrip("/"), files, mode=0o440, group=USER)
            mounts.append(Mount(target, volume.directory))
        hosts = {STORE: self.store.address, **{f"npd-{name}": address for name, address in addresses.items()}}
        namespace = self.network.join(room)
        return Container(self.image, env, mounts, hosts, network=namespace.name)

    def _credentials(self, room: str) -> dict[str, bytes]:
        key, made = generate_p256_key(), self.directory / f"{room}.tls"
        uri, names = mesh_uri(ENVIRONMENT, room), (f"npd-{room.replace('_', '-')}",)
        leaf = self.hierarchy.mesh.issue(ROOM_TLS, uri, key.public_key(), dns_names=names)
        write_credentials(made, Credentials(leaf, key, (self.hierarchy.root.certificate,)))
        return {name: (made / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")}

    def _keys(self, room: str) -> dict[str, bytes]:
        checkpoint = self.directory / f"{room}.checkpoint.key"
        save_private_key(checkpoint, generate_ed25519_key())
        keys = {"checkpoint.key": checkpoint.read_bytes(), "pseudonym.key": secrets.token_hex(32).encode()}
        if room == "registry":
            keys["policy.key"] = (self.directory / "policy.key").read_bytes()
        return keys

    def _authorities(self) -> dict[str, dict[str, bytes]]:
        held, passphrase = self.directory / "authorities", secrets.token_hex(16).encode()
        save_hierarchy(held, self.hierarchy, passphrase)
        root = self.hierarchy.root
        return {
            **{
                f"/etc/npd/authorities/{kind}": {
                    name: (held / kind / name).read_bytes() for name in ("ca.crt", "ca.key")
                }
                for kind in ("agency", "operator")
            },
            "/etc/npd/passphrase": {"passphrase": passphrase},
            "/etc/npd/trust": {"trust.bundle": sign_trust_bundle(root, 1, [root.certificate])},
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    key = generate_ed25519_key()
    save_private_key(directory / "policy.key", key)
    save_public_key(directory / "policy.pub", key.public_key())
    with Network() as network, Store(network, directory / "store", [STORE]) as store:
        yield Site(built_image(), network, store, Hierarchy.create(ENVIRONMENT), directory)


@pytest.mark.timeout(600)
def test_every_room_migrates_and_becomes_ready_in_its_pod(site: Site) -> None:
    addresses: dict[str, str] = {}
    running: dict[str, subprocess.Popen[bytes]] = {}
    with ThreadPoolExecutor(1, initializer=site.network.node.enter) as beside_the_pods:
        try:
            for room in ROOM_ORDER:
                container = site.container(room, addresses)
                early = container.run("serve", room, timeout=30)
                assert early.returncode == 1, early.stderr
                assert f"npd migrate {room}" in early.stderr
                migrated = container.run("migrate", room)
                assert migrated.returncode == 0, migrated.stderr
                checked = container.run("check", room)
                assert checked.returncode == 0, checked.stdout + checked.stderr
                log = site.directory / f"{room}.log"
                running[room] = container.start("serve", room, log=log)
                addresses[room] = address_of(site, container)
                wait_until(partial(answers_ready, beside_the_pods, addresses[room]), 30)
                assert running[room].poll() is None, log.read_text()
        finally:
            for process in running.values():
                process.terminate()
            try:
                codes = {room: process.wait(30) for room, process in running.items()}
            finally:
                for process in running.values():
                    process.kill()
    assert codes == dict.fromkeys(ROOM_ORDER, 0)
    assert site.store.count_clear_text() == 0


def address_of(site: Site, container: Container) -> str:
    told = subprocess.run(
        [program("ip"), "-n", str(container.network), "-4", "-json", "address", "show", "eth0"],
        capture_output=True,
        check=True,
    )
    (interface,) = json.loads(told.stdout)
    (address,) = interface["addr_info"]
    return str(address["local"])


def answers_ready(beside_the_pods: ThreadPoolExecutor, address: str) -> bool:
    return beside_the_pods.submit(is_ready, address).result()


def is_ready(address: str) -> bool:
    connection = HTTPConnection(address, 7080, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
