"""What this room did, as the registry records it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.issuer.domain.authorities import Authority
from services.issuer.domain.certificates import Revocation


@dataclass(frozen=True, slots=True)
class CertificateAct:
    """What this room did, as the registry's authority log shall hold it, with what it changes in the policy.

    `object` says in words what it was done to; `subject` is the part of it that names the thing.
    """

    act_id: UUID
    method: str
    actor: str
    object: str
    act_time: datetime
    revoked: tuple[Revocation, ...] = ()
    authority: Authority | None = None

    @property
    def subject(self) -> str:
        """What the acts of one thing have in common."""
        return self.object.partition(" (")[0]
