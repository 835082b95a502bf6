"""Reconciles this room's store with the registry's policy, so that nothing that was revoked ever is valid again.

Either may be one that was restored from a backup: what one knows and the other lacks is adopted, or told again.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from services.issuer.domain import Authority, CertificateName, Revocation, Wanted
from services.issuer.operations.authorities import authority_of
from services.issuer.operations.office import Office
from services.issuer.operations.revocation_lists import STAYS_LISTED
from services.issuer.operations.revocations import tell_revocations
from services.issuer.repository import Ledger
from services.mesh.core import authorities as policy_terms
from services.mesh.core.authorities import AuthorityState, RevocationReason
from services.mesh.core.background import Stopping
from services.mesh.core.rights import Policy

log = structlog.get_logger(__name__)

SETTLED = timedelta(minutes=1)
"""How long after an act the policy must know of it, once it has left the outbox."""

_WAIT, _LOOK_EVERY = 0.5, 15.0
_REVOKE = "/npd.issuer.v1.CertificateService/RevokeCertificate"
_PREPARE = "/npd.issuer.v1.AuthorityService/PrepareAuthority"
_ACTIVATE = "/npd.issuer.v1.AuthorityService/ActivateAuthority"
_SERIAL_NUMBERS = range(1, 2**159)  # RFC 5280 4.1.2.2


class Reconciliation:
    """Reconciles when the policy changes, and every 15 seconds. `changed` is called when something was adopted."""

    def __init__(self, office: Office, changed: Callable[[], None] = lambda: None) -> None:
        self._office = office
        self._changed = changed
        self._woken = threading.Event()
        self._told: set[CertificateName | str] = set()
        self._told_time = office.clock.now()

    def wake(self) -> None:
        """The policy changed."""
        self._woken.set()

    def run(self, stopping: Stopping) -> None:
        """Reconcile until told to stop."""
        while not stopping.is_set():
            self._woken.clear()
            self.step()
            looked = time.monotonic()
            while not stopping.is_set() and time.monotonic() < looked + _LOOK_EVERY:
                if self._woken.wait(_WAIT):
                    break

    def step(self) -> None:
        """Reconcile once; without a policy there is nothing to go by.

        1. Authorities: the later state holds, and REVOKED always does. A fresh store takes those of the keyring.
        2. Revocations of their certificates: what the policy knows is adopted, what it lacks is told again.
        """
        policy, now = self._office.policy(), self._office.clock.now()
        if policy.revision == 0:
            return
        self._office.keyring.look()
        with self._office.database.transaction() as tx:
            tx.authorities.lock()
            settled = self._settled(tx, now)
            adopted = self._reconcile_authorities(tx, policy, settled, now)  # (1)
        with self._office.database.transaction() as tx:
            adopted += self._reconcile_revocations(tx, policy, settled, now)  # (2)
        if adopted:
            self._changed()

    def _settled(self, tx: Ledger, now: datetime) -> datetime | None:
        """What was done before this is not on its way any more; None if that cannot be said now."""
        count, oldest, aside = tx.outbox.extent()
        if count == 0 and now - self._told_time > SETTLED:
            self._told.clear()
        return None if aside else min(now, oldest or now) - SETTLED

    def _reconcile_authorities(self, tx: Ledger, policy: Policy, settled: datetime | None, now: datetime) -> int:
        known = {one.key_id: one for one in tx.authorities.all()}
        adopted = 0
        for told in policy.authorities.values():
            mine = known.get(told.key_id) or self._found(told, now)
            if mine is None:
                continue
            if mine.key_id not in known or _is_later(told, mine):
                state = AuthorityState[told.state.name]
                mine = replace(mine, state=state, state_time=told.state_time, known_revision=None)
                if state is AuthorityState.REVOKED:
                    tx.authorities.put(mine)  # first: whoever issues has its intent in the store, or finds it revoked
                    tx.certificates.revoke_all_of(mine.key_id, RevocationReason.PRIVILEGE_WITHDRAWN, now)
                log.warning("an authority's state is adopted", key_id=mine.key_id, state=state.name)
                adopted += 1
            known[mine.key_id] = self._acknowledged(tx, self._certified(mine), told, policy.revision)
        if not known:
            return self._bootstrap(tx, policy, now)
        for mine in known.values():
            if _is_missing(mine, policy) and settled is not None and mine.state_time < settled:
                self._tell_again(tx, mine, now)
        return adopted

    def _found(self, told: policy_terms.Authority, now: datetime) -> Authority | None:
        """An authority that the policy names and the store lacks, from the keyring."""
        signer = self._office.keyring.opened.get(told.key_id)
        found = authority_of(signer, now) if signer is not None else None
        return found if found is not None and found.host == told.host else None

    def _certified(self, mine: Authority) -> Authority:
        """An authority with the certificate that lies in the keyring: another root may have certified the same key."""
        signer = self._office.keyring.opened.get(mine.key_id)
        found = authority_of(signer, mine.state_time) if signer is not None else None
        if found is None or found.certificate == mine.certificate:
            return mine
        log.info("an authority has another certificate", key_id=mine.key_id, expire_time=found.expire_time.isoformat())
        return replace(mine, certificate=found.certificate, expire_time=found.expire_time)

    def _acknowledged(self, tx: Ledger, mine: Authority, told: policy_terms.Authority, revision: int) -> Authority:
        """Keep since which revision the policy names an authority in its state."""
        is_named = (told.state.name, told.state_time) == (mine.state.name, mine.state_time)
        known = min(revision, mine.known_revision or revision) if is_named else None
        following = replace(mine, known_revision=known)
        if following != tx.authorities.find(mine.key_id):
            tx.authorities.put(following)
        return following

    def _bootstrap(self, tx: Ledger, policy: Policy, now: datetime) -> int:
        """Take the authorities of the keyring into a store that knows none.

        The only one of a host issues from now on. Of several an operator chooses, as where the policy names others.
        """
        ready = [one for signer in self._office.keyring.opened.values() if (one := authority_of(signer, now))]
        usable = [one for one in ready if now < one.expire_time]
        counts = Counter(one.host for one in usable)
        for one in usable:
            is_only = counts[one.host] == 1 and one.host not in policy.governed_hosts
            taken = replace(one, state=AuthorityState.ACTIVE) if is_only else one
            tx.authorities.put(taken)
            self._tell(tx, _ACTIVATE if is_only else _PREPARE, taken, now)
        return len(usable)

    def _tell_again(self, tx: Ledger, authority: Authority, now: datetime) -> None:
        told = f"{authority.key_id} {authority.state.name}"
        if told not in self._told:
            log.warning("the policy lacks an authority's state", key_id=authority.key_id, state=authority.state.name)
            self._tell(tx, _ACTIVATE if authority.state is AuthorityState.ACTIVE else _PREPARE, authority, now)
            self._note({told}, now)

    def _tell(self, tx: Ledger, method: str, authority: Authority, now: datetime) -> None:
        about = f"authority {authority.key_id} of {authority.host} ({authority.state.name})"
        self._office.tell(tx, method, self._office.itself.identity, about, now, authority=authority)

    def _reconcile_revocations(self, tx: Ledger, policy: Policy, settled: datetime | None, now: datetime) -> int:
        ids = [one.key_id for one in tx.authorities.all()]
        told = {CertificateName(*name): each for name, each in policy.revoked.items() if name[0] in ids}
        known = tx.certificates.revoked_names(ids)
        lacking = [_revocation(name, each) for name, each in told.items() if name not in known and _can_be(name)]
        if lacking:
            log.warning("revocations are adopted from the policy", count=len(lacking))
            tx.certificates.adopt_revocations(lacking)
            self._block(tx, lacking, now)
        if settled is not None:
            self._tell_revocations_again(tx, policy, told.keys(), settled, now)
        return len(lacking)

    def _block(self, tx: Ledger, revocations: Collection[Revocation], now: datetime) -> None:
        """A compromised key is blocked, also that of a certificate unknown here, and its siblings go with it."""
        itself = self._office.itself.identity
        for one in revocations:
            found = tx.certificates.find(one.name)
            key_id = one.key_id or (found.key_id if found else "")
            if not key_id or one.reason is not RevocationReason.KEY_COMPROMISE:
                continue
            tx.blocked_keys.block([key_id], itself, now)
            siblings = tx.certificates.lock_revocable(Wanted(key_id=key_id), now, by_key=False)
            revoked = [Revocation.of(each, one.reason, now) for each in siblings]
            tx.certificates.revoke(revoked)
            tell_revocations(self._office, tx, _REVOKE, itself, revoked, now)

    def _tell_revocations_again(
        self, tx: Ledger, policy: Policy, told: Collection[CertificateName], settled: datetime, now: datetime
    ) -> None:
        """Tell what the policy lacks. The leaves of an authority that is revoked there need not be told one by one."""
        ids = [one.key_id for one in tx.authorities.all() if not _is_revoked_in(policy, one.key_id)]
        missing = [
            one
            for one in tx.certificates.revocations_of(ids, now - STAYS_LISTED)
            if one.name not in told and one.name not in self._told and one.revoke_time < settled
        ]
        if missing:
            log.warning("the policy lacks revocations", count=len(missing))
            tell_revocations(self._office, tx, _REVOKE, self._office.itself.identity, missing, now)
            self._note({one.name for one in missing}, now)

    def _note(self, told: Collection[CertificateName | str], now: datetime) -> None:
        """What was told again is on its way for a while; it is told once more if the policy still lacks it then."""
        self._told |= set(told)
        self._told_time = now


def _is_later(told: policy_terms.Authority, mine: Authority) -> bool:
    """Whether the policy knows better; that an authority is revoked is for good on either side."""
    if mine.state is AuthorityState.REVOKED:
        return False
    return told.state is policy_terms.AuthorityState.REVOKED or told.state_time > mine.state_time


def _is_missing(mine: Authority, policy: Policy) -> bool:
    """Whether the policy does not name an authority in its state; since when it is revoked, either may say."""
    told = policy.authorities.get(mine.key_id)
    if told is None or told.state.name != mine.state.name:
        return True
    return told.state is not policy_terms.AuthorityState.REVOKED and told.state_time != mine.state_time


def _is_revoked_in(policy: Policy, key_id: str) -> bool:
    told = policy.authorities.get(key_id)
    return told is not None and told.state is policy_terms.AuthorityState.REVOKED


def _can_be(name: CertificateName) -> bool:
    return int(name.serial_number, 16) in _SERIAL_NUMBERS


def _revocation(name: CertificateName, told: policy_terms.Revoked) -> Revocation:
    try:
        reason = RevocationReason(told.reason)
    except ValueError:  # of a newer release
        reason = RevocationReason.PRIVILEGE_WITHDRAWN
    return Revocation(name, told.revoke_time, reason, told.key_id)
