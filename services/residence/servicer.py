"""npd.residence.v1.ResidenceService: convert, one operation, convert."""

import grpc

from npd.residence.v1 import residence_pb2, residence_pb2_grpc
from services.mesh.core.clock import Clock
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.call import answer_key, call_of, caller_of
from services.mesh.wire.person import identity_from_wire
from services.residence import convert
from services.residence.operations.households import HouseholdOperations
from services.residence.operations.reading import ReadingOperations
from services.residence.operations.residences import ResidenceOperations


class ResidenceServicer(residence_pb2_grpc.ResidenceServiceServicer):
    """Adapts the wire to operations."""

    def __init__(
        self,
        residences: ResidenceOperations,
        households: HouseholdOperations,
        reading: ReadingOperations,
        clock: Clock,
        *,
        sandbox: bool,
    ) -> None:
        self._residences = residences
        self._households = households
        self._reading = reading
        self._clock = clock
        self._sandbox = sandbox

    def RegisterResidence(
        self, request: residence_pb2.RegisterResidenceRequest, context: grpc.ServicerContext
    ) -> residence_pb2.RegisterResidenceResponse:
        key = answer_key(context, request, request.request_id)
        access = access_from_wire(request.access)
        new = convert.new_residence_from_wire(request, self._clock.now(), sandbox=self._sandbox)
        done = self._residences.register_residence(caller_of(context), access, new, key)
        return convert.registered_to_wire(done)

    def CloseResidence(
        self, request: residence_pb2.CloseResidenceRequest, context: grpc.ServicerContext
    ) -> residence_pb2.CloseResidenceResponse:
        key = answer_key(context, request, request.request_id)
        access, closing = access_from_wire(request.access), convert.closing_from_wire(request)
        done = self._residences.close_residence(caller_of(context), access, closing, key)
        return convert.closed_to_wire(done)

    def NameHead(
        self, request: residence_pb2.NameHeadRequest, context: grpc.ServicerContext
    ) -> residence_pb2.NameHeadResponse:
        key = answer_key(context, request, request.request_id)
        access, household_id = access_from_wire(request.access), convert.household_id_from_wire(request)
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        done = self._households.name_head(caller_of(context), access, household_id, identity, key)
        return convert.headed_to_wire(done)

    def GetResidence(
        self, request: residence_pb2.GetResidenceRequest, context: grpc.ServicerContext
    ) -> residence_pb2.GetResidenceResponse:
        access = access_from_wire(request.access)
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        found = self._reading.get_residence(caller_of(context), access, identity, call_of(context).method)
        return convert.disclosure_to_wire(found)
