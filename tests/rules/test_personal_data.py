"""Personal data never reaches logs, metrics or error texts: a mesh is used, also wrongly, and all it said is read."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.person_pb2 import Person, PersonName
from npd.sharing.v1.contribution_pb2 import ContributionItem
from npd_client.client import Client
from npd_client.errors import Refusal
from services.cli.migration import prepare_store
from services.cli.rooms import discover, names
from services.local import citizens
from services.local.mesh import LocalMesh, MeshSettings
from services.local.population import SyntheticCitizen
from services.local.sample import MEDICAL, OPERATORS, TAX
from services.local.sandbox import Sandbox, date_text

LOUD = {room: {"NPD_LOG_LEVEL": "DEBUG"} for room in names()}
PEOPLE = 60


class Journey:
    """A mesh in use, and the error texts that its callers read."""

    def __init__(self, mesh: LocalMesh) -> None:
        self.mesh = mesh
        self.said: list[str] = []
        agreements = Sandbox(mesh).register(lambda _: None)
        Sandbox(mesh).contribute(PEOPLE, lambda _: None)
        self.tax = AccessContext(agreement_id=agreements[TAX.title], case_reference="HS/1", officer_id=TAX.officers[0])
        self.medical = AccessContext(
            agreement_id=agreements[MEDICAL.title], case_reference="BA/1", officer_id=MEDICAL.officers[0]
        )

    def look_up(self, client: Client, citizen: SyntheticCitizen, fields: list[str], **stated: str) -> None:
        """A lookup, of which only a refusal's whole text is kept."""
        person = citizen.person
        named = {"pin": person.pin, "full_name": person.full_name.full, "birth_date": date_text(person.birth_date)}
        try:
            named |= stated
            client.get_citizen(self.tax, named["pin"], named["full_name"], named["birth_date"], fields)
        except Refusal as refusal:
            self.said.append(f"{refusal} {refusal.metadata} {refusal.violations} {refusal.messages}")

    def contribute(self, client: Client, citizen: SyntheticCitizen, person: Person, paths: list[str]) -> None:
        """A contribution that cannot be taken in."""
        item = ContributionItem(
            event_id=str(uuid4()), pin=citizen.person.pin, person=person, update_mask=FieldMask(paths=paths)
        )
        item.event_time.FromDatetime(citizen.register_time)
        item.register_time.FromDatetime(citizen.register_time)
        self.said.append(str(client.contribute([item], self.medical)))


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Lookups that match, miss and are refused, contributions that are refused, and a store that dies under them."""
    settings = MeshSettings(first_port=7501, room_variables=LOUD)
    mesh = LocalMesh(
        tmp_path_factory.mktemp("mesh"), discover(), prepare=prepare_store, operators=OPERATORS, settings=settings
    )
    people = [citizens.population(PEOPLE).citizen(index) for index in range(PEOPLE)]
    with mesh:
        journey = Journey(mesh)
        with Client(mesh.endpoints, mesh.layout.system(TAX.agency, TAX.system).tls) as tax:
            for citizen in people[:20]:
                journey.look_up(tax, citizen, ["full_name"])
                journey.look_up(tax, citizen, ["full_name"], birth_date="1931-02-03")
                journey.look_up(tax, citizen, ["religion"])
                journey.look_up(tax, citizen, [citizen.person.full_name.full])
                journey.look_up(tax, citizen, ["full_name"], pin=citizen.person.pin + "0")
                journey.look_up(tax, citizen, ["full_name"], full_name=citizen.person.full_name.full * 30)
            mesh.kill("postgres")
            for citizen in people[20:25]:
                journey.look_up(tax, citizen, ["full_name"])
            mesh.wait_ready("postgres")
        with Client(mesh.endpoints, mesh.layout.system(MEDICAL.agency, MEDICAL.system).tls) as medical:
            for citizen in people[30:40]:
                name = citizen.person.full_name.full
                journey.contribute(medical, citizen, Person(full_name=PersonName(full=name)), ["full_name"])
                journey.contribute(medical, citizen, Person(pin=citizen.person.pin[:-1] + "x"), ["pin"])
                journey.contribute(medical, citizen, Person(email=name + "\x00"), ["email"])
        for address in mesh.probes.values():
            for page in ("metrics", "readyz"):
                with urllib.request.urlopen(f"{address}/{page}", timeout=5) as answer:  # noqa: S310 - our own probe
                    journey.said.append(answer.read().decode())
        yield journey


def everything_said(journey: Journey) -> str:
    """Error texts, results, metrics, and every log file of the mesh, PostgreSQL's too."""
    logs = [path for path in journey.mesh.layout.directory.rglob("*.log") if path.is_file()]
    assert {f"{room}.log" for room in names()} <= {Path(path).name for path in logs}
    return "\n".join([*journey.said, *(path.read_text(encoding="utf-8", errors="replace") for path in logs)])


def test_no_pin_is_said(journey: Journey) -> None:
    said = everything_said(journey)
    assert [citizen.person.pin for citizen in citizens.population(PEOPLE) if citizen.person.pin in said] == []


def test_no_name_and_no_address_is_said(journey: Journey) -> None:
    said = everything_said(journey).casefold()
    people = {citizen.person.full_name.full for citizen in citizens.population(PEOPLE)}
    addresses = {citizen.person.permanent_residence.detail_text for citizen in citizens.population(PEOPLE)}
    assert [text for text in people | addresses if len(text) > 5 and text.casefold() in said] == []


def test_what_was_said_would_show_it(journey: Journey) -> None:
    said = everything_said(journey)
    for sign in (
        "GetCitizen",
        "MASK_UNKNOWN_PATH",
        "FIELD_NOT_GRANTED",
        "STATUS_REJECTED",
        "tax/core",
        "npd_calls_total",
    ):
        assert sign in said
