"""The runtime folder: what the assignment lists, all that it needs, and no answer."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ca14lib.grading.runtime import build_runtime


def modules(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_without_modules_there_is_only_the_students_half_of_the_grader(tmp_path: Path) -> None:
    build_runtime(tmp_path, [])
    grading = {"__init__.py", "check.py", "protocol.py", "worker.py", "instances/__init__.py"}
    assert modules(tmp_path) == {"ca14lib/__init__.py", *(f"ca14lib/grading/{name}" for name in grading)}


def test_a_listed_module_comes_without_its_neighbours(tmp_path: Path) -> None:
    build_runtime(tmp_path, ["ca14lib.environments.tabular_model"])
    assert "ca14lib/environments/tabular_model.py" in modules(tmp_path)
    assert "ca14lib/environments/grid_world.py" not in modules(tmp_path)
    assert (tmp_path / "ca14lib/environments/__init__.py").read_text() == ""


def test_environments_work_there_and_answers_are_not_there(tmp_path: Path) -> None:
    build_runtime(tmp_path, ["ca14lib.environments"])
    code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {sysconfig.get_path("purelib")!r}]
import ca14lib, gymnasium
from ca14lib.grading import check_close, check_policy, check_true, load_instance
assert ca14lib.__file__.startswith({str(tmp_path)!r})
gymnasium.make("CA14/GridWorld-v0").reset(seed=0)
for name in ("solvers", "agents", "metrics", "networks", "evaluation", "cli", "grading.judge", "grading.sandbox"):
    try:
        __import__("ca14lib." + name)
    except ImportError:
        continue
    raise SystemExit(name)
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd=tmp_path)


def test_everyone_can_read_it_and_nobody_else_write(tmp_path: Path) -> None:
    build_runtime(tmp_path, ["ca14lib.environments.tabular_model"])
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    "name, said",
    [
        ("ca14lib.nothing", "has no module 'ca14lib.nothing'"),
        ("numpy", "lists modules of ca14lib, got 'numpy'"),
        ("ca14lib", "got 'ca14lib'"),
        ("ca14lib.../secret", "got 'ca14lib.../secret'"),
        ("ca14lib.solvers", "which the assignment does not list"),
    ],
)
def test_modules_that_cannot_be_given_are_named(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        build_runtime(tmp_path, [name])
