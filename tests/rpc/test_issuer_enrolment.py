"""Enrolments: an operator prepares, a token comes to the door, and one certificate comes of it."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2, door_pb2, enrolment_pb2
from npd.registry.v1 import agency_pb2, rights_pb2, rights_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from npd_pki.identity import Kind
from npd_pki.keys import key_id
from tests.issuer_fixture import (
    CLIENT_TLS,
    ENROL,
    ISSUED,
    SIGNING,
    IssuerScene,
    csr_for,
    leaf_of,
    p256_key,
    uri_of,
    write_tls,
)
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until

CREATE = "/npd.issuer.v1.EnrolmentService/CreateEnrolment"
CANCEL = "/npd.issuer.v1.EnrolmentService/CancelEnrolment"
TAX = "tax/core"
PENDING = certificate_pb2.APPLICATION_STATE_PENDING
FOREIGN = uri_of("health/core")
RSA_3072 = partial(rsa.generate_private_key, 65537, 3072)
KEYS: dict[str, Callable[[], Any]] = {
    "P-256": p256_key,
    "P-384": partial(ec.generate_private_key, ec.SECP384R1()),
    "RSA 3072": RSA_3072,
}


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    """An issuer, the system tax/core, and another that is suspended."""
    opened = IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))
    opened.register(TAX)
    opened.register("health/core")
    suspended = agency_pb2.SuspendSystemRequest(
        request_id=new_id(), agency_id="health", system_id="core", cause="audit"
    )
    desk.systems.SuspendSystem(suspended)
    stage.settle()
    return opened


def enrol_request(token: str, csr: bytes, request_id: str = "") -> door_pb2.EnrolRequest:
    """What comes to the door."""
    return door_pb2.EnrolRequest(request_id=request_id or new_id(), token=token, csr=csr)


def status(scene: IssuerScene, token: str) -> door_pb2.GetApplicationStatusResponse:
    """How the application of a token stands."""
    return scene.door.GetApplicationStatus(door_pb2.GetApplicationStatusRequest(token=token))


def broken(csr: bytes) -> bytes:
    """A signing request with another signature."""
    der = bytearray(x509.load_pem_x509_csr(csr).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("kind", KEYS)
def test_a_token_of_an_active_system_gets_a_certificate_at_once(scene: IssuerScene, kind: str) -> None:
    token, key = scene.enrol(TAX), KEYS[kind]()
    answer = scene.door.Enrol(enrol_request(token, csr_for(key, uri_of(TAX))))
    assert answer.application.state == ISSUED
    assert answer.application.applicant == "door"
    assert answer.certificate.identity == uri_of(TAX)
    assert leaf_of(answer.certificate).public_key() == key.public_key()
    assert answer.window.start_time.ToDatetime(UTC) > datetime.now(UTC)
    assert len(scene.recorded(ENROL, answer.application.application_id)) == 1
    assert len(scene.recorded(ENROL, answer.certificate.serial_number)) == 1
    shown = status(scene, token)
    assert shown.certificate.certificate_chain == answer.certificate.certificate_chain


def test_a_room_and_openssl_accept_what_was_issued(scene: IssuerScene, tmp_path: Path) -> None:
    key = p256_key()
    answer = scene.door.Enrol(enrol_request(scene.enrol(TAX), csr_for(key)))
    root = scene.hierarchy.root.certificate
    tls = write_tls(tmp_path / "tls", answer.certificate.certificate_chain, key, root)
    with RotatingChannel(scene.registry.address, tls) as channel:
        who = rights_pb2_grpc.RightsServiceStub(channel).WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10)
    assert who.identity == uri_of(TAX)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(tls / "ca.crt")]
    command += ["-untrusted", str(tls / "tls.crt"), str(tls / "tls.crt")]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip().endswith("OK")


def test_a_signing_certificate_comes_of_an_enrolment_for_one(scene: IssuerScene) -> None:
    token = scene.enrol(TAX, profile=SIGNING)
    answer = scene.door.Enrol(enrol_request(token, csr_for(p256_key())))
    usage = leaf_of(answer.certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert answer.certificate.profile == SIGNING
    assert [purpose.dotted_string for purpose in usage.value] == ["1.3.6.1.5.5.7.3.36"]


def huge() -> bytes:
    """A signing request with more names than anybody has."""
    return csr_for(p256_key(), names=[x509.DNSName(f"a{number}.example") for number in range(2000)])


BAD: dict[str, tuple[Callable[[IssuerScene], bytes], str]] = {
    "cut off": (lambda scene: csr_for(p256_key())[:-40], "CSR_MALFORMED"),
    "no PEM": (lambda scene: b"hello", "CSR_MALFORMED"),
    "two requests": (lambda scene: csr_for(p256_key()) * 2, "CSR_MALFORMED"),
    "a certificate": (lambda scene: scene.hierarchy.root.certificate.public_bytes(Encoding.PEM), "CSR_MALFORMED"),
    "a book": (lambda scene: huge(), "CSR_MALFORMED"),
    "not proven": (lambda scene: broken(csr_for(p256_key())), "CSR_NOT_PROVEN"),
    "another's name": (lambda scene: csr_for(p256_key(), FOREIGN), "CSR_NAME_FOREIGN"),
    "one name more": (lambda scene: csr_for(p256_key(), uri_of(TAX), FOREIGN), "CSR_NAME_FOREIGN"),
    "a host": (lambda scene: csr_for(p256_key(), names=[x509.DNSName("tax.example")]), "CSR_NAME_FOREIGN"),
    "RSA 2048": (lambda scene: csr_for(rsa.generate_private_key(65537, 2048)), "KEY_UNACCEPTABLE"),
    "P-521": (lambda scene: csr_for(ec.generate_private_key(ec.SECP521R1())), "KEY_UNACCEPTABLE"),
    "Ed25519": (lambda scene: csr_for(ed25519.Ed25519PrivateKey.generate()), "KEY_UNACCEPTABLE"),
    "an authority's": (lambda scene: csr_for(scene.hierarchy.agency.key), "KEY_UNACCEPTABLE"),
    "the root's": (lambda scene: csr_for(scene.hierarchy.root.key), "KEY_UNACCEPTABLE"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_signing_request_is_refused_and_the_token_stays(scene: IssuerScene, case: str) -> None:
    make, reason = BAD[case]
    token, before = scene.enrol(TAX), scene.rows("SELECT count(*) FROM applications")
    refusal = refused(scene.door.Enrol, enrol_request(token, make(scene)))
    assert refusal.reason == reason
    assert set(refusal.messages) == {"en", "vi"}
    assert scene.rows("SELECT count(*) FROM applications") == before
    assert not status(scene, token).HasField("application")
    assert scene.door.Enrol(enrol_request(token, csr_for(p256_key()))).application.state == ISSUED


def test_a_blocked_key_gets_no_certificate(scene: IssuerScene) -> None:
    token, key = scene.enrol(TAX), p256_key()
    csr = csr_for(key)
    with scene.issuer.house.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO blocked_keys (key_id, block_time, blocker) VALUES (%s, now(), 'lan')",
            (key_id(key.public_key()),),
        )
    assert refused(scene.door.Enrol, enrol_request(token, csr)).reason == "KEY_BLOCKED"
    assert not status(scene, token).HasField("application")


def test_the_same_request_again_gets_the_same_certificate(scene: IssuerScene) -> None:
    request = enrol_request(scene.enrol(TAX), csr_for(p256_key()))
    first, again = scene.door.Enrol(request), scene.door.Enrol(request)
    assert again.certificate.certificate_chain == first.certificate.certificate_chain
    assert len(scene.recorded(ENROL, first.certificate.serial_number)) == 1


def test_a_token_is_used_once(scene: IssuerScene) -> None:
    token = scene.enrol(TAX)
    first = enrol_request(token, csr_for(p256_key()))
    scene.door.Enrol(first)
    assert refused(scene.door.Enrol, enrol_request(token, csr_for(p256_key()))).reason == "TOKEN_USED"
    altered = enrol_request(token, csr_for(p256_key()), first.request_id)
    assert refused(scene.door.Enrol, altered).reason == "REQUEST_ID_REUSED"
    assert refused(scene.door.Enrol, enrol_request(token, first.csr)).reason == "TOKEN_USED"


def test_of_two_who_bring_a_token_at_once_one_gets_a_certificate(scene: IssuerScene) -> None:
    token = scene.enrol(TAX)
    requests = [enrol_request(token, csr_for(p256_key())) for _ in range(6)]

    def bring(request: door_pb2.EnrolRequest) -> str:
        try:
            return scene.door.Enrol(request, timeout=20).certificate.serial_number
        except grpc.RpcError:  # which, is asked below
            return ""

    with ThreadPoolExecutor(6) as pool:
        serials = list(pool.map(bring, requests))
    assert len(list(filter(None, serials))) == 1
    losers = [request for request, serial in zip(requests, serials, strict=True) if not serial]
    assert {refused(scene.door.Enrol, request).reason for request in losers} == {"TOKEN_USED"}


def test_the_same_request_twice_at_once_gets_one_certificate(scene: IssuerScene) -> None:
    request = enrol_request(scene.enrol(TAX), csr_for(p256_key()))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: scene.door.Enrol(request, timeout=20), range(4)))
    assert len({answer.certificate.serial_number for answer in answers}) == 1
    of_key = "SELECT count(*) FROM certificates WHERE key_id = :key AND der IS NOT NULL"
    assert scene.rows(of_key, key=answers[0].certificate.key_id) == [(1,)]


def test_tokens_that_are_unknown_cancelled_or_late_open_nothing(scene: IssuerScene) -> None:
    csr = csr_for(p256_key())
    assert refused(scene.door.Enrol, enrol_request("no such token", csr)).reason == "TOKEN_UNKNOWN"
    unknown = door_pb2.GetApplicationStatusRequest(token="no such token")
    assert refused(scene.door.GetApplicationStatus, unknown).reason == "TOKEN_UNKNOWN"
    token = "a token that is cancelled"
    enrolment = scene.enrolments().CreateEnrolment(scene.enrolment(TAX, token)).enrolment
    cancel = enrolment_pb2.CancelEnrolmentRequest(request_id=new_id(), enrolment_id=enrolment.enrolment_id)
    cancelled = scene.enrolments().CancelEnrolment(cancel).enrolment
    assert cancelled.state == enrolment_pb2.ENROLMENT_STATE_CANCELLED
    assert refused(scene.door.Enrol, enrol_request(token, csr)).reason == "TOKEN_UNKNOWN"
    assert scene.recorded(CANCEL, enrolment.enrolment_id)
    late = scene.enrolment(TAX, "a late token")
    late.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=1))
    scene.enrolments().CreateEnrolment(late)
    wait_until(lambda: datetime.now(UTC) > late.expire_time.ToDatetime(UTC))
    refusal = refused(scene.door.Enrol, enrol_request("a late token", csr))
    assert (refusal.reason, list(refusal.metadata)) == ("TOKEN_EXPIRED", ["expire_time"])


def test_a_token_goes_nowhere_else(scene: IssuerScene, capfd: pytest.CaptureFixture[str]) -> None:
    token = scene.enrol(TAX)
    answer = scene.door.Enrol(enrol_request(token, csr_for(p256_key())))
    said = refused(scene.door.Enrol, enrol_request(token, csr_for(p256_key())))
    tables = [name for (name,) in scene.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    stored = "".join(str(scene.rows(f"SELECT t::text FROM {name} t")) for name in tables)  # noqa: S608 - names of tables
    told = "".join(map(str, [*scene.issuer.entries(), *scene.registry.entries(), *capfd.readouterr()]))
    for text in (stored, told, str(said), str(answer)):
        assert token not in text
        assert token.encode().hex() not in text


def test_the_token_of_a_suspended_system_waits_for_a_second_person(scene: IssuerScene) -> None:
    token = scene.enrol("health/core")
    answer = scene.door.Enrol(enrol_request(token, csr_for(p256_key())))
    application_id = answer.application.application_id
    assert (answer.application.state, answer.HasField("certificate")) == (PENDING, False)
    with pytest.raises(grpc.RpcError) as raised:
        scene.approve(application_id, operator="lan")  # who enrolled it
    assert refusal_of(raised.value).reason == "APPROVER_IS_REQUESTER"
    assert status(scene, token).application.state == PENDING
    scene.approve(application_id)
    wait_until(lambda: status(scene, token).application.state == ISSUED)
    shown = status(scene, token)
    assert shown.certificate.identity == uri_of("health/core")
    assert scene.recorded("/npd.issuer.v1.CertificateService/ApplyForCertificate", shown.certificate.serial_number)


def refusals_of_enrolments(scene: IssuerScene) -> dict[str, tuple[enrolment_pb2.CreateEnrolmentRequest, str]]:
    """Enrolments that are not made."""
    far, past = scene.enrolment(TAX, "far"), scene.enrolment(TAX, "past")
    far.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=31))
    past.expire_time.FromDatetime(datetime.now(UTC) - timedelta(minutes=1))
    return {
        "no such system": (scene.enrolment("tax/other", "t1"), "SYSTEM_UNKNOWN"),
        "short digest": (scene.enrolment(TAX, "t2", token_digest=b"short"), "FIELD_INVALID"),
        "malformed agency": (scene.enrolment("Tax/core", "t3"), "FIELD_INVALID"),
        "no profile": (scene.enrolment(TAX, "t4", profile=0), "FIELD_REQUIRED"),
        "unknown profile": (scene.enrolment(TAX, "t5", profile=77), "PROFILE_NOT_ENTITLED"),
        "too far": (far, "FIELD_INVALID"),
        "past": (past, "FIELD_INVALID"),
    }


def test_enrolments_that_are_not_made(scene: IssuerScene) -> None:
    for case, (request, reason) in refusals_of_enrolments(scene).items():
        assert refused(scene.enrolments().CreateEnrolment, request).reason == reason, case
    wait_until(lambda: {one.reason for one in scene.refusals(CREATE)} >= {"SYSTEM_UNKNOWN", "FIELD_INVALID"})
    used = scene.enrolment(TAX, "the same token")
    scene.enrolments().CreateEnrolment(used)
    again = scene.enrolment(TAX, "the same token")
    assert refused(scene.enrolments().CreateEnrolment, again).reason == "ALREADY_REGISTERED"


def test_an_agency_enrols_nobody(scene: IssuerScene) -> None:
    stub = type(scene.enrolments())(scene.issuer.channel(Kind.AGENCY, TAX))
    assert refused(stub.CreateEnrolment, scene.enrolment(TAX, "mine")).reason == "METHOD_NOT_ALLOWED"


def test_a_used_enrolment_cannot_be_cancelled_and_an_unknown_one_neither(scene: IssuerScene) -> None:
    token = "a token that is used"
    enrolment = scene.enrolments().CreateEnrolment(scene.enrolment(TAX, token)).enrolment
    scene.door.Enrol(enrol_request(token, csr_for(p256_key())))
    cancel = enrolment_pb2.CancelEnrolmentRequest(request_id=new_id(), enrolment_id=enrolment.enrolment_id)
    assert refused(scene.enrolments().CancelEnrolment, cancel).reason == "TOKEN_USED"
    nobody = enrolment_pb2.CancelEnrolmentRequest(request_id=new_id(), enrolment_id=new_id())
    assert refused(scene.enrolments().CancelEnrolment, nobody).reason == "TOKEN_UNKNOWN"


def test_enrolments_are_listed_newest_first_by_pages(scene: IssuerScene) -> None:
    scene.register("post/core")
    for _ in range(3):
        scene.enrol("post/core", profile=CLIENT_TLS)
    seen: list[enrolment_pb2.Enrolment] = []
    token = ""
    while True:
        request = enrolment_pb2.ListEnrolmentsRequest(agency_id="post", page_size=2, page_token=token)
        page = scene.enrolments().ListEnrolments(request)
        seen += page.enrolments
        token = page.next_page_token
        if not token:
            break
    assert [one.identity for one in seen] == [uri_of("post/core")] * 3
    times = [one.create_time.ToDatetime(UTC) for one in seen]
    assert times == sorted(times, reverse=True)
    bad = enrolment_pb2.ListEnrolmentsRequest(page_token="bm8=")
    assert refused(scene.enrolments().ListEnrolments, bad).reason == "PAGE_TOKEN_INVALID"
