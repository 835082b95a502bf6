"""Merkle proofs: the published ones verify, each one made is the one RFC 6962 defines, and nothing else is believed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npd_client import merkle
from npd_client.merkle import EvidenceInvalid, OutsideTree, ProofInvalid, verify_consistency, verify_inclusion
from tests.unit.test_merkle_reference import CONSISTENCIES, ENTRIES, INCLUSIONS, ROOTS, numbered_tree

LARGEST = 3000
TREE = numbered_tree(LARGEST)
SIZES = st.integers(1, LARGEST)


@st.composite
def inclusions(draw: st.DrawFn, smallest: int = 1) -> tuple[int, int]:
    size = draw(st.integers(smallest, LARGEST))
    return draw(st.integers(0, size - 1)), size


@st.composite
def growths(draw: st.DrawFn) -> tuple[int, int]:
    """An old size of at least 1 and a larger new one: the proofs that hold hashes."""
    new = draw(st.integers(2, LARGEST))
    return draw(st.integers(1, new - 1)), new


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


BITS = st.integers(0, 255)


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots_come_from_hashing_entries_and_nodes(size: int) -> None:
    leaves = [merkle.leaf_hash(entry) for entry in ENTRIES[:size]]
    root = merkle.cover_root(
        merkle.root_cover(size),
        lambda level, index: merkle.complete_root(b"".join(leaves[index << level : (index + 1) << level])),
    )
    assert root.hex() == ROOTS[size]


def test_empty_tree_has_the_published_root() -> None:
    assert merkle.EMPTY_ROOT.hex() == ROOTS[0]
    assert merkle.cover_root(merkle.root_cover(0), TREE.subtree) == merkle.EMPTY_ROOT


def test_a_node_is_not_the_leaf_of_its_children() -> None:
    left, right = TREE.leaf_hashes[:2]
    assert merkle.node_hash(left, right) == TREE.root(2)
    assert merkle.leaf_hash(left + right) != TREE.root(2)


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSIONS)
def test_published_inclusion_proofs_verify(index: int, size: int, proof: list[str]) -> None:
    leaf, root = merkle.leaf_hash(ENTRIES[index]), bytes.fromhex(ROOTS[size])
    verify_inclusion(leaf, index, size, [bytes.fromhex(value) for value in proof], root)


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCIES)
def test_published_consistency_proofs_verify(old: int, new: int, proof: list[str]) -> None:
    hashes = [bytes.fromhex(value) for value in proof]
    verify_consistency(old, new, hashes, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


@settings(deadline=None)
@given(SIZES)
def test_every_root_is_assembled_from_complete_subtrees(size: int) -> None:
    assert merkle.cover_root(merkle.root_cover(size), TREE.subtree) == TREE.root(size)


@settings(deadline=None, max_examples=300)
@given(inclusions())
def test_every_inclusion_proof_is_the_defined_one_and_verifies(at: tuple[int, int]) -> None:
    index, size = at
    proof = merkle.assemble(merkle.inclusion_covers(index, size), TREE.subtree)
    assert proof == TREE.path(index, size)
    verify_inclusion(TREE.leaf_hashes[index], index, size, proof, TREE.root(size))


@settings(deadline=None, max_examples=300)
@given(growths())
def test_every_consistency_proof_is_the_defined_one_and_verifies(sizes: tuple[int, int]) -> None:
    old, new = sizes
    proof = merkle.assemble(merkle.consistency_covers(old, new), TREE.subtree)
    assert proof == TREE.proof(old, new)
    verify_consistency(old, new, proof, TREE.root(old), TREE.root(new))


def test_all_proofs_between_small_sizes_verify() -> None:
    for new in range(1, 34):
        for old in range(new + 1):
            proof = merkle.assemble(merkle.consistency_covers(old, new), TREE.subtree)
            verify_consistency(old, new, proof, TREE.root(old), TREE.root(new))
        for index in range(new):
            proof = merkle.assemble(merkle.inclusion_covers(index, new), TREE.subtree)
            verify_inclusion(TREE.leaf_hashes[index], index, new, proof, TREE.root(new))


@settings(deadline=None, max_examples=300)
@given(inclusions(), BITS, st.data())
def test_a_flipped_bit_of_an_inclusion_proof_is_refused(at: tuple[int, int], bit: int, data: st.DataObject) -> None:
    index, size = at
    values = [TREE.leaf_hashes[index], TREE.root(size), *TREE.path(index, size)]
    place = data.draw(st.integers(0, len(values) - 1))
    values[place] = flipped(values[place], bit)
    leaf, root, *proof = values
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, index, size, proof, root)


@settings(deadline=None, max_examples=300)
@given(growths(), BITS, st.data())
def test_a_flipped_bit_of_a_consistency_proof_is_refused(sizes: tuple[int, int], bit: int, data: st.DataObject) -> None:
    old, new = sizes
    values = [TREE.root(old), TREE.root(new), *TREE.proof(old, new)]
    place = data.draw(st.integers(0, len(values) - 1))
    values[place] = flipped(values[place], bit)
    old_root, new_root, *proof = values
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, proof, old_root, new_root)


@settings(deadline=None, max_examples=300)
@given(inclusions(smallest=2), st.data())
def test_an_entry_is_not_proved_at_another_index(at: tuple[int, int], data: st.DataObject) -> None:
    index, size = at
    wrong = data.draw(st.integers(-2, size + 2).filter(lambda other: other != index))
    with pytest.raises(ProofInvalid):
        verify_inclusion(TREE.leaf_hashes[index], wrong, size, TREE.path(index, size), TREE.root(size))


@settings(deadline=None, max_examples=300)
@given(inclusions(), SIZES)
def test_an_inclusion_proof_is_not_one_for_another_checkpoint(at: tuple[int, int], wrong: int) -> None:
    index, size = at
    if wrong == size:
        wrong -= 1
    with pytest.raises(ProofInvalid):
        verify_inclusion(TREE.leaf_hashes[index], index, wrong, TREE.path(index, size), TREE.root(wrong))


@settings(deadline=None)
@given(inclusions())
def test_an_inclusion_proof_does_not_fit_a_higher_or_lower_tree(at: tuple[int, int]) -> None:
    index, size = at
    for wrong in (size * 2, size // 2):
        with pytest.raises(ProofInvalid):
            verify_inclusion(TREE.leaf_hashes[index], index, wrong, TREE.path(index, size), TREE.root(size))


def test_a_proof_of_a_higher_tree_is_not_one_of_a_lower() -> None:
    leaves = TREE.leaf_hashes
    with pytest.raises(ProofInvalid, match="longer"):
        verify_inclusion(leaves[1], 0, 1, TREE.path(1, 2), TREE.root(2))
    with pytest.raises(ProofInvalid, match="longer"):
        verify_inclusion(leaves[7], 3, 4, TREE.path(7, 8), TREE.root(8))
    with pytest.raises(ProofInvalid, match="longer"):
        verify_consistency(3, 4, TREE.proof(7, 8), TREE.root(7), TREE.root(8))


def test_a_proof_of_a_lower_tree_is_not_one_of_a_higher() -> None:
    with pytest.raises(ProofInvalid, match="below the root"):
        verify_inclusion(TREE.leaf_hashes[1], 1, 8, TREE.path(1, 4), TREE.root(4))
    with pytest.raises(ProofInvalid, match="below the root"):
        verify_consistency(3, 8, TREE.proof(3, 4), TREE.root(3), TREE.root(4))


@pytest.mark.parametrize("old", [1, 2, 3])
def test_growth_is_not_proved_by_nothing(old: int) -> None:
    with pytest.raises(ProofInvalid, match="proof is empty"):
        verify_consistency(old, 4, (), TREE.root(old), TREE.root(4))


def test_a_root_alone_does_not_tell_the_size_of_its_tree() -> None:
    verify_inclusion(TREE.leaf_hashes[0], 0, 3, TREE.path(0, 3), TREE.root(3))
    verify_inclusion(TREE.leaf_hashes[0], 0, 4, TREE.path(0, 3), TREE.root(3))


@settings(deadline=None, max_examples=300)
@given(growths(), SIZES, st.booleans())
def test_a_consistency_proof_is_not_one_between_other_checkpoints(
    sizes: tuple[int, int], wrong: int, of_old: bool
) -> None:
    proof = TREE.proof(*sizes)
    old, new = (wrong, sizes[1]) if of_old else (sizes[0], wrong)
    if (old, new) == sizes:
        old += 1
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, proof, TREE.root(old), TREE.root(new))


@settings(deadline=None, max_examples=300)
@given(growths(), st.data())
def test_a_rewritten_history_is_not_consistent(sizes: tuple[int, int], data: st.DataObject) -> None:
    old, new = sizes
    rewritten = numbered_tree(old)
    place = data.draw(st.integers(0, old - 1))
    rewritten.leaf_hashes[place] = merkle.leaf_hash(b"never happened")
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, TREE.proof(old, new), rewritten.root(old), TREE.root(new))


@settings(deadline=None)
@given(inclusions(), growths(), st.data())
def test_a_proof_with_one_hash_more_or_less_is_refused(
    at: tuple[int, int], sizes: tuple[int, int], data: st.DataObject
) -> None:
    index, size = at
    old, new = sizes
    path, proof = TREE.path(index, size), TREE.proof(old, new)
    stranger = data.draw(st.sampled_from([TREE.root(size), TREE.root(new), TREE.root(old), merkle.EMPTY_ROOT]))
    for wrong in ((*path, stranger), (stranger, *path), *([path[:-1], path[1:]] if path else [])):
        with pytest.raises(ProofInvalid):
            verify_inclusion(TREE.leaf_hashes[index], index, size, wrong, TREE.root(size))
    for wrong in ((*proof, stranger), (stranger, *proof), proof[:-1], proof[1:]):
        with pytest.raises(ProofInvalid):
            verify_consistency(old, new, wrong, TREE.root(old), TREE.root(new))


def test_bytes_cannot_move_from_one_hash_to_its_neighbour() -> None:
    left, right = TREE.leaf_hashes[:2]
    both = left + right
    verify_inclusion(both[:32], 0, 2, [both[32:]], TREE.root(2))
    with pytest.raises(ProofInvalid, match="32 bytes"):
        verify_inclusion(both[:31], 0, 2, [both[31:]], TREE.root(2))
    with pytest.raises(ProofInvalid, match="32 bytes"):
        verify_consistency(1, 2, [both[31:]], both[:31], TREE.root(2))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (5, 4)])
def test_no_entry_is_proved_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(ProofInvalid, match="outside"):
        verify_inclusion(TREE.leaf_hashes[0], index, size, (), TREE.leaf_hashes[0])
    with pytest.raises(OutsideTree):
        merkle.inclusion_covers(index, size)


def test_equal_sizes_need_equal_roots_and_no_hashes() -> None:
    verify_consistency(5, 5, (), TREE.root(5), TREE.root(5))
    with pytest.raises(ProofInvalid, match="two roots"):
        verify_consistency(5, 5, (), TREE.root(5), TREE.root(6))
    with pytest.raises(ProofInvalid, match="must be empty"):
        verify_consistency(5, 5, (TREE.root(5),), TREE.root(5), TREE.root(5))


def test_every_tree_extends_the_empty_one_and_only_the_empty_one() -> None:
    verify_consistency(0, 5, (), merkle.EMPTY_ROOT, TREE.root(5))
    verify_consistency(0, 0, (), merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)
    for old_root, new_root, new, proof in [
        (TREE.root(1), TREE.root(5), 5, ()),
        (TREE.root(1), TREE.root(1), 0, ()),
        (merkle.EMPTY_ROOT, TREE.root(5), 0, ()),
        (merkle.EMPTY_ROOT, TREE.root(5), 5, (TREE.root(5),)),
    ]:
        with pytest.raises(ProofInvalid):
            verify_consistency(0, new, proof, old_root, new_root)


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1), (1, 0)])
def test_a_log_never_shrinks(old: int, new: int) -> None:
    with pytest.raises(ProofInvalid, match="does not extend"):
        verify_consistency(old, new, (), TREE.root(1), TREE.root(1))
    with pytest.raises(OutsideTree):
        merkle.consistency_covers(old, new)


def test_no_tree_is_larger_than_its_decimal_size_may_say() -> None:
    assert len(merkle.root_cover(merkle.MAX_TREE_SIZE)) == 63
    assert len(merkle.inclusion_covers(0, merkle.MAX_TREE_SIZE)) == 63
    for size in (-1, merkle.MAX_TREE_SIZE + 1):
        with pytest.raises(OutsideTree):
            merkle.root_cover(size)
        with pytest.raises(OutsideTree):
            merkle.inclusion_covers(0, size)
        with pytest.raises(OutsideTree):
            merkle.consistency_covers(0, size)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 96, 32 * 5])
def test_a_row_that_is_not_complete_has_no_root(length: int) -> None:
    with pytest.raises(ValueError, match="complete subtree"):
        merkle.complete_root(bytes(length))


def test_refusals_of_proofs_are_refusals_of_evidence() -> None:
    assert issubclass(ProofInvalid, EvidenceInvalid)
    assert not issubclass(OutsideTree, EvidenceInvalid)
