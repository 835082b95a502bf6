"""The frames around a call and the chain as a whole: what a refused caller gets, and what is recorded of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from npd.common.v1 import access_pb2, evidence_pb2
from npd.sharing.v1 import change_pb2
from services.mesh.core.caller import Caller, CallerKind, CertificateMissing
from services.mesh.core.errors import DeadlinePassed, FieldRequired, MeshError, Overloaded, StoreUnavailable, Violation
from services.mesh.core.rights import Access, AgreementExpired
from services.mesh.wire.call import Call, answer_key, call_of
from services.mesh.wire.interceptors import Interceptors
from services.mesh.wire.interceptors.errors import Errors
from services.mesh.wire.interceptors.policy import PolicyStale
from services.mesh.wire.interceptors.telemetry import Telemetry

METHOD = "/npd.common.v1.EvidenceService/GetCheckpoint"
PIN = "079303012345"
REQUEST = evidence_pb2.GetCheckpointRequest()
TAX = Caller("spiffe://agency.test/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")

Recorded = list[tuple[Caller, str, str, Access | None]]


class Aborted(Exception):
    """What gRPC raises when a call is aborted."""


class Context:
    """Remembers how the call was ended."""

    status: Any = None

    def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise Aborted


def new_call(context: Context | None = None) -> Call:
    return Call(METHOD, cast(grpc.ServicerContext, context or Context()))


def refuse(error: Exception, caller: Caller | None = TAX, request: Message = REQUEST) -> tuple[Any, Recorded]:
    """The status of a call that raises, and what was recorded of it."""
    recorded: Recorded = []
    context = Context()
    call = new_call(context)
    call.caller, call.request = caller, request
    errors = Errors(lambda who, method, refusal, stated: recorded.append((who, method, refusal.reason, stated)))
    with pytest.raises(Aborted), errors(call):
        raise error
    [(_, packed)] = context.status.trailing_metadata
    return status_pb2.Status.FromString(packed), recorded


def details_of(status: Any) -> dict[str, list[Any]]:
    known = [
        error_details_pb2.ErrorInfo,
        error_details_pb2.LocalizedMessage,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.RequestInfo,
    ]
    found: dict[str, list[Any]] = {}
    for packed in status.details:
        for kind in known:
            if packed.Is(kind.DESCRIPTOR):
                detail = kind()
                packed.Unpack(detail)
                found.setdefault(kind.DESCRIPTOR.name, []).append(detail)
    return found


def test_a_refusal_is_a_status_with_reason_metadata_and_two_languages() -> None:
    status, recorded = refuse(AgreementExpired(agreement="a-1", end_date="2026-01-01"))
    details = details_of(status)
    [info] = details["ErrorInfo"]
    assert grpc.StatusCode.PERMISSION_DENIED.value[0] == status.code
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "AGREEMENT_EXPIRED",
        "npd",
        {"agreement": "a-1", "end_date": "2026-01-01"},
    )
    assert [message.locale for message in details["LocalizedMessage"]] == ["vi", "en"]
    assert status.message == details["LocalizedMessage"][1].message
    assert len(details["RequestInfo"][0].request_id) == 32
    assert set(details) == {"ErrorInfo", "LocalizedMessage", "RequestInfo"}
    assert recorded == [(TAX, METHOD, "AGREEMENT_EXPIRED", None)]


def test_violations_and_the_time_to_wait_have_their_own_details() -> None:
    status, _ = refuse(FieldRequired(Violation("access", "is required"), Violation("identity", "is required")))
    [bad] = details_of(status)["BadRequest"]
    assert [violation.field for violation in bad.field_violations] == ["access", "identity"]
    status, _ = refuse(Overloaded())
    assert details_of(status)["RetryInfo"][0].retry_delay.ToTimedelta() == timedelta(seconds=1)


def test_a_fault_says_nothing_but_where_to_ask() -> None:
    status, recorded = refuse(ValueError(f"bad PIN {PIN}"))
    [info] = details_of(status)["ErrorInfo"]
    assert (info.reason, status.code) == ("INTERNAL", grpc.StatusCode.INTERNAL.value[0])
    assert info.metadata["request_id"] == details_of(status)["RequestInfo"][0].request_id
    assert PIN not in str(status)
    assert recorded == []


def test_a_refusal_is_recorded_with_the_ground_that_was_stated() -> None:
    ground = {"agreement_id": "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21", "case_reference": "HS-1", "officer_id": "o-1"}
    request = change_pb2.PullChangesRequest(access=access_pb2.AccessContext(**ground))
    [(_, _, _, stated)] = refuse(AgreementExpired(), request=request)[1]
    assert stated == Access(**ground)
    request.access.case_reference = PIN  # what is malformed may be a person's
    assert refuse(AgreementExpired(), request=request)[1][0][3] is None


@pytest.mark.parametrize("error", [StoreUnavailable(), DeadlinePassed(), PolicyStale()])
def test_faults_of_the_mesh_are_not_recorded_as_refusals(error: MeshError) -> None:
    assert refuse(error)[1] == []


def test_the_refusal_of_somebody_unknown_is_not_recorded() -> None:
    assert refuse(CertificateMissing(), caller=None)[1] == []


def test_a_client_that_leaves_is_not_answered() -> None:
    context = Context()
    frame = Errors(lambda *_: None)(new_call(context))
    with pytest.raises(GeneratorExit), frame:
        raise GeneratorExit
    assert context.status is None


# The chain as a whole


def test_the_chain_runs_in_order_and_stands_around_the_servicer() -> None:
    seen: list[str] = []

    def link(name: str, error: MeshError | None = None) -> Callable[[Call, Message], None]:
        def guard(call: Call, request: Message) -> None:
            seen.append(name)
            if error:
                raise error

        return guard

    def served(request: Message, context: grpc.ServicerContext) -> str:
        call_of(context).recheck()
        seen.append("servicer")
        return "answer"

    def behaviour(*guards: Callable[[Call, Message], None]) -> Callable[..., Any]:
        contacts: list[tuple[Caller, bool]] = []
        chain = Interceptors(
            Errors(lambda *_: None),
            Telemetry(lambda who, ok: contacts.append((who, ok))),
            guards=guards,
            standing=(link("standing"),),
        )
        handler: Any = grpc.unary_unary_rpc_method_handler(served)
        details = cast(grpc.HandlerCallDetails, type("Details", (), {"method": METHOD}))
        wrapped = chain.intercept_service(lambda _: handler, details)
        assert wrapped is chain.intercept_service(lambda _: None, details), "laid once for each method"
        assert wrapped is not None
        return cast(Callable[..., Any], wrapped.unary_unary)

    assert behaviour(link("one"), link("two"))(REQUEST, Context()) == "answer"
    assert seen == ["one", "two", "standing", "servicer"]
    seen.clear()
    context = Context()
    with pytest.raises(Aborted):
        behaviour(link("one", Overloaded()), link("two"))(REQUEST, context)
    assert seen == ["one"]
    assert context.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_servicer_outside_the_chain_is_a_fault() -> None:
    with pytest.raises(RuntimeError, match="without the interceptors"):
        call_of(cast(grpc.ServicerContext, Context()))


def test_a_mutating_request_is_named_by_its_method_id_and_payload() -> None:
    request_id = "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"
    one, other = (
        answer_key(new_call().as_context(), evidence_pb2.GetConsistencyProofRequest(old_size=size), request_id)
        for size in (1, 2)
    )
    assert (one.method, one.request_id) == (METHOD, request_id)
    assert one.payload_hash != other.payload_hash
