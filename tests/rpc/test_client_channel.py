"""npd-client's channel against a real server over loopback mTLS: rotation, deadlines, retries, what a failure says."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest
from cryptography import x509

from npd.sharing.v1 import (
    change_pb2,
    change_pb2_grpc,
    contribution_pb2,
    contribution_pb2_grpc,
    lookup_pb2,
    lookup_pb2_grpc,
)
from npd_client import Client, Credentials, CredentialsError, RotatingChannel, Timing, Unreachable, refusal_of
from npd_client.channel import NotReady
from npd_client.credentials import AUTHORITIES_FILE, CERTIFICATE_FILE, CertificateExpired, KeyMismatch
from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials as Issued
from npd_pki.credentials import write_credentials
from npd_pki.identity import agency_uri, mesh_uri
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.profile import CLIENT_TLS, ROOM_TLS
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity

ENV = "npd.test"
PATIENCE = 15.0
NO_POLL = Timing(poll=3600, ready=PATIENCE)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Fail unless the condition comes true in time."""
    pause, give_up = threading.Event(), monotonic() + PATIENCE
    while not condition():
        assert monotonic() < give_up, f"not in time: {what}"
        pause.wait(0.01)


class Room(
    lookup_pb2_grpc.LookupServiceServicer,
    contribution_pb2_grpc.ContributionServiceServicer,
    change_pb2_grpc.ChangeServiceServicer,
):
    """A room that remembers who called, with how much time, and fails as often as it is told."""

    def __init__(self) -> None:
        self.serials: list[int] = []
        self.seconds_left: list[float] = []
        self.failures = 0
        self.calls = 0
        self.release = threading.Event()

    def GetCitizen(
        self, request: lookup_pb2.GetCitizenRequest, context: grpc.ServicerContext
    ) -> lookup_pb2.GetCitizenResponse:
        self._note(context)
        if request.access.case_reference == "wait":
            self.release.wait(PATIENCE)
        return lookup_pb2.GetCitizenResponse()

    def Contribute(
        self, request: contribution_pb2.ContributeRequest, context: grpc.ServicerContext
    ) -> contribution_pb2.ContributeResponse:
        self._note(context)
        return contribution_pb2.ContributeResponse()

    def PullChanges(
        self, request: change_pb2.PullChangesRequest, context: grpc.ServicerContext
    ) -> change_pb2.PullChangesResponse:
        raise NotImplementedError

    def Acknowledge(
        self, request: change_pb2.AcknowledgeRequest, context: grpc.ServicerContext
    ) -> change_pb2.AcknowledgeResponse:
        raise NotImplementedError

    def WatchChanges(
        self, request: change_pb2.WatchChangesRequest, context: grpc.ServicerContext
    ) -> Iterator[change_pb2.WatchChangesResponse]:
        self._note(context)
        yield change_pb2.WatchChangesResponse(cursor=change_pb2.Cursor(position=1))
        self.release.wait(PATIENCE)
        yield change_pb2.WatchChangesResponse(cursor=change_pb2.Cursor(position=2))

    def _note(self, context: grpc.ServicerContext) -> None:
        pem: Any = context.auth_context()["x509_pem_cert"]
        self.serials.append(x509.load_pem_x509_certificate(pem[0]).serial_number)
        self.seconds_left.append(context.time_remaining())
        self.calls += 1
        if self.failures:
            self.failures -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "as told")


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def address(hierarchy: Hierarchy, room: Room) -> Iterator[str]:
    key = generate_p256_key()
    issued = hierarchy.mesh.issue(ROOM_TLS, mesh_uri(ENV, "sharing"), key.public_key(), dns_names=["localhost"])
    credentials = grpc.ssl_server_credentials(
        [(private_key_pem(key), issued.pem())], certificates_pem([hierarchy.root.certificate]), True
    )
    options = [("grpc.http2.min_ping_interval_without_data_ms", 4_000), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    lookup_pb2_grpc.add_LookupServiceServicer_to_server(room, server)
    contribution_pb2_grpc.add_ContributionServiceServicer_to_server(room, server)
    change_pb2_grpc.add_ChangeServiceServicer_to_server(room, server)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield f"localhost:{port}"
    room.release.set()
    server.stop(0).wait(PATIENCE)


@pytest.fixture
def directory(hierarchy: Hierarchy, tmp_path: Path) -> Path:
    write_credentials(tmp_path, issue(hierarchy))
    return tmp_path


def issue(hierarchy: Hierarchy, validity: Validity | None = None) -> Issued:
    key = generate_p256_key()
    issued = hierarchy.agency.issue(CLIENT_TLS, agency_uri(ENV, "tax", "core"), key.public_key(), validity=validity)
    return Issued(issued, key, (hierarchy.root.certificate,))


def lookup_through(channel: grpc.Channel) -> Callable[..., Any]:
    stub = lookup_pb2_grpc.LookupServiceStub(channel)
    return lambda **options: stub.GetCitizen(lookup_pb2.GetCitizenRequest(), **options)


def test_certificates_rotate_under_load_without_a_failed_call(
    hierarchy: Hierarchy, room: Room, address: str, directory: Path
) -> None:
    timing = Timing(poll=0.05, ready=PATIENCE)
    done, errors, answered = threading.Event(), [], [0] * 4
    with RotatingChannel(address, directory, timing=timing) as channel, ExitStack() as stack:
        call = lookup_through(channel)
        stream = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(change_pb2.WatchChangesRequest())
        assert next(stream).cursor.position == 1

        def load(worker: int) -> None:
            while not done.is_set():
                try:
                    call()
                    answered[worker] += 1
                except Exception as error:
                    errors.append(error)

        threads = [threading.Thread(target=load, args=(worker,)) for worker in range(len(answered))]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(done.set)
        for _ in range(6):
            fresh = issue(hierarchy)
            write_credentials(directory, fresh)
            wait_until(lambda serial=fresh.issued.serial: serial in room.serials, "a call with the new certificate")  # type: ignore[misc]
        done.set()
        room.release.set()
        assert next(stream).cursor.position == 2, "the stream outlives the certificate that opened it"
        assert list(stream) == []
        assert errors == []
        assert min(answered) > 0
        wait_until(lambda: not channel._retired, "the old connections are closed")
        assert room.serials[-1] == channel.credentials.leaf.serial_number


def test_reload_says_what_it_did(hierarchy: Hierarchy, room: Room, address: str, directory: Path) -> None:
    with RotatingChannel(address, directory, timing=NO_POLL) as channel:
        before = channel.credentials
        assert channel.reload() is False
        write_credentials(directory, issue(hierarchy))
        assert channel.reload() is True
        assert channel.credentials.digest != before.digest
        lookup_through(channel)()
        assert room.serials == [channel.credentials.leaf.serial_number]


def test_half_written_files_keep_the_old_ones(hierarchy: Hierarchy, room: Room, address: str, directory: Path) -> None:
    with RotatingChannel(address, directory, timing=NO_POLL) as channel:
        before = channel.credentials
        (directory / CERTIFICATE_FILE).write_bytes(issue(hierarchy).issued.pem())
        with pytest.raises(KeyMismatch):
            channel.reload()
        lookup_through(channel)()
        assert channel.credentials is before


def test_credentials_that_the_server_does_not_take_are_not_taken(room: Room, address: str, directory: Path) -> None:
    with RotatingChannel(address, directory, timing=Timing(poll=3600, ready=0.5)) as channel:
        before = channel.credentials
        write_credentials(directory, issue(Hierarchy.create(ENV)))
        with pytest.raises(NotReady, match="old ones stay in use"):
            channel.reload()
        lookup_through(channel)()
        assert room.serials == [before.leaf.serial_number]


def test_a_closed_channel_calls_no_more(address: str, directory: Path) -> None:
    channel = RotatingChannel(address, directory)
    call = lookup_through(channel)
    channel.close()
    with pytest.raises(ValueError, match="closed channel"):
        call()
    channel.close()


def test_its_state_can_be_watched_across_a_rotation(hierarchy: Hierarchy, address: str, directory: Path) -> None:
    with RotatingChannel(address, directory, timing=NO_POLL) as channel:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        write_credentials(directory, issue(hierarchy))
        channel.reload()
        wait_until(lambda: states[-1:] == [grpc.ChannelConnectivity.READY], "the new connection's state")
        channel.unsubscribe(states.append)


def test_no_call_is_without_a_deadline(room: Room, address: str, directory: Path) -> None:
    request = lookup_pb2.GetCitizenRequest()
    with RotatingChannel(address, directory) as channel:
        stub = lookup_pb2_grpc.LookupServiceStub(channel)
        stub.GetCitizen(request)
        stub.GetCitizen.with_call(request)
        stub.GetCitizen.future(request).result(timeout=PATIENCE)
        stub.GetCitizen(request, timeout=7)
        room.release.set()
        list(change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(change_pb2.WatchChangesRequest()))
    *unary, stated, stream = room.seconds_left
    # gRPC rounds a deadline up on the wire, by up to a hundredth.
    assert unary == pytest.approx([30, 30, 30], rel=0.02)
    assert (stated, stream) == pytest.approx((7, 300), rel=0.02)


def test_a_call_past_the_default_deadline_leaves_its_outcome_open(address: str, directory: Path) -> None:
    with RotatingChannel(address, directory, timing=Timing(unary=0.2)) as channel:
        request = lookup_pb2.GetCitizenRequest()
        request.access.case_reference = "wait"
        with pytest.raises(grpc.RpcError) as failed:
            lookup_pb2_grpc.LookupServiceStub(channel).GetCitizen(request)
        refusal = refusal_of(failed.value, channel.credentials)
        assert isinstance(refusal, Unreachable)
        assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_reads_are_repeated_and_writes_are_not(room: Room, address: str, directory: Path) -> None:
    with RotatingChannel(address, directory) as channel:
        room.failures = 2
        lookup_through(channel)()
        assert room.calls == 3
        room.failures = 1
        with pytest.raises(grpc.RpcError, match="as told"):
            contribution_pb2_grpc.ContributionServiceStub(channel).Contribute(contribution_pb2.ContributeRequest())
        assert room.calls == 4


def test_an_expired_certificate_is_explained_before_anybody_dials(hierarchy: Hierarchy, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    write_credentials(tmp_path, issue(hierarchy, Validity(now - timedelta(days=9), now - timedelta(days=2))))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(CertificateExpired, match=r"expired on .* Renew it"):
            RotatingChannel(f"127.0.0.1:{listener.getsockname()[1]}", tmp_path)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_certificate_that_expires_meanwhile_is_explained_and_replaced_at_once(
    hierarchy: Hierarchy, address: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    write_credentials(tmp_path, issue(hierarchy, Validity(now - timedelta(days=1), now + timedelta(seconds=2))))
    with RotatingChannel(address, tmp_path, timing=NO_POLL) as channel:
        past = channel.credentials.expire_time + timedelta(milliseconds=100)  # TLS looks at a clock that lags by a tick
        wait_until(lambda: datetime.now(UTC) > past, "the certificate's end")
        with pytest.raises(grpc.RpcError) as failed:
            lookup_through(channel)()
        refusal = refusal_of(failed.value, channel.credentials, channel.target)
        assert isinstance(refusal, Unreachable)
        assert "expired on" in refusal.hint
        write_credentials(tmp_path, issue(hierarchy))
        assert channel.reload()
        lookup_through(channel)()


@contextmanager
def relay(address: str) -> Iterator[tuple[str, threading.Event]]:
    """A TCP relay to the server; from the moment that the event is set, it forwards nothing and closes nothing."""
    dead, host_port = threading.Event(), address.rpartition(":")
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    if not dead.is_set():
                        sink.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near = stack.enter_context(listener.accept()[0])
                    far = stack.enter_context(socket.create_connection((host_port[0], int(host_port[2]))))
                    stack.callback(shut, near, far)
                    pool.submit(pump, near, far)
                    pool.submit(pump, far, near)

        def shut(*sockets: socket.socket) -> None:
            for one in sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        pool.submit(accept)
        try:
            yield f"localhost:{listener.getsockname()[1]}", dead
        finally:
            shut(listener)


def test_a_dead_peer_is_noticed_while_a_call_waits(room: Room, address: str, directory: Path) -> None:
    with relay(address) as (target, dead), RotatingChannel(target, directory) as channel:
        request = lookup_pb2.GetCitizenRequest()
        lookup_pb2_grpc.LookupServiceStub(channel).GetCitizen(request)
        stream = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(change_pb2.WatchChangesRequest())
        assert next(stream).cursor.position == 1
        dead.set()
        begun = monotonic()
        with pytest.raises(grpc.RpcError) as failed:
            next(stream)
        refusal = refusal_of(failed.value, channel.credentials)
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert isinstance(refusal, Unreachable)
        assert "stopped answering" in refusal.hint
        assert monotonic() - begun < 20, "grpcio's own keepalive notices after 25 to 40 s"


@pytest.mark.parametrize(
    ("reach", "hint"),
    [
        (lambda port: f"127.0.0.1:{port}", "does not name the host"),
        (lambda port: "localhost:1", "Nothing listens"),
        (lambda port: f"no-such-host.invalid:{port}", "cannot be resolved"),
    ],
)
def test_a_wrong_address_is_explained(address: str, directory: Path, reach: Callable[[str], str], hint: str) -> None:
    target = reach(address.rpartition(":")[2])
    with Client(target, directory) as client, pytest.raises(Unreachable) as unreachable:
        client.pull_changes(None)  # type: ignore[arg-type]
    assert hint in unreachable.value.hint


def test_a_ca_that_one_side_does_not_know_is_explained(hierarchy: Hierarchy, address: str, tmp_path: Path) -> None:
    foreign = issue(Hierarchy.create(ENV))
    write_credentials(tmp_path, foreign)
    # One address, so that the last error is not that of another one that "localhost" stands for.
    address, options = address.replace("localhost", "127.0.0.1"), [("grpc.ssl_target_name_override", "localhost")]
    with (
        Client(address, tmp_path, options=options) as client,
        pytest.raises(Unreachable, match=r"ca\.crt does not vouch"),
    ):
        client.pull_changes(None)  # type: ignore[arg-type]
    both = certificates_pem([*foreign.roots, hierarchy.root.certificate])
    (tmp_path / AUTHORITIES_FILE).write_bytes(both)
    with (
        Client(address, tmp_path, options=options) as client,
        pytest.raises(Unreachable, match="did not accept your certificate"),
    ):
        client.pull_changes(None)  # type: ignore[arg-type]


def test_a_forgotten_channel_does_not_stay_alive(address: str, directory: Path) -> None:
    watchers = [thread for thread in threading.enumerate() if thread.name == "npd-client-credentials"]
    channel = RotatingChannel(address, directory, timing=Timing(poll=0.02))
    lookup_through(channel)()
    del channel

    def alive() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "npd-client-credentials" and one not in watchers]

    wait_until(lambda: not alive(), "the thread that looks at the files ends")


def test_credentials_of_another_program_can_be_read_with_the_same_class(directory: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be read"):
        Credentials.from_directory(directory / "nowhere")
