"""What every room tells operators of its messages and chains: what is set aside, tried again, and follows from what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from npd.common.v1 import chain_pb2, chain_pb2_grpc, relay_pb2, relay_pb2_grpc
from npd.common.v1.evidence_pb2 import Outcome
from npd_pki.identity import Kind
from services.mesh.core.chain import Act, Causation, Chain
from services.mesh.core.clock import LEGAL_ZONE
from services.mesh.core.following import Followed, FollowedChange
from services.mesh.core.outbox import Fate, Message, Outbox
from services.mesh.core.rights import Access
from tests.mesh_fixture import Desk, Running, Stage, new_id, refused

SERVICE = "/npd.common.v1.RelayService"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def emptied(registry: Running) -> Iterator[None]:
    yield
    with registry.house.engine.begin() as connection:
        for table in ("outbox", "outbox_delivered", "changes_set_aside", "chain_links"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours


def relay_of(registry: Running, kind: Kind = Kind.OPERATOR, name: str = "lan") -> relay_pb2_grpc.RelayServiceStub:
    return relay_pb2_grpc.RelayServiceStub(registry.channel(kind, name))


def set_aside(registry: Running, *, reason: str = "FIELD_INVALID", field: str = "sex") -> UUID:
    """A message that its receiver refused."""
    message = Message(uuid4(), "sharing", "contribution", uuid4(), b"", Causation(uuid4(), uuid4()))
    with registry.house.engine.begin() as connection:
        outbox = Outbox(connection)
        outbox.put(message)
        number = connection.execute(text("SELECT max(outbox_id) FROM outbox")).scalar_one()
        outbox.set_aside(number, Fate(reason, field), datetime.now(UTC))
    return message.message_id


def set_aside_change(registry: Running) -> UUID:
    """A change that this room could not apply."""
    causation = Causation(uuid4(), uuid4())
    change = FollowedChange(1, uuid4(), uuid4(), "1", ("pin",), b"", "identity", NOW, NOW, causation)
    with registry.house.engine.begin() as connection:
        Followed(connection).set_aside(change, Fate("INTERNAL"))
    return change.change_id


def listed(registry: Running) -> list[relay_pb2.SetAside]:
    return list(relay_of(registry).ListSetAside(relay_pb2.ListSetAsideRequest()).messages)


def test_what_is_set_aside_either_way_is_listed_oldest_first_in_pages(registry: Running) -> None:
    ids = [set_aside(registry), set_aside_change(registry), set_aside(registry)]
    assert [UUID(one.message_id) for one in listed(registry)] == ids
    first, change, _ = listed(registry)
    assert (first.direction, first.peer, first.kind) == (relay_pb2.DIRECTION_OUTGOING, "sharing", "contribution")
    assert (first.reason, first.field, first.attempts) == ("FIELD_INVALID", "sex", 1)
    assert (change.direction, change.kind, change.reason) == (relay_pb2.DIRECTION_INCOMING, "change", "INTERNAL")
    assert change.record_time.ToDatetime(UTC) == NOW
    found: list[UUID] = []
    token = ""
    while True:
        answer = relay_of(registry).ListSetAside(relay_pb2.ListSetAsideRequest(page_size=2, page_token=token))
        found += [UUID(one.message_id) for one in answer.messages]
        token = answer.next_page_token
        if not token:
            break
    assert found == ids
    refusal = refused(relay_of(registry).ListSetAside, relay_pb2.ListSetAsideRequest(page_token="~"))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
    assert registry.entries()[-1].reason == "PAGE_TOKEN_INVALID"


def test_a_command_tries_what_it_names_again_and_is_recorded(registry: Running) -> None:
    message, change, other = set_aside(registry), set_aside_change(registry), set_aside(registry)
    request = relay_pb2.RetrySetAsideRequest(request_id=new_id(), message_ids=[str(message), str(change)])
    assert relay_of(registry).RetrySetAside(request).retried_count == 2
    entry = registry.entries()[-1]
    assert (entry.method, entry.outcome) == (f"{SERVICE}/RetrySetAside", Outcome.OUTCOME_DONE)
    assert entry.object == "2 messages"
    assert UUID(listed(registry)[-1].message_id) == other
    assert str(message) not in {one.message_id for one in listed(registry)}
    recorded = len(registry.entries())
    assert relay_of(registry).RetrySetAside(request).retried_count == 2, "a repeat gets the first answer"
    assert len(registry.entries()) == recorded


def test_a_command_that_names_nothing_means_everything(registry: Running) -> None:
    for _ in range(3):
        set_aside(registry)
    request = relay_pb2.RetrySetAsideRequest(request_id=new_id())
    assert relay_of(registry).RetrySetAside(request).retried_count == 3
    assert listed(registry) == []


def test_a_message_that_is_not_set_aside_is_refused_and_nothing_is_tried(registry: Running) -> None:
    message = set_aside(registry)
    request = relay_pb2.RetrySetAsideRequest(request_id=new_id(), message_ids=[str(message), str(uuid4())])
    assert refused(relay_of(registry).RetrySetAside, request).reason == "MESSAGE_UNKNOWN"
    assert registry.entries()[-1].reason == "MESSAGE_UNKNOWN"
    assert [UUID(one.message_id) for one in listed(registry)] == [message]
    request = relay_pb2.RetrySetAsideRequest(request_id=new_id(), message_ids=["x"])
    assert refused(relay_of(registry).RetrySetAside, request).reason == "FIELD_INVALID"
    assert registry.entries()[-1].reason == "FIELD_INVALID"


def deliver(registry: Running, count: int, ago: timedelta) -> None:
    """Messages that sharing has had for some time."""
    messages = [
        Message(uuid4(), "sharing", "contribution", uuid4(), b"", Causation(uuid4(), uuid4())) for _ in range(count)
    ]
    with registry.house.engine.begin() as connection:
        outbox = Outbox(connection)
        outbox.put(*messages)
        numbers = [waiting.number for waiting in outbox.next_due("sharing", ["contribution"], NOW, count)]
        outbox.keep_delivered(numbers, datetime.now(UTC) - ago)


def redelivery(since: datetime, peer: str = "sharing") -> relay_pb2.RedeliverMessagesRequest:
    request = relay_pb2.RedeliverMessagesRequest(request_id=new_id(), peer=peer)
    request.since.FromDatetime(since)
    return request


def test_what_a_restored_room_lost_is_handed_on_again_and_that_is_recorded(registry: Running) -> None:
    deliver(registry, 6000, timedelta(minutes=20))
    deliver(registry, 2, timedelta(minutes=50))
    call = relay_of(registry).RedeliverMessages
    request = redelivery(datetime.now(UTC) - timedelta(minutes=30))
    answer = call(request)
    assert answer.redelivered_count == 6000
    kept_for = datetime.now(UTC) - answer.kept_since.ToDatetime(UTC)
    assert timedelta(days=7) <= kept_for < timedelta(days=7, minutes=1)
    entry = registry.entries()[-1]
    assert (entry.method, entry.outcome) == (f"{SERVICE}/RedeliverMessages", Outcome.OUTCOME_DONE)
    assert entry.object == f"6000 messages to sharing since {request.since.ToDatetime(UTC).isoformat()}"
    recorded = len(registry.entries())
    deliver(registry, 1, timedelta(minutes=10))
    assert call(request).redelivered_count == 6000, "a repeat gets the first answer"
    assert len(registry.entries()) == recorded
    with registry.house.engine.begin() as connection:
        assert Outbox(connection).extent()[0] == 6000, "and hands nothing on"


def test_messages_are_handed_on_from_a_little_before_for_clocks_differ(registry: Running) -> None:
    deliver(registry, 1, timedelta(minutes=4))
    assert relay_of(registry).RedeliverMessages(redelivery(datetime.now(UTC))).redelivered_count == 1


def test_a_redelivery_may_begin_as_early_as_there_are_instants(registry: Running) -> None:
    deliver(registry, 1, timedelta(days=6))
    assert relay_of(registry).RedeliverMessages(redelivery(datetime.min.replace(tzinfo=UTC))).redelivered_count > 0


def test_a_redelivery_that_cannot_be_meant_is_refused(registry: Running) -> None:
    ahead = redelivery(datetime.now(UTC) + timedelta(minutes=1))
    assert refused(relay_of(registry).RedeliverMessages, ahead).reason == "FIELD_INVALID"
    assert registry.entries()[-1].reason == "FIELD_INVALID"
    for field in ("peer", "since"):
        request = redelivery(NOW)
        request.ClearField(field)
        assert refused(relay_of(registry).RedeliverMessages, request).reason == "FIELD_REQUIRED"


def test_only_operators_see_and_retry(stage: Stage, registry: Running, desk: Desk) -> None:
    desk.register("curious/core")
    stage.settle()
    stub = relay_of(registry, Kind.AGENCY, "curious/core")
    assert refused(stub.ListSetAside, relay_pb2.ListSetAsideRequest()).reason == "METHOD_NOT_ALLOWED"
    again = relay_pb2.RetrySetAsideRequest(request_id=new_id())
    assert refused(stub.RetrySetAside, again).reason == "METHOD_NOT_ALLOWED"
    assert refused(stub.RedeliverMessages, redelivery(NOW)).reason == "METHOD_NOT_ALLOWED"
    chains = chain_pb2_grpc.ChainServiceStub(registry.channel(Kind.MESH, "identity"))
    asked = chain_pb2.ListLinksRequest(correlation_id=new_id())
    assert refused(chains.ListLinks, asked).reason == "METHOD_NOT_ALLOWED"
    assert registry.entries()[-1].method == "/npd.common.v1.ChainService/ListLinks"


def test_links_are_told_in_the_order_of_time_with_the_clocks_that_they_started(registry: Running) -> None:
    death = Act(
        uuid4(),
        uuid4(),
        None,
        "civil_status.register_death",
        "spiffe://agency.test/hn/civil",
        Access("agreement", "HT/1", "o-1"),
        NOW,
    )
    closing = Act.caused(
        "residence.close_residence", "spiffe://mesh.test/residence", death.causation, NOW + timedelta(seconds=1)
    )
    with registry.house.engine.begin() as connection:
        for act in (closing, death):
            Chain(connection).add(act)
    stub = chain_pb2_grpc.ChainServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    links = stub.ListLinks(chain_pb2.ListLinksRequest(correlation_id=str(death.correlation_id))).links
    assert [link.act for link in links] == ["civil_status.register_death", "residence.close_residence"]
    assert (links[0].causation_id, links[1].causation_id) == ("", str(death.act_id))
    assert (links[0].access.case_reference, links[0].access.officer_id) == ("HT/1", "o-1")
    assert not links[1].HasField("access")
    (clock,) = links[0].clocks
    assert (clock.code, clock.end_act) == ("RESIDENCE_CLOSED_AFTER_DEATH", "residence.close_residence")
    assert clock.due_time.ToDatetime(UTC) == datetime(2026, 11, 25, tzinfo=LEGAL_ZONE)
    assert not links[1].clocks


def test_a_clock_starts_only_while_its_law_is_in_force_and_without_a_calendar_no_time_is_told(
    registry: Running,
) -> None:
    acts = [
        Act(uuid4(), uuid4(), None, "civil_status.register_death", "spiffe://agency.test/hn/civil", None, time)
        for time in (datetime(2026, 3, 13, 8, tzinfo=UTC), datetime(2031, 1, 6, 8, tzinfo=UTC))
    ]
    with registry.house.engine.begin() as connection:
        for act in acts:
            Chain(connection).add(act)
    stub = chain_pb2_grpc.ChainServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    before, later = (
        stub.ListLinks(chain_pb2.ListLinksRequest(correlation_id=str(act.correlation_id))).links[0] for act in acts
    )
    assert not before.clocks
    assert [clock.HasField("due_time") for clock in later.clocks] == [False]


def test_a_chain_that_the_room_does_not_know_has_no_links(registry: Running) -> None:
    stub = chain_pb2_grpc.ChainServiceStub(registry.channel(Kind.OPERATOR, "lan"))
    assert not stub.ListLinks(chain_pb2.ListLinksRequest(correlation_id=new_id())).links
    assert refused(stub.ListLinks, chain_pb2.ListLinksRequest(correlation_id="x")).reason == "FIELD_INVALID"
    assert registry.entries()[-1].reason == "FIELD_INVALID"
