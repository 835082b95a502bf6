"""The registry, put together. Everything that it needs comes in through constructors, here alone."""

from datetime import timedelta
from functools import partial
from pathlib import Path

from pydantic import Field
from sqlalchemy import Connection

from npd.registry.v1 import (
    agency_pb2,
    agency_pb2_grpc,
    agreement_pb2,
    agreement_pb2_grpc,
    certificate_authority_pb2,
    certificate_authority_pb2_grpc,
    directory_pb2,
    directory_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    revocation_pb2,
    revocation_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
)
from services.mesh.core.background import Background
from services.mesh.core.config import RoomSettings
from services.mesh.wire.room import Composition, House, Room, private_key
from services.mesh.wire.server import Served
from services.registry import convert, servicer
from services.registry.domain import Thresholds
from services.registry.metrics import Measurement
from services.registry.operations.agencies import AgencyOperations
from services.registry.operations.agreements import AgreementOperations
from services.registry.operations.certificate_acts import CertificateActOperations
from services.registry.operations.directory import DirectoryOperations
from services.registry.operations.revocations import RevocationOperations
from services.registry.operations.rights import RightsOperations
from services.registry.operations.systems import SystemOperations
from services.registry.policy import METHODS
from services.registry.publisher import LocalSource, PolicyListener, Publisher
from services.registry.repository import PolicyRows, Store, Transaction


class Settings(RoomSettings):
    """What the registry is told beside what every room is."""

    policy_key_file: Path = Field(description="Ed25519 key (PEM) that signs the policy")
    degraded_after: timedelta = Field(
        default=timedelta(seconds=60), description="a connection not served for this long is degraded"
    )
    silent_after: timedelta = Field(
        default=timedelta(minutes=5), description="a connection not heard of for this long is silent"
    )


def compose(house: House) -> Composition:
    """Wire the registry."""
    settings = house.settings
    if not isinstance(settings, Settings):
        raise TypeError("the registry is composed with its own settings")
    database = house.database(lambda connection: Transaction(connection, house.log_of(connection)))
    store, clock = Store(database, house.log_sequencer.wake), house.clock
    directory = DirectoryOperations(store, clock, Thresholds(settings.degraded_after, settings.silent_after))
    agreements = AgreementOperations(
        store, clock, settings.environment, convert.terms_to_bytes, lambda: house.credentials.roots
    )
    publisher = Publisher(store, settings.environment, private_key(settings, "policy_key_file"), clock)
    local = LocalSource(publisher)

    def tell() -> None:
        house.streams.wake()
        local.wake()

    return Composition(
        served=[
            Served(
                agency_pb2.DESCRIPTOR.services_by_name["AgencyService"],
                agency_pb2_grpc.add_AgencyServiceServicer_to_server,
                servicer.AgencyServicer(AgencyOperations(store)),
            ),
            Served(
                agency_pb2.DESCRIPTOR.services_by_name["SystemService"],
                agency_pb2_grpc.add_SystemServiceServicer_to_server,
                servicer.SystemServicer(SystemOperations(store, clock)),
            ),
            Served(
                agreement_pb2.DESCRIPTOR.services_by_name["AgreementService"],
                agreement_pb2_grpc.add_AgreementServiceServicer_to_server,
                servicer.AgreementServicer(agreements),
            ),
            Served(
                revocation_pb2.DESCRIPTOR.services_by_name["RevocationService"],
                revocation_pb2_grpc.add_RevocationServiceServicer_to_server,
                servicer.RevocationServicer(RevocationOperations(store, clock)),
            ),
            Served(
                certificate_authority_pb2.DESCRIPTOR.services_by_name["CertificateActService"],
                certificate_authority_pb2_grpc.add_CertificateActServiceServicer_to_server,
                servicer.CertificateActServicer(CertificateActOperations(store, clock), settings.environment),
            ),
            Served(
                rights_pb2.DESCRIPTOR.services_by_name["RightsService"],
                rights_pb2_grpc.add_RightsServiceServicer_to_server,
                servicer.RightsServicer(RightsOperations(lambda: house.keeper.current, clock)),
            ),
            Served(
                policy_pb2.DESCRIPTOR.services_by_name["PolicyService"],
                policy_pb2_grpc.add_PolicyServiceServicer_to_server,
                servicer.PolicyServicer(publisher, house.streams),
            ),
            Served(
                directory_pb2.DESCRIPTOR.services_by_name["DirectoryService"],
                directory_pb2_grpc.add_DirectoryServiceServicer_to_server,
                servicer.DirectoryServicer(directory),
            ),
        ],
        methods=METHODS,
        background=[
            Background("policy listener", PolicyListener(house.engine, tell).run),
            Background("directory", Measurement(directory, lambda: house.keeper.current, clock).run),
        ],
        policy_source=local.follow,
        report=partial(directory.report_contacts, house.room.name, method=""),
    )


def _go_on(connection: Connection) -> None:
    PolicyRows(connection).go_on_restored()


ROOM = Room(
    name="registry",
    package="services.registry",
    settings=Settings,
    compose=compose,
    told_by=("issuer",),
    on_restore=_go_on,
)
