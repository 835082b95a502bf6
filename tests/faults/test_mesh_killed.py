"""Rooms and PostgreSQL killed under load: they recover by themselves, and whatever anybody was told still holds."""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import Outcome
from npd.sharing.v1.contribution_pb2 import ContributionItem, ContributionResult
from npd_client import merkle
from npd_client.checkpoint import open_checkpoint
from npd_client.client import Client
from npd_client.errors import Refusal
from npd_client.note import VerifierKey
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local import citizens
from services.local.mesh import LocalMesh, MeshSettings
from services.local.population import CAPACITY
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox, a_citizen, stated
from tests.mesh_fixture import wait_until

_READERS, _WRITERS = 6, 2
_numbers = count(10_000)  # citizens whom nobody has contributed yet


class Lost(AssertionError):
    """Somebody was told what does not hold any more."""


@dataclass
class Told:
    """What the callers of one load were told: answers by their leaf hashes, acknowledged items, and other words."""

    leaf_hashes: list[bytes] = field(default_factory=list)
    acknowledged: list[ContributionItem] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A whole mesh with the sample registered and some citizens in its record."""
    settings = MeshSettings(first_port=23001)
    directory = tmp_path_factory.mktemp("mesh") / "npd"
    with LocalMesh(directory, discover(), prepare=prepare_store, operators=OPERATORS, settings=settings) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def agreement_id(mesh: LocalMesh) -> str:
    """The agreement of the tax administration."""
    sandbox = Sandbox(mesh)
    agreements = sandbox.register(lambda _: None)
    sandbox.contribute(200, lambda _: None)
    return agreements[TAX.title]


class Load:
    """Lookups and contributions from threads, each of which goes on after every failure, until told to stop."""

    def __init__(self, mesh: LocalMesh, agreement_id: str) -> None:
        self.told = Told()
        self._mesh = mesh
        self._access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id=TAX.officers[0])
        self._stopping = threading.Event()
        works = [self._read] * _READERS + [self._write] * _WRITERS
        self._threads = [threading.Thread(target=self._run, args=[work], daemon=True) for work in works]
        self._faults: list[BaseException] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self._faults, self._faults

    def wait_more(self, answers: int = 100, contributions: int = 10, seconds: float = 30.0) -> None:
        """Wait until so many more callers have been served."""
        told = self.told
        answered, acknowledged = len(told.leaf_hashes) + answers, len(told.acknowledged) + contributions
        wait_until(lambda: len(told.leaf_hashes) >= answered and len(told.acknowledged) >= acknowledged, seconds)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as fault:
            self._faults.append(fault)

    def _read(self) -> None:
        citizen = stated(a_citizen())
        with Client(self._mesh.endpoints, self._mesh.layout.system(TAX.agency, TAX.system).tls) as client:
            while not self._stopping.is_set():
                try:
                    answer = client.get_citizen(
                        self._access, citizen.pin, citizen.full_name, citizen.birth_date, ["full_name"], timeout=10
                    )
                except Refusal as refusal:
                    self._pause_after(refusal)
                else:
                    assert answer.outcome == Outcome.OUTCOME_DISCLOSED
                    self.told.leaf_hashes.append(answer.receipt.leaf_hash)

    def _write(self) -> None:
        people = citizens.population(CAPACITY)
        with Client(self._mesh.endpoints, self._mesh.layout.room("identity").tls) as client:
            while not self._stopping.is_set():
                item, request_id = citizens.item_of(people.citizen(next(_numbers))), str(uuid4())
                while True:
                    try:
                        (result,) = client.contribute([item], request_id=request_id, timeout=10).results
                    except Refusal as refusal:
                        self._pause_after(refusal)
                        continue
                    break
                taken = (ContributionResult.STATUS_APPLIED, ContributionResult.STATUS_DUPLICATE)
                assert result.status in taken, "a repeat is applied once"
                self.told.acknowledged.append(item)

    def _pause_after(self, refusal: Refusal) -> None:
        self.told.refusals.append(refusal)
        self._stopping.wait(0.05)


@contextmanager
def store(mesh: LocalMesh) -> Iterator[Connection]:
    """A transaction in the record's database, rolled back in the end.

    It sees one moment: the log grows by itself, because the rooms that follow the feed are still catching up.
    """
    url = mesh.layout.room("sharing").database_url.read_text().strip()
    engine = create_engine(url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        yield connection


def in_order(mesh: LocalMesh) -> bool:
    """Whether everything that was committed has its position."""
    pending = "SELECT (SELECT count(*) FROM log_pending) + (SELECT count(*) FROM changes_pending)"
    with store(mesh) as connection:
        return bool(connection.execute(text(pending)).scalar_one() == 0)


def require_kept(connection: Connection, told: Told, key: VerifierKey) -> None:
    """Raise Lost unless the store holds all that callers were told.

    1. The entry of every answer is in the log.
    2. The log's entries hash to the root that its newest checkpoint signs.
    3. Every acknowledged item was taken in once, and its person is in the record and in the feed.
    """
    rows = connection.execute(text("SELECT position, leaf_hash, entry FROM log ORDER BY position")).all()
    unproved = set(told.leaf_hashes) - {merkle.leaf_hash(row.entry) for row in rows}  # (1)
    if unproved or len(set(told.leaf_hashes)) != len(told.leaf_hashes):
        raise Lost(f"{len(unproved)} of {len(told.leaf_hashes)} answers have no entry")
    note = connection.execute(text("SELECT note FROM log_checkpoints ORDER BY size DESC LIMIT 1")).scalar_one()
    checkpoint = open_checkpoint(note.encode(), [key]).checkpoint  # (2)
    leaves = [row.leaf_hash for row in rows]
    if checkpoint.size != len(rows) or [row.position for row in rows] != list(range(len(rows))):
        raise Lost(f"the checkpoint is over {checkpoint.size} entries, the log has {len(rows)}")
    if root_of(leaves) != checkpoint.root:
        raise Lost("the log is not what its checkpoint says")
    found = connection.execute(  # (3)
        text(
            "SELECT event_id, count(*) AS taken FROM contributions JOIN records USING (subject_id)"
            " WHERE source = 'identity' AND event_id = ANY(:events) AND records.pin = ANY(:pins)"
            " AND EXISTS (SELECT FROM changes WHERE changes.subject_id = records.subject_id) GROUP BY event_id"
        ),
        {
            "events": [item.event_id for item in told.acknowledged],
            "pins": [item.person.pin for item in told.acknowledged],
        },
    )
    taken = {row.event_id: row.taken for row in found}
    missing = [item for item in told.acknowledged if taken.get(item.event_id) != 1]
    if missing:
        raise Lost(f"{len(missing)} of {len(told.acknowledged)} acknowledged items are not in the record")


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root of leaf hashes."""

    def hash_of(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return merkle.node_hash(hash_of(level - 1, 2 * index), hash_of(level - 1, 2 * index + 1))

    return merkle.cover_root(merkle.root_cover(len(leaves)), hash_of)


def verify(mesh: LocalMesh, told: Told) -> None:
    """`require_kept`, as soon as everything has its position."""
    wait_until(lambda: in_order(mesh))
    with store(mesh) as connection:
        require_kept(connection, told, log_key(mesh))


def log_key(mesh: LocalMesh) -> VerifierKey:
    """The key by which the record's log is believed."""
    return VerifierKey.parse(mesh.layout.room("sharing").verifier_key.read_text().strip())


@pytest.mark.parametrize("victim", ["postgres", "sharing"])
def test_nothing_that_was_told_is_lost(mesh: LocalMesh, agreement_id: str, victim: str) -> None:
    with Load(mesh, agreement_id) as load:
        for _ in range(2):
            load.wait_more()
            assert mesh.kill(victim) is not None
            load.wait_more()
    assert {refusal.code for refusal in load.told.refusals} == {grpc.StatusCode.UNAVAILABLE}
    reasons = {refusal.reason for refusal in load.told.refusals}
    assert reasons == ({"STORE_UNAVAILABLE"} if victim == "postgres" else {""})
    verify(mesh, load.told)
    restarts = {status.name: status.restarts for status in mesh.statuses()}
    assert restarts[victim] == 2


def test_the_check_notices_an_entry_that_is_missing(mesh: LocalMesh, agreement_id: str) -> None:
    with Load(mesh, agreement_id) as load:
        load.wait_more(1, 1)
    verify(mesh, load.told)
    item, key = load.told.acknowledged[0], log_key(mesh)
    for deletion, words in (
        (text("DELETE FROM log WHERE leaf_hash = :told").bindparams(told=load.told.leaf_hashes[0]), "have no entry"),
        (text("DELETE FROM contributions WHERE event_id = :told").bindparams(told=item.event_id), "not in the record"),
        (text("DELETE FROM records WHERE pin = :told").bindparams(told=item.person.pin), "not in the record"),
        (text("UPDATE log SET leaf_hash = sha256(leaf_hash) WHERE position = 0"), "not what its checkpoint says"),
    ):
        with store(mesh) as connection:
            assert connection.execute(deletion).rowcount == 1
            with pytest.raises(Lost, match=words):
                require_kept(connection, load.told, key)


def test_the_check_notices_commits_that_were_not_durable(mesh: LocalMesh, agreement_id: str) -> None:
    """The control: the same fault and the same check, with a store that acknowledges before it has written."""
    with store(mesh) as connection:
        connection.execute(text("ALTER DATABASE sharing SET synchronous_commit = off"))
        connection.commit()
        others = "FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))  # the room shall connect anew
    with Load(mesh, agreement_id) as load:
        load.wait_more()
        mesh.kill("postgres")
        load.wait_more()
    with pytest.raises(Lost, match=r"answers have no entry|are not in the record"):
        verify(mesh, load.told)


def test_a_room_ends_whichever_of_its_threads_gets_the_signal(mesh: LocalMesh) -> None:
    (sharing,) = (one for one in mesh.statuses() if one.name == "sharing")
    assert sharing.pid is not None
    threads = [int(place.name) for place in Path(f"/proc/{sharing.pid}/task").iterdir()]
    another = next(thread for thread in threads if thread != sharing.pid)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.tgkill(sharing.pid, another, signal.SIGTERM) == 0
    wait_until(lambda: not Path(f"/proc/{sharing.pid}").exists(), 30)
    mesh.wait_ready("sharing")
