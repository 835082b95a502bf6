"""npd-client renews its certificate by itself: in time, with a new key, without a failed call, whatever goes wrong."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from npd.issuer.v1 import certificate_pb2
from npd.sharing.v1 import lookup_pb2, lookup_pb2_grpc
from npd_client import Client, Credentials, Refusal, RotatingChannel, Timing, Unreachable
from npd_client.pending import Pending, remove_pending
from npd_client.renewal import EnrolmentPending, ask_window, renew, successor_request, take_successor
from npd_client.renewer import RenewalTiming, Renewer
from npd_client.store import DirectoryBusy, DirectoryKept, locked, read_bundle
from npd_client.taking import LONGEST_CHAIN, Answer, AnswerStale, AnswerUnfit
from npd_client.trust import read_roots
from npd_pki.keys import generate_p256_key
from npd_pki.signed_bundle import sign_trust_bundle
from npd_pki.validity import Validity
from tests.certificates import TestPki, expired, not_yet_valid
from tests.stand_in_issuer import Issuer, issued, serving

ENV = "npd.test"
PATIENCE = 20.0
QUICK = RenewalTiming(poll=0.05, first_pause=0.05, longest_pause=0.2, call=10.0)
NOW = (timedelta(hours=-2), timedelta(hours=-1))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    pause, give_up = threading.Event(), monotonic() + PATIENCE
    while not condition():
        assert monotonic() < give_up, f"not in time: {what}"
        pause.wait(0.01)


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


@pytest.fixture
def issuer(pki: TestPki) -> Issuer:
    return Issuer(pki)  # type: ignore[abstract]  # it serves what npd-client calls


@pytest.fixture
def address(issuer: Issuer) -> Iterator[str]:
    with serving(issuer, asks_certificate=True) as address:
        yield address


@pytest.fixture
def directory(pki: TestPki, tmp_path: Path) -> Path:
    return pki.agency("tax", "core").write(tmp_path / "tax")


@pytest.fixture
def channel(address: str, directory: Path) -> Iterator[RotatingChannel]:
    with RotatingChannel(address, directory, timing=Timing(poll=3600, ready=PATIENCE)) as channel:
        yield channel


def serial_of(directory: Path) -> int:
    return Credentials.from_directory(directory).leaf.serial_number


def test_no_call_fails_while_twenty_renewals_happen(issuer: Issuer, address: str, directory: Path) -> None:
    done, errors, answered = threading.Event(), [], [0] * 8
    issuer.window = NOW
    with Client({"issuer": address, "sharing": address}, directory, renewal=QUICK) as client, ExitStack() as stack:

        def load(worker: int) -> None:
            stub = lookup_pb2_grpc.LookupServiceStub(client.channel("sharing"))
            while not done.is_set():
                try:
                    stub.GetCitizen(lookup_pb2.GetCitizenRequest())
                    answered[worker] += 1
                except Exception as error:
                    errors.append(error)

        for worker in range(len(answered)):
            thread = threading.Thread(target=load, args=(worker,))
            thread.start()
            stack.callback(thread.join)
        stack.callback(done.set)
        wait_until(lambda: len(issuer.request_ids) >= 20, "twenty renewals")
        last = serial_of(directory)
        wait_until(lambda: last in issuer.serials or serial_of(directory) != last, "a call with a renewed certificate")
    assert errors == []
    assert min(answered) > 0
    assert len(set(issuer.serials)) >= 15, "the calls were made with the renewed certificates"
    assert len(set(issuer.request_ids)) == len(issuer.request_ids)


def test_a_renewal_makes_a_new_key_and_keeps_the_identity(
    issuer: Issuer, channel: RotatingChannel, directory: Path
) -> None:
    before = Credentials.from_directory(directory)
    taken = renew(directory, channel)
    after = Credentials.from_directory(directory)
    assert taken.serial_number == f"{after.leaf.serial_number:x}"
    assert (taken.identity, taken.expire_time) == (before.identity, after.expire_time)
    assert after.files.private_key != before.files.private_key
    assert after.files.root_certificates == before.files.root_certificates
    assert Pending.read(directory) is None
    assert channel.reload()
    assert ask_window(channel).start_time > datetime.now(UTC)
    assert issuer.serials[-1] == after.leaf.serial_number


@pytest.mark.parametrize("kind", ["p384", "rsa"])
def test_the_type_of_the_key_stays(pki: TestPki, address: str, tmp_path: Path, kind: str) -> None:
    key: Any = (
        ec.generate_private_key(ec.SECP384R1()) if kind == "p384" else rsa.generate_private_key(65537, key_size=3072)
    )
    place = pki.agency("tax", "core").write(tmp_path / kind)
    (place / "tls.crt").write_bytes(issued(pki, "spiffe://agency.npd.test/tax/core", key.public_key()))
    (place / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with RotatingChannel(address, place) as channel:
        renew(place, channel)
    renewed: Any = Credentials.from_directory(place).leaf.public_key()
    assert (type(renewed), renewed.key_size) == (type(key.public_key()), key.key_size)


def test_a_lost_answer_is_asked_for_again_with_the_very_same_request(
    issuer: Issuer, channel: RotatingChannel, directory: Path
) -> None:
    before, issuer.lost_answers = serial_of(directory), 1
    with pytest.raises(Unreachable):
        renew(directory, channel)
    pending = Pending.read(directory)
    assert pending is not None
    assert serial_of(directory) == before
    assert (directory / "pending" / "tls.key").stat().st_mode & 0o777 == 0o600
    renew(directory, channel)
    assert issuer.request_ids == [pending.request_id] * 2
    assert Credentials.from_directory(directory).files.private_key == pending.private_key


def test_what_was_taken_before_a_crash_is_not_taken_for_a_request_under_way(
    issuer: Issuer, channel: RotatingChannel, directory: Path
) -> None:
    issuer.lost_answers = 1
    with pytest.raises(Unreachable):
        renew(directory, channel)
    pending = Pending.read(directory)
    assert pending is not None
    renew(directory, channel)
    pending.write(directory)  # as if the process had ended before it forgot the request
    channel.reload()
    renew(directory, channel)
    assert len(set(issuer.request_ids)) == 2


def chains(pki: TestPki) -> dict[str, Callable[[str, Any], bytes]]:
    """Answers that must not be taken."""
    foreign = TestPki(ENV)
    return {
        "another key": lambda uri, _: issued(pki, uri, generate_p256_key().public_key()),
        "another identity": lambda uri, key: issued(pki, "spiffe://agency.npd.test/tax/other", key),
        "expired": lambda uri, key: issued(pki, uri, key, validity=expired()),
        "of tomorrow": lambda uri, key: issued(pki, uri, key, validity=not_yet_valid()),
        "a foreign root": lambda uri, key: issued(foreign, uri, key),
        "no chain": lambda uri, key: issued(pki, uri, key).split(b"-----END")[0],
        "without its issuer": lambda uri, key: (
            issued(pki, uri, key).partition(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n"
        ),
        "nothing": lambda uri, key: b"",
        "older": lambda uri, key: issued(
            pki,
            uri,
            key,
            validity=Validity(datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) + timedelta(days=9)),
        ),
    }


def test_what_was_revoked_before_it_was_taken_is_not_taken(directory: Path) -> None:
    answer = Answer.of(
        certificate_pb2.Certificate(state=certificate_pb2.CERTIFICATE_STATE_REVOKED, certificate_chain=b"any"), b""
    )
    current = Credentials.from_directory(directory)
    pending = successor_request(directory, current.leaf)
    with pytest.raises(AnswerUnfit, match="revoked"):
        take_successor(directory, pending, answer, current.files.root_certificates, replaces=current.leaf)
    assert Pending.read(directory) is None, "the next request is another one"
    assert Credentials.from_directory(directory).digest == current.digest


@pytest.mark.parametrize("name", list(chains(TestPki(ENV))))
def test_an_unfit_answer_changes_nothing(
    pki: TestPki, issuer: Issuer, channel: RotatingChannel, directory: Path, name: str
) -> None:
    before = Credentials.from_directory(directory).digest
    issuer.issue = chains(pki)[name]
    with pytest.raises(AnswerStale if name == "older" else AnswerUnfit):
        renew(directory, channel)
    assert Credentials.from_directory(directory).digest == before
    assert (Pending.read(directory) is not None) == (name == "of tomorrow"), "a slow clock mends; the others do not"
    issuer.issue = None
    if name != "of tomorrow":
        renew(directory, channel)
        assert Credentials.from_directory(directory).digest != before


def test_a_refused_key_is_not_sent_again(issuer: Issuer, channel: RotatingChannel, directory: Path) -> None:
    issuer.refusals = [
        (grpc.StatusCode.FAILED_PRECONDITION, "KEY_BLOCKED"),
        (grpc.StatusCode.PERMISSION_DENIED, "SYSTEM_SUSPENDED"),
    ]
    with pytest.raises(Refusal, match="KEY_BLOCKED"):
        renew(directory, channel)
    assert Pending.read(directory) is None
    with pytest.raises(Refusal, match="SYSTEM_SUSPENDED"):
        renew(directory, channel)
    suspended = Pending.read(directory)
    renew(directory, channel)
    assert suspended is not None
    assert issuer.request_ids == [suspended.request_id]


def test_new_roots_are_learned_from_a_root_trusted_already(
    pki: TestPki, issuer: Issuer, channel: RotatingChannel, directory: Path
) -> None:
    root, following = pki.hierarchy.root, TestPki(ENV).hierarchy.root.certificate
    bundle = sign_trust_bundle(root, 2, [root.certificate, following])
    issuer.trust_bundle = bundle
    renew(directory, channel)
    assert read_roots((directory / "ca.crt").read_bytes()) == (root.certificate, following)
    assert read_bundle(directory) == bundle
    for sequence in (1, 2):
        issuer.trust_bundle = sign_trust_bundle(root, sequence, [root.certificate])
        channel.reload()
        renew(directory, channel)
        assert len(read_roots((directory / "ca.crt").read_bytes())) == 2, "an older list brings no root back or away"
        assert read_bundle(directory) == bundle


def test_an_unbelievable_trust_bundle_costs_no_renewal(
    pki: TestPki, issuer: Issuer, channel: RotatingChannel, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roots, foreign = (directory / "ca.crt").read_bytes(), TestPki(ENV).hierarchy.root
    elsewhere = TestPki("other.test").hierarchy.root
    both = roots + elsewhere.certificate.public_bytes(Encoding.PEM)
    for bundle in (
        b"garbage",
        sign_trust_bundle(foreign, 9, [foreign.certificate]),
        sign_trust_bundle(pki.hierarchy.root, 9, [foreign.certificate]),  # would leave the new certificate without root
    ):
        caplog.clear()
        issuer.trust_bundle = bundle
        before = serial_of(directory)
        renew(directory, channel)
        channel.reload()
        assert serial_of(directory) != before
        assert (directory / "ca.crt").read_bytes() == roots
        assert "trust bundle" in caplog.text
    (directory / "ca.crt").write_bytes(both)
    issuer.trust_bundle = sign_trust_bundle(elsewhere, 9, [elsewhere.certificate])
    renew(directory, channel)
    assert (directory / "ca.crt").read_bytes() == both, "a root of another environment says nothing about ours"


def test_it_is_renewed_in_the_window_and_not_before(issuer: Issuer, address: str, directory: Path) -> None:
    before = serial_of(directory)
    with Client({"issuer": address, "registry": address}, directory, renewal=QUICK) as client:
        client.who_am_i()
        wait_until(lambda: len(issuer.serials) >= 4, "the window was asked for several times")
        assert serial_of(directory) == before
        issuer.window = (timedelta(0), timedelta(seconds=1))  # an incident: it moves with the clock
        issuer.is_urgent = True
        wait_until(lambda: serial_of(directory) != before, "renewed")


def test_who_opts_out_or_knows_no_issuer_asks_for_nothing(issuer: Issuer, address: str, directory: Path) -> None:
    issuer.window, before = NOW, set(threading.enumerate())
    with (
        Client({"issuer": address, "registry": address}, directory, renew=False) as opted,
        Client({"registry": address}, directory) as without,
        Client(address, directory) as one,
    ):
        for client in (opted, without, one):
            client.who_am_i()
        assert "npd-client-renewal" not in {thread.name for thread in set(threading.enumerate()) - before}
    assert issuer.request_ids == []


def test_a_failure_is_logged_once_and_costs_the_application_nothing(
    issuer: Issuer, address: str, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.window = NOW
    issuer.refusals = [(grpc.StatusCode.NOT_FOUND, "CERTIFICATE_UNKNOWN")] * 4
    renewed: list[bool] = []
    with RotatingChannel(address, directory) as channel, caplog.at_level(logging.INFO, "npd_client.renewer"):
        before = serial_of(directory)
        renewer = Renewer(directory, lambda: channel, promoted=lambda: renewed.append(channel.reload()), timing=QUICK)
        renewer.start()
        wait_until(lambda: renewed == [True], "renewed in the end")
        renewer.close()
        renewer.join(PATIENCE)
    assert serial_of(directory) != before
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "npd-client enrol" in warnings[0]
    key = Credentials.from_directory(directory).files.private_key.split(b"\n")[1].decode()
    assert key not in caplog.text


def test_what_would_shut_every_room_is_not_taken(
    pki: TestPki, issuer: Issuer, channel: RotatingChannel, directory: Path
) -> None:
    roots, files = (directory / "ca.crt").read_bytes(), Credentials.from_directory(directory).digest
    many = roots * (LONGEST_CHAIN // len(roots) + 1)
    issuer.issue = lambda uri, key: issued(pki, uri, key) + many
    with pytest.raises(AnswerUnfit, match="too long"):
        renew(directory, channel)
    issuer.issue = lambda uri, key: issued(pki, uri, key, others=["spiffe://agency.npd.test/police/core"])
    with pytest.raises(AnswerUnfit, match="exactly one identity"):
        renew(directory, channel)
    assert Credentials.from_directory(directory).digest == files
    issuer.issue = lambda uri, key: b"a remark\n" + issued(pki, uri, key) + roots * 6
    renew(directory, channel)
    assert channel.reload(), "the longest that is taken gets through a handshake"
    assert (directory / "tls.crt").read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("asked", [3600, 315_576_000_000])
def test_no_issuer_puts_renewals_off_for_ever(
    issuer: Issuer, address: str, directory: Path, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.window = NOW
    issuer.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_EXCEEDED")]
    issuer.retry_after = asked
    before = serial_of(directory)
    with Client({"issuer": address, "registry": address}, directory, renewal=QUICK) as client:
        client.channel("registry")
        wait_until(lambda: serial_of(directory) != before, "renewed after the longest pause")


def test_no_window_lasts_into_the_last_tenth_of_the_certificate(
    issuer: Issuer, channel: RotatingChannel, directory: Path
) -> None:
    leaf = Credentials.from_directory(directory).leaf
    latest = leaf.not_valid_after_utc - (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 10
    for told in ((timedelta(0), timedelta(days=9999)), (timedelta(days=9999), timedelta(days=99999))):
        issuer.window = told
        window = ask_window(channel)
        assert window.start_time <= window.end_time == latest


def test_who_reads_a_request_while_it_ends_does_not_take_it_for_a_broken_one(directory: Path) -> None:
    done, errors = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            try:
                Pending.read(directory)
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        Pending.made("p256").write(directory)
        remove_pending(directory)
    done.set()
    reader.join()
    assert errors == []


def test_a_clock_that_is_far_too_fast_does_not_renew_without_end(issuer: Issuer, address: str, directory: Path) -> None:
    """To it every window is past. An incident does not wait for the rest."""
    issuer.window = NOW
    timing = RenewalTiming(poll=0.02, longest_pause=3600)
    with Client({"issuer": address, "registry": address}, directory, renewal=timing) as client:
        client.who_am_i()
        wait_until(lambda: issuer.serials.count(serial_of(directory)) >= 5, "it asked on with the renewed certificate")
        assert len(issuer.request_ids) == 1
        issuer.window, issuer.is_urgent = (timedelta(0), timedelta(seconds=1)), True
        wait_until(lambda: len(issuer.request_ids) >= 2, "renewed again")


def test_a_directory_that_kubernetes_fills_is_left_to_it(
    pki: TestPki, issuer: Issuer, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.window = NOW
    pki.agency("tax", "core").write(tmp_path / "..2026_11_24_01_07_06.123")
    (tmp_path / "..data").symlink_to("..2026_11_24_01_07_06.123")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    with Client({"issuer": address, "registry": address}, tmp_path, renewal=QUICK) as client:
        client.who_am_i()
        wait_until(lambda: "not renewed from here" in caplog.text, "said once")
        with pytest.raises(DirectoryKept):
            renew(tmp_path, client.channel("issuer"))
    assert issuer.request_ids == []


def test_one_process_renews_and_the_other_sees_it(issuer: Issuer, address: str, directory: Path) -> None:
    issuer.window = NOW
    issuer.issue = lambda uri, key: late(issuer, uri, key)
    with (
        Client({"issuer": address, "registry": address}, directory, renewal=QUICK) as one,
        Client({"issuer": address, "registry": address}, directory, renewal=QUICK) as other,
    ):
        before = serial_of(directory)
        one.who_am_i()
        other.who_am_i()
        wait_until(lambda: serial_of(directory) != before, "renewed")
        serial = serial_of(directory)
        for client in (one, other):
            wait_until(lambda c=client: c.channel("issuer").credentials.leaf.serial_number == serial, "taken by both")  # type: ignore[misc]
    assert len(set(issuer.request_ids)) == 1


def late(issuer: Issuer, uri: str, key: Any) -> bytes:
    """After this one renewal no other is due."""
    issuer.window = (timedelta(days=1), timedelta(days=2))
    return issued(issuer.pki, uri, key)


def test_who_finds_the_directory_locked_waits_or_says_so(channel: RotatingChannel, directory: Path) -> None:
    with locked(directory), pytest.raises(DirectoryBusy, match="renewing"):
        renew(directory, channel, patience=0.0)


def test_an_enrolment_under_way_is_not_taken_for_a_renewal(channel: RotatingChannel, directory: Path) -> None:
    replace(Pending.made("p256"), token="secret").write(directory)
    with pytest.raises(EnrolmentPending, match="--resume"):
        renew(directory, channel)
    pending = Pending.read(directory)
    assert pending is not None
    assert pending.token == "secret"
    assert "secret" not in repr(pending)


def test_a_forgotten_client_renews_no_more(issuer: Issuer, address: str, directory: Path) -> None:
    before = set(threading.enumerate())
    client = Client({"issuer": address, "registry": address}, directory, renewal=QUICK)
    client.who_am_i()
    wait_until(lambda: len(issuer.serials) >= 2, "its renewer asks")
    (renewer,) = (one for one in set(threading.enumerate()) - before if one.name == "npd-client-renewal")
    del client
    wait_until(lambda: not renewer.is_alive(), "the thread has ended")


def test_what_root_renews_its_owner_reads(channel: RotatingChannel, directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in (directory, *directory.iterdir()):
        os.chown(path, 65534, 65534)
    renew(directory, channel)
    owners = {path.stat().st_uid for path in directory.rglob("*")}
    assert owners == {65534}
    assert (directory / "tls.key").stat().st_mode & 0o777 == 0o600
