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
    """Who may call a method; with `any_state` also a system that is suspended or not registered, and by old rights.

    With 2 `approvals` the caller is refused until another operator has approved that very request. Only a method of
    operators on the list can have them: raises ValueError otherwise.
    """

    who: tuple[Who, ...]
    any_state: bool = False
    approvals: int = 1

    def __post_init__(self) -> None:
        if self.approvals not in (1, 2):
            raise ValueError("a method needs 1 or 2 persons")
        if self.approvals == 2 and (self.any_state or any(who.kind is not CallerKind.OPERATOR for who in self.who)):
            raise ValueError("only a method of operators on the list can need 2 persons")

    def admits(self, caller: Caller) -> bool:
        """Whether the table lets this caller call."""
        return any(who.kind is caller.kind and (not who.names or caller.name in who.names) for who in self.who)

    def __str__(self) -> str:
        standing = " in any state" if self.any_state else ""
        return " | ".join(map(str, self.who)) + standing + (" with 2 approvals" if self.approvals == 2 else "")


Methods: TypeAlias = Mapping[str, Rule]


def allow(*who: Who, any_state: bool = False, approvals: int = 1) -> Rule:
    """A rule; without any `who` nobody may call. `approvals`: how many persons it takes, the caller among them."""
    return Rule(who, any_state, approvals)


def room(*names: str) -> Who:
    """These rooms; without a name any room."""
    return Who(CallerKind.ROOM, frozenset(names))


def agency() -> Who:
    """Any agency's system."""
    return Who(CallerKind.AGENCY)


def operator() -> Who:
    """Any operator on the registry's list."""
    return Who(CallerKind.OPERATOR)
