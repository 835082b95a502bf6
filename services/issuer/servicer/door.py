"""npd.issuer.v1.DoorService: for those who have no working certificate. There is no caller here."""

from collections.abc import Callable

import grpc

from npd.issuer.v1 import door_pb2, door_pb2_grpc
from services.issuer.convert import certificates, enrolments
from services.issuer.operations.door import DoorOperations
from services.issuer.operations.revocation_lists import RevocationLists
from services.mesh.core.clock import Clock
from services.mesh.wire.call import answer_key


class DoorServicer(door_pb2_grpc.DoorServiceServicer):
    """Adapts the wire to operations at the door. `bundle` gives the roots to trust, as they are handed on now."""

    def __init__(
        self, operations: DoorOperations, lists: RevocationLists, clock: Clock, bundle: Callable[[], bytes]
    ) -> None:
        self._operations = operations
        self._lists = lists
        self._clock = clock
        self._bundle = bundle

    def Enrol(self, request: door_pb2.EnrolRequest, context: grpc.ServicerContext) -> door_pb2.EnrolResponse:
        key = answer_key(context, request, request.request_id)
        issued = self._operations.enrol(request.token, request.csr, key)
        return enrolments.enrolled_to_wire(issued, self._clock.now(), self._bundle())

    def RenewExpired(
        self, request: door_pb2.RenewExpiredRequest, context: grpc.ServicerContext
    ) -> door_pb2.RenewExpiredResponse:
        key = answer_key(context, request, request.request_id)
        issued = self._operations.renew_expired(request.certificate_chain, request.csr, request.signature, key)
        return enrolments.renewed_late_to_wire(issued, self._clock.now(), self._bundle())

    def Diagnose(self, request: door_pb2.DiagnoseRequest, context: grpc.ServicerContext) -> door_pb2.DiagnoseResponse:
        explanations = self._operations.diagnose(request.certificate_chain)
        return enrolments.diagnosed_to_wire(explanations, self._clock.now())

    def GetApplicationStatus(
        self, request: door_pb2.GetApplicationStatusRequest, context: grpc.ServicerContext
    ) -> door_pb2.GetApplicationStatusResponse:
        issued = self._operations.application_status(request.token)
        return enrolments.status_to_wire(issued, self._clock.now(), self._bundle())

    def GetRevocationList(
        self, request: door_pb2.GetRevocationListRequest, context: grpc.ServicerContext
    ) -> door_pb2.GetRevocationListResponse:
        key_id = certificates.key_id_from_wire(request.issuer_key_id, "issuer_key_id")
        return door_pb2.GetRevocationListResponse(revocation_list=self._lists.newest(key_id))
