"""VerifyCitizen: verdicts on claims about a citizen whose identity matches, and never a value."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date

from npd.common.v1 import person_pb2
from npd.common.v1.lane_pb2 import LANE_NORMAL
from npd.common.v1.person_pb2 import DeathOrMissing, Household, Person, PersonName, RelatedPerson
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd.sharing.v1.verification_pb2 import (
    VERDICT_CONFIRMED,
    VERDICT_CONTRADICTED,
    VERDICT_DISPUTED,
    VERDICT_NOT_GRANTED,
    VERDICT_UNKNOWN,
    Predicate,
    VerifyCitizenRequest,
    VerifyCitizenResponse,
)
from npd_client import Client, merkle
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.db import DirectConnection
from services.sharing.record.identification import PinClosedToday
from services.sharing.verification import operations
from services.sharing.verification.convert import verification_from_wire
from services.sharing.verification.domain import Verdict, judge_field
from tests.mesh_fixture import Desk, Stage, today
from tests.rpc.test_sharing_callers import (
    APPLIED,
    CHANGES,
    CONTRIBUTE,
    DISCLOSED,
    LOOKUP,
    NO_MATCH,
    VERIFY,
    Party,
    Scene,
    bare,
    refusal_or,
    require_no_value,
    stated,
)

GRANTED = ["birth_date", "death_or_missing", "marital_status", "nationalities", "permanent_residence", "phone"]
SINGLE, MARRIED = (
    Person(marital_status=status) for status in (person_pb2.MARITAL_STATUS_SINGLE, person_pb2.MARITAL_STATUS_MARRIED)
)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def bank(scene: Scene) -> Party:
    return scene.system("bank/core", {VERIFY: GRANTED, LOOKUP: ["sex"]})


@pytest.fixture(scope="module")
def registrar(scene: Scene) -> Party:
    return scene.system("moj/local", {CONTRIBUTE: ["marital_status", "phone"]})


def asks(
    party: Party,
    person: Person,
    claimed: Person | None = None,
    *paths: str,
    predicates: Sequence[Predicate] = (),
    name: str = "",
) -> VerifyCitizenRequest:
    return VerifyCitizenRequest(
        access=party.access,
        identity=stated(person, name),
        claimed=claimed,
        claimed_mask=FieldMask(paths=paths) if paths else None,
        predicates=predicates,
    )


def verdicts(answer: VerifyCitizenResponse) -> dict[str, Any]:
    return {one.path: one.verdict for one in answer.fields}


def test_claims_get_verdicts_in_their_order_and_no_value_leaves(scene: Scene, bank: Party) -> None:
    person = scene.citizen(marital_status=MARRIED.marital_status, phone="+84000000001", religion=None)
    claimed = Person(marital_status=SINGLE.marital_status, phone="+84000000001", email="a@example.vn")
    predicates = [Predicate(alive=True), Predicate(age_at_least=1), Predicate(has_nationality="ZZ")]
    request = asks(bank, person, claimed, "phone", "marital_status", "email", predicates=predicates)
    with scene.recording() as entries:
        answer = bank.verification.VerifyCitizen(request)
    assert answer.outcome == DISCLOSED
    assert [(one.path, one.verdict) for one in answer.fields] == [
        ("phone", VERDICT_CONFIRMED),
        ("marital_status", VERDICT_CONTRADICTED),
        ("email", VERDICT_NOT_GRANTED),
    ]
    assert list(answer.predicates)[:2] == [VERDICT_CONFIRMED, VERDICT_CONFIRMED]
    assert answer.predicates[2] in (VERDICT_CONTRADICTED, VERDICT_UNKNOWN)
    [entry] = entries
    compared = ["birth_date", "death_or_missing", "marital_status", "nationalities", "phone"]
    assert bare(entry) == bank.entry(VerifyCitizenRequest, DISCLOSED, VERIFY, *compared)
    assert answer.receipt.leaf_hash == merkle.leaf_hash(entry.SerializeToString())
    require_no_value(entry, person)


def test_identity_that_does_not_match_gets_no_verdict(scene: Scene, bank: Party) -> None:
    person = scene.citizen(phone="+84000000002")
    request = asks(bank, person, Person(phone="+84000000002"), "phone", name="Someone Else")
    with scene.recording() as entries:
        answer = bank.verification.VerifyCitizen(request)
    assert answer == VerifyCitizenResponse(outcome=NO_MATCH, receipt=answer.receipt)
    assert [bare(entry) for entry in entries] == [bank.entry(VerifyCitizenRequest, NO_MATCH, VERIFY, "phone")]


def test_nobody_has_the_pin_looks_the_same(scene: Scene, bank: Party) -> None:
    request = asks(bank, scene.birth().person, Person(phone="+84"), "phone")
    with scene.recording() as entries:
        answer = bank.verification.VerifyCitizen(request)
    assert answer == VerifyCitizenResponse(outcome=NO_MATCH, receipt=answer.receipt)
    assert [entry.HasField("subject") for entry in entries] == [False]


def test_field_that_is_not_granted_is_never_judged(scene: Scene, bank: Party, registrar: Party) -> None:
    person = scene.citizen(email="a@example.vn")
    predicates = [Predicate(alive=True)]
    narrow = scene.system("bank/narrow", {VERIFY: ["phone"]})
    with scene.recording() as entries:
        answers = [
            narrow.verification.VerifyCitizen(asks(narrow, person, claimed, "email", predicates=predicates))
            for claimed in (Person(email="a@example.vn"), Person(email="b@example.vn"), Person())
        ]
    assert {one.verdict for answer in answers for one in answer.fields} == {VERDICT_NOT_GRANTED}
    assert {verdict for answer in answers for verdict in answer.predicates} == {VERDICT_NOT_GRANTED}
    assert [list(entry.paths) for entry in entries] == [[], [], []]


def test_disputed_field_is_said_to_be_so_whatever_is_claimed(scene: Scene, bank: Party, registrar: Party) -> None:
    person = scene.citizen(marital_status=None)
    scene.civil_status.contribute(scene.news(person, MARRIED, "marital_status"))
    scene.clock.go_on(timedelta(seconds=1))
    assert [one.status for one in registrar.contribute(scene.news(person, SINGLE, "marital_status"))] == [APPLIED]
    with scene.recording() as entries:
        for claimed in (SINGLE, MARRIED, Person()):
            answer = bank.verification.VerifyCitizen(asks(bank, person, claimed, "marital_status"))
            assert verdicts(answer) == {"marital_status": VERDICT_DISPUTED}
    assert [entry.outcome for entry in entries] == [DISCLOSED] * 3


def test_claim_of_no_value_is_confirmed_when_a_source_said_so(scene: Scene, bank: Party, registrar: Party) -> None:
    person = scene.citizen(phone=None)
    request = asks(bank, person, Person(), "phone")
    with scene.recording() as entries:
        never = bank.verification.VerifyCitizen(request)
        registrar.contribute(scene.news(person, Person(phone="+84000000003"), "phone"))
        holds = bank.verification.VerifyCitizen(request)
        scene.clock.go_on(timedelta(seconds=1))
        registrar.contribute(scene.news(person, Person(), "phone"))
        withdrawn = bank.verification.VerifyCitizen(request)
    assert [verdicts(answer)["phone"] for answer in (never, holds, withdrawn)] == [
        VERDICT_UNKNOWN,
        VERDICT_CONTRADICTED,
        VERDICT_CONFIRMED,
    ]
    assert len(entries) == 3


def test_predicates_follow_the_record(scene: Scene, bank: Party) -> None:
    place = AdminPlace(unit_code="01", unit_list_version="2025-07-01")
    person = scene.citizen(
        birth_date=Date(year=1990),
        permanent_residence={"place": place},
        nationalities=["VN"],
        death_or_missing=DeathOrMissing(kind=person_pb2.DEATH_OR_MISSING_KIND_DECLARED_MISSING),
    )
    age = today().year - 1990
    predicates = [
        Predicate(age_at_least=age - 1),
        Predicate(age_at_least=age + 2),
        Predicate(alive=False),
        Predicate(resides_in=place),
        Predicate(resides_in=AdminPlace(unit_code="01", unit_list_version="2024-12-31")),
        Predicate(has_nationality="VN"),
        Predicate(has_nationality="FR"),
    ]
    with scene.recording() as entries:
        answer = bank.verification.VerifyCitizen(asks(bank, person, predicates=predicates))
    assert list(answer.predicates) == [
        VERDICT_CONFIRMED,
        VERDICT_CONTRADICTED,
        VERDICT_CONFIRMED,
        VERDICT_CONFIRMED,
        VERDICT_UNKNOWN,
        VERDICT_CONFIRMED,
        VERDICT_CONTRADICTED,
    ]
    assert list(answer.fields) == []
    assert len(entries) == 1


def test_lookups_and_verifications_share_the_five_guesses_of_a_day(scene: Scene, bank: Party) -> None:
    person = scene.citizen()
    verify = asks(bank, person, Person(), "phone", name="Someone Else")
    lookup: GetCitizenRequest = bank.asks(person, "sex", name="Someone Else")
    calls = [(bank.verification.VerifyCitizen, verify), (bank.lookup.GetCitizen, lookup)] * 8
    with scene.recording() as entries, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: refusal_or(*call), calls))
    assert sum(not isinstance(answer, Refusal) for answer in answers) == 5
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {"PIN_CLOSED_TODAY"}
    assert sum(entry.outcome == NO_MATCH for entry in entries) == 5
    scene.refuse(bank, bank.verification.VerifyCitizen, asks(bank, person, Person(), "phone"), "PIN_CLOSED_TODAY")


def test_agreement_without_the_mode_verifies_nothing(scene: Scene) -> None:
    reader = scene.system("bank/reader", {LOOKUP: ["phone"]})
    request = asks(reader, scene.citizen(), Person(), "phone")
    refusal = scene.refuse(reader, reader.verification.VerifyCitizen, request, "MODE_NOT_GRANTED")
    assert (refusal.code, refusal.metadata["mode"]) == (grpc.StatusCode.PERMISSION_DENIED, "VERIFY")


def test_client_verifies_and_acknowledges(scene: Scene, bank: Party) -> None:
    """The client of a ministry, over the same wire."""
    person = scene.citizen(phone="+84000000004", marital_status=None)
    follower = scene.system("bank/client", {VERIFY: ["phone", "death_or_missing"], CHANGES: ["phone"]})
    identity = (person.pin, person.full_name.full, person.birth_date)
    directory = scene.stage.authority.tls(Kind.AGENCY, follower.name)
    with scene.recording() as entries, Client(scene.sharing.address, directory) as client:
        claimed = Person(phone="+84000000004")
        answer = client.verify_citizen(follower.access, *identity, claimed, predicates=[Predicate(alive=True)])
        nothing = client.verify_citizen(follower.access, *identity, fields=["phone"])
        page = client.pull_changes(follower.access, page_size=1, lane=LANE_NORMAL)
        change_id = next(one.change_id for one in client.pull_changes(follower.access, page_size=1000).changes)
        said = client.acknowledge(
            follower.access, applied=page.next_cursor, rejected={change_id: "CODE_UNKNOWN"}, lane=LANE_NORMAL
        )
    assert verdicts(answer) == {"phone": VERDICT_CONFIRMED}
    assert list(answer.predicates) == [VERDICT_CONFIRMED]
    assert verdicts(nothing) == {"phone": VERDICT_CONTRADICTED}
    assert (said.received, said.applied, said.rejected_count) == (page.next_cursor, page.next_cursor, 1)
    assert [entry.mode for entry in entries][:2] == [VERIFY, VERIFY]


def test_claim_of_a_part_of_what_is_recorded_is_true(scene: Scene, bank: Party) -> None:
    place = AdminPlace(unit_code="01", unit_list_version="2025-07-01")
    person = scene.citizen(nationalities=["VN", "FR"], permanent_residence={"place": place, "detail_text": "số 1"})
    street, part = (Person(permanent_residence=Address(place=place, detail_text=text)) for text in ("số 2", ""))
    with scene.recording() as entries:
        true = bank.verification.VerifyCitizen(asks(bank, person, part, "permanent_residence"))
        false = bank.verification.VerifyCitizen(asks(bank, person, street, "permanent_residence"))
        one_of_two = bank.verification.VerifyCitizen(asks(bank, person, Person(nationalities=["VN"]), "nationalities"))
    assert verdicts(true) | verdicts(one_of_two) == {
        "permanent_residence": VERDICT_CONFIRMED,
        "nationalities": VERDICT_CONFIRMED,
    }
    assert verdicts(false) == {"permanent_residence": VERDICT_CONTRADICTED}
    assert [entry.outcome for entry in entries] == [DISCLOSED] * 3


def contradictions(scene: Scene, party: Party) -> list[tuple[int, int]]:
    """What is counted against a system: mismatches and contradicted claims, by PIN."""
    query = "SELECT count, contradictions FROM mismatches WHERE system = :name ORDER BY 1, 2"
    return [(mismatches, contradicted) for mismatches, contradicted in scene.rows(query, name=party.name)]


def test_guessing_closes_verification_of_the_pin_and_nothing_else(scene: Scene) -> None:
    system = scene.system("bank/guess", {VERIFY: ["marital_status", "phone"], LOOKUP: ["sex"]})
    other = scene.system("bank/honest", {VERIFY: ["marital_status"]})
    person, neighbour = (scene.citizen(marital_status=MARRIED.marital_status, phone="+84") for _ in range(2))
    wrong = Person(marital_status=SINGLE.marital_status, phone="+85")
    guess, right = (
        asks(system, person, wrong, "marital_status", "phone"),
        asks(system, person, MARRIED, "marital_status"),
    )
    with scene.recording() as entries:
        for _ in range(9):
            system.verification.VerifyCitizen(guess)
        for _ in range(30):
            assert verdicts(system.verification.VerifyCitizen(right)) == {"marital_status": VERDICT_CONFIRMED}
        assert contradictions(scene, system) == [(0, 18)]
        system.verification.VerifyCitizen(guess)
    assert len(entries) == 40
    refusal = scene.refuse(system, system.verification.VerifyCitizen, right, "PIN_CLOSED_TODAY")
    assert refusal.metadata["limit"] == "20"
    nobody = asks(system, person, MARRIED, "marital_status", name="Someone Else")
    scene.refuse(system, system.verification.VerifyCitizen, nobody, "PIN_CLOSED_TODAY")
    assert contradictions(scene, system) == [(0, 20)]
    assert system.get_citizen(person).outcome == DISCLOSED
    assert system.verification.VerifyCitizen(asks(system, neighbour, MARRIED, "marital_status")).outcome == DISCLOSED
    assert other.verification.VerifyCitizen(asks(other, person, MARRIED, "marital_status")).outcome == DISCLOSED


def test_guesses_at_once_are_no_more_than_guesses_in_turn(scene: Scene) -> None:
    system = scene.system("bank/many", {VERIFY: ["marital_status"]})
    person = scene.citizen(marital_status=MARRIED.marital_status)
    guess = asks(system, person, SINGLE, "marital_status")
    with scene.recording() as entries, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: refusal_or(system.verification.VerifyCitizen, guess), range(40)))
    assert sum(not isinstance(answer, Refusal) for answer in answers) == 20
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {"PIN_CLOSED_TODAY"}
    assert sum(entry.outcome == DISCLOSED for entry in entries) == 20
    assert contradictions(scene, system) == [(0, 20)]


def test_guesses_in_one_batch_are_counted_in_turn(scene: Scene) -> None:
    system = scene.system("bank/batch", {VERIFY: ["marital_status"]})
    house, person = scene.sharing.house, scene.citizen(marital_status=MARRIED.marital_status)
    caller = Caller(system.identity, CallerKind.AGENCY, system.name, *system.name.split("/"))
    asked = verification_from_wire(
        asks(system, person, SINGLE, "marital_status"), caller, "/x", scene.clock.now(), sandbox=True
    )
    store = DirectConnection(house.engine)
    verifying = operations.Verifying(store, lambda: house.keeper.current, house.sealer, scene.clock)
    with scene.recording() as entries:
        answers = verifying.verify_citizens([asked] * 25)
    store.close()
    assert [isinstance(answer, PinClosedToday) for answer in answers] == [False] * 20 + [True] * 5
    assert len(entries) == 20, "what is refused is recorded by who refuses"
    assert contradictions(scene, system) == [(0, 20)]


def test_predicates_that_are_contradicted_count_too(scene: Scene) -> None:
    system = scene.system("bank/predicates", {VERIFY: ["death_or_missing", "nationalities"]})
    person = scene.citizen(nationalities=["VN"], death_or_missing=None)
    predicates = [Predicate(has_nationality=code) for code in ("FR", "LA", "VN")] + [Predicate(alive=False)]
    system.verification.VerifyCitizen(asks(system, person, predicates=predicates))
    assert contradictions(scene, system) == [(0, 3)]


def test_lookups_go_on_while_claims_are_judged(scene: Scene, bank: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging holds nothing that lookups need, however long it takes."""
    person, begun, go_on = scene.citizen(marital_status=MARRIED.marital_status), Event(), Event()

    def slowly(*asked: Any, **more: Any) -> Verdict:
        begun.set()
        assert go_on.wait(30)
        return judge_field(*asked, **more)

    monkeypatch.setattr(operations, "judge_field", slowly)
    with scene.recording() as entries, ThreadPoolExecutor(1) as pool:
        request = asks(bank, person, MARRIED, "marital_status")
        verifying = pool.submit(bank.verification.VerifyCitizen, request, timeout=60)
        try:
            assert begun.wait(30)
            assert bank.lookup.GetCitizen(bank.asks(person), timeout=20).outcome == DISCLOSED
        finally:
            go_on.set()
        assert verdicts(verifying.result()) == {"marital_status": VERDICT_CONFIRMED}
    assert [entry.mode for entry in entries] == [LOOKUP, VERIFY]


PLACE = {"unit_code": "01", "unit_list_version": "2025-07-01"}


@pytest.mark.parametrize(
    ("predicate", "field"),
    [
        (Predicate(), "predicates[0]"),
        (Predicate(age_at_least=0), "predicates[0].age_at_least"),
        (Predicate(age_at_least=151), "predicates[0].age_at_least"),
        (Predicate(has_nationality="Việt Nam"), "predicates[0].has_nationality"),
        (Predicate(resides_in=AdminPlace(unit_code="01")), "predicates[0].resides_in.unit_list_version"),
        (Predicate(resides_in=AdminPlace(**{**PLACE, "unit_code": "7"})), "predicates[0].resides_in.unit_code"),
        (Predicate(resides_in=AdminPlace(**PLACE, country_code="LA")), "predicates[0].resides_in.country_code"),
    ],
)
def test_malformed_predicate_is_refused(scene: Scene, bank: Party, predicate: Predicate, field: str) -> None:
    request = asks(bank, scene.citizen(), predicates=[predicate])
    refusal = scene.refuse(bank, bank.verification.VerifyCitizen, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == [field]


@pytest.mark.parametrize(
    ("claimed", "paths", "count", "reason", "field"),
    [
        (Person(), (), 0, "FIELD_INVALID", "claimed_mask"),
        (Person(), (), 4, "FIELD_INVALID", "predicates"),
        (Person(nationalities=["VN"] * 101), ("nationalities",), 0, "FIELD_INVALID", "claimed.nationalities"),
        (Person(children=[RelatedPerson()] * 101), ("children",), 0, "FIELD_INVALID", "claimed.children"),
        (
            Person(household=Household(members=[RelatedPerson()] * 101)),
            ("household",),
            0,
            "FIELD_INVALID",
            "claimed.household.members",
        ),
        (Person(email="x" * (64 << 10)), ("email",), 0, "FIELD_INVALID", "claimed"),
        (Person(), ("phone", "favourite_dish"), 0, "MASK_UNKNOWN_PATH", "claimed_mask"),
        (Person(), ("permanent_residence.place",), 0, "MASK_UNKNOWN_PATH", "claimed_mask"),
        (Person(birth_date=Date(year=1990, month=13)), ("birth_date",), 0, "FIELD_INVALID", "claimed.birth_date"),
        (Person(full_name=PersonName(full=" ")), ("full_name",), 0, "FIELD_INVALID", "claimed.full_name.full"),
        (Person(pin="12"), ("pin",), 0, "FIELD_INVALID", "claimed.pin"),
    ],
)
def test_malformed_claims_are_refused(
    scene: Scene, bank: Party, claimed: Person, paths: tuple[str, ...], count: int, reason: str, field: str
) -> None:
    request = asks(bank, scene.citizen(), claimed, *paths, predicates=[Predicate(alive=True)] * count)
    refusal = scene.refuse(bank, bank.verification.VerifyCitizen, request, reason)
    assert [violation.field for violation in refusal.violations] == [field]
