"""The keys of authorities: what opens, what is refused with the reason, what is not tried twice."""

from pathlib import Path

import pytest

from npd_pki.ca_store import Hierarchy
from npd_pki.identity import Kind
from npd_pki.keys import save_private_key
from services.issuer.domain import AuthorityKeyUnusable
from services.issuer.keyring import Keyring, KeyringUnusable
from tests.issuer_fixture import PASSPHRASE_FILE, write_authorities

ENVIRONMENT = "npd.test"


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENVIRONMENT)


@pytest.fixture
def directory(tmp_path: Path, hierarchy: Hierarchy) -> Path:
    return write_authorities(tmp_path / "authorities", hierarchy)


def test_authorities_open_with_their_passphrase(directory: Path, hierarchy: Hierarchy) -> None:
    keyring = Keyring(directory, directory / PASSPHRASE_FILE, ENVIRONMENT)
    assert set(keyring.opened) == {hierarchy.agency.key_id, hierarchy.operator.key_id}
    with pytest.raises(AuthorityKeyUnusable):
        keyring.signer(hierarchy.mesh.key_id)


def test_key_that_is_not_encrypted_is_refused(directory: Path, hierarchy: Hierarchy) -> None:
    for kind in (Kind.AGENCY, Kind.OPERATOR):
        save_private_key(directory / kind / "ca.key", hierarchy.of(kind).key)
    with pytest.raises(KeyringUnusable, match="is not encrypted"):
        Keyring(directory, None, ENVIRONMENT)


@pytest.mark.parametrize("passphrase", [b"another passphrase", None], ids=["wrong", "none"])
def test_passphrase_that_does_not_open_is_named(directory: Path, passphrase: bytes | None) -> None:
    place = directory / PASSPHRASE_FILE if passphrase else None
    if place is not None and passphrase is not None:
        place.write_bytes(passphrase)
    with pytest.raises(KeyringUnusable, match="passphrase"):
        Keyring(directory, place, ENVIRONMENT)


def test_authority_of_another_environment_is_refused(directory: Path) -> None:
    with pytest.raises(KeyringUnusable, match=r"environment npd\.test, not of npd\.example"):
        Keyring(directory, directory / PASSPHRASE_FILE, "npd.example")


def test_key_that_others_may_read_is_refused(directory: Path, hierarchy: Hierarchy) -> None:
    (directory / "agency" / "ca.key").chmod(0o640)
    keyring = Keyring(directory, directory / PASSPHRASE_FILE, ENVIRONMENT)
    assert keyring.has_closed(hierarchy.agency.key_id)
    (directory / "agency" / "ca.key").chmod(0o600)
    keyring.look()
    assert keyring.has_closed(hierarchy.agency.key_id), "what was refused waits for other contents"


def test_authority_that_comes_later_is_found(tmp_path: Path, hierarchy: Hierarchy) -> None:
    keyring = Keyring(tmp_path / "later", tmp_path / "later" / PASSPHRASE_FILE, ENVIRONMENT)
    assert not keyring.opened
    write_authorities(tmp_path / "later", hierarchy)
    keyring.look()
    assert hierarchy.agency.key_id in keyring.opened
