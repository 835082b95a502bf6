"""A death, followed through the rooms with `npd chain show`: what led to what, and whether the law's time was kept."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE, CodedValue
from npd.common.v1.place_pb2 import Address
from npd.residence.v1.residence_pb2 import Joining
from services.local.life import a_commune
from services.local.sample import OPERATORS
from tests.mesh.test_cli_operators import Answer, run
from tests.mesh_fixture import today, wait_until
from tests.ring import SOURCES, Human, Ring, open_ring, some_day

_ACTS = ("residence.close_residence", "residence.vacate_head", "identity.cancel_card")
_SECONDS = 30.0


@dataclass(frozen=True)
class Death:
    """A death that was registered, and the ring in which it was."""

    ring: Ring
    act_id: str

    def show(self, *words: str) -> Answer:
        """What `npd chain show` makes of it, as a process of its own."""
        operator = self.ring.mesh.layout.operator(OPERATORS[0]).tls
        return run("chain", "show", self.act_id, *words, NPDCTL_DIRECTORY=str(operator))

    def links(self) -> list[dict[str, Any]]:
        """Its links, as a script gets them; every room must answer."""
        answered = self.show("--json")
        assert answered.returncode == 0, answered.stderr
        links: list[dict[str, Any]] = json.loads(answered.stdout)["links"]
        return links

    def has_been_taken_over(self) -> bool:
        """Whether every source room has acknowledged what the record says of the deceased."""
        links = self.ring.cast.operator.links("sharing", self.act_id)
        acknowledged = Counter(link.causation_id for link in links if link.act == "sharing.acknowledge")
        return len(SOURCES) in acknowledged.values()


def share_a_home(ring: Ring, head: Human, member: Human) -> None:
    """Two people live together, one as the head of the household."""
    office, home = ring.cast.residence_office, Address(place=a_commune(), detail_text="Số 1 đường Lê Lợi")
    founded = ring.insist(
        lambda: office.register_permanent(head.stated, home, today(), case="CT-1", household=Joining())
    )
    relation = CodedValue(code="9", list_version="provisional")
    joining = Joining(household_id=founded.residence.household_id, relation_to_head=relation)
    ring.insist(lambda: office.register_permanent(member.stated, home, today(), case="CT-2", household=joining))


@pytest.fixture(scope="module")
def death(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Death]:
    """A married man who heads a household and holds a card dies, and everything follows."""
    with open_ring(tmp_path_factory.mktemp("chain"), 27201) as ring:
        ring.mesh.publish()
        wife = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(40))
        husband = ring.birth("Trần Văn Đức", SEX_MALE, some_day(42))
        ring.marry(wife, husband)
        share_a_home(ring, husband, wife)
        ring.issue_card(husband, "C00000001")
        ring.settle()
        registrar = ring.cast.registrar
        registered = ring.insist(lambda: registrar.register_death(husband.stated, today(), entry="KT-1"))
        ring.settle()
        yield Death(ring, registered.act.act_id)


def test_every_link_of_a_death_is_shown_under_what_caused_it(death: Death) -> None:
    wait_until(death.has_been_taken_over, _SECONDS)
    links = death.links()
    by_id = {link["link_id"]: link for link in links}
    root = links[0]
    assert (root["link_id"], root["act"], root["depth"]) == (death.act_id, "civil_status.register_death", 0)
    for number, link in enumerate(links[1:], 1):
        cause = by_id[link["causation_id"]]
        assert link["depth"] == cause["depth"] + 1
        assert links.index(cause) < number

    done = {link["act"]: link for link in links if not link["act"].startswith("sharing.")}
    assert Counter(link["act"] for link in links if link["room"] in SOURCES) == Counter([root["act"], *_ACTS])
    close, vacate, cancel = (done[act] for act in _ACTS)
    change_id = close["causation_id"]
    assert (cancel["causation_id"], vacate["causation_id"]) == (change_id, close["link_id"])
    change = by_id[change_id]
    assert (change["act"], change["causation_id"]) == ("sharing.change", root["link_id"])
    assert change["access"]["origin"] == root["actor"], "who registered it is known to the end"
    told = {(link["causation_id"], link["actor"].rpartition("/")[2]) for link in links if link["act"] == change["act"]}
    assert told >= {(done[act]["link_id"], act.partition(".")[0]) for act in _ACTS}, "each tells the record of it"
    taken = [link for link in links if link["act"] == "sharing.acknowledge" and link["causation_id"] == change_id]
    assert Counter(link["actor"].rpartition("/")[2] for link in taken) == Counter(SOURCES)
    assert {link["outcome"] for link in links if link["room"] == "sharing"} == {"APPLIED"}


def test_the_law_s_time_was_kept(death: Death) -> None:
    told = json.loads(death.show("--json").stdout)
    [clock] = told["clocks"]
    assert (clock["code"], clock["state"]) == ("RESIDENCE_CLOSED_AFTER_DEATH", "MET")
    assert (clock["started_by"], clock["end_act"]) == (death.act_id, "residence.close_residence")
    assert told["missing"] == []


def test_the_table_shows_the_same_tree(death: Death) -> None:
    wait_until(death.has_been_taken_over, _SECONDS)
    links, answered = death.links(), death.show()
    assert answered.returncode == 0, answered.stderr
    title, header, *rest = answered.stdout.splitlines()
    assert death.act_id in title
    column = header.index("act")
    assert [(line[column:].split()[0], line.split()[1]) for line in rest[: len(links)]] == [
        (link["act"], link["room"]) for link in links
    ]
    indents = [len(line[column:]) - len(line[column:].lstrip()) for line in rest[: len(links)]]
    assert indents == [2 * link["depth"] for link in links]
    assert "MET: Residence of the deceased is closed (D58/2026.4.7)" in answered.stdout


def test_a_room_that_hangs_is_named_as_missing_and_the_rest_is_shown(death: Death) -> None:
    wait_until(death.has_been_taken_over, _SECONDS)
    whole = death.links()
    death.ring.mesh.kill("residence", SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:  # each waits for the room as long as a call may last
            table, script = pool.map(lambda words: death.show(*words), ((), ("--json",)))
    finally:
        death.ring.mesh.kill("residence", SIGCONT)
    assert (table.returncode, script.returncode) == (3, 3)
    assert "residence did not answer" in table.stdout
    told = json.loads(script.stdout)
    assert [one["room"] for one in told["missing"]] == ["residence"]
    expected = {link["link_id"] for link in whole if link["room"] != "residence"}
    assert {link["link_id"] for link in told["links"]} == expected
    [clock] = told["clocks"]
    assert clock["state"] == "OPEN", "the act that stops it is in the room that is missing"
    for act in ("civil_status.register_death", "identity.cancel_card"):
        assert act in table.stdout
    assert "residence.close_residence" not in table.stdout
    death.ring.settle()
    assert death.links() == whole
