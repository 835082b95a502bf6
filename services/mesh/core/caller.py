"""Who calls: from a certificate that TLS has verified to a caller, or a refusal. Knows no wire and no store."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.mesh.core.authorities import AuthorityState
from services.mesh.core.errors import Kind, MeshError
from services.mesh.core.rights import Policy

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_ENVIRONMENT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


class CertificateMissing(MeshError):
    """The connection is not TLS 1.3 with a client certificate."""

    kind, reason = Kind.UNAUTHENTICATED, "CERTIFICATE_MISSING"


class IdentityMalformed(MeshError):
    """The certificate does not name exactly one strict identity URI."""

    kind, reason = Kind.UNAUTHENTICATED, "IDENTITY_MALFORMED"


class EnvironmentForeign(MeshError):
    """The certificate names another environment."""

    kind, reason = Kind.UNAUTHENTICATED, "ENVIRONMENT_FOREIGN"


class IssuerNotEntitled(MeshError):
    """The direct issuer may not issue this kind of identity."""

    kind, reason = Kind.UNAUTHENTICATED, "ISSUER_NOT_ENTITLED"


class CertificateExpired(MeshError):
    """The certificate has expired."""

    kind, reason = Kind.UNAUTHENTICATED, "CERTIFICATE_EXPIRED"


class CertificateNotYetValid(MeshError):
    """The certificate is not valid yet."""

    kind, reason = Kind.UNAUTHENTICATED, "CERTIFICATE_NOT_YET_VALID"


class CertificateRevoked(MeshError):
    """The certificate or its issuer was revoked."""

    kind, reason = Kind.UNAUTHENTICATED, "CERTIFICATE_REVOKED"


class CertificateUsage(MeshError):
    """The certificate may not authenticate a TLS client."""

    kind, reason = Kind.UNAUTHENTICATED, "CERTIFICATE_USAGE"


class CallerKind(Enum):
    """The three kinds of identity; the value is the first label of the URI's host."""

    ROOM = "mesh"
    AGENCY = "agency"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A strict identity URI: `spiffe://<kind>.<environment>/<path>`. Source: DESIGN.md part 5, SPIFFE-ID 2."""

    kind: CallerKind
    environment: str
    path: tuple[str, ...]

    @classmethod
    @lru_cache(20_000)
    def parse(cls, uri: str) -> Self:
        """Read a URI. Raises IdentityMalformed for a query, fragment, port, escape, dot segment or any other shape."""
        scheme, _, rest = uri.partition("://")
        host, *path = rest.split("/")
        kind_label, _, environment = host.partition(".")
        kinds = {kind.value: kind for kind in CallerKind}
        if scheme != "spiffe" or kind_label not in kinds or not _ENVIRONMENT.fullmatch(environment):
            raise IdentityMalformed()
        kind = kinds[kind_label]
        if len(path) != (2 if kind is CallerKind.AGENCY else 1) or not all(map(_SEGMENT.fullmatch, path)):
            raise IdentityMalformed()
        return cls(kind, environment, tuple(path))

    @property
    def host(self) -> str:
        """The host that the issuing CA must be constrained to."""
        return f"{self.kind.value}.{self.environment}"

    def __str__(self) -> str:
        return f"spiffe://{self.host}/{'/'.join(self.path)}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """What the mesh needs of a TLS leaf and its direct issuer; parsed once per certificate, checked at every call."""

    uris: tuple[str, ...]
    is_tls_client: bool
    valid_from_time: datetime
    expire_time: datetime
    serial_number: str
    issuer_key_id: str
    issuer_hosts: tuple[str, ...]
    issuer_serial_number: str
    issuer_expire_time: datetime
    root_key_id: str

    def only_identity(self) -> SpiffeId:
        """The one URI. Raises IdentityMalformed for none, several, or one that is not strict."""
        if len(self.uris) != 1:
            raise IdentityMalformed()
        return SpiffeId.parse(self.uris[0])


@dataclass(frozen=True, slots=True)
class Caller:
    """An accepted caller. `agency_id` and `system_id` are empty but for an agency's system."""

    identity: str
    kind: CallerKind
    name: str
    agency_id: str = ""
    system_id: str = ""


def key_id(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's SubjectPublicKeyInfo, hex: names an issuer in revocations."""
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def read_leaf(leaf: x509.Certificate, presented: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> Leaf:
    """Parse a leaf whose chain TLS has verified, and find the issuer that it really stands on.

    The chain presented is only a claim: a decoy CA with the same key could stand in it. So the issuer taken here signed
    the leaf *and* is signed by a root of ours. Raises IssuerNotEntitled if no such issuer was presented.
    """
    for issuer in presented:
        root = next((root for root in roots if _signed(issuer, root)), None)
        if root is not None and _signed(leaf, issuer):
            break
    else:
        raise IssuerNotEntitled()
    return Leaf(
        uris=_uris(leaf),
        is_tls_client=_is_tls_client(leaf),
        valid_from_time=leaf.not_valid_before_utc,
        expire_time=leaf.not_valid_after_utc,
        serial_number=f"{leaf.serial_number:x}",
        issuer_key_id=key_id(issuer),
        issuer_hosts=_permitted_hosts(issuer),
        issuer_serial_number=f"{issuer.serial_number:x}",
        issuer_expire_time=issuer.not_valid_after_utc,
        root_key_id=key_id(root),
    )


def identify(leaf: Leaf, environment: str, policy: Policy, now: datetime) -> Caller:
    """Turn a verified TLS leaf into a caller in any state of its system, or refuse.

    1. The leaf names exactly one strict URI, in our environment, and may authenticate a TLS client.
    2. Its direct issuer is entitled to that kind of identity: it is constrained to just its host (name constraints see
       only the host, and an unconstrained CA is entitled to nothing).
    3. It and its issuer are valid at this moment: TLS checked only when the connection opened, and not at all on
       resumption.
    4. Neither it nor its issuer is revoked at the policy revision we hold.
    5. If that policy names authorities of its host, its direct issuer is one of them, and accepted in its state. A room
       needs its chain alone: policy flows before there is any.
    """
    identity = leaf.only_identity()  # (1)
    if identity.environment != environment:
        raise EnvironmentForeign(environment=identity.environment)
    if not leaf.is_tls_client:
        raise CertificateUsage()
    host = identity.host
    if leaf.issuer_hosts != (host,):  # (2)
        raise IssuerNotEntitled()
    if now >= min(leaf.expire_time, leaf.issuer_expire_time):  # (3)
        raise CertificateExpired(expire_time=min(leaf.expire_time, leaf.issuer_expire_time).isoformat())
    if now < leaf.valid_from_time:
        raise CertificateNotYetValid(valid_from_time=leaf.valid_from_time.isoformat())
    for revocable in ((leaf.issuer_key_id, leaf.serial_number), (leaf.root_key_id, leaf.issuer_serial_number)):  # (4)
        revoked = policy.revocation_of(*revocable)
        if revoked is not None:
            raise CertificateRevoked(revoke_time=revoked.revoke_time.isoformat())
    if host in policy.governed_hosts and identity.kind is not CallerKind.ROOM:  # (5)
        _require_authority(leaf.issuer_key_id, host, policy)
    return _caller_with(identity)


def require_active(caller: Caller, policy: Policy) -> None:
    """6. An agency's system is active in the registry, an operator is on its list; a room needs its chain alone.

    Raises SystemUnknown, SystemSuspended or OperatorUnknown.
    """
    if caller.kind is CallerKind.AGENCY:
        policy.require_system_active(caller.agency_id, caller.system_id)
    elif caller.kind is CallerKind.OPERATOR:
        policy.require_operator(caller.name)


def accept(leaf: Leaf, environment: str, policy: Policy, now: datetime) -> Caller:
    """Turn a verified TLS leaf into a caller that may act, or refuse: steps 1 to 5 of `identify`, then 6."""
    caller = identify(leaf, environment, policy, now)
    require_active(caller, policy)
    return caller


def _require_authority(issuer_key_id: str, host: str, policy: Policy) -> None:
    """Raises IssuerNotEntitled, or CertificateRevoked if the authority itself is revoked."""
    authority = policy.authority(issuer_key_id)
    if authority is None or authority.host != host or authority.state is AuthorityState.RETIRED:
        raise IssuerNotEntitled()
    if authority.state is AuthorityState.REVOKED:
        raise CertificateRevoked(revoke_time=authority.state_time.isoformat())


@lru_cache(20_000)
def _caller_with(identity: SpiffeId) -> Caller:
    path = identity.path
    if identity.kind is CallerKind.AGENCY:
        return Caller(str(identity), identity.kind, "/".join(path), agency_id=path[0], system_id=path[1])
    return Caller(str(identity), identity.kind, path[0])


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def _is_tls_client(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        pass
    try:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False  # gRPC accepts a leaf without it; the mesh does not
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages


def _permitted_hosts(issuer: x509.Certificate) -> tuple[str, ...]:
    try:
        permitted = issuer.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.value for name in permitted or () if isinstance(name, x509.UniformResourceIdentifier))
