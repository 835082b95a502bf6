"""The inventory: shown, listed by what is wanted, reported before it expires; an agency sees its own alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import Gauge
from prometheus_client.samples import Sample
from sqlalchemy import insert

from npd.issuer.v1 import certificate_pb2
from npd.registry.v1 import agency_pb2
from npd_pki.identity import Kind
from services.issuer import metrics
from services.issuer.metrics import Measurement
from services.issuer.tables import CERTIFICATES
from tests.issuer_fixture import IssuerScene, p256_key, uri_of
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until
from tests.rpc.test_issuer_revocation import SUPERSEDED, enrolled, revocation
from tests.rpc.test_issuer_revocation_lists import agency_key_id, office_of

DAY = timedelta(days=1)
GET = "/npd.issuer.v1.CertificateService/GetCertificate"
STATES = certificate_pb2.CertificateState


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    for name in ("tax/core", "tax/kiosk", "moh/core"):
        desk.register(name)
    request = agency_pb2.SetAgencyContactRequest(request_id=new_id(), agency_id="tax", contact="pki@tax.example")
    desk.agencies.SetAgencyContact(request)
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))


def put(scene: IssuerScene, number: int, name: str, end: timedelta, **other: Any) -> str:
    """A certificate of a system as the store knows it; its serial number."""
    agency_id, _, system_id = name.partition("/")
    now = datetime.now(UTC)
    row = {
        "issuer_key_id": agency_key_id(scene),
        "serial_number": f"{(1 << 100) + number:x}",
        "identity": uri_of(name) if "/" in name else f"spiffe://operator.test.npd.example/{name}",
        "agency_id": agency_id if system_id else "",
        "system_id": system_id,
        "profile": "CLIENT_TLS",
        "key_id": f"{number:064x}",
        "start_time": now - 90 * DAY,
        "expire_time": now + end,
        "intent_time": now - 90 * DAY,
        "der": b"\x30\x00",
        **other,
    }
    with scene.issuer.house.engine.begin() as connection:
        connection.execute(insert(CERTIFICATES), row)
    return f"{(1 << 100) + number:x}"


def samples(gauge: Gauge) -> list[Sample]:
    """What a gauge shows."""
    return [sample for metric in gauge.collect() for sample in metric.samples]


def lister(scene: IssuerScene, kind: Kind = Kind.OPERATOR, name: str = "lan") -> Any:
    """Lists the serial numbers of what is wanted."""
    stub = scene.certificates(kind, name)

    def serial_numbers(**wanted: Any) -> list[str]:
        request = certificate_pb2.ListCertificatesRequest(page_size=1000, **wanted)
        return [one.serial_number for one in stub.ListCertificates(request).certificates]

    return serial_numbers


def test_certificate_is_shown_with_its_chain_to_its_agency_alone(scene: IssuerScene) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    request = certificate_pb2.GetCertificateRequest(
        issuer_key_id=certificate.issuer_key_id, serial_number=certificate.serial_number
    )
    for kind, name in ((Kind.OPERATOR, "minh"), (Kind.AGENCY, "tax/core"), (Kind.AGENCY, "tax/kiosk")):
        found = scene.certificates(kind, name).GetCertificate(request).certificate
        assert found == certificate, name
        assert found.certificate_chain.count(b"BEGIN CERTIFICATE") == 2
    assert refused(scene.certificates(Kind.AGENCY, "moh/core").GetCertificate, request).reason == "CERTIFICATE_UNKNOWN"
    assert [one.reason for one in scene.refusals(GET)] == ["CERTIFICATE_UNKNOWN"]


def test_certificates_are_listed_by_what_is_wanted_soonest_first(scene: IssuerScene) -> None:
    for name in ("zz/one", "zz/two"):
        scene.desk.register(name)
    later = put(scene, 1, "zz/one", 20 * DAY)
    sooner = put(scene, 2, "zz/one", 10 * DAY)
    other = put(scene, 3, "zz/two", 40 * DAY)
    expired = put(scene, 4, "zz/two", -1 * DAY)
    intended = put(scene, 5, "zz/two", 50 * DAY, der=None)
    revoked = put(scene, 6, "zz/two", 60 * DAY, revoke_time=datetime.now(UTC), revocation_reason="SUPERSEDED")
    listed = lister(scene)
    assert listed(agency_id="zz") == [expired, sooner, later, other, intended, revoked]
    assert listed(agency_id="zz", system_id="one") == [sooner, later]
    assert listed(identity=uri_of("zz/one")) == [sooner, later]
    within = Duration(seconds=30 * 86_400)
    assert listed(agency_id="zz", expires_within=within) == [sooner, later], "what has expired is not to expire"
    for state, expected in (
        (STATES.CERTIFICATE_STATE_ISSUED, [sooner, later, other]),
        (STATES.CERTIFICATE_STATE_EXPIRED, [expired]),
        (STATES.CERTIFICATE_STATE_INTENT, [intended]),
        (STATES.CERTIFICATE_STATE_REVOKED, [revoked]),
    ):
        assert listed(agency_id="zz", state=state) == expected, state
        request = certificate_pb2.ListCertificatesRequest(agency_id="zz", state=state)
        found = scene.certificates(Kind.OPERATOR, "lan").ListCertificates(request).certificates
        assert [one.state for one in found] == [state] * len(expected)
    assert listed(agency_id="zz", issuer_key_id="0" * 64) == []


def test_pages_follow_on_each_other(scene: IssuerScene) -> None:
    numbers = [put(scene, 100 + number, "zz-pages/one", 5 * DAY) for number in range(7)]
    stub, token, seen = scene.certificates(Kind.OPERATOR, "lan"), "", []
    for expected in (3, 3, 1):
        request = certificate_pb2.ListCertificatesRequest(agency_id="zz-pages", page_size=3, page_token=token)
        answer = stub.ListCertificates(request)
        assert len(answer.certificates) == expected
        assert [one.certificate_chain for one in answer.certificates] == [b""] * expected
        seen += [one.serial_number for one in answer.certificates]
        token = answer.next_page_token
    assert (sorted(seen), token) == (sorted(numbers), "")
    for bad in ("eA==", "\u00e9", "MjAyNgpiCmM="):
        request = certificate_pb2.ListCertificatesRequest(page_token=bad)
        assert refused(stub.ListCertificates, request).reason == "PAGE_TOKEN_INVALID"
    for broken in ({"page_size": 1001}, {"page_size": -1}, {"state": 9}, {"expires_within": Duration(seconds=-1)}):
        assert refused(stub.ListCertificates, certificate_pb2.ListCertificatesRequest(**broken)).reason == (
            "FIELD_INVALID"
        )


def test_agency_lists_its_own_alone(scene: IssuerScene) -> None:
    mine, foreign = put(scene, 200, "tax/core", 200 * DAY), put(scene, 201, "moh/core", 201 * DAY)
    own = lister(scene, Kind.AGENCY, "tax/core")
    assert mine in own()
    assert foreign not in own()
    assert own(identity=uri_of("moh/core")) == []
    stub = scene.certificates(Kind.AGENCY, "tax/core")
    refusal = refused(stub.ListCertificates, certificate_pb2.ListCertificatesRequest(agency_id="moh"))
    assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "agency")
    assert scene.issuer.entries()[-1].reason == "METHOD_NOT_ALLOWED"


def test_report_names_what_expires_soon_and_was_not_renewed_with_its_contact(scene: IssuerScene) -> None:
    put(scene, 300, "tax/core", 3 * DAY)
    enrolled(scene, "tax/core", p256_key())  # its successor
    alone = put(scene, 301, "tax/kiosk", 12 * DAY)
    signing = put(scene, 302, "tax/core", 4 * DAY, profile="SIGNING")
    operator = put(scene, 303, "hoa", 6 * DAY)
    put(scene, 304, "tax/gone", 5 * DAY, revoke_time=datetime.now(UTC), revocation_reason="SUPERSEDED")
    put(scene, 305, "tax/over", -1 * DAY)
    put(scene, 306, "tax/meant", 5 * DAY, der=None)
    stub = scene.certificates(Kind.OPERATOR, "lan")
    found = {one.agency_id: one for one in stub.ReportExpiring(certificate_pb2.ReportExpiringRequest()).agencies}
    assert list(found) == sorted(found)
    tax = found["tax"]
    assert (tax.agency_name, tax.contact) == ("Agency tax", "pki@tax.example")
    assert [one.serial_number for one in tax.certificates] == [signing, alone]
    assert operator in {one.serial_number for one in found[""].certificates}
    assert (found[""].agency_name, found[""].contact) == ("", "")
    sooner = certificate_pb2.ReportExpiringRequest(within=Duration(seconds=5 * 86_400))
    (only,) = (one for one in stub.ReportExpiring(sooner).agencies if one.agency_id == "tax")
    assert [one.serial_number for one in only.certificates] == [signing]
    for seconds in (0, -1):
        request = certificate_pb2.ReportExpiringRequest(within=Duration(seconds=seconds))
        assert refused(stub.ReportExpiring, request).reason == "FIELD_INVALID"
    agency = scene.certificates(Kind.AGENCY, "tax/core")
    assert refused(agency.ReportExpiring, certificate_pb2.ReportExpiringRequest()).reason == "METHOD_NOT_ALLOWED"


def test_successor_that_was_revoked_replaces_nothing(scene: IssuerScene) -> None:
    scene.desk.register("zz-revoked/core")
    scene.stage.settle()
    ends = put(scene, 400, "zz-revoked/core", 3 * DAY)
    successor = enrolled(scene, "zz-revoked/core", p256_key())
    scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(successor, SUPERSEDED))
    answer = scene.certificates(Kind.OPERATOR, "lan").ReportExpiring(certificate_pb2.ReportExpiringRequest())
    (found,) = (one for one in answer.agencies if one.agency_id == "zz-revoked")
    assert [one.serial_number for one in found.certificates] == [ends]


def test_metrics_tell_what_expires_first(scene: IssuerScene) -> None:
    put(scene, 500, "zz-first/core", timedelta(hours=1))
    wait_until(lambda: scene.rows("SELECT count(*) FROM revocation_lists") == [(2,)])
    now = datetime.now(UTC)
    Measurement(office_of(scene)).measure(now)
    (end,) = (
        sample.value for sample in samples(metrics.SOONEST_EXPIRE_TIME) if sample.labels == {"profile": "CLIENT_TLS"}
    )
    assert abs(end - (now + timedelta(hours=1)).timestamp()) < 60
    counts = {sample.labels["state"]: sample.value for sample in samples(metrics.CERTIFICATES)}
    assert counts["ISSUED"] > 0
    authorities = samples(metrics.AUTHORITY_EXPIRE_TIME)
    assert {sample.labels["state"] for sample in authorities} == {"ACTIVE"}
    assert {sample.labels["host"] for sample in authorities} == {
        "agency.test.npd.example",
        "operator.test.npd.example",
    }
    lists = samples(metrics.REVOCATION_LIST_NEXT_TIME)
    assert all(sample.value > now.timestamp() for sample in lists)
    assert len(lists) == 2
