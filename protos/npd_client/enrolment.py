"""Gets a system its first certificate at the issuer's door, by a one-time token; and one that expired a successor.

The key is made here and never leaves. The door is trusted by the `ca.crt` that the PKI administrator gave, and by
nothing that the door itself says. What is sent lies on the disk before, so that the same command again repeats it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from npd.issuer.v1 import certificate_pb2
from npd_client.credentials import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    CredentialFiles,
    CredentialsError,
    DirectoryPath,
    certificates_of,
    require_client_usage,
    require_key,
    require_private,
    require_signing_usage,
    spki_of,
)
from npd_client.door import Door, open_door
from npd_client.errors import Refusal
from npd_client.pending import PENDING, Pending, remove_pending
from npd_client.renewal import ends_request, successor_request, take_successor
from npd_client.store import locked
from npd_client.taking import Answer, Taken, take
from npd_client.trust import read_roots

EXPIRED_CONTEXT = b"npd-renew-expired-v1\n"
_PATIENCE = 10.0
Reply = TypeVar("Reply")

_TOKEN_REFUSALS = ("TOKEN_UNKNOWN", "TOKEN_USED", "TOKEN_EXPIRED")


class DirectoryTaken(CredentialsError):
    """The directory holds a certificate or a key already."""


class TokenMissing(CredentialsError):
    """No enrolment begins without a token."""


class NothingPending(CredentialsError):
    """No enrolment is under way in this directory."""


class AnotherPending(CredentialsError):
    """An enrolment by another token is under way in this directory."""


class ApplicationEnded(CredentialsError):
    """The application was denied, or nobody decided in time."""


class NotExpired(CredentialsError):
    """The certificate has not expired, so it is renewed over its own connection."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How an enrolment stands: `taken` once the certificate is in use, otherwise an application that waits."""

    application_id: str
    state: str
    """Of the contract's ApplicationState: PENDING, APPROVED or ISSUED."""
    identity: str
    key_id: str
    """SHA-256 of the key's SubjectPublicKeyInfo, for the approver to compare."""
    expire_time: datetime
    """Until when somebody can approve it."""
    taken: Taken | None


def enrol(
    door: str,
    token: str,
    directory: DirectoryPath,
    *,
    roots: bytes,
    key_type: str = "p256",
    csr: bytes = b"",
    over_existing: bool = False,
) -> Enrolment:
    """Bring a token to the door and take the certificate into use, or learn that the application waits.

    1. `roots` (the content of ca.crt) are roots. The directory, made if absent, holds no certificate and no other key
       yet, unless they are to be replaced (`over_existing`).
    2. A key is made and a request for it written; or `csr` is brought along, and its key stays where it is: then no
       tls.key is written, and one that lies in the directory stays if it is that key. The same token again sends the
       very same request.
    3. The door answers. After a refusal that leaves the token unused, or useless, nothing stays behind.
    4. The certificate, once there, is checked and taken into use; `resume` asks for it later.

    Raises RootsMalformed, TokenMissing, DirectoryTaken, AnotherPending, KeyTypeUnknown, RequestMalformed, Refusal
    (Unreachable: nobody knows whether the token is used; the same again finds out), AnswerUnfit, ApplicationEnded,
    OSError.
    """
    read_roots(roots)  # (1)
    if not token:
        raise TokenMissing("The token is empty. Take the one that the operator handed over.")
    place = Path(directory)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(place, patience=_PATIENCE):
        pending = Pending.read(place)
        if pending is None or not pending.token:  # a renewal under way ends with the certificate that it is for
            fresh = Pending.brought(csr) if csr else Pending.made(key_type)  # (2)
            if not over_existing:
                _require_free(place, fresh)
            remove_pending(place)
            pending = replace(fresh, token=token, roots=roots, door=door)
            pending.write(place)
        elif pending.token != token:
            raise AnotherPending(
                f"Another enrolment is under way in {place}: `npd-client enrol --resume` finishes it. To give it up, "
                f"remove {place / PENDING}."
            )
        else:
            pending = pending.at_door(place, door, roots)
        with open_door(door, roots) as opened:
            return _enrol(place, pending, opened)


def resume(directory: DirectoryPath, *, door: str = "") -> Enrolment:
    """Ask how an enrolment stands, and take the certificate into use once it is issued.

    `door` is another address of the door than that of the enrolment. Raises NothingPending, and as `enrol` does.
    """
    with locked(directory, patience=_PATIENCE):
        pending = Pending.read(directory)
        if pending is None or not pending.token:
            raise NothingPending(f"No enrolment is under way in {directory}. Begin one with `npd-client enrol`.")
        with open_door(door or pending.door, pending.roots) as opened:
            status = _sent(directory, lambda: opened.status(pending.token))
            if not status.HasField("application"):  # the token never arrived
                return _enrol(Path(directory), pending, opened)
            answer = Answer.of(status.certificate, status.trust_bundle)
            return _standing(Path(directory), pending, status.application, answer)


def ask_status(directory: DirectoryPath, *, door: str = "") -> Enrolment:
    """Ask how an enrolment stands, and change nothing. Raises NothingPending, Refusal, OSError."""
    pending = Pending.read(directory)
    if pending is None or not pending.token:
        raise NothingPending(f"No enrolment is under way in {directory}. Begin one with `npd-client enrol`.")
    with open_door(door or pending.door, pending.roots) as opened:
        return _enrolment(opened.status(pending.token).application, None)


def renew_expired(door: str, directory: DirectoryPath, *, now: datetime | None = None) -> Taken:
    """Renew a certificate that has expired, after an operator enabled it; the expired key signs the request.

    Raises NotExpired, Refusal (RENEWAL_NOT_ENABLED: ask the operator), AnswerUnfit, CredentialsError for files that had
    not been in order before either, OSError. Source: npd.issuer.v1.RenewExpiredRequest.
    """
    with locked(directory, patience=_PATIENCE):
        files, leaf = _lapsed(directory, now or datetime.now(UTC))
        pending = successor_request(directory, leaf)
        message = EXPIRED_CONTEXT + pending.request_id.encode() + b"\n" + pending.csr
        signature = _sign(files.private_key, message)
        chain, roots = files.certificate_chain, files.root_certificates
        with open_door(door, roots) as opened:
            answer = _sent(directory, lambda: opened.renew_expired(pending.request_id, chain, pending.csr, signature))
        told = Answer.of(answer.certificate, answer.trust_bundle)
        return take_successor(directory, pending, told, roots, replaces=leaf, now=now)


def _require_free(place: Path, pending: Pending) -> None:
    if (place / CERTIFICATE_FILE).exists():
        raise DirectoryTaken(
            f"{place} holds a certificate already. Renew it (`npd-client renew`), enrol into another directory, or say "
            "that it shall be replaced (--replace)."
        )
    if (place / KEY_FILE).exists() and not _existing_key(place, pending):
        raise DirectoryTaken(
            f"{place} holds a key already, to which the certificate would not belong. Enrol with a signing request for "
            "that key (--csr) or into another directory, or say that it shall be replaced (--replace)."
        )


def _enrol(place: Path, pending: Pending, door: Door) -> Enrolment:
    answer = _sent(place, lambda: door.enrol(pending.request_id, pending.token, pending.csr))  # (3)
    return _standing(place, pending, answer.application, Answer.of(answer.certificate, answer.trust_bundle))


def _standing(place: Path, pending: Pending, application: certificate_pb2.Application, answer: Answer) -> Enrolment:
    state = _state(application)
    if state in ("DENIED", "EXPIRED"):
        remove_pending(place)
        why = f" The reason given: {application.reason}" if application.reason else ""
        raise ApplicationEnded(
            f"The application {application.application_id} was {state.lower()}.{why} Ask the operator for a new token."
        )
    taken = None
    if answer.certificate_chain:  # (4)
        is_signing = application.profile == certificate_pb2.CERTIFICATE_PROFILE_SIGNING
        usage = require_signing_usage if is_signing else require_client_usage
        existing = _existing_key(place, pending)
        taken = take(place, pending, answer, pending.roots, existing_key=existing, require_usage=usage)
    return _enrolment(application, taken)


def _enrolment(application: certificate_pb2.Application, taken: Taken | None) -> Enrolment:
    return Enrolment(
        application.application_id,
        _state(application),
        application.identity,
        application.key_id,
        application.expire_time.ToDatetime(tzinfo=UTC),
        taken,
    )


def _state(application: certificate_pb2.Application) -> str:
    """UNSPECIFIED for an application that there is none of yet, a number for a state newer than this library."""
    if application.state not in certificate_pb2.ApplicationState.values():
        return str(application.state)
    return certificate_pb2.ApplicationState.Name(application.state).removeprefix("APPLICATION_STATE_")


def _sent(directory: DirectoryPath, send: Callable[[], Reply]) -> Reply:
    """Send a request; one that would be refused for ever is no longer pending."""
    try:
        return send()
    except Refusal as refusal:
        if ends_request(refusal) or refusal.reason in _TOKEN_REFUSALS:
            remove_pending(directory)
        raise


def _existing_key(place: Path, pending: Pending) -> bytes:
    """The key in the directory, if the request that was brought along is for it."""
    path = place / KEY_FILE
    if pending.private_key or not path.exists():
        return b""
    content = path.read_bytes()
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError):
        return b""
    return content if spki_of(key.public_key()) == pending.public_key else b""


def _lapsed(directory: DirectoryPath, now: datetime) -> tuple[CredentialFiles, x509.Certificate]:
    """The files of a certificate that has expired, and it; whether the mesh still knows its CA, the door says."""
    files = CredentialFiles.read(directory)
    require_private(files)
    leaf, *presented = certificates_of(files.directory / CERTIFICATE_FILE, files.certificate_chain)
    require_key(files, leaf, presented)
    certificates_of(files.directory / AUTHORITIES_FILE, files.root_certificates)
    if now <= leaf.not_valid_after_utc:
        raise NotExpired(f"The certificate in {directory} has not expired: renew it with `npd-client renew`.")
    return files, leaf


def _sign(private_key: bytes, message: bytes) -> bytes:
    key = load_pem_private_key(private_key, None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    raise CredentialsError("Only EC (P-256, P-384) and RSA keys renew an expired certificate. Enrol again.")
