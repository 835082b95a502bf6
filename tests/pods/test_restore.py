"""Every room's database is lost and recovered to a point in time: what is lost then, what is told again, what refused.

Each room has a PostgreSQL cluster of its own, as on Kubernetes. A base backup is taken while offices work; after the
point to which it is recovered there are further acts, whose messages were all delivered. It prints its figures. What it
cannot show without a cluster: the object store, CloudNativePG's own recovery, real sizes.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE
from npd.registry.v1.revocation_pb2 import REVOCATION_REASON_KEY_COMPROMISE, REVOCATION_REASON_SUPERSEDED
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.cast import Cast
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import MEDICAL, OPERATORS
from services.local.sandbox import Sandbox
from services.mesh.wire.room import Room
from tests.faults.test_pki_rollover import reason_of_call
from tests.holders import PkiAdmin, further_certificate, name_of
from tests.mesh.test_cli_operators import run
from tests.mesh_fixture import refused, wait_until
from tests.pods.archived import ArchivedCluster, Figures, Point
from tests.ring import SOURCES, Human, Ring, some_day

pytestmark = pytest.mark.timeout(300)

_SECONDS = 60.0
_BIRTHS = 8


@dataclass
class Clustered:
    """A mesh with a cluster for each room, and everybody who acts in it."""

    ring: Ring
    clusters: Mapping[str, ArchivedCluster]
    report: list[str] = field(default_factory=list)

    @property
    def mesh(self) -> LocalMesh:
        """The mesh."""
        return self.ring.mesh

    def rows(self, room: str, query: str, **values: object) -> list[tuple[Any, ...]]:
        """Rows of a room's database."""
        with create_engine(self.clusters[room].url, poolclass=NullPool).begin() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def incarnation(self, room: str) -> int:
        """The incarnation of a room's store."""
        [(found,)] = self.rows(room, "SELECT max(incarnation) FROM store")
        return int(found)

    def npd(self, *words: str, code: int = 0, **variables: str) -> str:
        """Run `npd` in a process of its own, and return what it prints; it must end with the code."""
        operator = str(self.mesh.layout.operator(OPERATORS[0]).tls)
        answered = run(*words, **{"NPDCTL_DIRECTORY": operator, **variables})
        assert answered.returncode == code, answered.stderr
        return answered.stdout if code == 0 else answered.stderr

    def as_room(self, room: str, *words: str, code: int = 0) -> str:
        """Run `npd` as a Job of a room does, which knows its database alone."""
        return self.npd(*words, code=code, NPD_DATABASE_URL_FILE=str(self.mesh.layout.room(room).database_url))


@dataclass
class Loss:
    """A room whose cluster was recovered: what `npd restored` said, and what the recovery took."""

    room: str
    backup: Figures
    point: Point
    recovery: Figures
    facts: dict[str, Any]
    redelivered: int
    ready_seconds: float = 0.0

    def line(self, lost: str) -> str:
        """One line for who reads the output."""
        return (
            f"{self.room}: base backup {self.backup.size / 2**20:.1f} MiB in {self.backup.seconds:.1f} s; "
            f"{self.recovery.size / 2**20:.2f} MiB of WAL replayed, recovered after {self.recovery.seconds:.1f} s, "
            f"ready after {self.ready_seconds:.1f} s; told again {self.redelivered} messages; {lost}"
        )


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clustered]:
    """The mesh in processes of its own, with the sample's agencies and offices registered in it."""
    directory = tmp_path_factory.mktemp("restore")
    clusters: dict[str, ArchivedCluster] = {}

    def store_of(room: Room) -> str:
        clusters[room.name] = ArchivedCluster(directory / room.name, room.name)
        return clusters[room.name].url

    try:
        with LocalMesh(
            directory / "npd", discover(), prepare=prepare_store, operators=OPERATORS,
            settings=MeshSettings(first_port=31001), store_of=store_of,
        ) as mesh:  # fmt: skip
            mesh.publish()
            cast = Cast(Sandbox(mesh).register(lambda _: None), mesh.endpoints, mesh.layout)
            try:
                yield Clustered(Ring(mesh, cast, {}), clusters)
            finally:
                cast.close()
    finally:
        for cluster in clusters.values():
            cluster.close()


@contextmanager
def at_work(ring: Ring, name: str) -> Iterator[None]:
    """Births are registered for as long as the block lasts; a few, for each is compared in the end."""
    stopping = threading.Event()

    def work() -> None:
        for _ in range(_BIRTHS):
            ring.birth(f"Vũ {name}", SEX_MALE, some_day(20))
            if stopping.is_set():
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_SECONDS)


def lose(clustered: Clustered, room: str, after: Callable[[], object], *, settle: bool = True) -> Loss:
    """Back a room up under load, let acts follow after a point, lose its cluster, and recover it to that point.

    The room does not serve yet when this returns: `go_on` brings it back.
    """
    ring, cluster = clustered.ring, clustered.clusters[room]
    with at_work(ring, "Nam"):
        backup = cluster.back_up()
    ring.settle()
    point = cluster.mark("before")
    after()
    if settle:
        ring.settle()
    before = clustered.incarnation(room)
    assert "kubectl scale" in clustered.as_room(room, "restored", room, code=1), "it still serves"
    assert clustered.incarnation(room) == before
    clustered.mesh.stop_room(room)
    cluster.destroy()
    recovery = cluster.recover(point)
    clustered.as_room(room, "migrate", room)
    facts = json.loads(clustered.as_room(room, "restored", room, "--json"))
    assert facts["incarnation_before"] == before
    assert clustered.incarnation(room) == facts["incarnation"] > before
    since = datetime.fromisoformat(facts["since"])
    assert since <= point.time.astimezone(UTC)
    told = [
        json.loads(clustered.npd("redeliver", teller, "--peer", room, "--since", facts["since"], "--json"))
        for teller in facts["told_by"]
    ]
    redelivered = sum(int(one.get("redelivered_count", 0)) for one in told)
    return Loss(room, backup, point, recovery, facts, redelivered)


def go_on(clustered: Clustered, loss: Loss) -> None:
    """Let the recovered room serve."""
    began = time.monotonic()
    clustered.mesh.start_room(loss.room)
    clustered.mesh.wait_ready(loss.room)
    loss.ready_seconds = time.monotonic() - began


def lives(clustered: Clustered, name: str) -> list[Human]:
    """Acts of every kind about new people."""
    ring = clustered.ring
    one, other = ring.birth(f"Lê {name}", SEX_FEMALE, some_day(30)), ring.birth(f"Đỗ {name}", SEX_MALE, some_day(31))
    ring.settle()
    ring.marry(one, other)
    ring.move(one, f"Số 1 {name}")
    ring.issue_card(one, f"CC{name.upper()}001")
    ring.correct(other)
    ring.settle()
    ring.die(one)
    return [one, other]


def test_a_restored_record_is_told_again_what_it_lost_and_followers_go_on(
    clustered: Clustered, tell: Callable[[str], None]
) -> None:
    ring = clustered.ring
    known = lives(clustered, "An")
    ring.settle()
    old: list[change_pb2.Cursor] = []
    changes: set[Any] = set()

    def after() -> None:
        lives(clustered, "Ba")
        ring.move(known[1], "Số 2 mới")
        ring.settle()
        old.append(head(clustered))
        changes.update(clustered.rows("sharing", "SELECT change_id FROM changes"))

    loss = lose(clustered, "sharing", after)
    kept = set(clustered.rows("sharing", "SELECT change_id FROM changes"))
    lost = changes - kept
    assert lost, "the follower was ahead of the restored store"
    go_on(clustered, loss)
    refusal = resume(clustered, old[0])
    assert refusal.metadata == {"incarnation": str(loss.facts["incarnation"]), "position": "0"}
    taken = {room: ring.count(room, "changes_taken") for room in SOURCES}
    ring.settle()
    again = set(clustered.rows("sharing", "SELECT change_id FROM changes"))
    assert again == changes, "the same story has the same names: followers know what they have"
    assert {room: ring.count(room, "changes_taken") for room in SOURCES} == taken
    lives(clustered, "Ca")
    ring.settle()
    ring.compare()
    tell(loss.line(f"{len(lost)} changes lost, and all of them told again"))


def test_a_restored_identity_room_gives_no_number_twice_and_loses_none(
    clustered: Clustered, tell: Callable[[str], None]
) -> None:
    ring, alone = clustered.ring, list[Human]()

    def after() -> None:
        lives(clustered, "Da")
        ring.settle()
        clustered.mesh.stop_room("sharing")  # what identity confirms now is known to civil_status and to itself alone
        alone.append(ring.birth("Ngô Ẩn", SEX_FEMALE, some_day(3)))
        wait_until(lambda: ring.count("civil_status", "outbox", "peer = 'identity'") == 0, _SECONDS)
        assert state_of(clustered, alone[0]) == "ACTIVE"

    loss = lose(clustered, "identity", after, settle=False)
    numbers = ring.count("identity", "numbers")
    assert state_of(clustered, alone[0]) == "", "forgotten, and free for somebody else"
    clustered.mesh.start_room("sharing")
    go_on(clustered, loss)
    clustered.mesh.wait_ready("sharing")
    wait_until(lambda: state_of(clustered, alone[0]) == "ACTIVE", _SECONDS)
    refusal = ring.refusal_of_birth("Lý Sớm", SEX_MALE, some_day(1))
    assert refusal.reason == "PEER_UNAVAILABLE", "no number before births were told again"
    ring.settle()
    clustered.as_room("identity", "restored", "identity", "--told-again")
    ring.birth("Lý Sớm", SEX_MALE, some_day(1))
    ring.settle()
    ring.compare()
    regained = ring.count("identity", "numbers") - numbers - 1
    tell(loss.line(f"{regained} numbers lost, all known again from the feed and from births"))


def test_a_restored_issuer_un_revokes_nothing(
    clustered: Clustered, admin: PkiAdmin, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    mesh = clustered.mesh
    known, names = further_certificate(mesh, tmp_path / "known"), list[tuple[str, str]]()

    def after() -> None:
        unknown = further_certificate(mesh, tmp_path / "unknown")
        names.extend(map(name_of, (known, unknown)))
        admin.revoke(names[0], REVOCATION_REASON_KEY_COMPROMISE)
        admin.revoke(names[1], REVOCATION_REASON_SUPERSEDED)
        wait_until(lambda: reason_of_call(mesh, unknown) == "CERTIFICATE_REVOKED", _SECONDS)

    loss = lose(clustered, "issuer", after)
    assert clustered.rows("issuer", "SELECT count(*) FROM certificates WHERE serial_number = :it", it=names[1][1]) == [
        (0,)
    ]
    go_on(clustered, loss)
    wait_until(lambda: admin.state_of(names[0]) == "REVOKED", _SECONDS)
    for place in ("known", "unknown"):
        assert reason_of_call(mesh, tmp_path / place) == "CERTIFICATE_REVOKED"
    again = further_certificate(mesh, tmp_path / "again")
    assert name_of(again) not in names
    assert reason_of_call(mesh, again) == ""
    tell(loss.line("1 certificate and 2 revocations lost; the revocations are adopted from the policy"))


def test_a_restored_registry_un_revokes_nothing_and_rooms_follow_it_above(
    clustered: Clustered, admin: PkiAdmin, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    mesh, operator = clustered.mesh, clustered.ring.cast.operator
    revoked = further_certificate(mesh, tmp_path / "revoked")

    def after() -> None:
        admin.revoke(name_of(revoked), REVOCATION_REASON_KEY_COMPROMISE)
        operator.suspend(MEDICAL, "an act of authority after the point")
        wait_until(lambda: reason_of_call(mesh, revoked) == "CERTIFICATE_REVOKED", _SECONDS)
        held.append(revision(clustered))
        mesh.wait_policy(held[0])

    held: list[int] = []
    loss = lose(clustered, "registry", after)
    assert revision(clustered) > held[0], "no revision stands for two policies"
    mesh.stop_room("issuer")  # what it tells again must not come before we look
    go_on(clustered, loss)
    wait_until(lambda: held_by(clustered, "sharing") > held[0], _SECONDS)
    name = {"it": name_of(revoked)[1]}
    known = "SELECT count(*) FROM revocations WHERE serial_number = :it"
    assert clustered.rows("registry", known, **name) == [(0,)], "the registry has forgotten it"
    assert reason_of_sharing(clustered, revoked) == "CERTIFICATE_REVOKED", "no room has"
    mesh.start_room("issuer")
    mesh.wait_ready("issuer")
    wait_until(lambda: clustered.rows("registry", known, **name) == [(1,)], _SECONDS)
    mesh.wait_policy(revision(clustered))
    assert reason_of_call(mesh, revoked) == "CERTIFICATE_REVOKED"
    [(state,)] = clustered.rows(
        "registry",
        "SELECT state FROM systems WHERE agency_id = :a AND system_id = :s",
        a=MEDICAL.agency,
        s=MEDICAL.system,
    )
    assert state == "ACTIVE", "what only the registry knew is lost: the runbook says to look for it"
    operator.suspend(MEDICAL, "again")
    mesh.wait_policy(revision(clustered))
    operator.resume(MEDICAL)
    tell(loss.line("1 revocation lost and told again; 1 suspension lost for good"))


@pytest.mark.parametrize("room", ["residence", "civil_status"])
def test_a_restored_source_room_goes_on_and_the_record_keeps_what_it_had_told(
    clustered: Clustered, tell: Callable[[str], None], room: str
) -> None:
    ring, people = clustered.ring, list[Human]()
    table = {"residence": "residences", "civil_status": "acts"}[room]

    def after() -> None:
        people.extend(lives(clustered, f"E{room[0]}"))
        ring.move(people[1], "Số 7 sau")
        ring.settle()
        counts.append(ring.count(room, table))

    counts: list[int] = []
    loss = lose(clustered, room, after)
    lost = counts[0] - ring.count(room, table)
    assert lost > 0
    heads = ring.count("sharing", "changes")
    go_on(clustered, loss)
    ring.settle()
    assert ring.count(room, "changes_set_aside") == 0
    for human in people:  # known again, from the feed
        human.pin = ring.insist(lambda: ring.cast.identity_office.resolve(human.pin, case="SO-1")).current_pin  # noqa: B023
        record = ring.recorded(human)
        assert (record.pin, record.full_name.full) == (human.pin, human.name)
        assert record.HasField("death_or_missing") is human.is_dead
        assert record.permanent_residence.detail_text == human.address
    ring.move(people[1], "Số 8 sau nữa")
    born = ring.birth("Mai Mới", SEX_MALE, some_day(1))
    ring.settle()
    assert ring.recorded(people[1]).permanent_residence.detail_text == "Số 8 sau nữa"
    assert ring.recorded(born).full_name.full == born.name
    tell(loss.line(f"{lost} rows of {table} lost here, their facts kept by the record ({heads} changes)"))


@pytest.fixture
def admin(clustered: Clustered) -> Iterator[PkiAdmin]:
    """The operator who issues and revokes."""
    with PkiAdmin(clustered.mesh) as admin:
        yield admin


def head(clustered: Clustered) -> change_pb2.Cursor:
    """The head of the feed."""
    query = "SELECT (SELECT max(incarnation) FROM store), max(position) FROM changes"
    [(incarnation, position)] = clustered.rows("sharing", query)
    return change_pb2.Cursor(incarnation=incarnation, position=position)


def resume(clustered: Clustered, cursor: change_pb2.Cursor) -> Any:
    """How the feed refuses a cursor of before."""
    tls = clustered.mesh.layout.room("residence").tls
    with RotatingChannel(clustered.mesh.endpoints["sharing"], tls) as channel:
        stub = change_pb2_grpc.ChangeServiceStub(channel)
        refusal = refused(stub.PullChanges, change_pb2.PullChangesRequest(cursor=cursor))
    assert refusal.reason == "CURSOR_OUTDATED"
    return refusal


def state_of(clustered: Clustered, human: Human) -> str:
    """The state of a number; empty if it is free."""
    found = clustered.rows("identity", "SELECT state FROM numbers WHERE pin = :pin", pin=human.pin)
    return str(found[0][0]) if found else ""


def revision(clustered: Clustered) -> int:
    """The revision of the registry's store."""
    return int(clustered.rows("registry", "SELECT revision FROM policy_revision")[0][0])


def held_by(clustered: Clustered, room: str) -> int:
    """The revision of the policy by which a room decides."""
    with urlopen(f"{clustered.mesh.probes[room]}/metrics", timeout=5) as answer:  # noqa: S310 - a room of ours
        lines = answer.read().decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("npd_policy_revision "))


def reason_of_sharing(clustered: Clustered, place: Path) -> str:
    """Why sharing refuses a call with these credentials."""
    with RotatingChannel(clustered.mesh.endpoints["sharing"], place) as channel:
        try:
            change_pb2_grpc.ChangeServiceStub(channel).PullChanges(change_pb2.PullChangesRequest(), timeout=10)
        except grpc.RpcError as error:
            return refusal_of(error).reason
    return ""
