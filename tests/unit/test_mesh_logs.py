"""Logs never quote what an error quotes."""

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

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
    later = TypeError(PIN)
    later.__context__ = KeyError(PIN)
    assert describe(later) == ["KeyError at ?", "TypeError at ?"]


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


@contextmanager
def room() -> Iterator[io.StringIO]:
    """What a configured room writes to its standard output."""
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        with redirect_stdout(io.StringIO()) as written:
            logs.configure("sharing", "INFO")
            yield written
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        structlog.reset_defaults()


def test_lines_are_json_that_names_the_room_and_an_error_is_written_at_once() -> None:
    with room() as written:
        structlog.get_logger("x").info("taken", revision=7, name="Hòa")
        structlog.get_logger("y").error("fault")
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["taken", "fault"]
    assert (lines[0]["room"], lines[0]["revision"], lines[0]["level"]) == ("sharing", 7, "info")
    assert lines[0]["timestamp"].endswith("Z")
    assert "Hòa" in written.getvalue()


def test_other_lines_are_written_soon() -> None:
    with room() as written:
        structlog.get_logger("x").info("taken")
        pause, give_up = threading.Event(), time.monotonic() + 10
        while not written.getvalue():
            assert time.monotonic() < give_up
            pause.wait(0.01)
    assert json.loads(written.getvalue())["event"] == "taken"


@pytest.mark.parametrize("told", ["flag", "instance", "tuple"])
def test_an_exception_in_a_line_is_described(told: str) -> None:
    with room() as written:
        try:
            fail(ValueError(f"bad PIN {PIN}"))
        except ValueError as error:
            given = {"flag": True, "instance": error, "tuple": sys.exc_info()}[told]
            structlog.get_logger("x").error("fault", exc_info=given)
    assert json.loads(written.getvalue())["fault"][0].startswith("ValueError at test_mesh_logs.py:")
    assert PIN not in written.getvalue()


def test_libraries_write_the_same_lines_from_warnings_on() -> None:
    with room() as written:
        logging.getLogger("library").info("chatter")
        try:
            fail(ValueError(f"bad PIN {PIN}"))
        except ValueError:
            logging.getLogger("library").exception("gave up")
    line = json.loads(written.getvalue())
    assert (line["event"], line["room"], line["level"]) == ("gave up", "sharing", "error")
    assert line["fault"][0].startswith("ValueError at test_mesh_logs.py:")
    assert PIN not in written.getvalue()
