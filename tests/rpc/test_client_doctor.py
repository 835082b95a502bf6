"""The doctor names the one thing that is wrong, in both languages, where gRPC says "Socket closed" to all of them."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from npd.issuer.v1 import door_pb2
from npd_client.cli.app import app
from npd_client.diagnosis import Check, Diagnosis, Result
from npd_client.doctor import diagnose
from npd_client.probing import Place, TargetMalformed
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.validity import Validity
from services.cli.commands import app as operators_app
from tests.certificates import CLIENT_AUTH, DAY, SERVER_AUTH, Holder, TestPki, expired, not_yet_valid
from tests.stand_in_issuer import Issuer, serving

ENV = "npd.test"
ACCEPTED = door_pb2.Explanation(finding=door_pb2.FINDING_ACCEPTED, english="Fine.", vietnamese="Tốt.")


@pytest.fixture(scope="module")
def pki() -> TestPki:
    return TestPki(ENV)


@pytest.fixture
def issuer(pki: TestPki) -> Issuer:
    return Issuer(pki, explanations=[ACCEPTED])  # type: ignore[abstract]  # it serves what npd-client calls


@pytest.fixture
def address(issuer: Issuer) -> Iterator[str]:
    with serving(issuer, asks_certificate=True) as address:
        yield address


@pytest.fixture
def door(issuer: Issuer) -> Iterator[str]:
    with serving(issuer, asks_certificate=False) as address:
        yield address


@pytest.fixture
def directory(pki: TestPki, tmp_path: Path) -> Path:
    return pki.agency("tax", "core").write(tmp_path / "tax")


def check_of(found: Diagnosis, name: str) -> Check:
    (check,) = (one for one in found.checks if one.name == name)
    return check


def results(found: Diagnosis) -> dict[str, str]:
    return {check.name: check.result.value for check in found.checks}


def failures(found: Diagnosis) -> list[str]:
    return [check.name for check in found.checks if check.result is Result.FAILED]


def test_nothing_is_wrong(address: str, door: str, directory: Path) -> None:
    found = diagnose(address, directory, door=door)
    assert set(results(found).values()) == {"ok"}, results(found)
    assert len(found.checks) == 13
    assert found.is_sound
    without = results(diagnose(address, directory))
    assert (without.pop("clock"), without.pop("server_view"), set(without.values())) == ("skipped", "skipped", {"ok"})


def exposed(place: Path) -> None:
    (place / "tls.key").chmod(0o644)


def cut(place: Path) -> None:
    (place / "tls.crt").write_bytes((place / "tls.crt").read_bytes()[:-30])


def another_key(place: Path) -> None:
    (place / "tls.key").write_bytes(private_key_pem(generate_p256_key()))


def no_intermediate(place: Path) -> None:
    first, end, _ = (place / "tls.crt").read_bytes().partition(b"-----END CERTIFICATE-----\n")
    (place / "tls.crt").write_bytes(first + end)


def no_key(place: Path) -> None:
    (place / "tls.key").unlink()


@pytest.mark.parametrize(
    ("break_it", "name", "said"),
    [
        (no_key, "files", "tls.key"),
        (exposed, "key_permissions", "chmod 600"),
        (cut, "pem", "cut off"),
        (another_key, "key_match", "not the key"),
        (no_intermediate, "chain", "append its certificate"),
    ],
)
def test_a_fault_of_the_files_is_named_and_spares_only_what_depends_on_it(
    address: str, door: str, directory: Path, break_it: Callable[[Path], None], name: str, said: str
) -> None:
    break_it(directory)
    found = diagnose(address, directory, door=door)
    assert failures(found) == [name]
    check = check_of(found, name)
    assert said in check.found.english
    assert check.found.vietnamese
    assert check.found.vietnamese != check.found.english
    after = results(found)
    assert (after["name"], after["reachability"], after["call"]) == ("ok", "ok", "skipped")
    assert after["server_view"] == ("skipped" if name in ("files", "pem") else "ok")


@pytest.mark.parametrize(
    ("broken", "name", "said"),
    [
        ({"validity": expired()}, "validity", "expired on"),
        ({"validity": not_yet_valid()}, "validity", "clock"),
        ({"purposes": [SERVER_AUTH]}, "usage", "not for TLS clients"),
        ({"is_ca": True}, "usage", "certificate of a CA"),
    ],
)
def test_a_bad_certificate_is_named(
    pki: TestPki, address: str, tmp_path: Path, broken: Any, name: str, said: str
) -> None:
    found = diagnose(address, pki.agency("tax", "core", **broken).write(tmp_path))
    assert failures(found) == [name]
    assert said in check_of(found, name).found.english


def test_a_certificate_near_its_end_is_a_warning(pki: TestPki, address: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    found = diagnose(
        address, pki.agency("tax", "core", validity=Validity(now - 7 * DAY, now + 3 * DAY)).write(tmp_path)
    )
    assert results(found)["validity"] == "warning"
    assert "npd-client renew" in check_of(found, "validity").remedy.english
    assert found.is_sound


@pytest.mark.parametrize(
    ("ahead", "result", "said"),
    [(30, "ok", ""), (120, "warning", "slow"), (-120, "warning", "fast"), (600, "failed", "slow")],
)
def test_the_clock_is_compared_with_the_meshs(
    issuer: Issuer, address: str, door: str, directory: Path, ahead: int, result: str, said: str
) -> None:
    issuer.ahead = timedelta(seconds=ahead)
    found = diagnose(address, directory, door=door)
    assert results(found)["clock"] == result
    assert said in check_of(found, "clock").found.english
    assert results(found)["call"] == "ok", "a wrong clock alone does not spare the call"


def test_an_address_that_is_none(directory: Path) -> None:
    found = diagnose("no-such-host.invalid:7005", directory)
    assert failures(found) == ["name"]
    assert found.is_only_unreachable
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = diagnose(f"127.0.0.1:{port}", directory)
    assert failures(found) == ["reachability"]
    assert found.is_only_unreachable
    for malformed in ("localhost", "localhost:", ":7005", "localhost:0", "localhost:x", "localhost:99999"):
        with pytest.raises(TargetMalformed, match="HOST:PORT"):
            diagnose(malformed, directory)
    assert str(Place.of("dns:///sharing.npd.gov.vn:7005")) == "sharing.npd.gov.vn:7005"
    assert Place.of("[::1]:7005").host == "::1"


@contextmanager
def tls_server(holder: Holder, place: Path, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[str]:
    """A server of Python's own with a given certificate."""
    holder.write(place)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(place / "tls.crt", place / "tls.key")

    def shake(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with answering(shake) as address:
        yield address


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server."""
    listener = socket.create_server(("localhost", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                with connection:
                    answer(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_what_is_wrong_with_the_servers_certificate_is_told_apart(
    pki: TestPki, directory: Path, tmp_path: Path
) -> None:
    servers = {
        "expired": pki.room("sharing", validity=expired()),
        "not valid yet": pki.room("sharing", validity=not_yet_valid()),
        "does not name localhost": pki.room("sharing", dns_names=["other.test"]),
        "root that your ca.crt does not hold": TestPki(ENV).room("sharing"),
        "client's certificate": pki.room("sharing", purposes=[CLIENT_AUTH]),
    }
    for said, holder in servers.items():
        with tls_server(holder, tmp_path / said.replace(" ", "-")) as address:
            found = diagnose(address, directory)
        check = check_of(found, "server_certificate")
        assert (failures(found), said in check.found.english) == (["server_certificate"], True), check
        assert check.remedy.vietnamese
        assert results(found)["call"] == "skipped"
    with tls_server(pki.room("sharing"), tmp_path / "old", ssl.TLSVersion.TLSv1_2) as address:
        assert "TLS 1.3" in check_of(diagnose(address, directory), "server_certificate").found.english


def test_what_speaks_no_tls_is_recognised(directory: Path) -> None:
    def plain(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(4096)

    for answer in (plain, lambda _: None):
        with answering(answer) as address:
            assert "does not speak TLS" in check_of(diagnose(address, directory), "server_certificate").found.english


def test_the_door_is_no_room(door: str, directory: Path) -> None:
    found = diagnose(door, directory)
    assert failures(found) == ["server_certificate"]
    assert "issuer's door" in check_of(found, "server_certificate").found.english


def test_a_server_that_breaks_the_handshake_off_is_not_said_to_speak_no_tls(directory: Path) -> None:
    alerts = {bytes.fromhex("15030300020278"): "no application protocol", bytes.fromhex("15030300020228"): "handshake"}
    for alert, said in alerts.items():

        def refuse(connection: socket.socket, alert: bytes = alert) -> None:
            with suppress(OSError):
                connection.recv(4096)
                connection.sendall(alert)
                connection.recv(4096)

        with answering(refuse) as address:
            told = check_of(diagnose(address, directory), "server_certificate").found.english
        assert ("speaks TLS" in told, said in told) == (True, True), told


def test_what_the_server_says_is_passed_on(issuer: Issuer, address: str, door: str, directory: Path) -> None:
    issuer.refusals = [(grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")]
    issuer.explanations = [
        door_pb2.Explanation(
            finding=door_pb2.FINDING_REVOKED, english="It was revoked. Enrol again.", vietnamese="Đã bị thu hồi."
        )
    ]
    found = diagnose(address, directory, door=door)
    assert failures(found) == ["call", "server_view"]
    assert "CERTIFICATE_REVOKED" in check_of(found, "call").found.english
    assert check_of(found, "server_view").found == ("It was revoked. Enrol again.", "Đã bị thu hồi.")
    assert not found.is_only_unreachable


def test_a_certificate_that_the_server_does_not_trust_is_explained_by_the_door(
    pki: TestPki, issuer: Issuer, address: str, door: str, tmp_path: Path
) -> None:
    """The very case in which gRPC says nothing: our ca.crt trusts both roots, the server one."""
    foreign = TestPki(ENV)
    place = foreign.agency("tax", "core").write(tmp_path)
    with (place / "ca.crt").open("ab") as bundle:
        bundle.write((pki.agency("tax", "core").write(tmp_path / "ours") / "ca.crt").read_bytes())
    issuer.explanations = [door_pb2.Explanation(finding=door_pb2.FINDING_ROOT_FOREIGN, english="Foreign.")]
    found = diagnose(address, place, door=door)
    assert failures(found) == ["call", "server_view"]
    assert check_of(found, "server_view").found.english == "Foreign."


def test_a_renewal_that_is_urgent_is_a_warning(issuer: Issuer, address: str, door: str, directory: Path) -> None:
    issuer.explanations = [door_pb2.Explanation(finding=door_pb2.FINDING_RENEW_NOW, english="Renew.")]
    assert results(diagnose(address, directory, door=door))["server_view"] == "warning"


def test_a_door_that_does_not_answer_is_no_fault_of_the_connection(address: str, directory: Path) -> None:
    found = diagnose(address, directory, door="localhost:1")
    assert (found.is_sound, results(found)["server_view"], results(found)["clock"]) == (True, "warning", "skipped")


def test_the_commands_print_it_and_exit_with_what_a_script_needs(
    address: str, door: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(json.dumps({"registry": address, "door": door}))
    common = ["-d", str(directory), "--endpoints", str(endpoints)]
    for commands in (app, operators_app):
        fine = CliRunner().invoke(commands, ["doctor", *common])
        assert fine.exit_code == 0, fine.output
        assert fine.stdout.count("ok ") == 13
        nothing = CliRunner().invoke(commands, ["doctor", "localhost:1", "--json", *common])
        assert nothing.exit_code == 3
        assert json.loads(nothing.stdout)["sound"] is False
        assert CliRunner().invoke(commands, ["doctor", "localhost", *common]).exit_code == 2
    exposed(directory)
    for commands, vietnamese in ((app, ["--lang", "vi"]), (operators_app, ["--vi"])):
        wrong = CliRunner().invoke(commands, ["doctor", *common, *vietnamese])
        assert wrong.exit_code == 1
        assert "FAILED   key_permissions" in wrong.stdout
        assert "chmod 600" in wrong.stdout
        assert "Người khác" in wrong.stdout
