"""A student's own run of an assignment: the cells of the notebook and the public tests, without grader and sandbox.

Tests run as the judge runs them, on the student's own computer and without limits on time; it needs neither the single
source nor nbgrader. Book: assignments/students.
"""

import ast
import contextlib
import hashlib
import io
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from ca14lib.grading.instances import load_instance, module_name
from ca14lib.grading.judge import ORDINARY_TIMES, compile_test, judge_test
from ca14lib.grading.notebooks import (
    FILE_BYTES,
    NOTEBOOK_BYTES,
    Assignment,
    Cell,
    Step,
    SubmissionError,
    assignment_cells,
    cell_source,
    code_cells,
    grader_metadata,
    missing_cells,
    notebook_about,
    parse_notebook,
    read_assignment,
    read_regular_file,
    steps,
)
from ca14lib.grading.runtime import LIBRARY
from ca14lib.grading.session import InProcessWorker, Session, Times

PUBLIC_SEED = 0  # the same numbers in every run, so that a change of the result is a change of the code
HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
NO_LIMITS = Times(call=math.inf, cell=math.inf, test=math.inf, submission=math.inf, restarts=0)
State = Literal["passed", "failed", "not written yet", "not run", "marked by hand"]


@dataclass(frozen=True)
class PublicTask:
    """A task and what became of its public test.

    Attributes:
        key: Id of the test, or of the cell that is marked by hand.
        title: Heading of the task.
        points: What it gives.
        state: ``marked by hand`` is an answer in words that has been written.
        message: What is wrong and where the book explains it, or what has to be written.
        is_test: Whether a test decides, and not a person.
    """

    key: str
    title: str
    points: float
    state: State
    message: str = ""
    is_test: bool = True


@dataclass(frozen=True)
class PublicRun:
    """What a run of the public tests gave.

    Attributes:
        notebook: Its path.
        assignment: Name.
        tasks: In order.
        notes: What else should be known before handing in.
        stopped: Whether it was stopped with Ctrl-C.
    """

    notebook: Path
    assignment: str
    tasks: tuple[PublicTask, ...]
    notes: tuple[str, ...]
    stopped: bool

    @property
    def tests(self) -> tuple[PublicTask, ...]:
        """Tasks with a test."""
        return tuple(task for task in self.tasks if task.is_test)

    @property
    def score(self) -> float:
        """Points of the tasks whose public test passes."""
        return sum(task.points for task in self.tests if task.state == "passed")

    @property
    def maximum(self) -> float:
        """Points of all tasks with a test that was asked for."""
        return sum(task.points for task in self.tests)

    @property
    def passed(self) -> bool:
        """Whether all public tests pass."""
        return bool(self.tests) and all(task.state == "passed" for task in self.tests)


def find_notebook(place: str | Path | None = None) -> Path:
    """The notebook of an assignment.

    Args:
        place: The notebook itself, or a folder with one; None is the present folder.
    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    path = Path(place) if place is not None else Path()
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: expected the notebook of an assignment")
        return path
    found = sorted(file for file in path.glob("*.ipynb") if not file.name.startswith("."))
    if not found:
        raise FileNotFoundError(
            f"{path.resolve()} holds no notebook: go to the folder of the assignment, or name the notebook"
        )
    assignments = [file for file in found if _is_assignment(file)] if len(found) > 1 else found
    if len(assignments) != 1:
        names = ", ".join(file.name for file in (assignments or found)[:10])
        raise ValueError(f"{path.resolve()} holds several notebooks: name one of {names}")
    return assignments[0]


def _is_assignment(path: Path) -> bool:
    try:
        return "assignment" in notebook_about(parse_notebook(path, read_regular_file(path, NOTEBOOK_BYTES)))
    except ValueError:
        return False


def run_public_tests(
    notebook: str | Path | None = None, *, task: str | None = None, progress: bool = True
) -> PublicRun:
    """Run a student's cells and the public tests in this process.

    The cells run in a temporary folder that holds what the grader would have: ``instance.json`` and the files that
    the assignment asks for. Of those a file that was missing is put beside the notebook once the run is over; nothing
    there is ever replaced. Ctrl-C stops the run; what ran before it is in the result.

    Args:
        notebook: The notebook or its folder; None is the present folder.
        task: Only this task: its number, or the id of its cell with or without the name of the assignment.
        progress: Show a progress bar.
    Raises:
        FileNotFoundError: If there is no notebook, or no ``instance.json`` beside it.
        ValueError: If it cannot be read, is no assignment, or has no such task.
    """
    path = find_notebook(notebook).resolve()
    content = parse_notebook(path, read_regular_file(path, NOTEBOOK_BYTES))
    assignment = _own_assignment(content, path)
    cells = code_cells(content)
    titles = _titles(content)
    chosen = _chosen(assignment, titles, task)
    plan = _plan(assignment, cells, chosen)
    tests = {cell.key: compile_test(cell) for cell in chosen}
    needs_instance = any("load_instance" in source for _, source in cells)
    instance = load_instance(path.with_name("instance.json")) if needs_instance else {}
    notes = [*_changed_cells(content), *_missing(assignment, cells), *_imports(assignment, plan)]
    files, found = _files(assignment, path.parent)
    notes += found
    worker = _StudentWorker({"instance.json": json.dumps(instance).encode(), **files})
    session = Session(lambda: worker, NO_LIMITS)
    messages: dict[str, str] = {}
    errors: dict[str, str] = {}
    now, is_stopped = "the first cell", False
    with contextlib.closing(session), _without_input():
        try:
            for step in (bar := tqdm(plan, unit="cell", disable=not progress, leave=False)):
                now = step.name
                bar.set_description(now)
                if step.test is None:
                    errors[now] = session.run(step)
                else:
                    messages[now] = judge_test(step.test, tests[now], session, PUBLIC_SEED, instance).message
            notes += _written(assignment, worker, files, path.parent)
        except KeyboardInterrupt:
            is_stopped = True
            notes.append(f"stopped in {now}: what comes after it was not run")
    stopped = now if is_stopped else ""
    errors = {name: error for name, error in errors.items() if error}
    answers = {cell.key: cell.source for cell in assignment.cells if cell.kind in ("solution", "manual")}
    tasks = [_tested(cell, titles[cell.key], answers, messages, errors, stopped) for cell in chosen]
    if task is None:
        untouched = {grader_metadata(cell).get("grade_id") for cell in content["cells"] if _is_as_released(cell)}
        tasks += [_by_hand(cell, titles[cell.key], cell.key in untouched) for cell in assignment.manual]
    is_unwritten = any(one.state == "not written yet" and one.is_test for one in tasks)
    notes += _failed_elsewhere(assignment, errors, chosen, is_unwritten) + worker.slow
    return PublicRun(path, assignment.name, tuple(tasks), tuple(notes), is_stopped)


class _StudentWorker(InProcessWorker):
    """The worker in this process, which Ctrl-C stops, and which notes what the grader would stop."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.slow: list[str] = []

    @property
    def folder(self) -> Path:
        """Where the cells run."""
        return Path(self._folder.name)

    def request(self, seconds: float, **message: Any) -> dict[str, Any]:
        """The reply.

        Raises:
            KeyboardInterrupt: If the student's code was stopped with Ctrl-C.
        """
        started = time.monotonic()
        reply = super().request(seconds, **message)
        if not reply["ok"] and reply.get("type") == "KeyboardInterrupt":
            raise KeyboardInterrupt
        took, is_cell = time.monotonic() - started, message["op"] == "cell"
        allowed = ORDINARY_TIMES.cell if is_cell else ORDINARY_TIMES.call
        if took > allowed:
            what = message["name"] if is_cell else f"a call of {message['name']}"
            self.slow.append(f"{what} took {took:.0f} s, and the grader stops it after {allowed:.0f} s")
        return reply


@contextlib.contextmanager
def _without_input() -> Iterator[None]:
    """``input()`` ends at once, as it does in the grader."""
    before, sys.stdin = sys.stdin, io.StringIO()
    try:
        yield
    finally:
        sys.stdin = before


def _own_assignment(notebook: Mapping[str, Any], path: Path) -> Assignment:
    """The assignment as the student's notebook has it: the first cell of every id, whatever else was added.

    Raises:
        ValueError: If it is none.
    """
    about = notebook_about(dict(notebook))
    name, version = about.get("assignment"), about.get("version")
    if not isinstance(name, str) or type(version) is not int:
        raise ValueError(f"{path.name} is not the notebook of an assignment: its metadata names none")
    first: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if isinstance(key := grader_metadata(cell).get("grade_id"), str):
            first.setdefault(key, cell)
    cells = tuple(assignment_cells({"cells": list(first.values())}, Path(path.name)))
    modules, files = (tuple(str(entry) for entry in about.get(each, ())) for each in ("modules", "files"))
    if any(Path(file).name != file for file in files):
        raise ValueError(f"{path.name} asks for files that are not plain names: {', '.join(files)}")
    if not any(cell.kind == "test" for cell in cells):
        raise ValueError(f"{path.name} has no tests left: take your answers over into a fresh copy")
    return Assignment(name, version, modules, files, cells)


def _titles(notebook: Mapping[str, Any]) -> dict[str, str]:
    """The heading above every cell with an id."""
    titles: dict[str, str] = {}
    title = ""
    for cell in notebook["cells"]:
        key = grader_metadata(cell).get("grade_id")
        if isinstance(key, str):
            titles.setdefault(key, title or key)
        if cell["cell_type"] == "markdown" and (headings := HEADING.findall(cell_source(cell))):
            title = headings[0].strip()
    return titles


def _chosen(assignment: Assignment, titles: Mapping[str, str], task: str | None) -> tuple[Cell, ...]:
    """The tests of a task, or all.

    Raises:
        ValueError: If there is no such task.
    """
    if task is None:
        return assignment.tests
    short = task.strip().removesuffix("-test").removeprefix(f"{assignment.name}-")
    chosen = tuple(
        cell
        for cell in assignment.tests
        if cell.key.removesuffix("-test").removeprefix(f"{assignment.name}-") == short
        or titles[cell.key].startswith(f"{short} ")
    )
    if not chosen:
        known = (cell.key.removesuffix("-test").removeprefix(f"{assignment.name}-") for cell in assignment.tests)
        raise ValueError(f"{assignment.name} has no task {task!r} with a test; there are {', '.join(known)}")
    return chosen


def _plan(assignment: Assignment, cells: list[tuple[str | None, str]], chosen: Sequence[Cell]) -> list[Step]:
    """Cells and tests in order, up to the last of the tests that were asked for; all of it if all were."""
    keys = {cell.key for cell in chosen}
    plan = [step for step in steps(assignment, cells, {}) if step.test is None or step.test.key in keys]
    if len(keys) == len(assignment.tests):
        return plan
    last = max(number for number, step in enumerate(plan) if step.test is not None)
    return plan[: last + 1]


def _files(assignment: Assignment, folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Files beside the notebook that are handed in with it, and what is wrong with them."""
    files: dict[str, bytes] = {}
    notes: list[str] = []
    for name in assignment.files:
        if (folder / name).exists():
            try:
                files[name] = read_regular_file(folder / name, FILE_BYTES)
            except SubmissionError as problem:
                notes.append(f"{problem}: the grader does not take it")
    return files, notes


def _written(assignment: Assignment, worker: _StudentWorker, files: Mapping[str, bytes], folder: Path) -> list[str]:
    """Put files that were missing beside the notebook, and say what became of all that are handed in."""
    notes: list[str] = []
    for name in assignment.files:
        path = worker.folder / name
        content = path.read_bytes() if path.is_file() else None
        if content is not None and len(content) > FILE_BYTES:
            notes.append(f"{name} has {len(content):,} bytes, and the grader takes at most {FILE_BYTES:,}")
        if (folder / name).exists():
            if name in files and content is not None and content != files[name]:
                notes.append(
                    f"your cells write {name} anew; the file beside the notebook was left as it is, and the tests "
                    "judged the new one, as the grader does"
                )
        elif content is None:
            notes.append(f"{name} is missing, and no cell has written it: it has to be handed in with the notebook")
        else:
            with contextlib.suppress(FileExistsError), (folder / name).open("xb") as file:
                file.write(content)
            notes.append(f"{name} was missing; your cells have written it, and it lies beside the notebook now")
    return notes


def _tested(
    cell: Cell,
    title: str,
    answers: Mapping[str, str],
    messages: Mapping[str, str],
    errors: Mapping[str, str],
    stopped: str,
) -> PublicTask:
    """What became of a task with a test."""
    answer = cell.key.removesuffix("-test")
    if cell.key not in messages:
        reason = "Ctrl-C stopped it." if stopped in (cell.key, f"cell {answer}") else ""
        return PublicTask(cell.key, title, cell.points, "not run", reason)
    message = messages[cell.key]
    if not message:
        return PublicTask(cell.key, title, cell.points, "passed")
    stub = _stub(answers.get(answer, ""))
    if stub is not None:
        return PublicTask(cell.key, title, cell.points, "not written yet", stub)
    if error := errors.get(f"cell {answer}", ""):
        message = f"Your cell fails: {error}"
    return PublicTask(cell.key, title, cell.points, "failed", message)


def _stub(source: str) -> str | None:
    """What the first ``raise NotImplementedError("…")`` of a cell asks for; None if there is none."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc if isinstance(node.exc, ast.Call) else ast.Call(node.exc, [], [])
            if isinstance(call.func, ast.Name) and call.func.id == "NotImplementedError":
                text = call.args[0] if call.args else None
                return str(text.value) if isinstance(text, ast.Constant) else ""
    return None


def _by_hand(cell: Cell, title: str, untouched: bool) -> PublicTask:
    state: State = "not written yet" if untouched else "marked by hand"
    return PublicTask(cell.key, title, cell.points, state, is_test=False)


def _changed_cells(notebook: Mapping[str, Any]) -> Iterator[str]:
    """Cells of the assignment that are not as they were handed out."""
    for cell in notebook["cells"]:
        grader = grader_metadata(cell)
        is_given = bool(grader.get("locked") or grader.get("grade")) and not grader.get("solution")
        if is_given and "checksum" in grader and not _is_as_released(cell):
            yield f"the cell {grader.get('grade_id')} is not yours and was changed: the grader uses its own copy"


def _is_as_released(cell: dict[str, Any]) -> bool:
    grader = grader_metadata(cell)
    return "checksum" in grader and grader["checksum"] == checksum(cell)


def checksum(cell: dict[str, Any]) -> str:
    """What nbgrader notes at a cell when it is released: a hash of its text, kind, id and points."""
    grader = grader_metadata(cell)
    graded, answered = bool(grader.get("grade")), bool(grader.get("solution"))
    is_locked = not answered and (graded or bool(grader.get("locked")))
    parts = [
        cell_source(cell),
        cell["cell_type"],
        str(graded),
        str(answered),
        str(is_locked),
        str(grader.get("grade_id")),
    ]
    if graded:
        points = grader.get("points")
        parts.append(str(float(points)) if isinstance(points, int | float) else "")
    return hashlib.md5("".join(parts).encode("utf8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _missing(assignment: Assignment, cells: list[tuple[str | None, str]]) -> list[str]:
    """Cells that were deleted, as far as it can be told, and whether the course has a newer version."""
    course = LIBRARY.parent / "notebooks" / "assignments" / f"{module_name(assignment.name)}.ipynb"
    try:
        given = read_assignment(course)
    except (OSError, ValueError):  # the package alone is installed
        given = assignment
    if given.version != assignment.version:
        return [
            f"this is version {assignment.version} of the assignment, and {course} is version {given.version}: the "
            "grader takes only the one that was handed out last"
        ]
    known = {cell.key for cell in assignment.cells}
    answers = {cell.key.removesuffix("-test") for cell in assignment.tests if cell.key.endswith("-test")}
    missing = dict.fromkeys([*missing_cells(given, cells), *sorted(answers - known)])
    return [f"the cell {key} is missing: copy it from a fresh notebook" for key in missing]


def _imports(assignment: Assignment, plan: Sequence[Step]) -> Iterator[str]:
    """Modules of the course that cells of the student import and the grader does not have."""
    allowed = tuple(f"{name}." for name in (*assignment.modules, "ca14lib.grading"))
    given = {f"cell {cell.key}" for cell in assignment.cells if cell.kind == "locked"}
    for step in plan:
        if step.test is not None or step.name in given:
            continue
        try:
            body = ast.parse(step.source).body
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in body:  # only what runs in any case: an import under an ``if`` may be meant for this computer
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                if name.startswith("ca14lib.") and not f"{name}.".startswith(allowed):
                    yield f"{step.name} imports {name}, which the grader does not have"


def _failed_elsewhere(
    assignment: Assignment, errors: Mapping[str, str], chosen: Sequence[Cell], is_unwritten: bool
) -> list[str]:
    """Errors of cells that no task of the table tells about; cells that were given need what is not written yet."""
    told = {f"cell {cell.key.removesuffix('-test')}" for cell in chosen}
    if is_unwritten:
        told |= {f"cell {cell.key}" for cell in assignment.cells if cell.kind == "locked"}
    return [
        f"{name} fails: {error}"
        for name, error in errors.items()
        if name not in told and not error.startswith("NotImplementedError")
    ]
