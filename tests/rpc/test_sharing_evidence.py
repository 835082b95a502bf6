"""What was disclosed can be proved offline, against a signed checkpoint; and the log is shown only to grow."""

from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npd.common.v1.evidence_pb2 import (
    GetCheckpointRequest,
    GetConsistencyProofRequest,
    GetInclusionProofRequest,
    LogEntry,
    Receipt,
)
from npd.common.v1.person_pb2 import Person
from npd.sharing.v1.change_pb2 import PullChangesRequest
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd_client import Client, merkle, receipts
from npd_client.checkpoint import Checkpoint, open_checkpoint
from npd_client.note import VerifierKey
from npd_pki.identity import Kind
from services.mesh.wire.room import private_key
from tests.mesh_fixture import Desk, Stage, wait_until
from tests.rpc.test_sharing_callers import CHANGES, DISCLOSED, LOOKUP, Party, Scene, bare

ORIGIN = "mesh.test.npd.example/sharing"


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["sex"], CHANGES: ["full_name"]})


@pytest.fixture(scope="module")
def person(scene: Scene) -> Person:
    return scene.citizen()


@pytest.fixture(scope="module")
def key(scene: Scene) -> VerifierKey:
    """The public key of the room's log, which a ministry gets beside the log."""
    signing: Ed25519PrivateKey = private_key(scene.sharing.house.settings, "checkpoint_key_file")
    return VerifierKey.of(ORIGIN, signing)


def checkpoint(party: Party, key: VerifierKey) -> Checkpoint:
    note = party.evidence.GetCheckpoint(GetCheckpointRequest()).checkpoint
    return open_checkpoint(note.encode(), [key]).checkpoint


def grow(tax: Party, person: Person, key: VerifierKey, by: int) -> Checkpoint:
    """Disclose some more, and wait for a checkpoint over it."""
    before = checkpoint(tax, key).size
    for _ in range(by):
        assert tax.get_citizen(person).outcome == DISCLOSED
    wait_until(lambda: checkpoint(tax, key).size >= before + by)
    return checkpoint(tax, key)


def test_disclosure_is_proved_offline(
    scene: Scene, tax: Party, person: Person, key: VerifierKey, tmp_path: Path
) -> None:
    with scene.recording() as entries:
        receipt = tax.get_citizen(person).receipt
        wait_until(lambda: scene.rows("SELECT 1 FROM log_pending") == [])
        credentials = scene.sharing.authority.tls(Kind.AGENCY, tax.name)
        with Client({"sharing": scene.sharing.address}, credentials) as client:
            receipts.prove(client, receipt, tmp_path / "proof")
    proven = receipts.verify(tmp_path / "proof", key, receipt)
    assert [proven] == list(entries), "asking for a proof is itself no disclosure"
    assert bare(proven) == tax.entry(GetCitizenRequest, DISCLOSED, LOOKUP, "sex")
    another = Receipt(log_origin=ORIGIN, leaf_hash=bytes(32))
    with pytest.raises(receipts.AnotherEntry):
        receipts.verify(tmp_path / "proof", key, another)


def test_every_entry_is_proved_under_one_checkpoint_also_beyond_a_tile(
    scene: Scene, tax: Party, key: VerifierKey
) -> None:
    births = [scene.birth() for _ in range(300)]
    scene.identity.contribute(*births)
    delivered: list[bytes] = []
    request = PullChangesRequest(access=tax.access, page_size=1000)

    def all_came() -> bool:
        answer = tax.changes.PullChanges(request)
        request.cursor.CopyFrom(answer.next_cursor)
        delivered.extend(change.receipt.leaf_hash for change in answer.changes)
        return len(delivered) >= 300

    wait_until(all_came)
    wait_until(lambda: scene.rows("SELECT 1 FROM log_pending") == [])
    seen = set()
    for leaf_hash in delivered[::7]:
        answer = tax.evidence.GetInclusionProof(GetInclusionProofRequest(leaf_hash=leaf_hash))
        over = open_checkpoint(answer.checkpoint.encode(), [key]).checkpoint
        assert merkle.leaf_hash(answer.entry) == leaf_hash
        merkle.verify_inclusion(leaf_hash, answer.index, over.size, answer.hashes, over.root)
        assert LogEntry.FromString(answer.entry).caller == tax.identity
        seen.add((over.size, answer.index))
    assert len(seen) == len(delivered[::7])


def test_log_is_shown_only_to_have_grown(scene: Scene, tax: Party, person: Person, key: VerifierKey) -> None:
    grown: Sequence[Checkpoint] = [grow(tax, person, key, by) for by in (1, 2, 5)]
    newest = grown[-1]
    for old in grown:
        answer = tax.evidence.GetConsistencyProof(GetConsistencyProofRequest(old_size=old.size))
        assert open_checkpoint(answer.checkpoint.encode(), [key]).checkpoint == newest
        merkle.verify_consistency(old.size, newest.size, answer.hashes, old.root, newest.root)
        with pytest.raises(merkle.ProofInvalid):
            merkle.verify_consistency(old.size, newest.size, answer.hashes, bytes(32), newest.root)
    assert [one.origin for one in grown] == [ORIGIN] * 3


def test_checkpoint_signed_by_another_key_is_not_believed(scene: Scene, tax: Party, key: VerifierKey) -> None:
    stranger = VerifierKey.of(ORIGIN, Ed25519PrivateKey.generate())
    with scene.recording() as entries, pytest.raises(merkle.EvidenceInvalid):
        checkpoint(tax, stranger)
    assert checkpoint(tax, key).origin == ORIGIN
    assert entries == []


@pytest.mark.parametrize(("kind", "name"), [(Kind.OPERATOR, "lan"), (Kind.MESH, "registry"), (Kind.AGENCY, "moj/core")])
def test_whoever_knows_the_leaf_hash_may_have_the_proof(
    scene: Scene, tax: Party, person: Person, key: VerifierKey, kind: Kind, name: str
) -> None:
    if kind is Kind.AGENCY:
        scene.register(name)
        scene.stage.settle()
    other, receipt = Party(scene.sharing, kind, name), tax.get_citizen(person).receipt
    grow(tax, person, key, 1)
    with scene.recording() as entries:
        answer = other.evidence.GetInclusionProof(GetInclusionProofRequest(leaf_hash=receipt.leaf_hash))
    assert merkle.leaf_hash(answer.entry) == receipt.leaf_hash
    assert entries == []


def test_leaf_hash_of_no_entry_is_not_found(scene: Scene, tax: Party) -> None:
    request = GetInclusionProofRequest(leaf_hash=bytes(32))
    refusal = scene.refuse(tax, tax.evidence.GetInclusionProof, request, "ENTRY_NOT_FOUND")
    assert refusal.code is grpc.StatusCode.NOT_FOUND


def test_entry_is_found_once_it_has_its_position(scene: Scene, tax: Party, person: Person, key: VerifierKey) -> None:
    with scene.sharing.house.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('sequencer/log'))")
        request = GetInclusionProofRequest(leaf_hash=tax.get_citizen(person).receipt.leaf_hash)
        scene.refuse(tax, tax.evidence.GetInclusionProof, request, "ENTRY_NOT_FOUND")
        connection.exec_driver_sql("SELECT pg_advisory_unlock(hashtext('sequencer/log'))")
    grow(tax, person, key, 1)
    assert merkle.leaf_hash(tax.evidence.GetInclusionProof(request).entry) == request.leaf_hash


@pytest.mark.parametrize("leaf_hash", [b"x", bytes(31), bytes(33)])
def test_leaf_hash_of_another_length_is_refused(scene: Scene, tax: Party, leaf_hash: bytes) -> None:
    request = GetInclusionProofRequest(leaf_hash=leaf_hash)
    refusal = scene.refuse(tax, tax.evidence.GetInclusionProof, request, "FIELD_INVALID")
    assert [violation.field for violation in refusal.violations] == ["leaf_hash"]


@pytest.mark.parametrize("old_size", [-1, 10**9, 2**63 - 1])
def test_size_that_the_log_never_had_is_refused(scene: Scene, tax: Party, old_size: int) -> None:
    request = GetConsistencyProofRequest(old_size=old_size)
    refusal = scene.refuse(tax, tax.evidence.GetConsistencyProof, request, "CHECKPOINT_UNKNOWN")
    assert (refusal.code, refusal.metadata) == (grpc.StatusCode.INVALID_ARGUMENT, {"size": str(old_size)})


def test_proof_of_nothing_is_refused(scene: Scene, tax: Party) -> None:
    for call, request, field in (
        (tax.evidence.GetInclusionProof, GetInclusionProofRequest(), "leaf_hash"),
        (tax.evidence.GetConsistencyProof, GetConsistencyProofRequest(), "old_size"),
    ):
        refusal = scene.refuse(tax, call, request, "FIELD_REQUIRED")
        assert [violation.field for violation in refusal.violations] == [field]
