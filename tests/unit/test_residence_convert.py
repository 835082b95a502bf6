"""Residence on the wire: what is refused before anything is looked up, and what the record is told."""

from datetime import UTC, date, datetime
from typing import Any
from unicodedata import normalize
from uuid import uuid4

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.person_pb2 import CodedValue, Person, PersonName, StatedIdentity, TemporaryResidence
from npd.common.v1.place_pb2 import Address as WireAddress
from npd.common.v1.place_pb2 import AdminPlace
from npd.residence.v1 import residence_pb2
from npd.residence.v1.residence_pb2 import CloseResidenceRequest, Joining, NameHeadRequest, RegisterResidenceRequest
from services.mesh.core.chain import Causation
from services.mesh.core.errors import MeshError
from services.mesh.core.following import FollowedChange
from services.mesh.core.people import Name
from services.mesh.core.person.dates import PartialDate
from services.residence import convert
from services.residence.domain import Address, ClosingGround, Facts, HeldResidence, Residence, ResidenceKind
from services.residence.household import Household, Member, Relation
from services.residence.operations.effects import PERMANENT_PATHS, TEMPORARY_PATHS

NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)
PERMANENT, TEMPORARY = residence_pb2.RESIDENCE_KIND_PERMANENT, residence_pb2.RESIDENCE_KIND_TEMPORARY
PATHS = sorted({*PERMANENT_PATHS, *TEMPORARY_PATHS})
HOUSEHOLD_ID = str(uuid4())
PLACE = AdminPlace(unit_code="00004", unit_list_version="2026-04-30")
CHILD = CodedValue(code="02", list_version="provisional")


def asks(**fields: Any) -> RegisterResidenceRequest:
    """A request, some of its fields replaced (None: absent)."""
    told = {
        "identity": StatedIdentity(pin="901090000001", full_name="Lê An", birth_date=Date(year=1990)),
        "kind": PERMANENT,
        "address": WireAddress(place=PLACE, detail_text="Số 1, phố Huế"),
        "start_date": Date(year=2026, month=6, day=1),
        **fields,
    }
    return RegisterResidenceRequest(**{name: value for name, value in told.items() if value is not None})


def test_request_is_read() -> None:
    decomposed = WireAddress(place=PLACE, detail_text=normalize("NFD", "Số 1, phố Huế"))
    found = convert.new_residence_from_wire(asks(address=decomposed), NOW, sandbox=True)
    assert found.kind is ResidenceKind.PERMANENT
    assert found.address == Address("00004", "2026-04-30", "", "Số 1, phố Huế", PartialDate(0))
    assert (found.start_date, found.end_date, found.joining) == (date(2026, 6, 1), None, None)


def test_joining_is_read() -> None:
    founding = convert.new_residence_from_wire(asks(household=Joining()), NOW, sandbox=True).joining
    assert founding is not None
    assert (founding.household_id, founding.relation) == (None, None)
    wanted = Joining(household_id=HOUSEHOLD_ID, relation_to_head=CHILD)
    joining = convert.new_residence_from_wire(asks(household=wanted), NOW, sandbox=True).joining
    assert joining is not None
    assert (str(joining.household_id), joining.relation) == (HOUSEHOLD_ID, Relation("02", "provisional", ""))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"kind": 9}, "FIELD_INVALID", "kind"),
        ({"start_date": Date(year=2026, month=6)}, "FIELD_INVALID", "start_date"),
        ({"start_date": Date(year=2026, month=2, day=30)}, "FIELD_INVALID", "start_date"),
        ({"end_date": Date(year=2027, month=6, day=1)}, "FIELD_INVALID", "end_date"),
        ({"kind": TEMPORARY}, "FIELD_REQUIRED", "end_date"),
        ({"kind": TEMPORARY, "end_date": Date(year=2026, month=6, day=1)}, "FIELD_INVALID", "end_date"),
        ({"kind": TEMPORARY, "end_date": Date(year=2026, month=5, day=1)}, "FIELD_INVALID", "end_date"),
        ({"kind": TEMPORARY, "end_date": Date(year=2027)}, "FIELD_INVALID", "end_date"),
        (
            {"kind": TEMPORARY, "end_date": Date(year=2027, month=1, day=1), "household": Joining()},
            "FIELD_INVALID",
            "household",
        ),
        ({"household": Joining(household_id="h-1", relation_to_head=CHILD)}, "FIELD_INVALID", "household.household_id"),
        ({"household": Joining(household_id=HOUSEHOLD_ID)}, "FIELD_REQUIRED", "household.relation_to_head"),
        ({"household": Joining(relation_to_head=CHILD)}, "FIELD_INVALID", "household.relation_to_head"),
        (
            {"household": Joining(household_id=HOUSEHOLD_ID, relation_to_head=CodedValue())},
            "FIELD_INVALID",
            "household.relation_to_head.code",
        ),
        (
            {"household": Joining(household_id=HOUSEHOLD_ID, relation_to_head=CodedValue(code="con"))},
            "FIELD_INVALID",
            "household.relation_to_head.code",
        ),
        (
            {"household": Joining(household_id=HOUSEHOLD_ID, relation_to_head=CodedValue(code="2", list_version="\0"))},
            "FIELD_INVALID",
            "household.relation_to_head.list_version",
        ),
        ({"address": WireAddress(place=PLACE, detail_text="x" * 501)}, "FIELD_INVALID", "address.detail_text"),
        ({"address": WireAddress(place=PLACE, detail_text="a\nb")}, "FIELD_INVALID", "address.detail_text"),
        ({"address": WireAddress(place=AdminPlace(unit_code="4"))}, "FIELD_INVALID", "address.place.unit_code"),
        (
            {"address": WireAddress(place=PLACE, as_of_date=Date(year=2027))},
            "FIELD_INVALID",
            "address.as_of_date",
        ),
        (
            {"identity": StatedIdentity(pin="1", full_name="A", birth_date=Date(year=1990))},
            "FIELD_INVALID",
            "identity.pin",
        ),
    ],
)
def test_malformed_registration_is_refused(fields: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(MeshError) as refused:
        convert.new_residence_from_wire(asks(**fields), NOW, sandbox=True)
    assert (refused.value.reason, refused.value.violations[0].field) == (reason, field)


def test_synthetic_person_resides_in_a_sandbox_only() -> None:
    with pytest.raises(MeshError) as refused:
        convert.new_residence_from_wire(asks(), NOW, sandbox=False)
    assert refused.value.reason == "SANDBOX_PIN"


@pytest.mark.parametrize("ground", [*(ClosingGround[one].value for one in ("DEATH", "MOVED", "EXPIRED")), 9])
def test_death_and_move_are_not_stated(ground: int) -> None:
    wire = CloseResidenceRequest(residence_id=str(uuid4()), closing_date=Date(year=2026, month=6, day=1))
    wire.ground = ground  # type: ignore[assignment]
    with pytest.raises(MeshError) as refused:
        convert.closing_from_wire(wire)
    assert (refused.value.reason, refused.value.violations[0].field) == ("FIELD_INVALID", "ground")


def test_ids_are_uuids() -> None:
    with pytest.raises(MeshError, match="residence_id"):
        convert.closing_from_wire(CloseResidenceRequest(residence_id="r-1"))
    with pytest.raises(MeshError, match="household_id"):
        convert.household_id_from_wire(NameHeadRequest(household_id="h-1"))


def changed(person: Person, *paths: str) -> FollowedChange:
    cause = Causation(uuid4(), uuid4())
    raw = person.SerializeToString()
    return FollowedChange(1, uuid4(), uuid4(), "901090000001", paths, raw, "identity", NOW, NOW, cause)


def test_change_says_what_the_record_holds_of_the_kinds_that_it_names() -> None:
    stay = TemporaryResidence(
        address=WireAddress(detail_text="Ngõ 3"),
        start_date=Date(year=2026, month=1, day=2),
        end_date=Date(year=2026, month=9),
    )
    person = Person(full_name=PersonName(full="Lê An"), temporary_residence=stay)
    assert convert.held_from_change(changed(person, "full_name")) == []
    assert convert.held_from_change(changed(person, "permanent_residence", "temporary_residence")) == [
        HeldResidence(ResidenceKind.PERMANENT, None),
        HeldResidence(ResidenceKind.TEMPORARY, Address("", "", "", "Ngõ 3", PartialDate(0)), date(2026, 1, 2), None),
    ]


def test_record_is_told_what_is_held_and_nothing_else() -> None:
    home = Address("00004", "2026-04-30", "", "Số 1", PartialDate(2026, 6, 1))
    away = Address("00008", "2026-04-30", "", "Ngõ 3", PartialDate(0))
    stay = Residence(uuid4(), uuid4(), ResidenceKind.TEMPORARY, away, date(2026, 6, 1), date(2026, 9, 1))
    head = Member(uuid4(), "901090000001", Name("Lê", "", "An", "Lê An"), is_head=True)
    child = Member(uuid4(), "901090000002", Name("", "", "", ""), Relation("02", "provisional", ""))
    household = Household(uuid4(), (child, head))
    facts = Facts(home, stay, household, child.relation)
    told = Person.FromString(convert.facts_to_bytes(facts, PATHS))
    assert told.permanent_residence.as_of_date == Date(year=2026, month=6, day=1)
    assert told.current_residence == told.temporary_residence.address
    assert not told.current_residence.HasField("as_of_date")
    assert told.temporary_residence.end_date == Date(year=2026, month=9, day=1)
    assert (told.household.head.pin, told.household.head.name.full) == (head.pin, "Lê An")
    assert [(one.pin, one.HasField("name")) for one in told.household.members] == [(child.pin, False)]
    assert told.relation_to_head == CHILD
    assert convert.facts_to_bytes(Facts(), PATHS) == b""
    for path in PATHS:
        alone = Person.FromString(convert.facts_to_bytes(facts, [path]))
        assert [field.name for field, _ in alone.ListFields()] == [path]
