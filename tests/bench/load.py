"""A load generator in a process of its own: a fixed number of callers, each with one call in flight, for some seconds.

Reads a Load as JSON from standard input and writes its Measured as JSON. Requests are sent as bytes, so that the
generator's own work is the same for every method measured.
"""

import base64
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class Load:
    """What to call, as whom, how many callers at once, and for how long. `requests` are base64, taken in turn.

    `pace` is how many calls a second they make together; 0: as many as they can.
    """

    address: str
    credentials: str
    method: str
    requests: list[str]
    callers: int
    seconds: float
    pace: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Calls that were answered and refused, and the latencies of those answered, in milliseconds."""

    calls: int
    refused: int
    seconds: float
    p50: float
    p99: float


def run(load: Load) -> Measured:
    """Call until the time is over; one connection, as one agency's backend would hold."""
    directory = Path(load.credentials)
    credentials = grpc.ssl_channel_credentials(
        *((directory / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    )
    requests = itertools.cycle([base64.b64decode(request) for request in load.requests])
    with grpc.secure_channel(load.address, credentials) as channel:
        call: Callable[..., bytes] = channel.unary_unary(load.method)
        call(next(requests), timeout=10)
        latencies: list[list[float]] = [[] for _ in range(load.callers)]
        refused = [0] * load.callers
        began = time.monotonic()
        end, turns = began + load.seconds, itertools.count()

        def caller(number: int) -> None:
            while time.monotonic() < end:
                if load.pace:
                    time.sleep(max(0.0, began + next(turns) / load.pace - time.monotonic()))
                start = time.perf_counter()
                try:
                    call(next(requests), timeout=30)
                    latencies[number].append(time.perf_counter() - start)
                except grpc.RpcError:
                    refused[number] += 1

        start = time.monotonic()
        threads = [threading.Thread(target=caller, args=(number,)) for number in range(load.callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - start
    answered = sorted(latency * 1000 for own in latencies for latency in own) or [0.0]
    p50, p99 = answered[len(answered) // 2], answered[int(len(answered) * 0.99)]
    return Measured(sum(map(len, latencies)), sum(refused), seconds, p50, p99)


if __name__ == "__main__":
    print(json.dumps(asdict(run(Load(**json.load(sys.stdin))))))
