"""What all operations of this room work with, and what they have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from services.issuer.domain import Authority, Certificate, CertificateAct
from services.issuer.keyring import Keyring
from services.issuer.repository import Ledger
from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.db import Database
from services.mesh.core.outbox import Message
from services.mesh.core.rights import Policy


@dataclass(frozen=True, slots=True)
class Terms:
    """How this room deals: `agency_limit` certificates an hour for an agency, `application_life` for a decision,
    `urgent_within` for those who are told to renew now, `list_life` until a revocation list's next, and
    `list_every` between two.
    """

    agency_limit: int
    application_life: timedelta
    urgent_within: timedelta
    list_life: timedelta
    list_every: timedelta


@dataclass(frozen=True, slots=True)
class Office:
    """The room's store, rights, clock, keys and terms. `itself` is this room; `message` makes of an act what the outbox
    hands to the registry.
    """

    database: Database[Ledger]
    policy: Callable[[], Policy]
    clock: Clock
    keyring: Keyring
    environment: str
    itself: Caller
    terms: Terms
    message: Callable[[CertificateAct], Message]

    def tell(
        self,
        tx: Ledger,
        method: str,
        actor: str,
        about: str,
        now: datetime,
        *,
        revoked: tuple[Certificate, ...] = (),
        authority: Authority | None = None,
    ) -> None:
        """Put an act into the outbox: for the authority log, and into the policy what it changes there."""
        act = CertificateAct(uuid4(), method, actor, about, now, revoked, authority)
        tx.outbox.put(self.message(act))
