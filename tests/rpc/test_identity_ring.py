"""The identity room beside the room sharing: what it tells enters the record, and what others tell comes back to it."""

from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from sqlalchemy import text

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE, DeathOrMissing, Person, PersonName, StatedIdentity
from npd.common.v1.place_pb2 import AdminPlace
from npd.identity.v1 import card_pb2, card_pb2_grpc, number_pb2, number_pb2_grpc
from npd.sharing.v1 import contribution_pb2, contribution_pb2_grpc
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.identity.app import ROOM
from services.mesh.core.clock import SystemClock
from services.mesh.core.places import list_version
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, new_id, today, wait_until, wait_until_caught_up
from tests.rpc.test_identity_callers import DEAD, LOOKUP, REGISTER, REGISTRAR, VERIFY
from tests.rpc.test_sharing_callers import refusal_or

BORN = Date(year=1990, month=5, day=17)
NAME = "Lê Thị An"


class RingScene:
    """Registry, sharing and identity, and an office that cares for numbers and cards."""

    def __init__(self, stage: Stage, desk: Desk) -> None:
        self.sharing = stage.start(SHARING, sandbox=True)
        self.identity: Running = stage.start(ROOM, sandbox=True)
        desk.register("mps/office", officers=["o-1"])
        grants = {REGISTER: ["pin", "id_cards"], LOOKUP: ["pin", "id_cards"], VERIFY: ["id_cards"]}
        agreement_id = desk.agree("mps/office", "STATE_MANAGEMENT", "D70/2024.9", grants)
        stage.settle()
        wait_until_caught_up(self.identity)
        self.access = AccessContext(agreement_id=agreement_id, case_reference="case/1", officer_id="o-1")
        office = self.identity.channel(Kind.AGENCY, "mps/office")
        self.numbers = number_pb2_grpc.NumberServiceStub(self.identity.channel(Kind.MESH, "civil_status"))
        self.office_numbers = number_pb2_grpc.NumberServiceStub(office)
        self.cards = card_pb2_grpc.CardServiceStub(office)
        self._contribution = contribution_pb2_grpc.ContributionServiceStub(
            self.sharing.channel(Kind.MESH, "civil_status")
        )

    def born(self) -> number_pb2.ReservePinResponse:
        """A number, reserved and confirmed, and its person's name and birth in the record by civil_status."""
        access = AccessContext(agreement_id=new_id(), case_reference="birth/1", officer_id="r-1", origin=REGISTRAR)
        place = AdminPlace(unit_code="79", unit_list_version=list_version(today()))
        facts = number_pb2.BirthFacts(sex=SEX_FEMALE, birth_date=BORN, registration_place=place)
        request = number_pb2.ReservePinRequest(request_id=new_id(), access=access, birth=facts)
        reserved = self.numbers.ReservePin(request)
        confirmation = number_pb2.ConfirmPinRequest(
            request_id=new_id(), pin=reserved.pin, subject_id=reserved.subject_id
        )
        confirmation.causation.correlation_id = confirmation.causation.causation_id = new_id()
        self.numbers.ConfirmPin(confirmation)
        person = Person(full_name=PersonName(full=NAME), birth_date=BORN, sex=SEX_FEMALE)
        self.tell(reserved.pin, person, "full_name", "birth_date", "sex")
        return reserved

    def tell(self, pin: str, person: Person, *paths: str) -> None:
        """Contribute as civil_status does."""
        now = SystemClock().now()
        item = contribution_pb2.ContributionItem(
            event_id=new_id(), pin=pin, person=person, update_mask=FieldMask(paths=paths)
        )
        item.event_time.FromDatetime(now - timedelta(seconds=1))
        item.register_time.FromDatetime(now)
        request = contribution_pb2.ContributeRequest(request_id=new_id(), items=[item])
        (result,) = self._contribution.Contribute(request).results
        assert result.status in (result.STATUS_APPLIED, result.STATUS_HELD)

    def card(self, pin: str) -> card_pb2.Card:
        """A card, requested as soon as the room knows the name, and issued."""
        stated = StatedIdentity(pin=pin, full_name=NAME, birth_date=BORN)
        request = card_pb2.RequestCardRequest(request_id=new_id(), access=self.access, identity=stated)
        answers: list[card_pb2.RequestCardResponse] = []

        def is_requested() -> bool:
            answer = refusal_or(self.cards.RequestCard, request)
            if isinstance(answer, Refusal):
                assert answer.reason == "PERSON_UNKNOWN", "the name is not known yet"
                return False
            answers.append(answer)
            return True

        wait_until(is_requested)
        day = today()
        issuing = card_pb2.IssueCardRequest(
            request_id=new_id(), access=self.access, card_id=answers[0].card.card_id, document_number=f"AB{pin[6:]}",
            issue_date=Date(year=day.year, month=day.month, day=day.day), issuing_office="Cục Cảnh sát",
        )  # fmt: skip
        return self.cards.IssueCard(issuing).card

    def record(self, pin: str) -> Person:
        """What the record holds of the person who has or had a number."""
        query = "SELECT person FROM records JOIN pins USING (subject_id) WHERE pins.pin = :pin"
        with self.sharing.house.engine.connect() as connection:
            found = connection.execute(text(query), {"pin": pin}).scalar()
        return Person.FromString(found or b"")

    def is_all_told(self) -> bool:
        """Whether the outbox is empty, nothing set aside and no change either."""
        query = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM changes_set_aside)"
        with self.identity.house.engine.connect() as connection:
            return connection.execute(text(query)).scalar() == 0


@pytest.fixture(scope="module")
def ring(stage: Stage, desk: Desk) -> RingScene:
    return RingScene(stage, desk)


def test_a_birth_a_card_and_a_death_go_round_the_ring(ring: RingScene) -> None:
    reserved = ring.born()
    card = ring.card(reserved.pin)
    wait_until(lambda: list(ring.record(reserved.pin).id_cards) == [card.document])
    assert ring.record(reserved.pin).full_name.full == NAME
    ring.tell(reserved.pin, Person(death_or_missing=DeathOrMissing(kind=DEAD, date=BORN)), "death_or_missing")
    wait_until(lambda: not ring.record(reserved.pin).id_cards)
    wait_until(ring.is_all_told)


def test_a_correction_gives_another_number_and_a_replaced_card_leaves_the_record(ring: RingScene) -> None:
    reserved = ring.born()
    first = ring.card(reserved.pin)
    wait_until(lambda: list(ring.record(reserved.pin).id_cards) == [first.document])
    ring.tell(reserved.pin, Person(sex=SEX_MALE), "sex")
    wait_until(lambda: ring.record(reserved.pin).pin not in ("", reserved.pin))
    wait_until(lambda: not ring.record(reserved.pin).id_cards)
    current = ring.record(reserved.pin).pin
    assert current.startswith("979090")
    answer = ring.office_numbers.ResolvePin(number_pb2.ResolvePinRequest(access=ring.access, pin=reserved.pin))
    assert answer.current_pin == current
    second = ring.card(current)
    wait_until(lambda: list(ring.record(current).id_cards) == [second.document])
    wait_until(ring.is_all_told)
