"""Rolls issuing CAs over: PREPARED, ACTIVE, TAINTED, then RETIRED or REVOKED. Makes neither keys nor CAs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import IssuingCA, permitted_host
from npd_pki.identity import Kind
from services.issuer.domain import (
    REGISTRY,
    ROOM_NAME,
    Authority,
    AuthorityInUse,
    AuthorityKeyUnusable,
    AuthorityMoved,
    AuthorityNotAcknowledged,
    AuthorityShown,
    AuthorityUnknown,
)
from services.issuer.operations.office import Office
from services.issuer.repository import Ledger
from services.mesh.core.answers import AnswerKey
from services.mesh.core.authorities import AuthorityState, RevocationReason
from services.mesh.core.caller import Caller
from services.mesh.core.errors import PeerUnavailable, StateNotAllowed

Rooms: TypeAlias = Callable[[], Mapping[str, int]]
"""The connected rooms, each with the revision of the policy by which it decides. Raises PeerUnavailable."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """An act on an authority in progress: its transaction, who acts by which method, when, and the connected rooms."""

    tx: Ledger
    caller: Caller
    method: str
    now: datetime
    rooms: Mapping[str, int]


class AuthorityOperations:
    """The authorities of this room. `changed` is called after each act was committed."""

    def __init__(self, office: Office, rooms: Rooms, changed: Callable[[], None] = lambda: None) -> None:
        self._office = office
        self._rooms = rooms
        self._changed = changed

    def list_authorities(self) -> list[AuthorityShown]:
        """The authorities of the store, and those whose files lie ready, by host, the newest first."""
        self._office.keyring.look()
        rooms, now = self._connected(), self._office.clock.now()
        with self._office.database.transaction() as tx:
            known, counts = tx.authorities.all(), tx.certificates.unexpired_counts(now)
        shown = [self._shown(one, rooms, counts.get(one.key_id, 0)) for one in known]
        names = {one.key_id for one in known}
        shown += [
            AuthorityShown(ready, False, counts.get(key_id, 0), True, ())
            for key_id, signer in self._office.keyring.opened.items()
            if key_id not in names and (ready := authority_of(signer, now)) is not None
        ]
        newest_first = sorted(shown, key=lambda one: one.authority.state_time, reverse=True)
        return sorted(newest_first, key=lambda one: one.authority.host)

    def prepare_authority(self, caller: Caller, key_id: str, key: AnswerKey) -> AuthorityMoved:
        """Make an authority known whose files lie ready. Raises AuthorityUnknown, AuthorityKeyUnusable, StateNotAllowed
        for one that is known or has expired.
        """
        self._office.keyring.look()

        def act(turn: _Turn) -> AuthorityMoved:
            known = turn.tx.authorities.find(key_id)
            if known is not None:
                raise StateNotAllowed(object=f"authority {key_id}", state=known.state.name)
            return AuthorityMoved(self._keep(turn, self._ready(key_id, turn.now)))

        return self._once(caller, key, act)

    def activate_authority(self, caller: Caller, key_id: str, key: AnswerKey) -> AuthorityMoved:
        """Let a PREPARED authority issue; the one that did for its host is TAINTED in the same transaction.

        Only when each connected room decides by a policy that names it: another would refuse its leaves. Raises
        AuthorityUnknown, StateNotAllowed, AuthorityKeyUnusable, AuthorityNotAcknowledged.
        """

        def act(turn: _Turn) -> AuthorityMoved:
            prepared = _find(turn.tx, key_id)
            activated = prepared.moved(AuthorityState.ACTIVE, turn.now)
            signer = self._office.keyring.signer(key_id)
            _require_unexpired(activated, turn.now)
            if turn.now < signer.certificate.not_valid_before_utc:
                raise StateNotAllowed(object=f"authority {key_id}", state="NOT_YET_VALID")
            if behind := _behind(prepared, turn.rooms):
                raise AuthorityNotAcknowledged(rooms=", ".join(behind))
            active = turn.tx.authorities.active(activated.host)
            former = None
            if active is not None:
                former = self._keep(turn, active.moved(AuthorityState.TAINTED, turn.now))
            return AuthorityMoved(self._keep(turn, activated), former)

        return self._once(caller, key, act)

    def taint_authority(self, caller: Caller, key_id: str, key: AnswerKey) -> AuthorityMoved:
        """Take an authority out of issuing, successor or none. Raises AuthorityUnknown, StateNotAllowed."""

        def act(turn: _Turn) -> AuthorityMoved:
            return AuthorityMoved(self._keep(turn, _find(turn.tx, key_id).moved(AuthorityState.TAINTED, turn.now)))

        return self._once(caller, key, act)

    def retire_authority(self, caller: Caller, key_id: str, key: AnswerKey) -> AuthorityMoved:
        """Give a TAINTED authority up that has no unexpired leaf. Raises AuthorityUnknown, StateNotAllowed,
        AuthorityInUse.
        """

        def act(turn: _Turn) -> AuthorityMoved:
            retired = _find(turn.tx, key_id).moved(AuthorityState.RETIRED, turn.now)
            _require_unused(turn.tx, key_id, turn.now)
            return AuthorityMoved(self._keep(turn, retired))

        return self._once(caller, key, act)

    def revoke_authority(self, caller: Caller, key_id: str, reason: RevocationReason, key: AnswerKey) -> AuthorityMoved:
        """Revoke a TAINTED or RETIRED authority that has no unexpired leaf. Raises AuthorityUnknown, StateNotAllowed,
        AuthorityInUse.
        """

        def act(turn: _Turn) -> AuthorityMoved:
            revoked = _find(turn.tx, key_id).moved(AuthorityState.REVOKED, turn.now)
            _require_unused(turn.tx, key_id, turn.now)
            return AuthorityMoved(self._keep(turn, revoked, reason.name))

        return self._once(caller, key, act)

    def force_revoke_authority(
        self, caller: Caller, key_id: str, reason: RevocationReason, key: AnswerKey
    ) -> AuthorityMoved:
        """Revoke an authority in any state, with all leaves. That a second person approved is the guard's matter.

        The policy refuses its leaves because of its own state; that each is revoked stands here alone, for the
        inventory and the revocation list. Raises AuthorityUnknown, StateNotAllowed for one that is revoked.
        """

        def act(turn: _Turn) -> AuthorityMoved:
            revoked = _find(turn.tx, key_id).moved(AuthorityState.REVOKED, turn.now, forced=True)
            turn.tx.authorities.put(revoked)  # first: whoever issues has its intent in the store, or finds it revoked
            count = turn.tx.certificates.revoke_all_of(key_id, reason, turn.now)
            return AuthorityMoved(self._keep(turn, revoked, f"{reason.name}, forced"), revoked_count=count)

        return self._once(caller, key, act)

    def _once(self, caller: Caller, key: AnswerKey, act: Callable[[_Turn], AuthorityMoved]) -> AuthorityMoved:
        """Do an act once, alone among those that change states."""
        rooms = self._connected()
        with self._office.database.transaction() as tx, tx.answers.once(caller, key, AuthorityMoved) as answer:
            if answer.given:
                return answer.given
            tx.authorities.lock()
            given = answer.give(act(_Turn(tx, caller, key.method, self._office.clock.now(), rooms)))
        self._changed()
        return given

    def _keep(self, turn: _Turn, authority: Authority, why: str = "") -> AuthorityShown:
        """Keep an authority in its next state, and tell of it. No room has heard of that yet."""
        turn.tx.authorities.put(authority)
        state = f"{authority.state.name}, {why}" if why else authority.state.name
        about = f"authority {authority.key_id} of {authority.host} ({state})"
        self._office.tell(turn.tx, turn.method, turn.caller.identity, about, turn.now, authority=authority)
        count = turn.tx.certificates.unexpired_counts(turn.now).get(authority.key_id, 0)
        return self._shown(authority, turn.rooms, count)

    def _ready(self, key_id: str, now: datetime) -> Authority:
        signer = self._office.keyring.opened.get(key_id)
        ready = authority_of(signer, now) if signer is not None else None
        if ready is None:
            if self._office.keyring.has_closed(key_id):
                raise AuthorityKeyUnusable(key_id=key_id)
            raise AuthorityUnknown(key_id=key_id)
        _require_unexpired(ready, now)
        return ready

    def _connected(self) -> Mapping[str, int]:
        """As `rooms`. The registry and this room are always connected: while neither is heard of, both are behind."""
        unheard = {ROOM_NAME: -1, REGISTRY: -1}
        try:
            return {**unheard, **self._rooms()}
        except PeerUnavailable:
            return unheard

    def _shown(self, authority: Authority, rooms: Mapping[str, int], count: int) -> AuthorityShown:
        has_key = authority.key_id in self._office.keyring.opened
        return AuthorityShown(authority, True, count, has_key, _behind(authority, rooms))


def authority_of(signer: IssuingCA, now: datetime) -> Authority | None:
    """The authority that a key of the keyring signs for, as it is when prepared; None for that of rooms, whose
    certificates are not issued here.
    """
    if signer.kind is Kind.MESH:
        return None
    certificate = signer.certificate
    return Authority(
        key_id=signer.key_id,
        host=permitted_host(certificate),
        state=AuthorityState.PREPARED,
        state_time=now,
        certificate=certificate.public_bytes(Encoding.DER),
        expire_time=certificate.not_valid_after_utc,
    )


def _find(tx: Ledger, key_id: str) -> Authority:
    found = tx.authorities.find(key_id)
    if found is None:
        raise AuthorityUnknown(key_id=key_id)
    return found


def _require_unexpired(authority: Authority, now: datetime) -> None:
    if now >= authority.expire_time:
        raise StateNotAllowed(object=f"authority {authority.key_id}", state="EXPIRED")


def _require_unused(tx: Ledger, key_id: str, now: datetime) -> None:
    count = tx.certificates.unexpired_counts(now).get(key_id, 0)
    if count:
        raise AuthorityInUse(key_id=key_id, count=count)


def _behind(authority: Authority, rooms: Mapping[str, int]) -> tuple[str, ...]:
    """The rooms that may not have heard of an authority in its state."""
    known = authority.known_revision
    return tuple(sorted(name for name, revision in rooms.items() if known is None or revision < known))
