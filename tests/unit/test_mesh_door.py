"""A door names all that it serves, and serves all that it names."""

from datetime import timedelta

import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.mesh.wire.door import Door, DoorServer, address_of
from services.mesh.wire.server import MethodsIncomplete, Served

HEALTH = Served(
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    health_pb2_grpc.add_HealthServicer_to_server,
    health.HealthServicer(),
)
NAMED = frozenset(HEALTH.methods())


@pytest.mark.parametrize("methods", [frozenset(), NAMED | {"/npd.other.v1.Service/Method"}])
def test_a_door_whose_table_is_not_what_it_serves_does_not_open(methods: frozenset[str]) -> None:
    with pytest.raises(MethodsIncomplete):
        DoorServer(Door("localhost:0", [HEALTH], methods, per_address=1, overall=1), timedelta(seconds=1))


def test_an_address_is_what_comes_before_the_port() -> None:
    assert address_of("ipv4:10.1.2.3:4567") == "10.1.2.3"
    assert address_of("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4567") == "2001:db8:1:2::/64"
    assert address_of("ipv6:[2001:db8:1:2::9]:1") == "2001:db8:1:2::/64"
    assert address_of("ipv6:%5B::ffff:10.1.2.3%5D:4567") == "10.1.2.3"
    assert address_of("ipv6:%5Bfe80::1%25eth0%5D:4567") == "fe80::/64"
    assert address_of("unix:/tmp/x") == address_of("") == ""
