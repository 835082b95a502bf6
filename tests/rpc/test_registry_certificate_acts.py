"""The issuer's acts in the registry: in the authority log, and in the policy of every room."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.registry.v1 import policy_pb2, revocation_pb2, revocation_pb2_grpc
from npd.registry.v1.certificate_authority_pb2 import CertificateAct, RecordCertificateActsRequest
from npd.registry.v1.certificate_authority_pb2_grpc import CertificateActServiceStub
from npd_pki.identity import Kind
from services.mesh.core.authorities import Authority, AuthorityState, Revoked
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import ENVIRONMENT, Running, Stage, new_id, refused

METHOD = "/npd.registry.v1.CertificateActService/RecordCertificateActs"
REVOKE, ACTIVATE = "/npd.issuer.v1.CertificateService/RevokeCertificate", "/npd.issuer.v1.AuthorityService/Activate"
ISSUER, LAN = f"spiffe://mesh.{ENVIRONMENT}/issuer", f"spiffe://operator.{ENVIRONMENT}/lan"
HOST = f"agency.{ENVIRONMENT}"
COMPROMISE, SUPERSEDED = revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE, revocation_pb2.REVOCATION_REASON_SUPERSEDED
NOW = datetime.now(UTC)
SECOND = timedelta(seconds=1)
BY_LAN = f"by {LAN}, at {NOW.isoformat()}"
UNUSABLE = Timestamp(seconds=1 << 60)


@pytest.fixture(scope="module")
def sharing(stage: Stage, registry: Running) -> Running:
    """A room that follows the policy."""
    return stage.start(SHARING)


def stub(registry: Running, kind: Kind = Kind.MESH, name: str = "issuer") -> CertificateActServiceStub:
    return CertificateActServiceStub(registry.channel(kind, name))


def record(registry: Running, *acts: CertificateAct) -> None:
    stub(registry).RecordCertificateActs(RecordCertificateActsRequest(acts=acts))


def act(object_: str = "certificate 4c02 of issuer 3fa1", *, method: str = REVOKE, actor: str = LAN) -> CertificateAct:
    told = CertificateAct(act_id=new_id(), method=method, actor=actor, object=object_)
    told.act_time.FromDatetime(NOW)
    return told


def revoking(
    *names: tuple[str, str], reason: "revocation_pb2.RevocationReason.ValueType" = COMPROMISE, since: datetime = NOW
) -> CertificateAct:
    told = act()
    for issuer_key_id, serial_number in names:
        revoked = told.revoked_certificates.add(issuer_key_id=issuer_key_id, serial_number=serial_number, reason=reason)
        revoked.revoke_time.FromDatetime(since)
    return told


def leaving(key_id: str, state: AuthorityState, since: datetime = NOW) -> CertificateAct:
    told = act(f"authority {key_id}", method=ACTIVATE)
    told.authority.key_id, told.authority.host, told.authority.state = key_id, HOST, state.value  # type: ignore[assignment]
    told.authority.state_time.FromDatetime(since)
    return told


def name() -> tuple[str, str]:
    """A certificate that nobody has."""
    return secrets.token_hex(32), f"1{secrets.token_hex(15)}"


def since(registry: Running, recorded: int) -> list[LogEntry]:
    return registry.entries()[recorded:]


def revision(registry: Running) -> int:
    with registry.house.engine.connect() as connection:
        found: int = connection.execute(text("SELECT revision FROM policy_revision")).scalar_one()
    return found


def test_acts_are_recorded_in_their_order_and_reach_every_room(
    stage: Stage, registry: Running, sharing: Running
) -> None:
    certificate, key_id = name(), secrets.token_hex(32)
    recorded, before = len(registry.entries()), revision(registry)
    acts = [act("certificate 1f for spiffe://x"), revoking(certificate), leaving(key_id, AuthorityState.ACTIVE)]
    record(registry, *acts)
    entries = since(registry, recorded)
    assert [(entry.caller, entry.method, entry.outcome, entry.object) for entry in entries] == [
        (ISSUER, REVOKE, Outcome.OUTCOME_DONE, f"certificate 1f for spiffe://x, {BY_LAN}"),
        (ISSUER, REVOKE, Outcome.OUTCOME_DONE, f"certificate 4c02 of issuer 3fa1, {BY_LAN}"),
        (ISSUER, ACTIVATE, Outcome.OUTCOME_DONE, f"authority {key_id}, {BY_LAN}"),
    ]
    assert revision(registry) == before + 1
    stage.settle()
    for room in (registry, sharing):
        policy = room.house.keeper.current
        assert policy.revoked[certificate] == Revoked(NOW, COMPROMISE)
        assert policy.authorities[key_id] == Authority(key_id, HOST, AuthorityState.ACTIVE, NOW)
        assert policy.governed_hosts == {HOST}


def test_acts_that_change_no_right_are_recorded_under_the_same_revision(registry: Running) -> None:
    recorded, before = len(registry.entries()), revision(registry)
    record(registry, act(), act(method="/npd.common.v1.ApprovalService/ApproveRequest", actor=ISSUER))
    assert [entry.method for entry in since(registry, recorded)] == [
        REVOKE,
        "/npd.common.v1.ApprovalService/ApproveRequest",
    ]
    assert revision(registry) == before


def test_acts_told_again_change_nothing(stage: Stage, registry: Running, sharing: Running) -> None:
    first, second = revoking(name()), leaving(secrets.token_hex(32), AuthorityState.PREPARED)
    record(registry, first)
    recorded, before = len(registry.entries()), revision(registry)
    record(registry, first)
    assert (len(registry.entries()), revision(registry)) == (recorded, before)
    record(registry, second, first, second)
    assert [entry.object for entry in since(registry, recorded)] == [f"{second.object}, {BY_LAN}"]


def test_an_id_with_another_act_is_refused_with_all_acts_beside_it(registry: Running) -> None:
    known, other = act(), revoking(name())
    record(registry, known)
    recorded, before = len(registry.entries()), revision(registry)
    known.object = "certificate 5d of issuer 3fa1"
    refusal = refused(stub(registry).RecordCertificateActs, RecordCertificateActsRequest(acts=[other, known]))
    assert refusal.reason == "REQUEST_ID_REUSED"
    (entry,) = since(registry, recorded)
    assert (entry.method, entry.outcome, entry.reason) == (METHOD, Outcome.OUTCOME_REFUSED, "REQUEST_ID_REUSED")
    assert revision(registry) == before
    record(registry, other)
    assert revision(registry) == before + 1, "it was not recorded before"


def test_two_acts_of_one_request_have_two_ids(registry: Running) -> None:
    one, other = act(), act("certificate 5d of issuer 3fa1")
    other.act_id = one.act_id.upper()
    refusal = refused(stub(registry).RecordCertificateActs, RecordCertificateActsRequest(acts=[one, other]))
    assert refusal.reason == "FIELD_INVALID"
    assert [violation.field for violation in refusal.violations] == ["acts[1].act_id"]
    assert registry.entries()[-1].reason == "FIELD_INVALID"


def test_what_is_revoked_keeps_its_first_time_and_reason(stage: Stage, registry: Running, sharing: Running) -> None:
    certificate, other = name(), name()
    record(registry, revoking(certificate), revoking(certificate, reason=SUPERSEDED, since=NOW - SECOND))
    before = revision(registry)
    record(registry, revoking(certificate, reason=SUPERSEDED, since=NOW - SECOND))
    assert revision(registry) == before
    record(registry, revoking(certificate, other, reason=SUPERSEDED))
    assert revision(registry) == before + 1
    stage.settle()
    assert sharing.house.keeper.current.revoked[certificate] == Revoked(NOW, COMPROMISE)
    assert sharing.house.keeper.current.revoked[other] == Revoked(NOW, SUPERSEDED)


def test_what_an_operator_revoked_here_stays_as_he_revoked_it(
    stage: Stage, registry: Running, sharing: Running
) -> None:
    issuer_key_id, serial_number = certificate = name()
    operator = revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    request = revocation_pb2.RevokeCertificateRequest(
        request_id=new_id(), issuer_key_id=issuer_key_id, serial_number=serial_number, reason=SUPERSEDED
    )
    revoke_time = operator.RevokeCertificate(request).revoke_time.ToDatetime(UTC)
    record(registry, revoking(certificate))
    stage.settle()
    assert sharing.house.keeper.current.revoked[certificate] == Revoked(revoke_time, SUPERSEDED)


def test_an_authority_is_as_the_newest_act_left_it_and_never_comes_back(
    stage: Stage, registry: Running, sharing: Running
) -> None:
    key_id = secrets.token_hex(32)

    def told(state: AuthorityState, seconds: int) -> AuthorityState:
        record(registry, leaving(key_id, state, NOW + seconds * SECOND))
        stage.settle()
        return sharing.house.keeper.current.authorities[key_id].state

    assert told(AuthorityState.ACTIVE, -5) is AuthorityState.ACTIVE
    before = revision(registry)
    assert told(AuthorityState.PREPARED, -9) is AuthorityState.ACTIVE, "an older word comes late"
    assert revision(registry) == before
    assert told(AuthorityState.TAINTED, -4) is AuthorityState.TAINTED
    assert told(AuthorityState.REVOKED, -3) is AuthorityState.REVOKED
    before = revision(registry)
    assert told(AuthorityState.ACTIVE, -1) is AuthorityState.REVOKED
    assert revision(registry) == before


def test_an_authority_told_with_a_time_ahead_can_be_tainted_at_once(
    stage: Stage, registry: Running, sharing: Running
) -> None:
    key_id = secrets.token_hex(32)
    record(registry, leaving(key_id, AuthorityState.ACTIVE, NOW + timedelta(hours=1)))
    record(registry, leaving(key_id, AuthorityState.TAINTED, datetime.now(UTC)))
    stage.settle()
    assert sharing.house.keeper.current.authorities[key_id].state is AuthorityState.TAINTED


def test_all_leaves_of_an_authority_are_revoked_by_one_act(stage: Stage, registry: Running, sharing: Running) -> None:
    issuer_key_id = secrets.token_hex(32)
    names = [(issuer_key_id, f"{number:x}") for number in range(1, 3001)]
    record(registry, revoking(*names[:10]))
    record(registry, revoking(*names, reason=SUPERSEDED))
    stage.settle()
    revoked = sharing.house.keeper.current.revoked
    assert [revoked[each].reason for each in names] == [COMPROMISE] * 10 + [SUPERSEDED] * 2990


def test_the_same_acts_told_at_once_are_recorded_once(registry: Running) -> None:
    acts = [revoking(name()) for _ in range(20)] + [leaving(secrets.token_hex(32), AuthorityState.ACTIVE)]
    recorded, before = len(registry.entries()), revision(registry)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda some: record(registry, *some), [acts, acts[::-1], acts[7:] + acts[:7], acts] * 3))
    assert sorted(entry.object for entry in since(registry, recorded)) == sorted(f"{a.object}, {BY_LAN}" for a in acts)
    assert revision(registry) == before + 1


def test_500_acts_are_taken_and_no_more(registry: Running) -> None:
    recorded = len(registry.entries())
    record(registry, *(act() for _ in range(500)))
    assert len(since(registry, recorded)) == 500
    for request, reason in (
        (RecordCertificateActsRequest(), "FIELD_REQUIRED"),
        (RecordCertificateActsRequest(acts=[act() for _ in range(501)]), "FIELD_INVALID"),
    ):
        refusal = refused(stub(registry).RecordCertificateActs, request)
        assert (refusal.reason, [violation.field for violation in refusal.violations]) == (reason, ["acts"])
        assert registry.entries()[-1].reason == reason
    assert len(since(registry, recorded)) == 502


def test_only_the_issuer_tells_acts(stage: Stage, registry: Running) -> None:
    certificate = name()
    for kind, who, caller_kind in (
        (Kind.MESH, "sharing", "room"),
        (Kind.MESH, "registry", "room"),
        (Kind.OPERATOR, "lan", "operator"),
    ):
        request = RecordCertificateActsRequest(acts=[revoking(certificate)])
        refusal = refused(stub(registry, kind, who).RecordCertificateActs, request)
        assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", caller_kind)
        entry = registry.entries()[-1]
        assert (entry.method, entry.reason) == (METHOD, "METHOD_NOT_ALLOWED")
    stage.settle()
    assert certificate not in registry.house.keeper.current.revoked


def _set(path: str, value: object) -> Callable[[CertificateAct], None]:
    """Puts a value at a path below an act; "x.0.y" goes into a list."""

    def change(told: CertificateAct) -> None:
        *parents, last = path.split(".")
        target: object = told
        for step in parents:
            target = target[int(step)] if step.isdigit() else getattr(target, step)  # type: ignore[index]
        if isinstance(value, Timestamp):
            getattr(target, last).CopyFrom(value)
        else:
            setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("act_id", ""), "act_id"),
        (_set("act_id", "act-1"), "act_id"),
        (_set("method", "RevokeCertificate"), "method"),
        (_set("method", "npd.issuer.v1.CertificateService/RevokeCertificate"), "method"),
        (_set("method", "/npd.registry.v1.AgreementService/SignAgreement"), "method"),
        (_set("method", f"{REVOKE}\n"), "method"),
        (_set("actor", "lan"), "actor"),
        (_set("actor", "spiffe://operator.other.example/lan"), "actor"),
        (_set("actor", f"{LAN}?x"), "actor"),
        (_set("actor", f"{LAN}{'n' * 63}"), "actor"),
        (_set("object", ""), "object"),
        (_set("object", "x" * 501), "object"),
        (_set("object", "two\nlines"), "object"),
        (_set("object", "certificate of officer 001099000123"), "object"),
        (lambda told: told.ClearField("act_time"), "act_time"),
        (_set("act_time", UNUSABLE), "act_time"),
        (_set("revoked_certificates.0.issuer_key_id", "AB" * 32), "revoked_certificates[0].issuer_key_id"),
        (_set("revoked_certificates.0.serial_number", "0f"), "revoked_certificates[0].serial_number"),
        (_set("revoked_certificates.0.reason", 0), "revoked_certificates[0].reason"),
        (_set("revoked_certificates.0.reason", 77), "revoked_certificates[0].reason"),
        (lambda told: told.revoked_certificates[0].ClearField("revoke_time"), "revoked_certificates[0].revoke_time"),
        (_set("authority.key_id", "ab"), "authority.key_id"),
        (_set("authority.host", f"mesh.{ENVIRONMENT}"), "authority.host"),
        (_set("authority.host", "agency.other.example"), "authority.host"),
        (_set("authority.host", ""), "authority.host"),
        (_set("authority.state", 0), "authority.state"),
        (_set("authority.state", 6), "authority.state"),
        (lambda told: told.authority.ClearField("state_time"), "authority.state_time"),
        (_set("authority.state_time", UNUSABLE), "authority.state_time"),
        (lambda told: told.authority.CopyFrom(policy_pb2.CertificateAuthority()), "authority.key_id"),
    ],
)
def test_a_malformed_act_is_refused_by_its_field_and_nothing_is_recorded(
    registry: Running, change: Callable[[CertificateAct], None], field: str
) -> None:
    good, bad = revoking(name()), revoking(name())
    bad.authority.CopyFrom(leaving(secrets.token_hex(32), AuthorityState.ACTIVE).authority)
    change(bad)
    recorded, before = len(registry.entries()), revision(registry)
    refusal = refused(stub(registry).RecordCertificateActs, RecordCertificateActsRequest(acts=[good, bad]))
    assert refusal.reason == "FIELD_INVALID"
    assert [violation.field for violation in refusal.violations] == [f"acts[1].{field}"]
    entries = since(registry, recorded)
    assert sum(entry.count for entry in entries if entry.outcome == Outcome.OUTCOME_REFUSED) == len(entries) <= 1
    assert revision(registry) == before
