"""What officers read in a source room stands in the citizen's own view of uses, once, whatever dies meanwhile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from npd.common.v1.access_pb2 import ACCESS_MODE_LOOKUP
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED
from npd.common.v1.person_pb2 import SEX_FEMALE
from npd.sharing.v1.usage_pb2 import UsageRecord
from services.local.sample import IDENTITY_OFFICE, REGISTRAR, RESIDENCE_OFFICE, SampleSystem
from tests.mesh_fixture import wait_until
from tests.ring import SOURCES, Human, Ring, open_ring, some_day


@dataclass(frozen=True)
class Reading:
    """Who reads in a room, by which method, and the fields that he gets to see."""

    reader: SampleSystem
    method: str
    paths: tuple[str, ...]


_READINGS = {
    "civil_status": Reading(
        REGISTRAR,
        "/npd.civil_status.v1.CivilStatusService/GetCivilStatus",
        ("death_or_missing", "marital_status", "spouses"),
    ),
    "residence": Reading(
        RESIDENCE_OFFICE,
        "/npd.residence.v1.ResidenceService/GetResidence",
        ("household", "permanent_residence", "temporary_residence"),
    ),
    "identity": Reading(IDENTITY_OFFICE, "/npd.identity.v1.CardService/GetCards", ("id_cards",)),
}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """The ring, in processes that can be killed."""
    with open_ring(tmp_path_factory.mktemp("usage"), 27601) as ring:
        yield ring


@pytest.fixture(scope="module")
def citizen(ring: Ring) -> Human:
    """Somebody who lives somewhere, holds a card, and is known everywhere."""
    citizen = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(30))
    ring.move(citizen, "Số 1 đường Lê Lợi")
    ring.issue_card(citizen, "U00000001")
    ring.settle()
    return citizen


def read(ring: Ring, room: str, citizen: Human, case: str) -> None:
    """An officer reads in a room, once."""
    match room:
        case "civil_status":
            outcome = ring.cast.registrar.civil_status(citizen.stated, case=case).outcome
        case "residence":
            outcome = ring.cast.residence_office.residence(citizen.stated, case=case).outcome
        case _:
            outcome = ring.cast.identity_office.cards(citizen.stated, case=case).outcome
    assert outcome == OUTCOME_DISCLOSED


def uses(ring: Ring, citizen: Human, case: str) -> Sequence[UsageRecord]:
    """What the portal shows the citizen about a case."""
    portal, stated = ring.cast.portal, citizen.stated
    ground = portal.ground("CN-9")
    found = portal.client.find_usage(ground, stated.pin, stated.full_name, stated.birth_date, page_size=200)
    assert found.outcome == OUTCOME_DISCLOSED
    assert not found.next_page_token
    return [record for record in found.records if record.entry.access.case_reference == case]


def require_told(record: UsageRecord, room: str) -> None:
    """The record names the agency, the officer, the fields and the room that told."""
    entry, reading = record.entry, _READINGS[room]
    reader = reading.reader
    assert record.agency_name == reader.agency_name
    assert (entry.agency_id, entry.access.officer_id) == (reader.agency, reader.officers[0])
    assert entry.caller.endswith(f"/{reader.title}")
    assert (entry.method, entry.outcome, entry.mode) == (reading.method, OUTCOME_DISCLOSED, ACCESS_MODE_LOOKUP)
    assert (entry.purpose, entry.provision) == (reader.purpose, reader.provision)
    assert tuple(entry.paths) == reading.paths
    assert ", told by spiffe://mesh." in entry.object
    assert entry.object.endswith(f"/{room}")


@pytest.mark.parametrize("room", SOURCES)
def test_a_citizen_sees_which_officer_read_what_in_a_source_room(ring: Ring, citizen: Human, room: str) -> None:
    case, before = f"READ-{room}", datetime.now(UTC)
    read(ring, room, citizen, case)
    wait_until(lambda: uses(ring, citizen, case))
    ring.settle()
    [record] = uses(ring, citizen, case)
    require_told(record, room)
    assert before <= record.entry.entry_time.ToDatetime(UTC) <= datetime.now(UTC)


@pytest.mark.parametrize("failpoint", ["relay.read", "relay.delivered"])
@pytest.mark.parametrize("room", SOURCES)
def test_a_read_is_seen_once_though_the_room_dies_while_it_tells(
    ring: Ring, citizen: Human, room: str, failpoint: str
) -> None:
    case = f"DIED-{failpoint}-{room}"
    ring.settle()
    ring.die_at(room, failpoint)
    read(ring, room, citizen, case)
    wait_until(lambda: not ring.failpoints[room].exists())
    ring.settle()
    [record] = uses(ring, citizen, case)
    require_told(record, room)


def test_a_read_while_sharing_is_away_is_seen_when_it_is_back(ring: Ring, citizen: Human) -> None:
    case = "READ-AWAY"
    ring.settle()
    ring.die_at("civil_status", "relay.delivered")
    ring.kill("sharing")
    read(ring, "civil_status", citizen, case)
    ring.settle()
    assert not ring.failpoints["civil_status"].exists()
    [record] = uses(ring, citizen, case)
    require_told(record, "civil_status")
