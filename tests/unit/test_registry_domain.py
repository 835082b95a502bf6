"""The registry's rules without a store: agreements' states, thresholds, and the forms of ids and tokens."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npd.common.v1 import access_pb2, lane_pb2
from npd.registry.v1 import (
    agency_pb2,
    agreement_pb2,
    certificate_authority_pb2,
    directory_pb2,
    policy_pb2,
    revocation_pb2,
    rights_pb2,
)
from services.mesh.core import rights
from services.mesh.core.agreements import Signature
from services.mesh.core.authorities import Authority, AuthorityState, RevocationReason, Revoked
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import Validity
from services.mesh.core.errors import InvalidField, MeshError, PageTokenInvalid, StateNotAllowed
from services.mesh.core.legal_clock import ClockUnit, LegalClock, WorkingCalendar
from services.mesh.core.rights import FieldDefinition, Lane, Mode, Policy, Provision, Purpose, State, System
from services.mesh.wire import policy_entries
from services.registry import convert, formats
from services.registry.domain import (
    Agency,
    Agreement,
    Change,
    ConnectionState,
    LastContact,
    Officer,
    Operator,
    PolicyObject,
    Revocation,
    Side,
    Thresholds,
    authority_after,
)
from services.registry.entries import entry_to_wire
from services.registry.policy import METHODS

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SIGNATURE = Signature((b"leaf", b"issuer"), NOW, b"signature")
DRAFT = Agreement("6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21", "tax", "core", b"terms", {}, {})
ACTIVE = DRAFT.signed(Side.AGENCY, SIGNATURE).signed(Side.OPERATOR, SIGNATURE)
THRESHOLDS = Thresholds(timedelta(seconds=60), timedelta(minutes=5))


def test_method_table_names_just_the_methods_of_the_contract() -> None:
    files = (
        agency_pb2,
        agreement_pb2,
        certificate_authority_pb2,
        directory_pb2,
        policy_pb2,
        revocation_pb2,
        rights_pb2,
    )
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    assert set(METHODS) == {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def test_numbers_are_those_of_the_contract() -> None:
    def numbers(enum: type[Enum]) -> dict[str, int]:
        return {one.name: one.value for one in enum}

    def contract(items: Iterable[tuple[str, int]], prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): number for name, number in items if number}

    assert numbers(Mode) == contract(access_pb2.AccessMode.items(), "ACCESS_MODE_")
    assert numbers(RevocationReason) == contract(revocation_pb2.RevocationReason.items(), "REVOCATION_REASON_")
    assert numbers(Lane) == contract(lane_pb2.Lane.items(), "LANE_")
    assert numbers(ClockUnit) == contract(policy_pb2.ClockUnit.items(), "CLOCK_UNIT_")
    assert numbers(AuthorityState) == contract(policy_pb2.AuthorityState.items(), "AUTHORITY_STATE_")
    assert numbers(ConnectionState) == contract(directory_pb2.ConnectionState.items(), "CONNECTION_STATE_")


def test_agreement_is_active_when_both_sides_signed_and_none_suspends() -> None:
    assert DRAFT.state is DRAFT.signed(Side.OPERATOR, SIGNATURE).state is State.DRAFT
    assert ACTIVE.state is State.ACTIVE
    both = ACTIVE.suspended(Side.AGENCY, "theirs").suspended(Side.OPERATOR, "ours")
    assert (both.state, both.cause) == (State.SUSPENDED, "ours")
    assert (both.resumed(Side.OPERATOR).state, both.resumed(Side.OPERATOR).cause) == (State.SUSPENDED, "theirs")
    assert both.resumed(Side.OPERATOR).resumed(Side.AGENCY) == ACTIVE


def test_agreement_refuses_what_its_state_does_not_allow() -> None:
    acts: list[Callable[[], Agreement]] = [
        lambda: ACTIVE.signed(Side.AGENCY, SIGNATURE),
        lambda: DRAFT.suspended(Side.AGENCY, "why"),
        lambda: ACTIVE.resumed(Side.AGENCY),
        lambda: ACTIVE.suspended(Side.AGENCY, "why").suspended(Side.AGENCY, "again"),
    ]
    for act in acts:
        with pytest.raises(StateNotAllowed):
            act()


def test_side_follows_from_who_calls() -> None:
    assert DRAFT.side_of(Caller("", CallerKind.OPERATOR, "lan")) is Side.OPERATOR
    assert DRAFT.side_of(Caller("", CallerKind.AGENCY, "tax/core", "tax", "core")) is Side.AGENCY
    assert DRAFT.side_of(Caller("", CallerKind.AGENCY, "tax/kiosk", "tax", "kiosk")) is None
    assert DRAFT.side_of(Caller("", CallerKind.ROOM, "sharing")) is None


@pytest.mark.parametrize(
    ("contact", "success", "state"),
    [
        (None, None, ConnectionState.SILENT),
        (0, 0, ConnectionState.CONNECTED),
        (0, 60, ConnectionState.CONNECTED),
        (0, 61, ConnectionState.DEGRADED),
        (300, None, ConnectionState.DEGRADED),
        (301, 301, ConnectionState.SILENT),
    ],
)
def test_connection_is_judged_by_its_thresholds(
    contact: int | None, success: int | None, state: ConnectionState
) -> None:
    def ago(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOW - timedelta(seconds=seconds)

    heard = ago(contact)
    known = None if heard is None else LastContact("tax/core", heard, ago(success))
    assert THRESHOLDS.judge(known, NOW) is state


@given(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True), min_size=1, max_size=3))
def test_page_token_leads_back_to_its_key(key: list[str]) -> None:
    page = convert.page_from_wire(7, "", default=100, most=1000, keys=len(key))
    assert (page.limit, page.after) == (7, None)
    token = convert.page_token(page, 7, *key)
    assert convert.page_from_wire(0, token, default=100, most=1000, keys=len(key)).after == tuple(key)
    assert convert.page_token(page, 6, *key) == ""


@given(st.text(max_size=40))
def test_any_text_as_page_token_is_a_key_or_is_refused(token: str) -> None:
    try:
        page = convert.page_from_wire(0, token, default=100, most=1000, keys=2)
    except PageTokenInvalid:
        return
    assert page.after is None or len(page.after) == 2


@pytest.mark.parametrize("text", ["", " ", "x" * 501, "two\nlines", "zero\u200bwidth", "nul\0"])
def test_cause_is_one_printable_line(text: str) -> None:
    with pytest.raises(InvalidField):
        formats.require_cause("cause", text)


@pytest.mark.parametrize("agreement_id", ["", "x", "6f1c24a0"])
def test_what_is_no_uuid_names_no_agreement(agreement_id: str) -> None:
    with pytest.raises(MeshError) as raised:
        formats.require_agreement_id(agreement_id)
    assert raised.value.reason == "AGREEMENT_UNKNOWN"


HOST = "agency.test.example"
SECOND = timedelta(seconds=1)


def authority(state: AuthorityState, since: datetime, host: str = HOST) -> Authority:
    return Authority("cd", host, state, since)


def test_an_authority_follows_the_newest_word_about_it() -> None:
    active, tainted = authority(AuthorityState.ACTIVE, NOW - SECOND), authority(AuthorityState.TAINTED, NOW)
    assert authority_after(None, active, NOW) == active
    assert authority_after(active, tainted, NOW) == tainted
    assert authority_after(tainted, active, NOW) == tainted, "an older word comes late"


@pytest.mark.parametrize("state", list(AuthorityState))
def test_a_revoked_authority_stays_so_whatever_is_told_later(state: AuthorityState) -> None:
    revoked = authority(AuthorityState.REVOKED, NOW)
    assert authority_after(revoked, authority(state, NOW + SECOND), NOW + SECOND) == revoked


def test_a_revocation_of_an_authority_counts_however_late_it_comes() -> None:
    revoked = authority(AuthorityState.REVOKED, NOW - SECOND)
    assert authority_after(authority(AuthorityState.ACTIVE, NOW), revoked, NOW) == revoked


def test_a_time_ahead_of_our_clock_does_not_freeze_an_authority() -> None:
    ahead, tainted = authority(AuthorityState.ACTIVE, NOW + 1000 * SECOND), authority(AuthorityState.TAINTED, NOW)
    assert authority_after(ahead, tainted, NOW + SECOND) == tainted, "an act always comes a little after its time"


def test_an_authority_keeps_its_host() -> None:
    moved = authority(AuthorityState.TAINTED, NOW, "operator.test.example")
    assert authority_after(authority(AuthorityState.ACTIVE, NOW), moved, NOW).host == HOST


@pytest.mark.parametrize(
    "text",
    [
        "certificate 4c02 of issuer 3fa1 for spiffe://agency.test.example/tax/core",
        f"certificate {'abc' + '012345678901' + 'def'} of issuer {'a0' * 13 + '012345678901' + 'f' * 26}",
        "application 6f1c24a0-9d8b-4d57-9e0f-012345678901",
        "12,345 leaves",
    ],
)
def test_ids_in_the_object_of_an_act_are_no_pins(text: str) -> None:
    assert formats.require_act_object("object", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two\nlines",
        "x" * 501,
        "officer 001099000123",
        "id:001099000123.",
        "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21, 001099000123",
    ],
)
def test_the_object_of_an_act_is_a_line_without_a_pin(text: str) -> None:
    with pytest.raises(InvalidField):
        formats.require_act_object("object", text)


VALIDITY = Validity(date(2024, 7, 1))
FOLLOWED = FieldDefinition(
    "sex", "p", True, ("identity", "agency"), VALIDITY, frozenset({"residence", "identity"}), Lane.VITAL
)
CLOCK = LegalClock("C", "t", "p", "a.begin", "b.end", 2, ClockUnit.WORKING_DAY, VALIDITY)
YEAR = Validity(date(2026, 1, 1), date(2026, 12, 31))
CALENDAR = WorkingCalendar("VN-2026", frozenset({6, 7}), frozenset({date(2026, 1, 1), date(2026, 9, 2)}), YEAR)
AGENCY_CA = Authority("cd", "agency.test.example", AuthorityState.TAINTED, NOW)
OBJECTS: list[tuple[PolicyObject, str, object]] = [
    (Agency("tax", "Cục Thuế", "pki@tax.example"), "agencies", {"tax": rights.Agency("Cục Thuế", "pki@tax.example")}),
    (
        System("tax", "core", "n", State.SUSPENDED, "why", NOW),
        "systems",
        {("tax", "core"): System("tax", "core", "n", State.SUSPENDED, "why", NOW)},
    ),
    (Officer("tax", "o-1"), "officers", {("tax", "o-1")}),
    (Revocation("ab", "1f", RevocationReason.SUPERSEDED, NOW), "revoked", {("ab", "1f"): Revoked(NOW, 3)}),
    (AGENCY_CA, "authorities", {"cd": AGENCY_CA}),
    (Operator("lan"), "operators", {"lan"}),
    (FOLLOWED, "fields", {"sex": FOLLOWED}),
    (CLOCK, "clocks", {"C": CLOCK}),
    (CALENDAR, "calendars", {"VN-2026": CALENDAR}),
    (
        Purpose("C", "t", "p", frozenset({"sex", "pin"}), Validity(date(2024, 7, 1), date(2026, 1, 1))),
        "purposes",
        {"C": Purpose("C", "t", "p", frozenset({"sex", "pin"}), Validity(date(2024, 7, 1), date(2026, 1, 1)))},
    ),
    (Provision("p", "c", "s", VALIDITY), "provisions", {"p": Provision("p", "c", "s", VALIDITY)}),
]


@pytest.mark.parametrize(("subject", "table", "expected"), OBJECTS, ids=[type(one[0]).__name__ for one in OBJECTS])
def test_rooms_read_what_the_registry_writes(subject: PolicyObject, table: str, expected: object) -> None:
    policy = policy_entries.apply(Policy(), [entry_to_wire(Change(subject, removed=False))], "test.example", [])
    assert getattr(policy, table) == expected
    policy = policy_entries.apply(policy, [entry_to_wire(Change(subject, removed=True))], "test.example", [])
    assert not getattr(policy, table)


def test_rooms_read_an_agreement_with_what_is_wrong_with_it() -> None:
    terms = agreement_pb2.AgreementTerms(agreement_id=DRAFT.agreement_id, environment="test.example")
    terms.start_date.CopyFrom(convert.date_to_wire(date(2026, 1, 1)))
    stored = Agreement(DRAFT.agreement_id, "", "", terms.SerializeToString(), {}, {})
    policy = policy_entries.apply(Policy(), [entry_to_wire(Change(stored, removed=False))], "test.example", [])
    assert policy.agreements[DRAFT.agreement_id].defect == "the agency's side has not signed"
