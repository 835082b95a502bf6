"""What npd-client says of certificate files before anybody dials."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from npd_client import credentials as client
from npd_client.credentials import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE, CredentialFiles, Credentials
from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials as Issued
from npd_pki.credentials import write_credentials
from npd_pki.identity import agency_uri, mesh_uri
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.profile import CLIENT_TLS, ROOM_TLS, SIGNING, Profile
from npd_pki.validity import Validity

ENV = "npd.test"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


@pytest.fixture(scope="module")
def foreign() -> Hierarchy:
    return Hierarchy.create(ENV)


def issue(hierarchy: Hierarchy, directory: Path, profile: Profile = CLIENT_TLS) -> Issued:
    key = generate_p256_key()
    issued = hierarchy.agency.issue(profile, agency_uri(ENV, "tax", "core"), key.public_key())
    credentials = Issued(issued, key, (hierarchy.root.certificate,))
    write_credentials(directory, credentials)
    return credentials


def pem_of(issued: Issued, place: int) -> bytes:
    return (issued.issued.certificate, *issued.issued.chain)[place].public_bytes(Encoding.PEM)


def test_sound_files_are_taken(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issued = issue(hierarchy, tmp_path)
    credentials = Credentials.from_directory(tmp_path)
    assert credentials.identity == "spiffe://agency.npd.test/tax/core"
    assert credentials.expire_time == issued.issued.certificate.not_valid_after_utc
    assert credentials.digest == CredentialFiles.read(tmp_path).digest


def test_a_rooms_certificate_is_a_clients_too(hierarchy: Hierarchy, tmp_path: Path) -> None:
    key = generate_p256_key()
    issued = hierarchy.mesh.issue(ROOM_TLS, mesh_uri(ENV, "sharing"), key.public_key(), dns_names=["localhost"])
    write_credentials(tmp_path, Issued(issued, key, (hierarchy.root.certificate,)))
    assert Credentials.from_directory(tmp_path).identity == "spiffe://mesh.npd.test/sharing"


def test_an_expired_certificate_is_named_with_its_date_and_the_clock(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issued = issue(hierarchy, tmp_path)
    end = issued.issued.certificate.not_valid_after_utc
    with pytest.raises(client.CertificateExpired, match=r"expired on .* Renew it\. .* clock") as refused:
        Credentials.from_directory(tmp_path, now=end + DAY)
    assert f"{end:%Y-%m-%d %H:%M:%S} UTC" in str(refused.value)
    Credentials.from_directory(tmp_path, now=end)


def test_a_certificate_of_tomorrow_blames_the_clock(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issue(hierarchy, tmp_path)
    with pytest.raises(client.CertificateNotYetValid, match="computer's clock"):
        Credentials.from_directory(tmp_path, now=datetime.now(UTC) - DAY)


def test_an_expired_ca_is_told_from_an_expired_leaf(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    hierarchy = Hierarchy.create(ENV)
    short = hierarchy.root.issue_issuing_ca(hierarchy.agency.kind, validity=Validity(now - 2 * DAY, now + DAY))
    key = generate_p256_key()
    issued = short.issue(
        CLIENT_TLS, agency_uri(ENV, "tax", "core"), key.public_key(), validity=Validity.lasting(DAY / 2)
    )
    write_credentials(tmp_path, Issued(issued, key, (hierarchy.root.certificate,)))
    files = CredentialFiles.read(tmp_path)
    Credentials.of(files)
    later = short.certificate.not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(client.CertificateExpired):
        Credentials.of(files, now=later)
    with pytest.raises(client.ChainBroken, match="A CA above your certificate"):
        client.require_chain(tmp_path, issued.certificate, issued.chain, [hierarchy.root.certificate], later)


@pytest.mark.parametrize("name", [CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE])
def test_a_missing_file_is_named(hierarchy: Hierarchy, tmp_path: Path, name: str) -> None:
    issue(hierarchy, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(client.FileMissing, match=name):
        Credentials.from_directory(tmp_path)


@pytest.mark.parametrize("name", [CERTIFICATE_FILE, AUTHORITIES_FILE, KEY_FILE])
@pytest.mark.parametrize("cut", [lambda pem: b"", lambda pem: pem[:-40], lambda pem: pem[: len(pem) // 3]])
def test_a_file_cut_off_is_refused(
    hierarchy: Hierarchy, tmp_path: Path, name: str, cut: Callable[[bytes], bytes]
) -> None:
    issue(hierarchy, tmp_path)
    (tmp_path / name).write_bytes(cut((tmp_path / name).read_bytes()))
    with pytest.raises(client.PemIncomplete, match=name):
        Credentials.from_directory(tmp_path)


def test_the_key_of_another_certificate_is_refused(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issue(hierarchy, tmp_path)
    (tmp_path / KEY_FILE).write_bytes(private_key_pem(generate_p256_key()))
    with pytest.raises(client.KeyMismatch, match="same issue"):
        Credentials.from_directory(tmp_path)


def test_certificates_in_the_wrong_order_are_recognised(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issued = issue(hierarchy, tmp_path)
    (tmp_path / CERTIFICATE_FILE).write_bytes(pem_of(issued, 1) + pem_of(issued, 0))
    with pytest.raises(client.KeyMismatch, match="Put yours first"):
        Credentials.from_directory(tmp_path)


def test_an_encrypted_key_is_recognised(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issued = issue(hierarchy, tmp_path)
    encrypted = issued.private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
    )
    (tmp_path / KEY_FILE).write_bytes(encrypted)
    with pytest.raises(client.KeyUnusable, match="encrypted"):
        Credentials.from_directory(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused(hierarchy: Hierarchy, tmp_path: Path, mode: int) -> None:
    issue(hierarchy, tmp_path)
    if os.geteuid() == 0:
        os.chown(tmp_path / KEY_FILE, 65534, 65534)  # what root owns it may lend
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(client.KeyExposed, match="chmod 600"):
        Credentials.from_directory(tmp_path)


def test_a_chain_without_its_intermediate_names_the_missing_issuer(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issued = issue(hierarchy, tmp_path)
    (tmp_path / CERTIFICATE_FILE).write_bytes(pem_of(issued, 0))
    with pytest.raises(client.ChainBroken, match=r"Agency CA .* append its certificate"):
        Credentials.from_directory(tmp_path)


def test_the_roots_of_another_environment_are_recognised(
    hierarchy: Hierarchy, foreign: Hierarchy, tmp_path: Path
) -> None:
    issue(hierarchy, tmp_path)
    (tmp_path / AUTHORITIES_FILE).write_bytes(foreign.root.certificate.public_bytes(Encoding.PEM))
    with pytest.raises(client.ChainBroken, match=r"Root CA .* of another environment"):
        Credentials.from_directory(tmp_path)


def test_a_second_root_during_a_rollover_does_no_harm(hierarchy: Hierarchy, foreign: Hierarchy, tmp_path: Path) -> None:
    issue(hierarchy, tmp_path)
    with (tmp_path / AUTHORITIES_FILE).open("ab") as bundle:
        bundle.write(foreign.root.certificate.public_bytes(Encoding.PEM))
    Credentials.from_directory(tmp_path)


def test_a_signing_certificate_is_not_for_tls(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issue(hierarchy, tmp_path, SIGNING)
    with pytest.raises(client.CertificateUnfit, match="signing certificate"):
        Credentials.from_directory(tmp_path)


def test_nothing_of_the_key_shows(hierarchy: Hierarchy, tmp_path: Path) -> None:
    issue(hierarchy, tmp_path)
    credentials = Credentials.from_directory(tmp_path)
    secret = credentials.files.private_key.split(b"\n")[1].decode()
    assert secret not in repr(credentials) + repr(credentials.files)


def test_all_files_come_from_one_generation_of_a_swapped_volume(hierarchy: Hierarchy, tmp_path: Path) -> None:
    for generation in ("..first", "..second"):
        issue(hierarchy, tmp_path / generation)
    (tmp_path / "..data").symlink_to("..first")
    for name in (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE):
        (tmp_path / name).symlink_to(Path("..data") / name)
    first = Credentials.from_directory(tmp_path)
    (tmp_path / "..next").symlink_to("..second")
    os.replace(tmp_path / "..next", tmp_path / "..data")
    assert Credentials.from_directory(tmp_path).digest != first.digest


def test_cross_certificates_of_one_key_do_not_keep_the_search_busy_for_ever(tmp_path: Path) -> None:
    """Fourteen that each vouch for each other make 14! paths, and none of them leads to a root."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    now = datetime.now(UTC)
    above = [
        x509.CertificateBuilder(name, name, key.public_key(), number, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        for number in range(1, 15)
    ]
    with pytest.raises(client.ChainBroken):
        client.require_chain(tmp_path, above[0], above[1:], [], now)
