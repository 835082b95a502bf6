"""Applications for certificates: made by agencies and operators, approved by a second person, issued by themselves."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from services.issuer.domain import (
    Application,
    ApplicationState,
    ApplicationUnknown,
    Approvable,
    Issued,
    Origin,
    Profile,
    ProfileNotEntitled,
)
from services.issuer.operations.issuing import PROFILES, Issuing
from services.issuer.operations.office import PACE_WINDOW, Office
from services.issuer.operations.signing_requests import KeyRules, SigningRequest, read_signing_request
from services.issuer.repository import Ledger
from services.issuer.repository.applications import Place
from services.mesh.core.answers import AnswerKey, RequestIdReused
from services.mesh.core.approvals import approval_id_of
from services.mesh.core.caller import Caller, CallerKind, IdentityMalformed, SpiffeId
from services.mesh.core.errors import InvalidField, MethodNotAllowed

APPLY = "/npd.issuer.v1.CertificateService/ApplyForCertificate"
"""The method that approvals of applications name."""


class ApplicationOperations:
    """`approvable` writes an application as its approver reads it."""

    def __init__(
        self, office: Office, issuing: Issuing, rules: KeyRules, approvable: Callable[[Application], Approvable]
    ) -> None:
        self._office = office
        self._issuing = issuing
        self._rules = rules
        self._approvable = approvable

    def apply_for_certificate(
        self, caller: Caller, identity: str, profile: Profile, csr: bytes, key: AnswerKey
    ) -> Application:
        """Apply: for a system of the caller's agency, or as an operator for anybody but rooms.

        A repeat finds its application, as it stands by then, under an id that follows from the request's. Raises
        InvalidField, ProfileNotEntitled, MethodNotAllowed, RequestIdReused, RateExceeded, and what is wrong with the
        signing request.
        """
        self._office.require_room()
        self._require_entitled(caller, identity, profile, key.method)
        request = read_signing_request(csr, identity)
        application_id = approval_id_of(caller.identity, key.method, key.request_id)
        now = self._office.clock.now()
        application = self.new(application_id, Origin.APPLIED, request, profile, caller.identity, needs_approval=True)
        with self._office.database.transaction() as tx:
            if not tx.applications.put(application):
                return known_application(tx, application, now)
            if caller.kind is CallerKind.AGENCY:
                applicants = self._office.agency_path(caller.agency_id)
                before = tx.applications.applied_since(applicants, now - PACE_WINDOW) - 1  # this one is among them
                self._office.require_pace(before)
            self._rules.require_usable(tx, request)
            self.ask(tx, application, requester=caller.identity)
            self._office.tell(tx, key.method, caller.identity, about(application), now)
            return application

    def get_application(self, caller: Caller, application_id: UUID) -> Issued:
        """An application, as it stands. Raises ApplicationUnknown, also for another agency's."""
        issued = self._issuing.shown(application_id)
        if caller.kind is CallerKind.AGENCY and not issued.application.identity.startswith(self._own(caller)):
            raise ApplicationUnknown()
        return issued

    def list_applications(
        self, caller: Caller, state: ApplicationState | None, after: Place | None, limit: int
    ) -> list[Application]:
        """Applications, newest first; an agency sees its own."""
        identities = self._own(caller) if caller.kind is CallerKind.AGENCY else ""
        with self._office.database.transaction() as tx:
            return tx.applications.page(state, identities, self._office.clock.now(), after, limit)

    def new(
        self,
        application_id: UUID,
        origin: Origin,
        request: SigningRequest,
        profile: Profile,
        applicant: str,
        *,
        needs_approval: bool,
    ) -> Application:
        """An application that nobody knows yet, in the terms that its profile has now."""
        now = self._office.clock.now()
        return Application(
            application_id=application_id,
            origin=origin,
            identity=request.identity,
            profile=profile,
            profile_version=PROFILES[profile].version,
            csr=request.der,
            csr_digest=request.digest,
            key_id=request.key_id,
            applicant=applicant,
            apply_time=now,
            expire_time=now + self._office.terms.application_life,
            needs_approval=needs_approval,
            state=ApplicationState.PENDING if needs_approval else ApplicationState.APPROVED,
        )

    def ask(self, tx: Ledger, application: Application, *, requester: str) -> None:
        """Ask a second person about an application: anybody but `requester`.

        What he approves is the application as he reads it: this request by its digest, this identity, this version of
        the profile.
        """
        read = self._approvable(application)
        life = application.expire_time - application.apply_time
        tx.approvals.ask(
            application.application_id, requester, APPLY, read.request, read.digest, application.apply_time, life
        )

    def _own(self, caller: Caller) -> str:
        return self._office.agency_path(caller.agency_id)

    def _require_entitled(self, caller: Caller, identity: str, profile: Profile, method: str) -> None:
        try:
            named = SpiffeId.parse(identity)
        except IdentityMalformed:
            raise InvalidField("identity", "must be an identity URI, spiffe://agency.<environment>/tax/core") from None
        if named.environment != self._office.environment:
            raise InvalidField("identity", f"must be an identity of {self._office.environment}")
        if caller.kind is CallerKind.AGENCY and not identity.startswith(self._own(caller)):
            raise MethodNotAllowed(method=method, caller_kind=caller.kind.name.lower())
        if named.kind.value not in PROFILES[profile].kinds:
            raise ProfileNotEntitled(profile=profile.name)


def known_application(tx: Ledger, wanted: Application, now: datetime) -> Application:
    """The application of a request that was sent before. Raises RequestIdReused if that was for something else."""
    known = tx.applications.find(wanted.application_id, now)
    if known is None:
        raise ApplicationUnknown()
    if (known.identity, known.profile, known.csr_digest) != (wanted.identity, wanted.profile, wanted.csr_digest):
        raise RequestIdReused()
    return known


def about(application: Application) -> str:
    """An application in the words of the authority log."""
    return f"application {application.application_id} ({application.profile.name}) for {application.identity}"
