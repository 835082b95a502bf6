"""Proofs of what was disclosed: fetched once, kept as one file, checked by anybody offline, trusting only a given key.

A proof file is a C2SP tlog-proof (https://c2sp.org/tlog-proof) and nothing else: its `extra` line carries the entry's
bytes, a serialised `npd.common.v1.LogEntry`, so that the file needs no other beside it:

    c2sp.org/tlog-proof@v1
    extra <base64 of the entry's bytes>
    index <position of the entry>
    <base64 of each hash of the inclusion proof>

    <the signed checkpoint>

The extra line is signed by nobody. It is believed because its hash is what the log proves to hold.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.message import DecodeError

from npd.common.v1.evidence_pb2 import LogEntry, Receipt
from npd_client import merkle
from npd_client.checkpoint import Checkpoint, LogProof
from npd_client.note import KeyMalformed, VerifierKey

if TYPE_CHECKING:  # whoever checks a proof offline loads no gRPC
    from npd_client.client import Client

ProofPath: TypeAlias = str | os.PathLike[str]


class EntryMissing(merkle.EvidenceInvalid):
    """A proof file without the entry that it is about."""


class EntryUnreadable(merkle.EvidenceInvalid):
    """The proven bytes are not an entry of a log of the mesh."""


class AnotherEntry(merkle.EvidenceInvalid):
    """The proof is about another entry, or another log, than the receipt."""


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry that a log is proven to hold."""

    entry: LogEntry
    leaf_hash: bytes
    index: int
    checkpoint: Checkpoint


def prove(
    client: "Client",
    receipt: Receipt | bytes,
    proof_file: ProofPath,
    *,
    room: str = "",
    verifier_key: VerifierKey | None = None,
) -> LogProof:
    """Fetch the proof of a receipt (or of a bare leaf hash), keep it as a file and return it.

    1. Ask the room that keeps the log, after which the log is named (without a name and a room: `sharing`); an entry so
       fresh that it has no place yet is waited for.
    2. Put the proof together. The entry must be that of the leaf hash, whoever answered.
    3. Check it whole, if the log's key is given; without the key nothing is believed yet, only kept.
    4. Write the file, whole or not at all.

    Raises Refusal (reason ENTRY_NOT_FOUND: no such entry in this room's log), AnotherEntry, and with a key what
    `verify` raises.
    """
    named = receipt if isinstance(receipt, Receipt) else Receipt(leaf_hash=receipt)
    room = room or named.log_origin.rpartition("/")[2] or "sharing"
    answer = client.inclusion_proof(named.leaf_hash, room=room)  # (1)
    proof = LogProof(answer.index, tuple(answer.hashes), answer.checkpoint.encode(), answer.entry)  # (2)
    _require_leaf(merkle.leaf_hash(answer.entry), named.leaf_hash)
    if verifier_key is not None:
        open_proof(proof.to_bytes(), verifier_key, receipt)  # (3)
    write_whole(Path(proof_file), proof.to_bytes())  # (4)
    return proof


def verify(proof_file: ProofPath, verifier_key: VerifierKey, receipt: Receipt | bytes | None = None) -> LogEntry:
    """Prove, without a network, that the log of this key holds the entry of a proof file, and return the entry.

    Pass the receipt of the answer: without it the proof shows that *some* entry is in the log, perhaps not yours.
    Raises merkle.EvidenceInvalid (as `open_proof`), OSError.
    """
    return open_proof(Path(proof_file).read_bytes(), verifier_key, receipt).entry


def open_proof(proof: bytes, verifier_key: VerifierKey, receipt: Receipt | bytes | None = None) -> ProvenEntry:
    """Prove that the log of this key holds the entry that the bytes of a proof file carry.

    1. The bytes are a tlog-proof, and carry an entry.
    2. The checkpoint is signed by this key, under the log's name; the entry's hash, taken over its bytes as stored,
       leads to the checkpoint's root at the entry's index.
    3. The entry is that of the receipt, and the log too, if a receipt is given.
    4. Only now the bytes are read.

    Raises merkle.EvidenceInvalid: checkpoint.ProofMalformed, EntryMissing (1); note.NoteMalformed, SignatureInvalid,
    SignatureMissing, checkpoint.CheckpointMalformed, merkle.ProofInvalid (2); AnotherEntry (3); EntryUnreadable (4).
    Sources: RFC 9162 2.1.3.2; C2SP tlog-proof.
    """
    parsed = LogProof.parse(proof)  # (1)
    if not parsed.extra:
        raise EntryMissing("the proof file carries no entry (its extra line is missing)")
    opened = parsed.verify(parsed.extra, [verifier_key])  # (2)
    leaf_hash = merkle.leaf_hash(parsed.extra)
    if isinstance(receipt, Receipt):  # (3)
        _require_leaf(leaf_hash, receipt.leaf_hash)
        if receipt.log_origin != opened.checkpoint.origin:
            raise AnotherEntry(
                f"the receipt is of the log {receipt.log_origin}, the proof of {opened.checkpoint.origin}"
            )
    elif receipt is not None:
        _require_leaf(leaf_hash, receipt)
    try:
        entry = LogEntry.FromString(parsed.extra)  # (4)
    except DecodeError:
        raise EntryUnreadable("the proven bytes are not an entry of a log of the mesh") from None
    return ProvenEntry(entry, leaf_hash, parsed.index, opened.checkpoint)


def read_verifier_key(path: ProofPath) -> VerifierKey:
    """Read a verifier key file: one line, `name+hexid+base64`. Raises note.KeyMalformed, OSError."""
    try:
        return VerifierKey.parse(Path(path).read_text(encoding="utf-8").strip())
    except UnicodeDecodeError:
        raise KeyMalformed(f"{path} is not a verifier key file") from None


def write_whole(path: Path, content: bytes) -> None:
    """Put a file that all may read in its place, whole or not at all. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _require_leaf(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise AnotherEntry("the proof is about another entry than the receipt")
