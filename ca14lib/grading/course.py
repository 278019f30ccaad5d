"""Grading an assignment of a course from the folder of submissions to reports: what ``ca14 grade`` does."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from tqdm.auto import tqdm

from ca14lib.grading.batch import Judged, judge_all, locked
from ca14lib.grading.collect import find_submissions
from ca14lib.grading.exports import write_reports
from ca14lib.grading.folders import replace_file
from ca14lib.grading.notebooks import Assignment, read_assignment
from ca14lib.grading.results import Result
from ca14lib.grading.roster import Student

if TYPE_CHECKING:
    from ca14lib.grading.gradebook import LatePolicy

NEEDS_NBGRADER = "grading needs nbgrader and copydetect: pip install 'ca14lib[grading]'"


@dataclass(frozen=True)
class Graded:
    """What grading gave.

    Attributes:
        assignment: Its single source.
        results: Of every submission, by identifier.
        ignored: Entries of the folder of submissions that are none, with the reason.
        reports: Folder of ``grades.csv`` and the other exports.
        ungraded: Students at whose submission the judge failed or was stopped, to be graded by hand.
    """

    assignment: Assignment
    results: list[Result]
    ignored: list[str]
    reports: Path
    ungraded: list[str]


def grade_course(
    submissions: str | Path,
    name: str,
    course: str | Path,
    *,
    source: str | Path,
    secret: str,
    roster: dict[str, Student] | None = None,
    late: "LatePolicy | None" = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    similarity: bool = True,
    progress: bool = True,
) -> Graded:
    """Judge, record, and report; called again it goes on where it was stopped, and takes over marks by hand.

    Args:
        submissions: Folder with a folder or a zip archive per student.
        name: Of the assignment.
        course: Folder of the course; made where it is missing.
        source: Folder of the single sources, or the source itself.
        secret: Of the term, the one that instances were released with.
        roster: Students of the class; those who handed in nothing are listed with 0 points.
        late: Policy for late work; None keeps the one given last.
        jobs: Processes; None for one per core.
        scheduler: Address of a Dask scheduler.
        similarity: Write the report on similar submissions.
        progress: Show progress bars.
    Raises:
        FileNotFoundError: If submissions or source are missing.
        ValueError: If names, the secret or the source are not what is expected.
        RuntimeError: If another grader works in the folder of the course.
        SandboxError: If the sandbox does not hold: nothing is graded.
        ImportError: If nbgrader is not installed.
    """
    try:
        from ca14lib.grading.gradebook import CourseGradebook
        from ca14lib.grading.release import find_source
    except ModuleNotFoundError as problem:
        raise ImportError(f"{NEEDS_NBGRADER} ({problem})") from None
    course, source = Path(course).resolve(), find_source(source, name)
    found, ignored = find_submissions(submissions)
    with locked(course):
        _same_secret(course, secret)
        gradebook = CourseGradebook(course)
        policy = gradebook.set_late_policy(read_assignment(source), late)
        assignment = gradebook.set_assignment(source)
        judged = judge_all(
            found, source, course / "marks" / name, secret, jobs=jobs, scheduler=scheduler, progress=progress
        )
        gradebook.record(assignment, judged, lambda rows: tqdm(rows, unit="record", disable=not progress))
        results = gradebook.results(assignment, judged, policy)
        reports = course / "reports" / name
        write_reports(results, reports, roster)
        _write_feedback(results, judged, assignment, course)
        if similarity:
            _write_similarity(judged, assignment, gradebook.released(assignment), reports)
    ungraded = [one.student for one in judged if one.ungraded]
    return Graded(assignment, results, ignored, reports, ungraded)


def _same_secret(course: Path, secret: str) -> None:
    """Hold that the folder of the course was begun with this secret: another one draws other instances.

    Raises:
        ValueError: If it was another, or is empty.
    """
    if not secret:
        raise ValueError("the secret of the term is empty: expected the one that instances were released with")
    stamp = course / "secret.sha256"
    digest = hashlib.sha256(f"course {secret}".encode()).hexdigest()
    if not stamp.is_file():
        replace_file(stamp, digest)
    elif stamp.read_text("utf8") != digest:
        raise ValueError(
            f"this is not the secret with which {course} was graded so far, so that nobody's instance would be the one "
            "that was handed out: name that secret, or another folder of the course for another term"
        )


def _write_feedback(results: list[Result], judged: Sequence[Judged], assignment: Assignment, course: Path) -> None:
    from ca14lib.grading.feedback import write_feedback

    write_feedback(results, list(judged), assignment, course)


def _write_similarity(judged: Sequence[Judged], assignment: Assignment, released: Path, reports: Path) -> None:
    """The report on what is alike; what students were given counts for nothing."""
    from ca14lib.grading.similarity import similarity_report

    own = {cell.key for cell in assignment.cells if cell.is_code and cell.kind == "solution"}
    submissions: dict[str, dict[str, str]] = {}
    for one in judged:
        texts: dict[str, str] = {}
        for number, (key, source) in enumerate(one.code):
            if key in own:
                texts.setdefault(str(key), source)
            elif key is None:
                texts[f"further cell {number}"] = source
        if texts:
            submissions[one.student] = texts
    notebook = nbformat.read(released, as_version=4)
    given = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    # students' cells are compared one behind the other, so that runs from one into the next are given, too
    own_cells = (cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") in own)
    given.append("\n".join(cell.source.strip("\n") for cell in own_cells))
    reference = {cell.key: cell.source for cell in assignment.cells if cell.key in own}
    report = similarity_report(submissions, given=given, reference=reference, title=assignment.name, progress=False)
    report.write(reports / "similarity.html")
