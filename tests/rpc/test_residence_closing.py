"""Residences closed by officers."""

from datetime import timedelta
from typing import Any

import pytest

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.person_pb2 import Person
from npd.residence.v1 import residence_pb2
from npd.residence.v1.residence_pb2 import CloseResidenceRequest, Residence
from npd_pki.identity import Kind
from tests.mesh_fixture import Desk, Stage, new_id, wire_date
from tests.rpc.test_residence_registration import (
    BA_DINH,
    CLOSED,
    NGOC_HA,
    PERMANENT_PATHS,
    REGISTER,
    TEMPORARY_PATHS,
    Office,
    address,
    require_act,
)

EMIGRATED, ABSENT = residence_pb2.CLOSING_GROUND_EMIGRATED, residence_pb2.CLOSING_GROUND_ABSENT


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def asks(office: Office, residence: Residence | str, access: AccessContext | None = None, **fields: Any) -> Any:
    """A CloseResidenceRequest, as of today."""
    residence_id = residence if isinstance(residence, str) else residence.residence_id
    told = {"ground": EMIGRATED, "closing_date": wire_date(office.today), "request_id": new_id(), **fields}
    return CloseResidenceRequest(access=access or office.access, residence_id=residence_id, **told)


def test_permanent_residence_is_closed_told_and_recorded(office: Office) -> None:
    citizen = office.citizen()
    residence = office.register(citizen, address(office, BA_DINH))
    with office.recording() as recorded:
        done = office.stub.CloseResidence(asks(office, residence))
    assert (done.residence.state, done.residence.ground) == (CLOSED, EMIGRATED)
    assert (done.residence.residence_id, done.residence.closing_date) == (
        residence.residence_id,
        wire_date(office.today),
    )
    require_act(office, recorded, "residence.close_residence", done.act_id, "CloseResidence")
    (told,) = recorded.told
    assert (told.pin, sorted(told.update_mask.paths)) == (citizen.pin, sorted(PERMANENT_PATHS))
    assert told.person == Person(), "no value any more"
    assert (office.active(citizen), recorded.acts) == ([], ["residence.close_residence"])


def test_who_gives_up_his_home_lives_where_he_stays(office: Office) -> None:
    citizen, away = office.citizen(), address(office, NGOC_HA)
    residence = office.register(citizen, address(office, BA_DINH))
    stay = office.stub.RegisterResidence(office.stays(citizen, away)).residence
    with office.recording() as recorded:
        office.stub.CloseResidence(asks(office, residence))
    (told,) = recorded.told
    assert (told.person.current_residence, told.person.HasField("permanent_residence")) == (away, False)
    with office.recording() as recorded:
        office.stub.CloseResidence(asks(office, stay))
    assert recorded.told[0].person == Person()


def test_who_ends_his_stay_lives_at_home_again(office: Office) -> None:
    citizen, home = office.citizen(), address(office, BA_DINH)
    office.register(citizen, home)
    stay = office.stub.RegisterResidence(office.stays(citizen, address(office, NGOC_HA))).residence
    with office.recording() as recorded:
        done = office.stub.CloseResidence(asks(office, stay, ground=ABSENT))
    require_act(office, recorded, "residence.close_residence", done.act_id, "CloseResidence")
    (told,) = recorded.told
    assert sorted(told.update_mask.paths) == sorted(TEMPORARY_PATHS)
    assert told.person == Person(current_residence=home)
    office.stub.RegisterResidence(office.stays(citizen, address(office, NGOC_HA)))


def test_residence_is_closed_once(office: Office) -> None:
    residence = office.register(office.citizen(), address(office, BA_DINH))
    request = asks(office, residence)
    first = office.stub.CloseResidence(request)
    with office.recording() as recorded:
        assert office.stub.CloseResidence(request) == first
    assert (recorded.told, recorded.links, recorded.entries) == ([], [], [])
    refusal = office.refuse(office.stub.CloseResidence, asks(office, residence), "STATE_NOT_ALLOWED")
    assert refusal.metadata == {"object": f"residence {residence.residence_id}", "state": "CLOSED"}
    request.ground = ABSENT
    office.refuse(office.stub.CloseResidence, request, "REQUEST_ID_REUSED")


def test_closing_day_lies_between_the_first_day_and_today(office: Office) -> None:
    citizen, call = office.citizen(), office.stub.CloseResidence
    residence = office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(3)))
    tomorrow = asks(office, residence, closing_date=wire_date(office.today + timedelta(days=1)))
    assert office.refuse(call, tomorrow, "EVENT_IN_FUTURE").violations[0].field == "closing_date"
    before = asks(office, residence, closing_date=wire_date(office.days_ago(4)))
    assert office.refuse(call, before, "FIELD_INVALID").violations[0].field == "closing_date"
    assert office.active(citizen) == [("PERMANENT", "Số 1")]
    call(asks(office, residence, closing_date=wire_date(office.days_ago(3))))


@pytest.mark.parametrize(
    "ground",
    [residence_pb2.CLOSING_GROUND_DEATH, residence_pb2.CLOSING_GROUND_MOVED, residence_pb2.CLOSING_GROUND_EXPIRED, 0],
    ids=["death", "moved", "expired", "none"],
)
def test_death_and_move_are_the_meshs_own_grounds(office: Office, ground: int) -> None:
    residence = office.register(office.citizen(), address(office, BA_DINH))
    reason = "FIELD_INVALID" if ground else "FIELD_REQUIRED"
    refusal = office.refuse(office.stub.CloseResidence, asks(office, residence, ground=ground), reason)
    assert refusal.violations[0].field == "ground"


def test_unknown_residence_is_not_closed(office: Office) -> None:
    office.refuse(office.stub.CloseResidence, asks(office, new_id()), "RESIDENCE_UNKNOWN")
    office.refuse(office.stub.CloseResidence, asks(office, "r-1"), "FIELD_INVALID")


def test_agreement_grants_the_kind_that_is_closed(office: Office) -> None:
    citizen = office.citizen()
    residence = office.register(citizen, address(office, BA_DINH))
    access = office.agree("police/stays", {REGISTER: ["temporary_residence"]})
    stub = office.stub_of(Kind.AGENCY, "police/stays")
    refusal = office.refuse(stub.CloseResidence, asks(office, residence, access), "FIELD_NOT_GRANTED")
    assert refusal.metadata["field"] == "permanent_residence"
    office.refuse(stub.CloseResidence, asks(office, residence), "AGREEMENT_FOREIGN")
    stay = office.stub.RegisterResidence(office.stays(citizen, address(office, NGOC_HA))).residence
    assert stub.CloseResidence(asks(office, stay, access)).residence.state == CLOSED
    assert office.active(citizen) == [("PERMANENT", "Số 1")]


def test_first_day_after_the_end_of_the_residence_before(office: Office) -> None:
    citizen = office.citizen()
    before = office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(9)))
    office.stub.CloseResidence(asks(office, before, closing_date=wire_date(office.days_ago(4))))
    early = office.asks(citizen, address(office, NGOC_HA), start_date=wire_date(office.days_ago(5)))
    assert office.refuse(office.stub.RegisterResidence, early, "FIELD_INVALID").violations[0].field == "start_date"
    office.register(citizen, address(office, NGOC_HA), start_date=wire_date(office.days_ago(4)))


def test_what_is_told_last_is_the_latest_word(office: Office) -> None:
    """A residence that began before its predecessor was closed must not be overtaken by the word of the closing."""
    citizen = office.citizen()
    with office.recording() as recorded:
        before = office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(9)))
        office.clock.go_on(timedelta(seconds=1))
        office.stub.CloseResidence(asks(office, before, closing_date=wire_date(office.days_ago(4))))
        office.clock.go_on(timedelta(seconds=1))
        office.register(citizen, address(office, NGOC_HA), start_date=wire_date(office.days_ago(4)))
    times = [item.event_time.ToDatetime() for item in recorded.told]
    assert times == sorted(set(times))
    assert recorded.told[-1].person.HasField("permanent_residence")
