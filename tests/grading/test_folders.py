"""Folders of a killed grader are cleared away, those of a living one stay."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ca14lib.grading import folders

HOLD = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from ca14lib.grading.folders import temporary_folder
folder, alive = temporary_folder()
(folder / "runtime").mkdir(), (folder / "runtime" / "x.py").touch(), (folder / "mounts" / "0").mkdir(parents=True)
print(folder, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    (tmp_path / f"{folders.PREFIX}not-ours").mkdir()
    (tmp_path / f"{folders.PREFIX}link").symlink_to(left)
    assert folders.remove_leftovers() == 0, "it lives"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folders.remove_leftovers() == 1
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 2, "what is not known to be a leftover stays"


def test_a_held_folder_is_gone_afterwards_whatever_is_in_it() -> None:
    with folders.held_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "runtime").mkdir()
        (folder / "link").symlink_to("/")
        assert folders.remove_leftovers() == 0
    assert not folder.exists()


def test_what_lies_in_a_place_for_mounts_is_never_removed() -> None:
    """It could be the interpreter, mounted there."""
    folder, alive = folders.temporary_folder()
    (folder / "mounts" / "0").mkdir(parents=True)
    (folder / "mounts" / "0" / "python").touch()
    alive.close()
    assert folders.remove_leftovers() == 1
    assert (folder / "mounts" / "0" / "python").exists()


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.replace_file(tmp_path / "a.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folders.replace_file(tmp_path / "a.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"
