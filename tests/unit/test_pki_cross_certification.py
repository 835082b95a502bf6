"""A second root certifies an issuing CA of the first: the same CA, so that leaves are accepted below either root."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from npd_pki.authority import IssuingCA, RootCA, create_root
from npd_pki.distribution import crl_distribution_points
from npd_pki.errors import (
    IssuedByThisRoot,
    KeyUnacceptable,
    LintFailed,
    NotAuthority,
    ValidityExceedsIssuer,
    ValidityMalformed,
    ValidityTooLong,
)
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS, ISSUING
from npd_pki.tbs import issuing_ca_tbs
from npd_pki.validity import Validity

ENV = "npd.test"
OF_THE_ISSUER = (x509.AuthorityKeyIdentifier, x509.CRLDistributionPoints)


@pytest.fixture(scope="module")
def old_root() -> RootCA:
    return create_root(ENV)


@pytest.fixture(scope="module")
def new_root() -> RootCA:
    return create_root(ENV)


@pytest.fixture(scope="module")
def agency(old_root: RootCA) -> IssuingCA:
    return old_root.issue_issuing_ca(Kind.AGENCY)


def bounds(certificate: x509.Certificate) -> list[x509.Extension[x509.ExtensionType]]:
    return [one for one in certificate.extensions if not isinstance(one.value, OF_THE_ISSUER)]


@pytest.mark.parametrize("kind", Kind)
def test_cross_certificate_is_the_same_ca_below_another_root(kind: Kind, old_root: RootCA, new_root: RootCA) -> None:
    existing = old_root.issue_issuing_ca(kind).certificate
    crossed = new_root.cross_certify(existing)
    crossed.verify_directly_issued_by(new_root.certificate)
    assert crossed.subject == existing.subject
    assert crossed.public_key() == existing.public_key()
    assert crossed.serial_number != existing.serial_number
    assert crossed.not_valid_after_utc == existing.not_valid_after_utc
    assert bounds(crossed) == bounds(existing)
    place = crossed.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert place == crl_distribution_points(ENV, new_root.key_id)


def test_ca_issues_the_same_leaves_with_either_certificate(new_root: RootCA, agency: IssuingCA) -> None:
    crossed = IssuingCA(new_root.cross_certify(agency.certificate), agency.key)
    leaf = agency.issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), generate_p256_key().public_key()).certificate
    leaf.verify_directly_issued_by(crossed.certificate)
    assert crossed.key_id == agency.key_id


def test_root_does_not_cross_certify_its_own(old_root: RootCA, agency: IssuingCA) -> None:
    with pytest.raises(IssuedByThisRoot, match="renew"):
        old_root.cross_certify(agency.certificate)


def test_root_leaf_and_ca_of_another_environment_are_refused(new_root: RootCA, agency: IssuingCA) -> None:
    leaf = agency.issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), generate_p256_key().public_key()).certificate
    foreign = create_root("other.test").issue_issuing_ca(Kind.AGENCY).certificate
    for certificate in (create_root(ENV).certificate, leaf, foreign):
        with pytest.raises(NotAuthority):
            new_root.cross_certify(certificate)


def test_constrained_leaf_is_no_ca_to_certify(new_root: RootCA) -> None:
    key = generate_p256_key()
    name = create_root(ENV).certificate.subject
    now = datetime.now(UTC)
    permitted = x509.NameConstraints([x509.UniformResourceIdentifier(f"agency.{ENV}")], None)
    tbs = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    with pytest.raises(NotAuthority):
        new_root.cross_certify(tbs.add_extension(permitted, critical=True).sign(key, hashes.SHA256()))


def test_ca_whose_bounds_are_not_ours_is_refused(old_root: RootCA, new_root: RootCA) -> None:
    key = generate_p256_key()
    validity = Validity.lasting(timedelta(days=30))
    tbs = issuing_ca_tbs(ISSUING[Kind.MESH], Kind.AGENCY, ENV, key.public_key(), validity, old_root.certificate)
    wider = tbs.sign(old_root.key, hashes.SHA384())
    with pytest.raises(LintFailed, match="not that of the existing certificate"):
        new_root.cross_certify(wider)


def test_ca_of_another_name_is_refused(old_root: RootCA, new_root: RootCA, agency: IssuingCA) -> None:
    renamed = (
        x509.CertificateBuilder()
        .subject_name(old_root.certificate.subject)
        .issuer_name(old_root.certificate.subject)
        .public_key(agency.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(agency.certificate.not_valid_before_utc)
        .not_valid_after(agency.certificate.not_valid_after_utc)
    )
    for extension in agency.certificate.extensions:
        renamed = renamed.add_extension(extension.value, extension.critical)
    with pytest.raises(LintFailed, match="the subject is not"):
        new_root.cross_certify(renamed.sign(old_root.key, hashes.SHA384()))


def test_roots_own_key_is_refused(old_root: RootCA, new_root: RootCA) -> None:
    disguised = old_root.certify(Kind.AGENCY, new_root.key.public_key())
    with pytest.raises(KeyUnacceptable):
        new_root.cross_certify(disguised)


def test_life_is_bounded_like_that_of_any_issuing_ca(new_root: RootCA, agency: IssuingCA) -> None:
    longest = ISSUING[Kind.AGENCY].longest_life
    with pytest.raises(ValidityTooLong):
        new_root.cross_certify(agency.certificate, validity=Validity.lasting(longest + timedelta(days=1)))
    short = create_root(ENV, validity=Validity.lasting(timedelta(days=100)))
    with pytest.raises(ValidityExceedsIssuer):
        short.cross_certify(agency.certificate)
    stated = Validity.lasting(timedelta(days=30))
    assert Validity.of(new_root.cross_certify(agency.certificate, validity=stated)) == stated


def test_expired_ca_is_not_brought_back(new_root: RootCA) -> None:
    now = datetime.now(UTC)
    earlier = create_root(ENV, validity=Validity(now - timedelta(days=100), now + timedelta(days=100)))
    expired = earlier.issue_issuing_ca(
        Kind.AGENCY, validity=Validity(now - timedelta(days=90), now - timedelta(days=1))
    )
    with pytest.raises(ValidityMalformed):
        new_root.cross_certify(expired.certificate)
