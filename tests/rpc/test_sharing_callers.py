"""Who may call what of the sharing room; and the scene on which its other tests play: callers, citizens, the log."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from sqlalchemy import text

from npd.common.v1 import chain_pb2, chain_pb2_grpc, evidence_pb2, evidence_pb2_grpc, person_pb2
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1 import (
    change_pb2,
    change_pb2_grpc,
    contribution_pb2,
    contribution_pb2_grpc,
    lookup_pb2,
    lookup_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)
from npd.sharing.v1.contribution_pb2 import ContributionItem, ContributionResult
from npd_client.errors import Refusal, refusal_of
from npd_pki.identity import Kind
from services.local.citizens import item_of, population
from services.mesh.core.clock import LEGAL_ZONE
from services.sharing.app import ROOM
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, today

LOOKUP, CHANGES = AccessMode.ACCESS_MODE_LOOKUP, AccessMode.ACCESS_MODE_CHANGES
CONTRIBUTE, USAGE = AccessMode.ACCESS_MODE_CONTRIBUTE, AccessMode.ACCESS_MODE_USAGE
VERIFY = AccessMode.ACCESS_MODE_VERIFY
DISCLOSED, NO_MATCH, REFUSED = Outcome.OUTCOME_DISCLOSED, Outcome.OUTCOME_NO_MATCH, Outcome.OUTCOME_REFUSED
APPLIED, DUPLICATE = ContributionResult.STATUS_APPLIED, ContributionResult.STATUS_DUPLICATE
HELD, REJECTED = ContributionResult.STATUS_HELD, ContributionResult.STATUS_REJECTED

METHODS = {
    method.input_type.full_name: f"/{service.full_name}/{method.name}"
    for file in (lookup_pb2, verification_pb2, change_pb2, contribution_pb2, usage_pb2, evidence_pb2, chain_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class StandingClock:
    """Stands at nine o'clock of the next legal day, so that no test meets midnight; goes on when it is told to."""

    def __init__(self) -> None:
        self._now = datetime.combine(today() + timedelta(days=1), time(9), LEGAL_ZONE).astimezone(UTC)

    def now(self) -> datetime:
        """The instant at which it stands."""
        return self._now

    def go_on(self, span: timedelta) -> None:
        """Move it forward."""
        self._now += span


class Party:
    """Somebody who calls the sharing room, with an agreement if he has one."""

    def __init__(self, sharing: Running, kind: Kind, name: str, agreement_id: str = "", purpose: str = "") -> None:
        channel = sharing.channel(kind, name)
        self.lookup = lookup_pb2_grpc.LookupServiceStub(channel)
        self.changes = change_pb2_grpc.ChangeServiceStub(channel)
        self.contribution = contribution_pb2_grpc.ContributionServiceStub(channel)
        self.usage = usage_pb2_grpc.UsageServiceStub(channel)
        self.verification = verification_pb2_grpc.VerificationServiceStub(channel)
        self.chain = chain_pb2_grpc.ChainServiceStub(channel)
        self.evidence = evidence_pb2_grpc.EvidenceServiceStub(channel)
        self.name, self.purpose = name, purpose
        self.identity = f"spiffe://{kind.value}.{ENVIRONMENT}/{name}"
        self.agency_id = name.partition("/")[0] if kind is Kind.AGENCY else ""
        self.access = AccessContext(agreement_id=agreement_id, case_reference="case/2026-1", officer_id="o-1")

    def get_citizen(self, person: Person, *paths: str) -> lookup_pb2.GetCitizenResponse:
        """Look somebody up by his true identity."""
        return self.lookup.GetCitizen(self.asks(person, *paths))

    def asks(self, person: Person, *paths: str, name: str = "", provenance: bool = False) -> Any:
        """A GetCitizenRequest for a person under his PIN, name and birth date."""
        return lookup_pb2.GetCitizenRequest(
            access=self.access,
            identity=stated(person, name),
            read_mask=FieldMask(paths=paths or ["sex"]),
            include_provenance=provenance,
        )

    def tells(self, *items: ContributionItem, request_id: str = "") -> contribution_pb2.ContributeRequest:
        """A ContributeRequest."""
        access = self.access if self.agency_id else None
        return contribution_pb2.ContributeRequest(request_id=request_id or new_id(), access=access, items=items)

    def contribute(self, *items: ContributionItem) -> Sequence[ContributionResult]:
        """What becomes of each item."""
        return self.contribution.Contribute(self.tells(*items)).results

    def entry(self, request: type[Message], outcome: Any, mode: "AccessMode.ValueType", *paths: str) -> LogEntry:
        """The entry that a call under the agreement must leave, as `bare` shows it; a change names by PIN."""
        if mode == AccessMode.ACCESS_MODE_CHANGES and outcome == DISCLOSED:
            paths = tuple(sorted({"pin", *paths}))
        return LogEntry(
            caller=self.identity,
            method=METHODS[request.DESCRIPTOR.full_name],
            outcome=outcome,
            count=1,
            agency_id=self.agency_id,
            mode=mode,
            access=self.access,
            purpose=self.purpose,
            provision="D70/2024.9",
            paths=paths,
        )


class Scene:
    """The sharing room at work over a registry, with whoever calls it and the citizens it knows."""

    def __init__(self, stage: Stage, desk: Desk, **settings: Any) -> None:
        self.stage, self.desk, self.clock = stage, desk, StandingClock()
        ages = {"rights_max_age": timedelta(days=365), "revocations_max_age": timedelta(days=365)}
        told = {"sandbox": True, "stream_slots": 16, **ages, **settings}
        self.sharing = stage.start(ROOM, clock=self.clock, **told)
        self.identity, self.civil_status = self.room("identity"), self.room("civil_status")
        self._systems: set[str] = set()
        people = population(5000)
        self._people = (one for one in people if one.person.birth_date.day and one.person.birth_date.year < 2000)

    def room(self, name: str) -> Party:
        """A room that calls."""
        return Party(self.sharing, Kind.MESH, name)

    def system(
        self,
        name: str,
        grants: Mapping["AccessMode.ValueType", Sequence[str]],
        *,
        purpose: str = "STATE_MANAGEMENT",
        start: date | None = None,
        end: date | None = None,
    ) -> Party:
        """A system with the officer o-1 and an agreement that is in force in the sharing room."""
        self.register(name)
        agreement_id = self.desk.agree(name, purpose, "D70/2024.9", grants, start=start, end=end)
        self.stage.settle()
        return Party(self.sharing, Kind.AGENCY, name, agreement_id, purpose)

    def register(self, name: str) -> None:
        """Register a system, once."""
        if name not in self._systems:
            self.desk.register(name, officers=["o-1"])
            self._systems.add(name)

    def citizen(self, **fields: Any) -> Person:
        """The next synthetic citizen, some of his fields replaced (None: not known), in the record by `identity`."""
        item = self.birth(**fields)
        assert [result.status for result in self.identity.contribute(item)] == [APPLIED]
        return item.person

    def birth(self, **fields: Any) -> ContributionItem:
        """The item by which `identity` would tell of the next synthetic citizen."""
        item = item_of(next(self._people))
        for name, value in fields.items():
            item.person.ClearField(name)  # type: ignore[arg-type]  # the stub wants a literal
            item.person.MergeFrom(Person(**{name: value}))
        item.update_mask.paths[:] = [field.name for field, _ in item.person.ListFields()]
        return item

    def news(self, person: Person | str, told: Person, *paths: str, **more: Any) -> ContributionItem:
        """An item about a person named by PIN: these fields of `told`, happened an hour ago."""
        pin = person if isinstance(person, str) else person.pin
        item = ContributionItem(event_id=new_id(), pin=pin, person=told, update_mask=FieldMask(paths=paths))
        item.event_time.FromDatetime(self.clock.now() - timedelta(hours=1))
        item.register_time.FromDatetime(self.clock.now())
        item.MergeFrom(ContributionItem(**more))
        return item

    @contextmanager
    def recording(self) -> Iterator[list[LogEntry]]:
        """Fills the list with what the room records while the block runs."""
        before, entries = len(self.sharing.entries()), list[LogEntry]()
        yield entries
        entries += self.sharing.entries()[before:]

    def refuse(
        self, party: Party, call: Callable[..., Any], request: Message, reason: str, *, ground: bool = True
    ) -> Refusal:
        """The refusal that a call must get: one entry says so, and neither says anything of the person asked for.

        The entry tells the ground as the caller stated it; not one without an agreement or (`ground`) a malformed one.
        """
        self.clock.go_on(timedelta(minutes=1))  # past the minute in which ten refusals of a kind are listed
        secrets = [secret.encode() for secret in _secrets(request) if secret.strip()]
        with self.recording() as entries, pytest.raises(grpc.RpcError) as raised:
            whole(call, request)
        refusal = refusal_of(raised.value)
        assert refusal.reason == reason, refusal
        for said in (_status(raised.value), *(entry.SerializeToString() for entry in entries)):
            assert [secret for secret in secrets if secret in said] == []
        expected = LogEntry(caller=party.identity, outcome=REFUSED, reason=reason, count=1, agency_id=party.agency_id)
        expected.method = METHODS[request.DESCRIPTOR.full_name]
        if ground and (access := getattr(request, "access", AccessContext())).agreement_id:
            expected.access.CopyFrom(access)
        assert [bare(entry) for entry in entries] == [expected]
        assert set(refusal.messages) == {"vi", "en"}
        return refusal

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of the room's store."""
        with self.sharing.house.engine.begin() as connection:
            found = connection.execute(text(query), values)
            return [tuple(row) for row in found] if found.returns_rows else []


def stated(person: Person, name: str = "") -> person_pb2.StatedIdentity:
    """A person's identity as a caller states it."""
    return person_pb2.StatedIdentity(
        pin=person.pin, full_name=name or person.full_name.full, birth_date=person.birth_date
    )


def whole(call: Callable[..., Any], request: Message) -> list[Any]:
    """All that a call answers; of a stream, all until its end. Raises grpc.RpcError."""
    answer = call(request, timeout=10)
    return list(cast(Iterable[Any], answer)) if isinstance(answer, grpc.Call) else [answer]


def refusal_or(call: Callable[..., Any], request: Message) -> Any:
    """The answer of a call, or its refusal; for those who call at once."""
    try:
        return call(request, timeout=30)
    except grpc.RpcError as error:
        return refusal_of(error)


def bare(entry: LogEntry) -> LogEntry:
    """An entry without what no test can foretell: its time, its salt and the subject's pseudonym."""
    assert len(entry.salt) == 16
    assert entry.HasField("entry_time")
    shown = LogEntry()
    shown.CopyFrom(entry)
    shown.ClearField("salt")
    shown.ClearField("entry_time")
    shown.ClearField("subject")
    return shown


def require_no_value(entry: LogEntry, person: Person) -> None:
    """No text of the person stands in the entry, and a pseudonym alone says whom it is about."""
    raw = entry.SerializeToString()
    assert [told for told in _texts(person) if len(told) > 3 and told.encode() in raw] == []
    assert (entry.subject.key_id, len(entry.subject.pseudonym)) == ("k1", 32)


def _texts(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message):
                yield from _texts(one)
            elif isinstance(one, str):
                yield one


def _secrets(request: Message) -> list[str]:
    identity = getattr(request, "identity", person_pb2.StatedIdentity())
    access = getattr(request, "access", AccessContext())
    return [identity.pin, identity.full_name, *([access.case_reference] if len(access.case_reference) > 11 else [])]


def _status(error: Any) -> bytes:
    sent = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    return b"".join([*sent, error.details().encode()])


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


def _requests(party: Party) -> dict[str, tuple[Callable[..., Any], Message]]:
    """A request of every method that concerns people, by the kind of caller that may call it."""
    identity = person_pb2.StatedIdentity(pin="901090000001", full_name="Lê An", birth_date=Date(year=1990))
    return {
        "GetCitizen": (party.lookup.GetCitizen, party.asks(Person(pin=identity.pin), name="Lê An")),
        "FindUsage": (party.usage.FindUsage, usage_pb2.FindUsageRequest(access=party.access, identity=identity)),
        "PullChanges": (party.changes.PullChanges, change_pb2.PullChangesRequest(access=party.access)),
        "WatchChanges": (party.changes.WatchChanges, change_pb2.WatchChangesRequest(access=party.access)),
        "Acknowledge": (party.changes.Acknowledge, change_pb2.AcknowledgeRequest(access=party.access)),
        "VerifyCitizen": (
            party.verification.VerifyCitizen,
            verification_pb2.VerifyCitizenRequest(access=party.access, identity=identity),
        ),
        "RecordUses": (party.usage.RecordUses, usage_pb2.RecordUsesRequest(uses=[usage_pb2.Use(use_id="u")])),
        "Contribute": (party.contribution.Contribute, party.tells(ContributionItem(event_id="e-1"))),
    }


@pytest.mark.parametrize("method", ["GetCitizen", "VerifyCitizen", "FindUsage"])
@pytest.mark.parametrize("kind", [Kind.MESH, Kind.OPERATOR])
def test_only_agencies_read_the_record(scene: Scene, kind: Kind, method: str) -> None:
    name = "identity" if kind is Kind.MESH else "lan"
    party = Party(scene.sharing, kind, name)
    refusal = scene.refuse(party, *_requests(party)[method], "METHOD_NOT_ALLOWED")
    assert refusal.metadata["method"].endswith(f"/{method}")
    assert refusal.metadata["caller_kind"] == ("room" if kind is Kind.MESH else "operator")


@pytest.mark.parametrize("method", ["PullChanges", "WatchChanges", "Acknowledge", "RecordUses"])
@pytest.mark.parametrize(("kind", "name"), [(Kind.OPERATOR, "lan"), (Kind.MESH, "registry"), (Kind.MESH, "sharing")])
def test_neither_operators_nor_rooms_without_a_source_follow(scene: Scene, kind: Kind, name: str, method: str) -> None:
    party = Party(scene.sharing, kind, name)
    scene.refuse(party, *_requests(party)[method], "METHOD_NOT_ALLOWED")
    assert scene.rows("SELECT 1 FROM followers") == []


def test_no_agency_tells_what_others_read(scene: Scene) -> None:
    system = scene.system("tax/teller", {LOOKUP: ["sex"]})
    scene.refuse(system, *_requests(system)["RecordUses"], "METHOD_NOT_ALLOWED")
    assert scene.rows("SELECT 1 FROM uses_recorded") == []


@pytest.mark.parametrize(("kind", "name"), [(Kind.OPERATOR, "lan"), (Kind.MESH, "registry"), (Kind.MESH, "sharing")])
def test_neither_operators_nor_rooms_without_a_source_contribute(scene: Scene, kind: Kind, name: str) -> None:
    party = Party(scene.sharing, kind, name)
    scene.refuse(party, *_requests(party)["Contribute"], "METHOD_NOT_ALLOWED")
    assert scene.rows("SELECT 1 FROM contributions") == []


def test_system_that_nobody_registered_is_refused(scene: Scene) -> None:
    stranger = Party(scene.sharing, Kind.AGENCY, "nobody/core", new_id())
    refusal = scene.refuse(stranger, *_requests(stranger)["GetCitizen"], "SYSTEM_UNKNOWN")
    assert refusal.metadata == {"system": "nobody/core"}
