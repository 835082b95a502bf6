"""Who may come to the door: systems with a token, and holders of expired certificates."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from services.issuer.domain.certificates import CertificateName, Profile
from services.mesh.core.errors import InvalidField

LONGEST_ENROLMENT = timedelta(days=30)
DEFAULT_ENROLMENT = timedelta(hours=72)


class EnrolmentState(Enum):
    """State of an enrolment, with the numbers of npd.issuer.v1.EnrolmentState."""

    OPEN = 1
    USED = 2
    EXPIRED = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A system that may come to the door with a token, of which only the digest (SHA-256) is known here."""

    enrolment_id: UUID
    token_digest: bytes
    identity: str
    profile: Profile
    creator: str
    create_time: datetime
    expire_time: datetime
    application_id: UUID | None = None
    is_cancelled: bool = False

    def state_at(self, now: datetime) -> EnrolmentState:
        """Its state."""
        if self.application_id is not None:
            return EnrolmentState.USED
        if self.is_cancelled:
            return EnrolmentState.CANCELLED
        return EnrolmentState.EXPIRED if now >= self.expire_time else EnrolmentState.OPEN


@dataclass(frozen=True, slots=True)
class ExpiredRenewal:
    """An expired certificate that may be renewed at the door, once, until `expire_time`.

    `application_id` is set once it was.
    """

    name: CertificateName
    enabler: str
    expire_time: datetime
    application_id: UUID | None = None


def require_term(expire_time: datetime | None, now: datetime, field: str) -> datetime:
    """Until when an enrolment or an enabled renewal holds: as asked, or by default. Raises InvalidField."""
    if expire_time is None:
        return now + DEFAULT_ENROLMENT
    if not now < expire_time <= now + LONGEST_ENROLMENT:
        raise InvalidField(field, f"must lie in the future, at most {LONGEST_ENROLMENT.days} days from now")
    return expire_time
