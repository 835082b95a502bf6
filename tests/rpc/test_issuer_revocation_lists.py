"""Published revocation lists: what they hold, that openssl believes them, and that no number ever goes back."""

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import certificate_pb2, door_pb2
from npd_pki.distribution import crl_file_name
from npd_pki.identity import Kind
from npd_pki.revocation_list import RevocationReason, RevokedEntry, build_revocation_list, number_of
from services.issuer.keyring import Keyring
from services.issuer.operations.office import Office, Terms
from services.issuer.operations.revocation_lists import RevocationLists
from services.issuer.peers import message
from services.issuer.repository import Ledger
from services.mesh.core.authorities import AuthorityState
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import SystemClock
from services.mesh.core.rights import Policy
from tests.issuer_fixture import PASSPHRASE_FILE, IssuerScene, p256_key, write_authorities
from tests.mesh_fixture import ENVIRONMENT, Desk, Running, Stage, refused, wait_until
from tests.rpc.test_issuer_revocation import SUPERSEDED, enrolled, revocation

HOUR = timedelta(hours=1)


class MovedClock(SystemClock):
    """The machine's clock, that much ahead."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    desk.register("tax/core")
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))


def agency_key_id(scene: IssuerScene) -> str:
    return scene.hierarchy.agency.key_id


def place_of(scene: IssuerScene) -> Path:
    return scene.directory / "lists" / crl_file_name(agency_key_id(scene))


def published(scene: IssuerScene) -> x509.CertificateRevocationList:
    wait_until(place_of(scene).exists)
    return x509.load_der_x509_crl(place_of(scene).read_bytes())


def office_of(scene: IssuerScene, clock: SystemClock | None = None, policy: Policy | None = None) -> Office:
    """What another replica works with: the same store and keys, its own clock and policy if need be."""
    house, authorities = scene.issuer.house, scene.directory / "authorities"
    return Office(
        database=house.database(lambda connection: Ledger(connection, house.log_of(connection))),
        policy=lambda: policy or house.keeper.current,
        clock=clock or house.clock,
        keyring=Keyring(authorities, authorities / PASSPHRASE_FILE, ENVIRONMENT),
        environment=ENVIRONMENT,
        itself=Caller(house.identity, CallerKind.ROOM, "issuer"),
        terms=Terms(600, HOUR, HOUR, timedelta(days=3), HOUR),
        message=message,
        require_room=lambda: None,
    )


def lists(scene: IssuerScene, clock: SystemClock | None = None) -> RevocationLists:
    """Those of another replica, by the same store and directory."""
    return RevocationLists(office_of(scene, clock), scene.directory / "lists")


def revoke(scene: IssuerScene) -> certificate_pb2.Certificate:
    certificate = enrolled(scene, "tax/core", p256_key())
    scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(certificate, SUPERSEDED))
    return certificate


def lists_it(crl: x509.CertificateRevocationList, certificate: certificate_pb2.Certificate) -> bool:
    return crl.get_revoked_certificate_by_serial_number(int(certificate.serial_number, 16)) is not None


def verify(scene: IssuerScene, leaf: bytes, directory: Path) -> str:
    """What `openssl verify` says of a leaf by the list that is published."""
    files = {
        "leaf.pem": leaf,
        "ca.pem": scene.hierarchy.agency.certificate.public_bytes(Encoding.PEM),
        "root.pem": scene.hierarchy.root.certificate.public_bytes(Encoding.PEM),
        "crl.pem": published(scene).public_bytes(Encoding.PEM),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", "crl.pem", "-CAfile", "root.pem"]
    done = subprocess.run(
        [*command, "-untrusted", "ca.pem", "leaf.pem"], cwd=directory, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_openssl_accepts_a_leaf_until_the_list_names_it(scene: IssuerScene, tmp_path: Path) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    leaf = certificate.certificate_chain
    assert verify(scene, leaf, tmp_path) == "leaf.pem: OK\n"
    before = number_of(published(scene))
    scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(certificate, SUPERSEDED))
    wait_until(lambda: lists_it(published(scene), certificate), 5)
    assert number_of(published(scene)) > before
    assert "certificate revoked" in verify(scene, leaf, tmp_path)
    entry = published(scene).get_revoked_certificate_by_serial_number(int(certificate.serial_number, 16))
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.superseded
    assert [path.name for path in place_of(scene).parent.glob(".*")] == [], "nothing half-written is left"


def test_the_door_hands_out_the_newest_list(scene: IssuerScene) -> None:
    certificate = revoke(scene)
    wait_until(lambda: lists_it(published(scene), certificate), 5)
    request = door_pb2.GetRevocationListRequest(issuer_key_id=agency_key_id(scene))
    assert scene.door.GetRevocationList(request).revocation_list == place_of(scene).read_bytes()
    unknown = door_pb2.GetRevocationListRequest(issuer_key_id="0" * 64)
    assert refused(scene.door.GetRevocationList, unknown).reason == "AUTHORITY_UNKNOWN"


def test_list_that_grows_old_is_followed_by_the_next(scene: IssuerScene) -> None:
    before = published(scene)
    clock = MovedClock()
    clock.ahead = 2 * HOUR
    lists(scene, clock).step()
    assert number_of(published(scene)) > number_of(before)
    ends = [one.next_update_utc for one in (before, published(scene))]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0] < ends[1]


def test_nothing_new_means_no_new_list(scene: IssuerScene) -> None:
    lists(scene).step()
    before = number_of(published(scene))
    lists(scene).step()
    assert number_of(published(scene)) == before


def test_list_of_a_restored_store_goes_on_above_the_published_one_and_forgets_nothing(scene: IssuerScene) -> None:
    lost = x509.random_serial_number()
    now = datetime.now(UTC)
    later = build_revocation_list(
        scene.hierarchy.agency,
        number_of(published(scene)) + 100,
        [RevokedEntry(lost, now - HOUR, RevocationReason.KEY_COMPROMISE)],
        now=now,
        life=HOUR,
    )
    place_of(scene).write_bytes(later.public_bytes(Encoding.DER))
    certificate = revoke(scene)
    wait_until(lambda: number_of(published(scene)) > number_of(later), 5)
    wait_until(lambda: lists_it(published(scene), certificate), 5)
    entry = published(scene).get_revoked_certificate_by_serial_number(lost)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise


def test_number_rises_even_if_store_and_directory_are_lost(scene: IssuerScene) -> None:
    before = number_of(published(scene))
    scene.rows("DELETE FROM revocation_lists RETURNING 1")
    place_of(scene).unlink()
    clock = MovedClock()
    clock.ahead = 4 * HOUR  # later than any list before
    lists(scene, clock).step()
    assert number_of(published(scene)) > before
    assert number_of(published(scene)) >= int(datetime.now(UTC).timestamp())


def test_authority_whose_key_is_gone_keeps_no_other_from_its_list(scene: IssuerScene, tmp_path: Path) -> None:
    others = write_authorities(tmp_path / "authorities", scene.hierarchy)
    shutil.rmtree(others / "agency")
    office = replace(office_of(scene), keyring=Keyring(others, others / PASSPHRASE_FILE, ENVIRONMENT))
    scene.rows("UPDATE revocation_lists SET publish_time = now() - interval '2 hours' RETURNING 1")
    RevocationLists(office, tmp_path / "lists").step()
    assert [place.name for place in (tmp_path / "lists").iterdir()] == [crl_file_name(scene.hierarchy.operator.key_id)]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x30\x03\x02\x01\x01"])
def test_file_that_is_no_list_of_the_authority_is_replaced(scene: IssuerScene, content: bytes) -> None:
    before = number_of(published(scene))
    place_of(scene).write_bytes(content)
    lists(scene).step()
    assert number_of(published(scene)) >= before


def test_list_signed_by_another_ca_is_not_believed(scene: IssuerScene) -> None:
    before = number_of(published(scene))
    foreign = build_revocation_list(
        scene.hierarchy.operator,
        before + 1000,
        [RevokedEntry(4711, datetime.now(UTC), RevocationReason.SUPERSEDED)],
        now=datetime.now(UTC),
        life=HOUR,
    )
    place_of(scene).write_bytes(foreign.public_bytes(Encoding.DER))
    lists(scene).step()
    assert number_of(published(scene)) < before + 1000
    assert published(scene).get_revoked_certificate_by_serial_number(4711) is None


def test_replicas_never_give_one_number_to_two_lists(scene: IssuerScene) -> None:
    first, second = lists(scene), lists(scene)
    certificate = revoke(scene)
    first.step()
    second.step()
    assert lists_it(published(scene), certificate)
    numbers = scene.rows("SELECT number FROM revocation_lists WHERE issuer_key_id = :id", id=agency_key_id(scene))
    assert numbers == [(number_of(published(scene)),)]
    place_of(scene).unlink()
    second.step()
    assert number_of(published(scene)) == numbers[0][0], "a replica whose directory is new takes the list of the store"


def test_certificate_leaves_the_list_a_day_after_its_end(scene: IssuerScene) -> None:
    recent, old = revoke(scene), revoke(scene)
    wait_until(lambda: lists_it(published(scene), old), 5)
    for certificate, hours in ((recent, 23), (old, 25)):
        scene.rows(
            "UPDATE certificates SET expire_time = :end WHERE serial_number = :n RETURNING 1",
            end=datetime.now(UTC) - hours * HOUR,
            n=certificate.serial_number,
        )
    place_of(scene).unlink()
    scene.rows("UPDATE revocation_lists SET publish_time = now() - interval '2 hours' RETURNING 1")
    lists(scene).step()
    assert lists_it(published(scene), recent)
    assert not lists_it(published(scene), old)


def test_authority_that_retired_publishes_no_more(scene: IssuerScene) -> None:
    before = number_of(published(scene))
    state = "UPDATE authorities SET state = :state WHERE key_id = :id RETURNING 1"
    scene.rows(state, state=AuthorityState.RETIRED.name, id=agency_key_id(scene))
    revoked = scene.rows(
        "UPDATE certificates SET revoke_time = now(), revocation_reason = 'SUPERSEDED' "
        "WHERE serial_number = (SELECT max(serial_number) FROM certificates) RETURNING 1"
    )
    assert revoked == [(1,)]
    lists(scene).step()
    assert number_of(published(scene)) == before
