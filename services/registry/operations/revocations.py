"""Revokes certificates."""

from services.mesh.core.answers import AnswerKey
from services.mesh.core.authorities import RevocationReason
from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.evidence.entry import Entry, Outcome
from services.registry.domain import CertificateName, Revocation
from services.registry.repository import Store


class RevocationOperations:
    """Revocations; none is ever taken back."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def revoke_certificate(
        self, caller: Caller, certificate: CertificateName, reason: RevocationReason, key: AnswerKey
    ) -> Revocation:
        """Revoke a certificate for good. One that is revoked keeps its first time and reason."""
        with self._store.transaction() as tx, tx.answers.once(caller, key, Revocation) as answer:
            if answer.given:
                return answer.given
            tx.policy.lock()
            revocation = tx.policy.revocation(certificate.issuer_key_id, certificate.serial_number)
            if revocation is None:
                now = self._clock.now()
                revocation = Revocation(certificate.issuer_key_id, certificate.serial_number, reason, now)
                tx.policy.put(revocation, revision=tx.policy.advance())
            tx.log.record(Entry(caller, key.method, Outcome.DONE, object=_named(certificate)))
            return answer.give(revocation)


def _named(certificate: CertificateName) -> str:
    return f"certificate {certificate.serial_number} of issuer {certificate.issuer_key_id}"
