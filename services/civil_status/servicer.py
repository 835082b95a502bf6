"""npd.civil_status.v1.CivilStatusService: each RPC converts, calls one operation, and converts."""

import grpc

from npd.civil_status.v1 import civil_status_pb2, civil_status_pb2_grpc
from services.civil_status import convert
from services.civil_status.operations.annulment import AnnulmentOperations
from services.civil_status.operations.births import BirthOperations
from services.civil_status.operations.corrections import CorrectionOperations
from services.civil_status.operations.deaths import DeathOperations
from services.civil_status.operations.marriages import MarriageOperations
from services.civil_status.operations.reading import ReadingOperations
from services.mesh.core.clock import Clock
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.call import answer_key, call_of, caller_of
from services.mesh.wire.person import identity_from_wire


class CivilStatusServicer(civil_status_pb2_grpc.CivilStatusServiceServicer):
    """Adapts the wire to operations."""

    def __init__(
        self,
        births: BirthOperations,
        marriages: MarriageOperations,
        deaths: DeathOperations,
        corrections: CorrectionOperations,
        annulments: AnnulmentOperations,
        reading: ReadingOperations,
        clock: Clock,
        *,
        sandbox: bool,
    ) -> None:
        self._births, self._marriages, self._deaths = births, marriages, deaths
        self._corrections, self._annulments, self._reading = corrections, annulments, reading
        self._clock, self._sandbox = clock, sandbox

    def RegisterBirth(
        self, request: civil_status_pb2.RegisterBirthRequest, context: grpc.ServicerContext
    ) -> civil_status_pb2.RegisterBirthResponse:
        key = answer_key(context, request, request.request_id)
        access, now = access_from_wire(request.access), self._clock.now()
        birth = convert.birth_from_wire(request, now, sandbox=self._sandbox)
        return convert.birth_to_wire(self._births.register_birth(caller_of(context), access, birth, key))

    def RecordMarriage(
        self, request: civil_status_pb2.RecordMarriageRequest, context: grpc.ServicerContext
    ) -> civil_status_pb2.RecordMarriageResponse:
        key = answer_key(context, request, request.request_id)
        access, now = access_from_wire(request.access), self._clock.now()
        marriage = convert.marriage_from_wire(request, now, sandbox=self._sandbox)
        act = self._marriages.record_marriage(caller_of(context), access, marriage, key)
        return civil_status_pb2.RecordMarriageResponse(act=convert.act_to_wire(act))

    def RegisterDeath(
        self, request: civil_status_pb2.RegisterDeathRequest, context: grpc.ServicerContext
    ) -> civil_status_pb2.RegisterDeathResponse:
        key = answer_key(context, request, request.request_id)
        access, now = access_from_wire(request.access), self._clock.now()
        death = convert.death_from_wire(request, now, sandbox=self._sandbox)
        act = self._deaths.register_death(caller_of(context), access, death, key)
        return civil_status_pb2.RegisterDeathResponse(act=convert.act_to_wire(act))

    def CorrectBirth(
        self, request: civil_status_pb2.CorrectBirthRequest, context: grpc.ServicerContext
    ) -> civil_status_pb2.CorrectBirthResponse:
        key = answer_key(context, request, request.request_id)
        access, now = access_from_wire(request.access), self._clock.now()
        correction = convert.correction_from_wire(request, now, sandbox=self._sandbox)
        act = self._corrections.correct_birth(caller_of(context), access, correction, key)
        return civil_status_pb2.CorrectBirthResponse(act=convert.act_to_wire(act))

    def AnnulAct(
        self, request: civil_status_pb2.AnnulActRequest, context: grpc.ServicerContext
    ) -> civil_status_pb2.AnnulActResponse:
        key = answer_key(context, request, request.request_id)
        access, annulment = access_from_wire(request.access), convert.annulment_from_wire(request)
        act = self._annulments.annul_act(caller_of(context), access, annulment, key)
        return civil_status_pb2.AnnulActResponse(act=convert.act_to_wire(act))

    def GetCivilStatus(
        self, request: civil_status_pb2.GetCivilStatusRequest, context: grpc.ServicerContext
    ) -> civil_status_pb2.GetCivilStatusResponse:
        access = access_from_wire(request.access)
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        method = call_of(context).method
        status = self._reading.get_civil_status(caller_of(context), access, identity, method)
        return convert.status_to_wire(status)
