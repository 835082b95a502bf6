"""The directory's figures: what rooms hand on, who contributed, and how far followers are behind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from npd.common.v1.evidence_pb2 import OUTCOME_REFUSED
from npd.registry.v1 import directory_pb2, directory_pb2_grpc
from npd_pki.identity import Kind
from services.identity.app import ROOM as IDENTITY
from tests.mesh_fixture import Desk, Running, Stage, refused, wait_until

LONG_AGO = 2 * 365 * 24 * 3600
"""Seconds."""


def ago(seconds: float) -> Timestamp:
    """An instant of some seconds ago."""
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds))
    return moment


def connections(registry: Running) -> dict[str, directory_pb2.Connection]:
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    listed = stub.ListConnections(directory_pb2.ListConnectionsRequest()).connections
    return {connection.name: connection for connection in listed}


def report(registry: Running, room: str, request: directory_pb2.ReportContactsRequest) -> None:
    directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, room)).ReportContacts(request)


def backlog(count: int, oldest: Timestamp | None, aside: int) -> directory_pb2.ReportContactsRequest:
    told = directory_pb2.Backlog(backlog_count=count, oldest_time=oldest, set_aside_count=aside)
    return directory_pb2.ReportContactsRequest(backlog=told)


def lag(name: str, count: int, oldest: Timestamp | None, rejected: int) -> directory_pb2.ReportContactsRequest:
    told = directory_pb2.Lag(name=name, unapplied_count=count, oldest_time=oldest, rejected_count=rejected)
    return directory_pb2.ReportContactsRequest(lags=[told])


def activity(name: str, when: Timestamp) -> directory_pb2.ReportContactsRequest:
    told = directory_pb2.Activity(name=name, contribution_time=when)
    return directory_pb2.ReportContactsRequest(activities=[told])


def test_the_last_word_about_a_backlog_counts(registry: Running) -> None:
    since, recorded = ago(50), len(registry.entries())
    report(registry, "residence", backlog(7, since, 2))
    room = connections(registry)["residence"]
    assert (room.backlog_count, room.oldest_backlog_time, room.set_aside_count) == (7, since, 2)
    report(registry, "residence", directory_pb2.ReportContactsRequest())
    assert connections(registry)["residence"].backlog_count == 7, "a report that does not tell of it changes nothing"
    report(registry, "residence", backlog(0, None, 0))
    room = connections(registry)["residence"]
    assert (room.backlog_count, room.set_aside_count) == (0, 0)
    assert not room.HasField("oldest_backlog_time")
    assert len(registry.entries()) == recorded, "reports are measurements, not acts"


def test_the_policy_revision_of_a_room_is_that_of_its_last_report(registry: Running, desk: Desk) -> None:
    desk.register("plain/core")
    recorded = len(registry.entries())
    for revision in (7, 9, 4, 0):
        report(registry, "residence", directory_pb2.ReportContactsRequest(policy_revision=revision))
        assert connections(registry)["residence"].policy_revision == revision, "after a restore it falls"
    assert connections(registry)["plain/core"].policy_revision == 0
    assert len(registry.entries()) == recorded


def test_a_report_tells_of_the_reporting_room_alone(registry: Running) -> None:
    report(registry, "identity", directory_pb2.ReportContactsRequest(policy_revision=3))
    told = lag("identity", 1, ago(1), 0)
    told.policy_revision = 8
    report(registry, "sharing", told)
    listed = connections(registry)
    assert (listed["identity"].policy_revision, listed["sharing"].policy_revision) == (3, 8)


def test_rooms_report_the_revision_by_which_they_decide(stage: Stage, registry: Running, desk: Desk) -> None:
    identity = stage.start(IDENTITY)
    desk.register("newest/core")
    stage.settle()
    newest = registry.house.keeper.current.revision
    assert identity.house.keeper.current.revision == newest > 0
    for room in ("identity", "registry"):
        wait_until(lambda room=room: connections(registry)[room].policy_revision == newest)  # type: ignore[misc]


def test_the_issuer_reads_the_directory_and_no_other_room_does(registry: Running) -> None:
    report(registry, "residence", directory_pb2.ReportContactsRequest(policy_revision=2))
    recorded = len(registry.entries())
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, "issuer"))
    listed = stub.ListConnections(directory_pb2.ListConnectionsRequest()).connections
    assert {one.name: one.policy_revision for one in listed}["residence"] == 2
    assert len(registry.entries()) == recorded, "reading the directory is no act of authority"
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, "sharing"))
    refusal = refused(stub.ListConnections, directory_pb2.ListConnectionsRequest())
    assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "room")
    assert registry.entries()[-1].reason == "METHOD_NOT_ALLOWED"


def test_the_time_of_a_contribution_moves_forward_alone_and_never_beyond_now(registry: Running, desk: Desk) -> None:
    desk.register("giver/core")
    newest = ago(5)
    report(registry, "sharing", activity("giver/core", newest))
    report(registry, "sharing", activity("giver/core", ago(500)))
    assert connections(registry)["giver/core"].last_contribution_time == newest
    report(registry, "sharing", activity("giver/core", ago(-3600)))
    latest = connections(registry)["giver/core"].last_contribution_time
    assert newest.ToDatetime(UTC) < latest.ToDatetime(UTC) <= datetime.now(UTC)
    assert not connections(registry)["giver/core"].HasField("last_contact_time"), "a contribution is no contact"


def test_a_follower_is_told_of_at_its_own_row(registry: Running, desk: Desk) -> None:
    desk.register("follower/core")
    since = ago(30)
    report(registry, "sharing", lag("follower/core", 3, since, 1))
    system = connections(registry)["follower/core"]
    assert system.title == "System follower/core"
    assert (system.unapplied_count, system.oldest_unapplied_time, system.rejected_count) == (3, since, 1)
    report(registry, "sharing", lag("follower/core", 0, None, 0))
    system = connections(registry)["follower/core"]
    assert (system.unapplied_count, system.rejected_count) == (0, 0)
    assert not system.HasField("oldest_unapplied_time")


def test_a_room_that_was_never_heard_of_shows_its_figures_and_is_silent(registry: Running) -> None:
    report(registry, "sharing", lag("civil_status", 2, ago(LONG_AGO), 0))
    room = connections(registry)["civil_status"]
    assert room.state == directory_pb2.CONNECTION_STATE_SILENT
    assert room.unapplied_count == 2
    assert not room.HasField("last_contact_time")


def test_who_is_not_registered_is_not_listed(registry: Running) -> None:
    report(registry, "sharing", lag("nobody/core", 2, ago(1), 0))
    assert "nobody/core" not in connections(registry)


def test_figures_of_one_kind_leave_the_others_as_they_are(registry: Running) -> None:
    report(registry, "identity", backlog(4, ago(9), 1))
    report(registry, "sharing", activity("identity", ago(8)))
    report(registry, "sharing", lag("identity", 6, ago(7), 5))
    room = connections(registry)["identity"]
    assert (room.backlog_count, room.set_aside_count, room.unapplied_count, room.rejected_count) == (4, 1, 6, 5)
    assert room.HasField("last_contribution_time")


def test_only_the_keeper_of_the_record_tells_of_contributions_and_followers(registry: Running, desk: Desk) -> None:
    desk.register("victim/core")
    before = connections(registry)["victim/core"]
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, "residence"))
    for request in (activity("victim/core", ago(1)), lag("victim/core", 0, None, 0)):
        request.backlog.backlog_count = 77
        refusal = refused(stub.ReportContacts, request)
        assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "room")
        assert refusal.metadata["method"] == "/npd.registry.v1.DirectoryService/ReportContacts"
        entry = registry.entries()[-1]
        assert (entry.outcome, entry.reason) == (OUTCOME_REFUSED, "METHOD_NOT_ALLOWED")
    assert connections(registry)["victim/core"] == before
    assert connections(registry)["residence"].backlog_count != 77, "such a report is refused whole"


def test_reports_that_tell_of_each_other_never_wait_in_a_circle(registry: Running) -> None:
    names = ["civil_status", "identity", "residence"]

    def tell(order: list[str]) -> None:
        told = directory_pb2.ReportContactsRequest()
        for name in order:
            told.activities.add(name=name).contribution_time.GetCurrentTime()
            told.lags.add(name=name, unapplied_count=len(order))
        for _ in range(20):
            report(registry, "sharing", told)

    with ThreadPoolExecutor() as pool:
        list(pool.map(tell, [names, names[::-1], names[1:] + names[:1], names[:1]]))
    assert {connections(registry)[name].unapplied_count for name in names} <= {1, 3}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (backlog(-1, None, 0), "backlog.backlog_count"),
        (backlog(0, None, -1), "backlog.set_aside_count"),
        (backlog(0, Timestamp(seconds=1 << 60), 0), "backlog.oldest_time"),
        (lag("a/b/c", 0, None, 0), "lags[0].name"),
        (lag("residence", -5, None, 0), "lags[0].unapplied_count"),
        (lag("residence", 0, None, -5), "lags[0].rejected_count"),
        (directory_pb2.ReportContactsRequest(activities=[directory_pb2.Activity(name="x")]), ""),
        (activity("UPPER", ago(1)), "activities[0].name"),
        (directory_pb2.ReportContactsRequest(policy_revision=-1), "policy_revision"),
    ],
)
def test_a_malformed_report_is_refused_whole(
    registry: Running, request_: directory_pb2.ReportContactsRequest, field: str
) -> None:
    before = connections(registry).get("malformed")
    request_.contacts.add(name="malformed").contact_time.GetCurrentTime()
    stub = directory_pb2_grpc.DirectoryServiceStub(registry.channel(Kind.MESH, "residence"))
    refusal = refused(stub.ReportContacts, request_)
    assert refusal.reason in ("FIELD_INVALID", "FIELD_REQUIRED")
    if field:
        assert [violation.field for violation in refusal.violations] == [field]
    assert registry.entries()[-1].reason == refusal.reason
    assert connections(registry).get("malformed") == before
