"""What the policy in force lets a caller do: every refusal, what it names, and the days on which it begins and ends."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.core.clock import LEGAL_ZONE, Validity, legal_date
from services.mesh.core.errors import InvalidField, MaskEmpty, MeshError
from services.mesh.core.rights import (
    Access,
    Agreement,
    AgreementExpired,
    AgreementForeign,
    AgreementNotYetValid,
    AgreementSignatureInvalid,
    AgreementSuspended,
    AgreementUnknown,
    FieldDefinition,
    FieldNotGranted,
    FieldOutsidePurpose,
    Ground,
    Mode,
    ModeNotGranted,
    OfficerNotOnRoster,
    Policy,
    Purpose,
    PurposeUnknown,
    State,
    require_paths,
)

DAY = date(2026, 3, 14)
AGREEMENT = Agreement(
    agreement_id="a-1",
    agency_id="tax",
    system_id="core",
    purpose="TAX",
    provision="D70/2024.9",
    grants={Mode.LOOKUP: frozenset({"full_name", "permanent_residence", "religion"}), Mode.CHANGES: frozenset({"pin"})},
    validity=Validity(date(2026, 1, 1), date(2026, 12, 31)),
    state=State.ACTIVE,
    cause="",
)
PURPOSE = Purpose(
    "TAX", "Taxation", "D70/2024.8", frozenset({"full_name", "permanent_residence", "pin"}), Validity(date(2024, 7, 1))
)
ACCESS = Access("a-1", "HS-2026/17", "o-1")


def policy(agreement: Agreement = AGREEMENT, purpose: Purpose = PURPOSE) -> Policy:
    return Policy(
        officers=frozenset({("tax", "o-1"), ("moh", "o-9")}),
        agreements={agreement.agreement_id: agreement},
        purposes={purpose.code: purpose},
    )


def refusal(
    kind: type[MeshError],
    known: Policy,
    *paths: str,
    access: Access = ACCESS,
    mode: Mode = Mode.LOOKUP,
    system: tuple[str, str] = ("tax", "core"),
    day: date = DAY,
) -> Mapping[str, str]:
    """The metadata of the refusal that must come."""
    with pytest.raises(kind) as refused:
        known.authorise(*system, access, mode, paths, day)
    assert type(refused.value) is kind
    return refused.value.metadata


def test_a_granted_request_gets_the_ground_that_goes_into_evidence() -> None:
    paths = ("full_name", "permanent_residence.place.unit_code")
    ground = policy().authorise("tax", "core", ACCESS, Mode.LOOKUP, paths, DAY)
    assert ground == Ground(ACCESS, Mode.LOOKUP, "TAX", "D70/2024.9")


def test_an_unknown_agreement_is_named() -> None:
    unknown = replace(ACCESS, agreement_id="a-2")
    assert refusal(AgreementUnknown, policy(), access=unknown) == {"agreement": "a-2"}


@pytest.mark.parametrize("system", [("tax", "other"), ("moh", "core")])
def test_another_systems_agreement_is_foreign(system: tuple[str, str]) -> None:
    assert refusal(AgreementForeign, policy(), system=system) == {"agreement": "a-1"}


def test_an_agreement_with_a_defective_signature_grants_nothing() -> None:
    known = policy(replace(AGREEMENT, defect="the operator's side has not signed"))
    metadata = refusal(AgreementSignatureInvalid, known, "full_name")
    assert metadata == {"agreement": "a-1", "defect": "the operator's side has not signed"}


@pytest.mark.parametrize("state", [State.SUSPENDED, State.DRAFT])
def test_an_agreement_that_is_not_active_grants_nothing(state: State) -> None:
    known = policy(replace(AGREEMENT, state=state, cause="misuse"))
    assert refusal(AgreementSuspended, known, "full_name") == {"agreement": "a-1", "cause": "misuse"}


def test_an_agreement_begins_and_ends_with_whole_days() -> None:
    known, start, end = policy(), AGREEMENT.validity.start, date(2026, 12, 31)
    assert refusal(AgreementNotYetValid, known, day=start - timedelta(days=1)) == {
        "agreement": "a-1",
        "start_date": "2026-01-01",
    }
    for day in (start, end):
        assert known.authorise("tax", "core", ACCESS, Mode.LOOKUP, ["full_name"], day)
    assert refusal(AgreementExpired, known, day=end + timedelta(days=1)) == {
        "agreement": "a-1",
        "end_date": "2026-12-31",
    }


def test_the_legal_day_is_that_of_viet_nam() -> None:
    last_moment = datetime(2026, 12, 31, 16, 59, 59, tzinfo=UTC)
    assert legal_date(last_moment) == date(2026, 12, 31)
    assert legal_date(last_moment + timedelta(seconds=1)) == date(2027, 1, 1)
    assert legal_date(datetime(2026, 1, 1, 0, 0, tzinfo=LEGAL_ZONE)) == date(2026, 1, 1)
    known = policy()
    known.authorise("tax", "core", ACCESS, Mode.LOOKUP, ["full_name"], legal_date(last_moment))
    refusal(AgreementExpired, known, day=legal_date(last_moment + timedelta(seconds=1)))


def test_only_officers_on_the_agencys_own_roster_may_ask() -> None:
    for officer in ("o-2", "o-9", ""):
        stranger = replace(ACCESS, officer_id=officer)
        assert refusal(OfficerNotOnRoster, policy(), "full_name", access=stranger) == {"officer": officer}


def test_a_mode_that_is_not_granted_is_named() -> None:
    assert refusal(ModeNotGranted, policy(), mode=Mode.EXTRACT) == {"agreement": "a-1", "mode": "EXTRACT"}


def test_a_purpose_must_be_known_and_in_force() -> None:
    over = replace(PURPOSE, validity=Validity(date(2024, 7, 1), DAY - timedelta(days=1)))
    assert refusal(PurposeUnknown, policy(purpose=over)) == {"purpose": "TAX"}
    assert refusal(PurposeUnknown, replace(policy(), purposes={})) == {"purpose": "TAX"}


def test_a_field_outside_the_grant_names_the_grant() -> None:
    assert refusal(FieldNotGranted, policy(), "full_name", "sex") == {
        "agreement": "a-1",
        "mode": "LOOKUP",
        "field": "sex",
        "rule": "agreement a-1 grants LOOKUP of full_name, permanent_residence, religion",
    }


def test_a_granted_field_outside_the_purpose_names_the_purposes_provision() -> None:
    assert refusal(FieldOutsidePurpose, policy(), "religion.code") == {
        "purpose": "TAX",
        "field": "religion.code",
        "rule": "purpose TAX by D70/2024.8",
    }


def test_a_grant_of_one_mode_is_not_one_of_another() -> None:
    assert refusal(FieldNotGranted, policy(), "pin")["mode"] == "LOOKUP"
    assert refusal(FieldNotGranted, policy(), "full_name", mode=Mode.CHANGES)["mode"] == "CHANGES"
    assert policy().authorise("tax", "core", ACCESS, Mode.CHANGES, ["pin"], DAY)


def test_the_first_field_outside_refuses_the_whole_call() -> None:
    assert refusal(FieldNotGranted, policy(), "full_name", "phone", "email")["field"] == "phone"


PATHS = ("full_name", "permanent_residence", "religion", "pin", "sex")


@settings(deadline=None)
@given(granted=st.frozensets(st.sampled_from(PATHS)), needed=st.frozensets(st.sampled_from(PATHS)), data=st.data())
def test_exactly_what_both_grant_and_purpose_hold_may_be_used(
    granted: frozenset[str], needed: frozenset[str], data: st.DataObject
) -> None:
    known = policy(replace(AGREEMENT, grants={Mode.LOOKUP: granted}), replace(PURPOSE, paths=needed))
    assert known.usable_paths(known.agreements["a-1"], Mode.LOOKUP, DAY) == granted & needed
    asked = data.draw(st.lists(st.sampled_from(PATHS), min_size=1))
    if set(asked) <= granted & needed:
        assert known.authorise("tax", "core", ACCESS, Mode.LOOKUP, asked, DAY)
    else:
        with pytest.raises((FieldNotGranted, FieldOutsidePurpose)) as refused:
            known.authorise("tax", "core", ACCESS, Mode.LOOKUP, asked, DAY)
        named = refused.value.metadata["field"]
        assert named in set(asked) - (granted & needed)
        assert isinstance(refused.value, FieldOutsidePurpose) == (named in granted)


@settings(deadline=None)
@given(st.dates(), st.dates(), st.dates())
def test_a_validity_covers_its_first_and_its_last_day(start: date, end: date, day: date) -> None:
    assert Validity(start, end).covers(day) == (start <= day <= end)
    assert Validity(start).covers(day) == (start <= day)


def test_a_field_of_the_catalogue_is_one_only_while_in_force() -> None:
    definition = FieldDefinition("pin", "L26/2023.9", False, ("identity",), Validity(DAY, DAY))
    known = Policy(fields={"pin": definition})
    assert known.field_in_force("pin", DAY) is definition
    assert known.field_in_force("pin", DAY + timedelta(days=1)) is None
    assert known.field_in_force("sex", DAY) is None
    assert (known.fields_in_force(DAY), known.fields_in_force(DAY - timedelta(days=1))) == ({"pin": definition}, {})


def test_a_confirmation_never_makes_a_policy_older() -> None:
    newer = datetime(2026, 3, 14, 12, tzinfo=UTC)
    known = Policy(revision=7).fresh_at(newer)
    assert known.fresh_at(newer - timedelta(minutes=1)).issue_time == newer
    assert known.fresh_at(newer + timedelta(minutes=1)) == replace(known, issue_time=newer + timedelta(minutes=1))


def test_a_mask_of_an_agreement_names_known_fields_and_at_least_one() -> None:
    assert require_paths(["pin", "sex", "pin"], PATHS, "fields") == {"pin", "sex"}
    with pytest.raises(MaskEmpty):
        require_paths([], PATHS, "fields")
    with pytest.raises(InvalidField, match="blood is not a field"):
        require_paths(["pin", "blood"], PATHS, "fields")
