"""What meets in the middle of an issue: revocations, rollovers, repeats. Nothing revoked comes out, nobody is stuck."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from npd.issuer.v1 import certificate_pb2
from npd.registry.v1 import revocation_pb2
from npd_pki.identity import Kind
from npd_pki.keys import key_id
from npd_pki.validity import Validity
from services.issuer.repository import Ledger
from services.local.postgres import EmbeddedPostgres
from services.mesh.core import failpoints
from services.mesh.core.authorities import AuthorityState
from services.registry.app import ROOM as REGISTRY
from tests.issuer_fixture import CLIENT_TLS, RENEW, IssuerScene, csr_for, outcome, p256_key, uri_of, write_tls
from tests.mesh_fixture import Authority, Desk, Stage, new_id, refused, wait_until
from tests.rpc.test_issuer_authorities import HOST, activation, lay_ready, prepare
from tests.rpc.test_issuer_door import enabling, held
from tests.rpc.test_issuer_revocation import KEY_COMPROMISE, REVOKED, SUPERSEDED, enrolled, revocation, shown

TAX = "tax/core"
INTENT = certificate_pb2.CERTIFICATE_STATE_INTENT


@pytest.fixture
def scene(postgres: EmbeddedPostgres, authority: Authority, tmp_path: Path) -> Iterator[IssuerScene]:
    """A registry and an issuer for each test: authorities change, for good."""
    with Stage(postgres, authority, tmp_path) as stage:
        registry = stage.start(REGISTRY, operators=["lan", "minh"])
        desk = Desk(registry, "lan")
        desk.register(TAX)
        yield IssuerScene(stage, registry, desk, tmp_path / "issuer")


def at(monkeypatch: pytest.MonkeyPatch, place: str, act: Callable[[], object]) -> None:
    """Do something whenever an issue has come to a place."""
    monkeypatch.setattr(failpoints, "reach", lambda reached: act() if reached == place else None)


def renewal(csr: bytes) -> certificate_pb2.RenewCertificateRequest:
    return certificate_pb2.RenewCertificateRequest(request_id=new_id(), profile=CLIENT_TLS, csr=csr)


@pytest.mark.parametrize("reason", [SUPERSEDED, KEY_COMPROMISE])
def test_what_is_revoked_while_it_is_signed_does_not_come_out(
    scene: IssuerScene, monkeypatch: pytest.MonkeyPatch, reason: "revocation_pb2.RevocationReason.ValueType"
) -> None:
    lan, key = scene.certificates(Kind.OPERATOR, "lan"), p256_key()
    intents: list[certificate_pb2.Certificate] = []

    def revoke() -> None:
        monkeypatch.setattr(failpoints, "reach", lambda reached: None)
        listing = certificate_pb2.ListCertificatesRequest(identity=uri_of(TAX), state=INTENT)
        intents.extend(lan.ListCertificates(listing).certificates)
        lan.RevokeCertificate(revocation(intents[0], reason))

    at(monkeypatch, "issue.signed", revoke)
    request = renewal(csr_for(key))
    holder = scene.certificates(Kind.AGENCY, TAX)
    assert refused(holder.RenewCertificate, request).reason == "CERTIFICATE_REVOKED"
    (intent,) = intents
    assert intent.key_id == key_id(key.public_key())
    assert (shown(scene, intent).state, shown(scene, intent).revocation_reason) == (REVOKED, reason)
    assert scene.recorded(RENEW, intent.serial_number) == []
    if reason == KEY_COMPROMISE:
        assert refused(holder.RenewCertificate, request).reason == "KEY_BLOCKED"
    else:
        assert holder.RenewCertificate(request).certificate.serial_number != intent.serial_number


def test_renewal_and_compromise_of_the_held_key_at_once_do_not_block_each_other(scene: IssuerScene) -> None:
    for _ in range(8):
        held = enrolled(scene, TAX, key := p256_key())
        tls = scene.directory / held.serial_number
        write_tls(tls, held.certificate_chain, key, scene.hierarchy.root.certificate)
        holder, lan = scene.certificates_by(tls), scene.certificates(Kind.OPERATOR, "lan")
        with ThreadPoolExecutor(9) as pool:
            renewals = [pool.submit(outcome, holder.RenewCertificate, renewal(csr_for(p256_key()))) for _ in range(8)]
            revoked = pool.submit(lan.RevokeCertificate, revocation(held, KEY_COMPROMISE))
            assert revoked.result().certificates[0].revocation_reason == KEY_COMPROMISE
            assert {each.result() for each in renewals} <= {"answered", "CERTIFICATE_REVOKED", "KEY_BLOCKED"}


def test_whoever_issues_during_a_rollover_finds_the_next_authority(scene: IssuerScene) -> None:
    made = lay_ready(scene)
    prepare(scene, made.key_id)
    house, began = scene.issuer.house, Event()
    database = house.database(lambda connection: Ledger(connection, house.log_of(connection)))

    def active() -> str:
        with database.transaction() as tx:
            began.set()
            found = tx.authorities.active(HOST)
            return found.key_id if found else ""

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as tx:
            former, following = tx.authorities.active(HOST), tx.authorities.find(made.key_id)
            assert former is not None
            assert following is not None
            now = datetime.now(UTC)
            tx.authorities.put(former.moved(AuthorityState.TAINTED, now))
            tx.authorities.put(following.moved(AuthorityState.ACTIVE, now))
            waiting = pool.submit(active)
            wait_until(lambda: scene.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)])
        assert waiting.result() == made.key_id


def test_authority_that_is_over_issues_nothing_not_even_for_minutes(scene: IssuerScene) -> None:
    scene.rows("UPDATE authorities SET expire_time = now() - interval '1 minute' WHERE host = :h RETURNING 1", h=HOST)
    before = scene.rows("SELECT count(*) FROM certificates WHERE application_id IS NOT NULL")
    refusal = refused(scene.certificates(Kind.AGENCY, TAX).RenewCertificate, renewal(csr_for(p256_key())))
    assert (refusal.reason, refusal.metadata) == ("AUTHORITY_MISSING", {"kind": "agency"})
    assert scene.rows("SELECT count(*) FROM certificates WHERE application_id IS NOT NULL") == before


def test_authority_that_is_not_valid_yet_is_not_activated(scene: IssuerScene) -> None:
    begin = datetime.now(UTC) + timedelta(days=1)
    made = lay_ready(scene, validity=Validity(begin, begin + timedelta(days=30)))
    prepare(scene, made.key_id)
    refusal = refused(scene.authorities().ActivateAuthority, activation(made.key_id))
    assert (refusal.reason, refusal.metadata["state"]) == ("STATE_NOT_ALLOWED", "NOT_YET_VALID")


def test_repeat_of_a_late_renewal_gets_its_certificate_though_another_was_enabled_since(scene: IssuerScene) -> None:
    expired = held(scene, TAX)
    request = expired.request()
    scene.enrolments().EnableExpiredRenewal(enabling(expired))
    first = scene.door.RenewExpired(request).certificate
    scene.enrolments().EnableExpiredRenewal(enabling(expired))
    assert scene.door.RenewExpired(request).certificate == first
    assert scene.door.RenewExpired(expired.request()).certificate != first, "the second renewal is not used up by it"
    assert refused(scene.door.RenewExpired, expired.request()).reason == "RENEWAL_NOT_ENABLED"
