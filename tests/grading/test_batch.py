"""Batches of submissions: nothing is judged twice or lost, whatever is killed, broken or full."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ca14lib.grading import batch, sandbox
from ca14lib.grading.batch import STOPPED, Judged, judge_all, locked
from ca14lib.grading.collect import Content, find_submissions
from ca14lib.grading.notebooks import Assignment
from ca14lib.grading.sandbox import SandboxError
from tests.grading import toy

SECRET = "a secret of the term"
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("sandbox")  # skipped where there is none

SCRIPT = """
import sys
from ca14lib.grading.batch import judge_all
from ca14lib.grading.collect import Content, find_submissions
from ca14lib.grading.notebooks import Assignment
folder, jobs = sys.argv[1], int(sys.argv[2])
judge_all(find_submissions(f"{folder}/all")[0], f"{folder}/toy.ipynb", f"{folder}/marks", "a secret of the term",
          jobs=jobs, progress=False)
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A folder with the source and three submissions: right, partly right, broken."""
    toy.write(tmp_path / "toy.ipynb", toy.notebook(toy.cells()))
    toy.write(tmp_path / "all" / "anna" / "toy.ipynb", toy.notebook(toy.cells()))
    toy.write(tmp_path / "all" / "bo" / "toy.ipynb", toy.notebook(toy.cells({"toy-means": "row_means = abs"})))
    (tmp_path / "all" / "cem").mkdir()
    (tmp_path / "all" / "cem" / "toy.ipynb").write_text("{")
    return tmp_path


def judged(course: Path, **options: object) -> dict[str, Judged]:
    found, _ = find_submissions(course / "all")
    marks: Sequence[Judged] = judge_all(
        found, course / "toy.ipynb", course / "marks", SECRET, progress=False, **{"jobs": 1, **options}
    )
    return {one.student: one for one in marks}


def times(course: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (course / "marks").glob("*.json")}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {student for student in after if before.get(student) != after[student]}


def scores(marks: dict[str, Judged]) -> dict[str, float | None]:
    return {student: None if one.grade is None else one.grade.score for student, one in marks.items()}


def test_marks_are_written_and_nothing_is_judged_twice(course: Path) -> None:
    first = judged(course)
    assert scores(first) == {"anna": 10, "bo": 7, "cem": None}
    assert "is not a notebook" in first["cem"].problem
    assert all(Judged.from_json(one.to_json()) == one for one in first.values())
    before = times(course)
    assert judged(course) == first
    assert changed(before, times(course)) == set()


def test_only_what_has_changed_is_judged_again(course: Path) -> None:
    judged(course)
    before = times(course)
    toy.write(course / "all" / "bo" / "toy.ipynb", toy.notebook(toy.cells()))
    (course / "marks" / "cem.json").write_text("{}")  # damaged
    toy.write(course / "all" / "dana" / "toy.ipynb", toy.notebook(toy.cells()))
    assert scores(judged(course)) == {"anna": 10, "bo": 10, "cem": None, "dana": 10}
    assert changed(before, times(course)) == {"bo", "cem", "dana"}


def test_a_mended_test_judges_everybody_again(course: Path) -> None:
    judged(course)
    before = times(course)
    source = toy.notebook(toy.cells())
    for cell in source["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "toy-means-test":
            cell["source"] = "check_true(True, 'withdrawn')"
    toy.write(course / "toy.ipynb", source)
    assert scores(judged(course)) == {"anna": 10, "bo": 10, "cem": None}
    assert changed(before, times(course)) == {"anna", "bo", "cem"}


def test_another_secret_draws_other_inputs(course: Path) -> None:
    judged(course)
    before = times(course)
    found, _ = find_submissions(course / "all")
    judge_all(found, course / "toy.ipynb", course / "marks", "another " + SECRET, jobs=1, progress=False)
    assert changed(before, times(course)) == {"anna", "bo", "cem"}


def test_a_broken_sandbox_grades_nothing(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROBES", sandbox.PROBES.replace("return attempt(os.fork)", "return True"))
    with pytest.raises(SandboxError, match="nothing is graded"):
        judged(course)
    assert times(course) == {}


def test_a_missing_sandbox_grades_nothing(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match="bubblewrap"):
        judged(course)
    assert times(course) == {}


def test_a_submission_that_brings_down_the_judge_stops_nobody_else(course: Path) -> None:
    """The test itself ends its process where the student's constant says so: for instance by taking all memory."""
    source = toy.notebook(toy.cells())
    for cell in source["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "toy-double-test":
            cell["source"] = "import os\nif double(0) == 1:\n    os.kill(os.getpid(), 9)"
    toy.write(course / "toy.ipynb", source)
    evil = toy.cells({"toy-double": "def double(x):\n    return 1"})
    toy.write(course / "all" / "bad" / "toy.ipynb", toy.notebook(evil))
    found = judged(course, jobs=2)
    assert scores(found) == {"anna": 10, "bad": None, "bo": 7, "cem": None}
    assert found["bad"].problem == STOPPED
    before = times(course)
    judged(course)
    assert changed(before, times(course)) == {"bad"}, "it is tried again"


def test_a_hole_in_the_judge_stops_nobody_else(
    course: Path, assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise IndexError("\x1b[2J no such thing")

    monkeypatch.setattr(batch, "grade", fails)
    content = Content((course / "toy.ipynb").read_bytes(), {})
    found = batch._judge(batch.Task("anna", "key", content, assignment, 1, {}))
    assert found.ungraded
    assert found.grade is None
    assert "IndexError" in found.problem
    assert "\x1b" not in found.problem


def test_a_file_that_holds_no_marks_is_none() -> None:
    for text in ("[]", "{}", "", '{"grade": null}'):
        with pytest.raises(ValueError, match=r"."):
            Judged.from_json(text)


def test_two_graders_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RuntimeError, match="another grader"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_marks(course: Path) -> None:
    distributed = pytest.importorskip("distributed")
    here = judged(course)
    for path in (course / "marks").iterdir():
        path.unlink()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
    ):
        there = judged(course, scheduler=cluster.scheduler_address)
    assert scores(there) == scores(here)


MEMORY = """
import sys
from pathlib import Path
from ca14lib.grading.notebooks import SubmissionError, read_assignment
from ca14lib.grading.judge import grade
source, submission = map(Path, sys.argv[1:])
try:
    grade(read_assignment(source), submission, seed=1)
except SubmissionError:
    pass
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["[],", "{},", '"\\u0100",', '{"cell_type":"code","source":""},'])
def test_the_largest_notebook_leaves_the_judge_below_a_gigabyte(course: Path, unit: str) -> None:
    path = course / "hostile.ipynb"
    path.write_text('{"cells":[' + unit * ((10 * 2**20 - 100) // len(unit)) + "0]}")
    command = [sys.executable, "-c", MEMORY, str(course / "toy.ipynb"), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2**20, "kilobytes"


def kill_and_go_on(course: Path, kills: int, seed: int, longest: float) -> None:
    """Start the grader, kill it with all its processes after a while, so many times; then let it finish."""
    draws = random.Random(seed)
    for number in range(kills + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(course), "2"], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE
        )
        before = times(course)
        if number < kills:
            try:
                process.wait(draws.uniform(1.0, longest))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        after = times(course)
        assert set(before) <= set(after), "marks are lost"
        assert all(after[student] == before[student] for student in before), "somebody is judged twice"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_killed_grader_goes_on(course: Path) -> None:
    kill_and_go_on(course, kills=2, seed=1, longest=5.0)
    assert scores(judged(course)) == {"anna": 10, "bo": 7, "cem": None}
    assert not list((course / "marks").glob(".*"))
