"""Safe agents on SafeGrid, trained as in the section's experiment, beside the exact optimum within their limit."""

import functools

import pytest

from ca14lib.evaluation.constrained import COST_TOLERANCE
from ca14lib.experiments.safe.grid import safe_grid_training
from ca14lib.training import History

pytestmark = [pytest.mark.learning, pytest.mark.slow]

SEEDS = (0, 1, 2)


@functools.cache
def training(agent: str, layout: str, limit: float, seed: int, steps: int) -> History:
    return safe_grid_training(agent, layout, limit, seed, steps=steps, evaluate_every=1_000)[1]


def assert_within(history: History, least_score: float = 0.95) -> None:
    assert history.last("score") >= least_score
    assert history.last("excess") <= COST_TOLERANCE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "agent, layout, limit, steps",
    [
        ("PPOLagrangian", "original", 0.6, 500_000),
        ("PIDLagrangian", "original", 0.6, 600_000),
        ("CPO", "bridges", 2.0, 400_000),
    ],
)
def test_agents_reach_the_optimum_within_their_limit(agent, layout, limit, steps, seed):
    assert_within(training(agent, layout, limit, seed, steps))
