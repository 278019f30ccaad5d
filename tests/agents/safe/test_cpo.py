"""CPO's dual against an exact convex solver and at its edges; its step in single precision, and what it falls back to.

The pieces (Fisher product, conjugate gradients, line search, recovery) are properties in ``properties_on_policy.py``.
"""

import collections
import math
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch

from benchmarks.cpo_dual import (
    TOLERANCE,
    Problem,
    count_dual_matches,
    descent_multipliers,
    random_problems,
    step_of,
    verdicts,
)
from ca14lib.agents.safe.cpo import CPO, CPOConfig, Dual, conjugate_gradient, trust_region_dual
from tests.agents.reference_on_policy import arm_probabilities, bandit_agent, bandit_rollout, small_agent, small_rollout


def paid(action: torch.Tensor) -> torch.Tensor:
    return action.double()


def test_a_thousand_steps_are_those_of_an_exact_solver_and_the_mixed_formula_is_not():
    table = count_dual_matches(1_000, seed=3).set_index("formula")
    assert table.loc["descent", "correct"] == 1.0
    assert table.loc["descent", "violated"] == 0.0
    assert table.loc["mixed", "correct"] < 0.5
    assert table.loc["mixed", "violated"] > 0.2


def test_the_problems_reach_every_case_and_every_edge():
    problems = random_problems(1_000, seed=3)
    cases = collections.Counter(
        trust_region_dual(*problem.forms(), problem.excess, problem.radius).case for problem in problems
    )
    assert min(cases[case] for case in range(5)) >= 20, f"{cases}"
    forms = np.array([problem.forms() for problem in problems])
    with np.errstate(invalid="ignore", divide="ignore"):
        parallel = forms[:, 0] * (1 - 1e-9) < forms[:, 1] ** 2 / forms[:, 2]
    assert parallel.sum() >= 50
    assert (forms[:, 0] == 0).sum() >= 20
    assert (forms[:, 2] == 0).sum() >= 5
    assert sum(problem.excess == 0 for problem in problems) >= 20


def test_the_problem_in_the_plane_is_the_one_in_all_dimensions():
    """The same verdicts with every dimension given to the solver."""
    problems = [problem for problem in random_problems(80, seed=5) if problem.forms()[2] > 1e-9][:25]
    plane = [right for (right,), _ in verdicts(problems, [descent_multipliers])]
    for problem, right in zip(problems, plane, strict=True):
        q, _, s = problem.forms()
        root = np.linalg.cholesky(problem.hessian).T
        x = cp.Variable(len(problem.cost))
        inside = cp.norm(root @ x) <= math.sqrt(2 * problem.radius)
        gain, reach = math.sqrt(2 * problem.radius * max(q, 1e-30)), math.sqrt(2 * problem.radius * s)
        step = step_of(problem, descent_multipliers)
        least = cp.Problem(cp.Minimize(problem.cost @ x / reach), [inside]).solve(solver=cp.CLARABEL)
        if least * reach + problem.excess > 1e-6 * reach:
            found, wanted = problem.cost @ step / reach, least
        else:
            limit = problem.cost @ x / reach + problem.excess / reach <= 1e-9
            wanted = cp.Problem(cp.Minimize(problem.objective @ x / gain), [inside, limit]).solve(solver=cp.CLARABEL)
            found = problem.objective @ step / gain
            assert (problem.cost @ step + problem.excess) / reach <= TOLERANCE
        assert right
        assert found <= wanted + TOLERANCE, f"{found}, the solver {wanted}"


def test_the_checker_notices_wrong_steps():
    """The reference must be able to fail: other signs, sizes and constraints."""
    problems = random_problems(200, seed=1)

    def longer(*forms):
        dual = trust_region_dual(*forms)
        return dual._replace(trust_multiplier=0.9 * dual.trust_multiplier)

    def shorter(*forms):
        dual = trust_region_dual(*forms)
        return dual._replace(trust_multiplier=1.1 * dual.trust_multiplier)

    def free(q, r, s, c, delta):
        return Dual(3, math.sqrt(q / (2 * delta)), 0.0)

    def dearer(*forms):
        dual = trust_region_dual(*forms)
        return dual._replace(cost_multiplier=1.2 * dual.cost_multiplier + 1e-3)

    for wrong in (longer, shorter, free, dearer):
        right = [correct for (correct,), _ in verdicts(problems, [wrong])]
        assert np.mean(right) < 0.8, wrong.__name__


def test_edges_of_the_dual():
    plain = math.sqrt(2.0 / (2 * 0.01))
    assert trust_region_dual(2.0, 0.0, 0.0, 5.0, 0.01) == Dual(4, plain, 0.0), "no direction lowers the cost"
    assert trust_region_dual(2.0, 0.0, 1e-30, 5.0, 0.01).case == 4, "nor does one that is rounding"
    assert trust_region_dual(2.0, 0.1, 1.0, -5.0, 0.01) == Dual(3, plain, 0.0)
    assert trust_region_dual(2.0, 0.1, 1.0, 5.0, 0.01).case == 0
    touching = math.sqrt(2 * 0.01 * 3.0)
    assert trust_region_dual(2.0, 0.1, 3.0, touching, 0.01).case == 0
    assert trust_region_dual(2.0, 0.1, 3.0, 0.999 * touching, 0.01).case == 1
    assert trust_region_dual(2.0, 0.1, 3.0, -0.999 * touching, 0.01).case == 2
    assert trust_region_dual(2.0, 0.1, 3.0, -1.001 * touching, 0.01).case == 3
    on_the_limit = trust_region_dual(2.0, 0.5, 1.0, 0.0, 0.01)
    assert on_the_limit == Dual(1, plain, 0.0), "the reward's step lowers the cost as well"
    against = trust_region_dual(2.0, -0.5, 1.0, 0.0, 0.01)
    assert against.cost_multiplier == pytest.approx(0.5)
    nothing = trust_region_dual(0.0, 0.0, 1.0, 0.1, 0.01)
    assert nothing.cost_multiplier / nothing.trust_multiplier == pytest.approx(0.1), (
        "with nothing to gain, to the limit"
    )


@pytest.mark.parametrize(
    "numbers",
    [
        (math.nan, 0, 1, 0, 1), (1, 0, math.inf, 0, 1),
        (1, 0, 1, 0, 0), (1, 0, 1, 0, -1), (-1, 0, 1, 0, 1), (1, 0, -1, 0, 1),
    ],
)  # fmt: skip
def test_numbers_that_are_no_problem_are_refused(numbers):
    with pytest.raises(ValueError, match=r"delta|finite"):
        trust_region_dual(*map(float, numbers))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_units_of_reward_and_cost_do_not_change_the_step(scale):
    for problem in random_problems(60, seed=2):
        other = Problem(
            problem.hessian, scale * problem.objective, problem.cost / scale, problem.excess / scale, problem.radius
        )
        first, second = step_of(problem, descent_multipliers), step_of(other, descent_multipliers)
        size = math.sqrt(2 * problem.radius / np.linalg.eigvalsh(problem.hessian)[0])
        if problem.forms()[2] > 1e-9 and problem.forms()[0] > 0:
            assert np.allclose(first, second, atol=2e-3 * size)


def test_few_conjugate_gradient_steps_are_better_than_none_and_flat_directions_are_left_out():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(30, 30, generator=generator)
    matrix, target = root @ root.T / 30 + 0.1 * torch.eye(30), torch.randn(30, generator=generator)
    errors = [
        float((matrix @ conjugate_gradient(lambda v: matrix @ v, target, steps) - target).norm())
        for steps in (1, 10, 60)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3
    flat = conjugate_gradient(lambda v: torch.zeros_like(v), target, 10)
    assert not flat.any()


# The agent


def test_in_single_precision_parallel_gradients_still_end_at_the_limit():
    """Two arms: reward and cost pull along the same line, and A is rounding."""
    agent = bandit_agent(CPO, cost_limits=(0.4,), trust_region=0.02).float()
    for _ in range(12):
        rollout = bandit_rollout(agent, paid, paid, 2_000)
        columns = {name: getattr(rollout, name).float() for name in ("log_prob", "reward", "cost")}
        episodes = {
            name: getattr(rollout, name).float() for name in ("episode_return", "episode_cost", "episode_length")
        }
        logs = agent.update(replace(rollout, **columns, **episodes))
        assert all(value.isfinite() for value in logs.values())
    assert arm_probabilities(agent)[1] == pytest.approx(0.4, abs=0.06)


def test_within_the_limit_reward_is_climbed_and_beyond_it_cost_is_lowered():
    for limit, rises in ((5.0, True), (0.0, False)):
        agent = bandit_agent(CPO, cost_limits=(limit,), trust_region=0.02)
        before = arm_probabilities(agent)[1]
        agent.update(bandit_rollout(agent, paid, paid))
        assert (arm_probabilities(agent)[1] > before) == rises


def test_with_nothing_to_gain_a_violation_is_still_lowered():
    agent = bandit_agent(CPO, cost_limits=(0.45,), trust_region=0.02)
    for _ in range(3):
        agent.update(bandit_rollout(agent, lambda action: torch.zeros(len(action)), paid))
    assert arm_probabilities(agent)[1] < 0.47


def test_costs_that_no_action_changes_leave_the_reward_to_be_climbed():
    agent = bandit_agent(CPO, cost_limits=(0.1,), trust_region=0.02)
    before = arm_probabilities(agent)[1]
    with torch.no_grad():
        for parameter in agent.critics[1].parameters():
            parameter.zero_()
    logs = agent.update(bandit_rollout(agent, paid, lambda action: torch.ones(len(action))))
    assert logs["case"] == 4
    assert arm_probabilities(agent)[1] > before


def test_the_trust_region_shrinks_and_steps_with_it():
    agent = small_agent(CPO, "discrete", trust_region=0.1, trust_region_decay=0.5)
    radii = []
    for seed in range(3):
        radii.append(agent.trust_region())
        logs = agent.update(small_rollout(agent, seed))
        assert logs["kl"] <= radii[-1]
    assert radii == pytest.approx([0.1, 0.05, 0.025])


def test_caution_adds_standard_errors_to_the_mean_cost():
    agent = small_agent(CPO, "discrete", cost_limits=(10.0,), cautious_errors=2.0)
    rollout = small_rollout(agent)
    costs = torch.tensor([[8.0], [12.0], [10.0], [14.0]], dtype=torch.float64)
    four = replace(rollout, episode_return=torch.zeros(4), episode_cost=costs, episode_length=torch.full((4,), 5.0))
    error = float(costs.std()) / 2
    assert agent._excess(four) == pytest.approx((11.0 + 2 * error - 10.0) / 5)
    one = replace(four, episode_return=torch.zeros(1), episode_cost=costs[:1], episode_length=torch.full((1,), 5.0))
    assert agent._excess(one) == pytest.approx(-2.0 / 5), "one episode has no spread"


def test_the_policy_has_no_optimiser_and_only_one_limit():
    agent = bandit_agent(CPO)
    assert set(agent.optimizers) == {"value"}
    assert {id(parameter) for parameter in agent.policy_parameters} == {id(one) for one in agent.policy.parameters()}
    with pytest.raises(ValueError, match="exactly one limit"):
        CPOConfig(cost_limits=(1.0, 2.0))


def test_a_trust_region_that_shrinks_for_ever_stays_positive():
    agent = small_agent(CPO, "discrete", trust_region_decay=0.5)
    agent.updates = 5_000
    assert agent.trust_region() > 0.0
    agent.update(small_rollout(agent))
