"""Issuing CAs: their life, and the revocation lists published in their name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.mesh.core.authorities import AuthorityState
from services.mesh.core.errors import StateNotAllowed

_NEXT: Mapping[AuthorityState, frozenset[AuthorityState]] = {
    AuthorityState.PREPARED: frozenset({AuthorityState.ACTIVE, AuthorityState.TAINTED}),
    AuthorityState.ACTIVE: frozenset({AuthorityState.TAINTED}),
    AuthorityState.TAINTED: frozenset({AuthorityState.RETIRED, AuthorityState.REVOKED}),
    AuthorityState.REVOKED: frozenset(),
    AuthorityState.RETIRED: frozenset({AuthorityState.REVOKED}),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuing CA, with its certificate (DER).

    `known_revision` is that of the policy that first named it in its state, as far as this room has seen: a room that
    decides by it, or a later one, has heard of it.
    """

    key_id: str
    host: str
    state: AuthorityState
    state_time: datetime
    certificate: bytes
    expire_time: datetime
    known_revision: int | None = None

    def moved(self, state: AuthorityState, now: datetime, *, forced: bool = False) -> "Authority":
        """The authority in its next state. `forced` revokes it from any. Raises StateNotAllowed.

        PREPARED -> ACTIVE -> TAINTED -> RETIRED | REVOKED; one that was not active yet can be tainted, a retired one
        can still be revoked, and a revoked one stays so.
        """
        allowed = _NEXT[self.state] | (frozenset({AuthorityState.REVOKED}) if forced else frozenset())
        if state not in allowed or self.state is AuthorityState.REVOKED:
            raise StateNotAllowed(object=f"authority {self.key_id}", state=self.state.name)
        return replace(self, state=state, state_time=max(now, self.state_time), known_revision=None)


@dataclass(frozen=True, slots=True)
class AuthorityShown:
    """An authority, or with `is_prepared` false one whose files lie ready and that was not prepared.

    `unexpired_count` are its leaves neither expired nor revoked, `unacknowledged_rooms` those that may not have heard
    of its state.
    """

    authority: Authority
    is_prepared: bool
    unexpired_count: int
    has_key: bool
    unacknowledged_rooms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthorityMoved:
    """An authority in its next state; `former` is the one of its host that issued before, `revoked_count` the leaves
    that were revoked with it.
    """

    authority: AuthorityShown
    former: AuthorityShown | None = None
    revoked_count: int = 0


@dataclass(frozen=True, slots=True)
class RevocationListRow:
    """A published revocation list (DER) of an authority."""

    issuer_key_id: str
    number: int
    publish_time: datetime
    next_time: datetime
    der: bytes
