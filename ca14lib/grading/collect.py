"""What students have handed in: folders or zip archives, read within limits and never unpacked onto the disk."""

import io
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ca14lib.grading.instances import module_name
from ca14lib.grading.notebooks import (
    FILE_BYTES,
    NOTEBOOK_BYTES,
    Assignment,
    SubmissionError,
    quotable,
    read_regular_file,
)
from ca14lib.grading.roster import same_folder, student_id

ARCHIVE_BYTES = 2 * NOTEBOOK_BYTES
MAXIMAL_ENTRIES = 10_000  # of a folder or an archive
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes before the first byte comes out


@dataclass(frozen=True)
class HandedIn:
    """What lies in the folder of submissions for one student.

    Attributes:
        student: Identifier.
        path: Folder or archive.
        problem: Why it cannot be graded, empty where it can be tried.
    """

    student: str
    path: Path
    problem: str = ""


@dataclass(frozen=True)
class Content:
    """The files of a submission that are graded.

    Attributes:
        notebook: Bytes of the notebook.
        files: The assignment's other files by name, as far as they are there.
        notes: What was noticed on the way, for the student.
    """

    notebook: bytes
    files: dict[str, bytes]
    notes: tuple[str, ...] = ()


def find_submissions(folder: str | Path) -> tuple[list[HandedIn], list[str]]:
    """Students' folders and archives, by identifier, and the names of what else lies there.

    Args:
        folder: ``STUDENT/NAME.ipynb``, ``STUDENT/NAME/NAME.ipynb`` as nbgrader collects, or ``STUDENT.zip``.
    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no folder and no archive.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected one with a folder or a zip archive per student")
    found: list[HandedIn] = []
    ignored: list[str] = []
    taken: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        is_archive = path.suffix.lower() == ".zip"
        if not is_archive and not path.is_dir() and not path.is_symlink():
            ignored.append(path.name)
            continue
        try:
            student = student_id(path.stem if is_archive else path.name)
        except ValueError as problem:
            ignored.append(f"{path.name!a}: {problem}")
            continue
        if (other := taken.setdefault(same_folder(student), path.name)) != path.name:
            ignored.append(f"{path.name}: {other} is graded, and both would be the student {student}")
            continue
        link = "it is a link, and links are not followed" if path.is_symlink() else ""
        found.append(HandedIn(student, path, link))
    if not found:
        raise ValueError(f"{folder} holds no submissions: expected a folder or a zip archive per student")
    return found, ignored


def read_content(submission: HandedIn, assignment: Assignment) -> Content:
    """The notebook and the other files of a submission.

    Raises:
        SubmissionError: If there is no notebook that could be meant, it is too large, or nothing can be read.
    """
    if submission.problem:
        raise SubmissionError(submission.problem)
    if submission.path.suffix.lower() == ".zip" and not submission.path.is_dir():
        with _archive(submission.path) as archive:
            return _chosen(_members(archive), assignment)
    try:
        return _chosen(_files(submission.path, assignment), assignment)
    except OSError as problem:
        raise SubmissionError(f"the folder cannot be read: {problem.strerror}") from None


Reader = Callable[[int], bytes]


def _chosen(files: dict[str, Reader], assignment: Assignment) -> Content:
    """Pick the notebook and the files by name; a single notebook under another name is taken, with a note."""
    wanted, notes = f"{module_name(assignment.name)}.ipynb", []
    notebooks = [name for name in files if name.lower().endswith(".ipynb")]
    if wanted in files:
        name = wanted
    elif len(notebooks) == 1:
        name = notebooks[0]
        notes.append(quotable(f"the notebook is named {name[:100]!a}, expected {wanted}"))
    else:
        there = f"there are {', '.join(sorted(notebooks)[:5])}" if notebooks else "there is no notebook"
        raise SubmissionError(f"{wanted} is missing: {there}")
    notebook = files[name](NOTEBOOK_BYTES)
    others: dict[str, bytes] = {}
    for name in assignment.files:
        if name in files:
            try:
                others[name] = files[name](FILE_BYTES)
            except SubmissionError as problem:
                notes.append(str(problem))
    return Content(notebook, others, tuple(notes))


def _files(folder: Path, assignment: Assignment) -> dict[str, Reader]:
    """Readers of the files of a folder, or of the assignment's folder in it."""
    inner = next((folder / n for n in (assignment.name, module_name(assignment.name)) if (folder / n).is_dir()), folder)
    if inner.is_symlink():
        raise SubmissionError(f"the folder {inner.name} is a link, and links are not followed")
    return {path.name: _file_reader(path) for path in _bounded(inner.iterdir()) if not path.name.startswith(".")}


def _bounded(paths: Iterator[Path]) -> Iterator[Path]:
    for number, path in enumerate(paths):
        if number >= MAXIMAL_ENTRIES:
            raise SubmissionError(f"the folder has more than {MAXIMAL_ENTRIES:,} files")
        yield path


def _file_reader(path: Path) -> Reader:
    return lambda limit: read_regular_file(path, limit)


def _archive(path: Path) -> zipfile.ZipFile:
    """An archive of a size that can be looked at.

    Raises:
        SubmissionError: If it is none.
    """
    content = read_regular_file(path, ARCHIVE_BYTES)
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError) as problem:
        raise SubmissionError(f"{path.name} is not a zip archive: {problem}") from None
    if len(archive.infolist()) > MAXIMAL_ENTRIES:
        raise SubmissionError(f"{path.name} has more than {MAXIMAL_ENTRIES:,} entries")
    return archive


def _members(archive: zipfile.ZipFile) -> dict[str, Reader]:
    """Readers of the files of an archive by their last name; of several with one name the least deep one."""
    readers: dict[str, Reader] = {}
    # is_dir() fails at an empty name, which a damaged directory may hold
    entries = [e for e in archive.infolist() if e.filename and not e.is_dir() and "__MACOSX" not in e.filename]
    for entry in sorted(entries, key=lambda entry: entry.filename.count("/"), reverse=True):
        name = PurePosixPath(entry.filename.replace("\\", "/")).name
        if name and not name.startswith("."):
            readers[name] = _member_reader(archive, entry)
    return readers


def _member_reader(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Reader:
    def read(limit: int) -> bytes:
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise SubmissionError(f"{entry.filename} is a link, and links are not followed")
        if entry.flag_bits & 1:
            raise SubmissionError(f"{entry.filename} is encrypted")
        if entry.compress_type not in METHODS:
            raise SubmissionError(f"{entry.filename} is compressed in an unusual way: make the archive anew")
        try:
            with archive.open(entry) as file:
                content = file.read(limit + 1)  # what it says of its own size is not believed
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as problem:
            raise SubmissionError(f"{entry.filename} cannot be unpacked: {problem}") from None
        if len(content) > limit:
            raise SubmissionError(f"{entry.filename} has more than {limit:,} bytes")
        return content

    return read
