"""The web server of revocation lists, as k8s/components/revocation-lists runs it: its file, its command, its mounts.

Debian's nginx stands for the image, which is the platform team's to choose.
"""

import http.client
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.ca_store import Hierarchy
from npd_pki.distribution import crl_file_name
from npd_pki.files import PUBLIC, PemFile, replace_files
from npd_pki.issuance import issuer_key_id
from npd_pki.revocation_list import RevocationReason, RevokedEntry, build_revocation_list
from tests.certificates import TestPki
from tests.k8s.manifests import K8S
from tests.mesh_fixture import ENVIRONMENT, wait_until
from tests.pods.container import TEMPORARY, Container, Mount
from tests.pods.network import Network
from tests.programs import program
from tests.volumes import Volume

COMPONENT = K8S / "components" / "revocation-lists"
_REVOKED = 0x1234


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Ask = Callable[..., Answer]


@dataclass(frozen=True)
class Scene:
    """The server at work, and the directories that it reads."""

    ask: Ask
    lists: Path
    pki: TestPki
    process: int


def published(hierarchy: Hierarchy, number: int) -> bytes:
    """A list of the agencies' CA, as the issuer writes it."""
    now = datetime.now(UTC)
    entries = [RevokedEntry(_REVOKED, now, RevocationReason.SUPERSEDED)] if number > 1 else []
    made = build_revocation_list(hierarchy.agency, number, entries, now=now, life=timedelta(days=3))
    return made.public_bytes(Encoding.DER)


def publish(scene_lists: Path, hierarchy: Hierarchy, number: int) -> None:
    """Put a list into the directory, as the issuer does."""
    name = crl_file_name(issuer_key_id(hierarchy.agency.certificate))
    replace_files(scene_lists, [PemFile(name, published(hierarchy, number), PUBLIC)])


def place_of(certificate: x509.Certificate) -> str:
    """The path of the list that a certificate names."""
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    names = points[0].full_name
    assert names is not None
    address = urlsplit(str(names[0].value))
    assert (address.scheme, address.hostname, address.port) == ("http", f"crl.{ENVIRONMENT}", None)
    return address.path


@pytest.fixture(scope="module")
def web() -> Mapping[str, object]:
    """The container as the component adds it to the pod of the door."""
    patch = yaml.safe_load((COMPONENT / "web.patch.yaml").read_text())
    (found,) = (one for one in patch["spec"]["template"]["spec"]["containers"] if one["name"] == "web")
    return dict(found)


@pytest.fixture(scope="module")
def scene(web: Mapping[str, Sequence[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """nginx as uid 10001 on a read-only root, in a network namespace of its own."""
    directory = tmp_path_factory.mktemp("web")
    (directory / "image" / "app").mkdir(parents=True)
    (directory / "image" / "app" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)
    lists, pki = directory / "lists", TestPki(ENVIRONMENT)
    lists.mkdir(mode=0o755)
    (lists / "notes.txt").write_text("no list")
    publish(lists, pki.hierarchy, 1)
    root_list = crl_file_name(issuer_key_id(pki.hierarchy.root.certificate))
    now = datetime.now(UTC)
    of_root = build_revocation_list(pki.hierarchy.root, 1, [], now=now, life=timedelta(days=366))
    offline = Volume.mount(directory / "offline", {root_list: of_root.public_bytes(Encoding.DER)}, mode=0o444)
    own = Volume.mount(directory / "own", {"nginx.conf": (COMPONENT / "nginx.conf").read_bytes()}, mode=0o444)
    mounts = (
        Mount("/lists", lists),
        Mount("/offline", offline.directory),
        Mount("/etc/npd-web", own.directory),
        Mount(TEMPORARY),
    )
    assert {mount.target for mount in mounts} == {mount["mountPath"] for mount in web["volumeMounts"]}  # type: ignore[index]
    Container(directory / "image").argv()  # who is not root skips here, before a namespace is made
    name, *words = web["command"]
    with Network() as network:
        pod = network.join("web")
        container = Container(directory / "image", mounts=mounts, network=pod.name)
        log = directory / "log"
        process = container.start(*words, log=log, executable=program(name))
        with ThreadPoolExecutor(1, initializer=pod.enter) as client:

            def ask(path: str, method: str = "GET", body: bytes | None = None) -> Answer:
                return client.submit(_ask, path, method, body).result(20)

            try:
                wait_until(lambda: process.poll() is not None or _answers(ask))
                assert process.poll() is None, log.read_text()
                yield Scene(ask, lists, pki, process.pid)
            finally:
                process.terminate()
                process.wait(10)


def _ask(path: str, method: str, body: bytes | None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def _answers(ask: Ask) -> bool:
    try:
        return ask("/healthz").status == 200
    except OSError:
        return False


def test_the_list_is_where_certificates_say(scene: Scene, tmp_path: Path) -> None:
    """openssl reads it; the leaf of an agency names it."""
    answer = scene.ask(place_of(scene.pki.agency("tax", "core").certificate))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/pkix-crl"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    (tmp_path / "list.crl").write_bytes(answer.body)
    (tmp_path / "ca.crt").write_bytes(scene.pki.hierarchy.agency.certificate.public_bytes(Encoding.PEM))
    words = ["crl", "-inform", "DER", "-in", "list.crl", "-CAfile", "ca.crt", "-noout", "-crlnumber"]
    read = subprocess.run([program("openssl"), *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert read.stdout == "crlNumber=0x01\n"
    assert "verify OK" in read.stderr


def test_lists_of_offline_cas_are_served_beside(scene: Scene) -> None:
    """A leaf's issuing CA names the root's list, which came from a ceremony."""
    answer = scene.ask(place_of(scene.pki.hierarchy.agency.certificate))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pkix-crl")
    assert x509.load_der_x509_crl(answer.body).issuer == scene.pki.hierarchy.root.certificate.subject


def test_a_new_list_is_served_at_once(scene: Scene) -> None:
    path = place_of(scene.pki.agency("tax", "core").certificate)
    assert x509.load_der_x509_crl(scene.ask(path).body).get_revoked_certificate_by_serial_number(_REVOKED) is None
    publish(scene.lists, scene.pki.hierarchy, 2)
    assert x509.load_der_x509_crl(scene.ask(path).body).get_revoked_certificate_by_serial_number(_REVOKED)
    publish(scene.lists, scene.pki.hierarchy, 1)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/notes.txt",
        "/lists/",
        "/0123456789abcdef.crl",
        "/0123456789ABCDEF.crl",
        "/0123456789abcdef.crl/",
        "/../etc/passwd",
        "/..%2fetc%2fpasswd",
        "/%2e%2e/etc/passwd",
        "/nginx.conf",
    ],
)
def test_nothing_else_is_served(scene: Scene, path: str) -> None:
    answer = scene.ask(path)
    assert answer.status in {400, 404}
    assert b"root:" not in answer.body
    assert "nginx/" not in answer.headers["Server"], "the version is nobody's business"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_nothing_can_be_written(scene: Scene, method: str) -> None:
    path = place_of(scene.pki.agency("tax", "core").certificate)
    assert scene.ask(path, method, b"x").status in {403, 405}
    assert scene.ask(path, "HEAD").status == 200


def test_it_has_no_right_to_anything(scene: Scene) -> None:
    status = Path(f"/proc/{scene.process}/status").read_text()
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(told["Uid"].split()) == {"10001"}
    assert {told[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert told["NoNewPrivs"] == "1"
    assert os.access(f"/proc/{scene.process}/root/lists", os.R_OK)
