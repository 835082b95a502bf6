"""Civil status, put together. Everything that it needs comes in through constructors, here alone."""

from pydantic import Field

from npd.civil_status.v1 import civil_status_pb2, civil_status_pb2_grpc
from services.civil_status import convert
from services.civil_status.domain import ROOM_NAME
from services.civil_status.operations.annulment import AnnulmentOperations
from services.civil_status.operations.births import BirthOperations
from services.civil_status.operations.corrections import CorrectionOperations
from services.civil_status.operations.deaths import DeathOperations
from services.civil_status.operations.marriages import MarriageOperations
from services.civil_status.operations.office import Office
from services.civil_status.operations.reading import ReadingOperations
from services.civil_status.operations.relations import RelationOperations
from services.civil_status.peers import CONFIRMATION, IDENTITY, Identity, confirmation
from services.civil_status.policy import METHODS
from services.civil_status.reactions import Reactions
from services.civil_status.repository import CivilRegister
from services.civil_status.servicer import CivilStatusServicer
from services.mesh.core.config import SourceSettings
from services.mesh.wire.ring import Ring
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import Served


class Settings(SourceSettings):
    """What civil status is told beside what every source room is."""

    identity_address: str = Field(description="host:port of the room identity")


def compose(house: House) -> Composition:
    """Wire the room."""
    settings = house.settings
    if not isinstance(settings, Settings):
        raise TypeError("civil status is composed with its own settings")
    identity = Identity(house.channel(IDENTITY))
    ring = Ring(
        house,
        lambda connection: CivilRegister(connection, house.log_of(connection)),
        backlog_limit=settings.backlog_limit,
        peers={IDENTITY: {CONFIRMATION: identity.confirm_pins}},
    )
    office = Office(ring.database, lambda: house.keeper.current, house.clock, ring.require_room, convert.facts_to_bytes)
    servicer = CivilStatusServicer(
        BirthOperations(office, identity.reserve_pin, confirmation),
        MarriageOperations(office),
        DeathOperations(office),
        CorrectionOperations(office),
        AnnulmentOperations(office),
        ReadingOperations(office),
        house.clock,
        sandbox=settings.sandbox,
    )
    return Composition(
        served=[
            Served(
                civil_status_pb2.DESCRIPTOR.services_by_name["CivilStatusService"],
                civil_status_pb2_grpc.add_CivilStatusServiceServicer_to_server,
                servicer,
            )
        ],
        methods=METHODS,
        background=ring.background(Reactions(RelationOperations(office, house.identity))),
        flow=ring.flow,
        retry=ring.wake,
    )


ROOM = Room(name=ROOM_NAME, package="services.civil_status", settings=Settings, compose=compose)
