"""How npd-client replaces the files of a directory: at once, safe at every step, never where others keep them."""

import os
import resource
import signal
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from npd_client.credentials import AUTHORITIES_FILE, CERTIFICATE_FILE, DATA_LINK, KEY_FILE, CredentialFiles
from npd_client.store import (
    BUNDLE_FILE,
    DirectoryBusy,
    DirectoryKept,
    DirectoryNotWritable,
    locked,
    read_bundle,
    replace_credentials,
    require_replaceable,
    steps,
)

NAMES = (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE)
MANY = 20


def generation(label: str) -> dict[str, bytes]:
    return {name: f"{label} {name}".encode() for name in NAMES}


def write_plain(place: Path, files: Mapping[str, bytes]) -> None:
    """As a copy or an administrator does it: what stood in their places goes."""
    for name, content in files.items():
        (place / name).unlink(missing_ok=True)
        (place / name).write_bytes(content)
        (place / name).chmod(0o600)


def seen(place: Path) -> set[str]:
    """The generations that the two kinds of readers see."""
    files = CredentialFiles.read(place)
    linked = [files.certificate_chain, files.private_key, files.root_certificates]
    plain = [(place / name).read_bytes() for name in NAMES]
    return {content.decode().split()[0] for content in [*linked, *plain]}


def test_the_layout_is_that_of_a_mounted_volume(tmp_path: Path) -> None:
    write_plain(tmp_path, generation("old"))
    replace_credentials(tmp_path, {**generation("new"), BUNDLE_FILE: b"bundle"})
    assert {os.readlink(tmp_path / name) for name in NAMES} == {f"{DATA_LINK}/{name}" for name in NAMES}
    assert seen(tmp_path) == {"new"}
    assert read_bundle(tmp_path) == b"bundle"
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert not CredentialFiles.read(tmp_path).key_is_exposed


@pytest.mark.parametrize("done", range(MANY))
@pytest.mark.parametrize("begun", ["plain", "linked"])
def test_a_crash_after_any_step_leaves_one_generation_and_the_next_attempt_ends_well(
    tmp_path: Path, begun: str, done: int
) -> None:
    write_plain(tmp_path, generation("old"))
    if begun == "linked":
        replace_credentials(tmp_path, generation("old"))
    taken = list(islice(steps(tmp_path, generation("new")), done))
    assert seen(tmp_path) == ({"new"} if "swap" in taken else {"old"})
    replace_credentials(tmp_path, generation("newer"))
    assert seen(tmp_path) == {"newer"}
    replace_credentials(tmp_path, generation("newest"))
    assert seen(tmp_path) == {"newest"}
    kept = [path for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(kept) == 2, "the one in use and the one before"


def test_there_are_fewer_steps_than_were_tried(tmp_path: Path) -> None:
    write_plain(tmp_path, generation("old"))
    assert 8 <= len(list(steps(tmp_path, generation("new")))) < MANY


def test_files_that_somebody_put_over_the_links_are_what_readers_see_until_the_next_swap(tmp_path: Path) -> None:
    replace_credentials(tmp_path, generation("first"))
    write_plain(tmp_path, generation("copied"))
    assert seen(tmp_path) == {"copied"}
    for done in range(MANY):
        taken = list(islice(steps(tmp_path, generation("second")), done))
        assert seen(tmp_path) == ({"second"} if "swap" in taken else {"copied"})
        write_plain(tmp_path, generation("copied"))


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    replace_credentials(tmp_path, generation("first"))
    assert seen(tmp_path) == {"first"}


def test_without_a_key_of_its_own_two_files_are_written(tmp_path: Path) -> None:
    replace_credentials(tmp_path, {CERTIFICATE_FILE: b"c", AUTHORITIES_FILE: b"r"})
    assert not (tmp_path / KEY_FILE).exists()
    assert (tmp_path / CERTIFICATE_FILE).read_bytes() == b"c"


def test_a_volume_of_kubernetes_is_left_alone(tmp_path: Path) -> None:
    mounted = tmp_path / "..2026_11_24_01_07_06.123456789"
    mounted.mkdir()
    write_plain(mounted, generation("mounted"))
    (tmp_path / DATA_LINK).symlink_to(mounted.name)
    for name in NAMES:
        (tmp_path / name).symlink_to(f"{DATA_LINK}/{name}")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(DirectoryKept, match="Renew where that volume comes from"):
        replace_credentials(tmp_path, generation("new"))
    with pytest.raises(DirectoryKept), locked(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == before


def as_nobody(ask: Callable[[], None]) -> str:
    """What a process without root's rights is told by an error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            ask()
        except Exception as error:
            os.write(writing, f"{type(error).__name__} {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as stream:
        return stream.read().decode()


def test_a_directory_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DirectoryNotWritable, match="does not exist"):
        require_replaceable(tmp_path / "absent")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        told = as_nobody(lambda: require_replaceable(name))
    assert told.startswith("DirectoryNotWritable")
    assert "Run as the owner" in told


def test_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DirectoryBusy), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_process_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


@pytest.mark.parametrize("full_at", [0, 5, 500])
def test_a_full_disk_leaves_the_old_files_and_no_half_key(tmp_path: Path, full_at: int) -> None:
    write_plain(tmp_path, generation("old"))
    before, limits = sorted(os.listdir(tmp_path)), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (full_at, limits[1]))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="too large"):
                replace_credentials(tmp_path, dict.fromkeys(NAMES, b"new " * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert seen(tmp_path) == {"old"}
    if full_at < 500:  # there the old files are already copied into a generation, which is the one in use
        assert sorted(os.listdir(tmp_path)) == before
    assert len([path for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()]) <= 1


def test_in_an_empty_directory_all_files_appear_at_once(tmp_path: Path) -> None:
    for done in range(MANY):
        place = tmp_path / str(done)
        place.mkdir()
        taken = list(islice(steps(place, generation("new")), done))
        assert {(place / name).exists() for name in NAMES} == {"swap" in taken}


def test_generations_are_told_from_those_of_kubernetes_by_their_names(tmp_path: Path) -> None:
    replace_credentials(tmp_path, generation("first"))
    stamp = os.readlink(tmp_path / DATA_LINK)
    assert abs(datetime.strptime(stamp, "..%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC) - datetime.now(UTC)).seconds < 60
    require_replaceable(tmp_path)
