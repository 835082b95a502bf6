from npd.registry.v1 import rights_pb2, rights_pb2_grpc, directory_pb2, directory_pb2_grpc
from npd.common.v1.access_pb2 import AccessMode
from npd_pki.identity import Kind
from services.registry.app import ROOM
from tests.mesh_fixture import Desk, Stage
import time

def test_it_serves(stage: Stage) -> None:
    registry = stage.start(ROOM, operators=["lan"])
    desk = Desk(registry, "lan")
    desk.register("tax/core", officers=["o-1"])
    a = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", {AccessMode.ACCESS_MODE_LOOKUP: ["sex"]})
    stage.settle()
    stub = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "tax/core"))
    print(stub.WhoAmI(rights_pb2.WhoAmIRequest()), stub.DescribeRights(rights_pb2.DescribeRightsRequest()))
    print(directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.OPERATOR, "lan")).ListConnections(directory_pb2.ListConnectionsRequest()))
    for e in registry.entries(): print(e.method, e.object)
    assert a
