"""A store that was restored from a backup, here or at the registry, never makes a revoked certificate valid again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from npd.issuer.v1 import certificate_pb2
from npd.registry.v1 import revocation_pb2, revocation_pb2_grpc
from npd_pki.authority import create_root
from npd_pki.identity import Kind
from npd_pki.trust_bundle import certificates_pem
from services.issuer.operations.reconciliation import Reconciliation
from services.mesh.core.authorities import Authority, AuthorityState, Revoked
from services.mesh.core.rights import Policy
from tests.issuer_fixture import IssuerScene, p256_key
from tests.mesh_fixture import Desk, Running, Stage, new_id, wait_until
from tests.rpc.test_issuer_revocation import (
    KEY_COMPROMISE,
    REVOKE,
    REVOKED,
    SUPERSEDED,
    enrolled,
    is_revoked_in_policy,
    key_id_of,
    revocation,
    shown,
)
from tests.rpc.test_issuer_revocation_lists import MovedClock, agency_key_id, lists_it, office_of, published

LATER = timedelta(minutes=3)
NOT_REVOKED = (
    "UPDATE certificates SET revoke_time = NULL, revocation_reason = NULL WHERE serial_number = :n RETURNING 1"
)


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    desk.register("tax/core")
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))


def revoke(scene: IssuerScene) -> certificate_pb2.Certificate:
    """A certificate that is revoked, here and in the policy."""
    certificate = enrolled(scene, "tax/core", p256_key())
    scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(certificate, SUPERSEDED))
    wait_until(lambda: is_revoked_in_policy(scene.issuer, certificate))
    return certificate


def revoke_at_registry(
    scene: IssuerScene, issuer_key_id: str, serial_number: str, reason: "revocation_pb2.RevocationReason.ValueType"
) -> None:
    stub = revocation_pb2_grpc.RevocationServiceStub(scene.registry.channel(Kind.OPERATOR, "lan"))
    stub.RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=new_id(), issuer_key_id=issuer_key_id, serial_number=serial_number, reason=reason
        )
    )


def reconcile(scene: IssuerScene, policy: Policy | None = None, ahead: timedelta = LATER) -> Reconciliation:
    """Reconcile as a replica would that has just come up, by its clock a while after everything that was done."""
    clock = MovedClock()
    clock.ahead = ahead
    wait_until(lambda: scene.rows("SELECT count(*) FROM outbox") == [(0,)])
    reconciliation = Reconciliation(office_of(scene, clock, policy))
    reconciliation.step()
    return reconciliation


def without(policy: Policy, certificate: certificate_pb2.Certificate) -> Policy:
    """A policy of a registry that was restored from a backup older than the revocation."""
    name = (certificate.issuer_key_id, certificate.serial_number)
    return replace(policy, revoked={key: value for key, value in policy.revoked.items() if key != name})


def test_revocation_that_a_restored_issuer_lacks_is_adopted_from_the_policy(scene: IssuerScene) -> None:
    certificate = revoke(scene)
    before = shown(scene, certificate)
    assert scene.rows(NOT_REVOKED, n=certificate.serial_number) == [(1,)]
    assert shown(scene, certificate).state == certificate_pb2.CERTIFICATE_STATE_ISSUED
    reconcile(scene)
    assert shown(scene, certificate) == before, "with its first time and reason"
    assert len(scene.recorded(REVOKE, certificate.serial_number)) == 1, "the registry is told nothing that it knows"


def test_running_issuer_adopts_what_the_registry_revokes_and_lists_it(scene: IssuerScene) -> None:
    certificate = enrolled(scene, "tax/core", p256_key())
    revoke_at_registry(scene, certificate.issuer_key_id, certificate.serial_number, SUPERSEDED)
    wait_until(lambda: shown(scene, certificate).state == REVOKED)
    wait_until(lambda: lists_it(published(scene), certificate), 5)


def test_compromised_key_that_the_registry_names_is_blocked_here_and_takes_its_siblings_along(
    scene: IssuerScene,
) -> None:
    key = p256_key()
    certificate, sibling = enrolled(scene, "tax/core", key), enrolled(scene, "tax/core", key)
    revoke_at_registry(scene, certificate.issuer_key_id, certificate.serial_number, KEY_COMPROMISE)
    wait_until(lambda: is_revoked_in_policy(scene.issuer, sibling))
    assert shown(scene, sibling).revocation_reason == KEY_COMPROMISE
    assert scene.rows("SELECT count(*) FROM blocked_keys WHERE key_id = :id", id=key_id_of(key)) == [(1,)]


def test_compromised_key_of_a_certificate_that_the_store_lost_stays_blocked(scene: IssuerScene) -> None:
    key = p256_key()
    certificate = enrolled(scene, "tax/core", key)
    scene.certificates(Kind.OPERATOR, "lan").RevokeCertificate(revocation(certificate, KEY_COMPROMISE))
    wait_until(lambda: is_revoked_in_policy(scene.issuer, certificate))
    lost = "DELETE FROM certificates WHERE serial_number = :n RETURNING 1"
    assert scene.rows(lost, n=certificate.serial_number) == [(1,)]
    assert scene.rows("DELETE FROM blocked_keys WHERE key_id = :id RETURNING 1", id=key_id_of(key)) == [(1,)]
    reconcile(scene)
    assert scene.rows("SELECT count(*) FROM blocked_keys WHERE key_id = :id", id=key_id_of(key)) == [(1,)]


def test_revocation_of_a_certificate_that_the_store_lost_stays_on_the_list(scene: IssuerScene) -> None:
    lost = x509.random_serial_number()
    revoke_at_registry(scene, agency_key_id(scene), f"{lost:x}", SUPERSEDED)
    wait_until(lambda: published(scene).get_revoked_certificate_by_serial_number(lost), 5)
    assert scene.rows("SELECT 1 FROM certificates WHERE serial_number = :n", n=f"{lost:x}") == []


def test_revocation_of_another_ca_is_none_of_ours(scene: IssuerScene) -> None:
    revoke_at_registry(scene, "0" * 64, "4711", SUPERSEDED)
    scene.stage.settle()
    reconcile(scene)
    assert scene.rows("SELECT count(*) FROM foreign_revocations WHERE issuer_key_id = :id", id="0" * 64) == [(0,)]


def test_serial_number_that_no_certificate_has_does_not_keep_the_list_from_being_published(
    scene: IssuerScene,
) -> None:
    revoke_at_registry(scene, agency_key_id(scene), "f" * 40, SUPERSEDED)
    certificate = revoke(scene)
    wait_until(lambda: lists_it(published(scene), certificate), 5)


def test_revocation_that_a_restored_registry_lacks_is_told_again_once(scene: IssuerScene) -> None:
    certificate = revoke(scene)
    with scene.registry.house.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM revocations WHERE serial_number = %s", (certificate.serial_number,))
    policy = without(scene.issuer.house.keeper.current, certificate)
    reconciliation = reconcile(scene, policy)
    reconciliation.step()
    told = scene.recorded(REVOKE, certificate.serial_number)
    assert len(told) == 2, "not again while it is on its way"
    assert ", by spiffe://mesh.test.npd.example/issuer, at " in told[-1].object
    with scene.registry.house.engine.connect() as connection:
        known = connection.exec_driver_sql(
            "SELECT count(*) FROM revocations WHERE serial_number = %s", (certificate.serial_number,)
        )
        assert known.scalar_one() == 1


def test_revocation_on_its_way_is_not_told_again(scene: IssuerScene) -> None:
    certificate = revoke(scene)
    reconcile(scene, without(scene.issuer.house.keeper.current, certificate), ahead=timedelta())
    assert len(scene.recorded(REVOKE, certificate.serial_number)) == 1


def test_expired_revocation_is_not_told_again(scene: IssuerScene) -> None:
    certificate = revoke(scene)
    scene.rows(
        "UPDATE certificates SET expire_time = now() - interval '2 days' WHERE serial_number = :n RETURNING 1",
        n=certificate.serial_number,
    )
    reconcile(scene, without(scene.issuer.house.keeper.current, certificate))
    assert len(scene.recorded(REVOKE, certificate.serial_number)) == 1


def test_authorities_are_acknowledged_at_the_revision_that_names_them(scene: IssuerScene) -> None:
    wait_until(lambda: scene.rows("SELECT count(*) FROM authorities WHERE known_revision > 0") == [(2,)])
    known = scene.rows("SELECT max(known_revision) FROM authorities")[0][0]
    assert known <= scene.issuer.house.keeper.current.revision


def test_authority_that_another_root_certified_is_presented_with_its_new_certificate(scene: IssuerScene) -> None:
    following = create_root(scene.hierarchy.environment)
    cross = following.cross_certify(scene.hierarchy.agency.certificate)
    place = scene.directory / "authorities" / "agency" / "ca.crt"
    before = place.read_bytes()
    try:
        place.write_bytes(certificates_pem([cross]))
        reconcile(scene)
        certificate = enrolled(scene, "tax/core", p256_key())
        assert x509.load_pem_x509_certificates(certificate.certificate_chain)[1] == cross
    finally:
        place.write_bytes(before)
        reconcile(scene)


def test_later_state_of_an_authority_is_adopted_from_the_policy_with_its_leaves(scene: IssuerScene) -> None:
    leaf, key_id = enrolled(scene, "tax/core", p256_key()), agency_key_id(scene)
    before = scene.rows("SELECT * FROM authorities WHERE key_id = :id", id=key_id)
    policy = scene.issuer.house.keeper.current
    mine = policy.authorities[key_id]
    now = datetime.now(UTC)
    for state, told_time, expected in (
        (AuthorityState.TAINTED, mine.state_time - timedelta(seconds=1), "ACTIVE"),
        (AuthorityState.TAINTED, now, "TAINTED"),
        (AuthorityState.REVOKED, mine.state_time - timedelta(days=1), "REVOKED"),
        (AuthorityState.ACTIVE, now + timedelta(seconds=1), "REVOKED"),
    ):
        told = Authority(key_id, mine.host, state, told_time)
        reconcile(scene, replace(policy, authorities={**policy.authorities, key_id: told}), ahead=timedelta())
        assert scene.rows("SELECT state FROM authorities WHERE key_id = :id", id=key_id) == [(expected,)]
    assert shown(scene, leaf).state == REVOKED, "its leaves are revoked with it"
    assert before[0][2] == "ACTIVE"


def test_state_that_a_restored_registry_lacks_is_told_again_and_leaves_are_not_told_one_by_one(
    scene: IssuerScene,
) -> None:
    key_id, policy = agency_key_id(scene), scene.issuer.house.keeper.current
    assert policy.authorities[key_id].state is AuthorityState.ACTIVE, "as a backup would have it"
    reconciliation = reconcile(scene, ahead=2 * LATER)
    wait_until(lambda: scene.issuer.house.keeper.current.authorities[key_id].state is AuthorityState.REVOKED)
    told = scene.recorded("/npd.issuer.v1.AuthorityService/PrepareAuthority", f"authority {key_id}")
    by_room = "REVOKED), by spiffe://mesh.test.npd.example/issuer"
    assert {one.object.partition(" (")[2].partition(", at ")[0] for one in told} == {by_room}
    assert len(told) <= 2, "once by each replica"
    before = len(scene.recorded(REVOKE))
    reconciliation.step()
    assert len(scene.recorded(REVOKE)) == before, "that the authority is revoked says it of all its leaves"


def test_policy_that_is_not_there_yet_is_not_reconciled_with(scene: IssuerScene) -> None:
    before = scene.rows("SELECT * FROM authorities ORDER BY key_id")
    Reconciliation(office_of(scene, policy=Policy(revoked={("a" * 64, "1"): Revoked(datetime.now(UTC), 1)}))).step()
    assert scene.rows("SELECT * FROM authorities ORDER BY key_id") == before
