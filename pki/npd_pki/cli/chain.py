"""Is a leaf good, and if not, what is wrong with it in one sentence? For people; no room decides with this.

OpenSSL checks the same with other code: `openssl verify -x509_strict -crl_check_all`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from npd_pki.authority import permitted_host
from npd_pki.description import moment
from npd_pki.errors import PkiError
from npd_pki.identity import Identity
from npd_pki.profile import DOCUMENT_SIGNING
from npd_pki.revocation_list import verify_revocation_list
from npd_pki.trust_bundle import is_authority, is_issued_by

PURPOSES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "signing": DOCUMENT_SIGNING,
}


class CertificateUnfit(PkiError):
    """A certificate would be refused; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class CertificatePath:
    """A leaf, the CA that issued it, and the root that issued that."""

    leaf: x509.Certificate
    issuer: x509.Certificate
    root: x509.Certificate


def find_path(certificates: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> CertificatePath:
    """The way from a leaf to a root. Raises CertificateUnfit if there is none."""
    leaf, *chain = certificates
    if is_authority(leaf):
        raise CertificateUnfit("the first certificate is a CA's, not a leaf; put the leaf first in the file")
    issuers = [one for one in chain if is_issued_by(leaf, one)]
    if not issuers:
        missing = "the leaf stands alone" if not chain else "none of the CAs that follow the leaf issued it"
        raise CertificateUnfit(f"{missing}; the file holds the leaf, then its issuing CA {_issuer_of(leaf)}")
    for issuer in issuers:
        for root in roots:
            if is_issued_by(issuer, root):
                return CertificatePath(leaf, issuer, root)
    raise CertificateUnfit(f"the issuing CA is from {_issuer_of(issuers[0])}, no root that is trusted here")


def require_good(
    path: CertificatePath,
    revocation_lists: Sequence[x509.CertificateRevocationList],
    purpose: str | None,
    now: datetime,
) -> None:
    """Check everything but the signatures of the path, which `find_path` has.

    1. Each certificate is valid at this moment.
    2. The leaf names one identity, which its CA may name, and no host or address that it may not.
    3. Its purposes are those of its CA, and hold the one that is asked for.
    4. No list revokes a certificate of the path; of those given for one CA, one at least is valid at this moment.
    Raises CertificateUnfit.
    """
    for noun, certificate in (("leaf", path.leaf), ("issuing CA", path.issuer), ("root", path.root)):
        require_valid(noun, certificate, now)  # (1)
    _require_names(path)  # (2)
    _require_purposes(path, purpose)  # (3)
    for issuer, certificate in ((path.issuer, path.leaf), (path.root, path.issuer)):
        _require_listed_nowhere(certificate, list(_lists_of(issuer, revocation_lists)), now)  # (4)


def unchecked(path: CertificatePath, revocation_lists: Sequence[x509.CertificateRevocationList]) -> Iterator[str]:
    """The CAs of a path of which no revocation list was given."""
    for issuer in (path.issuer, path.root):
        if not list(_lists_of(issuer, revocation_lists)):
            yield issuer.subject.rfc4514_string()


def require_valid(noun: str, certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate that is not valid at this moment. Raises CertificateUnfit."""
    if now > certificate.not_valid_after_utc:
        raise CertificateUnfit(f"the {noun} expired on {moment(certificate.not_valid_after_utc)}; get a new one")
    if now < certificate.not_valid_before_utc:
        begin = moment(certificate.not_valid_before_utc)
        raise CertificateUnfit(f"the {noun} is valid from {begin}, and the clock here says {moment(now)}; check it")


def _require_names(path: CertificatePath) -> None:
    names = _extension(path.leaf, x509.SubjectAlternativeName)
    if names is None:
        raise CertificateUnfit("the leaf has no alternative name, so it speaks for nobody; have it issued anew")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise CertificateUnfit(f"the leaf names {len(uris)} URIs instead of one; have it issued anew")
    try:
        identity, host = Identity.parse(uris[0]), permitted_host(path.issuer)
    except PkiError as error:
        raise CertificateUnfit(f"{error}; have it issued anew") from error
    if identity.host != host:
        raise CertificateUnfit(
            f"the leaf names {identity}, and its CA may name {host} alone; have it issued by the CA of {identity.host}"
        )
    constraints = _extension(path.issuer, x509.NameConstraints)
    excluded = {type(name) for name in (constraints.excluded_subtrees if constraints else None) or ()}
    for name in names:
        if type(name) in excluded:
            raise CertificateUnfit(f"the leaf names {name.value}, and its CA may name no {type(name).__name__}")


def _require_purposes(path: CertificatePath, purpose: str | None) -> None:
    own, permitted = (_extension(one, x509.ExtendedKeyUsage) for one in (path.leaf, path.issuer))
    if own is None or (permitted is not None and not set(own) <= set(permitted)):
        raise CertificateUnfit("the leaf has purposes that its CA may not give; issue one by a profile of that CA")
    if purpose is not None and PURPOSES[purpose] not in own:
        held = ", ".join(name for name, oid in PURPOSES.items() if oid in own) or "another one"
        raise CertificateUnfit(f"the leaf is for {held}, not for {purpose}; take or issue one of the right profile")


def _require_listed_nowhere(
    certificate: x509.Certificate, lists: Sequence[x509.CertificateRevocationList], now: datetime
) -> None:
    subject = certificate.subject.rfc4514_string()
    for revoked in lists:
        entry = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is not None:
            day = moment(entry.revocation_date_utc)
            raise CertificateUnfit(f"{subject!r} ({certificate.serial_number:x}) was revoked on {day}; get a new one")
    begun = [revoked for revoked in lists if revoked.last_update_utc <= now]
    if lists and not begun:
        raise CertificateUnfit(f"the revocation list for {subject!r} is not valid yet; check the clock here")
    if lists and not any(revoked.next_update_utc is not None and now <= revoked.next_update_utc for revoked in begun):
        raise CertificateUnfit(f"the revocation list for {subject!r} is out of date; fetch or sign the next one")


def _lists_of(
    issuer: x509.Certificate, revocation_lists: Sequence[x509.CertificateRevocationList]
) -> Iterator[x509.CertificateRevocationList]:
    for revoked in revocation_lists:
        if revoked.issuer == issuer.subject:
            verify_revocation_list(revoked, issuer)
            yield revoked


def _issuer_of(certificate: x509.Certificate) -> str:
    return repr(certificate.issuer.rfc4514_string())


_Value = TypeVar("_Value", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, sort: type[_Value]) -> _Value | None:
    try:
        return certificate.extensions.get_extension_for_class(sort).value
    except x509.ExtensionNotFound:
        return None
