"""Tiles of the log: those of C2SP tlog-tiles however the log grew, and each proof needs exactly those that it names."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npd_client import merkle
from services.mesh.core.evidence import tiles
from services.mesh.core.evidence.tiles import TileId, TileMismatch, TileSource, read_from
from tests.unit.test_merkle_reference import numbered_tree

LARGEST = 70_000
TREE = numbered_tree(LARGEST)


def grown_to(*sizes: int) -> dict[TileId, bytes]:
    """The store of a log that grew to each of these sizes in turn."""
    store: dict[TileId, bytes] = {}
    size = 0
    for larger in sizes:
        growth = tiles.append(size, TREE.leaf_hashes[size:larger], read_from(store))
        assert growth.size == larger
        assert growth.root == TREE.root(larger)
        store.update(growth.tiles)
        size = larger
    return store


def defined(size: int) -> dict[TileId, bytes]:
    """All tiles of a tree by the formula of C2SP tlog-tiles, "Merkle Tree"."""
    store: dict[TileId, bytes] = {}
    level = 0
    while hashes := size // 256**level:
        for position in range(hashes):
            value = TREE.mth(position * 256**level, (position + 1) * 256**level)
            tile = (level, position // 256)
            store[tile] = store.get(tile, b"") + value
        level += 1
    return store


class CountingSource:
    """A store that counts how often each tile is read."""

    def __init__(self, store: dict[TileId, bytes]) -> None:
        self.reads: Counter[TileId] = Counter()
        self._read = read_from(store)

    def __call__(self, level: int, index: int, /) -> bytes:
        self.reads[level, index] += 1
        return self._read(level, index)


STORE = grown_to(LARGEST)
SIZES = st.one_of(
    st.integers(1, 1200),
    st.integers(1, LARGEST),
    st.sampled_from([255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, LARGEST]),
)


@st.composite
def inclusions(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(SIZES)
    return draw(st.integers(0, size - 1)), size


@st.composite
def growths(draw: st.DrawFn) -> tuple[int, int]:
    old, new = sorted((draw(SIZES), draw(SIZES)))
    return old, new


def test_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    # Source: C2SP tlog-tiles, "Partial Tiles".
    widths = Counter((level, len(tile) // 32) for (level, _), tile in STORE.items())
    assert widths == {(0, 256): 273, (0, 112): 1, (1, 256): 1, (1, 17): 1, (2, 1): 1}
    assert defined(LARGEST) == STORE


def test_tree_of_256_has_a_full_tile_and_its_root_one_level_up() -> None:
    # Source: C2SP tlog-tiles, "Partial Tiles".
    assert grown_to(256) == {(0, 0): b"".join(TREE.leaf_hashes[:256]), (1, 0): TREE.root(256)}


def test_a_partial_tile_is_not_hashed_into_the_level_above() -> None:
    assert set(grown_to(255)) == {(0, 0)}


@settings(deadline=None)
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=8, unique=True).map(sorted))
def test_any_batches_give_the_tiles_and_the_root_of_one_append(sizes: list[int]) -> None:
    assert grown_to(*sizes) == grown_to(sizes[-1]) == defined(sizes[-1])


@pytest.mark.parametrize(
    "sizes", [(65_535, 65_536), (65_280, 65_537), (256, 65_536), (65_536, 65_792), (1, 69_999), (255, 512, 66_000)]
)
def test_batches_across_a_full_tile_of_level_1_give_the_same_tiles(sizes: tuple[int, ...]) -> None:
    assert grown_to(*sizes) == defined(sizes[-1])


@settings(deadline=None)
@given(SIZES, st.integers(1, 1500))
def test_an_append_produces_the_tiles_that_change_and_no_other(size: int, added: int) -> None:
    new_size = min(size + added, LARGEST)
    growth = tiles.append(size, TREE.leaf_hashes[size:new_size], read_from(cut_to(size)))
    before, after = cut_to(size), cut_to(new_size)
    assert growth.tiles == {tile: row for tile, row in after.items() if before.get(tile) != row}


@settings(deadline=None)
@given(SIZES, st.integers(0, 1500))
def test_an_append_reads_the_named_tiles_once(size: int, added: int) -> None:
    source = CountingSource(cut_to(size))
    tiles.append(size, TREE.leaf_hashes[size : size + added], source)
    assert set(source.reads) <= set(tiles.root_tiles(size))
    assert all(count == 1 for count in source.reads.values())


def test_an_empty_append_changes_nothing() -> None:
    assert tiles.append(300, [], read_from(STORE)) == (300, TREE.root(300), {})
    assert tiles.append(0, [], read_from({})) == (0, merkle.EMPTY_ROOT, {})


@pytest.mark.parametrize("stored", [0, 299, 301, 400])
def test_an_append_at_a_stale_size_is_refused(stored: int) -> None:
    with pytest.raises(TileMismatch, match="a tree of 300 has 44"):
        tiles.append(300, TREE.leaf_hashes[300:310], read_from(cut_to(stored)))


def test_an_append_needs_the_tiles_of_the_upper_levels() -> None:
    store = cut_to(600)
    del store[1, 0]
    with pytest.raises(TileMismatch):
        tiles.append(600, TREE.leaf_hashes[600:601], read_from(store))


def test_a_leaf_hash_of_another_length_is_refused() -> None:
    left, right = TREE.leaf_hashes[:2]
    with pytest.raises(ValueError, match="32 bytes"):
        tiles.append(0, [left[:31], right + b"\x00"], read_from({}))


@settings(deadline=None)
@given(st.one_of(st.just(0), SIZES))
def test_the_root_of_any_size_is_in_the_tiles_of_a_larger_log(size: int) -> None:
    source = CountingSource(STORE)
    assert tiles.root(size, source) == TREE.root(size)
    assert source.reads == dict.fromkeys(tiles.root_tiles(size), 1)


@settings(deadline=None, max_examples=300)
@given(inclusions())
def test_an_inclusion_proof_needs_exactly_the_tiles_it_names(at: tuple[int, int]) -> None:
    index, size = at
    source = CountingSource(STORE)
    proof = tiles.inclusion_proof(index, size, source)
    assert proof == TREE.path(index, size)
    assert source.reads == dict.fromkeys(tiles.inclusion_tiles(index, size), 1)
    merkle.verify_inclusion(TREE.leaf_hashes[index], index, size, proof, TREE.root(size))


@settings(deadline=None, max_examples=300)
@given(growths())
def test_a_consistency_proof_needs_exactly_the_tiles_it_names(sizes: tuple[int, int]) -> None:
    old, new = sizes
    source = CountingSource(STORE)
    proof = tiles.consistency_proof(old, new, source)
    assert proof == TREE.proof(old, new)
    assert source.reads == dict.fromkeys(tiles.consistency_tiles(old, new), 1)
    merkle.verify_consistency(old, new, proof, TREE.root(old), TREE.root(new))


@settings(deadline=None)
@given(inclusions())
def test_a_proof_without_one_of_its_tiles_is_refused(at: tuple[int, int]) -> None:
    named = tiles.inclusion_tiles(*at)
    for missing in named:
        with pytest.raises(TileMismatch):
            tiles.inclusion_proof(*at, read_from({tile: STORE[tile] for tile in named if tile != missing}))


@settings(deadline=None)
@given(inclusions())
def test_the_tiles_of_the_very_size_are_wide_enough_for_its_proofs(at: tuple[int, int]) -> None:
    index, size = at
    assert tiles.inclusion_proof(index, size, read_from(cut_to(size))) == TREE.path(index, size)


def test_proofs_outside_the_tree_are_refused() -> None:
    source: TileSource = read_from(STORE)
    with pytest.raises(merkle.OutsideTree):
        tiles.inclusion_proof(5, 5, source)
    with pytest.raises(merkle.OutsideTree):
        tiles.consistency_proof(6, 5, source)
    with pytest.raises(merkle.OutsideTree):
        tiles.inclusion_tiles(-1, 5)


def test_a_proof_in_a_log_of_70000_needs_few_tiles() -> None:
    assert max(len(tiles.inclusion_tiles(index, LARGEST)) for index in range(0, LARGEST, 97)) <= 5


def cut_to(size: int) -> dict[TileId, bytes]:
    """The tiles of the log when it had `size` entries."""
    store = {}
    for (level, index), row in STORE.items():
        hashes = size // 256**level - index * 256
        if hashes > 0:
            store[level, index] = row[: hashes * 32]
    return store
