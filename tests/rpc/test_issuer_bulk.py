"""Revoking many at once: exactly one selector, nothing done without `execute`, and ten thousand in one act."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import insert

from npd.issuer.v1 import certificate_pb2
from npd_pki.identity import Kind
from services.issuer.tables import CERTIFICATES
from tests.issuer_fixture import IssuerScene, p256_key, uri_of
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until
from tests.rpc.test_issuer_revocation import KEY_COMPROMISE, REVOKED, SUPERSEDED, WITHDRAWN, enrolled, key_id_of, shown

REVOKE_MANY = "/npd.issuer.v1.CertificateService/RevokeCertificates"
ISSUED = certificate_pb2.CERTIFICATE_STATE_ISSUED
MANY = 10_000


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    for name in ("tax/core", "moh/core", "bank/core"):
        desk.register(name)
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))


def many(scene: IssuerScene, request: certificate_pb2.RevokeCertificatesRequest) -> Any:
    return scene.certificates(Kind.OPERATOR, "lan").RevokeCertificates(request, timeout=30)


def selected(**named: Any) -> certificate_pb2.RevokeCertificatesRequest:
    return certificate_pb2.RevokeCertificatesRequest(**{"request_id": new_id(), "reason": WITHDRAWN, **named})


def put_many(scene: IssuerScene, agency_id: str, **other: Any) -> None:
    """Certificates of an agency as the store knows them."""
    now = datetime.now(UTC)
    rows = [
        {
            "issuer_key_id": scene.hierarchy.agency.key_id,
            "serial_number": f"{(1 << 128) + number:x}",
            "identity": f"spiffe://agency.test.npd.example/{agency_id}/s{number}",
            "agency_id": agency_id,
            "system_id": f"s{number}",
            "profile": "CLIENT_TLS",
            "key_id": f"{number:064x}",
            "start_time": now,
            "expire_time": now + timedelta(days=90),
            "intent_time": now,
            "der": b"\x30\x00",
            **other,
        }
        for number in range(MANY)
    ]
    with scene.issuer.house.engine.begin() as connection:
        connection.execute(insert(CERTIFICATES), rows)


def test_dry_run_says_what_would_be_revoked_and_does_nothing(scene: IssuerScene) -> None:
    held = [enrolled(scene, "moh/core", p256_key()) for _ in range(2)]
    request = selected(agency_id="moh")
    answer = many(scene, request)
    assert (answer.certificate_count, answer.is_executed) == (2, False)
    assert {one.serial_number for one in answer.certificates} == {one.serial_number for one in held}
    assert {one.state for one in answer.certificates} == {ISSUED}
    assert [shown(scene, one).state for one in held] == [ISSUED, ISSUED]
    assert scene.recorded(REVOKE_MANY) == []
    done = many(scene, selected(agency_id="moh", execute=True))
    assert (done.certificate_count, done.is_executed) == (2, True)
    assert {one.state for one in done.certificates} == {REVOKED}
    assert [shown(scene, one).revocation_reason for one in held] == [WITHDRAWN, WITHDRAWN]
    (entry,) = scene.recorded(REVOKE_MANY)
    assert entry.object.startswith("2 certificates, the first certificate ")
    assert many(scene, selected(agency_id="moh", execute=True)).certificate_count == 0, "those are revoked already"
    assert many(scene, request) == answer, "a repeat returns the first answer"


def test_each_selector_names_its_own(scene: IssuerScene) -> None:
    key = p256_key()
    held = [enrolled(scene, "tax/core", key), enrolled(scene, "bank/core", p256_key())]
    for named, expected in (
        ({"identity": uri_of("tax/core")}, {held[0].serial_number}),
        ({"key_id": key_id_of(key)}, {held[0].serial_number}),
        ({"agency_id": "bank"}, {held[1].serial_number}),
        ({"orphaned_intents": True}, set()),
    ):
        answer = many(scene, selected(**named))
        assert {one.serial_number for one in answer.certificates} == expected, named
    of_issuer = many(scene, selected(issuer_key_id=scene.hierarchy.agency.key_id))
    assert {one.serial_number for one in held} <= {one.serial_number for one in of_issuer.certificates}


def test_only_intents_older_than_an_hour_are_orphaned(scene: IssuerScene) -> None:
    fresh, old = (enrolled(scene, "bank/core", p256_key()) for _ in range(2))
    for certificate, hours in ((fresh, 0), (old, 2)):
        scene.rows(
            "UPDATE certificates SET der = NULL, intent_time = :at WHERE serial_number = :n RETURNING 1",
            at=datetime.now(UTC) - timedelta(hours=hours),
            n=certificate.serial_number,
        )
    answer = many(scene, selected(orphaned_intents=True, execute=True))
    assert [one.serial_number for one in answer.certificates] == [old.serial_number]
    assert shown(scene, fresh).state == certificate_pb2.CERTIFICATE_STATE_INTENT


def test_compromised_keys_are_blocked_and_their_siblings_elsewhere_revoked(scene: IssuerScene) -> None:
    key, unused = p256_key(), p256_key()
    first, sibling = enrolled(scene, "bank/core", key), enrolled(scene, "tax/core", key)
    request = selected(identity=uri_of("bank/core"), reason=KEY_COMPROMISE)
    would = {one.serial_number for one in many(scene, request).certificates}
    assert {first.serial_number, sibling.serial_number} <= would
    done = many(scene, selected(identity=uri_of("bank/core"), reason=KEY_COMPROMISE, execute=True))
    assert {one.serial_number for one in done.certificates} == would
    assert shown(scene, sibling).revocation_reason == KEY_COMPROMISE
    many(scene, selected(key_id=key_id_of(unused), reason=KEY_COMPROMISE, execute=True))
    blocked = {row[0] for row in scene.rows("SELECT key_id FROM blocked_keys")}
    assert {key_id_of(key), key_id_of(unused)} <= blocked, "one that was never certified is blocked, too"


@pytest.fixture(scope="module")
def crowd(scene: IssuerScene) -> str:
    """An agency with ten thousand certificates, which end in 90 days."""
    put_many(scene, "crowd")
    return "crowd"


def test_report_says_that_more_expires_than_it_names(scene: IssuerScene, crowd: str) -> None:
    stub = scene.certificates(Kind.OPERATOR, "lan")
    answer = stub.ReportExpiring(certificate_pb2.ReportExpiringRequest(within=Duration(seconds=100 * 86_400)))
    assert answer.is_partial
    assert sum(len(one.certificates) for one in answer.agencies) == 5000
    assert not stub.ReportExpiring(certificate_pb2.ReportExpiringRequest()).is_partial


def test_ten_thousand_are_revoked_in_one_act_and_told_in_portions(scene: IssuerScene, crowd: str) -> None:
    before = len(scene.recorded(REVOKE_MANY))
    answer = many(scene, selected(agency_id=crowd, reason=KEY_COMPROMISE, execute=True))
    assert (answer.certificate_count, len(answer.certificates)) == (MANY, 1000)
    query = "SELECT count(*) FROM certificates WHERE agency_id = 'crowd' AND revocation_reason = 'KEY_COMPROMISE'"
    assert scene.rows(query) == [(MANY,)]
    told = scene.recorded(REVOKE_MANY)[before:]
    assert [entry.object.split()[0] for entry in told] == ["500"] * (MANY // 500)
    wait_until(lambda: sum(1 for name in scene.issuer.house.keeper.current.revoked if len(name[1]) == 33) >= MANY, 30)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"agency_id": ""},
        {"identity": ""},
        {"identity": "tax/core"},
        {"key_id": "abc"},
        {"issuer_key_id": ""},
        {"orphaned_intents": False},
        {"agency_id": "TAX"},
        {"agency_id": "tax", "reason": 77},
    ],
)
def test_anything_but_one_selector_is_refused(scene: IssuerScene, named: dict[str, Any]) -> None:
    stub = scene.certificates(Kind.OPERATOR, "lan")
    assert refused(stub.RevokeCertificates, selected(execute=True, **named)).reason == "FIELD_INVALID"
    assert scene.issuer.entries()[-1].reason == "FIELD_INVALID"


def test_revoking_many_is_for_operators(scene: IssuerScene) -> None:
    stub = scene.certificates(Kind.AGENCY, "tax/core")
    request = selected(agency_id="tax", reason=SUPERSEDED, execute=True)
    assert refused(stub.RevokeCertificates, request).reason == "METHOD_NOT_ALLOWED"
