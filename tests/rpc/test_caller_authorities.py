"""Authorities: once the policy names one of a host, the leaves of those alone that it names are accepted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import grpc
import pytest

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import Outcome
from npd.registry.v1 import agreement_pb2, agreement_pb2_grpc
from npd.registry.v1.certificate_authority_pb2 import CertificateAct, RecordCertificateActsRequest
from npd.registry.v1.certificate_authority_pb2_grpc import CertificateActServiceStub
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.agreement import sign_terms
from npd_client.errors import Refusal, refusal_of
from npd_pki.authority import CertificateAuthority
from npd_pki.identity import Kind, agency_uri, host_of
from services.mesh.core.authorities import AuthorityState
from services.sharing.app import ROOM as SHARING
from tests.certificates import Holder, TestPki
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, new_id, refused

WATCH = "/npd.sharing.v1.ChangeService/WatchChanges"
ACTIVE, REVOKED = AuthorityState.ACTIVE, AuthorityState.REVOKED


@pytest.fixture(scope="module")
def pki(authority: Authority) -> TestPki:
    """Makes any leaf below the CAs that the rooms trust."""
    pki = TestPki(ENVIRONMENT)
    pki.hierarchy, pki.roots = authority.hierarchy, (authority.hierarchy.root.certificate,)
    return pki


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk) -> Running:
    """A room in which everybody who is accepted may read checkpoints."""
    desk.register("tax/core", officers=["o-1"])
    return stage.start(SHARING)


def another(pki: TestPki, kind: Kind = Kind.AGENCY) -> CertificateAuthority:
    """An issuing CA below our root, with a key of its own."""
    return pki.issuing_ca(kind, like=pki.foreign().hierarchy.of(kind))


def tell(
    stage: Stage, registry: Running, ca: CertificateAuthority, state: AuthorityState, kind: Kind = Kind.AGENCY
) -> datetime:
    """Name an authority, as the issuer does, and return when every room knows; since when it is in its state."""
    now = datetime.now(UTC)
    act = CertificateAct(
        act_id=new_id(),
        method="/npd.issuer.v1.AuthorityService/ActivateAuthority",
        actor=f"spiffe://operator.{ENVIRONMENT}/lan",
        object=f"authority {ca.key_id}",
    )
    act.act_time.FromDatetime(now)
    act.authority.key_id, act.authority.host = ca.key_id, host_of(kind, ENVIRONMENT)
    act.authority.state = state.value  # type: ignore[assignment]
    act.authority.state_time.FromDatetime(now)
    issuer = CertificateActServiceStub(registry.channel(Kind.MESH, "issuer"))
    issuer.RecordCertificateActs(RecordCertificateActsRequest(acts=[act]))
    stage.settle()
    return now


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


def reason(room: Running, holder: Holder) -> str:
    """In a word."""
    found = refusal(room, holder)
    return "OK" if found is None else found.reason


def test_while_no_authority_is_named_the_chain_alone_decides(registry: Running, sharing: Running, pki: TestPki) -> None:
    operator = pki.operator("lan", issuer=another(pki, Kind.OPERATOR))
    for room in (registry, sharing):
        assert reason(room, operator) == "OK"


def test_a_leaf_is_accepted_by_the_state_of_its_authority(
    stage: Stage, registry: Running, sharing: Running, pki: TestPki
) -> None:
    tell(stage, registry, pki.hierarchy.agency, ACTIVE)
    issuer = another(pki)
    holder, recorded = pki.agency("tax", "core", issuer=issuer), len(sharing.entries())
    assert reason(sharing, holder) == "ISSUER_NOT_ENTITLED", "it is not named"
    for state, expected in (
        (AuthorityState.PREPARED, "OK"),
        (AuthorityState.ACTIVE, "OK"),
        (AuthorityState.TAINTED, "OK"),
        (AuthorityState.RETIRED, "ISSUER_NOT_ENTITLED"),
    ):
        tell(stage, registry, issuer, state)
        for room in (registry, sharing):
            assert reason(room, holder) == expected, state
    assert reason(sharing, pki.agency("tax", "core")) == "OK", "of the authority that is ACTIVE"
    assert len(sharing.entries()) == recorded, "callers without a valid identity are not recorded"


def test_leaves_of_a_revoked_authority_are_told_since_when(
    stage: Stage, registry: Running, sharing: Running, pki: TestPki
) -> None:
    tell(stage, registry, pki.hierarchy.agency, ACTIVE)
    issuer = another(pki)
    since = tell(stage, registry, issuer, REVOKED)
    for room in (registry, sharing):
        found = refusal(room, pki.agency("tax", "core", issuer=issuer))
        assert found is not None
        assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")
        assert found.metadata == {"revoke_time": since.isoformat()}


def test_revocation_of_an_authority_cuts_open_streams_of_its_leaves_alone(
    stage: Stage, registry: Running, desk: Desk, sharing: Running, pki: TestPki
) -> None:
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["full_name"]}
    agreement_id = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    issuer = another(pki)
    tell(stage, registry, pki.hierarchy.agency, ACTIVE)
    tell(stage, registry, issuer, AuthorityState.TAINTED)
    access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")
    holders = (pki.agency("tax", "core", issuer=issuer), pki.agency("tax", "core"))
    options = [("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.secure_channel(sharing.address, holders[0].channel_credentials(), options) as cut,
        grpc.secure_channel(sharing.address, holders[1].channel_credentials(), options) as kept,
    ):
        lost, good = (
            change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(
                change_pb2.WatchChangesRequest(access=access), timeout=20
            )
            for channel in (cut, kept)
        )
        for stream in (lost, good):
            next(cast(Iterator[change_pb2.WatchChangesResponse], stream))
        tell(stage, registry, issuer, REVOKED)
        with pytest.raises(grpc.RpcError) as ended:
            list(cast(Iterator[change_pb2.WatchChangesResponse], lost))
        assert refusal_of(ended.value).reason == "CERTIFICATE_REVOKED"
        assert cast(grpc.Call, good).is_active()
        cast(grpc.Call, good).cancel()
    cuts = [entry for entry in sharing.entries() if entry.reason == "CERTIFICATE_REVOKED"]
    identity = agency_uri(ENVIRONMENT, "tax", "core")
    assert [(one.caller, one.method, one.outcome) for one in cuts] == [(identity, WATCH, Outcome.OUTCOME_REFUSED)]


def test_operators_have_authorities_of_their_own(
    stage: Stage, registry: Running, sharing: Running, pki: TestPki
) -> None:
    tell(stage, registry, pki.hierarchy.operator, ACTIVE, Kind.OPERATOR)
    foreign = pki.operator("lan", issuer=another(pki, Kind.OPERATOR))
    for room in (registry, sharing):
        assert reason(room, foreign) == "ISSUER_NOT_ENTITLED"
        assert reason(room, pki.operator("lan")) == "OK"


def test_rooms_are_judged_by_their_chain_alone(stage: Stage, registry: Running, sharing: Running, pki: TestPki) -> None:
    tell(stage, registry, pki.hierarchy.agency, ACTIVE)
    tell(stage, registry, pki.hierarchy.operator, ACTIVE, Kind.OPERATOR)
    for room in (registry, sharing):
        assert reason(room, pki.room("identity")) == "OK"
        assert reason(room, pki.room("identity", issuer=another(pki, Kind.MESH))) == "OK"


def test_a_signing_leaf_of_a_revoked_authority_signs_no_agreement(
    stage: Stage, registry: Running, desk: Desk, pki: TestPki, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The TLS leaf of the caller is a good one."""
    desk.register("pen/core")
    tell(stage, registry, pki.hierarchy.agency, ACTIVE)
    issuer = another(pki)
    signer = pki.signing(Kind.AGENCY, "pen", "core", issuer=issuer).write(tmp_path_factory.mktemp("signer"))
    grants = {AccessMode.ACCESS_MODE_LOOKUP: ["sex"]}
    draft = desk.draw_up(desk.terms("pen/core", "STATE_MANAGEMENT", "D70/2024.9", grants))
    agreement_id = agreement_pb2.AgreementTerms.FromString(draft.terms).agreement_id
    stub = agreement_pb2_grpc.AgreementServiceStub(registry.channel(Kind.AGENCY, "pen/core"))

    def request() -> agreement_pb2.SignAgreementRequest:
        signature = sign_terms(draft.terms, signer)
        return agreement_pb2.SignAgreementRequest(request_id=new_id(), agreement_id=agreement_id, signature=signature)

    tell(stage, registry, issuer, REVOKED)
    found = refused(stub.SignAgreement, request())
    assert (found.reason, found.metadata["defect"]) == (
        "AGREEMENT_SIGNATURE_INVALID",
        "the certificate's issuer is revoked",
    )
    assert registry.entries()[-1].reason == "AGREEMENT_SIGNATURE_INVALID"
