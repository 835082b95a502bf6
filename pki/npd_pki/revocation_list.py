"""Revocation lists (CRLs): what a CA takes back, for those who do not follow the mesh's policy.

Knows no reason that can be taken back itself: no certificate is put on hold. Prunes nothing; whoever calls decides what
is still listed. Source: RFC 5280 part 5.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.authority import CertificateAuthority, RootCA
from npd_pki.errors import (
    LintFailed,
    RevocationListMalformed,
    RevocationListUntrusted,
    ValidityTooLong,
)
from npd_pki.keys import signature_hash
from npd_pki.lint import signature_findings
from npd_pki.tbs import authority_key_identifier
from npd_pki.validity import BACKDATING, Validity

LONGEST_LIFE_OF_ROOTS = timedelta(days=366)
"""A root is offline, and its list is made at a ceremony."""
LONGEST_LIFE = timedelta(days=31)
"""Of an issuing CA's list: who reads nothing but lists knows of a revocation after this time at the latest."""

_LARGEST_NUMBER = 2**159 - 1  # a CRL number has at most 20 octets (RFC 5280 5.2.3)


class RevocationReason(StrEnum):
    """Why a certificate was revoked (RFC 5280 5.3.1), without the reasons that are undone or concern other things."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


@dataclass(frozen=True, slots=True)
class RevokedEntry:
    """One revoked certificate of the list's issuer; `revoke_time` is in UTC, cut to whole seconds.

    Raises RevocationListMalformed for a serial number that no certificate has, and for an instant without time zone.
    """

    serial: int
    revoke_time: datetime
    reason: RevocationReason

    def __post_init__(self) -> None:
        if not 0 < self.serial <= _LARGEST_NUMBER:
            raise RevocationListMalformed(f"{self.serial:x} is no serial number: 1 to {_LARGEST_NUMBER:x}")
        if self.revoke_time.utcoffset() is None:
            raise RevocationListMalformed(f"the revocation of {self.serial:x} has no time zone")
        object.__setattr__(self, "revoke_time", self.revoke_time.astimezone(UTC).replace(microsecond=0))


def build_revocation_list(
    authority: CertificateAuthority,
    number: int,
    entries: Iterable[RevokedEntry],
    *,
    now: datetime,
    life: timedelta,
) -> x509.CertificateRevocationList:
    """Make the list of a CA that is valid from now (less back-dating) for `life`.

    1. Each serial number stands in it once, and its number fits.
    2. Its life is within the ceiling.
    3. Signed with a throwaway key, it says what was asked and nothing else.
    4. Sign with the CA's key; what was signed is, byte for byte, what was checked.
    The caller has recorded the number as used. Raises RevocationListMalformed, ValidityMalformed, ValidityTooLong,
    LintFailed.
    """
    revoked = tuple(sorted(entries, key=lambda entry: (entry.revoke_time, entry.serial)))
    if len({entry.serial for entry in revoked}) != len(revoked):  # (1)
        raise RevocationListMalformed("a revocation list names each serial number once")
    if not 0 < number <= _LARGEST_NUMBER:
        raise RevocationListMalformed(f"{number} is no CRL number: 1 to 20 octets")
    validity = Validity.lasting(life, now)
    longest = LONGEST_LIFE_OF_ROOTS if isinstance(authority, RootCA) else LONGEST_LIFE
    if validity.span > longest + BACKDATING:  # (2)
        raise ValidityTooLong(f"a revocation list of this CA is valid for {longest} at most, not {life}")
    tbs, digest = _tbs(authority, number, revoked, validity), signature_hash(authority.key.public_key())
    linted = tbs.sign(ec.generate_private_key(authority.key.curve), digest)
    _lint(linted, authority.certificate, number, revoked, validity)  # (3)
    signed = tbs.sign(authority.key, digest)  # (4)
    if signed.tbs_certlist_bytes != linted.tbs_certlist_bytes:
        raise LintFailed(["the signed revocation list is not the linted one"])
    return signed


def load_revocation_list(content: bytes) -> x509.CertificateRevocationList:
    """Read a list from DER or PEM; its signature is not checked yet (`verify_revocation_list` does).

    Raises RevocationListMalformed, also for one without a number, and for one that is not a CA's whole list of its own
    certificates: a delta, a part or an indirect list has critical extensions (RFC 5280 5.2).
    """
    load = x509.load_pem_x509_crl if content.lstrip().startswith(b"-----BEGIN") else x509.load_der_x509_crl
    try:
        revocation_list = load(content)
    except ValueError as error:
        raise RevocationListMalformed("neither a PEM nor a DER revocation list") from error
    number_of(revocation_list)
    if any(extension.critical for extension in revocation_list.extensions):
        raise RevocationListMalformed("the revocation list is not the whole list of a CA, but a part or a delta")
    return revocation_list


def number_of(revocation_list: x509.CertificateRevocationList) -> int:
    """The number of a list, which rises from one of its CA's lists to the next. Raises RevocationListMalformed."""
    try:
        return revocation_list.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise RevocationListMalformed("the revocation list has no CRL number") from error


def entries_of(revocation_list: x509.CertificateRevocationList) -> tuple[RevokedEntry, ...]:
    """What a list takes back.

    Raises RevocationListMalformed, also for a reason that this mesh does not know, and for another CA's certificate.
    """
    try:
        return tuple(map(_entry, revocation_list))
    except (x509.DuplicateExtension, ValueError) as error:
        raise RevocationListMalformed(f"the revocation list holds what the mesh never lists: {error}") from error


def verify_revocation_list(revocation_list: x509.CertificateRevocationList, issuer: x509.Certificate) -> None:
    """Refuse a list that was not signed by the CA of this certificate; says nothing of dates.

    Raises RevocationListUntrusted.
    """
    key = issuer.public_key()
    try:
        is_of_issuer = (
            revocation_list.issuer == issuer.subject
            and isinstance(key, ec.EllipticCurvePublicKey)
            and revocation_list.is_signature_valid(key)
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        is_of_issuer = False
    if not is_of_issuer:
        raise RevocationListUntrusted(f"the revocation list is not of {issuer.subject.rfc4514_string()!r}")


def _tbs(
    authority: CertificateAuthority, number: int, revoked: Sequence[RevokedEntry], validity: Validity
) -> x509.CertificateRevocationListBuilder:
    # Through the constructor: `add_revoked_certificate` copies the whole list at each call, 9 s for 100,000 entries.
    return x509.CertificateRevocationListBuilder(
        issuer_name=authority.certificate.subject,
        last_update=_naive(validity.not_before),
        next_update=_naive(validity.not_after),
        extensions=[
            _extension(authority_key_identifier(authority.certificate)),
            _extension(x509.CRLNumber(number)),
        ],
        revoked_certificates=[_listed(entry) for entry in revoked],
    )


def _extension(value: x509.AuthorityKeyIdentifier | x509.CRLNumber) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, False, value)


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)


def _listed(entry: RevokedEntry) -> x509.RevokedCertificate:
    listed = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.revoke_time)
    if entry.reason is not RevocationReason.UNSPECIFIED:  # which is not encoded: RFC 5280 5.3.1
        listed = listed.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason.value)), critical=False)
    return listed.build()


def _entry(listed: x509.RevokedCertificate) -> RevokedEntry:
    if any(extension.critical for extension in listed.extensions):
        raise ValueError(f"{listed.serial_number:x} with a critical extension")
    try:
        flag = listed.extensions.get_extension_for_class(x509.CRLReason).value.reason
        reason = RevocationReason(flag.value)
    except x509.ExtensionNotFound:
        reason = RevocationReason.UNSPECIFIED
    return RevokedEntry(listed.serial_number, listed.revocation_date_utc, reason)


def _lint(
    revocation_list: x509.CertificateRevocationList,
    issuer: x509.Certificate,
    number: int,
    revoked: Sequence[RevokedEntry],
    validity: Validity,
) -> None:
    """Read the encoded list, trusting no builder. Raises LintFailed with every finding."""
    findings = [*signature_findings(revocation_list.signature_algorithm_oid, issuer)]
    if revocation_list.issuer != issuer.subject:
        findings.append("the issuer is not the subject of the issuing certificate")
    if (revocation_list.last_update_utc, revocation_list.next_update_utc) != (validity.not_before, validity.not_after):
        findings.append("the list is not valid from when until when it should be")
    extensions = [(extension.value, extension.critical) for extension in revocation_list.extensions]
    if extensions != [(authority_key_identifier(issuer), False), (x509.CRLNumber(number), False)]:
        findings.append("the extensions are not the key of the issuer and the CRL number")
    if entries_of(revocation_list) != tuple(revoked):
        findings.append("the entries are not those that should be listed")
    if any(len(listed.extensions) > 1 for listed in revocation_list):
        findings.append("an entry has an extension beside its reason")
    if findings:
        raise LintFailed(findings)
