"""A small issuer and its door for npd-client's own tests: real TLS and certificates, scripted faults, no store."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc, door_pb2, door_pb2_grpc
from npd.registry.v1 import rights_pb2, rights_pb2_grpc
from npd.sharing.v1 import lookup_pb2, lookup_pb2_grpc
from npd_pki.identity import Kind
from npd_pki.keys import private_key_pem
from npd_pki.profile import CLIENT_TLS
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity
from tests.certificates import TestPki

LIFE = timedelta(days=30)


def reject(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, *, retry_after: int = 0) -> None:
    """Refuse as the rooms do: with the reason in google.rpc.Status."""
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    status = status_pb2.Status(code=code.value[0], message=reason)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="npd"))
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id=uuid4().hex))
    if retry_after:
        delay = error_details_pb2.RetryInfo()
        delay.retry_delay.seconds = retry_after
        status.details.add().Pack(delay)
    context.abort_with_status(rpc_status.to_status(status))


@dataclass
class Issuer(
    certificate_pb2_grpc.CertificateServiceServicer,
    door_pb2_grpc.DoorServiceServicer,
    rights_pb2_grpc.RightsServiceServicer,
    lookup_pb2_grpc.LookupServiceServicer,
):
    """Issues what it is asked for, once for each request id, and fails as it is told. Remembers what it was asked."""

    pki: TestPki
    window: tuple[timedelta, timedelta] = (timedelta(days=1), timedelta(days=2))
    """From now on, as the issuer of an incident tells it."""
    is_urgent: bool = False
    trust_bundle: bytes = b""
    lost_answers: int = 0
    """As many requests are granted without an answer."""
    refusals: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    retry_after: int = 0
    """Seconds that refusals ask to wait."""
    issue: Callable[[str, Any], bytes] | None = None
    """Issues another chain than the right one."""
    is_pending: bool = False
    """Enrolments wait for an approval."""
    denied: str = ""
    explanations: list[door_pb2.Explanation] = field(default_factory=list)
    ahead: timedelta = timedelta(0)
    identity: tuple[str, str] = ("tax", "core")
    request_ids: list[str] = field(default_factory=list)
    serials: list[int] = field(default_factory=list)
    """Of the certificates by which calls were made."""
    tokens: dict[str, bytes] = field(default_factory=dict)
    """Token -> the signing request that used it."""
    answers: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    expired: Any = None
    """The last RenewExpired request."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def GetRenewalWindow(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(context)
        answer = certificate_pb2.GetRenewalWindowResponse()
        start, end = (datetime.now(UTC) + edge for edge in self.window)
        answer.window.start_time.FromDatetime(start)
        answer.window.end_time.FromDatetime(end)
        answer.window.is_urgent = self.is_urgent
        return answer

    def RenewCertificate(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(context)
        self._refuse(context)
        chain = self._once(request.request_id, request.csr, context)
        self._lose(context)
        answer = certificate_pb2.RenewCertificateResponse(trust_bundle=self.trust_bundle)
        answer.certificate.certificate_chain = chain
        return answer

    def Enrol(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._refuse(context)
        if self.tokens.setdefault(request.token, request.csr) != request.csr:
            reject(context, grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_USED")
        answer = door_pb2.EnrolResponse(application=self._application(), trust_bundle=self.trust_bundle)
        chain = self._once(request.request_id, request.csr, context)
        if not self.is_pending:
            answer.certificate.certificate_chain = chain
        self._lose(context)
        return answer

    def GetApplicationStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.token not in self.tokens:
            return door_pb2.GetApplicationStatusResponse()
        answer = door_pb2.GetApplicationStatusResponse(application=self._application(), trust_bundle=self.trust_bundle)
        if not self.is_pending:
            chain = next(chain for csr, chain in self.answers.values() if csr == self.tokens[request.token])
            answer.certificate.certificate_chain = chain
        return answer

    def RenewExpired(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.expired = request
        self._refuse(context)
        leaf = x509.load_pem_x509_certificates(request.certificate_chain)[0]
        message = b"npd-renew-expired-v1\n" + request.request_id.encode() + b"\n" + request.csr
        key = leaf.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            digest = hashes.SHA384() if key.curve.name == "secp384r1" else hashes.SHA256()
            key.verify(request.signature, message, ec.ECDSA(digest))
        else:
            assert isinstance(key, rsa.RSAPublicKey)
            key.verify(request.signature, message, padding.PKCS1v15(), hashes.SHA256())
        answer = door_pb2.RenewExpiredResponse(trust_bundle=self.trust_bundle)
        answer.certificate.certificate_chain = self._once(request.request_id, request.csr, context)
        return answer

    def Diagnose(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = door_pb2.DiagnoseResponse(explanations=self.explanations)
        answer.server_time.FromDatetime(datetime.now(UTC) + self.ahead)
        return answer

    def WhoAmI(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(context)
        self._refuse(context)
        return rights_pb2.WhoAmIResponse(identity="spiffe://agency/tax/core")

    def GetCitizen(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(context)
        return lookup_pb2.GetCitizenResponse()

    def _application(self) -> certificate_pb2.Application:
        state = certificate_pb2.APPLICATION_STATE_ISSUED
        if self.is_pending:
            state = certificate_pb2.APPLICATION_STATE_PENDING
        if self.denied:
            state = certificate_pb2.APPLICATION_STATE_DENIED
        return certificate_pb2.Application(application_id=str(uuid4()), state=state, reason=self.denied)

    def _once(self, request_id: str, csr: bytes, context: grpc.ServicerContext) -> bytes:
        with self.lock:
            self.request_ids.append(request_id)
            if request_id not in self.answers:
                self.answers[request_id] = (csr, self._issued(csr))
            kept, chain = self.answers[request_id]
        if kept != csr:
            reject(context, grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
        return chain

    def _issued(self, csr: bytes) -> bytes:
        request = x509.load_pem_x509_csr(csr)
        assert request.is_signature_valid
        assert not list(request.extensions), "the client asks for no names"
        assert not list(request.subject)
        uri = f"spiffe://agency.{self.pki.environment}/{'/'.join(self.identity)}"
        if self.issue is not None:
            return self.issue(uri, request.public_key())
        return issued(self.pki, uri, request.public_key())

    def _note(self, context: grpc.ServicerContext) -> None:
        pem: Any = context.auth_context()["x509_pem_cert"]
        self.serials.append(x509.load_pem_x509_certificate(pem[0]).serial_number)

    def _refuse(self, context: grpc.ServicerContext) -> None:
        if self.refusals:
            reject(context, *self.refusals.pop(0), retry_after=self.retry_after)

    def _lose(self, context: grpc.ServicerContext) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost")


def issued(
    pki: TestPki, uri: str, public_key: Any, *, validity: Validity | None = None, others: Sequence[str] = ()
) -> bytes:
    """The content of tls.crt: a leaf for any kind of key, of the agencies' CA."""
    authority = pki.hierarchy.of(Kind.AGENCY)
    validity = validity or Validity.lasting(LIFE)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in (uri, *others)]),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage(CLIENT_TLS.purposes), critical=False)
    )
    return certificates_pem([builder.sign(authority.key, hashes.SHA256()), authority.certificate])


@contextmanager
def serving(issuer: Issuer, *, asks_certificate: bool) -> Iterator[str]:
    """The issuer's port, or with `asks_certificate=False` its door, on localhost."""
    room = issuer.pki.room("issuer")
    roots = certificates_pem(issuer.pki.roots)
    pair = [(private_key_pem(room.key), room.chain_pem)]
    credentials = grpc.ssl_server_credentials(pair, roots if asks_certificate else None, asks_certificate)
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    if asks_certificate:
        certificate_pb2_grpc.add_CertificateServiceServicer_to_server(issuer, server)
        rights_pb2_grpc.add_RightsServiceServicer_to_server(issuer, server)
        lookup_pb2_grpc.add_LookupServiceServicer_to_server(issuer, server)
    else:
        door_pb2_grpc.add_DoorServiceServicer_to_server(issuer, server)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(0).wait(15)
