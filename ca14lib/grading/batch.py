"""Judging all submissions of an assignment: in parallel, resumable, one file of marks per student.

What student code can do ends with its sandbox; what a hostile file can do to the judge ends with the process that
reads it. A mark that is written is never computed again, unless what it depends on has changed.
"""

import ast
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from tqdm.auto import tqdm

from ca14lib.grading.collect import Content, HandedIn, read_content
from ca14lib.grading.folders import held_folder, remove_leftovers, replace_file
from ca14lib.grading.instances import draw_instance, module_name, seed_for
from ca14lib.grading.judge import Grade, compile_test, grade
from ca14lib.grading.notebooks import (
    Assignment,
    SubmissionError,
    quotable,
    read_assignment,
    read_submission,
    read_texts,
)
from ca14lib.grading.sandbox import Sandbox, SandboxError
from ca14lib.training.provenance import source_hash
from ca14lib.training.sweep import connected

TEXT_KEPT = 100_000  # characters of a cell that the gradebook shows
CELLS_KEPT = 200
STOPPED = "the judge was stopped while it graded this submission, most often for want of memory"
FAILED = "the judge failed at this submission"


@dataclass(frozen=True)
class Judged:
    """What a file of marks holds.

    Attributes:
        student: Identifier.
        key: Hash of everything the marks depend on.
        grade: The judge's; None where the submission could not be read.
        problem: Why there is no grade, in words for the student.
        notes: What was noticed while it was collected.
        code: Cells of the submission: nbgrader's id or None, and text.
        texts: Answers that are graded by hand, by the id of the cell.
        judged: When, in UTC, as ISO 8601 has it.
    """

    student: str
    key: str
    grade: Grade | None
    problem: str
    notes: tuple[str, ...]
    code: tuple[tuple[str | None, str], ...]
    texts: dict[str, str]
    judged: str

    @property
    def ungraded(self) -> bool:
        """Whether the judge is at fault, so that it is tried again, or graded by hand."""
        return self.problem.startswith((STOPPED, FAILED))

    def to_json(self) -> str:
        """For the file; :meth:`from_json` is the way back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Judged":
        """What :meth:`to_json` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            fields = json.loads(text)
            grade_fields = fields.pop("grade")
            return cls(
                grade=None if grade_fields is None else Grade.from_json(json.dumps(grade_fields)),
                notes=tuple(fields.pop("notes")),
                code=tuple((key, source) for key, source in fields.pop("code")),
                **fields,
            )
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"these are no marks: {problem}") from None


@dataclass(frozen=True)
class Task:
    """One submission to judge, with everything that a process elsewhere needs."""

    student: str
    key: str
    content: Content
    assignment: Assignment
    seed: int
    instance: dict[str, Any]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold that no other grader writes into the folder of the course.

    Raises:
        RuntimeError: If one does.
        OSError: If nothing can be written there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another grader works in {folder}: wait until it is done, or stop it") from None
        yield


def judge_all(
    submissions: Sequence[HandedIn],
    source: str | Path,
    folder: str | Path,
    secret: str,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Judged]:
    """Judge what has no marks yet, and return the marks of all.

    Every submission's marks are written at once when they are there, ``folder/STUDENT.json``; called again after a
    kill, only what is missing is judged. Marks are also missing when the submission, the assignment, its version of
    the library or the secret has changed.

    Args:
        submissions: From :func:`ca14lib.grading.collect.find_submissions`.
        source: The assignment's single source.
        folder: For the marks.
        secret: Of the term.
        jobs: Processes; None for one per core. With a scheduler its workers decide.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``, whose workers have the same version installed.
        progress: Show a progress bar.
    Returns:
        Marks in the order of the submissions.
    Raises:
        ValueError: If the assignment is at fault.
        SandboxError: If the sandbox cannot be had or does not hold: marks written so far stay.
        OSError: If a file cannot be written, for instance because the disk is full; marks written so far stay.
        ConnectionError: If the scheduler cannot be reached or has no workers.
    """
    assignment, folder = read_assignment(source), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    common = _common_hash(Path(source), assignment)
    for cell in assignment.tests:
        compile_test(cell)
    remove_leftovers()
    with Sandbox(assignment.modules):
        pass  # its self-test: where it does not hold, nothing is read or graded
    done: dict[str, Judged] = {}
    missing: list[HandedIn] = []
    for submission in submissions:
        stored = _stored(folder / f"{submission.student}.json")
        if (
            stored is not None
            and stored.problem != STOPPED
            and stored.key == _key(submission, assignment, common, secret)[0]
        ):
            done[submission.student] = stored
        else:
            missing.append(submission)
    finished = _judged(missing, assignment, common, secret, jobs or os.cpu_count() or 1, scheduler)
    bar = tqdm(finished, total=len(submissions), initial=len(done), unit="submission", disable=not progress)
    for judged in bar:
        replace_file(folder / f"{judged.student}.json", judged.to_json())
        done[judged.student] = judged
    return [done[submission.student] for submission in submissions]


def _key(submission: HandedIn, assignment: Assignment, common: str, secret: str) -> tuple[str, Content | None, str]:
    """Hash of what the marks depend on, the files, and why they cannot be had."""
    digest, content, problem = hashlib.sha256(common.encode()), None, ""
    try:
        content = read_content(submission, assignment)
    except Exception as fault:  # what a hostile folder or archive can bring about is not to stop the others
        problem = str(fault) if isinstance(fault, SubmissionError) else _failure(fault)
        digest.update(problem.encode("utf8", "replace"))
    else:
        for name, data in (("", content.notebook), *sorted(content.files.items())):
            digest.update(f"\n{name}\0{len(data)}\n".encode())
            digest.update(data)
        digest.update(str(seed_for(secret, submission.student, assignment.name, content.notebook)).encode())
    return digest.hexdigest(), content, problem


def _common_hash(source: Path, assignment: Assignment) -> str:
    """Hash of the assignment and of the course's code that its tests, its student code and the judge use."""
    modules = {"ca14lib.grading.judge", f"ca14lib.grading.instances.{module_name(assignment.name)}"}
    for cell in assignment.tests:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ca14lib"):
                modules.add(str(node.module))
            elif isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names if alias.name.startswith("ca14lib")}
    code = source_hash(*sorted(modules | set(assignment.modules)))
    return f"{hashlib.sha256(source.read_bytes()).hexdigest()} {code}"


def _stored(path: Path) -> Judged | None:
    """Marks of an earlier run, None if there are none that can be read."""
    try:
        return Judged.from_json(path.read_text("utf8", "surrogatepass"))
    except (OSError, ValueError):
        return None


def _judged(
    missing: Sequence[HandedIn], assignment: Assignment, common: str, secret: str, jobs: int, scheduler: str | None
) -> Iterator[Judged]:
    """Marks in the order in which they come."""

    def tasks() -> Iterator[Task | Judged]:
        for submission in missing:  # read one by one, so that few are in memory
            key, content, problem = _key(submission, assignment, common, secret)
            if content is None:
                yield _without_grade(submission.student, key, problem)
                continue
            seed = seed_for(secret, submission.student, assignment.name, content.notebook)
            instance = draw_instance(assignment.name, secret, submission.student)
            yield Task(submission.student, key, content, assignment, seed, instance)

    return _on_cluster(tasks(), scheduler) if scheduler else _on_processes(tasks(), jobs)


def _on_processes(tasks: Iterator[Task | Judged], jobs: int) -> Iterator[Judged]:
    """By processes of this computer, never in this one: what brings down a judge must not bring down the batch."""
    exhausted = False
    while not exhausted:
        waiting: dict[str, Task | Judged] = {}
        running: dict[Future[Judged], str] = {}
        executor = ProcessPoolExecutor(max_workers=jobs)
        try:
            for task in tasks:
                waiting[task.student] = task
                running[executor.submit(_judge, task)] = task.student
                if len(running) > jobs:
                    yield from _finished(running, waiting)
            exhausted = True
            while running:
                yield from _finished(running, waiting)
        except BrokenExecutor:
            pass  # by one of those that are waiting
        finally:
            executor.shutdown(wait=True, kill_workers=True)
        for task in waiting.values():
            yield _alone(task)


def _finished(running: dict[Future[Judged], str], waiting: dict[str, Task | Judged]) -> Iterator[Judged]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        judged = future.result()
        del running[future], waiting[judged.student]
        yield judged


def _on_cluster(tasks: Iterator[Task | Judged], address: str) -> Iterator[Judged]:
    """By the workers of a Dask cluster; marks are written on this computer."""
    with connected(address, __name__, source_hash(__name__)) as client:
        from distributed import KilledWorker, as_completed

        slots = 2 * len(client.scheduler_info(n_workers=-1)["workers"])
        given: dict[Any, Task | Judged] = {}
        running = as_completed([], loop=client.loop)

        def outcome(future: Any) -> Judged:
            task = given.pop(future)
            if isinstance(future.exception(), KilledWorker):
                return _without_grade(task.student, task.key, STOPPED)
            return future.result()

        for task in tasks:
            future = client.submit(_judge, task, pure=False)
            given[future] = task
            running.add(future)
            if len(given) >= slots:
                yield outcome(next(running))
        for future in running:
            yield outcome(future)


def _judge(task: Task | Judged) -> Judged:
    """In a process of the batch: judge one submission, in a sandbox that has just passed its self-test."""
    if isinstance(task, Judged):
        return task
    try:
        return _judge_in_folder(task)
    except (SandboxError, OSError):
        raise  # a fault of this computer, which ends the batch
    except Exception as problem:  # a hole in the judge: no reason to leave the others without their marks
        return _without_grade(task.student, task.key, _failure(problem))


def _judge_in_folder(task: Task) -> Judged:
    with held_folder() as folder:
        path = Path(folder, f"{module_name(task.assignment.name)}.ipynb")
        path.write_bytes(task.content.notebook)
        for name, data in task.content.files.items():
            Path(folder, name).write_bytes(data)
        try:
            cells = read_submission(path, task.assignment)
            texts = read_texts(path, task.assignment)
            result = _graded(task, path)
        except SubmissionError as problem:
            return _without_grade(task.student, task.key, str(problem), task.content.notes)
    kept = tuple((key and key[:TEXT_KEPT], source[:TEXT_KEPT]) for key, source in cells[:CELLS_KEPT])
    shown = {key: text[:TEXT_KEPT] for key, text in texts.items()}
    return Judged(task.student, task.key, result, "", task.content.notes, kept, shown, _now())


def _graded(task: Task, path: Path) -> Grade:
    try:
        return grade(task.assignment, path, seed=task.seed, instance=task.instance)
    except SandboxError:  # a computer short of memory for a moment; a second refusal ends the batch
        return grade(task.assignment, path, seed=task.seed, instance=task.instance)


def _alone(task: Task | Judged) -> Judged:
    """Judge one submission in a process that nothing else depends on."""
    with ProcessPoolExecutor(max_workers=1) as executor:
        try:
            return executor.submit(_judge, task).result()
        except BrokenExecutor:
            return _without_grade(task.student, task.key, STOPPED)


def _failure(problem: Exception) -> str:
    return quotable(f"{FAILED} ({type(problem).__name__}: {problem})")


def _without_grade(student: str, key: str, problem: str, notes: tuple[str, ...] = ()) -> Judged:
    return Judged(student, key, None, problem, notes, (), {}, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
