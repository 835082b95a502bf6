"""Records what the issuer did: in the authority log, and what it changes in the policy."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime

from services.mesh.core.answers import AnswerKey
from services.mesh.core.authorities import Authority
from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.evidence.entry import Entry, Outcome
from services.registry.domain import CertificateAct, CertificateName, RecordedAct, Revocation, authority_after
from services.registry.repository import Store, Transaction


class CertificateActOperations:
    """The issuer's acts, as it tells them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def record_certificate_acts(self, issuer: Caller, acts: Sequence[CertificateAct], method: str) -> None:
        """Record each act that was not recorded before; all of them, or none.

        1. Their answers are taken in the order of ids and before the policy's lock, so that two requests with the same
           acts never wait for each other in a circle.
        2. What they revoke, and authorities as they left them, come into the policy, at one revision.
        3. Each has one entry, of the issuer, that names the method, who acted there, and when.

        Raises RequestIdReused for an act that was recorded with other content.
        """
        with self._store.transaction() as tx, ExitStack() as taken:
            answers = {
                act.act_id: taken.enter_context(
                    tx.answers.once(issuer, AnswerKey(method, act.act_id, act.digest), RecordedAct)
                )
                for act in sorted(acts, key=lambda act: act.act_id)  # (1)
            }
            new = [act for act in acts if not answers[act.act_id].given]
            _change_policy(tx, new, self._clock.now())  # (2)
            tx.log.record_all([_entry(issuer, act) for act in new])  # (3)
            for act in new:
                answers[act.act_id].give(RecordedAct(act.act_id))


def _change_policy(tx: Transaction, acts: Sequence[CertificateAct], now: datetime) -> None:
    told = [act.authority for act in acts if act.authority is not None]
    revocations: dict[CertificateName, Revocation] = {}
    for revocation in (each for act in acts for each in act.revocations):
        revocations.setdefault(revocation.certificate, revocation)
    if not told and not revocations:
        return
    tx.policy.lock()
    known = tx.policy.revoked(revocations)
    changed = [revocation for certificate, revocation in revocations.items() if certificate not in known]
    authorities = _changed_authorities(tx, told, now)
    if changed or authorities:
        tx.policy.put(*changed, *authorities, revision=tx.policy.advance())


def _changed_authorities(tx: Transaction, told: Sequence[Authority], now: datetime) -> list[Authority]:
    """The authorities that are not as they were, once all is told in its order."""
    before = {key_id: tx.policy.authority(key_id) for key_id in dict.fromkeys(each.key_id for each in told)}
    after = dict(before)
    for authority in told:
        after[authority.key_id] = authority_after(after[authority.key_id], authority, now)
    return [each for key_id, each in after.items() if each is not None and each != before[key_id]]


def _entry(issuer: Caller, act: CertificateAct) -> Entry:
    named = f"{act.object}, by {act.actor}, at {act.act_time.isoformat()}"
    return Entry(issuer, act.method, Outcome.DONE, object=named)
