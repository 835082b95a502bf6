"""Ceremonies: the file is read strictly, the rehearsal shows and touches nothing, the run writes all or nothing."""

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.ca_store import load_authority, load_root
from npd_pki.ceremony.document import Act, Document
from npd_pki.ceremony.errors import (
    AlreadyRevoked,
    CeremonyError,
    DocumentMalformed,
    InputForeign,
    InputUnreadable,
    MomentUnfit,
    NotConfirmed,
    OutputAmbiguous,
    OutputExists,
    PassphraseWeak,
    SignatureUnusable,
)
from npd_pki.ceremony.keys import RealKeys
from npd_pki.ceremony.reading import read_document
from npd_pki.ceremony.run import Rehearsal, rehearse, run
from npd_pki.ceremony.stand_in import StandIn
from npd_pki.errors import (
    KeyUnacceptable,
    NumberWentBack,
    PassphraseWrong,
    PkiError,
    PrivateKeyExposed,
    ProofOfPossessionFailed,
    RevocationListUntrusted,
    ValidityExceedsIssuer,
    ValidityTooLong,
)
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import generate_p256_key, generate_p384_key, key_id, save_private_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.request import create_request
from npd_pki.revocation_list import entries_of, load_revocation_list, number_of
from npd_pki.signed_bundle import read_trust_bundle
from npd_pki.trust_bundle import certificates_pem, load_certificates

SHIPPED = Path(__file__).parents[2] / "pki" / "ceremonies"
ROOT_PASSPHRASE, ISSUING_PASSPHRASE = b"correct horse battery staple", b"another horse, another battery"


class Nobody:
    """Whoever is asked for a passphrase in a test where every file is named."""

    def of(self, file: Path) -> bytes:
        raise AssertionError(f"asked for the passphrase of {file}")

    def for_new(self, purpose: str) -> bytes:
        raise AssertionError(f"asked for a passphrase for {purpose}")

    def pin(self, token_label: str) -> bytes:
        raise AssertionError(f"asked for the PIN of {token_label}")


def now() -> datetime:
    return datetime.now(UTC)


def hold(file: Path, *, passphrases: Nobody | None = None, consent: bool = True) -> list[str]:
    """Run a ceremony and return what it told."""
    told: list[str] = []
    run(rehearse(read_document(file), now()), passphrases or Nobody(), lambda: consent, told.append)
    return told


def desk_at(place: Path) -> Path:
    for file in SHIPPED.glob("*.toml"):
        shutil.copy(file, place)
    for name, passphrase in (("root", ROOT_PASSPHRASE), ("issuing", ISSUING_PASSPHRASE)):
        path = place / f"{name}.passphrase"
        path.touch(mode=0o600)
        path.write_bytes(passphrase + b"\n")
    return place


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The shipped files and their passphrases, nothing held yet."""
    return desk_at(tmp_path)


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = desk_at(tmp_path_factory.mktemp("held"))
    for name in ("1-root.toml", "2-issuing.toml", "3-crl.toml", "4-trust-bundle.toml"):
        hold(place / name)
    return place


@pytest.fixture
def held(held_once: Path, tmp_path: Path) -> Path:
    """The desk after the first four ceremonies."""
    shutil.copytree(held_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def altered(file: Path, *changes: tuple[str, str]) -> Path:
    """The file with each text replaced where it stands first; the text must be there."""
    text = file.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after, 1)
    file.write_text(text, encoding="utf-8")
    return file


def contents(place: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in place.rglob("*") if path.is_file()}


@pytest.fixture
def untouched(desk: Path) -> Iterator[None]:
    """The test must leave the directory of the ceremony as it found it, files hidden or not."""
    yield
    assert not [path for path in desk.iterdir() if path.is_dir()]


def shown(rehearsal: Rehearsal) -> str:
    return "\n".join(line for product in rehearsal.products for line in rehearsal.lines(product))


def list_file(place: Path, output: str, kind: str) -> Path:
    return place / output / f"{key_id(load_authority_key(place, kind))[:16]}.crl"


def load_authority_key(place: Path, kind: str):  # type: ignore[no-untyped-def]
    return load_certificates(place / "issuing" / kind / "ca.crt")[0].public_key()


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
    ("generate = true", "generate = 1", "root.key.generate", "true or false"),
    ("generate = true", "generate = false", "root.key.file", "is missing"),
    ("generate = true", 'generate = true, file = "x.key"', "root.key.file", "cannot be named"),
    ("generate = true", 'generate = true, passfrase = "x"', "root.key.passfrase", "is not a key"),
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


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("before", "after", "key", "words"), _ROOT_CHANGES)
def test_a_wrong_key_is_named_with_what_it_must_look_like(
    desk: Path, before: str, after: str, key: str, words: str
) -> None:
    with pytest.raises(DocumentMalformed, match=re.escape(words)) as refusal:
        hold(altered(desk / "1-root.toml", (before, after)))
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


@pytest.mark.parametrize("content", [b"kind = ", b"\xff\xfe", b"[root]\n[root]\n", b"#" * (1 << 20) + b"#"])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(DocumentMalformed):
        read_document(tmp_path / "x.toml")
    with pytest.raises(InputUnreadable, match="No such file"):
        read_document(tmp_path / "y.toml")


def test_the_rehearsal_touches_nothing_and_needs_no_passphrase(held: Path) -> None:
    for secret in held.glob("*.passphrase"):
        secret.unlink()
    for key in held.rglob("ca.key"):
        key.unlink()
    for output in ("issuing", "crl", "bundle"):
        altered(held / {"issuing": "2-issuing", "crl": "3-crl", "bundle": "4-trust-bundle"}[output] / "..")if False else None
    altered(held / "2-issuing.toml", ('output = "issuing"', 'output = "new"'))
    altered(held / "3-crl.toml", ('output = "crl"', 'output = "new"'))
    altered(held / "4-trust-bundle.toml", ('output = "bundle"', 'output = "new"'))
    before = contents(held)
    for name in ("2-issuing.toml", "3-crl.toml", "4-trust-bundle.toml"):
        rehearse(read_document(held / name), now())
    assert contents(held) == before
    assert not (held / "new").exists()
