"""The registry's services: each RPC converts, calls one operation, and converts."""

from collections.abc import Iterator

import grpc

from npd.registry.v1 import (
    agency_pb2,
    agency_pb2_grpc,
    agreement_pb2,
    agreement_pb2_grpc,
    certificate_authority_pb2,
    certificate_authority_pb2_grpc,
    directory_pb2,
    directory_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    revocation_pb2,
    revocation_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
)
from services.mesh.core.caller import CertificateMissing
from services.mesh.wire.call import answer_key, call_of, caller_of
from services.mesh.wire.streams import Streams
from services.registry import act_convert, convert, directory_convert, formats
from services.registry.operations.agencies import AgencyOperations
from services.registry.operations.agreements import AgreementOperations
from services.registry.operations.certificate_acts import CertificateActOperations
from services.registry.operations.directory import DirectoryOperations
from services.registry.operations.revocations import RevocationOperations
from services.registry.operations.rights import RightsOperations
from services.registry.operations.systems import SystemOperations
from services.registry.publisher import Publisher


class AgencyServicer(agency_pb2_grpc.AgencyServiceServicer):
    """Adapts the wire to operations on agencies and rosters."""

    def __init__(self, operations: AgencyOperations) -> None:
        self._operations = operations

    def RegisterAgency(
        self, request: agency_pb2.RegisterAgencyRequest, context: grpc.ServicerContext
    ) -> agency_pb2.RegisterAgencyResponse:
        key = answer_key(context, request, request.request_id)
        agency = convert.agency_from_wire(request.agency)
        registered = self._operations.register_agency(caller_of(context), agency, key)
        return agency_pb2.RegisterAgencyResponse(agency=convert.agency_to_wire(registered))

    def SetAgencyContact(
        self, request: agency_pb2.SetAgencyContactRequest, context: grpc.ServicerContext
    ) -> agency_pb2.SetAgencyContactResponse:
        key = answer_key(context, request, request.request_id)
        agency_id = formats.require_identifier("agency_id", request.agency_id)
        contact = formats.require_contact("contact", request.contact)
        agency = self._operations.set_agency_contact(caller_of(context), agency_id, contact, key)
        return agency_pb2.SetAgencyContactResponse(agency=convert.agency_to_wire(agency))

    def ListAgencies(
        self, request: agency_pb2.ListAgenciesRequest, context: grpc.ServicerContext
    ) -> agency_pb2.ListAgenciesResponse:
        page = convert.page_from_wire(request.page_size, request.page_token, default=100, most=1000, keys=1)
        return convert.agencies_to_wire(self._operations.list_agencies(page), page)

    def AddOfficers(
        self, request: agency_pb2.AddOfficersRequest, context: grpc.ServicerContext
    ) -> agency_pb2.AddOfficersResponse:
        key = answer_key(context, request, request.request_id)
        officers = convert.roster_from_wire(request)
        change = self._operations.add_officers(caller_of(context), officers, key)
        return agency_pb2.AddOfficersResponse(added_count=change.count)

    def RemoveOfficers(
        self, request: agency_pb2.RemoveOfficersRequest, context: grpc.ServicerContext
    ) -> agency_pb2.RemoveOfficersResponse:
        key = answer_key(context, request, request.request_id)
        officers = convert.roster_from_wire(request)
        change = self._operations.remove_officers(caller_of(context), officers, key)
        return agency_pb2.RemoveOfficersResponse(removed_count=change.count)


class SystemServicer(agency_pb2_grpc.SystemServiceServicer):
    """Adapts the wire to operations on systems."""

    def __init__(self, operations: SystemOperations) -> None:
        self._operations = operations

    def RegisterSystem(
        self, request: agency_pb2.RegisterSystemRequest, context: grpc.ServicerContext
    ) -> agency_pb2.RegisterSystemResponse:
        key = answer_key(context, request, request.request_id)
        new = convert.system_from_wire(request.system)
        system = self._operations.register_system(caller_of(context), new, key)
        return agency_pb2.RegisterSystemResponse(system=convert.system_to_wire(system))

    def SuspendSystem(
        self, request: agency_pb2.SuspendSystemRequest, context: grpc.ServicerContext
    ) -> agency_pb2.SuspendSystemResponse:
        key = answer_key(context, request, request.request_id)
        cause = formats.require_cause("cause", request.cause)
        agency_id, system_id = convert.system_key_from_wire(request)
        system = self._operations.suspend_system(caller_of(context), agency_id, system_id, cause, key)
        return agency_pb2.SuspendSystemResponse(system=convert.system_to_wire(system))

    def ResumeSystem(
        self, request: agency_pb2.ResumeSystemRequest, context: grpc.ServicerContext
    ) -> agency_pb2.ResumeSystemResponse:
        key = answer_key(context, request, request.request_id)
        agency_id, system_id = convert.system_key_from_wire(request)
        system = self._operations.resume_system(caller_of(context), agency_id, system_id, key)
        return agency_pb2.ResumeSystemResponse(system=convert.system_to_wire(system))

    def ListSystems(
        self, request: agency_pb2.ListSystemsRequest, context: grpc.ServicerContext
    ) -> agency_pb2.ListSystemsResponse:
        page = convert.page_from_wire(request.page_size, request.page_token, default=100, most=1000, keys=2)
        agency_id = convert.agency_filter_from_wire(request.agency_id)
        return convert.systems_to_wire(self._operations.list_systems(agency_id, page), page)


class AgreementServicer(agreement_pb2_grpc.AgreementServiceServicer):
    """Adapts the wire to operations on agreements."""

    def __init__(self, operations: AgreementOperations) -> None:
        self._operations = operations

    def DrawUpAgreement(
        self, request: agreement_pb2.DrawUpAgreementRequest, context: grpc.ServicerContext
    ) -> agreement_pb2.DrawUpAgreementResponse:
        key = answer_key(context, request, request.request_id)
        terms = convert.terms_from_wire(request.terms)
        agreement = self._operations.draw_up_agreement(caller_of(context), terms, key)
        return agreement_pb2.DrawUpAgreementResponse(agreement=convert.agreement_to_wire(agreement))

    def SignAgreement(
        self, request: agreement_pb2.SignAgreementRequest, context: grpc.ServicerContext
    ) -> agreement_pb2.SignAgreementResponse:
        key = answer_key(context, request, request.request_id)
        agreement_id = formats.require_agreement_id(request.agreement_id)
        signature = convert.signature_from_wire(request.signature)
        agreement = self._operations.sign_agreement(caller_of(context), agreement_id, signature, key)
        return agreement_pb2.SignAgreementResponse(agreement=convert.agreement_to_wire(agreement))

    def SuspendAgreement(
        self, request: agreement_pb2.SuspendAgreementRequest, context: grpc.ServicerContext
    ) -> agreement_pb2.SuspendAgreementResponse:
        key = answer_key(context, request, request.request_id)
        agreement_id = formats.require_agreement_id(request.agreement_id)
        cause = formats.require_cause("cause", request.cause)
        agreement = self._operations.suspend_agreement(caller_of(context), agreement_id, cause, key)
        return agreement_pb2.SuspendAgreementResponse(agreement=convert.agreement_to_wire(agreement))

    def ResumeAgreement(
        self, request: agreement_pb2.ResumeAgreementRequest, context: grpc.ServicerContext
    ) -> agreement_pb2.ResumeAgreementResponse:
        key = answer_key(context, request, request.request_id)
        agreement_id = formats.require_agreement_id(request.agreement_id)
        agreement = self._operations.resume_agreement(caller_of(context), agreement_id, key)
        return agreement_pb2.ResumeAgreementResponse(agreement=convert.agreement_to_wire(agreement))

    def ListAgreements(
        self, request: agreement_pb2.ListAgreementsRequest, context: grpc.ServicerContext
    ) -> agreement_pb2.ListAgreementsResponse:
        page = convert.page_from_wire(request.page_size, request.page_token, default=50, most=200, keys=1)
        agency_id, method = convert.agency_filter_from_wire(request.agency_id), call_of(context).method
        agreements = self._operations.list_agreements(caller_of(context), agency_id, page, method)
        return convert.agreements_to_wire(agreements, page)


class RevocationServicer(revocation_pb2_grpc.RevocationServiceServicer):
    """Adapts the wire to revocations."""

    def __init__(self, operations: RevocationOperations) -> None:
        self._operations = operations

    def RevokeCertificate(
        self, request: revocation_pb2.RevokeCertificateRequest, context: grpc.ServicerContext
    ) -> revocation_pb2.RevokeCertificateResponse:
        key = answer_key(context, request, request.request_id)
        certificate = convert.certificate_from_wire(request)
        reason = convert.revocation_reason_from_wire(request.reason)
        revocation = self._operations.revoke_certificate(caller_of(context), certificate, reason, key)
        revoke_time = convert.instant_to_wire(revocation.revoke_time)
        return revocation_pb2.RevokeCertificateResponse(revoke_time=revoke_time)


class CertificateActServicer(certificate_authority_pb2_grpc.CertificateActServiceServicer):
    """Adapts the wire to the issuer's acts."""

    def __init__(self, operations: CertificateActOperations, environment: str) -> None:
        self._operations = operations
        self._environment = environment

    def RecordCertificateActs(
        self, request: certificate_authority_pb2.RecordCertificateActsRequest, context: grpc.ServicerContext
    ) -> certificate_authority_pb2.RecordCertificateActsResponse:
        acts = act_convert.acts_from_wire(request, self._environment)
        self._operations.record_certificate_acts(caller_of(context), acts, call_of(context).method)
        return certificate_authority_pb2.RecordCertificateActsResponse()


class RightsServicer(rights_pb2_grpc.RightsServiceServicer):
    """Adapts the wire to the caller's own rights."""

    def __init__(self, operations: RightsOperations) -> None:
        self._operations = operations

    def WhoAmI(self, request: rights_pb2.WhoAmIRequest, context: grpc.ServicerContext) -> rights_pb2.WhoAmIResponse:
        leaf = call_of(context).leaf
        if leaf is None:
            raise CertificateMissing()
        return convert.standing_to_wire(self._operations.who_am_i(caller_of(context)), leaf)

    def DescribeRights(
        self, request: rights_pb2.DescribeRightsRequest, context: grpc.ServicerContext
    ) -> rights_pb2.DescribeRightsResponse:
        return convert.rights_to_wire(self._operations.describe_rights(caller_of(context)))


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """Streams the policy."""

    def __init__(self, publisher: Publisher, streams: Streams) -> None:
        self._publisher = publisher
        self._streams = streams

    def WatchPolicy(
        self, request: policy_pb2.WatchPolicyRequest, context: grpc.ServicerContext
    ) -> Iterator[policy_pb2.WatchPolicyResponse]:
        revision = convert.revision_from_wire(request.revision)
        with self._streams.open(call_of(context), standing=lambda: None) as stream:
            for signed in self._publisher.follow(revision, stream.wait, lambda: stream.has_ended):
                yield policy_pb2.WatchPolicyResponse(update=signed.update, signature=signed.signature)


class DirectoryServicer(directory_pb2_grpc.DirectoryServiceServicer):
    """Adapts the wire to the directory."""

    def __init__(self, operations: DirectoryOperations) -> None:
        self._operations = operations

    def ListConnections(
        self, request: directory_pb2.ListConnectionsRequest, context: grpc.ServicerContext
    ) -> directory_pb2.ListConnectionsResponse:
        return directory_convert.connections_to_wire(self._operations.list_connections())

    def ReportContacts(
        self, request: directory_pb2.ReportContactsRequest, context: grpc.ServicerContext
    ) -> directory_pb2.ReportContactsResponse:
        contacts, flow = directory_convert.contacts_from_wire(request), directory_convert.flow_from_wire(request)
        revision = directory_convert.policy_revision_from_wire(request)
        room, method = caller_of(context).name, call_of(context).method
        self._operations.report_contacts(room, contacts, flow, revision, method=method)
        return directory_pb2.ReportContactsResponse()
