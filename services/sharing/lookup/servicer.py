"""npd.sharing.v1.LookupService: convert, ask the gatherer, convert."""

import grpc

from npd.sharing.v1 import lookup_pb2, lookup_pb2_grpc
from services.mesh.core.clock import Clock
from services.mesh.core.gather import Gatherer
from services.mesh.wire.call import call_of, caller_of
from services.sharing.lookup import convert
from services.sharing.lookup.domain import Disclosure, Lookup


class LookupServicer(lookup_pb2_grpc.LookupServiceServicer):
    """Adapts the wire to one operation, by way of the gatherer that feeds it."""

    def __init__(self, lookups: Gatherer[Lookup, Disclosure], clock: Clock, *, sandbox: bool) -> None:
        self._lookups = lookups
        self._clock = clock
        self._sandbox = sandbox

    def GetCitizen(
        self, request: lookup_pb2.GetCitizenRequest, context: grpc.ServicerContext
    ) -> lookup_pb2.GetCitizenResponse:
        call, now = call_of(context), self._clock.now()
        lookup = convert.lookup_from_wire(request, caller_of(context), call.method, now, sandbox=self._sandbox)
        return convert.disclosure_to_wire(self._lookups.ask(lookup, call.remaining()))
