"""npd.issuer.v1.CertificateService: certificates are asked for, renewed, revoked and found."""

from collections.abc import Callable

import grpc

from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
from services.issuer.convert import certificates as convert
from services.issuer.convert.held import held_certificate
from services.issuer.operations.applications import ApplicationOperations
from services.issuer.operations.inventory import InventoryOperations
from services.issuer.operations.issuing import Issuing
from services.issuer.operations.renewals import RenewalOperations
from services.issuer.operations.revocations import RevocationOperations
from services.mesh.core.clock import Clock
from services.mesh.wire import paging
from services.mesh.wire.call import answer_key, call_of, caller_of

_PAGE, _LARGEST_PAGE = 100, 1000


class CertificateServicer(certificate_pb2_grpc.CertificateServiceServicer):
    """Adapts the wire to operations. `bundle` gives the roots to trust, as they are handed on now."""

    def __init__(
        self,
        applications: ApplicationOperations,
        renewals: RenewalOperations,
        revocations: RevocationOperations,
        inventory: InventoryOperations,
        issuing: Issuing,
        clock: Clock,
        bundle: Callable[[], bytes],
    ) -> None:
        self._applications = applications
        self._renewals = renewals
        self._revocations = revocations
        self._inventory = inventory
        self._issuing = issuing
        self._clock = clock
        self._bundle = bundle

    def RenewCertificate(
        self, request: certificate_pb2.RenewCertificateRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.RenewCertificateResponse:
        key = answer_key(context, request, request.request_id)
        profile, held = convert.profile_from_wire(request.profile), held_certificate(context)
        issued = self._renewals.renew(caller_of(context), held, profile, request.csr, key)
        return convert.renewed_to_wire(issued, self._clock.now(), self._bundle())

    def GetRenewalWindow(
        self, request: certificate_pb2.GetRenewalWindowRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.GetRenewalWindowResponse:
        window = self._renewals.window(held_certificate(context), call_of(context).method)
        return certificate_pb2.GetRenewalWindowResponse(window=convert.window_to_wire(window))

    def ApplyForCertificate(
        self, request: certificate_pb2.ApplyForCertificateRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.ApplyForCertificateResponse:
        key, profile = answer_key(context, request, request.request_id), convert.profile_from_wire(request.profile)
        application = self._applications.apply_for_certificate(
            caller_of(context), request.identity, profile, request.csr, key
        )
        return certificate_pb2.ApplyForCertificateResponse(application=convert.application_to_wire(application))

    def GetApplication(
        self, request: certificate_pb2.GetApplicationRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.GetApplicationResponse:
        application_id = convert.application_id_from_wire(request.application_id)
        issued = self._applications.get_application(caller_of(context), application_id)
        return convert.shown_to_wire(issued, self._clock.now(), self._bundle())

    def ListApplications(
        self, request: certificate_pb2.ListApplicationsRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.ListApplicationsResponse:
        limit = paging.page_size(request.page_size, default=_PAGE, most=_LARGEST_PAGE)
        state, after = convert.application_state_from_wire(request.state), convert.place_of(request.page_token)
        found = self._applications.list_applications(caller_of(context), state, after, limit)
        return convert.applications_to_wire(found, limit)

    def GetCertificate(
        self, request: certificate_pb2.GetCertificateRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.GetCertificateResponse:
        name = convert.name_from_wire(request.issuer_key_id, request.serial_number)
        found = self._inventory.get_certificate(caller_of(context), name)
        wire = convert.certificate_to_wire(found, self._clock.now(), self._issuing.chain_of(found))
        return certificate_pb2.GetCertificateResponse(certificate=wire)

    def ListCertificates(
        self, request: certificate_pb2.ListCertificatesRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.ListCertificatesResponse:
        limit, now = paging.page_size(request.page_size, default=_PAGE, most=_LARGEST_PAGE), self._clock.now()
        wanted, after = convert.wanted_from_wire(request, now), convert.certificate_place(request.page_token)
        found = self._inventory.list_certificates(caller_of(context), wanted, after, limit)
        return convert.certificates_to_wire(found, limit, now)

    def ReportExpiring(
        self, request: certificate_pb2.ReportExpiringRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.ReportExpiringResponse:
        report = self._inventory.report_expiring(convert.within_from_wire(request))
        return convert.expiring_to_wire(report, self._clock.now())

    def RevokeCertificate(
        self, request: certificate_pb2.RevokeCertificateRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.RevokeCertificateResponse:
        key, reason = answer_key(context, request, request.request_id), convert.reason_from_wire(request.reason)
        name = convert.name_from_wire(request.issuer_key_id, request.serial_number)
        revoked = self._revocations.revoke_certificate(caller_of(context), name, reason, key)
        certificates = convert.light(revoked.certificates, self._clock.now())
        return certificate_pb2.RevokeCertificateResponse(certificates=certificates)

    def RevokeCertificates(
        self, request: certificate_pb2.RevokeCertificatesRequest, context: grpc.ServicerContext
    ) -> certificate_pb2.RevokeCertificatesResponse:
        key, reason = answer_key(context, request, request.request_id), convert.reason_from_wire(request.reason)
        wanted, caller = convert.selected_from_wire(request, self._clock.now()), caller_of(context)
        revoked = self._revocations.revoke_certificates(caller, wanted, reason, execute=request.execute, key=key)
        return convert.revoked_to_wire(revoked, self._clock.now())
