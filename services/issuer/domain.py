"""Certificates, applications, enrolments, authorities: what they are, what may become of them, how this room refuses.

No I/O. A private key of a holder never comes here; those of authorities are in the keyring.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from services.mesh.core.errors import InvalidField, Kind, MeshError, StateNotAllowed

ROOM_NAME = "issuer"
REGISTRY = "registry"

LONGEST_ENROLMENT = timedelta(days=30)
DEFAULT_ENROLMENT = timedelta(hours=72)


class CsrMalformed(MeshError):
    """The signing request cannot be read."""

    kind, reason = Kind.INVALID_ARGUMENT, "CSR_MALFORMED"


class CsrNotProven(MeshError):
    """The signing request is not signed by the key that it holds."""

    kind, reason = Kind.INVALID_ARGUMENT, "CSR_NOT_PROVEN"


class CsrNameForeign(MeshError):
    """The signing request asks for another name than the one enrolled."""

    kind, reason = Kind.INVALID_ARGUMENT, "CSR_NAME_FOREIGN"


class KeyUnacceptable(MeshError):
    """The key is too weak, of a type that the mesh does not take, or a CA's."""

    kind, reason = Kind.INVALID_ARGUMENT, "KEY_UNACCEPTABLE"


class KeyBlocked(MeshError):
    """The key was reported as compromised."""

    kind, reason = Kind.FAILED_PRECONDITION, "KEY_BLOCKED"


class ProfileNotEntitled(MeshError):
    """The identity cannot have a certificate of this profile."""

    kind, reason = Kind.INVALID_ARGUMENT, "PROFILE_NOT_ENTITLED"


class ValidityNotAllowed(MeshError):
    """The certificate would outlive its issuer, or its profile's ceiling."""

    kind, reason = Kind.INVALID_ARGUMENT, "VALIDITY_NOT_ALLOWED"


class TokenUnknown(MeshError):
    """No enrolment has this token, or it was cancelled."""

    kind, reason = Kind.PERMISSION_DENIED, "TOKEN_UNKNOWN"


class TokenUsed(MeshError):
    """The token was used by another request."""

    kind, reason = Kind.FAILED_PRECONDITION, "TOKEN_USED"


class TokenExpired(MeshError):
    """The token came too late."""

    kind, reason = Kind.FAILED_PRECONDITION, "TOKEN_EXPIRED"


class CertificateUnknown(MeshError):
    """No such certificate, or none of the caller's."""

    kind, reason = Kind.NOT_FOUND, "CERTIFICATE_UNKNOWN"


class CertificateMalformed(MeshError):
    """The certificate cannot be read."""

    kind, reason = Kind.INVALID_ARGUMENT, "CERTIFICATE_MALFORMED"


class ApplicationUnknown(MeshError):
    """No such application, or none of the caller's."""

    kind, reason = Kind.NOT_FOUND, "APPLICATION_UNKNOWN"


class RenewalNotEnabled(MeshError):
    """No operator enabled the renewal of this expired certificate, or it was used, or its time is over."""

    kind, reason = Kind.PERMISSION_DENIED, "RENEWAL_NOT_ENABLED"


class SignatureInvalid(MeshError):
    """The signature is not that of the expired certificate's key."""

    kind, reason = Kind.PERMISSION_DENIED, "SIGNATURE_INVALID"


class RevocationReasonNotAllowed(MeshError):
    """A holder gave a reason that is an operator's."""

    kind, reason = Kind.PERMISSION_DENIED, "REVOCATION_REASON_NOT_ALLOWED"


class AuthorityUnknown(MeshError):
    """No such authority."""

    kind, reason = Kind.NOT_FOUND, "AUTHORITY_UNKNOWN"


class AuthorityMissing(MeshError):
    """No authority issues for this kind of identity now."""

    kind, reason = Kind.UNAVAILABLE, "AUTHORITY_MISSING"
    retry_after = timedelta(minutes=1)


class AuthorityInUse(MeshError):
    """The authority still has unexpired certificates."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUTHORITY_IN_USE"


class AuthorityNotAcknowledged(MeshError):
    """Rooms have not heard of the authority yet."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUTHORITY_NOT_ACKNOWLEDGED"


class AuthorityKeyUnusable(MeshError):
    """The authority's key is not here, or cannot be used."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUTHORITY_KEY_UNUSABLE"


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


class ApplicationState(Enum):
    """State of an application, with the numbers of npd.issuer.v1.ApplicationState."""

    PENDING = 1
    APPROVED = 2
    ISSUED = 3
    DENIED = 4
    EXPIRED = 5


class Origin(Enum):
    """How an application came about; only one that was applied for needs a second person."""

    APPLIED = "APPLIED"
    ENROLLED = "ENROLLED"
    RENEWED = "RENEWED"


class EnrolmentState(Enum):
    """State of an enrolment, with the numbers of npd.issuer.v1.EnrolmentState."""

    OPEN = 1
    USED = 2
    EXPIRED = 3
    CANCELLED = 4


class AuthorityState(Enum):
    """State of an authority, with the numbers of npd.registry.v1.AuthorityState."""

    PREPARED = 1
    ACTIVE = 2
    TAINTED = 3
    REVOKED = 4
    RETIRED = 5


class RevocationReason(Enum):
    """Why a certificate was revoked, with the numbers of npd.registry.v1.RevocationReason (RFC 5280 5.3.1)."""

    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 2
    SUPERSEDED = 3
    CESSATION_OF_OPERATION = 4
    PRIVILEGE_WITHDRAWN = 5


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
class Application:
    """An application for a certificate. What was approved is `csr` for `identity` in this version of `profile`.

    `state` is that of its approval, if it `needs_approval`, until it is issued. `reason` says why it was denied.
    """

    application_id: UUID
    origin: Origin
    identity: str
    profile: Profile
    profile_version: int
    csr: bytes
    csr_digest: bytes
    key_id: str
    applicant: str
    apply_time: datetime
    expire_time: datetime
    needs_approval: bool
    state: ApplicationState
    reason: str = ""
    certificate: CertificateName | None = None


@dataclass(frozen=True, slots=True)
class Approvable:
    """An application as its approver reads it: a serialised google.protobuf.Any, and SHA-256 of what that holds."""

    request: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """An application, its certificate once that is issued with its chain (PEM), and when to renew it."""

    application: Application
    certificate: Certificate | None
    chain: bytes
    window: RenewalWindow | None


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


_NEXT: Mapping[AuthorityState, frozenset[AuthorityState]] = {
    AuthorityState.PREPARED: frozenset({AuthorityState.ACTIVE, AuthorityState.TAINTED}),
    AuthorityState.ACTIVE: frozenset({AuthorityState.TAINTED}),
    AuthorityState.TAINTED: frozenset({AuthorityState.RETIRED, AuthorityState.REVOKED}),
    AuthorityState.REVOKED: frozenset(),
    AuthorityState.RETIRED: frozenset({AuthorityState.REVOKED}),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuing CA, with its certificate (DER).

    `known_revision` is that of the policy that first named it in its state, as far as this room has seen: a room that
    decides by it, or a later one, has heard of it.
    """

    key_id: str
    host: str
    state: AuthorityState
    state_time: datetime
    certificate: bytes
    expire_time: datetime
    known_revision: int | None = None

    def moved(self, state: AuthorityState, now: datetime, *, forced: bool = False) -> "Authority":
        """The authority in its next state. `forced` revokes it from any. Raises StateNotAllowed.

        PREPARED -> ACTIVE -> TAINTED -> RETIRED | REVOKED; one that was not active yet can be tainted, a retired one
        can still be revoked, and a revoked one stays so.
        """
        allowed = _NEXT[self.state] | (frozenset({AuthorityState.REVOKED}) if forced else frozenset())
        if state not in allowed or self.state is AuthorityState.REVOKED:
            raise StateNotAllowed(object=f"authority {self.key_id}", state=self.state.name)
        return replace(self, state=state, state_time=now, known_revision=None)


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
    """That a certificate was revoked, whatever else is known of it."""

    name: CertificateName
    revoke_time: datetime
    reason: RevocationReason


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
class AuthorityShown:
    """An authority, or with `is_prepared` false one whose files lie ready and that was not prepared.

    `unexpired_count` are its leaves neither expired nor revoked, `unacknowledged_rooms` those that may not have heard
    of its state.
    """

    authority: Authority
    is_prepared: bool
    unexpired_count: int
    has_key: bool
    unacknowledged_rooms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthorityMoved:
    """An authority in its next state; `former` is the one of its host that issued before, `revoked_count` the leaves
    that were revoked with it.
    """

    authority: AuthorityShown
    former: AuthorityShown | None = None
    revoked_count: int = 0


@dataclass(frozen=True, slots=True)
class RevocationListRow:
    """A published revocation list (DER) of an authority."""

    issuer_key_id: str
    number: int
    publish_time: datetime
    next_time: datetime
    der: bytes


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


def require_term(expire_time: datetime | None, now: datetime, field: str) -> datetime:
    """Until when an enrolment or an enabled renewal holds: as asked, or by default. Raises InvalidField."""
    if expire_time is None:
        return now + DEFAULT_ENROLMENT
    if not now < expire_time <= now + LONGEST_ENROLMENT:
        raise InvalidField(field, f"must lie in the future, at most {LONGEST_ENROLMENT.days} days from now")
    return expire_time
