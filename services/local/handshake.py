"""What TLS a room speaks, seen from outside by another implementation (Python's own, OpenSSL) than gRPC's."""

import socket
import ssl
from pathlib import Path


def negotiated(address: str, directory: Path) -> str:
    """The TLS version that a room chooses with a client that offers 1.2 and 1.3. Raises OSError."""
    return _connect(address, directory, ssl.TLSVersion.TLSv1_3)


def accepts_tls_1_2(address: str, directory: Path) -> bool:
    """Whether a room talks to a client that can only speak TLS 1.2."""
    try:
        _connect(address, directory, ssl.TLSVersion.TLSv1_2)
    except OSError:
        return False
    return True


def _connect(address: str, directory: Path, newest: ssl.TLSVersion) -> str:
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=directory / "ca.crt")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, newest
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return secured.version() or "none"
