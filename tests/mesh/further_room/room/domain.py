"""What a notice is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that is up."""

    number: int
