"""Rooms in this process, over real mTLS and a real PostgreSQL, and whoever calls them. Nothing here is a fake.

registry = stage.start(REGISTRY, operators=["lan"])     # conftest gives `stage`; the registry comes first
desk = Desk(registry, "lan")                            # registers as an operator would
desk.register("tax/core", officers=["o-1"])
agreement_id = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", {AccessMode.ACCESS_MODE_LOOKUP: ["sex"]})
sharing = stage.start(SHARING)
stage.settle()                                          # every room holds the registry's newest policy
LookupServiceStub(sharing.channel(Kind.AGENCY, "tax/core")).GetCitizen(...)
sharing.entries()                                       # what was recorded
"""

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Self, cast
from uuid import uuid4

import grpc
import pytest
from cryptography import x509
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.evidence_pb2 import LogEntry
from npd.registry.v1 import agency_pb2, agency_pb2_grpc, agreement_pb2, agreement_pb2_grpc
from npd_client.agreement import sign_terms
from npd_client.channel import RotatingChannel
from npd_client.errors import Refusal, refusal_of
from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.keys import generate_ed25519_key, generate_p256_key, save_private_key, save_public_key
from npd_pki.profile import CLIENT_TLS, ROOM_TLS, SIGNING, Profile
from npd_pki.validity import Validity
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.background import Stopping
from services.mesh.core.clock import Clock, SystemClock, legal_date
from services.mesh.core.following import Followed
from services.mesh.migrate import migrate
from services.mesh.wire.room import House, Room
from services.mesh.wire.serving import Serving
from services.registry import law, operators

ENVIRONMENT = "test.npd.example"
NOWHERE = "localhost:1"
_numbers = itertools.count(1)


def new_id() -> str:
    """A request id."""
    return str(uuid4())


def today() -> date:
    """The legal day."""
    return legal_date(SystemClock().now())


def wire_date(day: date) -> Date:
    """A whole date on the wire."""
    return Date(year=day.year, month=day.month, day=day.day)


def wait_until(claim: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until the claim holds; fails the test if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > end:
            pytest.fail(f"did not come true within {seconds} s: {claim}")
        time.sleep(0.01)


def refused(call: Callable[..., Any], request: object) -> Refusal:
    """The refusal that a call must get; a stream is read to its end."""
    try:
        answer = call(request, timeout=10)
        if isinstance(answer, grpc.Call):
            list(cast(Iterable[object], answer))
    except grpc.RpcError as error:
        return refusal_of(error)
    pytest.fail("the call was not refused")


class Authority:
    """The CAs of the test environment; makes the credentials of any identity, once each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: set[Path] = set()
        self.hierarchy = Hierarchy.create(ENVIRONMENT)

    def tls(self, kind: Kind, name: str) -> Path:
        """The directory with TLS credentials of "sharing", "tax/core" or "lan"."""
        return self._credentials(kind, name, ROOM_TLS if kind is Kind.MESH else CLIENT_TLS)

    def signing(self, kind: Kind, name: str) -> Path:
        """The directory with the leaf by which an agency's system or an operator signs agreements."""
        return self._credentials(kind, name, SIGNING)

    def leaf(self, kind: Kind, name: str) -> x509.Certificate:
        """The TLS leaf of an identity."""
        return x509.load_pem_x509_certificate((self.tls(kind, name) / "tls.crt").read_bytes())

    def issue(
        self, directory: Path, kind: Kind, name: str, profile: Profile, *, validity: Validity | None = None
    ) -> Path:
        """Write fresh credentials into a directory."""
        key = generate_p256_key()
        hosts = ("localhost",) if profile.names_hosts else ()
        issued = self.hierarchy.of(kind).issue(
            profile, _uri(kind, name), key.public_key(), dns_names=hosts, validity=validity
        )
        write_credentials(directory, Credentials(issued, key, (self.hierarchy.root.certificate,)))
        return directory

    def _credentials(self, kind: Kind, name: str, profile: Profile) -> Path:
        directory = self._directory / kind.value / name.replace("/", "~") / profile.name
        if directory not in self._made:
            self.issue(directory, kind, name, profile)
            self._made.add(directory)
        return directory


@dataclass
class Running:
    """A room at work."""

    house: House
    serving: Serving
    authority: Authority
    _channels: dict[tuple[Kind, str], RotatingChannel] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"localhost:{self.serving.port}"

    def channel(self, kind: Kind, name: str) -> RotatingChannel:
        """A channel as an identity, the same one each time."""
        if (kind, name) not in self._channels:
            self._channels[kind, name] = RotatingChannel(self.address, self.authority.tls(kind, name))
        return self._channels[kind, name]

    def entries(self) -> list[LogEntry]:
        """What it has recorded, in the order of its log; entries that have no position yet come last."""
        placed, pending = "SELECT entry FROM log ORDER BY position", "SELECT entry FROM log_pending ORDER BY pending_id"
        with self.house.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            stored = [row.entry for query in (placed, pending) for row in connection.execute(text(query))]
        return [LogEntry.FromString(entry) for entry in stored]

    def close(self) -> None:
        """Close the channels, then end the room as SIGTERM would."""
        for channel in self._channels.values():
            channel.close()
        self.serving.close()


def wait_until_caught_up(room: Running) -> None:
    """Wait until a room has followed the feed to its head."""
    followed = room.house.database(Followed)

    def has_caught_up() -> bool:
        with followed.transaction() as mine:
            return mine.has_caught_up()

    wait_until(has_caught_up)


class Stage:
    """The rooms of one test module. The first one that is started must be the registry."""

    def __init__(self, postgres: EmbeddedPostgres, authority: Authority, directory: Path) -> None:
        self.authority = authority
        self._postgres = postgres
        self._directory = directory
        self._rooms: dict[str, Running] = {}
        self._stack = ExitStack()
        self.policy_key = generate_ed25519_key()
        save_private_key(directory / "policy.key", self.policy_key)
        save_public_key(directory / "policy.pub", self.policy_key.public_key())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(
        self, room: Room, *, operators: Sequence[str] = (), clock: Clock | None = None, **settings: Any
    ) -> Running:
        """Migrate a fresh database, load the law into a registry's, serve, and wait for the policy."""
        url = self._database(room, operators)
        house = House(room, room.settings(**{**self._told(room, url), **settings}), clock)
        running = Running(house, Serving(house), self.authority)
        self._stack.callback(running.close)
        running.serving.open(Stopping())
        self._rooms[room.name] = running
        self.settle()
        return running

    def settle(self) -> None:
        """Wait until every room holds the policy that the registry's store holds now."""
        with self._rooms["registry"].house.engine.connect() as connection:
            newest = connection.execute(text("SELECT revision FROM policy_revision")).scalar_one()
        wait_until(lambda: all(room.house.keeper.current.revision >= newest for room in self._rooms.values()))

    def _database(self, room: Room, names: Sequence[str]) -> str:
        database = f"{room.name}_{next(_numbers)}"
        self._postgres.ensure_database(database)
        url = self._postgres.url(database)
        migrate(url, room.schema_packages)
        if room.name == "registry":
            with create_engine(url, poolclass=NullPool).begin() as connection:
                law.load(connection)
            operators.record(url, names)
        return url

    def address_of(self, room: str) -> str:
        """Where a room answers; of one that has not started, where nobody does. The registry itself needs none."""
        if room in self._rooms:
            return self._rooms[room].address
        return NOWHERE if self._rooms else ""

    def _told(self, room: Room, url: str) -> dict[str, object]:
        """Settings by name, as far as the room has them."""
        place = self._directory / f"{room.name}-{next(_numbers)}"
        place.mkdir()
        (place / "database.url").write_text(url)
        (place / "pseudonym.key").write_text(secrets.token_hex(32))
        save_private_key(place / "checkpoint.key", generate_ed25519_key())
        told = {
            "environment": ENVIRONMENT,
            "listen": "localhost:0",
            "health_listen": "127.0.0.1:0",
            "tls_directory": self.authority.tls(Kind.MESH, room.name),
            "database_url_file": place / "database.url",
            "checkpoint_key_file": place / "checkpoint.key",
            "pseudonym_key_file": place / "pseudonym.key",
            "policy_public_key_file": self._directory / "policy.pub",
            "policy_directory": place / "policy",
            "policy_key_file": self._directory / "policy.key",
            **{f"{peer}_address": self.address_of(peer) for peer in ("registry", "sharing", "identity")},
            "stop_grace": timedelta(seconds=1),
        }
        return {name: value for name, value in told.items() if name in room.settings.model_fields}


class Desk:
    """An operator at work in the registry. Names that were registered before stay as they are."""

    def __init__(self, registry: Running, operator: str) -> None:
        self._registry = registry
        self._operator = operator
        channel = registry.channel(Kind.OPERATOR, operator)
        self.agencies = agency_pb2_grpc.AgencyServiceStub(channel)
        self.systems = agency_pb2_grpc.SystemServiceStub(channel)
        self.agreements = agreement_pb2_grpc.AgreementServiceStub(channel)

    def register(self, name: str, *, officers: Iterable[str] = ()) -> None:
        """Register "tax/core" with its agency and roster."""
        agency_id, _, system_id = name.partition("/")
        if agency_id not in {agency.agency_id for agency in self.agencies.ListAgencies(_ALL_AGENCIES).agencies}:
            agency = agency_pb2.Agency(agency_id=agency_id, name=f"Agency {agency_id}")
            self.agencies.RegisterAgency(agency_pb2.RegisterAgencyRequest(request_id=new_id(), agency=agency))
        system = agency_pb2.System(agency_id=agency_id, system_id=system_id, name=f"System {name}")
        self.systems.RegisterSystem(agency_pb2.RegisterSystemRequest(request_id=new_id(), system=system))
        if officer_ids := list(officers):
            self.agencies.AddOfficers(
                agency_pb2.AddOfficersRequest(request_id=new_id(), agency_id=agency_id, officer_ids=officer_ids)
            )

    def terms(
        self,
        name: str,
        purpose: str,
        provision: str,
        grants: Mapping["AccessMode.ValueType", Sequence[str]],
        *,
        start: date | None = None,
        end: date | None = None,
    ) -> agreement_pb2.AgreementTerms:
        """Terms for "tax/core", by default from today for 30 days."""
        agency_id, _, system_id = name.partition("/")
        return agreement_pb2.AgreementTerms(
            agency_id=agency_id,
            system_id=system_id,
            purpose=purpose,
            provision=provision,
            grants=[agreement_pb2.Grant(mode=mode, fields=FieldMask(paths=paths)) for mode, paths in grants.items()],
            start_date=wire_date(start or today()),
            end_date=wire_date(end or today() + timedelta(days=30)),
        )

    def draw_up(self, terms: agreement_pb2.AgreementTerms) -> agreement_pb2.Agreement:
        """A draft."""
        request = agreement_pb2.DrawUpAgreementRequest(request_id=new_id(), terms=terms)
        return self.agreements.DrawUpAgreement(request).agreement

    def sign(self, kind: Kind, name: str, agreement: agreement_pb2.Agreement) -> agreement_pb2.Agreement:
        """Sign as a party, over the party's own channel."""
        terms = agreement_pb2.AgreementTerms.FromString(agreement.terms)
        signature = sign_terms(agreement.terms, self._registry.authority.signing(kind, name))
        request = agreement_pb2.SignAgreementRequest(
            request_id=new_id(), agreement_id=terms.agreement_id, signature=signature
        )
        stub = agreement_pb2_grpc.AgreementServiceStub(self._registry.channel(kind, name))
        return stub.SignAgreement(request).agreement

    def agree(
        self,
        name: str,
        purpose: str,
        provision: str,
        grants: Mapping["AccessMode.ValueType", Sequence[str]],
        *,
        start: date | None = None,
        end: date | None = None,
    ) -> str:
        """Draw up an agreement and let both sides sign; returns its id. The registry must know the system already."""
        draft = self.draw_up(self.terms(name, purpose, provision, grants, start=start, end=end))
        agency_id, _, system_id = name.partition("/")
        wait_until(lambda: (agency_id, system_id) in self._registry.house.keeper.current.systems)
        self.sign(Kind.AGENCY, name, draft)
        signed = self.sign(Kind.OPERATOR, self._operator, draft)
        return agreement_pb2.AgreementTerms.FromString(signed.terms).agreement_id


_ALL_AGENCIES = agency_pb2.ListAgenciesRequest(page_size=1000)


def _uri(kind: Kind, name: str) -> str:
    match kind:
        case Kind.MESH:
            return mesh_uri(ENVIRONMENT, name)
        case Kind.AGENCY:
            agency_id, _, system_id = name.partition("/")
            return agency_uri(ENVIRONMENT, agency_id, system_id)
        case Kind.OPERATOR:
            return operator_uri(ENVIRONMENT, name)
