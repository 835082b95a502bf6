"""Asks people: for passphrases, twice where one is new, and for their yes. Without a terminal it refuses to guess."""

import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from npd_pki.errors import PassphraseMalformed, PassphraseMissing, PassphraseWrong
from npd_pki.passphrase import read_passphrase

Opened = TypeVar("Opened")


class Asked:
    """Passphrases from the file that an option names, or from whoever sits at the terminal."""

    def __init__(self, passphrase_file: Path | None) -> None:
        self._passphrase_file = passphrase_file

    def of(self, file: Path) -> bytes:
        """The passphrase of a key that exists. Raises PassphraseMissing without file and terminal."""
        return self._given() or _ask(f"Passphrase of {file}: ")

    def for_new(self, purpose: str) -> bytes:
        """The passphrase of a new key, typed twice. Raises PassphraseMissing, PassphraseWrong if they differ."""
        given = self._given()
        if given is not None:
            return given
        passphrase = _ask(f"Passphrase for {purpose}: ")
        if _ask("The same again: ") != passphrase:
            raise PassphraseWrong("the two passphrases differ: start again")
        return passphrase

    def pin(self, token_label: str) -> bytes:
        """The PIN of a token; never from the option, since a passphrase that is tried as a PIN may lock the token."""
        return _ask(f"PIN of the token {token_label}: ")

    def open(self, load: Callable[[bytes | None], Opened], file: Path) -> Opened:
        """Open what may be encrypted: without a passphrase if it needs none."""
        try:
            return load(None)
        except PassphraseMissing:
            return load(self.of(file))

    def _given(self) -> bytes | None:
        return read_passphrase(self._passphrase_file) if self._passphrase_file is not None else None


def confirmed(question: str) -> bool:
    """Whether whoever sits at the terminal types `yes`. Without a terminal nobody does."""
    if not _has_terminal():
        print("No terminal to confirm at: review the plan, then give --yes.", file=sys.stderr)
        return False
    try:
        return input(question).strip() == "yes"
    except (EOFError, UnicodeError):
        return False


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(prompt: str) -> bytes:
    if not _has_terminal():
        raise PassphraseMissing(f"no terminal to ask at ({prompt.rstrip(': ')}): name a passphrase file of mode 0600")
    try:
        return getpass.getpass(prompt).encode()
    except EOFError:
        raise PassphraseMissing(f"nothing was typed ({prompt.rstrip(': ')}): start again") from None
    except UnicodeError:  # its text shows what was typed
        raise PassphraseMalformed("what was typed is not text in the encoding of this terminal: start again") from None
