"""The people that a room knows: from the feed, by every number they had, and as its own acts left them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from google.type.date_pb2 import Date
from sqlalchemy import Engine

from npd.common.v1.person_pb2 import (
    DEATH_OR_MISSING_KIND_DEAD,
    DEATH_OR_MISSING_KIND_DECLARED_MISSING,
    DeathOrMissing,
    Person,
    PersonName,
    Sex,
)
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.chain import Act, Causation, Chain
from services.mesh.core.db import Database
from services.mesh.core.errors import MeshError
from services.mesh.core.following import FollowedChange
from services.mesh.core.people import FOLLOWED, KnownPerson, Name, People
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import StatedIdentity
from tests.mesh_store import empty, open_store

ANNA, BINH = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
WHOLE = Person(
    pin="001190000001",
    full_name=PersonName(family="Nguyễn", middle="Thị", given="An", full="Nguyễn Thị An"),
    birth_date=Date(year=1990, month=5, day=2),
    sex=Sex.SEX_FEMALE,
)
KNOWN = KnownPerson(
    ANNA, "001190000001", Name("Nguyễn", "Thị", "An", "Nguyễn Thị An"), PartialDate(1990, 5, 2), Sex.SEX_FEMALE
)


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    engine = open_store(postgres, "mesh_people")
    yield engine
    engine.dispose()


@pytest.fixture
def people(engine: Engine) -> Iterator[People]:
    empty(engine)
    with Database(engine, lambda connection: People(connection, "residence")).transaction() as opened:
        yield opened


def change(
    person: Person, *paths: str, subject: UUID = ANNA, pin: str = "", source: str = "identity"
) -> FollowedChange:
    """A change; by default of all that people are known by."""
    told = paths or tuple(sorted(FOLLOWED - {"death_or_missing"}))
    causation = Causation(uuid4(), uuid4())
    return FollowedChange(
        1, uuid4(), subject, pin or person.pin, told, person.SerializeToString(), source, NOW, NOW, causation
    )


def stated(
    pin: str = "001190000001", name: str = "NGUYỄN THỊ AN", birth: PartialDate = KNOWN.birth_date
) -> StatedIdentity:
    return StatedIdentity(pin, text.name_key(name), birth)


def reason(people: People, *identities: StatedIdentity, alive: bool = False) -> str:
    """Why the persons stated cannot be acted on; empty if they can."""
    try:
        (people.require_alive if alive else people.require)(*identities)
    except MeshError as error:
        return error.reason
    return ""


def test_a_person_is_known_from_the_feed(people: People) -> None:
    assert people.note(change(WHOLE)) == KNOWN
    assert people.find("001190000001") == KNOWN
    assert people.find("001190000002") is None


def test_only_the_paths_of_a_change_are_taken(people: People) -> None:
    people.note(change(WHOLE))
    other = Person(pin="009999999999", full_name=PersonName(full="Trần Văn Ba"), sex=Sex.SEX_MALE)
    assert people.note(change(other, "sex", pin=WHOLE.pin)) == replace(KNOWN, sex=Sex.SEX_MALE)


def test_a_path_that_holds_no_value_any_more_is_not_known_any_more(people: People) -> None:
    people.note(change(WHOLE))
    noted = people.note(change(Person(), "birth_date", "pin", pin=WHOLE.pin))
    assert noted.birth_date == PartialDate(0)
    assert noted.pin == KNOWN.pin, "but a number stays his"
    assert reason(people, stated()) == "IDENTITY_MISMATCH"


def test_a_death_is_known_and_may_be_taken_back(people: People) -> None:
    people.note(change(WHOLE))
    dead = Person(death_or_missing=DeathOrMissing(kind=DEATH_OR_MISSING_KIND_DEAD))
    assert people.note(change(dead, "death_or_missing", pin=WHOLE.pin)).is_deceased
    assert reason(people, stated(), alive=True) == "PERSON_DECEASED"
    assert reason(people, stated()) == "", "an act about the dead is another thing"
    assert not people.note(change(Person(), "death_or_missing", pin=WHOLE.pin)).is_deceased
    assert reason(people, stated(), alive=True) == ""


def test_who_is_missing_is_not_dead(people: People) -> None:
    people.note(change(WHOLE))
    missing = Person(death_or_missing=DeathOrMissing(kind=DEATH_OR_MISSING_KIND_DECLARED_MISSING))
    assert not people.note(change(missing, "death_or_missing", pin=WHOLE.pin)).is_deceased
    assert reason(people, stated(), alive=True) == ""


def test_what_an_act_of_this_room_told_is_an_echo(people: People) -> None:
    people.put(KNOWN)
    older = Person(full_name=PersonName(full="Old Name"))
    told = change(older, "full_name", pin=WHOLE.pin, source="residence")
    act_id = uuid4()
    Chain(people._connection).add(
        Act(act_id, told.causation.correlation_id, None, "residence.x", "spiffe://x", None, NOW)
    )
    assert people.note(replace(told, caused_by=act_id)) == KNOWN
    assert people.find(KNOWN.pin) == KNOWN


def test_what_this_room_told_and_knows_no_act_of_is_news(people: People) -> None:
    people.put(KNOWN)
    dead = Person(death_or_missing=DeathOrMissing(kind=DEATH_OR_MISSING_KIND_DEAD))
    lost = change(dead, "death_or_missing", pin=WHOLE.pin, source="residence")
    noted = people.note(replace(lost, caused_by=uuid4()))
    assert noted.is_deceased, "its store was restored to a state before that act"


def test_an_echo_of_somebody_who_is_not_known_is_history(people: People) -> None:
    assert people.note(change(WHOLE, source="residence")) == KNOWN


def test_somebody_is_known_by_his_number_before_anything_else_is(people: People) -> None:
    noted = people.note(change(Person(), "sex", pin="001190000001"))
    assert (noted.pin, noted.name.full, noted.birth_date) == ("001190000001", "", PartialDate(0))
    assert people.match(stated()) is None
    assert reason(people, stated()) == "PERSON_UNKNOWN", "the rest of him is on its way"


def test_a_former_number_still_finds_him(people: People) -> None:
    people.note(change(WHOLE))
    people.note(change(Person(pin="001191000007"), "pin"))
    renumbered = replace(KNOWN, pin="001191000007")
    assert people.find("001190000001") == people.find("001191000007") == renumbered
    assert people.require(stated(), stated("001191000007")) == [renumbered] * 2


def test_a_number_is_never_given_to_another(people: People) -> None:
    people.put(KNOWN)
    people.put(replace(KNOWN, subject_id=BINH))
    found = people.find(KNOWN.pin)
    assert found is not None
    assert found.subject_id == ANNA


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        (stated(), ""),
        (stated(name="Nguyen Thi An"), "IDENTITY_MISMATCH"),
        (stated(birth=PartialDate(1990, 5, 3)), "IDENTITY_MISMATCH"),
        (stated("001190000002"), "PERSON_UNKNOWN"),
    ],
)
def test_number_name_and_birth_date_must_all_be_his(people: People, identity: StatedIdentity, why: str) -> None:
    people.put(KNOWN)
    assert reason(people, identity) == why
    assert people.match(identity) == (None if why else KNOWN)


def test_persons_come_in_the_order_in_which_they_are_stated(people: People) -> None:
    binh = replace(KNOWN, subject_id=BINH, pin="001190000009", name=Name("", "", "", "Trần Bình"))
    people.put(KNOWN)
    people.put(binh)
    both = stated("001190000009", "Trần Bình"), stated()
    assert people.require(*both) == [binh, KNOWN]
    assert people.require(*reversed(both)) == [KNOWN, binh]
    assert reason(people, stated(), stated("1")) == "PERSON_UNKNOWN"
    people.put(replace(binh, is_deceased=True))
    assert reason(people, *both, alive=True) == "PERSON_DECEASED"


def test_two_acts_about_two_persons_never_wait_for_each_other_in_a_circle(engine: Engine) -> None:
    empty(engine)
    database = Database(engine, lambda connection: People(connection, "residence"))
    with database.transaction() as people:
        people.put(KNOWN)
        people.put(replace(KNOWN, subject_id=BINH, pin="001190000009"))
    for order in ((ANNA, BINH), (BINH, ANNA)):
        with database.transaction() as people:
            assert list(people.lock(order)) == [ANNA, BINH]
