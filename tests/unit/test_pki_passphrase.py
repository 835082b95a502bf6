"""Passphrases: private keys encrypted with them, and the files that they are read from."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from npd_pki.ca_store import Hierarchy, load_authority, load_hierarchy, load_root, save_hierarchy
from npd_pki.errors import (
    PassphraseMalformed,
    PassphraseMissing,
    PassphraseWrong,
    PemMalformed,
    PrivateKeyExposed,
    PrivateKeyUnencrypted,
)
from npd_pki.files import PRIVATE, PemFile, replace_files
from npd_pki.keys import (
    generate_ed25519_key,
    generate_p256_key,
    generate_p384_key,
    load_ec_private_key,
    private_key_pem,
    save_private_key,
)
from npd_pki.passphrase import LONGEST_PASSPHRASE, read_passphrase

PASSPHRASE = "mật khẩu của nghi lễ".encode()
ENCRYPTED_PKCS8 = b"-----BEGIN ENCRYPTED " + b"PRIVATE KEY-----\n"  # apart, so that no scanner takes it for a key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    save_private_key(tmp_path / "ca.key", generate_p384_key(), PASSPHRASE)
    return tmp_path / "ca.key"


def private_file(path: Path, content: bytes) -> Path:
    replace_files(path.parent, [PemFile(path.name, content, PRIVATE)])
    return path


def test_encrypted_key_opens_with_its_passphrase(tmp_path: Path) -> None:
    key = generate_p256_key()
    save_private_key(tmp_path / "ca.key", key, PASSPHRASE)
    assert (tmp_path / "ca.key").read_bytes().startswith(ENCRYPTED_PKCS8)
    opened = load_ec_private_key(tmp_path / "ca.key", PASSPHRASE)
    assert opened.private_numbers() == key.private_numbers()


@pytest.mark.parametrize("wrong", [b"x", PASSPHRASE[:-1], PASSPHRASE + b" ", PASSPHRASE.upper()])
def test_wrong_passphrase_is_told_apart_from_a_damaged_file(wrong: bytes, key_file: Path) -> None:
    with pytest.raises(PassphraseWrong, match=r"ca\.key") as refusal:
        load_ec_private_key(key_file, wrong)
    assert refusal.value.__cause__ is None


def test_encrypted_key_asks_for_its_passphrase(key_file: Path) -> None:
    with pytest.raises(PassphraseMissing, match="give its passphrase"):
        load_ec_private_key(key_file)


def test_bare_key_is_not_taken_for_an_encrypted_one(tmp_path: Path) -> None:
    save_private_key(tmp_path / "ca.key", generate_p256_key())
    with pytest.raises(PrivateKeyUnencrypted):
        load_ec_private_key(tmp_path / "ca.key", PASSPHRASE)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_key_that_was_cut_off_is_malformed(part: float, passphrase: bytes | None, key_file: Path) -> None:
    whole = key_file.read_bytes()
    private_file(key_file, whole[: int(len(whole) * part)])
    with pytest.raises(PemMalformed, match="no whole PEM"):
        load_ec_private_key(key_file, passphrase)


def test_key_that_lost_a_line_is_refused(key_file: Path) -> None:
    lines = key_file.read_bytes().splitlines(keepends=True)
    private_file(key_file, b"".join([*lines[:3], *lines[4:]]))
    with pytest.raises((PemMalformed, PassphraseWrong)):
        load_ec_private_key(key_file, PASSPHRASE)


def test_exposed_key_is_refused_before_its_passphrase_is_tried(key_file: Path) -> None:
    key_file.chmod(0o640)
    with pytest.raises(PrivateKeyExposed):
        load_ec_private_key(key_file, b"wrong")


def test_key_that_openssl_encrypts_is_read(tmp_path: Path) -> None:
    key = generate_p256_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret"))
    private_file(tmp_path / "ca.key", pem)
    assert load_ec_private_key(tmp_path / "ca.key", b"secret").private_numbers() == key.private_numbers()
    with pytest.raises(PassphraseMissing):
        load_ec_private_key(tmp_path / "ca.key")


def test_ed25519_key_can_be_encrypted_too() -> None:
    key: ed25519.Ed25519PrivateKey = generate_ed25519_key()
    assert private_key_pem(key, PASSPHRASE).startswith(ENCRYPTED_PKCS8)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_passphrase_is_the_line_of_its_file(end: str, tmp_path: Path) -> None:
    path = private_file(tmp_path / "passphrase", PASSPHRASE + end.encode())
    assert read_passphrase(path) == PASSPHRASE


def test_blanks_around_a_passphrase_belong_to_it(tmp_path: Path) -> None:
    assert read_passphrase(private_file(tmp_path / "passphrase", b" two words \n")) == b" two words "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_passphrase_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    path = private_file(tmp_path / "passphrase", b"secret\n")
    path.chmod(mode)
    with pytest.raises(PrivateKeyExposed, match="chmod 600"):
        read_passphrase(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\r\n", b"seven\neight\n", b"seven\0\n", b"x" * (LONGEST_PASSPHRASE + 1)]
)
def test_file_without_exactly_one_line_is_no_passphrase(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(PassphraseMalformed, match="passphrase") as refusal:
        read_passphrase(private_file(tmp_path / "passphrase", content))
    assert "seven" not in str(refusal.value)


@pytest.mark.parametrize("passphrase", [b"", b"x" * (LONGEST_PASSPHRASE + 1)])
def test_key_is_not_written_with_a_passphrase_that_nobody_could_type(passphrase: bytes, tmp_path: Path) -> None:
    with pytest.raises(PassphraseMalformed):
        save_private_key(tmp_path / "ca.key", generate_p256_key(), passphrase)
    assert list(tmp_path.iterdir()) == []


def test_longest_passphrase_works(tmp_path: Path) -> None:
    save_private_key(tmp_path / "ca.key", generate_p256_key(), b"x" * LONGEST_PASSPHRASE)
    assert load_ec_private_key(tmp_path / "ca.key", b"x" * LONGEST_PASSPHRASE)


def test_hierarchy_is_kept_encrypted(tmp_path: Path) -> None:
    hierarchy, store = Hierarchy.create("npd.test"), tmp_path / "pki"
    save_hierarchy(store, hierarchy, PASSPHRASE)
    keys = sorted(store.glob("*/ca.key"))
    assert len(keys) == 4
    assert all(key.read_bytes().startswith(ENCRYPTED_PKCS8) for key in keys)
    assert load_hierarchy(store, PASSPHRASE) == hierarchy
    assert load_authority(store / "agency", PASSPHRASE) == hierarchy.agency
    assert load_root(store / "root", PASSPHRASE) == hierarchy.root
    with pytest.raises(PassphraseMissing):
        load_hierarchy(store)
    with pytest.raises(PassphraseWrong):
        load_authority(store / "agency", b"wrong")


def test_hierarchy_with_an_unusable_passphrase_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PassphraseMalformed):
        save_hierarchy(tmp_path / "pki", Hierarchy.create("npd.test"), b"")
    assert list(tmp_path.iterdir()) == []
