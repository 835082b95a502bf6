"""Log entries: who asked for what, on which ground, with which outcome. Field names and a pseudonym, never a value."""

import hmac
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256
from uuid import UUID

from npd.common.v1 import evidence_pb2
from npd_client import merkle
from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.rights import Access, Ground

_SALT_SIZE = 16
_SALTS_DRAWN = 256


class Outcome(Enum):
    """How a request ended, with the numbers of npd.common.v1.Outcome."""

    DISCLOSED = 1
    NO_MATCH = 2
    REFUSED = 3
    DONE = 4


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an answer carries so that its entry can be proved: the log's origin and the entry's leaf hash."""

    log_origin: str
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says. `subject_id` becomes a pseudonym when the entry is sealed.

    `ground` is what the policy confirmed; `stated` what a refused caller stated and nobody confirmed.
    """

    caller: Caller
    method: str
    outcome: Outcome
    ground: Ground | None = None
    subject_id: UUID | None = None
    paths: Sequence[str] = ()
    reason: str = ""
    count: int = 1
    object: str = ""
    stated: Access | None = None


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry as it is stored: its bytes, their leaf hash, and the pseudonym under which the subject finds it."""

    entry: bytes
    leaf_hash: bytes
    pseudonym: bytes | None
    entry_time: datetime


@dataclass(frozen=True, slots=True)
class PseudonymKey:
    """The key under which subjects are named in a log; only its holder can tell whom a pseudonym means."""

    key_id: str
    key: bytes

    def pseudonym(self, subject_id: UUID) -> bytes:
        """HMAC-SHA-256 of the subject id, 32 bytes."""
        return hmac.digest(self.key, b"subject:" + subject_id.bytes, sha256)

    def mark(self, text: str) -> bytes:
        """HMAC-SHA-256 of a text, 32 bytes; never equal to a pseudonym."""
        return hmac.digest(self.key, b"mark:" + text.encode(), sha256)


class Sealer:
    """Turns entries into the bytes of one log: time, salt, pseudonym, leaf hash. Nothing is stored here."""

    def __init__(self, origin: str, key: PseudonymKey, clock: Clock) -> None:
        self.origin = origin
        self._key = key
        self._clock = clock
        self._salts = _Salts()

    def seal(self, entry: Entry) -> SealedEntry:
        """The entry's bytes, serialised once; they are hashed as stored and never serialised again."""
        wire = evidence_pb2.LogEntry(
            salt=self._salts.next(),
            caller=entry.caller.identity,
            method=entry.method,
            outcome=entry.outcome.value,  # type: ignore[arg-type]  # a test holds the numbers equal
            reason=entry.reason,
            count=entry.count,
            agency_id=entry.caller.agency_id,
            paths=entry.paths,
            object=entry.object,
        )
        now = self._clock.now()
        wire.entry_time.FromDatetime(now)
        if entry.ground is not None:
            wire.mode = entry.ground.mode.value  # type: ignore[assignment]  # a test holds the numbers equal
            wire.purpose, wire.provision = entry.ground.purpose, entry.ground.provision
        access = entry.ground.access if entry.ground is not None else entry.stated
        if access is not None:
            wire.access.agreement_id, wire.access.case_reference = access.agreement_id, access.case_reference
            wire.access.officer_id, wire.access.origin = access.officer_id, access.origin
        pseudonym = None
        if entry.subject_id is not None:
            pseudonym = self.pseudonym(entry.subject_id)
            wire.subject.key_id, wire.subject.pseudonym = self._key.key_id, pseudonym
        stored = wire.SerializeToString()
        return SealedEntry(stored, merkle.leaf_hash(stored), pseudonym, now)

    def pseudonym(self, subject_id: UUID) -> bytes:
        """The subject's name in this log."""
        return self._key.pseudonym(subject_id)

    def mark(self, text: str) -> bytes:
        """A keyed hash of a text that must not be stored itself, such as a PIN that was asked for."""
        return self._key.mark(text)

    def receipt(self, sealed: SealedEntry) -> Receipt:
        """What an answer carries of its entry."""
        return Receipt(self.origin, sealed.leaf_hash)


class _Salts:
    """Random salts, fetched from the kernel a few hundred at a time: each fetch lets go of the interpreter's lock."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: list[bytes] = []

    def next(self) -> bytes:
        """A salt that was never given before."""
        with self._mutex:
            if not self._waiting:
                drawn = secrets.token_bytes(_SALT_SIZE * _SALTS_DRAWN)
                self._waiting = [drawn[at : at + _SALT_SIZE] for at in range(0, len(drawn), _SALT_SIZE)]
            return self._waiting.pop()
