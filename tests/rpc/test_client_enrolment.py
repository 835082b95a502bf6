"""npd-client gets a first certificate at the issuer's door, and a successor for an expired one; no token is lost."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from npd_client import Credentials, Refusal, RotatingChannel, Unreachable, taking
from npd_client.cli.app import app
from npd_client.enrolment import (
    AnotherPending,
    ApplicationEnded,
    DirectoryTaken,
    NotExpired,
    NothingPending,
    TokenMissing,
    ask_status,
    enrol,
    renew_expired,
    resume,
)
from npd_client.pending import KeyTypeUnknown, Pending, RequestMalformed
from npd_client.renewal import renew
from npd_client.taking import AnswerUnfit
from npd_client.trust import RootsMalformed
from npd_pki.keys import private_key_pem
from npd_pki.trust_bundle import certificates_pem
from tests.certificates import TestPki, expired
from tests.stand_in_issuer import Issuer, issued, serving

ENV = "npd.test"
TOKEN = "one-time-token"


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


@pytest.fixture
def issuer(pki: TestPki) -> Issuer:
    return Issuer(pki)  # type: ignore[abstract]  # it serves what npd-client calls


@pytest.fixture
def door(issuer: Issuer) -> Iterator[str]:
    with serving(issuer, asks_certificate=False) as address:
        yield address


@pytest.fixture
def roots(pki: TestPki) -> bytes:
    return certificates_pem(pki.roots)


@pytest.mark.parametrize("key_type", ["p256", "p384", "rsa3072"])
def test_a_token_becomes_a_certificate_whose_key_never_left(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path, key_type: str
) -> None:
    done = enrol(door, TOKEN, tmp_path / "new", roots=roots, key_type=key_type)
    own = Credentials.from_directory(tmp_path / "new")
    assert done.taken is not None
    assert (done.state, done.taken.identity) == ("ISSUED", own.identity)
    assert own.identity == "spiffe://agency.npd.test/tax/core"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert own.files.root_certificates == roots
    assert Pending.read(tmp_path / "new") is None
    assert TOKEN not in "".join(path.read_text() for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert all(b"PRIVATE" not in csr for csr in issuer.tokens.values())


def test_a_door_of_another_root_is_not_trusted_at_first_sight(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    foreign = certificates_pem(TestPki(ENV).roots)
    with pytest.raises(Unreachable, match=r"ca\.crt"):
        enrol(door, TOKEN, tmp_path, roots=foreign)
    assert issuer.tokens == {}, "the token went to nobody"
    enrol(door, TOKEN, tmp_path, roots=roots)
    assert Credentials.from_directory(tmp_path).files.root_certificates == roots


def test_a_lost_answer_does_not_lose_the_token(issuer: Issuer, door: str, roots: bytes, tmp_path: Path) -> None:
    issuer.lost_answers = 1
    with pytest.raises(Unreachable):
        enrol(door, TOKEN, tmp_path, roots=roots)
    assert not (tmp_path / "tls.crt").exists()
    with pytest.raises(AnotherPending, match="--resume"):
        enrol(door, "another token", tmp_path, roots=roots)
    enrol(door, TOKEN, tmp_path, roots=roots)
    assert len(set(issuer.request_ids)) == 1
    Credentials.from_directory(tmp_path)


def test_resuming_after_a_lost_answer_finds_the_certificate(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    issuer.lost_answers = 1
    with pytest.raises(Unreachable):
        enrol(door, TOKEN, tmp_path, roots=roots)
    assert resume(tmp_path).taken is not None
    Credentials.from_directory(tmp_path)
    with pytest.raises(NothingPending):
        resume(tmp_path)


def test_resuming_sends_what_never_arrived(issuer: Issuer, door: str, roots: bytes, tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        enrol("localhost:1", TOKEN, tmp_path, roots=roots)
    assert resume(tmp_path, door=door).taken is not None
    assert list(issuer.tokens) == [TOKEN]


def test_an_application_that_waits_is_asked_for_again(issuer: Issuer, door: str, roots: bytes, tmp_path: Path) -> None:
    issuer.is_pending = True
    assert enrol(door, TOKEN, tmp_path, roots=roots).taken is None
    assert ask_status(tmp_path).state == "PENDING"
    assert resume(tmp_path).state == "PENDING"
    assert not (tmp_path / "tls.crt").exists()
    issuer.is_pending = False
    assert ask_status(tmp_path).state == "ISSUED"
    assert not (tmp_path / "tls.crt").exists(), "asking changes nothing"
    assert resume(tmp_path).taken is not None
    Credentials.from_directory(tmp_path)


def test_a_denied_application_says_why_and_leaves_nothing(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    issuer.is_pending = True
    enrol(door, TOKEN, tmp_path, roots=roots)
    issuer.denied = "the key was not compared"
    with pytest.raises(ApplicationEnded, match="the key was not compared"):
        resume(tmp_path)
    assert Pending.read(tmp_path) is None


@pytest.mark.parametrize("reason", ["TOKEN_UNKNOWN", "TOKEN_EXPIRED", "TOKEN_USED"])
def test_a_refused_token_leaves_the_way_free_for_the_next(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path, reason: str
) -> None:
    issuer.refusals = [(grpc.StatusCode.FAILED_PRECONDITION, reason)]
    with pytest.raises(Refusal, match=reason):
        enrol(door, TOKEN, tmp_path, roots=roots)
    enrol(door, "the next token", tmp_path, roots=roots)
    Credentials.from_directory(tmp_path)


def test_a_busy_door_keeps_the_request(issuer: Issuer, door: str, roots: bytes, tmp_path: Path) -> None:
    issuer.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_EXCEEDED")]
    with pytest.raises(Refusal, match="RATE_EXCEEDED"):
        enrol(door, TOKEN, tmp_path, roots=roots)
    kept = Pending.read(tmp_path)
    assert kept is not None
    enrol(door, TOKEN, tmp_path, roots=roots)
    assert issuer.request_ids == [kept.request_id]


def own_request(key: Any) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_a_key_kept_elsewhere_stays_there(door: str, roots: bytes, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    enrol(door, TOKEN, tmp_path, roots=roots, csr=own_request(key))
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {"tls.crt", "ca.crt", "..data"}
    leaf = x509.load_pem_x509_certificates((tmp_path / "tls.crt").read_bytes())[0]
    assert leaf.public_key() == key.public_key()


def test_a_key_of_ones_own_in_the_directory_stays(door: str, roots: bytes, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "tls.key").write_bytes(private_key_pem(key))
    (tmp_path / "tls.key").chmod(0o600)
    enrol(door, TOKEN, tmp_path, roots=roots, csr=own_request(key))
    assert Credentials.from_directory(tmp_path).files.private_key == private_key_pem(key)


@pytest.mark.parametrize("broken", [b"-----BEGIN CERTIFICATE REQUEST-----\n", b"x", "tampered"])
def test_a_signing_request_that_is_not_its_keys_is_refused_before_the_token_leaves(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path, broken: bytes | str
) -> None:
    if isinstance(broken, str):
        request = x509.load_pem_x509_csr(own_request(ec.generate_private_key(ec.SECP256R1())))
        der = bytearray(request.public_bytes(Encoding.DER))
        der[-1] ^= 1
        broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(RequestMalformed):
        enrol(door, TOKEN, tmp_path, roots=roots, csr=broken)
    assert issuer.tokens == {}


def test_wrong_use_is_refused_before_the_token_leaves(
    pki: TestPki, issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    with pytest.raises(RootsMalformed, match="no root"):
        enrol(door, TOKEN, tmp_path, roots=certificates_pem([pki.hierarchy.mesh.certificate]))
    with pytest.raises(KeyTypeUnknown):
        enrol(door, TOKEN, tmp_path, roots=roots, key_type="rsa1024")
    taken = pki.agency("tax", "core").write(tmp_path / "taken")
    with pytest.raises(DirectoryTaken, match="Renew it"):
        enrol(door, TOKEN, taken, roots=roots)
    assert issuer.tokens == {}
    before = Credentials.from_directory(taken).digest
    enrol(door, TOKEN, taken, roots=roots, over_existing=True)
    assert Credentials.from_directory(taken).digest != before


def test_a_key_that_waits_for_its_certificate_is_not_destroyed_untold(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    key = private_key_pem(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "tls.key").write_bytes(key)
    for csr in (b"", own_request(ec.generate_private_key(ec.SECP256R1()))):
        with pytest.raises(DirectoryTaken, match="--csr"):
            enrol(door, TOKEN, tmp_path, roots=roots, csr=csr)
    assert (tmp_path / "tls.key").read_bytes() == key
    assert issuer.tokens == {}
    enrol(door, TOKEN, tmp_path, roots=roots, over_existing=True)
    assert Credentials.from_directory(tmp_path).files.private_key != key


def test_roots_cut_off_and_no_token_are_refused_before_anything_is_written(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    with pytest.raises(RootsMalformed, match="cut off"):
        enrol(door, TOKEN, tmp_path / "new", roots=roots + roots[: len(roots) // 2])
    with pytest.raises(TokenMissing):
        enrol(door, "", tmp_path / "new", roots=roots)
    assert not (tmp_path / "new").exists()
    assert issuer.tokens == {}


def test_who_was_revoked_in_a_renewal_enrols_again(
    pki: TestPki, issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    """The renewal under way is as useless as its certificate, and in nobody's way."""
    place = pki.agency("tax", "core").write(tmp_path / "tax")
    issuer.refusals = [(grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")]
    with (
        serving(issuer, asks_certificate=True) as address,
        RotatingChannel(address, place) as channel,
        pytest.raises(Refusal, match="CERTIFICATE_REVOKED"),
    ):
        renew(place, channel)
    with pytest.raises(DirectoryTaken, match="--replace"):
        enrol(door, TOKEN, place, roots=roots)
    enrol(door, TOKEN, place, roots=roots, over_existing=True)
    assert Pending.read(place) is None
    assert list(issuer.tokens) == [TOKEN]


def interrupted(_: object) -> None:
    raise KeyboardInterrupt


def test_an_enrolment_cut_off_at_its_very_end_does_not_stop_the_renewals(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut:
        cut.setattr(taking, "remove_pending", interrupted)
        with pytest.raises(KeyboardInterrupt):
            enrol(door, TOKEN, tmp_path, roots=roots)
    left = Pending.read(tmp_path)
    assert left is not None
    assert left.token == TOKEN
    with serving(issuer, asks_certificate=True) as address, RotatingChannel(address, tmp_path) as channel:
        renew(tmp_path, channel)
    assert Pending.read(tmp_path) is None


def test_an_unfit_certificate_is_not_taken_and_the_token_not_forgotten(
    pki: TestPki, issuer: Issuer, door: str, roots: bytes, tmp_path: Path
) -> None:
    issuer.issue = lambda uri, key: issued(TestPki(ENV), uri, key)
    with pytest.raises(AnswerUnfit):
        enrol(door, TOKEN, tmp_path, roots=roots)
    assert not (tmp_path / "tls.crt").exists()
    assert Pending.read(tmp_path) is not None


def write_expired(pki: TestPki, place: Path, key: Any) -> Path:
    place.mkdir()
    uri = "spiffe://agency.npd.test/tax/core"
    (place / "tls.crt").write_bytes(issued(pki, uri, key.public_key(), validity=expired()))
    (place / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (place / "tls.key").chmod(0o600)
    (place / "ca.crt").write_bytes(certificates_pem(pki.roots))
    return place


KEYS: dict[str, Callable[[], Any]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 3072),
}


@pytest.mark.parametrize("kind", list(KEYS))
def test_the_expired_key_signs_for_its_successor(
    pki: TestPki, issuer: Issuer, door: str, tmp_path: Path, kind: str
) -> None:
    place = write_expired(pki, tmp_path / kind, KEYS[kind]())
    old = (place / "tls.crt").read_bytes()
    taken = renew_expired(door, place)
    assert issuer.expired.certificate_chain == old
    assert Credentials.from_directory(place).expire_time == taken.expire_time
    with pytest.raises(NotExpired, match="npd-client renew"):
        renew_expired(door, place)


def test_an_expired_certificate_that_nobody_enabled_stays_and_may_ask_again(
    pki: TestPki, issuer: Issuer, door: str, tmp_path: Path
) -> None:
    place = write_expired(pki, tmp_path / "tax", KEYS["p256"]())
    issuer.refusals = [(grpc.StatusCode.PERMISSION_DENIED, "RENEWAL_NOT_ENABLED")]
    with pytest.raises(Refusal, match="RENEWAL_NOT_ENABLED"):
        renew_expired(door, place)
    kept = Pending.read(place)
    assert kept is not None
    renew_expired(door, place)
    assert issuer.request_ids == [kept.request_id]


def test_the_commands_lead_from_the_token_to_the_renewal(
    issuer: Issuer, door: str, roots: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("root.crt").write_bytes(roots)
    Path("endpoints.json").write_text(json.dumps({"door": door}))
    where = ["-d", "tax", "--endpoints", "endpoints.json"]
    issuer.is_pending = True
    waits = CliRunner().invoke(app, ["enrol", "--ca", "root.crt", *where], input=f"{TOKEN}\n")
    assert waits.exit_code == 0, waits.output
    assert "PENDING" in waits.stdout
    assert "--resume" in waits.stderr
    assert "PENDING" in CliRunner().invoke(app, ["status", "-d", "tax"]).stdout
    issuer.is_pending = False
    done = CliRunner().invoke(app, ["enrol", "--resume", "--json", "-d", "tax"])
    assert json.loads(done.stdout)["identity"] == "spiffe://agency.npd.test/tax/core"
    shown = CliRunner().invoke(app, ["status", "--json", "-d", "tax"])
    serial = json.loads(shown.stdout)["serial_number"]
    with serving(issuer, asks_certificate=True) as address:
        early = CliRunner().invoke(app, ["renew", "-d", "tax", "--address", address])
        assert (early.exit_code, "not yet" in early.stdout) == (0, True)
        now = CliRunner().invoke(app, ["renew", "--now", "--json", "-d", "tax", "--address", address])
        assert json.loads(now.stdout)["serial_number"] != serial
        issuer.window = (timedelta(hours=-1), timedelta(hours=1))
        due = CliRunner().invoke(app, ["renew", "--json", "-d", "tax", "--address", address])
        assert json.loads(due.stdout)["serial_number"] != json.loads(now.stdout)["serial_number"]
    refused = CliRunner().invoke(app, ["renew", "--expired", *where])
    assert refused.exit_code == 3
    assert "has not expired" in refused.stderr
    assert TOKEN not in waits.output + done.output
