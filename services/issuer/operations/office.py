"""What all operations of this room work with, and what they have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from services.issuer.domain import Authority, CertificateAct, Revocation
from services.issuer.keyring import Keyring
from services.issuer.repository import Ledger
from services.mesh.core.caller import Caller, CallerKind, SpiffeId
from services.mesh.core.clock import Clock
from services.mesh.core.db import Database
from services.mesh.core.outbox import Message
from services.mesh.core.rate import RateExceeded
from services.mesh.core.rights import Policy

PACE_WINDOW = timedelta(hours=1)
"""Within which an agency's certificates are counted."""
_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Terms:
    """How this room deals: `agency_limit` certificates an hour for an agency or operator, `application_life` for a
    decision, `urgent_within` for those who are told to renew now, `list_life` until a revocation list's next, and
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
    hands to the registry. `require_room` raises Overloaded while too much of that waits; no revocation asks it.
    """

    database: Database[Ledger]
    policy: Callable[[], Policy]
    clock: Clock
    keyring: Keyring
    environment: str
    itself: Caller
    terms: Terms
    message: Callable[[CertificateAct], Message]
    require_room: Callable[[], None] = lambda: None

    def agency_path(self, agency_id: str) -> str:
        """How the identities of all systems of an agency begin."""
        return f"spiffe://{CallerKind.AGENCY.value}.{self.environment}/{agency_id}/"

    def require_standing(self, identity: SpiffeId) -> None:
        """Raises SystemUnknown, SystemSuspended or OperatorUnknown unless the registry lets this identity call now."""
        policy = self.policy()
        if identity.kind is CallerKind.AGENCY:
            policy.require_system_active(*identity.path)
        else:
            policy.require_operator(identity.path[0])

    def require_pace(self, count: int) -> None:
        """Raises RateExceeded if one agency, or operator, had so many certificates or applications within an hour."""
        if count >= self.terms.agency_limit:
            raise RateExceeded(self.terms.agency_limit, _PAUSE)

    def tell(
        self,
        tx: Ledger,
        method: str,
        actor: str,
        about: str,
        now: datetime,
        *,
        revoked: tuple[Revocation, ...] = (),
        authority: Authority | None = None,
    ) -> None:
        """Put an act into the outbox: for the authority log, and into the policy what it changes there.

        `about` begins with what it is about, "certificate 4c02 of issuer 3fa1", and may go on in brackets: acts of one
        thing leave in their order.
        """
        act = CertificateAct(uuid4(), method, actor, about, now, revoked, authority)
        tx.outbox.put(self.message(act))
