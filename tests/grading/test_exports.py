"""Rosters and exports: nothing gets lost, nothing becomes a formula, and each format is what its importer reads."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.grading.exports import (
    NOTHING,
    canvas_table,
    csv_text,
    grades_table,
    gradescope_results,
    moodle_table,
    write_reports,
)
from ca14lib.grading.judge import Grade, Mark
from ca14lib.grading.results import Result
from ca14lib.grading.roster import Student, read_roster, student_id

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(1)", "  =1", "\N{FULLWIDTH EQUALS SIGN}1"]
SECRET = "hidden input 0.1234"


def result(student: str = "ann", **fields: object) -> Result:
    marks = (
        Mark("toy-double-test", 3.0, 3.0, "correctness", "", 0.1),
        Mark("toy-means-test", 0.0, 4.0, "coordination", "A hidden test fails.", 0.2),
    )
    grade = Grade(
        "toy", 2, marks, {"toy-analysis": 2.0}, {"cell toy-act": SECRET}, ("the cell x is missing",), SECRET, 1.26
    )
    given = {
        "maximum": 9.0,
        "grade": grade,
        "manual": {"toy-analysis": 1.5},
        "comments": {"toy-analysis": "Well said."},
    }
    return Result(student, "toy", **given | fields)  # type: ignore[arg-type]


FAILED = result("bob", grade=None, problem="toy.ipynb is missing", manual={})
ROSTER = {
    "cy": Student("cy", "Cy <b>", "cy@example.org", "31", "m3"),
    "ann": Student("ann", "=Ann", "ann@example.org", "11", "m1"),
}


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_a_roster_is_read_in_any_order_of_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "roster.csv", '\ufeffemail,Student,section,name\r\na@b.c,ann,7,"A, n"\r\n\r\n,cafe\u0301,,\r\n'
    )
    assert read_roster(path) == {"ann": Student("ann", "A, n", "a@b.c"), "caf\u00e9": Student("caf\u00e9")}


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "has no students"),
        ("student,name\n", "has no students"),
        ("name,email\na,b\n", "the column student is missing; found name, email"),
        ("student;name\na;b\n", "separated by commas"),
        ("student,student\na,b\n", "the column student stands twice"),
        ("student,name\na\n", "line 2: 1 cells, expected 2: student, name"),
        ('student\n"a\n', "line 2: unexpected end of data"),
        ("student\nann\nAnn\n", "line 3: the student 'Ann' stands in line 2 too"),
        ("student\ncaf\u00e9\ncafe\u0301\n", "line 3: the student 'caf\u00e9' stands in line 2 too"),
        ("student,name\n,b\n", "line 2: the student '' is empty"),
        ("student\n../x\n", "line 2: the student '../x' has a slash or a backslash"),
        ("student,canvas_id\nann,12x\n", "line 2: canvas_id has to be a number, got '12x'"),
        ("student,canvas_id\nann,12\nbob,12\n", "line 3: 'bob' has the canvas_id of 'ann': '12'"),
        ("student,email\nann,a@b\nbob,A@B\n", "line 3: 'bob' has the email of 'ann': 'A@B'"),
        (b"student\nann\nb\xff\n", "line 3\\): save it as CSV UTF-8"),
    ],
)
def test_a_roster_that_is_none_is_refused_with_the_line(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_roster(write(tmp_path / "roster.csv", content))


def test_a_missing_roster_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_roster(tmp_path / "roster.csv")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "..",
        ".x",
        "a/b",
        "a\\b",
        "a\0",
        "a\nb",
        " a",
        "a ",
        "a.",
        "a\u202eb",
        "\ud800",
        "a" * 101,
        "ß" * 101,
    ],
)
def test_what_cannot_name_a_folder_is_no_identifier(text: str) -> None:
    with pytest.raises(ValueError, match="has to name a folder"):
        student_id(text)


@given(st.text(max_size=120))
def test_an_identifier_names_one_file_in_its_folder(text: str) -> None:
    try:
        found = student_id(text)
    except ValueError:
        return
    assert unicodedata.is_normalized("NFC", found)
    assert student_id(found) == found
    assert Path("folder", found).parent == Path("folder")
    assert len(f".{found}.json.part".encode()) <= 255


def test_the_table_has_a_row_for_everybody() -> None:
    table = grades_table([FAILED, result(submitted=datetime(2026, 3, 1, 12, tzinfo=UTC), late_penalty=0.5)], ROSTER)
    assert list(table["student"]) == ["cy", "ann", "bob"]
    assert list(table["score"]) == [0.0, 4.0, 0.0]
    assert list(table["problem"]) == [NOTHING, "", "toy.ipynb is missing"]
    ann = table.iloc[1]
    assert (ann["name"], ann["maximum"], ann["tests"], ann["manual"], ann["late_penalty"]) == ("=Ann", 9, 3, 1.5, 0.5)
    assert (ann["toy-double points"], ann["toy-means points"], ann["toy-analysis by hand"]) == (3, 0, 1.5)
    assert (ann["correctness"], ann["coordination"], ann["analysis"]) == (3, 0, 1.5)
    assert ann["submitted"] == "2026-03-01T12:00:00+00:00"
    assert not table["needs_marking"].any()


def test_a_cell_that_waits_for_a_mark_is_empty() -> None:
    for waiting in (result(manual={"toy-analysis": None}), result(manual={})):
        table = grades_table([waiting])
        assert table["needs_marking"].all()
        assert table["toy-analysis by hand"].isna().all()
        assert table["score"].tolist() == [3.0]


def test_two_tests_of_one_task_keep_a_column_each() -> None:
    marks = tuple(Mark(key, 1.0, 1.0, "", "", 0.0) for key in ("a", "a-test"))
    table = grades_table([result(grade=Grade("toy", 1, marks, {}, {}, (), "", 0.0), manual={})])
    assert {"a points", "a-test points"} <= set(table.columns)


@pytest.mark.parametrize(
    "results, message",
    [
        ([], "no results"),
        ([result(), result()], "two results of the student 'ann'"),
        ([result(), Result("bob", "other", 1.0, None)], "one assignment are expected, got other, toy"),
    ],
)
@pytest.mark.parametrize("made", [grades_table, canvas_table, moodle_table])
def test_results_that_do_not_belong_together_are_refused(made: object, results: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(results)  # type: ignore[operator]


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(FORMULAS)), min_size=1, max_size=5))
def test_csv_gives_back_every_name_and_no_formula(names: list[str]) -> None:
    table = pd.DataFrame({"name": names, "points": [-1.5] * len(names)})
    read = rows(csv_text(table))
    assert len(read) == len(names) + 1
    for name, (cell, points) in zip(names, read[1:], strict=True):
        kept = "".join(c for c in name if c in "\t\r\n" or unicodedata.category(c) != "Cc")
        assert cell.removeprefix("'") == kept.encode("utf8", "replace").decode().removeprefix("'")
        assert not re.match(r"[\s\u200b\ufeff]*[=+\-@]", cell)
        assert points == "-1.5"


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_gets_an_apostrophe_in_every_csv(name: str, tmp_path: Path) -> None:
    write_reports([result()], tmp_path, {"ann": Student("ann", name, name, "1", name)})
    cells = [
        cell
        for file in ("grades", "canvas", "moodle")
        for row in rows((tmp_path / f"{file}.csv").read_text())
        for cell in row
    ]
    assert f"'{name}".replace("\r=", "\n=") in [cell.replace("\r", "\n") for cell in cells]
    assert name not in cells


def test_canvas_finds_header_points_and_students() -> None:
    """What its importer checks: names, an ID, then the columns of SIS, Section last; then Points Possible."""
    hostile = {"ann": Student("ann", "Points Possible", "", "11")}
    read = rows(csv_text(canvas_table([result(), FAILED], hostile, assignment="Toy (77)")))
    assert read[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Toy (77)"]
    assert read[1] == ["Points Possible", "", "", "", "", "9.0"]
    assert read[2] == ["Points_Possible", "11", "", "ann", "", "4.5"]
    assert read[3] == ["bob", "", "", "bob", "", "0.0"]
    assert canvas_table([result()]).columns[-1] == "toy"


def test_moodle_gets_grade_and_feedback_of_everybody() -> None:
    read = rows(csv_text(moodle_table([result(late_penalty=1.0), FAILED], ROSTER)))
    assert read[0] == ["ID number", "Email address", "toy (Real)", "toy (Feedback)"]
    assert read[1] == ["m3", "cy@example.org", "0.0", "Nothing handed in."]
    assert read[2][:3] == ["m1", "ann@example.org", "3.5"]
    assert "1 points were taken off because it was handed in late." in read[2][3]
    assert read[3][:3] == ["", "", "0.0"]  # not the identifier, where ID numbers are something else
    assert moodle_table([result()])["ID number"].tolist() == ["ann"]


def test_feedback_for_moodle_is_escaped() -> None:
    table = moodle_table([result(grade=None, problem="<script>alert(1)</script>", manual={})])
    assert "<" not in table["toy (Feedback)"][0]


def test_gradescope_gets_what_its_specification_names() -> None:
    found = gradescope_results(result(late_penalty=0.5))
    assert found["score"] == 4.0
    assert found["execution_time"] == 1.3
    assert {found[key] for key in ("output_format", "test_output_format", "test_name_format")} == {"text"}
    assert (found["visibility"], found["stdout_visibility"]) == ("after_published", "hidden")
    assert "0.5 points were taken off because it was handed in late." in found["output"]
    top = {"score", "execution_time", "output", "output_format", "test_output_format", "test_name_format", "visibility"}
    assert set(found) == top | {"stdout_visibility", "tests", "extra_data"}
    allowed = {"score", "max_score", "status", "name", "number", "output", "tags", "visibility"}
    assert all(set(test) <= allowed for test in found["tests"])
    first, second, third = found["tests"]
    assert (first["name"], first["score"], first["max_score"], first["status"]) == ("toy-double", 3.0, 3.0, "passed")
    assert (second["status"], second["output"], second["tags"]) == ("failed", "A hidden test fails.", ["coordination"])
    assert (third["score"], third["max_score"], third["output"], third["number"]) == (1.5, 2.0, "Well said.", "3")
    assert gradescope_results(result(), visibility="visible")["tests"][0]["visibility"] == "visible"


def test_gradescope_is_not_told_what_the_code_printed_or_raised() -> None:
    """A cell behind a hidden test may print or raise what the test gave to the student's function."""
    assert SECRET not in json.dumps(gradescope_results(result()))
    assert "An error ended cell toy-act" in gradescope_results(result())["output"]


def test_gradescope_shows_what_is_not_marked_or_graded() -> None:
    waiting = gradescope_results(result(manual={"toy-analysis": None}, comments={}))
    assert waiting["extra_data"]["needs_marking"]
    assert waiting["tests"][2]["output"] == "Not marked yet."
    assert "score" not in waiting["tests"][2]
    failed = gradescope_results(FAILED)
    assert (failed["score"], failed["tests"]) == (0.0, [])
    assert "toy.ipynb is missing" in failed["output"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_gradescope_json_is_valid_whatever_was_said(comment: str, message: str) -> None:
    mark = Mark("a-test", 0.0, 1.0, "c", message, 0.0)
    one = result(grade=Grade("toy", 1, (mark,), {"m": 1.0}, {}, (message,), "", 0.0), comments={"m": comment})
    text = json.dumps(gradescope_results(one))
    json.loads(text.encode("utf8"))["output"].encode("utf8")


def test_reports_are_replaced_and_old_ones_removed(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "toy"
    write_reports([result(), FAILED], folder, ROSTER, canvas_assignment="Toy (7)")
    (folder / "gradescope" / "notes.txt").write_text("mine")
    (folder / "gradescope" / ".eve.json.part").write_text("{")
    (folder / "similarity.html").write_text("page")
    (folder / "other.json").write_text("{}")
    write_reports([result()], folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "canvas.csv", "grades.csv", "gradescope", "moodle.csv", "other.json", "similarity.html",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "gradescope").iterdir()) == ["ann.json", "notes.txt"]
    assert json.loads((folder / "gradescope" / "ann.json").read_text())["score"] == 4.5
    assert len(pd.read_csv(folder / "grades.csv")) == 1


@pytest.mark.parametrize("student", ["../x", ".x", "a/b", "", "cafe\u0301"])
def test_a_student_that_names_no_file_is_refused_before_anything_is_written(student: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder|normal form"):
        write_reports([result(), result(student)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_students_of_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'ann' and 'Ann' would be the same file"):
        write_reports([result(), result("Ann")], tmp_path)


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reports([result()], tmp_path)
    before = (tmp_path / "grades.csv").read_text()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ca14lib.grading.folders.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_reports([result(late_penalty=1.0)], tmp_path)
    assert (tmp_path / "grades.csv").read_text() == before
    assert not list(tmp_path.rglob("*.part"))
