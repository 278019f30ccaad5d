"""A student's own run: what it says of what is written, wrong or missing, and that it leaves files alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from ca14lib.grading import public
from ca14lib.grading.instances import ASSIGNMENTS, draw_instance, module_name
from ca14lib.grading.public import PublicRun, checksum, find_notebook, run_public_tests

pytest.importorskip("nbgrader", reason="student versions are made with the extra grading")

from tests.grading import toy
from tests.grading.test_release import SECRET, given, real_source, single_source, solved

every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)
Cells = dict[str, dict[str, Any]]


def handed_out(folder: Path, source: Path | None = None, written: bool = False) -> Path:
    """A student's folder with the notebook, as it was released or with the source's solutions in it."""
    source = source or single_source(folder / "source")
    notebook = solved(source) if written else json.loads(nbformat.writes(given(source)))
    name = notebook["metadata"]["ca14"]["assignment"]
    path = toy.write(folder / "mine" / f"{module_name(name)}.ipynb", notebook)
    path.with_name("instance.json").write_text(json.dumps(draw_instance(name, SECRET, "amara")))
    return path


def changed(path: Path, change: Callable[[Cells, list[dict[str, Any]]], object]) -> Path:
    """The notebook with a change, which is given the cells by id and the list of them."""
    notebook = json.loads(path.read_text("utf8"))
    change({cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in notebook["cells"]}, notebook["cells"])
    return toy.write(path, notebook)


def run(path: Path, **options: Any) -> PublicRun:
    return run_public_tests(path, progress=False, **options)


def states(result: PublicRun) -> list[str]:
    return [task.state for task in result.tasks]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@every_assignment
def test_nothing_is_written_in_a_student_version_that_was_just_handed_out(name: str, tmp_path: Path) -> None:
    path = handed_out(tmp_path, real_source(name))
    before = files(path.parent)
    result = run(path)
    assert set(states(result)) == {"not written yet"}
    assert all(task.message for task in result.tests)
    assert (result.score, result.passed) == (0, False)
    assert all("is missing, and no cell has written it" in note for note in result.notes)
    assert len({task.title for task in result.tasks}) == len(result.tasks)
    assert files(path.parent) == before


@every_assignment
@pytest.mark.slow
def test_the_reference_solution_passes_all_public_tests(name: str, tmp_path: Path) -> None:
    path = handed_out(tmp_path, real_source(name), written=True)
    result = run(path)
    assert [task.message for task in result.tests if task.message] == []
    assert set(states(result)) <= {"passed", "marked by hand"}
    assert (result.passed, result.score) == (True, result.maximum)
    assert [note for note in result.notes if "was missing; your cells have written it" not in note] == []


def test_what_passes_fails_and_is_missing_is_told_apart(tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-double"]["source"] = "def double(x):\n    return x"
        cells["toy-means"]["source"] = toy.MEANS

    result = run(changed(handed_out(tmp_path), change))
    assert [(task.title, task.points, task.state) for task in result.tasks] == [
        ("1 A toy", 2, "failed"),
        ("1 A toy", 3, "passed"),
        ("1 A toy", 5, "not written yet"),
        ("1 A toy", 2, "not written yet"),
    ]
    assert result.tasks[0].message == "double[1] is 1, expected 2 (2 of 3 differ). Book: doubling."
    assert result.tasks[2].message == "write your code here"
    assert (result.score, result.maximum, result.passed) == (3, 10, False)


def test_a_cell_that_fails_is_named_in_its_task(tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-double"]["source"] = "def double(x)\n    return x"
        cells["toy-means"]["source"] = "lost\n" + toy.MEANS

    double, means, *_ = run(changed(handed_out(tmp_path), change)).tasks
    assert double.message.startswith("Your cell fails: SyntaxError: expected ':'")
    assert means.message.startswith("Your cell fails: NameError: name 'lost' is not defined")


def test_a_file_that_was_missing_is_written_and_one_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = handed_out(tmp_path, written=True)
    result = run(path)
    assert result.passed
    (note,) = result.notes
    assert note == "policy.safetensors was missing; your cells have written it, and it lies beside the notebook now"
    assert files(path.parent)["policy.safetensors"] == b"1"
    assert run(path).notes == ()
    path.with_name("policy.safetensors").write_bytes(b"0")
    (note,) = run(path).notes
    assert note.startswith("your cells write policy.safetensors anew; the file beside the notebook was left as it is")
    assert files(path.parent)["policy.safetensors"] == b"0"
    assert set(files(path.parent)) == {"toy.ipynb", "instance.json", "policy.safetensors"}


def test_a_file_is_read_where_the_notebook_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-act"]["source"] = [line for line in cells["toy-act"]["source"] if "write_bytes" not in line]

    path = changed(handed_out(tmp_path, written=True), change)
    monkeypatch.chdir(tmp_path)
    path.with_name("policy.safetensors").write_bytes(b"0")
    assert states(run(path))[2] == "failed"
    path.with_name("policy.safetensors").write_bytes(b"1")
    result = run(path)
    assert result.passed
    assert Path.cwd() == tmp_path


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    path = handed_out(tmp_path)
    path.with_name("policy.safetensors").write_bytes(bytes(2**20 + 1))
    assert run(path).notes == ("policy.safetensors has more than 1,048,576 bytes: the grader does not take it",)


def test_a_changed_cell_of_the_assignment_is_named_and_an_answer_is_not(tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-text"]["source"] += " of mine"
        cells["toy-double-test"]["source"] = "pass"
        cells["toy-double"]["source"] = "pass"
        cells["toy-analysis"]["source"] = "Mine."

    result = run(changed(handed_out(tmp_path), change))
    assert result.notes[:2] == (
        "the cell toy-text is not yours and was changed: the grader uses its own copy",
        "the cell toy-double-test is not yours and was changed: the grader uses its own copy",
    )
    assert len(result.notes) == 3
    assert states(result)[-1] == "marked by hand"


def test_checksums_are_those_of_nbgrader(tmp_path: Path) -> None:
    from nbgrader.utils import compute_checksum

    for cell in nbformat.read(handed_out(tmp_path), as_version=4).cells:
        for text in (cell.source, "other", "ä\n"):
            cell.source = text
            assert checksum(cell) == compute_checksum(cell)


def test_cells_of_ones_own_and_copies_run_where_they_stand(tmp_path: Path) -> None:
    def change(cells: Cells, order: list[dict[str, Any]]) -> None:
        order.insert(2, toy.cell(None, "factor = 2"))
        cells["toy-double"]["source"] = "def double(x):\n    return factor * x"
        order.append(cells["toy-double"] | {"source": "def double(x):\n    return 0 * x"})
        order.append(toy.cell(None, "1 / 0"))

    result = run(changed(handed_out(tmp_path, written=True), change))
    assert result.passed
    assert any(note.startswith("your cell 2 after toy-double") or "ZeroDivisionError" in note for note in result.notes)


def test_a_missing_cell_is_named(tmp_path: Path) -> None:
    path = changed(handed_out(tmp_path, written=True), lambda cells, order: order.remove(cells["toy-double"]))
    result = run(path)
    assert "the cell toy-double is missing: copy it from a fresh notebook" in result.notes
    assert states(result)[0] == "failed"


def test_a_deleted_test_and_another_version_are_told_by_the_courses_own_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = tmp_path / "course"
    toy.write(course / "notebooks" / "assignments" / "toy.ipynb", given(single_source(tmp_path / "source")))
    monkeypatch.setattr(public, "LIBRARY", course / "ca14lib")
    path = changed(handed_out(tmp_path, written=True), lambda cells, order: order.remove(cells["toy-double-test"]))
    assert "the cell toy-double-test is missing: copy it from a fresh notebook" in run(path).notes
    notebook = json.loads(path.read_text("utf8"))
    notebook["metadata"]["ca14"]["version"] = 2
    assert run(toy.write(path, notebook)).notes[0].startswith("this is version 2 of the assignment, and ")


def test_modules_that_the_grader_does_not_have_are_named(tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        more = "import ca14lib.data.transitions\nfrom ca14lib.solvers import value_iteration\n"
        guarded = "if False:\n    from ca14lib.agents import DiscreteCQL\n"
        cells["toy-double"]["source"] = more + guarded + "def double(x):\n    return 2 * x"

    path = changed(handed_out(tmp_path, written=True), change)
    assert run(path).notes[:2] == (
        "cell toy-double imports ca14lib.data.transitions, which the grader does not have",
        "cell toy-double imports ca14lib.solvers, which the grader does not have",
    )
    notebook = json.loads(path.read_text("utf8"))
    notebook["metadata"]["ca14"]["modules"] = ["ca14lib.data", "ca14lib.solvers"]
    assert [note for note in run(toy.write(path, notebook)).notes if "imports" in note] == []


def test_what_takes_longer_than_the_grader_waits_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "ORDINARY_TIMES", public.Times(call=0.05, cell=0.05))

    def change(cells: Cells, _: object) -> None:
        cells["toy-double"]["source"] = "import time\ntime.sleep(0.1)\ndef double(x):\n    return 2 * x"
        cells["toy-means"]["source"] = "def row_means(x):\n    time.sleep(0.1)\n    return x.mean(axis=1)"

    result = run(changed(handed_out(tmp_path, written=True), change))
    assert result.passed
    slow = [note for note in result.notes if "the grader stops it" in note]
    assert [note.partition(" took")[0] for note in slow] == ["cell toy-double", "a call of row_means"]


@pytest.mark.parametrize("task", ["means", "toy-means", "toy-means-test", " means "])
def test_one_task_is_run_alone(task: str, tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-act"]["source"] = "raise SystemExit"

    result = run(changed(handed_out(tmp_path, written=True), change), task=task)
    assert [(one.key, one.state) for one in result.tasks] == [("toy-means-test", "passed")]
    assert result.passed


def test_a_task_is_found_by_its_number_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    path = handed_out(tmp_path, real_source("introduction"))
    (only,) = run(path, task="2").tasks
    assert only.title.startswith("2 ")
    with pytest.raises(ValueError, match="introduction has no task '0' with a test; there are probability, "):
        run(path, task="0")


def test_ctrl_c_in_an_answer_shows_what_ran_before_it(tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-means"]["source"] = "def row_means(x):\n    raise KeyboardInterrupt"

    path = changed(handed_out(tmp_path, written=True), change)
    result = run(path)
    assert states(result) == ["passed", "not run", "not run", "marked by hand"]
    assert result.tasks[1].message == "Ctrl-C stopped it."
    assert (result.stopped, result.passed, result.score) == (True, False, 2)
    assert result.notes == ("stopped in toy-means-test: what comes after it was not run",)
    assert not path.with_name("policy.safetensors").exists()


LOOP = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
from ca14lib.grading.public import run_public_tests
result = run_public_tests(sys.argv[1], progress=False)
print(result.stopped, [task.state for task in result.tasks])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.slow
def test_a_loop_without_end_is_stopped_by_the_signal_of_ctrl_c(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def change(cells: Cells, _: object) -> None:
        loop = f"open({str(started)!r}, 'w').close()\nwhile True:\n    pass\n"
        cells["toy-means"]["source"] = loop

    path = changed(handed_out(tmp_path, written=True), change)
    process = subprocess.Popen([sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "True ['passed', 'not run', 'not run', 'marked by hand']\n"
    finally:
        process.kill()


def test_what_students_print_and_ask_for_stays_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-means"]["source"] = "print('noise')\ninput()"

    task = run(changed(handed_out(tmp_path, written=True), change)).tasks[1]
    assert "EOFError" in task.message
    assert capsys.readouterr() == ("", "")


def test_leaving_the_process_is_an_error_of_the_cell(tmp_path: Path) -> None:
    def change(cells: Cells, _: object) -> None:
        cells["toy-means"]["source"] = "import sys\nsys.exit()"

    result = run(changed(handed_out(tmp_path, written=True), change))
    assert states(result) == ["passed", "failed", "passed", "marked by hand"]


WITHOUT_SYSTEM = """\
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "nbgrader", "nbformat", "copydetect"):
    sys.modules[name] = None
from ca14lib.grading.public import run_public_tests
print(run_public_tests(sys.argv[1], progress=False).passed)
"""


@pytest.mark.slow
def test_it_needs_neither_nbgrader_nor_modules_that_only_unix_has(tmp_path: Path) -> None:
    path = handed_out(tmp_path, written=True)
    command = [sys.executable, "-c", WITHOUT_SYSTEM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_only_assignment_of_a_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = handed_out(tmp_path)
    (path.parent / ".hidden.ipynb").write_text("")
    monkeypatch.chdir(path.parent)
    assert find_notebook().resolve() == path
    assert find_notebook(path.parent) == path
    (path.parent / "plots.ipynb").write_text('{"cells": []}')
    assert find_notebook(path.parent) == path
    toy.write(path.with_name("copy.ipynb"), toy.notebook([]))
    with pytest.raises(ValueError, match=r"several notebooks: name one of copy\.ipynb, toy\.ipynb"):
        find_notebook(path.parent)


def test_a_folder_without_notebooks_and_a_missing_notebook_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no notebook: go to the folder of the assignment"):
        run(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"safe\.ipynb is missing"):
        run(tmp_path / "safe.ipynb")


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "toy.ipynb is not a notebook"),
        (b"def double(x): ...", "toy.ipynb is not a notebook"),
        ("ü".encode("latin1"), "is not text in UTF-8"),
        (b'{"cells": 1}', "no list of cells"),
        (b'{"worksheets": [], "nbformat": 3}', "format 4"),
        (b'{"cells": []}', "is not the notebook of an assignment"),
        (json.dumps(toy.notebook([])).encode(), "has no tests left"),
        (json.dumps(toy.notebook([], version="1")).encode(), "is not the notebook of an assignment"),
        (json.dumps(toy.notebook(toy.cells(), files=["../x"])).encode(), "not plain names: ../x"),
    ],
    ids=range(9),
)
def test_a_file_that_is_no_assignment_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        run(path)


def test_a_missing_or_spoilt_instance_is_named(tmp_path: Path) -> None:
    path = handed_out(tmp_path)
    path.with_name("instance.json").write_text("[")
    with pytest.raises(ValueError, match=r"instance\.json cannot be read"):
        run(path)
    path.with_name("instance.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"instance\.json is not there: keep the file that came"):
        run(path)
