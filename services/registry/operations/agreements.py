"""Draws up agreements, takes the parties' signatures, suspends and resumes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

from cryptography import x509

from services.mesh.core.agreements import Signature, SignatureDefect, verify_signature
from services.mesh.core.answers import AnswerKey
from services.mesh.core.authorities import AuthorityState
from services.mesh.core.caller import Caller, CallerKind, Leaf
from services.mesh.core.clock import Clock
from services.mesh.core.errors import MethodNotAllowed
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.rights import AgreementSignatureInvalid, AgreementUnknown, SystemUnknown
from services.registry.domain import Agreement, Page, Side, Terms, is_timely, require_within_law
from services.registry.repository import Store, Transaction

Serialise = Callable[[Terms], bytes]
"""Turns terms into the bytes that are signed: the wire's form, which this room does not know."""
Roots = Callable[[], Sequence[x509.Certificate]]


class AgreementOperations:
    """Agreements between the operator and agencies' systems."""

    def __init__(self, store: Store, clock: Clock, environment: str, serialise: Serialise, roots: Roots) -> None:
        self._store = store
        self._clock = clock
        self._environment = environment
        self._serialise = serialise
        self._roots = roots

    def draw_up_agreement(self, caller: Caller, terms: Terms, key: AnswerKey) -> Agreement:
        """Draw up a draft. Its terms are serialised here, once.

        Raises SystemUnknown, and what `require_within_law` raises.
        """
        with self._store.transaction() as tx, tx.answers.once(caller, key, Agreement) as answer:
            if answer.given:
                return answer.given
            tx.policy.lock()
            if tx.policy.system(terms.agency_id, terms.system_id) is None:
                raise SystemUnknown(system=f"{terms.agency_id}/{terms.system_id}")
            require_within_law(terms, tx.policy.law_for(terms.provision, terms.purpose))
            drawn_up = replace(terms, agreement_id=str(uuid4()), environment=self._environment)
            stored = self._serialise(drawn_up)
            draft = Agreement(drawn_up.agreement_id, terms.agency_id, terms.system_id, stored, {}, {})
            return answer.give(_put(tx, caller, draft, key))

    def sign_agreement(self, caller: Caller, agreement_id: str, signature: Signature, key: AnswerKey) -> Agreement:
        """Add the signature of the caller's side.

        1. The caller is a party, and its side has not signed.
        2. The signature was not made in the future.
        3. It is that party's, over these terms (`verify_signature`); a room that receives it verifies it again.
        4. Its certificate has not expired (a sign time in the past proves nothing), and neither it nor its issuer is
           revoked; later expiry and revocation do not undo what was signed.

        Raises AgreementUnknown, MethodNotAllowed, StateNotAllowed, AgreementSignatureInvalid.
        """
        with self._store.transaction() as tx, tx.answers.once(caller, key, Agreement) as answer:
            if answer.given:
                return answer.given
            agreement, side = _open(tx, caller, agreement_id, key)  # (1)
            signed = agreement.signed(side, signature)
            if not is_timely(signature, self._clock.now()):  # (2)
                raise AgreementSignatureInvalid(agreement=agreement_id, defect="it is signed in the future")
            leaf = self._verify(agreement, side, signature)  # (3)
            if leaf.expire_time <= self._clock.now():
                raise AgreementSignatureInvalid(agreement=agreement_id, defect="its certificate has expired")
            _require_not_revoked(tx, leaf, agreement_id)  # (4)
            return answer.give(_put(tx, caller, signed, key))

    def suspend_agreement(self, caller: Caller, agreement_id: str, cause: str, key: AnswerKey) -> Agreement:
        """Suspend an agreement for the caller's side. Raises AgreementUnknown, MethodNotAllowed, StateNotAllowed."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, Agreement) as answer:
            if answer.given:
                return answer.given
            agreement, side = _open(tx, caller, agreement_id, key)
            return answer.give(_put(tx, caller, agreement.suspended(side, cause), key))

    def resume_agreement(self, caller: Caller, agreement_id: str, key: AnswerKey) -> Agreement:
        """End the suspension by the caller's side.

        Raises AgreementUnknown, StateNotAllowed if nobody suspends it, MethodNotAllowed if only the other side does.
        """
        with self._store.transaction() as tx, tx.answers.once(caller, key, Agreement) as answer:
            if answer.given:
                return answer.given
            agreement, side = _open(tx, caller, agreement_id, key)
            if agreement.suspended_by and side not in agreement.suspended_by:
                raise _not_allowed(caller, key)
            return answer.give(_put(tx, caller, agreement.resumed(side), key))

    def list_agreements(self, caller: Caller, agency_id: str, page: Page, method: str) -> list[Agreement]:
        """Agreements by id; an agency sees its own. Raises MethodNotAllowed for another agency's."""
        if caller.kind is CallerKind.AGENCY:
            if agency_id not in ("", caller.agency_id):
                raise MethodNotAllowed(method=method, caller_kind=caller.kind.name.lower())
            agency_id = caller.agency_id
        with self._store.unrecorded() as tx:
            return tx.policy.agreements(page, agency_id=agency_id)

    def _verify(self, agreement: Agreement, side: Side, signature: Signature) -> Leaf:
        party = f"{agreement.agency_id}/{agreement.system_id}" if side is Side.AGENCY else ""
        host = f"{side.value}.{self._environment}"
        try:
            return verify_signature(agreement.terms, signature, host, party, self._roots())
        except SignatureDefect as defect:
            raise AgreementSignatureInvalid(agreement=agreement.agreement_id, defect=defect) from None


def _open(tx: Transaction, caller: Caller, agreement_id: str, key: AnswerKey) -> tuple[Agreement, Side]:
    """An agreement, which nobody else can change from now on, and the side for which the caller acts."""
    tx.policy.lock()
    agreement = tx.policy.agreement(agreement_id)
    if agreement is None:
        raise AgreementUnknown(agreement=agreement_id)
    side = agreement.side_of(caller)
    if side is None:
        raise _not_allowed(caller, key)
    return agreement, side


def _require_not_revoked(tx: Transaction, leaf: Leaf, agreement_id: str) -> None:
    for issuer_key_id, serial_number in (
        (leaf.issuer_key_id, leaf.serial_number),
        (leaf.root_key_id, leaf.issuer_serial_number),
    ):
        if tx.policy.revocation(issuer_key_id, serial_number) is not None:
            raise AgreementSignatureInvalid(agreement=agreement_id, defect="the certificate is revoked")
    authority = tx.policy.authority(leaf.issuer_key_id)
    if authority is not None and authority.state is AuthorityState.REVOKED:
        raise AgreementSignatureInvalid(agreement=agreement_id, defect="the certificate's issuer is revoked")


def _put(tx: Transaction, caller: Caller, agreement: Agreement, key: AnswerKey) -> Agreement:
    tx.policy.put(agreement, revision=tx.policy.advance())
    tx.log.record(Entry(caller, key.method, Outcome.DONE, object=f"agreement {agreement.agreement_id}"))
    return agreement


def _not_allowed(caller: Caller, key: AnswerKey) -> MethodNotAllowed:
    return MethodNotAllowed(method=key.method, caller_kind=caller.kind.name.lower())
