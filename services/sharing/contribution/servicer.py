"""npd.sharing.v1.ContributionService: convert, one operation, convert."""

import grpc

from npd.sharing.v1 import contribution_pb2, contribution_pb2_grpc
from services.mesh.core.clock import Clock
from services.mesh.wire.call import answer_key, caller_of
from services.sharing.contribution import convert
from services.sharing.contribution.operations import Contributing


class ContributionServicer(contribution_pb2_grpc.ContributionServiceServicer):
    """Adapts the wire to one operation."""

    def __init__(self, contributing: Contributing, clock: Clock, *, sandbox: bool) -> None:
        self._contributing = contributing
        self._clock = clock
        self._sandbox = sandbox

    def Contribute(
        self, request: contribution_pb2.ContributeRequest, context: grpc.ServicerContext
    ) -> contribution_pb2.ContributeResponse:
        key = answer_key(context, request, request.request_id)
        access = convert.access_of(request)
        items = convert.items_from_wire(request, self._clock.now(), caller_of(context), sandbox=self._sandbox)
        results = self._contributing.contribute(caller_of(context), access, items, key)
        return convert.results_to_wire(results)
