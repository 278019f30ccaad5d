"""Hostile submissions in the sandbox: none wins points, none takes them from other tests, none stops the grader."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ca14lib.grading.check import CheckError, check_close
from ca14lib.grading.judge import Grade, grade
from ca14lib.grading.notebooks import Assignment
from ca14lib.grading.sandbox import Sandbox
from ca14lib.grading.seccomp import MACHINES, SYSTEM_CALLS
from ca14lib.grading.session import Times
from tests.grading import toy
from tests.grading.attacks import ATTACKS, IN_A_CELL, SPOILS_THE_REST

TIMES = Times(call=1.5, cell=2.0, test=3.0, submission=60.0)


def graded(assignment: Assignment, sandbox: Sandbox, tmp_path: Path, cells: list) -> Grade:
    path = toy.write(tmp_path / "toy.ipynb", toy.notebook(cells))
    return grade(assignment, path, worker=sandbox, seed=1, times=TIMES)


@pytest.mark.parametrize("label", ATTACKS)
def test_an_attack_wins_nothing_and_the_rest_is_graded(
    label: str, assignment: Assignment, sandbox: Sandbox, tmp_path: Path
) -> None:
    result = graded(assignment, sandbox, tmp_path, toy.cells({"toy-double": ATTACKS[label]}))
    assert result.mark("toy-double-test").points == 0
    assert result.mark("toy-double-test").message
    rest = 0 if label in SPOILS_THE_REST else toy.MAXIMUM - 2
    assert result.score == rest, [mark.message for mark in result.marks]
    assert "LEAKED" not in result.output
    assert "secret_input" not in result.to_json()


@pytest.mark.parametrize("label", IN_A_CELL)
def test_an_attack_beside_right_answers_changes_no_score(
    label: str, assignment: Assignment, sandbox: Sandbox, tmp_path: Path
) -> None:
    """What is tried in a cell of its own, before the answers: at worst the worker ends and is started without it."""
    cells = toy.cells()
    cells.insert(2, toy.cell(None, IN_A_CELL[label]))
    result = graded(assignment, sandbox, tmp_path, cells)
    assert result.score == toy.MAXIMUM, [mark.message for mark in result.marks]
    assert "LEAKED" not in result.output


def test_honest_work_keeps_all_points(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    result = graded(assignment, sandbox, tmp_path, toy.cells())
    assert result.score == result.maximum == toy.MAXIMUM
    assert (result.errors, result.notes, result.manual) == ({}, (), {"toy-analysis": 2.0})


def test_tests_and_locked_cells_of_a_submission_are_never_run(
    assignment: Assignment, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Changed, emptied, copied, or with the id of a test at the student's own cell."""
    cells = toy.cells({"toy-double": toy.DOUBLE.replace("2", "3")})
    for cell in cells:
        if cell["metadata"].get("nbgrader", {}).get("grade_id", "").endswith("-test"):
            cell["source"] = "print('LEAKED')\nPASSED = 1"
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "toy-setup":
            cell["source"] = "def double(x): return 2 * x"
    cells += [cells[3], cells[3], toy.cell("toy-double-test", toy.DOUBLE, grade=False, solution=True, locked=False)]
    result = graded(assignment, sandbox, tmp_path, cells)
    assert result.score == toy.MAXIMUM - 2
    assert "LEAKED" not in result.output
    assert len(result.marks) == 3


def test_deleted_and_moved_cells_do_not_change_what_is_tested(
    assignment: Assignment, sandbox: Sandbox, tmp_path: Path
) -> None:
    kept = [cell for cell in reversed(toy.cells()) if "test" not in cell["id"] and "setup" not in cell["id"]]
    result = graded(assignment, sandbox, tmp_path, kept)
    assert result.score == toy.MAXIMUM
    assert len(result.notes) == 4
    nothing = graded(assignment, sandbox, tmp_path, [])
    assert (nothing.score, nothing.maximum) == (0, toy.MAXIMUM)
    assert "`double` is not defined" in nothing.marks[0].message


def test_a_later_cell_cannot_undo_what_was_tested(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    cells = toy.cells()
    cells.append(toy.cell(None, "def double(x):\n    return 0"))
    assert graded(assignment, sandbox, tmp_path, cells).score == toy.MAXIMUM


def test_names_in_other_scripts_and_magics_are_ordinary_code(
    assignment: Assignment, sandbox: Sandbox, tmp_path: Path
) -> None:
    text = "%matplotlib inline\n!pip install numpy\nverdoppelt_ä, 二 = 1, 2\ndouble?\ndef double(x):\n    return 二 * x"
    cells = toy.cells({"toy-double": text})
    cells.append(toy.cell("toy-dоuble-test", "raise ValueError"))  # a Cyrillic о: another id, so an ordinary cell
    result = graded(assignment, sandbox, tmp_path, cells)
    assert result.score == toy.MAXIMUM
    assert len(result.errors) == 1


def test_no_more_than_three_restarts_and_no_more_time_than_there_is(
    assignment: Assignment, sandbox: Sandbox, tmp_path: Path
) -> None:
    cells = toy.cells()
    for _ in range(6):
        cells.insert(2, toy.cell(None, "import os\nos._exit(3)"))
    result = graded(assignment, sandbox, tmp_path, cells)
    assert result.score == 0
    assert "not started again" in result.marks[0].message
    slow = [toy.cell(None, f"while True:\n    pass  # {n}") for n in range(3)]
    path = toy.write(tmp_path / "slow.ipynb", toy.notebook(toy.cells() + slow))
    result = grade(assignment, path, worker=sandbox, seed=1, times=Times(cell=1.0, submission=2.5))
    assert result.seconds < 10


def test_files_that_are_handed_in_arrive_and_others_do_not(sandbox: Sandbox, tmp_path: Path) -> None:
    """A link to a file of the grader, one that is too large, and one that is missing are notes, not files."""
    source = toy.notebook(toy.cells(), files=["weights.bin", "link.bin", "large.bin", "missing.bin", "pipe.bin"])
    assignment = toy.write(tmp_path / "source" / "toy.ipynb", source)
    folder = tmp_path / "submitted"
    look = "import os\nprint(sorted(os.listdir('.')), open('weights.bin').read(), open('instance.json').read())"
    content = toy.notebook([*toy.cells(), toy.cell(None, look)])
    path = toy.write(folder / "toy.ipynb", content)
    (folder / "weights.bin").write_text("weights")
    (folder / "instance.json").write_text('{"limit": 1000000}')
    (folder / "large.bin").write_bytes(bytes(2**20 + 1))
    (folder / "link.bin").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.bin")
    result = grade(assignment, path, worker=sandbox, seed=1, instance={"limit": 1})
    assert result.output.strip() == "['instance.json', 'weights.bin'] weights {\"limit\": 1}"
    assert len(result.notes) == 4
    assert result.score == toy.MAXIMUM


def test_what_a_hidden_test_says_holds_no_value(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    """Neither the expected one nor the input, even if the student's function puts it into an error or its name."""
    tell = "def double(x):\n    if x.shape == (3,):\n        return 2 * x\n    "
    for wrong in ("return x", "raise ValueError(x)", "raise type(f'Error{x}', (Exception,), {})", "print(x)"):
        result = graded(assignment, sandbox, tmp_path, toy.cells({"toy-double": tell + wrong}))
        message = result.mark("toy-double-test").message
        assert message.startswith("A hidden test fails")
        assert "." not in message.replace("Book: doubling.", "").removesuffix(".").replace("fails.", "")
    json.loads(result.to_json())
    assert Grade.from_json(result.to_json()) == result


def test_results_that_an_ordinary_comparison_takes_for_right_are_refused() -> None:
    """What makes these attacks attacks: the comparison that tests are usually written with lets them pass."""
    right = np.array([1.0, 2.0])
    assert np.allclose(np.zeros((0, 2)), right)
    assert not (np.ma.masked_all(2) != right).any()
    assert not abs(np.array([np.nan, np.nan]) - right).max() > 1e-6
    for wrong in (
        np.zeros((0, 2)),
        np.ones((2, 2)) * right,
        [1.0 + 0j, 2.0 + 0j],
        ["1.0", "2.0"],
        right.astype(object),
    ):
        with pytest.raises(CheckError):
            check_close(wrong, right)


def test_every_forbidden_system_call_is_refused(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    """Each with arguments that do no harm where it is let through; fork and clone are attacks of their own."""
    column = MACHINES[platform.machine()][0]
    numbers = {name: pair[column] for name, pair in SYSTEM_CALLS.items() if name not in ("fork", "vfork")}
    source = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for name, number in {numbers}.items():
    if number is not None and (libc.syscall(number, -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.EPERM):
        print("LEAKED", name)
print("tried all")
"""
    result = graded(assignment, sandbox, tmp_path, [*toy.cells(), toy.cell(None, source)])
    assert result.output.strip() == "tried all"


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="the number of files is limited where root grades")
def test_the_number_of_files_is_limited(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    source = """
made = 0
try:
    for made in range(5000):
        open(f"file {made}", "w").close()
except OSError:
    pass
print(made)
"""
    result = graded(assignment, sandbox, tmp_path, [*toy.cells(), toy.cell(None, source)])
    assert 0 < int(result.output) <= sandbox.limits.scratch_files


def test_two_submissions_do_not_take_each_others_threads(sandbox: Sandbox) -> None:
    """Together more than one may have; where the limit counted for all workers of a user, they would not get it."""
    source = """
import threading, time
def threads():
    started = 0
    try:
        for started in range(100):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError:
        pass
    return started
"""
    few = replace(sandbox.limits, threads=10)
    started = []
    with Sandbox((), few) as narrow:
        workers = [narrow.start(), narrow.start()]
        for worker in workers:
            worker.request(20, op="cell", name="cell", source=source)
            started.append(worker.request(20, op="call", name="threads", args=[], kwargs={})["value"])
        for worker in workers:
            worker.close()
    assert max(started) < few.threads < sum(started)


def test_a_reply_counts_as_it_was_when_it_was_given(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    """What a thread writes later into the array that was returned changes nothing."""
    source = """
import threading
def double(x):
    answer = 2.0 * np.asarray(x)
    def spoil():
        answer[...] = 0
    threading.Timer(0.01, spoil).start()
    return answer
"""
    result = graded(assignment, sandbox, tmp_path, toy.cells({"toy-double": source}))
    assert result.mark("toy-double-test").points == 2
