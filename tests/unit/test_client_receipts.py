"""Proof files: fetched with a client, checked without one."""

from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npd.common.v1.evidence_pb2 import GetInclusionProofResponse, LogEntry, Outcome, Receipt
from npd_client import merkle, note, receipts
from npd_client.checkpoint import Checkpoint, LogProof, ProofMalformed
from npd_client.note import VerifierKey

ORIGIN = "mesh.npd.test/registry"


class FakeLog:
    """A log of a few entries, with the two methods of a client that matter here."""

    def __init__(self, *entries: bytes) -> None:
        self.entries = entries
        self.private_key = Ed25519PrivateKey.generate()
        self.key = VerifierKey.of(ORIGIN, self.private_key)
        self.room = ""

    def subtree(self, level: int, index: int) -> bytes:
        leaves = self.entries[index << level : (index + 1) << level]
        return merkle.complete_root(b"".join(map(merkle.leaf_hash, leaves)))

    def inclusion_proof(self, leaf_hash: bytes, *, room: str) -> GetInclusionProofResponse:
        self.room = room
        index = [merkle.leaf_hash(entry) for entry in self.entries].index(leaf_hash)
        size = len(self.entries)
        root = merkle.cover_root(merkle.root_cover(size), self.subtree)
        return GetInclusionProofResponse(
            entry=self.entries[index],
            index=index,
            hashes=merkle.assemble(merkle.inclusion_covers(index, size), self.subtree),
            checkpoint=Checkpoint(ORIGIN, size, root).sign(self.private_key).decode(),
        )


def entry(number: int) -> bytes:
    return LogEntry(salt=bytes([number]) * 16, caller="spiffe://agency.npd.test/tax/core").SerializeToString()


@pytest.fixture
def log() -> Any:
    return FakeLog(*map(entry, range(11)))


@pytest.fixture
def receipt(log: FakeLog) -> Receipt:
    return Receipt(log_origin=ORIGIN, leaf_hash=merkle.leaf_hash(log.entries[4]))


def test_a_proof_file_stands_alone(log: Any, receipt: Receipt, tmp_path: Path) -> None:
    file = tmp_path / "answer.tlog-proof"
    receipts.prove(log, receipt, file, verifier_key=log.key)
    assert receipts.verify(file, log.key, receipt) == LogEntry.FromString(entry(4))
    assert receipts.verify(file, log.key) == LogEntry.FromString(entry(4))
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "written whole, nothing beside it"
    proven = receipts.open_proof(file.read_bytes(), log.key, receipt.leaf_hash)
    assert (proven.index, proven.checkpoint.size, proven.leaf_hash) == (4, 11, receipt.leaf_hash)


def test_a_proof_file_is_a_tlog_proof_with_the_entry_as_extra(log: Any, receipt: Receipt, tmp_path: Path) -> None:
    receipts.prove(log, receipt.leaf_hash, tmp_path / "proof")
    lines = (tmp_path / "proof").read_text().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", f"extra {b64encode(entry(4)).decode()}", "index 4"]


def test_the_room_after_which_the_log_is_named_is_asked(log: Any, receipt: Receipt, tmp_path: Path) -> None:
    receipts.prove(log, receipt, tmp_path / "proof")
    assert log.room == "registry"
    receipts.prove(log, receipt.leaf_hash, tmp_path / "proof")
    assert log.room == "sharing"
    receipts.prove(log, receipt, tmp_path / "proof", room="elsewhere")
    assert log.room == "elsewhere"


def test_an_answer_about_another_entry_is_not_kept(log: Any, receipt: Receipt, tmp_path: Path) -> None:
    honest = log.inclusion_proof
    log.inclusion_proof = lambda leaf_hash, room: honest(merkle.leaf_hash(log.entries[5]), room=room)
    with pytest.raises(receipts.AnotherEntry):
        receipts.prove(log, receipt, tmp_path / "proof")
    assert list(tmp_path.iterdir()) == []


def test_a_proof_that_does_not_hold_is_not_kept_where_a_key_is_given(
    log: Any, receipt: Receipt, tmp_path: Path
) -> None:
    stranger = VerifierKey.of(ORIGIN, Ed25519PrivateKey.generate())
    with pytest.raises(note.SignatureMissing):
        receipts.prove(log, receipt, tmp_path / "proof", verifier_key=stranger)
    assert list(tmp_path.iterdir()) == []


def proof_of(log: Any, receipt: Receipt) -> LogProof:
    answer = log.inclusion_proof(receipt.leaf_hash, room="sharing")
    return LogProof(answer.index, tuple(answer.hashes), answer.checkpoint.encode(), answer.entry)


def test_a_changed_entry_is_not_in_the_log(log: Any, receipt: Receipt) -> None:
    forged = LogEntry.FromString(entry(4))
    forged.outcome = Outcome.OUTCOME_NO_MATCH
    proof = replace(proof_of(log, receipt), extra=forged.SerializeToString())
    with pytest.raises(merkle.ProofInvalid):
        receipts.open_proof(proof.to_bytes(), log.key)


def test_a_proof_without_its_entry_proves_nothing(log: Any, receipt: Receipt) -> None:
    with pytest.raises(receipts.EntryMissing):
        receipts.open_proof(replace(proof_of(log, receipt), extra=b"").to_bytes(), log.key)


def test_a_proof_of_another_answer_is_told_apart(log: Any, receipt: Receipt) -> None:
    other = Receipt(log_origin=ORIGIN, leaf_hash=merkle.leaf_hash(log.entries[5]))
    with pytest.raises(receipts.AnotherEntry, match="another entry"):
        receipts.open_proof(proof_of(log, other).to_bytes(), log.key, receipt)
    elsewhere = Receipt(log_origin="mesh.npd.test/sharing", leaf_hash=receipt.leaf_hash)
    with pytest.raises(receipts.AnotherEntry, match="of the log"):
        receipts.open_proof(proof_of(log, receipt).to_bytes(), log.key, elsewhere)


def test_proven_bytes_that_are_no_entry_are_refused() -> None:
    log: Any = FakeLog(b"\xff\xff not an entry")
    receipt = Receipt(log_origin=ORIGIN, leaf_hash=merkle.leaf_hash(log.entries[0]))
    with pytest.raises(receipts.EntryUnreadable):
        receipts.open_proof(proof_of(log, receipt).to_bytes(), log.key, receipt)


@pytest.mark.parametrize("garbage", [b"", b"{}", b"c2sp.org/tlog-proof@v1\n"])
def test_another_file_is_not_a_proof(log: Any, garbage: bytes) -> None:
    with pytest.raises(ProofMalformed):
        receipts.open_proof(garbage, log.key)


def test_a_verifier_key_file_is_one_line(log: Any, tmp_path: Path) -> None:
    (tmp_path / "sharing.vkey").write_text(f"{log.key}\n")
    assert receipts.read_verifier_key(tmp_path / "sharing.vkey") == log.key
    (tmp_path / "sharing.vkey").write_bytes(b"\xff\xfe")
    with pytest.raises(note.KeyMalformed):
        receipts.read_verifier_key(tmp_path / "sharing.vkey")
