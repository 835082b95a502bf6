"""Every reason for which this library refuses. An error states a fact about what it was given, never key material."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What pyca raises, partly only when a field is asked for, about bytes that are no certificate or request."""


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


class NamesForeign(PkiError):
    """A certificate signing request asks for another name than the identity that it is for."""


class ValidityMalformed(PkiError):
    """A validity has no time zone, or does not end after it begins."""


class ValidityTooLong(PkiError):
    """A validity is longer than the ceiling of its profile."""


class ValidityExceedsIssuer(PkiError):
    """A certificate would outlive the CA that issues it."""


class IssuedByThisRoot(PkiError):
    """A root was asked to cross-certify a CA that it has issued itself: that is a renewal, and `certify` makes it."""


class LintFailed(PkiError):
    """A certificate or revocation list differs from what it must be: it was not signed, or was not returned.

    Seeing this means a defect in this library, not a mistake of the caller; except in cross-certification, where it
    means that the existing certificate is not of the form that this library gives to an issuing CA.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


class PreparedElsewhere(PkiError):
    """A prepared certificate names another CA as its issuer than the one asked to sign it."""


class NotAuthority(PkiError):
    """A certificate is not that of the CA it is used as, or the key beside it is not its own."""


class PemMalformed(PkiError):
    """Bytes are not the PEM that was expected: of another sort, cut off or damaged."""


class PassphraseMissing(PkiError):
    """A private key is encrypted, and no passphrase was given."""


class PassphraseWrong(PkiError):
    """The passphrase that was given does not open the private key."""


class PassphraseMalformed(PkiError):
    """A passphrase is empty, longer than 1023 bytes, or not one line."""


class PrivateKeyUnencrypted(PkiError):
    """A private key is not encrypted although a passphrase for it was given: it is not the file that was meant."""


class PrivateKeyExposed(PkiError):
    """A file with a private key, passphrase or PIN is open to others than its owner, who may already know it."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(f"{path} has mode {mode:04o}, open to group or others; run: chmod 600 {quote(str(path))}")
        self.path = path


class TrustBundleMalformed(PkiError):
    """A trust bundle is empty, or holds something else than self-signed roots."""


class TrustBundleUntrusted(PkiError):
    """A signed trust bundle bears the signature of no root that is trusted already."""


class RevocationListMalformed(PkiError):
    """A revocation list is not one of the mesh: unreadable, without number or issuer key, or a serial number twice."""


class RevocationListUntrusted(PkiError):
    """A revocation list does not bear the signature of the CA that it is said to come from."""


class NumberWentBack(PkiError):
    """A revocation list is not newer than the one before it: somebody works with an old copy of the CA's state."""


class CredentialsMismatched(PkiError):
    """Private key, leaf, issuing CA and roots do not belong together."""


class HierarchyInconsistent(PkiError):
    """Root and issuing CAs are not those of one environment, signed by that root."""


class OutputExists(PkiError):
    """What would be written is there already; nothing is ever overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already and is never overwritten; name another output, or move it away first")
        self.path = path


class StoreOccupied(PkiError):
    """The directory meant for a new hierarchy already holds something."""


class StoreIncomplete(PkiError):
    """A file that a stored hierarchy consists of is missing."""


class StoreAmbiguous(PkiError):
    """The directory of a CA says twice where its key is."""


class TokenSupportMissing(PkiError):
    """A key is in a hardware module, and the library that talks to one is not installed."""


class TokenSettingsMalformed(PkiError):
    """The file that says where in a hardware module a key is lacks an entry, or holds one that nobody knows."""


class TokenUnavailable(PkiError):
    """A hardware module cannot be reached, does not hold the token or key that was named, or refused to work."""


class TokenKeyExists(PkiError):
    """A token holds a key of this label already; none is ever replaced."""


class PinWrong(PkiError):
    """A token refused its PIN. It was tried once and is not tried again, since a few wrong ones lock the token."""


class PinLocked(PkiError):
    """A token takes no PIN now: it is locked, or one more wrong PIN would lock it."""
