"""Every reason for which this library refuses. An error states a fact about what it was given, never key material."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote


class PkiError(Exception):
    """What all refusals of this library have in common."""


class IdentityMalformed(PkiError):
    """A URI, or a segment meant for one, is not an identity of the mesh."""


class HostNameMalformed(PkiError):
    """A DNS name (or an environment, which becomes part of a host) is not a lower-case host name."""


class HostNamesMissing(PkiError):
    """The profile needs the DNS names that clients dial, and none was given."""


class HostNamesForbidden(PkiError):
    """The profile names nothing but its URI, and DNS names were given."""


class IdentityNotEntitled(PkiError):
    """The CA does not issue identities of this kind, or of this environment."""


class ProfileNotEntitled(PkiError):
    """The CA does not issue certificates of this profile."""


class KeyUnacceptable(PkiError):
    """A key is of a type, curve or owner that may not stand in this place."""


class ProofOfPossessionFailed(PkiError):
    """A certificate signing request is not signed by the key that it asks a certificate for."""


class ValidityMalformed(PkiError):
    """A validity has no time zone, or does not end after it begins."""


class ValidityTooLong(PkiError):
    """A validity is longer than the ceiling of its profile."""


class ValidityExceedsIssuer(PkiError):
    """A certificate would outlive the CA that issues it."""


class LintFailed(PkiError):
    """A certificate differs from its profile: it was not signed, or was not returned.

    Seeing this means a defect in this library, not a mistake of the caller.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


class PreparedElsewhere(PkiError):
    """A prepared certificate names another CA as its issuer than the one asked to sign it."""


class NotAuthority(PkiError):
    """A certificate is not that of the CA it is used as, or the key beside it is not its own."""


class PemMalformed(PkiError):
    """Bytes are not the PEM that was expected (an encrypted private key counts as malformed)."""


class PrivateKeyExposed(PkiError):
    """A private key file can be read or written by others than its owner, so the key may already be known to them."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(f"{path} has mode {mode:04o}, open to group or others; run: chmod 600 {quote(str(path))}")
        self.path = path


class TrustBundleMalformed(PkiError):
    """A trust bundle is empty, or holds something else than self-signed roots."""


class CredentialsMismatched(PkiError):
    """Private key, leaf, issuing CA and roots do not belong together."""


class HierarchyInconsistent(PkiError):
    """Root and issuing CAs are not those of one environment, signed by that root."""


class StoreOccupied(PkiError):
    """The directory meant for a new hierarchy already holds something."""


class StoreIncomplete(PkiError):
    """A file that a stored hierarchy consists of is missing."""
