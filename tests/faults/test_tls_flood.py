"""Many connections opened at once do not end a room, as they do where gRPC gets a fresh configuration at each."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from services.cli.migration import prepare_store
from services.cli.rooms import load
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS

_AT_ONCE, _CONNECTIONS = 24, 2400


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A registry in a process of its own."""
    directory = tmp_path_factory.mktemp("flood") / "npd"
    settings = MeshSettings(first_port=28001)
    with LocalMesh(directory, [load("registry")], prepare=prepare_store, operators=OPERATORS, settings=settings) as up:
        yield up


@pytest.mark.parametrize("has_certificate", [True, False])
def test_connections_opened_at_once_do_not_end_a_room(mesh: LocalMesh, has_certificate: bool) -> None:
    tls = mesh.layout.operator(OPERATORS[0]).tls
    before = {status.name: (status.pid, status.restarts) for status in mesh.statuses()}
    with ThreadPoolExecutor(_AT_ONCE) as clients:
        answered = clients.map(lambda _: is_answered(mesh, tls, has_certificate=has_certificate), range(_CONNECTIONS))
        assert set(answered) == {has_certificate}
    assert {status.name: (status.pid, status.restarts) for status in mesh.statuses()} == before


def is_answered(mesh: LocalMesh, tls: Path, *, has_certificate: bool) -> bool:
    """Whether a room says anything on a new connection."""
    context = ssl.create_default_context(cafile=tls / "ca.crt")
    context.set_alpn_protocols(["h2"])
    if has_certificate:
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    host, _, port = mesh.endpoints["registry"].partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
        suppress(ConnectionResetError),
    ):
        return connection.recv(1) != b""
    return False
