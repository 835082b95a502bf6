"""Renewals: who calls with one certificate gets the next for a new key; and what a crash on the way leaves behind."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from npd.issuer.v1 import certificate_pb2
from npd.registry.v1 import agency_pb2, revocation_pb2
from npd_pki.identity import Kind
from npd_pki.keys import key_id
from npd_pki.profile import CLIENT_TLS as CLIENT_TLS_TERMS
from npd_pki.validity import Validity
from services.mesh.core import failpoints
from tests.issuer_fixture import (
    CLIENT_TLS,
    RENEW,
    SIGNING,
    IssuerScene,
    csr_for,
    leaf_of,
    outcome,
    p256_key,
    uri_of,
    write_authorities,
    write_tls,
)
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until

TAX = "tax/core"
INTENT, REVOKED = certificate_pb2.CERTIFICATE_STATE_INTENT, certificate_pb2.CERTIFICATE_STATE_REVOKED
SUPERSEDED = revocation_pb2.REVOCATION_REASON_SUPERSEDED


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    """An issuer, and the system tax/core, whose first certificate was issued offline."""
    opened = IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"), agency_limit=40)
    for name in (TAX, "busy/core", "short/core", "lost/core", "gone/core"):
        opened.register(name)
    return opened


def renewal(csr: bytes, **stated: object) -> certificate_pb2.RenewCertificateRequest:
    """What is renewed."""
    request = certificate_pb2.RenewCertificateRequest(request_id=new_id(), profile=CLIENT_TLS, csr=csr)
    request.MergeFrom(certificate_pb2.RenewCertificateRequest(**stated))  # type: ignore[arg-type]
    return request


def test_a_holder_renews_for_a_new_key_and_goes_on_with_it(scene: IssuerScene, tmp_path: Path) -> None:
    key, next_key = p256_key(), ec.generate_private_key(ec.SECP384R1())
    first = scene.certificates(Kind.AGENCY, TAX).RenewCertificate(renewal(csr_for(key, uri_of(TAX))))
    tls = write_tls(tmp_path, first.certificate.certificate_chain, key, scene.hierarchy.root.certificate)
    stub = scene.certificates_by(tls)
    window = stub.GetRenewalWindow(certificate_pb2.GetRenewalWindowRequest()).window
    assert window == first.window
    life = first.certificate.expire_time.ToDatetime(UTC) - first.certificate.start_time.ToDatetime(UTC)
    left = first.certificate.expire_time.ToDatetime(UTC) - window.start_time.ToDatetime(UTC)
    assert abs(left - life / 3) < timedelta(seconds=2)
    assert not window.is_urgent
    second = stub.RenewCertificate(renewal(csr_for(next_key)))
    assert leaf_of(second.certificate).public_key() == next_key.public_key()
    assert second.certificate.serial_number != first.certificate.serial_number
    assert len(scene.recorded(RENEW, second.certificate.serial_number)) == 1
    assert scene.recorded(RENEW, second.certificate.serial_number)[0].reason == ""


def test_a_certificate_that_was_issued_offline_is_known_once_its_holder_asks_when_to_renew(scene: IssuerScene) -> None:
    scene.register("tax/archive")
    serial = f"{scene.stage.authority.leaf(Kind.AGENCY, 'tax/archive').serial_number:x}"
    stub = scene.certificates(Kind.AGENCY, "tax/archive")
    for _ in range(2):
        stub.GetRenewalWindow(certificate_pb2.GetRenewalWindowRequest())
    assert scene.rows("SELECT count(*) FROM certificates WHERE serial_number = :serial", serial=serial) == [(1,)]
    assert len(scene.recorded("/npd.issuer.v1.CertificateService/GetRenewalWindow", serial)) == 1


def test_a_certificate_that_was_issued_offline_is_known_once_it_renews(scene: IssuerScene) -> None:
    held = scene.stage.authority.leaf(Kind.OPERATOR, "minh")
    known = "SELECT identity, application_id FROM certificates WHERE serial_number = :serial AND der IS NOT NULL"
    serial = f"{held.serial_number:x}"
    assert scene.rows(known, serial=serial) == []
    scene.certificates(Kind.OPERATOR, "minh").RenewCertificate(renewal(csr_for(p256_key())))
    assert scene.rows(known, serial=serial) == [(f"spiffe://operator.{scene.hierarchy.environment}/minh", None)]
    assert len(scene.recorded(RENEW, serial)) == 1


def test_a_repeat_gets_the_certificate_that_was_issued(scene: IssuerScene) -> None:
    stub, request = scene.certificates(Kind.AGENCY, TAX), renewal(csr_for(p256_key()))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: stub.RenewCertificate(request, timeout=20), range(4)))
    assert len({answer.certificate.certificate_chain for answer in answers}) == 1
    again = stub.RenewCertificate(request)
    assert again.certificate == answers[0].certificate
    other = renewal(csr_for(p256_key()), request_id=request.request_id)
    assert refused(stub.RenewCertificate, other).reason == "REQUEST_ID_REUSED"


def test_a_renewal_needs_a_new_key(scene: IssuerScene, tmp_path: Path) -> None:
    key, stub = p256_key(), scene.certificates(Kind.AGENCY, TAX)
    first = stub.RenewCertificate(renewal(csr_for(key)))
    refusal = refused(stub.RenewCertificate, renewal(csr_for(key)))
    assert (refusal.reason, [one.field for one in refusal.violations]) == ("KEY_UNACCEPTABLE", ["csr"])
    tls = write_tls(tmp_path, first.certificate.certificate_chain, key, scene.hierarchy.root.certificate)
    assert refused(scene.certificates_by(tls).RenewCertificate, renewal(csr_for(key))).reason == "KEY_UNACCEPTABLE"
    wait_until(lambda: any(one.reason == "KEY_UNACCEPTABLE" for one in scene.refusals(RENEW)))


def test_bad_signing_requests_are_refused_and_nothing_is_kept(scene: IssuerScene) -> None:
    stub, before = scene.certificates(Kind.AGENCY, TAX), scene.rows("SELECT count(*) FROM applications")
    cases = {
        "CSR_MALFORMED": csr_for(p256_key())[:-60],
        "CSR_NAME_FOREIGN": csr_for(p256_key(), uri_of("busy/core")),
        "KEY_UNACCEPTABLE": csr_for(rsa.generate_private_key(65537, 2048)),
    }
    for reason, csr in cases.items():
        assert refused(stub.RenewCertificate, renewal(csr)).reason == reason
    of_authority = renewal(csr_for(scene.hierarchy.operator.key))
    assert refused(stub.RenewCertificate, of_authority).reason == "KEY_UNACCEPTABLE"
    assert scene.rows("SELECT count(*) FROM applications") == before


def test_what_one_does_not_have_cannot_be_renewed(scene: IssuerScene) -> None:
    stub = scene.certificates(Kind.AGENCY, "lost/core")
    assert refused(stub.RenewCertificate, renewal(csr_for(p256_key()), profile=SIGNING)).reason == "CERTIFICATE_UNKNOWN"
    unknown = renewal(csr_for(p256_key()))
    unknown.profile = 12  # type: ignore[assignment]
    assert refused(stub.RenewCertificate, unknown).reason == "PROFILE_NOT_ENTITLED"


def test_a_signing_certificate_is_renewed_by_the_one_for_calls(scene: IssuerScene) -> None:
    application = scene.certificates(Kind.AGENCY, TAX).ApplyForCertificate(
        certificate_pb2.ApplyForCertificateRequest(
            request_id=new_id(), identity=uri_of(TAX), profile=SIGNING, csr=csr_for(p256_key())
        )
    )
    scene.approve(application.application.application_id)
    before = scene.issued(application.application.application_id)
    after = scene.certificates(Kind.AGENCY, TAX).RenewCertificate(renewal(csr_for(p256_key()), profile=SIGNING))
    assert (after.certificate.profile, after.certificate.identity) == (SIGNING, before.identity)


def test_a_revoked_certificate_renews_nothing_even_before_the_rooms_have_heard_of_it(
    scene: IssuerScene, tmp_path: Path
) -> None:
    key, stub = p256_key(), scene.certificates(Kind.AGENCY, "gone/core")
    first = stub.RenewCertificate(renewal(csr_for(key))).certificate
    tls = write_tls(tmp_path, first.certificate_chain, key, scene.hierarchy.root.certificate)
    holder = scene.certificates_by(tls)
    revoking = "UPDATE certificates SET revoke_time = now(), revocation_reason = 'SUPERSEDED'"
    scene.rows(f"{revoking} WHERE serial_number = :serial RETURNING 1", serial=first.serial_number)
    for profile in (CLIENT_TLS, SIGNING):
        refusal = refused(holder.RenewCertificate, renewal(csr_for(p256_key()), profile=profile))
        assert refusal.reason == "CERTIFICATE_REVOKED"
    wait_until(lambda: any(one.reason == "CERTIFICATE_REVOKED" for one in scene.refusals(RENEW)))


def test_a_suspended_system_renews_nothing(scene: IssuerScene, desk: Desk) -> None:
    stub = scene.certificates(Kind.AGENCY, "short/core")
    suspend = agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="short", system_id="core", cause="audit")
    desk.systems.SuspendSystem(suspend)
    scene.stage.settle()
    assert refused(stub.RenewCertificate, renewal(csr_for(p256_key()))).reason == "SYSTEM_SUSPENDED"


def test_an_agency_gets_only_so_many_certificates_an_hour(scene: IssuerScene) -> None:
    stub = scene.certificates(Kind.AGENCY, "busy/core")
    for _ in range(40):
        stub.RenewCertificate(renewal(csr_for(p256_key())))
    refusal = refused(stub.RenewCertificate, renewal(csr_for(p256_key())))
    assert (refusal.reason, refusal.metadata, bool(refusal.retry_after)) == ("RATE_EXCEEDED", {"limit": "40"}, True)
    scene.certificates(Kind.OPERATOR, "lan").RenewCertificate(renewal(csr_for(p256_key())))


def test_an_operator_uses_up_no_other_operators_renewals(scene: IssuerScene) -> None:
    stub = scene.certificates(Kind.OPERATOR, "minh")
    assert "RATE_EXCEEDED" in [outcome(stub.RenewCertificate, renewal(csr_for(p256_key()))) for _ in range(41)]
    scene.certificates(Kind.OPERATOR, "lan").RenewCertificate(renewal(csr_for(p256_key())))


def test_a_certificate_begins_five_minutes_ago(scene: IssuerScene) -> None:
    answer = scene.certificates(Kind.OPERATOR, "lan").RenewCertificate(renewal(csr_for(p256_key())))
    begun = datetime.now(UTC) - answer.certificate.start_time.ToDatetime(UTC)
    assert timedelta(minutes=5) <= begun < timedelta(minutes=6)


def test_a_certificate_never_outlives_its_issuer(scene: IssuerScene, tmp_path: Path) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    validity = Validity(end - timedelta(days=10), end)
    hierarchy = scene.hierarchy
    ending = hierarchy.root.issue_issuing_ca(Kind.OPERATOR, key=hierarchy.operator.key, validity=validity)
    directory = write_authorities(tmp_path / "ending", replace(hierarchy, operator=ending))
    issuer = IssuerScene(scene.stage, scene.registry, scene.desk, tmp_path, authorities_directory=directory)
    answer = issuer.certificates(Kind.OPERATOR, "lan").RenewCertificate(renewal(csr_for(p256_key())))
    assert answer.certificate.expire_time.ToDatetime(UTC) == end
    assert leaf_of(answer.certificate).not_valid_after_utc == end


class Crash(Exception):
    """The process dies here, as far as the request can tell."""


@pytest.mark.parametrize("place", ["issue.intended", "issue.signed"])
def test_after_a_crash_the_intent_is_listed_and_revocable_and_the_repeat_gets_another(
    scene: IssuerScene, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, key = scene.certificates(Kind.AGENCY, "lost/core"), p256_key()
    request = renewal(csr_for(key))

    def die(reached: str) -> None:
        if reached == place:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", die)
        assert refused(stub.RenewCertificate, request).reason == "INTERNAL"
    listing = certificate_pb2.ListCertificatesRequest(identity=uri_of("lost/core"), state=INTENT)
    (intent,) = [one for one in stub.ListCertificates(listing).certificates if one.key_id == key_id(key.public_key())]
    again = stub.RenewCertificate(request).certificate
    assert again.serial_number != intent.serial_number
    revoke = certificate_pb2.RevokeCertificateRequest(
        request_id=new_id(), issuer_key_id=intent.issuer_key_id, serial_number=intent.serial_number, reason=SUPERSEDED
    )
    (gone,) = stub.RevokeCertificate(revoke).certificates
    assert (gone.serial_number, gone.state) == (intent.serial_number, REVOKED)
    wait_until(lambda: (intent.issuer_key_id, intent.serial_number) in scene.registry.house.keeper.current.revoked)
    assert scene.recorded(RENEW, again.serial_number)


def test_who_holds_a_short_certificate_is_told_when(scene: IssuerScene, tmp_path: Path) -> None:
    key, now = p256_key(), datetime.now(UTC)
    validity = Validity(now - timedelta(hours=2), now + timedelta(hours=1))
    issued = scene.hierarchy.agency.issue(CLIENT_TLS_TERMS, uri_of(TAX), key.public_key(), validity=validity)
    tls = write_tls(tmp_path, issued.pem(), key, scene.hierarchy.root.certificate)
    window = scene.certificates_by(tls).GetRenewalWindow(certificate_pb2.GetRenewalWindowRequest()).window
    assert abs(window.start_time.ToDatetime(UTC) - now) < timedelta(seconds=2)
    assert abs(window.end_time.ToDatetime(UTC) - now - timedelta(minutes=30)) < timedelta(seconds=2)
