"""The CA of the rooms is replaced, or revoked, while they run: what the runbook says of it rests on this."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.registry.v1 import revocation_pb2, revocation_pb2_grpc
from npd_client import RotatingChannel
from npd_client.credentials import ChainBroken
from npd_client.errors import refusal_of
from npd_pki.authority import IssuingCA, create_root
from npd_pki.identity import Kind, mesh_uri
from npd_pki.issuance import issuer_key_id
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.profile import ROOM_TLS
from npd_pki.trust_bundle import certificates_pem
from services.mesh.wire.credentials import ServerCredentials
from services.sharing.app import ROOM as SHARING
from tests.certificates import Holder
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, new_id, wait_until
from tests.rpc.test_tls_reload import presented
from tests.volumes import Volume

IDENTITY = mesh_uri(ENVIRONMENT, "sharing")


def leaf_of(authority: IssuingCA, room: str, *roots: x509.Certificate) -> Holder:
    """A leaf of a room below a CA."""
    key = generate_p256_key()
    issued = authority.issue(ROOM_TLS, mesh_uri(ENVIRONMENT, room), key.public_key(), dns_names=["localhost"])
    return Holder(issued.certificate, key, issued.chain, tuple(roots))


def contents(holder: Holder) -> dict[str, bytes]:
    """What lies in the volume of a holder."""
    pem = {"tls.crt": holder.chain_pem, "tls.key": private_key_pem(holder.key)}
    return {**pem, "ca.crt": certificates_pem(holder.roots)}


@pytest.fixture(scope="module")
def former(authority: Authority) -> IssuingCA:
    """The CA that certified the rooms of this test."""
    return authority.hierarchy.mesh


@pytest.fixture(scope="module")
def successor(authority: Authority) -> IssuingCA:
    """Another CA for rooms, with a key of its own, below the same root."""
    key = generate_p256_key()
    return IssuingCA(authority.hierarchy.root.certify(Kind.MESH, key.public_key()), key)


@pytest.fixture
def as_room(registry: Running, tmp_path: Path) -> Callable[[Holder], str]:
    """Calls the registry as a room and says how that went."""

    def call(holder: Holder) -> str:
        with RotatingChannel(registry.address, holder.write(tmp_path / "caller")) as channel:
            try:
                evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest())
            except grpc.RpcError as error:
                return refusal_of(error).reason
            return "answered"

    return call


def test_a_further_ca_of_the_rooms_needs_nothing_but_its_leaves(
    stage: Stage,
    desk: Desk,
    authority: Authority,
    former: IssuingCA,
    successor: IssuingCA,
    as_room: Callable[[Holder], str],
    tmp_path: Path,
) -> None:
    """No bundle changes, and nobody is told: rooms of either CA talk with each other."""
    desk.register("tax/core")
    root = authority.hierarchy.root.certificate
    volume = Volume.mount(tmp_path / "tls", contents(leaf_of(former, "sharing", root)))
    sharing = stage.start(SHARING, tls_directory=volume.directory, credentials_poll=timedelta(seconds=0.05))
    stub = evidence_pb2_grpc.EvidenceServiceStub(sharing.channel(Kind.AGENCY, "tax/core"))
    renewed = leaf_of(successor, "sharing", root)
    volume.replace(contents(renewed))
    wait_until(lambda: presented(sharing) == renewed.certificate.serial_number)
    assert stub.GetCheckpoint(evidence_pb2.GetCheckpointRequest()).checkpoint
    assert as_room(renewed) == as_room(leaf_of(former, "residence", root)) == "answered"


def test_a_ca_that_a_further_root_certified_serves_both_roots_in_turn(
    authority: Authority, former: IssuingCA, tmp_path: Path
) -> None:
    """Its new certificate takes the place of the old one in the Secret; the leaves that follow lead to the new root."""
    root, further = authority.hierarchy.root.certificate, create_root(ENVIRONMENT)
    crossed = IssuingCA(further.cross_certify(former.certificate), former.key)
    for number, holder in enumerate(
        (
            leaf_of(former, "sharing", root, further.certificate),
            leaf_of(crossed, "sharing", root, further.certificate),
            leaf_of(crossed, "sharing", further.certificate),
        )
    ):
        volume = Volume.mount(tmp_path / str(number), contents(holder))
        assert ServerCredentials(volume.directory, IDENTITY).roots
    early = Volume.mount(tmp_path / "early", contents(leaf_of(former, "sharing", further.certificate)))
    with pytest.raises(ChainBroken):
        ServerCredentials(early.directory, IDENTITY)


def test_a_revoked_ca_of_the_rooms_takes_all_its_leaves_along(
    stage: Stage,
    registry: Running,
    authority: Authority,
    former: IssuingCA,
    successor: IssuingCA,
    as_room: Callable[[Holder], str],
) -> None:
    """It is named by its root and its own serial number; those of its successor go on."""
    root = authority.hierarchy.root.certificate
    assert as_room(leaf_of(former, "residence", root)) == "answered"
    revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan")).RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(),
            issuer_key_id=issuer_key_id(root),
            serial_number=f"{former.certificate.serial_number:x}",
            reason=revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE,
        )
    )
    wait_until(lambda: as_room(leaf_of(former, "residence", root)) == "CERTIFICATE_REVOKED")
    assert as_room(leaf_of(successor, "residence", root)) == "answered"
