"""A room's leaf as cert-manager's CA issuer makes it, which differs from npd-pki's: a room serves and calls with it.

What it makes of the Certificates in k8s/components/certificates-cert-manager: no subject, so a critical alternative
name; no subject key identifier; no distribution point; valid from this very second; a serial number of 20 octets. Its
chain ends below the root, and its `ca.crt` is the issuing CA, because the Secret of the CA issuer holds no root.
Source: cert-manager, pkg/util/pki (certificatetemplate.go, parse_certificate_chain.go) and Go, crypto/x509.
"""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd_pki.identity import Kind, mesh_uri
from npd_pki.keys import (
    generate_p256_key,
    load_ec_private_key,
    private_key_pem,
    save_private_key,
    signature_hash,
)
from npd_pki.profile import ROOM_TLS
from npd_pki.tbs import authority_key_identifier
from npd_pki.trust_bundle import certificates_pem
from services.mesh.core.caller import CallerKind, SpiffeId, identify, read_leaf
from services.mesh.core.rights import Policy
from services.mesh.wire.credentials import RoomCertificateUnfit, ServerCredentials
from services.sharing.app import ROOM as SHARING
from tests.certificates import Holder
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage
from tests.programs import program
from tests.volumes import Volume

NAMES = (
    f"sharing.{ENVIRONMENT}",
    "npd-sharing",
    f"changes.{ENVIRONMENT}",
    "npd-sharing-streams",
    "npd-sharing.npd.svc",
)
IDENTITY = mesh_uri(ENVIRONMENT, "sharing")
_HIGHEST_SERIAL = (1 << 159) - 1


def made_by_cert_manager(authority: Authority) -> Holder:
    """The leaf, its key, and the chain that cert-manager puts after it."""
    issuer, key = authority.hierarchy.mesh, generate_p256_key()
    now = datetime.now(UTC).replace(microsecond=0)
    names = [*map(x509.DNSName, ("localhost", *NAMES)), x509.UniformResourceIdentifier(IDENTITY)]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(_HIGHEST_SERIAL - (x509.random_serial_number() >> 8))
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=720))
        .add_extension(ROOM_TLS.key_usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority_key_identifier(issuer.certificate), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(issuer.key, signature_hash(issuer.key.public_key()))
    )
    return Holder(leaf, key, (issuer.certificate,), (authority.hierarchy.root.certificate,))


@pytest.fixture(scope="module")
def made(authority: Authority) -> Holder:
    """cert-manager's leaf for the room sharing."""
    return made_by_cert_manager(authority)


@pytest.fixture(scope="module")
def files(made: Holder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Secret and the roots, projected into one volume."""
    directory = tmp_path_factory.mktemp("tls")
    secret = {"tls.crt": made.chain_pem, "tls.key": private_key_pem(made.key)}
    return Volume.mount(directory, {**secret, "ca.crt": certificates_pem(made.roots)}).directory


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk, files: Path) -> Running:
    """The room sharing with that leaf: it starts only if the registry accepts it and sends the policy."""
    desk.register("tax/core")
    return stage.start(SHARING, tls_directory=files)


@pytest.mark.parametrize("name", ["localhost", *NAMES])
def test_a_room_serves_under_every_name_of_the_leaf(sharing: Running, authority: Authority, name: str) -> None:
    directory = authority.tls(Kind.AGENCY, "tax/core")
    pem = [(directory / file).read_bytes() for file in ("ca.crt", "tls.key", "tls.crt")]
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(sharing.address, grpc.ssl_channel_credentials(*pem), options) as channel:
        stub = evidence_pb2_grpc.EvidenceServiceStub(channel)
        assert stub.GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10).checkpoint


def test_a_room_calls_with_it(sharing: Running, registry: Running) -> None:
    """It follows the registry's policy, and the registry knows it for what it is."""
    assert sharing.house.keeper.current.revision == registry.house.keeper.current.revision > 0


def test_the_leaf_is_read_as_the_rooms(made: Holder) -> None:
    leaf = read_leaf(made.certificate, made.chain, made.roots)
    caller = identify(leaf, ENVIRONMENT, Policy(), datetime.now(UTC))
    assert (caller.kind, caller.name) == (CallerKind.ROOM, "sharing")
    assert leaf.only_identity() == SpiffeId(CallerKind.ROOM, ENVIRONMENT, ("sharing",))
    assert len(leaf.serial_number) == 40


def test_the_ca_crt_that_cert_manager_writes_is_refused_as_a_bundle(made: Holder, tmp_path: Path) -> None:
    """Trusting it would make the issuing CA an anchor that outlives its root; the roots are npd-roots alone."""
    secret = {"tls.crt": made.chain_pem, "tls.key": private_key_pem(made.key)}
    Volume.mount(tmp_path, {**secret, "ca.crt": certificates_pem(made.chain)})
    with pytest.raises(RoomCertificateUnfit, match="not a root"):
        ServerCredentials(tmp_path, IDENTITY)


def test_openssl_verifies_the_chain_for_every_name(made: Holder, tmp_path: Path) -> None:
    """Strictly, under the name constraints of the mesh CA: names inside a cluster are as good as any."""
    (tmp_path / "tls.crt").write_bytes(made.chain_pem)
    (tmp_path / "ca.crt").write_bytes(certificates_pem(made.roots))
    for name in NAMES:
        words = ["verify", "-x509_strict", "-CAfile", "ca.crt", "-untrusted", "tls.crt", "-verify_hostname", name]
        done = subprocess.run(
            [program("openssl"), *words, "tls.crt"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout == "tls.crt: OK\n", done.stderr


def test_the_key_of_a_ceremony_is_decrypted_for_the_secret_by_openssl(tmp_path: Path) -> None:
    """cert-manager takes no passphrase: the runbook's command turns the ceremony's key into what it takes."""
    key = generate_p256_key()
    save_private_key(tmp_path / "ca.key", key, b"a passphrase of tests")
    (tmp_path / "issuing.passphrase").write_text("a passphrase of tests\n")
    words = ["pkey", "-in", "ca.key", "-passin", "file:issuing.passphrase", "-out", "mesh.key"]
    subprocess.run([program("openssl"), *words], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "mesh.key").chmod(0o600)
    assert b"BEGIN PRIVATE KEY" in (tmp_path / "mesh.key").read_bytes()
    opened = load_ec_private_key(tmp_path / "mesh.key")
    assert isinstance(opened.curve, ec.SECP256R1)
    assert opened.public_key() == key.public_key()
