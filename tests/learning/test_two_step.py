"""The two-step game from uniformly drawn actions: who mixes monotonically reaches 8, who sums settles for 7."""

import functools

import pytest

from ca14lib.experiments.multi_agent.two_step import additive_fit, two_step_run

pytestmark = [pytest.mark.learning, pytest.mark.slow]

RISKY = [[0.0, 1.0], [1.0, 8.0]]
FEW, REST = (0,), tuple(range(1, 10))
seeds = pytest.mark.parametrize("seed", [*FEW, *[pytest.param(seed, marks=pytest.mark.verify) for seed in REST]])


@functools.cache
def result(agent: str, seed: int) -> dict[str, float]:
    return two_step_run(agent, seed)


def risky(found: dict[str, float]) -> list[float]:
    return [found[f"risky_{cell}"] for cell in ("00", "01", "10", "11")]


@seeds
@pytest.mark.parametrize("agent", ["QMIX", "ParallelQMIX"])
def test_monotonic_mixture_reaches_the_optimum_and_knows_the_table(agent: str, seed: int) -> None:
    found = result(agent, seed)
    assert found["return"] == 8.0
    assert risky(found) == pytest.approx([0, 1, 1, 8], abs=0.5)


@seeds
@pytest.mark.parametrize("agent", ["VDN", "ParallelVDN"])
def test_sum_settles_for_seven_with_the_additive_fit(agent: str, seed: int) -> None:
    found = result(agent, seed)
    assert found["return"] == 7.0
    assert risky(found) == pytest.approx(additive_fit(RISKY).ravel().tolist(), abs=0.5)


@seeds
def test_independent_learners_settle_for_seven(seed: int) -> None:
    assert result("IQLearners", seed)["return"] == 7.0


@seeds
def test_long_returns_of_a_uniform_policy_hide_the_optimum(seed: int) -> None:
    """With λ > 0 the value of the second step is partly that of uniform actions, 2.5 there."""
    assert result("ParallelQMIX (λ = 0.65)", seed)["return"] == 7.0
