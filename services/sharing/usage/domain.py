"""What a citizen is told about the use of his record, and what source rooms tell of it. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.mesh.core.caller import Caller
from services.mesh.core.evidence.entry import Outcome, Receipt
from services.mesh.core.evidence.log import StoredEntry
from services.mesh.core.rights import Ground

USES_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Usage:
    """The uses, newest first; nothing but the outcome for NO_MATCH. `next_before` is where the next page begins."""

    outcome: Outcome
    receipt: Receipt
    uses: tuple[StoredEntry, ...] = ()
    next_before: int | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """What an officer read in a source room; `reader` is the system that he used."""

    use_id: UUID
    subject_id: UUID
    reader: Caller
    method: str
    ground: Ground
    outcome: Outcome
    paths: tuple[str, ...]
    use_time: datetime
