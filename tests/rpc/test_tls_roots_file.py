"""Roots in a file of their own, beside a certificate volume that holds none: rooms and clients follow both."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd_client.channel import RotatingChannel, Timing
from npd_client.credentials import ChainBroken, CredentialFiles, Credentials, FileMissing
from npd_pki.trust_bundle import certificates_pem
from services.mesh.wire.credentials import ServerCredentials
from services.sharing.app import ROOM as SHARING
from tests.certificates import Holder, TestPki
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, wait_until
from tests.volumes import Volume

NO_POLL = Timing(poll=3600)


@pytest.fixture(scope="module")
def pki(authority: Authority) -> TestPki:
    """Makes any leaf below the CAs that the rooms trust."""
    pki = TestPki(ENVIRONMENT)
    pki.hierarchy, pki.roots = authority.hierarchy, (authority.hierarchy.root.certificate,)
    return pki


def pair(holder: Holder, scratch: Path) -> dict[str, bytes]:
    """The certificate and key of a leaf, as a certificate driver mounts them."""
    written = holder.write(scratch)
    return {name: (written / name).read_bytes() for name in ("tls.crt", "tls.key")}


Rotate = Callable[[Path, bytes], None]


def as_the_kubelet_does(roots: Path, content: bytes) -> None:
    """Swap a whole generation."""
    Volume(roots.parent).replace({roots.name: content})


def in_place_with_its_old_time(roots: Path, content: bytes) -> None:
    """Write the file of the generation anew, and put its time back: only the content tells."""
    place = roots.resolve()
    before = place.stat()
    place.chmod(0o600)
    place.write_bytes(content)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


ROTATIONS = {"swapped": as_the_kubelet_does, "rewritten": in_place_with_its_old_time}


@pytest.fixture
def roots(pki: TestPki, tmp_path: Path) -> Path:
    """The file with the roots, in a volume of its own."""
    Volume.mount(tmp_path / "roots", {"roots.pem": certificates_pem(pki.roots)})
    return tmp_path / "roots" / "roots.pem"


@pytest.fixture(scope="module", autouse=True)
def _registered(desk: Desk) -> None:
    desk.register("tax/core")


@pytest.fixture
def room(stage: Stage, pki: TestPki, tmp_path: Path, roots: Path) -> Running:
    """A room that looks at its files often."""
    Volume.mount(tmp_path / "tls", pair(pki.room("sharing"), tmp_path / "made"))
    return stage.start(
        SHARING, tls_directory=tmp_path / "tls", roots_file=roots, credentials_poll=timedelta(seconds=0.05)
    )


def call(channel: RotatingChannel) -> None:
    """A call that every caller may make whose standing is good."""
    evidence_pb2_grpc.EvidenceServiceStub(channel).GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10)


@pytest.mark.parametrize("rotate", ROTATIONS.values(), ids=ROTATIONS)
def test_a_room_follows_the_file_of_its_roots(
    room: Running, pki: TestPki, roots: Path, tmp_path: Path, rotate: Rotate
) -> None:
    successor = TestPki(ENVIRONMENT)
    both = (*pki.roots, *successor.roots)
    assert list(room.house.credentials.roots) == list(pki.roots)
    rotate(roots, certificates_pem(both))
    wait_until(lambda: list(room.house.credentials.roots) == list(both))
    client = replace(successor.agency("tax", "core"), roots=both).write(tmp_path / "client")
    with RotatingChannel(room.address, client) as channel:
        call(channel)
    rotate(roots, b"cut off")
    rotate(roots, certificates_pem(pki.roots))
    wait_until(lambda: list(room.house.credentials.roots) == list(pki.roots))


@pytest.mark.parametrize("rotate", ROTATIONS.values(), ids=ROTATIONS)
def test_a_channel_follows_the_file_of_its_roots(
    room: Running, pki: TestPki, roots: Path, tmp_path: Path, rotate: Rotate
) -> None:
    own = Volume.mount(tmp_path / "client", pair(pki.agency("tax", "core"), tmp_path / "written"))
    Volume.mount(tmp_path / "trusted", {"ca.crt": certificates_pem(pki.roots)})
    trusted = tmp_path / "trusted" / "ca.crt"
    with RotatingChannel(room.address, own.directory, roots_file=trusted, timing=NO_POLL) as channel:
        call(channel)
        assert not channel.reload()
        both = certificates_pem((*pki.roots, *TestPki(ENVIRONMENT).roots))
        rotate(trusted, both)
        assert channel.reload()
        assert channel.credentials.files.root_certificates == both
        call(channel)


def test_the_certificates_generation_is_followed_without_roots_in_it(pki: TestPki, roots: Path, tmp_path: Path) -> None:
    first, second = (pair(pki.agency("tax", "core"), tmp_path / name) for name in ("one", "two"))
    volume = Volume.mount(tmp_path / "client", first)
    before = Credentials.from_directory(volume.directory, roots_file=roots)
    volume.replace(second)
    after = Credentials.from_directory(volume.directory, roots_file=roots)
    assert before.leaf.serial_number != after.leaf.serial_number
    assert after.files.root_certificates == before.files.root_certificates
    with pytest.raises(FileMissing, match=r"client/ca\.crt"):
        CredentialFiles.read(volume.directory)


def test_roots_that_do_not_fit_are_named_by_their_file(pki: TestPki, roots: Path, tmp_path: Path) -> None:
    """`ca.crt` beside the certificate does not count, whatever it holds."""
    files = pki.room("sharing").write(tmp_path / "tls")
    as_the_kubelet_does(roots, certificates_pem(TestPki(ENVIRONMENT).roots))
    with pytest.raises(ChainBroken, match=r"roots/roots\.pem does not hold"):
        ServerCredentials(files, f"spiffe://mesh.{ENVIRONMENT}/sharing", roots_file=roots)
    (files / "ca.crt").unlink()
    as_the_kubelet_does(roots, certificates_pem(pki.roots))
    ServerCredentials(files, f"spiffe://mesh.{ENVIRONMENT}/sharing", roots_file=roots)
