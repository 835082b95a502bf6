"""Ceremonies: the rehearsal shows and touches nothing, the run writes all or nothing, each mistake is told apart."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.ca_store import load_authority, load_root
from npd_pki.ceremony.errors import (
    InputForeign,
    InputUnreadable,
    MomentUnfit,
    NotConfirmed,
    PassphraseWeak,
    SignatureUnusable,
)
from npd_pki.ceremony.keys import RealKeys
from npd_pki.ceremony.reading import read_document
from npd_pki.ceremony.run import Rehearsal, rehearse
from npd_pki.ceremony.stand_in import StandIn
from npd_pki.errors import (
    KeyUnacceptable,
    OutputExists,
    PassphraseWrong,
    PkiError,
    PrivateKeyExposed,
    ProofOfPossessionFailed,
    ValidityExceedsIssuer,
    ValidityTooLong,
)
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import generate_p256_key, key_id, save_private_key
from npd_pki.request import create_request
from npd_pki.revocation_list import load_revocation_list
from npd_pki.trust_bundle import load_certificates
from tests.ceremony_desk import (
    ISSUING_PASSPHRASE,
    ROOT_PASSPHRASE,
    altered,
    contents,
    desk_at,
    held_at,
    hold,
    now,
    refused,
)

SYSTEM = agency_uri("npd.test", "gdt", "tax")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The shipped files and their passphrases, nothing held yet."""
    return desk_at(tmp_path)


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held_at(tmp_path_factory.mktemp("held"))


@pytest.fixture
def held(held_once: Path, tmp_path: Path) -> Path:
    """The desk after the first four ceremonies."""
    shutil.copytree(held_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def shown(file: Path) -> str:
    rehearsal: Rehearsal = rehearse(read_document(file), now())
    return "\n".join(line for product in rehearsal.products for line in rehearsal.lines(product))


def test_the_rehearsal_opens_no_key_and_touches_nothing(held: Path) -> None:
    for secret in [*held.glob("*.passphrase"), *held.rglob("ca.key")]:
        secret.unlink()
    for name, output in (("1-root", "root"), ("2-issuing", "issuing"), ("3-crl", "crl"), ("4-trust-bundle", "bundle")):
        altered(held / f"{name}.toml", (f'output = "{output}"', 'output = "new"'))
    before = contents(held)
    for file in sorted(held.glob("[1-4]-*.toml")):
        assert shown(file)
    assert contents(held) == before
    assert not (held / "new").exists()


def test_the_rehearsal_marks_what_is_drawn_and_shows_the_rest_as_it_is_signed(held: Path) -> None:
    altered(held / "2-issuing.toml", ('output = "issuing"', 'output = "new"'))
    rehearsed = shown(held / "2-issuing.toml").splitlines()
    hold(held / "2-issuing.toml")
    transcript = (held / "new/transcript.txt").read_text()
    for line in rehearsed:
        if "<" not in line and "valid" not in line:
            assert line in transcript
    assert sum("<drawn at the run: 159 random bits>" in line for line in rehearsed) == 3
    assert sum("<key id of the key to be generated>" in line for line in rehearsed) == 3
    assert sum("<first 12 digits of the key id>" in line for line in rehearsed) == 3


def test_two_reviewed_moments_make_the_rehearsal_exact_to_the_byte(held: Path) -> None:
    moments = "not_before = 2026-01-31T09:00:00+07:00\nnot_after = 2126-02-01T09:00:00+07:00"
    file = altered(held / "3-crl.toml", ('output = "crl"', 'output = "new"'), ("life_days = 366", moments))
    refused(file, ValidityTooLong)
    later = (now() + timedelta(days=300)).isoformat(timespec="seconds")
    begin = (now() - timedelta(days=1)).isoformat(timespec="seconds")
    altered(file, ("2126-02-01T09:00:00+07:00", later), ("2026-01-31T09:00:00+07:00", begin))
    first = rehearse(read_document(file), now()).products[0]
    assert first.is_exact
    hold(file)
    root = load_root(held / "root", ROOT_PASSPHRASE)
    signed = load_revocation_list((held / "new" / f"{root.key_id[:16]}.crl").read_bytes())
    assert sha256(signed.tbs_certlist_bytes).hexdigest() == first.signed_digest
    assert signed.last_update_utc.isoformat() == begin


def test_ceremonies_make_the_authorities_that_are_loaded_later(held: Path) -> None:
    root = load_root(held / "root", ROOT_PASSPHRASE)
    assert root.environment == "npd.test"
    assert isinstance(root.key.curve, ec.SECP384R1)
    for kind in Kind:
        authority = load_authority(held / "issuing" / kind, ISSUING_PASSPHRASE)
        assert authority.kind is kind
        assert isinstance(authority.key.curve, ec.SECP256R1)
        authority.certificate.verify_directly_issued_by(root.certificate)
    for path in held.rglob("ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes().splitlines()[0]
    assert stat.S_IMODE((held / "root").stat().st_mode) == 0o700


def test_the_transcript_lets_an_auditor_compare(held: Path) -> None:
    transcript = (held / "issuing/transcript.txt").read_text()
    for officer in ("First Officer", "Second Officer", "Auditor"):
        assert officer in transcript
    assert sha256((held / "2-issuing.toml").read_bytes()).hexdigest() in transcript
    assert sha256((held / "root/ca.crt").read_bytes()).hexdigest() in transcript
    written = re.findall(r"^  (\d{4})  ([0-9a-f]{64})  (\S+)$", transcript, re.MULTILINE)
    files = {path.relative_to(held / "issuing").as_posix() for path in (held / "issuing").rglob("*") if path.is_file()}
    assert {name for _, _, name in written} == files - {"transcript.txt"}
    for mode, digest, name in written:
        path = held / "issuing" / name
        assert (oct(stat.S_IMODE(path.stat().st_mode))[2:].zfill(4), sha256(path.read_bytes()).hexdigest()) == (
            mode,
            digest,
        )
    for kind in Kind:
        certificate = load_certificates(held / "issuing" / kind / "ca.crt")[0]
        assert f"{certificate.serial_number:x}" in transcript
        assert sha256(certificate.public_bytes(Encoding.DER)).hexdigest() in transcript
        assert sha256(certificate.tbs_certificate_bytes).hexdigest() in transcript


def test_each_step_is_told_in_a_line(desk: Path) -> None:
    told = hold(desk / "1-root.toml")
    digest = sha256((desk / "root/transcript.txt").read_bytes()).hexdigest()
    assert [line.split(" ", 1)[0] for line in told] == ["root:", "signed", "wrote", "transcript.txt:"]
    assert digest in told[-1]
    assert all("\n" not in line for line in told)


def test_nothing_is_ever_overwritten(held: Path) -> None:
    for file in sorted(held.glob("[1-4]-*.toml")):
        refused(file, OutputExists, "exists already and is never overwritten")
    shutil.rmtree(held / "root")
    (held / "root").symlink_to(held / "nowhere")
    refused(held / "1-root.toml", OutputExists)


def test_the_place_of_the_output_has_to_be_there(desk: Path) -> None:
    refused(
        altered(desk / "1-root.toml", ('output = "root"', 'output = "safe/root"')), InputUnreadable, "make it first"
    )
    assert not (desk / "safe").exists()


def test_nothing_is_signed_unless_confirmed(desk: Path) -> None:
    with pytest.raises(NotConfirmed):
        hold(desk / "1-root.toml", consent=False)
    assert not [path for path in desk.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("name", "change", "error", "words"),
    [
        ("root.passphrase", b"", PkiError, "passphrase"),
        ("root.passphrase", b"short\n", PassphraseWeak, "12 characters"),
        ("root.passphrase", b"two\nlines of it\n", PkiError, "one line"),
        ("root.passphrase", None, InputUnreadable, "No such file"),
    ],
)
def test_a_new_key_is_protected_or_not_made(
    desk: Path, name: str, change: bytes | None, error: type[PkiError], words: str
) -> None:
    if change is None:
        (desk / name).unlink()
    else:
        (desk / name).write_bytes(change)
    refused(desk / "1-root.toml", error, words)


def test_a_passphrase_that_others_can_read_is_refused(desk: Path) -> None:
    (desk / "root.passphrase").chmod(0o640)
    refused(desk / "1-root.toml", PrivateKeyExposed, "chmod 600")


@pytest.fixture
def reissuing(held: Path) -> Path:
    """The ceremony of the issuing CAs, to be held once more."""
    return altered(held / "2-issuing.toml", ('output = "issuing"', 'output = "new"'))


def test_the_root_key_has_to_open_and_to_be_its_own(reissuing: Path) -> None:
    place = reissuing.parent
    (place / "root.passphrase").write_text("another passphrase\n")
    refused(reissuing, PassphraseWrong)
    (place / "root.passphrase").write_bytes(ROOT_PASSPHRASE)
    key = (place / "root/ca.key").read_bytes()
    (place / "root/ca.key").write_bytes(key[:-60])
    refused(reissuing, PkiError, "ca.key")
    (place / "root/ca.key").write_bytes(key)
    (place / "root/ca.key").chmod(0o644)
    refused(reissuing, PrivateKeyExposed)
    (place / "root/ca.key").unlink()
    save_private_key(place / "root/ca.key", ec.generate_private_key(ec.SECP384R1()), ROOT_PASSPHRASE)
    refused(reissuing, InputForeign, "is not that of")
    (place / "root/ca.key").unlink()
    refused(reissuing, InputUnreadable, "ca.key")


def test_the_root_has_to_be_a_root_of_this_environment(reissuing: Path) -> None:
    place = reissuing.parent
    altered(reissuing, ('environment = "npd.test"', 'environment = "npd.gov.vn"'))
    refused(reissuing, InputForeign, "is a CA of npd.test, the ceremony is for npd.gov.vn")
    altered(reissuing, ('environment = "npd.gov.vn"', 'environment = "npd.test"'))
    altered(reissuing, ('certificate = "root/ca.crt"', 'certificate = "issuing/mesh/ca.crt"'))
    refused(reissuing, PkiError, "not a self-signed CA")
    altered(reissuing, ('certificate = "issuing/mesh/ca.crt"', 'certificate = "missing.crt"'))
    refused(reissuing, InputUnreadable, "missing.crt cannot be read")
    (place / "missing.crt").write_bytes((place / "root/ca.crt").read_bytes()[:-40])
    refused(reissuing, InputUnreadable, "no whole PEM certificate")
    chain = (place / "issuing/mesh/ca.crt").read_bytes() + (place / "root/ca.crt").read_bytes()
    (place / "missing.crt").write_bytes(chain)
    refused(reissuing, InputForeign, "several certificates")
    (place / "missing.crt").write_bytes((place / "root/ca.crt").read_bytes() + chain[:300])
    refused(reissuing, InputUnreadable, "was it cut off?")


def test_an_issuing_ca_does_not_outlive_its_root_or_its_ceiling(reissuing: Path) -> None:
    altered(reissuing, ("life_days = 1826", "life_days = 7320"))
    refused(reissuing, ValidityTooLong)
    old = "not_before = 2020-01-01T00:00:00Z\nnot_after = 2021-01-01T00:00:00Z"
    altered(reissuing, ("life_days = 7320", old))
    refused(reissuing, MomentUnfit, "clock")
    root = altered(reissuing.parent / "1-root.toml", ('output = "root"', 'output = "brief"'), ("7305", "30"))
    hold(root)
    altered(reissuing, (old, "life_days = 1826"), ("root/ca.crt", "brief/ca.crt"), ("root/ca.key", "brief/ca.key"))
    refused(reissuing, ValidityExceedsIssuer)


def test_a_key_that_is_kept_elsewhere_comes_as_a_request(reissuing: Path) -> None:
    place, key = reissuing.parent, generate_p256_key()
    shipped = 'kind = "agency"\nkey = { generate = true, passphrase_file = "issuing.passphrase" }'
    altered(reissuing, (shipped, 'kind = "agency"\nrequest = "agency.csr"'))
    (place / "agency.csr").write_bytes(create_request(key).public_bytes(Encoding.PEM))
    assert key_id(key.public_key()) in shown(reissuing)
    hold(reissuing)
    assert {path.name for path in (place / "new/agency").iterdir()} == {"ca.crt"}
    assert load_certificates(place / "new/agency/ca.crt")[0].public_key() == key.public_key()


def test_a_request_proves_possession_of_its_key(reissuing: Path) -> None:
    shipped = 'kind = "agency"\nkey = { generate = true, passphrase_file = "issuing.passphrase" }'
    altered(reissuing, (shipped, 'kind = "agency"\nrequest = "agency.csr"'))
    der = bytearray(create_request(generate_p256_key()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    (reissuing.parent / "agency.csr").write_bytes(broken)
    refused(reissuing, ProofOfPossessionFailed)


def test_no_two_cas_have_one_key(reissuing: Path) -> None:
    (reissuing.parent / "one.csr").write_bytes(create_request(generate_p256_key()).public_bytes(Encoding.PEM))
    for kind in ("mesh", "agency"):
        shipped = f'kind = "{kind}"\nkey = {{ generate = true, passphrase_file = "issuing.passphrase" }}'
        altered(reissuing, (shipped, f'kind = "{kind}"\nrequest = "one.csr"'))
    refused(reissuing, KeyUnacceptable, "give each its own")


def test_a_ca_key_that_exists_is_used_where_it_is(reissuing: Path) -> None:
    place, key = reissuing.parent, generate_p256_key()
    save_private_key(place / "kept.key", key, ISSUING_PASSPHRASE)
    shipped = 'kind = "mesh"\nkey = { generate = true,'
    altered(reissuing, (shipped, 'kind = "mesh"\nkey = { file = "kept.key",'))
    assert "<key id of the key in kept.key>" in shown(reissuing)
    hold(reissuing)
    assert {path.name for path in (place / "new/mesh").iterdir()} == {"ca.crt"}
    assert load_certificates(place / "new/mesh/ca.crt")[0].public_key() == key.public_key()


def test_a_key_on_another_curve_is_refused(reissuing: Path) -> None:
    save_private_key(reissuing.parent / "kept.key", ec.generate_private_key(ec.SECP384R1()), ISSUING_PASSPHRASE)
    shipped = 'kind = "mesh"\nkey = { generate = true,'
    refused(altered(reissuing, (shipped, 'kind = "mesh"\nkey = { file = "kept.key",')), KeyUnacceptable, "secp384r1")


def test_what_a_defective_module_signed_is_not_written(reissuing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(self: RealKeys, key: object, certificate: x509.Certificate) -> StandIn:
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return StandIn(public)

    monkeypatch.setattr(RealKeys, "signer", defective)
    refused(reissuing, SignatureUnusable)


@pytest.mark.parametrize("moment", ["_write", "force_directory", "sign_all"])
def test_a_ceremony_that_is_killed_leaves_no_output_and_can_be_held_again(desk: Path, moment: str) -> None:
    killed = (
        "import os, signal, sys\n"
        "import npd_pki.ceremony.run as run\n"
        "from npd_pki.cli import main\n"
        f"real, calls = run.{moment}, []\n"
        "def die(*words):\n"
        "    calls.append(words)\n"
        f"    if len(calls) == {2 if moment == 'sign_all' else 1}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*words)\n"
        f"run.{moment} = die\n"
        "main(['ceremony', 'run', '1-root.toml', '--yes'])\n"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", killed], cwd=desk, env=path, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    if moment == "force_directory":  # it comes after the rename: the output is there, and whole
        assert (desk / "root/transcript.txt").exists()
        assert load_root(desk / "root", ROOT_PASSPHRASE).environment == "npd.test"
        return
    assert not (desk / "root").exists()
    hold(desk / "1-root.toml")
    assert load_root(desk / "root", ROOT_PASSPHRASE).environment == "npd.test"
