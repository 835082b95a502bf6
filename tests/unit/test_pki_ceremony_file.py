"""The file of a ceremony is read strictly: a wrong key is named, with what it must look like, and nothing happens."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from npd_pki.ceremony.document import Act
from npd_pki.ceremony.errors import DocumentMalformed, InputUnreadable
from npd_pki.ceremony.reading import read_document
from tests.ceremony_desk import SHIPPED, altered, desk_at, hold


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return desk_at(tmp_path)


def test_the_shipped_files_are_one_of_each_kind_in_order() -> None:
    read = [read_document(file) for file in sorted(SHIPPED.glob("*.toml"))]
    assert [document.act for document in read] == [
        Act.ROOT,
        Act.ISSUING,
        Act.REVOCATION_LISTS,
        Act.TRUST_BUNDLE,
        Act.CROSS_SIGN,
        Act.REVOCATION_LISTS,
    ]
    assert {document.environment for document in read} == {"npd.test"}
    for document in read:
        assert document.digest == sha256(document.file.read_bytes()).hexdigest()


_ROOT_CHANGES = [
    ('kind = "root"', "", "kind", "is missing"),
    ('kind = "root"', 'kind = "rooot"', "kind", "must be one of root, issuing, cross-sign, crl, trust-bundle"),
    ('kind = "root"', "kind = 1", "kind", "must be one of root"),
    ('environment = "npd.test"', 'environment = "NPD.test"', "environment", "host name"),
    ('environment = "npd.test"', "", "environment", "is missing"),
    ('environment = "npd.test"', 'environment = "npd.test"\nenviroment = "x"', "enviroment", "is not a key"),
    ('officers = ["First Officer", "Second Officer", "Auditor"]', "officers = []", "officers", "array"),
    ('officers = ["First Officer", "Second Officer", "Auditor"]', 'officers = ["A", "A"]', "officers", "once"),
    ('officers = ["First Officer", "Second Officer", "Auditor"]', 'officers = ["A\\nB"]', "officers", "names"),
    ('officers = ["First Officer", "Second Officer", "Auditor"]', 'officers = "A"', "officers", "array"),
    ('output = "root"', 'output = ""', "output", "directory"),
    ("life_days = 7305", "life_days = 0", "root.life_days", "from 1 to"),
    ("life_days = 7305", "life_days = 7305.5", "root.life_days", "whole number"),
    ("life_days = 7305", "life_days = true", "root.life_days", "whole number"),
    ("life_days = 7305", 'life_days = "7305"', "root.life_days", "whole number"),
    ("life_days = 7305", "", "root.life_days", "not_before and not_after"),
    ("life_days = 7305", "life_days = 1\nnot_before = 2026-01-01T00:00:00Z", "root.life_days", "one of the two"),
    ("life_days = 7305", "not_before = 2026-01-01T00:00:00Z", "root.not_after", "is missing"),
    ("life_days = 7305", "not_before = 2026-01-01\nnot_after = 2027-01-01", "root.not_before", "with its offset"),
    (
        "life_days = 7305",
        "not_before = 2026-01-01T00:00:00\nnot_after = 2027-01-01T00:00:00",
        "root.not_before",
        "with its offset",
    ),
    (
        "life_days = 7305",
        "not_before = 2027-01-01T00:00:00Z\nnot_after = 2027-01-01T00:00:00Z",
        "root.not_after",
        "later",
    ),
    (
        "life_days = 7305",
        "not_before = 0001-01-01T00:00:00+07:00\nnot_after = 2027-01-01T00:00:00Z",
        "root.not_before",
        "the years 1951 to 9998",
    ),
    (
        "life_days = 7305",
        "not_before = 2026-01-01T00:00:00Z\nnot_after = 9999-12-31T23:59:59-07:00",
        "root.not_after",
        "the years 1951 to 9998",
    ),
    ("{ generate = true, pass", "{ generate = 1, pass", "root.key.generate", "true or false"),
    ("{ generate = true, pass", "{ generate = false, pass", "root.key.file", "is missing"),
    ("{ generate = true, pass", '{ generate = true, file = "x.key", pass', "root.key.file", "cannot be named"),
    ("{ generate = true, pass", '{ generate = true, passfrase = "x", pass', "root.key.passfrase", "is not a key"),
    ('key = { generate = true, passphrase_file = "root.passphrase" }', "key = 5", "root.key", "generate = true"),
    ('key = { generate = true, passphrase_file = "root.passphrase" }', 'request = "a.csr"', "root.request", "itself"),
    (
        'key = { generate = true, passphrase_file = "root.passphrase" }',
        'key = { pkcs11 = { module = "m", token_label = "t" } }',
        "root.key.pkcs11.key_label",
        "is missing",
    ),
    ("[root]", "[rooot]", "root", "a table [root]"),
    ("[root]", "[root]\nhash = 1", "root.hash", "may hold: "),
]


@pytest.mark.parametrize(("before", "after", "key", "words"), _ROOT_CHANGES)
def test_a_wrong_key_is_named_with_what_it_must_look_like(
    desk: Path, before: str, after: str, key: str, words: str
) -> None:
    with pytest.raises(DocumentMalformed, match=re.escape(words)) as refusal:
        hold(altered(desk / "1-root.toml", (before, after)))
    assert not [path for path in desk.iterdir() if path.is_dir()]
    assert refusal.value.key == key
    assert str(refusal.value).startswith(f"{desk / '1-root.toml'}: {key}: ")


@pytest.mark.parametrize(
    ("name", "before", "after", "key"),
    [
        ("2-issuing.toml", 'kind = "agency"', 'kind = "mesh"', "authority[2].kind"),
        ("2-issuing.toml", 'kind = "agency"', 'kind = "people"', "authority[2].kind"),
        ("2-issuing.toml", '{ file = "root/ca.key"', "{ generate = true", "root.key.generate"),
        ("2-issuing.toml", "life_days = 1826", 'life_days = 1826\nrequest = "x.csr"', "authority[1].request"),
        ("3-crl.toml", "number = 1", "number = 0", "list[1].number"),
        ("3-crl.toml", "number = 1", "number = 2", "list[1].previous"),
        ("3-crl.toml", "number = 1", f"number = {10**18}", "list[1].number"),
        ("4-trust-bundle.toml", "sequence = 1", "sequence = 2", "previous"),
        ("4-trust-bundle.toml", 'roots = ["root/ca.crt"]', "roots = []", "roots"),
        ("5-cross-sign.toml", 'issued_by = "root/ca.crt"', "", "issued_by"),
        ("6-revoke.toml", 'reason = "keyCompromise"', 'reason = "certificateHold"', "list[1].revoked[1].reason"),
        ("6-revoke.toml", "time = 2026-11-01T09:00:00+07:00", 'time = "yesterday"', "list[1].revoked[1].time"),
        ("6-revoke.toml", "time = 2026-11-01", "time = 1949-11-01", "list[1].revoked[1].time"),
        ("6-revoke.toml", 'certificate = "tax/tls.crt"', "", "list[1].revoked[1].serial"),
        ("6-revoke.toml", 'certificate = "tax/tls.crt"', 'serial = "-1"', "list[1].revoked[1].serial"),
        ("6-revoke.toml", 'certificate = "tax/tls.crt"', 'serial = "0"', "list[1].revoked[1].serial"),
        ("6-revoke.toml", 'certificate = "tax/tls.crt"', 'serial = "0x1f"', "list[1].revoked[1].serial"),
        ("6-revoke.toml", 'certificate = "tax/tls.crt"', "serial = 12", "list[1].revoked[1].serial"),
        ("6-revoke.toml", "[[list.revoked]]", "[list.revoked]", "list[1].revoked"),
    ],
)
def test_each_kind_of_file_is_read_strictly(desk: Path, name: str, before: str, after: str, key: str) -> None:
    with pytest.raises(DocumentMalformed) as refusal:
        read_document(altered(desk / name, (before, after)))
    assert refusal.value.key == key


@pytest.mark.parametrize(
    "content",
    [
        b"kind = ",
        b"\xff\xfe",
        b"[root]\n[root]\n",
        b"#" * (1 << 20) + b"#",
        b"kind = " + b"9" * 5000,
        b"kind = " + b"[" * 100_000,
    ],
    ids=["cut-off", "not-utf-8", "twice", "huge", "long-number", "deep"],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(DocumentMalformed):
        read_document(tmp_path / "x.toml")
    with pytest.raises(InputUnreadable, match="No such file"):
        read_document(tmp_path / "y.toml")
