"""Guard: a unary call has a deadline, its own or the cap; one that has passed is not worked on."""

import time

from google.protobuf.message import Message

from services.mesh.wire.call import UNARY_CAP, Call


def deadline(call: Call, request: Message) -> None:
    """Note when the caller stops waiting. Raises DeadlinePassed if he has."""
    remaining = call.context.time_remaining()
    call.deadline = time.monotonic() + min(UNARY_CAP, UNARY_CAP if remaining is None else remaining)
    call.remaining()
