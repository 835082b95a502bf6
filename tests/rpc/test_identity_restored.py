"""An identity room whose store was restored from a backup: no number is given twice, none that a birth took is lost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.person_pb2 import Person
from npd.identity.v1 import number_pb2
from services.mesh.core import restoration
from services.mesh.core.following import FollowedChange
from tests.mesh_fixture import Desk, Stage, new_id, refused
from tests.rpc.test_identity_callers import IdentityScene
from tests.rpc.test_identity_numbers import fill
from tests.rpc.test_identity_successions import succession

ACTIVE, CANCELLED = number_pb2.NUMBER_STATE_ACTIVE, number_pb2.NUMBER_STATE_CANCELLED
FORGOTTEN = "901190777777"


@pytest.fixture
def scene(stage: Stage, desk: Desk) -> IdentityScene:
    return IdentityScene(stage, desk)


@pytest.fixture
def restored(scene: IdentityScene) -> IdentityScene:
    """The room, restored to before all that a test tells it; its feed is not followed to its head yet."""
    note_restored(scene)
    return scene


def note_restored(scene: IdentityScene) -> None:
    """As `npd restored identity` does; the room serves, for a test's sake."""
    scene.rows("INSERT INTO store (incarnation, restore_time, told_again) VALUES (1700000000, now(), false)")
    scene.clock.go_on(timedelta(seconds=2))


def tell_again(scene: IdentityScene) -> None:
    """As `npd restored identity --told-again` does."""
    with scene.identity.house.engine.begin() as connection:
        assert restoration.note_told_again(connection)
    scene.clock.go_on(timedelta(seconds=2))


def test_no_number_is_given_before_the_feed_is_known_and_births_are_told_again(
    restored: IdentityScene, desk: Desk
) -> None:
    office = restored.agency(f"mps/{new_id()[:8]}", {AccessMode.ACCESS_MODE_REGISTER: ["pin"]})
    _, person = restored.citizen()
    calls: tuple[tuple[Callable[[Any], Any], Any], ...] = (
        (restored.civil_status.numbers.ReservePin, restored.reservation()),
        (office.numbers.SucceedPin, succession(restored, office, person)),
    )
    for call, request in calls:
        restored.send_away(call, request)
    restored.catch_up()
    for call, request in calls:
        with restored.recording() as seen:
            refusal = refused(call, request)
        assert (refusal.reason, refusal.metadata) == ("PEER_UNAVAILABLE", {"peer": "civil_status"})
        assert seen.is_nothing
    tell_again(restored)
    for call, request in calls:
        assert call(request).pin


def test_a_number_that_a_birth_took_is_in_force_although_its_reservation_is_forgotten(restored: IdentityScene) -> None:
    subject_id = new_id()
    request = restored.confirmation(FORGOTTEN, subject_id)
    confirm = restored.civil_status.numbers.ConfirmPin
    assert refused(confirm, request).metadata == {"peer": "sharing"}, "first all that the feed tells"
    restored.catch_up()
    with restored.recording() as seen:
        assert confirm(request).state == ACTIVE
    assert [item.person.pin for item in seen.told] == [FORGOTTEN]
    assert restored.state(FORGOTTEN) == ("ACTIVE", None, None)
    with restored.recording() as again:
        assert confirm(restored.confirmation(FORGOTTEN, subject_id)).state == ACTIVE
    assert again.is_nothing
    assert refused(confirm, restored.confirmation(FORGOTTEN, new_id())).reason == "NUMBER_UNKNOWN"
    tell_again(restored)
    late = restored.confirmation("901190777778", new_id())
    assert refused(confirm, late).reason == "NUMBER_UNKNOWN", "who has told again has nothing more to be believed"


def test_a_store_that_was_never_restored_believes_no_birth_without_a_reservation(scene: IdentityScene) -> None:
    confirm = scene.civil_status.numbers.ConfirmPin
    scene.refuse(confirm, scene.confirmation(FORGOTTEN, new_id()), "NUMBER_UNKNOWN")
    assert scene.state(FORGOTTEN) == ()


def test_a_confirmation_told_again_leaves_a_number_alone_that_was_succeeded_since(restored: IdentityScene) -> None:
    subject_id, person = restored.citizen()
    newer = Person(pin="901191123456")
    restored.tell(subject_id, newer, "pin", source="identity")
    restored.catch_up()
    with restored.recording() as seen:
        answer = restored.civil_status.numbers.ConfirmPin(restored.confirmation(person.pin, str(subject_id)))
    assert answer.state == CANCELLED
    assert seen.is_nothing
    assert restored.state(newer.pin) == ("ACTIVE", None, None)


def corrected(scene: IdentityScene, year: int = 1991) -> tuple[str, FollowedChange]:
    """Somebody whose birth year the feed corrects while the history of numbers is not known."""
    subject_id, person = scene.citizen()
    change = scene.tell(subject_id, Person(birth_date=Date(year=year, month=5, day=17)), "birth_date")
    assert scene.state(person.pin) == ("ACTIVE", None, None), "it waits"
    return person.pin, change


def test_a_correction_that_history_has_answered_gives_no_second_number(restored: IdentityScene) -> None:
    old, change = corrected(restored)
    answer = Person(pin="901191654321")
    restored.tell(change.subject_id, answer, "pin", source="identity")
    restored.catch_up()
    assert restored.operations.succeed_postponed() == 0, "nor before births are told again"
    tell_again(restored)
    with restored.recording() as seen:
        assert restored.operations.succeed_postponed() == 1
    assert seen.is_nothing
    assert restored.state(old)[0] == "CANCELLED"
    assert restored.state(answer.pin) == ("ACTIVE", None, None)
    assert restored.operations.succeed_postponed() == 0


def test_a_correction_that_history_has_not_answered_gives_a_number_once_all_are_known(restored: IdentityScene) -> None:
    old, change = corrected(restored)
    restored.catch_up()
    tell_again(restored)
    with restored.recording() as seen:
        assert restored.operations.succeed_postponed() == 1
    [told] = [item for item in seen.told if item.person.pin]
    assert restored.state(old) == ("CANCELLED", "BIRTH_YEAR_CORRECTED", told.person.pin)
    assert told.person.pin[:6] == f"{old[:3]}191"
    assert "identity.succeed_pin" in [link.name for link in restored.links(change.causation.correlation_id)]


def test_a_correction_whose_numbers_are_all_given_waits_and_keeps_nobody_else_from_his(
    restored: IdentityScene,
) -> None:
    (stuck, _), (other, _) = corrected(restored), corrected(restored, year=1992)
    restored.catch_up()
    tell_again(restored)
    space = f"{stuck[:3]}191"
    fill(restored, space, 0)
    assert restored.operations.succeed_postponed() == 1
    assert (restored.state(stuck)[0], restored.state(other)[0]) == ("ACTIVE", "CANCELLED")
    assert restored.operations.succeed_postponed() == 0
    restored.rows("DELETE FROM numbers WHERE pin = :pin", pin=f"{space}000007")
    assert restored.operations.succeed_postponed() == 1
    assert restored.state(stuck) == ("CANCELLED", "BIRTH_YEAR_CORRECTED", f"{space}000007")
