"""The tables the synthetic population is drawn from (README.md names their sources), and how to read them."""

import csv
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import TypeVar

T = TypeVar("T")


def rows(table: str) -> Iterator[dict[str, str]]:
    """The rows of one of our CSV files, by column."""
    with (resources.files(__name__) / table).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def by_weight(weighted: Iterable[tuple[T, int]]) -> tuple[T, ...]:
    """Repeat each item as often as it weighs, so that drawing one of the result costs the same for any weights."""
    return tuple(item for item, weight in weighted for _ in range(weight))
