"""The mTLS port as a stranger sees it: TLS 1.3 with h2 or nothing, and not a byte of HTTP/2 without a certificate."""

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import services
from npd_pki.identity import Kind
from services.civil_status.app import ROOM as CIVIL_STATUS
from services.identity.app import ROOM as IDENTITY
from services.issuer.app import ROOM as ISSUER
from services.registry.app import ROOM as REGISTRY
from services.residence.app import ROOM as RESIDENCE
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Authority, Running, Stage
from tests.programs import program

ROOMS = (REGISTRY, CIVIL_STATUS, IDENTITY, ISSUER, RESIDENCE, SHARING)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
"""How every HTTP/2 client begins: the magic, then an empty SETTINGS frame (RFC 9113 3.4)."""
_SETTINGS = 4
_PATIENCE = 10.0

PLAIN_SERVER = """
import sys
{first}
import grpc
from pathlib import Path
from typing import Any
directory = Path(sys.argv[1])
pair = ((directory / "tls.key").read_bytes(), (directory / "tls.crt").read_bytes())
server = grpc.server(None)
print(server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair])), flush=True)
server.start()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def rooms(stage: Stage, registry: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Running]:
    """Every room there is."""
    directory = tmp_path_factory.mktemp("issuer")
    told: dict[str, Any] = {
        "authorities_directory": directory,
        "revocation_list_directory": directory,
        "door_listen": "localhost:0",
    }
    further = {ISSUER: told}
    started = {room.name: stage.start(room, **further.get(room, {})) for room in ROOMS if room is not REGISTRY}
    return {"registry": registry} | started


@pytest.fixture(params=[room.name for room in ROOMS])
def room(request: pytest.FixtureRequest, rooms: dict[str, Running]) -> Running:
    """One room after the other."""
    return rooms[request.param]


@pytest.fixture
def certificate(authority: Authority) -> Path:
    """Good credentials of an agency's system."""
    return authority.tls(Kind.AGENCY, "tax/core")


def dial(
    port: int,
    roots: Path,
    certificate: Path | None = None,
    *,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    protocols: Sequence[str] = ("h2",),
) -> ssl.SSLSocket:
    """A connection by Python's own TLS, at one version. Raises ssl.SSLError, OSError."""
    context = ssl.create_default_context(cafile=str(roots / "ca.crt"))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(protocols)
    if certificate is not None:
        context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    return context.wrap_socket(socket.create_connection(("localhost", port), _PATIENCE), server_hostname="localhost")


def said(connection: ssl.SSLSocket) -> bytes:
    """Say what an HTTP/2 client says first, and read: a whole frame header, or all there is until the end."""
    received = b""
    with connection, suppress(ConnectionError, ssl.SSLError):  # the server may close before it has read everything
        connection.sendall(PREFACE)
        while len(received) < 9 and (more := connection.recv(4096)):
            received += more
    return received


def is_http2(answer: bytes) -> bool:
    """Whether these bytes begin as an HTTP/2 server's: with a SETTINGS frame on stream 0."""
    return len(answer) >= 9 and answer[3] == _SETTINGS and answer[5:9] == bytes(4)


def test_every_room_there_is_stands_here() -> None:
    from services.cli.rooms import names

    assert tuple(sorted(room.name for room in ROOMS)) == names()


def test_tls_1_3_with_a_certificate_is_answered_in_http2(room: Running, certificate: Path) -> None:
    connection = dial(room.serving.port, certificate, certificate)
    assert (connection.version(), connection.selected_alpn_protocol()) == ("TLSv1.3", "h2")
    assert is_http2(said(connection))


def test_tls_1_2_is_refused(room: Running, certificate: Path) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        dial(room.serving.port, certificate, certificate, version=ssl.TLSVersion.TLSv1_2)


def test_no_http2_answer_follows_without_a_client_certificate(room: Running, certificate: Path) -> None:
    assert said(dial(room.serving.port, certificate)) == b""


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
def test_nothing_but_h2_is_spoken(room: Running, certificate: Path, protocols: Sequence[str]) -> None:
    answer = b""
    with suppress(ssl.SSLError, ConnectionError):
        answer = said(dial(room.serving.port, certificate, certificate, protocols=protocols))
    assert answer == b""


def test_the_door_answers_without_a_certificate_over_tls_1_3_alone(
    rooms: dict[str, Running], certificate: Path
) -> None:
    port = rooms["issuer"].serving.door_port
    assert is_http2(said(dial(port, certificate)))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        dial(port, certificate, version=ssl.TLSVersion.TLSv1_2)


def test_plaintext_is_not_answered(room: Running) -> None:
    received = b""
    with socket.create_connection(("localhost", room.serving.port), _PATIENCE) as plain, suppress(ConnectionError):
        plain.sendall(PREFACE)
        while more := plain.recv(4096):
            received += more
    assert not is_http2(received)


def test_grpc_was_imported_after_the_tls_setting() -> None:
    assert not services.GRPC_CAME_FIRST


@pytest.mark.parametrize(("first", "accepts"), [("", True), ("import services", False)])
def test_it_is_importing_services_first_that_refuses_tls_1_2(authority: Authority, first: str, accepts: bool) -> None:
    """The control: grpcio by itself takes TLS 1.2. When this fails, grpc#43080 may be there; see services/__init__."""
    directory = authority.tls(Kind.MESH, "sharing")
    argv = [sys.executable, "-c", PLAIN_SERVER.format(first=first), str(directory)]
    bare = {name: value for name, value in os.environ.items() if name != "GRPC_SSL_CIPHER_SUITES"}
    with subprocess.Popen(argv, env=bare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, answer = int(server.stdout.readline()), b""
        with suppress(ssl.SSLError, ConnectionError):
            answer = said(dial(port, directory, version=ssl.TLSVersion.TLSv1_2))
        server.communicate("", timeout=_PATIENCE)
    assert is_http2(answer) is accepts


def test_a_process_in_which_grpc_came_first_knows_it() -> None:
    source = "import grpc, services; print(services.GRPC_CAME_FIRST)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "True"


def s_client(port: int, *options: str | Path) -> tuple[bytes, bytes]:
    """What `openssl s_client -alpn h2` was told after an HTTP/2 client's first words, and what it says of TLS."""
    argv = (program("openssl"), "s_client", "-connect", f"localhost:{port}", "-alpn", "h2", "-brief", *options)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        end = threading.Timer(_PATIENCE, client.kill)
        end.start()
        with suppress(BrokenPipeError):
            client.stdin.write(PREFACE)
            client.stdin.flush()
        told = client.stdout.read(9)  # a frame's header, or nothing when the server has closed
        with suppress(BrokenPipeError):
            client.stdin.close()
        of_tls = client.stderr.read()
        assert end.is_alive(), "the server neither answered nor closed"
        end.cancel()
    return told, of_tls


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2"])
def test_openssl_gets_no_older_tls(room: Running, certificate: Path, version: str) -> None:
    identity = ("-cert", certificate / "tls.crt", "-key", certificate / "tls.key")
    told, of_tls = s_client(room.serving.port, version, "-cipher", "ALL:@SECLEVEL=0", *identity)
    assert told == b""
    assert b"Protocol version" not in of_tls


def test_openssl_gets_tls_1_3_and_no_http2_without_a_certificate(room: Running) -> None:
    told, of_tls = s_client(room.serving.port)
    assert told == b""
    assert b"Protocol version: TLSv1.3" in of_tls


def test_openssl_gets_http2_with_a_certificate(room: Running, certificate: Path) -> None:
    leaf = certificate / "tls.crt"
    told, of_tls = s_client(room.serving.port, "-cert", leaf, "-cert_chain", leaf, "-key", certificate / "tls.key")
    assert is_http2(told)
    assert b"Protocol version: TLSv1.3" in of_tls
