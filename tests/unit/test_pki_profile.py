"""What stands in the certificates: usages, constraints and flags, read from the encoded form and spelled out here."""

import ipaddress
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID, NameOID

from npd_pki.ca_store import Hierarchy
from npd_pki.identity import Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS, ISSUING, PROFILES, ROOM_TLS, SIGNING

ENV = "npd.gov.vn"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
ALL_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


@pytest.fixture(scope="module")
def leaves(hierarchy: Hierarchy) -> dict[str, x509.Certificate]:
    key = generate_p256_key().public_key()
    agency = agency_uri(ENV, "gdt", "tax")
    return {
        "room": hierarchy.mesh.issue(
            ROOM_TLS, mesh_uri(ENV, "civil_status"), key, dns_names=["civil-status.npd.svc"]
        ).certificate,
        "client": hierarchy.agency.issue(CLIENT_TLS, agency, key).certificate,
        "operator": hierarchy.operator.issue(CLIENT_TLS, operator_uri(ENV, "thu"), key).certificate,
        "signing": hierarchy.agency.issue(SIGNING, agency, key).certificate,
    }


def usages(certificate: x509.Certificate) -> set[str]:
    extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert extension.critical
    return {usage for usage in ALL_USAGES if getattr(extension.value, usage)}


def purposes(certificate: x509.Certificate) -> tuple[set[str], bool]:
    extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    return {purpose.dotted_string for purpose in extension.value}, extension.critical


@pytest.mark.parametrize(
    ("which", "expected_usages", "expected_purposes", "critical"),
    [
        ("room", {"digital_signature"}, {SERVER_AUTH, CLIENT_AUTH}, False),
        ("client", {"digital_signature"}, {CLIENT_AUTH}, False),
        ("operator", {"digital_signature"}, {CLIENT_AUTH}, False),
        ("signing", {"digital_signature", "content_commitment"}, {DOCUMENT_SIGNING}, True),
    ],
)
def test_leaf_serves_the_purposes_of_its_profile_alone(
    which: str,
    expected_usages: set[str],
    expected_purposes: set[str],
    critical: bool,
    leaves: dict[str, x509.Certificate],
) -> None:
    assert usages(leaves[which]) == expected_usages
    assert purposes(leaves[which]) == (expected_purposes, critical)


@pytest.mark.parametrize("which", ["room", "client", "operator", "signing"])
def test_leaf_is_no_ca_and_names_exactly_one_uri(which: str, leaves: dict[str, x509.Certificate]) -> None:
    extensions = leaves[which].extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert not names.critical
    assert len(names.value.get_values_for_type(x509.UniformResourceIdentifier)) == 1
    assert len(names.value.get_values_for_type(x509.DNSName)) == (1 if which == "room" else 0)
    assert {type(name) for name in names.value} <= {x509.UniformResourceIdentifier, x509.DNSName}


def test_no_certificate_has_an_extension_beyond_its_profile(
    hierarchy: Hierarchy, leaves: dict[str, x509.Certificate]
) -> None:
    root = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.SUBJECT_KEY_IDENTIFIER}
    common = root | {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
    assert {extension.oid for extension in hierarchy.root.certificate.extensions} == root
    for kind in Kind:
        issuing = hierarchy.of(kind).certificate.extensions
        assert {extension.oid for extension in issuing} == common | {ExtensionOID.NAME_CONSTRAINTS}
    for leaf in leaves.values():
        assert {extension.oid for extension in leaf.extensions} == common | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME}


def test_key_identifiers_link_leaf_to_root(hierarchy: Hierarchy, leaves: dict[str, x509.Certificate]) -> None:
    path = [leaves["room"], hierarchy.mesh.certificate, hierarchy.root.certificate]
    for below, above in pairwise(path):
        authority = below.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        subject = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        assert authority.value.key_identifier == subject.value.digest
        assert not authority.critical
        assert not subject.critical


@pytest.mark.parametrize("kind", Kind)
def test_issuing_ca_is_constrained_to_the_host_of_its_kind(kind: Kind, hierarchy: Hierarchy) -> None:
    certificate = hierarchy.of(kind).certificate
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert usages(certificate) == {"key_cert_sign", "crl_sign"}
    names = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical
    assert names.value.permitted_subtrees == [x509.UniformResourceIdentifier(f"{kind}.npd.gov.vn")]
    no_address = [
        x509.IPAddress(ipaddress.IPv4Network("0.0.0.0/0")),
        x509.IPAddress(ipaddress.IPv6Network("::/0")),
    ]
    no_host = [] if kind is Kind.MESH else [x509.DNSName("")]
    assert names.value.excluded_subtrees == no_host + no_address


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.MESH, {SERVER_AUTH, CLIENT_AUTH}),
        (Kind.AGENCY, {CLIENT_AUTH, DOCUMENT_SIGNING}),
        (Kind.OPERATOR, {CLIENT_AUTH, DOCUMENT_SIGNING}),
    ],
)
def test_issuing_ca_can_issue_for_the_purposes_of_its_profiles_alone(
    kind: Kind, expected: set[str], hierarchy: Hierarchy
) -> None:
    assert purposes(hierarchy.of(kind).certificate) == (expected, False)


def test_root_is_self_signed_and_lets_one_ca_follow(hierarchy: Hierarchy) -> None:
    root = hierarchy.root.certificate
    root.verify_directly_issued_by(root)
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 1)
    assert usages(root) == {"key_cert_sign", "crl_sign"}


def test_root_key_is_p384_and_the_others_p256(hierarchy: Hierarchy) -> None:
    curves = [ca.key.curve.name for ca in (hierarchy.root, hierarchy.mesh, hierarchy.agency, hierarchy.operator)]
    assert curves == ["secp384r1", "secp256r1", "secp256r1", "secp256r1"]
    assert isinstance(hierarchy.mesh.certificate.signature_hash_algorithm, hashes.SHA384)


def test_common_name_is_short_and_no_host_name(hierarchy: Hierarchy) -> None:
    key = generate_p256_key().public_key()
    uri = agency_uri(ENV, "a" * 63, "b" * 63)
    subject = hierarchy.agency.issue(CLIENT_TLS, uri, key).certificate.subject
    (name,) = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert len(name.value) == 64
    assert "." not in str(name.value)


def test_repeated_host_name_is_named_once(hierarchy: Hierarchy) -> None:
    certificate = hierarchy.mesh.issue(
        ROOM_TLS, mesh_uri(ENV, "registry"), generate_p256_key().public_key(), dns_names=["b.test", "a.test", "b.test"]
    ).certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.test", "a.test"]


def test_profile_can_be_found_by_its_name_and_defaults_keep_its_ceiling() -> None:
    assert PROFILES["room-tls"] is ROOM_TLS
    assert all(profile.default_life <= profile.longest_life for profile in PROFILES.values())
    longest_ca = min(profile.longest_life for profile in ISSUING.values())
    assert all(profile.longest_life < longest_ca for profile in PROFILES.values())
