"""Notices between wire and domain."""

from npd.notice.v1 import notice_pb2
from services.mesh.core.errors import InvalidField
from services.notice.domain import Notice


def text_from_wire(request: notice_pb2.PutUpNoticeRequest) -> str:
    """The text. Raises InvalidField."""
    if len(request.text) > 100:
        raise InvalidField("text", "must not be longer than 100 characters")
    return request.text


def notice_to_wire(notice: Notice) -> notice_pb2.PutUpNoticeResponse:
    """The answer."""
    return notice_pb2.PutUpNoticeResponse(number=notice.number)
