"""The package as a student installs it: the wheel, in a fresh environment that has none of the tools of this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.install import locked_here, torch_index

ROOT = Path(__file__).parents[2]
IMPORT_SECONDS = 3.0
TOOLS = ["pytest", "sphinx", "jupyter_book", "jupyterlab", "nbval", "stable_baselines3", "playwright", "mypy"]

pytestmark = [pytest.mark.packaging, pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that setuptools leaves nothing in the working tree."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "ca14lib", source / "ca14lib", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    run(*build, cwd=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder / "environment", cwd=folder)
    commands = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
    install = [commands / "python", "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    if locked_here():
        install += ["-c", ROOT / "requirements.lock"]
    index = torch_index(commands / "python")
    if index:
        run(*install, *index, "torch", cwd=folder)
    run(*install, wheel, cwd=folder)
    return commands


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ca14lib"}
    assert "ca14lib/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ca14lib").rglob("*.py")}
    assert modules <= set(names)


def test_fresh_environment_has_no_development_tools(fresh: Path, tmp_path: Path) -> None:
    code = f"import importlib.util, json; print(json.dumps([t for t in {TOOLS} if importlib.util.find_spec(t)]))"
    assert json.loads(run(fresh / "python", "-c", code, cwd=tmp_path)) == []


def test_import_is_quick(fresh: Path, tmp_path: Path) -> None:
    code = "import time; start = time.perf_counter(); import ca14lib; print(time.perf_counter() - start)"
    seconds = [float(run(fresh / "python", "-c", code, cwd=tmp_path).split()[-1]) for _ in range(4)]
    assert min(seconds[1:]) < IMPORT_SECONDS, f"seconds of four imports, the first one compiles: {seconds}"


def test_installed_package_trains_an_agent_and_evaluates_it_exactly(fresh: Path, tmp_path: Path) -> None:
    code = """
import ca14lib, gymnasium
from ca14lib.agents.offline import DiscreteBC
from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_return
from ca14lib.training import collect, train_offline

environment = gymnasium.make("CA14/GridWorld-v0")
dataset = collect("CA14/GridWorld-v0", "expert", episodes=20, seed=0)
agent = DiscreteBC(environment.observation_space, environment.action_space)
train_offline(agent, dataset, updates=200, progress=False)
model = tabular_model("CA14/GridWorld-v0")
print(ca14lib.__version__, round(policy_return(model, agent.policy_table(model)), 3))
"""
    assert run(fresh / "python", "-c", code, cwd=tmp_path).split()[-2:] == ["0.1.0", "0.3"]


def test_command_line_works_where_it_is_installed(fresh: Path, tmp_path: Path) -> None:
    assert "ca14" in run(fresh / "ca14", "--help", cwd=tmp_path)
