"""Applications: an agency or operator applies, another operator approves, the issuer issues by itself."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd.common.v1 import approval_pb2
from npd.issuer.v1 import certificate_pb2
from npd_client.errors import Refusal, refusal_of
from npd_pki.identity import Kind, mesh_uri, operator_uri
from tests.issuer_fixture import (
    APPLY,
    CLIENT_TLS,
    ISSUED,
    SIGNING,
    IssuerScene,
    csr_for,
    leaf_of,
    p256_key,
    uri_of,
)
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, refused, wait_until

TAX = "tax/core"
PENDING, DENIED = certificate_pb2.APPLICATION_STATE_PENDING, certificate_pb2.APPLICATION_STATE_DENIED
APPROVED, EXPIRED = certificate_pb2.APPLICATION_STATE_APPROVED, certificate_pb2.APPLICATION_STATE_EXPIRED


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    """An issuer, and the systems tax/core, tax/web and health/core."""
    opened = IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"), agency_limit=60)
    for name in (TAX, "tax/web", "health/core", "busy/core"):
        opened.register(name)
    return opened


def application_for(
    identity: str, csr: bytes | None = None, **stated: object
) -> certificate_pb2.ApplyForCertificateRequest:
    """What is applied for."""
    request = certificate_pb2.ApplyForCertificateRequest(
        request_id=new_id(), identity=identity, profile=CLIENT_TLS, csr=csr or csr_for(p256_key())
    )
    request.MergeFrom(certificate_pb2.ApplyForCertificateRequest(**stated))  # type: ignore[arg-type]
    return request


def apply(scene: IssuerScene, request: certificate_pb2.ApplyForCertificateRequest) -> certificate_pb2.Application:
    """Apply as tax/core."""
    return scene.certificates(Kind.AGENCY, TAX).ApplyForCertificate(request).application


def shown(scene: IssuerScene, application_id: str) -> certificate_pb2.GetApplicationResponse:
    """An application as its applicant sees it."""
    request = certificate_pb2.GetApplicationRequest(application_id=application_id)
    return scene.certificates(Kind.AGENCY, TAX).GetApplication(request)


def decision(scene: IssuerScene, request: approval_pb2.ApproveRequestRequest, operator: str = "minh") -> Refusal:
    """The refusal that a decision must get."""
    return refused(scene.approvals(operator).ApproveRequest, request)


def test_an_application_is_issued_as_soon_as_another_approves_it(scene: IssuerScene) -> None:
    key = p256_key()
    csr = csr_for(key, uri_of("tax/web"))
    application = apply(scene, application_for(uri_of("tax/web"), csr))
    assert (application.state, application.applicant, application.profile_version) == (PENDING, uri_of(TAX), 1)
    assert application.csr_digest == sha256(x509.load_pem_x509_csr(csr).public_bytes(Encoding.DER)).digest()
    assert scene.recorded(APPLY, application.application_id)
    read = next(one for one in scene.waiting() if one.approval_id == application.application_id)
    seen = certificate_pb2.Application()
    assert read.request.Unpack(seen)
    assert (seen.identity, seen.csr_digest, seen.key_id) == (
        uri_of("tax/web"),
        application.csr_digest,
        application.key_id,
    )
    scene.approve(application.application_id)
    certificate = scene.issued(application.application_id)
    assert leaf_of(certificate).public_key() == key.public_key()
    assert certificate.application_id == application.application_id
    assert len(scene.recorded(APPLY, certificate.serial_number)) == 1


def test_an_application_of_an_operator_is_approved_by_another(scene: IssuerScene) -> None:
    identity = operator_uri(ENVIRONMENT, "hoa")
    request = application_for(identity, profile=SIGNING)
    application = scene.certificates(Kind.OPERATOR, "lan").ApplyForCertificate(request).application
    with pytest.raises(grpc.RpcError) as raised:
        scene.approve(application.application_id, operator="lan")
    assert refusal_of(raised.value).reason == "APPROVER_IS_REQUESTER"
    scene.approve(application.application_id)
    assert scene.issued(application.application_id).identity == identity


def test_an_approval_is_of_what_was_read(scene: IssuerScene) -> None:
    application = apply(scene, application_for(uri_of(TAX)))
    other = apply(scene, application_for(uri_of(TAX)))
    read = {one.approval_id: one.request_digest for one in scene.waiting()}
    swapped = approval_pb2.ApproveRequestRequest(
        request_id=new_id(), approval_id=application.application_id, request_digest=read[other.application_id]
    )
    assert decision(scene, swapped).reason == "APPROVAL_ALTERED"
    assert shown(scene, application.application_id).application.state == PENDING


def test_what_was_altered_after_its_approval_is_not_issued(scene: IssuerScene) -> None:
    key = p256_key()
    application = apply(scene, application_for(uri_of(TAX)))
    forged = x509.load_pem_x509_csr(csr_for(key)).public_bytes(Encoding.DER)
    scene.rows(
        "UPDATE applications SET csr = :csr WHERE application_id = :id RETURNING 1",
        csr=forged,
        id=application.application_id,
    )
    scene.approve(application.application_id)
    healthy = apply(scene, application_for(uri_of(TAX)))
    scene.approve(healthy.application_id)
    scene.issued(healthy.application_id)  # the one before it was looked at first, and holds it up no more
    assert shown(scene, application.application_id).application.state == APPROVED
    assert scene.rows(
        "SELECT count(*) FROM certificates WHERE application_id = :id", id=application.application_id
    ) == [(0,)]


def test_a_key_that_is_blocked_meanwhile_gets_nothing(scene: IssuerScene) -> None:
    application = apply(scene, application_for(uri_of(TAX)))
    scene.rows(
        "INSERT INTO blocked_keys (key_id, block_time, blocker) VALUES (:key, now(), 'lan') RETURNING 1",
        key=application.key_id,
    )
    scene.approve(application.application_id)
    healthy = apply(scene, application_for(uri_of(TAX)))
    scene.approve(healthy.application_id)
    scene.issued(healthy.application_id)
    assert shown(scene, application.application_id).application.state == APPROVED
    assert scene.rows("SELECT count(*) FROM certificates WHERE key_id = :key", key=application.key_id) == [(0,)]
    again = application_for(uri_of(TAX), application_csr(scene, application.application_id))
    assert refused(scene.certificates(Kind.AGENCY, TAX).ApplyForCertificate, again).reason == "KEY_BLOCKED"


def application_csr(scene: IssuerScene, application_id: str) -> bytes:
    """The signing request of an application, in PEM."""
    ((der,),) = scene.rows("SELECT csr FROM applications WHERE application_id = :id", id=application_id)
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)


def test_a_denied_application_says_why_and_stays_so(scene: IssuerScene) -> None:
    application = apply(scene, application_for(uri_of(TAX)))
    deny = approval_pb2.DenyRequestRequest(
        request_id=new_id(), approval_id=application.application_id, reason="wrong system"
    )
    scene.approvals().DenyRequest(deny)
    told = shown(scene, application.application_id)
    assert (told.application.state, told.application.reason) == (DENIED, "wrong system")
    assert not told.HasField("certificate")


def test_an_application_that_nobody_decides_expires(scene: IssuerScene) -> None:
    application = apply(scene, application_for(uri_of(TAX)))
    past = datetime.now(UTC) - timedelta(seconds=1)
    for table, column in (("applications", "application_id"), ("approvals", "approval_id")):
        scene.rows(
            f"UPDATE {table} SET expire_time = :past WHERE {column} = :id RETURNING 1",  # noqa: S608 - names of ours
            past=past,
            id=application.application_id,
        )
    assert shown(scene, application.application_id).application.state == EXPIRED
    with pytest.raises(grpc.RpcError) as raised:
        scene.approve(application.application_id)
    assert refusal_of(raised.value).reason == "APPROVAL_EXPIRED"


def test_a_repeat_finds_its_application(scene: IssuerScene) -> None:
    request = application_for(uri_of(TAX))
    first = apply(scene, request)
    assert apply(scene, request) == first
    altered = certificate_pb2.ApplyForCertificateRequest()
    altered.CopyFrom(request)
    altered.csr = csr_for(p256_key())
    stub = scene.certificates(Kind.AGENCY, TAX)
    assert refused(stub.ApplyForCertificate, altered).reason == "REQUEST_ID_REUSED"
    scene.approve(first.application_id)
    scene.issued(first.application_id)
    assert apply(scene, request).state == ISSUED
    waiting = [one for one in scene.waiting() if one.approval_id == first.application_id]
    assert [one.state for one in waiting] == [approval_pb2.APPROVAL_STATE_APPROVED]


def test_applications_that_are_not_made(scene: IssuerScene) -> None:
    stub, before = scene.certificates(Kind.AGENCY, TAX), scene.rows("SELECT count(*) FROM applications")
    operator = scene.certificates(Kind.OPERATOR, "lan")
    cases = [
        (stub, application_for(uri_of("health/core")), "METHOD_NOT_ALLOWED"),
        (stub, application_for(operator_uri(ENVIRONMENT, "hoa")), "METHOD_NOT_ALLOWED"),
        (operator, application_for(mesh_uri(ENVIRONMENT, "sharing")), "PROFILE_NOT_ENTITLED"),
        (operator, application_for("spiffe://agency.other.example/tax/core"), "FIELD_INVALID"),
        (operator, application_for("tax/core"), "FIELD_INVALID"),
        (operator, application_for(uri_of(TAX) + "?"), "FIELD_INVALID"),
        (stub, application_for(uri_of(TAX), csr_for(p256_key(), uri_of("tax/web"))), "CSR_NAME_FOREIGN"),
        (stub, application_for(uri_of(TAX), b"-----BEGIN CERTIFICATE REQUEST-----\n"), "CSR_MALFORMED"),
        (stub, application_for(uri_of(TAX), request_id="no-uuid"), "FIELD_INVALID"),
    ]
    for caller, request, reason in cases:
        assert refused(caller.ApplyForCertificate, request).reason == reason, request.identity
    unstated = application_for(uri_of(TAX))
    unstated.profile = certificate_pb2.CERTIFICATE_PROFILE_UNSPECIFIED
    assert refused(stub.ApplyForCertificate, unstated).reason == "FIELD_REQUIRED"
    unknown = application_for(uri_of(TAX))
    unknown.profile = 9  # type: ignore[assignment]
    assert refused(stub.ApplyForCertificate, unknown).reason == "PROFILE_NOT_ENTITLED"
    assert scene.rows("SELECT count(*) FROM applications") == before
    wait_until(lambda: {one.reason for one in scene.refusals(APPLY)} >= {reason for _, _, reason in cases})


def test_an_agency_applies_only_so_often(scene: IssuerScene) -> None:
    stub = scene.certificates(Kind.AGENCY, "busy/core")
    csr = csr_for(p256_key())
    for _ in range(60):
        stub.ApplyForCertificate(application_for(uri_of("busy/core"), csr))
    refusal = refused(stub.ApplyForCertificate, application_for(uri_of("busy/core"), csr))
    assert (refusal.reason, refusal.metadata, bool(refusal.retry_after)) == ("RATE_EXCEEDED", {"limit": "60"}, True)
    apply(scene, application_for(uri_of(TAX)))  # another agency goes on


def test_another_agencys_application_is_unknown(scene: IssuerScene) -> None:
    application = apply(scene, application_for(uri_of(TAX)))
    request = certificate_pb2.GetApplicationRequest(application_id=application.application_id)
    health = scene.certificates(Kind.AGENCY, "health/core")
    assert refused(health.GetApplication, request).reason == "APPLICATION_UNKNOWN"
    nobody = certificate_pb2.GetApplicationRequest(application_id=new_id())
    assert refused(health.GetApplication, nobody).reason == "APPLICATION_UNKNOWN"
    assert shown(scene, application.application_id).application == application
    listed = health.ListApplications(certificate_pb2.ListApplicationsRequest())
    assert {one.identity for one in listed.applications} <= {uri_of("health/core")}


def test_applications_are_listed_newest_first_by_pages(scene: IssuerScene) -> None:
    made = [apply(scene, application_for(uri_of("tax/web"))).application_id for _ in range(3)]
    stub = scene.certificates(Kind.AGENCY, TAX)
    seen: list[certificate_pb2.Application] = []
    token = ""
    while True:
        request = certificate_pb2.ListApplicationsRequest(state=PENDING, page_size=2, page_token=token)
        page = stub.ListApplications(request)
        seen += page.applications
        token = page.next_page_token
        if not token:
            break
    assert [one.application_id for one in seen][:3] == made[::-1]
    assert {one.state for one in seen} == {PENDING}
    assert len({one.application_id for one in seen}) == len(seen)
    bad = certificate_pb2.ListApplicationsRequest(page_size=1001)
    assert refused(stub.ListApplications, bad).reason == "FIELD_INVALID"
