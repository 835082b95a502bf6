"""The issuer at work beside a registry, with the test environment's CAs, and whoever comes to it. Nothing is a fake.

issuer = IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))
token = issuer.enrol("tax/core")                       # an operator enrols a system that is registered
answer = issuer.door.Enrol(EnrolRequest(request_id=new_id(), token=token, csr=csr_for(key)))
issuer.certificates(Kind.AGENCY, "tax/core").RenewCertificate(...)
issuer.recorded("/npd.issuer.v1.DoorService/Enrol")    # what the registry's authority log says of it
"""

import secrets
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import text

from npd.common.v1 import approval_pb2, approval_pb2_grpc
from npd.common.v1.evidence_pb2 import LogEntry
from npd.issuer.v1 import (
    authority_pb2_grpc,
    certificate_pb2,
    certificate_pb2_grpc,
    door_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
)
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from npd_pki.authority import IssuingCA
from npd_pki.ca_store import Hierarchy
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import save_private_key
from npd_pki.trust_bundle import certificates_pem
from services.issuer.app import ROOM as ISSUER
from services.mesh.core.clock import Clock
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, new_id, wait_until

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CLIENT_TLS = certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS
SIGNING = certificate_pb2.CERTIFICATE_PROFILE_SIGNING
ISSUED = certificate_pb2.APPLICATION_STATE_ISSUED
APPLY = "/npd.issuer.v1.CertificateService/ApplyForCertificate"
RENEW = "/npd.issuer.v1.CertificateService/RenewCertificate"
ENROL = "/npd.issuer.v1.DoorService/Enrol"


PASSPHRASE_FILE = "passphrase"
_PASSPHRASE = b"a passphrase of tests"


def p256_key() -> ec.EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(ec.SECP256R1())


def csr_for(key: Any, *uris: str, names: Sequence[x509.GeneralName] = ()) -> bytes:
    """A signing request of a key in PEM, for the names that it asks for."""
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    wanted = [*map(x509.UniformResourceIdentifier, uris), *names]
    if wanted:
        builder = builder.add_extension(x509.SubjectAlternativeName(wanted), critical=False)
    is_hashed = isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return builder.sign(key, hashes.SHA256() if is_hashed else None).public_bytes(Encoding.PEM)


def uri_of(name: str) -> str:
    """The identity of "tax/core"."""
    agency_id, _, system_id = name.partition("/")
    return agency_uri(ENVIRONMENT, agency_id, system_id)


def leaf_of(certificate: certificate_pb2.Certificate) -> x509.Certificate:
    """The leaf of a certificate that came with its chain."""
    return x509.load_pem_x509_certificates(certificate.certificate_chain)[0]


def outcome(call: Callable[..., Any], request: object) -> str:
    """The reason for which a call is refused, or "answered"."""
    try:
        call(request, timeout=20)
    except grpc.RpcError as error:
        return refusal_of(error).reason
    return "answered"


def write_authorities(directory: Path, hierarchy: Hierarchy) -> Path:
    """Lay the issuing CAs of agencies and operators out as a ceremony does; their passphrase lies beside them."""
    directory.mkdir(parents=True)
    (directory / PASSPHRASE_FILE).touch(mode=0o600)
    (directory / PASSPHRASE_FILE).write_bytes(_PASSPHRASE)
    for kind in (Kind.AGENCY, Kind.OPERATOR):
        write_authority(directory / kind.value, hierarchy.of(kind))
    return directory


def write_authority(place: Path, authority: IssuingCA) -> None:
    """Lay an issuing CA out."""
    place.mkdir()
    save_private_key(place / "ca.key", authority.key, _PASSPHRASE)
    (place / "ca.crt").write_bytes(certificates_pem([authority.certificate]))


def write_tls(directory: Path, chain: bytes, key: Key, root: x509.Certificate) -> Path:
    """Credentials as a holder keeps them, of what the issuer answered."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tls.crt").write_bytes(chain)
    (directory / "tls.key").touch(mode=0o600)
    (directory / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "ca.crt").write_bytes(root.public_bytes(Encoding.PEM))
    return directory


class IssuerScene:
    """A registry and an issuer whose authorities are active, and the operators lan and minh."""

    def __init__(
        self,
        stage: Stage,
        registry: Running,
        desk: Desk,
        directory: Path,
        *,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.stage, self.registry, self.desk, self.directory = stage, registry, desk, directory
        self.hierarchy = stage.authority.hierarchy
        authorities = settings.get("authorities_directory") or write_authorities(
            directory / "authorities", self.hierarchy
        )
        told = {
            "authorities_directory": authorities,
            "authorities_passphrase_file": authorities / PASSPHRASE_FILE,
            "revocation_list_directory": directory / "lists",
            "door_listen": "localhost:0",
            "door_address_limit": 100_000,
            "door_limit": 100_000,
            **settings,
        }
        (directory / "lists").mkdir(exist_ok=True)
        self.issuer = stage.start(ISSUER, clock=clock, **told)
        wait_until(lambda: self.rows("SELECT count(*) FROM authorities WHERE state = 'ACTIVE'") == [(2,)])
        wait_until(lambda: len(registry.house.keeper.current.authorities) == 2)
        stage.settle()

    def certificates(self, kind: Kind, name: str) -> certificate_pb2_grpc.CertificateServiceStub:
        """CertificateService, called as an identity of the test environment."""
        return certificate_pb2_grpc.CertificateServiceStub(self.issuer.channel(kind, name))

    def certificates_by(self, tls: Path) -> certificate_pb2_grpc.CertificateServiceStub:
        """CertificateService, called with the credentials of a directory."""
        return certificate_pb2_grpc.CertificateServiceStub(RotatingChannel(self.issuer.address, tls))

    def enrolments(self, operator: str = "lan") -> enrolment_pb2_grpc.EnrolmentServiceStub:
        """EnrolmentService, called by an operator."""
        return enrolment_pb2_grpc.EnrolmentServiceStub(self.issuer.channel(Kind.OPERATOR, operator))

    def authorities(self, operator: str = "lan") -> authority_pb2_grpc.AuthorityServiceStub:
        """AuthorityService, called by an operator."""
        return authority_pb2_grpc.AuthorityServiceStub(self.issuer.channel(Kind.OPERATOR, operator))

    def approvals(self, operator: str = "minh") -> approval_pb2_grpc.ApprovalServiceStub:
        """ApprovalService of the issuer, called by an operator."""
        return approval_pb2_grpc.ApprovalServiceStub(self.issuer.channel(Kind.OPERATOR, operator))

    @property
    def door_address(self) -> str:
        """Where the door is."""
        return f"localhost:{self.issuer.serving.door_port}"

    @cached_property
    def door_channel(self) -> grpc.Channel:
        """A channel to the door, without a certificate."""
        root = self.hierarchy.root.certificate.public_bytes(Encoding.PEM)
        return grpc.secure_channel(self.door_address, grpc.ssl_channel_credentials(root))

    @cached_property
    def door(self) -> door_pb2_grpc.DoorServiceStub:
        """DoorService, called by nobody."""
        return door_pb2_grpc.DoorServiceStub(self.door_channel)

    def register(self, name: str) -> str:
        """Register "tax/core" and wait until the issuer knows it; returns its identity."""
        self.desk.register(name)
        self.stage.settle()
        return uri_of(name)

    def enrol(self, name: str, *, operator: str = "lan", **stated: Any) -> str:
        """Enrol a system that is registered; returns the token."""
        token = secrets.token_urlsafe(24)
        request = self.enrolment(name, token, **stated)
        self.enrolments(operator).CreateEnrolment(request)
        return token

    def enrolment(self, name: str, token: str, **stated: Any) -> enrolment_pb2.CreateEnrolmentRequest:
        """What an operator asks to enrol a system for a token."""
        agency_id, _, system_id = name.partition("/")
        asked = {
            "request_id": new_id(),
            "agency_id": agency_id,
            "system_id": system_id,
            "profile": CLIENT_TLS,
            "token_digest": sha256(token.encode()).digest(),
        }
        return enrolment_pb2.CreateEnrolmentRequest(**{**asked, **stated})

    def approve(self, approval_id: str, *, operator: str = "minh") -> approval_pb2.Approval:
        """Approve what waits, having seen it."""
        found = next(one for one in self.waiting() if one.approval_id == approval_id)
        request = approval_pb2.ApproveRequestRequest(
            request_id=new_id(), approval_id=approval_id, request_digest=sha256(found.request.value).digest()
        )
        return self.approvals(operator).ApproveRequest(request).approval

    def waiting(self) -> Sequence[approval_pb2.Approval]:
        """Approvals, newest first."""
        return self.approvals().ListApprovals(approval_pb2.ListApprovalsRequest(page_size=1000)).approvals

    def issued(self, application_id: str) -> certificate_pb2.Certificate:
        """The certificate of an application, as soon as it is issued."""
        stub = self.certificates(Kind.OPERATOR, "lan")
        request = certificate_pb2.GetApplicationRequest(application_id=application_id)
        wait_until(lambda: stub.GetApplication(request).application.state == ISSUED)
        return stub.GetApplication(request).certificate

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of the issuer's store."""
        with self.issuer.house.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def recorded(self, method: str, about: str = "") -> list[LogEntry]:
        """What the registry's authority log says was done by a method, once all that was done is there."""
        wait_until(lambda: self.rows("SELECT count(*) FROM outbox WHERE set_aside_time IS NULL") == [(0,)])
        return [one for one in self.registry.entries() if one.method == method and about in one.object]

    def refusals(self, method: str) -> list[LogEntry]:
        """What the issuer's own log says was refused."""
        return [one for one in self.issuer.entries() if one.method == method and one.reason]
