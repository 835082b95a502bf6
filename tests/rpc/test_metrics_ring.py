"""What the ring's rooms measure: the feed, how far followers are behind, who is connected, which chains are held up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from npd.common.v1.person_pb2 import MARITAL_STATUS_MARRIED, Person
from npd.registry.v1 import agency_pb2
from services.civil_status.app import ROOM as CIVIL_STATUS
from services.mesh.core.chain import Act, Causation, Chain
from services.mesh.core.clock import SystemClock
from services.mesh.core.following import Followed, FollowedChange
from services.mesh.core.outbox import Fate, Message, Outbox
from services.mesh.wire import measurement, outgoing
from services.registry import metrics as registry_metrics
from services.registry.app import ROOM as REGISTRY
from services.residence.app import ROOM as RESIDENCE
from tests.mesh_fixture import Desk, Running, Stage, new_id, wait_until
from tests.rpc.test_metrics_rooms import figure
from tests.rpc.test_policy_health import ShiftedClock
from tests.rpc.test_sharing_callers import CHANGES, LOOKUP, Party, Scene
from tests.rpc.test_sharing_changes import now
from tests.rpc.test_sharing_followers import acknowledge

DEATH, CLOSING = "civil_status.register_death", "residence.close_residence"
CLOCK = "RESIDENCE_CLOSED_AFTER_DEATH"
MARRIED = Person(marital_status=MARITAL_STATUS_MARRIED)


@pytest.fixture(scope="module")
def clock() -> ShiftedClock:
    """The registry's clock."""
    return ShiftedClock()


@pytest.fixture(scope="module")
def registry(stage: Stage, clock: ShiftedClock) -> Iterator[Running]:
    """A registry; all rooms here measure all the time."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (measurement, registry_metrics):
            patched.setattr(module, "_MEASURE_EVERY", 0.1)
        patched.setattr(outgoing, "_LOOK_FOR_OVERDUE_EVERY", 0.1)
        yield stage.start(REGISTRY, operators=["lan", "minh"], clock=clock)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def moh(scene: Scene) -> Party:
    """A system that follows changes."""
    return scene.system("moh/core", {CHANGES: ["marital_status"]})


def test_changes_that_get_no_position_show_by_number_and_age(scene: Scene) -> None:
    pending = partial(figure, scene.sharing, "npd_sequence_pending", sequence="feed")
    oldest = partial(figure, scene.sharing, "npd_sequence_oldest_age_seconds", sequence="feed")
    person = scene.citizen(marital_status=None)
    now(scene)
    wait_until(lambda: (pending(), oldest()) == (0, 0))
    with scene.sharing.house.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext('sequencer/feed'))"))
        scene.identity.contribute(scene.news(person, MARRIED, "marital_status"))
        wait_until(lambda: pending() == 1)
        connection.execute(text("UPDATE changes_pending SET record_time = clock_timestamp() - interval '1 hour'"))
        connection.commit()
        wait_until(lambda: 3600 <= (oldest() or 0) < 3700)
        connection.execute(text("SELECT pg_advisory_unlock_all()"))
    wait_until(lambda: (pending(), oldest()) == (0, 0))


def test_followers_show_by_kind_how_far_they_are_behind(scene: Scene, moh: Party) -> None:
    behind, unapplied, oldest = (
        partial(figure, scene.sharing, f"npd_followers_{name}", kind="system")
        for name in ("behind", "unapplied", "oldest_timestamp_seconds")
    )
    person = scene.citizen(marital_status=None)
    acknowledge(moh, applied=now(scene))
    wait_until(lambda: (behind(), unapplied(), oldest()) == (0, 0, 0))
    recorded = scene.clock.now()
    scene.identity.contribute(scene.news(person, MARRIED, "marital_status"))
    wait_until(lambda: (behind(), unapplied(), oldest()) == (0, 1, recorded.timestamp()))
    scene.clock.go_on(timedelta(minutes=6))
    wait_until(lambda: behind() == 1)
    acknowledge(moh, applied=now(scene))
    wait_until(lambda: (behind(), unapplied(), oldest()) == (0, 0, 0))
    rooms = (figure(scene.sharing, f"npd_followers_{name}", kind="room") for name in ("behind", "unapplied"))
    assert None not in rooms


def last_contact(registry: Running, name: str) -> datetime:
    """When the directory last heard of a system; long ago if it never did."""
    with registry.house.engine.connect() as connection:
        query = text("SELECT contact_time FROM contacts WHERE name = :name")
        found: datetime | None = connection.execute(query, {"name": name}).scalar_one_or_none()
    return found or datetime.min.replace(tzinfo=UTC)


def test_connections_show_by_kind_and_state(
    registry: Running, desk: Desk, scene: Scene, moh: Party, clock: ShiftedClock
) -> None:
    def count(kind: str, state: str) -> float:
        return figure(registry, "npd_connections", kind=kind, state=state) or 0

    wait_until(lambda: count("room", "CONNECTED") >= 2)  # registry and sharing
    acknowledge(moh, applied=now(scene))
    wait_until(lambda: (count("database", "CONNECTED"), count("database", "SILENT")) == (1, 0))
    tax = scene.system("tax/core", {LOOKUP: ["sex"]})
    wait_until(lambda: count("caller", "NEVER") == 1)
    began = clock.now()
    tax.get_citizen(scene.citizen())
    wait_until(lambda: last_contact(registry, "tax/core") > began)  # else sharing's report would come after the leap
    wait_until(lambda: (count("caller", "NEVER"), count("caller", "CONNECTED")) == (0, 1))
    clock.ahead = timedelta(minutes=10)
    try:
        wait_until(lambda: (count("database", "SILENT"), count("caller", "SILENT")) == (1, 1))
        suspend = agency_pb2.SuspendSystemRequest(
            request_id=new_id(), agency_id="moh", system_id="core", cause="Closed for the holidays."
        )
        desk.systems.SuspendSystem(suspend)
        wait_until(lambda: (count("database", "SILENT"), count("caller", "SILENT")) == (0, 1))
    finally:
        clock.ahead = timedelta()


def died(time: datetime) -> Act:
    """The act that starts the clock."""
    return Act(uuid4(), uuid4(), None, DEATH, "spiffe://agency.test/hn/civil", None, time)


def test_a_death_that_is_not_told_in_time_holds_its_chain_up(stage: Stage, scene: Scene) -> None:
    civil_status = stage.start(CIVIL_STATUS)
    overdue = partial(figure, civil_status, "npd_chains_overdue", clock=CLOCK)
    wait_until(lambda: overdue() == 0)
    long_ago, today = (died(SystemClock().now() - timedelta(days=days)) for days in (30, 0))
    with civil_status.house.engine.begin() as connection:
        outbox = Outbox(connection)
        for act in (long_ago, today):
            Chain(connection).add(act)
            outbox.put(Message(act.act_id, "sharing", "contribution", uuid4(), b"", act.causation))
        for number in connection.execute(text("SELECT outbox_id FROM outbox")).scalars().all():
            outbox.set_aside(number, Fate("FIELD_INVALID"), datetime.now(UTC))
    wait_until(lambda: overdue() == 1)
    assert figure(civil_status, "npd_set_aside") is not None
    with civil_status.house.engine.begin() as connection:
        connection.execute(text("DELETE FROM outbox"))
    wait_until(lambda: overdue() == 0)
    wait_until(lambda: figure(civil_status, "npd_set_aside") == 0)


def test_a_death_that_is_set_aside_holds_its_chain_up_until_the_residence_is_closed(stage: Stage, scene: Scene) -> None:
    residence = stage.start(RESIDENCE)
    overdue = partial(figure, residence, "npd_chains_overdue", clock=CLOCK)
    month_ago = SystemClock().now() - timedelta(days=30)
    told = (("civil_status", month_ago), ("civil_status", SystemClock().now()), ("identity", month_ago))
    chains = [set_aside(residence, source, time) for source, time in told]
    wait_until(lambda: overdue() == 1)
    closing = Act.caused(CLOSING, "spiffe://mesh.test/residence", Causation(chains[0], uuid4()), SystemClock().now())
    with residence.house.engine.begin() as connection:
        Chain(connection).add(closing)
    wait_until(lambda: overdue() == 0)


def set_aside(room: Running, source: str, time: datetime) -> UUID:
    """A change that the room could not apply; returns its chain."""
    causation = Causation(uuid4(), uuid4())
    change = FollowedChange(1, uuid4(), uuid4(), "1", ("death_or_missing",), b"", source, time, time, causation)
    with room.house.engine.begin() as connection:
        Followed(connection).set_aside(change, Fate("INTERNAL"))
    return causation.correlation_id
