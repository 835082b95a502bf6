"""Checkpoints and proof files: only the log itself speaks for its tree, and a proof stands alone."""

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from npd_client.checkpoint import (
    MAX_PROOF_HASHES,
    Checkpoint,
    CheckpointMalformed,
    LogProof,
    ProofMalformed,
    open_checkpoint,
)
from npd_client.merkle import EMPTY_ROOT, MAX_TREE_SIZE, EvidenceInvalid, ProofInvalid
from npd_client.note import (
    KeyMalformed,
    Note,
    NoteMalformed,
    Signature,
    SignatureInvalid,
    SignatureMissing,
    VerifierKey,
    sign,
)
from tests.unit.test_merkle_reference import ENTRIES, INCLUSIONS, ROOTS

ORIGIN = "mesh.test/disclosures"
log_private = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")
witness_private = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x02")
LOG = VerifierKey.of(ORIGIN, log_private)
WITNESS = VerifierKey.of("witness.test", witness_private)
HEAD = Checkpoint(ORIGIN, 8, bytes.fromhex(ROOTS[8]))
SIGNED = HEAD.sign(log_private)

# Source: C2SP tlog-cosignature, the example of the introduction; its keys are not published.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()


def cosigned(name: str, private_key: Ed25519PrivateKey) -> bytes:
    """The checkpoint with one more signature over the same text."""
    return Note.parse(SIGNED).with_signature(sign(str(HEAD), name, private_key).signatures[0]).to_bytes()


def proof_of(index: int) -> LogProof:
    hashes = next(proof for at, size, proof in INCLUSIONS if (at, size) == (index, 8))
    return LogProof(index, tuple(bytes.fromhex(value) for value in hashes), SIGNED)


def test_the_published_checkpoint_is_read_and_written() -> None:
    note = Note.parse(SOFA)
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert str(checkpoint) == note.text
    assert [signature.name for signature in note.signatures] == [checkpoint.origin, "witness.example.com/w1"]
    with pytest.raises(SignatureMissing):
        open_checkpoint(SOFA, [LOG])


def test_a_signed_checkpoint_opens() -> None:
    opened = open_checkpoint(SIGNED, [LOG])
    assert opened.checkpoint == HEAD
    assert opened.signers == (LOG,)


def test_the_signed_text_is_origin_size_and_root() -> None:
    assert Note.parse(SIGNED).text == f"{ORIGIN}\n8\n{b64encode(HEAD.root).decode()}\n"


def test_trusted_witnesses_are_named() -> None:
    raw = cosigned(WITNESS.name, witness_private)
    assert open_checkpoint(raw, [LOG], [WITNESS]).signers == (LOG, WITNESS)
    assert open_checkpoint(raw, [LOG]).signers == (LOG,)


def test_witnesses_alone_do_not_make_a_checkpoint() -> None:
    raw = sign(str(HEAD), WITNESS.name, witness_private).to_bytes()
    with pytest.raises(SignatureMissing, match="origin"):
        open_checkpoint(raw, [LOG], [WITNESS])


def test_a_witness_with_the_name_of_the_log_does_not_speak_for_it() -> None:
    impostor = VerifierKey.of(ORIGIN, witness_private)
    raw = sign(str(HEAD), ORIGIN, witness_private).to_bytes()
    with pytest.raises(SignatureMissing, match="origin"):
        open_checkpoint(raw, [LOG], [impostor])


def test_another_trusted_log_does_not_speak_for_this_one() -> None:
    other = VerifierKey.of("mesh.test/authority", witness_private)
    raw = sign(str(HEAD), other.name, witness_private).to_bytes()
    with pytest.raises(SignatureMissing, match="origin"):
        open_checkpoint(raw, [LOG, other])
    assert open_checkpoint(cosigned(other.name, witness_private), [LOG, other]).checkpoint.origin == ORIGIN


def test_a_log_that_changes_its_key_is_known_by_either() -> None:
    successor = VerifierKey.of(ORIGIN, witness_private)
    assert open_checkpoint(SIGNED, [successor, LOG]).signers == (LOG,)
    assert open_checkpoint(HEAD.sign(witness_private), [successor, LOG]).signers == (successor,)


def test_a_forged_witness_signature_condemns_the_checkpoint() -> None:
    raw = Note.parse(SIGNED).with_signature(Signature(WITNESS.name, WITNESS.key_id, bytes(64))).to_bytes()
    assert open_checkpoint(raw, [LOG]).checkpoint == HEAD
    with pytest.raises(SignatureInvalid):
        open_checkpoint(raw, [LOG], [WITNESS])


ROOT = b64encode(HEAD.root).decode()
MALFORMED = [
    "",
    "\n",
    f"{ORIGIN}\n",
    f"{ORIGIN}\n8\n",
    f"{ORIGIN}\n8\n{ROOT}",
    f"\n8\n{ROOT}\n",
    f"{ORIGIN}\n08\n{ROOT}\n",
    f"{ORIGIN}\n-8\n{ROOT}\n",
    f"{ORIGIN}\n+8\n{ROOT}\n",
    f"{ORIGIN}\n 8\n{ROOT}\n",
    f"{ORIGIN}\n8.0\n{ROOT}\n",
    f"{ORIGIN}\n1_0\n{ROOT}\n",
    f"{ORIGIN}\n٨\n{ROOT}\n",
    f"{ORIGIN}\n1٨\n{ROOT}\n",
    f"{ORIGIN}\n{'9' * 4500}\n{ROOT}\n",
    f"{ORIGIN}\n8\n{ROOT}\nextension",
    f"{ORIGIN}\n\n{ROOT}\n",
    f"{ORIGIN}\n0\n{ROOT}\n",
    f"{ORIGIN}\n{MAX_TREE_SIZE + 1}\n{ROOT}\n",
    f"{ORIGIN}\n8\n{ROOT[:-1]}\n",
    f"{ORIGIN}\n8\n{ROOT} \n",
    f"{ORIGIN}\n8\n{b64encode(HEAD.root[:31]).decode()}\n",
    f"{ORIGIN}\n8\n{b64encode(HEAD.root + HEAD.root).decode()}\n",
    f"{ORIGIN}\n8\n{ROOT}\n\n",
    f"{ORIGIN}\n8\n{ROOT}\n\nextension\n",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointMalformed):
        Checkpoint.parse(text)


@pytest.mark.parametrize("text", [text for text in MALFORMED if text.endswith("\n")])
def test_a_malformed_checkpoint_is_refused_even_if_the_log_signed_it(text: str) -> None:
    with pytest.raises(CheckpointMalformed):
        open_checkpoint(sign(text, ORIGIN, log_private).to_bytes(), [LOG])


def test_a_checkpoint_that_could_not_be_read_is_not_made() -> None:
    for origin, size, root, extensions in [
        ("", 8, HEAD.root, ()),
        ("two\nlines", 8, HEAD.root, ()),
        (ORIGIN, -1, HEAD.root, ()),
        (ORIGIN, MAX_TREE_SIZE + 1, HEAD.root, ()),
        (ORIGIN, 8, HEAD.root[:31], ()),
        (ORIGIN, 0, HEAD.root, ()),
        (ORIGIN, 8, HEAD.root, ("",)),
        (ORIGIN, 8, HEAD.root, ("two\nlines",)),
    ]:
        with pytest.raises(CheckpointMalformed):
            Checkpoint(origin, size, root, extensions)
    with pytest.raises(KeyMalformed):
        Checkpoint("go.sum database tree", 8, HEAD.root).sign(log_private)


LINES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="+"), min_size=1, max_size=20)


@settings(deadline=None)
@given(LINES, st.integers(1, MAX_TREE_SIZE), st.binary(min_size=32, max_size=32), st.lists(LINES, max_size=3))
def test_every_checkpoint_is_opened_as_it_was_signed(
    origin: str, size: int, root: bytes, extensions: list[str]
) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    opened = open_checkpoint(checkpoint.sign(log_private), [VerifierKey.of(origin, log_private)])
    assert opened.checkpoint == checkpoint


def test_the_empty_log_has_a_checkpoint() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_checkpoint(empty.sign(log_private), [LOG]).checkpoint == empty


@pytest.mark.parametrize("index", [0, 5])
def test_a_proof_file_stands_alone(index: int) -> None:
    raw = proof_of(index).to_bytes()
    assert LogProof.parse(raw).verify(ENTRIES[index], [LOG]).checkpoint == HEAD


def test_a_proof_file_has_the_specified_lines() -> None:
    # Source: C2SP tlog-proof, "Format".
    first, second, third = (b64encode(value).decode() for value in proof_of(5).hashes)
    expected = f"c2sp.org/tlog-proof@v1\nextra Y29udGV4dA==\nindex 5\n{first}\n{second}\n{third}\n\n".encode() + SIGNED
    proof = LogProof(5, proof_of(5).hashes, SIGNED, extra=b"context")
    assert proof.to_bytes() == expected
    assert LogProof.parse(expected) == proof
    assert b"extra" not in proof_of(5).to_bytes()


def test_the_only_entry_of_a_log_needs_no_hashes() -> None:
    signed = Checkpoint(ORIGIN, 1, bytes.fromhex(ROOTS[1])).sign(log_private)
    raw = LogProof(0, (), signed).to_bytes()
    assert raw == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + signed
    assert LogProof.parse(raw).verify(ENTRIES[0], [LOG]).checkpoint.size == 1


def test_a_proof_names_the_witnesses_of_its_checkpoint() -> None:
    proof = LogProof(5, proof_of(5).hashes, cosigned(WITNESS.name, witness_private))
    assert LogProof.parse(proof.to_bytes()).verify(ENTRIES[5], [LOG], [WITNESS]).signers == (LOG, WITNESS)


def test_a_proof_is_of_one_entry_at_one_index_in_a_trusted_log() -> None:
    proof = proof_of(5)
    with pytest.raises(ProofInvalid):
        proof.verify(ENTRIES[4], [LOG])
    with pytest.raises(ProofInvalid):
        LogProof(4, proof.hashes, SIGNED).verify(ENTRIES[5], [LOG])
    with pytest.raises(SignatureMissing):
        proof.verify(ENTRIES[5], [WITNESS])


def test_no_bit_of_a_proof_file_may_change() -> None:
    raw = proof_of(5).to_bytes()
    for bit in range(len(raw) * 8):
        forged = bytearray(raw)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EvidenceInvalid):
            LogProof.parse(bytes(forged)).verify(ENTRIES[5], [LOG])


HASH = b64encode(bytes(32))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"c2sp.org/tlog-proof@v1",
        b"c2sp.org/tlog-proof@v2\nindex 5",
        b" c2sp.org/tlog-proof@v1\nindex 5",
        b"c2sp.org/tlog-proof@v1\r\nindex 5",
        b"c2sp.org/tlog-proof@v1\n" + HASH,
        b"c2sp.org/tlog-proof@v1\nindex",
        b"c2sp.org/tlog-proof@v1\nindex ",
        b"c2sp.org/tlog-proof@v1\nindex 05",
        b"c2sp.org/tlog-proof@v1\nindex -5",
        b"c2sp.org/tlog-proof@v1\nindex 5 ",
        b"c2sp.org/tlog-proof@v1\nindex %d" % MAX_TREE_SIZE,
        b"c2sp.org/tlog-proof@v1\nindex 5\nindex 5",
        b"c2sp.org/tlog-proof@v1\nindex 5\nextra QQ==",
        b"c2sp.org/tlog-proof@v1\nextra QQ==\nextra QQ==\nindex 5",
        b"c2sp.org/tlog-proof@v1\nextra \nindex 5",
        b"c2sp.org/tlog-proof@v1\nextra QR==\nindex 5",
        b"c2sp.org/tlog-proof@v1\nextra \xc3\x84\nindex 5",
        b"c2sp.org/tlog-proof@v1\nindex 5\n" + HASH[:-1],
        b"c2sp.org/tlog-proof@v1\nindex 5\n" + b64encode(bytes(31)),
        b"c2sp.org/tlog-proof@v1\nindex 5\n" + b"\n".join([HASH] * (MAX_PROOF_HASHES + 1)),
    ],
)
def test_a_malformed_proof_is_refused(head: bytes) -> None:
    with pytest.raises(ProofMalformed):
        LogProof.parse(head + b"\n\n" + SIGNED)


def test_a_proof_without_a_blank_line_or_without_a_checkpoint_is_refused() -> None:
    for raw in (b"c2sp.org/tlog-proof@v1\nindex 5\n", b"c2sp.org/tlog-proof@v1\nindex 5"):
        with pytest.raises(ProofMalformed):
            LogProof.parse(raw)
    with pytest.raises(NoteMalformed):
        LogProof.parse(b"c2sp.org/tlog-proof@v1\nindex 5\n\n").verify(ENTRIES[5], [LOG])


def test_a_proof_that_could_not_be_read_is_not_made() -> None:
    for index, hashes in [(-1, ()), (MAX_TREE_SIZE, ()), (0, (bytes(31),)), (0, (bytes(32),) * (MAX_PROOF_HASHES + 1))]:
        with pytest.raises(ProofMalformed):
            LogProof(index, hashes, SIGNED)
