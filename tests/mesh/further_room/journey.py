"""Run beside a copy of `services` with the further room: bring a mesh up, put up a notice, print what came of it."""

import sys
from pathlib import Path
from uuid import uuid4

import grpc

from npd.notice.v1 import notice_pb2, notice_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from services.cli.migration import prepare_store
from services.cli.rooms import discover, names
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox

mesh = LocalMesh(
    Path(sys.argv[1]), discover(), prepare=prepare_store, operators=OPERATORS, settings=MeshSettings(first_port=7401)
)
with mesh:
    print("rooms", *names())
    Sandbox(mesh).register(lambda _: None)
    with RotatingChannel(mesh.endpoints["notice"], mesh.layout.system(TAX.agency, TAX.system).tls) as channel:
        stub = notice_pb2_grpc.NoticeServiceStub(channel)
        request = notice_pb2.PutUpNoticeRequest(request_id=str(uuid4()), text="closed on Friday")
        print("numbers", stub.PutUpNotice(request).number, stub.PutUpNotice(request).number)
        try:
            stub.PutUpNotice(notice_pb2.PutUpNoticeRequest(request_id=str(uuid4())))
        except grpc.RpcError as error:
            print("refused", refusal_of(error).reason)
    with RotatingChannel(mesh.endpoints["notice"], mesh.layout.operator(OPERATORS[0]).tls) as channel:
        try:
            notice_pb2_grpc.NoticeServiceStub(channel).PutUpNotice(request)
        except grpc.RpcError as error:
            print("refused", refusal_of(error).reason)
