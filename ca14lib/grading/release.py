"""Releasing an assignment: the student version of the single source, checks that it fits, everyone's own copy.

Needs the extra ``grading``, because nbgrader cuts out solutions and hidden tests. Book: assignments/instructors.
"""

import ast
import copy
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import symtable
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.nbgraderformat import ValidationError
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)
from tqdm.auto import tqdm

from ca14lib.grading.folders import replace_file
from ca14lib.grading.instances import draw_instance, module_name
from ca14lib.grading.judge import student_names
from ca14lib.grading.notebooks import BEGIN_HIDDEN, END_HIDDEN, read_assignment
from ca14lib.grading.roster import clashing_students, student_id
from ca14lib.grading.runtime import LIBRARY

BEGIN_SOLUTION, END_SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
ANSWER_HERE = "*Write your answer here.*"
MARKS = {"SOLUTION": (BEGIN_SOLUTION, END_SOLUTION), "HIDDEN TESTS": (BEGIN_HIDDEN, END_HIDDEN)}
SHORTEST_SECRET = 16
SHORTEST_TRACE = 12  # a line of at most so many characters, without its blanks, gives nothing away
RUN_SECONDS = 300.0
# nbgrader puts the same line into every region of a notebook; each is then given words of its own
_STUB = 'raise NotImplementedError("the place of a solution")'
# The worker's half of the grader runs the cells, in a process and a folder of their own, to the last of them.
_RUN = """
import json, sys
sys.path.insert(0, {root!r})
from ca14lib.grading.worker import Kernel
kernel = Kernel("__main__")
with open("cells.json", encoding="utf8") as file:
    cells = json.load(file)
replies = [kernel.handle(dict(op="cell", id=0, name=name, source=source)) for name, source in cells]
with open("replies.json", "w", encoding="utf8") as file:
    json.dump(replies, file)
"""


def student_version(notebook: Mapping[str, Any]) -> Any:
    """The notebook that students get: without solutions, hidden tests and outputs, ready for nbgrader.

    In place of a solution stands ``raise NotImplementedError("…")`` with the text of the cell's metadata
    ``ca14.stub``, or else with the name of the function and the first line of its docstring. Cells that are not the
    student's can be neither edited nor deleted in JupyterLab, and bear nbgrader's checksum.

    Args:
        notebook: The single source, as JSON or nbformat has it; it stays as it is.
    Returns:
        A notebook of nbformat.
    Raises:
        ValueError: If marks of regions are not in pairs, or stand in cells where nbgrader does not expect them.
    """
    given = nbformat.from_dict(copy.deepcopy(dict(notebook)))
    steps = (
        LockCells(),
        ClearSolutions(code_stub={"python": _STUB}, text_stub=ANSWER_HERE),
        ClearHiddenTests(),
        ClearOutput(),
    )
    try:
        for step in steps:
            given, _ = step.preprocess(given, {})
        for cell in given.cells:
            about = cell.metadata.get("ca14", {})
            text = about.pop("stub", "")
            if not about:
                cell.metadata.pop("ca14", None)
            if cell.cell_type == "code":
                cell.source = _with_stubs(cell.source.rstrip(), text)
        for step in (ComputeChecksums(), CheckCellMetadata()):
            given, _ = step.preprocess(given, {})
    except (RuntimeError, ValidationError) as problem:
        raise ValueError(f"nbgrader makes no student version of this: {problem}") from None
    return given


def _with_stubs(source: str, text: str) -> str:
    """A cell of code with words in place of nbgrader's stubs, which name the function where there is no text."""
    if _STUB not in source:
        return source
    lines, owners = source.split("\n"), _owners(source)
    for number, line in enumerate(lines):
        if line.strip() == _STUB:
            words = json.dumps(text or owners.get(number, "write your code here"), ensure_ascii=False)
            lines[number] = line.replace(_STUB, f"raise NotImplementedError({words})")
    return "\n".join(lines)


def _owners(source: str) -> dict[int, str]:
    """By the number of a line, from 0: name and summary of the innermost function around it."""
    found: dict[int, str] = {}
    try:
        tree = ast.parse(source)
    except SyntaxError:  # check_release says what is wrong
        return found
    for node in ast.walk(tree):  # outer ones come first
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            words = f"{node.name}: {summary}" if summary else f"write {node.name}"
            found |= dict.fromkeys(range(node.lineno - 1, node.end_lineno or node.lineno), words)
    return found


def check_release(source: str | Path, *, run: bool = True) -> list[str]:
    """Hold a single source and its student version against each other.

    Args:
        source: The single source.
        run: Run the student version too, in a process of its own, which takes a few seconds.
    Returns:
        What is wrong, a sentence for each; empty where nothing is.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no assignment.
    """
    assignment = read_assignment(source)
    original = nbformat.read(source, as_version=4)
    if problems := [problem for cell in original.cells for problem in _misplaced(cell)]:
        return problems
    try:
        given = student_version(original)
    except ValueError as problem:
        return [str(problem)]
    pairs = [(one, two) for one, two in zip(original.cells, given.cells, strict=True) if one.cell_type == "code"]
    for which, cells in zip(("with", "without"), zip(*pairs, strict=True), strict=True):
        problems += [problem for cell in cells for problem in _not_python(cell, which)]
    if problems:
        return problems
    problems += [problem for one, two in pairs for problem in _drift(one, two)]
    problems += _only_in_solutions(pairs)
    problems += _traces(original, given)
    points = [sum(_grader(cell).get("points", 0) for cell in each.cells) for each in (original, given)]
    if points[0] != points[1]:
        problems.append(f"the source gives {points[0]:g} points, the student version {points[1]:g}")
    if run and not problems:
        problems += _runs_to_the_first_stub(given, assignment.name)
    return problems


def _misplaced(cell: Any) -> Iterator[str]:
    """Marks that are not alone on their line, not in pairs, or not where they belong; cells that need some."""
    key, grader = _key(cell), _grader(cell)
    is_code, answered = cell.cell_type == "code", bool(grader.get("solution"))
    expected = {"SOLUTION": answered, "HIDDEN TESTS": is_code and bool(grader.get("grade")) and not answered}
    for kind, marks in MARKS.items():
        lines = [line.strip() for line in cell.source.splitlines() if f"BEGIN {kind}" in line or f"END {kind}" in line]
        if odd := [line for line in lines if line not in marks]:
            yield f"{key}: a mark stands alone on its line, as {marks[0]!r}, got {odd[0]!r}"
        elif lines != list(marks) * (len(lines) // 2):
            yield f"{key}: {' and '.join(marks)} have to come in turns, got {', '.join(lines)}"
        elif lines and not expected[kind]:
            yield f"{key} has {marks[0]} and is not the kind of cell from which nbgrader takes that out"
    if answered and BEGIN_SOLUTION not in cell.source:
        yield f"{key} is to be answered and has no region {BEGIN_SOLUTION} … {END_SOLUTION}"


def _not_python(cell: Any, which: str) -> Iterator[str]:
    try:
        ast.parse(cell.source)
    except SyntaxError as problem:
        yield f"{_key(cell)}: {which} its regions it is not Python: {problem.msg}, line {problem.lineno}"


def _drift(original: Any, given: Any) -> Iterator[str]:
    """What students are told to write and what is tested or solved must be the same thing."""
    key = _key(original)
    full, stub = _definitions(original.source), _definitions(given.source)
    for name, arguments in stub.items():
        if name not in full:
            yield f"{key}: {name} is not defined once the solution is in"
        elif full[name] != arguments:
            yield f"{key}: students are given {name}({arguments}), the solution defines {name}({full[name]})"
    if not _grader(original).get("solution"):
        lost = student_names(given.source) - student_names(original.source)
        for name in sorted(lost):
            yield f"{key}: its public lines use {name}, which only its hidden lines define"


def _definitions(source: str) -> dict[str, str]:
    """Functions and classes at the top of a cell, and methods as ``Class.method``, with their arguments."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = ast.unparse(node.args)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = ", ".join(ast.unparse(base) for base in node.bases)
            methods = (inner for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{inner.name}": ast.unparse(inner.args) for inner in methods}
    return found


def _only_in_solutions(pairs: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """Names that cells of the assignment use and of which students are not told: only a solution defines them."""
    told = {name for _, given in pairs for name in _bound(given.source)}
    for original, given in pairs:
        hidden = _bound(original.source) - told if _grader(original).get("solution") else set()
        for other, _ in pairs:
            if not _grader(other).get("solution"):
                for name in sorted(hidden & student_names(other.source)):
                    yield (
                        f"{_key(given)}: {_key(other)} uses {name}, which only the solution defines: define it in "
                        f"front of {BEGIN_SOLUTION}"
                    )


def _bound(source: str) -> set[str]:
    """Names that a cell gives a value."""
    symbols = symtable.symtable(source, "<cell>", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def _traces(original: Any, given: Any) -> Iterator[str]:
    """Lines of solutions and hidden tests that stand in what students get, unless the code they are given has them."""
    shown = "\n".join(
        _squeezed("\n".join(_split(cell)[1])) for cell in original.cells if cell.cell_type == "code"
    )  # fmt: skip
    where = {_key(cell): _squeezed(cell.source + json.dumps(cell, ensure_ascii=False)) for cell in given.cells}
    where["the metadata of the notebook"] = _squeezed(json.dumps(given.metadata, ensure_ascii=False))
    for cell in original.cells:
        for line in _split(cell)[0]:
            trace = _squeezed(line)
            if len(trace) <= SHORTEST_TRACE or trace in shown:
                continue
            escaped = json.dumps(trace, ensure_ascii=False)[1:-1]
            for place, text in where.items():
                if trace in text or escaped in text:
                    yield f"{_key(cell)}: a line that students must not see stands in {place}: {line.strip()[:80]!r}"


def _split(cell: Any) -> tuple[list[str], list[str]]:
    """Lines inside and outside of the regions, the marks left out."""
    inside: list[str] = []
    outside: list[str] = []
    into = outside
    for line in cell.source.splitlines():
        if line.strip() in (BEGIN_SOLUTION, BEGIN_HIDDEN):
            into = inside
        elif line.strip() in (END_SOLUTION, END_HIDDEN):
            into = outside
        else:
            into.append(line)
    return inside, outside


def _grader(cell: Any) -> Any:
    return cell.metadata.get("nbgrader", {})


def _key(cell: Any) -> str:
    return str(_grader(cell).get("grade_id", "a cell without an id"))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _runs_to_the_first_stub(given: Any, assignment: str) -> Iterator[str]:
    """Run the student version, every cell of it, as a student would who writes nothing."""
    cells = [cell for cell in given.cells if cell.cell_type == "code"]
    stubs = [number for number, cell in enumerate(cells) if _grader(cell).get("solution")]
    if not stubs:
        yield "there is nothing to be answered in code"
        return
    replies = _replies([(_key(cell), cell.source) for cell in cells], assignment)
    if isinstance(replies, str):
        yield replies
        return
    first = _key(cells[stubs[0]])
    for number, (cell, reply) in enumerate(zip(cells, replies, strict=True)):
        if reply["ok"]:
            continue
        places = reply["where"]
        in_stub = bool(places) and places[-1].startswith(f"{first}, line ")
        if number < stubs[0] or reply["type"] != "NotImplementedError" or not in_stub:
            yield (
                f"the student version stops in {_key(cell)}, expected NotImplementedError of {first}, the first stub: "
                f"{reply['type']}: {reply['message']} ({'; '.join(places)})"
            )
        break
    else:
        yield f"the stub of {first} is not reached: the student version runs to its end"
    for cell, reply in zip(cells, replies, strict=True):
        if reply["ok"] and _grader(cell).get("grade") and not _grader(cell).get("solution"):
            yield f"{_key(cell)} passes although nothing is written: its public lines do not reach the stub"


def _replies(cells: Sequence[tuple[str, str]], assignment: str) -> list[dict[str, Any]] | str:
    """What became of each cell in a fresh process and folder with an instance; words where there is no answer."""
    instance = draw_instance(assignment, secrets.token_urlsafe(), "nobody")
    with tempfile.TemporaryDirectory(prefix="ca14-release-", ignore_cleanup_errors=True) as folder:
        Path(folder, "instance.json").write_text(json.dumps(instance), "utf8")
        Path(folder, "cells.json").write_text(json.dumps(cells), "utf8")
        command = [sys.executable, "-c", _RUN.format(root=str(LIBRARY.parent))]
        environment = os.environ | {"MPLBACKEND": "Agg"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=RUN_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"the student version does not end within {RUN_SECONDS:g} s"
        replies = Path(folder, "replies.json")
        if done.returncode or not replies.is_file():
            said = done.stderr.decode("utf8", "replace").strip().splitlines()[-1:]
            return f"the student version ends its own process (status {done.returncode}) {' '.join(said)}".strip()
        return json.loads(replies.read_text("utf8"))


def find_source(folder: str | Path, name: str) -> Path:
    """The single source of an assignment.

    Args:
        folder: Of the sources, the private folder that ``ca14 assignment split`` has made, or the source itself.
        name: Of the assignment.
    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is another assignment, or has neither solutions nor hidden tests.
    """
    file = f"{module_name(name)}.ipynb"
    places = (Path(folder), Path(folder, file), Path(folder, "sources", file))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{Path(folder, file)} is missing: --source names the folder of the single sources")
    if (found := read_assignment(path).name) != name:
        raise ValueError(f"{path} is the assignment {found!r}, expected {name!r}")
    if not is_source(path):
        raise ValueError(f"{path} is a student version: --source names the folder of the sources with their solutions")
    return path


def is_source(path: Path) -> bool:
    """Whether a notebook has solutions or hidden tests in it."""
    cells = nbformat.read(path, as_version=4).cells
    return any(mark in cell.source for cell in cells for mark in (BEGIN_SOLUTION, BEGIN_HIDDEN))


def read_secret(path: str | Path) -> str:
    """The secret of the term from its file, without blanks around it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has fewer than 16 characters or is no text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: expected the secret of the term, as `ca14 assignment split` makes it"
        )
    try:
        secret = path.read_bytes().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8: expected the secret of the term") from None
    if len(secret) < SHORTEST_SECRET or not secret.isprintable():
        raise ValueError(
            f"{path} holds {len(secret)} characters, expected one line of at least {SHORTEST_SECRET}: instances come "
            "from it, and a short one can be guessed"
        )
    return secret


def release_assignment(
    source: str | Path,
    to: str | Path,
    students: Iterable[str],
    secret: str,
    *,
    overwrite: bool = False,
    archives: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Write everyone's copy of an assignment: ``TO/STUDENT/NAME.ipynb`` and the student's own ``instance.json``.

    Called again it writes what is missing or has changed in the source. A file that is neither what it wrote before
    nor what it would write now is somebody's work.

    Args:
        source: The single source.
        to: Folder for the folders of the students, one for each assignment.
        students: Identifiers.
        secret: Of the term; the same students get the same instances again.
        overwrite: Replace files that have been changed since.
        archives: Write ``TO/STUDENT.zip`` beside each folder.
        progress: Show progress bars.
    Returns:
        Files that were written.
    Raises:
        ValueError: If the student version does not fit its source, or an identifier cannot name a folder; nothing is
            written.
        FileExistsError: If a file would be replaced that is not as it was released; nothing is written.
        OSError: If a file cannot be written.
    """
    source, to = Path(source), Path(to)
    identifiers = _checked_students(students)
    if to.exists() and not to.is_dir():
        raise FileExistsError(f"{to} is a file, expected a folder")
    if problems := check_release(source):
        raise ValueError("the assignment is not ready to be released:\n- " + "\n- ".join(problems))
    assignment = read_assignment(source)
    name = f"{module_name(assignment.name)}.ipynb"
    notebook = _text(student_version(nbformat.read(source, as_version=4)))
    files: dict[Path, bytes] = {}
    for student in tqdm(identifiers, desc="instances", unit="student", disable=not progress):
        instance = json.dumps(draw_instance(assignment.name, secret, student)).encode()
        files |= {Path(student, "instance.json"): instance, Path(student, name): notebook}
        if archives:
            files[Path(f"{student}.zip")] = _archive({name: notebook, "instance.json": instance}, assignment.name)
    manifest = to / f".{assignment.name}.released.json"
    released = _released(manifest)
    _refuse_other_assignments(to, identifiers, name)
    changed = [path for path, content in files.items() if _digest(to / path) not in ("", _hash(content))]
    kept = [path for path in changed if _digest(to / path) not in released.get(path.as_posix(), [])]
    if kept and not overwrite:
        more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        raise FileExistsError(f"{to / kept[0]}{more} differs from what was released: --overwrite replaces it")
    missing = [path for path in files if not (to / path).is_file()]
    wanted = {path: files[path] for path in files if path in changed or path in missing}
    for path, content in wanted.items():
        known = released.setdefault(path.as_posix(), [])
        known += [_hash(content)] if _hash(content) not in known else []
    to.mkdir(parents=True, exist_ok=True)
    replace_file(manifest, json.dumps(released, indent=0).encode())  # first: what a kill leaves behind is known
    for path, content in tqdm(wanted.items(), desc="files", unit="file", disable=not progress):
        (to / path).parent.mkdir(exist_ok=True)
        replace_file(to / path, content)
    return [to / path for path in wanted]


def _checked_students(students: Iterable[str]) -> list[str]:
    identifiers = [student_id(student) for student in students]
    if not identifiers:
        raise ValueError("there are no students to release the assignment to")
    if clash := clashing_students(identifiers):
        raise ValueError(f"the students {clash[0]!r} and {clash[1]!r} would have the same folder on some systems")
    return identifiers


def _refuse_other_assignments(to: Path, students: Sequence[str], name: str) -> None:
    for student in students:
        others = sorted(path.name for path in (to / student).glob("*.ipynb") if path.name != name)
        if others and (to / student / "instance.json").is_file() and not (to / student / name).is_file():
            raise FileExistsError(
                f"{to / student} holds {others[0]}, whose instance.json would be replaced: give every assignment a "
                "folder of its own with --to"
            )


def _released(manifest: Path) -> dict[str, list[str]]:
    """Hashes of what was written before, by file."""
    try:
        found = json.loads(manifest.read_text("utf8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ValueError(f"{manifest} cannot be read: remove it, and use --overwrite") from None
    return found


def _text(notebook: Any) -> bytes:
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def _archive(files: Mapping[str, bytes], folder: str) -> bytes:
    """A zip archive with one folder; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(path: Path) -> str:
    """Hash of a file, empty where there is none."""
    return _hash(path.read_bytes()) if path.is_file() else ""


@dataclass(frozen=True)
class Split:
    """What :func:`split_sources` did.

    Attributes:
        moved: Notebooks and tests that are now in the private folder alone, as paths within the course.
        secret: File of the secret.
        in_git: Whether the course is a git repository, whose history may hold what was moved.
    """

    moved: list[Path]
    secret: Path
    in_git: bool


def split_sources(course: str | Path, private: str | Path) -> Split:
    """Move solutions, hidden tests and the cases that test them out of the course, and leave the student versions.

    Everything is copied and compared before anything is replaced, and replaced before anything is deleted; stopped at
    any moment and called again it goes on.

    Args:
        course: Folder of the course, with ``notebooks/assignments`` and perhaps ``tests/assignments``.
        private: Folder for ``sources/NAME.ipynb``, ``tests/assignments`` and ``secret``; made where it is missing.
    Raises:
        FileNotFoundError: If the course has no assignments, or they were split off into another folder.
        FileExistsError: If the private folder holds something else.
        ValueError: If it lies in the course and git would publish it, or a student version does not fit its source.
        OSError: If a file cannot be written.
    """
    course, private = Path(course).resolve(), Path(private).resolve()
    notebooks, tests = course / "notebooks" / "assignments", course / "tests" / "assignments"
    paths = sorted(notebooks.glob("*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"{notebooks} holds no notebooks: expected the folder of the course, got {course}")
    _refuse_public(course, private)
    _refuse_other_content(private)
    sources = {path: private / "sources" / path.name for path in paths if is_source(path)}
    for path in paths:
        if path not in sources and not (private / "sources" / path.name).is_file():
            raise FileNotFoundError(f"{path} has no solutions, and {private} does not hold them: they lie elsewhere")
    given: dict[Path, bytes] = {}
    for path in sources:
        if problems := check_release(path, run=False):
            raise ValueError(f"{path.name} is not ready to be released:\n- " + "\n- ".join(problems))
        given[path] = _text(student_version(nbformat.read(path, as_version=4)))
    cases = {
        path: private / "tests" / "assignments" / path.relative_to(tests)
        for path in sorted(tests.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for path, target in (sources | cases).items():
        if target.exists() and _digest(target) != _digest(path):
            raise FileExistsError(f"{target} differs from {path}: remove the one that is out of date")
    for path, target in (sources | cases).items():
        _copy_verified(path, target, private)
    secret = private / "secret"
    if not secret.exists():
        _write_secret(secret)
    for path, content in given.items():
        replace_file(path, content)
    for path in cases:
        path.unlink()
    if tests.is_dir():
        shutil.rmtree(tests)  # what is left are empty folders and compiled modules
    moved = [path.relative_to(course) for path in (*sources, *cases)]
    return Split(moved, secret, (course / ".git").exists())


def _refuse_public(course: Path, private: Path) -> None:
    """A private folder in the course has to be one that git ignores."""
    if not private.is_relative_to(course):
        return
    try:
        ignored = (
            private != course
            and not subprocess.run(
                ["git", "-C", str(course), "check-ignore", "--quiet", f"{private}/"], capture_output=True
            ).returncode
        )
    except FileNotFoundError:  # no git
        ignored = False
    if not ignored:
        raise ValueError(
            f"{private} lies in the course {course}, and git does not ignore it: choose a folder elsewhere, or add it "
            "to .gitignore"
        )


def _refuse_other_content(private: Path) -> None:
    if private.exists() and not private.is_dir():
        raise FileExistsError(f"{private} is a file, expected a folder")
    names = {path.name for path in private.glob("*") if not path.name.startswith(".")}
    others = sorted(names - {"sources", "tests", "secret"})
    if others:
        raise FileExistsError(f"{private} holds {others[0]}: expected a new folder, or one that this command has made")


def _copy_verified(path: Path, target: Path, private: Path) -> None:
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes()
    if not target.exists():
        replace_file(target, content)
    if target.read_bytes() != content:
        raise OSError(f"{target} does not read as it was written: nothing was removed from the course")


def _write_secret(path: Path) -> None:
    """A fresh secret that nobody else can read."""
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf8") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
