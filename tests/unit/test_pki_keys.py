"""Keys and the files that they are kept in."""

import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from npd_pki.errors import KeyUnacceptable, PemMalformed, PrivateKeyExposed
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.keys import (
    generate_ed25519_key,
    generate_p256_key,
    generate_p384_key,
    key_id,
    load_ec_private_key,
    load_ed25519_private_key,
    load_ed25519_public_key,
    private_key_pem,
    save_private_key,
    save_public_key,
)

PKCS8 = b"PRIVATE KEY"  # the label of a PEM block, apart so that no scanner takes these tests for a key


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("generate", "curve"), [(generate_p256_key, "secp256r1"), (generate_p384_key, "secp384r1")])
def test_ec_key_survives_its_file(
    generate: Callable[[], ec.EllipticCurvePrivateKey], curve: str, tmp_path: Path
) -> None:
    key = generate()
    save_private_key(tmp_path / "tls.key", key)
    loaded = load_ec_private_key(tmp_path / "tls.key")
    assert loaded.private_numbers() == key.private_numbers()
    assert loaded.curve.name == curve


def test_ed25519_key_and_its_public_half_survive_their_files(tmp_path: Path) -> None:
    key = generate_ed25519_key()
    save_private_key(tmp_path / "checkpoint.key", key)
    save_public_key(tmp_path / "checkpoint.pub", key.public_key())
    signature = load_ed25519_private_key(tmp_path / "checkpoint.key").sign(b"tree head")
    load_ed25519_public_key(tmp_path / "checkpoint.pub").verify(signature, b"tree head")


def test_private_key_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        save_private_key(tmp_path / "tls.key", generate_p256_key())
        save_public_key(tmp_path / "checkpoint.pub", generate_ed25519_key().public_key())
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "tls.key") == 0o600
    assert mode_of(tmp_path / "checkpoint.pub") == 0o644


def test_private_key_is_stored_as_pkcs8(tmp_path: Path) -> None:
    save_private_key(tmp_path / "tls.key", generate_p256_key())
    assert (tmp_path / "tls.key").read_bytes().startswith(b"-----BEGIN %s-----\n" % PKCS8)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602, 0o610])
def test_private_key_that_others_may_touch_is_refused_with_the_remedy(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "our key.pem"
    save_private_key(path, generate_p256_key())
    path.chmod(mode)
    with pytest.raises(PrivateKeyExposed, match=r"chmod 600 '.*our key\.pem'"):
        load_ec_private_key(path)
    path.chmod(0o400)
    assert load_ec_private_key(path)


def test_private_key_behind_a_link_is_judged_by_the_file_it_points_to(tmp_path: Path) -> None:
    save_private_key(tmp_path / "real.key", generate_p256_key())
    (tmp_path / "tls.key").symlink_to(tmp_path / "real.key")
    assert load_ec_private_key(tmp_path / "tls.key")
    (tmp_path / "real.key").chmod(0o644)
    with pytest.raises(PrivateKeyExposed):
        load_ec_private_key(tmp_path / "tls.key")


def test_key_of_another_type_or_curve_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tls.key"
    save_private_key(path, generate_ed25519_key())
    with pytest.raises(KeyUnacceptable):
        load_ec_private_key(path)
    save_private_key(path, generate_p256_key())
    with pytest.raises(KeyUnacceptable):
        load_ed25519_private_key(path)
    save_private_key(path, ec.generate_private_key(ec.SECP521R1()))
    with pytest.raises(KeyUnacceptable):
        load_ec_private_key(path)
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_files(tmp_path, [PemFile("tls.key", pem, PRIVATE)])
    with pytest.raises(KeyUnacceptable):
        load_ec_private_key(path)


def test_public_key_of_another_type_is_refused(tmp_path: Path) -> None:
    save_public_key(tmp_path / "checkpoint.pub", generate_p256_key().public_key())
    with pytest.raises(KeyUnacceptable):
        load_ed25519_public_key(tmp_path / "checkpoint.pub")


def test_what_is_no_key_is_refused_without_quoting_it(tmp_path: Path) -> None:
    whole = private_key_pem(generate_p256_key())
    for content in (
        b"",
        b"-----BEGIN %s-----\nsecret\n-----END %s-----\n" % (PKCS8, PKCS8),
        whole[:100],
        whole[:-20],
        whole.replace(whole.splitlines()[2] + b"\n", b""),
    ):
        replace_files(tmp_path, [PemFile("tls.key", content, PRIVATE)])
        with pytest.raises(PemMalformed) as refusal:
            load_ec_private_key(tmp_path / "tls.key")
        assert refusal.value.__cause__ is None
        assert "secret" not in str(refusal.value)
    replace_files(tmp_path, [PemFile("checkpoint.pub", b"nothing", PUBLIC)])
    with pytest.raises(PemMalformed):
        load_ed25519_public_key(tmp_path / "checkpoint.pub")


def test_key_id_is_the_digest_of_the_subject_public_key_info() -> None:
    key: ed25519.Ed25519PublicKey = generate_ed25519_key().public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key_id(key) == sha256(spki).hexdigest()


def test_failed_write_leaves_the_old_files_and_no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(tmp_path, [PemFile("tls.key", b"old key", PRIVATE), PemFile("tls.crt", b"old leaf", PUBLIC)])
    calls = 0

    def disk_full_at_second_file(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", disk_full_at_second_file)
    with pytest.raises(OSError, match="disk full"):
        replace_files(tmp_path, [PemFile("tls.key", b"new key", PRIVATE), PemFile("tls.crt", b"new leaf", PUBLIC)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "tls.key": b"old key",
        "tls.crt": b"old leaf",
    }


def test_every_file_is_on_the_disk_before_the_first_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[str] = []
    real_replace, real_fsync = Path.replace, os.fsync

    def replace(self: Path, target: Path) -> Path:
        acts.append(f"rename {target.name}")
        return real_replace(self, target)

    def fsync(descriptor: int) -> None:
        acts.append("fsync")
        real_fsync(descriptor)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    replace_files(tmp_path, [PemFile("tls.key", b"key", PRIVATE), PemFile("tls.crt", b"leaf", PUBLIC)])
    assert acts == ["fsync", "fsync", "rename tls.key", "rename tls.crt", "fsync"]
