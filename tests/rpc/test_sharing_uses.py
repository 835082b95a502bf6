"""RecordUses: what officers read in a source room stands in the disclosure log, once, and the citizen sees it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import LogEntry
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.usage_pb2 import FindUsageRequest, RecordUsesRequest, Use
from services.mesh.core.rights import require_code
from tests.mesh_fixture import ENVIRONMENT, Desk, Stage, new_id
from tests.rpc.test_sharing_callers import DISCLOSED, LOOKUP, NO_MATCH, REFUSED, USAGE, Party, Scene, bare, stated

READER = f"spiffe://agency.{ENVIRONMENT}/moj/hanoi"
METHOD = "/npd.residence.v1.ResidenceService/GetResidence"


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def portal(scene: Scene) -> Party:
    return scene.system("portal/core", {USAGE: ["pin"]})


@pytest.fixture(scope="module")
def residence(scene: Scene) -> Party:
    return scene.room("residence")


def use(scene: Scene, person: Person | None = None, **other: Any) -> Use:
    """What an officer of moj/hanoi read, by default of somebody whom the record does not know yet."""
    subject_id = new_id()
    if person is not None:
        [(found,)] = scene.rows("SELECT subject_id FROM pins WHERE pin = :pin", pin=person.pin)
        subject_id = str(found)
    wire = Use(
        use_id=new_id(),
        subject_id=subject_id,
        method=METHOD,
        access=AccessContext(agreement_id=new_id(), case_reference="case/9", officer_id="o-9", origin=READER),
        outcome=DISCLOSED,
        paths=["permanent_residence"],
        purpose="STATE_MANAGEMENT",
        provision="D70/2024.9",
    )
    wire.use_time.FromDatetime(scene.clock.now() - timedelta(seconds=40))
    for name, value in other.items():
        wire.ClearField(name)  # type: ignore[arg-type]  # the stub wants a literal
        wire.MergeFrom(Use(**{name: value}))
    return wire


def ground(origin: str = READER, agreement_id: str = "") -> AccessContext:
    access = AccessContext(case_reference="case/9", officer_id="o-9", origin=origin)
    access.agreement_id = agreement_id or new_id()
    return access


def expected(residence: Party, told: Use) -> LogEntry:
    """The entry that a use must leave, as `bare` shows it."""
    access = AccessContext()
    access.CopyFrom(told.access)
    access.origin = ""
    return LogEntry(
        caller=READER,
        method=told.method,
        outcome=told.outcome,
        count=1,
        agency_id="moj",
        mode=LOOKUP,
        access=access,
        purpose=told.purpose,
        provision=told.provision,
        paths=told.paths,
        object=f"use {told.use_id} at {told.use_time.ToJsonString().replace('Z', '+00:00')}, "
        f"told by {residence.identity}",
    )


def test_use_is_recorded_as_the_readers_and_the_citizen_sees_it(scene: Scene, residence: Party, portal: Party) -> None:
    scene.register("moj/hanoi")
    scene.stage.settle()
    person = scene.citizen()
    told = use(scene, person)
    with scene.recording() as entries:
        residence.usage.RecordUses(RecordUsesRequest(uses=[told]))
    [entry] = entries
    assert bare(entry) == expected(residence, told)
    assert entry.entry_time.ToDatetime() == scene.clock.now().replace(tzinfo=None)
    request = FindUsageRequest(access=portal.access, identity=stated(person))
    record = portal.usage.FindUsage(request).records[0]
    assert (record.entry, record.agency_name) == (entry, "Agency moj")


def test_repeated_uses_are_recorded_once(scene: Scene, residence: Party) -> None:
    one, other = use(scene), use(scene, outcome=NO_MATCH)
    with scene.recording() as entries:
        residence.usage.RecordUses(RecordUsesRequest(uses=[one, one]))
        residence.usage.RecordUses(RecordUsesRequest(uses=[one, other]))
        residence.usage.RecordUses(RecordUsesRequest(uses=[other]))
    assert [bare(entry) for entry in entries] == [expected(residence, one), expected(residence, other)]


def test_uses_of_two_rooms_are_different_whatever_their_ids(scene: Scene, residence: Party) -> None:
    told = use(scene)
    with scene.recording() as entries:
        for room in (residence, scene.room("identity")):
            told.method = told.method.replace("residence", room.name)
            room.usage.RecordUses(RecordUsesRequest(uses=[told]))
    assert [entry.object.rpartition(" ")[2] for entry in entries] == [residence.identity, scene.identity.identity]


def test_uses_told_at_once_are_recorded_once(scene: Scene, residence: Party) -> None:
    uses = [use(scene) for _ in range(20)]
    orders = [uses, uses[::-1], uses[10:] + uses[:10], uses[5:15]]
    with scene.recording() as entries, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda told: residence.usage.RecordUses(RecordUsesRequest(uses=told), timeout=20), orders))
    assert sorted(entry.object for entry in entries) == sorted(expected(residence, told).object for told in uses)


def test_a_person_who_is_not_known_yet_finds_the_use_later(scene: Scene, residence: Party, portal: Party) -> None:
    born = scene.birth()
    told = use(scene, subject_id=born.subject_id)
    residence.usage.RecordUses(RecordUsesRequest(uses=[told]))
    scene.identity.contribute(born)
    with scene.recording() as entries:
        answer = portal.usage.FindUsage(FindUsageRequest(access=portal.access, identity=stated(born.person)))
    assert [bare(record.entry) for record in answer.records] == [expected(residence, told)]
    assert [entry.outcome for entry in entries] == [DISCLOSED]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"use_id": "x"}, "uses.use_id"),
        ({"subject_id": "901090000001"}, "uses.subject_id"),
        ({"method": "GetResidence"}, "uses.method"),
        ({"method": "/npd.residence.v1.ResidenceService/Get Lê An"}, "uses.method"),
        ({"method": "/npd.sharing.v1.LookupService/GetCitizen"}, "uses.method"),
        ({"method": "/npd.identity.v1.CardService/GetCards"}, "uses.method"),
        ({"method": "/npd.residence.v2.ResidenceService/GetResidence"}, "uses.method"),
        ({"outcome": REFUSED}, "uses.outcome"),
        ({"outcome": 9}, "uses.outcome"),
        ({"paths": ["Lê An"]}, "uses.paths"),
        ({"paths": ["pin", "901090000001"]}, "uses.paths"),
        ({"paths": ["nguyen_thi_hoa"]}, "uses.paths"),
        ({"paths": ["permanent_residence.place"]}, "uses.paths"),
        ({"purpose": "Lê An"}, "uses.purpose"),
        ({"purpose": "P-901090000001"}, "uses.purpose"),
        ({"provision": "x" * 65}, "uses.provision"),
        ({"provision": "901090000001"}, "uses.provision"),
        ({"access": ground(f"spiffe://agency.{ENVIRONMENT}.example/moj/hanoi")}, "uses.access.origin"),
        ({"access": AccessContext(agreement_id=new_id(), case_reference="c/1", officer_id="o")}, "access.origin"),
        (
            {
                "access": AccessContext(
                    agreement_id=new_id(),
                    case_reference="c/1",
                    officer_id="o",
                    origin=f"spiffe://operator.{ENVIRONMENT}/lan",
                )
            },
            "uses.access.origin",
        ),
    ],
)
def test_malformed_use_refuses_the_whole_call(
    scene: Scene, residence: Party, other: dict[str, Any], field: str
) -> None:
    request = RecordUsesRequest(uses=[use(scene), use(scene, **other)])
    refusal = scene.refuse(residence, residence.usage.RecordUses, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == [field]
    first = request.uses[0].use_id
    assert scene.rows("SELECT 1 FROM uses_recorded WHERE use_id::text = :id", id=first) == []


def test_codes_that_the_registry_takes_are_taken_with_a_use(scene: Scene, residence: Party) -> None:
    code = "A+B(1)~'*!;\"{}<>=@#$%^&|?,[]`\\"
    told = use(scene, purpose=code, provision=code)
    with scene.recording() as entries:
        residence.usage.RecordUses(RecordUsesRequest(uses=[told]))
    assert [bare(entry) for entry in entries] == [expected(residence, told)]
    assert require_code("terms.purpose", code) == code


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"purpose": "CUSTOMER_IDENTIFICATION"}, "uses.purpose"),
        ({"provision": "D70/2024.10"}, "uses.provision"),
        ({"origin": f"spiffe://agency.{ENVIRONMENT}/moj/other"}, "uses.access.agreement_id"),
    ],
)
def test_use_must_be_on_the_ground_of_an_agreement_that_is_known(
    scene: Scene, residence: Party, other: dict[str, str], field: str
) -> None:
    reader = scene.system("moj/known", {LOOKUP: ["permanent_residence"]})
    said = {"origin": reader.identity, "purpose": reader.purpose, "provision": "D70/2024.9", **other}
    told = use(scene, purpose=said["purpose"], provision=said["provision"])
    told.access.CopyFrom(ground(said["origin"], reader.access.agreement_id))
    request = RecordUsesRequest(uses=[use(scene), told])
    refusal = scene.refuse(residence, residence.usage.RecordUses, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == [field]
    recorded = "SELECT 1 FROM uses_recorded WHERE use_id::text = ANY(:ids)"
    assert scene.rows(recorded, ids=[one.use_id for one in request.uses]) == []


def test_use_on_the_ground_of_a_known_agreement_is_recorded(scene: Scene, residence: Party) -> None:
    reader = scene.system("moj/known", {LOOKUP: ["permanent_residence"]})
    told = use(scene, access=ground(reader.identity, reader.access.agreement_id), purpose=reader.purpose)
    with scene.recording() as entries:
        residence.usage.RecordUses(RecordUsesRequest(uses=[told]))
    assert [(entry.caller, entry.access.agreement_id) for entry in entries] == [
        (reader.identity, reader.access.agreement_id)
    ]


def _in_the_future(scene: Scene) -> Use:
    told = use(scene)
    told.use_time.FromDatetime(scene.clock.now() + timedelta(hours=1))
    return told


@pytest.mark.parametrize(
    ("uses", "reason", "field"),
    [
        (lambda scene: [], "FIELD_REQUIRED", "uses"),
        (lambda scene: [Use(use_id=new_id())], "FIELD_REQUIRED", "subject_id"),
        (lambda scene: [use(scene)] * 1001, "FIELD_INVALID", "uses"),
        (lambda scene: [_in_the_future(scene)], "FIELD_INVALID", "uses.use_time"),
    ],
)
def test_impossible_uses_are_refused(
    scene: Scene, residence: Party, uses: Callable[[Scene], list[Use]], reason: str, field: str
) -> None:
    request = RecordUsesRequest(uses=uses(scene))
    refusal = scene.refuse(residence, residence.usage.RecordUses, request, reason)
    assert refusal.violations[0].field == field
