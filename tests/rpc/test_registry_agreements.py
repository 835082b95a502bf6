"""Agreements: drawn up within the law, signed by both sides over the same bytes, suspended and resumed by either."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from google.type.date_pb2 import Date

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.registry.v1 import agreement_pb2, agreement_pb2_grpc, revocation_pb2, revocation_pb2_grpc
from npd_client.agreement import sign_terms
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from npd_pki.keys import key_id
from npd_pki.profile import SIGNING
from services.mesh.core.rights import State
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, today

SERVICE = "/npd.registry.v1.AgreementService"
LOOKUP, VERIFY = AccessMode.ACCESS_MODE_LOOKUP, AccessMode.ACCESS_MODE_VERIFY
GRANTS = {LOOKUP: ["full_name", "sex"], VERIFY: ["full_name"]}
PURPOSE, PROVISION = "STATE_MANAGEMENT", "D70/2024.9"


@pytest.fixture(scope="module", autouse=True)
def _systems(stage: Stage, desk: Desk) -> None:
    for name in ("tax/core", "tax/kiosk", "moj/core"):
        desk.register(name)
    stage.settle()


def _terms(desk: Desk) -> agreement_pb2.AgreementTerms:
    return desk.terms("tax/core", PURPOSE, PROVISION, GRANTS)


def _id(agreement: agreement_pb2.Agreement) -> str:
    return agreement_pb2.AgreementTerms.FromString(agreement.terms).agreement_id


def _stub(registry: Running, kind: Kind, name: str) -> agreement_pb2_grpc.AgreementServiceStub:
    return agreement_pb2_grpc.AgreementServiceStub(registry.channel(kind, name))


def _draw_up_refused(desk: Desk, terms: agreement_pb2.AgreementTerms) -> Refusal:
    return refused(
        desk.agreements.DrawUpAgreement, agreement_pb2.DrawUpAgreementRequest(request_id=new_id(), terms=terms)
    )


def _signing(
    agreement: agreement_pb2.Agreement, directory: Path, **more: datetime
) -> agreement_pb2.SignAgreementRequest:
    signature = sign_terms(agreement.terms, directory, **more)
    return agreement_pb2.SignAgreementRequest(request_id=new_id(), agreement_id=_id(agreement), signature=signature)


def _suspending(agreement_id: str) -> agreement_pb2.SuspendAgreementRequest:
    return agreement_pb2.SuspendAgreementRequest(request_id=new_id(), agreement_id=agreement_id, cause="Under review.")


def _resuming(agreement_id: str) -> agreement_pb2.ResumeAgreementRequest:
    return agreement_pb2.ResumeAgreementRequest(request_id=new_id(), agreement_id=agreement_id)


def _last(registry: Running) -> LogEntry:
    return registry.entries()[-1]


def test_draft_holds_the_bytes_to_sign(registry: Running, desk: Desk) -> None:
    terms = _terms(desk)
    terms.agreement_id, terms.environment = "mine", "elsewhere"  # output only
    draft = desk.draw_up(terms)
    stored = agreement_pb2.AgreementTerms.FromString(draft.terms)
    assert draft.state == agreement_pb2.AGREEMENT_STATE_DRAFT
    assert stored.environment == "test.npd.example"
    assert stored.agreement_id not in ("", "mine")
    assert [(grant.mode, list(grant.fields.paths)) for grant in stored.grants] == list(GRANTS.items())
    entry = _last(registry)
    assert (entry.method, entry.outcome) == (f"{SERVICE}/DrawUpAgreement", Outcome.OUTCOME_DONE)
    assert entry.object == f"agreement {stored.agreement_id}"


def test_repeated_draw_up_gives_the_same_draft(registry: Running, desk: Desk) -> None:
    request = agreement_pb2.DrawUpAgreementRequest(request_id=new_id(), terms=_terms(desk))
    first = desk.agreements.DrawUpAgreement(request)
    recorded = len(registry.entries())
    assert desk.agreements.DrawUpAgreement(request) == first
    assert len(registry.entries()) == recorded


def _without_fields(terms: agreement_pb2.AgreementTerms) -> None:
    del terms.grants[0].fields.paths[:]


def _twice(terms: agreement_pb2.AgreementTerms) -> None:
    terms.grants.add().CopyFrom(terms.grants[0])


def _outside(terms: agreement_pb2.AgreementTerms) -> None:
    terms.purpose = "CUSTOMER_IDENTIFICATION"
    terms.grants[0].fields.paths.append("religion")


def _backwards(terms: agreement_pb2.AgreementTerms) -> None:
    terms.end_date.year -= 1


@pytest.mark.parametrize(
    ("spoil", "reason", "metadata"),
    [
        (lambda terms: setattr(terms, "system_id", "none"), "SYSTEM_UNKNOWN", {"system": "tax/none"}),
        (lambda terms: setattr(terms, "purpose", "FUN"), "PURPOSE_UNKNOWN", {"purpose": "FUN"}),
        (lambda terms: setattr(terms, "provision", "L1/2099"), "PROVISION_UNKNOWN", {"provision": "L1/2099"}),
        (lambda terms: setattr(terms, "provision", "D37/2021.1.6"), "PROVISION_UNKNOWN", {"provision": "D37/2021.1.6"}),
        (lambda terms: terms.grants[1].fields.paths.append("shoe_size"), "MASK_UNKNOWN_PATH", {"field": "shoe_size"}),
        (lambda terms: terms.grants[1].fields.paths.append("sex.x"), "MASK_UNKNOWN_PATH", {"field": "sex.x"}),
        (
            _outside,
            "FIELD_OUTSIDE_PURPOSE",
            {
                "purpose": "CUSTOMER_IDENTIFICATION",
                "field": "religion",
                "rule": "purpose CUSTOMER_IDENTIFICATION by D70/2024.9",
            },
        ),
        (_without_fields, "MASK_EMPTY", {}),
        (_twice, "FIELD_INVALID", {}),
        (_backwards, "FIELD_INVALID", {}),
        (lambda terms: terms.start_date.CopyFrom(Date(year=2026)), "FIELD_INVALID", {}),
        (lambda terms: setattr(terms.grants[0], "mode", 0), "FIELD_INVALID", {}),
        (lambda terms: setattr(terms.grants[0], "mode", 99), "FIELD_INVALID", {}),
        (lambda terms: terms.ClearField("grants"), "FIELD_REQUIRED", {}),
    ],
)  # fmt: skip
def test_terms_outside_the_law_are_refused(
    registry: Running,
    desk: Desk,
    spoil: Callable[[agreement_pb2.AgreementTerms], object],
    reason: str,
    metadata: dict[str, str],
) -> None:
    terms = _terms(desk)
    spoil(terms)
    refusal = _draw_up_refused(desk, terms)
    assert (refusal.reason, refusal.metadata) == (reason, metadata)
    entry = _last(registry)
    assert (entry.method, entry.reason) == (f"{SERVICE}/DrawUpAgreement", reason)


def test_law_is_that_of_the_first_day(desk: Desk) -> None:
    founding = desk.terms(
        "tax/core", "DATABASE_FEED", "D37/2021.1.6", {LOOKUP: ["sex"]}, start=date(2022, 1, 1), end=today()
    )
    assert desk.draw_up(founding).state == agreement_pb2.AGREEMENT_STATE_DRAFT
    founding.grants[0].fields.paths.append("phone")  # a field since the law of 2023 only
    assert _draw_up_refused(desk, founding).reason == "MASK_UNKNOWN_PATH"


def test_agency_draws_up_nothing(registry: Running, desk: Desk) -> None:
    stub = _stub(registry, Kind.AGENCY, "tax/core")
    request = agreement_pb2.DrawUpAgreementRequest(request_id=new_id(), terms=_terms(desk))
    assert refused(stub.DrawUpAgreement, request).reason == "METHOD_NOT_ALLOWED"
    assert _last(registry).reason == "METHOD_NOT_ALLOWED"


def test_agreement_is_active_with_both_signatures(stage: Stage, registry: Running, desk: Desk) -> None:
    draft = desk.draw_up(_terms(desk))
    half = desk.sign(Kind.AGENCY, "tax/core", draft)
    assert half.state == agreement_pb2.AGREEMENT_STATE_DRAFT
    assert half.HasField("agency_signature")
    assert not half.HasField("operator_signature")
    entry = _last(registry)
    assert (entry.method, entry.agency_id) == (f"{SERVICE}/SignAgreement", "tax")
    stage.settle()
    assert registry.house.keeper.current.agreements[_id(draft)].defect == "the operator's side has not signed"

    whole = desk.sign(Kind.OPERATOR, "minh", draft)
    assert (whole.state, whole.terms) == (agreement_pb2.AGREEMENT_STATE_ACTIVE, draft.terms)
    assert _last(registry).object == f"agreement {_id(draft)}"
    stage.settle()
    known = registry.house.keeper.current.agreements[_id(draft)]
    assert (known.state, known.defect) == (State.ACTIVE, "")


def test_repeated_signing_gives_its_first_answer(registry: Running, desk: Desk) -> None:
    draft = desk.draw_up(_terms(desk))
    request = _signing(draft, registry.authority.signing(Kind.OPERATOR, "lan"))
    first = desk.agreements.SignAgreement(request)
    recorded = len(registry.entries())
    assert desk.agreements.SignAgreement(request) == first
    assert len(registry.entries()) == recorded


def test_side_signs_once(registry: Running, desk: Desk) -> None:
    draft = desk.draw_up(_terms(desk))
    desk.sign(Kind.OPERATOR, "lan", draft)
    again = _signing(draft, registry.authority.signing(Kind.OPERATOR, "minh"))
    refusal = refused(_stub(registry, Kind.OPERATOR, "minh").SignAgreement, again)
    assert (refusal.reason, refusal.metadata["state"]) == ("STATE_NOT_ALLOWED", "DRAFT")
    assert _last(registry).reason == "STATE_NOT_ALLOWED"


def test_signature_over_other_bytes_is_refused(registry: Running, desk: Desk) -> None:
    draft = desk.draw_up(_terms(desk))
    altered = agreement_pb2.AgreementTerms.FromString(draft.terms)
    altered.grants[0].fields.paths.append("religion")
    request = _signing(
        agreement_pb2.Agreement(terms=altered.SerializeToString()), registry.authority.signing(Kind.AGENCY, "tax/core")
    )
    refusal = refused(_stub(registry, Kind.AGENCY, "tax/core").SignAgreement, request)
    assert refusal.reason == "AGREEMENT_SIGNATURE_INVALID"
    assert refusal.metadata["agreement"] == _id(draft)
    assert _last(registry).reason == "AGREEMENT_SIGNATURE_INVALID"


def test_signature_of_the_wrong_leaf_is_refused(registry: Running, desk: Desk) -> None:
    draft, authority = desk.draw_up(_terms(desk)), registry.authority
    for wrong in (
        authority.signing(Kind.AGENCY, "tax/kiosk"),  # another system
        authority.signing(Kind.OPERATOR, "lan"),  # the other side
        authority.tls(Kind.AGENCY, "tax/core"),  # a TLS leaf
    ):
        refusal = refused(_stub(registry, Kind.AGENCY, "tax/core").SignAgreement, _signing(draft, wrong))
        assert refusal.reason == "AGREEMENT_SIGNATURE_INVALID"
    assert _last(registry).reason == "AGREEMENT_SIGNATURE_INVALID"


def test_signature_of_the_future_is_refused(registry: Running, desk: Desk) -> None:
    draft = desk.draw_up(_terms(desk))
    later = datetime.now(UTC) + timedelta(minutes=6)
    request = _signing(draft, registry.authority.signing(Kind.OPERATOR, "lan"), now=later)
    assert refused(desk.agreements.SignAgreement, request).metadata["defect"] == "it is signed in the future"
    request.signature.sign_time.nanos = 1
    assert refused(desk.agreements.SignAgreement, request).reason == "FIELD_INVALID"
    assert _last(registry).reason == "FIELD_INVALID"


def test_signature_with_a_revoked_leaf_is_refused(registry: Running, desk: Desk, tmp_path: Path) -> None:
    draft = desk.draw_up(_terms(desk))
    directory = registry.authority.issue(tmp_path / "stolen", Kind.OPERATOR, "lan", SIGNING)
    request = _signing(draft, directory)
    leaf = x509.load_der_x509_certificate(request.signature.certificate_chain[0])
    revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan")).RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(),
            issuer_key_id=key_id(registry.authority.hierarchy.operator.key.public_key()),
            serial_number=f"{leaf.serial_number:x}",
            reason=revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE,
        )
    )
    assert refused(desk.agreements.SignAgreement, request).metadata["defect"] == "the certificate is revoked"
    assert _last(registry).reason == "AGREEMENT_SIGNATURE_INVALID"


@pytest.mark.parametrize("name", ["tax/kiosk", "moj/core"])
def test_who_is_no_party_does_nothing(registry: Running, desk: Desk, name: str) -> None:
    draft = desk.draw_up(_terms(desk))
    stub = _stub(registry, Kind.AGENCY, name)
    request = _signing(draft, registry.authority.signing(Kind.AGENCY, name))
    for call, asked in (
        (stub.SignAgreement, request),
        (stub.SuspendAgreement, _suspending(_id(draft))),
        (stub.ResumeAgreement, _resuming(_id(draft))),
    ):
        refusal = refused(call, asked)
        assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "agency")
        entry = _last(registry)
        assert (entry.reason, entry.method) == ("METHOD_NOT_ALLOWED", refusal.metadata["method"])


@pytest.mark.parametrize("agreement_id", ["6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21", "no uuid"])
def test_unknown_agreement_is_refused(registry: Running, desk: Desk, agreement_id: str) -> None:
    draft = desk.draw_up(_terms(desk))
    signing = _signing(draft, registry.authority.signing(Kind.OPERATOR, "lan"))
    signing.agreement_id = agreement_id
    for call, request in (
        (desk.agreements.SignAgreement, signing),
        (desk.agreements.SuspendAgreement, _suspending(agreement_id)),
        (desk.agreements.ResumeAgreement, _resuming(agreement_id)),
    ):
        refusal = refused(call, request)
        assert (refusal.reason, refusal.metadata) == ("AGREEMENT_UNKNOWN", {"agreement": agreement_id})
        assert _last(registry).reason == "AGREEMENT_UNKNOWN"


@pytest.mark.parametrize(
    ("suspender", "other"),
    [((Kind.OPERATOR, "lan"), (Kind.AGENCY, "tax/core")), ((Kind.AGENCY, "tax/core"), (Kind.OPERATOR, "lan"))],
)
def test_only_the_side_that_suspended_resumes(
    stage: Stage, registry: Running, desk: Desk, suspender: tuple[Kind, str], other: tuple[Kind, str]
) -> None:
    agreement_id = desk.agree("tax/core", PURPOSE, PROVISION, GRANTS)
    suspended = _stub(registry, *suspender).SuspendAgreement(_suspending(agreement_id)).agreement
    assert (suspended.state, suspended.cause) == (agreement_pb2.AGREEMENT_STATE_SUSPENDED, "Under review.")
    entry = _last(registry)
    assert (entry.method, entry.object) == (f"{SERVICE}/SuspendAgreement", f"agreement {agreement_id}")
    stage.settle()
    assert registry.house.keeper.current.agreements[agreement_id].state is State.SUSPENDED

    assert refused(_stub(registry, *other).ResumeAgreement, _resuming(agreement_id)).reason == "METHOD_NOT_ALLOWED"
    assert _last(registry).reason == "METHOD_NOT_ALLOWED"
    assert (
        refused(_stub(registry, *suspender).SuspendAgreement, _suspending(agreement_id)).reason == "STATE_NOT_ALLOWED"
    )

    resumed = _stub(registry, *suspender).ResumeAgreement(_resuming(agreement_id)).agreement
    assert (resumed.state, resumed.cause) == (agreement_pb2.AGREEMENT_STATE_ACTIVE, "")
    entry = _last(registry)
    assert (entry.method, entry.object) == (f"{SERVICE}/ResumeAgreement", f"agreement {agreement_id}")


def test_agency_cannot_forestall_the_operators_suspension(registry: Running, desk: Desk) -> None:
    agreement_id = desk.agree("tax/core", PURPOSE, PROVISION, GRANTS)
    agency = _stub(registry, Kind.AGENCY, "tax/core")
    agency.SuspendAgreement(_suspending(agreement_id))
    desk.agreements.SuspendAgreement(_suspending(agreement_id))
    resumed = agency.ResumeAgreement(_resuming(agreement_id)).agreement
    assert resumed.state == agreement_pb2.AGREEMENT_STATE_SUSPENDED
    assert desk.agreements.ResumeAgreement(_resuming(agreement_id)).agreement.state == (
        agreement_pb2.AGREEMENT_STATE_ACTIVE
    )


def test_draft_is_neither_suspended_nor_resumed(registry: Running, desk: Desk) -> None:
    agreement_id = _id(desk.draw_up(_terms(desk)))
    assert refused(desk.agreements.SuspendAgreement, _suspending(agreement_id)).reason == "STATE_NOT_ALLOWED"
    assert refused(desk.agreements.ResumeAgreement, _resuming(agreement_id)).reason == "STATE_NOT_ALLOWED"
    assert _last(registry).reason == "STATE_NOT_ALLOWED"


def test_agency_lists_its_own_agreements(registry: Running, desk: Desk) -> None:
    mine = _id(desk.draw_up(desk.terms("moj/core", PURPOSE, PROVISION, GRANTS)))
    stub = _stub(registry, Kind.AGENCY, "moj/core")
    assert [_id(agreement) for agreement in stub.ListAgreements(agreement_pb2.ListAgreementsRequest()).agreements] == [
        mine
    ]
    refusal = refused(stub.ListAgreements, agreement_pb2.ListAgreementsRequest(agency_id="tax"))
    assert refusal.reason == "METHOD_NOT_ALLOWED"
    assert _last(registry).method == f"{SERVICE}/ListAgreements"


def test_operator_lists_agreements_page_by_page(desk: Desk) -> None:
    for _ in range(3):
        desk.draw_up(_terms(desk))
    listed, token = list[str](), ""
    while True:
        answer = desk.agreements.ListAgreements(agreement_pb2.ListAgreementsRequest(page_size=2, page_token=token))
        listed += map(_id, answer.agreements)
        token = answer.next_page_token
        if not token:
            break
    assert len(listed) > 3
    assert listed == sorted(set(listed))
