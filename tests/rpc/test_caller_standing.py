"""Whoever loses his standing is cut off where he is: on his connection, on his open stream, on a new connection."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias, cast

import grpc
import pytest

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.common.v1.evidence_pb2 import Outcome
from npd.registry.v1 import agency_pb2, revocation_pb2, revocation_pb2_grpc, rights_pb2, rights_pb2_grpc
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_pki.credentials import load_credentials
from npd_pki.identity import Kind, agency_uri, operator_uri
from npd_pki.profile import CLIENT_TLS
from npd_pki.validity import Validity
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, refused

CHANGES = AccessMode.ACCESS_MODE_CHANGES
CHECKPOINT = "/npd.common.v1.EvidenceService/GetCheckpoint"
WATCH = "/npd.sharing.v1.ChangeService/WatchChanges"
_PATIENCE = 5.0


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk) -> Running:
    """A room to call."""
    return stage.start(SHARING)


class System:
    """A system with an agreement to follow changes, and with connections to a room as it opens them."""

    def __init__(self, room: Running, directory: Path, name: str, agreement_id: str) -> None:
        self.name, self.identity = name, agency_uri(ENVIRONMENT, *name.split("/"))
        self.directory = directory
        self._room = room
        self._access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")
        self._connections = ExitStack()

    def connect(self) -> grpc.Channel:
        """A new connection, which is open when this returns."""
        channel = self._connections.enter_context(RotatingChannel(self._room.address, self.directory))
        call(channel)
        return channel

    def connect_past_checks(self) -> grpc.Channel:
        """A new connection that is opened at its first call, with credentials that nobody looks at here."""
        names = ("ca.crt", "tls.key", "tls.crt")
        credentials = grpc.ssl_channel_credentials(*((self.directory / name).read_bytes() for name in names))
        options = [("grpc.use_local_subchannel_pool", 1)]
        return self._connections.enter_context(grpc.secure_channel(self._room.address, credentials, options))

    def watch(self, channel: grpc.Channel) -> "Watch":
        """An open stream of changes."""
        request = change_pb2.WatchChangesRequest(access=self._access)
        stream = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(request, timeout=60)
        watch = Watch(stream)
        self._connections.callback(watch.close)
        return watch

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()


class Watch:
    """A stream that is read by a thread of its own; it is open when this has been made."""

    def __init__(self, stream: grpc.Call) -> None:
        self._stream = stream
        self._answers = cast(Iterator[change_pb2.WatchChangesResponse], stream)
        self._end: queue.Queue[grpc.RpcError | None] = queue.Queue()
        next(self._answers)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def refusal(self) -> Refusal:
        """The refusal with which it ends."""
        error = self._end.get(timeout=_PATIENCE)
        assert error is not None, "the stream ended without a refusal"
        return refusal_of(error)

    def close(self) -> None:
        self._stream.cancel()
        self._reader.join(_PATIENCE)

    def _read(self) -> None:
        try:
            for _ in self._answers:
                pass
            self._end.put(None)
        except grpc.RpcError as error:
            self._end.put(error)


def call(channel: grpc.Channel) -> None:
    """A call that every caller may make whose standing is good."""
    evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10)


def refused_call(channel: grpc.Channel) -> Refusal:
    """The same call, which must be refused."""
    return refused(evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint, evidence_pb2.GetCheckpointRequest())


Make: TypeAlias = Callable[..., System]


@pytest.fixture
def system(stage: Stage, registry: Running, desk: Desk, sharing: Running, tmp_path: Path) -> Iterator[Make]:
    """Makes a system of this name, registered unless told otherwise; with `expire_time`, its certificate ends then."""
    made: list[System] = []

    def make(name: str, *, registered: bool = True, expire_time: datetime | None = None) -> System:
        agreement_id, directory = "", sharing.authority.tls(Kind.AGENCY, name)
        if registered:
            desk.register(name, officers=["o-1"])
            agreement_id = desk.agree(name, "STATE_MANAGEMENT", "D70/2024.9", {CHANGES: ["full_name"]})
            stage.settle()
        if expire_time is not None:
            validity = Validity(datetime.now(UTC) - timedelta(minutes=1), expire_time)
            directory = sharing.authority.issue(tmp_path, Kind.AGENCY, name, CLIENT_TLS, validity=validity)
        made.append(System(sharing, directory, name, agreement_id))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refusals_of(room: Running, identity: str) -> list[tuple[str, str]]:
    """Method and reason of each refusal that the room has recorded of an identity."""
    entries = [entry for entry in room.entries() if entry.caller == identity]
    return [(entry.method, entry.reason) for entry in entries if entry.outcome == Outcome.OUTCOME_REFUSED]


def test_revocation_cuts_everywhere(registry: Running, sharing: Running, system: Make) -> None:
    lost = system("lost/core")
    issued = load_credentials(lost.directory).issued
    channel = lost.connect()
    watch = lost.watch(channel)
    revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan")).RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(),
            issuer_key_id=issued.issuer_key_id,
            serial_number=f"{issued.serial:x}",
            reason=revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE,
        )
    )
    for refusal in (watch.refusal(), refused_call(channel), refused_call(lost.connect_past_checks())):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")
    assert refusals_of(sharing, lost.identity) == [(WATCH, "CERTIFICATE_REVOKED")], "only there was the caller known"
    rights = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "lost/core"))
    assert refused(rights.WhoAmI, rights_pb2.WhoAmIRequest()).reason == "CERTIFICATE_REVOKED"


def test_suspension_cuts_everywhere_until_it_is_resumed(
    stage: Stage, registry: Running, desk: Desk, sharing: Running, system: Make
) -> None:
    idle = system("idle/core")
    channel = idle.connect()
    watch = idle.watch(channel)
    desk.systems.SuspendSystem(
        agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id="idle", system_id="core", cause="Risk.")
    )
    for refusal in (watch.refusal(), refused_call(channel), refused_call(idle.connect_past_checks())):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SYSTEM_SUSPENDED")
        assert (refusal.metadata["system"], refusal.metadata["cause"]) == ("idle/core", "Risk.")
    expected = [(WATCH, "SYSTEM_SUSPENDED"), (CHECKPOINT, "SYSTEM_SUSPENDED"), (CHECKPOINT, "SYSTEM_SUSPENDED")]
    assert refusals_of(sharing, idle.identity) == expected
    stage.settle()
    rights = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "idle/core"))
    assert rights.WhoAmI(rights_pb2.WhoAmIRequest()).cause == "Risk.", "a suspended system may ask why"
    desk.systems.ResumeSystem(agency_pb2.ResumeSystemRequest(request_id=new_id(), agency_id="idle", system_id="core"))
    stage.settle()
    call(channel)
    idle.watch(channel)


def test_expiry_cuts_a_live_connection_and_an_open_stream(sharing: Running, system: Make) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    late = system("late/core", expire_time=end)
    channel, raw = late.connect(), late.connect_past_checks()
    call(raw)
    watch = late.watch(channel)
    refusal = watch.refusal()
    now = datetime.now(UTC)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
    assert datetime.fromisoformat(refusal.metadata["expire_time"]) == end <= now
    refusal = refused_call(raw)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
    assert isinstance(refused_call(late.connect_past_checks()), Unreachable), "TLS itself refuses a new connection"
    assert refusals_of(sharing, late.identity) == [(WATCH, "CERTIFICATE_EXPIRED")]


def test_an_unregistered_system_may_only_ask_who_it_is(registry: Running, sharing: Running, system: Make) -> None:
    ghost = system("ghost/core", registered=False)
    refusal = refused_call(ghost.connect_past_checks())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SYSTEM_UNKNOWN")
    assert refusal.metadata["system"] == "ghost/core"
    assert refusals_of(sharing, ghost.identity) == [(CHECKPOINT, "SYSTEM_UNKNOWN")]
    rights = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "ghost/core"))
    assert rights.WhoAmI(rights_pb2.WhoAmIRequest()).identity == ghost.identity


def test_an_operator_who_is_not_on_the_list_is_refused(registry: Running, sharing: Running) -> None:
    for room in (registry, sharing):
        refusal = refused_call(room.channel(Kind.OPERATOR, "stranger"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OPERATOR_UNKNOWN")
        assert refusal.metadata["operator"] == "stranger"
        assert refusals_of(room, operator_uri(ENVIRONMENT, "stranger")) == [(CHECKPOINT, "OPERATOR_UNKNOWN")]
        call(room.channel(Kind.OPERATOR, "lan"))


@pytest.mark.parametrize(
    ("kind", "name", "caller_kind"),
    [(Kind.OPERATOR, "minh", "operator"), (Kind.MESH, "issuer", "room")],
)
def test_a_method_is_not_for_every_kind_of_caller(sharing: Running, kind: Kind, name: str, caller_kind: str) -> None:
    stub = change_pb2_grpc.ChangeServiceStub(sharing.channel(kind, name))
    access = AccessContext(agreement_id="a", case_reference="HS-1", officer_id="o-1")
    refusal = refused(stub.WatchChanges, change_pb2.WatchChangesRequest(access=access))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED")
    assert refusal.metadata == {"method": WATCH, "caller_kind": caller_kind}
    identity = f"spiffe://{kind}.{ENVIRONMENT}/{name}"
    assert refusals_of(sharing, identity) == [(WATCH, "METHOD_NOT_ALLOWED")]
