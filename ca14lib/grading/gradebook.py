"""The gradebook of a course: nbgrader's database and folders, filled with the judge's marks.

nbgrader keeps points, manual marks, comments and late penalties, and its formgrader shows them. It never runs code of
a student: where its own pipeline would execute a notebook, :class:`JudgeMarks` puts down what the judge has found.
Nor does it read what a student handed in; it gets a notebook that is made from the assignment and the student's texts.
Book: assignments/instructors.
"""

import csv
import hashlib
import html
import json
import logging
import math
import os
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Grade as GradeRow
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from sqlalchemy.exc import SAWarning
from traitlets import Unicode
from traitlets.config import Config

from ca14lib.grading.batch import Judged
from ca14lib.grading.folders import replace_file
from ca14lib.grading.instances import module_name
from ca14lib.grading.notebooks import Assignment, read_assignment
from ca14lib.grading.release import student_version
from ca14lib.grading.results import Result
from ca14lib.grading.roster import student_id

# by name, as they also stand in the configuration for whoever starts nbgrader by hand
SETTING_UP = (
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.CheckCellMetadata",
)
RECORDING = (
    "ca14lib.grading.gradebook.JudgeMarks",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.CheckCellMetadata",
)
CONFIGURATION = f'''\
"""Configuration of nbgrader in this course. Student code is run by `ca14 grade` alone, in its sandbox."""

from pathlib import Path

c = get_config()  # noqa: F821
c.CourseDirectory.root = str(Path(__file__).parent)
c.CourseDirectory.db_url = f"sqlite:///{{Path(__file__).parent}}/gradebook.db"
c.Autograde.autograde_preprocessors = {list(RECORDING)}
c.JudgeMarks.folder = str(Path(__file__).parent / "marks")
c.GenerateAssignment.preprocessors = {list(SETTING_UP)}
c.GenerateFeedback.preprocessors = [
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.GetGrades",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
'''


@dataclass(frozen=True)
class LatePolicy:
    """What lateness costs: a share of the points for every day that has begun, up to a maximum.

    Attributes:
        due: When the assignment is due, with a time zone.
        per_day: Share of the points for each day, in [0, 1].
        maximum: Largest share, in [0, 1].
        grace: Minutes after the due time that cost nothing.
        submitted: When each student handed in, with a time zone; who is not named was in time.
    """

    due: datetime
    per_day: float = 0.1
    maximum: float = 0.5
    grace: float = 0.0
    submitted: Mapping[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("per_day", "maximum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"late policy: {name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.grace < math.inf:
            raise ValueError(f"late policy: grace must be at least 0 minutes, got {self.grace}")
        for whose, moment in {"due": self.due, **self.submitted}.items():
            if moment.tzinfo is None:
                raise ValueError(f"late policy: the time of {whose}, {moment.isoformat()}, needs a time zone")

    def penalty(self, score: float, submitted: datetime | None, extension: timedelta | None = None) -> float:
        """Points that are taken off.

        Args:
            score: Points reached.
            submitted: When it was handed in; None was in time.
            extension: What the student was granted on top.
        """
        if submitted is None:
            return 0.0
        late = submitted - self.due - (extension or timedelta()) - timedelta(minutes=self.grace)
        days = max(0, math.ceil(late / timedelta(days=1)))
        return score * min(self.maximum, days * self.per_day)

    def to_json(self) -> str:
        """For a file; :meth:`from_json` is the way back."""
        times = {student: moment.isoformat() for student, moment in self.submitted.items()}
        return json.dumps(asdict(self) | {"due": self.due.isoformat(), "submitted": times})

    @classmethod
    def from_json(cls, text: str) -> "LatePolicy":
        """The policy that :meth:`to_json` wrote."""
        fields = json.loads(text)
        times = {student: datetime.fromisoformat(moment) for student, moment in fields.pop("submitted").items()}
        return cls(datetime.fromisoformat(fields.pop("due")), submitted=times, **fields)


def late_policy(
    due: str, times: str | Path | None, per_day: float = 0.1, maximum: float = 0.5, grace: float = 0.0
) -> LatePolicy:
    """A policy from what a command line gives.

    Args:
        due: ISO 8601 with a time zone.
        times: CSV file with the columns ``student`` and ``submitted``, times as ``due``; of several rows of a student
            the last time counts. None: nobody was late.
        per_day: As in :class:`LatePolicy`, as are the other two.
        maximum: Largest share.
        grace: Minutes.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a time cannot be read or has no zone, a column is missing, or a share makes no sense.
    """
    submitted: dict[str, datetime] = {}
    if times is not None:
        text = Path(times).read_text("utf-8-sig")
        rows = csv.DictReader(text.splitlines())
        if missing := {"student", "submitted"} - set(rows.fieldnames or ()):
            raise ValueError(f"{times}: the column {sorted(missing)[0]} is missing; expected student and submitted")
        for row in rows:
            student = student_id(row["student"] or "")
            moment = _moment(row["submitted"] or "", f"{times}, line {rows.line_num}")
            submitted[student] = max(moment, submitted.get(student, moment))
    return LatePolicy(_moment(due, "the due time"), per_day, maximum, grace, submitted)


def _moment(text: str, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no time; expected one like 2026-12-01T23:59+01:00") from None
    if moment.tzinfo is None:
        raise ValueError(f"{where}: {text!r} needs a time zone, like 2026-12-01T23:59+01:00")
    return moment


class JudgeMarks(NbGraderPreprocessor):
    """In the place of nbgrader's execution: no output where the judge gave the points, its message where it did not."""

    folder = Unicode(help="Folder of the judge's marks, with a folder for every assignment.").tag(config=True)

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Write the judge's verdict on every test into its cell.

        Raises:
            FileNotFoundError: If the judge has not graded this submission.
        """
        about = resources["nbgrader"]
        path = Path(self.folder, about["assignment"], f"{about['student']}.json")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: `ca14 grade` judges submissions, nbgrader never runs them")
        judged = Judged.from_json(path.read_text("utf8", "surrogatepass"))
        marks = {mark.key: mark.message for mark in judged.grade.marks} if judged.grade is not None else {}
        for cell in nb.cells:
            grader = cell.metadata.get("nbgrader", {})
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            if grader.get("grade") and not grader.get("solution"):
                message = marks.get(grader["grade_id"], judged.problem or "This test was not run.")
                cell.outputs = [_error(message)] if message else []
            elif judged.grade is not None and (error := judged.grade.errors.get(f"cell {grader.get('grade_id')}")):
                cell.outputs = [_error(error)]
        nb.metadata["ca14_key"] = judged.key
        return nb, resources


class _Autograde(Autograde):
    """Autograding of one student: nothing is searched with patterns, in which brackets of an id would be special."""

    def init_notebooks(self) -> None:
        folder = self._format_source(self.coursedir.assignment_id, self.one_student)
        self.assignments = {folder: [f"{folder}/{module_name(self.coursedir.assignment_id)}.ipynb"]}
        self.notebooks: list[str] = []


class CourseGradebook:
    """nbgrader's folders and database of a course.

    Args:
        folder: Of the course; what is missing in it is made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # marks of a class are nobody else's business
        configuration = self.folder / "nbgrader_config.py"
        if not configuration.exists():
            replace_file(configuration, CONFIGURATION)
        self._url = f"sqlite:///{self.folder}/gradebook.db"
        if (
            shutil.which("alembic") is None
        ):  # nbgrader starts it by name, which the environment need not have on the path
            os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._log = logging.getLogger("ca14lib.grading.nbgrader")
        self._log.propagate = False
        self._log.handlers = [logging.NullHandler()]

    def set_assignment(self, source: str | Path) -> Assignment:
        """Put an assignment into the gradebook, or its mended tests.

        Args:
            source: Its single source. Solutions stay out of the gradebook, hidden tests are in it.
        Raises:
            ValueError: If tests that have marks are gone from the source.
        """
        assignment = read_assignment(source)
        original = nbformat.read(source, as_version=4)
        given = nbformat.from_dict(student_version(original))
        texts = {cell.key: cell.source for cell in assignment.tests}
        for cell in given.cells:
            key = cell.metadata.get("nbgrader", {}).get("grade_id")
            cell.source = texts.get(key, cell.source)
        target = self.folder / "source" / assignment.name / f"{module_name(assignment.name)}.ipynb"
        text = nbformat.writes(given)
        stamp = self.folder / "assignments" / f"{assignment.name}.sha256"
        digest = hashlib.sha256(text.encode()).hexdigest()
        if stamp.is_file() and stamp.read_text("utf8") == digest and self.released(assignment).is_file():
            return assignment
        self._fit_cells(assignment)
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, text)
        converter = GenerateAssignment(
            coursedir=self._course(assignment.name),
            force=True,
            preprocessors=list(SETTING_UP),
        )
        self._run(converter, f"the assignment {assignment.name}")
        stamp.parent.mkdir(exist_ok=True)
        replace_file(stamp, digest)  # last: a kill before it makes all of this again
        return assignment

    def released(self, assignment: Assignment) -> Path:
        """The student version, as nbgrader has made it."""
        return self.folder / "release" / assignment.name / f"{module_name(assignment.name)}.ipynb"

    def record(self, assignment: Assignment, judged: Sequence[Judged], progress: Any = iter) -> None:
        """Put the judge's marks into the gradebook; manual marks and comments stay as they are.

        Manual marks of a submission whose marks have changed are flagged for another look.

        Args:
            assignment: From :meth:`set_assignment`.
            judged: From :func:`ca14lib.grading.batch.judge_all`, which also wrote the files.
            progress: Wraps the loop, as ``tqdm`` does.
        Raises:
            RuntimeError: If nbgrader refused some, naming them; the others are recorded.
        """
        refused: list[str] = []
        name = f"{module_name(assignment.name)}.ipynb"
        released = self.released(assignment).read_text("utf8")
        for one in progress(judged):
            done = self.folder / "autograded" / one.student / assignment.name / name
            if done.is_file() and nbformat.read(done, as_version=4).metadata.get("ca14_key") == one.key:
                continue
            submitted = self.folder / "submitted" / one.student / assignment.name / name
            submitted.parent.mkdir(parents=True, exist_ok=True)
            notebook = _shown(nbformat.reads(released, as_version=4), assignment, one)
            replace_file(submitted, nbformat.writes(notebook))
            config = Config({"JudgeMarks": {"folder": str(self.folder / "marks")}})
            converter = _Autograde(
                coursedir=self._course(assignment.name),
                force=True,
                config=config,
                autograde_preprocessors=list(RECORDING),
            )
            converter.one_student = one.student
            try:
                self._run(converter, f"the submission of {one.student}")
            except RuntimeError as problem:
                refused.append(str(problem))
        if refused:
            raise RuntimeError("; ".join(refused))

    def set_late_policy(self, assignment: Assignment, policy: LatePolicy | None) -> LatePolicy | None:
        """Keep a policy, or find the one that was kept before; None where there is none."""
        path = self.folder / "late" / f"{assignment.name}.json"
        if policy is None:
            return LatePolicy.from_json(path.read_text("utf8")) if path.is_file() else None
        path.parent.mkdir(exist_ok=True)
        replace_file(path, policy.to_json())
        return policy

    def results(
        self, assignment: Assignment, judged: Sequence[Judged], policy: LatePolicy | None = None
    ) -> list[Result]:
        """Everything that is known of the submissions, with manual marks as they stand now.

        Late penalties are computed anew from the present points and written into the gradebook.
        """
        found = []
        maximum = sum(cell.points for cell in (*assignment.tests, *assignment.manual))
        tests = {cell.key for cell in assignment.tests}
        with Gradebook(self._url) as gradebook:
            if policy is not None:
                gradebook.update_or_create_assignment(assignment.name, duedate=_naive(policy.due))
            for one in judged:
                row = gradebook.find_submission(assignment.name, one.student)
                (notebook,) = row.notebooks
                manual: dict[str, float | None] = {}
                replaced: dict[str, float] = {}
                for grade in notebook.grades:
                    if grade.name in tests:
                        if grade.manual_score is not None or grade.extra_credit:
                            replaced[grade.name] = float(grade.score)
                    else:
                        waiting = grade.needs_manual_grade and grade.manual_score is None
                        manual[grade.name] = None if waiting else float(grade.score)
                comments = {comment.name: comment.comment for comment in notebook.comments if comment.comment}
                submitted = policy.submitted.get(one.student) if policy is not None else None
                result = Result(
                    one.student, assignment.name, maximum, one.grade, one.problem, manual, replaced, comments,
                    submitted=submitted,
                )  # fmt: skip
                row.timestamp = _naive(submitted) if submitted is not None else None
                penalty = policy.penalty(result.score, submitted, row.extension) if policy is not None else 0.0
                notebook.late_submission_penalty = penalty or None
                found.append(Result(**{**vars(result), "late_penalty": penalty}))
            gradebook.db.commit()
        return found

    def _course(self, assignment: str) -> CourseDirectory:
        course = CourseDirectory(root=str(self.folder), db_url=self._url, assignment_id=assignment)
        course.log = self._log
        return course

    def _run(self, converter: Any, what: str) -> None:
        converter.log = self._log
        try:
            with warnings.catch_warnings(action="ignore", category=SAWarning):  # nbgrader's own, of every submission
                converter.start()
        except NbGraderException as problem:
            raise RuntimeError(f"nbgrader cannot record {what}: {problem}") from problem

    def _fit_cells(self, assignment: Assignment) -> None:
        """Give submissions that are in the gradebook a place for tests that were added since.

        nbgrader itself refuses a changed set of cells once there are submissions.

        Raises:
            ValueError: If cells with marks are gone.
        """
        notebook = module_name(assignment.name)
        graded = {cell.key: cell for cell in (*assignment.tests, *assignment.manual)}
        with Gradebook(self._url) as gradebook:
            try:
                row = gradebook.find_notebook(notebook, assignment.name)
            except MissingEntry:
                return
            if not row.submissions:
                return
            if gone := {cell.name for cell in row.grade_cells} - set(graded):
                raise ValueError(
                    f"{', '.join(sorted(gone))} has marks in the gradebook and is gone from the assignment: keep the "
                    "cell, with a test that passes if it should no longer count, or grade in a new course folder"
                )
            for key in set(graded) - {cell.name for cell in row.grade_cells}:
                kind = "code" if graded[key].is_code else "markdown"
                cell = gradebook.add_grade_cell(
                    key, notebook, assignment.name, max_score=graded[key].points, cell_type=kind
                )
                gradebook.add_source_cell(key, notebook, assignment.name, cell_type=kind, source=graded[key].source)
                if graded[key].kind == "manual":
                    gradebook.add_solution_cell(key, notebook, assignment.name)
                for submission in row.submissions:
                    gradebook.db.add(GradeRow(cell_id=cell.id, notebook_id=submission.id))
            gradebook.db.commit()


def _shown(notebook: Any, assignment: Assignment, judged: Judged) -> Any:
    """The released notebook with a student's texts in it: what formgrader shows.

    Answers in words stand as they were typed, in a block that no renderer takes for anything but text: HTML, links and
    formulas of a student could run code in the browser of whoever marks.
    """
    code: dict[str, str] = {}
    further: dict[str | None, list[str]] = {}
    known = {cell.key for cell in assignment.cells}
    anchor: str | None = None
    for key, source in judged.code:
        if key in known:
            assert key is not None
            code.setdefault(key, source)
            anchor = key
        elif source.strip():
            further.setdefault(anchor, []).append(source)
    own = {cell.key for cell in assignment.cells if cell.kind in ("solution", "manual")}
    remarks = [judged.problem] if judged.problem else []
    remarks += [*judged.notes, *(judged.grade.notes if judged.grade is not None else ())]
    cells = [_verbatim("\n".join(remarks))] if remarks else []
    cells += [nbformat.v4.new_code_cell(source) for source in further.get(None, ())]
    for cell in notebook.cells:
        key = cell.metadata.get("nbgrader", {}).get("grade_id")
        if key in own and cell.cell_type == "code":
            cell.source = code.get(key, "")
        elif key in own and key in judged.texts and judged.texts[key].strip() != cell.source.strip():
            cell.source = _verbatim(judged.texts[key]).source
        cells.append(cell)
        cells += [nbformat.v4.new_code_cell(source) for source in further.get(key, ())]
    notebook.cells = cells
    return notebook


def _verbatim(text: str) -> Any:
    """A Markdown cell that shows a text as it is: one line of HTML, in which Markdown means nothing."""
    shown = html.escape(text.encode("utf8", "replace").decode("utf8")).replace("\n", "&#10;").replace("\r", "")
    return nbformat.v4.new_markdown_cell(f'<pre style="white-space: pre-wrap">{shown}</pre>')


def _error(message: str) -> Any:
    return nbformat.v4.new_output("error", ename="Test", evalue=message, traceback=[message])


def _naive(moment: datetime) -> datetime:
    """As nbgrader stores times: in UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
