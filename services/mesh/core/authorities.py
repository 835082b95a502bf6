"""Certification authorities of agencies and operators, and revoked certificates, as the policy names them."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class AuthorityState(Enum):
    """Where an authority is in its life, with the numbers of npd.registry.v1.AuthorityState."""

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


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuing CA: the SHA-256 of its SubjectPublicKeyInfo, hex, and the one host that it is constrained to."""

    key_id: str
    host: str
    state: AuthorityState
    state_time: datetime

    @property
    def is_revoked(self) -> bool:
        """Whether nothing that it issued counts any more, for good."""
        return self.state is AuthorityState.REVOKED


@dataclass(frozen=True, slots=True)
class Revoked:
    """Since when a certificate is revoked, and the number of npd.registry.v1.RevocationReason that says why.

    `key_id` is that of a compromised key, empty if it is not known.
    """

    revoke_time: datetime
    reason: int
    key_id: str = ""
