"""The identity room, put together. Everything that it needs comes in through constructors, here alone."""

from datetime import timedelta
from functools import partial
from secrets import SystemRandom

from pydantic import Field

from npd.identity.v1 import card_pb2, card_pb2_grpc, number_pb2, number_pb2_grpc
from services.identity import convert
from services.identity.domain import REGISTRAR, ROOM_NAME
from services.identity.operations.cards import CardOperations
from services.identity.operations.numbers import NumberOperations, Terms
from services.identity.policy import METHODS
from services.identity.reactions import Reactions
from services.identity.repository import Identity
from services.identity.servicer import CardServicer, NumberServicer
from services.mesh.core.background import Background
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.config import SourceSettings
from services.mesh.wire.ring import Ring
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import Served


class Settings(SourceSettings):
    """What the identity room is told besides."""

    reservation_life: timedelta = Field(
        default=timedelta(hours=24), gt=timedelta(), description="how long a number is reserved"
    )
    expired_kept: timedelta = Field(
        default=timedelta(days=30), ge=timedelta(), description="how long an expired reservation can still be confirmed"
    )
    sweep_every: timedelta = Field(
        default=timedelta(minutes=1), gt=timedelta(), description="how often reservations to release are looked for"
    )


def compose(house: House) -> Composition:
    """Wire the room."""
    settings = house.settings
    if not isinstance(settings, Settings):
        raise TypeError("the identity room is composed with its own settings")
    clock, sandbox = house.clock, settings.sandbox
    policy = lambda: house.keeper.current  # noqa: E731
    ring = Ring(
        house, lambda connection: Identity(connection, house.log_of(connection)), backlog_limit=settings.backlog_limit
    )
    itself = Caller(house.identity, CallerKind.ROOM, ROOM_NAME)
    cards = CardOperations(
        ring.database,
        policy,
        clock,
        room=itself,
        require_room=ring.require_room,
        cards_to_bytes=convert.cards_to_bytes,
    )
    numbers = NumberOperations(
        ring.database,
        policy,
        clock,
        cards,
        Terms(settings.reservation_life, settings.expired_kept, sandbox),
        random=SystemRandom(),
        room=itself,
        require_room=ring.require_room,
        pin_to_bytes=convert.pin_to_bytes,
    )
    return Composition(
        served=(
            Served(
                number_pb2.DESCRIPTOR.services_by_name["NumberService"],
                number_pb2_grpc.add_NumberServiceServicer_to_server,
                NumberServicer(numbers, clock, sandbox=sandbox),
            ),
            Served(
                card_pb2.DESCRIPTOR.services_by_name["CardService"],
                card_pb2_grpc.add_CardServiceServicer_to_server,
                CardServicer(cards, clock, sandbox=sandbox),
            ),
        ),
        methods=METHODS,
        background=(
            *ring.background(Reactions(numbers, cards)),
            Background("reservations", partial(numbers.sweep, every=settings.sweep_every)),
        ),
        flow=ring.flow,
        retry=ring.wake,
    )


ROOM = Room(ROOM_NAME, "services.identity", Settings, compose, told_by=(REGISTRAR,), waits_to_be_told=True)
