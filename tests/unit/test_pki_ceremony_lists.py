"""What root and issuing CAs sign after day one: revocation lists, trust bundles, cross-certificates. None goes back."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from npd_pki.ca_store import load_authority
from npd_pki.ceremony.errors import AlreadyRevoked, InputForeign, MomentUnfit, OutputAmbiguous
from npd_pki.ceremony.reading import read_document
from npd_pki.ceremony.run import rehearse
from npd_pki.errors import NumberWentBack, PkiError, RevocationListUntrusted
from npd_pki.identity import agency_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.revocation_list import RevocationReason, entries_of, load_revocation_list, number_of
from npd_pki.signed_bundle import read_trust_bundle
from npd_pki.trust_bundle import certificates_pem, load_certificates
from tests.ceremony_desk import ISSUING_PASSPHRASE, altered, held_at, hold, now, refused

SYSTEM = agency_uri("npd.test", "gdt", "tax")


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held_at(tmp_path_factory.mktemp("held"))


@pytest.fixture
def held(held_once: Path, tmp_path: Path) -> Path:
    """The desk after the first four ceremonies."""
    shutil.copytree(held_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def revoking(held: Path) -> Path:
    """The shipped revocation, ready to be held: a leaf of the agency CA, and the list before."""
    agency = load_authority(held / "issuing/agency", ISSUING_PASSPHRASE)
    leaf = agency.issue(CLIENT_TLS, SYSTEM, generate_p256_key().public_key())
    (held / "tax").mkdir()
    (held / "tax/tls.crt").write_bytes(leaf.pem())
    return altered(held / "6-revoke.toml", ("crl-agency.crl", f"crl/{agency.key_id[:16]}.crl"))


def agency_list(place: Path, output: str) -> x509.CertificateRevocationList:
    agency = load_authority(place / "issuing/agency", ISSUING_PASSPHRASE)
    return load_revocation_list((place / output / f"{agency.key_id[:16]}.crl").read_bytes())


def test_a_revocation_adds_to_what_the_list_before_revokes(revoking: Path) -> None:
    place = revoking.parent
    first = load_certificates(place / "tax/tls.crt")[0].serial_number
    hold(revoking)
    assert number_of(agency_list(place, "crl-2")) == 2
    (entry,) = entries_of(agency_list(place, "crl-2"))
    assert (entry.serial, entry.reason) == (first, RevocationReason.KEY_COMPROMISE)
    assert entry.revoke_time.isoformat() == "2026-11-01T02:00:00+00:00"
    altered(
        revoking,
        ("crl-2", "crl-3"),
        ("number = 2", "number = 3"),
        ('previous = "crl/', 'previous = "crl-2/'),
        ('certificate = "tax/tls.crt"', 'serial = "0A:1b"'),
    )
    hold(revoking)
    assert {entry.serial for entry in entries_of(agency_list(place, "crl-3"))} == {first, 0x0A1B}


def test_a_revocation_list_never_goes_back(revoking: Path) -> None:
    hold(revoking)
    altered(revoking, ("crl-2", "crl-3"), ('previous = "crl/', 'previous = "crl-2/'))
    refused(revoking, NumberWentBack, "has number 2, and the next one has a higher, not 2")
    altered(revoking, ("number = 2", "number = 3"))
    refused(revoking, AlreadyRevoked, "is revoked already")


def test_the_list_before_has_to_be_of_the_same_ca(revoking: Path) -> None:
    mesh = load_authority(revoking.parent / "issuing/mesh", ISSUING_PASSPHRASE)
    agency = load_authority(revoking.parent / "issuing/agency", ISSUING_PASSPHRASE)
    altered(revoking, (f"{agency.key_id[:16]}.crl", f"{mesh.key_id[:16]}.crl"))
    refused(revoking, RevocationListUntrusted)


def test_only_certificates_of_the_ca_are_revoked_and_not_before_it_happened(revoking: Path) -> None:
    altered(revoking, ('certificate = "tax/tls.crt"', 'certificate = "issuing/mesh/ca.crt"'))
    refused(revoking, InputForeign, "was not issued by the CA of this list")
    altered(revoking, ('certificate = "issuing/mesh/ca.crt"', 'serial = "1f"'), ("2026-11-01", "2126-11-01"))
    refused(revoking, MomentUnfit, "after this machine's clock")


def test_one_ca_has_one_list_in_a_ceremony(held: Path) -> None:
    file = altered(held / "3-crl.toml", ('output = "crl"', 'output = "new"'))
    altered(file, ('certificate = "issuing/mesh/ca.crt"', 'certificate = "issuing/agency/ca.crt"'))
    altered(file, ("issuing/mesh/ca.key", "issuing/agency/ca.key"))
    refused(file, OutputAmbiguous, "twice")


def test_the_sequence_of_trust_bundles_rises(held: Path) -> None:
    file = altered(held / "4-trust-bundle.toml", ('output = "bundle"', 'output = "new"'))
    altered(file, ("sequence = 1", 'sequence = 1\nprevious = "bundle/trust-bundle.txt"'))
    refused(file, NumberWentBack, "has sequence 1")
    altered(file, ("sequence = 1", "sequence = 2"))
    hold(file)
    refused(altered(file, ('output = "new"', 'output = "x"'), ("root/ca.crt", "issuing/mesh/ca.crt")), PkiError, "root")


def test_a_root_takes_over_from_the_one_that_introduced_it(held: Path) -> None:
    hold(altered(held / "1-root.toml", ('output = "root"', 'output = "next-root"')))
    shutil.copy(held / "4-trust-bundle.toml", held / "both.toml")
    hold(
        altered(
            held / "both.toml",
            ('output = "bundle"', 'output = "both"'),
            ('roots = ["root/ca.crt"]', 'roots = ["root/ca.crt", "next-root/ca.crt"]'),
        )
    )
    alone = altered(
        held / "4-trust-bundle.toml",
        ('output = "bundle"', 'output = "alone"'),
        ("sequence = 1", 'sequence = 2\nprevious = "bundle/trust-bundle.txt"'),
        ('roots = ["root/ca.crt"]', 'roots = ["next-root/ca.crt"]'),
        ('certificate = "root/ca.crt"', 'certificate = "next-root/ca.crt"'),
        ('file = "root/ca.key"', 'file = "next-root/ca.key"'),
    )
    refused(alone, InputForeign, "does not trust the root that signs")
    hold(altered(alone, ('previous = "bundle/', 'previous = "both/')))
    (root,) = load_certificates(held / "root/ca.crt")
    following = read_trust_bundle((held / "both/trust-bundle.txt").read_bytes(), [root]).roots
    last = read_trust_bundle((held / "alone/trust-bundle.txt").read_bytes(), following)
    assert last.roots == load_certificates(held / "next-root/ca.crt")


@pytest.mark.parametrize("clock", [timedelta(days=-1), timedelta(days=21 * 366)])
def test_who_is_not_valid_now_signs_nothing(held: Path, clock: timedelta) -> None:
    for name, output in (("2-issuing", "issuing"), ("3-crl", "crl"), ("4-trust-bundle", "bundle")):
        document = read_document(altered(held / f"{name}.toml", (f'output = "{output}"', 'output = "new"')))
        with pytest.raises(MomentUnfit, match=r"root/ca\.crt is valid from .* correct the clock"):
            rehearse(document, now() + clock)


def test_only_the_cas_of_the_stated_root_are_cross_signed(held: Path) -> None:
    hold(altered(held / "1-root.toml", ('output = "root"', 'output = "next-root"')))
    shutil.copy(held / "5-cross-sign.toml", held / "foreign.toml")
    foreign = altered(held / "foreign.toml", ('issued_by = "root/ca.crt"', 'issued_by = "next-root/ca.crt"'))
    refused(foreign, InputForeign, "was not issued by next-root/ca.crt")
    hold(held / "5-cross-sign.toml")
    crossed = load_certificates(held / "cross/agency/ca.crt")[0]
    existing = load_certificates(held / "issuing/agency/ca.crt")[0]
    assert (crossed.subject, crossed.public_key()) == (existing.subject, existing.public_key())
    crossed.verify_directly_issued_by(load_certificates(held / "next-root/ca.crt")[0])


def test_a_bundle_of_certificates_is_what_was_signed(held: Path) -> None:
    root = load_certificates(held / "root/ca.crt")
    assert certificates_pem(root) in (held / "bundle/trust-bundle.txt").read_bytes()
