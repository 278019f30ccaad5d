"""Safe agents on SafeGrid, trained as in the section's experiment, beside the exact optimum within their limit."""

import pytest

from ca14lib.evaluation.constrained import COST_TOLERANCE
from ca14lib.experiments.safe.grid import safe_grid_run, safe_grid_training

pytestmark = [pytest.mark.learning, pytest.mark.slow]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.verify) for seed in (1, 2))]  # `make verify` runs them all


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "agent, layout, limit, steps",
    [
        ("PPOLagrangian", "original", 0.6, 600_000),
        ("PIDLagrangian", "original", 0.6, 600_000),
        ("CPO", "bridges", 2.0, 400_000),
    ],
)
def test_agents_reach_the_optimum_within_their_limit(agent, layout, limit, steps, seed):
    _, history = safe_grid_training(agent, layout, limit, seed, steps=steps, evaluate_every=1_000)
    assert history.last("score") >= 0.95
    assert history.last("excess") <= COST_TOLERANCE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("agent", ["PIDLagrangian", pytest.param("CPO", marks=pytest.mark.verify)])
def test_agents_reach_an_optimum_that_mixes(agent, seed):
    """The average over iterates of a Lagrangian method and the last policy of CPO, as in the experiment."""
    found = safe_grid_run(agent, "bridges 0.5", seed)
    assert found["score"] >= 0.90
    assert found["excess"] <= COST_TOLERANCE
