"""The policy stream: a snapshot, then every change as it is committed, signed; revocations cut; the directory."""

import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from sqlalchemy import text

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.evidence_pb2 import Outcome
from npd.registry.v1 import (
    agency_pb2,
    directory_pb2,
    directory_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    revocation_pb2,
    revocation_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
)
from npd_client.errors import refusal_of
from npd_pki.identity import Kind
from npd_pki.keys import key_id
from services.mesh.wire.policy import CONTEXT
from services.registry.repository import PolicyRows
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until

LOOKUP = AccessMode.ACCESS_MODE_LOOKUP


class Watcher:
    """A room that watches the policy."""

    def __init__(self, stage: Stage, registry: Running, revision: int) -> None:
        self._key = stage.policy_key.public_key()
        self._updates: queue.Queue[policy_pb2.PolicyUpdate] = queue.Queue()
        stub = policy_pb2_grpc.PolicyServiceStub(registry.channel(Kind.MESH, "sharing"))
        self._stream = stub.WatchPolicy(policy_pb2.WatchPolicyRequest(revision=revision), timeout=60)
        self.end: grpc.RpcError | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for response in self._stream:
                self._key.verify(response.signature, CONTEXT + response.update)
                self._updates.put(policy_pb2.PolicyUpdate.FromString(response.update))
        except grpc.RpcError as error:
            self.end = error

    def next(self) -> policy_pb2.PolicyUpdate:
        return self._updates.get(timeout=10)

    def next_change(self) -> policy_pb2.PolicyUpdate:
        while not (update := self.next()).entries:
            pass
        return update

    def wait_end(self) -> grpc.RpcError | None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.end

    def close(self) -> None:
        self._stream.cancel()
        self._thread.join(10)


@pytest.fixture
def watching(stage: Stage, registry: Running) -> Iterator[Callable[[int], Watcher]]:
    """Opens watchers."""
    opened: list[Watcher] = []

    def watch(revision: int) -> Watcher:
        opened.append(Watcher(stage, registry, revision))
        return opened[-1]

    yield watch
    for watcher in opened:
        watcher.close()


def _suspend(desk: Desk, name: str) -> None:
    agency_id, _, system_id = name.partition("/")
    desk.systems.SuspendSystem(
        agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id=agency_id, system_id=system_id, cause="Risk.")
    )


def _revocation(registry: Running, kind: Kind, name: str) -> revocation_pb2.RevokeCertificateRequest:
    return revocation_pb2.RevokeCertificateRequest(
        request_id=new_id(),
        issuer_key_id=key_id(registry.authority.hierarchy.of(kind).key.public_key()),
        serial_number=f"{registry.authority.leaf(kind, name).serial_number:x}",
        reason=revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE,
    )


def _revoke(registry: Running) -> Callable[..., revocation_pb2.RevokeCertificateResponse]:
    stub = revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    return stub.RevokeCertificate


def test_watch_begins_with_a_whole_snapshot(registry: Running, desk: Desk, watching: Callable[[int], Watcher]) -> None:
    desk.register("snap/core", officers=["o-1", "o-2"])
    desk.agencies.RemoveOfficers(
        agency_pb2.RemoveOfficersRequest(request_id=new_id(), agency_id="snap", officer_ids=["o-2"])
    )
    update = watching(0).next()
    keys = [entry.key for entry in update.entries]
    assert (update.base_revision, update.environment) == (0, "test.npd.example")
    assert {"agency/snap", "system/snap/core", "officer/snap/o-1", "operator/lan", "field/pin"} <= set(keys)
    assert "officer/snap/o-2" not in keys
    assert len(keys) == len(set(keys))
    assert not any(entry.removed for entry in update.entries)


def test_watch_from_a_revision_begins_with_what_changed_since(
    stage: Stage, registry: Running, desk: Desk, watching: Callable[[int], Watcher]
) -> None:
    desk.register("since/core", officers=["o-1"])
    stage.settle()
    held = registry.house.keeper.current.revision
    desk.agencies.RemoveOfficers(
        agency_pb2.RemoveOfficersRequest(request_id=new_id(), agency_id="since", officer_ids=["o-1"])
    )
    update = watching(held).next()
    assert (update.base_revision, update.revision) == (held, held + 1)
    assert [(entry.key, entry.removed) for entry in update.entries] == [("officer/since/o-1", True)]


def test_suspension_reaches_an_open_watch_as_a_delta(
    registry: Running, desk: Desk, watching: Callable[[int], Watcher]
) -> None:
    desk.register("cut/core")
    watcher = watching(0)
    held = watcher.next().revision
    _suspend(desk, "cut/core")
    update = watcher.next_change()
    assert (update.base_revision, update.revision) == (held, held + 1)
    (entry,) = update.entries
    assert (entry.key, entry.system.state) == ("system/cut/core", agency_pb2.SYSTEM_STATE_SUSPENDED)
    assert entry.system.cause == "Risk."


def test_idle_watch_gets_signs_of_life(watching: Callable[[int], Watcher]) -> None:
    watcher = watching(0)
    first, second = watcher.next(), watcher.next()
    assert (second.base_revision, second.revision, len(second.entries)) == (first.revision, first.revision, 0)
    assert second.issue_time.ToDatetime(UTC) > first.issue_time.ToDatetime(UTC)


def test_change_without_notification_comes_with_the_next_sign_of_life(
    stage: Stage, registry: Running, watching: Callable[[int], Watcher]
) -> None:
    watcher = watching(0)
    held = watcher.next().revision
    with registry.house.engine.begin() as connection:
        connection.execute(text("UPDATE policy_revision SET revision = revision + 1"))
        raised = connection.execute(text("SELECT revision FROM policy_revision")).scalar_one()
        row = {"revision": raised, "removed": False}
        connection.execute(text("INSERT INTO operators VALUES ('silent', :revision, :removed)"), row)
    update = watcher.next_change()
    assert (update.base_revision, [entry.key for entry in update.entries]) == (held, ["operator/silent"])
    stage.settle()


def test_listener_that_lost_its_connection_listens_again(
    registry: Running, desk: Desk, watching: Callable[[int], Watcher]
) -> None:
    listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN policy'"

    def listeners() -> list[int]:
        with registry.house.engine.connect() as connection:
            return list(connection.execute(text(listening)).scalars())

    wait_until(listeners)
    (lost,) = listeners()
    with registry.house.engine.connect() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend({lost})"))
    wait_until(lambda: listeners() not in ([], [lost]))
    watcher = watching(0)
    watcher.next()
    desk.register("relisten/core")
    assert watcher.next_change().entries


def test_a_restored_store_goes_on_above_what_rooms_hold(
    stage: Stage, registry: Running, desk: Desk, watching: Callable[[int], Watcher]
) -> None:
    """Revisions that were lost are not given again: a room would pass over what is changed under them."""
    sharing = stage.start(SHARING)
    rooms = (registry, sharing)
    desk.register("lost/core")
    stage.settle()
    held = sharing.house.keeper.current.revision
    with registry.house.engine.begin() as connection:
        connection.execute(text("DELETE FROM agencies WHERE revision > :kept"), {"kept": held - 2})
        connection.execute(text("DELETE FROM systems WHERE revision > :kept"), {"kept": held - 2})
        connection.execute(text("UPDATE policy_revision SET revision = revision - 2"))
    desk.register("after/core")
    wait_until(lambda: all(("after", "core") in room.house.keeper.current.systems for room in rooms))
    for room in rooms:
        policy = room.house.keeper.current
        assert policy.revision > held
        assert ("lost", "core") not in policy.systems
    behind = watching(held - 2).next()
    assert (behind.base_revision, behind.revision) == (0, sharing.house.keeper.current.revision)
    stage.settle()
    desk.register("later/core")
    wait_until(lambda: ("later", "core") in sharing.house.keeper.current.systems)


def test_a_backup_of_before_an_earlier_restore_goes_on_above_what_rooms_hold_too(
    stage: Stage, registry: Running, desk: Desk
) -> None:
    backup = registry.house.keeper.current.revision
    with registry.house.engine.begin() as connection:
        PolicyRows(connection).go_on_restored()
    desk.register("between/core")
    stage.settle()
    held = registry.house.keeper.current.revision
    assert held > backup + 1_000_000
    with registry.house.engine.begin() as connection:
        connection.execute(text("UPDATE policy_revision SET revision = :backup, whole_below = 0"), {"backup": backup})
    desk.register("again/core")
    wait_until(lambda: ("again", "core") in registry.house.keeper.current.systems)
    assert registry.house.keeper.current.revision > held


def test_a_revision_far_beyond_any_loss_moves_nothing(
    stage: Stage, registry: Running, watching: Callable[[int], Watcher]
) -> None:
    stage.settle()
    held = registry.house.keeper.current.revision
    update = watching(2**62).next()
    assert (update.base_revision, update.revision) == (0, held)


def test_policy_is_for_rooms_alone(registry: Running, desk: Desk) -> None:
    stub = policy_pb2_grpc.PolicyServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    refusal = refused(stub.WatchPolicy, policy_pb2.WatchPolicyRequest())
    assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "operator")
    assert registry.entries()[-1].method == "/npd.registry.v1.PolicyService/WatchPolicy"


def test_negative_revision_is_refused(registry: Running) -> None:
    stub = policy_pb2_grpc.PolicyServiceStub(registry.channel(Kind.MESH, "sharing"))
    assert refused(stub.WatchPolicy, policy_pb2.WatchPolicyRequest(revision=-1)).reason == "FIELD_INVALID"
    assert registry.entries()[-1].caller == "spiffe://mesh.test.npd.example/sharing"


def test_revoked_certificate_is_refused_from_then_on(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("stolen/core")
    stage.settle()
    stub = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "stolen/core"))
    assert stub.WhoAmI(rights_pb2.WhoAmIRequest()).system_id == "core"
    request = _revocation(registry, Kind.AGENCY, "stolen/core")
    first = _revoke(registry)(request)
    entry = registry.entries()[-1]
    assert (entry.method, entry.outcome) == (
        "/npd.registry.v1.RevocationService/RevokeCertificate",
        Outcome.OUTCOME_DONE,
    )
    assert entry.object == f"certificate {request.serial_number} of issuer {request.issuer_key_id}"
    stage.settle()
    recorded = len(registry.entries())
    assert refused(stub.WhoAmI, rights_pb2.WhoAmIRequest()).reason == "CERTIFICATE_REVOKED"
    assert len(registry.entries()) == recorded, "callers without a valid identity are not recorded"

    request.request_id, request.reason = new_id(), revocation_pb2.REVOCATION_REASON_SUPERSEDED
    assert _revoke(registry)(request).revoke_time == first.revoke_time


def test_revoked_room_loses_its_open_watch(registry: Running, desk: Desk, stage: Stage) -> None:
    stub = policy_pb2_grpc.PolicyServiceStub(registry.channel(Kind.MESH, "civil_status"))
    stream = stub.WatchPolicy(policy_pb2.WatchPolicyRequest(), timeout=30)
    next(stream)
    _revoke(registry)(_revocation(registry, Kind.MESH, "civil_status"))
    with pytest.raises(grpc.RpcError) as raised:
        list(stream)
    assert refusal_of(raised.value).reason == "CERTIFICATE_REVOKED"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("issuer_key_id", "AB" * 32, "FIELD_INVALID"),
        ("issuer_key_id", "ab", "FIELD_INVALID"),
        ("serial_number", "0a", "FIELD_INVALID"),
        ("serial_number", "xyz", "FIELD_INVALID"),
        ("reason", 0, "FIELD_REQUIRED"),
        ("reason", 77, "FIELD_INVALID"),
        ("request_id", "1", "FIELD_INVALID"),
    ],
)
def test_malformed_revocation_is_refused(registry: Running, field: str, value: object, reason: str) -> None:
    request = _revocation(registry, Kind.OPERATOR, "lan")
    setattr(request, field, value)
    refusal = refused(_revoke(registry), request)
    assert (refusal.reason, [violation.field for violation in refusal.violations]) == (reason, [field])
    assert registry.entries()[-1].reason == reason


def test_agency_revokes_nothing(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("meek/core")
    stage.settle()
    stub = revocation_pb2_grpc.RevocationServiceStub(registry.channel(Kind.AGENCY, "meek/core"))
    refusal = refused(stub.RevokeCertificate, _revocation(registry, Kind.OPERATOR, "lan"))
    assert refusal.reason == "METHOD_NOT_ALLOWED"
    assert registry.entries()[-1].reason == "METHOD_NOT_ALLOWED"


def _connections(registry: Running) -> dict[str, directory_pb2.Connection]:
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    answer = stub.ListConnections(directory_pb2.ListConnectionsRequest())
    return {connection.name: connection for connection in answer.connections}


def _report(registry: Running, *contacts: tuple[str, timedelta, timedelta | None]) -> None:
    now = datetime.now(UTC)
    request = directory_pb2.ReportContactsRequest()
    for name, age, success_age in contacts:
        contact = request.contacts.add(name=name)
        contact.contact_time.FromDatetime(now - age)
        if success_age is not None:
            contact.success_time.FromDatetime(now - success_age)
    directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, "identity")).ReportContacts(request)


def test_directory_tells_how_well_each_is_connected(registry: Running, desk: Desk) -> None:
    for name in ("dir/good", "dir/poor", "dir/gone", "dir/never"):
        desk.register(name)
    recorded = len(registry.entries())
    second, minutes = timedelta(seconds=1), timedelta(minutes=1)
    _report(
        registry,
        ("dir/good", second, second),
        ("dir/poor", second, 2 * minutes),
        ("dir/gone", 6 * minutes, 6 * minutes),
    )
    known = _connections(registry)
    states = {name: directory_pb2.ConnectionState.Name(known[name].state) for name in known}
    assert states["dir/good"] == "CONNECTION_STATE_CONNECTED"
    assert states["dir/poor"] == "CONNECTION_STATE_DEGRADED"
    assert states["dir/gone"] == states["dir/never"] == "CONNECTION_STATE_SILENT"
    assert states["identity"] == "CONNECTION_STATE_CONNECTED", "a room is in contact by reporting"
    assert known["dir/good"].title == "System dir/good"
    assert known["dir/good"].system_state == agency_pb2.SYSTEM_STATE_ACTIVE
    assert not known["dir/never"].HasField("last_contact_time")
    names = list(known)
    assert names.index("dir/good") < names.index("dir/poor") < names.index("identity")
    assert len(registry.entries()) == recorded, "contacts are measurements, not acts"


def test_contact_times_move_forward_and_never_beyond_now(registry: Running, desk: Desk) -> None:
    desk.register("clock/core")
    _report(registry, ("clock/core", timedelta(seconds=1), timedelta(seconds=1)))
    newest = _connections(registry)["clock/core"]
    _report(registry, ("clock/core", timedelta(hours=1), None))
    assert _connections(registry)["clock/core"] == newest
    _report(registry, ("clock/core", timedelta(hours=-1), None))
    latest = _connections(registry)["clock/core"].last_contact_time.ToDatetime(UTC)
    assert latest <= datetime.now(UTC)


def test_registry_reports_its_own_contacts(registry: Running, desk: Desk, stage: Stage) -> None:
    desk.register("caller/core")
    stage.settle()
    stub = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "caller/core"))
    stub.WhoAmI(rights_pb2.WhoAmIRequest())
    connected = directory_pb2.CONNECTION_STATE_CONNECTED
    wait_until(lambda: _connections(registry)["caller/core"].state == connected)
    known = _connections(registry)
    assert known["registry"].state == connected
    assert "lan" not in known, "operators are people"


@pytest.mark.parametrize("name", ["a/b/c", "", "UPPER", "a/"])
def test_malformed_contact_is_refused(registry: Running, name: str) -> None:
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, "residence"))
    request = directory_pb2.ReportContactsRequest()
    request.contacts.add(name=name).contact_time.GetCurrentTime()
    assert refused(stub.ReportContacts, request).reason == "FIELD_INVALID"
    assert registry.entries()[-1].reason == "FIELD_INVALID"


def test_directory_is_for_operators_and_reports_for_rooms(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("curious/core")
    stage.settle()
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.AGENCY, "curious/core"))
    assert refused(stub.ListConnections, directory_pb2.ListConnectionsRequest()).reason == "METHOD_NOT_ALLOWED"
    assert refused(stub.ReportContacts, directory_pb2.ReportContactsRequest()).reason == "METHOD_NOT_ALLOWED"
    assert registry.entries()[-1].method == "/npd.registry.v1.DirectoryService/ReportContacts"
