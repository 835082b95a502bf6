"""Revokes certificates: one, the siblings of a compromised key, or all that one selector names. Never takes it back."""

from collections.abc import Callable, Sequence
from datetime import datetime

from services.issuer.domain import (
    HOLDERS_REASONS,
    Certificate,
    CertificateName,
    CertificateState,
    CertificateUnknown,
    Revocation,
    RevocationReasonNotAllowed,
    Revoked,
    RevokedMany,
    Wanted,
)
from services.issuer.operations.office import Office
from services.issuer.repository import Ledger
from services.mesh.core.answers import AnswerKey
from services.mesh.core.authorities import RevocationReason
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import StateNotAllowed

ACT_SIZE = 500
"""Revocations that one act tells the registry at most."""
SHOWN = 1000
"""Certificates that the answer of an act on many names at most."""


class RevocationOperations:
    """Revocations by holders and operators. `revoked` is called after each was committed."""

    def __init__(self, office: Office, revoked: Callable[[], None] = lambda: None) -> None:
        self._office = office
        self._revoked = revoked

    def revoke_certificate(
        self, caller: Caller, name: CertificateName, reason: RevocationReason, key: AnswerKey
    ) -> Revoked:
        """Revoke a certificate for good; one that is revoked keeps its first time and reason.

        1. A holder revokes his own, for the reasons that are his to give; an operator any, for all reasons. An intent
           counts as a certificate: nobody knows whether it was signed.
        2. A compromised key is blocked for ever, and whatever was issued for it goes with it, whoever's it is. That
           counts for a revoked or expired certificate, too: its key may live on in others.
        3. The acts for the registry are committed with the answer.

        Raises CertificateUnknown, RevocationReasonNotAllowed, StateNotAllowed for one that has expired.
        """
        now = self._office.clock.now()
        with self._office.database.transaction() as tx, tx.answers.once(caller, key, Revoked) as answer:
            if answer.given:
                return answer.given
            found = tx.certificates.find(name)
            if found is None or not _may_revoke(caller, found):  # (1)
                raise CertificateUnknown()
            if caller.kind is not CallerKind.OPERATOR and reason not in HOLDERS_REASONS:
                raise RevocationReasonNotAllowed(allowed=", ".join(one.name for one in HOLDERS_REASONS))
            is_compromised = reason is RevocationReason.KEY_COMPROMISE
            if is_compromised:  # (2)
                tx.blocked_keys.block([found.key_id], caller.identity, now)
            elif found.state_at(now) is CertificateState.EXPIRED:
                raise StateNotAllowed(object=str(name), state=CertificateState.EXPIRED.name)
            chosen = Wanted(key_id=found.key_id) if is_compromised else _only(found)
            open_ones = tx.certificates.lock_revocable(chosen, now, by_key=False)
            revoked = self._revoke(tx, caller, key.method, _of(name, open_ones, is_compromised), reason, now)  # (3)
            itself = tx.certificates.find(name) or found
            given = answer.give(Revoked((itself, *(one for one in revoked if one.name != name))))
        self._revoked()
        return given

    def revoke_certificates(
        self, caller: Caller, wanted: Wanted, reason: RevocationReason, *, execute: bool, key: AnswerKey
    ) -> RevokedMany:
        """Revoke all certificates that one selector names, of those neither expired nor revoked; without `execute` only
        say which. With KEY_COMPROMISE their keys are blocked, and whatever else was issued for these goes with them.

        They are locked in one order, changed by one statement, and told in acts of 500. Raises InvalidField.
        """
        wanted.require_one_selector()
        now, by_key = self._office.clock.now(), reason is RevocationReason.KEY_COMPROMISE
        with self._office.database.transaction() as tx, tx.answers.once(caller, key, RevokedMany) as answer:
            if answer.given:
                return answer.given
            if not execute:
                count, first = tx.certificates.revocable(wanted, now, SHOWN, by_key=by_key)
                return answer.give(RevokedMany(count, False, tuple(first)))
            if by_key:
                self._block(tx, caller, wanted, now)
            open_ones = tx.certificates.lock_revocable(wanted, now, by_key=by_key)
            revoked = self._revoke(tx, caller, key.method, open_ones, reason, now)
            given = answer.give(RevokedMany(len(revoked), True, revoked[:SHOWN]))
        self._revoked()
        return given

    def _block(self, tx: Ledger, caller: Caller, wanted: Wanted, now: datetime) -> None:
        """Block the keys; one that is named itself also if nothing was issued for it."""
        keys = [one.key_id for one in tx.certificates.lock_revocable(wanted, now, by_key=True)]
        tx.blocked_keys.block([*keys, *filter(None, [wanted.key_id])], caller.identity, now)

    def _revoke(
        self,
        tx: Ledger,
        caller: Caller,
        method: str,
        open_ones: Sequence[Certificate],
        reason: RevocationReason,
        now: datetime,
    ) -> tuple[Certificate, ...]:
        """Keep the revocation of certificates that are locked, and put the acts that tell of it."""
        revocations = [Revocation.of(one, reason, now) for one in open_ones]
        tx.certificates.revoke(revocations)
        tell_revocations(self._office, tx, method, caller.identity, revocations, now)
        return tuple(one.revoked(reason, now) for one in open_ones)


def tell_revocations(
    office: Office, tx: Ledger, method: str, actor: str, revocations: Sequence[Revocation], now: datetime
) -> None:
    """Put the acts that tell the registry of revocations, in portions that one act can hold."""
    for start in range(0, len(revocations), ACT_SIZE):
        part = tuple(revocations[start : start + ACT_SIZE])
        about = str(part[0].name) if len(part) == 1 else f"{len(part)} certificates, the first {part[0].name}"
        office.tell(tx, method, actor, f"{about} ({part[0].reason.name})", now, revoked=part)


def _may_revoke(caller: Caller, certificate: Certificate) -> bool:
    return caller.kind is CallerKind.OPERATOR or certificate.identity == caller.identity


def _only(certificate: Certificate) -> Wanted:
    """What finds a certificate and, its key having several, a few others."""
    return Wanted(key_id=certificate.key_id, issuer_key_id=certificate.name.issuer_key_id)


def _of(name: CertificateName, open_ones: Sequence[Certificate], is_compromised: bool) -> Sequence[Certificate]:
    return open_ones if is_compromised else [one for one in open_ones if one.name == name]
