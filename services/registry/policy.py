"""Who may call which method of the registry. Data only."""

from services.mesh.core.methods import Methods, agency, allow, operator, room

METHODS: Methods = {
    "/npd.registry.v1.AgencyService/RegisterAgency": allow(operator()),
    "/npd.registry.v1.AgencyService/SetAgencyContact": allow(operator(), agency()),
    "/npd.registry.v1.AgencyService/ListAgencies": allow(operator()),
    "/npd.registry.v1.AgencyService/AddOfficers": allow(operator(), agency()),
    "/npd.registry.v1.AgencyService/RemoveOfficers": allow(operator(), agency()),
    "/npd.registry.v1.SystemService/RegisterSystem": allow(operator()),
    "/npd.registry.v1.SystemService/SuspendSystem": allow(operator()),
    "/npd.registry.v1.SystemService/ResumeSystem": allow(operator()),
    "/npd.registry.v1.SystemService/ListSystems": allow(operator()),
    "/npd.registry.v1.AgreementService/DrawUpAgreement": allow(operator()),
    "/npd.registry.v1.AgreementService/SignAgreement": allow(operator(), agency()),
    "/npd.registry.v1.AgreementService/SuspendAgreement": allow(operator(), agency()),
    "/npd.registry.v1.AgreementService/ResumeAgreement": allow(operator(), agency()),
    "/npd.registry.v1.AgreementService/ListAgreements": allow(operator(), agency()),
    "/npd.registry.v1.RevocationService/RevokeCertificate": allow(operator()),
    "/npd.registry.v1.CertificateActService/RecordCertificateActs": allow(room("issuer"), any_state=True),
    "/npd.registry.v1.RightsService/WhoAmI": allow(agency(), operator(), room(), any_state=True),
    "/npd.registry.v1.RightsService/DescribeRights": allow(agency(), operator(), room(), any_state=True),
    "/npd.registry.v1.PolicyService/WatchPolicy": allow(room(), any_state=True),
    "/npd.registry.v1.DirectoryService/ListConnections": allow(operator(), room("issuer")),
    "/npd.registry.v1.DirectoryService/ReportContacts": allow(room(), any_state=True),
}
