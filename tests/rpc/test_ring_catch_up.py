"""A room that was down catches up with the feed: every change once and in order, also when the feed was restored."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from npd.common.v1.person_pb2 import Person
from npd.common.v1.place_pb2 import Address
from npd.residence.v1.residence_pb2_grpc import ResidenceServiceStub
from npd.sharing.v1.contribution_pb2 import ContributionItem
from npd_pki.identity import Kind
from services.mesh.core.background import Stopping
from services.mesh.core.clock import legal_date
from services.mesh.wire.room import House
from services.mesh.wire.serving import Serving
from services.residence.app import ROOM
from tests.mesh_fixture import Desk, Running, Stage, wait_until
from tests.rpc.test_residence_registration import death
from tests.rpc.test_residence_ring import RingScene
from tests.rpc.test_sharing_callers import APPLIED, Party

PEOPLE, CHANGES, DEATHS, BATCH = 300, 2_000, 20, 250
SECONDS = 60.0

# A witness in the room's own store: which permanent residence it took over from the record, one row each time.
WITNESS = (
    "CREATE TABLE witnessed (number bigint GENERATED ALWAYS AS IDENTITY, subject_id uuid, detail_text text)",
    "CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "INSERT INTO witnessed (subject_id, detail_text) VALUES (NEW.subject_id, NEW.detail_text); RETURN NULL; END $$",
    "CREATE TRIGGER witness AFTER INSERT OR UPDATE ON residences FOR EACH ROW "
    "WHEN (NEW.kind = 'PERMANENT' AND NEW.state = 'ACTIVE') EXECUTE FUNCTION witness()",
)
STATE = ("people", "people_pins", "residences", "witnessed", "changes_taken", "chain_links")


class Scene(RingScene):
    """Sharing, a room residence that can be down, and citizens."""

    def __init__(self, stage: Stage, desk: Desk) -> None:
        super().__init__(stage, desk)
        self._stage = stage
        self._opened: list[Running] = []
        self.day = legal_date(self.record.clock.now())

    def down(self) -> None:
        """End the room."""
        self.room.close()

    def up(self) -> None:
        """Let the room serve again over the store that it left."""
        house = House(ROOM, self.room.house.settings, self.record.clock)
        self.room = Running(house, Serving(house), self._stage.authority)
        self._opened.append(self.room)
        self.room.serving.open(Stopping())
        self.stub = ResidenceServiceStub(self.room.channel(Kind.AGENCY, "police/residence"))

    def close(self) -> None:
        """End what was opened here."""
        for room in self._opened:
            room.close()

    def record_all(self, source: Party, items: Sequence[ContributionItem]) -> None:
        """Let the record take items, in their order."""
        for start in range(0, len(items), BATCH):
            results = source.contribute(*items[start : start + BATCH])
            assert {result.status for result in results} == {APPLIED}

    def address(self, person: Person, number: int) -> ContributionItem:
        """The record learns of somebody's address, which tells its number."""
        home = Address(place=person.permanent_residence.place, detail_text=f"Số {number}")
        return self.record.news(person, Person(permanent_residence=home), "permanent_residence")

    def feed(self) -> tuple[int, int]:
        """The incarnation and the head of the feed; everything that was recorded has its position."""
        wait_until(lambda: self.record.rows("SELECT 1 FROM changes_pending") == [])
        query = "SELECT (SELECT max(incarnation) FROM store), coalesce(max(position), 0) FROM changes"
        [(incarnation, head)] = self.record.rows(query)
        return incarnation, head

    def has_caught_up(self) -> bool:
        """Whether the room has applied everything, told everything, and said so."""
        place = [tuple(row) for row in self.rows("SELECT incarnation, position FROM feed_cursor")]
        return not self.rows("SELECT 1 FROM outbox") and place == [self.feed()] == self.acknowledged()

    def acknowledged(self) -> list[tuple[Any, ...]]:
        """What the room has acknowledged as applied."""
        return self.record.rows("SELECT incarnation, applied FROM followers WHERE follower = 'residence'")

    def visible(self) -> int:
        """How many changes of the feed the room may see."""
        paths = self.record.sharing.house.keeper.current.followed_by("residence", self.day)
        [(count,)] = self.record.rows("SELECT count(*) FROM changes WHERE paths && :paths", paths=sorted(paths))
        return int(count)

    def sizes(self) -> dict[str, int]:
        """How many rows the room has in each table."""
        return {table: self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in STATE}  # noqa: S608 - names of ours

    def witnessed(self) -> list[str]:
        """The addresses that the room took over, in its order."""
        return [row.detail_text for row in self.rows("SELECT detail_text FROM witnessed ORDER BY number")]


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Iterator[Scene]:
    scene = Scene(stage, desk)
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def people(scene: Scene) -> list[Person]:
    """Citizens whom the room knew before it went down, and meanwhile 2,000 addresses of theirs, and 20 deaths."""
    births = [scene.record.birth(temporary_residence=None) for _ in range(PEOPLE)]
    scene.record_all(scene.record.identity, births)
    wait_until(scene.has_caught_up, SECONDS)
    with scene.room.house.engine.begin() as connection:
        for statement in WITNESS:
            connection.execute(text(statement))
    scene.down()
    found = [item.person for item in births]
    news = [scene.address(found[number % PEOPLE], number) for number in range(CHANGES)]
    scene.record_all(scene.record.identity, news)
    dead = [scene.record.news(one, death(scene.day), "death_or_missing") for one in found[:DEATHS]]
    scene.record_all(scene.record.civil_status, dead)
    return found


def test_a_room_that_was_down_takes_each_change_once_and_in_order(scene: Scene, people: list[Person]) -> None:
    assert scene.acknowledged()[0][1] < scene.feed()[1] - CHANGES, "it has everything before it"
    scene.up()
    wait_until(scene.has_caught_up, SECONDS)
    assert scene.witnessed() == [f"Số {number}" for number in range(CHANGES)]
    assert scene.sizes()["changes_taken"] == scene.visible()
    assert scene.rows("SELECT 1 FROM changes_set_aside") == []
    assert scene.record.rows("SELECT 1 FROM rejections") == []
    for index in range(0, PEOPLE, 7):
        residences = [one.address.detail_text for one in scene.resides(people[index])]
        assert residences == [f"Số {max(number for number in range(index, CHANGES, PEOPLE))}"]
    closed = scene.rows("SELECT count(*) FROM residences WHERE state <> 'ACTIVE'")
    acts = scene.rows("SELECT count(*) FROM chain_links WHERE act = 'residence.close_residence'")
    assert (closed, acts) == ([(DEATHS,)], [(DEATHS,)]), "each death closed one residence, once"
    assert scene.recorded(people[0]) == Person()
    last = max(number for number in range(DEATHS, CHANGES, PEOPLE))
    assert scene.recorded(people[DEATHS]).permanent_residence.detail_text == f"Số {last}"


def test_a_restored_feed_is_followed_again_and_nothing_is_done_twice(scene: Scene, people: list[Person]) -> None:
    wait_until(scene.has_caught_up, SECONDS)
    incarnation, head = scene.feed()
    before, told = scene.sizes(), scene.record.rows("SELECT count(*) FROM contributions")
    residences = scene.rows("SELECT * FROM residences ORDER BY residence_id")
    entries = len(scene.room.entries())
    scene.down()
    scene.record.rows("INSERT INTO store (incarnation) VALUES (:next)", next=incarnation + 1)  # as after a restore
    scene.up()
    wait_until(scene.has_caught_up, SECONDS)
    assert scene.acknowledged() == [(incarnation + 1, head)]
    assert scene.sizes() == before
    assert len(scene.room.entries()) == entries
    assert scene.record.rows("SELECT count(*) FROM contributions") == told
    assert scene.rows("SELECT * FROM residences ORDER BY residence_id") == residences

    scene.record_all(scene.record.identity, [scene.address(people[DEATHS], CHANGES)])
    wait_until(scene.has_caught_up, SECONDS)
    assert scene.witnessed()[before["witnessed"] :] == [f"Số {CHANGES}"], "what is new is applied"
    assert scene.rows("SELECT 1 FROM changes_set_aside") == []
