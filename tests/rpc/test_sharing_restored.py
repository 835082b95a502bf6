"""A record that was restored from a backup and is told again: changes that followers know, and those that are news."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from npd.common.v1 import person_pb2
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.contribution_pb2 import ContributionItem
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_sharing_callers import APPLIED, CONTRIBUTE, Party, Scene

SINGLE, MARRIED, DIVORCED = (
    Person(marital_status=status)
    for status in (
        person_pb2.MARITAL_STATUS_SINGLE,
        person_pb2.MARITAL_STATUS_MARRIED,
        person_pb2.MARITAL_STATUS_DIVORCED,
    )
)
PHONE = Person(phone="+84000000001")


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def registrar(scene: Scene) -> Party:
    return scene.system("moj/local", {CONTRIBUTE: ["marital_status"]})


def news(scene: Scene, person: Person, told: Person) -> ContributionItem:
    scene.clock.go_on(timedelta(seconds=1))
    return scene.news(person, told, *(field.name for field, _ in told.ListFields()))


def tell(scene: Scene, person: Person, *story: tuple[Party, ContributionItem]) -> Sequence[Any]:
    """Tell events one after the other; the ids of all changes of the person since, in the feed's order."""
    wait_until(lambda: scene.rows("SELECT 1 FROM changes_pending") == [])
    [(before,)] = scene.rows("SELECT coalesce(max(position), 0) FROM changes")
    for party, item in story:
        assert [result.status for result in party.contribute(item)] == [APPLIED]
    wait_until(lambda: scene.rows("SELECT 1 FROM changes_pending") == [])
    query = "SELECT change_id FROM changes WHERE pin = :pin AND position > :before ORDER BY position"
    return [change_id for (change_id,) in scene.rows(query, pin=person.pin, before=before)]


def lose(scene: Scene, person: Person, *story: tuple[Party, ContributionItem]) -> Sequence[Any]:
    """Tell events that a restore then takes from the record: the changes that followers have seen of them."""
    scene.rows("CREATE TABLE backup AS SELECT * FROM records WHERE pin = :pin", pin=person.pin)
    seen = tell(scene, person, *story)
    scene.rows(
        "DELETE FROM assertions USING backup WHERE assertions.subject_id = backup.subject_id"
        " AND ordinal > backup.assertion_count"
    )
    scene.rows("DELETE FROM discrepancies USING backup WHERE discrepancies.subject_id = backup.subject_id")
    scene.rows("DELETE FROM records USING backup WHERE records.subject_id = backup.subject_id")
    scene.rows("INSERT INTO records SELECT * FROM backup")
    scene.rows("DELETE FROM contributions WHERE event_id = ANY(:ids)", ids=[item.event_id for _, item in story])
    scene.rows("DROP TABLE backup")
    return seen


def test_the_same_story_makes_the_same_changes_whatever_is_told_of_other_fields_between(scene: Scene) -> None:
    person = scene.citizen(marital_status=None)
    single, married = ((scene.civil_status, news(scene, person, told)) for told in (SINGLE, MARRIED))
    phone = (scene.identity, news(scene, person, PHONE))
    seen = lose(scene, person, single, phone, married)
    assert len(seen) == 3
    again = tell(scene, person, phone, single, married)
    assert [seen.index(change_id) for change_id in again] == [1, 0, 2]


def test_after_news_of_a_field_all_of_it_is_news_that_would_else_be_passed_over(scene: Scene, registrar: Party) -> None:
    person = scene.citizen(marital_status=None)
    lost = (registrar, news(scene, person, MARRIED))
    single, divorced = ((scene.civil_status, news(scene, person, told)) for told in (SINGLE, DIVORCED))
    seen = lose(scene, person, lost, single, divorced)
    assert len(seen) == 3
    again = tell(scene, person, single, divorced)
    assert len(again) == 2
    assert not set(again) & set(seen), "who takes the former value as news must not pass over the latter"


def test_what_was_told_together_is_news_together(scene: Scene, registrar: Party) -> None:
    person = scene.citizen(marital_status=None)
    lost = (registrar, news(scene, person, MARRIED))
    both = Person(marital_status=SINGLE.marital_status, phone=PHONE.phone)
    joint = (scene.identity, news(scene, person, both))
    phone = (scene.identity, news(scene, person, Person(phone="+84000000002")))
    seen = lose(scene, person, lost, joint, phone)
    assert len(seen) == 3
    again = tell(scene, person, joint, phone)
    assert len(again) == 2
    assert not set(again) & set(seen)
