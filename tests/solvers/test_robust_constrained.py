"""Common policies for several models: exact slopes, closed forms, the order of the bounds, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

import ca14lib.solvers.robust_constrained as module
from ca14lib.environments.gusty_grid import PASS, WINDS, GustyGridVector
from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers import InfeasibleError, constrained_optimum, policy_return
from ca14lib.solvers.robust_constrained import evaluate_in_models, policy_slopes, robust_constrained_policy
from ca14lib.solvers.uncertain import robust_constrained_plan


def two_doors(chance: float) -> TabularModel:
    """One choice: the left door pays 1 and costs `chance`, the right one pays 1 and costs 1 − `chance`; the third is
    free and pays 0."""
    transition = np.zeros((2, 3, 2))
    transition[..., 1] = 1.0
    return TabularModel(
        transition,
        np.array([[1.0, 1.0, 0.0], [0.0] * 3]),
        cost=np.array([[[chance, 1 - chance, 0.0], [0.0] * 3]]),
        terminal=np.array([False, True]),
        initial=np.array([1.0, 0.0]),
        horizon=1,
    )


def small_models() -> list[TabularModel]:
    """GustyGrid with six steps: enough to arrive, quick to solve."""
    return GustyGridVector(1, winds=WINDS, layout=replace(PASS, horizon=6)).models()


def test_two_doors_are_taken_alike_and_as_seldom_as_the_worst_model_asks():
    """Doors that cost (0.2, 0.8) in one model and (0.8, 0.2) in the other cost ½ each when taken alike."""
    models = [two_doors(0.2), two_doors(0.8)]
    found = robust_constrained_policy(models, 0.3)
    assert found.guaranteed_return == pytest.approx(0.6, abs=1e-6)
    np.testing.assert_allclose(found.policy[0, 0], [0.3, 0.3, 0.4], atol=1e-5)
    assert found.upper_bound == pytest.approx(constrained_optimum(models[0], 0.3).optimal_return)
    assert found.gap == pytest.approx(found.upper_bound - 0.6, abs=1e-6)


def test_one_model_alone_is_the_linear_programme():
    for model in small_models()[1:]:
        found = robust_constrained_policy([model], 0.4)
        assert found.guaranteed_return == pytest.approx(constrained_optimum(model, 0.4).optimal_return, abs=2e-3)
        assert found.gap >= -1e-9


def test_without_a_horizon_policies_are_stationary():
    models = [replace(model, horizon=None, observes_time=False) for model in (two_doors(0.2), two_doors(0.8))]
    found = robust_constrained_policy(models, 0.3, 0.9)
    assert found.policy.shape == (2, 3)
    assert found.guaranteed_return == pytest.approx(0.6, abs=1e-6)


def test_slopes_are_those_of_finite_differences():
    model, draws = small_models()[1], np.random.default_rng(0)
    policy = draws.dirichlet(np.ones(4), size=(6, model.num_states))
    for signal in (model.expected_reward, model.expected_cost[0]):
        total, slopes = policy_slopes(model, signal, policy)
        problem = module._rewarded(model, signal)
        assert total == pytest.approx(policy_return(problem, policy))
        for step, state in ((0, 2), (1, 7), (3, 12)):
            moved = policy.copy()
            moved[step, state] += 1e-6 * np.array([1, -1, 0, 0])
            change = (policy_return(problem, moved) - total) / 1e-6
            assert change == pytest.approx(slopes[step, state, 0] - slopes[step, state, 1], abs=1e-4)


def test_the_classes_of_policies_are_in_order_and_the_limit_holds_in_every_model():
    models = small_models()
    common = robust_constrained_policy(models, 0.2)
    memory = robust_constrained_plan(models, 0.2)
    assert common.guaranteed_return <= memory.guaranteed_return + 1e-7
    assert memory.guaranteed_return <= common.upper_bound + 1e-7
    assert (common.result.costs <= 0.2).all()
    again = evaluate_in_models(models, common.policy)
    assert again.worst_return == common.guaranteed_return
    assert again.worst_costs.shape == (1,)


def test_more_is_guaranteed_by_a_larger_limit_and_without_one_costs_do_not_count():
    models = [two_doors(0.2), two_doors(0.8)]
    values = [robust_constrained_policy(models, limit).guaranteed_return for limit in (0.1, 0.3, 0.5, np.inf)]
    assert values == pytest.approx([0.2, 0.6, 1.0, 1.0], abs=1e-6)


def test_what_cannot_be_solved_says_why():
    with pytest.raises(ValueError, match="at least one model is needed"):
        robust_constrained_policy([], 0.1)
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        robust_constrained_policy([two_doors(0.2)], 0.1, max_steps=0)
    with pytest.raises(ValueError, match="model 1 differs from the first one in terminal states, horizon"):
        robust_constrained_policy([two_doors(0.2), replace(two_doors(0.2), horizon=2)], 0.1)
    with pytest.raises(ValueError, match="all models need the same states"):
        evaluate_in_models([two_doors(0.2), small_models()[0]], np.ones((2, 3)) / 3)
    costly = replace(two_doors(0.2), cost=np.full((1, 2, 3), 0.5))
    with pytest.raises(InfeasibleError):
        robust_constrained_policy([costly], 0.1)


def test_limits_that_only_each_model_alone_can_keep_are_refused_with_the_best_worst_cost():
    models = [replace(two_doors(chance), cost=two_doors(chance).cost + np.array([0, 0, 1.0])) for chance in (0.2, 0.8)]
    with pytest.raises(ValueError, match=r"no policy was found that keeps the limits \[0.3\] in every model"):
        robust_constrained_policy(models, 0.3)


# planted faults


def slopes_without_visits(model, signal, policy, discount=1.0, horizon=None):
    evaluation = module.policy_evaluation(module._rewarded(model, signal), policy, discount, horizon)
    return evaluation.expected_return, evaluation.q


def test_faults_planted_in_the_search_are_noticed(monkeypatch):
    with monkeypatch.context() as patch:  # every state counts alike, wherever the policy goes
        patch.setattr(module, "policy_slopes", slopes_without_visits)
        model, policy = small_models()[1], np.full((6, 25, 4), 0.25)
        assert not np.allclose(
            module.policy_slopes(model, model.expected_reward, policy)[1],
            policy_slopes(model, model.expected_reward, policy)[1],
        )
    with monkeypatch.context() as patch:  # the mean return in place of the worst
        patch.setattr(module._Search, "merit", lambda self, totals: float(totals[:, 0].mean()))
        with pytest.raises((AssertionError, ValueError)):
            test_two_doors_are_taken_alike_and_as_seldom_as_the_worst_model_asks()
    with monkeypatch.context() as patch:  # limits are kept on average over models only
        healthy = module._Search._totals_and_slopes

        def averaged(self, policy, slopes=True):
            totals, changes = healthy(self, policy, slopes)
            totals[:, 1:], changes[:, 1:] = totals[:, 1:].mean(axis=0), changes[:, 1:].mean(axis=0)
            return totals, changes

        patch.setattr(module._Search, "_totals_and_slopes", averaged)
        uneven = [two_doors(0.2), two_doors(0.6)]
        with pytest.raises(ValueError, match="no policy was found"):
            robust_constrained_policy(uneven, 0.3)
    assert robust_constrained_policy([two_doors(0.2), two_doors(0.6)], 0.3).result.worst_costs[0] <= 0.3
