"""The CAs of a local mesh: their keys are encrypted, and the passphrase is for the owner of the mesh alone."""

import stat
from pathlib import Path

import pytest

from npd_pki.ca_store import Hierarchy, load_hierarchy, save_hierarchy
from npd_pki.errors import PassphraseMissing, PassphraseWrong, PrivateKeyExposed
from npd_pki.passphrase import read_passphrase
from services.local.credentials import LocalAuthority
from services.local.errors import DirectoryUnusable
from services.local.layout import Layout

ENVIRONMENT = "sandbox.npd.local"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "mesh")
    layout.make()
    return layout


def test_keys_of_the_cas_are_encrypted_with_a_passphrase_for_the_owner_alone(layout: Layout) -> None:
    made = LocalAuthority(layout, ENVIRONMENT).hierarchy
    assert stat.S_IMODE(layout.pki_passphrase.stat().st_mode) == 0o600
    passphrase = read_passphrase(layout.pki_passphrase)
    assert len(passphrase) > 40
    with pytest.raises(PassphraseMissing):
        load_hierarchy(layout.pki)
    assert load_hierarchy(layout.pki, passphrase) == made


def test_mesh_is_found_again_with_its_passphrase(layout: Layout) -> None:
    made = LocalAuthority(layout, ENVIRONMENT).hierarchy
    assert LocalAuthority.found_in(layout).hierarchy == made
    assert LocalAuthority(layout, ENVIRONMENT).hierarchy == made


def test_every_mesh_has_its_own_passphrase(layout: Layout, tmp_path: Path) -> None:
    other = Layout(tmp_path / "other")
    other.make()
    for one in (layout, other):
        assert LocalAuthority(one, ENVIRONMENT).hierarchy
    assert read_passphrase(layout.pki_passphrase) != read_passphrase(other.pki_passphrase)


def test_mesh_whose_keys_are_in_the_clear_still_opens(layout: Layout) -> None:
    save_hierarchy(layout.pki, made := Hierarchy.create(ENVIRONMENT))
    assert LocalAuthority.found_in(layout).hierarchy == made
    assert not layout.pki_passphrase.exists()


def test_lost_wrong_or_exposed_passphrase_is_told(layout: Layout) -> None:
    assert LocalAuthority(layout, ENVIRONMENT).hierarchy
    layout.pki_passphrase.chmod(0o644)
    with pytest.raises(PrivateKeyExposed, match=r"pki\.passphrase"):
        assert LocalAuthority(layout, ENVIRONMENT).hierarchy
    layout.pki_passphrase.chmod(0o600)
    layout.pki_passphrase.write_text("another\n")
    with pytest.raises(PassphraseWrong):
        assert LocalAuthority(layout, ENVIRONMENT).hierarchy
    layout.pki_passphrase.unlink()
    with pytest.raises(DirectoryUnusable, match="give its passphrase"):
        LocalAuthority.found_in(layout)
