"""The command `npd` explains itself: help with examples, usage errors in a sentence, and a small `serve`."""

import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from services.cli.commands import app


def commands() -> list[tuple[str, ...]]:
    """The words of every command that does something."""
    found: list[tuple[str, ...]] = []

    def walk(command: Any, words: tuple[str, ...]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))
        if not hasattr(command, "commands"):
            found.append(words)

    walk(get_command(app), ())
    return found


def test_the_commands_are_those_that_the_platform_team_and_operators_need() -> None:
    assert {" ".join(words) for words in commands()} == {
        "up",
        "demo",
        "serve",
        "migrate",
        "check",
        "restored",
        "redeliver",
        "doctor",
        "connections",
        "system suspend",
        "system resume",
        "cert list",
        "cert show",
        "cert apply",
        "cert applications",
        "cert application",
        "cert revoke",
        "cert revoke-all",
        "cert enable-expired",
        "cert issue",
        "cert report expiring",
        "enrolment create",
        "enrolment list",
        "enrolment cancel",
        "authority list",
        "authority prepare",
        "authority activate",
        "authority taint",
        "authority retire",
        "authority revoke",
        "chain show",
        "set-aside list",
        "set-aside retry",
        "approval list",
        "approval show",
        "approval approve",
        "approval deny",
    }


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert f"npd {' '.join(words)}" in shown.output


def test_the_exit_codes_are_explained() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert "Exit codes: 0 done; 1 refused" in shown.output


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["system", "suspend", "tax/core"],
        ["system", "suspend", "tax", "--cause", "why"],
        ["system", "resume", "Tax/Core"],
        ["cert", "revoke", "--reason", "boredom"],
        ["cert", "revoke", "--reason", "superseded"],
        ["cert", "revoke", "--reason", "superseded", "--serial", "1a", "--at-registry"],
        ["cert", "revoke", "no/such/file", "--reason", "superseded"],
        ["cert", "revoke", "README.md", "--reason", "superseded"],
        ["cert", "list", "--system", "core"],
        ["cert", "list", "--expires-within", "soon"],
        ["cert", "list", "--status", "lost"],
        ["cert", "list", "--json", "--csv"],
        ["cert", "report", "expiring", "--within", "0d"],
        ["cert", "apply", "core.csr"],
        ["cert", "application", "nonsense"],
        ["cert", "revoke-all", "--reason", "superseded"],
        ["cert", "revoke-all", "--agency", "tax"],
        ["cert", "revoke-all", "--agency", "tax", "--orphaned-intents", "--reason", "superseded"],
        ["enrolment", "create", "tax"],
        ["enrolment", "create", "tax/core", "--valid", "never"],
        ["enrolment", "create", "tax/core", "--profile", "room_tls"],
        ["enrolment", "cancel", "nonsense"],
        ["authority", "activate", "3fa1c0de", "--wait", "long"],
        ["authority", "revoke", "3fa1c0de"],
        ["authority", "revoke", "3fa1c0de", "--reason", "superseded", "--request-id", "nonsense"],
        ["cert", "revoke", "tls.crt", "--reason", "superseded", "--serial", "1a"],
        ["chain", "show", "nonsense"],
        ["set-aside", "retry"],
        ["set-aside", "retry", "residence"],
        ["set-aside", "retry", "residence", "nonsense"],
        ["set-aside", "retry", "residence", "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21", "--all"],
        ["approval", "list", "--state", "boredom"],
        ["approval", "show", "issuer", "nonsense"],
        ["approval", "approve", "issuer"],
        ["approval", "deny", "issuer", "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"],
        ["serve", "nonsense"],
        ["check", "nonsense"],
        ["migrate", "nonsense"],
        ["migrate", "sharing", "--operator", "lan"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_does_nothing(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


def test_serving_says_what_is_missing_without_a_traceback() -> None:
    command = [sys.executable, "-m", "services", "serve", "sharing"]
    served = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={})
    assert served.returncode == 2
    assert "NPD_DATABASE_URL_FILE" in served.stderr
    assert "Traceback" not in served.stderr


def test_serving_loads_neither_the_command_line_nor_alembic() -> None:
    program = (
        "import sys; sys.argv = ['npd', 'serve', 'sharing']\n"
        "from services.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'typer', 'alembic', 'services.local', 'services.cli.commands'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env={}
    )
    assert done.stdout.strip() == "[]"
