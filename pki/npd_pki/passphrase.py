"""Passphrases of private keys, and PINs of tokens, from a file for its owner alone. Never asks a person."""

from pathlib import Path

from npd_pki.errors import PassphraseMalformed
from npd_pki.files import read_private

LONGEST_PASSPHRASE = 1023  # bytes; what OpenSSL's PKCS#8 encryption takes


def read_passphrase(path: Path) -> bytes:
    """Read the one line of a file of mode 0600; the line break at its end does not belong to the passphrase.

    Raises PrivateKeyExposed if others may touch it (`npd_pki.files.read_private`), PassphraseMalformed, OSError.
    """
    content = read_private(path)
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return require_passphrase(line)
    except PassphraseMalformed as error:
        raise PassphraseMalformed(f"{path}: {error}") from None


def require_passphrase(passphrase: bytes) -> bytes:
    """Return the passphrase if a key can be encrypted with it: 1 to 1023 bytes in one line.

    Raises PassphraseMalformed.
    """
    if not 1 <= len(passphrase) <= LONGEST_PASSPHRASE:
        raise PassphraseMalformed(f"a passphrase has 1 to {LONGEST_PASSPHRASE} bytes, this one {len(passphrase)}")
    if any(byte in passphrase for byte in b"\r\n\0"):
        raise PassphraseMalformed("a passphrase is one line of text; this one holds a line break or a zero byte")
    return passphrase
