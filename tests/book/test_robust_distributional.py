"""The exercises about return distributions: solutions run as printed, and what the page says of them holds."""

import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SOLUTIONS = Path(__file__).parent / "solutions"
PAGE = (ROOT / "book" / "robust" / "distributional.md").read_text("utf8")


def solution(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_solution_that_is_printed_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    assert printed == set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))


def test_planted_faults_that_the_page_names_are_planted():
    from tests.agents.robust.faults_distributional import FAULTS

    table = PAGE.split("## What implementations get wrong")[1].split("\n## ")[0]
    named = set(re.findall(r"`((?:qrdqn|iqn|c51|choice)-[\w-]+)`", table))
    assert len(named) > 10
    assert named <= FAULTS.keys()


def test_swapped_fractions_send_every_quantile_to_the_median():
    module = solution("robust_distributional_axes")
    swapped, right = module.rest(axis=1, steps=1_500), module.rest(axis=0, steps=1_500)
    assert swapped.tolist() == pytest.approx([math.log(2)] * 20, abs=0.05)
    assert right[4].item() == pytest.approx(-math.log(1 - 0.225), abs=0.06)


def test_the_threshold_moves_the_quantile_by_less_than_itself():
    module = solution("robust_distributional_kappa")
    assert module.minimiser(0.05) == pytest.approx(-10 + 0.045 / 0.095, abs=1e-4)
    assert module.minimiser(0.15) == pytest.approx(-0.085 / 0.135, abs=1e-4)
    for kappa in (3.0, 1.0, 0.1):
        assert abs(module.minimiser(0.05, kappa) + 10) <= kappa
        assert abs(module.minimiser(0.15, kappa)) <= kappa


def test_few_quantiles_flatter_a_tail():
    module = solution("robust_distributional_tail")
    assert pytest.approx(-3.303, abs=1e-3) == module.EXACT
    for count, error in ((10, 0.307), (20, 0.163), (50, 0.068), (200, 0.017)):
        assert module.by_quantiles(count) - module.EXACT == pytest.approx(error, abs=6e-4)
    assert module.by_support() - module.EXACT == pytest.approx(math.exp(-5) / 0.1, abs=2e-3)


def test_the_stepwise_walker_turns_round_between_tails_of_a_half_and_three_tenths():
    found = solution("robust_distributional_stepwise").comparison()
    assert {tail: round(row["mean"], 2) for tail, row in found.items()} == {
        1.0: 11.75, 0.5: 11.75, 0.3: 9.54, 0.2: 9.54, 0.1: 9.54,
    }  # fmt: skip
    for tail, row in found.items():
        assert row["cvar"] == pytest.approx(row["best of five"], abs=1e-9)
        assert (row["static optimum"] > row["cvar"] + 0.1) == (tail < 0.5)


def test_the_page_states_the_exact_numbers_of_the_three_walkers():
    from ca14lib.experiments.robust.distributional import distributional_yardsticks

    table = distributional_yardsticks().set_index("policy")
    for policy, mean, cvar in (
        ("mean", 11.75, 2.86),
        ("CVaR at every step", 9.54, 4.93),
        ("static CVaR optimum", 9.65, 6.03),
    ):
        assert table.loc[policy, "return"] == pytest.approx(mean, abs=5e-3)
        assert table.loc[policy, "cvar"] == pytest.approx(cvar, abs=5e-3)
        assert f"{mean}" in PAGE
        assert f"{cvar}" in PAGE
