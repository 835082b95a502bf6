"""The errors of the code are those of the contract: every reason documented, said in two languages, with one code."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import services
from npd.common.v1 import error_reason_pb2
from services.mesh.core.errors import MeshError
from services.mesh.core.messages import LANGUAGES, catalogue

CONTRACT = Path(__file__).parents[2] / "protos/npd/common/v1/error_reason.proto"
PREFIX = "ERROR_REASON_"
REASONS = [
    name.removeprefix(PREFIX)
    for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    if not name.endswith("UNSPECIFIED")
]


def documented_codes() -> dict[str, str]:
    """Reason -> the gRPC code that its comment names; "" for results of items."""
    blocks = re.findall(r"((?:  //[^\n]*\n)+)  (ERROR_REASON_\w+) = \d+;", CONTRACT.read_text(encoding="utf-8"))
    found = {}
    for comment, name in blocks:
        code = re.search(r"\[([A-Z_]+)\]", comment)
        found[name.removeprefix(PREFIX)] = code.group(1) if code else ""
    return found


def all_errors() -> Iterator[type[MeshError]]:
    """Every error that any room can raise."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if "migrations" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
    pending = [MeshError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        if hasattr(error, "reason"):
            yield error


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_said_in_every_language(reason: str) -> None:
    assert set(catalogue()[reason]) == set(LANGUAGES)


def test_no_sentence_is_said_for_a_reason_that_does_not_exist() -> None:
    assert set(catalogue()) == set(REASONS)


def test_every_error_has_the_code_that_the_contract_documents() -> None:
    codes = documented_codes()
    differing = [
        f"{error.__name__}: {error.kind.value}, documented {codes.get(error.reason)}"
        for error in all_errors()
        if codes.get(error.reason) not in ("", error.kind.value)
    ]
    assert differing == []


def test_every_reason_of_the_contract_is_raised_somewhere() -> None:
    assert {error.reason for error in all_errors()} == set(REASONS)


def test_sentences_name_only_documented_metadata() -> None:
    text = CONTRACT.read_text(encoding="utf-8")
    for reason in REASONS:
        comment = re.search(rf"((?:  //[^\n]*\n)+)  {PREFIX}{reason} = ", text)
        assert comment is not None
        for language in LANGUAGES:
            for name in re.findall(r"{(\w+)}", catalogue()[reason][language]):
                assert re.search(rf"\b{name}\b", comment.group(1)), f"{reason}.{language} names {name}"
