"""Rooms have one shape: who knows one knows all."""

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
ROOMS = sorted(path.parent for path in SERVICES.glob("*/app.py"))
SERVICERS = [
    path
    for pattern in ("*/servicer.py", "*/*/servicer.py", "*/servicer/[a-z]*.py")
    for path in sorted(SERVICES.glob(pattern))
]
TABLES = [path for room in ROOMS for path in sorted(room.glob("policy.py")) + sorted(room.glob("*/policy.py"))]
ISSUES = {"services.issuer"}
"""Rooms that may use the library that issues."""
RPC_LINES = 8


def rpcs(path: Path) -> Iterator[ast.FunctionDef]:
    """The RPC methods of a servicer: those with a request and a context."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and [one.arg for one in node.args.args] == ["self", "request", "context"]:
            yield node


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_a_room_has_a_composition_root_a_table_of_methods_and_migrations(room: Path) -> None:
    assert (room / "policy.py").exists()
    assert list((room / "migrations" / "versions").glob("0*.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_a_room_is_in_the_rules_about_imports(room: Path) -> None:
    """Those that wildcards cannot state: the programs beside the rooms may do what rooms may not."""
    rules = configparser.ConfigParser()
    rules.read(SERVICES.parent / ".importlinter")
    for rule, listed in (("rooms", "modules"), ("mesh", "forbidden_modules"), ("pki-users", "source_modules")):
        named = set(rules[f"importlinter:contract:{rule}"][listed].split())
        if rule == "pki-users":
            assert not named & ISSUES
            named |= ISSUES
        assert f"services.{room.name}" in named, rule


@pytest.mark.parametrize("servicer", SERVICERS, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_servicer_converts_and_calls_and_does_nothing_else(servicer: Path) -> None:
    found = list(rpcs(servicer))
    assert found
    for rpc in found:
        body = rpc.body[1:] if isinstance(rpc.body[0], ast.Expr) else rpc.body
        lines = body[-1].end_lineno - body[0].lineno + 1  # type: ignore[operator]
        assert lines <= RPC_LINES, f"{rpc.name} has {lines} lines"
        assert not any(isinstance(node, ast.Try) for node in ast.walk(rpc)), f"{rpc.name} tries"


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.parent.name)
def test_a_method_table_is_data_only(table: Path) -> None:
    nodes = ast.walk(ast.parse(table.read_text(encoding="utf-8")))
    assert not any(isinstance(node, ast.FunctionDef | ast.If | ast.For) for node in nodes)


def test_every_rpc_is_named_by_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    missing = [
        rpc.name
        for path in SERVICERS
        for rpc in rpcs(path)
        if f"{rpc.name}(" not in tests and f".{rpc.name}" not in tests
    ]
    assert missing == []
