"""The log's hashes as tiles of 256 (C2SP tlog-tiles): growth, roots and proofs; reading and storing is the caller's.

A tile (level, index) is the concatenation of up to 256 hashes; level 0 holds leaf hashes, and every hash of level L + 1
is the root of one full tile of level L. A proof needs a handful of tiles, which `root_tiles`, `inclusion_tiles` and
`consistency_tiles` name, so that the caller fetches them in one query and hands them over with `read_from`.
Source: https://c2sp.org/tlog-tiles.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, Protocol, TypeAlias

from npd_client import merkle

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_SIZE = TILE_WIDTH * merkle.HASH_SIZE

TileId: TypeAlias = tuple[int, int]
"""(level, index)."""


class TileSource(Protocol):
    """Reads a tile: 1 to 256 concatenated 32-byte hashes, or b"" for a tile that it does not hold."""

    def __call__(self, level: int, index: int, /) -> bytes: ...


class TileMismatch(Exception):
    """A stored tile does not hold what the size of the tree says: the size is stale, or the store is damaged."""


class Growth(NamedTuple):
    """A tree after an append: what to store, and what to sign."""

    size: int
    root: bytes
    tiles: dict[TileId, bytes]
    """Every tile that is new or became wider, whole."""


def root_tiles(size: int) -> tuple[TileId, ...]:
    """The tiles at the right edge of a tree: what `root` reads, and what `append` to a tree of this size reads."""
    return _tiles_of([merkle.root_cover(size)])


def inclusion_tiles(index: int, size: int) -> tuple[TileId, ...]:
    """The tiles that `inclusion_proof` reads. Raises merkle.OutsideTree."""
    return _tiles_of(merkle.inclusion_covers(index, size))


def consistency_tiles(old_size: int, new_size: int) -> tuple[TileId, ...]:
    """The tiles that `consistency_proof` reads. Raises merkle.OutsideTree."""
    return _tiles_of(merkle.consistency_covers(old_size, new_size))


def read_from(tiles: Mapping[TileId, bytes]) -> TileSource:
    """A source over tiles that were fetched beforehand."""
    return lambda level, index: tiles.get((level, index), b"")


def append(size: int, leaf_hashes: Sequence[bytes], read: TileSource) -> Growth:
    """Add leaves to the right of a tree of `size` entries, whose `root_tiles(size)` it reads.

    1. At each level, the new hashes go behind those that the last tile holds, which must be exactly as many as the
       size says: a stale size would rewrite integrated entries, and with them fork the log.
    2. Each tile that the new hashes touch is produced once.
    3. The roots of the tiles that are now full are the new hashes of the level above; there may be none.

    Raises TileMismatch; ValueError for a hash that is not 32 bytes long.
    """
    if any(len(leaf) != merkle.HASH_SIZE for leaf in leaf_hashes):
        raise ValueError(f"a leaf hash has {merkle.HASH_SIZE} bytes")
    tiles: dict[TileId, bytes] = {}
    level, row = 0, b"".join(leaf_hashes)
    while row:
        first, width = divmod(size >> level * TILE_HEIGHT, TILE_WIDTH)
        if width:  # (1)
            last = read(level, first)
            if len(last) != width * merkle.HASH_SIZE:
                raise TileMismatch(
                    f"tile {level}/{first} has {len(last)} bytes; a tree of {size} has {width} hashes there"
                )
            row = last + row
        touched = [row[at : at + TILE_SIZE] for at in range(0, len(row), TILE_SIZE)]  # (2)
        tiles.update({(level, first + number): tile for number, tile in enumerate(touched)})
        row = b"".join([merkle.complete_root(tile) for tile in touched if len(tile) == TILE_SIZE])  # (3)
        level += 1
    grown = size + len(leaf_hashes)
    return Growth(grown, root(grown, lambda level, index: tiles.get((level, index)) or read(level, index)), tiles)


def root(size: int, read: TileSource) -> bytes:
    """The root hash of the tree of the first `size` entries, also one that the log has long outgrown."""
    return merkle.cover_root(merkle.root_cover(size), _hashes(read))


def inclusion_proof(index: int, size: int, read: TileSource) -> tuple[bytes, ...]:
    """The hashes that lead from the leaf at `index` to the root of the first `size` entries.

    Raises merkle.OutsideTree, TileMismatch. Source: RFC 6962 2.1.1.
    """
    return merkle.assemble(merkle.inclusion_covers(index, size), _hashes(read))


def consistency_proof(old_size: int, new_size: int, read: TileSource) -> tuple[bytes, ...]:
    """The hashes that show that the first `new_size` entries begin with the first `old_size`.

    Raises merkle.OutsideTree, TileMismatch. Source: RFC 6962 2.1.2.
    """
    return merkle.assemble(merkle.consistency_covers(old_size, new_size), _hashes(read))


def _tile_of(level: int, index: int) -> TileId:
    """The tile from whose hashes a subtree is computed: of its 8 levels only the lowest is stored."""
    tile_level, height = divmod(level, TILE_HEIGHT)
    return tile_level, index >> TILE_HEIGHT - height


def _tiles_of(covers: Iterable[merkle.Cover]) -> tuple[TileId, ...]:
    return tuple(sorted({_tile_of(level, index) for cover in covers for level, index in cover}))


def _hashes(read: TileSource) -> merkle.HashOf:
    """Answers subtrees from tiles; reads each tile once."""
    read = cache(read)

    def hash_of(level: int, index: int) -> bytes:
        tile = _tile_of(level, index)
        width = 1 << level % TILE_HEIGHT
        start = index * width % TILE_WIDTH
        row = read(*tile)[start * merkle.HASH_SIZE : (start + width) * merkle.HASH_SIZE]
        if len(row) != width * merkle.HASH_SIZE:
            raise TileMismatch(f"tile {tile[0]}/{tile[1]} holds less than {start + width} hashes")
        return merkle.complete_root(row)

    return hash_of
