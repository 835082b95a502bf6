"""The README of npd-client: its Python compiles and names only what exists; its commands are ones that exist."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer.main

from npd_client.cli.app import app

README = (Path(__file__).parents[2] / "protos" / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^npd-client (.+)$", README, re.MULTILINE)


@pytest.mark.parametrize("code", PYTHON)
def test_what_an_example_imports_exists(code: str) -> None:
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        for alias in node.names:
            try:
                importlib.import_module(f"{node.module}.{alias.name}")
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(str(node.module)), alias.name), alias.name


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_takes_these_options(line: str) -> None:
    name, *arguments = line.split()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = {option for parameter in commands[name].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} <= known


def test_there_is_something_to_check() -> None:
    assert len(PYTHON) >= 4
    known = {"whoami", "rights", "lookup", "verify", "watch", "usage", "prove", "verify-proof"}
    known |= {"enrol", "status", "renew", "doctor"}
    assert {line.split()[0] for line in COMMANDS} >= known
