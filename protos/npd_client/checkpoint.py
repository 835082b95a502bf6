"""What a log commits to, and proof that an entry is in it, offline (C2SP tlog-checkpoint, tlog-proof).

It trusts no key that it is not given, and fetches nothing: a proof file and a verifier key are enough.
Sources: https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-proof.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npd_client import merkle, note
from npd_client.note import Note, VerifierKey, from_base64, to_base64

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES = 63
"""The height of the largest tree."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class CheckpointMalformed(merkle.EvidenceInvalid):
    """A note's text is not that of a checkpoint."""


class ProofMalformed(merkle.EvidenceInvalid):
    """These bytes are not a transparency log proof."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's claim: "my first `size` entries have this root". Raises CheckpointMalformed if no log could claim it."""

    origin: str
    """The log's name, and the name of its key."""
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()
    """Further lines that the log signs and nobody interprets; C2SP advises against any."""

    def __post_init__(self) -> None:
        if not all(line and "\n" not in line for line in (self.origin, *self.extensions)):
            raise CheckpointMalformed("the origin and each extension are one line that is not empty")
        if not 0 <= self.size <= merkle.MAX_TREE_SIZE:
            raise CheckpointMalformed(f"no tree has {self.size} entries")
        if len(self.root) != merkle.HASH_SIZE:
            raise CheckpointMalformed(f"a root hash has {merkle.HASH_SIZE} bytes")
        if self.size == 0 and self.root != merkle.EMPTY_ROOT:
            raise CheckpointMalformed("the empty tree has another root")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a note's text: origin, size, root and extensions, a line each."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise CheckpointMalformed("a checkpoint has at least three lines, each ended by a newline")
        origin, size, root, *extensions = lines
        return cls(
            origin, _decimal(size, CheckpointMalformed), from_base64(root, CheckpointMalformed), tuple(extensions)
        )

    def __str__(self) -> str:
        """The text that is signed."""
        return "\n".join([self.origin, str(self.size), to_base64(self.root), *self.extensions, ""])

    def sign(self, private_key: Ed25519PrivateKey) -> bytes:
        """The signed note, under the origin as key name.

        The caller answers for never signing two checkpoints of which one does not extend the other.
        Raises note.KeyMalformed if the origin holds a space or a plus, and so cannot name a key.
        """
        return note.sign(str(self), self.origin, private_key).to_bytes()


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose signatures hold."""

    checkpoint: Checkpoint
    signers: tuple[VerifierKey, ...]
    """The log's key, and the trusted witnesses that cosigned; how many of them are enough is the reader's policy."""


def open_checkpoint(
    raw: bytes, log_keys: Iterable[VerifierKey], witness_keys: Iterable[VerifierKey] = ()
) -> OpenedCheckpoint:
    """Turn a signed note into a checkpoint that a trusted log made, or refuse.

    Several log keys are those of one log while it changes its key, or those of several logs: then `origin` tells which.

    1. The bytes are a note; every line of a trusted key is a good signature, and there is one.
    2. The text is a checkpoint.
    3. One of the signers is a log key of the very name that the checkpoint has as origin: neither a witness nor another
       log can speak for it.

    Raises note.NoteMalformed, note.SignatureInvalid, note.SignatureMissing, note.KeyAmbiguous, CheckpointMalformed.
    """
    logs = tuple(log_keys)
    signed = Note.parse(raw)  # (1)
    signers = signed.verify((*logs, *witness_keys))
    checkpoint = Checkpoint.parse(signed.text)  # (2)
    if not any(signer in logs and signer.name == checkpoint.origin for signer in signers):  # (3)
        raise note.SignatureMissing("no trusted log key of this origin signed the checkpoint")
    return OpenedCheckpoint(checkpoint, signers)


@dataclass(frozen=True, slots=True)
class LogProof:
    """An offline proof that an entry is in a log: its index, its inclusion proof and the checkpoint that they reach."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    """The signed note, verbatim."""
    extra: bytes = b""
    """Context that nobody signed, and that is not to be trusted; empty for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.index < merkle.MAX_TREE_SIZE:
            raise ProofMalformed(f"no tree has an index {self.index}")
        if len(self.hashes) > MAX_PROOF_HASHES or any(len(value) != merkle.HASH_SIZE for value in self.hashes):
            raise ProofMalformed(f"a proof has at most {MAX_PROOF_HASHES} hashes of {merkle.HASH_SIZE} bytes")

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a `.tlog-proof` file; its checkpoint is kept as it is, and judged by `verify`."""
        head, blank, signed = raw.partition(b"\n\n")
        if not blank or not head.isascii():
            raise ProofMalformed("a proof is a head in ASCII, a blank line and a checkpoint")
        header, *lines = head.decode().split("\n")
        if header != PROOF_HEADER:
            raise ProofMalformed(f"a proof begins with {PROOF_HEADER}")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = from_base64(lines.pop(0).removeprefix("extra "), ProofMalformed)
            if not extra:
                raise ProofMalformed("a proof without extra bytes has no extra line")
        if not lines or not lines[0].startswith("index "):
            raise ProofMalformed("the index is missing")
        index = _decimal(lines.pop(0).removeprefix("index "), ProofMalformed)
        return cls(index, tuple(from_base64(line, ProofMalformed) for line in lines), signed, extra)

    def to_bytes(self) -> bytes:
        """The proof as a file."""
        extra = [f"extra {to_base64(self.extra)}"] if self.extra else []
        lines = [PROOF_HEADER, *extra, f"index {self.index}", *map(to_base64, self.hashes), "", ""]
        return "\n".join(lines).encode() + self.checkpoint

    def verify(
        self, entry: bytes, log_keys: Iterable[VerifierKey], witness_keys: Iterable[VerifierKey] = ()
    ) -> OpenedCheckpoint:
        """Prove that a trusted log holds this entry at this index, or refuse.

        1. The checkpoint is a trusted log's.
        2. The entry is hashed as it was stored, never as it was parsed and written anew.
        3. The hash leads to the checkpoint's root at the checkpoint's size.

        Raises what `open_checkpoint` raises, and merkle.ProofInvalid.
        """
        opened = open_checkpoint(self.checkpoint, log_keys, witness_keys)  # (1)
        leaf = merkle.leaf_hash(entry)  # (2)
        head = opened.checkpoint
        merkle.verify_inclusion(leaf, self.index, head.size, self.hashes, head.root)  # (3)
        return opened


def _decimal(digits: str, refusal: type[merkle.EvidenceInvalid]) -> int:
    """ASCII digits without leading zeroes, at most 19 of them."""
    if not _DECIMAL.fullmatch(digits):
        raise refusal("a number is written in decimal digits without leading zeroes")
    return int(digits)
