"""A small assignment of ten points, and submissions of it, for the tests of the grader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SETUP = (
    "import numpy as np\nfrom ca14lib.grading import check_close, check_true, load_instance\nunused = load_instance()"
)
DOUBLE = "def double(x):\n    return 2 * x"
MEANS = "def row_means(x):\n    return x.mean(axis=1)"
ACT = "def act(observations):\n    return np.ones(len(observations), dtype=int)"
DOUBLE_TEST = """\
check_close(double(np.arange(3.0)), np.arange(3.0) * 2, name="double", hint="Book: doubling.")
### BEGIN HIDDEN TESTS
for _ in range(3):
    secret_input = rng.normal(size=(2, 3))
    check_close(double(secret_input), 2 * secret_input, name="double", hint="Book: doubling.")
### END HIDDEN TESTS
check_true(double(1) == 2, "double(1) must be 2")"""
MEANS_TEST = """\
check_close(row_means(np.array([[1.0, 3.0]])), [2.0], name="row_means")
### BEGIN HIDDEN TESTS
table = rng.normal(size=(4, 5))
check_close(row_means(table), table.mean(axis=1))
### END HIDDEN TESTS"""
ACT_TEST = """\
from ca14lib.environments import TabularModel
chain = np.zeros((3, 2, 3))
chain[:, 0, 0] = chain[0, 1, 1] = chain[1:, 1, 2] = 1.0
reward = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
model = TabularModel(chain, reward, terminal=np.array([False, False, True]), horizon=4)
check_policy(act, model, 0.9, name="act")"""
SOLUTIONS = {"toy-double": DOUBLE, "toy-means": MEANS, "toy-act": ACT}
TESTS = {"toy-double-test": (DOUBLE_TEST, 2), "toy-means-test": (MEANS_TEST, 3), "toy-act-test": (ACT_TEST, 5)}
MAXIMUM = 10.0


def cell(key: str | None, source: str, kind: str = "code", **grader: Any) -> dict[str, Any]:
    """A notebook's cell; ``grader`` are the entries that differ from those of a locked cell."""
    metadata: dict[str, Any] = {}
    if key is not None:
        metadata["nbgrader"] = {
            "grade_id": key,
            "grade": False,
            "solution": False,
            "locked": True,
            "schema_version": 3,
            "task": False,
            **grader,
        }
    found = {"cell_type": kind, "id": (key or "free")[:60], "metadata": metadata, "source": source}
    return found | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def notebook(cells: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
    """A notebook of the toy assignment with these cells."""
    ca14 = {"assignment": "toy", "version": 1, "modules": [], "files": [], **about}
    return {"cells": cells, "metadata": {"ca14": ca14}, "nbformat": 4, "nbformat_minor": 5}


def cells(solutions: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The assignment's cells, with other solutions where they are given."""
    solutions = SOLUTIONS | (solutions or {})
    found = [cell(None, "# A toy", "markdown"), cell("toy-setup", SETUP)]
    for key, source in solutions.items():
        test, points = TESTS[f"{key}-test"]
        found.append(cell(key, source, solution=True, locked=False))
        found.append(cell(f"{key}-test", test, grade=True, points=points))
        found[-1]["metadata"]["ca14"] = {"category": "correctness"}
    found.append(cell("toy-analysis", "*Your answer.*", "markdown", grade=True, solution=True, locked=False, points=2))
    return found


def write(path: Path, content: dict[str, Any]) -> Path:
    """The notebook as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf8")
    return path
