"""Back-pressure: while too much waits to be handed on, no act is begun, and nothing is read that must be told of."""

from npd.residence.v1.residence_pb2 import CloseResidenceRequest, GetResidenceRequest, NameHeadRequest
from tests.mesh_fixture import Desk, Stage, new_id, refused, wait_until, wire_date
from tests.rpc.test_residence_closing import EMIGRATED
from tests.rpc.test_residence_registration import BA_DINH, NGOC_HA, Office, address


def test_backlog_refuses_acts_and_reads(stage: Stage, desk: Desk) -> None:
    office = Office(stage, desk, backlog_limit=1)
    citizen = office.citizen()
    home = office.register(citizen, address(office, BA_DINH))
    vague = office.stays(office.stranger(), address(office, NGOC_HA))
    # it is measured once a second; until then the stranger is the reason
    wait_until(lambda: refused(office.stub.RegisterResidence, vague).reason == "OVERLOADED")
    move = office.asks(citizen, address(office, NGOC_HA))
    office.refuse(office.stub.RegisterResidence, move, "OVERLOADED")
    close = CloseResidenceRequest(
        request_id=new_id(),
        access=office.access,
        residence_id=home.residence_id,
        ground=EMIGRATED,
        closing_date=wire_date(office.today),
    )
    office.refuse(office.stub.CloseResidence, close, "OVERLOADED")
    name = NameHeadRequest(request_id=new_id(), access=office.access, household_id=new_id(), identity=citizen.identity)
    office.refuse(office.stub.NameHead, name, "OVERLOADED")
    read = GetResidenceRequest(access=office.access, identity=citizen.identity)
    office.refuse(office.stub.GetResidence, read, "OVERLOADED")
