"""Renews a certificate: asks the issuer when, and for a successor with a new key, and takes it into use.

The new key is made here and never leaves. What
is sent lies on the disk before (`npd_client.pending`), so that a crash or a lost answer repeats the very request.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom

import grpc
from cryptography import x509

from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.credentials import (
    CERTIFICATE_FILE,
    CredentialFiles,
    Credentials,
    CredentialsError,
    DirectoryPath,
    certificates_of,
    require_client_usage,
    require_key,
    require_private,
    require_signing_usage,
    spki_of,
)
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_client.pending import Pending, remove_pending
from npd_client.store import locked
from npd_client.taking import Answer, AnswerEarly, AnswerUnfit, RequireUsage, Taken, take

CALL_TIMEOUT = 30.0
"""Seconds that a call to the issuer may take."""
_RANDOM = SystemRandom()
_FOR_EVER = ("KEY_BLOCKED", "REQUEST_ID_REUSED", "STATE_NOT_ALLOWED")


@dataclass(frozen=True, slots=True)
class Window:
    """When a certificate should be renewed."""

    start_time: datetime
    end_time: datetime
    is_urgent: bool

    @classmethod
    def of(cls, wire: certificate_pb2.RenewalWindow, leaf: x509.Certificate) -> "Window":
        """Read the wire's for a certificate; an end before the start is the start.

        Whatever the issuer tells, no window goes on into the last tenth of the certificate's life.
        """
        end = leaf.not_valid_after_utc
        latest = end - (end - leaf.not_valid_before_utc) / 10
        start = min(wire.start_time.ToDatetime(tzinfo=UTC), latest)
        return cls(start, max(start, min(wire.end_time.ToDatetime(tzinfo=UTC), latest)), wire.is_urgent)

    def moment(self) -> datetime:
        """A moment in it, at random, so that not all certificates of a day are renewed in one second."""
        return self.start_time + (self.end_time - self.start_time) * _RANDOM.random()


class AlreadyRenewed(CredentialsError):
    """Another process has renewed the certificate meanwhile."""


class EnrolmentPending(CredentialsError):
    """The request under way in this directory is an enrolment."""


def ask_window(channel: RotatingChannel, *, timeout: float = CALL_TIMEOUT) -> Window:
    """Ask the issuer when the certificate of this channel should be renewed. Raises Refusal."""
    stub = certificate_pb2_grpc.CertificateServiceStub(channel)
    try:
        answer = stub.GetRenewalWindow(certificate_pb2.GetRenewalWindowRequest(), timeout=timeout)
    except grpc.RpcError as error:
        raise refusal_of(error, channel.credentials, channel.target) from error
    return Window.of(answer.window, channel.credentials.leaf)


def renew(
    directory: DirectoryPath,
    channel: RotatingChannel,
    *,
    only: int | None = None,
    patience: float = 10.0,
    timeout: float = CALL_TIMEOUT,
) -> Taken:
    """Renew the certificate of a directory now, and take the new one into use.

    1. One process and thread at a time; another is waited for `patience` seconds.
    2. The certificate in use is read again: if its serial number is not `only`, another process has renewed it.
    3. A request under way is sent again as it was; otherwise one is made, for a new key of the same type, and written.
       What was under way when the certificate was taken is done.
    4. The request is sent. A refusal that no repetition can mend ends the request: the next has a new key and a new id.
    5. What came back is checked, then all files are replaced at once.

    Raises Refusal (Unreachable: the same request is sent next time), AlreadyRenewed, EnrolmentPending, AnswerUnfit,
    DirectoryBusy, DirectoryKept, DirectoryNotWritable, other CredentialsError for files that cannot open a connection.
    """
    with locked(directory, patience=patience):  # (1)
        current = Credentials.from_directory(directory)
        if only is not None and current.leaf.serial_number != only:  # (2)
            raise AlreadyRenewed(f"The certificate in {directory} was renewed by another process already.")
        pending = successor_request(directory, current.leaf)  # (3)
        told = _ask(directory, channel, pending, certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS, timeout)  # (4)
        return take_successor(directory, pending, told, current.files.root_certificates, replaces=current.leaf)  # (5)


def renew_signing(directory: DirectoryPath, channel: RotatingChannel, *, timeout: float = CALL_TIMEOUT) -> Taken:
    """Renew the signing certificate of a directory, over a channel with the same system's TLS certificate.

    As `renew` does, but for the window: what signs agreements is renewed when somebody says so. Raises as `renew`.
    """
    with locked(directory, patience=CALL_TIMEOUT):
        files = CredentialFiles.read(directory)
        require_private(files)
        place = files.directory / CERTIFICATE_FILE
        leaf, *presented = certificates_of(place, files.certificate_chain)
        require_key(files, leaf, presented)
        require_signing_usage(place, leaf)
        pending = successor_request(directory, leaf)
        told = _ask(directory, channel, pending, certificate_pb2.CERTIFICATE_PROFILE_SIGNING, timeout)
        roots = files.root_certificates
        return take_successor(directory, pending, told, roots, replaces=leaf, require_usage=require_signing_usage)


def _ask(
    directory: DirectoryPath,
    channel: RotatingChannel,
    pending: Pending,
    profile: "certificate_pb2.CertificateProfile.ValueType",
    timeout: float,
) -> Answer:
    """Send a request for a renewal; one that would be refused for ever is no longer pending."""
    stub = certificate_pb2_grpc.CertificateServiceStub(channel)
    request = certificate_pb2.RenewCertificateRequest(request_id=pending.request_id, profile=profile, csr=pending.csr)
    try:
        answer = stub.RenewCertificate(request, timeout=timeout)
    except grpc.RpcError as error:
        refusal = refusal_of(error, channel.credentials, channel.target)
        if ends_request(refusal):
            remove_pending(directory)
        raise refusal from error
    return Answer.of(answer.certificate, answer.trust_bundle)


def successor_request(directory: DirectoryPath, leaf: x509.Certificate) -> Pending:
    """The request under way for the successor of a certificate, otherwise a new one, on the disk.

    One whose key is that of the certificate was granted and taken; only its end was cut off. Raises EnrolmentPending.
    """
    pending = Pending.read(directory)
    if pending is not None and not (pending.private_key and pending.public_key == spki_of(leaf.public_key())):
        if pending.token:
            raise EnrolmentPending(
                f"{directory} waits for the answer to an enrolment: `npd-client enrol --resume` first."
            )
        if pending.private_key:
            return pending
    remove_pending(directory)
    pending = Pending.like(leaf.public_key())
    pending.write(directory)
    return pending


def take_successor(
    directory: DirectoryPath,
    pending: Pending,
    answer: Answer,
    roots: bytes,
    *,
    replaces: x509.Certificate,
    require_usage: RequireUsage = require_client_usage,
    now: datetime | None = None,
) -> Taken:
    """Take a renewed certificate into use; one that will never fit ends the request, so that the next has a new key."""
    try:
        return take(directory, pending, answer, roots, replaces=replaces, require_usage=require_usage, now=now)
    except AnswerEarly:
        raise
    except AnswerUnfit:
        remove_pending(directory)
        raise


def ends_request(refusal: Refusal) -> bool:
    """Whether the same request would be refused for ever: its key is blocked, it came too late for what was granted, or
    it is not a request to be granted.
    """
    if isinstance(refusal, Unreachable):
        return False
    return refusal.code is grpc.StatusCode.INVALID_ARGUMENT or refusal.reason in _FOR_EVER
