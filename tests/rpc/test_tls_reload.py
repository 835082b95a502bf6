"""A room's certificate files while it runs: good ones are taken for new connections, bad ones never."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias, cast

import grpc
import pytest
from cryptography import x509
from prometheus_client import REGISTRY as METRICS

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client.credentials import CredentialsError
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_pki.trust_bundle import certificates_pem
from services.mesh.wire.credentials import ServerCredentials
from services.sharing.app import ROOM as SHARING
from tests.certificates import CLIENT_AUTH, Holder, TestPki, expired
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, refused, wait_until

Spoil: TypeAlias = Callable[[TestPki, Path], object]


@pytest.fixture(scope="module")
def pki(authority: Authority) -> TestPki:
    """Makes any leaf below the CAs that the rooms trust."""
    pki = TestPki(ENVIRONMENT)
    pki.hierarchy, pki.roots = authority.hierarchy, (authority.hierarchy.root.certificate,)
    return pki


@pytest.fixture(scope="module")
def files(pki: TestPki, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the room's certificate files."""
    return pki.room("sharing").write(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def access(desk: Desk) -> AccessContext:
    """The right of tax/core to follow changes."""
    desk.register("tax/core", officers=["o-1"])
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["full_name"]}
    agreement_id = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    return AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")


@pytest.fixture(scope="module")
def sharing(stage: Stage, access: AccessContext, files: Path) -> Running:
    """A room that looks at its files often."""
    return stage.start(SHARING, tls_directory=files, credentials_poll=timedelta(seconds=0.05))


@pytest.fixture(autouse=True)
def _good_at_the_end(pki: TestPki, files: Path, sharing: Running) -> Iterator[None]:
    yield
    good = pki.room("sharing")
    good.write(files)
    wait_until(lambda: presented(sharing) == good.certificate.serial_number)


@pytest.fixture
def channels() -> Iterator[Callable[[Running, Holder], grpc.Channel]]:
    """Opens connections that look at nothing beforehand."""
    opened: list[grpc.Channel] = []

    def connect(room: Running, holder: Holder) -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        opened.append(grpc.secure_channel(room.address, holder.channel_credentials(), options))
        return opened[-1]

    yield connect
    for channel in opened:
        channel.close()


def call(channel: grpc.Channel) -> None:
    """A call that every caller may make whose standing is good."""
    evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10)


def presented(room: Running) -> int:
    """The serial number of the certificate that a new connection meets."""
    pem = ssl.get_server_certificate(("localhost", room.serving.port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def complaints() -> float:
    """How often files were refused."""
    return METRICS.get_sample_value("npd_credentials_refused_total") or 0.0


def trusting(holder: Holder, roots: Sequence[x509.Certificate]) -> Holder:
    """The holder with other roots that it trusts."""
    return Holder(holder.certificate, holder.key, holder.chain, tuple(roots))


def test_a_new_leaf_is_taken_for_new_connections_and_the_old_ones_live_on(
    pki: TestPki, files: Path, sharing: Running, channels: Callable[[Running, Holder], grpc.Channel]
) -> None:
    client = pki.agency("tax", "core")
    old = channels(sharing, client)
    call(old)
    renewed = pki.room("sharing").write(files)
    serial = x509.load_pem_x509_certificate((renewed / "tls.crt").read_bytes()).serial_number
    wait_until(lambda: presented(sharing) == serial)
    call(old)
    call(channels(sharing, client))
    end = x509.load_pem_x509_certificate((files / "tls.crt").read_bytes()).not_valid_after_utc
    assert METRICS.get_sample_value("npd_certificate_expire_timestamp_seconds") == end.timestamp()


def _cut_off(name: str) -> Spoil:
    def spoil(pki: TestPki, files: Path) -> None:
        path = files / name
        path.write_bytes(path.read_bytes()[:-100])

    return spoil


BAD: dict[str, Spoil] = {
    "half-written certificate": _cut_off("tls.crt"),
    "half-written key": _cut_off("tls.key"),
    "half-written bundle": _cut_off("ca.crt"),
    "empty bundle": lambda pki, files: (files / "ca.crt").write_bytes(b""),
    "missing key": lambda pki, files: (files / "tls.key").unlink(),
    "another's key": lambda pki, files: (files / "tls.key").write_bytes(_key_of(pki, files)),
    "another room": lambda pki, files: pki.room("registry").write(files),
    "a system": lambda pki, files: pki.agency("tax", "core").write(files),
    "expired": lambda pki, files: pki.room("sharing", validity=expired()).write(files),
    "not for servers": lambda pki, files: pki.room("sharing", purposes=[CLIENT_AUTH]).write(files),
    "no usage": lambda pki, files: pki.room("sharing", purposes=None).write(files),
    "no host": lambda pki, files: pki.room("sharing", dns_names=()).write(files),
    "missing intermediate": lambda pki, files: pki.room("sharing", chain=()).write(files),
    "foreign root": lambda pki, files: pki.foreign().room("sharing").write(files),
    "bare intermediate in the bundle": lambda pki, files: (files / "ca.crt").write_bytes(
        certificates_pem([*pki.roots, pki.hierarchy.agency.certificate])
    ),
}


def _exposed(pki: TestPki, files: Path) -> None:
    """Seen when the room starts and when the content changes; a change of the mode alone is not looked at."""
    (files / "tls.key").chmod(0o644)


def _key_of(pki: TestPki, files: Path) -> bytes:
    return (pki.room("sharing").write(files.parent / "other") / "tls.key").read_bytes()


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_bad_files_are_counted_and_the_old_ones_stay(pki: TestPki, files: Path, sharing: Running, spoil: Spoil) -> None:
    """And good ones that follow are taken, as the fixture sees after each."""
    serial, before = presented(sharing), complaints()
    spoil(pki, files)
    wait_until(lambda: complaints() > before)
    assert presented(sharing) == serial


@pytest.mark.parametrize("spoil", [*BAD.values(), _exposed], ids=[*BAD, "exposed key"])
def test_a_room_does_not_start_with_bad_files(pki: TestPki, tmp_path: Path, spoil: Spoil) -> None:
    files = pki.room("sharing").write(tmp_path / "tls")
    spoil(pki, files)
    with pytest.raises(CredentialsError):
        ServerCredentials(files, f"spiffe://mesh.{ENVIRONMENT}/sharing")


def test_a_bundle_is_swapped_under_live_connections(
    pki: TestPki,
    files: Path,
    sharing: Running,
    access: AccessContext,
    channels: Callable[[Running, Holder], grpc.Channel],
) -> None:
    """As a root is replaced: both trusted for a while, then the old one no more, not even where it is connected."""
    successor = TestPki(ENVIRONMENT)
    both = (*pki.roots, *successor.roots)
    old, new = trusting(pki.agency("tax", "core"), both), trusting(successor.agency("tax", "core"), both)
    live = channels(sharing, old)
    request = change_pb2.WatchChangesRequest(access=access)
    stream = change_pb2_grpc.ChangeServiceStub(live).WatchChanges(request, timeout=60)
    changes = cast(Iterator[change_pb2.WatchChangesResponse], stream)
    next(changes)
    assert isinstance(refused_call(channels(sharing, new)), Unreachable)

    room = trusting(pki.room("sharing"), both)
    room.write(files)
    wait_until(lambda: presented(sharing) == room.certificate.serial_number)
    call(channels(sharing, new))
    call(channels(sharing, old))

    room = successor.room("sharing")
    room.write(files)
    wait_until(lambda: presented(sharing) == room.certificate.serial_number)
    call(channels(sharing, new))
    assert isinstance(refused_call(channels(sharing, old)), Unreachable)
    assert refused_call(live).reason == "ISSUER_NOT_ENTITLED", "TLS does not look again, but the room does"
    sharing.house.streams.wake()  # as the next change would
    with pytest.raises(grpc.RpcError) as ended:
        next(changes)
    assert refusal_of(ended.value).reason == "ISSUER_NOT_ENTITLED"


def refused_call(channel: grpc.Channel) -> Refusal:
    """The same call, which must be refused."""
    return refused(evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint, evidence_pb2.GetCheckpointRequest())
