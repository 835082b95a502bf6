"""The issuer of a certificate: the chain that a caller presents is only a claim, and an issuer too can be revoked."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.registry.v1 import revocation_pb2, revocation_pb2_grpc
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_pki.authority import CertificateAuthority
from npd_pki.identity import Kind, host_of
from npd_pki.keys import generate_p256_key
from npd_pki.validity import Validity
from services.sharing.app import ROOM as SHARING
from tests.certificates import CLIENT_AUTH, Holder, TestPki, expired
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, new_id

Chain: TypeAlias = tuple[x509.Certificate, ...]
ROOM_HOST = host_of(Kind.MESH, ENVIRONMENT)


@pytest.fixture(scope="module")
def pki(authority: Authority) -> TestPki:
    """Makes any leaf below the CAs that the rooms trust."""
    pki = TestPki(ENVIRONMENT)
    pki.hierarchy, pki.roots = authority.hierarchy, (authority.hierarchy.root.certificate,)
    return pki


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk) -> Running:
    """A room in which everybody who is accepted may read checkpoints."""
    desk.register("tax/core")
    return stage.start(SHARING)


def refusal(room: Running, holder: Holder) -> Refusal | None:
    """What refuses a call with a certificate, on a connection of its own; None if it is answered."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(room.address, holder.channel_credentials(), options) as channel:
        stub = evidence_pb2_grpc.EvidenceServiceStub(channel)
        try:
            stub.GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10)
        except grpc.RpcError as error:
            return refusal_of(error)
    return None


def reason(found: Refusal | None) -> str:
    """In a word."""
    if found is None:
        return "OK"
    return "HANDSHAKE" if isinstance(found, Unreachable) else found.reason


def revoke(stage: Stage, registry: Running, issuer_key_id: str, serial_number: str) -> None:
    """Revoke a certificate, and return when every room knows."""
    revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan")).RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(),
            issuer_key_id=issuer_key_id,
            serial_number=serial_number,
            reason=revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE,
        )
    )
    stage.settle()


def decoy(pki: TestPki, like: CertificateAuthority, host: str | None) -> CertificateAuthority:
    """A CA certificate with the name and key of another that no root of ours has signed, constrained to a host."""
    return pki.foreign().issuing_ca(Kind.AGENCY, host=host, like=like)


def test_a_decoy_takes_nothing_from_a_good_leaf(pki: TestPki, sharing: Running) -> None:
    real = pki.hierarchy.agency
    chain = (real.certificate, decoy(pki, real, ROOM_HOST).certificate)
    assert reason(refusal(sharing, pki.agency("tax", "core", chain=chain))) == "OK"


@pytest.mark.parametrize("host", [ROOM_HOST, None])
def test_a_decoy_does_not_let_agencies_ca_name_a_room(pki: TestPki, sharing: Running, host: str | None) -> None:
    real, recorded = pki.hierarchy.agency, sharing.entries()
    for chain in _both_ways(real, decoy(pki, real, host)):
        forged = pki.room("identity", issuer=real, dns_names=(), purposes=[CLIENT_AUTH], chain=chain)
        assert reason(refusal(sharing, forged)) == "HANDSHAKE"
    assert sharing.entries() == recorded


@pytest.mark.parametrize("kind", [Kind.AGENCY, Kind.MESH])
def test_a_decoy_does_not_entitle_an_unconstrained_issuer(pki: TestPki, sharing: Running, kind: Kind) -> None:
    """TLS finds the chain that leads to our root, and the room must judge by that one, not by the other presented."""
    unconstrained, recorded = pki.issuing_ca(Kind.AGENCY, host=None), sharing.entries()
    passed_over = _passed_over(unconstrained, host_of(kind, ENVIRONMENT))
    for chain in _both_ways(unconstrained, passed_over):
        holder = (
            pki.agency("tax", "core", issuer=unconstrained, chain=chain)
            if kind is Kind.AGENCY
            else pki.room("identity", issuer=unconstrained, chain=chain)
        )
        assert reason(refusal(sharing, holder)) == "ISSUER_NOT_ENTITLED"
    assert sharing.entries() == recorded


def test_an_issuer_renewed_under_the_same_key_is_taken_for_its_predecessor_s_leaves(
    pki: TestPki, sharing: Running
) -> None:
    real, past = pki.hierarchy.agency, pki.issuing_ca(Kind.AGENCY, validity=expired())
    holder = pki.agency("tax", "core", chain=(real.certificate, past.certificate))
    assert reason(refusal(sharing, holder)) == "OK"


def test_a_revoked_issuer_takes_its_leaves_with_it(
    stage: Stage, registry: Running, pki: TestPki, sharing: Running
) -> None:
    issuer = pki.issuing_ca(Kind.AGENCY)
    holder = pki.agency("tax", "core", issuer=issuer)
    assert reason(refusal(sharing, holder)) == "OK"
    recorded = sharing.entries()
    revoke(stage, registry, pki.hierarchy.root.key_id, f"{issuer.certificate.serial_number:x}")
    found = refusal(sharing, holder)
    assert reason(found) == "CERTIFICATE_REVOKED"
    assert found is not None
    assert set(found.metadata) == {"revoke_time"}
    assert sharing.entries() == recorded
    assert reason(refusal(sharing, pki.agency("tax", "core"))) == "OK", "its twin, of the same key, is not revoked"


def test_a_serial_number_is_revoked_for_its_own_issuer_alone(
    stage: Stage, registry: Running, pki: TestPki, sharing: Running
) -> None:
    holder = pki.agency("tax", "core")
    _, serial_number = holder.revocation
    revoke(stage, registry, pki.hierarchy.operator.key_id, serial_number)
    assert reason(refusal(sharing, holder)) == "OK"
    revoke(stage, registry, *holder.revocation)
    assert reason(refusal(sharing, holder)) == "CERTIFICATE_REVOKED"
    assert reason(refusal(sharing, pki.agency("tax", "core"))) == "OK", "another certificate of the same system"


def test_an_open_stream_ends_when_the_issuer_expires(stage: Stage, desk: Desk, pki: TestPki, sharing: Running) -> None:
    """The leaf itself would be valid for another month."""
    desk.register("long/core", officers=["o-1"])
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["full_name"]}
    agreement_id = desk.agree("long/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    stage.settle()
    now = datetime.now(UTC)
    issuer = pki.issuing_ca(Kind.AGENCY, validity=Validity(now - timedelta(minutes=1), now + timedelta(seconds=3)))
    access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")
    holder = pki.agency("long", "core", issuer=issuer)
    with grpc.secure_channel(sharing.address, holder.channel_credentials()) as channel:
        stream = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(
            change_pb2.WatchChangesRequest(access=access), timeout=8
        )
        with pytest.raises(grpc.RpcError) as ended:
            list(cast(Iterable[change_pb2.WatchChangesResponse], stream))
    assert reason(refusal_of(ended.value)) == "CERTIFICATE_EXPIRED"


def _both_ways(one: CertificateAuthority, other: CertificateAuthority) -> tuple[Chain, Chain]:
    return (one.certificate, other.certificate), (other.certificate, one.certificate)


def _passed_over(like: CertificateAuthority, host: str) -> CertificateAuthority:
    """A decoy of the same key that TLS does not try: its key identifier is not the one that leaves name."""
    issued = like.certificate
    builder = (
        x509.CertificateBuilder(issued.issuer, issued.subject, like.key.public_key(), issued.serial_number + 1)
        .not_valid_before(issued.not_valid_before_utc)
        .not_valid_after(issued.not_valid_after_utc)
        .add_extension(x509.SubjectKeyIdentifier(b"somebody else's key"), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints([x509.UniformResourceIdentifier(host)], None), critical=True)
    )
    return CertificateAuthority(builder.sign(generate_p256_key(), SHA256()), like.key)
