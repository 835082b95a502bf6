"""Composition root of the sharing room: the only place that wires its modules."""

from functools import partial

from pydantic import Field

from npd.sharing.v1 import (
    change_pb2,
    change_pb2_grpc,
    contribution_pb2,
    contribution_pb2_grpc,
    lookup_pb2,
    lookup_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)
from services.mesh.core.background import Background
from services.mesh.core.config import RoomSettings
from services.mesh.core.db import DirectConnection, itself
from services.mesh.core.gather import Gatherer
from services.mesh.core.sequencer import Sequencer
from services.mesh.wire.metrics import SEQUENCED
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import Served
from services.sharing import metrics
from services.sharing.changes.operations import Acknowledging, Delivering
from services.sharing.changes.reader import FeedReader
from services.sharing.changes.repository import integrate
from services.sharing.changes.servicer import ChangeServicer
from services.sharing.changes.tables import CHANGES_PENDING
from services.sharing.contribution.operations import Contributing
from services.sharing.contribution.servicer import ContributionServicer
from services.sharing.flow import FlowReport
from services.sharing.links import ChainLinks
from services.sharing.lookup.operations import LookingUp
from services.sharing.lookup.servicer import LookupServicer
from services.sharing.policy import METHODS
from services.sharing.unit import Sharing
from services.sharing.usage.operations import FindingUsage, RecordingUses
from services.sharing.usage.servicer import UsageServicer
from services.sharing.verification.operations import Verifying
from services.sharing.verification.servicer import VerificationServicer


class Settings(RoomSettings):
    """What the sharing room is told besides."""

    sandbox: bool = Field(default=False, description="whether PINs of the synthetic range exist here")
    lookup_queue: int = Field(
        default=512, ge=1, description="lookups that may wait for the gatherer, and as many verifications"
    )
    lookup_batch: int = Field(default=64, ge=1, description="lookups, or verifications, answered in one transaction")


def compose(house: House) -> Composition:
    """Wire the room."""
    settings = house.settings
    assert isinstance(settings, Settings)  # noqa: S101 - ROOM names them
    clock, sealer, sandbox = house.clock, house.sealer, settings.sandbox
    database = house.database(partial(Sharing, sealer=sealer))
    policy = lambda: house.keeper.current  # noqa: E731
    reader = FeedReader(database, house.streams.wake)

    def sequenced(moved: int) -> None:
        SEQUENCED.labels("feed").inc(moved)
        reader.wake()

    feed = Sequencer(house.database(itself), "feed", integrate, pending=CHANGES_PENDING, after=sequenced)
    # one connection, so that lookups and verifications take turns: asking both at once gives no more guesses
    store = DirectConnection(house.engine)
    limits = {"queue": settings.lookup_queue, "batch": settings.lookup_batch}
    lookups = Gatherer(LookingUp(store, policy, sealer, clock).get_citizens, **limits)
    verifications = Gatherer(Verifying(store, policy, sealer, clock).verify_citizens, **limits)
    report = FlowReport(database, policy, clock, measure=metrics.measure)
    contributing = Contributing(database, policy, clock, feed.wake, report.taken, sealer.mark)
    following = Delivering(database, reader, policy, clock)
    acknowledging = Acknowledging(database, following.require_right, clock)
    usage = FindingUsage(database, policy, sealer, clock)
    return Composition(
        served=(
            Served(
                contribution_pb2.DESCRIPTOR.services_by_name["ContributionService"],
                contribution_pb2_grpc.add_ContributionServiceServicer_to_server,
                ContributionServicer(contributing, clock, sandbox=sandbox),
            ),
            Served(
                lookup_pb2.DESCRIPTOR.services_by_name["LookupService"],
                lookup_pb2_grpc.add_LookupServiceServicer_to_server,
                LookupServicer(lookups, clock, sandbox=sandbox),
            ),
            Served(
                verification_pb2.DESCRIPTOR.services_by_name["VerificationService"],
                verification_pb2_grpc.add_VerificationServiceServicer_to_server,
                VerificationServicer(verifications, clock, sandbox=sandbox),
            ),
            Served(
                change_pb2.DESCRIPTOR.services_by_name["ChangeService"],
                change_pb2_grpc.add_ChangeServiceServicer_to_server,
                ChangeServicer(following, acknowledging, house.streams),
            ),
            Served(
                usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
                usage_pb2_grpc.add_UsageServiceServicer_to_server,
                UsageServicer(usage, RecordingUses(database, policy, clock), policy, clock, sandbox=sandbox),
            ),
        ),
        methods=METHODS,
        background=(Background("feed", feed.run), Background("feed-reader", reader.run)),
        flow=report.flow,
        links=ChainLinks(settings.environment, policy, clock).read,
        sequencers=(feed,),
    )


ROOM = Room("sharing", "services.sharing", Settings, compose, told_by=("civil_status", "identity", "residence"))
