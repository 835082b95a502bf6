"""Tells a story in steps that check themselves: headings, facts and tables for the reader, a count at the end."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from npd_client.errors import Refusal, refusal_of

T = TypeVar("T")

_NARROW = 120


class Unexpected(Exception):
    """Something else happened than the story tells; says what was expected, and what came instead."""


class Story:
    """Runs steps one by one. One that fails says so, and the story goes on, as far as it can."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.monotonic()
        self._steps = self._ok = 0
        self.console = Console(
            markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _NARROW
        )

    @property
    def has_failed(self) -> bool:
        """Whether any step so far failed."""
        return self._ok < self._steps

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: it is ok unless its block raises."""
        self._steps += 1
        self.console.print()
        self.console.print(f"{self._steps:2} {title}", style="bold")
        began = time.monotonic()
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except Unexpected as error:
            self._fail(str(error))
        except grpc.RpcError as error:
            self._fail(f"expected an answer, was refused: {refusal_of(error)}")
        except Refusal as refusal:
            self._fail(f"expected an answer, was refused: {refusal}")
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.console.print(f"     at {where.name}, line {where.lineno}")
        else:
            self._ok += 1
            self.console.print(f"   ok, {time.monotonic() - began:.1f} s", style="green")

    def end(self) -> None:
        """The last line."""
        self.console.print()
        self.console.print(f"{time.monotonic() - self._began:.1f} s in all")
        self.console.print(f"{self._name}: {self._steps} steps, {self._ok} ok", soft_wrap=True)

    def say(self, text: str) -> None:
        """A fact."""
        self.console.print(f"   {text}", soft_wrap=True)

    def show(self, table: Table) -> None:
        """A table."""
        self.console.print(table)

    @contextmanager
    def busy(self, what: str) -> Iterator[Callable[[str], None]]:
        """A line that says what is being done; on a terminal it moves, elsewhere each text is a line of its own."""
        if not self.console.is_terminal:
            yield lambda text: self.say(f"{text} ...")
            return
        with self.console.status(f"   {what}") as status:
            yield lambda text: status.update(f"   {text}")

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that grows to `total`."""
        columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)

    def _fail(self, what: str) -> None:
        self.console.print(f"   FAILED: {what}", style="bold red", soft_wrap=True)


def table(*columns: str, rows: Sequence[Sequence[str]]) -> Table:
    """A plain table."""
    made = Table(*columns)
    for row in rows:
        made.add_row(*row)
    return made


def expect(what: str, found: Any, expected: Any) -> None:
    """Raise Unexpected unless the two are equal."""
    if found != expected:
        raise Unexpected(f"{what}: expected {expected}, found {found}")


def expect_refusal(reason: str, call: Callable[[], object], *, metadata: Mapping[str, str] | None = None) -> Refusal:
    """Make a call that must be refused for this reason, with at least this metadata; return the refusal."""
    try:
        call()
    except Refusal as refusal:
        expect("the reason of the refusal", refusal.reason, reason)
        for key, value in (metadata or {}).items():
            expect(f"{key} in the refusal", refusal.metadata.get(key), value)
        return refusal
    raise Unexpected(f"expected a refusal with {reason}, got an answer")


def until(what: str, attempt: Callable[[], T | None], *, seconds: float) -> T:
    """Try until something comes, at most so many seconds. Raises Unexpected."""
    deadline = time.monotonic() + seconds
    while True:
        found = attempt()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise Unexpected(f"expected {what} within {seconds:g} s, it did not come")
        time.sleep(0.02)
