"""npd.sharing.v1.UsageService: convert, one operation, convert."""

from collections.abc import Callable

import grpc

from npd.sharing.v1 import usage_pb2, usage_pb2_grpc
from services.mesh.core.clock import Clock
from services.mesh.core.rights import Policy
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.call import call_of, caller_of
from services.mesh.wire.person import identity_from_wire
from services.sharing.usage import convert
from services.sharing.usage.operations import FindingUsage, RecordingUses


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Adapts the wire to the operations of usage."""

    def __init__(
        self,
        usage: FindingUsage,
        recording: RecordingUses,
        policy: Callable[[], Policy],
        clock: Clock,
        *,
        sandbox: bool,
    ) -> None:
        self._usage = usage
        self._recording = recording
        self._policy = policy
        self._clock = clock
        self._sandbox = sandbox

    def FindUsage(
        self, request: usage_pb2.FindUsageRequest, context: grpc.ServicerContext
    ) -> usage_pb2.FindUsageResponse:
        caller, method = caller_of(context), call_of(context).method
        access = access_from_wire(request.access)
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        size, before = convert.page_size_from_wire(request.page_size), convert.before_from_wire(request.page_token)
        usage = self._usage.find_usage(caller, method, access, identity, size, before)
        return convert.usage_to_wire(usage, self._policy().agencies)

    def RecordUses(
        self, request: usage_pb2.RecordUsesRequest, context: grpc.ServicerContext
    ) -> usage_pb2.RecordUsesResponse:
        room = caller_of(context)
        self._recording.record_uses(room, convert.uses_from_wire(request, room))
        return usage_pb2.RecordUsesResponse()
