"""Publishes revocation lists (CRLs) for verifiers outside the mesh: one per authority, as a file and in the store.

No number ever goes back, and nothing that was listed is taken back: what a published file knows and a restored store
does not is adopted. A number is at least the time in seconds, so that it rises even if store and directory are lost.
Source: RFC 5280 part 5.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki import revocation_list as pki
from npd_pki.distribution import crl_file_name
from npd_pki.errors import PkiError, RevocationListMalformed
from npd_pki.files import PUBLIC, PemFile, replace_files
from services.issuer.domain import (
    Authority,
    AuthorityKeyUnusable,
    AuthorityUnknown,
    CertificateName,
    Revocation,
    RevocationListRow,
)
from services.issuer.operations.office import Office
from services.mesh.core.authorities import AuthorityState, RevocationReason
from services.mesh.core.background import Stopping

log = structlog.get_logger(__name__)

STAYS_LISTED = timedelta(hours=24)
"""How long a certificate stays on the list after its end, for verifiers whose clocks are behind."""

_WAIT, _LOOK_EVERY = 0.5, 60.0
_ATTEMPTS = 5
# What others may write into a list, as this mesh says it.
_FOREIGN_REASONS = {
    pki.RevocationReason.UNSPECIFIED: RevocationReason.PRIVILEGE_WITHDRAWN,
    pki.RevocationReason.CA_COMPROMISE: RevocationReason.KEY_COMPROMISE,
}


@dataclass(frozen=True, slots=True)
class _Published:
    """A list that lies in the directory."""

    number: int
    der: bytes
    revocations: Sequence[Revocation]


class RevocationLists:
    """Keeps the newest list of each authority in the store and in a directory. Replicas may do so at once."""

    def __init__(self, office: Office, directory: Path) -> None:
        self._office = office
        self._directory = directory
        self._woken = threading.Event()
        self._listed: dict[str, tuple[int, frozenset[CertificateName]]] = {}

    def wake(self) -> None:
        """Something was revoked: publish now."""
        self._woken.set()

    def newest(self, key_id: str) -> bytes:
        """The newest list of an authority (DER). Raises AuthorityUnknown if none was published in its name."""
        with self._office.database.transaction() as tx:
            kept = tx.authorities.revocation_list(key_id)
        if kept is None:
            raise AuthorityUnknown(key_id=key_id)
        return kept.der

    def run(self, stopping: Stopping) -> None:
        """Publish whenever something was revoked, whenever a list grows old, and at the start."""
        while not stopping.is_set():
            self._woken.clear()
            self.step()
            looked = time.monotonic()
            while not stopping.is_set() and time.monotonic() < looked + _LOOK_EVERY:
                if self._woken.wait(_WAIT):
                    break

    def step(self) -> None:
        """Bring the list of each authority up to date. One that cannot be does not keep the others from it."""
        now = self._office.clock.now()
        with self._office.database.transaction() as tx:
            authorities = tx.authorities.all()
        for authority in authorities:
            if authority.state is AuthorityState.RETIRED or now >= authority.expire_time:
                continue
            try:
                self._bring_up_to_date(authority, now)
            except (PkiError, OSError, AuthorityKeyUnusable) as error:
                log.error("a revocation list cannot be published", issuer=authority.key_id, problem=str(error))

    def _bring_up_to_date(self, authority: Authority, now: datetime) -> None:
        """1. What the file in the directory lists, the store knows from now on: it may be a restored one.
        2. If something was revoked since the newest list, or that grows old, the next one is signed.
        3. It is kept in the store only if its number is higher than the newest one's there; if another replica came
           first, look again.
        4. The newest list of the store goes into the directory.
        """
        for _ in range(_ATTEMPTS):
            with self._office.database.transaction() as tx:
                kept = tx.authorities.revocation_list(authority.key_id)
                published = self._published(authority)
                number = max(kept.number if kept else 0, published.number if published else 0)
                if published is not None and (kept is None or published.der != kept.der):  # (1)
                    tx.certificates.adopt_revocations(published.revocations)
                revocations = tx.certificates.revocations_of([authority.key_id], now - STAYS_LISTED)
            names = frozenset(one.name for one in revocations)
            if kept is not None and kept.number == number and not self._is_due(kept, names, now):
                self._write(kept, published)  # (4)
                return
            following = self._sign(authority, max(number + 1, int(now.timestamp())), revocations, now)  # (2)
            with self._office.database.transaction() as tx:
                is_newest = tx.authorities.publish(following)  # (3)
            if is_newest:
                self._listed[authority.key_id] = (following.number, names)
                self._write(following, published)
                return

    def _is_due(self, kept: RevocationListRow, names: frozenset[CertificateName], now: datetime) -> bool:
        if now >= min(kept.publish_time + self._office.terms.list_every, kept.next_time):
            return True
        number, listed = self._listed.get(kept.issuer_key_id, (0, frozenset()))
        if number != kept.number:
            listed = frozenset(one.name for one in _revocations(kept.issuer_key_id, kept.der))
            self._listed[kept.issuer_key_id] = (kept.number, listed)
        return not names <= listed

    def _sign(
        self, authority: Authority, number: int, revocations: Sequence[Revocation], now: datetime
    ) -> RevocationListRow:
        signer, life = self._office.keyring.signer(authority.key_id), self._office.terms.list_life
        signed = pki.build_revocation_list(signer, number, _entries(revocations), now=now, life=life)
        return RevocationListRow(authority.key_id, number, now, now + life, signed.public_bytes(Encoding.DER))

    def _published(self, authority: Authority) -> _Published | None:
        """The list in the directory, if it is the authority's; another is replaced."""
        place = self._directory / crl_file_name(authority.key_id)
        try:
            der = place.read_bytes()
        except FileNotFoundError:
            return None
        try:
            found = pki.load_revocation_list(der)
            pki.verify_revocation_list(found, x509.load_der_x509_certificate(authority.certificate))
            return _Published(pki.number_of(found), der, _revocations(authority.key_id, der))
        except PkiError as error:
            log.error("a published revocation list is not its authority's", issuer=authority.key_id, problem=str(error))
            return None

    def _write(self, newest: RevocationListRow, published: _Published | None) -> None:
        if published is not None and published.der == newest.der:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        replace_files(self._directory, [PemFile(crl_file_name(newest.issuer_key_id), newest.der, PUBLIC)])
        log.info("a revocation list is published", issuer=newest.issuer_key_id, number=newest.number)


def _entries(revocations: Sequence[Revocation]) -> list[pki.RevokedEntry]:
    entries = []
    for one in revocations:
        try:
            serial = int(one.name.serial_number, 16)
            entries.append(pki.RevokedEntry(serial, one.revoke_time, pki.RevocationReason[one.reason.name]))
        except RevocationListMalformed:  # told by the policy, of a serial number that no certificate can have
            log.warning("a revocation cannot be listed", issuer=one.name.issuer_key_id)
    return entries


def _revocations(issuer_key_id: str, der: bytes) -> list[Revocation]:
    """What a list says."""
    return [
        Revocation(
            CertificateName(issuer_key_id, f"{entry.serial:x}"),
            entry.revoke_time,
            _FOREIGN_REASONS.get(entry.reason) or RevocationReason[entry.reason.name],
        )
        for entry in pki.entries_of(pki.load_revocation_list(der))
    ]
