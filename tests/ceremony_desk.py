"""The directory in which a ceremony is held in tests: the shipped files, and the passphrases that they name."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from npd_pki.ceremony.keys import Passphrases
from npd_pki.ceremony.reading import read_document
from npd_pki.ceremony.run import rehearse, run
from npd_pki.errors import PkiError

SHIPPED = Path(__file__).parents[1] / "pki" / "ceremonies"
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


def hold(file: Path, *, passphrases: Passphrases | None = None, consent: bool = True) -> list[str]:
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


def altered(file: Path, *changes: tuple[str, str]) -> Path:
    """The file with each text replaced where it stands first; the text must be there."""
    text = file.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after, 1)
    file.write_text(text, encoding="utf-8")
    return file


def held_at(place: Path) -> Path:
    """A desk after the first four of the shipped ceremonies."""
    desk_at(place)
    for name in ("1-root.toml", "2-issuing.toml", "3-crl.toml", "4-trust-bundle.toml"):
        hold(place / name)
    return place


def contents(place: Path) -> dict[Path, bytes]:
    """Every file below a directory, hidden ones too."""
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def refused(file: Path, error: type[PkiError], words: str | None = None) -> None:
    """The ceremony is refused with this error, and every file is as it was, hidden ones too."""
    before = contents(file.parent)
    with pytest.raises(error, match=re.escape(words) if words else None):
        hold(file)
    assert contents(file.parent) == before
    assert not [path for path in file.parent.iterdir() if path.name.startswith(".")]
