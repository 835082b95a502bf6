"""Who may call what of the identity room; and the scene on which its other tests play."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from sqlalchemy import text

from npd.common.v1 import chain_pb2
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.common.v1.person_pb2 import (
    SEX_FEMALE,
    DeathOrMissing,
    DeathOrMissingKind,
    IdentityCard,
    Person,
    PersonName,
    StatedIdentity,
)
from npd.common.v1.place_pb2 import AdminPlace
from npd.identity.v1 import card_pb2, card_pb2_grpc, number_pb2, number_pb2_grpc
from npd.sharing.v1.contribution_pb2 import ContributionItem
from npd.sharing.v1.usage_pb2 import Use
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.identity import convert
from services.identity.app import ROOM, Settings
from services.identity.operations.cards import CardOperations
from services.identity.operations.numbers import NumberOperations, Terms
from services.identity.reactions import Reactions
from services.identity.repository import Identity
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.chain import Act, Causation, Chain
from services.mesh.core.clock import legal_date
from services.mesh.core.following import FollowedChange
from services.mesh.core.places import list_version
from services.mesh.core.telling import CONTRIBUTION, USE
from tests.mesh_fixture import ENVIRONMENT, Desk, Stage, new_id, refused
from tests.rpc.test_sharing_callers import StandingClock

REGISTER, LOOKUP = AccessMode.ACCESS_MODE_REGISTER, AccessMode.ACCESS_MODE_LOOKUP
VERIFY = AccessMode.ACCESS_MODE_VERIFY
DONE, DISCLOSED = Outcome.OUTCOME_DONE, Outcome.OUTCOME_DISCLOSED
NO_MATCH, REFUSED = Outcome.OUTCOME_NO_MATCH, Outcome.OUTCOME_REFUSED
SEX_REDETERMINED = number_pb2.SUCCESSION_GROUND_SEX_REDETERMINED
LOST, DEAD = card_pb2.CARD_CANCELLATION_LOST, DeathOrMissingKind.DEATH_OR_MISSING_KIND_DEAD
NUMBERS, CARDS = "/npd.identity.v1.NumberService", "/npd.identity.v1.CardService"
ITSELF = f"spiffe://mesh.{ENVIRONMENT}/identity"
CIVIL_STATUS = f"spiffe://mesh.{ENVIRONMENT}/civil_status"
REGISTRAR = f"spiffe://agency.{ENVIRONMENT}/hn/registry"
BIRTH_DATE = Date(year=1990, month=5, day=17)


class Party:
    """Somebody who calls the identity room, with an agreement if he has one."""

    def __init__(self, scene: "IdentityScene", kind: Kind, name: str, agreement_id: str = "") -> None:
        channel = scene.identity.channel(kind, name)
        self.numbers = number_pb2_grpc.NumberServiceStub(channel)
        self.cards = card_pb2_grpc.CardServiceStub(channel)
        self.identity = f"spiffe://{kind.value}.{ENVIRONMENT}/{name}"
        self.access = AccessContext(agreement_id=agreement_id, case_reference="case/2026-1", officer_id="o-1")


@dataclass
class Seen:
    """What the room wrote while a block ran: log entries, and the outbox's messages, decoded, in order."""

    entries: list[LogEntry] = field(default_factory=list)
    told: list[ContributionItem] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)

    @property
    def is_nothing(self) -> bool:
        return not (self.entries or self.told or self.uses)


class IdentityScene:
    """The identity room at work over a registry, without the room sharing: what it would tell stays in its outbox."""

    def __init__(self, stage: Stage, desk: Desk, *, knows_history: bool = True, **settings: Any) -> None:
        self.stage, self.desk, self.clock = stage, desk, StandingClock()
        ages = {"rights_max_age": timedelta(days=9999), "revocations_max_age": timedelta(days=9999)}
        self.identity = stage.start(ROOM, clock=self.clock, **{"sandbox": True, **ages, **settings})
        self.civil_status = Party(self, Kind.MESH, "civil_status")
        self.residence = Party(self, Kind.MESH, "residence")
        self.relayed = AccessContext(
            agreement_id=new_id(), case_reference="birth/2026-1", officer_id="r-1", origin=REGISTRAR
        )
        house, told = self.identity.house, self.identity.house.settings
        assert isinstance(told, Settings)
        self.database = house.database(lambda connection: Identity(connection, house.log_of(connection)))
        itself, policy = Caller(ITSELF, CallerKind.ROOM, "identity"), lambda: house.keeper.current
        cards = CardOperations(
            self.database, policy, self.clock,
            room=itself, require_room=lambda: None, cards_to_bytes=convert.cards_to_bytes,
        )  # fmt: skip
        self.operations = NumberOperations(
            self.database, policy, self.clock, cards, Terms(told.reservation_life, told.expired_kept, told.sandbox),
            random=Random(7), room=itself, require_room=lambda: None, pin_to_bytes=convert.pin_to_bytes,
        )  # fmt: skip
        self._react = Reactions(self.operations, cards)
        self._serial, self._position = 100_000, 0
        if knows_history:
            self.catch_up()

    def agency(self, name: str, grants: Mapping["AccessMode.ValueType", Sequence[str]]) -> Party:
        """A system with the officer o-1 and an agreement."""
        self.desk.register(name, officers=["o-1"])
        agreement_id = self.desk.agree(name, "STATE_MANAGEMENT", "D70/2024.9", grants)
        self.stage.settle()
        return Party(self, Kind.AGENCY, name, agreement_id)

    @property
    def today(self) -> date:
        """The legal day at which the scene's clock stands."""
        return legal_date(self.clock.now())

    def facts(self, year: int = 1990, sex: Any = SEX_FEMALE, unit: str = "79") -> number_pb2.BirthFacts:
        """What a number is built from; the place is of today's list."""
        return number_pb2.BirthFacts(
            sex=sex,
            birth_date=Date(year=year, month=5, day=17),
            registration_place=AdminPlace(unit_code=unit, unit_list_version=list_version(self.today)),
        )

    def reservation(self, **facts: Any) -> number_pb2.ReservePinRequest:
        """A ReservePinRequest."""
        return number_pb2.ReservePinRequest(request_id=new_id(), access=self.relayed, birth=self.facts(**facts))

    def reserve(self, **facts: Any) -> number_pb2.ReservePinResponse:
        """Reserve a number as civil_status does."""
        return self.civil_status.numbers.ReservePin(self.reservation(**facts))

    def confirmation(self, pin: str, subject_id: str) -> number_pb2.ConfirmPinRequest:
        """A ConfirmPinRequest, in a chain of its own."""
        act_id = new_id()
        return number_pb2.ConfirmPinRequest(
            request_id=new_id(),
            pin=pin,
            subject_id=subject_id,
            causation=chain_pb2.Causation(correlation_id=act_id, causation_id=act_id),
        )

    def citizen(self, *, cards: Sequence[IdentityCard] = (), **fields: Any) -> tuple[UUID, Person]:
        """Somebody whom the record has from history: a woman born in 1990, as the feed tells of her."""
        self._serial += 1
        person = Person(
            pin=f"901190{self._serial}",
            full_name=PersonName(family="Lê", given="An", full=f"Lê An {self._serial}"),
            birth_date=BIRTH_DATE,
            sex=SEX_FEMALE,
            id_cards=cards,
        )
        for name, value in fields.items():
            person.ClearField(name)  # type: ignore[arg-type]  # the stub wants a literal
            person.MergeFrom(Person(**{name: value}))
        subject_id = uuid4()
        self.tell(subject_id, person, *(one.name for one, _ in person.ListFields()), source="identity")
        return subject_id, person

    def tell(self, subject_id: UUID, person: Person, *paths: str, source: str = "civil_status") -> FollowedChange:
        """Let the room apply a change, as its follower would; returns it."""
        self._position += 1
        change_id = uuid4()
        change = FollowedChange(
            position=self._position,
            change_id=change_id,
            subject_id=subject_id,
            pin=person.pin,
            paths=paths,
            person=person.SerializeToString(),
            source=source,
            event_time=self.clock.now() - timedelta(hours=2),
            record_time=self.clock.now() - timedelta(hours=1),
            causation=Causation(uuid4(), change_id),
        )
        self.apply(change)
        return change

    def apply(self, change: FollowedChange) -> None:
        """Let the room apply a change."""
        with self.database.transaction() as tx:
            for new in tx.followed.new_of([change]):
                self._react(tx, new)

    def die(self, subject_id: UUID, person: Person) -> FollowedChange:
        """Let the room learn of a death."""
        dead = DeathOrMissing(kind=DEAD, date=Date(year=2026, month=11, day=1))
        return self.tell(subject_id, Person(pin=person.pin, death_or_missing=dead), "death_or_missing")

    def catch_up(self) -> None:
        """Let the room have followed the feed to its head."""
        with self.database.transaction() as tx:
            tx.followed.lock_cursor()
            tx.followed.catch_up()

    def links(self, correlation_id: UUID | str) -> list[Act]:
        """The links of a chain."""
        with self.identity.house.engine.connect() as connection:
            return Chain(connection).links(UUID(str(correlation_id)))

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of the room's store."""
        with self.identity.house.engine.begin() as connection:
            found = connection.execute(text(query), values)
            return [tuple(row) for row in found] if found.returns_rows else []

    def state(self, pin: str) -> tuple[Any, ...]:
        """State, ground and successor of a number; empty for one that is free."""
        found = self.rows("SELECT state, ground, successor FROM numbers WHERE pin = :pin", pin=pin)
        return found[0] if found else ()

    @contextmanager
    def recording(self) -> Iterator[Seen]:
        """What the room writes while the block runs."""
        logged, seen = len(self.identity.entries()), Seen()
        (last,) = self.rows("SELECT coalesce(max(outbox_id), 0) FROM outbox")
        yield seen
        seen.entries += self.identity.entries()[logged:]
        query = "SELECT kind, payload FROM outbox WHERE outbox_id > :last ORDER BY outbox_id"
        for kind, payload in self.rows(query, last=last[0]):
            assert kind in (CONTRIBUTION, USE)
            if kind == CONTRIBUTION:
                seen.told.append(ContributionItem.FromString(payload))
            else:
                seen.uses.append(Use.FromString(payload))

    def send_away(self, call: Callable[..., Any], request: Message) -> None:
        """A call must be told to come again once history is known; nothing is written."""
        with self.recording() as seen:
            refusal = refused(call, request)
        assert (refusal.reason, refusal.metadata) == ("PEER_UNAVAILABLE", {"peer": "sharing"})
        assert refusal.retry_after == timedelta(seconds=1)
        assert seen.is_nothing

    def refuse(self, call: Callable[..., Any], request: Message, reason: str) -> Refusal:
        """The refusal that a call must get: one entry says so, nothing is told, and it names nobody."""
        self.clock.go_on(timedelta(minutes=1))  # past the minute in which ten refusals of a kind are listed
        with self.recording() as seen:
            refusal = refused(call, request)
        assert refusal.reason == reason, refusal
        assert [(entry.outcome, entry.reason) for entry in seen.entries] == [(REFUSED, reason)]
        assert not seen.told
        assert not seen.uses
        pin = getattr(request, "pin", "") or getattr(request, "identity", StatedIdentity()).pin
        said = f"{refusal} {refusal.metadata} {refusal.violations} {refusal.messages} {seen.entries}"
        assert not pin or pin not in said
        assert set(refusal.messages) == {"vi", "en"}
        return refusal


def stated(person: Person, **other: Any) -> StatedIdentity:
    """A person's identity as a caller states it, some of it replaced."""
    told = {"pin": person.pin, "full_name": person.full_name.full, "birth_date": person.birth_date}
    return StatedIdentity(**{**told, **other})


def event_time(item: ContributionItem) -> datetime:
    """When what an item tells happened."""
    return item.event_time.ToDatetime(UTC)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> IdentityScene:
    return IdentityScene(stage, desk)


def _requests(scene: IdentityScene, party: Party) -> dict[str, tuple[Callable[..., Any], Message]]:
    somebody = StatedIdentity(pin="901190000001", full_name="Lê An", birth_date=BIRTH_DATE)
    told: dict[str, Any] = {"request_id": new_id(), "access": party.access}
    return {
        "ReservePin": (party.numbers.ReservePin, scene.reservation()),
        "ConfirmPin": (party.numbers.ConfirmPin, scene.confirmation("901190000001", new_id())),
        "ResolvePin": (party.numbers.ResolvePin, number_pb2.ResolvePinRequest(pin="901190000001")),
        "SucceedPin": (
            party.numbers.SucceedPin,
            number_pb2.SucceedPinRequest(**told, identity=somebody, ground=SEX_REDETERMINED, birth=scene.facts()),
        ),
        "RequestCard": (party.cards.RequestCard, card_pb2.RequestCardRequest(**told, identity=somebody)),
        "IssueCard": (
            party.cards.IssueCard,
            card_pb2.IssueCardRequest(
                **told, card_id=new_id(), document_number="AB123456", issue_date=BIRTH_DATE, issuing_office="Hà Nội"
            ),
        ),
        "CancelCard": (
            party.cards.CancelCard,
            card_pb2.CancelCardRequest(**told, document_number="AB123456", reason=LOST),
        ),
        "CheckCard": (
            party.cards.CheckCard,
            card_pb2.CheckCardRequest(access=party.access, identity=somebody, document_number="AB123456"),
        ),
        "GetCards": (party.cards.GetCards, card_pb2.GetCardsRequest(access=party.access, identity=somebody)),
    }


@pytest.mark.parametrize(
    ("kind", "name", "barred"),
    [
        (Kind.MESH, "residence", {"ReservePin", "ConfirmPin", "SucceedPin", "RequestCard", "IssueCard", "GetCards"}),
        (Kind.MESH, "civil_status", {"SucceedPin", "RequestCard", "IssueCard", "CancelCard", "CheckCard", "GetCards"}),
        (Kind.AGENCY, "office/core", {"ReservePin", "ConfirmPin"}),
        (
            Kind.OPERATOR,
            "lan",
            {
                "ReservePin",
                "ConfirmPin",
                "ResolvePin",
                "SucceedPin",
                "RequestCard",
                "IssueCard",
                "CancelCard",
                "CheckCard",
            },
        ),
    ],
)
def test_who_is_not_on_the_table_is_refused(scene: IdentityScene, kind: Kind, name: str, barred: set[str]) -> None:
    party = Party(scene, kind, name, new_id())
    if kind is Kind.AGENCY:
        party = scene.agency(name, {LOOKUP: ["pin"]})
    for method, (call, request) in _requests(scene, party).items():
        if method in barred:
            scene.refuse(call, request, "METHOD_NOT_ALLOWED")


def test_an_agency_needs_the_mode_and_the_field(scene: IdentityScene) -> None:
    party = scene.agency("tax/core", {LOOKUP: ["sex"], REGISTER: ["sex"], VERIFY: ["sex"]})
    requests = _requests(scene, party)
    resolve = number_pb2.ResolvePinRequest(pin="901190000001", access=party.access)
    requests["ResolvePin"] = (party.numbers.ResolvePin, resolve)
    needed = {"ResolvePin": "pin", "SucceedPin": "pin"}
    for method, (call, request) in requests.items():
        if method not in ("ReservePin", "ConfirmPin"):
            refusal = scene.refuse(call, request, "FIELD_NOT_GRANTED")
            assert refusal.metadata["field"] == needed.get(method, "id_cards")
    party = scene.agency("tax/kiosk", {AccessMode.ACCESS_MODE_CHANGES: ["pin", "id_cards"]})
    for method in ("SucceedPin", "RequestCard", "IssueCard", "CancelCard", "CheckCard", "GetCards"):
        call, request = _requests(scene, party)[method]
        scene.refuse(call, request, "MODE_NOT_GRANTED")


def test_what_is_missing_or_malformed_is_named(scene: IdentityScene) -> None:
    party = scene.agency("form/core", {LOOKUP: ["pin"], REGISTER: ["pin", "id_cards"], VERIFY: ["id_cards"]})
    for call, request in _requests(scene, party).values():
        blank = type(request)()
        if request.DESCRIPTOR.name not in ("ReservePinRequest", "ConfirmPinRequest"):
            scene.refuse(call, blank, "FIELD_REQUIRED")
    for method, name, value, at in (
        ("SucceedPin", "ground", 9, "ground"),
        ("IssueCard", "card_id", "no-uuid", "card_id"),
        ("IssueCard", "document_number", "AB-12345", "document_number"),
        ("IssueCard", "document_number", "AB123", "document_number"),
        ("IssueCard", "document_number", "ab123456", "document_number"),
        ("IssueCard", "issuing_office", "two\nlines", "issuing_office"),
        ("CancelCard", "document_number", "AB\x00123", "document_number"),
        ("CancelCard", "reason", 3, "reason"),
        ("CancelCard", "reason", 4, "reason"),
        ("CancelCard", "reason", 17, "reason"),
        ("CheckCard", "document_number", "A" * 65, "document_number"),
    ):
        call, request = _requests(scene, party)[method]
        setattr(request, name, value)
        refusal = scene.refuse(call, request, "FIELD_INVALID")
        assert [violation.field for violation in refusal.violations] == [at], method
    call, request = _requests(scene, party)["IssueCard"]
    request.MergeFrom(card_pb2.IssueCardRequest(expiry_date=Date(year=1990, month=5, day=16)))
    assert scene.refuse(call, request, "FIELD_INVALID").violations[0].field == "expiry_date"
    call, request = _requests(scene, party)["IssueCard"]
    request.MergeFrom(card_pb2.IssueCardRequest(issue_date=Date(year=1990, month=2, day=31)))
    assert scene.refuse(call, request, "FIELD_INVALID").violations[0].field == "issue_date"
