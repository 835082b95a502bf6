"""Watchers of a room's health who come and go never hold the room up (grpc#43403)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from grpc_health.v1 import health_pb2, health_pb2_grpc

from npd_pki.identity import Kind
from services.mesh.core.background import Stopping
from tests.mesh_fixture import Running

_WATCHERS = 8
_WATCHES = 1000


def test_a_room_that_tells_its_state_while_watchers_leave_goes_on_answering(registry: Running) -> None:
    stub = health_pb2_grpc.HealthStub(registry.channel(Kind.OPERATOR, "lan"))
    ended = Stopping()

    def come_and_go() -> None:
        for _ in range(_WATCHES // _WATCHERS):
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
            next(watch)
            watch.cancel()

    def tell() -> None:
        for turn in count():
            registry.serving._server.set_serving(bool(turn % 2))
            if ended.is_set() and turn % 2:
                return

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    with ThreadPoolExecutor(_WATCHERS) as watchers:
        coming = [watchers.submit(come_and_go) for _ in range(_WATCHERS)]
        for one in coming:
            one.result()  # raises DEADLINE_EXCEEDED where the server waits for itself
    ended.set()
    telling.join(10)
    assert not telling.is_alive()
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
