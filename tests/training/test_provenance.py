"""The hash of the code behind a number changes when the code may compute something else, and only then."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ca14lib
from ca14lib.training import provenance
from ca14lib.training.provenance import source_hash

PACKAGE = Path(ca14lib.__file__).parent


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small made-up course, in place of the real one: module name → source."""

    def write(modules: dict[str, str]) -> str:
        files = {}
        for name, text in modules.items():
            is_package = any(other.startswith(f"{name}.") for other in modules)
            file = tmp_path / (name.replace(".", "/") + ("/__init__.py" if is_package else ".py"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf8")
            files[name] = file
        monkeypatch.setattr(provenance, "_source", files.get)
        return source_hash("ca14lib.experiments.demo")

    return write


DEMO = {
    "ca14lib.experiments.demo": '"""Demo."""\nimport numpy\nfrom ca14lib.solvers.plan import best\n\n\n'
    'def run():\n    """Run it."""\n    return best() + 1  # plus one\n',
    "ca14lib.solvers": "from ca14lib.solvers.plan import best\n",
    "ca14lib.solvers.plan": "from ca14lib.metrics.shares import half\n\n\ndef best():\n    return half(4)\n",
    "ca14lib.metrics.shares": "def half(x):\n    return x / 2\n",
    "ca14lib.metrics.other": "THREE = 3\n",
}


def edited(name: str, old: str, new: str) -> dict[str, str]:
    assert old in DEMO[name]
    return DEMO | {name: DEMO[name].replace(old, new)}


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("ca14lib.experiments.demo", '"""Demo."""', '"""Quite another text."""'),
        ("ca14lib.experiments.demo", '    """Run it."""\n', ""),
        ("ca14lib.experiments.demo", "  # plus one", "  # one more"),
        ("ca14lib.experiments.demo", "best() + 1", "(best()   +  1)"),
        ("ca14lib.solvers.plan", "\n\n\ndef", "\n\ndef"),
        ("ca14lib.metrics.other", "3", "4"),
    ],
    ids=["module docstring", "docstring", "comment", "layout", "blank line", "module not imported"],
)
def test_what_computes_the_same_has_the_same_hash(course, name, old, new):
    assert course(DEMO) == course(edited(name, old, new))


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("ca14lib.experiments.demo", "+ 1", "+ 2"),
        ("ca14lib.experiments.demo", "def run", "def walk"),
        ("ca14lib.solvers.plan", "half(4)", "half(5)"),
        ("ca14lib.metrics.shares", "x / 2", "x / 3"),
    ],
    ids=["number", "name", "imported module", "module imported by it"],
)
def test_what_may_compute_something_else_has_another_hash(course, name, old, new):
    assert course(DEMO) != course(edited(name, old, new))


@pytest.mark.parametrize(
    "statement",
    [
        "from ca14lib.solvers.plan import best",
        "from ca14lib.solvers import best",
        "from ca14lib.solvers import plan",
        "import ca14lib.solvers.plan",
        "import ca14lib.solvers.plan as plan",
        "from ca14lib import solvers",
    ],
)
def test_every_form_of_import_is_followed(course, statement):
    root = {"ca14lib": "", "ca14lib.experiments.demo": f"{statement}\n"}
    before = course(DEMO | root)
    assert course(edited("ca14lib.metrics.shares", "x / 2", "x / 3") | root) != before


def test_code_that_lives_in_the_init_file_of_a_package_counts(course):
    demo = {"ca14lib.experiments.demo": "from ca14lib.solvers import answer\n"}
    first = course(DEMO | demo | {"ca14lib.solvers": "def answer():\n    return 42\n"})
    second = course(DEMO | demo | {"ca14lib.solvers": "def answer():\n    return 43\n"})
    assert first != second


def test_what_an_init_file_re_exports_does_not_count(course):
    more = {"ca14lib.solvers": '"""Solvers."""\n' + DEMO["ca14lib.solvers"] + '\n__all__ = ["best"]\n'}
    assert course(DEMO) == course(DEMO | more)


def test_of_a_package_only_the_modules_of_the_imported_names_count(course):
    demo = {"ca14lib.experiments.demo": "from ca14lib.solvers import best\n"}
    both = "from ca14lib.solvers.plan import best\nfrom ca14lib.solvers.other import worst\n"
    other = {"ca14lib.solvers": both, "ca14lib.solvers.other": "def worst():\n    return 0\n"}
    changed = other | {"ca14lib.solvers.other": "def worst():\n    return 1\n"}
    assert course(DEMO | demo | other) == course(DEMO | demo | changed)
    used = {"ca14lib.experiments.demo": "from ca14lib.solvers import best, worst\n"}
    assert course(DEMO | used | other) != course(DEMO | used | changed)


def test_a_name_that_an_init_file_defines_brings_what_it_uses(course):
    demo = {"ca14lib.experiments.demo": "from ca14lib.solvers import answer\n"}
    init = {"ca14lib.solvers": "from ca14lib.solvers.plan import best\n\n\ndef answer():\n    return best()\n"}
    before = course(DEMO | demo | init)
    assert course(edited("ca14lib.metrics.shares", "x / 2", "x / 3") | demo | init) != before


def test_environments_that_are_named_by_their_id_count(course):
    rows = 'ENVIRONMENTS = {"CA14/Pit-v0": ("pit", "Pit"), "CA14/Hill-v0": ("hill", "Hill")}\n'
    games = 'FAMILIES: dict = {"MPE2": ("ca14lib.environments.adapters", "Teams")}\n'
    modules = DEMO | {
        "ca14lib.experiments.demo": 'PIT = "CA14/Pit-v0"\nGAME = "MPE2/spread"\n',
        "ca14lib.environments.registration": rows + games,
        "ca14lib.environments.pit": "DEPTH = 1\n",
        "ca14lib.environments.hill": "HEIGHT = 1\n",
        "ca14lib.environments.adapters": "COPIES = 1\n",
    }
    before = course(modules)
    assert course(modules | {"ca14lib.environments.hill": "HEIGHT = 2\n"}) == before
    assert course(modules | {"ca14lib.environments.pit": "DEPTH = 2\n"}) != before
    assert course(modules | {"ca14lib.environments.adapters": "COPIES = 2\n"}) != before
    another = rows.replace('"Pit")', '"Well")') + games
    assert course(modules | {"ca14lib.environments.registration": another}) != before


def test_the_order_in_which_modules_are_named_does_not_count():
    first, second = "ca14lib.agents.dqn", "ca14lib.solvers.pessimism"
    assert source_hash(first, second) == source_hash(second, first) == source_hash(second, first, first)
    assert source_hash(first) != source_hash(second)


def test_the_hash_of_the_real_package_is_sixteen_digits_and_the_same_in_every_process():
    here = source_hash("ca14lib.training.offline")
    assert len(here) == 16
    assert int(here, 16) >= 0
    text = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('provenance', r'{PACKAGE / 'training' / 'provenance.py'}')\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "from pathlib import Path\n"
        f"root = Path(r'{PACKAGE.parent}')\n"
        "def source(name):\n"
        "    path = root / name.replace('.', '/')\n"
        "    files = (path.with_suffix('.py'), path / '__init__.py')\n"
        "    return next((file for file in files if file.is_file()), None)\n"
        "module._source = source\n"
        "print(module.source_hash('ca14lib.training.offline'))"
    )
    there = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_an_agent_depends_on_its_networks_and_data_but_not_on_the_other_agents():
    assert reached("ca14lib.agents.offline.bc") >= {"ca14lib.networks.mlp", "ca14lib.data.transitions"}
    assert "ca14lib.agents.offline.iql" not in reached("ca14lib.agents.offline.bc")


def reached(module: str) -> set[str]:
    """The modules that a hash covers."""
    seen = set()
    original = provenance._source

    def watch(name):
        path = original(name)
        if path is not None:
            seen.add(name)
        return path

    provenance._source = watch
    try:
        source_hash(module)
    finally:
        provenance._source = original
    assert importlib.import_module(module).__name__ in seen
    return seen
