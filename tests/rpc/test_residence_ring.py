"""The room residence beside sharing: what it tells enters the record, and what others tell comes back to it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import Outcome
from npd.common.v1.person_pb2 import Person
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.residence.v1.residence_pb2 import GetResidenceRequest, Joining, RegisterResidenceRequest, Residence
from npd.residence.v1.residence_pb2_grpc import ResidenceServiceStub
from npd_pki.identity import Kind
from services.mesh.core.clock import legal_date
from services.mesh.core.places import list_version
from services.residence.app import ROOM
from tests.mesh_fixture import Desk, Stage, new_id, wait_until, wire_date
from tests.rpc.test_residence_registration import BA_DINH, CHILD, GRANTED, PERMANENT, death
from tests.rpc.test_sharing_callers import LOOKUP, Scene, stated

SHOWN = ["permanent_residence", "temporary_residence", "current_residence", "household", "relation_to_head"]


class RingScene:
    """Registry, sharing and residence; an office that registers residences, and tax, which reads the record."""

    def __init__(self, stage: Stage, desk: Desk) -> None:
        self.record = Scene(stage, desk)
        ages = {"rights_max_age": timedelta(days=365), "revocations_max_age": timedelta(days=365)}
        told: dict[str, Any] = {"sandbox": True, **ages}
        self.room = stage.start(ROOM, clock=self.record.clock, **told)
        self.tax = self.record.system("tax/core", {LOOKUP: SHOWN})
        self.record.register("police/residence")
        agreement_id = desk.agree("police/residence", "STATE_MANAGEMENT", "D70/2024.9", GRANTED)
        stage.settle()
        self.access = AccessContext(agreement_id=agreement_id, case_reference="case/1", officer_id="o-1")
        self.stub = ResidenceServiceStub(self.room.channel(Kind.AGENCY, "police/residence"))
        self.today = legal_date(self.record.clock.now())

    def register(self, person: Person, at: Address, household: Joining) -> Residence:
        """Register a permanent residence from today on."""
        request = RegisterResidenceRequest(
            request_id=new_id(),
            access=self.access,
            identity=stated(person),
            kind=PERMANENT,
            address=at,
            start_date=wire_date(self.today),
            household=household,
        )
        return self.stub.RegisterResidence(request).residence

    def recorded(self, person: Person) -> Person:
        """What the record holds of somebody's residences and household."""
        return self.tax.get_citizen(person, *SHOWN).citizen

    def resides(self, person: Person) -> Sequence[Residence]:
        """What the room knows of somebody's residences."""
        request = GetResidenceRequest(access=self.access, identity=stated(person))
        return self.stub.GetResidence(request).residences

    def wait_told(self) -> None:
        """Wait until the room sharing has all that the room has told."""
        wait_until(lambda: self.rows("SELECT 1 FROM outbox") == [])

    def rows(self, query: str) -> Sequence[Any]:
        """Rows of the room's store."""
        with self.room.house.engine.connect() as connection:
            return connection.execute(text(query)).all()


@pytest.fixture(scope="module")
def ring(stage: Stage, desk: Desk) -> RingScene:
    return RingScene(stage, desk)


def test_household_moves_in_and_its_head_dies(ring: RingScene) -> None:
    head, child = (ring.record.citizen(temporary_residence=None) for _ in range(2))
    wait_until(lambda: ring.resides(head) and ring.resides(child))
    assert ring.resides(head)[0].address == head.permanent_residence, "adopted from the record"
    place = AdminPlace(unit_code=BA_DINH, unit_list_version=list_version(ring.today))
    home = Address(place=place, detail_text="Số 99")
    household_id = ring.register(head, home, Joining()).household_id
    ring.register(child, home, Joining(household_id=household_id, relation_to_head=CHILD))
    ring.wait_told()
    record = ring.recorded(child)
    assert (record.permanent_residence, record.current_residence) == (home, home)
    assert (record.household.head.pin, record.relation_to_head) == (head.pin, CHILD)
    assert [member.pin for member in record.household.members] == [child.pin]

    (result,) = ring.record.civil_status.contribute(ring.record.news(head, death(ring.today), "death_or_missing"))
    assert result.reason == 0
    wait_until(lambda: not ring.recorded(child).household.HasField("head"))
    ring.wait_told()
    assert ring.recorded(head) == Person()
    assert ring.recorded(child).permanent_residence == home
    acts = [row.act for row in ring.rows("SELECT act FROM chain_links WHERE causation_id IS NOT NULL ORDER BY act")]
    assert acts == ["residence.close_residence", "residence.vacate_head"]
    chains = ring.rows("SELECT DISTINCT correlation_id FROM chain_links WHERE causation_id IS NOT NULL")
    assert len(chains) == 1, "one chain, begun by the death"
    assert ring.rows("SELECT 1 FROM changes_set_aside") == []


def test_what_an_officer_reads_here_stands_in_the_disclosure_log(ring: RingScene) -> None:
    citizen = ring.record.citizen()
    wait_until(lambda: ring.stub.GetResidence(_reads(ring, citizen)).outcome == Outcome.OUTCOME_DISCLOSED)
    ring.wait_told()
    uses = [entry for entry in ring.record.sharing.entries() if entry.method.endswith("/GetResidence")]
    assert {tuple(entry.paths) for entry in uses} == {("household", "permanent_residence", "temporary_residence")}


def _reads(ring: RingScene, person: Person) -> GetResidenceRequest:
    return GetResidenceRequest(access=ring.access, identity=stated(person))
