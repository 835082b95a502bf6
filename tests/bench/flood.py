"""A flood at the door, in a process of its own. `python -m tests.bench.flood DOOR DIRECTORY`.

Prints "pouring", then floods until its standard input closes, and prints a Flooded as JSON. The directory's certificate
is what the door is asked to judge; its key is not used.
"""

import json
import secrets
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from npd.issuer.v1 import door_pb2, door_pb2_grpc
from npd_client.errors import refusal_of

_CALLERS = 32
_CALLS_A_CONNECTION = 20


@dataclass
class Flooded:
    """Calls to the door: all of them, those that it worked on, those told to come later, those without an answer."""

    calls: int = 0
    judged: int = 0
    throttled: int = 0
    lost: int = 0
    seconds: float = 0.0


def main() -> None:
    """Flood."""
    address, directory = sys.argv[1], Path(sys.argv[2])
    credentials = grpc.ssl_channel_credentials((directory / "ca.crt").read_bytes())
    chain = (directory / "tls.crt").read_bytes()
    poured, mutex, ended = Flooded(), threading.Lock(), threading.Event()

    def pour() -> None:
        while not ended.is_set():
            with grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = door_pb2_grpc.DoorServiceStub(channel)
                for number in range(_CALLS_A_CONNECTION):
                    outcome = ask(stub, chain if number % 2 else b"")
                    with mutex:
                        poured.calls += 1
                        setattr(poured, outcome, getattr(poured, outcome) + 1)
                    if ended.is_set():
                        return

    threads = [threading.Thread(target=pour, daemon=True) for _ in range(_CALLERS)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    print("pouring", flush=True)
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join(30)
    poured.seconds = time.monotonic() - start
    print(json.dumps(asdict(poured)))


def ask(stub: door_pb2_grpc.DoorServiceStub, chain: bytes) -> str:
    """One call: a certificate to judge, or a token that nobody made. What became of it, as Flooded names it."""
    try:
        if chain:
            stub.Diagnose(door_pb2.DiagnoseRequest(certificate_chain=chain), timeout=10)
        else:
            request = door_pb2.GetApplicationStatusRequest(token=secrets.token_urlsafe(32))
            stub.GetApplicationStatus(request, timeout=10)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        if refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return "throttled"
        return "judged" if refusal.reason else "lost"
    return "judged"


if __name__ == "__main__":
    main()
