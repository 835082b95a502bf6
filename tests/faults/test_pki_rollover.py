"""Renewal of every leaf, a rollover of the agency CA, an issuer that dies or is restored: no caller notices."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from uuid import uuid4

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc, door_pb2, door_pb2_grpc
from npd.registry.v1 import rights_pb2, rights_pb2_grpc
from npd.registry.v1.revocation_pb2 import REVOCATION_REASON_KEY_COMPROMISE, REVOCATION_REASON_SUPERSEDED
from npd_client.channel import RotatingChannel
from npd_client.errors import Unreachable
from npd_client.renewal import renew
from npd_pki.credentials import load_credentials
from npd_pki.identity import Kind
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox
from tests.holders import UNLIMITED, Backup, Crowd, PkiAdmin, Told, further_certificate, name_of, register
from tests.mesh_fixture import refused, wait_until

_SYSTEMS = 7


@pytest.fixture(scope="module")
def failpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this file names is where the issuer dies next."""
    return tmp_path_factory.mktemp("failpoint") / "issuer"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, failpoint: Path) -> Iterator[LocalMesh]:
    """A whole mesh, in processes that can be killed."""
    limits = {**UNLIMITED, "NPD_DOOR_ADDRESS_LIMIT": "1000000", "NPD_DOOR_LIMIT": "1000000"}
    variables = {"issuer": {**limits, "NPD_FAILPOINT_FILE": str(failpoint)}}
    settings = MeshSettings(first_port=30001, room_variables=variables)
    directory = tmp_path_factory.mktemp("mesh") / "npd"
    with LocalMesh(directory, discover(), prepare=prepare_store, operators=OPERATORS, settings=settings) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def agreement_id(mesh: LocalMesh) -> str:
    """The agreement of the tax administration."""
    sandbox = Sandbox(mesh)
    agreements = sandbox.register(lambda _: None)
    sandbox.contribute(50, lambda _: None)
    return agreements[TAX.title]


@pytest.fixture(scope="module")
def systems(mesh: LocalMesh) -> list[Path]:
    """Where the credentials of systems that call lie."""
    return register(mesh, _SYSTEMS)


@pytest.fixture
def admin(mesh: LocalMesh, agreement_id: str) -> Iterator[PkiAdmin]:
    """The operator who rolls CAs over."""
    with PkiAdmin(mesh) as admin:
        yield admin


def tell(what: str, told: Told) -> None:
    """The counts, for who reads the output; none may have failed."""
    print(f"{what}: {told.renewed} renewals, {told.answered} calls answered, {len(told.failed)} failed {told.reasons}")
    assert told.answered > 0
    assert told.failed == []


def test_every_leaf_is_renewed_without_a_failed_call(mesh: LocalMesh, agreement_id: str, systems: list[Path]) -> None:
    with Crowd(mesh, systems, agreement_id) as crowd:
        before = {name_of(place) for place in crowd.directories}
        crowd.wait_more()
        crowd.renew_all(times=2)
        crowd.wait_more()
        assert not before & {name_of(place) for place in crowd.directories}
    assert crowd.told.renewed == 2 * (_SYSTEMS + 1)
    tell("renewal of every leaf", crowd.told)


def test_the_agency_authority_is_rolled_over_without_a_failed_call(
    mesh: LocalMesh, agreement_id: str, systems: list[Path], admin: PkiAdmin
) -> None:
    with Crowd(mesh, systems, agreement_id) as crowd:
        crowd.wait_more()
        successor = admin.new_authority(Kind.AGENCY)
        admin.prepare(successor)
        former = admin.activate(successor)
        crowd.wait_more()
        assert {crowd.issuer_of(place) for place in crowd.directories} == {former}
        crowd.renew_all()
        assert {crowd.issuer_of(place) for place in crowd.directories} == {successor}
        assert admin.supersede_all_of(former) > 0
        admin.retire(former)
        crowd.wait_more()
    tell("rollover of the agency CA", crowd.told)


def test_an_issuer_restored_from_a_backup_forgets_no_revocation_and_goes_on(
    mesh: LocalMesh, agreement_id: str, systems: list[Path], admin: PkiAdmin, tmp_path: Path
) -> None:
    with Crowd(mesh, systems, agreement_id) as crowd:
        crowd.wait_more()
        known = further_certificate(mesh, tmp_path / "known")
        backup = Backup(mesh, tmp_path / "issuer.dump")
        unknown = further_certificate(mesh, tmp_path / "unknown")
        admin.revoke(name_of(known), REVOCATION_REASON_KEY_COMPROMISE)
        admin.revoke(name_of(unknown), REVOCATION_REASON_SUPERSEDED)
        wait_until(lambda: is_on_list(mesh, known) and is_on_list(mesh, unknown), 30)
        number = list_number(mesh, known)
        crowd.renew_all()

        backup.restore()
        assert admin.state_of(name_of(unknown)) == "", "the backup is older than this certificate"
        crowd.renew_all()
        wait_until(lambda: admin.state_of(name_of(known)) == "REVOKED", 30)
        for place in (known, unknown):
            assert reason_of_call(mesh, place) == "CERTIFICATE_REVOKED"
        wait_until(lambda: is_on_list(mesh, known) and is_on_list(mesh, unknown), 30)
        assert list_number(mesh, known) >= number
        # the published list tells the issuer of the revocation, the policy of the key, some seconds later
        wait_until(lambda: reason_of_renewal(mesh, known) == "KEY_BLOCKED", 30)
        again = further_certificate(mesh, tmp_path / "again")
        admin.revoke(name_of(again), REVOCATION_REASON_SUPERSEDED)
        wait_until(lambda: is_on_list(mesh, again), 30)
        assert list_number(mesh, again) > number
        crowd.wait_more()
    tell("restart of the issuer from a backup", crowd.told)


@pytest.mark.parametrize("place", ["issue.intended", "issue.signed"])
def test_an_issuer_that_dies_while_it_issues_leaves_an_intent_and_the_repeat_gets_a_certificate(
    mesh: LocalMesh, agreement_id: str, admin: PkiAdmin, failpoint: Path, place: str
) -> None:
    directory = mesh.layout.system(TAX.agency, TAX.system).tls
    before, orphans = name_of(directory), len(admin.listed_in(certificate_pb2.CERTIFICATE_STATE_INTENT))
    with RotatingChannel(mesh.endpoints["issuer"], directory) as channel:
        failpoint.write_text(place)
        with pytest.raises(Unreachable):
            renew(directory, channel)
        assert not failpoint.exists(), "it died there"
        assert name_of(directory) == before
        mesh.wait_ready("issuer")
        wait_until(lambda: is_renewed(directory, channel), 30)
    assert name_of(directory) != before
    wait_until(lambda: len(listed_intents(admin)) == orphans + 1)
    [orphan, *_] = [one for one in listed_intents(admin) if one.identity.endswith(f"/{TAX.title}")]
    admin.revoke((orphan.issuer_key_id, orphan.serial_number), REVOCATION_REASON_SUPERSEDED)
    assert admin.state_of((orphan.issuer_key_id, orphan.serial_number)) == "REVOKED"
    assert reason_of_call(mesh, directory) == "", "what the repeat got is of use"


def test_an_issuer_that_is_killed_again_and_again_costs_no_call(
    mesh: LocalMesh, agreement_id: str, systems: list[Path]
) -> None:
    with Crowd(mesh, systems, agreement_id) as crowd:
        for _ in range(2):
            crowd.wait_more()
            assert mesh.kill("issuer", SIGKILL) is not None
            crowd.renew_all()
    assert crowd.told.repeated, "some renewals met nobody"
    tell("an issuer killed twice", crowd.told)


def is_renewed(directory: Path, channel: RotatingChannel) -> bool:
    """Whether a renewal is answered."""
    try:
        renew(directory, channel)
    except Unreachable:
        return False
    return True


def listed_intents(admin: PkiAdmin) -> list[certificate_pb2.Certificate]:
    """Certificates that may have been issued."""
    return admin.listed_in(certificate_pb2.CERTIFICATE_STATE_INTENT)


def reason_of_call(mesh: LocalMesh, place: Path) -> str:
    """Why the registry refuses a call with these credentials; empty if it answers."""
    with RotatingChannel(mesh.endpoints["registry"], place) as channel:
        stub = rights_pb2_grpc.RightsServiceStub(channel)
        try:
            stub.WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10)
        except grpc.RpcError:
            return refused(stub.WhoAmI, rights_pb2.WhoAmIRequest()).reason
    return ""


def reason_of_renewal(mesh: LocalMesh, place: Path) -> str:
    """Why tax gets no certificate for the key in a directory."""
    key = load_credentials(place).private_key
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    request = certificate_pb2.RenewCertificateRequest(
        request_id=str(uuid4()),
        profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS,
        csr=csr.public_bytes(Encoding.PEM),
    )
    with RotatingChannel(mesh.endpoints["issuer"], mesh.layout.system(TAX.agency, TAX.system).tls) as channel:
        return refused(certificate_pb2_grpc.CertificateServiceStub(channel).RenewCertificate, request).reason


def revocation_list(mesh: LocalMesh, place: Path) -> x509.CertificateRevocationList:
    """The newest list of the issuing CA of a certificate, as the door gives it to anybody."""
    roots = (place / "ca.crt").read_bytes()
    with grpc.secure_channel(mesh.door, grpc.ssl_channel_credentials(roots)) as channel:
        answer = door_pb2_grpc.DoorServiceStub(channel).GetRevocationList(
            door_pb2.GetRevocationListRequest(issuer_key_id=name_of(place)[0]), timeout=10
        )
    return x509.load_der_x509_crl(answer.revocation_list)


def is_on_list(mesh: LocalMesh, place: Path) -> bool:
    """Whether a certificate is on its CA's newest list."""
    serial = load_credentials(place).issued.serial
    return revocation_list(mesh, place).get_revoked_certificate_by_serial_number(serial) is not None


def list_number(mesh: LocalMesh, place: Path) -> int:
    """The number of the newest list of a certificate's CA."""
    return revocation_list(mesh, place).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
