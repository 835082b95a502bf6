"""From when until when a certificate is valid. Knows no profile and no issuer; those set the limits."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509

from npd_pki.errors import ValidityMalformed

BACKDATING = timedelta(minutes=5)
"""How far a fresh certificate begins in the past, so that a party whose clock is a little slow accepts it at once."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Both ends included, in UTC, cut to whole seconds because a certificate holds no fractions (RFC 5280 4.1.2.5).

    Raises ValidityMalformed for an instant without time zone, and unless `not_before` precedes `not_after`.
    """

    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        for name in ("not_before", "not_after"):
            instant: datetime = getattr(self, name)
            if instant.utcoffset() is None:
                raise ValidityMalformed(f"{name} has no time zone: {instant.isoformat()}")
            object.__setattr__(self, name, instant.astimezone(UTC).replace(microsecond=0))
        if self.not_before >= self.not_after:
            raise ValidityMalformed(f"a validity cannot end at {self.not_after} and begin at {self.not_before}")

    @classmethod
    def lasting(cls, life: timedelta, now: datetime | None = None) -> Self:
        """The validity of what is issued now and expires after `life`: it begins BACKDATING earlier.

        `now` is the clock of the machine unless given. Raises ValidityMalformed.
        """
        now = now or datetime.now(UTC)
        return cls(now - BACKDATING, now + life)

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """The validity that a certificate states."""
        return cls(certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    @property
    def span(self) -> timedelta:
        """The time from the beginning to the end, back-dating included."""
        return self.not_after - self.not_before
