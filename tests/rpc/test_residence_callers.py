"""Who may act in the room residence, on which grounds; and what becomes of acts that come twice, or two at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from npd.residence.v1 import residence_pb2
from npd.residence.v1.residence_pb2 import Joining
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from tests.mesh_fixture import Desk, Stage, new_id, wire_date
from tests.rpc.test_residence_registration import (
    BA_DINH,
    GIANG_VO,
    LOOKUP,
    NGOC_HA,
    PERMANENT,
    REGISTER,
    TEMPORARY,
    Office,
    address,
)
from tests.rpc.test_sharing_callers import refusal_or


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def test_agreement_grants_each_kind_and_the_household(office: Office) -> None:
    citizen, home = office.citizen(), address(office, BA_DINH)
    for number, (granted, request, path) in enumerate(
        (
            (["temporary_residence"], office.asks(citizen, home), "permanent_residence"),
            (["permanent_residence"], office.stays(citizen, home), "temporary_residence"),
            (["permanent_residence"], office.asks(citizen, home, household=Joining()), "household"),
            (["permanent_residence", "household"], office.asks(citizen, home, household=Joining()), "relation_to_head"),
        )
    ):
        name = f"police/part{number}"
        request.access.CopyFrom(office.agree(name, {REGISTER: granted}))
        stub = office.stub_of(Kind.AGENCY, name)
        assert office.refuse(stub.RegisterResidence, request, "FIELD_NOT_GRANTED").metadata["field"] == path
    reader = office.agree("police/reader", {LOOKUP: ["permanent_residence"]})
    request = office.asks(citizen, home, access=reader)
    stub = office.stub_of(Kind.AGENCY, "police/reader")
    office.refuse(stub.RegisterResidence, request, "MODE_NOT_GRANTED")


@pytest.mark.parametrize(("kind", "name"), [(Kind.MESH, "civil_status"), (Kind.OPERATOR, "lan")])
def test_only_agencies_register_close_name_and_read(office: Office, kind: Kind, name: str) -> None:
    citizen, stub = office.citizen(), office.stub_of(kind, name)
    stated: dict[str, Any] = {"access": office.access, "identity": citizen.identity}
    day = wire_date(office.today)
    ground = residence_pb2.CLOSING_GROUND_ABSENT
    for call, request in (
        (stub.RegisterResidence, office.asks(citizen, address(office, BA_DINH))),
        (
            stub.CloseResidence,
            residence_pb2.CloseResidenceRequest(
                request_id=new_id(), access=office.access, residence_id=new_id(), ground=ground, closing_date=day
            ),
        ),
        (stub.NameHead, residence_pb2.NameHeadRequest(request_id=new_id(), household_id=new_id(), **stated)),
        (stub.GetResidence, residence_pb2.GetResidenceRequest(**stated)),
    ):
        office.refuse(call, request, "METHOD_NOT_ALLOWED")


def test_repeated_registration_gets_its_first_answer(office: Office) -> None:
    citizen = office.citizen()
    request = office.asks(citizen, address(office, BA_DINH))
    first = office.stub.RegisterResidence(request)
    with office.recording() as recorded:
        assert office.stub.RegisterResidence(request) == first
    assert (recorded.told, recorded.links, recorded.entries) == ([], [], [])
    request.address.detail_text = "Số 2"
    office.refuse(office.stub.RegisterResidence, request, "REQUEST_ID_REUSED")
    assert office.active(citizen) == [("PERMANENT", "Số 1")]


def test_two_registrations_at_once_leave_one_residence(office: Office) -> None:
    for kind in (PERMANENT, TEMPORARY):
        citizen = office.citizen()
        asks = office.asks if kind == PERMANENT else office.stays
        requests = [asks(citizen, address(office, code, f"Số {code}")) for code in (BA_DINH, NGOC_HA, GIANG_VO) * 2]
        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(lambda one: refusal_or(office.stub.RegisterResidence, one), requests))
        assert {one.reason for one in answers if isinstance(one, Refusal)} <= {"ALREADY_RESIDENT"}
        assert len(office.active(citizen)) == 1
        done = [one for one in answers if not isinstance(one, Refusal)]
        if kind == TEMPORARY:
            assert len(done) == 1
        closed = office.rows("SELECT 1 FROM residences WHERE subject_id = :id", id=citizen.subject_id)
        assert len(closed) == len(done) >= 1
