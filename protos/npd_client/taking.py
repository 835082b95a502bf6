"""Takes an issued certificate into use: checks all of what came back before one byte of the old files is replaced."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2
from npd_client.credentials import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    CertificateNotYetValid,
    CredentialsError,
    DirectoryPath,
    certificates_of,
    identities_of,
    identity_of,
    is_issued_by_itself,
    require_chain,
    require_client_usage,
    require_valid_at,
    spki_of,
)
from npd_client.pending import Pending, remove_pending
from npd_client.store import BUNDLE_FILE, read_bundle, replace_credentials
from npd_client.trust import read_trust_bundle, sequence_taken

RequireUsage: TypeAlias = Callable[[Path, x509.Certificate], None]
"""Raises CertificateUnfit for a certificate that is not for the use meant; the path is for the message."""

LONGEST_CHAIN = 10_000
"""Bytes of PEM. Measured: gRPC ends each handshake with more than about 12 KB, so that no call would get through."""

_LOG = logging.getLogger(__name__)


class AnswerUnfit(CredentialsError):
    """What the issuer sent is not a certificate to be used here; the old files stay as they are."""


class AnswerEarly(AnswerUnfit):
    """The certificate that the issuer sent is not valid yet, by the clock of this computer."""


class AnswerStale(AnswerUnfit):
    """The certificate that the issuer sent is older than the one in use."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A certificate that is in use now."""

    identity: str
    serial_number: str
    """Lower-case hex without leading zeros."""
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What the issuer sent: the content of tls.crt, and a signed trust bundle or nothing."""

    certificate_chain: bytes
    trust_bundle: bytes = b""
    is_revoked: bool = False

    @classmethod
    def of(cls, certificate: certificate_pb2.Certificate, trust_bundle: bytes) -> Self:
        """The files that came with a certificate."""
        is_revoked = certificate.state == certificate_pb2.CERTIFICATE_STATE_REVOKED
        return cls(certificate.certificate_chain, trust_bundle, is_revoked)


def take(
    directory: DirectoryPath,
    pending: Pending,
    answer: Answer,
    roots: bytes,
    *,
    replaces: x509.Certificate | None = None,
    existing_key: bytes = b"",
    require_usage: RequireUsage = require_client_usage,
    now: datetime | None = None,
) -> Taken:
    """Take the answer to a pending request into use, or refuse it; to be called under `store.locked`.

    1. The answer is whole, not longer than a handshake can carry, and was not revoked before it was taken; its first
       certificate is for the key of the request.
    2. It names one identity; if it `replaces` a certificate, that one's, and it is not older.
    3. The roots become those of the trust bundle, if a root trusted already signed it and its sequence is higher than
       that of the last; otherwise they stay. A bundle that is not to be believed is logged, and costs no renewal.
    4. It is for TLS clients, or for what `require_usage` demands, valid now, and leads to these roots.
    5. All files are replaced at once; a key that is kept elsewhere (`existing_key` or an HSM) stays where it is.
    6. The request is no longer pending.

    `roots` is the content of ca.crt as it is trusted so far. Raises AnswerUnfit, OSError, and what
    `store.replace_credentials` raises.
    """
    now = now or datetime.now(UTC)
    try:
        if answer.is_revoked:  # (1)
            raise AnswerUnfit("The certificate was revoked before it could be taken. Ask for another one.")
        if len(answer.certificate_chain) > LONGEST_CHAIN:
            raise AnswerUnfit("The issuer sent a chain too long for any handshake. Tell the operator.")
        leaf, *presented = certificates_of(_place(CERTIFICATE_FILE), answer.certificate_chain)
        _require_answered(pending, leaf, replaces)  # (1) (2)
        trusted, bundle = _roots_after(directory, roots, answer.trust_bundle, identity_of(leaf), now)  # (3)
        require_usage(_place(CERTIFICATE_FILE), leaf)  # (4)
        require_valid_at(_place(CERTIFICATE_FILE), leaf, now)
        if trusted != roots and not _leads(leaf, presented, trusted, now):
            _LOG.warning("the roots of the trust bundle do not vouch for the new certificate: the old roots are kept")
            trusted, bundle = roots, read_bundle(directory)
        require_chain(_place(CERTIFICATE_FILE).parent, leaf, presented, _certificates(trusted), now)
    except AnswerUnfit:
        raise
    except CertificateNotYetValid as error:
        raise AnswerEarly(f"The new certificate was not taken: {error}") from None
    except CredentialsError as error:
        raise AnswerUnfit(f"The new certificate was not taken, the old files stay: {error}") from None
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, *presented))
    files = {CERTIFICATE_FILE: chain, AUTHORITIES_FILE: trusted}
    key = pending.private_key or existing_key
    files |= {KEY_FILE: key} if key else {}
    files |= {BUNDLE_FILE: bundle} if bundle else {}
    replace_credentials(directory, files)  # (5)
    remove_pending(directory)  # (6)
    return Taken(identity_of(leaf), f"{leaf.serial_number:x}", leaf.not_valid_after_utc)


def _require_answered(pending: Pending, leaf: x509.Certificate, replaces: x509.Certificate | None) -> None:
    if spki_of(leaf.public_key()) != pending.public_key:
        raise AnswerUnfit("The issuer sent a certificate for another key than the one asked for. Tell the operator.")
    if len(identities_of(leaf)) != 1:
        raise AnswerUnfit("The issuer sent a certificate that does not name exactly one identity. Tell the operator.")
    if replaces is None:
        return
    if identity_of(leaf) != identity_of(replaces):
        raise AnswerUnfit(
            f"The issuer sent a certificate for {identity_of(leaf)}, but yours is for {identity_of(replaces)}. "
            "Tell the operator."
        )
    if leaf.not_valid_before_utc < replaces.not_valid_before_utc:
        raise AnswerStale("The issuer sent a certificate that is older than the one in use.")


def _roots_after(
    directory: DirectoryPath, roots: bytes, bundle: bytes, identity: str, now: datetime
) -> tuple[bytes, bytes]:
    """The content of ca.crt and of trust.bundle from now on."""
    taken = read_bundle(directory)
    if not bundle or bundle == taken:
        return roots, taken
    environment = identity.partition("://")[2].partition("/")[0].partition(".")[2]
    try:
        anchors = [one for one in _certificates(roots) if is_issued_by_itself(one)]
        told = read_trust_bundle(bundle, anchors, now=now)
    except CredentialsError as error:
        _LOG.warning("the trust bundle is not taken, the roots stay as they are: %s", error)
        return roots, taken
    if told.environment != environment:
        _LOG.warning("the trust bundle is of the environment %s, the certificate of another", told.environment)
        return roots, taken
    if told.sequence <= sequence_taken(taken, environment):
        return roots, taken
    _LOG.info("roots of trust bundle %d of %s in use", told.sequence, told.environment)
    return told.roots_pem(), bundle


def _certificates(roots: bytes) -> list[x509.Certificate]:
    return certificates_of(_place(AUTHORITIES_FILE), roots)


def _leads(leaf: x509.Certificate, presented: list[x509.Certificate], roots: bytes, now: datetime) -> bool:
    try:
        require_chain(_place(CERTIFICATE_FILE).parent, leaf, presented, _certificates(roots), now)
    except CredentialsError:
        return False
    return True


def _place(name: str) -> Path:
    """How errors name a file that is not one yet."""
    return Path("the issuer's answer") / name
