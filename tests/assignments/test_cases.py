"""Every assignment: its own solutions keep all points, plausible wrong ones lose a task's, other right ones keep it."""

from __future__ import annotations

import functools
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from ca14lib.grading.instances import ASSIGNMENTS, module_name
from ca14lib.grading.judge import Grade, grade, student_names
from ca14lib.grading.notebooks import Assignment, read_assignment

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
MUTANTS_PER_TASK, ALTERNATIVES_PER_TASK = 6, 3
GRADER_SEEDS = range(20)
POINTS = {"introduction": 5, "offline": 20, "safe": 15, "multi-agent": 20, "robust": 15, "evaluation": 10}
CATEGORIES = {"correctness": 35, "safety and robustness": 30, "coordination": 20, "analysis": 15}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # wrong solutions divide by zero and overflow
every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


@functools.cache
def source(name: str) -> Assignment:
    return read_assignment(SOURCES / f"{module_name(name)}.ipynb")


@functools.cache
def cases(name: str) -> dict[str, Any]:
    """The module of an assignment's cases, by its file: in the private folder it is in no package."""
    return runpy.run_path(str(Path(__file__).with_name(f"{module_name(name)}_cases.py")))


def cell_of(name: str, task: str) -> str:
    """The id of a task's solution cell, whether the cases give it with the name of the assignment or without."""
    return task if task.startswith(f"{name}-") else f"{name}-{task}"


def listed(kind: str) -> list[object]:
    found = []
    for name in ASSIGNMENTS:
        if (Path(__file__).parent / f"{module_name(name)}_cases.py").exists():
            tasks = cases(name)[kind]
            found += [
                pytest.param(name, task, text, id=f"{cell_of(name, task)}: {label}")
                for task, variants in tasks.items()
                for label, text in variants.items()
            ]
    return found


def graded(name: str, task: str, text: str) -> Grade:
    key = cell_of(name, task)
    return grade(source(name), replaced={key: text}, only={f"{key}-test"}, worker="process-free", seed=11)


@pytest.mark.parametrize("name, task, text", listed("MUTANTS"))
def test_a_wrong_solution_loses_the_points(name: str, task: str, text: str) -> None:
    mark = graded(name, task, text).marks[0]
    assert mark.points == 0
    assert mark.message
    assert "is not defined" not in mark.message, "the mutant fails for another reason than its mistake"


@pytest.mark.parametrize("name, task, text", listed("ALTERNATIVES"))
def test_another_right_solution_keeps_the_points(name: str, task: str, text: str) -> None:
    result = graded(name, task, text)
    assert result.marks[0].message == ""
    assert result.score == result.maximum


@every_assignment
def test_every_task_has_enough_cases(name: str) -> None:
    tested = {cell.key.removesuffix("-test") for cell in source(name).tests}
    for kind, least in (("MUTANTS", MUTANTS_PER_TASK), ("ALTERNATIVES", ALTERNATIVES_PER_TASK)):
        tasks = {cell_of(name, task): variants for task, variants in cases(name)[kind].items()}
        assert set(tasks) == tested
        assert [task for task, variants in tasks.items() if len(variants) < least] == []


@every_assignment
def test_the_points_are_those_of_the_course(name: str) -> None:
    assert source(name).name == name
    assert sum(cell.points for cell in source(name).tests) == POINTS[name]
    assert all(cell.category for cell in (*source(name).tests, *source(name).manual))


def test_the_categories_have_the_weights_of_the_course() -> None:
    found = dict.fromkeys(CATEGORIES, 0.0)
    for name in ASSIGNMENTS:
        for cell in (*source(name).tests, *source(name).manual):
            found[cell.category] += cell.points
    assert found == CATEGORIES


@every_assignment
def test_tests_ask_for_nothing_that_a_student_need_not_write(name: str) -> None:
    """What locked cells define is the student's in the worker: it could be redefined, so a test must not rely on it."""
    given = {"np", "torch", "check_close", "check_true", "check_policy", "rng", "instance"}
    answers = "\n".join(cell.source for cell in source(name).cells if cell.kind == "solution")
    for cell in source(name).tests:
        for asked in student_names(cell.source) - given:
            assert f"def {asked}(" in answers or f"{asked} =" in answers, f"{cell.key} uses {asked}"


@every_assignment
@pytest.mark.slow
def test_the_solutions_keep_all_points_whatever_the_judge_draws(name: str) -> None:
    for seed in GRADER_SEEDS:
        result = grade(source(name), worker="process-free", seed=seed)
        assert [mark.message for mark in result.marks if mark.message] == [], f"seed {seed}"
        assert result.errors == {}


@every_assignment
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="the sandbox needs bubblewrap")
def test_the_solutions_keep_all_points_in_the_sandbox(name: str) -> None:
    """With the listed modules alone, and without starting a process."""
    result = grade(source(name), worker="sandbox", seed=5)
    assert [mark.message for mark in result.marks if mark.message] == []
    assert result.errors == {}
