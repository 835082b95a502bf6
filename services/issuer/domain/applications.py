"""Applications for certificates: where they came from, and how they stand."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from services.issuer.domain.certificates import Certificate, CertificateName, Profile, RenewalWindow


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
