"""Many holders who renew at once, in a process of their own: each has a connection, and one request in flight.

Reads a Renewing as JSON from standard input and writes a Measured as JSON. Requests are made before the clock starts.
"""

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2
from tests.bench.load import Measured

METHOD = "/npd.issuer.v1.CertificateService/RenewCertificate"


@dataclass(frozen=True, slots=True)
class Renewing:
    """Who renews, and how many certificates are issued in all; `callers` holders at once."""

    address: str
    directories: list[str]
    count: int
    callers: int


def run(renewing: Renewing) -> Measured:
    """Renew so often in all."""
    channels = [_channel(renewing.address, Path(place)) for place in renewing.directories]
    calls: list[Callable[..., bytes]] = [channel.unary_unary(METHOD) for channel in channels]
    requests = iter([_request() for _ in range(renewing.count)])
    turns, mutex = itertools.cycle(calls), threading.Lock()
    latencies: list[float] = []
    refused = [0] * renewing.callers
    for channel in channels:
        grpc.channel_ready_future(channel).result(10)

    def caller(number: int) -> None:
        while True:
            with mutex:
                call, request = next(turns), next(requests, None)
            if request is None:
                return
            start = time.perf_counter()
            try:
                call(request, timeout=30)
                latencies.append(time.perf_counter() - start)
            except grpc.RpcError:
                refused[number] += 1

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(renewing.callers)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    answered = sorted(latency * 1000 for latency in latencies) or [0.0]
    p50, p99 = answered[len(answered) // 2], answered[int(len(answered) * 0.99)]
    return Measured(len(latencies), sum(refused), seconds, p50, p99)


def _channel(address: str, directory: Path) -> grpc.Channel:
    names = ("ca.crt", "tls.key", "tls.crt")
    credentials = grpc.ssl_channel_credentials(*((directory / name).read_bytes() for name in names))
    return grpc.secure_channel(address, credentials)


def _request() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return certificate_pb2.RenewCertificateRequest(
        request_id=str(uuid4()),
        profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS,
        csr=csr.public_bytes(Encoding.PEM),
    ).SerializeToString()


if __name__ == "__main__":
    print(json.dumps(asdict(run(Renewing(**json.load(sys.stdin))))))
