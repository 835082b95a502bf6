"""The mTLS port: gRPC's server with its options, its workers and slots, its method table and its graceful end."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.mesh.core.methods import Methods, agency, allow, operator, room
from services.mesh.wire.interceptors import Interceptors

MAX_REQUEST = 1 << 20

_ANYBODY = allow(agency(), operator(), room(), any_state=True)
HEALTH_METHODS: Methods = {f"/grpc.health.v1.Health/{name}": _ANYBODY for name in ("Check", "List", "Watch")}


class MethodsIncomplete(Exception):
    """The method table and the services do not name the same methods; the room must not start."""


@dataclass(frozen=True, slots=True)
class Served:
    """A service of a room: its descriptor, its servicer, and gRPC's function that joins them to a server."""

    descriptor: ServiceDescriptor
    add: Callable[[Any, grpc.Server], None]
    servicer: Any

    def methods(self) -> list[str]:
        """Full names of its methods."""
        return [f"/{self.descriptor.full_name}/{method.name}" for method in self.descriptor.methods]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much the port takes on, and how long connections and the end last."""

    unary_workers: int
    stream_slots: int
    max_connection_age: timedelta
    watch_lifetime: timedelta
    stop_grace: timedelta


class _Health(health.HealthServicer):  # type: ignore[misc]  # it has no types
    """gRPC's, without its deadlock (grpc#43403; tests/rpc/test_health_watch.py).

    Who sends a status holds the lock while he waits for gRPC's one event thread; that thread must not wait for the lock
    to strike out a watcher who has just left. So another does.
    """

    def _on_close_callback(self, send_response_callback: Any, service: Any) -> Callable[[], None]:
        strike_out = super()._on_close_callback(send_response_callback, service)
        return lambda: threading.Thread(target=strike_out, name="health-left", daemon=True).start()


class MeshServer:
    """A gRPC server that answers over mutual TLS alone, and every method only to whom its table names."""

    def __init__(
        self, served: Sequence[Served], methods: Methods, interceptors: Interceptors, limits: ServerLimits
    ) -> None:
        """Join the services. Raises MethodsIncomplete if a method has no row, or a row no method."""
        require_complete(served, methods)
        workers = limits.unary_workers + limits.stream_slots
        self._grace = limits.stop_grace.total_seconds()
        self._server = grpc.server(
            ThreadPoolExecutor(workers, thread_name_prefix="call"),
            interceptors=[interceptors],
            options=_options(limits),
            maximum_concurrent_rpcs=workers + 4 * limits.unary_workers,
        )
        for one in served:
            one.add(one.servicer, self._server)
        self._health = _Health()
        self.set_serving(False)  # its own first word would be SERVING
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def listen(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Bind and serve; returns the port. Raises RuntimeError if the address is taken."""
        port = self._server.add_secure_port(address, credentials)
        self._server.start()
        return port

    def set_serving(self, serving: bool) -> None:
        """Tell clients that balance by health whether to send calls here."""
        statuses = health_pb2.HealthCheckResponse.ServingStatus
        self._health.set("", statuses.SERVING if serving else statuses.NOT_SERVING)

    def turn_away(self) -> None:
        """Tell clients that balance by health to go elsewhere, for good."""
        self._health.enter_graceful_shutdown()

    def stop(self) -> None:
        """Take no new calls, let those in flight end within the grace, and close."""
        self.turn_away()
        self._server.stop(self._grace).wait(self._grace + 1)


def require_complete(served: Sequence[Served], methods: Methods) -> None:
    """Raises MethodsIncomplete unless the table names just the methods that are served."""
    existing = {method for one in served for method in one.methods()} | set(HEALTH_METHODS)
    missing, dead = sorted(existing - set(methods)), sorted(set(methods) - existing)
    if missing or dead:
        raise MethodsIncomplete(f"methods without a row: {missing}; rows without a method: {dead}")


def _options(limits: ServerLimits) -> list[tuple[str, int]]:
    """Source: FACTS.md 1.2, 1.4 (2). The age's grace outlives a Watch, or a Watch would die with UNAVAILABLE."""
    grace = limits.watch_lifetime + timedelta(seconds=30)
    return [
        ("grpc.max_connection_age_ms", int(limits.max_connection_age.total_seconds() * 1000)),
        ("grpc.max_connection_age_grace_ms", int(grace.total_seconds() * 1000)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 3_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ("grpc.max_receive_message_length", MAX_REQUEST),
        ("grpc.so_reuseport", 0),
    ]
