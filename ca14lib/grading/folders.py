"""What a kill leaves behind: files that are replaced whole, and temporary folders that the next grader clears away."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PREFIX = "ca14-grading-"
MOUNTS = ("mounts", "scratch")
ALIVE = ".alive"  # locked while its process lives; the system takes the lock away with the process


def temporary_folder() -> tuple[Path, IO[str]]:
    """A fresh folder that only its owner can enter, and the lock that says that it is in use, to be closed after."""
    import fcntl  # not on Windows, where students check their work

    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    alive = (folder / ALIVE).open("w")
    fcntl.flock(alive, fcntl.LOCK_EX)
    return folder, alive


@contextlib.contextmanager
def held_folder() -> Iterator[Path]:
    """A fresh folder that is gone afterwards."""
    folder, alive = temporary_folder()
    try:
        yield folder
    finally:
        remove(folder)
        alive.close()


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that at every moment either the old or the new one is there.

    Args:
        path: The file; its folder has to be there.
        content: Bytes, or text that is written in UTF-8 as it is.
    Raises:
        OSError: If it cannot be written; the old one stays.
    """
    data = content.encode("utf8", "surrogatepass") if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def remove(folder: Path) -> None:
    """Remove such a folder. Places for mounts are only removed when empty: what is mounted there is not ours."""
    for name in MOUNTS:
        for place in [*(folder / name).glob("*"), folder / name]:
            with contextlib.suppress(OSError):
                place.rmdir()
    for path in folder.iterdir():
        if path.name in MOUNTS:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_leftovers() -> int:
    """Remove this user's folders whose process is gone, and say how many."""
    import fcntl  # not on Windows

    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            with (folder / ALIVE).open("r+") as alive:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
                removed += 1
        except OSError:  # in use, or only just being made
            continue
    return removed
