"""Who may call civil status, on which ground; and the scene on which its other tests play: a registrar, people."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from grpc_status import rpc_status
from sqlalchemy import text

from npd.civil_status.v1 import civil_status_pb2, civil_status_pb2_grpc
from npd.civil_status.v1.civil_status_pb2 import Act, AnnulActRequest, Birth, Parent, RegisterBirthRequest
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.common.v1.person_pb2 import CodedValue, MaritalStatus, Person, PersonName, Sex, StatedIdentity
from npd.common.v1.place_pb2 import AdminPlace
from npd.identity.v1 import number_pb2, number_pb2_grpc
from npd.sharing.v1.contribution_pb2 import ContributionItem
from npd.sharing.v1.usage_pb2 import Use
from npd_pki.identity import Kind
from services.civil_status import convert
from services.civil_status.app import ROOM
from services.civil_status.operations.office import Office
from services.civil_status.operations.relations import RelationOperations
from services.civil_status.reactions import Reactions
from services.civil_status.repository import CivilRegister
from services.civil_status.tables import METADATA
from services.mesh.core.chain import Causation
from services.mesh.core.clock import LEGAL_ZONE, legal_date
from services.mesh.core.errors import MeshError
from services.mesh.core.following import FollowedChange
from services.mesh.core.places import list_version
from services.mesh.core.tables import METADATA as MESH
from services.mesh.wire.interceptors.errors import status_of
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, new_id, refused, wait_until, wire_date
from tests.rpc.test_sharing_callers import StandingClock

SERVICE = "/npd.civil_status.v1.CivilStatusService"
REGISTER, LOOKUP = AccessMode.ACCESS_MODE_REGISTER, AccessMode.ACCESS_MODE_LOOKUP
SINGLE, MARRIED = MaritalStatus.MARITAL_STATUS_SINGLE, MaritalStatus.MARITAL_STATUS_MARRIED
WIDOWED, DIVORCED = MaritalStatus.MARITAL_STATUS_WIDOWED, MaritalStatus.MARITAL_STATUS_DIVORCED
BIRTH_GROUND = ["full_name", "birth_date", "sex", "birth_registration_place"]
MARRIAGE_GROUND, DEATH_GROUND = ["marital_status", "spouses"], ["death_or_missing"]
DETAILS = ["place_of_birth", "hometown", "ethnicity"]
READ = sorted([*MARRIAGE_GROUND, *DEATH_GROUND])
_names = itertools.count(1)


class TickingClock(StandingClock):
    """Stands at the next legal day but for a millisecond between any two looks: no two acts have one time."""

    def now(self) -> datetime:
        """The next instant."""
        self.go_on(timedelta(milliseconds=1))
        return super().now()


TODAY = legal_date(StandingClock().now())
"""The legal day of these tests."""


class Numbers(number_pb2_grpc.NumberServiceServicer):
    """A stand-in for the room identity, over real mTLS: reserves numbers, remembers what was asked and confirmed."""

    def __init__(self, authority: Authority) -> None:
        directory = authority.tls(Kind.MESH, "identity")
        key, chain, root = ((directory / name).read_bytes() for name in ("tls.key", "tls.crt", "ca.crt"))
        self._credentials = grpc.ssl_server_credentials([(key, chain)], root, True)
        self._server: grpc.Server | None = None
        self.port = 0
        self.life = timedelta(days=1)
        self.asked: list[number_pb2.ReservePinRequest] = []
        self.given: dict[str, number_pb2.ReservePinResponse] = {}
        self.confirmed: list[number_pb2.ConfirmPinRequest] = []
        self.refusals: dict[str, MeshError] = {}
        self.clock = TickingClock()
        self._serial = itertools.count(1)

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        number_pb2_grpc.add_NumberServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"localhost:{self.port}", self._credentials)
        self._server.start()

    def stop(self) -> None:
        """Be away."""
        assert self._server is not None
        self._server.stop(0).wait(10)

    def ReservePin(
        self, request: number_pb2.ReservePinRequest, context: grpc.ServicerContext
    ) -> number_pb2.ReservePinResponse:
        self.asked.append(request)
        self._refuse("ReservePin", context)
        if request.request_id not in self.given:
            answer = number_pb2.ReservePinResponse(pin=f"901126{next(self._serial):06d}", subject_id=new_id())
            answer.expire_time.FromDatetime(self.clock.now() + self.life)
            self.given[request.request_id] = answer
        return self.given[request.request_id]

    def ConfirmPin(
        self, request: number_pb2.ConfirmPinRequest, context: grpc.ServicerContext
    ) -> number_pb2.ConfirmPinResponse:
        self._refuse("ConfirmPin", context)
        self.confirmed.append(request)
        return number_pb2.ConfirmPinResponse(state=number_pb2.NUMBER_STATE_ACTIVE)

    def ResolvePin(
        self, request: number_pb2.ResolvePinRequest, context: grpc.ServicerContext
    ) -> number_pb2.ResolvePinResponse:
        raise NotImplementedError

    def SucceedPin(
        self, request: number_pb2.SucceedPinRequest, context: grpc.ServicerContext
    ) -> number_pb2.SucceedPinResponse:
        raise NotImplementedError

    def _refuse(self, method: str, context: grpc.ServicerContext) -> None:
        if method in self.refusals:
            context.abort_with_status(rpc_status.to_status(status_of(self.refusals[method], "here")))


class Scene:
    """Civil status at work over a registry, with a registrar who has every ground, and the people it knows."""

    def __init__(self, stage: Stage, desk: Desk, numbers: Numbers) -> None:
        self.stage, self.desk, self.numbers = stage, desk, numbers
        address = f"localhost:{numbers.port}"
        self.clock = numbers.clock
        ages: dict[str, Any] = {"rights_max_age": timedelta(days=365), "revocations_max_age": timedelta(days=365)}
        self.room = stage.start(ROOM, clock=self.clock, sandbox=True, identity_address=address, **ages)
        house = self.room.house
        self.database = house.database(lambda connection: CivilRegister(connection, house.log_of(connection)))
        office = Office(self.database, lambda: house.keeper.current, house.clock, lambda: None, convert.facts_to_bytes)
        self.react = Reactions(RelationOperations(office, house.identity))
        desk.register("justice/civil", officers=["o-1"])
        grant = [*BIRTH_GROUND, *DETAILS, *READ]
        self.registrar = self.agreed("justice/civil", {REGISTER: grant, LOOKUP: READ})

    def agreed(self, name: str, grants: dict["AccessMode.ValueType", list[str]]) -> "Registrar":
        """A registrar under an agreement of his."""
        agreement_id = self.desk.agree(name, "STATE_MANAGEMENT", "D70/2024.9", grants)
        self.stage.settle()
        return Registrar(self.room, Kind.AGENCY, name, agreement_id)

    def person(
        self,
        name: str = "",
        born: date | Date = date(1990, 5, 1),
        *,
        marital: "MaritalStatus.ValueType" = SINGLE,
        dead: bool = False,
    ) -> "Known":
        """Somebody whom the feed has told of: history."""
        number = next(_names)
        birth = born if isinstance(born, Date) else wire_date(born)
        one = Known(uuid4(), f"901090{number:06d}", name or f"Trần Thị Số {number:06d}", birth)
        told = Person(pin=one.pin, full_name=PersonName(full=one.name), birth_date=birth, marital_status=marital)
        told.sex = Sex.SEX_FEMALE
        paths = ["pin", "full_name", "birth_date", "sex", "marital_status"]
        if dead:
            told.death_or_missing.kind = 1  # type: ignore[assignment]
            paths.append("death_or_missing")
        self.tell(one, told, paths)
        return one

    def tell(self, one: "Known", told: Person, paths: Sequence[str], source: str = "identity") -> FollowedChange:
        """Apply a change of the feed about somebody, as the follower would."""
        change_id, now = uuid4(), self.clock.now()
        raw, causation = told.SerializeToString(), Causation(uuid4(), change_id)
        change = FollowedChange(
            1, change_id, one.subject_id, told.pin or one.pin, tuple(paths), raw, source, now, now, causation
        )
        self.apply(change)
        return change

    def apply(self, change: FollowedChange) -> None:
        """Apply a change in a transaction of the room."""
        with self.database.transaction() as tx:
            self.react(tx, change)

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of the room's store."""
        with self.room.house.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def told(self, correlation_id: str | UUID) -> list[ContributionItem]:
        """What waits to be told to sharing because of a chain, in order."""
        query = "SELECT payload FROM outbox WHERE kind = 'contribution' AND correlation_id = :id ORDER BY outbox_id"
        return [ContributionItem.FromString(raw) for (raw,) in self.rows(query, id=str(correlation_id))]

    def uses(self) -> list[str]:
        """Of whom the uses are that wait to be told to sharing."""
        rows = self.rows("SELECT payload FROM outbox WHERE kind = 'use' ORDER BY outbox_id")
        return [Use.FromString(raw).subject_id for (raw,) in rows]

    def links(self, correlation_id: str | UUID) -> list[tuple[Any, ...]]:
        """The links of a chain here: act, actor."""
        query = "SELECT act, actor FROM chain_links WHERE correlation_id = :id ORDER BY link_time"
        return self.rows(query, id=str(correlation_id))

    def state(self) -> dict[str, list[str]]:
        """All that acts write, to be compared: no refusal moves it. What moves by itself is left out."""
        tables = [table for metadata in (METADATA, MESH) for table in metadata.sorted_tables]
        kept = [table for table in tables if not table.name.startswith("log") and table.name != "feed_cursor"]
        with self.room.house.engine.begin() as connection:
            rows = {table.name: sorted(map(str, connection.execute(table.select()))) for table in kept}
        for outbox in ("outbox", "outbox_delivered"):
            rows[outbox] = [row for row in rows[outbox] if "'confirmation'" not in row]
        return rows

    @contextmanager
    def recording(self) -> Iterator[list[LogEntry]]:
        """Fills the list with what the room records while the block runs."""
        before, entries = len(self.room.entries()), list[LogEntry]()
        yield entries
        entries += self.room.entries()[before:]

    def refuse(self, call: Callable[..., Any], request: Any, reason: str) -> Any:
        """The refusal that a call must get: recorded once, and nothing else changed."""
        self.clock.go_on(timedelta(minutes=1))  # past the minute in which ten refusals of a kind are listed
        before = self.state()
        with self.recording() as entries:
            refusal = refused(call, request)
        assert refusal.reason == reason, refusal
        assert [(entry.outcome, entry.reason) for entry in entries] == [(Outcome.OUTCOME_REFUSED, reason)]
        assert self.state() == before
        return refusal

    def require_recorded(
        self, act: Act, entries: Sequence[LogEntry], name: str, paths: Sequence[str], count: int
    ) -> None:
        """An act has one link, which began its chain, and an entry for each person of whose record it tells."""
        assert self.links(act.act_id) == [(f"civil_status.{name}", self.registrar.identity)]
        assert len(entries) == count
        for entry in entries:
            assert (entry.outcome, entry.object) == (Outcome.OUTCOME_DONE, f"act {act.act_id}")
            assert (entry.caller, entry.mode) == (self.registrar.identity, REGISTER)
            assert len(entry.subject.pseudonym) == 32
        assert len({entry.subject.pseudonym for entry in entries}) == count
        assert list(entries[0].paths) == sorted(paths)


class Known:
    """Somebody with a number."""

    def __init__(self, subject_id: UUID, pin: str, name: str, born: Date) -> None:
        self.subject_id, self.pin, self.name, self.born = subject_id, pin, name, born

    @property
    def stated(self) -> StatedIdentity:
        """As a registrar states him."""
        return StatedIdentity(pin=self.pin, full_name=self.name, birth_date=self.born)


class Registrar:
    """Somebody who calls civil status."""

    def __init__(self, room: Running, kind: Kind, name: str, agreement_id: str = "") -> None:
        self._room = room
        self.stub = civil_status_pb2_grpc.CivilStatusServiceStub(room.channel(kind, name))
        self.identity = f"spiffe://{kind.value}.{ENVIRONMENT}/{name}"
        self.access = AccessContext(
            agreement_id=agreement_id or new_id(), case_reference="case/2026-1", officer_id="o-1"
        )

    def birth(self, mother: Known | None = None, father: Known | None = None, **fields: Any) -> RegisterBirthRequest:
        """A birth of yesterday, some of its fields replaced."""
        place = AdminPlace(unit_code="01", unit_list_version=list_version(TODAY))
        name = f"Nguyễn Văn Con {next(_names):06d}"
        birth = Birth(
            full_name=PersonName(family="Nguyễn", middle="Văn", given=name[12:], full=name),
            birth_date=wire_date(TODAY - timedelta(days=1)),
            sex=Sex.SEX_MALE,
            place_of_birth=place,
            registration_place=place,
            hometown=place,
            ethnicity=CodedValue(code="01", list_version="2008"),
            nationalities=["VN"],
            mother=parent(mother) if mother else None,
            father=parent(father) if father else None,
        )
        for field, value in fields.items():
            birth.ClearField(field)  # type: ignore[arg-type]
            birth.MergeFrom(Birth(**{field: value}))
        return RegisterBirthRequest(request_id=new_id(), access=self.access, birth=birth, entry_number="KS/2026-001")

    def marriage(self, first: Known, second: Known, day: date = date(2026, 3, 8)) -> Any:
        """A marriage."""
        return civil_status_pb2.RecordMarriageRequest(
            request_id=new_id(),
            access=self.access,
            first_spouse=first.stated,
            second_spouse=second.stated,
            marriage_date=wire_date(day),
            entry_number="KH/2026-001",
        )

    def death(self, one: Known, day: date = date(2026, 6, 1)) -> Any:
        """A death."""
        return civil_status_pb2.RegisterDeathRequest(
            request_id=new_id(),
            access=self.access,
            identity=one.stated,
            death_date=wire_date(day),
            entry_number="KT/2026-001",
        )

    def annulment(self, act_id: str) -> AnnulActRequest:
        """An annulment by a decision of today."""
        return AnnulActRequest(
            request_id=new_id(),
            access=self.access,
            act_id=act_id,
            decision_date=wire_date(TODAY),
            entry_number="HB/2026-001",
        )

    def marry(self, first: Known, second: Known, day: date = date(2026, 3, 8)) -> Act:
        """Record a marriage."""
        act: Act = self.stub.RecordMarriage(self.marriage(first, second, day)).act
        return act

    def bury(self, one: Known, day: date = date(2026, 6, 1)) -> Act:
        """Register a death."""
        act: Act = self.stub.RegisterDeath(self.death(one, day)).act
        return act

    def annul(self, act: Act) -> Act:
        """Annul an act."""
        annulling: Act = self.stub.AnnulAct(self.annulment(act.act_id)).act
        return annulling

    def bear(self, mother: Known | None = None, father: Known | None = None, **fields: Any) -> Known:
        """Register a birth."""
        request = self.birth(mother, father, **fields)
        request.birth.full_name.CopyFrom(PersonName(full=request.birth.full_name.full))
        answer = self.stub.RegisterBirth(request)
        with self._room.house.engine.begin() as connection:
            query = text("SELECT subject_id FROM people_pins WHERE pin = :pin")
            subject_id = connection.execute(query, {"pin": answer.pin}).scalar_one()
        return Known(subject_id, answer.pin, request.birth.full_name.full, request.birth.birth_date)

    def status(self, one: Known) -> Any:
        """What is shown of somebody."""
        return self.stub.GetCivilStatus(civil_status_pb2.GetCivilStatusRequest(access=self.access, identity=one.stated))


def parent(one: Known, nationality: str = "VN") -> Parent:
    """Somebody as the parent whom a registration names."""
    return Parent(name=PersonName(full=one.name), pin=one.pin, nationality=nationality)


def day_start(day: date) -> datetime:
    """Midnight in Viet Nam."""
    return datetime(day.year, day.month, day.day, tzinfo=LEGAL_ZONE).astimezone(UTC)


@pytest.fixture(scope="module")
def numbers(authority: Authority) -> Iterator[Numbers]:
    serving = Numbers(authority)
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk, numbers: Numbers) -> Scene:
    return Scene(stage, desk, numbers)


def requests_of(registrar: Registrar, one: Known, other: Known) -> list[tuple[Callable[..., Any], Any]]:
    """A request of every method."""
    stub = registrar.stub
    correction = civil_status_pb2.CorrectBirthRequest(
        request_id=new_id(),
        access=registrar.access,
        identity=one.stated,
        correction=civil_status_pb2.BirthCorrection(full_name=PersonName(full="Trần Thị Mới")),
        corrected_mask=FieldMask(paths=["full_name"]),
        decision_date=wire_date(TODAY),
        entry_number="CC/2026-001",
    )
    return [
        (stub.RegisterBirth, registrar.birth()),
        (stub.RecordMarriage, registrar.marriage(one, other)),
        (stub.RegisterDeath, registrar.death(one)),
        (stub.CorrectBirth, correction),
        (stub.AnnulAct, registrar.annulment(new_id())),
        (stub.GetCivilStatus, civil_status_pb2.GetCivilStatusRequest(access=registrar.access, identity=one.stated)),
    ]


@pytest.mark.parametrize(("kind", "name"), [(Kind.MESH, "identity"), (Kind.OPERATOR, "lan")])
def test_only_agencies_call_civil_status(scene: Scene, kind: Kind, name: str) -> None:
    one, other = scene.person(), scene.person()
    for call, request in requests_of(Registrar(scene.room, kind, name), one, other):
        scene.refuse(call, request, "METHOD_NOT_ALLOWED")


def test_nothing_is_done_without_an_agreement(scene: Scene) -> None:
    one, other = scene.person(), scene.person()
    stranger = Registrar(scene.room, Kind.AGENCY, "justice/civil")
    for call, request in requests_of(stranger, one, other):
        scene.refuse(call, request, "AGREEMENT_UNKNOWN")
    assert scene.numbers.asked == []


def test_each_act_needs_the_fields_that_it_changes(scene: Scene) -> None:
    one, other = scene.person(), scene.person()
    poor = scene.agreed("justice/civil", {REGISTER: ["phone"], LOOKUP: ["marital_status", "spouses"]})
    requests = requests_of(poor, one, other)
    for call, request in [*requests[:4], requests[5]]:
        refusal = scene.refuse(call, request, "FIELD_NOT_GRANTED")
        assert refusal.metadata["agreement"] == poor.access.agreement_id
    scene.refuse(*requests[4], "ACT_UNKNOWN")
    marriage, death = scene.registrar.marry(one, other), scene.registrar.bury(scene.person())
    for act in (marriage, death):
        scene.refuse(poor.stub.AnnulAct, poor.annulment(act.act_id), "FIELD_NOT_GRANTED")


def test_officer_must_be_on_the_roster(scene: Scene) -> None:
    one, other = scene.person(), scene.person()
    stranger = Registrar(scene.room, Kind.AGENCY, "justice/civil", scene.registrar.access.agreement_id)
    stranger.access.officer_id = "o-9"
    for call, request in requests_of(stranger, one, other):
        scene.refuse(call, request, "OFFICER_NOT_ON_ROSTER")


def test_acts_are_refused_while_too_much_waits_to_be_handed_on(scene: Scene) -> None:
    address = f"localhost:{scene.numbers.port}"
    full = scene.stage.start(ROOM, sandbox=True, identity_address=address, backlog_limit=1)
    registrar = Registrar(full, Kind.AGENCY, "justice/civil", scene.registrar.access.agreement_id)
    request = registrar.birth(birth_date=wire_date(date(2020, 1, 1)))
    answer = registrar.stub.RegisterBirth(request)
    one = Known(uuid4(), answer.pin, request.birth.full_name.full, request.birth.birth_date)
    wait_until(
        lambda: refused(registrar.stub.RegisterDeath, registrar.death(one, date(2019, 1, 1))).reason == "OVERLOADED"
    )
    asked = civil_status_pb2.GetCivilStatusRequest(access=registrar.access, identity=one.stated)
    assert refused(registrar.stub.GetCivilStatus, asked).reason == "OVERLOADED", "a read is told as well"
