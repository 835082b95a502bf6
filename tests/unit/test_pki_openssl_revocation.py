"""OpenSSL with revocation lists, as somebody outside the mesh verifies: leaf, issuing CA and root, and both lists."""

import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import CertificateAuthority, IssuingCA, create_root
from npd_pki.ca_store import Hierarchy
from npd_pki.identity import Identity, Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.keys import generate_p256_key, generate_p384_key
from npd_pki.profile import CLIENT_TLS, ROOM_TLS, SIGNING, Profile
from npd_pki.revocation_list import RevocationReason, RevokedEntry, build_revocation_list
from npd_pki.tbs import leaf_tbs
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity
from tests.programs import program

ENV = "npd.gov.vn"
AGENCY = agency_uri(ENV, "gdt", "tax")
URIS = {Kind.MESH: mesh_uri(ENV, "registry"), Kind.AGENCY: AGENCY, Kind.OPERATOR: operator_uri(ENV, "thu")}
KEY = generate_p256_key().public_key()
NOW = datetime.now(UTC)

Verify = Callable[..., str]


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


@pytest.fixture
def verify(hierarchy: Hierarchy, tmp_path: Path) -> Verify:
    """Run `openssl verify` over a leaf below an issuing CA; the answer is "OK" or what OpenSSL objects to."""

    def run(
        leaf: x509.Certificate,
        ca: CertificateAuthority,
        lists: Sequence[x509.CertificateRevocationList],
        *options: str,
        root: x509.Certificate | None = None,
    ) -> str:
        (tmp_path / "root.pem").write_bytes(certificates_pem([root or hierarchy.root.certificate]))
        (tmp_path / "chain.pem").write_bytes(certificates_pem([ca.certificate]))
        (tmp_path / "leaf.pem").write_bytes(certificates_pem([leaf]))
        (tmp_path / "lists.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in lists))
        command = "verify -x509_strict -crl_check_all -no-CApath -no-CAstore -CAfile root.pem -untrusted chain.pem"
        done = subprocess.run(
            [program("openssl"), *command.split(), "-CRLfile", "lists.pem", *options, "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return "OK" if done.returncode == 0 else done.stderr

    return run


def listing(
    authority: CertificateAuthority, *revoked: x509.Certificate, now: datetime = NOW
) -> x509.CertificateRevocationList:
    entries = [RevokedEntry(one.serial_number, now, RevocationReason.KEY_COMPROMISE) for one in revoked]
    return build_revocation_list(authority, 1, entries, now=now, life=timedelta(days=7))


def issue(ca: IssuingCA, profile: Profile) -> x509.Certificate:
    hosts = ("registry.npd.svc",) if profile.names_hosts else ()
    return ca.issue(profile, URIS[ca.kind], KEY, dns_names=hosts).certificate


@pytest.mark.parametrize(
    ("kind", "profile", "purpose"),
    [
        (Kind.MESH, ROOM_TLS, "sslserver"),
        (Kind.MESH, ROOM_TLS, "sslclient"),
        (Kind.AGENCY, CLIENT_TLS, "sslclient"),
        (Kind.AGENCY, SIGNING, "any"),
        (Kind.OPERATOR, CLIENT_TLS, "sslclient"),
    ],
)
def test_leaf_is_accepted_with_the_lists_of_its_ca_and_the_root(
    kind: Kind, profile: Profile, purpose: str, hierarchy: Hierarchy, verify: Verify
) -> None:
    ca = hierarchy.of(kind)
    lists = [listing(hierarchy.root), listing(ca)]
    assert verify(issue(ca, profile), ca, lists, "-purpose", purpose) == "OK"


def test_leaves_of_every_key_are_accepted(hierarchy: Hierarchy, verify: Verify) -> None:
    lists = [listing(hierarchy.root), listing(hierarchy.agency)]
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=3072).public_key()
    for key in (KEY, generate_p384_key().public_key(), rsa_key):
        leaf = hierarchy.agency.issue(CLIENT_TLS, AGENCY, key).certificate
        assert verify(leaf, hierarchy.agency, lists, "-purpose", "sslclient") == "OK"


def test_revoked_leaf_is_rejected_and_its_neighbour_is_not(hierarchy: Hierarchy, verify: Verify) -> None:
    ca = hierarchy.agency
    revoked, neighbour = issue(ca, CLIENT_TLS), issue(ca, CLIENT_TLS)
    lists = [listing(hierarchy.root), listing(ca, revoked)]
    assert "certificate revoked" in verify(revoked, ca, lists)
    assert verify(neighbour, ca, lists) == "OK"


def test_leaf_below_a_revoked_ca_is_rejected(hierarchy: Hierarchy, verify: Verify) -> None:
    ca = hierarchy.agency
    lists = [listing(hierarchy.root, ca.certificate), listing(ca)]
    assert "certificate revoked" in verify(issue(ca, CLIENT_TLS), ca, lists)


def test_without_a_list_nothing_is_accepted(hierarchy: Hierarchy, verify: Verify) -> None:
    ca = hierarchy.agency
    leaf = issue(ca, CLIENT_TLS)
    for lists in ([listing(ca)], [listing(hierarchy.root)], [listing(hierarchy.root), listing(hierarchy.mesh)]):
        assert "unable to get certificate CRL" in verify(leaf, ca, lists)
    stale = listing(ca, now=NOW - timedelta(days=8))
    assert "CRL has expired" in verify(leaf, ca, [listing(hierarchy.root), stale])


def forged(ca: IssuingCA, profile: Profile, uri: str) -> x509.Certificate:
    """A leaf signed with a CA's key past all checks."""
    validity = Validity.lasting(timedelta(days=1))
    tbs = leaf_tbs(profile, Identity.parse(uri), (), KEY, validity, ca.certificate)
    return tbs.sign(ca.key, hashes.SHA256())


@pytest.mark.parametrize("kind", Kind)
def test_leaf_of_a_foreign_host_is_rejected(kind: Kind, hierarchy: Hierarchy, verify: Verify) -> None:
    ca = hierarchy.of(kind)
    lists = [listing(hierarchy.root), listing(ca)]
    profile = ROOM_TLS if kind is Kind.MESH else CLIENT_TLS
    for other, uri in URIS.items():
        verdict = verify(forged(ca, profile, uri), ca, lists)
        assert verdict == "OK" if other is kind else "permitted subtree violation" in verdict


def test_leaf_of_a_wrong_usage_is_rejected(hierarchy: Hierarchy, verify: Verify) -> None:
    ca = hierarchy.agency
    lists = [listing(hierarchy.root), listing(ca)]
    for leaf, purpose in (
        (issue(ca, SIGNING), "sslclient"),
        (issue(ca, SIGNING), "sslserver"),
        (issue(ca, CLIENT_TLS), "sslserver"),
        (forged(ca, ROOM_TLS, AGENCY), "sslserver"),
    ):
        assert "unsuitable certificate purpose" in verify(leaf, ca, lists, "-purpose", purpose)


def test_leaf_is_accepted_below_the_root_that_cross_certified_its_ca(hierarchy: Hierarchy, verify: Verify) -> None:
    ca, successor = hierarchy.agency, create_root(ENV)
    crossed = IssuingCA(successor.cross_certify(ca.certificate), ca.key)
    leaf = issue(ca, CLIENT_TLS)
    assert verify(leaf, crossed, [listing(successor), listing(ca)], root=successor.certificate) == "OK"
    assert "unable to get" in verify(leaf, ca, [listing(successor), listing(ca)], root=successor.certificate)
    lists = [listing(successor, crossed.certificate), listing(ca)]
    assert "certificate revoked" in verify(leaf, crossed, lists, root=successor.certificate)
