"""The feed's streams in a process of their own: rooms and agencies follow there what others contribute elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from npd.common.v1 import person_pb2
from npd.common.v1.person_pb2 import Person
from npd_client.client import Client
from npd_pki.identity import Kind
from services.identity.app import ROOM as IDENTITY
from services.mesh.core.background import Stopping
from services.mesh.wire.room import House
from services.mesh.wire.serving import Serving
from tests.mesh_fixture import NOWHERE, Desk, Running, Stage, wait_until, wait_until_caught_up
from tests.rpc.test_sharing_callers import CHANGES, Scene

SINGLE = Person(marital_status=person_pb2.MARITAL_STATUS_SINGLE)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def streams(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Another process's worth of the room, on the same store."""
    place: Path = tmp_path_factory.mktemp("streams")
    settings = scene.sharing.house.settings.model_copy(update={"policy_directory": place / "policy"})
    house = House(scene.sharing.house.room, settings, scene.clock)
    running = Running(house, Serving(house), scene.stage.authority)
    running.serving.open(Stopping())
    wait_until(lambda: house.keeper.current.revision >= scene.sharing.house.keeper.current.revision)
    yield running
    running.close()


def test_a_client_follows_where_the_streams_are(scene: Scene, streams: Running) -> None:
    party = scene.system("tax/apart", {CHANGES: ["marital_status"]})
    wait_until(lambda: streams.house.keeper.current.revision >= scene.sharing.house.keeper.current.revision)
    citizen = scene.citizen()
    addresses = {"sharing": NOWHERE, "changes": streams.address}
    with Client(addresses, scene.stage.authority.tls(Kind.AGENCY, "tax/apart"), renew=False) as client:
        cursor = client.pull_changes(party.access).next_cursor
        changes = client.watch_changes(party.access, cursor)
        scene.civil_status.contribute(scene.news(citizen, SINGLE, "marital_status"))
        seen = next(one for message in changes for one in message.changes if "civil_status" in one.source)
        assert seen.citizen.marital_status == SINGLE.marital_status
        client.acknowledge(party.access, applied=cursor)
        changes.close()  # type: ignore[attr-defined]  # a generator
    assert not scene.sharing.house.streams._open


def test_a_room_follows_where_the_streams_are(scene: Scene, streams: Running) -> None:
    identity = scene.stage.start(IDENTITY, sandbox=True, sharing_address=NOWHERE, changes_address=streams.address)
    wait_until_caught_up(identity)
    citizen = scene.citizen()
    wait_until(lambda: _knows(identity, citizen.pin))


def _knows(room: Running, pin: str) -> bool:
    with room.house.engine.connect() as connection:
        return bool(
            connection.execute(text("SELECT count(*) FROM people_pins WHERE pin = :pin"), {"pin": pin}).scalar()
        )
