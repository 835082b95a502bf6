"""What a rule over rendered manifests is: a function that names every fault. Which rules there are, tests say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.k8s.manifests import Manifests


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a careful reviewer would send back: where it is, and what is wrong with it."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


Rule: TypeAlias = Callable[[Manifests], Iterator[Fault]]
