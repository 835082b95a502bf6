"""A door: a second port of a room, where the server alone shows a certificate. Serves what its table names, and little.

Whoever comes has no working certificate, so nobody is known: there is no caller, refusals are counted and logged but
not recorded (those of a crowd are only counted), and each address gets a few calls a minute. Its workers are its own,
so that a crowd there takes none from the mTLS port.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from services.mesh.core.rate import Limiter, RateExceeded
from services.mesh.wire.call import Call
from services.mesh.wire.interceptors import Interceptors
from services.mesh.wire.interceptors.deadline import deadline
from services.mesh.wire.interceptors.errors import Errors
from services.mesh.wire.interceptors.telemetry import Telemetry
from services.mesh.wire.interceptors.validation import validation
from services.mesh.wire.server import MethodsIncomplete, Served

_MAX_REQUEST = 64 << 10
_WAITING_PER_WORKER = 8
_EVERYBODY = "everybody"
_NETWORK = 64  # bits of an IPv6 address that name a customer; below it he has addresses without end


@dataclass(frozen=True, slots=True)
class Door:
    """What a room serves to callers without a certificate: `methods` are the full names of all of it.

    `per_address` and `overall` are calls a minute, `workers` are those worked on at once.
    """

    listen: str
    served: Sequence[Served]
    methods: frozenset[str]
    per_address: int
    overall: int
    workers: int = 2


class DoorServer:
    """A gRPC server of its own, with TLS of the server alone."""

    def __init__(self, door: Door, stop_grace: timedelta) -> None:
        """Join the services. Raises MethodsIncomplete unless the table names just what is served."""
        served = {method for one in door.served for method in one.methods()}
        if served != door.methods:
            raise MethodsIncomplete(f"at the door, served or named alone: {sorted(served ^ door.methods)}")
        self._listen = door.listen
        self._grace = stop_grace.total_seconds()
        interceptors = Interceptors(
            Errors(lambda caller, method, error, stated: None),
            # A line for each who is turned away would let a crowd fill the disk, and cost the others their time.
            Telemetry(lambda caller, served: None, unlogged=frozenset({RateExceeded.reason})),
            guards=(AddressGuard(door.per_address, door.overall), deadline, validation),
            standing=(),
        )
        self._server = grpc.server(
            ThreadPoolExecutor(door.workers, thread_name_prefix="door"),
            interceptors=[interceptors],
            options=_options(),
            maximum_concurrent_rpcs=door.workers * (1 + _WAITING_PER_WORKER),
        )
        for one in door.served:
            one.add(one.servicer, self._server)

    def listen(self, credentials: grpc.ServerCredentials) -> int:
        """Bind and serve; returns the port. Raises RuntimeError if the address is taken."""
        port = self._server.add_secure_port(self._listen, credentials)
        self._server.start()
        return port

    def stop(self) -> None:
        """Take no new calls, let those in flight end within the grace, and close."""
        self._server.stop(self._grace).wait(self._grace + 1)


class AddressGuard:
    """Guard: an address calls a few times a minute, and all together so often. Comes before all other work."""

    def __init__(self, per_address: int, overall: int) -> None:
        self._addresses = Limiter(per_address)
        self._overall = Limiter(overall, keys=1)

    def __call__(self, call: Call, request: Message) -> None:
        """Raises RateExceeded. What one address has too much of does not count for the others."""
        self._addresses.take(address_of(call.context.peer()))
        self._overall.take(_EVERYBODY)


def address_of(peer: str) -> str:
    """The address in gRPC's name of a peer, without the port; of IPv6 its network. What is no address counts as one."""
    text = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(IPv6Network((address, _NETWORK), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _options() -> list[tuple[str, int]]:
    """Nobody stays: whoever wants more connects again."""
    return [
        ("grpc.max_connection_idle_ms", 30_000),
        ("grpc.max_connection_age_ms", 60_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.server_handshake_timeout_ms", 5_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.max_receive_message_length", _MAX_REQUEST),
        ("grpc.so_reuseport", 0),
    ]
