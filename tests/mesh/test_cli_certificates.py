"""What operators do with `npd` about certificates, enrolments and authorities, in a registry and an issuer at work."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from npd.common.v1.evidence_pb2 import LogEntry
from npd.issuer.v1 import door_pb2, door_pb2_grpc
from npd.registry.v1 import agency_pb2, agency_pb2_grpc, rights_pb2, rights_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_pki.ca_store import load_hierarchy
from npd_pki.credentials import Credentials, load_credentials, write_credentials
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.identity import Kind
from npd_pki.issuance import IssuedCertificate
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.passphrase import read_passphrase
from npd_pki.trust_bundle import certificates_pem
from services.cli.migration import prepare_store
from services.cli.rooms import load
from services.local.layout import Layout
from services.local.mesh import LocalMesh, MeshSettings
from services.mesh.core.caller import key_id
from tests.mesh_fixture import refused, wait_until

Answer = subprocess.CompletedProcess[str]
Npd = Callable[..., Answer]
LAN, MINH = "lan", "minh"
BY_LAN = f"by spiffe://operator.sandbox.npd.local/{LAN}"
SYSTEMS = ("tax/core", "moh/medical", "hanoi/one-stop")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A registry and an issuer, each a process, with three systems."""
    settings = MeshSettings(first_port=29001)
    rooms = [load("registry"), load("issuer")]
    directory = tmp_path_factory.mktemp("cert") / "npd"
    with LocalMesh(directory, rooms, prepare=prepare_store, operators=[LAN, MINH], settings=settings) as local:
        local.publish()
        with RotatingChannel(local.endpoints["registry"], local.layout.operator(LAN).tls) as channel:
            for name in SYSTEMS:
                register(channel, name)
        for name in SYSTEMS:
            local.authority.ensure_system(*name.split("/"))
        wait_until(lambda: all(is_active(local, name) for name in SYSTEMS))
        yield local


@pytest.fixture
def npd(mesh: LocalMesh) -> Npd:
    """Runs a command as an operator, as a script does."""

    def as_operator(*words: str, operator: str = LAN, answer: str = "") -> Answer:
        directory = str(mesh.layout.operator(operator).tls)
        return subprocess.run(
            [sys.executable, "-m", "services", *words, "-d", directory],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            input=answer,
            env={"PATH": os.defpath, "COLUMNS": "160"},
        )

    return as_operator


def register(channel: RotatingChannel, name: str) -> None:
    """Register "tax/core" with its agency, and where its administrators are reached."""
    agency_id, system_id = name.split("/")
    agency = agency_pb2.Agency(agency_id=agency_id, name=f"=Agency {agency_id}")
    agency_pb2_grpc.AgencyServiceStub(channel).RegisterAgency(
        agency_pb2.RegisterAgencyRequest(request_id=str(uuid4()), agency=agency)
    )
    system = agency_pb2.System(agency_id=agency_id, system_id=system_id, name=f"System {name}")
    agency_pb2_grpc.SystemServiceStub(channel).RegisterSystem(
        agency_pb2.RegisterSystemRequest(request_id=str(uuid4()), system=system)
    )


def is_active(mesh: LocalMesh, name: str) -> bool:
    """Whether a system may call by the policy that the registry decides by."""
    with RotatingChannel(mesh.endpoints["registry"], mesh.layout.system(*name.split("/")).tls) as channel:
        answer = rights_pb2_grpc.RightsServiceStub(channel).WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10)
    return bool(answer.state == agency_pb2.SYSTEM_STATE_ACTIVE)


def acts(mesh: LocalMesh, method: str) -> list[LogEntry]:
    """What the authority log holds about a method of the issuer."""
    engine = create_engine(mesh.layout.room("registry").database_url.read_text().strip(), poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT entry FROM log UNION ALL SELECT entry FROM log_pending")).all()
    entries = [LogEntry.FromString(row.entry) for row in rows]
    return [entry for entry in entries if entry.method.endswith(f"/{method}")]


def wait_act(mesh: LocalMesh, method: str, about: str) -> LogEntry:
    """The entry of an act; it comes by the issuer's outbox."""
    wait_until(lambda: [entry for entry in acts(mesh, method) if about in entry.object])
    return next(entry for entry in acts(mesh, method) if about in entry.object)


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signing request that names nobody."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Enrolled:
    """A system that came through the door: its token, and where its credentials lie."""

    token: str
    directory: Path

    @property
    def leaf(self) -> x509.Certificate:
        """Its certificate."""
        return load_credentials(self.directory).issued.certificate

    @property
    def serial(self) -> str:
        """Its serial number."""
        return f"{self.leaf.serial_number:x}"


def enrol(npd: Npd, mesh: LocalMesh, name: str, directory: Path) -> Enrolled:
    """Enrol a system with a token that the command made."""
    made = json.loads(npd("enrolment", "create", name, "--json").stdout)
    roots = (mesh.layout.operator(LAN).tls / "ca.crt").read_bytes()
    key = generate_p256_key()
    with grpc.secure_channel(mesh.door, grpc.ssl_channel_credentials(roots)) as channel:
        answer = door_pb2_grpc.DoorServiceStub(channel).Enrol(
            door_pb2.EnrolRequest(request_id=str(uuid4()), token=made["token"], csr=signing_request(key)), timeout=20
        )
    leaf, *chain = x509.load_pem_x509_certificates(answer.certificate.certificate_chain)
    anchors = tuple(x509.load_pem_x509_certificates(roots))
    write_credentials(directory, Credentials(IssuedCertificate(leaf, tuple(chain)), key, anchors))
    return Enrolled(made["token"], directory)


@pytest.fixture(scope="module")
def new_authority(mesh: LocalMesh) -> Callable[[Kind], str]:
    """Puts the files of a new issuing CA into the issuer's directory, as after a ceremony; its key id."""

    def made(kind: Kind) -> str:
        layout = Layout(mesh.layout.directory)
        passphrase = read_passphrase(layout.pki_passphrase)
        authority = load_hierarchy(layout.pki, passphrase).root.issue_issuing_ca(kind)
        place = layout.issuer.authorities / f"{kind}-{authority.key_id[:8]}"
        place.mkdir()
        certificate = PemFile("ca.crt", certificates_pem([authority.certificate]), PUBLIC)
        replace_files(place, [PemFile("ca.key", private_key_pem(authority.key, passphrase), PRIVATE), certificate])
        return authority.key_id

    return made


def test_the_file_of_addresses_names_the_door_and_commands_ask_no_room_there(npd: Npd, mesh: LocalMesh) -> None:
    addresses = json.loads(mesh.layout.endpoints.read_text())
    assert addresses["door"] == mesh.door
    told = json.loads(npd("set-aside", "list", "--json").stdout)
    assert told["missing"] == []


def test_an_enrolment_tells_its_token_once_and_what_to_hand_over(npd: Npd, mesh: LocalMesh) -> None:
    created = npd("enrolment", "create", "tax/core", "--valid", "24h")
    assert created.returncode == 0, created.stderr
    [line] = [line for line in created.stdout.splitlines() if line.startswith("Token")]
    token = line.split()[-1]
    assert len(token) >= 43
    assert f"npd-client enrol --door {mesh.door}" in created.stdout
    listed = npd("enrolment", "list", "--agency", "tax")
    assert "OPEN" in listed.stdout
    assert token not in listed.stdout + npd("enrolment", "list", "--json").stdout

    enrolment_id = json.loads(npd("enrolment", "list", "--agency", "tax", "--json").stdout)["enrolments"][0][
        "enrolment_id"
    ]
    assert enrolment_id in created.stdout
    cancelled = npd("enrolment", "cancel", enrolment_id)
    assert cancelled.returncode == 0, cancelled.stderr
    assert "CANCELLED" in cancelled.stdout
    assert BY_LAN in wait_act(mesh, "CancelEnrolment", "tax/core").object
    unknown = npd("enrolment", "cancel", str(uuid4()))
    assert (unknown.returncode, unknown.stderr.split()[1]) == (1, "TOKEN_UNKNOWN")


def test_a_certificate_that_was_enrolled_is_listed_and_shown(npd: Npd, mesh: LocalMesh, tmp_path: Path) -> None:
    enrolled = enrol(npd, mesh, "moh/medical", tmp_path / "moh")
    listed = json.loads(npd("cert", "list", "--agency", "moh", "--status", "issued", "--json").stdout)["certificates"]
    [one] = [one for one in listed if one["serial_number"] == enrolled.serial]
    assert one["identity"].endswith("/moh/medical")
    assert "certificate_chain" not in one
    for words in (("--system", "moh/medical"), ("--identity", "moh/medical"), ("--expires-within", "100d")):
        assert enrolled.serial in npd("cert", "list", *words).stdout
    assert enrolled.serial not in npd("cert", "list", "--expires-within", "1d").stdout
    assert enrolled.serial not in npd("cert", "list", "--agency", "tax").stdout

    by_serial = npd("cert", "show", enrolled.serial.upper())
    assert by_serial.returncode == 0, by_serial.stderr
    assert one["key_id"] in by_serial.stdout
    by_file = npd("cert", "show", str(enrolled.directory / "tls.crt"), "--pem")
    assert by_file.stdout.encode() == (enrolled.directory / "tls.crt").read_bytes()
    unknown = npd("cert", "show", "4c02")
    assert unknown.returncode == 2
    assert "no authority of the issuer knows a certificate 4c02" in unknown.stderr
    assert enrolled.token not in npd("cert", "applications").stdout


def test_a_list_as_csv_has_every_fact_and_no_formula(npd: Npd, mesh: LocalMesh, tmp_path: Path) -> None:
    enrolled = enrol(npd, mesh, "moh/medical", tmp_path / "moh")
    rows = list(csv.DictReader(io.StringIO(npd("cert", "list", "--csv").stdout)))
    [row] = [row for row in rows if row["serial_number"] == enrolled.serial]
    assert (row["profile"], row["state"]) == ("client_tls", "ISSUED")
    assert row["expire_time"].endswith("Z")
    report = npd("cert", "report", "expiring", "--within", "100d", "--csv")
    rows = list(csv.DictReader(io.StringIO(report.stdout)))
    assert {row["agency_name"] for row in rows if row["agency_id"] == "moh"} == {"'=Agency moh"}


def test_what_expires_soon_is_reported_by_agency(npd: Npd, mesh: LocalMesh, tmp_path: Path) -> None:
    enrolled = enrol(npd, mesh, "moh/medical", tmp_path / "moh")
    report = npd("cert", "report", "expiring", "--within", "100d")
    assert report.returncode == 0, report.stderr
    assert "moh: =Agency moh" in report.stdout
    assert "contact: none was given" in report.stdout
    assert enrolled.serial in report.stdout
    assert "Nothing expires so soon" in npd("cert", "report", "expiring", "--within", "1d").stdout


def test_an_application_is_approved_by_another_operator_and_fetched(npd: Npd, mesh: LocalMesh, tmp_path: Path) -> None:
    key, csr, out = generate_p256_key(), tmp_path / "core.csr", tmp_path / "out"
    csr.write_bytes(signing_request(key))
    applied = json.loads(
        npd("cert", "apply", str(csr), "--identity", "tax/core", "--profile", "signing", "--json").stdout
    )
    application_id = applied["application_id"]
    assert application_id in npd("cert", "applications", "--state", "pending").stdout
    early = npd("cert", "application", application_id, "--out", str(out))
    assert (early.returncode, out.exists()) == (1, False)
    assert "PENDING" in early.stderr

    own = npd("approval", "approve", "issuer", application_id)
    assert own.returncode == 1
    assert "APPROVER_IS_REQUESTER" in own.stderr
    assert npd("approval", "approve", "issuer", application_id, operator=MINH).returncode == 0
    wait_until(lambda: "ISSUED" in npd("cert", "application", application_id).stdout)
    out.mkdir()
    (out / "tls.key").write_bytes(private_key_pem(generate_p256_key()))
    beside = npd("cert", "application", application_id, "--out", str(out))
    assert (beside.returncode, [path.name for path in out.iterdir()]) == (2, ["tls.key"])
    assert "is another key" in beside.stderr
    (out / "tls.key").write_bytes(private_key_pem(key))
    fetched = npd("cert", "application", application_id, "--out", str(out))
    assert fetched.returncode == 0, fetched.stderr
    leaf = x509.load_pem_x509_certificate((out / "tls.crt").read_bytes())
    assert leaf.public_key() == key.public_key()
    assert (out / "ca.crt").read_bytes() == (mesh.layout.operator(LAN).tls / "ca.crt").read_bytes()


def test_a_private_key_is_never_sent(npd: Npd, tmp_path: Path) -> None:
    (tmp_path / "core.csr").write_bytes(private_key_pem(generate_p256_key()))
    answered = npd("cert", "apply", str(tmp_path / "core.csr"), "--identity", "tax/core")
    assert (answered.returncode, "holds a private key" in answered.stderr) == (2, True)


def test_a_csr_that_names_somebody_else_is_refused(npd: Npd, tmp_path: Path) -> None:
    foreign = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("spiffe://agency.sandbox.npd.local/tax/other")]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(foreign, critical=False).sign(generate_p256_key(), hashes.SHA256())
    (tmp_path / "foreign.csr").write_bytes(request.public_bytes(Encoding.PEM))
    answered = npd("cert", "apply", str(tmp_path / "foreign.csr"), "--identity", "tax/core")
    assert answered.returncode == 1
    assert answered.stderr.startswith("REFUSED: CSR_NAME_FOREIGN")


@pytest.mark.parametrize("named_by", ["file", "serial", "numbers"])
def test_a_revoked_certificate_is_refused_from_then_on(
    npd: Npd, mesh: LocalMesh, tmp_path: Path, named_by: str
) -> None:
    enrolled = enrol(npd, mesh, "moh/medical", tmp_path / "moh")
    issuer = load_credentials(enrolled.directory).issued.chain[0]
    words = {
        "file": (str(enrolled.directory / "tls.crt"),),
        "serial": (enrolled.serial,),
        "numbers": ("--issuer-key-id", key_id(issuer), "--serial", enrolled.serial.upper()),
    }[named_by]
    done = npd("cert", "revoke", *words, "--reason", "superseded", "--json")
    assert done.returncode == 0, done.stderr
    [revoked] = json.loads(done.stdout)["certificates"]
    assert revoked["state"] == "CERTIFICATE_STATE_REVOKED"
    assert BY_LAN in wait_act(mesh, "RevokeCertificate", enrolled.serial).object
    assert reason_of_call(mesh, enrolled.directory, "CERTIFICATE_REVOKED")


def test_bulk_revocation_shows_first_asks_then_and_takes_just_one_selector(
    npd: Npd, mesh: LocalMesh, tmp_path: Path
) -> None:
    enrolled = enrol(npd, mesh, "hanoi/one-stop", tmp_path / "hanoi")
    words = ("cert", "revoke-all", "--agency", "hanoi", "--reason", "cessation_of_operation")
    shown = npd(*words)
    assert shown.returncode == 0, shown.stderr
    assert "Nothing was revoked" in shown.stdout
    assert enrolled.serial in shown.stdout
    doubtful = npd(*words, "--execute", answer="n\n")
    assert doubtful.returncode == 1
    assert "hanoi/one-stop" in doubtful.stderr
    assert "ISSUED" in npd("cert", "show", enrolled.serial).stdout

    done = npd(*words, "--execute", "--yes")
    assert done.returncode == 0, done.stderr
    assert "certificates are revoked" in done.stdout
    assert "REVOKED" in npd("cert", "show", enrolled.serial).stdout
    assert BY_LAN in wait_act(mesh, "RevokeCertificates", "").object
    assert reason_of_call(mesh, enrolled.directory, "CERTIFICATE_REVOKED")
    assert "No certificate." in npd(*words, "--execute", "--yes").stdout


def test_an_unexpired_certificate_needs_no_renewal_at_the_door(npd: Npd, mesh: LocalMesh, tmp_path: Path) -> None:
    enrolled = enrol(npd, mesh, "moh/medical", tmp_path / "moh")
    answered = npd("cert", "enable-expired", str(enrolled.directory / "tls.crt"), "--valid", "24h")
    assert answered.returncode == 1
    assert answered.stderr.startswith("REFUSED: STATE_NOT_ALLOWED")


def test_a_forced_revocation_of_an_authority_needs_a_second_operator(
    npd: Npd, mesh: LocalMesh, new_authority: Callable[[Kind], str]
) -> None:
    authority = new_authority(Kind.OPERATOR)
    wait_until(lambda: authority[:16] in npd("authority", "list").stdout)
    assert npd("authority", "prepare", authority[:10]).returncode == 0
    words = ("authority", "revoke", authority, "--reason", "key_compromise")
    assert "STATE_NOT_ALLOWED" in npd(*words).stderr
    asked = npd(*words, "--force")
    assert asked.returncode == 1
    assert "REFUSED: APPROVAL_NEEDED" in asked.stderr
    [decide] = [line for line in asked.stderr.splitlines() if line.startswith("A second operator decides")]
    [again] = [line for line in asked.stderr.splitlines() if line.startswith("Then: npd ")]
    approved = npd("approval", "approve", "issuer", decide.split()[-1], operator=MINH)
    assert approved.returncode == 0, approved.stderr
    done = npd(*again.removeprefix("Then: npd ").split())
    assert done.returncode == 0, done.stderr
    assert "is REVOKED" in done.stdout
    assert BY_LAN in wait_act(mesh, "ForceRevokeAuthority", authority).object


def test_an_authority_is_rolled_over_by_commands(
    npd: Npd, mesh: LocalMesh, new_authority: Callable[[Kind], str], tmp_path: Path
) -> None:
    enrol(npd, mesh, "moh/medical", tmp_path / "old")  # a leaf that is not expired
    former = authority_of(npd, "ACTIVE", "agency.")
    authority = new_authority(Kind.AGENCY)
    wait_until(lambda: authority[:16] in npd("authority", "list").stdout)
    assert "NOT PREPARED" in npd("authority", "list").stdout
    assert "PREPARED" in npd("authority", "prepare", authority).stdout
    activated = npd("authority", "activate", authority, "--wait", "1m")
    assert activated.returncode == 0, activated.stderr
    assert "is ACTIVE" in activated.stdout
    assert f"{former[:16]} of agency.sandbox.npd.local is TAINTED" in activated.stdout
    assert BY_LAN in wait_act(mesh, "ActivateAuthority", authority).object
    for act in (("retire",), ("revoke", "--reason", "superseded")):
        refusal = npd("authority", act[0], former, *act[1:])
        assert (refusal.returncode, refusal.stderr.split()[1]) == (1, "AUTHORITY_IN_USE")
    renewed = enrol(npd, mesh, "moh/medical", tmp_path / "new")
    assert key_id(load_credentials(renewed.directory).issued.chain[0]) == authority
    assert is_active(mesh, "tax/core"), "a leaf of the tainted authority still calls"


def test_who_is_no_operator_is_refused(mesh: LocalMesh) -> None:
    directory = str(mesh.layout.system("tax", "core").tls)
    answered = subprocess.run(
        [sys.executable, "-m", "services", "authority", "list", "-d", directory],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.defpath, "NPDCTL_ISSUER": mesh.endpoints["issuer"]},
    )
    assert answered.returncode == 1
    assert answered.stderr.startswith("REFUSED: METHOD_NOT_ALLOWED")


def authority_of(npd: Npd, state: str, host: str) -> str:
    """The key id of the only authority of a host in a state."""
    listed = json.loads(npd("authority", "list", "--json").stdout)["authorities"]
    [found] = [
        one["key_id"] for one in listed if one["state"] == f"AUTHORITY_STATE_{state}" and one["host"].startswith(host)
    ]
    return str(found)


def reason_of_call(mesh: LocalMesh, directory: Path, reason: str) -> bool:
    """Whether a call with these credentials comes to be refused for this reason."""

    def is_refused() -> bool:
        with RotatingChannel(mesh.endpoints["registry"], directory) as channel:
            stub = rights_pb2_grpc.RightsServiceStub(channel)
            try:
                stub.WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10)
            except grpc.RpcError:
                return refused(stub.WhoAmI, rights_pb2.WhoAmIRequest()).reason == reason
        return False

    wait_until(is_refused)
    return True
