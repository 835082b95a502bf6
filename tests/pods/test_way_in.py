"""The way in from outside: connections are passed through by name, TLS ends in the room, and the caller stays known.

Debian's nginx stands for the gateway of k8s/components/way-in-gateway (its routes, by the name in the TLS greeting) and
for a load balancer of way-in-load-balancer (plain TCP). It has no certificate and no key.
"""

import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import pytest
import yaml
from cryptography import x509

from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.issuer.v1 import door_pb2, door_pb2_grpc
from npd.registry.v1 import agency_pb2, rights_pb2, rights_pb2_grpc
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.errors import refusal_of
from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import Kind, agency_uri, mesh_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import ROOM_TLS
from services.registry.app import ROOM as REGISTRY
from services.sharing.app import ROOM as SHARING
from tests.issuer_fixture import IssuerScene
from tests.k8s.manifests import K8S, Manifests
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, new_id, wait_until
from tests.programs import program

TAX = "tax/core"
OUTSIDE = {
    "registry": ("registry",),
    "sharing": ("sharing", "changes"),
    "issuer": ("issuer", "door"),
}
"""The names by which a room is dialled from outside, as k8s/components/certificates-cert-manager has them."""
_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"


@dataclass(frozen=True)
class WayIn:
    """Where the gateway, a load balancer for the registry, and one with the PROXY protocol listen."""

    gateway: int
    balancer: int
    with_proxy_protocol: int


def leaf_for(hierarchy: Hierarchy, room: str, directory: Path) -> Path:
    """Credentials of a room with its outside names, and the name by which the rooms of this test dial each other."""
    key = generate_p256_key()
    names = [*(f"{name}.{ENVIRONMENT}" for name in OUTSIDE[room]), "localhost"]
    issued = hierarchy.mesh.issue(ROOM_TLS, mesh_uri(ENVIRONMENT, room), key.public_key(), dns_names=names)
    write_credentials(directory, Credentials(issued, key, (hierarchy.root.certificate,)))
    return directory


@pytest.fixture(scope="module")
def leaves(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The credentials of the rooms."""
    directory = tmp_path_factory.mktemp("leaves")
    return {room: leaf_for(authority.hierarchy, room, directory / room) for room in OUTSIDE}


@pytest.fixture(scope="module")
def registry(stage: Stage, leaves: Mapping[str, Path]) -> Running:
    """A registry that can be dialled from outside."""
    return stage.start(REGISTRY, operators=["lan", "minh"], tls_directory=leaves["registry"])


@pytest.fixture(scope="module")
def access(desk: Desk) -> AccessContext:
    """The right of tax/core to follow changes."""
    desk.register(TAX, officers=["o-1"])
    agreement_id = desk.agree(TAX, "STATE_MANAGEMENT", "D70/2024.9", {AccessMode.ACCESS_MODE_CHANGES: ["full_name"]})
    return AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")


@pytest.fixture(scope="module")
def sharing(stage: Stage, access: AccessContext, leaves: Mapping[str, Path]) -> Running:
    """The record, for lookups and for streams."""
    return stage.start(SHARING, tls_directory=leaves["sharing"])


@pytest.fixture(scope="module")
def issuer(
    stage: Stage,
    registry: Running,
    desk: Desk,
    leaves: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> IssuerScene:
    """The issuer with its door."""
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"), tls_directory=leaves["issuer"])


def routes() -> Mapping[str, str]:
    """Which Service each name leads to, as the component's TLSRoutes say it."""
    text = (K8S / "components" / "way-in-gateway" / "routes.yaml").read_text()
    found = {}
    for one in Manifests.parse(text).of_kind("TLSRoute"):
        (hostname,) = one.spec["hostnames"]
        found[hostname.replace("ENVIRONMENT", ENVIRONMENT)] = one.spec["rules"][0]["backendRefs"][0]["name"]
    return found


@pytest.fixture(scope="module")
def way_in(
    registry: Running, sharing: Running, issuer: IssuerScene, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WayIn]:
    """nginx at work."""
    directory = tmp_path_factory.mktemp("nginx")
    ports = WayIn(*(_free_port() for _ in range(3)))
    behind = {
        "npd-registry-outside": registry.serving.port,
        "npd-sharing-outside": sharing.serving.port,
        "npd-sharing-streams-outside": sharing.serving.port,
        "npd-issuer-outside": issuer.issuer.serving.port,
        "npd-issuer-door-outside": issuer.issuer.serving.door_port,
    }
    (directory / "nginx.conf").write_text(_configuration(directory, ports, behind, registry.serving.port))
    words = [program("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
    log = directory / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said)
    try:
        wait_until(lambda: process.poll() is not None or _listens(ports.with_proxy_protocol))
        assert process.poll() is None, log.read_text()
        yield ports
    finally:
        process.terminate()
        process.wait(10)


def _configuration(directory: Path, ports: WayIn, behind: Mapping[str, int | None], registry: int) -> str:
    lines = (f"{name} 127.0.0.1:{behind[service]};" for name, service in sorted(routes().items()) if service in behind)
    return f"""
        load_module {_STREAM};
        daemon off;
        worker_processes 1;
        pid {directory}/pid;
        events {{ }}
        stream {{
            map $ssl_preread_server_name $room {{ {" ".join(lines)} default ""; }}
            server {{ listen 127.0.0.1:{ports.gateway}; ssl_preread on; proxy_pass $room; }}
            server {{ listen 127.0.0.1:{ports.balancer}; proxy_pass 127.0.0.1:{registry}; }}
            server {{
                listen 127.0.0.1:{ports.with_proxy_protocol};
                proxy_protocol on;
                proxy_pass 127.0.0.1:{registry};
            }}
        }}
    """


def _free_port() -> int:
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        return cast(int, held.getsockname()[1])


def _listens(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def dial(port: int, name: str, tls: Path | None, root: Path) -> grpc.Channel:
    """A connection as from outside to `<name>.<environment>`, a name that is verified; `tls` is who opens it."""
    roots = (root / "ca.crt").read_bytes()
    pair = ((tls / "tls.key").read_bytes(), (tls / "tls.crt").read_bytes()) if tls else (None, None)
    options = [("grpc.ssl_target_name_override", f"{name}.{ENVIRONMENT}"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(roots, *pair), options)


def who_am_i(channel: grpc.Channel) -> str:
    """Who the registry says that it is."""
    return rights_pb2_grpc.RightsServiceStub(channel).WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10).identity


@pytest.fixture
def tax(authority: Authority) -> Path:
    """The credentials of tax/core."""
    return authority.tls(Kind.AGENCY, TAX)


@pytest.mark.parametrize("way", ["gateway", "balancer"])
def test_a_call_arrives_with_the_identity_of_its_caller(
    way_in: WayIn, access: AccessContext, tax: Path, way: str
) -> None:
    with dial(getattr(way_in, way), "registry", tax, tax) as channel:
        assert who_am_i(channel) == agency_uri(ENVIRONMENT, "tax", "core")


@pytest.mark.parametrize("way", ["gateway", "balancer"])
def test_a_caller_without_a_certificate_gets_nothing(way_in: WayIn, tax: Path, way: str) -> None:
    with dial(getattr(way_in, way), "registry", None, tax) as channel, pytest.raises(grpc.RpcError) as ended:
        who_am_i(channel)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("name", "room"), [(name, room) for room, names in OUTSIDE.items() for name in names])
def test_the_certificate_of_the_room_itself_is_shown_and_fits_the_name(
    way_in: WayIn, leaves: Mapping[str, Path], name: str, room: str
) -> None:
    trusting = ssl.create_default_context(cafile=str(leaves[room] / "ca.crt"))
    trusting.set_alpn_protocols(["h2"])
    hostname = f"{name}.{ENVIRONMENT}"
    with (
        socket.create_connection(("127.0.0.1", way_in.gateway), timeout=10) as plain,
        trusting.wrap_socket(plain, server_hostname=hostname) as opened,
    ):
        shown = x509.load_der_x509_certificate(opened.getpeercert(binary_form=True) or b"")
        assert opened.version() == "TLSv1.3"
    assert shown == x509.load_pem_x509_certificates((leaves[room] / "tls.crt").read_bytes())[0]


def test_a_name_without_a_route_leads_nowhere(way_in: WayIn, leaves: Mapping[str, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(leaves["registry"] / "ca.crt"))
    with (
        socket.create_connection(("127.0.0.1", way_in.gateway), timeout=10) as plain,
        pytest.raises(OSError, match=r"EOF|reset"),
    ):
        trusting.wrap_socket(plain, server_hostname=f"other.{ENVIRONMENT}")


def test_a_room_is_not_taken_for_another(way_in: WayIn, tax: Path) -> None:
    """A load balancer that leads to the wrong room is found out by the name in the certificate."""
    with dial(way_in.balancer, "sharing", tax, tax) as channel, pytest.raises(grpc.RpcError) as ended:
        who_am_i(channel)
    assert "Hostname" in (ended.value.details() or "")


def test_the_door_answers_under_its_own_name_without_a_certificate(way_in: WayIn, tax: Path) -> None:
    request = door_pb2.DiagnoseRequest(certificate_chain=(tax / "tls.crt").read_bytes())
    with dial(way_in.gateway, "door", None, tax) as channel:
        answer = door_pb2_grpc.DoorServiceStub(channel).Diagnose(request, timeout=10)
    assert answer.explanations
    with dial(way_in.gateway, "issuer", None, tax) as channel, pytest.raises(grpc.RpcError) as ended:
        door_pb2_grpc.DoorServiceStub(channel).Diagnose(request, timeout=10)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_proxy_protocol_must_be_off(way_in: WayIn, tax: Path) -> None:
    """A room takes its first bytes for what they are not: a TLS greeting."""
    with dial(way_in.with_proxy_protocol, "registry", tax, tax) as channel, pytest.raises(grpc.RpcError) as ended:
        who_am_i(channel)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_watch_stays_open_until_its_caller_is_suspended(
    way_in: WayIn, access: AccessContext, tax: Path, desk: Desk, sharing: Running
) -> None:
    """What the room says of the stream comes through, in both directions, with its reason."""
    with dial(way_in.gateway, "changes", tax, tax) as channel:
        request = change_pb2.WatchChangesRequest(access=access)
        stream = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(request, timeout=60)
        changes = cast(Iterator[change_pb2.WatchChangesResponse], stream)
        next(changes)
        for _ in range(20):
            with dial(way_in.gateway, "registry", tax, tax) as other:
                who_am_i(other)
        assert cast(grpc.Call, stream).is_active()
        suspend = agency_pb2.SuspendSystemRequest(
            request_id=new_id(), agency_id="tax", system_id="core", cause="a test of the way in"
        )
        desk.systems.SuspendSystem(suspend)
        with pytest.raises(grpc.RpcError) as ended:
            for _ in changes:
                pass
    assert refusal_of(ended.value).reason == "SYSTEM_SUSPENDED"


def test_every_outside_name_has_a_route_and_a_place_in_its_leaf() -> None:
    certificates = yaml.safe_load_all(
        (K8S / "components" / "certificates-cert-manager" / "certificates.yaml").read_text()
    )
    named = {name for one in certificates for name in one["spec"]["dnsNames"] if name.endswith(".ENVIRONMENT")}
    assert {name.replace("ENVIRONMENT", ENVIRONMENT) for name in named} == set(routes())
