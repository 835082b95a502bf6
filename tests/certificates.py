"""Certificates for tests, good ones and broken ones: one factory that can break any property.

pki = TestPki("test.npd.example")
pki.agency("tax", "core")                                                   # good, from npd_pki
pki.agency("tax", "core", validity=expired())                               # each keyword of `Broken` breaks a property
pki.agency("tax", "core", uris=malformed_uris(pki.environment)["port"])
pki.agency("tax", "core", uris=(), dns_names=[uri])                         # the URI spelt in a DNS SAN
pki.agency("tax", "core", purposes=[SERVER_AUTH])                           # the wrong usage; None: no usage at all
pki.agency("tax", "core", chain=())                                         # a missing intermediate
pki.agency("tax", "core", environment="npd.gov.vn")                         # another environment, below our root
pki.room("sharing", issuer=pki.hierarchy.agency)                            # a name-constraint violation
pki.agency("tax", "core", issuer=pki.issuing_ca(Kind.AGENCY, host=None))    # an unconstrained issuing CA
pki.foreign().agency("tax", "core")                                         # a foreign root, but it trusts ours

What is handed out presents its chain and trusts `pki.roots`: `.write(directory)` for files, `.channel_credentials()`
for a client that looks at nothing beforehand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict, Unpack

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from npd_pki.authority import CertificateAuthority
from npd_pki.ca_store import Hierarchy
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.identity import Kind, host_of
from npd_pki.issuance import issuer_key_id
from npd_pki.keys import generate_p256_key, private_key_pem, signature_hash
from npd_pki.profile import CLIENT_TLS, ISSUING, ROOM_TLS, SIGNING, Profile
from npd_pki.tbs import authority_key_identifier
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity

DAY = timedelta(days=1)
CLIENT_AUTH, SERVER_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class Broken(TypedDict, total=False):
    """Properties of a leaf that a test replaces; the others stay as a good one has them."""

    uris: str | Sequence[str]
    """URI SANs: none, another, or several."""
    dns_names: Sequence[str]
    """DNS SANs; a URI can be spelt in one."""
    purposes: Sequence[x509.ObjectIdentifier] | None
    """Extended key usage; None leaves the extension out."""
    is_ca: bool
    """Whether the basic constraints say that it is a CA's."""
    validity: Validity
    environment: str
    """Another environment, for the URI and for its issuer, which this root issues."""
    issuer: CertificateAuthority
    """Who signs; the chain presented is this issuer's certificate."""
    chain: Sequence[x509.Certificate]
    """What is presented after the leaf: () is a missing intermediate."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A leaf with its key, the chain that its holder presents after it, and the roots that he trusts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @property
    def revocation(self) -> tuple[str, str]:
        """What names it in revocations: the key id of its issuer, which stands in `chain`, and its serial number."""
        return issuer_key_id(self.chain[0]), f"{self.certificate.serial_number:x}"

    @property
    def chain_pem(self) -> bytes:
        """The leaf, then its chain."""
        return certificates_pem([self.certificate, *self.chain])

    def write(self, directory: Path) -> Path:
        """Write tls.crt, tls.key (mode 0600) and ca.crt into a directory, which is made if absent."""
        directory.mkdir(parents=True, exist_ok=True)
        files = [
            PemFile("ca.crt", certificates_pem(self.roots), PUBLIC),
            PemFile("tls.key", private_key_pem(self.key), PRIVATE),
            PemFile("tls.crt", self.chain_pem, PUBLIC),
        ]
        replace_files(directory, files)
        return directory

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a plain gRPC channel, past all checks of npd_client."""
        return grpc.ssl_channel_credentials(certificates_pem(self.roots), private_key_pem(self.key), self.chain_pem)


class TestPki:
    """A root, its three issuing CAs (`hierarchy`) and any leaf below them, good or broken."""

    __test__ = False

    def __init__(self, environment: str, *, roots: Sequence[x509.Certificate] = ()) -> None:
        """Make new CAs. `roots` are what the holders trust, by default the new root."""
        self.environment = environment
        self.hierarchy = Hierarchy.create(environment)
        self.roots = tuple(roots) or (self.hierarchy.root.certificate,)

    def foreign(self) -> "TestPki":
        """Another hierarchy for the same environment. Its holders trust our roots, whereas nobody of ours trusts it."""
        return TestPki(self.environment, roots=self.roots)

    def room(self, name: str, **broken: Unpack[Broken]) -> Holder:
        """The TLS leaf of a room, for `localhost`."""
        return self._leaf(ROOM_TLS, Kind.MESH, (name,), broken)

    def agency(self, agency: str, system: str, **broken: Unpack[Broken]) -> Holder:
        """The TLS leaf of an agency's system."""
        return self._leaf(CLIENT_TLS, Kind.AGENCY, (agency, system), broken)

    def operator(self, name: str, **broken: Unpack[Broken]) -> Holder:
        """The TLS leaf of an operator."""
        return self._leaf(CLIENT_TLS, Kind.OPERATOR, (name,), broken)

    def signing(self, kind: Kind, *path: str, **broken: Unpack[Broken]) -> Holder:
        """The leaf with which an agency's system or an operator signs agreements."""
        return self._leaf(SIGNING, kind, path, broken)

    def issuing_ca(
        self,
        kind: Kind,
        *,
        host: str | None = "",
        like: CertificateAuthority | None = None,
        validity: Validity | None = None,
    ) -> CertificateAuthority:
        """Another CA below this root, with the name and the key of the good one of its kind, or of `like`.

        `host` is what it is constrained to: by default its kind's, None for nothing. A decoy of our CA is
        `pki.foreign().issuing_ca(kind, host=..., like=pki.hierarchy.agency)`.
        """
        like, root = like or self.hierarchy.of(kind), self.hierarchy.root
        builder = _builder(like.certificate.subject, root.certificate, like.key.public_key(), validity)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(ISSUING[kind].key_usage, critical=True)
        if host is not None:
            permitted = x509.UniformResourceIdentifier(host or host_of(kind, self.environment))
            builder = builder.add_extension(x509.NameConstraints([permitted], None), critical=True)
        return CertificateAuthority(_signed(builder, root), like.key)

    def _leaf(self, profile: Profile, kind: Kind, path: Sequence[str], broken: Broken) -> Holder:
        key = generate_p256_key()
        if not broken:
            hosts = ("localhost",) if profile.names_hosts else ()
            issued = self.hierarchy.of(kind).issue(
                profile, _uri(kind, self.environment, path), key.public_key(), dns_names=hosts
            )
            return Holder(issued.certificate, key, issued.chain, self.roots)
        environment = broken.get("environment", self.environment)
        issuer = broken.get("issuer") or self.hierarchy.of(kind)
        if environment != self.environment and "issuer" not in broken:
            issuer = self.issuing_ca(kind, host=host_of(kind, environment))
        certificate = _forged(profile, _uri(kind, environment, path), key.public_key(), issuer, broken)
        return Holder(certificate, key, tuple(broken.get("chain", (issuer.certificate,))), self.roots)


def expired() -> Validity:
    """Ended a day ago."""
    now = datetime.now(UTC)
    return Validity(now - 2 * DAY, now - DAY)


def not_yet_valid() -> Validity:
    """Begins in a day."""
    now = datetime.now(UTC)
    return Validity(now + DAY, now + 2 * DAY)


def malformed_uris(environment: str) -> Mapping[str, str]:
    """What must never pass for the URI of the system tax/core, by what is wrong with it."""
    host = host_of(Kind.AGENCY, environment)
    return {
        "query": f"spiffe://{host}/tax/core?admin=1",
        "fragment": f"spiffe://{host}/tax/core#admin",
        "port": f"spiffe://{host}:443/tax/core",
        "user": f"spiffe://root@{host}/tax/core",
        "dot segment": f"spiffe://{host}/tax/..",
        "single dot": f"spiffe://{host}/./core",
        "upper case": f"spiffe://{host}/Tax/core",
        "upper case host": f"spiffe://{host.upper()}/tax/core",
        "percent escape": f"spiffe://{host}/tax/%63ore",
        "empty segment": f"spiffe://{host}/tax//core",
        "trailing slash": f"spiffe://{host}/tax/core/",
        "missing segment": f"spiffe://{host}/tax",
        "one segment more": f"spiffe://{host}/tax/core/admin",
        "no path": f"spiffe://{host}",
        "another scheme": f"https://{host}/tax/core",
        "another kind": f"spiffe://citizen.{environment}/tax/core",
        "no kind": f"spiffe://{environment}/tax/core",
    }


def _uri(kind: Kind, environment: str, path: Sequence[str]) -> str:
    return f"spiffe://{host_of(kind, environment)}/{'/'.join(path)}"


def _forged(
    profile: Profile, uri: str, public_key: ec.EllipticCurvePublicKey, issuer: CertificateAuthority, broken: Broken
) -> x509.Certificate:
    """A leaf that no check of npd_pki has seen."""
    uris = broken.get("uris", uri)
    uris = (uris,) if isinstance(uris, str) else uris
    hosts = broken.get("dns_names", ("localhost",) if profile.names_hosts else ())
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, hosts)]
    purposes = broken.get("purposes", profile.purposes)
    is_ca = broken.get("is_ca", False)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "decoration")])
    builder = _builder(subject, issuer.certificate, public_key, broken.get("validity"))
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
    builder = builder.add_extension(profile.key_usage, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=profile.purposes_critical)
    return _signed(builder, issuer)


def _builder(
    subject: x509.Name,
    issuer: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    validity: Validity | None,
) -> x509.CertificateBuilder:
    validity = validity or Validity.lasting(30 * DAY)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, issuer: CertificateAuthority) -> x509.Certificate:
    return builder.sign(issuer.key, signature_hash(issuer.key.public_key()))
