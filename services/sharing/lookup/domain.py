"""What a lookup asks and what it is answered. No I/O."""

from dataclasses import dataclass
from datetime import datetime

from services.mesh.core.caller import Caller
from services.mesh.core.evidence.entry import Outcome, Receipt
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access
from services.sharing.record.fields import Person


@dataclass(frozen=True, slots=True)
class Lookup:
    """A question about one citizen. `paths` are those of Person that are to be released."""

    caller: Caller
    method: str
    access: Access
    identity: StatedIdentity
    paths: tuple[str, ...]
    include_provenance: bool


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the current value of a path or item comes from."""

    path: str
    item_key: str
    source: str
    event_time: datetime
    record_time: datetime


@dataclass(frozen=True, slots=True)
class Disclosure:
    """The answer: nothing but the outcome for NO_MATCH. Its entry is committed."""

    outcome: Outcome
    receipt: Receipt
    citizen: Person | None = None
    disputed_paths: tuple[str, ...] = ()
    provenance: tuple[Provenance, ...] = ()
