"""The Merkle tree exactly as RFC 6962 2.1 defines it, recursive and slow, and its check against published vectors.

Other tests compare the code with it, so it uses nothing of the code that it judges.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

import pytest

# Source: transparency-dev/merkle, proof/verify_test.go, the reference vectors of the Certificate Transparency project.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSIONS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCIES = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]


class ReferenceTree:
    """MTH, PATH and PROOF over a fixed list of leaf hashes; ranges are remembered, so that many proofs stay cheap."""

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        self.leaf_hashes = list(leaf_hashes)
        self._known: dict[tuple[int, int], bytes] = {}

    def mth(self, start: int, end: int) -> bytes:
        """MTH(D[start:end])."""
        if start == end:
            return sha256().digest()
        if end - start == 1:
            return self.leaf_hashes[start]
        if (start, end) not in self._known:
            middle = start + _split(end - start)
            both = self.mth(start, middle) + self.mth(middle, end)
            self._known[start, end] = sha256(b"\x01" + both).digest()
        return self._known[start, end]

    def root(self, size: int) -> bytes:
        return self.mth(0, size)

    def subtree(self, level: int, index: int) -> bytes:
        """The complete subtree (level, index), for the prover's math."""
        return self.mth(index << level, (index + 1) << level)

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        """PATH(index, D[0:size])."""

        def within(m: int, start: int, end: int) -> tuple[bytes, ...]:
            if end - start == 1:
                return ()
            k = _split(end - start)
            if m < k:
                return (*within(m, start, start + k), self.mth(start + k, end))
            return (*within(m - k, start + k, end), self.mth(start, start + k))

        return within(index, 0, size)

    def proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """PROOF(old_size, D[0:new_size])."""

        def subproof(m: int, start: int, end: int, complete: bool) -> tuple[bytes, ...]:
            if m == end - start:
                return () if complete else (self.mth(start, end),)
            k = _split(end - start)
            if m <= k:
                return (*subproof(m, start, start + k, complete), self.mth(start + k, end))
            return (*subproof(m - k, start + k, end, False), self.mth(start, start + k))

        return subproof(old_size, 0, new_size, True)


def numbered_tree(size: int) -> ReferenceTree:
    """A tree whose entries are the 8-byte numbers from 0: all its leaves, and with them all its roots, differ."""
    return ReferenceTree([sha256(b"\x00" + number.to_bytes(8)).digest() for number in range(size)])


def published_tree() -> ReferenceTree:
    return ReferenceTree([sha256(b"\x00" + entry).digest() for entry in ENTRIES])


def _split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


@pytest.mark.parametrize("size", range(9))
def test_reference_has_the_published_roots(size: int) -> None:
    assert published_tree().root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("prove", "vectors"), [(ReferenceTree.path, INCLUSIONS), (ReferenceTree.proof, CONSISTENCIES)])
def test_reference_has_the_published_proofs(
    prove: Callable[[ReferenceTree, int, int], tuple[bytes, ...]], vectors: list[tuple[int, int, list[str]]]
) -> None:
    for first, size, published in vectors:
        assert [value.hex() for value in prove(published_tree(), first, size)] == published
