"""Certificates from the intent to issue them on: their states, when to renew them, how they are found and revoked."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from services.mesh.core.authorities import RevocationReason
from services.mesh.core.errors import InvalidField


class Profile(Enum):
    """What a certificate is for, with the numbers of npd.issuer.v1.CertificateProfile."""

    CLIENT_TLS = 1
    SIGNING = 2


class CertificateState(Enum):
    """State of a certificate, with the numbers of npd.issuer.v1.CertificateState."""

    INTENT = 1
    ISSUED = 2
    EXPIRED = 3
    REVOKED = 4


HOLDERS_REASONS = (
    RevocationReason.KEY_COMPROMISE,
    RevocationReason.SUPERSEDED,
    RevocationReason.CESSATION_OF_OPERATION,
)
"""For which a holder may revoke his own; the others are judgements of an operator."""


@dataclass(frozen=True, slots=True)
class CertificateName:
    """What names a certificate: the key id of its issuer and its serial number, both lower-case hex."""

    issuer_key_id: str
    serial_number: str

    def __str__(self) -> str:
        return f"certificate {self.serial_number} of issuer {self.issuer_key_id}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, from the intent to issue it on. `der` is empty until its issue is known.

    `agency_id` and `system_id` are those of `identity`, empty for an operator; `key_id` is the holder's.
    """

    name: CertificateName
    identity: str
    agency_id: str
    system_id: str
    profile: Profile
    key_id: str
    start_time: datetime
    expire_time: datetime
    intent_time: datetime
    der: bytes = b""
    application_id: UUID | None = None
    revoke_time: datetime | None = None
    revocation_reason: RevocationReason | None = None

    def state_at(self, now: datetime) -> CertificateState:
        """Its state; one that was revoked stays so after its end."""
        if self.revoke_time is not None:
            return CertificateState.REVOKED
        if now >= self.expire_time:
            return CertificateState.EXPIRED
        return CertificateState.ISSUED if self.der else CertificateState.INTENT

    def revoked(self, reason: RevocationReason, now: datetime) -> "Certificate":
        """The certificate, revoked; one that is revoked keeps its first time and reason."""
        if self.revoke_time is not None:
            return self
        return replace(self, revoke_time=now, revocation_reason=reason)


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """When a certificate should be renewed: at a moment between the two that its holder draws at random."""

    start_time: datetime
    end_time: datetime
    is_urgent: bool

    @classmethod
    def of(cls, start_time: datetime, expire_time: datetime) -> "RenewalWindow":
        """From a third of the life left on, until a sixth is left: what fails then can be tried again for long."""
        life = expire_time - start_time
        return cls(expire_time - life / 3, expire_time - life / 6, is_urgent=False)

    @classmethod
    def urgent(cls, now: datetime, within: timedelta) -> "RenewalWindow":
        """From now on, within a time in which the issuer can serve all who are called."""
        return cls(now, now + within, is_urgent=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which certificates are looked for; all that is set must hold. Times: `expire_before` means not expired yet at
    `now`, and before that time.
    """

    agency_id: str = ""
    system_id: str = ""
    identity: str = ""
    key_id: str = ""
    issuer_key_id: str = ""
    state: CertificateState | None = None
    expire_before: datetime | None = None
    intent_before: datetime | None = None

    def require_one_selector(self) -> None:
        """Raises InvalidField unless it names certificates by just one thing, as an act on many of them must."""
        by = (self.agency_id, self.identity, self.key_id, self.issuer_key_id, self.intent_before)
        if sum(map(bool, by)) != 1 or self.system_id or self.expire_before:
            raise InvalidField("selector", "must be exactly one of them, and not empty")


@dataclass(frozen=True, slots=True)
class Revocation:
    """That a certificate was revoked, whatever else is known of it; `key_id` of a key that was compromised."""

    name: CertificateName
    revoke_time: datetime
    reason: RevocationReason
    key_id: str = ""

    @classmethod
    def of(cls, certificate: "Certificate", reason: RevocationReason, now: datetime) -> "Revocation":
        """The revocation of a certificate."""
        key_id = certificate.key_id if reason is RevocationReason.KEY_COMPROMISE else ""
        return cls(certificate.name, now, reason, key_id)


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that was revoked, and with it those of the same key, if that was compromised; of the latter's bytes
    the first one alone.
    """

    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class RevokedMany:
    """How many certificates were revoked, or would be, and the first of them; of their bytes the first one alone."""

    count: int
    is_executed: bool
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class ExpiringAtAgency:
    """What expires soon at one agency, or, with an empty id, among the operators; `contact` is empty if unknown."""

    agency_id: str
    agency_name: str
    contact: str
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class ExpiringReport:
    """What expires soon, by agency; `is_partial` if more does than is named here, which is the first to end."""

    agencies: tuple[ExpiringAtAgency, ...]
    is_partial: bool
