"""The yardstick: a bare grpcio server over mutual TLS. `python -m tests.bench.echo DIRECTORY SIZE WORKERS`.

With --anybody as a further argument it asks for no certificate, as a door.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

METHOD = "/bench.Echo/Echo"


def serve(directory: Path, size: int, workers: int, *, asks_certificate: bool) -> None:
    """Serve answers of `size` bytes on a free port, which is printed, until killed."""
    answer = b"\0" * size
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server = grpc.server(ThreadPoolExecutor(workers))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    key, chain, roots = ((directory / name).read_bytes() for name in ("tls.key", "tls.crt", "ca.crt"))
    credentials = grpc.ssl_server_credentials(
        [(key, chain)], roots if asks_certificate else None, require_client_auth=asks_certificate
    )
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    print(port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), asks_certificate="--anybody" not in sys.argv)
