"""Reading assignments and submissions: what is run in which order, and what counts, the assignment alone decides."""

import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

NOTEBOOK_BYTES = 10 * 2**20
FILE_BYTES = 2**20
MAXIMAL_CELLS = 2000
LONGEST_ID = 200  # characters: bringing accents into one form takes quadratic time
LONGEST_PROBLEM = 400
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"


class SubmissionError(ValueError):
    """This submission cannot be graded, and why; others can.

    The message may quote names and texts of a student; what a terminal or a page could take for an instruction is
    replaced, because it is shown in both.
    """

    def __init__(self, message: str) -> None:
        super().__init__(quotable(message))


def quotable(text: str) -> str:
    """The beginning of a text, without what a terminal, a page or a spreadsheet could take for an instruction.

    A spreadsheet whose lists are separated by semicolons begins a cell at each, whatever quotes are around it.
    """
    shown = (c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:LONGEST_PROBLEM])
    return re.sub(r"[;|](?=\s*[=+\-@＝＋－＠])", "\N{REPLACEMENT CHARACTER}", "".join(shown))


@dataclass(frozen=True)
class Cell:
    """A cell of an assignment.

    Attributes:
        key: Its nbgrader id, by which the cell of a submission is found.
        kind: ``solution`` and ``manual`` are the student's, ``locked`` and ``test`` are never taken from a submission.
        is_code: Whether it is run.
        source: Text; in the single source with solutions and hidden tests.
        points: Of a test or a manually graded cell.
        category: Of the points.
    """

    key: str
    kind: Literal["solution", "locked", "test", "manual"]
    is_code: bool
    source: str
    points: float
    category: str

    def hidden_lines(self) -> set[int]:
        """Numbers of the lines between the marks, the marks included; the first line is 1."""
        hidden, inside = set(), False
        for number, line in enumerate(self.source.splitlines(), start=1):
            inside = inside or line.strip() == BEGIN_HIDDEN
            if inside:
                hidden.add(number)
            inside = inside and line.strip() != END_HIDDEN
        return hidden


@dataclass(frozen=True)
class Assignment:
    """The single source of an assignment.

    Attributes:
        name: One of the course's assignments.
        version: Of its text and tests; a submission of another one is refused.
        modules: Modules of ca14lib that student code may import.
        files: Names of files that are handed in with the notebook.
        cells: In order; only code, and cells that are graded.
    """

    name: str
    version: int
    modules: tuple[str, ...]
    files: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def tests(self) -> tuple[Cell, ...]:
        """The cells that the judge runs."""
        return tuple(cell for cell in self.cells if cell.kind == "test")

    @property
    def manual(self) -> tuple[Cell, ...]:
        """The cells that are graded by hand."""
        return tuple(cell for cell in self.cells if cell.kind == "manual")


@dataclass(frozen=True)
class Step:
    """One thing to run: a test, or a cell of the student or of the assignment under a name for messages."""

    name: str
    source: str
    test: Cell | None = None


def read_assignment(path: str | Path) -> Assignment:
    """An assignment's single source.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an assignment: metadata, ids or points are missing, or an id stands twice.
    """
    path = Path(path)
    notebook = parse_notebook(path, path.read_bytes())
    about = notebook_about(notebook)
    if not isinstance(about.get("assignment"), str) or type(about.get("version")) is not int:
        raise ValueError(
            f'{path} is no assignment: metadata {{"ca14": {{"assignment": NAME, "version": 1}}}} is missing'
        )
    files = tuple(about.get("files", ()))
    if any(type(name) is not str or name in ("", ".", "..") or "/" in name or "\\" in name for name in files):
        raise ValueError(f"{path}: files must be plain names, got {files}")
    cells = tuple(assignment_cells(notebook, path))
    keys = [cell.key for cell in cells]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{path}: the id {twice[0]!r} stands at two cells")
    return Assignment(about["assignment"], about["version"], tuple(about.get("modules", ())), files, cells)


def read_submission(path: str | Path, assignment: Assignment) -> list[tuple[str | None, str]]:
    """Code cells of a submitted notebook: nbgrader id or None, and text. Nothing else in it is read.

    Raises:
        SubmissionError: If it is missing, too large, not a regular file, not a notebook, or of another assignment or
            version.
    """
    path = Path(path)
    try:
        notebook = parse_notebook(path, read_regular_file(path, NOTEBOOK_BYTES))
    except ValueError as problem:
        raise SubmissionError(str(problem)) from None
    about = notebook_about(notebook)
    found = (about.get("assignment"), about.get("version"))
    if found != (assignment.name, assignment.version):
        raise SubmissionError(
            f"{path.name} is of assignment {short_text(found[0])}, version {short_text(found[1])}; "
            f"expected {assignment.name!r}, version {assignment.version}: take your answers over into that one"
        )
    return code_cells(notebook)


def read_texts(path: str | Path, assignment: Assignment) -> dict[str, str]:
    """What a submission answers in the cells that are graded by hand, by id; the first of each id counts.

    Raises:
        SubmissionError: If the notebook cannot be read.
    """
    path, keys = Path(path), {cell.key for cell in assignment.manual if not cell.is_code}
    try:
        notebook = parse_notebook(path, read_regular_file(path, NOTEBOOK_BYTES))
    except ValueError as problem:
        raise SubmissionError(str(problem)) from None
    texts: dict[str, str] = {}
    for cell in notebook["cells"]:
        key = grader_metadata(cell).get("grade_id")
        if cell["cell_type"] == "markdown" and key in keys:
            texts.setdefault(key, cell_source(cell))
    return texts


def read_regular_file(path: Path, limit: int) -> bytes:
    """The bytes of a file that a student hands in.

    Raises:
        SubmissionError: If it is missing, cannot be read, is a link, a folder or a device, or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise SubmissionError(f"{path.name} is missing") from None
    except (OSError, ValueError) as problem:
        link = " (links are not followed)" if os.path.islink(path) else ""
        raise SubmissionError(f"{path.name} cannot be read{link}: {getattr(problem, 'strerror', problem)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SubmissionError(f"{path.name} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise SubmissionError(f"{path.name} has more than {limit:,} bytes")
    return content


def steps(
    assignment: Assignment, submission: list[tuple[str | None, str]] | None, replaced: Mapping[str, str]
) -> list[Step]:
    """What is run, in the order of the assignment, however the submission is arranged.

    Solution cells are the submission's (the first of each id), locked cells and tests the assignment's, wherever they
    were moved, changed, copied or deleted. Further cells of the student come behind the cell that they follow in the
    submission; cells that bear the id of a locked cell or a test are left out.

    Args:
        assignment: The single source.
        submission: From :func:`read_submission`; None runs the source's own solutions.
        replaced: Other text for solution cells, by id.
    Raises:
        ValueError: If ``replaced`` names something else than a solution cell.
    """
    own = {cell.key for cell in assignment.cells if cell.is_code and cell.kind in ("solution", "manual")}
    if unknown := set(replaced) - own:
        raise ValueError(f"{sorted(unknown)[0]!r} is not a solution cell; there are {', '.join(sorted(own))}")
    known = {cell.key for cell in assignment.cells if cell.is_code}
    answers: dict[str, str] = {}
    further: dict[str | None, list[str]] = {}
    if submission is None:
        answers = {cell.key: cell.source for cell in assignment.cells if cell.key in own}
    anchor = None
    for key, source in submission or ():
        if key in own and key not in answers:
            assert key is not None
            answers[key] = source
        elif key not in known or key in own:
            further.setdefault(anchor, []).append(source)
        anchor = key if key in known else anchor
    answers.update(replaced)
    planned = [Step(f"your cell {n} at the start", source) for n, source in enumerate(further.get(None, ()), start=1)]
    for cell in assignment.cells:
        if not cell.is_code:
            continue
        if cell.kind == "test":
            planned.append(Step(cell.key, cell.source, cell))
        elif cell.kind == "locked":
            planned.append(Step(f"cell {cell.key}", cell.source))
        elif cell.key in answers:
            planned.append(Step(f"cell {cell.key}", answers[cell.key]))
        for n, source in enumerate(further.get(cell.key, ()), start=1):
            planned.append(Step(f"your cell {n} after {cell.key}", source))
    return planned


def missing_cells(assignment: Assignment, submission: list[tuple[str | None, str]]) -> list[str]:
    """Ids of the cells of the assignment that a submission no longer has."""
    there = {key for key, _ in submission}
    return [cell.key for cell in assignment.cells if cell.is_code and cell.key not in there]


def parse_notebook(path: Path, content: bytes) -> dict[str, Any]:
    """The notebook in the bytes of a file, its cells checked as far as they are read here.

    Raises:
        ValueError: Saying what is not as in a notebook.
    """
    try:
        notebook = json.loads(content.decode("utf8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    except ValueError as problem:
        raise ValueError(f"{path.name} is not a notebook: {short_text(str(problem))}") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise ValueError(f"{path.name} is not a notebook of format 4: it has no list of cells")
    if len(notebook["cells"]) > MAXIMAL_CELLS:
        raise ValueError(f"{path.name} has more than {MAXIMAL_CELLS:,} cells")
    for number, cell in enumerate(notebook["cells"], start=1):
        if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
            raise ValueError(f"{path.name} is not a notebook: cell {number} has no type")
        source = cell.get("source")
        lines = source if isinstance(source, list) else [source]
        if not all(isinstance(line, str) for line in lines):
            raise ValueError(f"{path.name} is not a notebook: cell {number} has no text")
    return notebook


def assignment_cells(notebook: dict[str, Any], path: Path) -> Iterator[Cell]:
    for number, cell in enumerate(notebook["cells"], start=1):
        grader, is_code = grader_metadata(cell), cell["cell_type"] == "code"
        graded, answered = bool(grader.get("grade")), bool(grader.get("solution"))
        if not is_code and not graded:
            continue
        key, points = grader.get("grade_id"), grader.get("points", 0)
        if not isinstance(key, str) or not key:
            raise ValueError(f"{path}: cell {number} has no nbgrader id")
        if graded and (type(points) not in (int, float) or not 0 < points < 1000):
            raise ValueError(f"{path}: {key} is graded and needs points above 0, got {points!r}")
        kind: Literal["solution", "locked", "test", "manual"] = "locked"
        if graded:
            kind = "manual" if answered else "test"
        elif answered:
            kind = "solution"
        if kind == "test" and not is_code:
            raise ValueError(f"{path}: {key} is a test and has to be a code cell")
        category = cell.get("metadata", {}).get("ca14", {}).get("category", "")
        yield Cell(key, kind, is_code, cell_source(cell), float(points) if graded else 0.0, category)


def notebook_about(notebook: dict[str, Any]) -> dict[str, Any]:
    metadata = notebook.get("metadata")
    about = metadata.get("ca14") if isinstance(metadata, dict) else None
    return about if isinstance(about, dict) else {}


def code_cells(notebook: dict[str, Any]) -> list[tuple[str | None, str]]:
    """nbgrader's id or None, and the text, of every code cell."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [(grader_metadata(cell).get("grade_id"), cell_source(cell)) for cell in cells]


def grader_metadata(cell: dict[str, Any]) -> dict[str, Any]:
    """What nbgrader notes at a cell; ids in one normal form, so that look-alikes of accents are the same id."""
    metadata = cell.get("metadata")
    grader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if not isinstance(grader, dict):
        return {}
    key = grader.get("grade_id")
    if not isinstance(key, str) or len(key) > LONGEST_ID:
        return grader | {"grade_id": None}
    return grader | {"grade_id": unicodedata.normalize("NFC", key)}


def cell_source(cell: dict[str, Any]) -> str:
    """The text, without halves of characters, which neither a file nor a database could hold."""
    source = cell["source"]
    text = "".join(source) if isinstance(source, list) else source
    return text.encode("utf8", "replace").decode("utf8")


def short_text(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text.encode("utf8", "replace").decode("utf8")[:80]
