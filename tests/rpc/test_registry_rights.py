"""Rights: a caller learns who it is taken for and what it may do, by the decisions that refuse it elsewhere."""

from datetime import date, timedelta

import pytest

from npd.common.v1 import error_reason_pb2
from npd.common.v1.access_pb2 import AccessMode
from npd.registry.v1 import agency_pb2, agreement_pb2, rights_pb2, rights_pb2_grpc
from npd_pki.identity import Kind
from tests.mesh_fixture import Desk, Running, Stage, new_id, today

LOOKUP, CONTRIBUTE = AccessMode.ACCESS_MODE_LOOKUP, AccessMode.ACCESS_MODE_CONTRIBUTE


@pytest.fixture(scope="module", autouse=True)
def _systems(stage: Stage, desk: Desk) -> None:
    for name in ("tax/core", "moh/medical", "quiet/core"):
        desk.register(name)
    stage.settle()


def _stub(registry: Running, kind: Kind, name: str) -> rights_pb2_grpc.RightsServiceStub:
    return rights_pb2_grpc.RightsServiceStub(registry.channel(kind, name))


def _rights(stage: Stage, registry: Running, name: str) -> dict[str, rights_pb2.AgreementRights]:
    stage.settle()
    answer = _stub(registry, Kind.AGENCY, name).DescribeRights(rights_pb2.DescribeRightsRequest())
    assert answer.policy_revision == registry.house.keeper.current.revision
    return {rights.agreement_id: rights for rights in answer.agreements}


def _refusal(rights: rights_pb2.AgreementRights) -> str:
    assert not rights.modes
    return error_reason_pb2.ErrorReason.Name(rights.refusal).removeprefix("ERROR_REASON_")


def test_system_is_told_who_it_is(registry: Running) -> None:
    leaf = registry.authority.leaf(Kind.AGENCY, "tax/core")
    recorded = len(registry.entries())
    who = _stub(registry, Kind.AGENCY, "tax/core").WhoAmI(rights_pb2.WhoAmIRequest())
    assert who.identity == "spiffe://agency.test.npd.example/tax/core"
    assert (who.agency_id, who.agency_name, who.system_id) == ("tax", "Agency tax", "core")
    assert (who.state, who.cause) == (agency_pb2.SYSTEM_STATE_ACTIVE, "")
    assert who.certificate_expire_time.ToDatetime() == leaf.not_valid_after_utc.replace(tzinfo=None)
    assert who.certificate_serial_number == f"{leaf.serial_number:x}"
    assert len(registry.entries()) == recorded, "reading the registry is no act of authority"


@pytest.mark.parametrize(
    ("kind", "name", "identity"),
    [
        (Kind.OPERATOR, "stranger", "spiffe://operator.test.npd.example/stranger"),
        (Kind.AGENCY, "ghost/core", "spiffe://agency.test.npd.example/ghost/core"),
        (Kind.MESH, "sharing", "spiffe://mesh.test.npd.example/sharing"),
    ],
)
def test_anybody_with_a_certificate_is_told_who_he_is(registry: Running, kind: Kind, name: str, identity: str) -> None:
    who = _stub(registry, kind, name).WhoAmI(rights_pb2.WhoAmIRequest())
    assert (who.identity, who.state) == (identity, agency_pb2.SYSTEM_STATE_UNSPECIFIED)
    assert not _stub(registry, kind, name).DescribeRights(rights_pb2.DescribeRightsRequest()).agreements


def test_agreement_in_force_grants_modes_and_paths(stage: Stage, registry: Running, desk: Desk) -> None:
    grants = {CONTRIBUTE: ["blood_type"], LOOKUP: ["sex", "pin"]}
    agreement_id = desk.agree("moh/medical", "DATABASE_FEED", "QD1911/2021", grants)
    rights = _rights(stage, registry, "moh/medical")[agreement_id]
    assert (rights.purpose, rights.provision, rights.refusal) == ("DATABASE_FEED", "QD1911/2021", 0)
    assert [(mode.mode, list(mode.paths)) for mode in rights.modes] == [
        (LOOKUP, ["pin", "sex"]),
        (CONTRIBUTE, ["blood_type"]),
    ]
    assert agreement_id not in _rights(stage, registry, "quiet/core")


def test_agreement_that_grants_nothing_says_why(stage: Stage, registry: Running, desk: Desk) -> None:
    grants = {LOOKUP: ["sex"]}
    ground = ("tax/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    draft = desk.draw_up(desk.terms(*ground))
    draft_id = agreement_pb2.AgreementTerms.FromString(draft.terms).agreement_id
    later = desk.agree(*ground, start=today() + timedelta(days=5))
    over = desk.agree(*ground, start=date(2025, 1, 1), end=today() - timedelta(days=1))
    suspended = desk.agree(*ground)
    desk.agreements.SuspendAgreement(
        agreement_pb2.SuspendAgreementRequest(request_id=new_id(), agreement_id=suspended, cause="Under review.")
    )
    rights = _rights(stage, registry, "tax/core")
    assert _refusal(rights[draft_id]) == "AGREEMENT_SIGNATURE_INVALID"
    assert _refusal(rights[later]) == "AGREEMENT_NOT_YET_VALID"
    assert _refusal(rights[over]) == "AGREEMENT_EXPIRED"
    assert _refusal(rights[suspended]) == "AGREEMENT_SUSPENDED"


def test_suspended_system_learns_that_its_agreements_grant_nothing(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("halted/core")
    agreement_id = desk.agree("halted/core", "STATE_MANAGEMENT", "D70/2024.9", {LOOKUP: ["sex"]})
    desk.systems.SuspendSystem(
        agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="halted", system_id="core", cause="Risk.")
    )
    assert _refusal(_rights(stage, registry, "halted/core")[agreement_id]) == "SYSTEM_SUSPENDED"
