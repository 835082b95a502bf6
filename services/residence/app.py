"""Composition root of the room residence: the only place that wires its parts."""

from sqlalchemy import Connection

from npd.residence.v1 import residence_pb2, residence_pb2_grpc
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.config import SourceSettings
from services.mesh.wire.ring import Ring
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import Served
from services.residence import convert
from services.residence.operations.effects import Effects
from services.residence.operations.households import HouseholdOperations
from services.residence.operations.reading import ReadingOperations
from services.residence.operations.residences import ResidenceOperations
from services.residence.policy import METHODS
from services.residence.reactions import Reactions
from services.residence.repository import ResidenceUnit
from services.residence.servicer import ResidenceServicer


class Settings(SourceSettings):
    """What the room residence is told: what every source room is."""


def compose(house: House) -> Composition:
    """Wire the room."""
    settings, name, clock = house.settings, house.room.name, house.clock
    assert isinstance(settings, Settings)  # noqa: S101 - ROOM names them

    def unit(connection: Connection) -> ResidenceUnit:
        return ResidenceUnit(connection, house.log_of(connection), name)

    ring = Ring(house, unit, backlog_limit=settings.backlog_limit)
    policy = lambda: house.keeper.current  # noqa: E731
    effects = Effects(convert.facts_to_bytes, Caller(house.identity, CallerKind.ROOM, name))
    residences = ResidenceOperations(ring.database, policy, clock, effects, ring.require_room)
    households = HouseholdOperations(ring.database, policy, clock, effects, ring.require_room)
    reading = ReadingOperations(ring.database, policy, clock, ring.require_room)
    return Composition(
        served=(
            Served(
                residence_pb2.DESCRIPTOR.services_by_name["ResidenceService"],
                residence_pb2_grpc.add_ResidenceServiceServicer_to_server,
                ResidenceServicer(residences, households, reading, clock, sandbox=settings.sandbox),
            ),
        ),
        methods=METHODS,
        background=ring.background(Reactions(residences, households, name)),
        flow=ring.flow,
        retry=ring.wake,
    )


ROOM = Room("residence", "services.residence", Settings, compose)
