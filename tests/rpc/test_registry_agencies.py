"""Agencies and rosters: every answer, and what the log says of it."""

import pytest

from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.registry.v1 import agency_pb2, agency_pb2_grpc
from npd_pki.identity import Kind
from services.mesh.core.rights import Agency
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused

SERVICE = "/npd.registry.v1.AgencyService"
LAN = "spiffe://operator.test.npd.example/lan"


def _last(registry: Running) -> LogEntry:
    return registry.entries()[-1]


def _register(agency_id: str, name: str = "An agency") -> agency_pb2.RegisterAgencyRequest:
    return agency_pb2.RegisterAgencyRequest(
        request_id=new_id(), agency=agency_pb2.Agency(agency_id=agency_id, name=name)
    )


def _add(agency_id: str, *officer_ids: str) -> agency_pb2.AddOfficersRequest:
    return agency_pb2.AddOfficersRequest(request_id=new_id(), agency_id=agency_id, officer_ids=officer_ids)


def _remove(agency_id: str, *officer_ids: str) -> agency_pb2.RemoveOfficersRequest:
    return agency_pb2.RemoveOfficersRequest(request_id=new_id(), agency_id=agency_id, officer_ids=officer_ids)


def _contact(agency_id: str, contact: str = "pki@agency.example") -> agency_pb2.SetAgencyContactRequest:
    return agency_pb2.SetAgencyContactRequest(request_id=new_id(), agency_id=agency_id, contact=contact)


def _as_agency(stage: Stage, registry: Running, desk: Desk, name: str) -> agency_pb2_grpc.AgencyServiceStub:
    desk.register(name)
    stage.settle()
    return agency_pb2_grpc.AgencyServiceStub(registry.channel(Kind.AGENCY, name))


def test_registered_agency_is_answered_recorded_and_told_to_the_rooms(
    stage: Stage, registry: Running, desk: Desk
) -> None:
    answer = desk.agencies.RegisterAgency(_register("moj", "Bộ Tư pháp"))
    assert answer.agency == agency_pb2.Agency(agency_id="moj", name="Bộ Tư pháp")
    entry = _last(registry)
    assert (entry.caller, entry.method, entry.outcome) == (LAN, f"{SERVICE}/RegisterAgency", Outcome.OUTCOME_DONE)
    assert entry.object == "agency moj"
    stage.settle()
    assert registry.house.keeper.current.agencies["moj"] == Agency("Bộ Tư pháp")


def test_agency_is_registered_once(registry: Running, desk: Desk) -> None:
    desk.agencies.RegisterAgency(_register("once"))
    refusal = refused(desk.agencies.RegisterAgency, _register("once"))
    assert (refusal.reason, refusal.metadata) == ("ALREADY_REGISTERED", {"object": "agency once"})
    entry = _last(registry)
    assert (entry.outcome, entry.reason, entry.caller) == (Outcome.OUTCOME_REFUSED, "ALREADY_REGISTERED", LAN)


@pytest.mark.parametrize(
    ("agency_id", "name", "field"),
    [("Tax", "n", "agency.agency_id"), ("a/b", "n", "agency.agency_id"), ("ok", "line\nbreak", "agency.name")],
)
def test_malformed_agency_is_refused_by_field(
    registry: Running, desk: Desk, agency_id: str, name: str, field: str
) -> None:
    refusal = refused(desk.agencies.RegisterAgency, _register(agency_id, name))
    assert refusal.reason == "FIELD_INVALID"
    assert [violation.field for violation in refusal.violations] == [field]
    assert _last(registry).reason == "FIELD_INVALID"


def test_repeated_request_gets_its_first_answer_and_changes_nothing(registry: Running, desk: Desk) -> None:
    request = _register("again")
    first = desk.agencies.RegisterAgency(request)
    recorded = len(registry.entries())
    assert desk.agencies.RegisterAgency(request) == first
    assert len(registry.entries()) == recorded


def test_request_id_with_another_payload_is_refused(registry: Running, desk: Desk) -> None:
    request = _register("payload")
    desk.agencies.RegisterAgency(request)
    request.agency.name = "Another name"
    assert refused(desk.agencies.RegisterAgency, request).reason == "REQUEST_ID_REUSED"
    assert _last(registry).reason == "REQUEST_ID_REUSED"


def test_agencies_are_listed_page_by_page(registry: Running, desk: Desk) -> None:
    for agency_id in ("page-a", "page-b", "page-c"):
        desk.agencies.RegisterAgency(_register(agency_id))
    recorded, listed, token = len(registry.entries()), list[str](), ""
    while True:
        answer = desk.agencies.ListAgencies(agency_pb2.ListAgenciesRequest(page_size=2, page_token=token))
        assert len(answer.agencies) <= 2
        listed += [agency.agency_id for agency in answer.agencies]
        token = answer.next_page_token
        if not token:
            break
    assert listed == sorted(set(listed))
    assert {"page-a", "page-b", "page-c"} <= set(listed)
    assert len(registry.entries()) == recorded, "reading the registry is no act of authority"


@pytest.mark.parametrize("token", ["%%%", "!", "AA==", "YQpi", "\u00e9"])
def test_foreign_page_token_is_refused(registry: Running, desk: Desk, token: str) -> None:
    refusal = refused(desk.agencies.ListAgencies, agency_pb2.ListAgenciesRequest(page_token=token))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
    assert _last(registry).reason == "PAGE_TOKEN_INVALID"


def test_page_size_has_its_limits(registry: Running, desk: Desk) -> None:
    assert refused(desk.agencies.ListAgencies, agency_pb2.ListAgenciesRequest(page_size=1001)).reason == "FIELD_INVALID"
    assert _last(registry).reason == "FIELD_INVALID"


def test_operator_keeps_any_roster(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.agencies.RegisterAgency(_register("roster"))
    assert desk.agencies.AddOfficers(_add("roster", "o-1", "o-2", "o-1")).added_count == 2
    entry = _last(registry)
    assert (entry.method, entry.object) == (f"{SERVICE}/AddOfficers", "roster roster: o-1, o-2")
    assert desk.agencies.AddOfficers(_add("roster", "o-2", "o-3")).added_count == 1
    assert _last(registry).object == "roster roster: o-3"
    stage.settle()
    assert {("roster", "o-1"), ("roster", "o-3")} <= registry.house.keeper.current.officers

    assert desk.agencies.RemoveOfficers(_remove("roster", "o-1", "nobody")).removed_count == 1
    entry = _last(registry)
    assert (entry.method, entry.object) == (f"{SERVICE}/RemoveOfficers", "roster roster: o-1")
    stage.settle()
    assert ("roster", "o-1") not in registry.house.keeper.current.officers

    assert desk.agencies.AddOfficers(_add("roster", "o-1")).added_count == 1
    stage.settle()
    assert ("roster", "o-1") in registry.house.keeper.current.officers


def test_roster_that_does_not_change_keeps_its_revision(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.agencies.RegisterAgency(_register("still"))
    desk.agencies.AddOfficers(_add("still", "o-1"))
    stage.settle()
    before = registry.house.keeper.current.revision
    assert desk.agencies.AddOfficers(_add("still", "o-1")).added_count == 0
    assert _last(registry).object == "roster still"
    desk.agencies.RegisterAgency(_register("still-2"))
    stage.settle()
    assert registry.house.keeper.current.revision == before + 1


def test_agency_keeps_its_own_roster_alone(stage: Stage, registry: Running, desk: Desk) -> None:
    stub = _as_agency(stage, registry, desk, "customs/core")
    desk.agencies.RegisterAgency(_register("other"))
    assert stub.AddOfficers(_add("customs", "o-1")).added_count == 1
    entry = _last(registry)
    assert (entry.caller, entry.agency_id) == ("spiffe://agency.test.npd.example/customs/core", "customs")
    assert stub.RemoveOfficers(_remove("customs", "o-1")).removed_count == 1

    for call, request in ((stub.AddOfficers, _add("other", "o-1")), (stub.RemoveOfficers, _remove("other", "o-1"))):
        refusal = refused(call, request)
        assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "agency")
        entry = _last(registry)
        assert (entry.outcome, entry.reason) == (Outcome.OUTCOME_REFUSED, "METHOD_NOT_ALLOWED")


def test_agency_registers_and_lists_no_agencies(stage: Stage, registry: Running, desk: Desk) -> None:
    stub = _as_agency(stage, registry, desk, "land/core")
    assert refused(stub.RegisterAgency, _register("mine")).reason == "METHOD_NOT_ALLOWED"
    assert _last(registry).method == f"{SERVICE}/RegisterAgency"
    assert refused(stub.ListAgencies, agency_pb2.ListAgenciesRequest()).reason == "METHOD_NOT_ALLOWED"
    assert _last(registry).method == f"{SERVICE}/ListAgencies"


def test_roster_of_an_unknown_agency_is_refused(registry: Running, desk: Desk) -> None:
    refusal = refused(desk.agencies.AddOfficers, _add("nobody", "o-1"))
    assert (refusal.reason, refusal.metadata) == ("AGENCY_UNKNOWN", {"agency": "nobody"})
    assert refused(desk.agencies.RemoveOfficers, _remove("nobody", "o-1")).reason == "AGENCY_UNKNOWN"
    assert _last(registry).reason == "AGENCY_UNKNOWN"


def test_an_agency_is_registered_with_its_contact(stage: Stage, registry: Running, desk: Desk) -> None:
    request = _register("reached")
    request.agency.contact = "Phòng CNTT, pki@reached.example"
    assert desk.agencies.RegisterAgency(request).agency == request.agency
    stage.settle()
    known = registry.house.keeper.current.agencies["reached"]
    assert known == Agency("An agency", "Phòng CNTT, pki@reached.example")
    listed = desk.agencies.ListAgencies(agency_pb2.ListAgenciesRequest(page_size=1000)).agencies
    assert request.agency in listed


def test_an_operator_says_where_any_agency_is_reached(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.agencies.RegisterAgency(_register("moved"))
    request = _contact("moved")
    answer = desk.agencies.SetAgencyContact(request)
    expected = agency_pb2.Agency(agency_id="moved", name="An agency", contact="pki@agency.example")
    assert answer.agency == expected
    entry = _last(registry)
    assert (entry.caller, entry.method, entry.outcome) == (LAN, f"{SERVICE}/SetAgencyContact", Outcome.OUTCOME_DONE)
    assert entry.object == "contact of agency moved"
    stage.settle()
    held = registry.house.keeper.current
    assert held.agencies["moved"] == Agency("An agency", "pki@agency.example")
    recorded = len(registry.entries())
    assert desk.agencies.SetAgencyContact(request) == answer, "a repeat gets its first answer"
    assert len(registry.entries()) == recorded
    assert desk.agencies.SetAgencyContact(_contact("moved")) == answer
    assert len(registry.entries()) == recorded + 1
    desk.agencies.RegisterAgency(_register("moved-2"))
    stage.settle()
    assert registry.house.keeper.current.revision == held.revision + 1, "the same contact again changes nothing"


def test_an_agency_says_where_it_is_reached_itself_and_for_no_other(
    stage: Stage, registry: Running, desk: Desk
) -> None:
    stub = _as_agency(stage, registry, desk, "fire/core")
    desk.agencies.RegisterAgency(_register("neighbour"))
    assert stub.SetAgencyContact(_contact("fire")).agency.contact == "pki@agency.example"
    entry = _last(registry)
    assert (entry.caller, entry.agency_id) == ("spiffe://agency.test.npd.example/fire/core", "fire")
    refusal = refused(stub.SetAgencyContact, _contact("neighbour"))
    assert (refusal.reason, refusal.metadata["caller_kind"]) == ("METHOD_NOT_ALLOWED", "agency")
    assert _last(registry).reason == "METHOD_NOT_ALLOWED"
    stage.settle()
    assert registry.house.keeper.current.agencies["neighbour"].contact == ""


@pytest.mark.parametrize(
    ("agency_id", "contact", "reason"),
    [
        ("nobody", "pki@agency.example", "AGENCY_UNKNOWN"),
        ("Tax", "pki@agency.example", "FIELD_INVALID"),
        ("tax", "", "FIELD_REQUIRED"),
        ("tax", "two\nlines", "FIELD_INVALID"),
        ("tax", "x" * 201, "FIELD_INVALID"),
    ],
)
def test_contact_that_is_not_set(registry: Running, desk: Desk, agency_id: str, contact: str, reason: str) -> None:
    assert refused(desk.agencies.SetAgencyContact, _contact(agency_id, contact)).reason == reason
    entry = _last(registry)
    assert (entry.method, entry.reason) == (f"{SERVICE}/SetAgencyContact", reason)


def test_an_agency_is_not_registered_with_a_malformed_contact(registry: Running, desk: Desk) -> None:
    request = _register("mute")
    request.agency.contact = "two\nlines"
    refusal = refused(desk.agencies.RegisterAgency, request)
    assert [violation.field for violation in refusal.violations] == ["agency.contact"]
    assert _last(registry).reason == "FIELD_INVALID"


@pytest.mark.parametrize("officer_ids", [["has blank"], ["x" * 65], [""], ["Đ"], [f"o-{n}" for n in range(1001)]])
def test_malformed_officers_are_refused(registry: Running, desk: Desk, officer_ids: list[str]) -> None:
    refusal = refused(desk.agencies.AddOfficers, _add("tax", *officer_ids))
    assert refusal.reason == "FIELD_INVALID"
    assert [violation.field for violation in refusal.violations] == ["officer_ids"]
    assert _last(registry).reason == "FIELD_INVALID"


def test_operator_who_is_not_on_the_list_does_nothing(registry: Running) -> None:
    stub = agency_pb2_grpc.AgencyServiceStub(registry.channel(Kind.OPERATOR, "stranger"))
    refusal = refused(stub.RegisterAgency, _register("strange"))
    assert (refusal.reason, refusal.metadata) == ("OPERATOR_UNKNOWN", {"operator": "stranger"})
    assert _last(registry).reason == "OPERATOR_UNKNOWN"
