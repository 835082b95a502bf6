"""What each sort of certificate may be: a row per leaf profile, a row per CA. Data only: `tbs` builds, `lint` checks.

Lives are this project's choice, short where renewal is automatic. Sources: DESIGN.md part 5 (kinds, names, uses);
RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.10, 4.2.1.12 (extensions); RFC 9336 (document signing); CA/Browser Forum Baseline
Requirements 7.1.2.5 (a CA is technically constrained by key purposes and name constraints together).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from npd_pki.identity import Kind

DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # id-kp-documentSigning, RFC 9336 section 3.1


def _key_usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """A sort of leaf certificate.

    `version` rises with every change of the row, so that an approval can name what was approved. `kinds` are the CAs
    that issue it; `purposes` its extended key usage, which every implementation must understand or refuse if
    `purposes_critical`; `names_hosts` whether it carries DNS names (then at least one) beside its URI. A life counts
    from the moment of issue; back-dating comes on top.
    """

    name: str
    version: int
    kinds: frozenset[Kind]
    key_usage: x509.KeyUsage
    purposes: tuple[ObjectIdentifier, ...]
    purposes_critical: bool
    names_hosts: bool
    default_life: timedelta
    longest_life: timedelta


ROOM_TLS = Profile(
    name="room-tls",
    version=1,
    kinds=frozenset({Kind.MESH}),
    key_usage=_key_usage(digital_signature=True),
    purposes=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    purposes_critical=False,
    names_hosts=True,
    default_life=timedelta(days=30),
    longest_life=timedelta(days=90),
)
"""A room: it serves, and calls other rooms. Clients dial a DNS name; no TLS client can match a URI with a host."""

CLIENT_TLS = Profile(
    name="client-tls",
    version=1,
    kinds=frozenset({Kind.AGENCY, Kind.OPERATOR}),
    key_usage=_key_usage(digital_signature=True),
    purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,),
    purposes_critical=False,
    names_hosts=False,
    default_life=timedelta(days=90),
    longest_life=timedelta(days=366),
)
"""A system of an agency, or an operator: they only ever dial in."""

SIGNING = Profile(
    name="signing",
    version=1,
    kinds=frozenset({Kind.AGENCY, Kind.OPERATOR}),
    key_usage=_key_usage(digital_signature=True, content_commitment=True),
    purposes=(DOCUMENT_SIGNING,),
    purposes_critical=True,
    names_hosts=False,
    default_life=timedelta(days=366),
    longest_life=timedelta(days=3 * 366),
)
"""A party's signature under an agreement. Its sole, critical purpose shuts it out of TLS. No room has one: rooms
sign with their Ed25519 keys, and the registry alone must not be able to grant (DESIGN.md part 6)."""

PROFILES: Mapping[str, Profile] = MappingProxyType({row.name: row for row in (ROOM_TLS, CLIENT_TLS, SIGNING)})


@dataclass(frozen=True, slots=True)
class AuthorityProfile:
    """A sort of CA certificate.

    `label` opens its common name; `path_length` is the number of CAs that may follow it; `purposes` bound what it can
    issue leaves for (none: unbounded); `excludes_ip` and `excludes_dns` forbid every name of that type below it.
    """

    label: str
    path_length: int
    purposes: tuple[ObjectIdentifier, ...]
    excludes_ip: bool
    excludes_dns: bool
    longest_life: timedelta
    key_usage: x509.KeyUsage


ROOT = AuthorityProfile(
    label="Root CA",
    path_length=1,
    purposes=(),
    excludes_ip=False,
    excludes_dns=False,
    longest_life=timedelta(days=20 * 366),
    key_usage=_key_usage(key_cert_sign=True, crl_sign=True),
)
"""The trust anchor. Not constrained itself: RFC 5280 6.1 does not process the extensions of an anchor."""


def _issuing(kind: Kind, *, excludes_dns: bool) -> AuthorityProfile:
    purposes = {purpose: None for row in PROFILES.values() if kind in row.kinds for purpose in row.purposes}
    return AuthorityProfile(
        label=f"{kind.capitalize()} CA",
        path_length=0,
        purposes=tuple(purposes),
        excludes_ip=True,
        excludes_dns=excludes_dns,
        longest_life=timedelta(days=5 * 366),
        key_usage=_key_usage(key_cert_sign=True, crl_sign=True),
    )


ISSUING: Mapping[Kind, AuthorityProfile] = MappingProxyType(
    {
        Kind.MESH: _issuing(Kind.MESH, excludes_dns=False),
        Kind.AGENCY: _issuing(Kind.AGENCY, excludes_dns=True),
        Kind.OPERATOR: _issuing(Kind.OPERATOR, excludes_dns=True),
    }
)
"""The issuing CA of each kind, constrained to its URI host. It lives as long as its ceiling unless told otherwise."""
