"""What causes what: contributions carry their chain, changes keep it, and ListLinks tells what this room knows."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.chain_pb2 import Causation, Link, ListLinksRequest
from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.change_pb2 import AcknowledgeRequest, Rejection
from npd_pki.identity import Kind
from tests.mesh_fixture import Desk, Stage, new_id
from tests.rpc.test_sharing_callers import APPLIED, CHANGES, CONTRIBUTE, DUPLICATE, HELD, REJECTED, Party, Scene
from tests.rpc.test_sharing_changes import now, pull_until
from tests.rpc.test_sharing_followers import follow

SINGLE, MARRIED = (
    Person(marital_status=status) for status in (person_pb2.MARITAL_STATUS_SINGLE, person_pb2.MARITAL_STATUS_MARRIED)
)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def operator(scene: Scene) -> Party:
    return Party(scene.sharing, Kind.OPERATOR, "lan")


@pytest.fixture(scope="module")
def registrar(scene: Scene) -> Party:
    return scene.system("moj/local", {CONTRIBUTE: ["marital_status", "phone"], CHANGES: ["phone"]})


def caused(correlation_id: str = "") -> Causation:
    """A place in a chain, by default of a new one."""
    act_id = new_id()
    return Causation(correlation_id=correlation_id or act_id, causation_id=act_id)


def ground(origin: str) -> AccessContext:
    return AccessContext(agreement_id=new_id(), case_reference="case/77", officer_id="o-7", origin=origin)


def links(operator: Party, correlation_id: str) -> Sequence[Link]:
    answer = operator.chain.ListLinks(ListLinksRequest(correlation_id=correlation_id))
    found: Sequence[Link] = answer.links
    return found


def shown(link: Link) -> tuple[str, str, str, str]:
    return link.act, link.actor, link.causation_id, link.outcome


def test_change_keeps_the_chain_of_its_item_and_the_act_that_caused_it(scene: Scene, operator: Party) -> None:
    person, start, cause = scene.citizen(marital_status=None), now(scene), caused(new_id())
    access = ground(f"spiffe://agency.{scene.sharing.house.settings.environment}/moj/hanoi")
    told = scene.news(person, SINGLE, "marital_status", causation=cause, access=access)
    with scene.recording() as entries:
        assert [result.status for result in scene.civil_status.contribute(told)] == [APPLIED]
    assert entries == []
    change = follow(scene.room("civil_status"), start, now(scene))[-1]
    assert change.causation == cause
    [link] = links(operator, cause.correlation_id)
    assert shown(link) == ("sharing.change", scene.civil_status.identity, cause.causation_id, "APPLIED")
    assert (link.link_id, link.access) == (change.change_id, access)
    assert link.link_time.ToDatetime() == scene.clock.now().replace(tzinfo=None)
    kept = "SELECT agreement_id, case_reference, officer_id, origin FROM contributions WHERE event_id = :id"
    assert scene.rows(kept, id=told.event_id) == [
        (access.agreement_id, access.case_reference, access.officer_id, access.origin)
    ]
    assert person.pin.encode() not in link.SerializeToString()


def test_item_without_a_cause_begins_a_chain_on_the_ground_of_its_call(
    scene: Scene, operator: Party, registrar: Party
) -> None:
    person, start = scene.citizen(phone=None), now(scene)
    [result] = registrar.contribute(scene.news(person, Person(phone="+84000000003"), "phone"))
    assert result.status == APPLIED
    [change] = pull_until(registrar, start, now(scene))
    assert change.causation.correlation_id == change.causation.causation_id
    assert change.subject_id == "", "an internal id, for rooms alone"
    [link] = links(operator, change.causation.correlation_id)
    assert shown(link) == ("sharing.change", registrar.identity, change.causation.causation_id, "APPLIED")
    assert link.access == registrar.access


def test_items_of_one_act_stand_in_one_chain_and_of_different_acts_do_not(scene: Scene, operator: Party) -> None:
    one, other, cause = scene.citizen(marital_status=None), scene.citizen(marital_status=None), caused()
    items = [scene.news(person, MARRIED, "marital_status", causation=cause) for person in (one, other)]
    alone = scene.news(scene.citizen(marital_status=None), MARRIED, "marital_status", causation=caused())
    scene.civil_status.contribute(*items, alone)
    assert [link.causation_id for link in links(operator, cause.correlation_id)] == [cause.causation_id] * 2
    assert len(links(operator, alone.causation.correlation_id)) == 1


def test_disputed_change_says_so(scene: Scene, operator: Party) -> None:
    person, cause = scene.citizen(marital_status=None), caused()
    scene.civil_status.contribute(scene.news(person, MARRIED, "marital_status", causation=caused()))
    scene.clock.go_on(timedelta(seconds=1))
    scene.identity.contribute(scene.news(person, SINGLE, "marital_status", causation=cause))
    assert [shown(link) for link in links(operator, cause.correlation_id)] == [
        ("sharing.change", scene.identity.identity, cause.causation_id, "DISPUTED")
    ]


def test_held_item_keeps_its_own_chain_when_another_source_releases_it(scene: Scene, operator: Party) -> None:
    born, cause, minting = scene.birth(marital_status=None), caused(new_id()), caused()
    born.causation.CopyFrom(minting)
    access = ground(f"spiffe://agency.{scene.sharing.house.settings.environment}/moj/hanoi")
    waiting = scene.news(born.person, SINGLE, "marital_status", causation=cause, access=access)
    assert [result.status for result in scene.civil_status.contribute(waiting)] == [HELD]
    [hold] = links(operator, cause.correlation_id)
    assert shown(hold) == ("sharing.hold", scene.civil_status.identity, cause.causation_id, "HELD")
    assert hold.access == access
    start = now(scene)
    scene.clock.go_on(timedelta(seconds=1))
    assert [result.status for result in scene.identity.contribute(born)] == [APPLIED]
    [change] = links(operator, cause.correlation_id)
    assert shown(change) == ("sharing.change", scene.civil_status.identity, cause.causation_id, "APPLIED")
    assert (change.access, change.link_id != hold.link_id) == (access, True)
    assert [link.act for link in links(operator, minting.correlation_id)] == ["sharing.change"]
    seen = {one.causation.correlation_id for one in follow(scene.room("civil_status"), start, now(scene))}
    assert seen == {cause.correlation_id, minting.correlation_id}
    settled = "SELECT subject_id FROM contributions WHERE event_id = :id"
    assert scene.rows(settled, id=waiting.event_id) != [(None,)]


def test_redelivered_item_is_a_duplicate_and_adds_no_link(scene: Scene, operator: Party) -> None:
    person, cause = scene.citizen(marital_status=None), caused()
    item = scene.news(person, SINGLE, "marital_status", causation=cause)
    assert [result.status for result in scene.civil_status.contribute(item)] == [APPLIED]
    assert [result.status for result in scene.civil_status.contribute(item)] == [DUPLICATE]
    assert len(links(operator, cause.correlation_id)) == 1


def test_another_cause_is_another_content(scene: Scene) -> None:
    person = scene.citizen(marital_status=None)
    item = scene.news(person, SINGLE, "marital_status", causation=caused())
    scene.civil_status.contribute(item)
    item.causation.CopyFrom(caused())
    [result] = scene.civil_status.contribute(item)
    assert (result.status, ErrorReason.Name(result.reason)) == (REJECTED, "ERROR_REASON_EVENT_ID_REUSED")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"causation": Causation(correlation_id=new_id(), causation_id=new_id())}, "causation"),
        ({"access": AccessContext(agreement_id=new_id(), case_reference="case/1", officer_id="o-1")}, "access"),
    ],
)
def test_agency_names_neither_cause_nor_ground_of_an_item(
    scene: Scene, registrar: Party, more: dict[str, Any], field: str
) -> None:
    item = scene.news(scene.citizen(phone=None), Person(phone="+84000000004"), "phone", **more)
    [result] = registrar.contribute(item)
    assert (result.status, result.field) == (REJECTED, field)
    assert ErrorReason.Name(result.reason) == "ERROR_REASON_FIELD_INVALID"
    assert scene.rows("SELECT 1 FROM contributions WHERE event_id = :id", id=item.event_id) == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"causation": Causation(correlation_id="none", causation_id=new_id())}, "causation.correlation_id"),
        ({"causation": Causation(correlation_id=new_id())}, "causation.causation_id"),
        ({"access": ground("")}, "access.origin"),
        ({"access": ground("spiffe://agency.test.npd.example/moj")}, "access.origin"),
        ({"access": AccessContext(agreement_id="x", case_reference="c/1", officer_id="o", origin="")}, "access.origin"),
    ],
)
def test_malformed_cause_or_ground_is_refused_for_its_item_alone(
    scene: Scene, more: dict[str, Any], field: str
) -> None:
    person = scene.citizen(marital_status=None)
    bad = scene.news(person, SINGLE, "marital_status", **more)
    refused, taken = scene.civil_status.contribute(bad, scene.news(person, SINGLE, "marital_status"))
    assert (refused.status, refused.field, taken.status) == (REJECTED, field, APPLIED)


def test_followers_that_applied_or_rejected_a_change_are_links_too(
    scene: Scene, operator: Party, registrar: Party
) -> None:
    person, start, cause = scene.citizen(marital_status=None), now(scene), caused()
    scene.civil_status.contribute(scene.news(person, SINGLE, "marital_status", causation=cause))
    end = now(scene)
    civil_status, identity = scene.room("civil_status"), scene.room("identity")
    change = follow(civil_status, start, now(scene))[-1]
    scene.clock.go_on(timedelta(seconds=5))
    at = scene.clock.now().replace(tzinfo=None)
    rejected = Rejection(change_id=change.change_id, reason="PERSON_UNKNOWN")
    civil_status.changes.Acknowledge(AcknowledgeRequest(applied=end, rejected=[rejected]))
    identity.changes.Acknowledge(AcknowledgeRequest(applied=end))
    registrar.changes.Acknowledge(AcknowledgeRequest(access=registrar.access, applied=end))
    scene.clock.go_on(timedelta(seconds=5))
    [_, rejection] = links(operator, cause.correlation_id)
    assert shown(rejection) == (
        "sharing.acknowledge",
        civil_status.identity,
        change.change_id,
        "REJECTED PERSON_UNKNOWN",
    ), "identity and the registrar do not see the field, so they applied nothing"
    assert rejection.link_time.ToDatetime() == at
    civil_status.changes.Acknowledge(AcknowledgeRequest(recovered=[change.change_id]))
    [_, applied] = links(operator, cause.correlation_id)
    assert (applied.outcome, applied.link_id) == ("APPLIED", rejection.link_id)
    assert applied.link_time.ToDatetime() == at + timedelta(seconds=5)


def test_change_is_applied_when_the_mark_passed_it_and_not_when_it_passed_others(scene: Scene, operator: Party) -> None:
    scene.citizen()
    before, cause, room = now(scene), caused(), scene.room("residence")
    room.changes.Acknowledge(AcknowledgeRequest(applied=before))
    person = scene.birth()
    person.causation.CopyFrom(cause)
    scene.identity.contribute(person)
    end = now(scene)
    assert [link.act for link in links(operator, cause.correlation_id)] == ["sharing.change"]
    scene.clock.go_on(timedelta(seconds=3))
    room.changes.Acknowledge(AcknowledgeRequest(applied=end))
    passed = scene.clock.now().replace(tzinfo=None)
    scene.clock.go_on(timedelta(seconds=3))
    scene.citizen()
    room.changes.Acknowledge(AcknowledgeRequest(applied=now(scene)))
    [_, applied] = links(operator, cause.correlation_id)
    assert shown(applied)[:2] == ("sharing.acknowledge", room.identity)
    assert applied.link_time.ToDatetime() == passed


def test_chain_that_nobody_knows_has_no_links(operator: Party) -> None:
    assert links(operator, str(uuid4())) == []


def test_chain_is_for_operators(scene: Scene, registrar: Party) -> None:
    request = ListLinksRequest(correlation_id=new_id())
    scene.refuse(registrar, registrar.chain.ListLinks, request, "METHOD_NOT_ALLOWED")


def test_mark_claims_no_change_before_the_place_from_which_its_follower_was_served(
    scene: Scene, operator: Party
) -> None:
    late, early = (scene.system(f"tax/{name}", {CHANGES: ["marital_status"]}) for name in ("late", "early"))
    start, cause, next_cause = now(scene), caused(), caused()
    person = scene.citizen(marital_status=None)
    scene.civil_status.contribute(scene.news(person, SINGLE, "marital_status", causation=cause))
    head = now(scene)
    follow(early, start, head)
    for system in (late, early):
        system.changes.Acknowledge(AcknowledgeRequest(access=system.access, applied=head))
    scene.clock.go_on(timedelta(seconds=1))
    scene.civil_status.contribute(scene.news(person, MARRIED, "marital_status", causation=next_cause))
    head = now(scene)
    for system in (late, early):
        system.changes.Acknowledge(AcknowledgeRequest(access=system.access, applied=head))

    def who_acknowledged(chain: Causation) -> set[str]:
        return {link.actor for link in links(operator, chain.correlation_id) if link.act == "sharing.acknowledge"}

    assert who_acknowledged(cause) == {early.identity}
    assert who_acknowledged(next_cause) == {early.identity, late.identity}
