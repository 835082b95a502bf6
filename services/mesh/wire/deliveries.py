"""Delivers the outbox's messages to the room `sharing`: contributions, and uses of personal data."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

import grpc

from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.sharing.v1 import contribution_pb2, contribution_pb2_grpc, usage_pb2, usage_pb2_grpc
from services.mesh.core.outbox import Fate, Message
from services.mesh.core.relay import Deliver
from services.mesh.core.telling import CONTRIBUTION, SHARING, USE
from services.mesh.wire.peer import call_peer

_REQUEST_BYTES = 768 << 10
_PREFIX = "ERROR_REASON_"


def to_sharing(channel: grpc.Channel) -> Mapping[str, Deliver]:
    """Deliverers over a channel to `sharing`, by kind of message."""
    contributing = contribution_pb2_grpc.ContributionServiceStub(channel)
    using = usage_pb2_grpc.UsageServiceStub(channel)

    def contribute(messages: Sequence[Message]) -> list[Fate]:
        fates: list[Fate] = []
        for part in _parts(messages):
            items = [contribution_pb2.ContributionItem.FromString(message.payload) for message in part]
            request = contribution_pb2.ContributeRequest(request_id=str(uuid4()), items=items)
            fates += map(_fate, call_peer(SHARING, contributing.Contribute, request).results)
        return fates

    def record(messages: Sequence[Message]) -> list[Fate]:
        uses = [usage_pb2.Use.FromString(message.payload) for message in messages]
        call_peer(SHARING, using.RecordUses, usage_pb2.RecordUsesRequest(uses=uses))
        return [Fate()] * len(messages)

    return {CONTRIBUTION: contribute, USE: record}


def _parts(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages in as few calls as the limit of a request's size allows."""
    parts: list[list[Message]] = []
    size = _REQUEST_BYTES
    for message in messages:
        size += len(message.payload) + 16
        if size > _REQUEST_BYTES:
            parts.append([])
            size = len(message.payload) + 16
        parts[-1].append(message)
    return parts


def _fate(result: contribution_pb2.ContributionResult) -> Fate:
    if result.status != contribution_pb2.ContributionResult.STATUS_REJECTED:
        return Fate()  # APPLIED, DUPLICATE, or HELD: the record keeps it until the PIN is known
    return Fate(ErrorReason.Name(result.reason).removeprefix(_PREFIX), result.field)
