"""npd.issuer.v1.EnrolmentService: who may come to the door."""

import grpc

from npd.issuer.v1 import enrolment_pb2, enrolment_pb2_grpc
from services.issuer.convert import certificates, enrolments
from services.issuer.operations.enrolments import EnrolmentOperations
from services.mesh.core.clock import Clock
from services.mesh.wire import paging
from services.mesh.wire.call import answer_key, caller_of

_PAGE, _LARGEST_PAGE = 100, 1000


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Adapts the wire to operations on enrolments."""

    def __init__(self, operations: EnrolmentOperations, clock: Clock) -> None:
        self._operations = operations
        self._clock = clock

    def CreateEnrolment(
        self, request: enrolment_pb2.CreateEnrolmentRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.CreateEnrolmentResponse:
        key, term = answer_key(context, request, request.request_id), enrolments.term_from_wire(request)
        system, profile = enrolments.system_from_wire(request), certificates.profile_from_wire(request.profile)
        enrolment = self._operations.create_enrolment(
            caller_of(context), *system, profile, request.token_digest, term, key
        )
        wire = enrolments.enrolment_to_wire(enrolment, self._clock.now())
        return enrolment_pb2.CreateEnrolmentResponse(enrolment=wire)

    def CancelEnrolment(
        self, request: enrolment_pb2.CancelEnrolmentRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.CancelEnrolmentResponse:
        key = answer_key(context, request, request.request_id)
        enrolment_id = enrolments.enrolment_id_from_wire(request.enrolment_id)
        enrolment = self._operations.cancel_enrolment(caller_of(context), enrolment_id, key)
        wire = enrolments.enrolment_to_wire(enrolment, self._clock.now())
        return enrolment_pb2.CancelEnrolmentResponse(enrolment=wire)

    def ListEnrolments(
        self, request: enrolment_pb2.ListEnrolmentsRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.ListEnrolmentsResponse:
        limit = paging.page_size(request.page_size, default=_PAGE, most=_LARGEST_PAGE)
        agency_id = certificates.segment_from_wire(request.agency_id, "agency_id") if request.agency_id else ""
        found = self._operations.list_enrolments(agency_id, certificates.place_of(request.page_token), limit)
        return enrolments.enrolments_to_wire(found, limit, self._clock.now())

    def EnableExpiredRenewal(
        self, request: enrolment_pb2.EnableExpiredRenewalRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.EnableExpiredRenewalResponse:
        key, term = answer_key(context, request, request.request_id), enrolments.term_from_wire(request)
        name = certificates.name_from_wire(request.issuer_key_id, request.serial_number)
        enabled = self._operations.enable_expired_renewal(caller_of(context), name, term, key)
        until = certificates.instant(enabled.expire_time)
        return enrolment_pb2.EnableExpiredRenewalResponse(expire_time=until)
