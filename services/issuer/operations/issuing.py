"""Issues the certificate of an approved application: intent first, then the signature, then the result."""

from datetime import datetime
from ssl import DER_cert_to_PEM_cert
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import IssuingCA
from npd_pki.errors import KeyUnacceptable as PkiKeyUnacceptable
from npd_pki.errors import PkiError, ProfileNotEntitled, ValidityTooLong
from npd_pki.identity import Identity
from npd_pki.issuance import IssuedCertificate, PreparedCertificate
from npd_pki.profile import CLIENT_TLS, SIGNING
from npd_pki.profile import Profile as Terms
from npd_pki.request import proven_public_key
from npd_pki.validity import BACKDATING, Validity
from services.issuer import domain
from services.issuer.domain import (
    Application,
    ApplicationState,
    ApplicationUnknown,
    Authority,
    AuthorityKeyUnusable,
    AuthorityMissing,
    Certificate,
    CertificateName,
    Issued,
    KeyBlocked,
    KeyUnacceptable,
    Profile,
    RenewalWindow,
    ValidityNotAllowed,
)
from services.issuer.operations.office import Office
from services.issuer.repository import Ledger
from services.mesh.core import failpoints
from services.mesh.core.authorities import AuthorityState
from services.mesh.core.caller import CallerKind, CertificateRevoked, SpiffeId
from services.mesh.core.errors import StateNotAllowed

PROFILES = {Profile.CLIENT_TLS: CLIENT_TLS, Profile.SIGNING: SIGNING}
"""The library's terms of each profile."""


class Issuing:
    """The one way to a certificate. Safe to ask again: an application has one certificate."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def issue(self, application_id: UUID, method: str, actor: str) -> Issued:
        """Issue the certificate of an approved application, or return the one that was issued.

        1. Commit the intent: serial number, names, key, end. From now on it can be revoked, whatever happens.
        2. Sign just that; it was linted before (npd_pki).
        3. Commit the result, and the act for the authority log, before anybody gets the certificate. What was revoked
           since the intent is given to nobody.

        After a crash between 1 and 3 the same application gets another certificate; the intent stays listed. Raises
        ApplicationUnknown, StateNotAllowed, KeyBlocked, AuthorityMissing, AuthorityKeyUnusable, ValidityNotAllowed,
        CertificateRevoked.
        """
        with self._office.database.transaction() as tx:  # (1)
            application = self._find(tx, application_id)
            if application.certificate is not None:
                return self._issued(tx, application)
            authority, prepared, intent = self._intend(tx, application)
            tx.certificates.put(intent)
        failpoints.reach("issue.intended")
        signed = self._sign(authority, prepared)  # (2)
        failpoints.reach("issue.signed")
        with self._office.database.transaction() as tx:  # (3)
            application = self._find(tx, application_id)
            if application.certificate is None:  # else a repeat came before us: the intent stays without a result
                _require_unrevoked(tx, intent.name)
                tx.certificates.complete(intent.name, signed.certificate.public_bytes(Encoding.DER))
                tx.applications.complete(application_id, intent.name)
                about = f"{intent.name} ({application.profile.name}) for {application.identity}"
                self._office.tell(tx, method, actor, about, self._office.clock.now())
                application = self._find(tx, application_id)
            return self._issued(tx, application)

    def _sign(self, authority: Authority, prepared: PreparedCertificate) -> IssuedCertificate:
        try:
            return self._office.keyring.signer(authority.key_id).sign(prepared)
        except PkiError as error:  # a hardware module that is gone, or has locked itself
            raise AuthorityKeyUnusable(key_id=authority.key_id) from error

    def window_of(self, tx: Ledger, certificate: Certificate, now: datetime) -> RenewalWindow:
        """When a certificate should be renewed: now, if its authority is to be given up."""
        authority = tx.authorities.find(certificate.name.issuer_key_id)
        if authority is not None and authority.state is not AuthorityState.ACTIVE:
            return RenewalWindow.urgent(now, self._office.terms.urgent_within)
        return RenewalWindow.of(certificate.start_time, certificate.expire_time)

    def shown(self, application_id: UUID) -> Issued:
        """An application as it stands. Raises ApplicationUnknown."""
        with self._office.database.transaction() as tx:
            application = tx.applications.find(application_id, self._office.clock.now())
            if application is None:
                raise ApplicationUnknown()
            return self._issued(tx, application)

    def chain_of(self, certificate: Certificate) -> bytes:
        """A certificate and its issuing CA in PEM, as they are presented; empty while it is an intent."""
        with self._office.database.transaction() as tx:
            return _chain(tx, certificate)

    def _find(self, tx: Ledger, application_id: UUID) -> Application:
        application = tx.applications.find(application_id, self._office.clock.now(), lock=True)
        if application is None:
            raise ApplicationUnknown()
        return application

    def _issued(self, tx: Ledger, application: Application) -> Issued:
        certificate = tx.certificates.find(application.certificate) if application.certificate else None
        if certificate is None:
            return Issued(application, None, b"", None)
        window = self.window_of(tx, certificate, self._office.clock.now())
        return Issued(application, certificate, _chain(tx, certificate), window)

    def _intend(self, tx: Ledger, application: Application) -> tuple[Authority, PreparedCertificate, Certificate]:
        """What is to be signed, and the row that says so."""
        if application.state is not ApplicationState.APPROVED:
            raise StateNotAllowed(object=f"application {application.application_id}", state=application.state.name)
        if tx.blocked_keys.holds(application.key_id):
            raise KeyBlocked()
        identity = SpiffeId.parse(application.identity)
        authority = tx.authorities.active(identity.host)
        if authority is None:
            raise AuthorityMissing(kind=identity.kind.value)
        now, terms = self._office.clock.now(), PROFILES[application.profile]
        signer = self._office.keyring.signer(authority.key_id)
        if not signer.certificate.not_valid_before_utc <= now < authority.expire_time:
            raise AuthorityMissing(kind=identity.kind.value)
        if application.profile_version != terms.version:  # other terms than those that were applied for
            raise StateNotAllowed(object=f"application {application.application_id}", state="PROFILE_CHANGED")
        validity = Validity(now - BACKDATING, min(now + terms.default_life, authority.expire_time))
        prepared = _prepare(signer, terms, application, validity)
        is_agency = identity.kind is CallerKind.AGENCY
        intent = Certificate(
            name=CertificateName(authority.key_id, f"{prepared.serial:x}"),
            identity=application.identity,
            agency_id=identity.path[0] if is_agency else "",
            system_id=identity.path[1] if is_agency else "",
            profile=application.profile,
            key_id=application.key_id,
            start_time=validity.not_before,
            expire_time=validity.not_after,
            intent_time=now,
            application_id=application.application_id,
        )
        return authority, prepared, intent


def _prepare(signer: IssuingCA, terms: Terms, application: Application, validity: Validity) -> PreparedCertificate:
    key = proven_public_key(x509.load_der_x509_csr(application.csr))
    try:
        return signer.prepare(terms, str(Identity.parse(application.identity)), key, validity=validity)
    except PkiKeyUnacceptable as error:
        raise KeyUnacceptable() from error
    except ProfileNotEntitled as error:
        raise domain.ProfileNotEntitled(profile=application.profile.name) from error
    except ValidityTooLong as error:
        raise ValidityNotAllowed(longest_time=terms.longest_life) from error


def _require_unrevoked(tx: Ledger, name: CertificateName) -> None:
    """Raises CertificateRevoked; a revocation that comes now waits for the end of the transaction."""
    found = tx.certificates.find(name, lock=True)
    if found is not None and found.revoke_time is not None:
        raise CertificateRevoked(revoke_time=found.revoke_time.isoformat())


def _chain(tx: Ledger, certificate: Certificate) -> bytes:
    authority = tx.authorities.find(certificate.name.issuer_key_id)
    links = [certificate.der, authority.certificate if authority else b""]
    return "".join(DER_cert_to_PEM_cert(link) for link in links if link).encode() if certificate.der else b""
