"""Merkle tree hashing, proofs and their verification (RFC 6962, RFC 9162); keeps no tree and reads no storage.

A tree is named by its size alone. The prover's half says which complete subtrees a proof is made of, so that any store
that answers "the hash of subtree (level, index)" can give it: the log keeps tiles, a test keeps a list.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeAlias

HASH_SIZE = 32
MAX_TREE_SIZE = 2**63 - 1
EMPTY_ROOT = sha256(b"").digest()

Subtree: TypeAlias = tuple[int, int]
"""(level, index): the complete subtree over the leaves from index * 2**level up to (index + 1) * 2**level."""

Cover: TypeAlias = tuple[Subtree, ...]
"""The complete subtrees, left to right, that together make one range of leaves of the tree."""

HashOf: TypeAlias = Callable[[int, int], bytes]
"""Answers the hash of the complete subtree (level, index)."""


class EvidenceInvalid(Exception):
    """A piece of evidence does not hold: its form, its signature or its arithmetic. Nothing of it may be believed."""


class ProofInvalid(EvidenceInvalid):
    """The hashes of a proof do not lead to the root they claim."""


class OutsideTree(ValueError):
    """A proof was asked for an index or a size that the tree does not have."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one log entry, exactly as its bytes are stored (RFC 9162 2.1.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node from the hashes of its two children (RFC 9162 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def complete_root(row: bytes) -> bytes:
    """The root of the complete subtree whose bottom row is `row`: 1, 2, 4, 8 ... concatenated 32-byte hashes.

    Raises ValueError for any other number of hashes.
    """
    count, rest = divmod(len(row), HASH_SIZE)
    if rest or count.bit_count() != 1:
        raise ValueError(f"{len(row)} bytes are not the row of a complete subtree")
    pair = 2 * HASH_SIZE
    while len(row) > HASH_SIZE:
        row = b"".join([sha256(b"\x01" + row[at : at + pair]).digest() for at in range(0, len(row), pair)])
    return row


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Prove that the entry with hash `leaf` stands at `index` in the tree of `size` entries with this root.

    1. The index lies in the tree, and every value is a hash: another length could shift one into its neighbour.
    2. Begin at the leaf: fn is its position, sn the last position of that row, r the hash.
    3. For each hash p of the proof:
       a. sn is not 0: a proof longer than the tree is high is refused.
       b. If fn is odd or the last of its row, p stands to the left of r; then leave the rows where r has no sibling.
          Otherwise p stands to the right.
       c. Go up one row.
    4. The top is reached (sn is 0), and r is the root.

    A root does not tell its size (the proof of entry 0 among 3 also fits "among 4"): take both from one checkpoint.
    Raises ProofInvalid. Source: RFC 9162 2.1.3.2.
    """
    if not 0 <= index < size:  # (1)
        raise ProofInvalid(f"index {index} is outside a tree of {size}")
    _require_hashes(leaf, root, *proof)
    fn, sn, r = index, size - 1, leaf  # (2)
    for p in proof:  # (3)
        if sn == 0:  # (3a)
            raise ProofInvalid("the proof is longer than the tree is high")
        if fn & 1 or fn == sn:  # (3b)
            r = node_hash(p, r)
            fn, sn = _to_right_child(fn, sn)
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1  # (3c)
    if sn != 0:  # (4)
        raise ProofInvalid("the proof ends below the root")
    if r != root:
        raise ProofInvalid("the proof leads to another root")


def verify_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Prove that the tree of `new_size` entries begins with the whole tree of `old_size` entries, unchanged.

    1. The sizes are in order, and every value is a hash.
    2. Two cases need no hashes and admit none: equal sizes with equal roots, and the empty tree, which every tree
       extends (nothing is learned about the new root).
    3. Otherwise the proof is not empty. The root of an old tree of 2**k entries is itself the first hash, and left out.
    4. Begin at the old tree's last entry, at the highest complete subtree that ends with it: fn is its position, sn the
       last position of that row.
    5. The first hash is that subtree's: both the old root (fr) and the new one (sr) grow from it.
    6. For each further hash c:
       a. sn is not 0: a proof longer than the tree is high is refused.
       b. If fn is odd or the last of its row, c stands to the left in both trees; then leave the rows where there is no
          sibling. Otherwise c stands to the right, and only the new tree has it.
       c. Go up one row.
    7. The top is reached (sn is 0), fr is the old root and sr the new one.

    Raises ProofInvalid. Source: RFC 9162 2.1.4.2; the empty tree as in C2SP tlog-witness.
    """
    if not 0 <= old_size <= new_size:  # (1)
        raise ProofInvalid(f"a tree of {new_size} does not extend a tree of {old_size}")
    _require_hashes(old_root, new_root, *proof)
    if old_size in (0, new_size):  # (2)
        if proof:
            raise ProofInvalid("this proof must be empty")
        if old_size == 0 and old_root != EMPTY_ROOT:
            raise ProofInvalid("the empty tree has another root")
        if old_size == new_size and old_root != new_root:
            raise ProofInvalid("two roots for one size")
        return
    if not proof:  # (3)
        raise ProofInvalid("the proof is empty")
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    fn, sn = old_size - 1, new_size - 1  # (4)
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # (5)
    for c in path[1:]:  # (6)
        if sn == 0:  # (6a)
            raise ProofInvalid("the proof is longer than the tree is high")
        if fn & 1 or fn == sn:  # (6b)
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            fn, sn = _to_right_child(fn, sn)
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1  # (6c)
    if sn != 0:  # (7)
        raise ProofInvalid("the proof ends below the root")
    if fr != old_root:
        raise ProofInvalid("the proof leads to another old root")
    if sr != new_root:
        raise ProofInvalid("the proof leads to another new root")


def root_cover(size: int) -> Cover:
    """The complete subtrees that the root of a tree of `size` entries is made of; none for the empty tree."""
    if not 0 <= size <= MAX_TREE_SIZE:
        raise OutsideTree(f"no tree has {size} entries")
    return _cover(0, size)


def inclusion_covers(index: int, size: int) -> tuple[Cover, ...]:
    """What each hash of an inclusion proof covers, from the leaf's sibling upwards: PATH(index, D[size]).

    Raises OutsideTree. Source: RFC 6962 2.1.1.
    """
    if not 0 <= index < size <= MAX_TREE_SIZE:
        raise OutsideTree(f"a tree of {size} has no index {index}")
    covers, start, end = [], 0, size
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            covers.append(_cover(middle, end))
            end = middle
        else:
            covers.append(_cover(start, middle))
            start = middle
    return tuple(reversed(covers))


def consistency_covers(old_size: int, new_size: int) -> tuple[Cover, ...]:
    """What each hash of a consistency proof covers: PROOF(old_size, D[new_size]).

    Nothing, from the empty tree and between equal sizes. Raises OutsideTree. Source: RFC 6962 2.1.2.
    """
    if not 0 <= old_size <= new_size <= MAX_TREE_SIZE:
        raise OutsideTree(f"a tree of {new_size} does not extend a tree of {old_size}")
    if old_size == 0:
        return ()
    covers, start, end = [], 0, new_size
    while old_size != end:
        middle = start + _left_size(end - start)
        if old_size <= middle:
            covers.append(_cover(middle, end))
            end = middle
        else:
            covers.append(_cover(start, middle))
            start = middle
    if start > 0:  # from 0, this subtree is the whole old tree, whose root the verifier already has
        covers.append(_cover(start, end))
    return tuple(reversed(covers))


def cover_root(cover: Cover, hash_of: HashOf) -> bytes:
    """The Merkle tree hash of the range that these subtrees cover; of none, the hash of the empty tree."""
    if not cover:
        return EMPTY_ROOT
    root = hash_of(*cover[-1])
    for level, index in reversed(cover[:-1]):
        root = node_hash(hash_of(level, index), root)
    return root


def assemble(covers: Sequence[Cover], hash_of: HashOf) -> tuple[bytes, ...]:
    """The hashes of a proof, in the order in which the verifier takes them."""
    return tuple(cover_root(cover, hash_of) for cover in covers)


def _require_hashes(*values: bytes) -> None:
    if any(len(value) != HASH_SIZE for value in values):
        raise ProofInvalid(f"a hash has {HASH_SIZE} bytes")


def _to_right_child(fn: int, sn: int) -> tuple[int, int]:
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn


def _left_size(size: int) -> int:
    """The largest power of two smaller than `size`, where RFC 6962 2.1 splits a tree of more than one entry."""
    return 1 << (size - 1).bit_length() - 1


def _cover(start: int, end: int) -> Cover:
    """Splits a range as the tree does: it must begin at a multiple of a power of two that is not below its length."""
    subtrees = []
    while start < end:
        level = (end - start).bit_length() - 1
        subtrees.append((level, start >> level))
        start += 1 << level
    return tuple(subtrees)
