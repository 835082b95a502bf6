"""A hierarchy in a directory: appears whole, is never overwritten, and gives back what was put in."""

import shutil
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from npd_pki import ca_store
from npd_pki.authority import CertificateAuthority
from npd_pki.ca_store import Hierarchy, load_authority, load_hierarchy, save_hierarchy
from npd_pki.errors import (
    HierarchyInconsistent,
    HostNameMalformed,
    NotAuthority,
    PrivateKeyExposed,
    StoreIncomplete,
    StoreOccupied,
)
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create("npd.test")


@pytest.fixture
def store(hierarchy: Hierarchy, tmp_path: Path) -> Path:
    save_hierarchy(tmp_path / "pki", hierarchy)
    return tmp_path / "pki"


def test_hierarchy_survives_its_directory(hierarchy: Hierarchy, store: Path) -> None:
    loaded = load_hierarchy(store)
    assert loaded == hierarchy
    assert loaded.environment == "npd.test"
    for kind in Kind:
        assert loaded.of(kind).kind is kind
    leaf = loaded.agency.issue(CLIENT_TLS, agency_uri("npd.test", "gdt", "tax"), generate_p256_key().public_key())
    leaf.certificate.verify_directly_issued_by(hierarchy.agency.certificate)


def test_keys_are_for_their_owner_alone(store: Path) -> None:
    files = sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
    assert files == [f"{name}/ca.{end}" for name in ("agency", "mesh", "operator", "root") for end in ("crt", "key")]
    for path in [store, *store.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600 if path.name == "ca.key" else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_store_is_never_overwritten(hierarchy: Hierarchy, store: Path) -> None:
    with pytest.raises(StoreOccupied):
        save_hierarchy(store, Hierarchy.create("other.test"))
    assert load_hierarchy(store) == hierarchy
    assert [path.name for path in store.parent.iterdir()] == ["pki"]


def test_file_in_the_place_of_a_store_is_kept(hierarchy: Hierarchy, tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("mine")
    with pytest.raises(StoreOccupied):
        save_hierarchy(tmp_path / "pki", hierarchy)
    assert (tmp_path / "pki").read_text() == "mine"


def test_empty_directory_and_missing_parents_are_no_obstacle(hierarchy: Hierarchy, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "state" / "npd" / "pki"):
        save_hierarchy(directory, hierarchy)
        assert load_hierarchy(directory) == hierarchy


def test_interrupted_writing_leaves_nothing(
    hierarchy: Hierarchy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ca_store._write_authority

    def disk_full_at_the_agency_ca(directory: Path, authority: CertificateAuthority, passphrase: bytes | None) -> None:
        if directory.name == "agency":
            raise OSError("disk full")
        write(directory, authority, passphrase)

    monkeypatch.setattr(ca_store, "_write_authority", disk_full_at_the_agency_ca)
    with pytest.raises(OSError, match="disk full"):
        save_hierarchy(tmp_path / "pki", hierarchy)
    assert list(tmp_path.iterdir()) == []


def test_issuing_ca_is_read_while_the_root_key_is_elsewhere(hierarchy: Hierarchy, store: Path) -> None:
    (store / "root" / "ca.key").unlink()
    assert load_authority(store / "agency") == hierarchy.agency
    with pytest.raises(StoreIncomplete, match=r"root/ca\.key is missing"):
        load_hierarchy(store)


def test_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreIncomplete):
        load_hierarchy(tmp_path / "nowhere")


def test_exposed_ca_key_is_refused(store: Path) -> None:
    (store / "root" / "ca.key").chmod(0o644)
    with pytest.raises(PrivateKeyExposed, match=r"chmod 600 .*root/ca\.key"):
        load_hierarchy(store)


def test_exchanged_cas_are_refused(store: Path) -> None:
    (store / "mesh").rename(store / "held")
    (store / "agency").rename(store / "mesh")
    (store / "held").rename(store / "agency")
    with pytest.raises(HierarchyInconsistent, match="of kind agency"):
        load_hierarchy(store)


def test_ca_of_another_root_is_refused(hierarchy: Hierarchy, store: Path) -> None:
    other = Hierarchy.create("npd.test")
    with pytest.raises(HierarchyInconsistent, match="not issued by this root"):
        replace(hierarchy, agency=other.agency)
    save_hierarchy(store.parent / "other", other)
    shutil.rmtree(store / "operator")
    (store.parent / "other" / "operator").rename(store / "operator")
    with pytest.raises(HierarchyInconsistent, match="not issued by this root"):
        load_hierarchy(store)


def test_key_of_another_ca_is_refused(store: Path) -> None:
    shutil.copy(store / "agency" / "ca.key", store / "mesh" / "ca.key")
    with pytest.raises(NotAuthority):
        load_hierarchy(store)


def test_file_of_two_ca_certificates_is_refused(hierarchy: Hierarchy, store: Path) -> None:
    path = store / "mesh" / "ca.crt"
    path.write_bytes(certificates_pem([hierarchy.mesh.certificate, hierarchy.agency.certificate]))
    with pytest.raises(NotAuthority, match="2 certificates"):
        load_hierarchy(store)


def test_issuing_ca_in_the_place_of_the_root_is_refused(store: Path) -> None:
    shutil.copy(store / "agency" / "ca.crt", store / "root" / "ca.crt")
    shutil.copy(store / "agency" / "ca.key", store / "root" / "ca.key")
    with pytest.raises(NotAuthority, match="not a self-signed CA"):
        load_hierarchy(store)


def test_renewed_issuing_ca_takes_the_place_of_the_old_one(hierarchy: Hierarchy) -> None:
    renewed = hierarchy.root.issue_issuing_ca(Kind.MESH, validity=Validity.lasting(timedelta(days=400)))
    assert replace(hierarchy, mesh=renewed).of(Kind.MESH) == renewed


def test_environment_must_be_a_host_name() -> None:
    with pytest.raises(HostNameMalformed):
        Hierarchy.create("npd_test")
