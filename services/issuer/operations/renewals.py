"""Renewals: a holder who calls with one certificate gets the next, for a new key, from nobody's hand."""

from services.issuer.domain import (
    Certificate,
    CertificateUnknown,
    Issued,
    KeyBlocked,
    Origin,
    Profile,
    RenewalWindow,
)
from services.issuer.operations.applications import ApplicationOperations, known_application
from services.issuer.operations.issuing import Issuing
from services.issuer.operations.office import PACE_WINDOW, Office
from services.issuer.operations.signing_requests import KeyRules, SigningRequest, read_signing_request
from services.issuer.repository import Ledger
from services.mesh.core.answers import AnswerKey
from services.mesh.core.approvals import approval_id_of
from services.mesh.core.caller import Caller, CertificateRevoked


class RenewalOperations:
    """`held` is the certificate by which the caller calls, whether or not it was issued here."""

    def __init__(self, office: Office, issuing: Issuing, rules: KeyRules, applications: ApplicationOperations) -> None:
        self._office = office
        self._issuing = issuing
        self._rules = rules
        self._applications = applications

    def renew(self, caller: Caller, held: Certificate, profile: Profile, csr: bytes, key: AnswerKey) -> Issued:
        """Renew the caller's certificate of a profile. A repeat gets the one that was issued.

        1. The certificate by which he calls is not revoked here, though other rooms may not have heard of it yet. It is
           taken into the inventory if it was issued elsewhere: TLS has verified it.
        2. He has a certificate of this profile, neither revoked nor expired.
        3. His agency, or he as an operator, has not had too many within the hour.
        4. The key is a new one, and one that may be certified.
        5. The application is committed; then it is issued.

        Raises CertificateRevoked, CertificateUnknown, RateExceeded, RequestIdReused, what is wrong with the signing
        request, and what issuing raises.
        """
        self._office.require_room()
        request = read_signing_request(csr, caller.identity)
        application_id = approval_id_of(caller.identity, key.method, key.request_id)
        application = self._applications.new(
            application_id, Origin.RENEWED, request, profile, caller.identity, needs_approval=False
        )
        with self._office.database.transaction() as tx:
            self._require_standing(tx, held, key.method)  # (1)
            if tx.applications.put(application):
                self._require_renewable(tx, caller, held, profile, request)
            else:
                known_application(tx, application, application.apply_time)
        return self._issuing.issue(application_id, key.method, caller.identity)  # (5)

    def window(self, held: Certificate, method: str) -> RenewalWindow:
        """When the certificate by which the caller calls should be renewed; it counts in the inventory from now on.

        Raises CertificateRevoked, KeyBlocked.
        """
        with self._office.database.transaction() as tx:
            self._require_standing(tx, held, method)
            return self._issuing.window_of(tx, held, self._office.clock.now())

    def _require_standing(self, tx: Ledger, held: Certificate, method: str) -> None:
        if tx.certificates.adopt(held):
            about = f"{held.name} ({held.profile.name}) for {held.identity}: issued elsewhere, known from now on"
            self._office.tell(tx, method, held.identity, about, self._office.clock.now())
        known = tx.certificates.find(held.name)
        if known is not None and known.revoke_time is not None:
            raise CertificateRevoked(revoke_time=known.revoke_time.isoformat())
        if known is not None and not known.der:  # it was to be issued here, and nobody knew that it was
            tx.certificates.complete(held.name, held.der)
        if tx.blocked_keys.holds(held.key_id):
            raise KeyBlocked()

    def _require_renewable(
        self, tx: Ledger, caller: Caller, held: Certificate, profile: Profile, request: SigningRequest
    ) -> None:
        now = self._office.clock.now()
        newest = tx.certificates.newest_of(caller.identity, profile)  # (2)
        if newest is None or newest.expire_time <= now:
            raise CertificateUnknown()
        count = tx.certificates.intents_since(caller.agency_id, caller.identity, now - PACE_WINDOW)  # (3)
        self._office.require_pace(count)
        self._rules.require_usable(tx, request)  # (4)
        self._rules.require_new(tx, request, held.key_id)
