"""What a citizen is told about the use of his record. No I/O."""

from dataclasses import dataclass

from services.mesh.core.evidence.entry import Outcome, Receipt
from services.mesh.core.evidence.log import StoredEntry


@dataclass(frozen=True, slots=True)
class Usage:
    """The uses, newest first; nothing but the outcome for NO_MATCH. `next_before` is where the next page begins."""

    outcome: Outcome
    receipt: Receipt
    uses: tuple[StoredEntry, ...] = ()
    next_before: int | None = None
