"""A contribution that sharing refuses for what it is: set aside, seen everywhere, cured, and delivered in its order."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.request import urlopen
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE, CodedValue, Person
from npd.sharing.v1.contribution_pb2 import ContributionItem
from services.local.sample import OPERATORS
from services.mesh.core.chain import Causation
from services.mesh.core.outbox import Message, Outbox
from tests.mesh.test_cli_operators import Answer, run
from tests.mesh_fixture import wait_until
from tests.ring import Human, Ring, open_ring, some_day

_SECONDS = 30.0


@dataclass(frozen=True)
class Poison:
    """A message of civil_status that sharing will not take: it tells of what another source answers for."""

    message_id: UUID
    item: ContributionItem

    def cured(self) -> bytes:
        """The same event, now about a field that civil_status may write."""
        item = ContributionItem()
        item.CopyFrom(self.item)
        item.person.CopyFrom(Person(ethnicity=CodedValue(code="02", list_version="2008")))
        item.update_mask.paths[:] = ["ethnicity"]
        return item.SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """The ring, in processes of its own."""
    with open_ring(tmp_path_factory.mktemp("set_aside"), 27401) as ring:
        ring.mesh.publish()
        yield ring


def npd(ring: Ring, *words: str) -> Answer:
    """Run `npd` as the operator's own process; it must do what it is told."""
    answered = run(*words, NPDCTL_DIRECTORY=str(ring.mesh.layout.operator(OPERATORS[0]).tls))
    assert answered.returncode == 0, answered.stderr
    return answered


def rows(ring: Ring, room: str, query: str, **values: object) -> Sequence[Any]:
    """Rows of a room's store."""
    url = ring.mesh.layout.room(room).database_url.read_text().strip()
    with create_engine(url, poolclass=NullPool).begin() as connection:
        found = connection.execute(text(query), values)
        return found.all() if found.returns_rows else []


def subject_of(ring: Ring, human: Human) -> UUID:
    """The subject whom civil_status knows by his number."""
    [(subject_id,)] = rows(ring, "civil_status", "SELECT subject_id FROM people_pins WHERE pin = :pin", pin=human.pin)
    return UUID(str(subject_id))


def poison(ring: Ring, human: Human) -> Poison:
    """Put a message into the outbox of civil_status as only a fault of the room could."""
    item = ContributionItem(event_id=str(uuid4()), pin=human.pin, person=Person(religion=CodedValue(code="01")))
    item.update_mask.paths.append("religion")
    item.event_time.FromDatetime(datetime.now(UTC))
    item.register_time.FromDatetime(datetime.now(UTC))
    causation = Causation(uuid4(), uuid4())
    subject_id, payload = subject_of(ring, human), item.SerializeToString(deterministic=True)
    message = Message(uuid4(), "sharing", "contribution", subject_id, payload, causation)
    url = ring.mesh.layout.room("civil_status").database_url.read_text().strip()
    with create_engine(url, poolclass=NullPool).begin() as connection:
        Outbox(connection).put(message)
    return Poison(message.message_id, item)


def listed(ring: Ring) -> list[dict[str, Any]]:
    """What `npd set-aside list` tells a script."""
    messages: list[dict[str, Any]] = json.loads(npd(ring, "set-aside", "list", "--json").stdout)["messages"]
    return messages


def when_set_aside(ring: Ring) -> list[datetime]:
    """Since when each message waits; while one is tried again it is not among them."""
    return [one.set_aside_time.ToDatetime(UTC) for one in ring.cast.operator.set_aside("civil_status")]


def shown_in_directory(ring: Ring) -> tuple[int, int]:
    """How many messages of civil_status wait, and how many are set aside, as the directory shows."""
    [one] = [one for one in ring.cast.operator.connections() if one.name == "civil_status"]
    return one.backlog_count, one.set_aside_count


def measured(ring: Ring) -> float:
    """The metric npd_set_aside of civil_status."""
    with urlopen(f"{ring.mesh.probes['civil_status']}/metrics", timeout=5) as answer:  # noqa: S310 - a room of ours
        lines = answer.read().decode().splitlines()
    [value] = [float(line.split()[1]) for line in lines if line.startswith("npd_set_aside ")]
    return value


def feed_of(ring: Ring, human: Human) -> list[list[str]]:
    """What changed of somebody in the record, in its order."""
    query = (
        "SELECT paths FROM changes JOIN pins USING (subject_id) WHERE pins.pin = :pin AND source = 'civil_status' "
        "ORDER BY position"
    )
    return [list(row.paths) for row in rows(ring, "sharing", query, pin=human.pin)]


def test_a_poison_message_holds_up_its_own_subject_alone_and_nothing_of_it_is_lost(ring: Ring) -> None:
    sick = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(40))
    other = ring.birth("Trần Văn Đức", SEX_MALE, some_day(42))
    ring.settle()
    told = feed_of(ring, sick)
    bad = poison(ring, sick)
    wait_until(lambda: ring.set_aside() == 1, _SECONDS)

    ring.die(sick)
    ring.die(other)
    wait_until(lambda: ["death_or_missing"] in feed_of(ring, other), _SECONDS)
    assert feed_of(ring, sick) == told, "his death waits behind it"
    wait_until(lambda: shown_in_directory(ring) == (1, 1), _SECONDS)
    assert measured(ring) == 1
    [message] = listed(ring)
    assert (message["room"], message["message_id"]) == ("civil_status", str(bad.message_id))
    assert (message["peer"], message["kind"]) == ("sharing", "contribution")
    assert (message["reason"], message["field"]) == ("FIELD_NOT_WRITABLE", "religion")
    assert "FIELD_NOT_WRITABLE religion" in npd(ring, "set-aside", "list", "civil_status").stdout

    since = when_set_aside(ring)
    retried = npd(ring, "set-aside", "retry", "civil_status", str(bad.message_id))
    assert retried.stdout.strip() == "civil_status tries 1 again"
    wait_until(lambda: when_set_aside(ring) > since, _SECONDS)
    assert feed_of(ring, sick) == told, "what is refused again is set aside again, and his death still waits"

    cure = "UPDATE outbox SET payload = :payload WHERE message_id = :message_id"
    rows(ring, "civil_status", cure, payload=bad.cured(), message_id=bad.message_id)
    assert npd(ring, "set-aside", "retry", "civil_status", "--all").stdout.strip() == "civil_status tries 1 again"
    ring.settle()
    assert feed_of(ring, sick) == [*told, ["ethnicity"], ["death_or_missing"]]
    ring.compare()
    assert "Nothing is set aside in" in npd(ring, "set-aside", "list").stdout
    wait_until(lambda: shown_in_directory(ring) == (0, 0), _SECONDS)
    assert measured(ring) == 0
