"""What certificates, authorities and selections may become, and the numbers that the contract gives them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import EnumMeta
from typing import Any

import pytest

from npd.issuer.v1 import certificate_pb2, enrolment_pb2
from npd.registry.v1 import policy_pb2, revocation_pb2
from services.issuer.domain import (
    HOLDERS_REASONS,
    ApplicationState,
    Authority,
    Certificate,
    CertificateName,
    CertificateState,
    EnrolmentState,
    Profile,
    RenewalWindow,
    Wanted,
)
from services.mesh.core.authorities import AuthorityState, RevocationReason
from services.mesh.core.errors import InvalidField, StateNotAllowed

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DAY = timedelta(days=1)
CERTIFICATE = Certificate(
    name=CertificateName("a" * 64, "4c02"),
    identity="spiffe://agency.npd.gov.vn/tax/core",
    agency_id="tax",
    system_id="core",
    profile=Profile.CLIENT_TLS,
    key_id="b" * 64,
    start_time=NOW - 30 * DAY,
    expire_time=NOW + 60 * DAY,
    intent_time=NOW - 30 * DAY,
    der=b"\x30",
)
AUTHORITY = Authority("a" * 64, "agency.npd.gov.vn", AuthorityState.PREPARED, NOW, b"\x30", NOW + 900 * DAY, 7)
ALLOWED = {
    AuthorityState.PREPARED: {AuthorityState.ACTIVE, AuthorityState.TAINTED},
    AuthorityState.ACTIVE: {AuthorityState.TAINTED},
    AuthorityState.TAINTED: {AuthorityState.RETIRED, AuthorityState.REVOKED},
    AuthorityState.RETIRED: {AuthorityState.REVOKED},
    AuthorityState.REVOKED: set[AuthorityState](),
}


def test_certificate_is_in_one_state_at_a_time() -> None:
    assert CERTIFICATE.state_at(NOW) is CertificateState.ISSUED
    assert replace(CERTIFICATE, der=b"").state_at(NOW) is CertificateState.INTENT
    assert CERTIFICATE.state_at(CERTIFICATE.expire_time) is CertificateState.EXPIRED
    assert CERTIFICATE.state_at(CERTIFICATE.expire_time - timedelta(microseconds=1)) is CertificateState.ISSUED
    revoked = CERTIFICATE.revoked(RevocationReason.SUPERSEDED, NOW)
    assert revoked.state_at(CERTIFICATE.expire_time + DAY) is CertificateState.REVOKED


def test_revoked_certificate_keeps_its_first_time_and_reason() -> None:
    revoked = CERTIFICATE.revoked(RevocationReason.SUPERSEDED, NOW)
    assert revoked.revoked(RevocationReason.KEY_COMPROMISE, NOW + DAY) == revoked


@pytest.mark.parametrize("before", AuthorityState)
@pytest.mark.parametrize("after", AuthorityState)
def test_authority_moves_as_its_life_allows(before: AuthorityState, after: AuthorityState) -> None:
    authority = replace(AUTHORITY, state=before)
    if after in ALLOWED[before]:
        moved = authority.moved(after, NOW + DAY)
        assert (moved.state, moved.state_time, moved.known_revision) == (after, NOW + DAY, None)
        return
    with pytest.raises(StateNotAllowed) as refusal:
        authority.moved(after, NOW + DAY)
    assert refusal.value.metadata == {"object": f"authority {'a' * 64}", "state": before.name}


@pytest.mark.parametrize("before", AuthorityState)
def test_force_revokes_from_any_state_but_revoked(before: AuthorityState) -> None:
    authority = replace(AUTHORITY, state=before)
    if before is AuthorityState.REVOKED:
        with pytest.raises(StateNotAllowed):
            authority.moved(AuthorityState.REVOKED, NOW, forced=True)
    else:
        assert authority.moved(AuthorityState.REVOKED, NOW, forced=True).state is AuthorityState.REVOKED
    if before not in (AuthorityState.PREPARED,):
        with pytest.raises(StateNotAllowed):  # force is for revoking alone
            authority.moved(AuthorityState.ACTIVE, NOW, forced=True)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(agency_id="tax"),
        Wanted(identity="spiffe://agency.npd.gov.vn/tax/core"),
        Wanted(key_id="b" * 64),
        Wanted(issuer_key_id="a" * 64),
        Wanted(state=CertificateState.INTENT, intent_before=NOW),
    ],
)
def test_one_selector_is_taken(wanted: Wanted) -> None:
    wanted.require_one_selector()


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(state=CertificateState.ISSUED),
        Wanted(agency_id="tax", key_id="b" * 64),
        Wanted(agency_id="tax", system_id="core"),
        Wanted(agency_id="tax", expire_before=NOW),
        Wanted(expire_before=NOW),
    ],
)
def test_no_selector_or_several_are_refused(wanted: Wanted) -> None:
    with pytest.raises(InvalidField):
        wanted.require_one_selector()


def test_renewal_window_lies_in_the_last_third_of_a_life_and_ends_before_it() -> None:
    window = RenewalWindow.of(NOW, NOW + 90 * DAY)
    assert (window.start_time, window.end_time, window.is_urgent) == (NOW + 60 * DAY, NOW + 75 * DAY, False)
    urgent = RenewalWindow.urgent(NOW, timedelta(hours=1))
    assert (urgent.start_time, urgent.end_time, urgent.is_urgent) == (NOW, NOW + timedelta(hours=1), True)


def test_holders_reasons_are_facts_and_operators_judgements() -> None:
    assert set(RevocationReason) - set(HOLDERS_REASONS) == {
        RevocationReason.AFFILIATION_CHANGED,
        RevocationReason.PRIVILEGE_WITHDRAWN,
    }


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (Profile, certificate_pb2.CertificateProfile, "CERTIFICATE_PROFILE_"),
        (CertificateState, certificate_pb2.CertificateState, "CERTIFICATE_STATE_"),
        (ApplicationState, certificate_pb2.ApplicationState, "APPLICATION_STATE_"),
        (EnrolmentState, enrolment_pb2.EnrolmentState, "ENROLMENT_STATE_"),
        (AuthorityState, policy_pb2.AuthorityState, "AUTHORITY_STATE_"),
        (RevocationReason, revocation_pb2.RevocationReason, "REVOCATION_REASON_"),
    ],
)
def test_numbers_are_those_of_the_contract(ours: EnumMeta, wire: Any, prefix: str) -> None:
    assert {f"{prefix}{one.name}": one.value for one in ours} == {  # type: ignore[var-annotated]
        name: number for name, number in wire.items() if number
    }
