"""The sentences that a refused caller reads, and what each refusal must say of itself for them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.mesh.core.errors import Internal, InvalidField
from services.mesh.core.messages import LANGUAGES, catalogue, sentence
from services.mesh.core.rights import AgreementExpired, SystemSuspended
from services.sharing.contribution.domain import rejected

SERVICES = Path(__file__).parents[2] / "services"


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in SERVICES.rglob("*.py"):
        yield path.name, ast.parse(path.read_text(encoding="utf-8"))


def reasons_by_class() -> dict[str, str]:
    """Name of each error's class -> its reason, as the sources say it; without one that takes over another's."""
    found = {}
    for _, tree in trees():
        for error in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for line in (node for node in error.body if isinstance(node, ast.Assign)):
                if ast.unparse(line.targets[0]) not in ("reason", "(kind, reason)"):
                    continue
                stated = line.value.elts[-1] if isinstance(line.value, ast.Tuple) else line.value
                if isinstance(stated, ast.Constant):
                    found[error.name] = str(stated.value)
    return found


def given_by_itself() -> dict[str, set[str]]:
    """Name of each error's class that has a constructor of its own -> the metadata that it gives there."""
    found: dict[str, set[str]] = {}
    for _, tree in trees():
        for error in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for call in (node for node in ast.walk(error) if isinstance(node, ast.Call)):
                if ast.unparse(call.func) == "super().__init__":
                    found[error.name] = {keyword.arg for keyword in call.keywords if keyword.arg}
    return found


def raised_with() -> Iterator[tuple[str, str, set[str]]]:
    """Each place where the code makes an error: where, the error's reason, and the metadata that it gives."""
    reasons, itself = reasons_by_class(), given_by_itself()
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in reasons:
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                yield f"{name}:{node.lineno}", reasons[node.func.id], given | itself.get(node.func.id, set())


def test_metadata_stands_where_the_sentence_names_it() -> None:
    error = AgreementExpired(agreement="a-1", end_date="2026-12-31")
    assert sentence(error) == "The agreement a-1 ended on 2026-12-31. Agree anew with the operator."
    assert sentence(error, "vi") == "Thỏa thuận a-1 hết hiệu lực ngày 2026-12-31. Hãy ký lại với đơn vị vận hành."


def test_metadata_that_is_absent_reads_as_a_dash() -> None:
    assert sentence(AgreementExpired(agreement="a-1")).startswith("The agreement a-1 ended on -.")


def test_braces_in_metadata_are_only_text() -> None:
    error = SystemSuspended(system="tax/core", cause="{agreement} {0.__class__} {{", suspend_time="now")
    assert "{agreement} {0.__class__} {{" in sentence(error)


def test_the_request_id_of_a_fault_is_said() -> None:
    assert "request id 0f3a " in sentence(Internal(), request_id="0f3a")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_empty_or_unfinished(language: str) -> None:
    for reason, texts in catalogue().items():
        assert texts[language].strip() == texts[language], reason
        assert texts[language].endswith("."), reason


def test_every_refusal_is_made_with_the_metadata_that_its_sentence_names() -> None:
    places = list(raised_with())
    assert {reason for _, reason, _ in places} == set(catalogue())
    for where, reason, given in places:
        named = {name for language in LANGUAGES for name in re.findall(r"{(\w+)}", catalogue()[reason][language])}
        assert named - given <= {"request_id"}, f"{where} leaves out {named - given} of {reason}"


def test_an_items_refusal_names_its_field_and_says_no_value() -> None:
    result = rejected("e-1", InvalidField("person.pin", "must be 12 digits 0-9"))
    assert (result.reason, result.field) == ("FIELD_INVALID", "person.pin")
    assert result.message == "person.pin must be 12 digits 0-9"


def test_an_error_reads_as_its_facts_in_a_log() -> None:
    assert str(AgreementExpired(agreement="a-1", end_date="x")) == "AGREEMENT_EXPIRED (agreement=a-1, end_date=x)"
    assert str(InvalidField("pin", "must be digits")) == "FIELD_INVALID (pin: must be digits)"
