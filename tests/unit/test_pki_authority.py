"""Who issues what to whom, and for how long: the root, the issuing CAs and their refusals."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from npd_pki.authority import IssuingCA, RootCA, create_root
from npd_pki.errors import (
    HostNameMalformed,
    HostNamesForbidden,
    HostNamesMissing,
    IdentityMalformed,
    IdentityNotEntitled,
    KeyUnacceptable,
    NotAuthority,
    ProfileNotEntitled,
    ValidityExceedsIssuer,
    ValidityMalformed,
    ValidityTooLong,
)
from npd_pki.identity import Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.issuance import issuer_key_id
from npd_pki.keys import generate_ed25519_key, generate_p256_key, generate_p384_key, key_id
from npd_pki.profile import CLIENT_TLS, ISSUING, PROFILES, ROOM_TLS, ROOT, SIGNING, Profile
from npd_pki.trust_bundle import require_root
from npd_pki.validity import BACKDATING, Validity

ENV = "npd.test"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LEAF_KEY = generate_p256_key().public_key()
HOSTS = ["registry.npd.svc", "localhost"]


@pytest.fixture(scope="module")
def root() -> RootCA:
    return create_root(ENV, validity=Validity.lasting(timedelta(days=7000), NOW))


@pytest.fixture(scope="module")
def cas(root: RootCA) -> dict[Kind, IssuingCA]:
    return {
        kind: root.issue_issuing_ca(kind, validity=Validity.lasting(timedelta(days=1800), NOW), key=generate_p256_key())
        for kind in Kind
    }


def lasting(days: float) -> Validity:
    return Validity.lasting(timedelta(days=days), NOW)


@pytest.mark.parametrize(
    ("kind", "profile", "uri", "hosts"),
    [
        (Kind.MESH, ROOM_TLS, mesh_uri(ENV, "civil_status"), HOSTS),
        (Kind.AGENCY, CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), []),
        (Kind.AGENCY, SIGNING, agency_uri(ENV, "gdt", "tax"), []),
        (Kind.OPERATOR, CLIENT_TLS, operator_uri(ENV, "thu"), []),
        (Kind.OPERATOR, SIGNING, operator_uri(ENV, "thu"), []),
    ],
)
def test_each_ca_issues_its_profiles_to_its_kind(
    kind: Kind, profile: Profile, uri: str, hosts: Sequence[str], cas: dict[Kind, IssuingCA]
) -> None:
    issued = cas[kind].issue(profile, uri, LEAF_KEY, dns_names=hosts, validity=lasting(1))
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(uri), *map(x509.DNSName, hosts)]
    assert issued.chain == (cas[kind].certificate,)
    assert issued.issuer_key_id == cas[kind].key_id
    issued.certificate.verify_directly_issued_by(cas[kind].certificate)


@pytest.mark.parametrize(
    ("kind", "profile"),
    [(kind, profile) for kind in Kind for profile in PROFILES.values() if (kind is Kind.MESH) != (profile is ROOM_TLS)],
)
def test_ca_refuses_the_profiles_of_other_kinds(kind: Kind, profile: Profile, cas: dict[Kind, IssuingCA]) -> None:
    uris = {
        Kind.MESH: mesh_uri(ENV, "x"),
        Kind.AGENCY: agency_uri(ENV, "x", "y"),
        Kind.OPERATOR: operator_uri(ENV, "x"),
    }
    with pytest.raises(ProfileNotEntitled):
        cas[kind].issue(profile, uris[kind], LEAF_KEY, validity=lasting(1))


@pytest.mark.parametrize(
    "uri",
    [
        mesh_uri(ENV, "registry"),
        operator_uri(ENV, "thu"),
        agency_uri("other.test", "gdt", "tax"),
        agency_uri("sub." + ENV, "gdt", "tax"),
    ],
)
def test_ca_refuses_identities_of_another_kind_or_environment(uri: str, cas: dict[Kind, IssuingCA]) -> None:
    with pytest.raises(IdentityNotEntitled):
        cas[Kind.AGENCY].issue(CLIENT_TLS, uri, LEAF_KEY, validity=lasting(1))


def test_ca_refuses_what_is_no_identity(cas: dict[Kind, IssuingCA]) -> None:
    with pytest.raises(IdentityMalformed):
        cas[Kind.AGENCY].issue(CLIENT_TLS, f"spiffe://agency.{ENV}/gdt", LEAF_KEY, validity=lasting(1))


def test_room_without_a_host_name_is_refused(cas: dict[Kind, IssuingCA]) -> None:
    with pytest.raises(HostNamesMissing):
        cas[Kind.MESH].issue(ROOM_TLS, mesh_uri(ENV, "registry"), LEAF_KEY, validity=lasting(1))


def test_client_with_a_host_name_is_refused(cas: dict[Kind, IssuingCA]) -> None:
    with pytest.raises(HostNamesForbidden):
        cas[Kind.AGENCY].issue(
            CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), LEAF_KEY, dns_names=["registry"], validity=lasting(1)
        )


@pytest.mark.parametrize("name", ["*.npd.svc", "127.0.0.1", "::1", "Registry", "spiffe://mesh.npd.test/registry", ""])
def test_room_named_by_anything_but_a_host_name_is_refused(name: str, cas: dict[Kind, IssuingCA]) -> None:
    with pytest.raises(HostNameMalformed):
        cas[Kind.MESH].issue(ROOM_TLS, mesh_uri(ENV, "registry"), LEAF_KEY, dns_names=[name], validity=lasting(1))


def test_one_string_is_not_taken_for_many_host_names(cas: dict[Kind, IssuingCA]) -> None:
    with pytest.raises(TypeError):
        cas[Kind.MESH].issue(ROOM_TLS, mesh_uri(ENV, "registry"), LEAF_KEY, dns_names="localhost", validity=lasting(1))


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP521R1()).public_key(), generate_ed25519_key().public_key()],
    ids=["p521", "ed25519"],
)
def test_key_that_tls_or_the_profile_does_not_take_is_refused(
    key: ec.EllipticCurvePublicKey, cas: dict[Kind, IssuingCA]
) -> None:
    with pytest.raises(KeyUnacceptable):
        cas[Kind.AGENCY].issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), key, validity=lasting(1))


def test_ca_does_not_certify_its_own_key(root: RootCA, cas: dict[Kind, IssuingCA]) -> None:
    ca = cas[Kind.AGENCY]
    with pytest.raises(KeyUnacceptable):
        ca.issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), ca.key.public_key(), validity=lasting(1))
    with pytest.raises(KeyUnacceptable):
        root.certify(Kind.MESH, root.key.public_key(), validity=lasting(1))


def test_certificate_that_would_outlive_its_issuer_is_refused_and_not_clamped(root: RootCA) -> None:
    ca = root.issue_issuing_ca(Kind.AGENCY, validity=lasting(10))
    uri = agency_uri(ENV, "gdt", "tax")
    end = Validity.of(ca.certificate).not_after
    with pytest.raises(ValidityExceedsIssuer):
        ca.issue(CLIENT_TLS, uri, LEAF_KEY, validity=Validity(NOW, end + timedelta(seconds=1)))
    assert ca.issue(CLIENT_TLS, uri, LEAF_KEY, validity=Validity(NOW, end)).certificate.not_valid_after_utc == end
    with pytest.raises(ValidityExceedsIssuer):
        root.certify(Kind.MESH, LEAF_KEY, validity=Validity.lasting(timedelta(days=1), NOW + timedelta(days=7000)))


@pytest.mark.parametrize("profile", [CLIENT_TLS, SIGNING])
def test_life_ends_at_the_ceiling_of_the_profile(profile: Profile, cas: dict[Kind, IssuingCA]) -> None:
    uri = agency_uri(ENV, "gdt", "tax")
    longest = Validity.lasting(profile.longest_life, NOW)
    assert cas[Kind.AGENCY].issue(profile, uri, LEAF_KEY, validity=longest)
    longer = Validity.lasting(profile.longest_life + timedelta(seconds=1), NOW)
    with pytest.raises(ValidityTooLong):
        cas[Kind.AGENCY].issue(profile, uri, LEAF_KEY, validity=longer)


def test_cas_have_ceilings_too(root: RootCA) -> None:
    with pytest.raises(ValidityTooLong):
        create_root(ENV, validity=Validity.lasting(ROOT.longest_life + timedelta(seconds=1), NOW))
    with pytest.raises(ValidityTooLong):
        root.certify(
            Kind.MESH,
            LEAF_KEY,
            validity=Validity.lasting(ISSUING[Kind.MESH].longest_life + timedelta(seconds=1), NOW),
        )


def test_certificate_of_seconds_can_be_issued(cas: dict[Kind, IssuingCA]) -> None:
    validity = Validity.lasting(timedelta(seconds=2), NOW)
    certificate = (
        cas[Kind.AGENCY].issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), LEAF_KEY, validity=validity).certificate
    )
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + timedelta(seconds=2)


def test_default_life_is_the_profiles_and_begins_five_minutes_ago() -> None:
    ca = create_root(ENV).issue_issuing_ca(Kind.MESH)
    before = datetime.now(UTC).replace(microsecond=0)
    certificate = ca.issue(ROOM_TLS, mesh_uri(ENV, "registry"), LEAF_KEY, dns_names=HOSTS).certificate
    after = datetime.now(UTC)
    assert before <= certificate.not_valid_before_utc + BACKDATING <= after
    assert before <= certificate.not_valid_after_utc - ROOM_TLS.default_life <= after


def test_validity_needs_a_time_zone_and_an_order() -> None:
    with pytest.raises(ValidityMalformed):
        Validity(datetime(2026, 1, 1), NOW)  # noqa: DTZ001
    with pytest.raises(ValidityMalformed):
        Validity(NOW, NOW)
    with pytest.raises(ValidityMalformed):
        Validity(NOW, NOW + timedelta(milliseconds=900))
    hanoi = timezone(timedelta(hours=7))
    validity = Validity(datetime(2026, 7, 1, 19, tzinfo=hanoi), datetime(2026, 7, 1, 20, tzinfo=hanoi))
    assert validity.not_before.isoformat() == "2026-07-01T12:00:00+00:00"


def test_serial_numbers_are_random_positive_and_fit_twenty_octets(cas: dict[Kind, IssuingCA]) -> None:
    uri = operator_uri(ENV, "thu")
    serials = {cas[Kind.OPERATOR].prepare(CLIENT_TLS, uri, LEAF_KEY, validity=lasting(1)).serial for _ in range(64)}
    assert len(serials) == 64
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert max(serials).bit_length() > 128


def test_issuer_key_id_outlives_the_renewal_of_the_issuer(root: RootCA, cas: dict[Kind, IssuingCA]) -> None:
    ca = cas[Kind.AGENCY]
    renewed = root.certify(Kind.AGENCY, ca.key.public_key(), validity=lasting(100))
    assert renewed.serial_number != ca.certificate.serial_number
    assert issuer_key_id(renewed) == ca.key_id == key_id(ca.key.public_key())


def test_successive_cas_of_one_kind_do_not_share_a_name(root: RootCA, cas: dict[Kind, IssuingCA]) -> None:
    successor = root.issue_issuing_ca(Kind.AGENCY, validity=lasting(100))
    assert successor.certificate.subject != cas[Kind.AGENCY].certificate.subject
    assert successor.environment == cas[Kind.AGENCY].environment == ENV


def test_ca_is_not_made_of_a_leaf_a_foreign_key_or_another_sort_of_ca(root: RootCA, cas: dict[Kind, IssuingCA]) -> None:
    leaf_key = generate_p256_key()
    uri = agency_uri(ENV, "gdt", "tax")
    leaf = cas[Kind.AGENCY].issue(CLIENT_TLS, uri, leaf_key.public_key(), validity=lasting(1)).certificate
    with pytest.raises(NotAuthority):
        IssuingCA(leaf, leaf_key)
    with pytest.raises(NotAuthority):
        IssuingCA(cas[Kind.AGENCY].certificate, leaf_key)
    with pytest.raises(NotAuthority):
        IssuingCA(root.certificate, root.key)
    with pytest.raises(NotAuthority):
        RootCA(cas[Kind.AGENCY].certificate, cas[Kind.AGENCY].key)


def self_signed(
    key: ec.EllipticCurvePrivateKey, *extensions: tuple[x509.ExtensionType, bool], domain: str = "test"
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.DOMAIN_COMPONENT, domain)]) if domain else x509.Name([])
    tbs = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    for value, critical in extensions:
        tbs = tbs.add_extension(value, critical)
    return tbs.sign(key, hashes.SHA256())


def permitting(*hosts: str) -> x509.NameConstraints:
    return x509.NameConstraints([x509.UniformResourceIdentifier(host) for host in hosts], None)


A_CA = x509.BasicConstraints(ca=True, path_length=0)


def test_what_makes_an_issuing_ca_is_its_constraints() -> None:
    key = generate_p256_key()
    assert IssuingCA(self_signed(key, (A_CA, True), (permitting("agency.test"), True)), key).kind is Kind.AGENCY


@pytest.mark.parametrize(
    "extensions",
    [
        [(x509.BasicConstraints(ca=False, path_length=None), True), (permitting("agency.test"), True)],
        [(permitting("agency.test"), True)],
        [(A_CA, True)],
        [(A_CA, True), (permitting("agency.test"), False)],
        [(A_CA, True), (permitting("agency.test", "mesh.test"), True)],
        [(A_CA, True), (permitting("npd.test"), True)],
        [(A_CA, True), (x509.NameConstraints([x509.DNSName("agency.test")], None), True)],
        [(A_CA, True), (permitting("agency.other"), True)],
    ],
    ids=[
        "not a CA",
        "silent on being a CA",
        "unconstrained",
        "constraints not critical",
        "two kinds",
        "no kind",
        "DNS names alone",
        "another environment",
    ],
)
def test_certificate_without_the_constraints_of_an_issuing_ca_is_refused(
    extensions: list[tuple[x509.ExtensionType, bool]],
) -> None:
    key = generate_p256_key()
    with pytest.raises(NotAuthority):
        IssuingCA(self_signed(key, *extensions), key)


def test_self_signed_certificate_that_is_no_ca_is_no_root() -> None:
    key = generate_p384_key()
    certificate = self_signed(key, (x509.BasicConstraints(ca=False, path_length=None), True))
    with pytest.raises(NotAuthority):
        require_root(certificate)


def test_root_without_an_environment_in_its_name_is_refused() -> None:
    key = generate_p384_key()
    anonymous = self_signed(key, (x509.BasicConstraints(ca=True, path_length=1), True), domain="")
    with pytest.raises(NotAuthority, match="environment"):
        RootCA(anonymous, key)


def test_private_keys_do_not_show_in_a_representation(root: RootCA) -> None:
    assert "key" not in repr(root).lower()
