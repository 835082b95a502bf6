"""Certification authorities: the root, and the three issuing CAs that it constrains. Stores nothing (`ca_store` does).

    root  (offline)
     +-- mesh CA       spiffe://mesh.<environment>/...       rooms
     +-- agency CA     spiffe://agency.<environment>/...     systems of agencies
     +-- operator CA   spiffe://operator.<environment>/...   people who operate the mesh

Source: DESIGN.md part 5; RFC 5280.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from npd_pki.errors import (
    HostNamesForbidden,
    HostNamesMissing,
    IdentityNotEntitled,
    IssuedByThisRoot,
    KeyUnacceptable,
    NotAuthority,
    ProfileNotEntitled,
    ValidityExceedsIssuer,
    ValidityTooLong,
)
from npd_pki.identity import Identity, Kind, host_of, require_environment, require_host_name
from npd_pki.issuance import IssuedCertificate, PreparedCertificate, issuer_key_id, prepare, sign
from npd_pki.keys import (
    SigningKey,
    generate_p256_key,
    generate_p384_key,
    require_ec_public_key,
    require_leaf_public_key,
)
from npd_pki.lint import lint_cross_certificate, lint_issuing_ca, lint_leaf, lint_root
from npd_pki.profile import ISSUING, ROOT, Profile
from npd_pki.tbs import environment_of, issuing_ca_tbs, leaf_tbs, root_tbs
from npd_pki.trust_bundle import is_authority, is_issued_by, require_root
from npd_pki.validity import BACKDATING, Validity


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA certificate and the key that signs in its name. Use one of the two that follow.

    Raises NotAuthority when constructed from a certificate that is no CA's, or with another key than the certificate's.
    """

    certificate: x509.Certificate
    key: SigningKey = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_authority(self.certificate):
            raise NotAuthority(f"{self.certificate.subject.rfc4514_string()!r} is not a CA")
        if self.certificate.public_key() != self.key.public_key():
            raise NotAuthority(f"the key is not that of {self.certificate.subject.rfc4514_string()!r}")

    @property
    def environment(self) -> str:
        """The environment for which this CA stands, such as `npd.gov.vn`."""
        return environment_of(self.certificate.subject)

    @property
    def key_id(self) -> str:
        """The issuer key id of everything that this CA issues."""
        return issuer_key_id(self.certificate)

    def _require_life(self, validity: Validity, longest: timedelta) -> None:
        _require_span(validity, longest)
        if validity.not_after > self.certificate.not_valid_after_utc:
            raise ValidityExceedsIssuer(
                f"the certificate would end {validity.not_after}, its issuer {self.certificate.not_valid_after_utc}"
            )

    def _require_other_key(self, public_key: PublicKeyTypes) -> None:
        if public_key == self.key.public_key():
            raise KeyUnacceptable("a CA does not issue a certificate for its own key")


@dataclass(frozen=True, slots=True)
class RootCA(CertificateAuthority):
    """The trust anchor of one environment. Issues issuing CAs, never leaves; its key is kept offline."""

    def __post_init__(self) -> None:
        CertificateAuthority.__post_init__(self)  # super() does not work in a slotted dataclass
        require_root(self.certificate)
        environment_of(self.certificate.subject)

    def certify(self, kind: Kind, public_key: PublicKeyTypes, *, validity: Validity | None = None) -> x509.Certificate:
        """Certify the key of an issuing CA that is kept elsewhere, by default for the longest life of the profile.

        The CA may issue only below `<kind>.<environment>`, for the purposes of its kind's profiles, and no further CAs
        (RFC 5280 4.2.1.9, 4.2.1.10, 4.2.1.12). Raises KeyUnacceptable, ValidityTooLong, ValidityExceedsIssuer.
        """
        profile, environment = ISSUING[kind], self.environment
        validity = validity or Validity.lasting(profile.longest_life)
        self._require_life(validity, profile.longest_life)
        self._require_other_key(public_key)
        tbs = issuing_ca_tbs(profile, kind, environment, require_ec_public_key(public_key), validity, self.certificate)
        lint = partial(lint_issuing_ca, profile=profile, kind=kind, environment=environment, issuer=self.certificate)
        return sign(prepare(tbs, self.key, lint), self.key)

    def cross_certify(self, certificate: x509.Certificate, *, validity: Validity | None = None) -> x509.Certificate:
        """Certify an issuing CA that another root has certified, so that those who trust either root accept its leaves.

        1. It is an issuing CA of this environment.
        2. It is not this root's own already: to renew that is `certify`.
        3. The new certificate has its subject, its key and its bounds, or the chains would not be interchangeable.
        It ends with the existing one unless a validity is given.
        Raises NotAuthority, IssuedByThisRoot, KeyUnacceptable, ValidityMalformed for one that has expired,
        ValidityTooLong, ValidityExceedsIssuer, LintFailed.
        """
        host = permitted_host(certificate)  # (1)
        kind = Kind(host.partition(".")[0])
        if not is_authority(certificate) or host != host_of(kind, self.environment):
            raise NotAuthority(f"the root of {self.environment} does not cross-certify the CA of {host}")
        if is_issued_by(certificate, self.certificate):  # (2)
            raise IssuedByThisRoot(f"{certificate.subject.rfc4514_string()!r} is this root's own already: renew it")
        validity = validity or Validity(datetime.now(UTC) - BACKDATING, certificate.not_valid_after_utc)
        self._require_life(validity, ISSUING[kind].longest_life)
        self._require_other_key(certificate.public_key())
        key = require_ec_public_key(certificate.public_key())
        tbs = issuing_ca_tbs(ISSUING[kind], kind, self.environment, key, validity, self.certificate)
        lint = partial(lint_cross_certificate, existing=certificate, kind=kind, issuer=self.certificate)  # (3)
        return sign(prepare(tbs, self.key, lint), self.key)

    def issue_issuing_ca(
        self, kind: Kind, *, key: SigningKey | None = None, validity: Validity | None = None
    ) -> "IssuingCA":
        """Make the issuing CA of a kind, by default with a new P-256 key. Raises what `certify` raises."""
        key = key or generate_p256_key()
        return IssuingCA(self.certify(kind, key.public_key(), validity=validity), key)


@dataclass(frozen=True, slots=True)
class IssuingCA(CertificateAuthority):
    """The CA of one kind of identity in one environment. Issues leaves, never CAs."""

    def __post_init__(self) -> None:
        CertificateAuthority.__post_init__(self)
        if permitted_host(self.certificate) != host_of(self.kind, self.environment):
            raise NotAuthority(f"the CA of {self.environment} is constrained to {permitted_host(self.certificate)}")

    @property
    def kind(self) -> Kind:
        """The kind of identity that this CA's name constraints permit, whatever its name says."""
        return Kind(permitted_host(self.certificate).partition(".")[0])

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a holder of a leaf presents after it: the CAs up to but not including the root."""
        return (self.certificate,)

    def prepare(
        self,
        profile: Profile,
        uri: str,
        public_key: PublicKeyTypes,
        *,
        dns_names: Sequence[str] = (),
        validity: Validity | None = None,
    ) -> PreparedCertificate:
        """Check and lint a leaf without issuing it, so that the caller can record its serial number first.

        1. This kind of CA issues this profile.
        2. The URI is an identity of this CA's kind and environment.
        3. A profile that names hosts names at least one, each a host name; another names none.
        4. The key is acceptable, and not this CA's own.
        5. The life is within the profile's ceiling (its default life, if none is given) and within this CA's own.
        6. What would be signed conforms to the profile.
        Whoever calls has authenticated the holder, checked the possession of the key, and decided.
        Raises ProfileNotEntitled, IdentityMalformed, IdentityNotEntitled, HostNamesMissing, HostNamesForbidden,
        HostNameMalformed, KeyUnacceptable, ValidityTooLong, ValidityExceedsIssuer, LintFailed.
        Source: DESIGN.md part 5; RFC 5280 4.2.1.
        """
        if self.kind not in profile.kinds:  # (1)
            raise ProfileNotEntitled(f"the {self.kind} CA does not issue {profile.name} certificates")
        identity = self._require_entitled(Identity.parse(uri))  # (2)
        hosts = _require_hosts(profile, dns_names)  # (3)
        self._require_other_key(public_key)  # (4)
        leaf_key = require_leaf_public_key(public_key)
        validity = validity or Validity.lasting(profile.default_life)
        self._require_life(validity, profile.longest_life)  # (5)
        tbs = leaf_tbs(profile, identity, hosts, leaf_key, validity, self.certificate)
        lint = partial(lint_leaf, profile=profile, identity=identity, dns_names=hosts, issuer=self.certificate)
        return prepare(tbs, self.key, lint)  # (6)

    def sign(self, prepared: PreparedCertificate) -> IssuedCertificate:
        """Sign what `prepare` returned, once, after recording it. Raises PreparedElsewhere, LintFailed."""
        return IssuedCertificate(sign(prepared, self.key), self.chain)

    def issue(
        self,
        profile: Profile,
        uri: str,
        public_key: PublicKeyTypes,
        *,
        dns_names: Sequence[str] = (),
        validity: Validity | None = None,
    ) -> IssuedCertificate:
        """Prepare a leaf for a public key and sign it at once. Raises what `prepare` raises."""
        return self.sign(self.prepare(profile, uri, public_key, dns_names=dns_names, validity=validity))

    def _require_entitled(self, identity: Identity) -> Identity:
        host = permitted_host(self.certificate)
        if identity.host != host:
            raise IdentityNotEntitled(f"the CA of {host} does not issue {identity}")
        return identity


def create_root(environment: str, *, key: SigningKey | None = None, validity: Validity | None = None) -> RootCA:
    """Make the root of an environment, by default with a new P-384 key and the longest life of the profile.

    Raises HostNameMalformed for the environment, KeyUnacceptable, ValidityTooLong.
    """
    require_environment(environment)
    key = key or generate_p384_key()
    public_key = require_ec_public_key(key.public_key())
    validity = validity or Validity.lasting(ROOT.longest_life)
    _require_span(validity, ROOT.longest_life)
    lint = partial(lint_root, profile=ROOT, environment=environment)
    return RootCA(sign(prepare(root_tbs(ROOT, environment, public_key, validity), key, lint), key), key)


def permitted_host(certificate: x509.Certificate) -> str:
    """The one URI host to which an issuing CA is constrained. Raises NotAuthority if it is not constrained so."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound as error:
        raise NotAuthority("an issuing CA has name constraints") from error
    permitted = constraints.value.permitted_subtrees or []
    hosts = [name.value for name in permitted if isinstance(name, x509.UniformResourceIdentifier)]
    if not constraints.critical or len(hosts) != 1 or hosts[0].partition(".")[0] not in set(Kind):
        raise NotAuthority(f"the name constraints do not permit exactly one kind of identity: {permitted!r}")
    return hosts[0]


def _require_span(validity: Validity, longest: timedelta) -> None:
    if validity.span > longest + BACKDATING:
        raise ValidityTooLong(f"{validity.span} is longer than the {longest} that the profile allows")


def _require_hosts(profile: Profile, dns_names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(dns_names, str):  # a string is a sequence of strings, each of which may well be a host name
        raise TypeError("dns_names is a sequence of names, not one name")
    if dns_names and not profile.names_hosts:
        raise HostNamesForbidden(f"a {profile.name} certificate names no host")
    if profile.names_hosts and not dns_names:
        raise HostNamesMissing(f"a {profile.name} certificate names the hosts that clients dial")
    return tuple(dict.fromkeys(map(require_host_name, dns_names)))
