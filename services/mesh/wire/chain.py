"""Serves npd.common.v1.ChainService: the links of a chain that a room holds, and the legal clocks that they started."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import grpc
from sqlalchemy import Connection

from npd.common.v1 import chain_pb2, chain_pb2_grpc
from services.mesh.core.chain import LINKS_LIMIT, Act, Chain
from services.mesh.core.clock import legal_date
from services.mesh.core.db import Database
from services.mesh.core.legal_clock import CalendarMissing
from services.mesh.core.methods import allow, operator
from services.mesh.core.rights import Policy
from services.mesh.core.telling import access_to_wire
from services.mesh.wire.access import uuid_from_wire

METHODS = {"/npd.common.v1.ChainService/ListLinks": allow(operator())}

Links = Callable[[Connection, UUID], Sequence[Act]]
"""Reads the links of a chain, by its id, inside a transaction."""


def own_links(connection: Connection, correlation_id: UUID) -> Sequence[Act]:
    """The links that the room's own acts and reactions made."""
    return Chain(connection).links(correlation_id)


class ChainServicer(chain_pb2_grpc.ChainServiceServicer):
    """Adapts the wire to a room's links."""

    def __init__(self, database: Database[Connection], links: Links, policy: Callable[[], Policy]) -> None:
        self._database = database
        self._links = links
        self._policy = policy

    def ListLinks(
        self, request: chain_pb2.ListLinksRequest, context: grpc.ServicerContext
    ) -> chain_pb2.ListLinksResponse:
        correlation_id = UUID(uuid_from_wire(request.correlation_id, "correlation_id"))
        with self._database.transaction() as connection:
            acts = sorted(self._links(connection, correlation_id), key=lambda act: act.time)[:LINKS_LIMIT]
        policy = self._policy()
        return chain_pb2.ListLinksResponse(links=[_to_wire(act, policy) for act in acts])


def _to_wire(act: Act, policy: Policy) -> chain_pb2.Link:
    wire = chain_pb2.Link(
        link_id=str(act.act_id),
        causation_id=str(act.causation_id) if act.causation_id else "",
        act=act.name,
        actor=act.actor,
        outcome=act.outcome,
        clocks=_clocks(act, policy),
    )
    if act.access is not None:
        wire.access.CopyFrom(access_to_wire(act.access))
    wire.link_time.FromDatetime(act.time)
    return wire


def _clocks(act: Act, policy: Policy) -> Iterator[chain_pb2.LegalClock]:
    """The clocks that an act starts by the law of its day; one that no calendar can count has no due time."""
    for clock in policy.clocks.values():
        if clock.start_act != act.name or not clock.validity.covers(legal_date(act.time)):
            continue
        wire = chain_pb2.LegalClock(
            code=clock.code, title=clock.title, provision=clock.provision, end_act=clock.end_act
        )
        try:
            wire.due_time.FromDatetime(clock.due_time(act.time, policy.calendars.values()))
        except CalendarMissing:
            wire.ClearField("due_time")
        yield wire
