"""Systems: registered, suspended, resumed, listed, and what the log says of it."""

import pytest

from npd.common.v1.evidence_pb2 import Outcome
from npd.registry.v1 import agency_pb2, agency_pb2_grpc, rights_pb2, rights_pb2_grpc
from npd_pki.identity import Kind
from services.mesh.core.rights import State
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused, wait_until

SERVICE = "/npd.registry.v1.SystemService"


def _register(agency_id: str, system_id: str, name: str = "A system") -> agency_pb2.RegisterSystemRequest:
    system = agency_pb2.System(agency_id=agency_id, system_id=system_id, name=name)
    return agency_pb2.RegisterSystemRequest(request_id=new_id(), system=system)


def _suspend(name: str, cause: str = "Breach of security rules.") -> agency_pb2.SuspendSystemRequest:
    agency_id, _, system_id = name.partition("/")
    return agency_pb2.SuspendSystemRequest(request_id=new_id(), agency_id=agency_id, system_id=system_id, cause=cause)


def _resume(name: str) -> agency_pb2.ResumeSystemRequest:
    agency_id, _, system_id = name.partition("/")
    return agency_pb2.ResumeSystemRequest(request_id=new_id(), agency_id=agency_id, system_id=system_id)


def test_registered_system_is_active_and_recorded(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("tax/core")
    request = _register("tax", "kiosk", "Kiosks")
    request.system.state = agency_pb2.SYSTEM_STATE_SUSPENDED  # output only: what the caller says counts for nothing
    system = desk.systems.RegisterSystem(request).system
    assert (system.agency_id, system.system_id, system.name) == ("tax", "kiosk", "Kiosks")
    assert system.state == agency_pb2.SYSTEM_STATE_ACTIVE
    assert system.HasField("state_time")
    entry = registry.entries()[-1]
    assert (entry.method, entry.outcome) == (f"{SERVICE}/RegisterSystem", Outcome.OUTCOME_DONE)
    assert entry.object == "system tax/kiosk"
    stage.settle()
    assert registry.house.keeper.current.systems["tax", "kiosk"].state is State.ACTIVE


@pytest.mark.parametrize(
    ("agency_id", "system_id", "reason"),
    [("nobody", "core", "AGENCY_UNKNOWN"), ("moh", "core", "ALREADY_REGISTERED"), ("moh", "Core", "FIELD_INVALID")],
)
def test_system_is_not_registered(registry: Running, desk: Desk, agency_id: str, system_id: str, reason: str) -> None:
    if reason == "ALREADY_REGISTERED":
        desk.register("moh/core")
    assert refused(desk.systems.RegisterSystem, _register(agency_id, system_id)).reason == reason
    assert registry.entries()[-1].reason == reason


def test_suspended_system_may_only_ask_why_until_it_is_resumed(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("bank/core")
    stage.settle()
    channel = registry.channel(Kind.AGENCY, "bank/core")
    own_roster = agency_pb2.AddOfficersRequest(request_id=new_id(), agency_id="bank", officer_ids=["o-1"])
    add_officers = Desk(registry, "minh").agencies.AddOfficers

    suspended = desk.systems.SuspendSystem(_suspend("bank/core", "Security risk.")).system
    assert (suspended.state, suspended.cause) == (agency_pb2.SYSTEM_STATE_SUSPENDED, "Security risk.")
    entry = registry.entries()[-1]
    assert (entry.method, entry.object) == (f"{SERVICE}/SuspendSystem", "system bank/core")
    stage.settle()

    refusal = refused(agency_pb2_grpc.AgencyServiceStub(channel).AddOfficers, own_roster)
    assert refusal.reason == "SYSTEM_SUSPENDED"
    assert (refusal.metadata["system"], refusal.metadata["cause"]) == ("bank/core", "Security risk.")
    assert registry.entries()[-1].reason == "SYSTEM_SUSPENDED"
    who = rights_pb2_grpc.RightsServiceStub(channel).WhoAmI(rights_pb2.WhoAmIRequest())
    assert (who.state, who.cause) == (agency_pb2.SYSTEM_STATE_SUSPENDED, "Security risk.")
    assert add_officers(own_roster).added_count == 1, "another caller's request id means nothing"

    resumed = desk.systems.ResumeSystem(_resume("bank/core")).system
    assert (resumed.state, resumed.cause) == (agency_pb2.SYSTEM_STATE_ACTIVE, "")
    entry = registry.entries()[-1]
    assert (entry.method, entry.object) == (f"{SERVICE}/ResumeSystem", "system bank/core")
    wait_until(lambda: registry.house.keeper.current.systems["bank", "core"].state is State.ACTIVE)
    assert agency_pb2_grpc.AgencyServiceStub(channel).AddOfficers(own_roster).added_count == 0


def test_state_that_a_system_has_is_refused(registry: Running, desk: Desk) -> None:
    desk.register("post/core")
    refusal = refused(desk.systems.ResumeSystem, _resume("post/core"))
    assert (refusal.reason, refusal.metadata) == (
        "STATE_NOT_ALLOWED",
        {"object": "system post/core", "state": "ACTIVE"},
    )
    assert registry.entries()[-1].reason == "STATE_NOT_ALLOWED"
    desk.systems.SuspendSystem(_suspend("post/core"))
    refusal = refused(desk.systems.SuspendSystem, _suspend("post/core"))
    assert (refusal.reason, refusal.metadata["state"]) == ("STATE_NOT_ALLOWED", "SUSPENDED")
    assert registry.entries()[-1].method == f"{SERVICE}/SuspendSystem"


def test_unknown_system_is_neither_suspended_nor_resumed(registry: Running, desk: Desk) -> None:
    for call, request in (
        (desk.systems.SuspendSystem, _suspend("tax/none")),
        (desk.systems.ResumeSystem, _resume("tax/none")),
    ):
        refusal = refused(call, request)
        assert (refusal.reason, refusal.metadata) == ("SYSTEM_UNKNOWN", {"system": "tax/none"})
        assert registry.entries()[-1].reason == "SYSTEM_UNKNOWN"


def test_cause_has_its_limits(registry: Running, desk: Desk) -> None:
    assert refused(desk.systems.SuspendSystem, _suspend("tax/core", "x" * 501)).reason == "FIELD_INVALID"
    assert refused(desk.systems.SuspendSystem, _suspend("tax/core", "")).reason == "FIELD_REQUIRED"
    assert registry.entries()[-1].reason == "FIELD_REQUIRED"


def test_systems_are_listed_by_agency_and_page(registry: Running, desk: Desk) -> None:
    for name in ("zz-a/two", "zz-a/one", "zz-b/one"):
        desk.register(name)
    answer = desk.systems.ListSystems(agency_pb2.ListSystemsRequest(agency_id="zz-a", page_size=1))
    assert [system.system_id for system in answer.systems] == ["one"]
    token = answer.next_page_token
    answer = desk.systems.ListSystems(agency_pb2.ListSystemsRequest(agency_id="zz-a", page_size=1, page_token=token))
    assert [system.system_id for system in answer.systems] == ["two"]
    everything = desk.systems.ListSystems(agency_pb2.ListSystemsRequest(page_size=1000)).systems
    names = [(system.agency_id, system.system_id) for system in everything]
    assert names == sorted(names)
    assert {("zz-a", "one"), ("zz-b", "one")} <= set(names)
    assert refused(desk.systems.ListSystems, agency_pb2.ListSystemsRequest(page_token="eA==")).reason == (
        "PAGE_TOKEN_INVALID"
    )
    assert registry.entries()[-1].method == f"{SERVICE}/ListSystems"
