"""The directory of a party: tls.crt, tls.key, ca.crt."""

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from npd_pki.authority import create_root
from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials, load_credentials, write_credentials
from npd_pki.errors import CredentialsMismatched, PemMalformed, PrivateKeyExposed, TrustBundleMalformed
from npd_pki.identity import agency_uri, mesh_uri
from npd_pki.issuance import IssuedCertificate
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.profile import CLIENT_TLS, ROOM_TLS
from npd_pki.trust_bundle import certificates_pem, load_trust_bundle

ENV = "npd.test"


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


def room_credentials(hierarchy: Hierarchy) -> Credentials:
    key = generate_p256_key()
    issued = hierarchy.mesh.issue(ROOM_TLS, mesh_uri(ENV, "registry"), key.public_key(), dns_names=["localhost"])
    return Credentials(issued, key, (hierarchy.root.certificate,))


def test_credentials_survive_their_directory(hierarchy: Hierarchy, tmp_path: Path) -> None:
    credentials = room_credentials(hierarchy)
    write_credentials(tmp_path / "registry" / "tls", credentials)
    loaded = load_credentials(tmp_path / "registry" / "tls")
    assert loaded == credentials
    assert loaded.private_key.private_numbers() == credentials.private_key.private_numbers()


def test_directory_holds_leaf_and_issuing_ca_key_and_root_alone(hierarchy: Hierarchy, tmp_path: Path) -> None:
    credentials = room_credentials(hierarchy)
    write_credentials(tmp_path, credentials)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]
    leaf, issuing_ca = x509.load_pem_x509_certificates((tmp_path / "tls.crt").read_bytes())
    assert (leaf, issuing_ca) == (credentials.issued.certificate, hierarchy.mesh.certificate)
    assert x509.load_pem_x509_certificates((tmp_path / "ca.crt").read_bytes()) == [hierarchy.root.certificate]


def test_key_is_for_its_owner_and_the_rest_for_all(hierarchy: Hierarchy, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_credentials(tmp_path, room_credentials(hierarchy))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ca.crt": 0o644, "tls.crt": 0o644, "tls.key": 0o600}


def test_renewed_credentials_replace_the_old_ones(hierarchy: Hierarchy, tmp_path: Path) -> None:
    write_credentials(tmp_path, room_credentials(hierarchy))
    renewed = room_credentials(hierarchy)
    write_credentials(tmp_path, renewed)
    assert load_credentials(tmp_path) == renewed


@pytest.mark.parametrize("name", ["tls.crt", "tls.key"])
def test_files_of_two_generations_are_refused(name: str, hierarchy: Hierarchy, tmp_path: Path) -> None:
    write_credentials(tmp_path / "old", room_credentials(hierarchy))
    write_credentials(tmp_path / "new", room_credentials(hierarchy))
    shutil.copy(tmp_path / "new" / name, tmp_path / "old" / name)
    with pytest.raises(CredentialsMismatched, match="private key"):
        load_credentials(tmp_path / "old")


def test_exposed_key_is_refused(hierarchy: Hierarchy, tmp_path: Path) -> None:
    write_credentials(tmp_path, room_credentials(hierarchy))
    (tmp_path / "tls.key").chmod(0o640)
    with pytest.raises(PrivateKeyExposed):
        load_credentials(tmp_path)


def test_leaf_without_its_issuing_ca_is_refused(hierarchy: Hierarchy) -> None:
    credentials = room_credentials(hierarchy)
    with pytest.raises(CredentialsMismatched, match="followed by its issuing CA"):
        replace(credentials, issued=IssuedCertificate(credentials.issued.certificate, ()))


def test_leaf_followed_by_another_ca_is_refused(hierarchy: Hierarchy) -> None:
    credentials = room_credentials(hierarchy)
    with pytest.raises(CredentialsMismatched, match="not issued by the CA that follows"):
        replace(credentials, issued=IssuedCertificate(credentials.issued.certificate, hierarchy.agency.chain))


def test_leaf_followed_by_a_leaf_is_refused(hierarchy: Hierarchy) -> None:
    credentials = room_credentials(hierarchy)
    key = generate_p256_key().public_key()
    other = hierarchy.agency.issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), key).certificate
    with pytest.raises(CredentialsMismatched, match="followed by its issuing CA"):
        replace(credentials, issued=IssuedCertificate(credentials.issued.certificate, (other,)))


def test_foreign_root_is_refused(hierarchy: Hierarchy) -> None:
    foreign = Hierarchy.create(ENV).root.certificate
    with pytest.raises(CredentialsMismatched, match="root of the bundle"):
        replace(room_credentials(hierarchy), roots=(foreign,))


def test_two_roots_are_trusted_while_one_follows_the_other(hierarchy: Hierarchy, tmp_path: Path) -> None:
    roots = (Hierarchy.create(ENV).root.certificate, hierarchy.root.certificate)
    write_credentials(tmp_path, replace(room_credentials(hierarchy), roots=roots))
    assert load_credentials(tmp_path).roots == roots


def test_issuing_ca_is_never_a_trust_anchor(hierarchy: Hierarchy, tmp_path: Path) -> None:
    with pytest.raises(TrustBundleMalformed):
        replace(room_credentials(hierarchy), roots=(hierarchy.mesh.certificate,))
    (tmp_path / "ca.crt").write_bytes(certificates_pem([hierarchy.root.certificate, hierarchy.mesh.certificate]))
    with pytest.raises(TrustBundleMalformed):
        load_trust_bundle(tmp_path / "ca.crt")


def test_empty_trust_bundle_is_refused(hierarchy: Hierarchy, tmp_path: Path) -> None:
    with pytest.raises(TrustBundleMalformed):
        replace(room_credentials(hierarchy), roots=())
    (tmp_path / "ca.crt").write_bytes(b"")
    with pytest.raises(PemMalformed):
        load_trust_bundle(tmp_path / "ca.crt")


def test_pem_of_a_leaf_is_followed_by_its_chain(hierarchy: Hierarchy) -> None:
    issued = room_credentials(hierarchy).issued
    assert x509.load_pem_x509_certificates(issued.pem()) == [issued.certificate, hierarchy.mesh.certificate]


@pytest.mark.parametrize("missing", [3, 30, 200, 500])
def test_bundle_that_was_cut_off_does_not_pass_for_a_shorter_one(missing: int, tmp_path: Path) -> None:
    roots = [create_root(ENV).certificate, create_root(ENV).certificate]
    (tmp_path / "ca.crt").write_bytes(certificates_pem(roots).rstrip()[:-missing])
    with pytest.raises(PemMalformed, match="cut off"):
        load_trust_bundle(tmp_path / "ca.crt")


def test_key_beside_the_roots_is_refused_and_a_comment_is_not(tmp_path: Path) -> None:
    root = create_root(ENV)
    pem = certificates_pem([root.certificate])
    (tmp_path / "ca.crt").write_bytes(pem + private_key_pem(root.key))
    with pytest.raises(PemMalformed, match="beside whole certificates"):
        load_trust_bundle(tmp_path / "ca.crt")
    (tmp_path / "ca.crt").write_bytes(b"the root of 2026\r\n" + pem.replace(b"\n", b"\r\n"))
    assert load_trust_bundle(tmp_path / "ca.crt") == (root.certificate,)
