"""The commands ``ca14 assignment``: what they print, how they end, and one line for every bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip("nbgrader", reason="student versions are made with the extra grading")

from ca14lib import cli
from ca14lib.grading import release
from ca14lib.grading.instances import draw_instance
from tests.grading import toy
from tests.grading.test_public import handed_out
from tests.grading.test_release import given, real_source, single_source

SECRET = "0123456789abcdefghij"


def ca14(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that the command prints where it refuses."""
    monkeypatch.setattr(sys, "argv", ["ca14", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 2
    said = capsys.readouterr().err.rpartition("\r")[2]  # behind the progress bars
    assert "error: " in said
    assert "Traceback" not in said
    return said


@pytest.fixture
def term(tmp_path: Path) -> dict[str, Path]:
    """Secret, roster and folder of a term."""
    secret, roster = tmp_path / "secret", tmp_path / "roster.csv"
    secret.write_text(f"{SECRET}\n")
    roster.write_text("student,name\namara,Amara Diallo\nbo,Bo\n")
    return {"--secret-file": secret, "--roster": roster, "--to": tmp_path / "out"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run of the student version, which other tests hold."""
    monkeypatch.setattr(release, "_runs_to_the_first_stub", lambda *_: [])


def released(term: dict[str, Any], name: str = "introduction", **changes: object) -> list[object]:
    """Arguments of a release; ``None`` leaves an option out."""
    options = {"--source": real_source("introduction").parent} | term | changes
    pairs = [(option, value) for option, value in options.items() if value is not None]
    return ["assignment", "release", name, *(part for pair in pairs for part in pair)]


def test_release_writes_a_folder_for_everyone_in_the_roster(term: dict[str, Path]) -> None:
    result = ca14(*released(term), "--zip")
    assert result.exit_code == 0, result.output
    assert f"introduction: 2 students in {term['--to']}, 6 files written" in result.output
    assert "warning" not in result.output
    for student in ("amara", "bo"):
        folder = term["--to"] / student
        assert json.loads((folder / "instance.json").read_text()) == draw_instance("introduction", SECRET, student)
        assert (folder / "introduction.ipynb").is_file()
        assert (term["--to"] / f"{student}.zip").is_file()


@pytest.mark.usefixtures("quick")
def test_release_for_one_student_and_a_secret_in_the_wrong_place(term: dict[str, Path]) -> None:
    term["--to"].mkdir()
    secret = term["--to"] / "secret"
    secret.write_text(SECRET)
    result = ca14(*released({**term, "--roster": None, "--secret-file": secret}, **{"--student": "carl"}))
    assert result.exit_code == 0, result.output
    assert "1 student in" in result.output
    assert f"warning: {secret} lies in {term['--to']}, which is handed out" in result.output


@pytest.mark.usefixtures("quick")
def test_release_refuses_bad_input_in_one_line(
    term: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: object) -> str:
        return refused(monkeypatch, capsys, *arguments)

    assert "no assignment 'multi_agent'; there are introduction, offline, safe" in said(*released(term, "multi_agent"))
    assert "give one of the two" in said(*released(term, **{"--student": "carl"}))
    assert "give one of the two" in said(*released(term, **{"--roster": None}))
    assert "introduction.ipynb is missing: --source names" in said(*released(term, **{"--source": tmp_path}))
    assert "is missing: expected the secret" in said(*released(term, **{"--secret-file": tmp_path / "none"}))
    for content, problem in {
        b"name\nAmara\n": "the column student is missing",
        b"student\namara\namara\n": "line 3: the student 'amara' stands in line 2 too",
        b"student\n../amara\n": "has a slash",
        b"student\n.amara\n": "begins with a dot",
        b"student,name\n,Amara\n": "is empty",
        b"student\na\x07b\n": "control character",
        "student\nämara\n".encode("latin1"): "is not text in UTF-8",
        b"student\n": "has no students",
    }.items():
        term["--roster"].write_bytes(content)
        assert problem in said(*released(term))
    assert not term["--to"].exists()
    term["--roster"].write_text("student\namara\n")
    term["--to"].write_text("a file")
    assert "out is a file, expected a folder" in said(*released(term))
    term["--to"].unlink()
    monkeypatch.setattr(release, "replace_file", full_disk)
    assert "introduction.released.json: No space left on device" in said(*released(term)).replace("\n", "")


def full_disk(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))


def test_release_without_nbgrader_says_what_to_install(
    term: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ca14lib.grading.release", None)
    assert "pip install 'ca14lib[grading]'" in refused(monkeypatch, capsys, *released(term))


def test_check_prints_a_table_and_ends_well_only_if_all_tests_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(handed_out(tmp_path, written=True).parent)
    result = ca14("assignment", "check")
    assert result.exit_code == 0, result.output
    for said in ("toy.ipynb: running", "Ctrl-C stops", "1 A toy", "passed", "public tests: 10 of 10 points"):
        assert said in result.output
    assert "Hidden tests with other inputs decide the mark." in result.output
    result = ca14("assignment", "check", "toy.ipynb", "--task", "double")
    assert (result.exit_code, "public tests: 2 of 2 points" in result.output) == (0, True)
    monkeypatch.chdir(handed_out(tmp_path).parent)
    result = ca14("assignment", "check")
    assert result.exit_code == 1
    assert "not written yet: double: Twice the number." in result.output
    assert "public tests: 0 of 10 points" in result.output


def test_check_refuses_bad_input_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    assert "holds no notebook" in refused(monkeypatch, capsys, "assignment", "check")
    assert "none.ipynb is missing" in refused(monkeypatch, capsys, "assignment", "check", "none.ipynb")
    for name in ("offline", "safe"):
        toy.write(tmp_path / f"{name}.ipynb", given(single_source(tmp_path / "source")))
    assert "name one of offline.ipynb, safe.ipynb" in refused(monkeypatch, capsys, "assignment", "check")
    assert "instance.json is not there" in refused(monkeypatch, capsys, "assignment", "check", "safe.ipynb")
    (tmp_path / "safe.ipynb").write_text("not JSON")
    assert "safe.ipynb is not a notebook" in refused(monkeypatch, capsys, "assignment", "check", "safe.ipynb")


def test_split_says_what_it_moved_and_what_git_still_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course, private = tmp_path / "course", tmp_path / "private"
    single_source(course / "notebooks" / "assignments")
    monkeypatch.chdir(course)
    (course / ".git").mkdir()
    result = ca14("assignment", "split", "--to", private)
    assert result.exit_code == 0, result.output
    for said in (
        f"moved {Path('notebooks', 'assignments', 'toy.ipynb')}",
        f"the secret of the term is in {private / 'secret'}",
        "`ca14 assignment release` gives each an instance.json",
        "git checkout --orphan published",
    ):
        assert said in result.output
    result = ca14("assignment", "split", "--to", private, "--course", course)
    assert "nothing is left to be moved" in result.output
    assert nbformat.read(private / "sources" / "toy.ipynb", as_version=4).metadata.ca14.assignment == "toy"


def test_split_refuses_bad_input_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "holds no notebooks" in refused(monkeypatch, capsys, "assignment", "split", "--to", tmp_path / "private")
    single_source(tmp_path / "notebooks" / "assignments")
    assert "git does not ignore it" in refused(monkeypatch, capsys, "assignment", "split", "--to", tmp_path / "private")


def test_help_names_the_commands() -> None:
    result = ca14("assignment", "--help")
    assert result.exit_code == 0
    assert [name for name in ("release", "check", "split") if name not in result.output] == []
