"""The parts of the offline experiment: which code their tables depend on, what they refuse, what they are given."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ca14lib.agents.base import AgentConfig
from ca14lib.experiments import offline, read_metadata
from ca14lib.experiments.offline import GRIDWORLD, GRIDWORLD_AGENTS, PARTS, SEPSIS_AGENTS, gridworld_run
from ca14lib.experiments.offline.hyperparameters import ALSO_ON_MIXED_DATA, HYPERPARAMETERS
from ca14lib.experiments.runs import finished
from ca14lib.training import collect, provenance
from ca14lib.training.provenance import source_hash

PACKAGE = "ca14lib.experiments.offline"
DISCRETE = {
    "DQN", "DiscreteBC", "DiscreteBC10%", "DiscreteBCRegularized", "DiscreteAWR", "DiscreteBCQ", "DiscreteCQL",
    "DiscreteIQL",
}  # fmt: skip


def hashes() -> dict[str, str]:
    return {part: source_hash(PARTS[part].__module__) for part in ("gridworld", "hyperparameters", "sepsis")}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return hashes()


def edited(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the module's source has one line more."""
    healthy, spec = provenance._source, importlib.util.find_spec(module)
    assert spec is not None
    changed = tmp_path / Path(str(spec.origin)).name
    changed.write_text(Path(str(spec.origin)).read_text("utf8") + "\nEDITED = True\n", "utf8")
    monkeypatch.setattr(provenance, "_source", lambda name: changed if name == module else healthy(name))


@pytest.mark.parametrize(
    "module, stale",
    [
        (f"{PACKAGE}.sepsis", {"sepsis"}),
        (f"{PACKAGE}.hyperparameters", {"hyperparameters"}),
        (f"{PACKAGE}.gridworld", {"gridworld", "hyperparameters"}),
        (f"{PACKAGE}.comparison", {"gridworld", "hyperparameters", "sepsis"}),
        ("ca14lib.agents.offline.bcq", {"gridworld", "hyperparameters", "sepsis"}),
        (PACKAGE, set()),
    ],
    ids=lambda value: value.removeprefix("ca14lib.") if isinstance(value, str) else None,
)
def test_an_edit_puts_out_of_date_what_depends_on_it_and_nothing_else(module, stale, before, tmp_path, monkeypatch):
    edited(module, tmp_path, monkeypatch)
    assert {part for part, value in hashes().items() if value != before[part]} == stale


def test_a_table_names_the_module_of_its_part(tmp_path, monkeypatch):
    table = pd.DataFrame({"agent": ["DQN"], "return": [1.0]})
    monkeypatch.setitem(PARTS, "gridworld", offline.gridworld_part)
    demo = {"demo": lambda sweeps, quick: {"demo_table": table}}
    demo["demo"].__module__ = f"{PACKAGE}.gridworld"
    monkeypatch.setattr(offline, "PARTS", demo)
    tables = offline.run(seeds=3, output=tmp_path, progress=False)
    assert list(tables) == ["demo_table"]
    metadata = read_metadata("demo_table", tmp_path)
    assert metadata["source_modules"] == [f"{PACKAGE}.gridworld"]
    assert metadata["command"] == "ca14 run offline --seeds 3 --part demo"
    assert metadata["seeds"] == [0, 1, 2]


def test_unknown_parts_and_too_few_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown part 'poker'; there are gridworld"):
        offline.run(parts=["poker"], output=tmp_path)
    with pytest.raises(ValueError, match="at least two seeds, got 1"):
        offline.run(seeds=1, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_run_is_an_error_and_no_gap_in_a_table():
    runs = pd.DataFrame({"seed": [0, 1], "error": ["", "ZeroDivisionError: division by zero"]})
    with pytest.raises(RuntimeError, match=r"(?s)1 of 2 runs failed.*division by zero"):
        finished(runs)


def test_every_discrete_agent_is_a_row_of_both_tables():
    assert set(GRIDWORLD_AGENTS) == set(SEPSIS_AGENTS) == DISCRETE


def test_hyperparameters_are_fields_and_hold_the_value_in_use_or_its_neighbours():
    for agent, parameters in HYPERPARAMETERS.items():
        config: AgentConfig = GRIDWORLD_AGENTS[agent].config
        for parameter, values in parameters.items():
            used = getattr(config, parameter)
            assert min(values) <= used <= max(values), f"{agent}.{parameter} = {used} is outside {values}"
            assert list(values) == sorted(set(values))
    assert all(parameter in HYPERPARAMETERS[agent] for agent, parameter in ALSO_ON_MIXED_DATA)


def test_the_agent_with_ten_per_cent_gets_the_best_tenth():
    data = collect(GRIDWORLD, "random", 100, seed=0)
    best = GRIDWORLD_AGENTS["DiscreteBC10%"].data(data)
    assert best.num_episodes == 10
    assert best.episode_returns().min() >= np.sort(data.episode_returns())[-10] - 1e-9
    assert GRIDWORLD_AGENTS["DiscreteBC"].data(data) is data


def test_one_run_reports_return_share_and_error():
    result = gridworld_run("DiscreteBCQ", "mixed", 0, parameter="threshold", value=0.5, episodes=50, updates=20)
    assert result.keys() == {"return", "share", "optimal", "q_error"}
    assert -5 <= result["return"] <= 0.3
    assert gridworld_run("DiscreteAWR", "mixed", 0, episodes=50, updates=20).keys() == {"return", "share", "optimal"}
