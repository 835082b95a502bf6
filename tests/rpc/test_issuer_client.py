"""npd-client and the issuer together: from the token to renewals that nobody notices; the doctor at the real door."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2, enrolment_pb2
from npd.registry.v1 import agency_pb2, revocation_pb2, revocation_pb2_grpc
from npd_client import Client, Credentials, Refusal, RotatingChannel
from npd_client.agreement import sign_terms
from npd_client.credentials import CertificateUnfit, CredentialFiles
from npd_client.diagnosis import Diagnosis, Result
from npd_client.doctor import diagnose
from npd_client.enrolment import enrol, renew_expired
from npd_client.renewal import ask_window, renew, renew_signing
from npd_client.renewer import RenewalTiming
from npd_client.store import read_bundle
from npd_pki.credentials import Credentials as Issued
from npd_pki.credentials import write_credentials
from npd_pki.identity import Kind
from npd_pki.issuance import issuer_key_id
from npd_pki.profile import CLIENT_TLS
from npd_pki.signed_bundle import sign_trust_bundle
from npd_pki.validity import Validity
from services.issuer.domain import Certificate, CertificateName, Profile
from services.issuer.repository.certificates import Certificates
from services.mesh.core.caller import key_id
from tests.issuer_fixture import ENROL, RENEW, IssuerScene, p256_key, uri_of
from tests.mesh_fixture import Desk, Running, Stage, new_id, wait_until

TAX = "tax/core"


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    """An issuer that hands a trust bundle on, and systems to enrol."""
    directory = tmp_path_factory.mktemp("issuer")
    root = stage.authority.hierarchy.root
    (directory / "bundle").write_bytes(sign_trust_bundle(root, 3, [root.certificate]))
    opened = IssuerScene(stage, registry, desk, directory, trust_bundle_file=directory / "bundle")
    for name in (TAX, "tax/revoked", "tax/suspended", "tax/expired"):
        opened.register(name)
    return opened


def enrolled(scene: IssuerScene, name: str, place: Path, **given: str) -> Path:
    """The directory of a system that came with a token."""
    roots = scene.hierarchy.root.certificate.public_bytes(Encoding.PEM)
    done = enrol(scene.door_address, scene.enrol(name), place, roots=roots, **given)  # type: ignore[arg-type]
    assert done.taken is not None
    assert (done.state, done.taken.identity) == ("ISSUED", uri_of(name))
    return place


def results(found: Diagnosis) -> dict[str, Result]:
    return {check.name: check.result for check in found.checks}


def serial_of(place: Path) -> str:
    return f"{Credentials.from_directory(place).leaf.serial_number:x}"


@pytest.mark.parametrize("key_type", ["p256", "p384", "rsa3072"])
def test_a_token_leads_to_a_certificate_that_the_mesh_takes_and_renews(
    scene: IssuerScene, tmp_path: Path, key_type: str
) -> None:
    place = enrolled(scene, TAX, tmp_path / "tax", key_type=key_type)
    assert read_bundle(place) == (scene.directory / "bundle").read_bytes()
    with RotatingChannel(scene.issuer.address, place) as channel:
        window = ask_window(channel)
        assert datetime.now(UTC) < window.start_time < window.end_time < Credentials.from_directory(place).expire_time
        before = serial_of(place)
        taken = renew(place, channel)
    assert taken.serial_number == serial_of(place) != before
    assert len(scene.recorded(ENROL, before)) == 1
    assert len(scene.recorded(RENEW, taken.serial_number)) == 1
    found = diagnose(scene.registry.address, place, door=scene.door_address)
    assert set(results(found).values()) == {Result.OK}, found


def test_a_signing_certificate_is_enrolled_and_renewed_over_the_systems_channel(
    scene: IssuerScene, tmp_path: Path
) -> None:
    tls, roots = enrolled(scene, TAX, tmp_path / "tax"), scene.hierarchy.root.certificate.public_bytes(Encoding.PEM)
    token = scene.enrol(TAX, profile=certificate_pb2.CERTIFICATE_PROFILE_SIGNING)
    signing = tmp_path / "signing"
    first = enrol(scene.door_address, token, signing, roots=roots).taken
    assert first is not None
    with RotatingChannel(scene.issuer.address, tls) as channel:
        second = renew_signing(signing, channel)
        with pytest.raises(CertificateUnfit, match="not for signing"):
            renew_signing(tls, channel)
    assert second.serial_number != first.serial_number
    assert second.expire_time - datetime.now(UTC) > timedelta(days=365)
    assert sign_terms(b"terms", signing).signature
    with pytest.raises(CertificateUnfit, match="not for TLS clients"):
        Credentials.from_directory(signing)
    assert "SIGNING" in scene.recorded(RENEW, second.serial_number)[0].object


def test_a_clients_certificate_is_renewed_while_it_calls(scene: IssuerScene, tmp_path: Path) -> None:
    """A leaf in the last sixth of its life: the window is past, so the client renews at once."""
    place, now, key = tmp_path, datetime.now(UTC), p256_key()
    validity = Validity(now - timedelta(days=29), now + timedelta(hours=5))
    issued = scene.hierarchy.agency.issue(CLIENT_TLS, uri_of(TAX), key.public_key(), validity=validity)
    write_credentials(place, Issued(issued, key, (scene.hierarchy.root.certificate,)))
    before = serial_of(place)
    addresses = {"issuer": scene.issuer.address, "registry": scene.registry.address}
    with Client(addresses, place, renewal=RenewalTiming(poll=0.1)) as client:
        while serial_of(place) == before:
            assert client.who_am_i().identity == uri_of(TAX)
        after = serial_of(place)
        wait_until(lambda: client.who_am_i().certificate_serial_number == after)
    assert len(scene.recorded(RENEW, after)) == 1


def test_the_doctor_passes_on_that_a_certificate_was_revoked(scene: IssuerScene, tmp_path: Path) -> None:
    place = enrolled(scene, "tax/revoked", tmp_path / "tax")
    own = CredentialFiles.read(place)
    authority = scene.hierarchy.agency.certificate
    stub = revocation_pb2_grpc.RevocationServiceStub(scene.registry.channel(Kind.OPERATOR, "lan"))
    stub.RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(),
            issuer_key_id=issuer_key_id(authority),
            serial_number=serial_of(place),
            reason=revocation_pb2.REVOCATION_REASON_SUPERSEDED,
        )
    )
    scene.stage.settle()
    wait_until(lambda: results(diagnose(scene.registry.address, place))["call"] is Result.FAILED)
    found = diagnose(scene.registry.address, place, door=scene.door_address)
    said = {check.name: check.found for check in found.checks if check.result is Result.FAILED}
    assert set(said) == {"call", "server_view"}
    assert "CERTIFICATE_REVOKED" in said["call"].english
    assert "revoked" in said["server_view"].english
    assert said["server_view"].vietnamese != said["server_view"].english
    assert CredentialFiles.read(place).digest == own.digest


def test_a_suspended_system_keeps_its_certificate_and_is_told_why(
    scene: IssuerScene, desk: Desk, tmp_path: Path
) -> None:
    place = enrolled(scene, "tax/suspended", tmp_path / "tax")
    before = serial_of(place)
    desk.systems.SuspendSystem(
        agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="tax", system_id="suspended", cause="audit")
    )
    scene.stage.settle()
    with (
        RotatingChannel(scene.issuer.address, place) as channel,
        pytest.raises(Refusal, match="SYSTEM_SUSPENDED"),
    ):
        renew(place, channel)
    assert serial_of(place) == before
    found = diagnose(scene.registry.address, place, door=scene.door_address)
    assert results(found)["server_view"] is Result.FAILED
    desk.systems.ResumeSystem(
        agency_pb2.ResumeSystemRequest(request_id=new_id(), agency_id="tax", system_id="suspended")
    )
    scene.stage.settle()
    with RotatingChannel(scene.issuer.address, place) as channel:
        assert renew(place, channel).serial_number != before


def test_an_expired_certificate_is_renewed_at_the_door_once_an_operator_allows_it(
    scene: IssuerScene, tmp_path: Path
) -> None:
    key, end = p256_key(), datetime.now(UTC) - timedelta(hours=1)
    validity = Validity(end - timedelta(days=30), end)
    issued = scene.hierarchy.agency.issue(CLIENT_TLS, uri_of("tax/expired"), key.public_key(), validity=validity)
    write_credentials(tmp_path, Issued(issued, key, (scene.hierarchy.root.certificate,)))
    leaf = issued.certificate
    row = Certificate(
        name=CertificateName(issued.issuer_key_id, f"{leaf.serial_number:x}"),
        identity=uri_of("tax/expired"),
        agency_id="tax",
        system_id="expired",
        profile=Profile.CLIENT_TLS,
        key_id=key_id(leaf),
        start_time=leaf.not_valid_before_utc,
        expire_time=leaf.not_valid_after_utc,
        intent_time=leaf.not_valid_before_utc,
        der=leaf.public_bytes(Encoding.DER),
    )
    with scene.issuer.house.engine.begin() as connection:
        Certificates(connection).adopt(row)
    with pytest.raises(Refusal, match="RENEWAL_NOT_ENABLED"):
        renew_expired(scene.door_address, tmp_path)
    scene.enrolments().EnableExpiredRenewal(
        enrolment_pb2.EnableExpiredRenewalRequest(
            request_id=new_id(), issuer_key_id=row.name.issuer_key_id, serial_number=row.name.serial_number
        )
    )
    found = diagnose(scene.registry.address, tmp_path, door=scene.door_address)
    assert [check.name for check in found.checks if check.result is Result.FAILED] == ["validity", "server_view"]
    taken = renew_expired(scene.door_address, tmp_path)
    assert taken.serial_number == serial_of(tmp_path)
    found = diagnose(scene.registry.address, tmp_path, door=scene.door_address)
    assert set(results(found).values()) == {Result.OK}


def test_any_room_answers_the_doctor(scene: IssuerScene, tmp_path: Path) -> None:
    place = enrolled(scene, TAX, tmp_path / "tax")
    assert results(diagnose(scene.issuer.address, place))["call"] is Result.OK
