"""The door: who has no working certificate comes here; nobody else answers without one, and a crowd disturbs nobody."""

import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc, door_pb2, door_pb2_grpc, enrolment_pb2
from npd.registry.v1 import agency_pb2
from npd_pki.ca_store import Hierarchy
from npd_pki.identity import Kind
from npd_pki.profile import CLIENT_TLS as TERMS
from npd_pki.profile import ROOM_TLS
from npd_pki.signed_bundle import sign_trust_bundle
from npd_pki.validity import Validity
from services.issuer.domain import Certificate, CertificateName, Profile
from services.issuer.repository.certificates import Certificates
from services.mesh.core.caller import key_id
from tests.issuer_fixture import IssuerScene, Key, csr_for, leaf_of, p256_key, uri_of
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, refused, wait_until

TAX = "tax/core"
ENABLE = "/npd.issuer.v1.EnrolmentService/EnableExpiredRenewal"
RENEW_EXPIRED = "/npd.issuer.v1.DoorService/RenewExpired"


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    """An issuer that hands a trust bundle on, and the systems tax/core and health/core."""
    directory = tmp_path_factory.mktemp("issuer")
    root = stage.authority.hierarchy.root
    (directory / "bundle").write_bytes(sign_trust_bundle(root, 1, [root.certificate]))
    opened = IssuerScene(stage, registry, desk, directory, trust_bundle_file=directory / "bundle")
    opened.register(TAX)
    opened.register("health/core")
    return opened


@dataclass(frozen=True)
class Expired:
    """An expired certificate that the issuer knows, and its key."""

    chain: bytes
    key: Key
    issuer_key_id: str
    serial_number: str

    def sign(self, request_id: str, csr: bytes) -> bytes:
        """What its holder signs."""
        signed = f"npd-renew-expired-v1\n{request_id}\n".encode() + csr
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        is_p384 = self.key.curve.name == "secp384r1"
        return self.key.sign(signed, ec.ECDSA(hashes.SHA384() if is_p384 else hashes.SHA256()))

    def request(self, csr: bytes | None = None, **stated: Any) -> door_pb2.RenewExpiredRequest:
        """What he brings to the door."""
        request_id, csr = new_id(), csr or csr_for(p256_key())
        asked = {
            "request_id": request_id,
            "certificate_chain": self.chain,
            "csr": csr,
            "signature": self.sign(request_id, csr),
        }
        return door_pb2.RenewExpiredRequest(**{**asked, **stated})


def held(scene: IssuerScene, name: str, key: Key | None = None, *, days: int = -1, known: bool = True) -> Expired:
    """A certificate that ended, or will end, so many days from now, as the issuer would know it."""
    key, end = key or p256_key(), datetime.now(UTC) + timedelta(days=days)
    validity = Validity(end - timedelta(days=30), end)
    issued = scene.hierarchy.agency.issue(TERMS, uri_of(name), key.public_key(), validity=validity)
    leaf = issued.certificate
    row = Certificate(
        name=CertificateName(issued.issuer_key_id, f"{leaf.serial_number:x}"),
        identity=uri_of(name),
        agency_id=name.partition("/")[0],
        system_id=name.partition("/")[2],
        profile=Profile.CLIENT_TLS,
        key_id=key_id(leaf),
        start_time=leaf.not_valid_before_utc,
        expire_time=leaf.not_valid_after_utc,
        intent_time=leaf.not_valid_before_utc,
        der=leaf.public_bytes(Encoding.DER),
    )
    if known:
        with scene.issuer.house.engine.begin() as connection:
            Certificates(connection).adopt(row)
    return Expired(issued.pem(), key, row.name.issuer_key_id, row.name.serial_number)


def enabling(one: Expired, **stated: Any) -> enrolment_pb2.EnableExpiredRenewalRequest:
    """What an operator asks."""
    named = {"issuer_key_id": one.issuer_key_id, "serial_number": one.serial_number}
    return enrolment_pb2.EnableExpiredRenewalRequest(**{"request_id": new_id(), **named, **stated})


KEYS: dict[str, Callable[[], Key]] = {
    "P-256": p256_key,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
}


@pytest.mark.parametrize("kind", KEYS)
def test_an_expired_certificate_is_renewed_once_an_operator_enabled_it(scene: IssuerScene, kind: str) -> None:
    expired, key = held(scene, TAX, KEYS[kind]()), p256_key()
    request = expired.request(csr_for(key, uri_of(TAX)))
    refusal = refused(scene.door.RenewExpired, request)
    assert (refusal.reason, list(refusal.metadata)) == ("RENEWAL_NOT_ENABLED", ["expire_time"])
    scene.enrolments().EnableExpiredRenewal(enabling(expired))
    answer = scene.door.RenewExpired(request)
    assert leaf_of(answer.certificate).public_key() == key.public_key()
    assert answer.trust_bundle.startswith(b"npd trust bundle v1")
    assert scene.door.RenewExpired(request).certificate == answer.certificate
    assert refused(scene.door.RenewExpired, expired.request()).reason == "RENEWAL_NOT_ENABLED"
    assert scene.recorded(ENABLE, expired.serial_number)
    assert len(scene.recorded(RENEW_EXPIRED, answer.certificate.serial_number)) == 1


def test_an_enabled_renewal_ends_with_its_term(scene: IssuerScene) -> None:
    expired = held(scene, TAX)
    request = enabling(expired)
    request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=1))
    until = scene.enrolments().EnableExpiredRenewal(request).expire_time.ToDatetime(UTC)
    wait_until(lambda: datetime.now(UTC) > until)
    assert refused(scene.door.RenewExpired, expired.request()).reason == "RENEWAL_NOT_ENABLED"


def test_whoever_does_not_hold_the_expired_key_gets_nothing(scene: IssuerScene) -> None:
    expired, csr = held(scene, TAX), csr_for(p256_key())
    scene.enrolments().EnableExpiredRenewal(enabling(expired))
    good = expired.request(csr)
    other = Expired(expired.chain, p256_key(), expired.issuer_key_id, expired.serial_number)
    forged = [
        other.request(csr),
        expired.request(csr, signature=b"no signature"),
        expired.request(csr, signature=b"x" * 5000),
        expired.request(csr, signature=expired.sign(new_id(), csr)),
        door_pb2.RenewExpiredRequest(
            request_id=good.request_id,
            certificate_chain=good.certificate_chain,
            csr=csr_for(p256_key()),
            signature=good.signature,
        ),
    ]
    for request in forged:
        assert refused(scene.door.RenewExpired, request).reason == "SIGNATURE_INVALID"
    assert scene.door.RenewExpired(good).certificate.identity == uri_of(TAX)


def test_certificates_that_are_not_renewed_at_the_door(scene: IssuerScene) -> None:
    foreign = Hierarchy.create(ENVIRONMENT).agency
    key = p256_key()
    end = datetime.now(UTC) - timedelta(days=1)
    stranger = foreign.issue(TERMS, uri_of(TAX), key.public_key(), validity=Validity(end - timedelta(days=9), end))
    valid, unknown = held(scene, TAX, days=9), held(scene, TAX, known=False)
    revoked = held(scene, TAX)
    revoking = "UPDATE certificates SET revoke_time = now(), revocation_reason = 'SUPERSEDED'"
    scene.rows(f"{revoking} WHERE serial_number = :serial RETURNING 1", serial=revoked.serial_number)
    cases = [
        (valid.request(), "STATE_NOT_ALLOWED"),
        (unknown.request(), "CERTIFICATE_UNKNOWN"),
        (Expired(stranger.pem(), key, "", "").request(), "CERTIFICATE_UNKNOWN"),
        (revoked.request(), "CERTIFICATE_REVOKED"),
        (valid.request(certificate_chain=b"no certificate"), "CERTIFICATE_MALFORMED"),
        (valid.request(certificate_chain=valid.chain[:300]), "CERTIFICATE_MALFORMED"),
        (valid.request(certificate_chain=valid.chain * 9), "CERTIFICATE_MALFORMED"),
        (valid.request(request_id="1"), "FIELD_INVALID"),
    ]
    for request, reason in cases:
        assert refused(scene.door.RenewExpired, request).reason == reason
    for one, reason in ((valid, "STATE_NOT_ALLOWED"), (revoked, "STATE_NOT_ALLOWED"), (unknown, "CERTIFICATE_UNKNOWN")):
        assert refused(scene.enrolments().EnableExpiredRenewal, enabling(one)).reason == reason
    wait_until(lambda: len(scene.refusals(ENABLE)) >= 3)


def test_a_renewal_at_the_door_needs_a_good_request_and_an_active_system(scene: IssuerScene, desk: Desk) -> None:
    expired = held(scene, "health/core")
    scene.enrolments().EnableExpiredRenewal(enabling(expired))
    same = expired.request(csr_for(expired.key))
    assert refused(scene.door.RenewExpired, same).reason == "KEY_UNACCEPTABLE"
    foreign = expired.request(csr_for(p256_key(), uri_of(TAX)))
    assert refused(scene.door.RenewExpired, foreign).reason == "CSR_NAME_FOREIGN"
    suspend = agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="health", system_id="core", cause="audit")
    desk.systems.SuspendSystem(suspend)
    scene.stage.settle()
    good = expired.request()
    assert refused(scene.door.RenewExpired, good).reason == "SYSTEM_SUSPENDED"
    desk.systems.ResumeSystem(agency_pb2.ResumeSystemRequest(request_id=new_id(), agency_id="health", system_id="core"))
    scene.stage.settle()
    assert scene.door.RenewExpired(good).certificate.identity == uri_of("health/core")


def test_the_door_says_what_is_wrong_with_a_certificate(scene: IssuerScene) -> None:
    said = scene.door.Diagnose(door_pb2.DiagnoseRequest(certificate_chain=held(scene, TAX).chain))
    assert [one.finding for one in said.explanations][:1] == [door_pb2.FINDING_EXPIRED]
    assert said.explanations[0].english
    assert said.explanations[0].vietnamese
    good = scene.door.Diagnose(door_pb2.DiagnoseRequest(certificate_chain=held(scene, TAX, days=9).chain))
    assert [one.finding for one in good.explanations] == [door_pb2.FINDING_ACCEPTED]
    assert abs(good.server_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(seconds=10)
    malformed = door_pb2.DiagnoseRequest(certificate_chain=b"?")
    assert refused(scene.door.Diagnose, malformed).reason == "CERTIFICATE_MALFORMED"


def test_the_door_hands_out_the_revocation_list(scene: IssuerScene) -> None:
    authority = scene.hierarchy.agency
    request = door_pb2.GetRevocationListRequest(issuer_key_id=authority.key_id)
    wait_until(lambda: scene.rows("SELECT count(*) FROM revocation_lists") == [(2,)])
    listed = x509.load_der_x509_crl(scene.door.GetRevocationList(request).revocation_list)
    assert listed.is_signature_valid(authority.key.public_key())
    nobody = door_pb2.GetRevocationListRequest(issuer_key_id="0" * 64)
    assert refused(scene.door.GetRevocationList, nobody).reason == "AUTHORITY_UNKNOWN"
    malformed = door_pb2.GetRevocationListRequest(issuer_key_id="x")
    assert refused(scene.door.GetRevocationList, malformed).reason == "FIELD_INVALID"


def test_the_door_serves_the_door_alone_and_nothing_else_does(scene: IssuerScene) -> None:
    inside = certificate_pb2_grpc.CertificateServiceStub(scene.door_channel)
    listing = certificate_pb2.ListCertificatesRequest()
    assert refused(inside.ListCertificates, listing).code is grpc.StatusCode.UNIMPLEMENTED
    outside = door_pb2_grpc.DoorServiceStub(scene.issuer.channel(Kind.AGENCY, TAX))
    diagnose = door_pb2.DiagnoseRequest(certificate_chain=b"?")
    assert refused(outside.Diagnose, diagnose).code is grpc.StatusCode.UNIMPLEMENTED
    root = scene.hierarchy.root.certificate.public_bytes(Encoding.PEM)
    with grpc.secure_channel(scene.issuer.address, grpc.ssl_channel_credentials(root)) as bare:
        knock = certificate_pb2_grpc.CertificateServiceStub(bare)
        assert refused(knock.ListCertificates, listing).code is grpc.StatusCode.UNAVAILABLE


def test_what_is_too_big_or_misses_a_field_is_refused(scene: IssuerScene) -> None:
    book = door_pb2.DiagnoseRequest(certificate_chain=b"x" * (70 << 10))
    assert refused(scene.door.Diagnose, book).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused(scene.door.Diagnose, door_pb2.DiagnoseRequest()).reason == "FIELD_REQUIRED"
    unsigned = door_pb2.EnrolRequest(request_id=new_id(), token="t")
    assert refused(scene.door.Enrol, unsigned).reason == "FIELD_REQUIRED"


def test_what_is_refused_at_the_door_is_counted_and_not_recorded(scene: IssuerScene) -> None:
    before = len(scene.issuer.entries())
    unknown = door_pb2.GetApplicationStatusRequest(token="nobody's")
    assert refused(scene.door.GetApplicationStatus, unknown).reason == "TOKEN_UNKNOWN"
    assert len(scene.issuer.entries()) == before


def test_a_certificate_comes_with_the_roots_as_they_are_now(scene: IssuerScene) -> None:
    path, root = scene.directory / "bundle", scene.hierarchy.root
    sound, stub = path.read_bytes(), scene.certificates(Kind.OPERATOR, "lan")

    def handed_on() -> bytes:
        request = certificate_pb2.RenewCertificateRequest(
            request_id=new_id(), profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS, csr=csr_for(p256_key())
        )
        return stub.RenewCertificate(request).trust_bundle

    foreign = Hierarchy.create(ENVIRONMENT).root
    newer = sign_trust_bundle(root, 2, [root.certificate, foreign.certificate])
    assert handed_on() == sound
    path.write_bytes(newer)
    assert handed_on() == newer
    for unsound in (
        newer.replace(b"sequence: 2", b"sequence: 3"),
        sign_trust_bundle(foreign, 3, [foreign.certificate]),
    ):
        path.write_bytes(unsound)
        assert handed_on() == b""
    path.unlink()
    assert handed_on() == b""
    path.write_bytes(sound)
    assert handed_on() == sound


def test_both_ports_take_new_certificate_files(scene: IssuerScene, tmp_path: Path) -> None:
    tls = scene.stage.authority.issue(tmp_path / "tls", Kind.MESH, "issuer", ROOM_TLS)
    poll = timedelta(milliseconds=50)
    with_reload = IssuerScene(
        scene.stage, scene.registry, scene.desk, tmp_path, tls_directory=tls, credentials_poll=poll
    )
    for _ in range(2):
        scene.stage.authority.issue(tls, Kind.MESH, "issuer", ROOM_TLS)
        newest = x509.load_pem_x509_certificate((tls / "tls.crt").read_bytes())
        ports = (with_reload.door_address, with_reload.issuer.address)
        wait_until(lambda: [shown_by(one) for one in ports] == [newest] * 2)  # noqa: B023 - waited for here


def shown_by(address: str) -> x509.Certificate:
    """The certificate that a port shows to a new connection."""
    host, _, port = address.partition(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port)), timeout=5).encode())


@pytest.fixture
def narrow(scene: IssuerScene, tmp_path: Path) -> IssuerScene:
    """An issuer whose door lets five calls a minute pass."""
    return IssuerScene(scene.stage, scene.registry, scene.desk, tmp_path, door_address_limit=5)


def test_a_crowd_at_the_door_is_told_to_wait_and_the_mtls_port_goes_on(
    narrow: IssuerScene, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = door_pb2.GetApplicationStatusRequest(token="nobody's")
    with ThreadPoolExecutor(8) as pool:
        refusals = list(pool.map(lambda _: refused(narrow.door.GetApplicationStatus, unknown), range(60)))
        stub = narrow.certificates(Kind.OPERATOR, "lan")
        assert stub.ListCertificates(certificate_pb2.ListCertificatesRequest(), timeout=5) is not None
    reasons = [one.reason for one in refusals]
    assert reasons.count("TOKEN_UNKNOWN") in (5, 6)
    told = next(one for one in refusals if one.reason == "RATE_EXCEEDED")
    assert told.metadata == {"limit": "5"}
    assert told.retry_after is not None
    assert timedelta() < told.retry_after <= timedelta(seconds=12)
    assert "RATE_EXCEEDED" not in {entry.reason for entry in narrow.issuer.entries()}
    logged = capsys.readouterr().out
    assert "TOKEN_UNKNOWN" in logged
    assert "RATE_EXCEEDED" not in logged, "a crowd does not fill the log"
