"""The registry's entries as rights; an agreement is judged when it arrives."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from google.type.dayofweek_pb2 import SATURDAY, SUNDAY
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import access_pb2, lane_pb2
from npd.registry.v1 import agency_pb2, agreement_pb2, policy_pb2, revocation_pb2
from npd_client.agreement import sign_terms
from npd_pki.identity import Kind
from services.mesh.core.authorities import Authority, AuthorityState, Revoked
from services.mesh.core.clock import Validity
from services.mesh.core.legal_clock import ClockUnit, LegalClock, WorkingCalendar
from services.mesh.core.rights import Agency, FieldDefinition, Lane, Mode, Policy, Provision, Purpose, State, System
from services.mesh.wire.policy_entries import apply
from tests.certificates import TestPki

ENV = "test.npd.example"
SINCE = datetime(2026, 1, 5, 8, tzinfo=UTC)
START, END = Date(year=2026, month=1, day=1), Date(year=2026, month=12, day=31)

Agree = Callable[..., policy_pb2.PolicyEntry]


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


@pytest.fixture
def agree(pki: TestPki, tmp_path: Path) -> Agree:
    """An agreement, signed by both parties unless told otherwise."""
    agency = pki.signing(Kind.AGENCY, "tax", "core").write(tmp_path / "agency")
    operator = pki.signing(Kind.OPERATOR, "lan").write(tmp_path / "operator")

    def agreed(
        mode: int = access_pb2.ACCESS_MODE_LOOKUP,
        *,
        environment: str = ENV,
        state: int = agreement_pb2.AGREEMENT_STATE_ACTIVE,
        is_signed: bool = True,
        more: bytes = b"",
    ) -> policy_pb2.PolicyEntry:
        terms = (
            agreement_pb2.AgreementTerms(
                agreement_id="a-1",
                environment=environment,
                agency_id="tax",
                system_id="core",
                purpose="TAX",
                provision="D70/2024.9",
                grants=[
                    agreement_pb2.Grant(mode=mode, fields=FieldMask(paths=["pin", "sex"])),  # type: ignore[arg-type]
                    agreement_pb2.Grant(mode=access_pb2.ACCESS_MODE_CHANGES, fields=FieldMask(paths=["pin"])),
                ],
                start_date=START,
                end_date=END,
            ).SerializeToString()
            + more
        )
        signed = agreement_pb2.Agreement(terms=terms, state=state, cause="why")  # type: ignore[arg-type]
        if is_signed:
            signed.agency_signature.CopyFrom(sign_terms(terms, agency))
            signed.operator_signature.CopyFrom(sign_terms(terms, operator))
        return policy_pb2.PolicyEntry(key="agreement/a-1", agreement=signed)

    return agreed


def a_clock(amount: int = 3, unit: int = policy_pb2.CLOCK_UNIT_WORKING_DAY) -> policy_pb2.Clock:
    return policy_pb2.Clock(
        code="C",
        title="Do it",
        provision="D70",
        start_act="a.begin",
        end_act="b.end",
        amount=amount,
        unit=unit,  # type: ignore[arg-type]
        start_date=START,
        end_date=END,
    )


def an_authority(state: int) -> policy_pb2.PolicyEntry:
    authority = policy_pb2.CertificateAuthority(key_id="cd", host=f"agency.{ENV}", state=state)  # type: ignore[arg-type]
    authority.state_time.FromDatetime(SINCE)
    return policy_pb2.PolicyEntry(key="authority/cd", authority=authority)


def test_every_kind_of_entry_becomes_a_right_and_is_taken_out_again() -> None:
    since = policy_pb2.RevokedCertificate(
        issuer_key_id="ab", serial_number="1f", reason=revocation_pb2.REVOCATION_REASON_SUPERSEDED
    )
    since.revoke_time.FromDatetime(SINCE)
    system = agency_pb2.System(
        agency_id="tax", system_id="core", name="Core", state=agency_pb2.SYSTEM_STATE_ACTIVE, cause="new"
    )
    system.state_time.FromDatetime(SINCE)
    entries = [
        policy_pb2.PolicyEntry(agency=agency_pb2.Agency(agency_id="tax", name="Tax", contact="pki@tax.example")),
        policy_pb2.PolicyEntry(system=system),
        policy_pb2.PolicyEntry(officer=policy_pb2.RosteredOfficer(agency_id="tax", officer_id="o-1")),
        an_authority(policy_pb2.AUTHORITY_STATE_TAINTED),
        policy_pb2.PolicyEntry(revoked_certificate=since),
        policy_pb2.PolicyEntry(operator=policy_pb2.Operator(name="lan")),
        policy_pb2.PolicyEntry(
            field=policy_pb2.FieldDefinition(
                path="religion",
                provision="L26",
                sensitive=True,
                authority=["identity", "agency"],
                start_date=START,
                followers=["residence", "identity"],
                lane=lane_pb2.LANE_VITAL,
            )
        ),
        policy_pb2.PolicyEntry(
            purpose=policy_pb2.Purpose(
                code="TAX", title="Taxation", provision="D70", paths=["pin"], start_date=START, end_date=END
            )
        ),
        policy_pb2.PolicyEntry(
            provision=policy_pb2.Provision(provision_id="D70", citation="Art. 9", summary="May ask.", start_date=START)
        ),
        policy_pb2.PolicyEntry(clock=a_clock()),
        policy_pb2.PolicyEntry(
            calendar=policy_pb2.WorkingCalendar(
                code="VN-2026", rest_days=[SATURDAY, SUNDAY], holidays=[START], start_date=START, end_date=END
            )
        ),
    ]
    policy = apply(Policy(revision=3), entries, ENV, ())
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    assert policy == Policy(
        revision=3,
        agencies={"tax": Agency("Tax", "pki@tax.example")},
        systems={("tax", "core"): System("tax", "core", "Core", State.ACTIVE, "new", SINCE)},
        officers=frozenset({("tax", "o-1")}),
        authorities={"cd": Authority("cd", f"agency.{ENV}", AuthorityState.TAINTED, SINCE)},
        revoked={("ab", "1f"): Revoked(SINCE, revocation_pb2.REVOCATION_REASON_SUPERSEDED)},
        operators=frozenset({"lan"}),
        fields={
            "religion": FieldDefinition(
                "religion",
                "L26",
                True,
                ("identity", "agency"),
                Validity(first),
                frozenset({"identity", "residence"}),
                Lane.VITAL,
            )
        },
        purposes={"TAX": Purpose("TAX", "Taxation", "D70", frozenset({"pin"}), Validity(first, last))},
        provisions={"D70": Provision("D70", "Art. 9", "May ask.", Validity(first))},
        clocks={
            "C": LegalClock("C", "Do it", "D70", "a.begin", "b.end", 3, ClockUnit.WORKING_DAY, Validity(first, last))
        },
        calendars={"VN-2026": WorkingCalendar("VN-2026", frozenset({6, 7}), frozenset({first}), Validity(first, last))},
    )
    for entry in entries:
        entry.removed = True
    assert apply(policy, entries, ENV, ()) == Policy(revision=3)


def test_an_entry_of_a_kind_that_is_not_known_grants_nothing() -> None:
    assert apply(Policy(), [policy_pb2.PolicyEntry(key="miracle/1")], ENV, ()) == Policy()


@pytest.mark.parametrize("lane", [lane_pb2.LANE_UNSPECIFIED, lane_pb2.LANE_NORMAL, 99])
def test_a_lane_that_is_not_known_is_the_ordinary_one(lane: int) -> None:
    field = policy_pb2.FieldDefinition(path="sex", start_date=START, lane=lane)  # type: ignore[arg-type]
    assert apply(Policy(), [policy_pb2.PolicyEntry(field=field)], ENV, ()).fields["sex"].lane is Lane.NORMAL


@pytest.mark.parametrize("state", [0, 99])
def test_an_authority_in_a_state_that_is_not_known_stays_named_and_is_accepted_no_more(state: int) -> None:
    policy = apply(Policy(), [an_authority(policy_pb2.AUTHORITY_STATE_ACTIVE)], ENV, ())
    policy = apply(policy, [an_authority(state)], ENV, ())
    assert policy.authorities["cd"].state is AuthorityState.RETIRED
    assert policy.governed_hosts == {f"agency.{ENV}"}


def test_hosts_are_governed_while_an_authority_of_theirs_is_named() -> None:
    entry = an_authority(policy_pb2.AUTHORITY_STATE_REVOKED)
    policy = apply(Policy(), [entry], ENV, ()).fresh_at(SINCE)
    assert policy.governed_hosts == {f"agency.{ENV}"}
    entry.removed = True
    assert apply(policy, [entry], ENV, ()).governed_hosts == frozenset()


@pytest.mark.parametrize(("amount", "unit"), [(3, 0), (3, 99), (0, 1), (-1, policy_pb2.CLOCK_UNIT_DAY)])
def test_a_clock_that_cannot_be_counted_is_none_any_more(amount: int, unit: int) -> None:
    policy = apply(Policy(), [policy_pb2.PolicyEntry(clock=a_clock())], ENV, ())
    assert set(policy.clocks) == {"C"}
    assert apply(policy, [policy_pb2.PolicyEntry(clock=a_clock(amount, unit))], ENV, ()).clocks == {}


def test_an_agreement_with_both_signatures_grants(pki: TestPki, agree: Agree) -> None:
    agreement = apply(Policy(), [agree()], ENV, pki.roots).agreements["a-1"]
    assert (agreement.agency_id, agreement.system_id, agreement.purpose) == ("tax", "core", "TAX")
    assert agreement.grants == {Mode.LOOKUP: {"pin", "sex"}, Mode.CHANGES: {"pin"}}
    assert agreement.validity == Validity(date(2026, 1, 1), date(2026, 12, 31))
    assert (agreement.state, agreement.cause, agreement.defect) == (State.ACTIVE, "why", "")


def test_an_agreement_is_judged_by_the_roots_of_this_room(pki: TestPki, agree: Agree) -> None:
    defects = {
        "unsigned": apply(Policy(), [agree(is_signed=False)], ENV, pki.roots).agreements["a-1"].defect,
        "foreign root": apply(Policy(), [agree()], ENV, pki.foreign().hierarchy.mesh.chain).agreements["a-1"].defect,
        "elsewhere": apply(Policy(), [agree(environment="x.example")], ENV, pki.roots).agreements["a-1"].defect,
    }
    assert defects["unsigned"] == "the agency's side has not signed"
    assert "does not lead to our root" in defects["foreign root"]
    assert defects["elsewhere"] == "the agreement is for another environment"


def test_a_mode_that_this_version_does_not_know_is_granted_to_nobody(pki: TestPki, agree: Agree) -> None:
    for mode in (access_pb2.ACCESS_MODE_UNSPECIFIED, 99):
        agreement = apply(Policy(), [agree(mode)], ENV, pki.roots).agreements["a-1"]
        assert agreement.grants == {Mode.CHANGES: {"pin"}}
        assert agreement.defect == ""


def test_terms_that_this_version_does_not_know_grant_nothing(pki: TestPki, agree: Agree) -> None:
    unknown_field = b"\xf8\x07\x01"  # number 127
    agreement = apply(Policy(), [agree(more=unknown_field)], ENV, pki.roots).agreements["a-1"]
    assert agreement.defect == "the agreement holds terms that this version does not know"


@pytest.mark.parametrize("number", [0, 99])
def test_who_is_in_a_state_that_this_version_does_not_know_may_not_act(pki: TestPki, agree: Agree, number: int) -> None:
    system = agency_pb2.System(agency_id="tax", system_id="core", state=number)  # type: ignore[arg-type]
    policy = apply(Policy(), [agree(state=number), policy_pb2.PolicyEntry(system=system)], ENV, pki.roots)
    assert policy.agreements["a-1"].state is State.SUSPENDED
    assert policy.systems["tax", "core"].state is State.SUSPENDED


def test_states_are_those_of_the_contract(pki: TestPki, agree: Agree) -> None:
    for name, number in agreement_pb2.AgreementState.items():
        if number:
            state = apply(Policy(), [agree(state=number)], ENV, pki.roots).agreements["a-1"].state
            assert name == f"AGREEMENT_STATE_{state.value}"
    for name, system_state in agency_pb2.SystemState.items():
        if system_state:
            entry = policy_pb2.PolicyEntry(system=agency_pb2.System(state=system_state))
            assert name == f"SYSTEM_STATE_{apply(Policy(), [entry], ENV, ()).systems['', ''].state.value}"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["lan", "mai", "hoa"]), st.booleans())))
def test_deltas_one_by_one_lead_where_the_last_word_of_each_does(told: list[tuple[str, bool]]) -> None:
    entries = [policy_pb2.PolicyEntry(operator=policy_pb2.Operator(name=name), removed=out) for name, out in told]
    stepwise = at_once = Policy(operators=frozenset({"lan"}))
    for entry in entries:
        stepwise = apply(stepwise, [entry], ENV, ())
    at_once = apply(at_once, entries, ENV, ())
    last_word = {"lan": False, **dict(told)}
    assert stepwise == at_once == replace(at_once, operators=frozenset(n for n, out in last_word.items() if not out))


def test_the_policy_before_stays_as_it_is() -> None:
    before = Policy(operators=frozenset({"lan"}), agencies={"tax": Agency("Tax")})
    apply(before, [policy_pb2.PolicyEntry(agency=agency_pb2.Agency(agency_id="tax", name="x"), removed=True)], ENV, ())
    assert before == Policy(operators=frozenset({"lan"}), agencies={"tax": Agency("Tax")})
