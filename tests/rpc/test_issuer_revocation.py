"""Revocation at the issuer: who may revoke what, what goes with it, and that it counts everywhere at once."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import Outcome
from npd.issuer.v1 import certificate_pb2, door_pb2
from npd.registry.v1 import revocation_pb2, rights_pb2, rights_pb2_grpc
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from npd_pki.identity import Kind
from services.sharing.app import ROOM as SHARING
from tests.issuer_fixture import IssuerScene, Key, csr_for, p256_key, write_tls
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until

REVOKE = "/npd.issuer.v1.CertificateService/RevokeCertificate"
KEY_COMPROMISE = revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE
SUPERSEDED = revocation_pb2.REVOCATION_REASON_SUPERSEDED
WITHDRAWN = revocation_pb2.REVOCATION_REASON_PRIVILEGE_WITHDRAWN
CESSATION = revocation_pb2.REVOCATION_REASON_CESSATION_OF_OPERATION
REVOKED = certificate_pb2.CERTIFICATE_STATE_REVOKED
INTENT = certificate_pb2.CERTIFICATE_STATE_INTENT


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    for name in ("tax/core", "moh/core"):
        desk.register(name, officers=["o-1"])
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))


def enrolled(scene: IssuerScene, name: str, key: Key) -> certificate_pb2.Certificate:
    """A fresh certificate of a system, enrolled at the door."""
    request = door_pb2.EnrolRequest(request_id=new_id(), token=scene.enrol(name), csr=csr_for(key))
    answer = scene.door.Enrol(request)
    assert answer.certificate.serial_number
    return answer.certificate


def revocation(
    certificate: certificate_pb2.Certificate, reason: "revocation_pb2.RevocationReason.ValueType"
) -> certificate_pb2.RevokeCertificateRequest:
    return certificate_pb2.RevokeCertificateRequest(
        request_id=new_id(),
        issuer_key_id=certificate.issuer_key_id,
        serial_number=certificate.serial_number,
        reason=reason,
    )


def shown(scene: IssuerScene, certificate: certificate_pb2.Certificate) -> certificate_pb2.Certificate:
    request = certificate_pb2.GetCertificateRequest(
        issuer_key_id=certificate.issuer_key_id, serial_number=certificate.serial_number
    )
    return scene.certificates(Kind.OPERATOR, "lan").GetCertificate(request).certificate


def is_revoked_in_policy(room: Running, certificate: certificate_pb2.Certificate) -> bool:
    return (certificate.issuer_key_id, certificate.serial_number) in room.house.keeper.current.revoked


def key_id_of(key: Key) -> str:
    return sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def test_revoked_certificate_is_recorded_and_told_to_all_rooms(scene: IssuerScene) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    answer = scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(certificate, WITHDRAWN))
    (revoked,) = answer.certificates
    assert (revoked.serial_number, revoked.state, revoked.revocation_reason) == (
        certificate.serial_number,
        REVOKED,
        WITHDRAWN,
    )
    (entry,) = scene.recorded(REVOKE, certificate.serial_number)
    assert entry.outcome == Outcome.OUTCOME_DONE
    assert "(PRIVILEGE_WITHDRAWN), by spiffe://operator.test.npd.example/lan, at " in entry.object
    wait_until(lambda: is_revoked_in_policy(scene.issuer, certificate))
    told = scene.issuer.house.keeper.current.revoked[certificate.issuer_key_id, certificate.serial_number]
    assert (told.reason, told.revoke_time) == (WITHDRAWN, revoked.revoke_time.ToDatetime(told.revoke_time.tzinfo))
    assert shown(scene, certificate).state == REVOKED


def test_open_stream_of_a_revoked_certificate_is_cut_and_its_calls_are_refused(
    stage: Stage, scene: IssuerScene, desk: Desk, tmp_path: Path
) -> None:
    sharing = stage.start(SHARING)
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["marital_status"]}
    agreement_id = desk.agree("moh/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    stage.settle()
    key = p256_key()
    certificate = enrolled(scene, "moh/core", key)
    tls = write_tls(tmp_path / "moh", certificate.certificate_chain, key, scene.hierarchy.root.certificate)
    channel, registry_channel = RotatingChannel(sharing.address, tls), RotatingChannel(scene.registry.address, tls)
    changes = change_pb2_grpc.ChangeServiceStub(channel)
    who = rights_pb2_grpc.RightsServiceStub(registry_channel)
    assert who.WhoAmI(rights_pb2.WhoAmIRequest()).identity == certificate.identity
    access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")
    watch = change_pb2.WatchChangesRequest(access=access)
    stream = changes.WatchChanges(watch, timeout=30)
    next(stream)  # a sign of life: it is open
    scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(certificate, CESSATION))
    with pytest.raises(grpc.RpcError) as cut:
        list(stream)
    assert refusal_of(cut.value).reason == "CERTIFICATE_REVOKED"
    assert refused(changes.WatchChanges, watch).reason == "CERTIFICATE_REVOKED"
    wait_until(lambda: is_revoked_in_policy(scene.registry, certificate))
    assert refused(who.WhoAmI, rights_pb2.WhoAmIRequest()).reason == "CERTIFICATE_REVOKED"
    for opened in (channel, registry_channel):
        opened.close()


def test_holder_revokes_his_own_for_his_reasons_alone(scene: IssuerScene) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    holder = scene.certificates(Kind.AGENCY, "tax/core")
    refusal = refused(holder.RevokeCertificate, revocation(certificate, WITHDRAWN))
    assert (refusal.reason, refusal.metadata["allowed"]) == (
        "REVOCATION_REASON_NOT_ALLOWED",
        "KEY_COMPROMISE, SUPERSEDED, CESSATION_OF_OPERATION",
    )
    assert scene.issuer.entries()[-1].reason == "REVOCATION_REASON_NOT_ALLOWED"
    stranger = scene.certificates(Kind.AGENCY, "moh/core")
    assert refused(stranger.RevokeCertificate, revocation(certificate, SUPERSEDED)).reason == "CERTIFICATE_UNKNOWN"
    assert scene.issuer.entries()[-1].reason == "CERTIFICATE_UNKNOWN"
    assert scene.recorded(REVOKE, certificate.serial_number) == []
    (revoked,) = holder.RevokeCertificate(revocation(certificate, SUPERSEDED)).certificates
    assert revoked.revocation_reason == SUPERSEDED
    (entry,) = scene.recorded(REVOKE, certificate.serial_number)
    assert ", by spiffe://agency.test.npd.example/tax/core, at " in entry.object


def test_revoking_again_changes_nothing(scene: IssuerScene) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    lan, request = scene.certificates(Kind.OPERATOR, "lan"), revocation(certificate, SUPERSEDED)
    first = lan.RevokeCertificate(request)
    assert lan.RevokeCertificate(request) == first, "a repeat returns the first answer"
    again = lan.RevokeCertificate(revocation(certificate, WITHDRAWN)).certificates
    assert [one.revocation_reason for one in again] == [SUPERSEDED]
    assert again[0].revoke_time == first.certificates[0].revoke_time
    assert len(scene.recorded(REVOKE, certificate.serial_number)) == 1
    other = revocation(certificate, WITHDRAWN)
    other.request_id = request.request_id
    assert refused(lan.RevokeCertificate, other).reason == "REQUEST_ID_REUSED"


def test_compromised_key_is_blocked_and_takes_its_siblings_along_whoever_holds_them(scene: IssuerScene) -> None:
    key = p256_key()
    first, sibling = enrolled(scene, "tax/core", key), enrolled(scene, "moh/core", key)
    other = enrolled(scene, "moh/core", p256_key())
    revoked = scene.certificates(Kind.AGENCY, "tax/core").RevokeCertificate(revocation(first, KEY_COMPROMISE))
    assert [one.serial_number for one in revoked.certificates] == [first.serial_number, sibling.serial_number]
    assert shown(scene, sibling).revocation_reason == KEY_COMPROMISE
    assert shown(scene, other).state == certificate_pb2.CERTIFICATE_STATE_ISSUED
    wait_until(lambda: is_revoked_in_policy(scene.issuer, sibling))
    assert scene.rows("SELECT blocker FROM blocked_keys WHERE key_id = :id", id=key_id_of(key)) == [
        ("spiffe://agency.test.npd.example/tax/core",)
    ]
    request = door_pb2.EnrolRequest(request_id=new_id(), token=scene.enrol("tax/core"), csr=csr_for(key))
    assert refused(scene.door.Enrol, request).reason == "KEY_BLOCKED"


def test_key_of_a_superseded_certificate_that_turns_out_compromised_is_blocked_all_the_same(
    scene: IssuerScene,
) -> None:
    key = p256_key()
    first, sibling = enrolled(scene, "tax/core", key), enrolled(scene, "tax/core", key)
    lan = scene.certificates(Kind.OPERATOR, "lan")
    lan.RevokeCertificate(revocation(first, SUPERSEDED))
    revoked = lan.RevokeCertificate(revocation(first, KEY_COMPROMISE)).certificates
    assert [(one.serial_number, one.revocation_reason) for one in revoked] == [
        (first.serial_number, SUPERSEDED),
        (sibling.serial_number, KEY_COMPROMISE),
    ]
    assert scene.rows("SELECT count(*) FROM blocked_keys WHERE key_id = :id", id=key_id_of(key)) == [(1,)]


def test_intent_without_a_result_can_be_revoked(scene: IssuerScene) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    scene.rows("UPDATE certificates SET der = NULL WHERE serial_number = :n RETURNING 1", n=certificate.serial_number)
    assert shown(scene, certificate).state == INTENT
    lan = scene.certificates(Kind.OPERATOR, "lan")
    (revoked,) = lan.RevokeCertificate(revocation(certificate, SUPERSEDED)).certificates
    assert revoked.state == REVOKED
    wait_until(lambda: is_revoked_in_policy(scene.issuer, certificate))


def test_expired_certificate_is_not_revoked_but_its_compromised_key_is_blocked(scene: IssuerScene) -> None:
    key = p256_key()
    expired, sibling = enrolled(scene, "tax/core", key), enrolled(scene, "tax/core", key)
    scene.rows(
        "UPDATE certificates SET expire_time = now() - interval '1 day' WHERE serial_number = :n RETURNING 1",
        n=expired.serial_number,
    )
    lan = scene.certificates(Kind.OPERATOR, "lan")
    refusal = refused(lan.RevokeCertificate, revocation(expired, SUPERSEDED))
    assert (refusal.reason, refusal.metadata["state"]) == ("STATE_NOT_ALLOWED", "EXPIRED")
    assert scene.recorded(REVOKE, expired.serial_number) == []
    revoked = lan.RevokeCertificate(revocation(expired, KEY_COMPROMISE)).certificates
    assert [(one.serial_number, one.state) for one in revoked] == [
        (expired.serial_number, certificate_pb2.CERTIFICATE_STATE_EXPIRED),
        (sibling.serial_number, REVOKED),
    ]
    assert scene.rows("SELECT count(*) FROM blocked_keys WHERE key_id = :id", id=key_id_of(key)) == [(1,)]


def test_two_who_report_the_same_key_at_once_do_not_block_each_other(scene: IssuerScene) -> None:
    key = p256_key()
    held = [enrolled(scene, "tax/core", key) for _ in range(4)]
    lan = scene.certificates(Kind.OPERATOR, "lan")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: lan.RevokeCertificate(revocation(one, KEY_COMPROMISE)), held))
    assert {one.revocation_reason for answer in answers for one in answer.certificates} == {KEY_COMPROMISE}
    assert {shown(scene, one).state for one in held} == {REVOKED}
    told = [entry for one in held for entry in scene.recorded(REVOKE, one.serial_number)]
    assert len(told) == 1, "one act told of all four"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"serial_number": "abcdef"}, "CERTIFICATE_UNKNOWN"),
        ({"issuer_key_id": "0" * 64}, "CERTIFICATE_UNKNOWN"),
        ({"serial_number": "0abc"}, "FIELD_INVALID"),
        ({"issuer_key_id": "ABC"}, "FIELD_INVALID"),
        ({"reason": 99}, "FIELD_INVALID"),
        ({"reason": 0}, "FIELD_REQUIRED"),
        ({"request_id": "no"}, "FIELD_INVALID"),
    ],
)
def test_bad_revocation_is_refused(scene: IssuerScene, broken: dict[str, object], reason: str) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    request = revocation(certificate, SUPERSEDED)
    for name, value in broken.items():
        setattr(request, name, value)
    assert refused(scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate, request).reason == reason
    assert scene.issuer.entries()[-1].reason == reason
    assert shown(scene, certificate).state == certificate_pb2.CERTIFICATE_STATE_ISSUED
