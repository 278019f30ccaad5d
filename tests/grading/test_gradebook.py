"""nbgrader's gradebook filled by the judge: points, marks by hand, lateness, and no student code anywhere near it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from nbgrader.api import Gradebook

from ca14lib.grading.batch import Judged
from ca14lib.grading.feedback import write_feedback
from ca14lib.grading.gradebook import CourseGradebook, LatePolicy, late_policy
from ca14lib.grading.judge import grade
from ca14lib.grading.notebooks import Assignment, read_submission, read_texts
from ca14lib.grading.release import ANSWER_HERE
from ca14lib.grading.results import Result
from tests.grading import toy

HOSTILE = (
    "# My answer\n\n<script>alert(1)</script><img src=x onerror=alert(2)> [x](javascript:alert(3))\n\n"
    "$\\href{javascript:alert(4)}{x}$ </pre><script>alert(5)</script> ]]> <!-- \n\n`<b>` **bold** &lt;ok&gt;"
)


def with_answer(answer: str, solutions: dict[str, str] | None = None) -> dict[str, Any]:
    cells = toy.cells(solutions)
    cells[-1]["source"] = answer
    return toy.notebook(cells)


class Class:
    """A course with a toy assignment, judged in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = toy.write(folder / "toy.ipynb", toy.notebook(toy.cells()))
        self.book = CourseGradebook(folder / "course")
        self.assignment: Assignment = self.book.set_assignment(self.source)
        self.judged: dict[str, Judged] = {}

    def hand_in(self, student: str, notebook: dict[str, Any] | None, key: str = "1") -> None:
        marks = self.folder / "course" / "marks" / "toy" / f"{student}.json"
        marks.parent.mkdir(parents=True, exist_ok=True)
        if notebook is None:
            one = Judged(student, key, None, "toy.ipynb is not a notebook", (), (), {}, "")
        else:
            path = toy.write(self.folder / "all" / student / "toy.ipynb", notebook)
            result = grade(self.assignment, path, worker="process-free", seed=1, instance={})
            code = tuple(read_submission(path, self.assignment))
            one = Judged(student, key, result, "", (), code, read_texts(path, self.assignment), "")
        marks.write_text(one.to_json())
        self.judged[student] = one

    def results(self, late: LatePolicy | None = None) -> dict[str, Result]:
        judged = list(self.judged.values())
        self.book.record(self.assignment, judged)
        policy = self.book.set_late_policy(self.assignment, late)
        found = self.book.results(self.assignment, judged, policy)
        write_feedback(found, judged, self.assignment, self.folder / "course")
        return {result.student: result for result in found}

    def row(self, student: str, change: Callable[[Any], None]) -> None:
        with Gradebook(f"sqlite:///{self.folder}/course/gradebook.db") as gradebook:
            change(gradebook.find_submission("toy", student).notebooks[0])
            gradebook.db.commit()

    def mark(self, student: str, key: str, points: float, comment: str = "") -> None:
        """As formgrader does."""

        def change(notebook: Any) -> None:
            (row,) = [row for row in notebook.grades if row.name == key]
            row.manual_score, row.needs_manual_grade = points, False
            for found in notebook.comments:
                if found.name == key:
                    found.manual_comment = comment

        self.row(student, change)

    def page(self, student: str) -> str:
        return (self.folder / "course" / "feedback" / student / "toy.html").read_text("utf8")


@pytest.fixture
def course(tmp_path: Path) -> Class:
    return Class(tmp_path)


def test_the_gradebook_has_the_judges_points(course: Class) -> None:
    course.hand_in("anna", with_answer("Because."))
    course.hand_in("bo", with_answer(ANSWER_HERE, {"toy-means": "row_means = 1"}))
    course.hand_in("[a-z]* O'Brien 李", None)
    found = course.results()
    assert [(one.test_score, one.manual, one.maximum) for one in found.values()] == [
        (10, {"toy-analysis": None}, 12),
        (7, {"toy-analysis": 0.0}, 12),  # the text as it was given: no answer
        (0, {"toy-analysis": 0.0}, 12),
    ]
    assert found["anna"].needs_marking
    assert not found["[a-z]* O'Brien 李"].needs_marking, "there is nothing to mark"
    with Gradebook(f"sqlite:///{course.folder}/course/gradebook.db") as gradebook:
        scores = {row["student"]: row["score"] for row in gradebook.submission_dicts("toy")}
    assert scores == {"anna": 10, "bo": 7, "[a-z]* O'Brien 李": 0}
    assert "could not be graded" in course.page("[a-z]* O'Brien 李")
    assert "10 of 12 points</strong> so far" in course.page("anna")


def test_marks_by_hand_survive_a_regrade_and_are_flagged(course: Class) -> None:
    course.hand_in("anna", with_answer("Because."))
    course.results()
    course.mark("anna", "toy-analysis", 1.5, "Well argued, <b>but</b> no number.")
    assert course.results()["anna"].score == 11.5
    page = course.page("anna")
    assert "11.5 of 12 points" in page
    assert "Well argued, &lt;b&gt;but&lt;/b&gt; no number." in page
    course.hand_in("anna", with_answer("Because.", {"toy-double": "double = 1"}), key="2")
    again = course.results()["anna"]
    assert (again.test_score, again.manual, again.score) == (8, {"toy-analysis": 1.5}, 9.5)
    flagged: list[bool] = []
    course.row("anna", lambda notebook: flagged.append(notebook.needs_manual_grade))
    assert flagged == [True], "the marker is asked to look again"


def test_points_of_a_test_can_be_replaced_by_hand(course: Class) -> None:
    course.hand_in("anna", with_answer("Because.", {"toy-means": "row_means = 1"}))
    course.results()
    course.mark("anna", "toy-means-test", 2)
    found = course.results()["anna"]
    assert (found.replaced, found.test_score) == ({"toy-means-test": 2.0}, 9)
    assert "set by hand" in course.page("anna")


def test_a_mended_test_and_a_new_one_after_collection(course: Class) -> None:
    course.hand_in("anna", with_answer("Because."))
    course.results()
    course.mark("anna", "toy-analysis", 2)
    source = toy.notebook(toy.cells())
    source["cells"].append(toy.cell("toy-extra-test", "check_true(double(1) == 2, 'two')", grade=True, points=4))
    toy.write(course.source, source)
    course.assignment = course.book.set_assignment(course.source)
    course.hand_in("anna", with_answer("Because."), key="2")
    found = course.results()["anna"]
    assert (found.test_score, found.maximum, found.score) == (14, 16, 16)
    with Gradebook(f"sqlite:///{course.folder}/course/gradebook.db") as gradebook:
        (row,) = gradebook.submission_dicts("toy")
    assert (row["score"], row["max_score"]) == (16, 16)


def test_a_test_that_has_marks_cannot_be_taken_away(course: Class) -> None:
    course.hand_in("anna", with_answer("Because."))
    course.results()
    toy.write(course.source, toy.notebook(toy.cells()[:-1]))
    with pytest.raises(ValueError, match="toy-analysis has marks"):
        course.book.set_assignment(course.source)


DUE = datetime(2026, 1, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "late, share",
    [
        (timedelta(days=-1), 0),
        (timedelta(0), 0),
        (timedelta(minutes=10), 0),
        (timedelta(minutes=11), 0.1),
        (timedelta(days=1, minutes=10), 0.1),
        (timedelta(days=2), 0.2),
        (timedelta(days=50), 0.5),
    ],
)
def test_lateness_costs_a_share_for_every_day_that_has_begun(late: timedelta, share: float) -> None:
    policy = LatePolicy(DUE, per_day=0.1, maximum=0.5, grace=10)
    assert policy.penalty(20, DUE + late) == pytest.approx(20 * share)
    assert policy.penalty(20, DUE + late, extension=timedelta(days=60)) == 0
    assert policy.penalty(20, None) == 0


def test_penalties_follow_the_points_and_are_kept(course: Class) -> None:
    course.hand_in("anna", with_answer("Because."))
    course.hand_in("bo", with_answer("Because."))
    policy = LatePolicy(DUE, submitted={"anna": DUE + timedelta(hours=30), "bo": DUE - timedelta(hours=1)})
    found = course.results(policy)
    assert (found["anna"].late_penalty, found["bo"].late_penalty) == (pytest.approx(2.0), 0)
    course.mark("anna", "toy-analysis", 2)
    found = course.results()
    assert found["anna"].late_penalty == pytest.approx(0.2 * 12), "of the points as they are now; the policy is kept"
    assert found["anna"].score == pytest.approx(0.8 * 12)
    kept: list[float] = []
    course.row("anna", lambda notebook: kept.append(notebook.late_submission_penalty))
    assert kept == [pytest.approx(2.4)]
    course.row("anna", lambda notebook: setattr(notebook.assignment, "extension", timedelta(days=1)))
    assert course.results()["anna"].late_penalty == pytest.approx(0.1 * 12), "an extension of formgrader counts"
    assert LatePolicy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    "options, said",
    [
        ({"per_day": 1.5}, r"per_day must lie in \[0, 1\], got 1.5"),
        ({"maximum": -0.1}, r"maximum must lie in \[0, 1\], got -0.1"),
        ({"grace": float("nan")}, "grace must be at least 0 minutes"),
        ({"submitted": {"anna": datetime(2026, 1, 1)}}, "the time of anna, .* needs a time zone"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LatePolicy(DUE, **options)


def test_a_policy_is_read_from_a_file_of_times(tmp_path: Path) -> None:
    times = tmp_path / "times.csv"
    times.write_text(
        "\ufeffstudent,submitted\nanna,2026-01-10T13:00+01:00\nanna,2026-01-11T13:30+01:00\nZoe\u0308,2026-01-01T00:00Z\n"
    )
    policy = late_policy("2026-01-10T12:00Z", times, 0.2, 0.6, 15)
    assert policy.submitted == {"anna": DUE + timedelta(hours=24.5), "Zoë": datetime(2026, 1, 1, tzinfo=UTC)}
    assert (policy.due, policy.per_day, policy.maximum, policy.grace) == (DUE, 0.2, 0.6, 15)


@pytest.mark.parametrize(
    "due, text, said",
    [
        ("tomorrow", "student,submitted\n", "the due time: 'tomorrow' is no time"),
        ("2026-01-10T12:00", "student,submitted\n", "needs a time zone"),
        ("2026-01-10T12:00Z", "student;submitted\n", "the column student is missing"),
        ("2026-01-10T12:00Z", "student,submitted\nanna,\n", "line 2: '' is no time"),
        ("2026-01-10T12:00Z", "student,submitted\nanna,2026-01-10\n", "line 2: '2026-01-10' needs a time zone"),
        ("2026-01-10T12:00Z", "student,submitted\n../x,2026-01-10T12:00Z\n", "slash"),
    ],
)
def test_a_file_of_times_that_cannot_be_read_is_said(tmp_path: Path, due: str, text: str, said: str) -> None:
    (tmp_path / "times.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        late_policy(due, tmp_path / "times.csv")


def test_no_text_of_a_student_becomes_more_than_text(course: Class) -> None:
    """In nbgrader's notebooks, which formgrader renders, and in the feedback."""
    evil = "</pre><script>alert(6)</script>"
    notebook = with_answer(HOSTILE, {"toy-double": f"raise ValueError({evil!r})"})
    notebook["cells"].insert(2, toy.cell(None, f"x = {evil!r}"))
    notebook["cells"].insert(2, toy.cell(None, HOSTILE, "markdown"))
    course.hand_in("anna", notebook)
    course.results()
    shown = course.folder / "course" / "autograded" / "anna" / "toy" / "toy.ipynb"
    page, _ = HTMLExporter(template_name="classic").from_filename(str(shown))
    for text in (page, course.page("anna")):
        assert "alert(" in text, "the text itself is shown"
        for dangerous in ("<script>alert", "<img src=x", 'href="javascript', "<b>"):
            assert dangerous not in text
    (cell,) = [cell for cell in nbformat.read(shown, as_version=4).cells if "alert(4)" in cell.source]
    assert cell.source.startswith("<pre")
    assert "\n" not in cell.source, "Markdown would begin anew after an empty line"


def test_feedback_says_nothing_of_hidden_tests_and_loads_nothing(course: Class) -> None:
    spy = "kept = []\ndef double(x):\n    kept.append(x)\n    return x"
    notebook = with_answer("Because.", {"toy-double": spy})
    notebook["cells"].append(toy.cell(None, "raise ValueError(f'inputs were {kept}')"))
    course.hand_in("anna", notebook)
    course.results()
    page = course.page("anna")
    for hidden in ("secret_input", "inputs were", "BEGIN HIDDEN", "rng.normal"):
        assert hidden not in page
    assert "expected 2" in page, "the public line is explained"
    for outside in ("http:", "https:", "<script", "src="):
        assert outside not in page
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_nbgrader_itself_runs_no_student_code_in_this_folder(course: Class) -> None:
    """Somebody presses *autograde* in formgrader, or types the command."""
    written = course.folder / "written"
    code = f"open({str(written)!r}, 'w')\ndef double(x):\n    return 2 * x"
    course.hand_in("anna", with_answer("Because."))
    course.results()
    submitted = course.folder / "course" / "submitted" / "anna" / "toy" / "toy.ipynb"
    text = submitted.read_text("utf8")
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "toy-double":
            cell.source = code
    nbformat.write(notebook, submitted)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in (["autograde", "toy", "--force"], ["generate_feedback", "toy", "--force"]):
        subprocess.run(
            [sys.executable, "-m", "nbgrader", *command], cwd=course.folder / "course", check=True,
            capture_output=True, env=os.environ | {"PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
    assert not written.exists()
    assert course.results()["anna"].test_score == 10
    (page,) = (course.folder / "course" / "feedback" / "anna" / "toy").glob("*.html")
    assert "secret_input" not in page.read_text("utf8")
