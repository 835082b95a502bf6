"""The guards before a call: who calls, whether he may, and how long he waits. Without a connection."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd.common.v1 import evidence_pb2
from npd_pki.trust_bundle import certificates_pem
from services.mesh.core.authorities import Revoked
from services.mesh.core.caller import Caller, CallerKind, CertificateMissing, CertificateRevoked, IssuerNotEntitled
from services.mesh.core.errors import DeadlinePassed, MethodNotAllowed
from services.mesh.core.methods import Methods, agency, allow, operator, room
from services.mesh.core.rights import Policy, State, System, SystemSuspended, SystemUnknown
from services.mesh.wire.call import UNARY_CAP, Call, caller_of
from services.mesh.wire.interceptors.caller import CallerGuard
from services.mesh.wire.interceptors.deadline import deadline
from services.mesh.wire.interceptors.policy import PolicyGuard, PolicyStale
from tests.certificates import Holder, TestPki

ENV = "test.npd.example"
METHOD = "/npd.common.v1.EvidenceService/GetCheckpoint"
NOW = datetime.now(UTC) + timedelta(hours=1)  # later than any leaf of this run begins
REQUEST = evidence_pb2.GetCheckpointRequest()
TAX = Caller(f"spiffe://agency.{ENV}/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")
LAN = Caller(f"spiffe://operator.{ENV}/lan", CallerKind.OPERATOR, "lan")
REGISTRY = Caller(f"spiffe://mesh.{ENV}/registry", CallerKind.ROOM, "registry")


class Context:
    """What gRPC would tell of the connection and of the caller's patience."""

    def __init__(self, facts: dict[str, Sequence[bytes]] | None = None, remaining: float | None = None) -> None:
        self._facts = facts or {}
        self._remaining = remaining

    def auth_context(self) -> dict[str, Sequence[bytes]]:
        return self._facts

    def time_remaining(self) -> float | None:
        return self._remaining


class Clock:
    """Stands still."""

    def now(self) -> datetime:
        return NOW


def new_call(context: Context | None = None) -> Call:
    return Call(METHOD, cast(grpc.ServicerContext, context or Context()))


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


# Caller


def connected(holder: Holder, *, version: bytes = b"TLSv1.3") -> Context:
    pem = holder.certificate.public_bytes(Encoding.PEM)
    facts: dict[str, Sequence[bytes]] = {"ssl_tls_version": [version], "x509_pem_cert": [pem]}
    return Context(facts | {"x509_pem_cert_chain": [certificates_pem(holder.chain)]})


def guard_of(roots: Callable[[], Sequence[x509.Certificate]], policy: Policy | None = None) -> CallerGuard:
    return CallerGuard(ENV, roots, lambda: policy or Policy(), Clock())


def test_the_certificate_makes_a_caller(pki: TestPki) -> None:
    call = new_call(connected(pki.agency("tax", "core")))
    guard_of(lambda: pki.roots)(call, REQUEST)
    assert call.caller == TAX == caller_of(call.as_context())


def test_without_tls_13_and_a_certificate_there_is_no_caller(pki: TestPki) -> None:
    facts = connected(pki.agency("tax", "core")).auth_context()
    without = [
        Context(),
        connected(pki.agency("tax", "core"), version=b"TLSv1.2"),
        Context({"ssl_tls_version": [b"TLSv1.3"]}),
        Context({name: value for name, value in facts.items() if name != "ssl_tls_version"}),
    ]
    for context in without:
        call = new_call(context)
        with pytest.raises(CertificateMissing):
            guard_of(lambda: pki.roots)(call, REQUEST)
        with pytest.raises(CertificateMissing):
            caller_of(call.as_context())


def test_a_caller_without_an_intermediate_is_refused(pki: TestPki) -> None:
    with pytest.raises(IssuerNotEntitled):
        guard_of(lambda: pki.roots)(new_call(connected(pki.agency("tax", "core", chain=()))), REQUEST)


def test_another_bundle_judges_known_leaves_anew(pki: TestPki) -> None:
    bundle: Sequence[x509.Certificate] = pki.roots
    guard, context = guard_of(lambda: bundle), connected(pki.agency("tax", "core"))
    guard(new_call(context), REQUEST)
    bundle = pki.foreign().hierarchy.mesh.chain
    with pytest.raises(IssuerNotEntitled):
        guard(new_call(context), REQUEST)


def test_a_leaf_that_is_read_while_the_bundle_changes_is_not_kept_for_the_new_one(pki: TestPki) -> None:
    old, new = pki.roots, pki.foreign().hierarchy.mesh.chain
    context = connected(pki.agency("tax", "core"))
    bundle: list[Sequence[x509.Certificate]] = [old]
    guard = guard_of(lambda: bundle[0])

    class Roots(Sequence[x509.Certificate]):
        """The old bundle; at its first use the new one comes in by another call."""

        def __len__(self) -> int:
            return len(old)

        def __getitem__(self, place: Any) -> Any:
            if bundle[0] is self:
                bundle[0] = new
                with pytest.raises(IssuerNotEntitled):
                    guard(new_call(context), REQUEST)
            return old[place]

    bundle[0] = Roots()
    guard(new_call(context), REQUEST)  # began under the old bundle, so it passes
    with pytest.raises(IssuerNotEntitled):
        guard(new_call(context), REQUEST)


def test_a_revocation_reaches_the_next_call_of_a_known_leaf(pki: TestPki) -> None:
    holder, policy = pki.agency("tax", "core"), Policy()
    guard = CallerGuard(ENV, lambda: pki.roots, lambda: policy, Clock())
    guard(new_call(connected(holder)), REQUEST)
    policy = Policy(revoked={holder.revocation: Revoked(NOW, 1)})
    with pytest.raises(CertificateRevoked):
        guard(new_call(connected(holder)), REQUEST)


# Policy


METHODS: Methods = {METHOD: allow(agency(), room("registry")), "/any": allow(agency(), operator(), any_state=True)}
KNOWN = Policy(
    issue_time=NOW - timedelta(minutes=10),
    systems={("tax", "core"): System("tax", "core", "Core", State.ACTIVE, "", NOW)},
)


def pass_policy(caller: Caller, policy: Policy = KNOWN, method: str = METHOD, limit: int = 15) -> None:
    call = Call(method, cast(grpc.ServicerContext, Context()))
    call.caller = caller
    PolicyGuard(METHODS, lambda: policy, timedelta(minutes=limit), Clock())(call, REQUEST)


def test_whom_the_table_names_may_call() -> None:
    pass_policy(TAX)
    pass_policy(REGISTRY)
    for caller in (LAN, Caller(f"spiffe://mesh.{ENV}/sharing", CallerKind.ROOM, "sharing")):
        with pytest.raises(MethodNotAllowed) as refused:
            pass_policy(caller)
        assert refused.value.metadata == {"method": METHOD, "caller_kind": caller.kind.name.lower()}


def test_a_system_must_be_active_unless_the_method_is_for_any_state() -> None:
    suspended = Policy(
        issue_time=NOW, systems={("tax", "core"): System("tax", "core", "Core", State.SUSPENDED, "why", NOW)}
    )
    with pytest.raises(SystemSuspended):
        pass_policy(TAX, suspended)
    with pytest.raises(SystemUnknown):
        pass_policy(TAX, Policy(issue_time=NOW))
    pass_policy(TAX, suspended, "/any")
    pass_policy(TAX, Policy(), "/any")


def test_stale_rights_refuse_agencies_and_rooms() -> None:
    for caller in (TAX, REGISTRY):
        pass_policy(caller, limit=10)
        with pytest.raises(PolicyStale) as refused:
            pass_policy(caller, limit=9)
        assert refused.value.metadata == {"age_seconds": "600", "limit_seconds": "540"}
    pass_policy(TAX, limit=9, method="/any")


# Deadline


def test_a_call_has_its_own_deadline_or_the_cap() -> None:
    for remaining, wanted in ((None, UNARY_CAP), (5.0, 5.0), (3600.0, UNARY_CAP)):
        call = new_call(Context(remaining=remaining))
        deadline(call, REQUEST)
        assert wanted - 1 < call.remaining() <= wanted


@pytest.mark.parametrize("remaining", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_not_worked_for(remaining: float) -> None:
    with pytest.raises(DeadlinePassed):
        deadline(new_call(Context(remaining=remaining)), REQUEST)
