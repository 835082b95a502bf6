"""Composition root of the room of notices."""

from npd.notice.v1 import notice_pb2, notice_pb2_grpc
from services.mesh.core.config import RoomSettings
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import Served
from services.notice.operations import PuttingUp
from services.notice.policy import METHODS
from services.notice.repository import Notices
from services.notice.servicer import NoticeServicer


def compose(house: House) -> Composition:
    """Wire the room."""
    served = Served(
        notice_pb2.DESCRIPTOR.services_by_name["NoticeService"],
        notice_pb2_grpc.add_NoticeServiceServicer_to_server,
        NoticeServicer(PuttingUp(house.database(Notices))),
    )
    return Composition((served,), METHODS)


ROOM = Room("notice", "services.notice", RoomSettings, compose)
