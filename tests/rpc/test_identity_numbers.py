"""Numbers are reserved before a birth is registered, confirmed by it, and free again if it never comes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.person_pb2 import SEX_MALE, Person
from npd.common.v1.place_pb2 import AdminPlace
from npd.identity.v1 import number_pb2
from npd_client.errors import Refusal
from services.mesh.core.evidence.entry import PseudonymKey
from tests.mesh_fixture import Desk, Stage, new_id, wait_until
from tests.rpc.test_identity_callers import (
    CIVIL_STATUS,
    DONE,
    NUMBERS,
    IdentityScene,
    event_time,
)
from tests.rpc.test_sharing_callers import refusal_or

ACTIVE = number_pb2.NUMBER_STATE_ACTIVE


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> IdentityScene:
    return IdentityScene(stage, desk, expired_kept=timedelta(days=2))


@pytest.fixture
def settled(scene: IdentityScene) -> Iterator[None]:
    """Takes back what a test put into a space."""
    yield
    scene.rows(
        "DELETE FROM numbers WHERE subject_id IN (SELECT subject_id FROM numbers GROUP BY 1 HAVING count(*) > 1)"
    )


def fill(scene: IdentityScene, space: str, free: int) -> set[str]:
    """Give all numbers of a space but some to nobody who matters; returns those that stay free."""
    left = {f"{space}{serial:06}" for serial in range(7, 1_000_000, 1_000_000 // free if free else 1_000_000)[:free]}
    scene.rows(
        "INSERT INTO numbers (pin, subject_id, state, birth_year, birth_month, birth_day, sex, state_time)"
        " SELECT pin, CAST(:nobody AS uuid), 'ACTIVE', 0, 0, 0, 0, now() FROM (SELECT CAST(:space AS text)"
        " || lpad(serial::text, 6, '0') AS pin FROM generate_series(0, 999999) AS serial) AS drawn"
        " WHERE pin <> ALL (CAST(:left AS text[]))",
        nobody=new_id(),
        space=space,
        left=list(left),
    )
    scene.rows("ANALYZE numbers")
    return left


def test_a_number_is_reserved_for_a_day_and_recorded_with_the_registrars_ground(scene: IdentityScene) -> None:
    with scene.recording() as seen:
        reserved = scene.reserve(year=2026, sex=SEX_MALE)
    assert reserved.pin.startswith("979226")
    assert reserved.expire_time.ToDatetime(UTC) == scene.clock.now() + timedelta(hours=24)
    assert UUID(reserved.subject_id).version == 4
    (entry,) = seen.entries
    assert (entry.caller, entry.method, entry.outcome) == (CIVIL_STATUS, f"{NUMBERS}/ReservePin", DONE)
    assert (entry.access, list(entry.paths), entry.object) == (scene.relayed, ["pin"], "number")
    assert entry.HasField("subject")
    assert reserved.pin.encode() not in entry.SerializeToString()
    assert not seen.told, "nothing is told of a number that is not in force"
    assert scene.state(reserved.pin) == ("RESERVED", None, None)


def test_a_repeat_gets_the_first_number_and_takes_no_other(scene: IdentityScene) -> None:
    request = scene.reservation()
    first = scene.civil_status.numbers.ReservePin(request)
    held = scene.rows("SELECT count(*) FROM numbers")
    with scene.recording() as seen:
        assert scene.civil_status.numbers.ReservePin(request) == first
    assert seen.is_nothing
    assert scene.rows("SELECT count(*) FROM numbers") == held
    request.birth.birth_date.year = 1991
    scene.refuse(scene.civil_status.numbers.ReservePin, request, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"registration_place": AdminPlace(unit_code="79", unit_list_version="2024-12-31")}, "PLACE_CODE_UNKNOWN", ""),
        ({"registration_place": AdminPlace(unit_code="98")}, "PLACE_CODE_UNKNOWN", ""),
        ({"registration_place": AdminPlace(country_code="FR")}, "PLACE_CODE_UNKNOWN", ""),
        ({"birth_date": Date(year=1899)}, "FIELD_INVALID", "birth.birth_date"),
        ({"birth_date": Date(year=2200)}, "FIELD_INVALID", "birth.birth_date"),
        ({"birth_date": Date(year=1990, month=2, day=30)}, "FIELD_INVALID", "birth.birth_date"),
        ({"sex": 3}, "FIELD_INVALID", "birth.sex"),
        ({"sex": 0}, "FIELD_REQUIRED", "birth.sex"),
    ],
)
def test_facts_of_which_no_number_can_be_built_are_refused(
    scene: IdentityScene, changes: dict[str, Any], reason: str, field: str
) -> None:
    request = scene.reservation()
    for name, value in changes.items():
        request.birth.ClearField(name)  # type: ignore[arg-type]  # the stub wants a literal
        request.birth.MergeFrom(number_pb2.BirthFacts(**{name: value}))
        if name == "registration_place" and "unit_list_version" not in str(value):
            request.birth.registration_place.unit_list_version = scene.facts().registration_place.unit_list_version
    refusal = scene.refuse(scene.civil_status.numbers.ReservePin, request, reason)
    if field:
        assert [violation.field for violation in refusal.violations] == [field]
    else:
        assert refusal.metadata["field"] == "birth.registration_place"


def test_a_reservation_names_the_system_whose_act_it_is_for(scene: IdentityScene) -> None:
    request = scene.reservation()
    request.access.origin = ""
    refusal = scene.refuse(scene.civil_status.numbers.ReservePin, request, "FIELD_INVALID")
    assert refusal.violations[0].field == "access.origin"


def test_a_birth_confirms_its_number_and_the_record_is_told_of_it(scene: IdentityScene) -> None:
    reserved = scene.reserve(year=2024)
    request = scene.confirmation(reserved.pin, reserved.subject_id)
    with scene.recording() as seen:
        assert scene.civil_status.numbers.ConfirmPin(request).state == ACTIVE
    assert scene.state(reserved.pin) == ("ACTIVE", None, None)
    (entry,) = seen.entries
    assert (entry.method, entry.outcome, entry.object) == (f"{NUMBERS}/ConfirmPin", DONE, "number")
    (link,) = scene.links(request.causation.correlation_id)
    assert (link.name, link.actor, str(link.causation_id)) == (
        "identity.confirm_pin", CIVIL_STATUS, request.causation.causation_id,
    )  # fmt: skip
    (item,) = seen.told
    assert (item.WhichOneof("subject"), item.subject_id) == ("subject_id", reserved.subject_id)
    assert (item.person, list(item.update_mask.paths)) == (Person(pin=reserved.pin), ["pin"])
    assert (item.causation.correlation_id, item.causation.causation_id) == (
        request.causation.correlation_id, str(link.act_id),
    )  # fmt: skip
    assert event_time(item) == scene.clock.now()
    query = (
        "SELECT pin, full_name, birth_year, birth_month, birth_day, sex, is_deceased FROM people WHERE subject_id = :id"
    )
    assert scene.rows(query, id=UUID(reserved.subject_id)) == [(reserved.pin, "", 2024, 5, 17, 2, False)]


def test_a_repeated_confirmation_changes_nothing(scene: IdentityScene) -> None:
    reserved = scene.reserve()
    request = scene.confirmation(reserved.pin, reserved.subject_id)
    scene.civil_status.numbers.ConfirmPin(request)
    for again in (request, scene.confirmation(reserved.pin, reserved.subject_id)):
        with scene.recording() as seen:
            assert scene.civil_status.numbers.ConfirmPin(again).state == ACTIVE
        assert seen.is_nothing
    other = scene.confirmation(reserved.pin, reserved.subject_id)
    other.request_id = request.request_id
    scene.refuse(scene.civil_status.numbers.ConfirmPin, other, "REQUEST_ID_REUSED")


def test_a_confirmation_that_comes_twice_at_once_is_told_once(scene: IdentityScene) -> None:
    reserved = scene.reserve()
    requests = [scene.confirmation(reserved.pin, reserved.subject_id) for _ in range(8)]
    with scene.recording() as seen, ThreadPoolExecutor(8) as callers:
        states = [answer.state for answer in callers.map(scene.civil_status.numbers.ConfirmPin, requests)]
    assert states == [ACTIVE] * 8
    assert len(seen.told) == len(seen.entries) == 1


def test_a_number_that_was_never_given_or_is_anothers_is_not_confirmed(scene: IdentityScene) -> None:
    reserved, other = scene.reserve(), scene.reserve()
    confirm = scene.civil_status.numbers.ConfirmPin
    scene.refuse(confirm, scene.confirmation("901190999999", reserved.subject_id), "NUMBER_UNKNOWN")
    scene.refuse(confirm, scene.confirmation(reserved.pin, other.subject_id), "NUMBER_UNKNOWN")
    assert scene.state(reserved.pin)[0] == "RESERVED"
    scene.refuse(confirm, scene.confirmation("12345", reserved.subject_id), "FIELD_INVALID")
    scene.refuse(confirm, scene.confirmation(reserved.pin, "nobody"), "FIELD_INVALID")
    malformed = scene.confirmation(reserved.pin, reserved.subject_id)
    malformed.causation.causation_id = "act"
    refusal = scene.refuse(confirm, malformed, "FIELD_INVALID")
    assert refusal.violations[0].field == "causation.causation_id"


def test_a_cancelled_number_is_not_confirmed(scene: IdentityScene) -> None:
    reserved = scene.reserve()
    scene.rows("UPDATE numbers SET state = 'CANCELLED', successor = pin WHERE pin = :pin", pin=reserved.pin)
    request = scene.confirmation(reserved.pin, reserved.subject_id)
    refusal = scene.refuse(scene.civil_status.numbers.ConfirmPin, request, "STATE_NOT_ALLOWED")
    assert refusal.metadata == {"object": "number", "state": "CANCELLED"}


def test_a_late_confirmation_finds_its_number_until_it_is_released(scene: IdentityScene) -> None:
    late, never, confirmed = scene.reserve(), scene.reserve(), scene.reserve()
    scene.civil_status.numbers.ConfirmPin(scene.confirmation(confirmed.pin, confirmed.subject_id))
    scene.clock.go_on(timedelta(days=3))
    scene.operations.release_expired()
    assert scene.state(never.pin)[0] == "RESERVED", "kept to the end of its two days"
    request = scene.confirmation(late.pin, late.subject_id)
    assert scene.civil_status.numbers.ConfirmPin(request).state == ACTIVE
    scene.clock.go_on(timedelta(seconds=1))
    scene.operations.release_expired()
    assert (scene.state(never.pin), scene.state(late.pin)[0], scene.state(confirmed.pin)[0]) == ((), "ACTIVE", "ACTIVE")
    request = scene.confirmation(never.pin, never.subject_id)
    scene.refuse(scene.civil_status.numbers.ConfirmPin, request, "NUMBER_UNKNOWN")
    scene.clock.go_on(timedelta(days=5))
    scene.operations.release_expired()
    assert scene.state(late.pin)[0] == scene.state(confirmed.pin)[0] == "ACTIVE", "given is given for ever"


@pytest.mark.usefixtures("settled")
def test_callers_at_once_share_the_last_numbers_and_none_twice(scene: IdentityScene) -> None:
    free = fill(scene, "979188", 10)
    requests = [scene.reservation(year=1988) for _ in range(16)]
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda one: refusal_or(scene.civil_status.numbers.ReservePin, one), requests))
    given = [answer.pin for answer in answers if isinstance(answer, number_pb2.ReservePinResponse)]
    refused = [answer.reason for answer in answers if not isinstance(answer, number_pb2.ReservePinResponse)]
    assert (sorted(given), refused) == (sorted(free), ["NUMBER_SPACE_EXHAUSTED"] * 6)
    scene.refuse(scene.civil_status.numbers.ReservePin, scene.reservation(year=1988), "NUMBER_SPACE_EXHAUSTED")
    assert scene.reserve(year=1988, sex=SEX_MALE).pin.startswith("979088"), "another sex has numbers of its own"

    scene.clock.go_on(timedelta(days=3, seconds=1))
    scene.operations.release_expired()
    assert scene.reserve(year=1988).pin in free, "what was never confirmed is free again"


def test_callers_at_once_get_different_numbers(scene: IdentityScene) -> None:
    requests = [scene.reservation(year=2011) for _ in range(200)]
    with scene.recording() as seen, ThreadPoolExecutor(16) as callers:
        given = [answer.pin for answer in callers.map(scene.civil_status.numbers.ReservePin, requests)]
    assert len(set(given)) == len(seen.entries) == 200
    serials = sorted(int(pin[6:]) for pin in given)
    assert serials[0] < 200_000
    assert serials[-1] > 800_000, "drawn from the whole space"


def test_pseudonyms_tell_reservations_apart(scene: IdentityScene) -> None:
    with scene.recording() as seen:
        reserved = [scene.reserve(), scene.reserve()]
    key = bytes.fromhex(scene.identity.house.settings.pseudonym_key_file.read_text())
    expected = [PseudonymKey("k1", key).pseudonym(UUID(one.subject_id)) for one in reserved]
    assert [entry.subject.pseudonym for entry in seen.entries] == expected


def test_the_room_releases_expired_reservations_by_itself(stage: Stage, desk: Desk) -> None:
    told: dict[str, Any] = {"reservation_life": timedelta(hours=1), "expired_kept": timedelta(hours=2)}
    scene = IdentityScene(stage, desk, sweep_every=timedelta(milliseconds=50), **told)
    reserved = scene.reserve()
    scene.clock.go_on(timedelta(hours=3, seconds=1))
    wait_until(lambda: scene.state(reserved.pin) == ())


def test_acts_are_refused_while_too_much_waits_to_be_handed_on(stage: Stage, desk: Desk) -> None:
    scene = IdentityScene(stage, desk, backlog_limit=2)
    confirm = scene.civil_status.numbers.ConfirmPin

    def is_refused() -> bool:
        reserved = scene.reserve()
        answer = refusal_or(confirm, scene.confirmation(reserved.pin, reserved.subject_id))
        return isinstance(answer, Refusal) and answer.reason == "OVERLOADED"

    wait_until(is_refused)
    held = scene.rows("SELECT count(*) FROM outbox")
    assert is_refused()
    assert scene.rows("SELECT count(*) FROM outbox") == held
