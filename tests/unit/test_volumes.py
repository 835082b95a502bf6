"""The volumes of tests are laid out and swapped as the kubelet does it."""

import os
from pathlib import Path

import pytest

from tests.volumes import DATA_LINK, Volume


def test_a_volume_leads_through_one_link_to_the_files_of_one_generation(tmp_path: Path) -> None:
    volume = Volume.mount(tmp_path, {"a": b"1", "b": b"2"})
    first = os.readlink(tmp_path / DATA_LINK)
    volume.replace({"a": b"3"})
    second = os.readlink(tmp_path / DATA_LINK)
    assert first != second
    assert {path.name for path in tmp_path.iterdir()} == {DATA_LINK, second, "a"}
    assert os.readlink(tmp_path / "a") == f"{DATA_LINK}/a"
    assert volume.files == {"a": b"3"}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400


def test_equal_files_are_not_swapped(tmp_path: Path) -> None:
    volume = Volume.mount(tmp_path, {"a": b"1"})
    first = os.readlink(tmp_path / DATA_LINK)
    volume.replace({"a": b"1"})
    assert os.readlink(tmp_path / DATA_LINK) == first


def test_nothing_is_mounted_over_files(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        Volume.mount(tmp_path, {"b": b"1"})
