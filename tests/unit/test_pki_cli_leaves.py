"""`npd-pki issue`, `issued`, `show` and `verify`: the leaves of an offline CA, recorded before they are signed."""

import base64
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import IssuingCA
from npd_pki.ca_store import load_authority
from npd_pki.cli.issued_log import LOG_FILE, IssuedLog
from npd_pki.credentials import load_credentials
from npd_pki.profile import PROFILES
from npd_pki.request import create_request, load_request
from npd_pki.revocation_list import build_revocation_list
from npd_pki.trust_bundle import load_certificates
from tests.ceremony_desk import ISSUING_PASSPHRASE, altered, held_at, hold
from tests.pki_cli import done, issue_words, refusal, requested

SYSTEM, ROOM = "spiffe://agency.npd.test/gdt/tax", "spiffe://mesh.npd.test/registry"


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held_at(tmp_path_factory.mktemp("held"))


@pytest.fixture
def held(held_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, after the first four ceremonies."""
    shutil.copytree(held_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The command takes SIGTERM for itself; the tests give it back."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_issue_makes_a_directory_that_a_party_can_use(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = requested(capsys, "registry")
    options = ["--uri", ROOM, "--dns", "registry", "--dns", "registry.npd.svc", "--days", "10", "--root", "root/ca.crt"]
    done(capsys, *issue_words(request, "registry", *options, ca="mesh", profile="room-tls"))
    leaf = load_credentials(held / "registry").issued.certificate
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [ROOM]
    assert names.get_values_for_type(x509.DNSName) == ["registry", "registry.npd.svc"]
    (entry,) = IssuedLog(held / "issuing/mesh").listing().entries
    assert entry.intention.serial == f"{leaf.serial_number:x}"
    assert entry.intention.hosts == ("registry", "registry.npd.svc")
    assert (entry.intention.profile, entry.intention.profile_version) == ("room-tls", PROFILES["room-tls"].version)
    assert entry.digest is not None
    assert entry.digest in done(capsys, "show", "registry/tls.crt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--uri", ROOM], "does not issue"),
        (["--uri", "https://agency.npd.test/gdt/tax"], "does not start with spiffe://"),
        (["--uri", "spiffe://agency.other.test/gdt/tax"], "does not issue"),
        (["--uri", SYSTEM, "--dns", "tax.gov.vn"], "names no host"),
        (["--uri", SYSTEM, "--days", "400"], "longer than"),
        (["--uri", SYSTEM, "--root", "issuing/mesh/ca.crt"], "roots only"),
        (["--uri", SYSTEM, "--request", "missing.csr"], "No such file"),
        (["--uri", SYSTEM, "--request", "root/ca.crt"], "not a PEM certificate signing request"),
        (["--uri", SYSTEM, "--ca", "issuing/nowhere"], "is missing"),
        (["--uri", SYSTEM, "--passphrase-file", "root.passphrase"], "passphrase"),
        (["--uri", "spiffe://agency.npd.test/gdt/other"], "asks for 1 name(s)"),
        (["--uri", SYSTEM, "--out", "1-root.toml"], "1-root.toml: Not a directory"),
        (["--uri", SYSTEM, "--out", "1-root.toml/tax"], "1-root.toml: Not a directory"),
    ],
)
def test_a_refused_issue_signs_and_records_nothing(
    held: Path, capsys: pytest.CaptureFixture[str], change: list[str], words: str
) -> None:
    request = requested(capsys, "tax", *(["--uri", SYSTEM] if "asks for" in words else []))
    assert words in refusal(capsys, *issue_words(request, "tax", *change))
    assert not (held / "tax/tls.crt").exists()
    assert not (held / "issuing/agency" / LOG_FILE).exists()


def test_a_weak_or_altered_request_is_refused(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = create_request(rsa.generate_private_key(65537, 2048)).public_bytes(Encoding.PEM)
    (held / "weak.csr").write_bytes(weak)
    assert "3072" in refusal(capsys, *issue_words("weak.csr", "tax", "--uri", SYSTEM))
    request = requested(capsys, "tax")
    der = bytearray(load_request((held / request).read_bytes()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    (held / request).write_bytes(x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM))
    assert "not signed by the key" in refusal(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    assert not (held / "issuing/agency" / LOG_FILE).exists()


def test_an_intention_without_result_is_listed(
    held: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = requested(capsys, "tax")

    def power_cut(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(IssuingCA, "sign", power_cut)
        assert "stopped" in refusal(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    assert not (held / "tax/tls.crt").exists()
    done(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    first, second, total = done(capsys, "issued", "issuing/agency").splitlines()
    assert first.endswith("NO RESULT")
    assert not second.endswith("NO RESULT")
    assert total == "2 certificate(s), 1 without result"


def test_nothing_is_signed_when_the_disk_takes_half_of_the_intention(
    held: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request, write = requested(capsys, "tax"), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:100]))
        patch.setattr(IssuingCA, "sign", lambda *words: pytest.fail("signed what is not recorded"))
        assert "issued.log: No space left" in refusal(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    assert "0 certificate(s)" in done(capsys, "issued", "issuing/agency")
    done(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    assert "1 certificate(s), 0 without result" in done(capsys, "issued", "issuing/agency")


def test_a_ca_that_is_not_valid_yet_issues_nothing(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    altered(
        held / "2-issuing.toml",
        ('output = "issuing"', 'output = "later"'),
        ("life_days = 1826", f"not_before = {later:%Y-%m-%dT%H:%M:%SZ}\nnot_after = 2028-01-31T00:00:00Z"),
    )
    hold(held / "2-issuing.toml")
    request = requested(capsys, "registry")
    words = [*issue_words(request, "registry", "--uri", ROOM, "--dns", "registry"), "--profile", "room-tls"]
    assert "the clock here says" in refusal(capsys, *words, "--ca", "later/mesh")
    assert not (held / "later/mesh" / LOG_FILE).exists()


def test_the_list_of_no_ca_is_not_an_empty_one(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("issuing", "issuing/agenci"):
        assert "name the directory of the CA" in refusal(capsys, "issued", path)


def test_a_certificate_that_could_not_be_written_is_in_the_log(
    held: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = requested(capsys, "tax")

    def full(*words: object) -> None:
        raise OSError(28, "No space left on device", "tax/tls.crt")

    monkeypatch.setattr("npd_pki.cli.issue.write_new", full)
    assert "No space left" in refusal(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    *_, last = (held / "issuing/agency" / LOG_FILE).read_text().splitlines()
    recorded = json.loads(last)
    assert recorded["record"] == "issued"
    assert recorded["certificate"]


def test_a_log_line_that_was_cut_off_costs_only_itself(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = requested(capsys, "tax")
    log = held / "issuing/agency" / LOG_FILE
    done(capsys, *issue_words(request, "one", "--uri", SYSTEM))
    log.write_bytes(log.read_bytes()[:-30])
    done(capsys, *issue_words(request, "two", "--uri", SYSTEM))
    listed = done(capsys, "issued", "issuing/agency")
    assert "line 2 of issued.log is not whole" in listed
    assert "2 certificate(s), 1 without result" in listed
    log.write_text('{"record": "issued", "serial": "1f", "digest": "x"}\n')
    assert "restore the file" in refusal(capsys, "issued", "issuing/agency")


def test_show_explains_every_kind_of_file_and_no_private_key(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = requested(capsys, "tax", "--uri", SYSTEM)
    assert SYSTEM in done(capsys, "show", request)
    root = done(capsys, "show", "root/ca.crt")
    assert root.startswith("certificate\n")
    assert "keyCertSign, cRLSign (critical)" in root
    (der,) = (held / "crl").glob(f"{load_authority(held / 'issuing/mesh', ISSUING_PASSPHRASE).key_id[:16]}.crl")
    assert "revocation list\n" in done(capsys, "show", str(der))
    bundle = done(capsys, "show", "bundle/trust-bundle.txt")
    assert re.search(r"^  sequence +1$", bundle, re.MULTILINE)
    content = (held / "bundle/trust-bundle.txt").read_text()
    (held / "bundle/trust-bundle.txt").write_text(content.replace("sequence: 1", "sequence: 2"))
    assert "NOT CHECKED" in done(capsys, "show", "bundle/trust-bundle.txt")
    for path in ("tax/tls.key", "root/ca.key"):
        assert "holds a private key" in refusal(capsys, "show", path)
    (held / "junk").write_bytes(os.urandom(300))
    for path in ("junk", "1-root.toml"):
        assert "is no whole certificate" in refusal(capsys, "show", path)


def test_verify_says_in_a_sentence_what_is_wrong(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = requested(capsys, "tax")
    done(capsys, *issue_words(request, "tax", "--uri", SYSTEM, "--root", "root/ca.crt"))
    lists = [str(path) for path in sorted((held / "crl").glob("*.crl"))]
    told = done(capsys, "verify", "tax")
    assert told.count("no revocation list of") == 2
    assert done(capsys, "verify", "tax", "--purpose", "client", "--crl", *lists).startswith("good until")
    assert "not for server" in refusal(capsys, "verify", "tax", "--purpose", "server")
    assert "name it with --root" in refusal(capsys, "verify", "tax/tls.crt")
    assert "put the leaf first" in refusal(capsys, "verify", "root/ca.crt", "--root", "root/ca.crt")
    assert "roots only" in refusal(capsys, "verify", "tax/tls.crt", "--root", "issuing/agency/ca.crt")
    leaf, ca = load_certificates(held / "tax/tls.crt")
    (held / "alone.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    assert "stands alone" in refusal(capsys, "verify", "alone.pem", "--root", "root/ca.crt")
    mesh = (held / "issuing/mesh/ca.crt").read_bytes()
    (held / "alone.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + mesh)
    assert "none of the CAs that follow" in refusal(capsys, "verify", "alone.pem", "--root", "root/ca.crt")
    done(capsys, "key", "new", "other.key", "--unencrypted")
    (held / "tax/tls.key").unlink()
    (held / "other.key").rename(held / "tax/tls.key")
    assert "is not the key of the leaf" in refusal(capsys, "verify", "tax")
    (held / "tax/tls.key").unlink()
    done(capsys, "key", "new", "tax/tls.key", "--passphrase-file", "issuing.passphrase")
    assert "make one unencrypted" in refusal(capsys, "verify", "tax")
    truncated = (held / "tax/tls.crt").read_bytes()[:200]
    (held / "tax/tls.crt").write_bytes(truncated)
    assert "holds no whole PEM certificate" in refusal(capsys, "verify", "tax")
    assert ca.subject


def test_one_revocation_list_of_a_ca_is_valid_now(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = requested(capsys, "tax")
    done(capsys, *issue_words(request, "tax", "--uri", SYSTEM, "--root", "root/ca.crt"))
    agency = load_authority(held / "issuing/agency", ISSUING_PASSPHRASE)
    for name, days in (("past", -9), ("present", 0), ("future", 9)):
        now = datetime.now(UTC) + timedelta(days=days)
        signed = build_revocation_list(agency, 2, [], now=now, life=timedelta(days=3))
        (held / f"{name}.crl").write_bytes(signed.public_bytes(Encoding.DER))
    assert "is out of date" in refusal(capsys, "verify", "tax", "--crl", "past.crl")
    assert "is not valid yet; check the clock" in refusal(capsys, "verify", "tax", "--crl", "future.crl")
    assert "is out of date" in refusal(capsys, "verify", "tax", "--crl", "past.crl", "future.crl")
    assert "good until" in done(capsys, "verify", "tax", "--crl", "past.crl", "present.crl", "future.crl")


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ("a003020102", "a003020105"),  # the version
        ("06072a8648ce3d0201", "06072a8648ce3d0209"),  # the type of the key
        ("0603551d13", "0603551d11"),  # basic constraints in the place of the alternative name, which is there twice
        ("301d0603551d0e0416", "301d0603551d110416"),  # a key id in the place of the alternative name
    ],
    ids=["version", "key", "twice", "malformed"],
)
def test_a_certificate_that_cannot_be_read_is_refused_in_words(
    held: Path, capsys: pytest.CaptureFixture[str], found: str, put: str
) -> None:
    request = requested(capsys, "tax")
    done(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    for name in ("tax/tls.crt", "root/ca.crt"):
        der = load_certificates(held / name)[0].public_bytes(Encoding.DER)
        assert bytes.fromhex(found) in der
        damaged = base64.encodebytes(der.replace(bytes.fromhex(found), bytes.fromhex(put), 1)).decode()
        (held / "bad.crt").write_text(f"-----BEGIN CERTIFICATE-----\n{damaged}-----END CERTIFICATE-----\n")
        for words in (["show", "bad.crt"], ["verify", "bad.crt", "--root", "root/ca.crt"]):
            assert "cannot be read" in refusal(capsys, *words)
        assert "cannot be read" in refusal(capsys, "verify", "tax/tls.crt", "--root", "bad.crt")
        assert "cannot be read" in refusal(capsys, *issue_words(request, "new", "--uri", SYSTEM, "--root", "bad.crt"))
    assert not (held / "new").exists()


def test_a_request_of_an_unknown_version_is_refused_in_words(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    der = load_request((held / requested(capsys, "tax")).read_bytes()).public_bytes(Encoding.DER)
    damaged = base64.encodebytes(der.replace(b"\x02\x01\x00", b"\x02\x01\x05", 1)).decode()
    (held / "bad.csr").write_text(f"-----BEGIN CERTIFICATE REQUEST-----\n{damaged}-----END CERTIFICATE REQUEST-----\n")
    for words in (issue_words("bad.csr", "new", "--uri", SYSTEM), ["show", "bad.csr"], ["key", "id", "bad.csr"]):
        assert "request" in refusal(capsys, *words)
    assert not (held / "issuing/agency" / LOG_FILE).exists()
