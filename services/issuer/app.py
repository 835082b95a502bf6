"""The issuer, put together. Everything that it needs comes in through constructors, here alone."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from npd.issuer.v1 import (
    authority_pb2,
    authority_pb2_grpc,
    certificate_pb2,
    certificate_pb2_grpc,
    door_pb2,
    door_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
)
from services.issuer.acknowledgements import connected_rooms
from services.issuer.convert.certificates import approvable
from services.issuer.domain import REGISTRY, ROOM_NAME
from services.issuer.keyring import Keyring
from services.issuer.metrics import Measurement
from services.issuer.operations.applications import ApplicationOperations
from services.issuer.operations.authorities import AuthorityOperations
from services.issuer.operations.door import DoorOperations
from services.issuer.operations.enrolments import EnrolmentOperations
from services.issuer.operations.inventory import InventoryOperations
from services.issuer.operations.issuance import Issuance
from services.issuer.operations.issuing import Issuing
from services.issuer.operations.office import Office, Terms
from services.issuer.operations.reconciliation import Reconciliation
from services.issuer.operations.renewals import RenewalOperations
from services.issuer.operations.revocation_lists import RevocationLists
from services.issuer.operations.revocations import RevocationOperations
from services.issuer.operations.signing_requests import KeyRules
from services.issuer.peers import ACT, Registry, message
from services.issuer.policy import DOOR_METHODS, METHODS
from services.issuer.repository import Ledger
from services.issuer.servicer.authorities import AuthorityServicer
from services.issuer.servicer.certificates import CertificateServicer
from services.issuer.servicer.door import DoorServicer
from services.issuer.servicer.enrolments import EnrolmentServicer
from services.issuer.trust import TrustBundle
from services.mesh.core.background import Background
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.config import RoomSettings
from services.mesh.wire.door import Door
from services.mesh.wire.outgoing import Outgoing
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import Served


class Settings(RoomSettings):
    """What the issuer is told beside what every room is."""

    authorities_directory: Path = Field(
        description="directory of the issuing CAs: <name>/ca.crt with ca.key or pkcs11.toml"
    )
    authorities_passphrase_file: Path | None = Field(
        default=None, description="file of mode 0600 with the passphrase of their keys, unless all are in modules"
    )
    revocation_list_directory: Path = Field(description="directory where revocation lists are published")
    trust_bundle_file: Path | None = Field(default=None, description="signed bundle of the roots to trust")
    door_listen: str = Field(
        default="",
        description="host:port of the door, such as 0.0.0.0:7100; unset: other processes of this room have it",
    )
    door_address_limit: int = Field(default=60, ge=1, description="calls a minute at the door from one address")
    door_limit: int = Field(default=3000, ge=1, description="calls a minute at the door from all addresses together")
    agency_limit: int = Field(default=600, ge=1, description="certificates an hour for one agency or operator")
    application_life: timedelta = Field(
        default=timedelta(days=7), gt=timedelta(0), description="until when an application waits for a second person"
    )
    urgent_within: timedelta = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="within which leaves of a tainted authority renew"
    )
    list_every: timedelta = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="between two revocation lists if nothing is revoked"
    )
    list_life: timedelta = Field(
        default=timedelta(days=3), gt=timedelta(0), description="until when a revocation list is valid"
    )
    backlog_limit: int = Field(
        default=1_000_000, ge=1, description="nothing is issued while so many messages wait to be handed on"
    )


def compose(house: House) -> Composition:
    """Wire the room."""
    settings = house.settings
    if not isinstance(settings, Settings):
        raise TypeError("the issuer is composed with its own settings")
    settings.require_writable("revocation_list_directory")
    channel = house.channel(REGISTRY)
    outgoing = Outgoing(house, {REGISTRY: {ACT: Registry(channel).record_acts}}, backlog_limit=settings.backlog_limit)
    clock = house.clock
    office = Office(
        database=house.database(lambda connection: Ledger(connection, house.log_of(connection)), outgoing.committed),
        policy=lambda: house.keeper.current,
        clock=clock,
        keyring=Keyring(settings.authorities_directory, settings.authorities_passphrase_file, settings.environment),
        environment=settings.environment,
        itself=Caller(house.identity, CallerKind.ROOM, house.room.name),
        terms=Terms(
            agency_limit=settings.agency_limit,
            application_life=settings.application_life,
            urgent_within=settings.urgent_within,
            list_life=settings.list_life,
            list_every=settings.list_every,
        ),
        message=message,
        require_room=outgoing.require_room,
    )
    roots = lambda: house.credentials.roots  # noqa: E731
    bundle = TrustBundle(settings.trust_bundle_file, roots).content
    issuing, rules = Issuing(office), KeyRules(office, roots)
    applications = ApplicationOperations(office, issuing, rules, approvable)
    issuance = Issuance(office, issuing, approvable)
    lists = RevocationLists(office, settings.revocation_list_directory)
    reconciliation = Reconciliation(office, lists.wake)
    certificates = CertificateServicer(
        applications,
        RenewalOperations(office, issuing, rules, applications),
        RevocationOperations(office, lists.wake),
        InventoryOperations(office),
        issuing,
        clock,
        bundle,
    )
    return Composition(
        served=[
            Served(
                certificate_pb2.DESCRIPTOR.services_by_name["CertificateService"],
                certificate_pb2_grpc.add_CertificateServiceServicer_to_server,
                certificates,
            ),
            Served(
                enrolment_pb2.DESCRIPTOR.services_by_name["EnrolmentService"],
                enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server,
                EnrolmentServicer(EnrolmentOperations(office), clock),
            ),
            Served(
                authority_pb2.DESCRIPTOR.services_by_name["AuthorityService"],
                authority_pb2_grpc.add_AuthorityServiceServicer_to_server,
                AuthorityServicer(AuthorityOperations(office, connected_rooms(channel), lists.wake)),
            ),
        ],
        methods=METHODS,
        background=[
            *outgoing.background(),
            Background("issuance", issuance.run),
            Background("reconciliation", reconciliation.run),
            Background("revocation lists", lists.run),
            Background("inventory", Measurement(office).run),
        ],
        on_policy_change=[reconciliation.wake],
        flow=outgoing.flow,
        retry=outgoing.wake,
        approved=issuance.wake,
        door=None
        if not settings.door_listen
        else Door(
            listen=settings.door_listen,
            served=[
                Served(
                    door_pb2.DESCRIPTOR.services_by_name["DoorService"],
                    door_pb2_grpc.add_DoorServiceServicer_to_server,
                    DoorServicer(DoorOperations(office, issuing, rules, applications, roots), lists, clock, bundle),
                )
            ],
            methods=DOOR_METHODS,
            per_address=settings.door_address_limit,
            overall=settings.door_limit,
        ),
    )


ROOM = Room(name=ROOM_NAME, package="services.issuer", settings=Settings, compose=compose)
