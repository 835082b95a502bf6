"""What those can do who have no working certificate: bring a token, renew what expired, ask how it stands.

A token is looked up by its digest and goes nowhere else: not into a log, an answer, an error or the store.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.errors import KeyUnacceptable
from npd_pki.keys import require_leaf_public_key, signature_hash
from npd_pki.trust_bundle import is_issued_by
from services.issuer.diagnosis import LARGEST, Explanation, diagnose, explain
from services.issuer.domain import (
    Application,
    Authority,
    Certificate,
    CertificateMalformed,
    CertificateName,
    CertificateState,
    CertificateUnknown,
    Enrolment,
    EnrolmentState,
    Issued,
    KeyBlocked,
    Origin,
    RenewalNotEnabled,
    SignatureInvalid,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
)
from services.issuer.operations.applications import ApplicationOperations, about, known_application
from services.issuer.operations.issuing import Issuing
from services.issuer.operations.office import PACE_WINDOW, Office
from services.issuer.operations.signing_requests import KeyRules, SigningRequest, read_signing_request
from services.issuer.repository import Ledger
from services.mesh.core.answers import AnswerKey
from services.mesh.core.approvals import approval_id_of
from services.mesh.core.authorities import AuthorityState
from services.mesh.core.caller import CertificateRevoked, SpiffeId
from services.mesh.core.errors import MeshError, StateNotAllowed

_APPLICANT = "door"
_SIGNED = "npd-renew-expired-v1"
_LONGEST_CHAIN, _LARGEST_SIGNATURE = 4, 2 << 10


class DoorOperations:
    """Nobody is known here: what a request proves is all there is. `roots` are those of the bundle in use."""

    def __init__(
        self,
        office: Office,
        issuing: Issuing,
        rules: KeyRules,
        applications: ApplicationOperations,
        roots: Callable[[], Sequence[x509.Certificate]],
    ) -> None:
        self._office = office
        self._issuing = issuing
        self._rules = rules
        self._applications = applications
        self._roots = roots

    def enrol(self, token: str, csr: bytes, key: AnswerKey) -> Issued:
        """Bring a token and a signing request.

        1. The token is that of an open enrolment, or was used by this very request.
        2. The signing request is sound, and asks for no other name than the one enrolled.
        3. Token and application are settled in one transaction: of two that come at once, one finds it used.
        4. If the system is active it is issued now. Else somebody other than who enrolled it has to approve.

        Raises TokenUnknown, TokenUsed, TokenExpired, RequestIdReused, what is wrong with the signing request, and what
        issuing raises.
        """
        self._office.require_room()
        digest = sha256(token.encode()).digest()
        application_id = approval_id_of(digest.hex(), key.method, key.request_id)
        with self._office.database.transaction() as tx:
            enrolment = self._admitted(tx, digest, application_id)  # (1)
        request = read_signing_request(csr, enrolment.identity)  # (2)
        with self._office.database.transaction() as tx:  # (3)
            enrolment = self._admitted(tx, digest, application_id, lock=True)
            application = self._enrolled(tx, enrolment, application_id, request, key.method)
        if application.needs_approval:
            return self._issuing.shown(application_id)
        return self._issuing.issue(application_id, key.method, enrolment.identity)  # (4)

    def application_status(self, token: str) -> Issued | None:
        """How the application stands that came with a token; None before the token was used. Raises TokenUnknown."""
        with self._office.database.transaction() as tx:
            enrolment = tx.enrolments.of_token(sha256(token.encode()).digest())
        if enrolment is None or enrolment.state_at(self._office.clock.now()) is EnrolmentState.CANCELLED:
            raise TokenUnknown()
        return self._issuing.shown(enrolment.application_id) if enrolment.application_id else None

    def renew_expired(self, chain: bytes, csr: bytes, signature: bytes, key: AnswerKey) -> Issued:
        """Renew a certificate that has expired.

        1. It was issued by an authority of ours that was not revoked, and is known here, just as it is.
        2. Its key signed this request.
        3. It has expired and was not revoked, and whom it names may call.
        4. An operator enabled the renewal, in time, and it was not used; or it was used by this very request.
        5. The signing request is sound, for a new key.
        6. The renewal is used up in the transaction that keeps the application; then it is issued.

        Raises CertificateMalformed, CertificateUnknown, SignatureInvalid, CertificateRevoked, StateNotAllowed for one
        that can still be renewed as usual, RenewalNotEnabled, and what Enrol raises of a signing request.
        """
        self._office.require_room()
        leaf = _leaf_of(chain)
        with self._office.database.transaction() as tx:
            certificate = self._known(tx, leaf)  # (1)
        _require_signed(leaf, signature, f"{_SIGNED}\n{key.request_id}\n".encode() + csr)  # (2)
        self._require_renewable(certificate)  # (3)
        application_id = approval_id_of(str(certificate.name), key.method, key.request_id)
        request = read_signing_request(csr, certificate.identity)  # (5)
        application = self._applications.new(
            application_id, Origin.RENEWED, request, certificate.profile, certificate.identity, needs_approval=False
        )
        with self._office.database.transaction() as tx:  # (6)
            self._use_renewal(tx, certificate, application, request)
        return self._issuing.issue(application_id, key.method, certificate.identity)

    def diagnose(self, chain: bytes) -> list[Explanation]:
        """What is wrong with a certificate, and what to do. Raises CertificateMalformed."""
        with self._office.database.transaction() as tx:
            authorities = tx.authorities.all()
        found = diagnose(
            chain,
            roots=self._roots(),
            authorities=authorities,
            environment=self._office.environment,
            policy=self._office.policy(),
            now=self._office.clock.now(),
        )
        return list(map(explain, found))

    def _admitted(self, tx: Ledger, digest: bytes, application_id: UUID, *, lock: bool = False) -> Enrolment:
        """The enrolment of a token that this application may use, or has used."""
        enrolment = tx.enrolments.of_token(digest, lock=lock)
        if enrolment is None:
            raise TokenUnknown()
        match enrolment.state_at(self._office.clock.now()):
            case EnrolmentState.CANCELLED:
                raise TokenUnknown()
            case EnrolmentState.EXPIRED:
                raise TokenExpired(expire_time=enrolment.expire_time.isoformat())
            case EnrolmentState.USED if enrolment.application_id != application_id:
                raise TokenUsed()
        return enrolment

    def _enrolled(
        self, tx: Ledger, enrolment: Enrolment, application_id: UUID, request: SigningRequest, method: str
    ) -> Application:
        """The application that uses up a token, or the one that has."""
        application = self._applications.new(
            application_id,
            Origin.ENROLLED,
            request,
            enrolment.profile,
            _APPLICANT,
            needs_approval=not self._stands(enrolment.identity),
        )
        if not tx.applications.put(application):
            return known_application(tx, application, application.apply_time)
        self._rules.require_usable(tx, request)
        tx.enrolments.change(replace(enrolment, application_id=application_id))
        if application.needs_approval:
            self._applications.ask(tx, application, requester=enrolment.creator)
        self._office.tell(tx, method, enrolment.identity, about(application), application.apply_time)
        return application

    def _stands(self, identity: str) -> bool:
        try:
            self._office.require_standing(SpiffeId.parse(identity))
        except MeshError:
            return False
        return True

    def _known(self, tx: Ledger, leaf: x509.Certificate) -> Certificate:
        issuer = next((one for one in tx.authorities.all() if _issued(leaf, one)), None)
        if issuer is None:
            raise CertificateUnknown()
        if issuer.state is AuthorityState.REVOKED:
            raise CertificateRevoked(revoke_time=issuer.state_time.isoformat())
        known = tx.certificates.find(CertificateName(issuer.key_id, f"{leaf.serial_number:x}"))
        if known is None or known.der != leaf.public_bytes(Encoding.DER):
            raise CertificateUnknown()
        if tx.blocked_keys.holds(known.key_id):
            raise KeyBlocked()
        return known

    def _require_renewable(self, certificate: Certificate) -> None:
        if certificate.revoke_time is not None:
            raise CertificateRevoked(revoke_time=certificate.revoke_time.isoformat())
        state = certificate.state_at(self._office.clock.now())
        if state is not CertificateState.EXPIRED:
            raise StateNotAllowed(object=str(certificate.name), state=state.name)
        self._office.require_standing(SpiffeId.parse(certificate.identity))

    def _use_renewal(
        self, tx: Ledger, certificate: Certificate, application: Application, request: SigningRequest
    ) -> None:
        if not tx.applications.put(application):  # used by this very request, even if it was enabled again since
            known_application(tx, application, application.apply_time)
            return
        enabled = tx.enrolments.enabled(certificate.name)
        is_open = enabled is not None and enabled.application_id is None
        if enabled is None or not is_open or application.apply_time >= enabled.expire_time:  # (4)
            raise RenewalNotEnabled(expire_time=certificate.expire_time.isoformat())
        since = application.apply_time - PACE_WINDOW
        count = tx.certificates.intents_since(certificate.agency_id, certificate.identity, since)
        self._office.require_pace(count)
        self._rules.require_usable(tx, request)
        self._rules.require_new(tx, request, certificate.key_id)
        tx.enrolments.enable(replace(enabled, application_id=application.application_id))


def _leaf_of(chain: bytes) -> x509.Certificate:
    """The first certificate of a chain in PEM. Raises CertificateMalformed for what is no chain or cannot be read."""
    if len(chain) > LARGEST:
        raise CertificateMalformed()
    try:
        found = x509.load_pem_x509_certificates(chain)
        require_leaf_public_key(found[0].public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, KeyUnacceptable) as error:
        raise CertificateMalformed() from error
    if len(found) > _LONGEST_CHAIN:
        raise CertificateMalformed()
    return found[0]


def _issued(leaf: x509.Certificate, authority: Authority) -> bool:
    return is_issued_by(leaf, x509.load_der_x509_certificate(authority.certificate))


def _require_signed(leaf: x509.Certificate, signature: bytes, signed: bytes) -> None:
    """Raises SignatureInvalid unless the key of the leaf made the signature."""
    key = require_leaf_public_key(leaf.public_key())
    algorithm = signature_hash(key)
    try:
        if len(signature) > _LARGEST_SIGNATURE:
            raise InvalidSignature
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        else:
            key.verify(signature, signed, ec.ECDSA(algorithm))
    except InvalidSignature as error:
        raise SignatureInvalid() from error
