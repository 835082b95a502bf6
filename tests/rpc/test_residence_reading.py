"""Residences read by officers: shown to who knows whom he asks for, and on their way to the disclosure log."""

from typing import Any

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.evidence_pb2 import Outcome
from npd.residence.v1.residence_pb2 import GetResidenceRequest, GetResidenceResponse, Joining
from npd_pki.identity import Kind
from tests.mesh_fixture import ENVIRONMENT, Desk, Stage, wire_date
from tests.rpc.test_residence_registration import (
    ACTIVE,
    BA_DINH,
    CLOSED,
    GRANTED,
    LOOKUP,
    MOVED,
    NGOC_HA,
    REGISTER,
    SERVICE,
    Citizen,
    Office,
    address,
    death,
)

PATHS = ["household", "permanent_residence", "temporary_residence"]
DISCLOSED, NO_MATCH = Outcome.OUTCOME_DISCLOSED, Outcome.OUTCOME_NO_MATCH


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def asks(office: Office, citizen: Citizen, **fields: Any) -> GetResidenceRequest:
    """A GetResidenceRequest."""
    return GetResidenceRequest(**{"access": office.access, "identity": citizen.identity, **fields})


def test_residences_are_shown_newest_first_and_the_use_is_told(office: Office) -> None:
    citizen = office.citizen()
    first = office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(9)))
    second = office.register(citizen, address(office, NGOC_HA), household=Joining())
    with office.recording() as recorded:
        found = office.stub.GetResidence(asks(office, citizen))
    assert found.outcome == DISCLOSED
    assert [one.residence_id for one in found.residences] == [second.residence_id, first.residence_id]
    assert [one.state for one in found.residences] == [ACTIVE, CLOSED]
    assert (found.residences[1].ground, found.residences[1].closing_date) == (MOVED, wire_date(office.today))
    assert found.household.household_id == second.household_id == found.residences[0].household_id
    assert [(one.pin, one.name, one.is_head) for one in found.household.members] == [
        (citizen.pin, citizen.person.full_name, True)
    ]
    (entry,) = recorded.entries
    assert (entry.method, entry.outcome, entry.mode) == (f"{SERVICE}/GetResidence", DISCLOSED, LOOKUP)
    assert (list(entry.paths), entry.access, len(entry.subject.pseudonym)) == (PATHS, office.access, 32)
    (use,) = recorded.uses
    assert (use.subject_id, use.method, use.outcome) == (str(citizen.subject_id), entry.method, DISCLOSED)
    assert (list(use.paths), use.purpose, use.provision) == (PATHS, "STATE_MANAGEMENT", "D70/2024.9")
    assert use.access.origin == f"spiffe://agency.{ENVIRONMENT}/police/residence"
    assert (use.access.agreement_id, use.access.officer_id) == (office.access.agreement_id, "o-1")
    assert (recorded.told, recorded.links) == ([], [])


def test_who_resides_nowhere_is_shown_as_such(office: Office) -> None:
    with office.recording() as recorded:
        found = office.stub.GetResidence(asks(office, office.citizen()))
    assert found == GetResidenceResponse(outcome=DISCLOSED)
    assert len(recorded.uses) == 1, "that too says something of him"


def test_dead_are_shown_too(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH))
    office.tell(citizen, death(office.today), "death_or_missing", source="civil_status")
    found = office.stub.GetResidence(asks(office, citizen))
    assert [one.state for one in found.residences] == [CLOSED]
    assert not found.HasField("household")


@pytest.mark.parametrize("stated", ["name", "birth date", "pin"])
def test_mismatch_discloses_nothing(office: Office, stated: str) -> None:
    citizen, other = office.citizen(), office.citizen()
    office.register(citizen, address(office, BA_DINH))
    request = asks(office, citizen)
    match stated:
        case "name":
            request.identity.full_name += "g"
        case "birth date":
            request.identity.birth_date.CopyFrom(Date(year=1931, month=2, day=3))
        case "pin":
            request.identity.pin = other.pin
    with office.recording() as recorded:
        assert office.stub.GetResidence(request) == GetResidenceResponse(outcome=NO_MATCH)
    (entry,) = recorded.entries
    assert (entry.outcome, list(entry.paths), len(entry.subject.pseudonym)) == (NO_MATCH, PATHS, 32)
    assert (recorded.uses, recorded.told) == ([], [])


def test_unknown_number_matches_nobody(office: Office) -> None:
    with office.recording() as recorded:
        found = office.stub.GetResidence(asks(office, office.stranger()))
    assert found == GetResidenceResponse(outcome=NO_MATCH)
    (entry,) = recorded.entries
    assert (entry.outcome, entry.HasField("subject"), recorded.uses) == (NO_MATCH, False, [])


def test_agreement_grants_all_that_is_shown(office: Office) -> None:
    citizen = office.citizen()
    for number, path in enumerate(PATHS):
        access = office.agree(f"police/less{number}", {LOOKUP: [each for each in PATHS if each != path]})
        stub = office.stub_of(Kind.AGENCY, f"police/less{number}")
        refusal = office.refuse(stub.GetResidence, asks(office, citizen, access=access), "FIELD_NOT_GRANTED")
        assert refusal.metadata["field"] == path
    access = office.agree("police/writer", {REGISTER: GRANTED[REGISTER]})
    stub = office.stub_of(Kind.AGENCY, "police/writer")
    office.refuse(stub.GetResidence, asks(office, citizen, access=access), "MODE_NOT_GRANTED")


def test_malformed_question_is_refused(office: Office) -> None:
    request = asks(office, office.citizen())
    request.identity.pin = "12345"
    office.refuse(office.stub.GetResidence, request, "FIELD_INVALID")
    request = asks(office, office.citizen())
    request.access.officer_id = "o-9"
    office.refuse(office.stub.GetResidence, request, "OFFICER_NOT_ON_ROSTER")
    request.ClearField("access")
    office.refuse(office.stub.GetResidence, request, "FIELD_REQUIRED")
