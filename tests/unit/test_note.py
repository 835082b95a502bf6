"""Signed notes: the published example is reproduced to the byte, and nothing malformed, forged or repeated counts."""

from base64 import b64decode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from npd_client.merkle import EvidenceInvalid
from npd_client.note import (
    MAX_SIGNATURES,
    KeyAmbiguous,
    KeyMalformed,
    Note,
    NoteMalformed,
    Signature,
    SignatureInvalid,
    SignatureMissing,
    VerifierKey,
    from_base64,
    sign,
)

# Source: golang.org/x/mod, sumdb/note/note_test.go.
PETER_SEED = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
NOTE = f"{TEXT}\n{PETER_LINE}".encode()
# Source: the Go command, cmd/go/internal/modfetch/key.go.
SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
# Source: C2SP signed-note, the example of the introduction; its key is not published.
QUASIMODO = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()

peter, enoch = VerifierKey.parse(PETER), VerifierKey.parse(ENOCH)
peter_private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="+"), min_size=1, max_size=20)
TEXTS = st.text(
    st.one_of(st.just("\n"), st.characters(exclude_categories=["Cs"], min_codepoint=0x20)), max_size=60
).map("{}\n".format)


def test_the_published_note_is_reproduced_to_the_byte() -> None:
    assert sign(TEXT, "PeterNeumann", peter_private).to_bytes() == NOTE
    assert str(VerifierKey.of("PeterNeumann", peter_private)) == PETER


def test_the_published_note_verifies() -> None:
    note = Note.parse(NOTE)
    assert note.text == TEXT
    assert note.verify([peter]) == (peter,)


def test_every_published_signature_of_a_note_is_verified() -> None:
    note = Note.parse(NOTE + ENOCH_LINE.encode())
    assert note.verify([enoch, peter]) == (peter, enoch)
    assert note.verify([peter]) == (peter,)


def test_a_text_with_blank_lines_ends_at_the_last_one() -> None:
    note = Note.parse(QUASIMODO)
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert note.signatures[0].name == "quasimodo.example/salvatore"
    assert note.to_bytes() == QUASIMODO


@pytest.mark.parametrize("vkey", [PETER, ENOCH, SUM_GOLANG_ORG])
def test_a_published_verifier_key_is_read_and_written(vkey: str) -> None:
    assert str(VerifierKey.parse(vkey)) == vkey


def test_no_part_of_a_verifier_key_is_one() -> None:
    for start in range(len(PETER)):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(KeyMalformed):
                    VerifierKey.parse(PETER[start:end])


def test_no_character_of_a_verifier_key_may_change() -> None:
    for at, character in enumerate(PETER):
        with pytest.raises(KeyMalformed):
            VerifierKey.parse(PETER[:at] + chr(ord(character) + 1) + PETER[at + 1 :])


@pytest.mark.parametrize(
    "vkey",
    [
        # Source: golang.org/x/mod, sumdb/note/note_test.go: a key too long and an unknown type, each with a fitting id.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER.replace("c74f20a3", "C74F20A3"),
        f"{PETER} ",
        "",
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(KeyMalformed):
        VerifierKey.parse(vkey)


def test_a_key_of_another_type_is_refused_as_such() -> None:
    with pytest.raises(KeyMalformed, match="Ed25519"):
        VerifierKey.parse("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyMalformed, match="32 bytes"):
        VerifierKey("PeterNeumann", bytes(length))


BAD_NAMES = ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\tb", "a\x00", "a\x1f", "\ud800"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_key_name_is_refused(name: str) -> None:
    with pytest.raises(KeyMalformed):
        VerifierKey(name, peter.public_key)
    with pytest.raises(NoteMalformed):
        Signature(name, peter.key_id, b"signature")
    with pytest.raises(KeyMalformed):
        sign(TEXT, name, peter_private)


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "tab\t\n", "\x00\n", "\x1f\n", "\ud800\n"])
def test_a_text_that_no_note_may_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteMalformed):
        sign(text, "PeterNeumann", peter_private)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        TEXT.encode(),
        f"{TEXT}\n".encode(),
        NOTE[:-1],
        NOTE + b"\n",
        NOTE + b"Unexpected line.\n",
        b"\x01" + NOTE,
        b"\xff" + NOTE,
        NOTE.replace(b"\n", b"\r\n"),
        f"{TEXT}{PETER_LINE}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad Name')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad+Name')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann ', ' ')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann ', 'PeterNeumann  ')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('— ', '– ')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('— ', '—')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('— ', '')}".encode(),
        f"{TEXT}\n— PeterNeumann\n".encode(),
        f"{TEXT}\n— PeterNeumann \n".encode(),
        f"{TEXT}\n— PeterNeumann x08gow==\n".encode(),
        f"{TEXT}\n— PeterNeumann x08g!\n".encode(),
        f"{TEXT}\n{PETER_LINE.replace('nAM=', 'nAM')}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('nAM=', 'nAN=')}".encode(),
        f"{TEXT}\n{PETER_LINE * (MAX_SIGNATURES + 1)}".encode(),
        b"x" * 1_000_000 + NOTE,
    ],
)
def test_bytes_that_are_not_a_note_are_refused(raw: bytes) -> None:
    with pytest.raises(NoteMalformed):
        Note.parse(raw)


def test_a_note_may_have_as_many_signatures_as_the_limit() -> None:
    note = Note.parse(f"{TEXT}\n{PETER_LINE * MAX_SIGNATURES}".encode())
    assert len(note.signatures) == MAX_SIGNATURES
    for too_few_or_many in ((), (*note.signatures, note.signatures[0])):
        with pytest.raises(NoteMalformed):
            Note(TEXT, too_few_or_many)


def test_no_bit_of_a_signed_note_may_change() -> None:
    for bit in range(len(NOTE) * 8):
        forged = bytearray(NOTE)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EvidenceInvalid):
            Note.parse(bytes(forged)).verify([peter])


def test_a_repeated_signature_counts_once() -> None:
    note = Note.parse(f"{TEXT}\n{PETER_LINE * 3}".encode())
    assert note.verify([peter, enoch, peter]) == (peter,)


def test_signatures_by_unknown_keys_are_kept_and_not_judged() -> None:
    cosigned = NOTE + "— witness.example jWbPPwAAAABkGFDLEZMHwSRaJNiI\n".encode()
    note = Note.parse(cosigned)
    assert note.verify([peter]) == (peter,)
    assert note.to_bytes() == cosigned
    assert [signature.name for signature in note.signatures] == ["PeterNeumann", "witness.example"]


def test_a_note_without_a_trusted_signature_is_refused() -> None:
    for keys in ([], [enoch]):
        with pytest.raises(SignatureMissing):
            Note.parse(NOTE).verify(keys)


def test_a_line_that_shares_only_the_name_or_only_the_id_is_somebody_elses() -> None:
    namesake = VerifierKey("PeterNeumann", enoch.public_key)
    with pytest.raises(SignatureMissing):
        Note.parse(NOTE).verify([namesake])
    renamed = Note(TEXT, (Signature("CarmenSandiego", peter.key_id, Note.parse(NOTE).signatures[0].signature),))
    with pytest.raises(SignatureMissing):
        renamed.verify([peter])


def test_one_bad_signature_of_a_trusted_key_condemns_the_note() -> None:
    forged = Signature("EnochRoot", enoch.key_id, bytes(64))
    note = Note.parse(NOTE).with_signature(forged)
    assert note.verify([peter]) == (peter,)
    with pytest.raises(SignatureInvalid):
        note.verify([peter, enoch])


@pytest.mark.parametrize("length", [1, 63, 65, 72])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    note = Note(TEXT, (Signature(peter.name, peter.key_id, bytes(length)),))
    with pytest.raises(SignatureInvalid):
        note.verify([peter])


def test_a_key_that_is_no_point_of_the_curve_verifies_nothing() -> None:
    key = VerifierKey(peter.name, b"\xff" * 32)
    with pytest.raises(SignatureInvalid):
        key.verify(TEXT, Note.parse(NOTE).signatures[0].signature)


def test_two_trusted_keys_of_one_name_and_id_are_refused() -> None:
    # Found by search: 80,000 names for 32 bits are enough for an accidental pair.
    twins = [VerifierKey("twins.example", sha256(b"collision %d" % number).digest()) for number in (3042, 44505)]
    assert twins[0].key_id == twins[1].key_id
    with pytest.raises(KeyAmbiguous):
        Note.parse(NOTE).verify([peter, *twins])


def test_a_note_signed_again_keeps_the_signatures_it_has() -> None:
    second = sign(TEXT, "second.example", peter_private).signatures[0]
    note = Note.parse(NOTE).with_signature(second)
    assert note == Note.parse(note.to_bytes())
    assert note.verify([peter, VerifierKey("second.example", peter.public_key)])[0] == peter
    assert note.with_signature(second) is note


@settings(deadline=None)
@given(TEXTS, NAMES)
def test_every_signed_text_is_read_as_it_was_written(text: str, name: str) -> None:
    note = sign(text, name, peter_private)
    read = Note.parse(note.to_bytes())
    assert read == note
    assert read.verify([VerifierKey(name, peter.public_key)])[0].name == name


@settings(deadline=None)
@given(st.lists(st.sampled_from(["text\n", "\n", "— a QUFBQUE=\n", "— a QUFBQUF=\n", "— a  QUFBQUE=\n", "—", " "])))
def test_what_is_read_is_what_would_be_written(pieces: list[str]) -> None:
    raw = "".join(pieces).encode()
    try:
        note = Note.parse(raw)
    except NoteMalformed:
        return
    assert note.to_bytes() == raw


@pytest.mark.parametrize("encoded", ["QQ", "QR==", "QQ==\n", "Q Q==", "QQ=", "_-8=", "QQ==QQ==", "ÄÄ=="])
def test_base64_has_one_spelling(encoded: str) -> None:
    with pytest.raises(NoteMalformed):
        from_base64(encoded, NoteMalformed)
