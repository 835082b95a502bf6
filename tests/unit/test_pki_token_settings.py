"""The file that says in which token the key of a CA is."""

from pathlib import Path

import pytest

from npd_pki.errors import TokenSettingsMalformed
from npd_pki.pkcs11 import TokenKey
from npd_pki.token_settings import TokenSettings, load_token_settings


def test_relative_paths_count_from_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "pkcs11.toml").write_text(
        'module = "/m.so"\ntoken_label = "t"\nkey_label = "k"\npin_file = "token.pin"\n'
    )
    settings = load_token_settings(tmp_path / "pkcs11.toml")
    assert settings == TokenSettings(TokenKey(Path("/m.so"), "t", "k"), tmp_path / "token.pin")


def test_settings_survive_their_file(tmp_path: Path) -> None:
    where = TokenKey(Path("/usr/lib/module.so"), "phòng máy", 'nhãn "1"\\')
    settings = TokenSettings(where, tmp_path / "pin")
    (tmp_path / "pkcs11.toml").write_bytes(settings.toml())
    assert load_token_settings(tmp_path / "pkcs11.toml") == settings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('module = "m"\ntoken_label = "t"\n', "key_label"),
        ('module = "m"\ntoken_label = "t"\nkey_label = 7\n', "key_label"),
        ('module = "m"\ntoken_label = "t"\nkey_label = ""\n', "key_label"),
        ('module = "m"\ntoken_label = "t"\nkey_label = "k"\npin_file = 1\n', "pin_file"),
        ('module = "m"\ntoken_label = "t"\nkey_label = "k"\npin = "1234"\n', "pin"),
        ("module = \n", "not TOML"),
        ("module = " + "9" * 5000, "not TOML"),
        ("module = " + "[" * 100_000, "not TOML"),
    ],
    ids=["incomplete", "number", "empty", "pin-number", "pin", "cut-off", "long-number", "deep"],
)
def test_settings_are_read_strictly(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pkcs11.toml").write_text(content)
    with pytest.raises(TokenSettingsMalformed, match=said):
        load_token_settings(tmp_path / "pkcs11.toml")
