"""npd.notice.v1.NoticeService: convert, one operation, convert."""

from npd.notice.v1 import notice_pb2_grpc
from services.mesh.wire.call import answer_key, caller_of
from services.notice import convert


class NoticeServicer(notice_pb2_grpc.NoticeServiceServicer):
    """Adapts the wire to one operation."""

    def __init__(self, putting_up):
        self._putting_up = putting_up

    def PutUpNotice(self, request, context):
        key = answer_key(context, request, request.request_id)
        notice = self._putting_up.put_up(caller_of(context), convert.text_from_wire(request), key)
        return convert.notice_to_wire(notice)
