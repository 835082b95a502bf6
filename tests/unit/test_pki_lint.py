"""The lint finds what is wrong with a certificate: each test breaks one property of a good one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from npd_pki.authority import IssuingCA, RootCA, create_root
from npd_pki.distribution import crl_distribution_points
from npd_pki.errors import LintFailed
from npd_pki.identity import Identity, Kind
from npd_pki.keys import generate_p256_key
from npd_pki.lint import lint_issuing_ca, lint_leaf, lint_root
from npd_pki.profile import CLIENT_TLS, ISSUING, ROOT
from npd_pki.tbs import issuing_ca_tbs, leaf_tbs, root_tbs
from npd_pki.validity import Validity

ENV = "npd.test"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = Validity.lasting(timedelta(days=1), NOW)
IDENTITY = Identity(Kind.AGENCY, ENV, ("gdt", "tax"))
KEY = generate_p256_key().public_key()


@dataclass(frozen=True)
class Draft:
    """The fields of a certificate, to be changed and signed anew."""

    issuer: x509.Name
    subject: x509.Name
    public_key: ec.EllipticCurvePublicKey
    serial: int
    not_before: datetime
    not_after: datetime
    extensions: tuple[tuple[x509.ExtensionType, bool], ...]

    @classmethod
    def of(cls, tbs: x509.CertificateBuilder) -> Self:
        certificate = tbs.sign(generate_p256_key(), hashes.SHA256())
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return cls(
            certificate.issuer,
            certificate.subject,
            key,
            certificate.serial_number,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            tuple((extension.value, extension.critical) for extension in certificate.extensions),
        )

    def sign(self, algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512) -> x509.Certificate:
        tbs = (
            x509.CertificateBuilder()
            .issuer_name(self.issuer)
            .subject_name(self.subject)
            .public_key(self.public_key)
            .serial_number(self.serial)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
        )
        for value, critical in self.extensions:
            tbs = tbs.add_extension(value, critical)
        return tbs.sign(generate_p256_key(), algorithm)


Edit = Callable[[Draft], Draft]


def having(value: x509.ExtensionType, critical: bool) -> Edit:
    """An edit that puts an extension in the place of the one of its type, or adds it."""
    return lambda draft: replace(draft, extensions=(*lacking(type(value))(draft).extensions, (value, critical)))


def lacking(type_: type[x509.ExtensionType]) -> Edit:
    """An edit that takes the extension of a type away."""
    return lambda draft: replace(
        draft, extensions=tuple(one for one in draft.extensions if not isinstance(one[0], type_))
    )


def changed(**fields: object) -> Edit:
    """An edit that changes fields of the draft."""
    return lambda draft: replace(draft, **fields)  # type: ignore[arg-type]


def named(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


@pytest.fixture(scope="module")
def root() -> RootCA:
    return create_root(ENV, validity=Validity.lasting(timedelta(days=3000), NOW))


@pytest.fixture(scope="module")
def ca(root: RootCA) -> IssuingCA:
    return root.issue_issuing_ca(Kind.AGENCY, validity=Validity.lasting(timedelta(days=1000), NOW))


def lint_agency_leaf(ca: IssuingCA, edit: Edit, algorithm: hashes.SHA256 | hashes.SHA512 | None = None) -> None:
    draft = edit(Draft.of(leaf_tbs(CLIENT_TLS, IDENTITY, (), KEY, DAY, ca.certificate)))
    lint_leaf(
        draft.sign(algorithm or hashes.SHA256()),
        profile=CLIENT_TLS,
        identity=IDENTITY,
        dns_names=(),
        issuer=ca.certificate,
    )


def test_good_leaf_has_no_findings(ca: IssuingCA) -> None:
    lint_agency_leaf(ca, lambda draft: draft)


URI = x509.UniformResourceIdentifier
P521 = ec.generate_private_key(ec.SECP521R1()).public_key()
BROKEN_LEAVES: dict[str, tuple[Edit, str]] = {
    "ca": (having(x509.BasicConstraints(ca=True, path_length=0), True), "BasicConstraints is"),
    "basic constraints not critical": (
        having(x509.BasicConstraints(ca=False, path_length=None), False),
        "BasicConstraints is not critical",
    ),
    "no basic constraints": (lacking(x509.BasicConstraints), "BasicConstraints is missing"),
    "no purpose": (lacking(x509.ExtendedKeyUsage), "ExtendedKeyUsage is missing"),
    "purpose too many": (
        having(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        "ExtendedKeyUsage is",
    ),
    "purpose critical": (
        having(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True),
        "ExtendedKeyUsage is critical",
    ),
    "two URIs": (
        having(x509.SubjectAlternativeName([URI(str(IDENTITY)), URI(f"spiffe://agency.{ENV}/gdt/other")]), False),
        "SubjectAlternativeName is",
    ),
    "another URI": (
        having(x509.SubjectAlternativeName([URI(f"spiffe://agency.{ENV}/gdt/other")]), False),
        "SubjectAlternativeName is",
    ),
    "URI in a DNS name": (
        having(x509.SubjectAlternativeName([x509.DNSName(str(IDENTITY))]), False),
        "SubjectAlternativeName is",
    ),
    "host name": (
        having(x509.SubjectAlternativeName([URI(str(IDENTITY)), x509.DNSName("registry")]), False),
        "SubjectAlternativeName is",
    ),
    "names critical": (
        having(x509.SubjectAlternativeName([URI(str(IDENTITY))]), True),
        "SubjectAlternativeName is critical",
    ),
    "extension of no profile": (having(x509.OCSPNoCheck(), False), "extension 1.3.6.1.5.5.7.48.1.5 is not in the"),
    "no subject key identifier": (lacking(x509.SubjectKeyIdentifier), "SubjectKeyIdentifier is missing"),
    "foreign subject key identifier": (
        having(x509.SubjectKeyIdentifier(b"x" * 20), False),
        "SubjectKeyIdentifier is",
    ),
    "foreign issuer key": (
        having(x509.AuthorityKeyIdentifier(b"x" * 20, None, None), False),
        "AuthorityKeyIdentifier is",
    ),
    "no revocation list": (lacking(x509.CRLDistributionPoints), "CRLDistributionPoints is missing"),
    "revocation list of another key": (
        having(crl_distribution_points(ENV, "0" * 64), False),
        "CRLDistributionPoints is",
    ),
    "foreign issuer name": (changed(issuer=named("Agency CA")), "the issuer is not"),
    "two common names": (changed(subject=named("gdt", "tax")), "not a single common name"),
    "no subject": (changed(subject=x509.Name([])), "not a single common name"),
    "host as common name": (changed(subject=named("registry.npd.test")), "could be read as a host name"),
    "counted serial number": (changed(serial=4711), "too short to be random"),
    "too long": (changed(not_after=datetime(2028, 1, 1, tzinfo=UTC)), "longer than the ceiling"),
    "outlives its issuer": (changed(not_after=datetime(2036, 1, 1, tzinfo=UTC)), "outlives its issuer"),
    "key on another curve": (
        lambda draft: having(x509.SubjectKeyIdentifier.from_public_key(P521), False)(changed(public_key=P521)(draft)),
        "P-256 or P-384",
    ),
}


@pytest.mark.parametrize("what", BROKEN_LEAVES)
def test_broken_leaf_is_found(what: str, ca: IssuingCA) -> None:
    edit, finding = BROKEN_LEAVES[what]
    with pytest.raises(LintFailed, match=finding):
        lint_agency_leaf(ca, edit)


def test_leaf_with_the_issuers_own_key_is_found(ca: IssuingCA) -> None:
    with pytest.raises(LintFailed, match="issuer's own"):
        lint_agency_leaf(ca, changed(public_key=ca.key.public_key()))


def test_leaf_signed_with_another_hash_than_the_curve_asks_is_found(ca: IssuingCA) -> None:
    with pytest.raises(LintFailed, match="signature algorithm"):
        lint_agency_leaf(ca, lambda draft: draft, hashes.SHA512())


def test_every_finding_is_told_at_once(ca: IssuingCA) -> None:
    with pytest.raises(LintFailed) as failure:
        lint_agency_leaf(ca, lambda draft: having(x509.OCSPNoCheck(), False)(lacking(x509.ExtendedKeyUsage)(draft)))
    assert len(failure.value.findings) == 2


ISSUING_PROFILE = ISSUING[Kind.AGENCY]
BROKEN_CAS: dict[str, tuple[Edit, str]] = {
    "another CA may follow": (having(x509.BasicConstraints(ca=True, path_length=1), True), "BasicConstraints is"),
    "no path length": (having(x509.BasicConstraints(ca=True, path_length=None), True), "BasicConstraints is"),
    "unconstrained": (lacking(x509.NameConstraints), "NameConstraints is missing"),
    "constrained to a foreign host": (
        having(x509.NameConstraints([URI(f"mesh.{ENV}")], [x509.DNSName("")]), True),
        "NameConstraints is",
    ),
    "constrained to all hosts below": (
        having(x509.NameConstraints([URI(f".agency.{ENV}")], [x509.DNSName("")]), True),
        "NameConstraints is",
    ),
    "free to name hosts": (having(x509.NameConstraints([URI(f"agency.{ENV}")], None), True), "NameConstraints is"),
    "purpose of a server": (
        having(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        "ExtendedKeyUsage is",
    ),
    "no revocation list": (lacking(x509.CRLDistributionPoints), "CRLDistributionPoints is missing"),
    "revocation list elsewhere": (
        having(crl_distribution_points("other.test", "0" * 64), False),
        "CRLDistributionPoints is",
    ),
    "another environment": (changed(subject=named("Agency CA 1")), "does not place the CA"),
}


@pytest.mark.parametrize("what", BROKEN_CAS)
def test_broken_issuing_ca_is_found(what: str, root: RootCA) -> None:
    edit, finding = BROKEN_CAS[what]
    draft = edit(Draft.of(issuing_ca_tbs(ISSUING_PROFILE, Kind.AGENCY, ENV, KEY, DAY, root.certificate)))
    with pytest.raises(LintFailed, match=finding):
        lint_issuing_ca(
            draft.sign(hashes.SHA384()),
            profile=ISSUING_PROFILE,
            kind=Kind.AGENCY,
            environment=ENV,
            issuer=root.certificate,
        )


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (having(x509.BasicConstraints(ca=True, path_length=None), True), "BasicConstraints is"),
        (changed(issuer=named("somebody")), "the issuer is not"),
        (changed(subject=x509.Name([])), "does not place the CA"),
    ],
    ids=["path length", "issuer", "subject"],
)
def test_broken_root_is_found(edit: Edit, finding: str, root: RootCA) -> None:
    draft = edit(Draft.of(root_tbs(ROOT, ENV, root.key.public_key(), DAY)))
    with pytest.raises(LintFailed, match=finding):
        lint_root(draft.sign(hashes.SHA384()), profile=ROOT, environment=ENV)
