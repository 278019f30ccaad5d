"""The roster of a class, ``roster.csv``, and which names of students can be names of folders on every system."""

import csv
import io
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

LONGEST_ID = 100  # characters
LONGEST_ID_BYTES = 200  # in UTF-8: file systems allow 255, and ".ID.json.part" has to be one of their names
# Categories of Unicode that cannot be seen, change the direction of the text, or have no meaning of their own.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True)
class Student:
    """A row of the roster; what it does not say is empty.

    Attributes:
        student: Identifier, also the name of the folder of what the student hands in.
        name: As gradebooks show it.
        email: Address, by which Moodle finds the student.
        canvas_id: Canvas's own number, the column ``ID`` of the gradebook that it exports.
        moodle_id: Moodle's ID number.
    """

    student: str
    name: str = ""
    email: str = ""
    canvas_id: str = ""
    moodle_id: str = ""


def student_id(text: str) -> str:
    """The identifier in Unicode's normal form C, if it can be the name of a folder.

    Raises:
        ValueError: If it is empty, longer than 100 characters (or 200 bytes), begins with a dot, ends with a dot or a
            space, or has a slash, a backslash or an invisible character.
    """
    identifier = unicodedata.normalize("NFC", text)
    problem = ""
    if not identifier.strip():
        problem = "is empty"
    elif len(identifier) > LONGEST_ID or len(identifier.encode("utf8", "replace")) > LONGEST_ID_BYTES:
        problem = f"has more than {LONGEST_ID} characters or {LONGEST_ID_BYTES} bytes in UTF-8"
    elif "/" in identifier or "\\" in identifier:
        problem = "has a slash or a backslash"
    elif identifier.startswith("."):
        problem = "begins with a dot"
    elif identifier != identifier.strip() or identifier.endswith("."):
        problem = "begins or ends with a space, or ends with a dot"
    elif any(unicodedata.category(character) in _INVISIBLE for character in identifier):
        problem = "has a control character or another invisible one"
    if problem:
        raise ValueError(f"the student {identifier[:LONGEST_ID]!a} {problem}, and an id has to name a folder")
    return identifier


def same_folder(student: str) -> str:
    """Equal for two identifiers that some file systems take for the same name: case and normal forms left aside."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", student).casefold())


def clashing_students(students: Iterable[str]) -> tuple[str, str] | None:
    """The first two of the identifiers that some file systems take for the same name, None if there are none."""
    seen: dict[str, str] = {}
    for student in students:
        if (other := seen.setdefault(same_folder(student), student)) is not student:
            return other, student
    return None


def read_roster(path: str | Path) -> dict[str, Student]:
    """The students of a class by identifier, in the order of the file.

    Args:
        path: A CSV file in UTF-8 with a header; columns ``student`` and, where wanted, ``name``, ``email``,
            ``canvas_id`` and ``moodle_id``, in any order; others are not read.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file or has no students, if an identifier cannot be the name of a folder, if two
            are the same or differ only in case or normal form, if a ``canvas_id`` is no number, or if two students
            have one ``email``, ``canvas_id`` or ``moodle_id``. The message names the line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise ValueError(f"{path} is not text in UTF-8 (line {line}): save it as CSV UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    known = [field.name for field in fields(Student)]
    roster: dict[str, Student] = {}
    lines: dict[str, int] = {}
    owners: dict[tuple[str, str], str] = {}
    columns: list[str] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not columns:
                columns = _columns([cell.lower() for cell in cells], known, path)
                continue
            if len(cells) != len(columns):
                raise ValueError(f"{len(cells)} cells, expected {len(columns)}: {', '.join(columns)}")
            found = {name: cell for name, cell in zip(columns, cells, strict=True) if name in known}
            student = student_id(found.pop("student"))
            if (first := lines.setdefault(same_folder(student), reader.line_num)) != reader.line_num:
                raise ValueError(
                    f"the student {student!r} stands in line {first} too, or one that differs only in case"
                )
            for name in ("email", "canvas_id", "moodle_id"):  # or a grade would go to somebody else
                value = found.get(name, "")
                if name == "canvas_id" and value and not (value.isascii() and value.isdigit()):
                    raise ValueError(f"canvas_id has to be a number, got {value[:LONGEST_ID]!r}")
                if value and owners.setdefault((name, value.casefold()), student) != student:
                    raise ValueError(f"{student!r} has the {name} of {owners[name, value.casefold()]!r}: {value!r}")
            roster[student] = Student(student, **found)
    except (csv.Error, ValueError) as problem:
        where = f", line {reader.line_num}" if columns else ""
        raise ValueError(f"{path}{where}: {problem}") from None
    if not roster:
        raise ValueError(f"{path} has no students: expected a header with the column student, and a row for each")
    return roster


def _columns(found: list[str], known: list[str], path: Path) -> list[str]:
    """The header, checked.

    Raises:
        ValueError: If ``student`` is not in it, or a column stands twice.
    """
    if "student" not in found:
        separators = " (cells have to be separated by commas)" if ";" in found[0] or "\t" in found[0] else ""
        raise ValueError(f"the column student is missing; found {', '.join(found)}{separators}")
    if twice := [name for name in known if found.count(name) > 1]:
        raise ValueError(f"the column {twice[0]} stands twice")
    return found
