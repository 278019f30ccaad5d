"""The judge: runs a submission's cells in a worker and the assignment's tests here, where no student code runs.

In a test, ``np``, ``torch``, ``check_close``, ``check_true``, ``check_policy``, ``rng`` and ``instance`` are the
judge's. Any other name that the test does not define itself is the student's: a function is called through, and only
plain values cross (``ca14lib.grading.protocol``); a constant is a copy.
"""

import builtins
import contextlib
import hashlib
import io
import json
import linecache
import symtable
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ca14lib.grading.check import CheckError, check_close, check_policy, check_true
from ca14lib.grading.connection import WorkerEnded
from ca14lib.grading.instances import draw_instance
from ca14lib.grading.notebooks import (
    FILE_BYTES,
    Assignment,
    Cell,
    Step,
    SubmissionError,
    missing_cells,
    read_assignment,
    read_regular_file,
    read_submission,
    steps,
)
from ca14lib.grading.sandbox import Sandbox, SandboxError
from ca14lib.grading.session import (
    InProcessWorker,
    Session,
    StudentError,
    StudentFunction,
    Times,
    Worker,
    printable_text,
)

ORDINARY_TIMES = Times()
ERRORS_KEPT = 200
TEST_BYTES = 2**29  # what a test may take besides what the judge holds already
WorkerChoice = Sandbox | Literal["sandbox", "process-free"]


@dataclass(frozen=True)
class Mark:
    """What a test gave: all its points or none, and what the student is told (empty where it passed)."""

    key: str
    points: float
    maximum: float
    category: str
    message: str
    seconds: float


@dataclass(frozen=True)
class Grade:
    """Everything about a graded submission, in plain values.

    Attributes:
        assignment: Its name.
        version: Its version.
        marks: Of the tests, in the order of the assignment.
        manual: Points that are given by hand, by the id of the cell.
        errors: What went wrong in a cell, by its name.
        notes: Missing cells and files, for the student.
        output: What the student's code printed, at most 64 KiB. Only for the instructor: code that has been called by
            a hidden test may print what it was given.
        seconds: Wall clock.
    """

    assignment: str
    version: int
    marks: tuple[Mark, ...]
    manual: dict[str, float]
    errors: dict[str, str]
    notes: tuple[str, ...]
    output: str
    seconds: float

    @property
    def score(self) -> float:
        """Points of the tests."""
        return sum(mark.points for mark in self.marks)

    @property
    def maximum(self) -> float:
        """Points that the tests can give."""
        return sum(mark.maximum for mark in self.marks)

    def mark(self, key: str) -> Mark:
        """The mark of a test.

        Raises:
            KeyError: If there is no such test.
        """
        for mark in self.marks:
            if mark.key == key:
                return mark
        raise KeyError(f"no test {key!r}; there are {', '.join(mark.key for mark in self.marks)}")

    def to_json(self) -> str:
        """For a file that a batch can go on from; :meth:`from_json` is the way back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Grade":
        """The grade that :meth:`to_json` wrote."""
        fields = json.loads(text)
        fields["marks"] = tuple(Mark(**mark) for mark in fields["marks"])
        return cls(**fields | {"notes": tuple(fields["notes"])})


def grade(
    assignment: Assignment | str | Path,
    submission: str | Path | None = None,
    *,
    seed: int,
    replaced: Mapping[str, str] | None = None,
    worker: WorkerChoice = "sandbox",
    instance: Mapping[str, Any] | None = None,
    times: Times = ORDINARY_TIMES,
    only: Collection[str] | None = None,
) -> Grade:
    """Grade one submission.

    Args:
        assignment: The single source, or its path.
        submission: Path of the submitted notebook, the other files beside it; None for the source's own solutions.
        seed: Secret of the submission; every test draws its inputs from a generator of its own that comes from it.
        replaced: Text of solution cells to run in place of what is there, by nbgrader id.
        worker: An entered :class:`Sandbox` (a batch shares one), ``sandbox`` for one that is made and tested for this
            submission, or ``process-free``: student code runs in this process, *without any protection and without
            clocks*, for tests of assignments.
        instance: The student's personal instance; None draws one from the seed.
        times: Limits on the wall clock.
        only: Ids of tests to run; cells after the last of them are not run. None runs everything.
    Returns:
        The marks. Whatever student code does, it is a mark of 0 with a message, and the other tests are judged.
    Raises:
        SubmissionError: If the submission cannot be read as one of this assignment.
        ValueError: If the assignment itself is at fault, or ``replaced`` names no solution cell.
        SandboxError: If the sandbox cannot be had or does not hold: then there is no grade.
    """
    started = time.monotonic()
    if not isinstance(assignment, Assignment):
        folder, assignment = Path(assignment).parent, read_assignment(assignment)
    else:
        folder = Path()
    cells = None if submission is None else read_submission(submission, assignment)
    plan = _selected(steps(assignment, cells, replaced or {}), only)
    tests = {cell.key: compile_test(cell) for cell in assignment.tests}
    notes = [f"the cell {key} is missing" for key in missing_cells(assignment, cells)] if cells is not None else []
    if instance is None:
        instance = draw_instance(assignment.name, f"seed {seed}", "reference")
    files = {"instance.json": json.dumps(dict(instance)).encode()}
    for name in assignment.files:
        try:
            files[name] = read_regular_file((Path(submission).parent if submission else folder) / name, FILE_BYTES)
        except SubmissionError as problem:
            notes += [] if submission is None else [str(problem)]
    marks: list[Mark] = []
    errors: dict[str, str] = {}
    with _started_by(worker, assignment, files) as start, contextlib.closing(Session(start, times)) as session:
        for step in plan:
            if step.test is None:
                error = session.run(step)
                if error and len(errors) < ERRORS_KEPT:
                    errors[step.name] = error
            else:
                marks.append(judge_test(step.test, tests[step.test.key], session, seed, instance))
    manual = {cell.key: cell.points for cell in assignment.manual}
    seconds = time.monotonic() - started
    return Grade(
        assignment.name, assignment.version, tuple(marks), manual, errors, tuple(notes), session.output, seconds
    )


def _selected(plan: list[Step], only: Collection[str] | None) -> list[Step]:
    """The plan without other tests than these, up to the last of them."""
    if only is None:
        return plan
    wanted = [number for number, step in enumerate(plan) if step.test is not None and step.test.key in only]
    if len(wanted) != len(set(only)):
        known = ", ".join(step.test.key for step in plan if step.test is not None)
        raise ValueError(f"only {sorted(only)} was asked for; the tests are {known}")
    return [step for n, step in enumerate(plan) if n in wanted or (step.test is None and n < max(wanted, default=0))]


@contextlib.contextmanager
def _started_by(
    worker: WorkerChoice, assignment: Assignment, files: Mapping[str, bytes]
) -> Iterator[Callable[[], Worker]]:
    """What starts a worker for this submission.

    Raises:
        ValueError: If a sandbox is given that was made for other modules, or the worker has an unknown name.
    """
    if worker == "process-free":
        yield lambda: InProcessWorker(files)
    elif worker == "sandbox":
        with Sandbox(assignment.modules) as sandbox:
            yield lambda: sandbox.start(files)
    elif isinstance(worker, Sandbox):
        if set(worker.modules) != set(assignment.modules):
            raise ValueError(f"the sandbox was made for {worker.modules}, {assignment.name} lists {assignment.modules}")
        given = worker
        yield lambda: given.start(files)
    else:
        raise ValueError(f"worker must be 'sandbox', 'process-free' or a Sandbox, got {worker!r}")


def compile_test(cell: Cell) -> Any:
    filename = f"<test {cell.key}>"
    linecache.cache[filename] = (len(cell.source), None, cell.source.splitlines(keepends=True), filename)
    try:
        return compile(cell.source, filename, "exec", dont_inherit=True)
    except SyntaxError as problem:
        raise ValueError(f"the test {cell.key} of the assignment is not Python: {problem}") from None


def judge_test(cell: Cell, code: Any, session: Session, seed: int, instance: Mapping[str, Any]) -> Mark:
    """Run a test: all points, or none and a message."""
    started, message = time.monotonic(), ""
    session.begin_test()
    names: dict[str, Any] = {
        "__name__": f"test {cell.key}",
        "np": np,
        "torch": torch,
        "check_close": check_close,
        "check_true": check_true,
        "check_policy": check_policy,
        "rng": np.random.default_rng([seed, *hashlib.sha256(cell.key.encode()).digest()]),
        "instance": json.loads(json.dumps(dict(instance))),
    }
    try:
        for name in sorted(student_names(cell.source) - set(names)):
            kind, value = session.look_up(name)
            if kind == "other":
                raise CheckError(f"`{name}` is {value or 'something'} and cannot be tested: a function is expected.")
            if kind != "missing":
                names[name] = StudentFunction(session, name) if kind == "function" else value
        with _bounded_memory(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            exec(code, names)  # without the noise of student values in the instructor's log
        session.end_test()
    except SandboxError:
        raise  # a fault of this computer is not the student's
    except Exception as problem:
        message = _message(problem, cell) or "the test fails"
    points = 0.0 if message else cell.points
    return Mark(cell.key, points, cell.points, cell.category, message, time.monotonic() - started)


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let a test that makes too much of a student's results end in a MemoryError, on Linux.

    Two small arrays that broadcast against each other may take gigabytes in a comparison.
    """
    try:
        import resource
    except ImportError:  # Windows, where students check their work
        yield
        return
    if not sys.platform.startswith("linux"):  # other systems do not say what is held
        yield
        return
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + TEST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def student_names(source: str) -> set[str]:
    """Names that a test uses and defines nowhere: neither by assignment, import or argument, nor built into Python."""
    found: set[str] = set()

    def visit(table: symtable.SymbolTable) -> None:
        outer = table.get_type() == "module"
        found.update(s.get_name() for s in table.get_symbols() if s.is_referenced() and (outer or s.is_global()))
        for inner in table.get_children():
            visit(inner)

    top = symtable.symtable(source, "<test>", "exec")
    visit(top)
    own = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return found - own - set(dir(builtins))


def _message(problem: Exception, cell: Cell) -> str:
    """What the student is told. Of a hidden line: the hint, or the kind of the error, never a value."""
    lines, hidden = _lines(problem, cell), False
    if lines:
        hidden = not cell.hidden_lines().isdisjoint(lines)
    if isinstance(problem, WorkerEnded):
        return f"Your code was stopped: {problem}."
    if isinstance(problem, NameError) and not isinstance(problem, StudentError):
        name = printable_text(problem.name, 100)
        return f"`{name}` is not defined: the cell that defines it is missing, empty or has failed."
    if hidden:
        if isinstance(problem, CheckError):
            return f"A hidden test fails. {problem.hint}".strip()
        if isinstance(problem, StudentError):
            return f"A hidden test fails: your code raises {_built_in(problem)}."
        return "A hidden test fails."
    if isinstance(problem, StudentError | CheckError):
        return printable_text(_plain(problem))
    if isinstance(problem, AssertionError) and not str(problem):
        return f"This does not hold: {linecache.getline(f'<test {cell.key}>', lines[-1]).strip()}" if lines else ""
    return printable_text(f"{type(problem).__name__}: {problem}")


def _lines(problem: Exception, cell: Cell) -> list[int]:
    """Lines of the test through which an error came, outer ones first."""
    lines, trace = [], problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == f"<test {cell.key}>":
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines


def _built_in(problem: StudentError) -> str:
    """The built-in class of an error of the student; names that a student makes up could carry a message."""
    name = _plain(problem).partition(":")[0]
    found = getattr(builtins, name, None)
    return name if isinstance(found, type) and issubclass(found, BaseException) else "an error"


def _plain(problem: Exception) -> str:
    """The message as it was given; ``str`` of a KeyError is its ``repr``."""
    return str(problem.args[0]) if problem.args else ""
