"""The law as data: complete, consistent in itself, and in step with the contract."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from npd.common.v1 import person_pb2
from services.mesh.core.clock import LEGAL_ZONE
from services.mesh.core.rights import Lane
from services.registry import law

PERSON = [field.name for field in person_pb2.Person.DESCRIPTOR.fields]
ROOMS = {"identity", "residence", "civil_status"}


def test_catalogue_is_the_fields_of_person() -> None:
    assert [field.path for field in law.fields()] == PERSON


def test_every_field_has_a_source_and_a_provision_that_is_known() -> None:
    known = {provision.provision_id for provision in law.provisions()}
    for field in law.fields():
        assert field.provision in known
        assert field.authority
        assert set(field.authority) <= ROOMS | {"agency"}
        assert len(set(field.authority)) == len(field.authority)


def test_medical_database_outranks_identity_for_the_blood_type() -> None:
    (blood_type,) = [field for field in law.fields() if field.path == "blood_type"]
    assert blood_type.authority == ("agency", "identity")
    assert blood_type.sensitive


def test_purposes_rest_on_provisions_in_force_and_name_known_fields() -> None:
    known = {provision.provision_id: provision for provision in law.provisions()}
    for purpose in law.purposes():
        assert known[purpose.provision].validity.covers(purpose.validity.start)
        assert purpose.paths
        assert purpose.paths <= set(PERSON)


def test_purposes_are_those_of_the_classes_of_consumers() -> None:
    purposes = {purpose.code: purpose.paths for purpose in law.purposes()}
    assert purposes["STATE_MANAGEMENT"] == purposes["OWN_DATA"] == purposes["DATABASE_FEED"] == set(PERSON)
    assert purposes["CUSTOMER_IDENTIFICATION"] < purposes["ADMINISTRATIVE_PROCEDURE"] < set(PERSON)


OFFICES = {
    "CIVIL_STATUS_REGISTRATION": {"full_name", "birth_date", "sex", "birth_registration_place", "death_or_missing"}
    | {"marital_status", "spouses", "children", "father", "mother", "pin"},
    "RESIDENCE_REGISTRATION": {"permanent_residence", "temporary_residence", "household", "relation_to_head", "pin"},
    "IDENTITY_MANAGEMENT": {"id_cards", "pin"},
}


@pytest.mark.parametrize("code", OFFICES)
def test_offices_that_register_acts_have_a_purpose_of_their_own(code: str) -> None:
    paths = {purpose.code: purpose.paths for purpose in law.purposes()}[code]
    assert OFFICES[code] <= paths
    assert not paths & {"religion", "blood_type", "phone", "email"}


@pytest.mark.parametrize(
    ("room", "paths"),
    [
        ("identity", {"id_cards"}),
        ("civil_status", {"marital_status", "spouses"}),
        ("residence", {"permanent_residence", "temporary_residence", "household", "relation_to_head"}),
    ],
)
def test_a_room_follows_what_its_own_acts_stand_on(room: str, paths: set[str]) -> None:
    everybody = {"pin", "full_name", "birth_date", "sex", "death_or_missing"}
    assert {field.path for field in law.fields() if room in field.followers} == everybody | paths


def test_life_death_and_identity_travel_before_everything_else() -> None:
    vital = {field.path for field in law.fields() if field.lane is Lane.VITAL}
    assert vital == {"pin", "birth_date", "sex", "death_or_missing"}


def test_clocks_rest_on_provisions_in_force_and_join_acts_of_rooms() -> None:
    known = {provision.provision_id: provision for provision in law.provisions()}
    for clock in law.clocks():
        assert known[clock.provision].validity.covers(clock.validity.start)
        assert {act.partition(".")[0] for act in (clock.start_act, clock.end_act)} <= ROOMS


@pytest.mark.parametrize(
    ("code", "start", "due"),
    [
        ("RESIDENCE_CLOSED_AFTER_DEATH", date(2026, 11, 23), date(2026, 11, 24)),
        ("RESIDENCE_CLOSED_AFTER_DEATH", date(2026, 4, 24), date(2026, 4, 28)),  # the Hung Kings' day is made up for
        ("RESIDENCE_REGISTERED_AFTER_BIRTH", date(2026, 2, 13), date(2026, 2, 24)),  # Tet lies between
        ("RESIDENCE_REGISTERED_AFTER_BIRTH", date(2026, 12, 31), date(2027, 1, 5)),  # from one calendar into the next
    ],
)
def test_clocks_are_counted_on_the_calendars(code: str, start: date, due: date) -> None:
    (clock,) = [clock for clock in law.clocks() if clock.code == code]
    begun = datetime(start.year, start.month, start.day, 9, tzinfo=LEGAL_ZONE).astimezone(UTC)
    ends = datetime(due.year, due.month, due.day, tzinfo=LEGAL_ZONE) + timedelta(days=1)
    assert clock.due_time(begun, law.calendars()) == ends


def test_calendars_follow_each_other_without_a_gap_and_name_their_own_days() -> None:
    calendars = sorted(law.calendars(), key=lambda one: one.validity.start)
    for before, after in pairwise(calendars):
        assert before.validity.end is not None
        assert before.validity.end + timedelta(days=1) == after.validity.start
    assert all(one.validity.covers(day) for one in calendars for day in one.holidays)
    assert all(one.rest_days == {6, 7} for one in calendars)


def test_rows_are_named_once() -> None:
    for keys in (
        [provision.provision_id for provision in law.provisions()],
        [field.path for field in law.fields()],
        [purpose.code for purpose in law.purposes()],
        [clock.code for clock in law.clocks()],
        [calendar.code for calendar in law.calendars()],
    ):
        assert len(keys) == len(set(keys))


def test_nothing_ends_before_it_begins() -> None:
    rows = [row.validity for row in law.provisions()]
    rows += [row.validity for row in law.fields()]
    rows += [row.validity for row in law.purposes()]
    rows += [row.validity for row in law.clocks()]
    rows += [row.validity for row in law.calendars()]
    assert all(validity.end is None or validity.start <= validity.end for validity in rows)
