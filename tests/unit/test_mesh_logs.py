"""Logs never quote what an error quotes."""

import json
import logging
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
import structlog
from sqlalchemy.exc import IntegrityError

from services.mesh.core import logs
from services.mesh.core.logs import describe

PIN = "079303012345"


class Violation(psycopg.errors.UniqueViolation):
    """A fault of the store, with its code."""

    sqlstate = "23505"


def fail(error: BaseException) -> None:
    raise error


def caught(error: Exception, cause: Exception | None = None) -> Exception:
    """The error as it is after having been raised, because of another."""
    try:
        if cause is not None:
            raise caught(cause)
        fail(error)
    except Exception as raised:
        if raised is error:
            return raised
    try:
        raise error from cause
    except Exception as raised:
        return raised


def test_an_error_is_its_type_and_place_never_its_text() -> None:
    [line] = describe(caught(ValueError(f"bad PIN {PIN}")))
    assert line.startswith("ValueError at test_mesh_logs.py:")
    assert PIN not in line


def test_the_chain_begins_with_the_innermost() -> None:
    lines = describe(caught(RuntimeError(PIN), KeyError(PIN)))
    assert [line.partition(" ")[0] for line in lines] == ["KeyError", "RuntimeError"]
    assert PIN not in str(lines)


def test_what_happened_in_the_course_of_another_fault_is_told_too() -> None:
    with pytest.raises(TypeError) as raised:
        try:
            fail(KeyError(PIN))
        except KeyError:
            fail(TypeError(PIN))
    assert [line.partition(" ")[0] for line in describe(raised.value)] == ["KeyError", "TypeError"]


def test_a_fault_of_the_store_tells_its_code_alone() -> None:
    fault = Violation(f"Key (pin)=({PIN}) already exists.")
    wrapped = IntegrityError("INSERT INTO pins VALUES (%(pin)s)", {"pin": PIN}, fault)
    lines = describe(caught(wrapped, fault))
    assert [line.rpartition(" sqlstate ")[2] for line in lines] == ["23505", "23505"]
    assert PIN not in str(lines)
    assert "INSERT" not in str(lines)


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError(PIN)) == ["ValueError at ?"]


def test_a_circle_of_causes_ends() -> None:
    one, other = ValueError(PIN), KeyError(PIN)
    one.__cause__, other.__cause__ = other, one
    assert len(describe(one)) == 5


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[str]]]:
    """The lines that a configured room has written to its standard output."""
    handlers, level = logging.root.handlers[:], logging.root.level
    logs.configure("sharing", "INFO")
    yield lambda: capsys.readouterr().out.splitlines()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_names_the_room_and_is_json(output: Callable[[], list[str]]) -> None:
    structlog.get_logger("x").info("taken", revision=7, name="Hòa")
    [text] = output()
    line = json.loads(text)
    assert (line["event"], line["room"], line["revision"], line["level"]) == ("taken", "sharing", 7, "info")
    assert "Hòa" in text
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("told", ["flag", "instance", "tuple"])
def test_an_exception_in_a_line_is_described(output: Callable[[], list[str]], told: str) -> None:
    try:
        fail(ValueError(f"bad PIN {PIN}"))
    except ValueError as error:
        given = {"flag": True, "instance": error, "tuple": sys.exc_info()}[told]
        structlog.get_logger("x").error("fault", exc_info=given)
    [text] = output()
    assert PIN not in text
    assert json.loads(text)["fault"][0].startswith("ValueError at test_mesh_logs.py:")


def test_libraries_write_the_same_lines_from_warnings_on(output: Callable[[], list[str]]) -> None:
    logging.getLogger("library").info("chatter")
    try:
        fail(ValueError(f"bad PIN {PIN}"))
    except ValueError:
        logging.getLogger("library").exception("gave up")
    [text] = output()
    line = json.loads(text)
    assert (line["event"], line["room"], line["level"]) == ("gave up", "sharing", "error")
    assert line["fault"][0].startswith("ValueError at test_mesh_logs.py:")
    assert PIN not in text
