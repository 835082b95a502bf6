"""Civil status with the rooms that it stands between: numbers by identity, the record by sharing, and back."""

from datetime import date
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.evidence_pb2 import Outcome
from npd.common.v1.person_pb2 import MaritalStatus, Person, PersonName, StatedIdentity
from npd.identity.v1 import number_pb2, number_pb2_grpc
from npd.sharing.v1 import lookup_pb2, lookup_pb2_grpc
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.civil_status.app import ROOM
from services.identity.app import ROOM as IDENTITY
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, today, wait_until, wait_until_caught_up, wire_date
from tests.rpc.test_civil_status_callers import (
    BIRTH_GROUND,
    DETAILS,
    LOOKUP,
    MARRIED,
    READ,
    REGISTER,
    SINGLE,
    WIDOWED,
    Known,
    Registrar,
)
from tests.rpc.test_civil_status_corrections import correction
from tests.rpc.test_sharing_callers import refusal_or


class Ring:
    """Three rooms, a registrar, and somebody who reads the record."""

    def __init__(self, stage: Stage, desk: Desk) -> None:
        self.sharing = stage.start(SHARING, sandbox=True)
        self.identity = stage.start(IDENTITY, sandbox=True)
        self.civil_status = stage.start(ROOM, sandbox=True)
        desk.register("justice/civil", officers=["o-1"])
        grants: dict[AccessMode.ValueType, list[str]] = {
            REGISTER: [*BIRTH_GROUND, *DETAILS, *READ],
            LOOKUP: ["pin", "children", *READ],
        }
        agreement_id = desk.agree("justice/civil", "STATE_MANAGEMENT", "D70/2024.9", grants)
        stage.settle()
        wait_until_caught_up(self.identity)
        self.registrar = Registrar(self.civil_status, Kind.AGENCY, "justice/civil", agreement_id)
        self.numbers = number_pb2_grpc.NumberServiceStub(self.identity.channel(Kind.AGENCY, "justice/civil"))
        self.lookup = lookup_pb2_grpc.LookupServiceStub(self.sharing.channel(Kind.AGENCY, "justice/civil"))

    def record(self, identity: StatedIdentity, *paths: str) -> Person:
        """What the record holds; nothing while it does not know him."""
        request = lookup_pb2.GetCitizenRequest(
            access=self.registrar.access, identity=identity, read_mask=FieldMask(paths=paths)
        )
        answer: Any = refusal_or(self.lookup.GetCitizen, request)
        assert not isinstance(answer, Refusal), answer
        citizen: Person = answer.citizen
        return citizen

    def state_of(self, pin: str) -> Any:
        """What state a number is in."""
        request = number_pb2.ResolvePinRequest(access=self.registrar.access, pin=pin)
        answer = refusal_or(self.numbers.ResolvePin, request)
        return answer.reason if isinstance(answer, Refusal) else answer


@pytest.fixture(scope="module")
def ring(stage: Stage, desk: Desk) -> Ring:
    return Ring(stage, desk)


def _settled(*rooms: Running) -> bool:
    """Whether nothing waits and nothing is set aside."""
    counts = []
    for room in rooms:
        with room.house.engine.connect() as connection:
            counts.append(connection.exec_driver_sql("SELECT count(*) FROM outbox").scalar_one())
            counts.append(connection.exec_driver_sql("SELECT count(*) FROM changes_set_aside").scalar_one())
    return not any(counts)


def test_from_a_birth_to_a_corrected_year_every_room_says_the_same(ring: Ring) -> None:
    registrar = ring.registrar
    mother = registrar.bear(birth_date=wire_date(date(1970, 1, 1)))
    spouse = registrar.bear(birth_date=wire_date(date(1998, 1, 1)))
    child = registrar.bear(mother, birth_date=wire_date(date(1999, 1, 1)))
    wait_until(lambda: ring.state_of(child.pin).state == number_pb2.NUMBER_STATE_ACTIVE, 20)
    wait_until(lambda: [one.pin for one in ring.record(mother.stated, "children").children] == [child.pin], 20)

    registrar.marry(child, spouse, date(2024, 1, 1))
    wait_until(lambda: [one.pin for one in ring.record(spouse.stated, "spouses").spouses] == [child.pin], 20)

    request = correction(
        registrar, child, birth_date=wire_date(date(1997, 1, 1)), full_name=PersonName(full="Nguyễn Văn Đúng Năm")
    )
    request.decision_date.CopyFrom(wire_date(today()))
    registrar.stub.CorrectBirth(request)
    former = StatedIdentity(pin=child.pin, full_name="Nguyễn Văn Đúng Năm", birth_date=wire_date(date(1997, 1, 1)))
    wait_until(lambda: ring.record(former, "pin").pin not in ("", child.pin), 20)
    pin = ring.record(former, "pin").pin
    for relative, path in ((spouse, "spouses"), (mother, "children")):

        def is_renamed(who: Known = relative, at: str = path) -> bool:
            return [one.pin for one in getattr(ring.record(who.stated, at), at)] == [pin]

        wait_until(is_renamed, 20)
        (item,) = getattr(ring.record(relative.stated, path), path)
        assert item.name.full == "Nguyễn Văn Đúng Năm"
    current = StatedIdentity(pin=pin, full_name=former.full_name, birth_date=former.birth_date)
    wait_until(lambda: ring.record(current, "marital_status").marital_status == MARRIED, 20)
    child.pin, child.name, child.born = pin, former.full_name, former.birth_date
    shown = registrar.status(child)
    assert (shown.outcome, shown.spouse.pin) == (Outcome.OUTCOME_DISCLOSED, spouse.pin)
    wait_until(lambda: _settled(ring.identity, ring.civil_status), 20)


def test_record_follows_acts_that_are_annulled_and_done_again_under_earlier_days(ring: Ring) -> None:
    registrar = ring.registrar
    first, second = (registrar.bear(birth_date=wire_date(date(1980, 1, day))) for day in (1, 2))

    def record_says(who: Known, status: "MaritalStatus.ValueType", *spouses: str, dead: bool = False) -> None:
        def is_said() -> bool:
            record = ring.record(who.stated, *READ)
            return (
                record.marital_status == status
                and [one.pin for one in record.spouses] == list(spouses)
                and record.HasField("death_or_missing") is dead
            )

        wait_until(is_said, 20)

    record_says(first, SINGLE)
    record_says(second, SINGLE)
    marriage = registrar.marry(first, second, date(2024, 5, 5))
    record_says(first, MARRIED, second.pin)
    request = registrar.annulment(marriage.act_id)
    request.decision_date.CopyFrom(wire_date(today()))
    registrar.stub.AnnulAct(request)
    record_says(first, SINGLE)
    record_says(second, SINGLE)
    registrar.marry(first, second, date(2023, 5, 5))
    record_says(first, MARRIED, second.pin)
    death = registrar.bury(second, date(2025, 1, 1))
    record_says(first, WIDOWED)
    record_says(second, MARRIED, dead=True)
    request = registrar.annulment(death.act_id)
    request.decision_date.CopyFrom(wire_date(today()))
    registrar.stub.AnnulAct(request)
    record_says(first, MARRIED, second.pin)
    record_says(second, MARRIED, first.pin)
    registrar.bury(second, date(2024, 12, 1))
    record_says(first, WIDOWED)
    record_says(second, MARRIED, dead=True)
    wait_until(lambda: _settled(ring.identity, ring.civil_status), 20)
