"""The whole ring in processes of its own, a client that never gives up, and a plain-Python oracle of what must come.

The oracle knows no room: it is what the law makes of the acts, one after the other.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import grpc
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from npd.civil_status.v1.civil_status_pb2 import Birth, Parent
from npd.common.v1 import person_pb2
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED
from npd.common.v1.person_pb2 import CodedValue, MaritalStatus, Person, PersonName, Sex
from npd.common.v1.place_pb2 import Address
from npd.identity.v1.card_pb2 import CARD_STATE_ISSUED
from npd.residence.v1.residence_pb2 import RESIDENCE_STATE_ACTIVE, Joining
from npd_client.errors import Refusal
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.cast import Cast
from services.local.life import a_commune
from services.local.mesh import LocalMesh, MeshSettings
from services.local.offices import wire_date
from services.local.sample import OPERATORS
from services.local.sandbox import Sandbox, Stated
from tests.mesh_fixture import today

SOURCES = ("identity", "civil_status", "residence")
ROOMS = (*SOURCES, "sharing")
_ALL_FIELDS = tuple(field.name for field in Person.DESCRIPTOR.fields)
# What passes: a room or its store is away, or has not learned yet what another room knows.
_PASSING = {
    "PERSON_UNKNOWN",
    "IDENTITY_MISMATCH",
    "STORE_UNAVAILABLE",
    "PEER_UNAVAILABLE",
    "OVERLOADED",
    "ROOM_STOPPING",
}
_PATIENCE = 90.0

T = TypeVar("T")


@dataclass
class Human:
    """A person as the oracle has him. `pin` is the newest number known to us; numbers change behind our back."""

    pin: str
    name: str
    sex: int
    birth_date: date
    mother: "Human | None" = None
    children: list["Human"] = field(default_factory=list)
    spouse: "Human | None" = None
    marital_status: int = person_pb2.MARITAL_STATUS_SINGLE
    is_dead: bool = False
    address: str = ""
    card: str = ""
    successions: int = 0

    @property
    def stated(self) -> Stated:
        """As an office states him."""
        return Stated(self.pin, self.name, self.birth_date.isoformat())


class Ring:
    """The ring and everybody who acts in it. `humans` is the oracle's whole state."""

    def __init__(self, mesh: LocalMesh, cast: Cast, failpoints: Mapping[str, Path]) -> None:
        self.mesh, self.cast = mesh, cast
        self.failpoints = failpoints
        self.humans: list[Human] = []
        self.acts = 0
        self.corrections = 0
        self._births = 0

    def kill(self, room: str) -> None:
        """Kill -9 a room, or "postgres"; it is started again by itself."""
        self.mesh.kill(room)

    def die_at(self, room: str, failpoint: str) -> None:
        """Let a room die when it next comes by a failpoint."""
        self.failpoints[room].write_text(failpoint)

    def birth(self, name: str, sex: int, birth_date: date, mother: Human | None = None) -> Human:
        """A birth, registered by an office that tries again with the same request until it is answered."""
        self._births += 1
        birth = a_birth(f"{name} {_letters(self._births)}", sex, birth_date, mother)
        entry, request_id = f"KS-{self._births}", str(uuid4())
        answer = self.insist(lambda: self.cast.registrar.register_birth(birth, entry=entry, request_id=request_id))
        human = Human(answer.pin, birth.full_name.full, sex, birth_date, mother)
        if mother is not None:
            mother.children.append(human)
        self.humans.append(human)
        self.acts += 1
        return human

    def refusal_of_birth(self, name: str, sex: int, birth_date: date) -> Refusal:
        """The refusal of a birth that is tried once."""
        with pytest.raises(Refusal) as caught:
            self.cast.registrar.register_birth(a_birth(name, sex, birth_date), entry="KS-0")
        return caught.value

    def marry(self, one: Human, other: Human) -> None:
        """A marriage, or the refusal that the oracle expects."""
        request_id, register = str(uuid4()), self.cast.registrar.record_marriage
        expected = ""
        if one is other:
            expected = "SAME_PERSON"
        elif one.is_dead or other.is_dead:
            expected = "PERSON_DECEASED"
        elif one.spouse or other.spouse:
            expected = "PERSON_MARRIED"
        self._expect(expected, lambda: register(one.stated, other.stated, today(), entry="KH-1", request_id=request_id))
        if not expected:
            one.spouse, other.spouse = other, one
            one.marital_status = other.marital_status = person_pb2.MARITAL_STATUS_MARRIED
            self.acts += 1

    def die(self, human: Human) -> None:
        """A death, or the refusal that the oracle expects."""
        request_id, register = str(uuid4()), self.cast.registrar.register_death
        expected = "PERSON_DECEASED" if human.is_dead else ""
        self._expect(expected, lambda: register(human.stated, today(), entry="KT-1", request_id=request_id))
        if expected:
            return
        self.acts += 1
        human.is_dead, human.address, human.card = True, "", ""
        if human.spouse is not None:
            human.spouse.marital_status = person_pb2.MARITAL_STATUS_WIDOWED
            human.spouse.spouse = None
            human.spouse = None  # the marriage is in force no more; he died a married man

    def correct(self, human: Human) -> None:
        """The birth year was one too late: another number is due, and so is another card."""
        request_id, register = str(uuid4()), self.cast.registrar.correct_birth_date
        right = human.birth_date.replace(year=human.birth_date.year - 1)
        self.insist(lambda: register(human.stated, right, today(), entry="CC-1", request_id=request_id))
        human.birth_date, human.card = right, ""
        human.successions += 1
        self.corrections += 1
        self.acts += 1

    def move(self, human: Human, detail: str) -> None:
        """A permanent residence at another address. The residence room may not have heard of a death yet."""
        request_id, register = str(uuid4()), self.cast.residence_office.register_permanent
        address = Address(place=a_commune(), detail_text=detail)
        refusal = self._answered(
            lambda: register(human.stated, address, today(), case="CT-1", household=Joining(), request_id=request_id)
        )
        if human.is_dead:
            assert refusal in ("", "PERSON_DECEASED"), refusal
        else:
            assert refusal == "", refusal
            human.address = detail

    def issue_card(self, human: Human, number: str) -> None:
        """A card is requested and issued. The identity room may not have heard of a death or correction yet."""
        first, second, office = str(uuid4()), str(uuid4()), self.cast.identity_office
        requested: list[Any] = []
        refusal = self._answered(
            lambda: requested.append(office.request_card(human.stated, case="CC-2", request_id=first))
        )
        if refusal:
            assert (refusal, human.is_dead) == ("PERSON_DECEASED", True)
            return
        card_id = requested[0].card.card_id
        refusal = self._answered(lambda: office.issue_card(card_id, number, today(), case="CC-2", request_id=second))
        if human.is_dead:
            assert refusal in ("", "PERSON_DECEASED", "STATE_NOT_ALLOWED"), refusal
        else:
            assert refusal == "", refusal
            human.card = number

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until everything has flowed to its end: no outbox holds anything, every follower is at the head."""
        for room in ROOMS:
            self.mesh.wait_ready(room)
        end = time.monotonic() + seconds
        while what := self._flowing():
            if time.monotonic() > end:
                pytest.fail(f"still flowing after {seconds} s: {what}; set aside: {self.set_aside()}")
            time.sleep(0.05)
        assert self.set_aside() == 0

    def set_aside(self) -> int:
        """How many messages and changes wait for a command in the source rooms."""
        outgoing = sum(self.count(room, "outbox", "set_aside_time IS NOT NULL") for room in SOURCES)
        return outgoing + sum(self.count(room, "changes_set_aside") for room in SOURCES)

    def compare(self) -> None:
        """Compare the NPD, and each room, with the oracle. Only after `settle`."""
        for human in self.humans:
            former = human.pin
            human.pin = self.insist(lambda: self.cast.identity_office.resolve(former, case="SO-1")).current_pin  # noqa: B023
            assert (human.pin == former) is (human.successions == 0)
            human.successions = 0
        for human in self.humans:
            self._compare(human)
        assert self.count("civil_status", "acts") == self.acts
        assert self.count("identity", "numbers", "state = 'RESERVED'") == 0
        assert self.count("identity", "numbers", "state = 'CANCELLED'") == self.corrections
        links = self.count("civil_status", "chain_links", "causation_id IS NULL")
        assert links == self.acts

    def count(self, room: str, table: str, where: str = "true") -> int:
        """Rows of a room's table."""
        return int(self._ask(room, f"SELECT count(*) FROM {table} WHERE {where}"))  # noqa: S608 - a test's own words

    def insist(self, call: Callable[[], T]) -> T:
        """Call until it is answered or refused for good."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return call()
            except Refusal as refusal:
                passing = refusal.reason in _PASSING or refusal.code in _PASSING_CODES
                if not passing or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _compare(self, human: Human) -> None:
        record = self.recorded(human)
        assert record.pin == human.pin
        assert (record.full_name.full, record.sex) == (human.name, human.sex)
        assert record.birth_date == wire_date(human.birth_date)
        assert record.marital_status == human.marital_status, MaritalStatus.Name(record.marital_status)
        assert [spouse.pin for spouse in record.spouses] == ([human.spouse.pin] if human.spouse else [])
        assert {child.pin for child in record.children} == {child.pin for child in human.children}
        assert record.HasField("death_or_missing") is human.is_dead
        assert record.permanent_residence.detail_text == human.address
        assert [card.document_number for card in record.id_cards] == ([human.card] if human.card else [])
        assert self._disputed == ()
        status = self.insist(lambda: self.cast.registrar.civil_status(human.stated, case="SO-2"))
        assert (status.outcome, status.marital_status) == (OUTCOME_DISCLOSED, human.marital_status)
        assert status.spouse.pin == (human.spouse.pin if human.spouse else "")
        assert status.HasField("death") is human.is_dead
        residence = self.insist(lambda: self.cast.residence_office.residence(human.stated, case="SO-3"))
        active = [one.address.detail_text for one in residence.residences if one.state == RESIDENCE_STATE_ACTIVE]
        assert active == ([human.address] if human.address else [])
        cards = self.insist(lambda: self.cast.identity_office.cards(human.stated, case="SO-4")).cards
        issued = [card.document.document_number for card in cards if card.state == CARD_STATE_ISSUED]
        assert issued == ([human.card] if human.card else [])

    def recorded(self, human: Human) -> Person:
        """What the record discloses of a person."""
        answer = self.insist(lambda: self.cast.portal.look_up(human.stated, _ALL_FIELDS, case="SO-5"))
        assert answer.outcome == OUTCOME_DISCLOSED, human
        self._disputed = tuple(answer.disputed_paths)
        return answer.citizen

    def _expect(self, reason: str, call: Callable[[], object]) -> None:
        assert self._answered(call) == reason

    def _answered(self, call: Callable[[], object]) -> str:
        """The reason of the refusal, empty if there was none."""
        try:
            self.insist(call)
        except Refusal as refusal:
            return refusal.reason
        return ""

    def _flowing(self) -> str:
        head = self._ask("sharing", "SELECT coalesce(max(position), 0) FROM changes")
        waiting = {
            "pending changes": self._ask("sharing", "SELECT count(*) FROM changes_pending"),
            "held items": self._ask("sharing", "SELECT count(*) FROM held_items"),
        }
        for room in SOURCES:
            waiting[f"outbox of {room}"] = self._ask(room, "SELECT count(*) FROM outbox WHERE set_aside_time IS NULL")
            position = self._ask(room, "SELECT coalesce(max(position), 0) FROM feed_cursor")
            waiting[f"changes for {room}"] = head - position
        return ", ".join(f"{name}: {count}" for name, count in waiting.items() if count)

    def _ask(self, room: str, query: str) -> int:
        url = self.mesh.layout.room(room).database_url.read_text().strip()
        with create_engine(url, poolclass=NullPool).connect() as connection:
            return int(connection.execute(text(query)).scalar_one())


_PASSING_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def a_birth(name: str, sex: int, birth_date: date, mother: Human | None = None) -> Birth:
    """A birth with every required field."""
    birth = Birth(
        full_name=PersonName(family=name.split()[0], given=name.split()[-1], full=name),
        birth_date=wire_date(birth_date),
        sex=Sex.Name(sex),  # type: ignore[arg-type]
        place_of_birth=a_commune(),
        registration_place=a_commune(),
        hometown=a_commune(),
        ethnicity=CodedValue(code="01", list_version="2008"),
        nationalities=["VN"],
    )
    if mother is not None:
        birth.mother.CopyFrom(Parent(name=PersonName(full=mother.name), pin=mother.pin, nationality="VN"))
    return birth


@contextmanager
def open_ring(
    directory: Path, first_port: int, *, room_variables: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[Ring]:
    """A ring with the sample's agencies and offices registered in it. `room_variables` are further ones by room."""
    files = {room: directory / f"{room}.failpoint" for room in ROOMS}
    variables = {room: {"NPD_FAILPOINT_FILE": str(file)} for room, file in files.items()}
    for room, further in (room_variables or {}).items():
        variables[room] = {**variables.get(room, {}), **further}
    settings = MeshSettings(first_port=first_port, room_variables=variables)
    mesh = LocalMesh(directory / "npd", discover(), prepare=prepare_store, operators=OPERATORS, settings=settings)
    with mesh:
        cast = Cast(Sandbox(mesh).register(lambda _: None), mesh.endpoints, mesh.layout)
        try:
            yield Ring(mesh, cast, files)
        finally:
            cast.close()


def some_day(years_ago: int) -> date:
    """A day so many years ago."""
    return (today() - timedelta(days=years_ago * 365)).replace(day=10)


def _letters(number: int) -> str:
    """A number as a word, so that names differ in letters."""
    word = ""
    while number:
        number, digit = divmod(number - 1, 26)
        word = chr(ord("a") + digit) + word
    return word.capitalize()
