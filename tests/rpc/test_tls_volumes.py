"""A room's certificate files as Kubernetes mounts them, replaced while agencies call: no call fails, no stream ends.

The layouts: a volume of the kubelet (a Secret, or a Secret and the roots' ConfigMap projected into one), cert-manager's
CSI driver (the leaf in a volume of that kind, the roots in another), and plain files rewritten in place with the size
and the modification time that they had.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self, cast

import grpc
import pytest

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext, AccessMode
from npd.sharing.v1 import change_pb2, change_pb2_grpc
from npd_client import RotatingChannel, Timing
from npd_client.errors import refusal_of
from npd_pki.keys import private_key_pem
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity
from services.sharing.app import ROOM as SHARING
from tests.certificates import Holder, TestPki
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, wait_until
from tests.rpc.test_tls_reload import complaints, presented, trusting
from tests.volumes import Volume

_POLL = timedelta(seconds=0.05)
_SIZE = 8 << 10
_FILES = ("tls.crt", "tls.key", "ca.crt")


class Layout(Protocol):
    """Where a room finds its files, and what replaces them."""

    def __init__(self, directory: Path) -> None: ...

    def put(self, holder: Holder) -> None:
        """Mount the files of a holder, or replace those that are mounted."""

    @property
    def settings(self) -> dict[str, Path]:
        """What the room is told of it."""


def contents(holder: Holder) -> dict[str, bytes]:
    """The three files of a holder."""
    return dict(
        zip(_FILES, (holder.chain_pem, private_key_pem(holder.key), certificates_pem(holder.roots)), strict=True)
    )


class Projected:
    """A volume of the kubelet: all files are swapped at once."""

    def __init__(self, directory: Path) -> None:
        self.settings = {"tls_directory": directory}
        self._volume: Volume | None = None

    def put(self, holder: Holder) -> None:
        """Mount, or swap."""
        self._volume = _put(self._volume, self.settings["tls_directory"], contents(holder))


class Csi:
    """cert-manager's CSI driver: beside the leaf lies the certificate of its issuing CA, which is no root."""

    def __init__(self, directory: Path) -> None:
        self.settings = {"tls_directory": directory / "tls", "roots_file": directory / "roots" / "ca.crt"}
        self._leaf: Volume | None = None
        self._roots: Volume | None = None

    def put(self, holder: Holder) -> None:
        """Mount, or swap one volume after the other, as nobody swaps both at once."""
        files = contents(holder)
        roots = {"ca.crt": files["ca.crt"]}
        beside = {**files, "ca.crt": certificates_pem(holder.chain)}
        self._roots = _put(self._roots, self.settings["roots_file"].parent, roots)
        self._leaf = _put(self._leaf, self.settings["tls_directory"], beside)


class InPlace:
    """Plain files, whose sizes and modification times stay when they are rewritten."""

    def __init__(self, directory: Path) -> None:
        self.settings = {"tls_directory": directory}

    def put(self, holder: Holder) -> None:
        """Write over what is there."""
        directory = self.settings["tls_directory"]
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents(holder).items():
            path = directory / name
            path.touch(mode=0o600)
            path.write_bytes(content.ljust(_SIZE, b"\n"))
            os.utime(path, (0, 0))


def _put(volume: Volume | None, directory: Path, files: dict[str, bytes]) -> Volume:
    if volume is None:
        return Volume.mount(directory, files)
    volume.replace(files)
    return volume


LAYOUTS: dict[str, type[Layout]] = {"projected volume": Projected, "CSI driver": Csi, "in place": InPlace}


@dataclass
class Callers:
    """An agency at work on a room: calls on a connection that stays, calls on new ones, and an open stream."""

    address: str
    directory: Path
    access: AccessContext
    errors: list[str] = field(default_factory=list)
    answered: int = 0
    streams: int = 0
    _channel: RotatingChannel | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        timing = Timing(poll=_POLL.total_seconds())
        channel = self._stack.enter_context(RotatingChannel(self.address, self.directory, timing=timing))
        self._channel = channel
        works = [lambda: self._call(channel), self._call_anew, lambda: self._watch(channel)]
        threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]
        for thread in threads:
            self._stack.callback(thread.join, 30)
        self._stack.callback(self._stopping.set)
        for thread in threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def serial_number(self) -> int:
        """That of the leaf with which calls begin now."""
        return self._channel.credentials.leaf.serial_number if self._channel else 0

    def go_on(self) -> None:
        """Wait until some more calls were answered and a stream that began since is open."""
        answered, streams = self.answered, self.streams
        wait_until(lambda: self.answered > answered + 20 and self.streams > streams + 1, seconds=20)

    def require_unharmed(self) -> None:
        """Fail if a call or a stream was."""
        self.go_on()
        assert not self.errors

    def _repeat(self, work: Any) -> None:
        while not self._stopping.is_set():
            try:
                work()
            except grpc.RpcError as error:
                self.errors.append(repr(refusal_of(error)))
            self._stopping.wait(0.005)

    def _call(self, channel: grpc.Channel) -> None:
        evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10)
        self.answered += 1

    def _call_anew(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with RotatingChannel(self.address, self.directory, options=options, timing=Timing(poll=3600)) as channel:
            self._call(channel)

    def _watch(self, channel: grpc.Channel) -> None:
        """A Watch is ended with OK by the room when it is old, and then resumed: that is no harm."""
        request = change_pb2.WatchChangesRequest(access=self.access)
        stream = change_pb2_grpc.ChangeServiceStub(channel).WatchChanges(request, timeout=60)
        for number, _ in enumerate(cast(Iterator[object], stream)):
            self.streams += number == 0


@pytest.fixture(scope="module")
def pki(authority: Authority) -> TestPki:
    """Makes any leaf below the CAs that the rooms trust."""
    pki = TestPki(ENVIRONMENT)
    pki.hierarchy, pki.roots = authority.hierarchy, (authority.hierarchy.root.certificate,)
    return pki


@pytest.fixture(scope="module")
def access(desk: Desk) -> AccessContext:
    """The right of tax/core to follow changes."""
    desk.register("tax/core", officers=["o-1"])
    grants = {AccessMode.ACCESS_MODE_CHANGES: ["full_name"]}
    agreement_id = desk.agree("tax/core", "STATE_MANAGEMENT", "D70/2024.9", grants)
    return AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id="o-1")


@dataclass
class Scene:
    """A room whose files have a layout, and an agency's files in a volume."""

    room: Running
    layout: Layout
    caller: Volume
    access: AccessContext

    def callers(self) -> Callers:
        """The agency at work."""
        return Callers(self.room.address, self.caller.directory, self.access)

    def take(self, holder: Holder) -> None:
        """Replace the room's files, and wait until a new connection meets the new leaf."""
        self.layout.put(holder)
        wait_until(lambda: presented(self.room) == holder.certificate.serial_number)


@pytest.fixture(scope="module", params=LAYOUTS.values(), ids=list(LAYOUTS))
def scene(
    request: pytest.FixtureRequest,
    stage: Stage,
    pki: TestPki,
    access: AccessContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> Scene:
    """The room sharing, which looks at its files often and ends a Watch soon."""
    directory = tmp_path_factory.mktemp("volumes")
    layout = request.param(directory / "room")
    layout.put(pki.room("sharing"))
    room = stage.start(SHARING, **layout.settings, credentials_poll=_POLL, watch_lifetime=timedelta(seconds=0.2))
    return Scene(room, layout, Volume.mount(directory / "caller", contents(pki.agency("tax", "core"))), access)


@pytest.fixture(autouse=True)
def _good_again(scene: Scene, pki: TestPki) -> Iterator[None]:
    yield
    scene.take(pki.room("sharing"))
    scene.caller.replace(contents(pki.agency("tax", "core")))


def test_a_renewed_leaf_is_taken_and_no_call_fails(scene: Scene, pki: TestPki) -> None:
    with scene.callers() as callers:
        for _ in range(3):
            scene.take(pki.room("sharing"))
            callers.go_on()
        callers.require_unharmed()


def test_a_key_that_does_not_fit_is_refused_and_the_old_leaf_stays(scene: Scene, pki: TestPki) -> None:
    good, other = pki.room("sharing"), pki.room("sharing")
    unfit = Holder(good.certificate, other.key, good.chain, good.roots)
    serial, before = presented(scene.room), complaints()
    with scene.callers() as callers:
        scene.layout.put(unfit)
        wait_until(lambda: complaints() > before)
        callers.require_unharmed()
    assert presented(scene.room) == serial
    scene.take(good)


def test_a_leaf_that_is_not_valid_yet_is_taken_when_it_is(scene: Scene, pki: TestPki) -> None:
    """cert-manager dates a leaf from its own clock's now, so a room with a slower clock sees it too early."""
    now = datetime.now(UTC)
    early = pki.room("sharing", validity=Validity(now + timedelta(seconds=2), now + timedelta(days=30)))
    before = complaints()
    scene.layout.put(early)
    wait_until(lambda: complaints() > before)
    wait_until(lambda: presented(scene.room) == early.certificate.serial_number)
    assert complaints() <= before + len(_FILES), "once for what was seen, not at every look"


def test_a_root_is_replaced_and_no_call_fails(scene: Scene, pki: TestPki) -> None:
    """Both roots for everybody; then leaves below the new one; then the new root alone."""
    successor = TestPki(ENVIRONMENT)
    both = (*pki.roots, *successor.roots)
    with scene.callers() as callers:
        scene.caller.replace(contents(trusting(pki.agency("tax", "core"), both)))
        scene.take(trusting(pki.room("sharing"), both))
        callers.go_on()
        scene.take(trusting(successor.room("sharing"), both))
        callers.go_on()
        renewed = trusting(successor.agency("tax", "core"), both)
        scene.caller.replace(contents(renewed))
        wait_until(lambda: callers.serial_number == renewed.certificate.serial_number)
        callers.go_on()  # and whatever began with the old leaf has ended
        scene.take(successor.room("sharing"))
        callers.require_unharmed()
    assert not _trusts(scene.room, pki.agency("tax", "core"))
    scene.take(trusting(pki.room("sharing"), both))


def test_roots_that_change_alone_are_taken(scene: Scene, pki: TestPki) -> None:
    """The leaf's Secret stays as it is while the roots' ConfigMap has another root."""
    successor, leaf = TestPki(ENVIRONMENT), pki.room("sharing")
    scene.take(leaf)
    stranger = trusting(successor.agency("tax", "core"), pki.roots)
    assert not _trusts(scene.room, stranger)
    with scene.callers() as callers:
        scene.layout.put(trusting(leaf, (*pki.roots, *successor.roots)))
        wait_until(lambda: _trusts(scene.room, stranger))
        callers.require_unharmed()


def _trusts(room: Running, holder: Holder) -> bool:
    channel = grpc.secure_channel(room.address, holder.channel_credentials(), [("grpc.use_local_subchannel_pool", 1)])
    with channel:
        try:
            evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return True
