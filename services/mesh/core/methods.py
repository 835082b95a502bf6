"""The vocabulary of method tables: full method name -> who may call. A room's policy.py is written in it; data only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.mesh.core.caller import Caller, CallerKind


@dataclass(frozen=True, slots=True)
class Who:
    """Callers of a kind; `names` empty means all of that kind."""

    kind: CallerKind
    names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind.name.lower()}({', '.join(sorted(self.names))})"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method; with `any_state` also a system that is suspended or not registered, and by old rights."""

    who: tuple[Who, ...]
    any_state: bool = False

    def admits(self, caller: Caller) -> bool:
        """Whether the table lets this caller call."""
        return any(who.kind is caller.kind and (not who.names or caller.name in who.names) for who in self.who)

    def __str__(self) -> str:
        return " | ".join(map(str, self.who)) + (" in any state" if self.any_state else "")


Methods: TypeAlias = Mapping[str, Rule]


def allow(*who: Who, any_state: bool = False) -> Rule:
    """A rule; without any `who` nobody may call."""
    return Rule(who, any_state)


def room(*names: str) -> Who:
    """These rooms; without a name any room."""
    return Who(CallerKind.ROOM, frozenset(names))


def agency() -> Who:
    """Any agency's system."""
    return Who(CallerKind.AGENCY)


def operator() -> Who:
    """Any operator on the registry's list."""
    return Who(CallerKind.OPERATOR)
