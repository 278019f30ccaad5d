"""The CVaR agent on SafeCliff against the exact optimum that sees its budget, and against the risk-neutral agent."""

import functools

import pytest

from ca14lib.experiments.safe.cliff import WITHIN, cliff_optimum, cliff_run

pytestmark = [pytest.mark.learning, pytest.mark.slow]

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.verify) for seed in (1, 2))]  # `make verify` runs them all
BEST_MEAN, TAIL_OF_THE_BEST_MEAN = 11.75, 2.8597  # of the exact risk-neutral optimum
TAIL_OF_THE_DETOUR = 4.9291  # of whoever goes round, fallen or not


@functools.cache
def result(agent: str, seed: int) -> dict[str, float]:
    return cliff_run(agent, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_cvar_agent_is_within_five_per_cent_of_the_exact_optimum(seed):
    found = result("CVaRPolicyGradient", seed)
    assert WITHIN * cliff_optimum().value <= found["cvar"] <= cliff_optimum().value + 1e-9
    assert found["cvar"] > TAIL_OF_THE_DETOUR, "only who reacts to a fall gets here"


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_neutral_agent_has_the_better_mean_and_the_worse_tail(seed):
    neutral, averse = result("PPO", seed), result("CVaRPolicyGradient", seed)
    assert neutral["return"] == pytest.approx(BEST_MEAN, abs=1e-6)
    assert neutral["cvar"] == pytest.approx(TAIL_OF_THE_BEST_MEAN, abs=1e-3)
    assert averse["cvar"] > neutral["cvar"] + 2
    assert averse["return"] < neutral["return"]
