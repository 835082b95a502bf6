"""Who may call which method of the issuer, and what is served at its door, where nobody is known. Data only."""

from services.mesh.core.methods import Methods, agency, allow, operator

METHODS: Methods = {
    "/npd.issuer.v1.CertificateService/RenewCertificate": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/GetRenewalWindow": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/ApplyForCertificate": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/GetApplication": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/ListApplications": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/GetCertificate": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/ListCertificates": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/ReportExpiring": allow(operator()),
    "/npd.issuer.v1.CertificateService/RevokeCertificate": allow(operator(), agency()),
    "/npd.issuer.v1.CertificateService/RevokeCertificates": allow(operator()),
    "/npd.issuer.v1.EnrolmentService/CreateEnrolment": allow(operator()),
    "/npd.issuer.v1.EnrolmentService/CancelEnrolment": allow(operator()),
    "/npd.issuer.v1.EnrolmentService/ListEnrolments": allow(operator()),
    "/npd.issuer.v1.EnrolmentService/EnableExpiredRenewal": allow(operator()),
    "/npd.issuer.v1.AuthorityService/ListAuthorities": allow(operator()),
    "/npd.issuer.v1.AuthorityService/PrepareAuthority": allow(operator()),
    "/npd.issuer.v1.AuthorityService/ActivateAuthority": allow(operator()),
    "/npd.issuer.v1.AuthorityService/TaintAuthority": allow(operator()),
    "/npd.issuer.v1.AuthorityService/RetireAuthority": allow(operator()),
    "/npd.issuer.v1.AuthorityService/RevokeAuthority": allow(operator()),
    "/npd.issuer.v1.AuthorityService/ForceRevokeAuthority": allow(operator(), approvals=2),
}

DOOR_METHODS = frozenset(
    {
        "/npd.issuer.v1.DoorService/Enrol",
        "/npd.issuer.v1.DoorService/RenewExpired",
        "/npd.issuer.v1.DoorService/Diagnose",
        "/npd.issuer.v1.DoorService/GetApplicationStatus",
        "/npd.issuer.v1.DoorService/GetRevocationList",
    }
)
