"""The judge without a sandbox: what a test sees of the student's code, and what the student is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ca14lib.grading.connection import WorkerEnded
from ca14lib.grading.judge import Grade, grade, student_names
from ca14lib.grading.notebooks import Assignment
from ca14lib.grading.sandbox import Sandbox, SandboxError
from ca14lib.grading.session import InProcessWorker
from tests.grading import toy


def marked(tmp_path: Path, answer: str, test: str, **options) -> Grade:
    cells = [
        toy.cell("toy-answer", answer, solution=True, locked=False),
        toy.cell("toy-answer-test", test, grade=True, points=1),
    ]
    path = toy.write(tmp_path / "toy.ipynb", toy.notebook(cells))
    return grade(path, worker="process-free", seed=options.pop("seed", 1), **options)


def message(tmp_path: Path, answer: str, test: str) -> str:
    return marked(tmp_path, answer, test).marks[0].message


def test_the_assignments_own_solutions_have_all_points(assignment: Assignment) -> None:
    result = grade(assignment, worker="process-free", seed=1)
    assert (result.score, result.maximum, result.manual) == (10, 10, {"toy-analysis": 2})
    assert [mark.category for mark in result.marks] == ["correctness"] * 3


def test_functions_are_called_through_and_constants_are_copies(tmp_path: Path) -> None:
    answer = """\
import numpy as np, torch
state, limits = [], {"low": (0, 1.5), "table": np.eye(2), None: [True]}
def add(x, *, by=1):
    state.append(x)
    return x + by
def pair(): return 1, [2, None], "three"
def kind(x): return type(x).__name__
def grow(x):
    x += 1
    return x
"""
    test = """\
assert add(2) == 3 and add(np.ones(2), by=2).tolist() == [3, 3]
assert len(state) == 0, "fetched before the calls"
assert pair() == (1, [2, None], "three")
assert limits["low"] == (0, 1.5) and limits[None] == [True] and limits["table"].shape == (2, 2)
limits["low"] = None
assert [kind(x) for x in (1, 1.0, True, "a", None, (1,), [1], {}, np.ones(1), np.float32(1), torch.ones(1))] == [
    "int", "float", "bool", "str", "NoneType", "tuple", "list", "dict", "ndarray", "float32", "Tensor"]
given = np.zeros(2)
assert grow(given).tolist() == [1, 1] and given.tolist() == [0, 0]"""
    assert message(tmp_path, answer, test) == ""


def test_the_judges_names_win(tmp_path: Path) -> None:
    answer = "np = torch = check_close = check_true = check_policy = rng = instance = len = 0\nother = 1"
    test = """\
check_close(np.ones(2), torch.ones(2))
check_true(len([1]) == 1, "len")
assert instance == {"limit": 2} and other == 1
assert hasattr(rng, "normal") and callable(check_policy)"""
    assert marked(tmp_path, answer, test, instance={"limit": 2}).score == 1


def test_names_of_the_student_are_those_that_a_test_defines_nowhere() -> None:
    source = """\
from math import pi as circle
import numpy.linalg
value = f(pi2)
def own(x, y=default):
    inner = x + outside
    return [z * scale for z in inner if own and value]
for i in range(3):
    own(i, **options)
class Local:
    field = attribute
lambda a: a + free + circle + numpy.pi"""
    expected = {"f", "pi2", "default", "outside", "scale", "options", "attribute", "free"}
    assert student_names(source) == expected


def test_what_cannot_cross_is_named(tmp_path: Path) -> None:
    assert "`f` is type and cannot be tested" in message(tmp_path, "class f: pass", "f()")
    assert "`f` is module and cannot" in message(tmp_path, "import math as f", "f.pi")
    assert "generator cannot cross" in message(tmp_path, "def f(): yield 1", "f()")
    assert "`f` is not defined" in message(tmp_path, "", "f()")
    assert "TypeError" in message(tmp_path, "f = 1.0", "f()")


def test_public_lines_say_what_is_wrong_and_where(tmp_path: Path) -> None:
    assert message(tmp_path, "def f(): return 1", 'check_close(f(), 2, name="f", hint="Book: here.")') == (
        "f is 1, expected 2. Book: here."
    )
    assert message(tmp_path, "def f():\n    return 1 / 0", "f()") == (
        "ZeroDivisionError: division by zero (cell toy-answer, line 2: return 1 / 0)"
    )
    assert message(tmp_path, "def f(): return 1", "assert f() == 2") == "This does not hold: assert f() == 2"
    assert message(tmp_path, "def f(): return 1", "assert f() == 2, 'two'") == "AssertionError: two"
    assert message(tmp_path, "def f(): return 'a\\x1b[31m'", "raise ValueError(f())").startswith("ValueError: a\ufffd")


def test_hidden_lines_say_only_the_hint_or_the_kind_of_the_error(tmp_path: Path) -> None:
    hidden = "def check(x):\n    {}\n### BEGIN HIDDEN TESTS\n{}\n### END HIDDEN TESTS"
    answer = "def f(x): return x\ndef g(x): raise ValueError(x)\ndef h(x):\n    raise type(str(x), (Exception,), {})"
    inside = hidden.format("pass", 'check_close(f(3), 77, hint="Book: here.")')
    assert message(tmp_path, answer, inside) == "A hidden test fails. Book: here."
    through = hidden.format('check_close(f(x), 77, hint="Book: here.")', "check(3)")
    assert message(tmp_path, answer, through) == "A hidden test fails. Book: here."
    assert message(tmp_path, answer, hidden.format("pass", "g(77)")) == (
        "A hidden test fails: your code raises ValueError."
    )
    assert (
        message(tmp_path, answer, hidden.format("pass", "h(77)")) == "A hidden test fails: your code raises an error."
    )
    assert message(tmp_path, answer, hidden.format("pass", "f(77) + 'a'")) == "A hidden test fails."


def test_an_error_of_the_student_can_be_expected_by_its_class(tmp_path: Path) -> None:
    test = """\
try:
    f()
except ValueError as error:
    assert "too small" in str(error)
else:
    raise AssertionError("nothing raised")"""
    assert message(tmp_path, "def f(): raise ValueError('too small')", test) == ""
    assert message(tmp_path, "def f(): raise KeyError('too small')", test).startswith("KeyError: 'too small'")


def test_draws_depend_on_the_seed_and_the_test_alone(tmp_path: Path) -> None:
    answer = "def f(x): raise ValueError(x)"
    said = [marked(tmp_path, answer, "f(rng.normal())", seed=seed).marks[0].message for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_an_instance_is_drawn_by_the_judge_and_lies_beside_the_notebook(tmp_path: Path) -> None:
    answer = "from ca14lib.grading import load_instance\nmine = load_instance()"
    assert marked(tmp_path, answer, "assert mine == instance == {'limit': 3}", instance={"limit": 3}).score == 1
    assert marked(tmp_path, answer, "assert mine == instance == {}").score == 1


def test_some_tests_can_be_run_alone(assignment: Assignment) -> None:
    result = grade(assignment, worker="process-free", seed=1, only={"toy-means-test"})
    assert [mark.key for mark in result.marks] == ["toy-means-test"]
    with pytest.raises(ValueError, match=r"the tests are toy-double-test, toy-means-test, toy-act-test"):
        grade(assignment, worker="process-free", seed=1, only={"toy-means"})


def test_faults_of_the_instructor_are_errors_and_no_marks(assignment: Assignment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not Python"):
        marked(tmp_path, "x = 1", "assert (")
    with pytest.raises(ValueError, match="got 'none'"):
        grade(assignment, worker="none", seed=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the sandbox was made for"):
        grade(assignment, worker=Sandbox(["ca14lib.environments"]), seed=1)
    result = marked(tmp_path, "x = 1", "pass")
    assert result.mark("toy-answer-test").points == 1
    with pytest.raises(KeyError, match="no test 'other'"):
        result.mark("other")


def test_nothing_of_a_submission_stays_behind(tmp_path: Path) -> None:
    import sys

    before = Path.cwd()
    marked(tmp_path, "import os\nopen('made', 'w')\nraise ValueError('early')", "pass")
    assert Path.cwd() == before
    assert "submission" not in sys.modules
    assert not Path("made").exists()


def test_a_grade_survives_its_file(assignment: Assignment) -> None:
    result = grade(assignment, worker="process-free", seed=1, replaced={"toy-double": "raise ValueError"})
    assert Grade.from_json(result.to_json()) == result
    assert list(result.errors) == ["cell toy-double"]
    assert np.isclose(result.score, 8)


def test_a_fault_of_the_computer_is_no_mark(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a worker cannot be started, in the middle of a submission too, there is no grade."""
    sandbox, started = Sandbox(), []

    def start(files: object) -> InProcessWorker:
        started.append(files)
        if len(started) > 1:
            raise SandboxError("no more workers")
        worker = InProcessWorker({"instance.json": b"{}"})
        monkeypatch.setattr(worker, "settle", ended)
        return worker

    def ended() -> None:
        raise WorkerEnded("gone")

    monkeypatch.setattr(sandbox, "start", start)
    with pytest.raises(SandboxError, match="no more workers"):
        grade(assignment, worker=sandbox, seed=1, only={"toy-double-test", "toy-means-test"})
