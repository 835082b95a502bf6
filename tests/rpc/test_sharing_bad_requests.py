"""Malformed requests are refused by field, recorded, and never repeat what they said of a person."""

from datetime import timedelta

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd_client.errors import Refusal, refusal_of
from npd_pki.identity import Kind
from services.mesh.core.clock import legal_date
from services.sharing.app import ROOM
from tests.mesh_fixture import Desk, Stage, today
from tests.rpc.test_sharing_callers import APPLIED, DISCLOSED, LOOKUP, REJECTED, Party, Scene, bare

PIN = "901090000001"


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["sex", "full_name", "id_cards"]})


@pytest.fixture(scope="module")
def person(scene: Scene) -> Person:
    return scene.citizen()


@pytest.fixture
def request_of(tax: Party, person: Person) -> GetCitizenRequest:
    """A request that would be answered."""
    request: GetCitizenRequest = tax.asks(person, "sex")
    return request


def refuse(scene: Scene, tax: Party, request: GetCitizenRequest, reason: str, *fields: str) -> Refusal:
    ground = not any(field.startswith("access") for field in fields)
    refusal = scene.refuse(tax, tax.lookup.GetCitizen, request, reason, ground=ground)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == list(fields)
    return refusal


@pytest.mark.parametrize(
    "path",
    [
        *("access", "access.agreement_id", "access.case_reference", "access.officer_id"),
        *("identity", "identity.pin", "identity.full_name", "identity.birth_date", "read_mask"),
    ],
)
def test_missing_field_is_named(scene: Scene, tax: Party, request_of: GetCitizenRequest, path: str) -> None:
    holder, _, name = path.rpartition(".")
    spoilt: Message = getattr(request_of, holder) if holder else request_of
    spoilt.ClearField(name)
    refuse(scene, tax, request_of, "FIELD_REQUIRED", path)


def test_empty_request_is_told_all_that_is_missing(scene: Scene, tax: Party) -> None:
    refuse(scene, tax, GetCitizenRequest(), "FIELD_REQUIRED", "access", "identity", "read_mask")


def test_empty_mask_never_means_everything(scene: Scene, tax: Party, request_of: GetCitizenRequest) -> None:
    request_of.read_mask.CopyFrom(FieldMask())
    refuse(scene, tax, request_of, "MASK_EMPTY", "read_mask")


@pytest.mark.parametrize(
    "path", ["nope", "full_name.nope", "sex.value", "id_cards.document_number", "permanent_residence.place.nope"]
)
def test_mask_that_names_an_unknown_path_is_refused_and_told_which(
    scene: Scene, tax: Party, request_of: GetCitizenRequest, path: str
) -> None:
    request_of.read_mask.paths[:] = ["sex", path]
    refusal = refuse(scene, tax, request_of, "MASK_UNKNOWN_PATH", "read_mask")
    assert refusal.metadata == {"field": path}
    assert path in refusal.sentence("en")


@pytest.mark.parametrize(
    "path", ["", ".", "*", "Sex", "fullName", "nationalities.0", "x" * 300, "Nguyễn Thị Hoà", "901090000001"]
)
def test_mask_that_holds_no_path_at_all_is_not_repeated(
    scene: Scene, tax: Party, request_of: GetCitizenRequest, path: str
) -> None:
    request_of.read_mask.paths[:] = ["sex", path]
    refusal = refuse(scene, tax, request_of, "MASK_UNKNOWN_PATH", "read_mask")
    assert refusal.metadata == {"field": "something that is no field name"}


@pytest.mark.parametrize(
    "pin",
    [
        *("90109000000", "9010900000012", "90109000000A", "abcdefghijkl", "901 09000001", "901090000001\n"),
        *("９０１０９００００００１", "٩٠١٠٩٠٠٠٠٠٠١", "-90109000001", "901090000001 "),
    ],
)
def test_pin_of_another_form_is_refused(scene: Scene, tax: Party, request_of: GetCitizenRequest, pin: str) -> None:
    request_of.identity.pin = pin
    refuse(scene, tax, request_of, "FIELD_INVALID", "identity.pin")


@pytest.mark.parametrize(
    "date",
    [
        Date(month=5, day=17),
        Date(year=1799),
        Date(year=10000),
        Date(year=-1990),
        Date(year=1990, month=13),
        Date(year=1990, month=-1),
        Date(year=1990, month=2, day=30),
        Date(year=1900, month=2, day=29),
        Date(year=1990, month=4, day=31),
        Date(year=1990, month=5, day=-1),
        Date(year=1990, day=17),
    ],
)
def test_impossible_birth_date_is_refused(scene: Scene, tax: Party, request_of: GetCitizenRequest, date: Date) -> None:
    request_of.identity.birth_date.CopyFrom(date)
    refuse(scene, tax, request_of, "FIELD_INVALID", "identity.birth_date")


@pytest.mark.parametrize("precision", ["day", "month", "year"])
def test_birth_date_in_the_future_is_refused(
    scene: Scene, tax: Party, request_of: GetCitizenRequest, precision: str
) -> None:
    present = legal_date(scene.clock.now())
    following = present + timedelta(days={"day": 1, "month": 31, "year": 366}[precision])
    parts = {"year": following.year, "month": following.month, "day": following.day}
    known = {"day": ["year", "month", "day"], "month": ["year", "month"], "year": ["year"]}[precision]
    request_of.identity.birth_date.CopyFrom(Date(**{name: parts[name] for name in known}))
    refuse(scene, tax, request_of, "FIELD_INVALID", "identity.birth_date")


@pytest.mark.parametrize("name", ["Nguyễn " * 29, " ", "\u200b\u200b", "\t\n"])
def test_name_that_is_too_long_or_blank_is_refused(
    scene: Scene, tax: Party, request_of: GetCitizenRequest, name: str
) -> None:
    request_of.identity.full_name = name
    refuse(scene, tax, request_of, "FIELD_INVALID", "identity.full_name")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agreement_id", "the agreement"),
        ("agreement_id", "6f1c24a0-9d8b-4d57-9e0f"),
        ("case_reference", "ab"),
        ("case_reference", "x" * 65),
        ("case_reference", "case 2026"),
        ("case_reference", "hồ-sơ"),
        ("case_reference", PIN),
        ("case_reference", f"case/{PIN}-1"),
        ("officer_id", "o 1"),
        ("officer_id", "x" * 65),
        ("officer_id", "cán-bộ"),
        ("officer_id", PIN),
    ],
)
def test_ground_is_malformed_if_it_is_no_reference_or_names_a_person(
    scene: Scene, tax: Party, request_of: GetCitizenRequest, field: str, value: str
) -> None:
    setattr(request_of.access, field, value)
    refuse(scene, tax, request_of, "FIELD_INVALID", f"access.{field}")


def test_oversized_message_is_refused_by_grpc_and_harms_nobody(
    scene: Scene, tax: Party, request_of: GetCitizenRequest
) -> None:
    huge = GetCitizenRequest()
    huge.CopyFrom(request_of)
    huge.identity.full_name = "x" * (1 << 20)
    with scene.recording() as entries:
        with pytest.raises(grpc.RpcError) as raised:
            tax.lookup.GetCitizen(huge)
        assert tax.lookup.GetCitizen(request_of).outcome == DISCLOSED
    assert refusal_of(raised.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [bare(entry) for entry in entries] == [tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, "sex")]


def test_synthetic_pin_does_not_exist_where_there_is_no_sandbox(scene: Scene, tax: Party, person: Person) -> None:
    production = scene.stage.start(ROOM, sandbox=False)
    agency = Party(production, Kind.AGENCY, "tax/core", tax.access.agreement_id, "STATE_MANAGEMENT")
    identity = Party(production, Kind.MESH, "identity")
    with pytest.raises(grpc.RpcError) as raised:
        agency.get_citizen(person)
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SANDBOX_PIN")
    assert [(entry.caller, entry.reason) for entry in production.entries()] == [(agency.identity, "SANDBOX_PIN")]

    born = scene.birth()
    alone = dict.fromkeys(("father", "mother", "spouses", "children", "household"))  # whose PINs are synthetic
    real = scene.birth(pin=f"001{born.person.pin[3:]}", **alone)
    relative = scene.birth(pin=f"001{scene.birth().person.pin[3:]}", spouses=[{"pin": PIN}])
    for item in (born, real, relative):
        item.register_time.FromDatetime(scene.clock.now() - timedelta(days=2))
        item.event_time.CopyFrom(item.register_time)
    statuses = [(result.status, result.field) for result in identity.contribute(born, real, relative)]
    assert statuses == [(REJECTED, ""), (APPLIED, ""), (REJECTED, "")]
    assert agency.get_citizen(real.person).outcome == DISCLOSED, "a province's own PIN exists there"
    assert production.entries()[-1].outcome == DISCLOSED
    assert legal_date(production.house.clock.now()) == today()
