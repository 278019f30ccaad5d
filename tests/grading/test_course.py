"""The whole command ``ca14 grade``: honest, partial, broken and hostile submissions, from folder to reports."""

from __future__ import annotations

import csv
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from rich.console import Console
from typer.testing import CliRunner

from ca14lib import cli
from ca14lib.grading import commands
from ca14lib.grading.course import Graded, grade_course
from ca14lib.grading.sandbox import SandboxError
from tests.grading import toy
from tests.grading.attacks import ATTACKS

SECRET = "a secret of the term"
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.usefixtures("sandbox"), pytest.mark.slow]
runner = CliRunner()


def hand_in(folder: Path, student: str, solutions: dict[str, str] | None = None, answer: str = "Because.") -> None:
    cells = toy.cells(solutions)
    cells[-1]["source"] = answer
    toy.write(folder / student / "toy.ipynb", toy.notebook(cells))


@pytest.fixture
def term(tmp_path: Path) -> Path:
    toy.write(tmp_path / "sources" / "toy.ipynb", toy.notebook(toy.cells()))
    (tmp_path / "secret").write_text(SECRET + "\n")
    everyone = tmp_path / "all"
    hand_in(everyone, "anna")
    hand_in(everyone, "Zoë O'Brien", {"toy-means": "row_means = 1"})
    hand_in(everyone, "hostile", {"toy-double": ATTACKS["prints a score"]})
    (everyone / "broken").mkdir()
    (everyone / "broken" / "toy.ipynb").write_bytes(b"\xff\xfe not text")
    other = toy.notebook(toy.cells(), version=2)
    toy.write(everyone / "other version" / "toy.ipynb", other)
    (everyone / "empty").mkdir()
    with zipfile.ZipFile(everyone / "packed.zip", "w") as archive:
        archive.write(everyone / "anna" / "toy.ipynb", "toy/toy.ipynb")
    (tmp_path / "roster.csv").write_text("student,name,canvas_id\nanna,Anna A,1\npacked,Pia P,2\nabsent,Abe B,3\n")
    return tmp_path


def graded(term: Path, **options: object) -> Graded:
    return grade_course(
        term / "all", "toy", term / "course", source=term / "sources", secret=SECRET, jobs=2, progress=False, **options
    )  # type: ignore[arg-type]


def command(term: Path, *further: str) -> list[str]:
    return [
        "grade", str(term / "all"), "--assignment", "toy", "--course", str(term / "course"), "--source",
        str(term / "sources"), "--secret-file", str(term / "secret"), "--jobs", "2", *further,
    ]  # fmt: skip


def failing(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command says on its way out."""
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    errors = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in errors
    return errors


EXPECTED = {
    "anna": 10,
    "Zoë O'Brien": 7,
    "hostile": 8,
    "packed": 10,
    "broken": 0,
    "other version": 0,
    "empty": 0,
}


def test_the_command_grades_a_class_and_says_what_it_could_not(term: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "console", Console(width=200))
    said = runner.invoke(cli.app, command(term, "--roster", str(term / "roster.csv")))
    assert said.exit_code == 0, said.output
    for part in ("not text in UTF-8", "version 2", "there is no notebook", "wait for marks by hand"):
        assert part in " ".join(said.output.split()), said.output
    reports = term / "course" / "reports" / "toy"
    with (reports / "grades.csv").open(encoding="utf-8-sig") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert {student: float(rows[student]["score"]) for student in EXPECTED} == EXPECTED
    assert (float(rows["absent"]["score"]), rows["absent"]["problem"]) == (0, "nothing handed in")
    for student, score in EXPECTED.items():
        found = json.loads((reports / "gradescope" / f"{student}.json").read_text("utf8"))
        assert found["score"] == score
        assert (term / "course" / "feedback" / student / "toy.html").is_file()
    assert (reports / "similarity.html").is_file()
    assert (reports / "canvas.csv").is_file()
    again = runner.invoke(cli.app, command(term))
    assert again.exit_code == 0


def test_a_mark_by_hand_and_a_resubmission_meet(term: Path) -> None:
    graded(term)
    with Gradebook(f"sqlite:///{term}/course/gradebook.db") as gradebook:
        for row in gradebook.find_submission("toy", "anna").notebooks[0].grades:
            if row.name == "toy-analysis":
                row.manual_score, row.needs_manual_grade = 1.5, False
        gradebook.db.commit()
    hand_in(term / "all", "anna", {"toy-double": "double = 1"})
    found = {result.student: result for result in graded(term).results}
    assert (found["anna"].test_score, found["anna"].score) == (8, 9.5)
    assert {student: result.test_score for student, result in found.items()} == EXPECTED | {"anna": 8}


def test_another_secret_than_that_of_the_first_run_is_refused(term: Path) -> None:
    graded(term)
    before = {path: path.stat().st_mtime_ns for path in (term / "course" / "marks").rglob("*.json")}
    options = {"source": term / "sources", "secret": "another " + SECRET, "progress": False}
    with pytest.raises(ValueError, match="not the secret"):
        grade_course(term / "all", "toy", term / "course", **options)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    "change, said",
    [
        (["--assignment", "nothing"], "nothing.ipynb is missing"),
        (["--source", "/nowhere"], "is missing"),
        (["--secret-file", "/nowhere"], "/nowhere"),
        (["--times", "/nowhere"], "--times needs --due"),
        (["--due", "tomorrow"], "'tomorrow' is no time"),
        (["--due", "2026-01-01T00:00Z", "--late-per-day", "7"], "per_day must lie in"),
        (["--dask", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["--roster", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_graded_is_one_line(
    term: Path, change: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.import_module("ca14lib.training.sweep"), "CONNECT_SECONDS", 1)
    assert said in " ".join(failing(["ca14", *command(term), *change], monkeypatch, capsys).split())
    assert not list((term / "course").rglob("marks/**/*.json"))


def test_an_empty_or_missing_folder_and_a_wrong_source_are_said(term: Path) -> None:
    (term / "none").mkdir()
    options = {"source": term / "sources", "secret": SECRET}
    with pytest.raises(ValueError, match="holds no submissions"):
        grade_course(term / "none", "toy", term / "course", **options)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        grade_course(term / "nowhere", "toy", term / "course", **options)
    with pytest.raises(ValueError, match="is the assignment 'toy', expected 'offline'"):
        grade_course(term / "all", "offline", term / "course", source=term / "sources" / "toy.ipynb", secret=SECRET)
    with pytest.raises(ValueError, match="secret"):
        grade_course(term / "all", "toy", term / "course", source=term / "sources", secret="")


def test_without_bubblewrap_nothing_is_graded(
    term: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(SandboxError, match="bubblewrap"):
        graded(term)
    assert not list((term / "course").rglob("marks/**/*.json"))
    assert "apt" in failing(["ca14", *command(term)], monkeypatch, capsys), "it says how to get it"


def test_a_folder_that_cannot_be_written_is_said(
    term: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (term / "course").write_text("a file")
    assert "course" in failing(["ca14", *command(term)], monkeypatch, capsys)


@pytest.mark.verify
def test_a_grader_that_is_killed_ten_times_loses_nothing(term: Path) -> None:
    for number in range(20):
        hand_in(term / "all", f"student {number}", {"toy-means": "row_means = 1"} if number % 3 else None)
    draws = random.Random(0)
    marks = term / "course" / "marks" / "toy"
    seen: dict[str, int] = {}
    ended = 0
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-m", "ca14lib.cli", *command(term)], cwd=ROOT, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(draws.uniform(2, 15))
            ended += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        now = {path.stem: path.stat().st_mtime_ns for path in marks.glob("*.json")}
        assert seen.items() <= now.items(), "marks were lost, or somebody was judged twice"
        seen = now
    assert ended < 10, "it was never killed"
    found = {result.student: result for result in graded(term).results}
    assert {student: found[student].test_score for student in EXPECTED} == EXPECTED
    assert [found[f"student {number}"].test_score for number in range(20)] == [
        7 if number % 3 else 10 for number in range(20)
    ]
    with Gradebook(f"sqlite:///{term}/course/gradebook.db") as gradebook:
        stored = {row["student"]: row["score"] for row in gradebook.submission_dicts("toy")}
    assert stored == {student: result.test_score for student, result in found.items()}
    assert all((term / "course" / "feedback" / student / "toy.html").is_file() for student in found)
