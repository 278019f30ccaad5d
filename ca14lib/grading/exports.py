"""Grades as other systems read them: a table, Gradescope's results.json, and CSV for Canvas and Moodle.

In every CSV, text that a spreadsheet would take for a formula (it begins with ``= + - @``, a tab or a line end) is
preceded by an apostrophe, which spreadsheets do not show; numbers stay numbers. An identifier that begins so is
therefore not found by Canvas or Moodle: give these students a ``canvas_id``, a ``moodle_id`` or an ``email``.
"""

import csv
import html
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ca14lib.grading.folders import replace_file
from ca14lib.grading.results import Result
from ca14lib.grading.roster import Student, clashing_students, same_folder, student_id

Visibility = Literal["hidden", "after_due_date", "after_published", "visible"]

NOTHING = "nothing handed in"
MANUAL_CATEGORY = "analysis"  # whatever is marked by hand
DIGITS = 4  # behind the point; sums of points have rounding errors
# What spreadsheets begin a formula with; the last four are the wide forms, which some of them take as well.
FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def grades_table(results: Sequence[Result], roster: Mapping[str, Student] | None = None) -> pd.DataFrame:
    """Everything that is known, a row for each student: in the order of the roster, then who is not on it.

    Args:
        results: Of one assignment.
        roster: The class; who handed in nothing stands in the table with 0 points.
    Returns:
        Columns ``student``, ``name``, ``score``, ``maximum``, ``tests`` and ``manual`` (points of both),
        ``late_penalty``, ``needs_marking``, ``problem``, ``submitted`` (ISO 8601, empty where unknown); ``TASK points``
        for every test, ``CELL by hand`` for every cell that is marked by hand (empty until it is), and the points of
        every category.
    Raises:
        ValueError: If there are no results, or they are of several assignments, or two are of one student.
    """
    _check(results)
    # Insertion order is the order of the assignment; another version may have other tests.
    tests = list(dict.fromkeys(mark.key for result in results if result.grade for mark in result.grade.marks))
    manual = list(dict.fromkeys(key for result in results for key in _manual(result)))
    categories = dict.fromkeys(mark.category for result in results if result.grade for mark in result.grade.marks)
    categories |= {MANUAL_CATEGORY: None} if manual else {}
    tasks = Counter(_task(key) for key in tests)
    rows = []
    for student, result in _by_student(results, roster):
        name = roster[student].name if roster and student in roster else ""
        row: dict[str, Any] = {"student": student, "name": name, "score": 0.0, "maximum": results[0].maximum}
        row |= {"tests": 0.0, "manual": 0.0, "late_penalty": 0.0, "needs_marking": False}
        row |= {"problem": NOTHING, "submitted": ""}
        points = dict.fromkeys(tests, 0.0)
        by_hand: dict[str, float | None] = dict.fromkeys(manual, 0.0)
        sums = dict.fromkeys(categories, 0.0)
        if result is not None:
            row |= {
                "score": _rounded(result.score),
                "maximum": _rounded(result.maximum),
                "tests": _rounded(result.test_score),
                "manual": _rounded(result.manual_score),
                "late_penalty": _rounded(result.late_penalty),
                "needs_marking": _needs_marking(result),
                "problem": result.problem,
                "submitted": result.submitted.isoformat() if result.submitted else "",
            }
            for mark in result.grade.marks if result.grade else ():
                points[mark.key] = _rounded(mark.points)
                sums[mark.category] += mark.points
            by_hand |= _manual(result)
            if manual:
                sums[MANUAL_CATEGORY] += result.manual_score
        row |= {f"{_task(key) if tasks[_task(key)] == 1 else key} points": value for key, value in points.items()}
        row |= {f"{key} by hand": math.nan if value is None else _rounded(value) for key, value in by_hand.items()}
        rows.append(row | {category or "other": _rounded(value) for category, value in sums.items()})
    return pd.DataFrame(rows)


def gradescope_results(result: Result, *, visibility: Visibility = "after_published") -> dict[str, Any]:
    """A submission in the format of Gradescope's autograders.

    The format is that of "Autograder Specifications, Output format" in Gradescope's documentation of autograders. All
    text is plain. Of a hidden test it says what the judge tells the student, and nothing of what the code printed.

    Args:
        result: The submission.
        visibility: From when on students see it; by default once the instructor publishes the grades.
    Returns:
        What ``json.dumps`` makes the file of. ``score`` is the whole one, lateness taken off, and overrides the sum
        of the tests.
    """
    tests: list[dict[str, Any]] = []
    for mark in result.grade.marks if result.grade else ():
        tests.append(
            {
                "score": _rounded(mark.points),
                "max_score": _rounded(mark.maximum),
                "status": "passed" if not mark.message else "failed",
                "name": _encodable(_task(mark.key)),
                "number": str(len(tests) + 1),
                "output": _encodable(mark.message or "Passed."),
                "tags": [mark.category] if mark.category else [],
                "visibility": visibility,
            }
        )
    most = result.grade.manual if result.grade else {}
    for key, points in _manual(result).items():
        comment = result.comments.get(key, "")
        by_hand: dict[str, Any] = {
            "name": _encodable(f"{key} (marked by hand)"),
            "number": str(len(tests) + 1),
            "output": _encodable(comment or ("Marked by hand." if points is not None else "Not marked yet.")),
            "tags": [MANUAL_CATEGORY],
            "visibility": visibility,
        }
        if points is not None:  # part of the points is no failure
            by_hand |= {"score": _rounded(points), "status": "passed" if points > 0 else "failed"}
            by_hand |= {"max_score": _rounded(most[key])} if key in most else {}
        tests.append(by_hand)
    return {
        "score": _rounded(result.score),
        "execution_time": round(result.grade.seconds, 1) if result.grade else 0,
        "output": _encodable("\n".join(_remarks(result))),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": visibility,
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {
            "student": _encodable(result.student),
            "assignment": result.assignment,
            "version": result.grade.version if result.grade else None,
            "maximum": _rounded(result.maximum),
            "late_penalty": _rounded(result.late_penalty),
            "needs_marking": _needs_marking(result),
            "submitted": result.submitted.isoformat() if result.submitted else None,
        },
    }


def canvas_table(
    results: Sequence[Result], roster: Mapping[str, Student] | None = None, *, assignment: str | None = None
) -> pd.DataFrame:
    """The scores as Canvas imports them into its gradebook.

    The format is that of "How do I import grades in the Gradebook?" in the Canvas Instructor Guide: columns that
    identify, of which ``Section`` has to be the last, and a row with the points possible. Canvas finds a student by
    ``ID`` first (``canvas_id`` in the roster), then by ``SIS Login ID`` (the student's identifier), then by the name.

    Args:
        results: Of one assignment.
        roster: The class.
        assignment: Heading of the column. ``Title (ID)`` as in an exported gradebook goes to that assignment, another
            heading to the assignment of this title, or Canvas offers to make it. By default the assignment's name.
    Raises:
        ValueError: If there are no results, or they are of several assignments, or two are of one student.
    """
    grades = grades_table(results, roster)
    known = roster or {}
    heading = results[0].assignment if assignment is None else assignment
    rows: list[list[Any]] = [["Points Possible", "", "", "", "", _rounded(results[0].maximum)]]
    for row in grades.itertuples():
        student = known.get(row.student, Student(row.student))
        # Canvas takes every row with these words for the one above; names are what people call themselves there.
        name = (student.name or student.student).replace("Points Possible", "Points_Possible")
        rows.append([name, student.canvas_id, "", student.student, "", row.score])
    return pd.DataFrame(rows, columns=["Student", "ID", "SIS User ID", "SIS Login ID", "Section", heading])


def moodle_table(results: Sequence[Result], roster: Mapping[str, Student] | None = None) -> pd.DataFrame:
    """The scores as Moodle imports them into its gradebook.

    The format is that of "Grade import, CSV import" in Moodle's documentation: Moodle asks which column names the
    student (``Email address`` or ``ID number``), which holds the grade and which the feedback; both have to be mapped,
    since an import of feedback alone takes the grades away. Rows without the chosen column are left out by Moodle.
    Feedback is text that is escaped, because Moodle shows it as HTML.

    Args:
        results: Of one assignment.
        roster: The class. ``ID number`` is ``moodle_id``, or the student's identifier if nobody has one.
    Raises:
        ValueError: If there are no results, or they are of several assignments, or two are of one student.
    """
    _check(results)
    known, heading = roster or {}, results[0].assignment
    numbered = any(student.moodle_id for student in known.values())
    rows = []
    for name, result in _by_student(results, roster):
        student = known.get(name, Student(name))
        number = student.moodle_id if numbered else name
        remarks = _remarks(result) if result else [f"{NOTHING.capitalize()}."]
        score = _rounded(result.score) if result else 0.0
        rows.append([number, student.email, score, html.escape(" ".join(remarks), quote=False)])
    return pd.DataFrame(rows, columns=["ID number", "Email address", f"{heading} (Real)", f"{heading} (Feedback)"])


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV, text in it made harmless for spreadsheets."""
    harmless = table.map(lambda value: _harmless(value) if isinstance(value, str) else value)
    harmless.columns = [_harmless(str(column)) for column in table.columns]
    # Every text in quotes: a line end within a name does not begin a row, whatever reads the file.
    return harmless.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def write_reports(
    results: Sequence[Result],
    folder: str | Path,
    roster: Mapping[str, Student] | None = None,
    *,
    canvas_assignment: str | None = None,
) -> None:
    """Write ``grades.csv``, ``canvas.csv``, ``moodle.csv`` and ``gradescope/STUDENT.json``, each atomically.

    Files in ``gradescope`` of students who are no longer there are removed.

    Args:
        results: Of one assignment.
        folder: Of the reports on this assignment; it is made.
        roster: The class.
        canvas_assignment: Heading of Canvas's column, as in :func:`canvas_table`.
    Raises:
        ValueError: If there are no results, or they are of several assignments, or a student's identifier cannot be
            the name of a file or stands for two. Nothing is written then.
        OSError: If something cannot be written.
    """
    _check(results)
    for result in results:
        if student_id(result.student) != result.student:
            raise ValueError(f"the student {result.student!a} is not in Unicode's normal form C")
    if clash := clashing_students(result.student for result in results):
        raise ValueError(f"{clash[0]!r} and {clash[1]!r} would be the same file on some systems: rename one")
    files = {
        "grades.csv": csv_text(grades_table(results, roster)),
        "canvas.csv": csv_text(canvas_table(results, roster, assignment=canvas_assignment)),
        "moodle.csv": csv_text(moodle_table(results, roster)),
    }
    details = {f"{result.student}.json": json.dumps(gradescope_results(result), indent=1) for result in results}
    folder = Path(folder)
    gradescope = folder / "gradescope"
    gradescope.mkdir(parents=True, exist_ok=True)
    for path, text in [(folder / name, text) for name, text in files.items()] + [
        (gradescope / name, text) for name, text in details.items()
    ]:
        replace_file(path, text)
    kept = {same_folder(name) for name in details}
    for path in gradescope.iterdir():
        if path.suffix in (".json", ".part") and same_folder(path.name) not in kept and not path.is_dir():
            path.unlink()


def _check(results: Sequence[Result]) -> None:
    """Raises: ValueError: If these are not results of one assignment, one for each student."""
    if not results:
        raise ValueError("there are no results to report")
    if len(assignments := sorted({result.assignment for result in results})) > 1:
        raise ValueError(f"results of one assignment are expected, got {', '.join(assignments)}")
    if twice := [student for student, n in Counter(result.student for result in results).items() if n > 1]:
        raise ValueError(f"there are two results of the student {twice[0]!r}")


def _by_student(results: Iterable[Result], roster: Mapping[str, Student] | None) -> Iterable[tuple[str, Result | None]]:
    found = {result.student: result for result in results}
    for student in dict.fromkeys([*(roster or {}), *found]):
        yield student, found.get(student)


def _manual(result: Result) -> dict[str, float | None]:
    """Points by hand by cell; cells that the judge lists and nobody has opened wait as well."""
    return dict.fromkeys(result.grade.manual if result.grade else {}, None) | dict(result.manual)


def _needs_marking(result: Result) -> bool:
    return None in _manual(result).values()


def _task(key: str) -> str:
    """The task's name from its test's."""
    return key.removesuffix("-test")


def _remarks(result: Result) -> list[str]:
    """What is to be said about the whole submission, a sentence each.

    Messages of errors in cells are left out: code that a hidden test has called may have put into them what it got.
    """
    remarks = [f"{_rounded(result.score):g} of {_rounded(result.maximum):g} points."]
    if result.late_penalty:
        remarks.append(f"{_rounded(result.late_penalty):g} points were taken off because it was handed in late.")
    if _needs_marking(result):
        remarks.append("Answers that are marked by hand have not all been marked yet.")
    if result.problem:
        remarks.append(f"It could not be graded: {result.problem.rstrip('.')}.")
    if result.grade:
        remarks += [f"Note: {note.rstrip('.')}." for note in result.grade.notes]
        remarks += [f"An error ended {name}; run it to see which." for name in result.grade.errors]
    return remarks


def _harmless(text: str) -> str:
    """For a cell of a CSV: no control characters but tabs and line ends, and no formula."""
    kept = "".join(letter for letter in text if letter in "\t\r\n" or unicodedata.category(letter) != "Cc")
    # Some programs drop spaces and invisible characters in front.
    first = next((letter for letter in kept if letter != " " and unicodedata.category(letter) != "Cf"), "")
    return _encodable(f"'{kept}" if first in FORMULA else kept)


def _encodable(text: str) -> str:
    """The text with what UTF-8 cannot hold replaced."""
    return text.encode("utf8", "replace").decode("utf8")


def _rounded(points: float) -> float:
    return round(float(points), DIGITS)
