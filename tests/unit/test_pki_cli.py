"""The command `npd-pki`: help that teaches, refusals in a sentence without trace, passphrases, keys, ceremonies."""

import argparse
import getpass
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from npd_pki import cli
from npd_pki.description import line
from npd_pki.keys import load_ec_private_key
from tests.ceremony_desk import ISSUING_PASSPHRASE, desk_at, held_at
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


class Answers:
    """Somebody at a terminal, with what he types."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
        self.typed = list(typed)
        self.asked: list[str] = []
        monkeypatch.setattr(getpass, "getpass", self._answer)
        monkeypatch.setattr("builtins.input", self._answer)
        monkeypatch.setattr(sys, "stdin", _Terminal())

    def _answer(self, prompt: str) -> str:
        self.asked.append(prompt)
        if not self.typed:
            raise EOFError
        return self.typed.pop(0)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command that does something, by its words."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, words: str) -> None:
        subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for action in subs:
            for name, child in action.choices.items():
                walk(child, f"{words} {name}".strip())
        if not subs:
            found[words] = parser

    walk(cli._parser(), "")
    return found


def test_the_commands_are_those_of_an_administrator_offline() -> None:
    assert set(commands()) == {"ceremony run", "key new", "key id", "request", "issue", "issued", "show", "verify"}


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_command_teaches_by_an_example(words: str) -> None:
    shown = commands()[words].format_help()
    assert "Examples:" in shown
    assert f"  npd-pki {words} " in shown


def test_the_exit_codes_are_explained() -> None:
    assert "Exit codes: 0 done; 1 refused" in cli._parser().format_help()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["ceremony"],
        ["ceremony", "run"],
        ["key", "new", "a.key", "--curve", "p521"],
        ["issue", "--ca", "x"],
        ["issue", "--ca", "x", "--request", "r", "--profile", "server", "--uri", "u", "--out", "o"],
        ["issue", "--ca", "x", "--request", "r", "--profile", "signing", "--uri", "u", "--out", "o", "--days", "0"],
        ["issue", "--ca", "x", "--request", "r", "--profile", "signing", "--uri", "u", "--out", "o", "--days", "-1"],
        ["verify", "x", "--purpose", "anything"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(words)
    assert leaving.value.code == 2
    assert capsys.readouterr().err


def test_a_ceremony_asks_for_passphrases_and_for_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = desk_at(tmp_path) / "1-root.toml"
    file.write_text(file.read_text().replace(', passphrase_file = "root.passphrase" }\nlife', " }\nlife"))
    at_desk = Answers(monkeypatch, "twelve letters", "twelve letters", "yes")
    shown = done(capsys, "ceremony", "run", str(file))
    assert at_desk.asked == ["Passphrase for the new root key: ", "The same again: ", "Type yes to sign all of this: "]
    assert "twelve letters" not in shown
    assert load_ec_private_key(tmp_path / "root/ca.key", b"twelve letters")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["twelve letters", "other letters"], "the two passphrases differ"),
        (["short", "short"], "12 characters"),
        (["", ""], "12 characters"),
        (["twelve letters", "twelve letters", "no"], "not confirmed"),
        (["twelve letters", "twelve letters", "y"], "not confirmed"),
        (["twelve letters", "twelve letters"], "not confirmed"),
        (["twelve letters"], "nothing was typed"),
        (["twelve \udce1etters"], "not text in the encoding"),
    ],
)
def test_a_ceremony_that_is_not_wanted_leaves_nothing(
    typed: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = desk_at(tmp_path) / "1-root.toml"
    file.write_text(file.read_text().replace(', passphrase_file = "root.passphrase" }\nlife', " }\nlife"))
    Answers(monkeypatch, *typed)
    assert words in refusal(capsys, "ceremony", "run", str(file))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_without_a_terminal_nothing_is_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = desk_at(tmp_path) / "1-root.toml"
    assert cli.main(["ceremony", "run", str(file)]) == 1
    assert "give --yes" in capsys.readouterr().err
    file.write_text(file.read_text().replace(', passphrase_file = "root.passphrase" }\nlife', " }\nlife"))
    assert "name a passphrase file" in refusal(capsys, "ceremony", "run", str(file), "--yes")
    assert not (tmp_path / "root").exists()
    done(capsys, "ceremony", "run", str(file), "--yes", "--passphrase-file", str(tmp_path / "issuing.passphrase"))
    assert load_ec_private_key(tmp_path / "root/ca.key", ISSUING_PASSPHRASE)


def test_a_closed_standard_input_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["ceremony", "run", str(desk_at(tmp_path) / "1-root.toml")]) == 1
    assert "give --yes" in capsys.readouterr().err


def test_a_dry_run_says_that_it_was_one(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is never overwritten" in refusal(capsys, "ceremony", "run", "1-root.toml", "--dry-run")
    (held / "root").rename(held / "kept")
    shown = done(capsys, "ceremony", "run", "1-root.toml", "--dry-run")
    assert "Would sign: root" in shown
    assert shown.endswith("Dry run: no key was opened, nothing was signed, nothing written.\n")
    assert not (held / "root").exists()


def test_a_key_is_made_encrypted_unless_told_otherwise(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "12 characters" in refusal(capsys, "key", "new", "a.key", "--passphrase-file", str(secret(held, "short")))
    assert not (held / "a.key").exists()
    done(capsys, "key", "new", "a.key", "--curve", "p384", "--passphrase-file", "root.passphrase")
    assert stat.S_IMODE((held / "a.key").stat().st_mode) == 0o600
    assert (held / "a.key").read_bytes().startswith(b"-----BEGIN ENCRYPTED")
    assert "name a passphrase file" in refusal(capsys, "key", "id", "a.key")
    told = done(capsys, "key", "id", "a.key", "--passphrase-file", "root.passphrase")
    assert "EC secp384r1" in told
    before = (held / "a.key").read_bytes()
    assert "never overwritten" in refusal(capsys, "key", "new", "a.key", "--unencrypted")
    assert (held / "a.key").read_bytes() == before


def secret(place: Path, content: str) -> Path:
    path = place / f"{len(content)}.secret"
    path.touch(mode=0o600)
    path.write_text(content)
    return path


def test_a_key_its_request_and_its_certificate_have_one_id(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = requested(capsys, "tax", "--uri", SYSTEM)
    done(capsys, *issue_words(request, "tax", "--uri", SYSTEM))
    ids = {done(capsys, "key", "id", path) for path in ("tax/tls.key", "tax/tls.csr", "tax/tls.crt")}
    assert len(ids) == 1


def test_what_a_file_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in line("subject", "CN=\x1b[2J\nroot")
    assert "\x1b" not in refusal(capsys, "show", "\x1b[2J")


def test_a_signal_stops_a_ceremony_and_leaves_nothing(tmp_path: Path) -> None:
    desk_at(tmp_path)
    waiting = (
        "import npd_pki.ceremony.run as run, signal, sys\n"
        "from npd_pki.cli import main\n"
        "def wait(*words):\n"
        "    print('writing', flush=True)\n"
        "    signal.pause()\n"
        "run._write = wait\n"
        "sys.exit(main(['ceremony', 'run', '1-root.toml', '--yes']))\n"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", waiting]
    with subprocess.Popen(
        command, cwd=tmp_path, env=path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        deadline = time.monotonic() + 30
        while "writing" not in running.stdout.readline():
            assert time.monotonic() < deadline
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "stopped before the end" in said
    assert "Traceback" not in said
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
