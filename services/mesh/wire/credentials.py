"""A room's own certificate and the bundle by which it judges callers, taken anew when the files' contents change."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from npd_client.credentials import CERTIFICATE_FILE, CredentialFiles, Credentials, CredentialsError
from services.mesh.core.background import Stopping
from services.mesh.wire.metrics import CERTIFICATE_EXPIRE_TIME, CERTIFICATE_START_TIME, CREDENTIALS_REFUSED

log = structlog.get_logger(__name__)


class RoomCertificateUnfit(CredentialsError):
    """The files are sound, but not those of this room."""


class ServerCredentials:
    """Holds validated credentials in memory; bad files at a reload are reported and the old credentials stay.

    Source: FACTS.md 1.1 (7 to 9, 13), 1.2, 1.4 (1).
    """

    def __init__(self, directory: Path, identity: str, *, roots_file: Path | None = None) -> None:
        """Load the files. `identity` is the URI that the leaf must name; `roots_file` is read instead of `ca.crt`.

        Raises CredentialsError.
        """
        self._directory, self._roots_file = directory, roots_file
        self._identity = identity
        self._use(Credentials.from_directory(directory, roots_file=roots_file))

    @property
    def roots(self) -> Sequence[x509.Certificate]:
        """The roots of the bundle in use; another object after each reload."""
        return self._roots

    def for_server(self) -> grpc.ServerCredentials:
        """Credentials for one port that requires a client certificate; they follow every reload."""
        return self._for_port(requires_client=True)

    def for_door(self) -> grpc.ServerCredentials:
        """Credentials for one port where the server alone shows a certificate; they follow every reload."""
        return self._for_port(requires_client=False)

    def _for_port(self, *, requires_client: bool) -> grpc.ServerCredentials:
        given = self._credentials
        port = _Port(given, lambda: self._credentials)
        news = cast(Callable[[], grpc.ServerCertificateConfiguration], port.news)  # the stub forgets "unchanged"
        return grpc.dynamic_ssl_server_credentials(_configuration(given), news, requires_client)

    def run(self, stopping: Stopping, poll: timedelta, taken: Callable[[], None]) -> None:
        """Look at the files every `poll`, by content: modification times say nothing when a volume is swapped.

        `taken` is called after new files came into use: open streams look whether their caller's root still stands.
        """
        refused = b""
        while not stopping.wait(poll.total_seconds()):
            digest = b"unreadable"
            try:
                files = CredentialFiles.read(self._directory, self._roots_file)
                digest = files.digest
                if digest == self._credentials.digest:
                    continue  # refused ones are judged again: what was not valid yet becomes so
                self._use(Credentials.of(files))
                log.info("certificate files taken", expire_time=self._credentials.expire_time.isoformat())
                taken()
            except CredentialsError as error:
                if digest != refused:
                    CREDENTIALS_REFUSED.inc()
                    log.error("certificate files refused, the old ones stay in use", problem=str(error))
                refused = digest

    def _use(self, credentials: Credentials) -> None:
        """Take sound files, if they are this room's.

        1. The leaf names this room and its DNS names, and may serve TLS.
        2. The bundle holds roots only: a bare intermediate would be an anchor that outlives its root.
        """
        leaf, certificate = credentials.leaf, credentials.files.directory / CERTIFICATE_FILE
        if credentials.identity != self._identity:  # (1)
            raise RoomCertificateUnfit(
                f"{certificate} names {credentials.identity or 'nobody'}, this room is {self._identity}: "
                "put this room's certificate there"
            )
        if not _serves_tls(leaf):
            raise RoomCertificateUnfit(f"{certificate} cannot serve TLS: it needs serverAuth and a DNS name")
        roots = x509.load_pem_x509_certificates(credentials.files.root_certificates)
        if any(root.issuer != root.subject for root in roots):  # (2)
            raise RoomCertificateUnfit(
                f"{credentials.files.authorities} holds a certificate that is not a root; leave intermediates out"
            )
        self._credentials = credentials
        self._roots = roots
        CERTIFICATE_START_TIME.set(leaf.not_valid_before_utc.timestamp())
        CERTIFICATE_EXPIRE_TIME.set(credentials.expire_time.timestamp())


class _Port:
    """What gRPC was given last for one port; each has to hear of a reload by itself.

    gRPC asks for a configuration at every new connection. It gets one only after a reload: gRPC frees the one before
    while a connection that is being opened beside may still use it, and a fresh one each time let a few dozen clients
    that connect at once end the process (tests/faults/test_tls_flood.py). So sessions may be resumed, and a resumed one
    brings back the certificate that began it: it is judged at every call. It must never block.
    """

    def __init__(self, given: Credentials, newest: Callable[[], Credentials]) -> None:
        self._given = given
        self._newest = newest

    def news(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration, if there is another one than gRPC was given last. gRPC asks one connection at a time."""
        newest = self._newest()
        if newest is self._given:
            return None
        self._given = newest
        return _configuration(newest)


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    files = credentials.files
    pair = (files.private_key, files.certificate_chain)
    return grpc.ssl_server_certificate_configuration([pair], files.root_certificates)


def _serves_tls(leaf: x509.Certificate) -> bool:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in usages and bool(names.get_values_for_type(x509.DNSName))
