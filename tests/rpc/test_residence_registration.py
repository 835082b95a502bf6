"""Residences registered; and the scene on which the room's other tests play: an office, citizens, what was recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from sqlalchemy import text

from npd.common.v1 import person_pb2
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.common.v1.person_pb2 import CodedValue, Person, StatedIdentity
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.residence.v1 import residence_pb2, residence_pb2_grpc
from npd.residence.v1.residence_pb2 import Joining, Residence
from npd.sharing.v1.contribution_pb2 import ContributionItem
from npd.sharing.v1.usage_pb2 import Use
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.local.citizens import population
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Causation
from services.mesh.core.clock import legal_date
from services.mesh.core.following import FollowedChange
from services.mesh.core.places import list_version
from services.residence import convert
from services.residence.app import ROOM
from services.residence.operations.effects import Effects
from services.residence.operations.households import HouseholdOperations
from services.residence.operations.residences import ResidenceOperations
from services.residence.reactions import Reactions
from services.residence.repository import ResidenceUnit
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, refused, wire_date
from tests.rpc.test_sharing_callers import StandingClock

SERVICE = "/npd.residence.v1.ResidenceService"
ITSELF = f"spiffe://mesh.{ENVIRONMENT}/residence"
PERMANENT, TEMPORARY = residence_pb2.RESIDENCE_KIND_PERMANENT, residence_pb2.RESIDENCE_KIND_TEMPORARY
ACTIVE, CLOSED = residence_pb2.RESIDENCE_STATE_ACTIVE, residence_pb2.RESIDENCE_STATE_CLOSED
MOVED = residence_pb2.CLOSING_GROUND_MOVED
REGISTER, LOOKUP = AccessMode.ACCESS_MODE_REGISTER, AccessMode.ACCESS_MODE_LOOKUP
DONE, REFUSED = Outcome.OUTCOME_DONE, Outcome.OUTCOME_REFUSED
GRANTED = {
    REGISTER: ["permanent_residence", "temporary_residence", "household", "relation_to_head"],
    LOOKUP: ["permanent_residence", "temporary_residence", "household"],
}
PERMANENT_PATHS = ["permanent_residence", "current_residence", "household", "relation_to_head"]
TEMPORARY_PATHS = ["temporary_residence", "current_residence"]
BA_DINH, NGOC_HA, GIANG_VO = "00004", "00008", "00025"
CHILD = CodedValue(code="02", list_version="provisional")
_numbers = count(1)


@dataclass(frozen=True)
class Citizen:
    """Somebody whom the room knows from the feed, as the feed told of him."""

    subject_id: UUID
    person: Person

    @property
    def pin(self) -> str:
        """His number."""
        return self.person.pin

    @property
    def identity(self) -> StatedIdentity:
        """As an officer states him."""
        full_name = self.person.full_name.full
        return StatedIdentity(pin=self.pin, full_name=full_name, birth_date=self.person.birth_date)


@dataclass
class Recorded:
    """What a block left behind: entries of the log, contributions and uses in the outbox, links of chains."""

    entries: list[LogEntry] = field(default_factory=list)
    told: list[ContributionItem] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    links: list[Any] = field(default_factory=list)

    def of(self, citizen: Citizen) -> ContributionItem:
        """The one contribution about somebody."""
        (one,) = [item for item in self.told if item.pin == citizen.pin]
        return one

    def link(self, act: str) -> Any:
        """The one link of an act."""
        (one,) = [link for link in self.links if link.act == act]
        return one

    @property
    def acts(self) -> list[str]:
        """The acts that were done, in the order of their names."""
        return sorted(link.act for link in self.links)


class Office:
    """The room at work over a registry, an office that registers residences there, and the feed's changes."""

    def __init__(self, stage: Stage, desk: Desk, **settings: Any) -> None:
        self.stage, self.desk, self.clock = stage, desk, StandingClock()
        ages = {"rights_max_age": timedelta(days=365), "revocations_max_age": timedelta(days=365)}
        told: dict[str, Any] = {"sandbox": True, **ages, **settings}
        self.room: Running = stage.start(ROOM, clock=self.clock, **told)
        house = self.room.house
        self.database = house.database(lambda one: ResidenceUnit(one, house.log_of(one), "residence"))
        effects = Effects(convert.facts_to_bytes, Caller(ITSELF, CallerKind.ROOM, "residence"))
        wired = (self.database, lambda: house.keeper.current, self.clock, effects, lambda: None)
        self._react = Reactions(ResidenceOperations(*wired), HouseholdOperations(*wired), "residence")
        self._people = iter(one.person for one in population(5000) if one.person.birth_date.day)
        self.access = self.agree("police/residence", GRANTED)
        self.stub = self.stub_of(Kind.AGENCY, "police/residence")

    def agree(self, name: str, grants: Mapping["AccessMode.ValueType", Sequence[str]]) -> AccessContext:
        """The ground of an agreement of a system."""
        self.desk.register(name, officers=["o-1"])
        agreement_id = self.desk.agree(name, "STATE_MANAGEMENT", "D70/2024.9", grants)
        self.stage.settle()
        return AccessContext(agreement_id=agreement_id, case_reference="case/2026-1", officer_id="o-1")

    def stub_of(self, kind: Kind, name: str) -> residence_pb2_grpc.ResidenceServiceStub:
        """The room's service as a caller reaches it."""
        return residence_pb2_grpc.ResidenceServiceStub(self.room.channel(kind, name))

    @property
    def today(self) -> date:
        """The legal day at which the clock stands."""
        return legal_date(self.clock.now())

    def days_ago(self, days: int) -> date:
        """A day in the past."""
        return self.today - timedelta(days=days)

    def stranger(self) -> Citizen:
        """Somebody of whom the room has never heard."""
        return Citizen(uuid4(), next(self._people))

    def citizen(self, **more: Any) -> Citizen:
        """Somebody new, whom the room knows."""
        one = self.stranger().person
        known = Person(pin=one.pin, full_name=one.full_name, birth_date=one.birth_date, sex=one.sex, **more)
        citizen = Citizen(uuid4(), known)
        self.tell(citizen, known, *(each.name for each, _ in known.ListFields()))
        return citizen

    def tell(self, citizen: Citizen, person: Person, *paths: str, source: str = "identity") -> FollowedChange:
        """Let a change come by the feed."""
        now, cause = self.clock.now(), Causation(uuid4(), uuid4())
        raw, pin = person.SerializeToString(), citizen.pin
        change = FollowedChange(next(_numbers), uuid4(), citizen.subject_id, pin, paths, raw, source, now, now, cause)
        self.react(change)
        return change

    def react(self, change: FollowedChange) -> None:
        """Apply a change, as the follower does."""
        with self.database.transaction() as tx:
            self._react(tx, change)

    def asks(self, citizen: Citizen, address: Address, **fields: Any) -> Any:
        """A RegisterResidenceRequest, by default of a permanent residence from today on."""
        told = {"kind": PERMANENT, "start_date": wire_date(self.today), "access": self.access, "request_id": new_id()}
        return residence_pb2.RegisterResidenceRequest(identity=citizen.identity, address=address, **{**told, **fields})

    def register(self, citizen: Citizen, address: Address, **fields: Any) -> Residence:
        """Register a permanent residence."""
        return self.stub.RegisterResidence(self.asks(citizen, address, **fields)).residence

    def stays(self, citizen: Citizen, address: Address, **fields: Any) -> Any:
        """A RegisterResidenceRequest of a temporary residence from today on."""
        end_date = wire_date(self.today + timedelta(days=180))
        return self.asks(citizen, address, **{"kind": TEMPORARY, "end_date": end_date, **fields})

    @contextmanager
    def recording(self) -> Iterator[Recorded]:
        """Fills what it gives with what the room records while the block runs."""
        found, entries, outbox = Recorded(), len(self.room.entries()), len(self.rows("SELECT 1 FROM outbox"))
        links = {row.link_id for row in self.rows("SELECT link_id FROM chain_links")}
        yield found
        found.entries += self.room.entries()[entries:]
        for row in self.rows("SELECT kind, payload FROM outbox ORDER BY outbox_id")[outbox:]:
            if row.kind == "use":
                found.uses.append(Use.FromString(row.payload))
            else:
                found.told.append(ContributionItem.FromString(row.payload))
        found.links += [row for row in self.rows("SELECT * FROM chain_links") if row.link_id not in links]

    def rows(self, query: str, **values: Any) -> Sequence[Any]:
        """Rows of the room's store."""
        with self.room.house.engine.connect() as connection:
            return connection.execute(text(query), values).all()

    def active(self, citizen: Citizen) -> list[tuple[str, str]]:
        """Kind and text of somebody's residences in force."""
        query = "SELECT kind, detail_text FROM residences WHERE subject_id = :id AND state = 'ACTIVE' ORDER BY kind"
        return [tuple(row) for row in self.rows(query, id=citizen.subject_id)]

    def refuse(self, call: Callable[..., Any], request: Message, reason: str) -> Refusal:
        """The refusal that a call must get: one entry says so, and nothing else is left behind."""
        self.clock.go_on(timedelta(minutes=1))  # past the minute in which ten refusals of a kind are listed
        with self.recording() as recorded:
            refusal = refused(call, request)
        assert refusal.reason == reason, refusal
        assert [(one.outcome, one.reason) for one in recorded.entries] == [(REFUSED, reason)]
        assert (recorded.told, recorded.uses, recorded.links) == ([], [], [])
        return refusal


def address(office: Office, code: str, detail: str = "Số 1", day: date | None = None) -> Address:
    """An address in a commune of the list of a day, by default of today."""
    version = list_version(day or office.today)
    return Address(place=AdminPlace(unit_code=code, unit_list_version=version), detail_text=detail)


def death(day: date) -> Person:
    """What the record tells of a death."""
    person = Person()
    person.death_or_missing.kind = person_pb2.DEATH_OR_MISSING_KIND_DEAD
    person.death_or_missing.date.CopyFrom(wire_date(day))
    return person


def require_act(office: Office, recorded: Recorded, name: str, act_id: str, method: str) -> None:
    """An officer's act began a chain and has an entry; all contributions of a chain name a link of it."""
    link = recorded.link(name)
    assert (str(link.link_id), link.correlation_id, link.causation_id) == (act_id, link.link_id, None)
    assert (link.agreement_id, link.case_reference, link.officer_id) == (
        office.access.agreement_id,
        "case/2026-1",
        "o-1",
    )
    assert link.actor == f"spiffe://agency.{ENVIRONMENT}/police/residence"
    entry = recorded.entries[0]
    assert (entry.caller, entry.method, entry.outcome) == (link.actor, f"{SERVICE}/{method}", DONE)
    assert (entry.mode, entry.object, entry.access) == (REGISTER, f"act {act_id}", office.access)
    assert len(entry.subject.pseudonym) == 32
    mine = [item for item in recorded.told if item.causation.causation_id == act_id]
    assert mine
    assert {item.access.origin for item in mine} == {link.actor}
    assert {item.causation.correlation_id for item in recorded.told} == {act_id}
    assert {item.causation.causation_id for item in recorded.told} <= {str(one.link_id) for one in recorded.links}
    assert len({item.event_id for item in recorded.told}) == len(recorded.told)


@pytest.fixture(scope="module")
def office(stage: Stage, desk: Desk) -> Office:
    return Office(stage, desk)


def test_permanent_residence_is_registered_told_and_recorded(office: Office) -> None:
    citizen, home = office.citizen(), address(office, BA_DINH)
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.asks(citizen, home))
    found = done.residence
    assert (found.kind, found.address, found.state) == (PERMANENT, home, ACTIVE)
    assert (found.start_date, found.household_id) == (wire_date(office.today), "")
    assert not found.HasField("end_date")
    assert not found.HasField("closing_date")
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    assert (recorded.acts, len(recorded.entries)) == (["residence.register_residence"], 1)
    assert list(recorded.entries[0].paths) == sorted(PERMANENT_PATHS)
    (told,) = recorded.told
    assert (told.pin, sorted(told.update_mask.paths)) == (citizen.pin, sorted(PERMANENT_PATHS))
    assert told.person == Person(permanent_residence=home, current_residence=home)
    assert told.event_time == told.register_time
    assert told.event_time.ToDatetime().replace(tzinfo=office.clock.now().tzinfo) == office.clock.now()


def test_temporary_residence_is_where_somebody_lives_now(office: Office) -> None:
    citizen, away = office.citizen(), address(office, NGOC_HA, "Ngõ 3")
    office.register(citizen, address(office, BA_DINH))
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.stays(citizen, away))
    assert (done.residence.kind, done.residence.state) == (TEMPORARY, ACTIVE)
    assert done.residence.end_date == wire_date(office.today + timedelta(days=180))
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    (told,) = recorded.told
    assert sorted(told.update_mask.paths) == sorted(TEMPORARY_PATHS)
    assert told.person.temporary_residence.address == told.person.current_residence == away
    assert told.person.temporary_residence.end_date == done.residence.end_date
    assert office.active(citizen) == [("PERMANENT", "Số 1"), ("TEMPORARY", "Ngõ 3")]


def test_new_permanent_residence_replaces_the_old_one(office: Office) -> None:
    citizen, new_home = office.citizen(), address(office, NGOC_HA)
    old = office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(9)))
    office.stub.RegisterResidence(office.stays(citizen, address(office, GIANG_VO, "Ngõ 3")))
    with office.recording() as recorded:
        office.register(citizen, new_home)
    row = office.rows("SELECT * FROM residences WHERE residence_id = :id", id=UUID(old.residence_id))[0]
    assert (row.state, row.ground, row.closing_date) == ("CLOSED", "MOVED", office.today)
    assert office.active(citizen) == [("PERMANENT", "Số 1"), ("TEMPORARY", "Ngõ 3")]
    (told,) = recorded.told
    assert told.person.permanent_residence == new_home
    assert told.person.current_residence.detail_text == "Ngõ 3", "he still stays elsewhere"
    assert "temporary_residence" not in told.update_mask.paths
    assert recorded.acts == ["residence.register_residence"]


def test_temporary_residence_ends_where_the_permanent_one_begins(office: Office) -> None:
    citizen, home = office.citizen(), address(office, NGOC_HA, "Số 8")
    office.stub.RegisterResidence(office.stays(citizen, address(office, NGOC_HA, "Ngõ 3")))
    with office.recording() as recorded:
        office.register(citizen, home)
    assert office.active(citizen) == [("PERMANENT", "Số 8")]
    (told,) = recorded.told
    assert sorted(told.update_mask.paths) == sorted({*PERMANENT_PATHS, *TEMPORARY_PATHS})
    assert told.person == Person(permanent_residence=home, current_residence=home)


def test_late_registration_names_the_commune_by_the_list_of_its_first_day(office: Office) -> None:
    day = date(2025, 6, 30)
    then, now = address(office, "00001", day=day), address(office, BA_DINH)
    found = office.register(office.citizen(), then, start_date=wire_date(day))
    assert found.address.place.unit_list_version == "2024-12-31"
    for place, start in ((then, office.today), (now, day)):
        refusal = office.refuse(
            office.stub.RegisterResidence,
            office.asks(office.citizen(), place, start_date=wire_date(start)),
            "PLACE_CODE_UNKNOWN",
        )
        assert refusal.metadata == {"field": "address.place.unit_list_version"}


@pytest.mark.parametrize("code", ["01", "99999", ""])
def test_residence_lies_in_a_commune(office: Office, code: str) -> None:
    request = office.asks(office.citizen(), address(office, code))
    refusal = office.refuse(office.stub.RegisterResidence, request, "PLACE_CODE_UNKNOWN")
    assert refusal.metadata == {"field": "address.place.unit_code"}


def test_who_resides_there_already_is_refused(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH, "Số 1, phố Huế"))
    again = office.asks(citizen, address(office, BA_DINH, "SỐ 1,  PHỐ HUẾ"))
    office.refuse(office.stub.RegisterResidence, again, "ALREADY_RESIDENT")
    office.stub.RegisterResidence(office.stays(citizen, address(office, NGOC_HA)))
    second = office.stays(citizen, address(office, GIANG_VO))
    office.refuse(office.stub.RegisterResidence, second, "ALREADY_RESIDENT")


def test_temporary_residence_in_the_commune_of_the_permanent_one_is_refused(office: Office) -> None:
    citizen = office.citizen()
    office.register(citizen, address(office, BA_DINH))
    request = office.stays(citizen, address(office, BA_DINH, "Ngõ 3"))
    office.refuse(office.stub.RegisterResidence, request, "RESIDENCE_IN_SAME_COMMUNE")
    assert office.active(citizen) == [("PERMANENT", "Số 1")]


def test_first_day_has_come_and_lies_after_the_birth_and_the_residence_before(office: Office) -> None:
    citizen, call = office.citizen(), office.stub.RegisterResidence
    tomorrow = office.asks(citizen, address(office, BA_DINH), start_date=wire_date(office.today + timedelta(days=1)))
    assert office.refuse(call, tomorrow, "EVENT_IN_FUTURE").violations[0].field == "start_date"
    birth = citizen.person.birth_date
    unborn = date(birth.year, birth.month, birth.day) - timedelta(days=1)
    place = address(office, "00001", day=unborn)
    office.refuse(call, office.asks(citizen, place, start_date=wire_date(unborn)), "EVENT_BEFORE_BIRTH")
    office.register(citizen, address(office, BA_DINH), start_date=wire_date(office.days_ago(5)))
    earlier = office.asks(citizen, address(office, NGOC_HA), start_date=wire_date(office.days_ago(6)))
    assert office.refuse(call, earlier, "FIELD_INVALID").violations[0].field == "start_date"


def test_expired_stay_is_replaced_and_the_record_told(office: Office) -> None:
    citizen, away = office.citizen(), address(office, GIANG_VO, "Ngõ 5")
    first, last = office.days_ago(2), office.today + timedelta(days=1)
    stay = office.stub.RegisterResidence(
        office.stays(citizen, address(office, NGOC_HA, "Ngõ 3"), start_date=wire_date(first), end_date=wire_date(last))
    ).residence
    office.clock.go_on(timedelta(days=1))
    office.refuse(office.stub.RegisterResidence, office.stays(citizen, away), "ALREADY_RESIDENT")
    office.clock.go_on(timedelta(days=1))
    early = office.stays(citizen, away, start_date=wire_date(last - timedelta(days=1)))
    assert office.refuse(office.stub.RegisterResidence, early, "FIELD_INVALID").violations[0].field == "start_date"
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.stays(citizen, away))
    require_act(office, recorded, "residence.register_residence", done.act_id, "RegisterResidence")
    assert recorded.of(citizen).person.temporary_residence.address == away
    row = office.rows("SELECT * FROM residences WHERE residence_id = :id", id=UUID(stay.residence_id))[0]
    assert (row.state, row.ground, row.closing_date) == ("CLOSED", "EXPIRED", last)
    assert office.active(citizen) == [("TEMPORARY", "Ngõ 5")]


def test_stay_that_is_over_already_is_not_registered(office: Office) -> None:
    citizen, first = office.citizen(), office.days_ago(9)
    over = office.stays(citizen, address(office, NGOC_HA), start_date=wire_date(first))
    over.end_date.CopyFrom(wire_date(office.days_ago(1)))
    assert office.refuse(office.stub.RegisterResidence, over, "FIELD_INVALID").violations[0].field == "end_date"
    over.end_date.CopyFrom(wire_date(office.today))
    answer = office.stub.RegisterResidence(over)
    office.clock.go_on(timedelta(days=1))
    assert office.stub.RegisterResidence(over) == answer, "a repeat gets its first answer also when it is over"


def test_residence_follows_an_act_of_which_the_feed_told(office: Office) -> None:
    citizen, other, home = office.citizen(), office.citizen(), address(office, BA_DINH)
    change = office.tell(citizen, Person(), "death_or_missing", source="civil_status")
    with office.database.transaction() as tx:
        tx.followed.new_of([change])
    chain = str(change.causation.correlation_id)
    for follower, act_id in ((other, chain), (citizen, new_id())):
        request = office.asks(follower, home, follows_act_id=act_id)
        office.refuse(office.stub.RegisterResidence, request, "ACT_UNKNOWN")
        assert office.active(follower) == []
    with office.recording() as recorded:
        done = office.stub.RegisterResidence(office.asks(citizen, home, follows_act_id=chain))
    link = recorded.link("residence.register_residence")
    assert (str(link.link_id), str(link.correlation_id), str(link.causation_id)) == (done.act_id, chain, chain)
    assert recorded.of(citizen).causation.correlation_id == chain
    assert {(one.outcome, one.object) for one in recorded.entries} == {(DONE, f"act {done.act_id}")}


def test_unknown_mistaken_and_dead_persons_are_refused(office: Office) -> None:
    citizen, home, call = office.citizen(), address(office, BA_DINH), office.stub.RegisterResidence
    office.refuse(call, office.asks(office.stranger(), home), "PERSON_UNKNOWN")
    mistaken = office.asks(citizen, home)
    mistaken.identity.full_name += "g"
    office.refuse(call, mistaken, "IDENTITY_MISMATCH")
    office.tell(citizen, death(office.today), "death_or_missing", source="civil_status")
    office.refuse(call, office.asks(citizen, home), "PERSON_DECEASED")
    assert office.active(citizen) == []


@pytest.mark.parametrize(
    ("fields", "reason", "name"),
    [
        ({"identity": None}, "FIELD_REQUIRED", "identity.pin"),
        ({"kind": 0}, "FIELD_REQUIRED", "kind"),
        ({"end_date": Date(year=2030, month=1, day=1)}, "FIELD_INVALID", "end_date"),
        ({"kind": TEMPORARY}, "FIELD_REQUIRED", "end_date"),
        ({"household": Joining(household_id="x", relation_to_head=CHILD)}, "FIELD_INVALID", "household.household_id"),
        ({"request_id": "first"}, "FIELD_INVALID", "request_id"),
    ],
)
def test_malformed_request_is_refused(office: Office, fields: dict[str, Any], reason: str, name: str) -> None:
    request = office.asks(office.citizen(), address(office, BA_DINH))
    for each, value in fields.items():
        request.ClearField(each)
        if value is not None:
            request.MergeFrom(residence_pb2.RegisterResidenceRequest(**{each: value}))
    if "identity" in fields:
        request.identity.SetInParent()
    assert office.refuse(office.stub.RegisterResidence, request, reason).violations[0].field == name
