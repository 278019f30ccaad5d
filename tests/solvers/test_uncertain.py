"""Planning under uncertainty against every policy that remembers the episode, and what must hold of any plan."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from ca14lib.environments import TabularModel, tabular_model
from ca14lib.solvers import (
    BeliefPolicy,
    InfeasibleError,
    bayesian_constrained_plan,
    certainty_equivalent_plan,
    constrained_optimum,
    distributional_constrained_plan,
    policy_costs,
    policy_return,
    rectangular_constrained_plan,
    robust_constrained_plan,
    sampled_models,
    smallest_cost_cvar,
    uncertain,
)


def candidates(seed: int, count: int = 2, num_costs: int = 1) -> list[TabularModel]:
    """Models of three states (the last one terminal for odd seeds) and two actions that share which moves can happen
    in most places, and rewards and costs of their own."""
    rng = np.random.default_rng(seed)
    mask = rng.random((3, 2)) < 0.8
    mask[np.arange(3), rng.integers(2, size=3)] = True
    masked, shared = rng.random() < 0.4, rng.random((3, 2, 3)) < 0.7
    models = []
    for _ in range(count):
        weight = rng.exponential(size=(3, 2, 3)) * shared
        stuck = weight.sum(axis=2) == 0
        weight[stuck, rng.integers(3, size=stuck.sum())] = 1.0
        models.append(
            TabularModel(
                transition=weight / weight.sum(axis=2, keepdims=True),
                reward=rng.normal(size=(3, 2, 3)),
                cost=rng.normal(0.5, 0.5, size=(num_costs, 3, 2)),
                terminal=np.arange(3) == 2 if seed % 2 else None,
                initial=[*rng.dirichlet(np.ones(2)), 0.0] if seed % 4 == 0 else np.eye(3)[0],
                action_mask=mask if masked else None,
            )
        )
    return models


def values_with_memory(models: list[TabularModel], state: int, left: int, discount: float) -> list[np.ndarray]:
    """Return and costs to go ``[M, 1 + K]`` under each model, for every deterministic policy with memory."""
    zero = np.zeros((len(models), 1 + models[0].num_costs))
    if left == 0 or models[0].terminal[state]:
        return [zero]
    found = []
    for action in range(2):
        if models[0].action_mask is not None and not models[0].action_mask[state, action]:
            continue
        now = np.array([[m.expected_reward[state, action], *m.expected_cost[:, state, action]] for m in models])
        chances = np.array([m.transition[state, action] for m in models])
        moves = np.flatnonzero(chances.any(axis=0))
        for later in product(*(values_with_memory(models, move, left - 1, discount) for move in moves)):
            ahead = sum(chances[:, move, None] * part for move, part in zip(moves, later))
            found.append(now + discount * ahead)
    return found


def outcomes(models: list[TabularModel], steps: int, discount: float) -> np.ndarray:
    """Return and costs under each model for every deterministic policy with memory, ``[N, M, 1 + K]``."""
    starts = np.flatnonzero(np.any([model.initial for model in models], axis=0))
    parts = (values_with_memory(models, start, steps, discount) for start in starts)
    shares = np.array([model.initial[starts] for model in models])
    return np.array([sum(shares[:, i, None] * each for i, each in enumerate(choice)) for choice in product(*parts)])


def best_lottery(gain: np.ndarray, rows: np.ndarray, limits: np.ndarray) -> float | None:
    """The largest mean of ``gain`` ``[N]`` (or the largest least row mean of ``[N, M]``) over lotteries with ``rows``
    ``[N, L]`` within limits; None if there are none."""
    gain = gain[:, None] if gain.ndim == 1 else gain
    number, views = gain.shape
    found = linprog(
        np.append(np.zeros(number), -1.0),
        A_ub=np.vstack(
            [np.column_stack([-gain.T, np.ones(views)]), np.column_stack([rows.T, np.zeros(rows.shape[1])])]
        ),
        b_ub=np.append(np.zeros(views), limits),
        A_eq=[[1.0] * number + [0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * number + [(None, None)],
    )
    return None if found.status == 2 else -found.fun


def cases(number: int, num_costs: int = 1, count: int = 2) -> Iterator[tuple]:
    for seed in range(number):
        models, steps = candidates(seed, count, num_costs), 2 + seed % 2
        discount = (1.0, 0.8)[seed // 4 % 2]
        yield models, steps, discount, outcomes(models, steps, discount), np.random.default_rng(seed)


def values_of(policy: BeliefPolicy, models: list[TabularModel], steps: int, discount: float) -> np.ndarray:
    """Return and costs of a belief policy under each model ``[M, 1 + K]``, by walking through every episode."""
    signals = [np.stack([model.expected_reward, *model.expected_cost]) for model in models]

    def ahead(step: int, state: int, belief: np.ndarray) -> np.ndarray:
        total = np.zeros((len(models), 1 + models[0].num_costs))
        if step == steps or models[0].terminal[state]:
            return total
        for action, share in enumerate(policy.probabilities(step, state, belief)):
            total += share * np.array([signal[:, state, action] for signal in signals])
            chance = np.array([model.transition[state, action] for model in models])
            for move in np.flatnonzero(share * (belief @ chance)):
                chances = chance[:, move]
                later = ahead(step + 1, move, policy.next_belief(belief, state, action, move))
                total += discount * share * chances[:, None] * later
        return total

    starts = np.flatnonzero(np.any([model.initial for model in models], axis=0))
    parts = [ahead(0, start, policy.first_belief(start)) for start in starts]
    return sum(np.array([m.initial[start] for m in models])[:, None] * part for start, part in zip(starts, parts))


# What must hold; each is also run against the faults planted at the end of the file


def robust_plan_is_the_best_guarantee_of_all_policies_with_memory() -> None:
    solved = 0
    for num_costs in (1, 2):
        for models, steps, discount, points, rng in cases(24, num_costs):
            lows, highs = points[..., 1:].min(axis=(0, 1)), points[..., 1:].max(axis=(0, 1))
            limits = lows + rng.uniform(0.4, 0.9, size=num_costs) * (highs - lows)
            rows = points[..., 1:].reshape(len(points), -1)
            best = best_lottery(points[..., 0], rows, np.tile(limits, 2))
            if best is None:
                with pytest.raises(InfeasibleError):
                    robust_constrained_plan(models, limits, discount, steps)
                continue
            plan = robust_constrained_plan(models, limits, discount, steps)
            assert plan.guaranteed_return == pytest.approx(best, abs=1e-7)
            assert (plan.costs <= limits + 1e-7).all()
            found = values_of(plan.policy, models, steps, discount)
            np.testing.assert_allclose(np.column_stack([plan.returns, plan.costs]), found, atol=1e-7)
            solved += 1
    assert solved > 30


def worst_case_prior_admits_no_larger_mean() -> None:
    for models, steps, discount, points, _ in cases(24):
        limit = np.median(points[..., 1])
        try:
            plan = robust_constrained_plan(models, limit, discount, steps)
        except InfeasibleError:
            continue
        assert plan.worst_case_prior.sum() == pytest.approx(1.0)
        mean = best_lottery(points[..., 0] @ plan.worst_case_prior, points[..., 1], np.full(2, limit))
        assert mean == pytest.approx(plan.guaranteed_return, abs=1e-7)


def bayesian_plan_is_the_best_mean_of_all_policies_with_memory() -> None:
    solved = 0
    for models, steps, discount, points, rng in cases(24, 2):
        weights = rng.dirichlet(np.ones(2))
        means = np.einsum("nmk,m->nk", points, weights)
        limits = means[:, 1:].min(axis=0) + 0.5 * np.ptp(means[:, 1:], axis=0)
        best = best_lottery(means[:, 0], means[:, 1:], limits)
        if best is None:
            with pytest.raises(InfeasibleError, match="mean cost"):
                bayesian_constrained_plan(models, limits, weights, discount, steps)
            continue
        plan = bayesian_constrained_plan(models, limits, weights, discount, steps)
        assert plan.expected_return == pytest.approx(best, abs=1e-7)
        assert (plan.expected_costs <= limits + 1e-7).all()
        found = values_of(plan.policy, models, steps, discount)
        np.testing.assert_allclose(np.column_stack([plan.returns, plan.costs]), found, atol=1e-7)
        assert plan.expected_costs == pytest.approx(weights @ found[:, 1:], abs=1e-7)
        solved += 1
    assert solved > 12


def chance_constraint_holds_in_enough_models_and_no_plan_is_better() -> None:
    solved = 0
    for models, steps, discount, points, rng in cases(16, 1, count=3):
        weights = np.array([0.5, 0.3, 0.2])[rng.permutation(3)]
        limit = points[..., 1].min(axis=0).mean() + 0.15 * np.ptp(points[..., 1])
        for confidence in (0.5, 0.7, 1.0):
            values = [
                best_lottery(points[..., 0] @ weights, points[:, list(members), 1], np.full(len(members), limit))
                for size in (1, 2, 3)
                for members in product(range(3), repeat=size)
                if len(set(members)) == size and weights[list(members)].sum() >= confidence - 1e-9
            ]
            possible = [value for value in values if value is not None]
            if not possible:
                with pytest.raises(InfeasibleError, match="cost kept with weight"):
                    bayesian_constrained_plan(models, limit, weights, discount, steps, confidence=confidence)
                continue
            plan = bayesian_constrained_plan(models, limit, weights, discount, steps, confidence=confidence)
            assert plan.expected_return == pytest.approx(max(possible), abs=1e-7)
            assert plan.kept_weight >= confidence - 1e-9
            solved += 1
    assert solved > 20


def one_candidate_is_the_ordinary_constrained_optimum() -> None:
    for (model,), steps, discount, points, _ in cases(16, 1, count=1):
        limit = points[..., 1].min() + 0.4 * np.ptp(points[..., 1])
        optimum = constrained_optimum(model, limit, discount, steps)
        one = [model]
        expected = pytest.approx(optimum.optimal_return, abs=1e-6)
        assert robust_constrained_plan(one, limit, discount, steps).guaranteed_return == expected
        assert bayesian_constrained_plan(one, limit, None, discount, steps).expected_return == expected
        assert certainty_equivalent_plan(one, limit, None, discount, steps).expected_return == expected
        plan = rectangular_constrained_plan(one, limit, discount, steps)
        assert plan.guaranteed_return == expected
        assert plan.upper_bound == expected
        assert plan.returns[0] == expected


def worst_cases(models: list[TabularModel], policy: np.ndarray, steps: int, discount: float) -> tuple[float, float]:
    """Least return and largest cost of a deterministic policy when nature picks a model at every step and state."""
    found = []
    for nature in product(range(len(models)), repeat=3 * steps):
        value = np.zeros((3, 2))
        for step in reversed(range(steps)):
            before = np.zeros((3, 2))
            for state in range(3):
                model, action = models[nature[3 * step + state]], policy[step, state].argmax()
                now = [model.expected_reward[state, action], model.expected_cost[0, state, action]]
                before[state] = now + discount * model.transition[state, action] @ value
            value = np.where(models[0].terminal[:, None], 0.0, before)
        found.append(models[0].initial @ value)
    return min(each[0] for each in found), max(each[1] for each in found)


def rectangular_plan_keeps_its_promises_and_its_bound() -> None:
    mixed = 0
    for seed in range(20):
        models = [replace(model, initial=np.array([0.6, 0.4, 0.0])) for model in candidates(seed)]
        steps, discount = 2, (1.0, 0.8)[seed % 2]
        mask = np.ones((3, 2), bool) if models[0].action_mask is None else models[0].action_mask
        every = [
            np.eye(2)[list(choice)].reshape(steps, 3, 2)
            for choice in product(*[np.flatnonzero(row) for row in mask] * steps)
        ]
        guarantees = np.array(
            [worst_cases(models, policy, steps, discount) for policy in every[:: 1 + len(every) // 24]]
        )
        limit = float(np.quantile(guarantees[:, 1], 0.4))
        plan = rectangular_constrained_plan(models, limit, discount, steps)
        kept = guarantees[guarantees[:, 1] <= limit + 1e-9]
        assert plan.upper_bound >= kept[:, 0].max() - 1e-9
        assert plan.guaranteed_return <= plan.upper_bound + 1e-8
        assert plan.guaranteed_cost <= limit + 1e-8
        promised = np.array([worst_cases(models, policy, steps, discount) for policy in plan.policies])
        assert [plan.guaranteed_return, plan.guaranteed_cost] == pytest.approx(plan.shares @ promised, abs=1e-8)
        assert plan.guaranteed_return <= plan.returns.min() + 1e-9
        assert plan.guaranteed_cost >= plan.costs.max() - 1e-9
        mixed += len(plan.shares) > 1
        fixed = robust_constrained_plan(models, limit, discount, steps)
        assert plan.guaranteed_return <= fixed.guaranteed_return + 1e-7
    assert mixed > 4


def costly_problem(seed: int) -> TabularModel:
    """Costs of 0, 1 or 2 by successor; one start."""
    rng = np.random.default_rng(1000 + seed)
    model = candidates(seed, 1)[0]
    return replace(
        model, cost=rng.integers(0, 3, size=(1, 3, 2, 3)), initial=np.eye(3)[0], reward=rng.normal(size=(3, 2, 3))
    )


def laws_with_memory(model: TabularModel, state: int, left: int) -> list[tuple[float, np.ndarray]]:
    """Mean return and distribution of the cost (0…6) of every deterministic policy with memory, from a state."""
    nothing = np.eye(7)[0]
    if left == 0 or model.terminal[state]:
        return [(0.0, nothing)]
    found = []
    for action in range(2):
        if model.action_mask is not None and not model.action_mask[state, action]:
            continue
        chance = model.transition[state, action]
        moves = np.flatnonzero(chance)
        for later in product(*(laws_with_memory(model, move, left - 1) for move in moves)):
            value, law = 0.0, np.zeros(7)
            for move, (ahead, costs) in zip(moves, later):
                value += chance[move] * (model.reward[state, action, move] + ahead)
                law += chance[move] * np.roll(costs, int(model.cost[0, state, action, move]))
            found.append((value, law))
    return found


def law_tail(law: np.ndarray, confidence: float) -> float:
    """Mean of the largest 1 − confidence share of costs 0…6."""
    left, total = 1 - confidence, 0.0
    for cost in reversed(range(7)):
        part = min(left, law[cost])
        total, left = total + part * cost, left - part
    return total / (1 - confidence)


def exceedance_is_limited_at_the_least_loss_of_return() -> None:
    solved = 0
    for seed in range(24):
        model, steps = costly_problem(seed), 2 + seed % 2
        laws = laws_with_memory(model, 0, steps)
        gain, law = np.array([each[0] for each in laws]), np.array([each[1] for each in laws])
        for limit in (0.0, 1.0, 2.5):
            above = law[:, int(limit) + 1 :].sum(axis=1)
            bound = above.min() + 0.4 * np.ptp(above)
            best = best_lottery(gain, above[:, None], np.array([bound]))
            plan = distributional_constrained_plan(model, limit, exceedance=bound, horizon=steps)
            assert plan.expected_return == pytest.approx(best, abs=1e-7)
            assert plan.risk <= bound + 1e-9
            assert plan.risk == pytest.approx(plan.probabilities[plan.costs > limit].sum())
            if above.min() > 0.01:
                with pytest.raises(InfeasibleError, match="probability of cost above"):
                    distributional_constrained_plan(model, limit, exceedance=above.min() - 0.01, horizon=steps)
            solved += plan.multiplier > 0.01
    assert solved > 10


def cost_tail_is_limited_at_the_least_loss_of_return() -> None:
    solved = 0
    for seed in range(14):
        model, steps = costly_problem(seed), 2 + seed % 2
        laws = laws_with_memory(model, 0, steps)
        gain, law = np.array([each[0] for each in laws]), np.array([each[1] for each in laws])
        rng = np.random.default_rng(seed)
        for confidence in (0.0, 0.5, 0.8):
            tails = np.array([law_tail(each, confidence) for each in law])
            least = -smallest_cost_cvar(model, confidence, 0, steps).value
            assert least == pytest.approx(tails.min(), abs=1e-9)
            limit = least + 0.4 * (tails.max() - least)
            levels = np.arange(7)
            bests = [
                best_lottery(
                    gain, (law @ np.maximum(levels - b, 0))[:, None], np.array([(limit - b) * (1 - confidence)])
                )
                for b in np.append(levels, [0.5, 1.5])
                if b <= limit
            ]
            plan = distributional_constrained_plan(model, limit, confidence=confidence, horizon=steps)
            assert plan.expected_return == pytest.approx(max(b for b in bests if b is not None), abs=1e-7)
            assert plan.expected_return >= gain[tails <= limit + 1e-12].max() - 1e-8
            assert plan.risk <= limit + 1e-8
            for shares in rng.dirichlet(np.full(len(gain), 0.1), size=200):
                if law_tail(shares @ law, confidence) <= limit:
                    assert shares @ gain <= plan.expected_return + 1e-8
            if least > 0.01:
                with pytest.raises(InfeasibleError, match="CVaR of the cost"):
                    distributional_constrained_plan(model, least - 0.01, confidence=confidence, horizon=steps)
            solved += plan.multiplier > 0.01
    assert solved > 8


PROPERTIES = {
    each.__name__: each
    for each in (
        robust_plan_is_the_best_guarantee_of_all_policies_with_memory,
        worst_case_prior_admits_no_larger_mean,
        bayesian_plan_is_the_best_mean_of_all_policies_with_memory,
        chance_constraint_holds_in_enough_models_and_no_plan_is_better,
        one_candidate_is_the_ordinary_constrained_optimum,
        rectangular_plan_keeps_its_promises_and_its_bound,
        exceedance_is_limited_at_the_least_loss_of_return,
        cost_tail_is_limited_at_the_least_loss_of_return,
    )
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property_holds(name):
    PROPERTIES[name]()


# Other properties


def two_bridges(safe: float) -> TabularModel:
    """Test the bridge (cost 0.1, no move) or cross (reward 1; it holds with probability ``safe``, else cost 1).

    A test shows state 1 where the bridge holds and state 2 where it does not, each with the probability it has.
    """
    transition = np.zeros((4, 2, 4))
    transition[0, 0, 1], transition[0, 0, 2] = safe, 1 - safe
    transition[0, 1, 3] = transition[1:, :, 3] = 1.0
    reward, cost = np.zeros((4, 2)), np.zeros((1, 4, 2))
    reward[:3, 1], cost[0, :3, 1], cost[0, 0, 0] = 1.0, 1 - safe, 0.1
    return TabularModel(transition, reward, cost=cost, terminal=np.arange(4) == 3, horizon=2)


def test_policy_that_learns_the_model_tests_before_it_crosses():
    """Crossing untested costs 1/2 on average. After a test and state 1 the bridge surely holds."""
    models = [two_bridges(1.0), two_bridges(0.0)]
    plan = bayesian_constrained_plan(models, 0.1)
    assert plan.expected_return == pytest.approx(0.5)
    assert plan.returns == pytest.approx([1.0, 0.0])
    assert plan.policy.probabilities(0, 0, plan.policy.first_belief(0)) == pytest.approx([1, 0])
    after = plan.policy.next_belief(plan.policy.first_belief(0), 0, 0, 1)
    assert after == pytest.approx([1, 0])
    assert plan.policy.probabilities(1, 1, after)[1] == pytest.approx(1)


def test_among_equally_good_plans_the_larger_mean_or_the_smaller_cost_is_chosen():
    """Where the bridge holds, whoever has tested it may cross: the guarantee does not need it and the mean does."""
    models = [two_bridges(1.0), two_bridges(0.0)]
    robust = robust_constrained_plan(models, 0.3)
    assert robust.guaranteed_return == pytest.approx(2 / 9)
    assert robust.returns == pytest.approx([1, 2 / 9])
    careless = bayesian_constrained_plan(models, 0.3, confidence=0.5)
    assert careless.returns == pytest.approx([1, 1])
    assert careless.costs[:, 0] == pytest.approx([0, 1]), "a test that nobody heeds is not paid for"
    model = tabular_model("CA14/SafeGrid-v0")
    plan = distributional_constrained_plan(model, 0.5, exceedance=0.1)
    assert plan.costs == pytest.approx([0.1, 0.6]), "an excess of any size counts alike, so the smaller one is taken"


def test_mean_model_promises_what_the_posterior_does_not_keep():
    """Two draws of one coin: in the mean model they are independent, in truth both are bad or neither is."""
    transition = np.zeros((2, 3, 1, 3))
    transition[0, :, :, 1], transition[1, :, :, 2] = 1, 1
    cost = np.zeros((1, 3, 1, 3))
    cost[0, 2, 0, 2] = 1.0  # only the second bad draw in a row costs
    models = [TabularModel(each, np.zeros((3, 1)), cost=cost, horizon=2) for each in transition]
    plan = certainty_equivalent_plan(models, 1.0)
    assert plan.promised_costs == pytest.approx([0.25])
    assert plan.expected_costs == pytest.approx([0.5])
    assert plan.costs[:, 0] == pytest.approx([0, 1])


def test_certainty_equivalent_is_the_optimum_of_the_mean_model_and_is_judged_exactly():
    for models, steps, discount, points, rng in cases(12):
        weights = rng.dirichlet(np.ones(2))
        limit = np.median(points[..., 1])
        try:
            plan = certainty_equivalent_plan(models, limit, weights, discount, steps)
        except InfeasibleError:
            continue
        for number, model in enumerate(models):
            assert plan.returns[number] == pytest.approx(policy_return(model, plan.policy, discount, steps))
            assert plan.costs[number] == pytest.approx(policy_costs(model, plan.policy, discount, steps))
        assert plan.expected_return == pytest.approx(weights @ plan.returns)
        if (plan.expected_costs <= limit).all():
            best = bayesian_constrained_plan(models, limit, weights, discount, steps)
            assert plan.expected_return <= best.expected_return + 1e-7


def test_robust_never_promises_more_than_any_candidates_optimum_and_grows_with_the_limit():
    for models, steps, discount, points, _ in cases(12):
        previous = -np.inf
        for limit in np.quantile(points[..., 1].max(axis=1), [0.1, 0.5, 0.9]):
            plan = robust_constrained_plan(models, limit, discount, steps)
            assert plan.guaranteed_return >= previous - 1e-8
            previous = plan.guaranteed_return
            for model in models:
                assert previous <= constrained_optimum(model, limit, discount, steps).optimal_return + 1e-7


def test_infinite_limits_bound_nothing():
    for models, steps, discount, points, _ in cases(8):
        plan = robust_constrained_plan(models, np.inf, discount, steps)
        assert plan.guaranteed_return == pytest.approx(
            best_lottery(points[..., 0], points[..., 0] * 0, [0, 0]), abs=1e-7
        )
        free = distributional_constrained_plan(costly_problem(0), 99.0, exceedance=0.0, horizon=3)
        assert free.expected_return == pytest.approx(
            constrained_optimum(costly_problem(0), 99, horizon=3).optimal_return
        )


def test_start_in_a_terminal_state_leaves_nothing_to_decide():
    model = TabularModel([[[1.0]]], [[1.0]], cost=[[[1.0]]], terminal=[True], horizon=2)
    assert robust_constrained_plan([model, model], 0.0).guaranteed_return == 0
    assert bayesian_constrained_plan([model, model], 0.0).expected_return == 0
    assert rectangular_constrained_plan([model, model], 0.0).guaranteed_return == 0
    assert distributional_constrained_plan(model, 0.0, exceedance=0.0).expected_return == 0


def test_sampled_models_gather_around_what_was_counted():
    model = candidates(3, 1)[0]
    counts = np.rint(1e6 * model.transition) * ~model.terminal[:, None, None]
    counts *= model.transition > 0
    for draw in sampled_models(model, counts, 3, seed=0):
        np.testing.assert_allclose(draw.transition, model.transition, atol=0.01)
        assert ((draw.transition > 0) == (model.transition > 0)).all()
    few = sampled_models(model, 0 * counts, 400, seed=0)
    possible = model.transition > 0
    mean = np.mean([draw.transition for draw in few], axis=0)
    np.testing.assert_allclose(mean, possible / possible.sum(axis=2, keepdims=True), atol=0.06)
    assert (
        sampled_models(model, counts, 1, seed=5)[0].transition == sampled_models(model, counts, 1, seed=5)[0].transition
    ).all()


# Bad input


def test_candidates_that_do_not_fit_together_are_named():
    one, other = two_bridges(1.0), two_bridges(0.5)
    plans = (
        robust_constrained_plan,
        bayesian_constrained_plan,
        certainty_equivalent_plan,
        rectangular_constrained_plan,
    )
    for plan in plans:
        with pytest.raises(ValueError, match="at least one candidate"):
            plan([], 0.1)
        with pytest.raises(ValueError, match="agree in terminal, but candidate 1"):
            plan([one, replace(other, terminal=None)], 0.1)
        with pytest.raises(ValueError, match="agree in action_mask"):
            plan([one, replace(other, action_mask=np.ones((4, 2), bool))], 0.1)
        with pytest.raises(ValueError, match="agree in costs and horizon"):
            plan([one, replace(other, horizon=3)], 0.1)
        with pytest.raises(ValueError, match="agree in transition"):
            plan([one, costly_problem(0)], 0.1)
        with pytest.raises(ValueError, match="horizon must be given"):
            plan([replace(one, horizon=None)], 0.1)
        with pytest.raises(ValueError, match="discount must lie"):
            plan([one], 0.1, discount=0.0)
    with pytest.raises(ValueError, match="initial must be equal"):
        rectangular_constrained_plan([one, replace(other, initial=np.eye(4)[1])], 0.1)
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        rectangular_constrained_plan([one], 0.1, iterations=0)
    with pytest.raises(ValueError, match="limit must be finite"):
        rectangular_constrained_plan([one], np.inf)
    with pytest.raises(ValueError, match="limits must be numbers"):
        robust_constrained_plan([one], np.nan)
    for weights in ([1.0], [1.0, 0.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="weights must be 2 positive numbers"):
            bayesian_constrained_plan([one, other], 0.1, weights)
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\], got 1.2"):
        bayesian_constrained_plan([one, other], 0.1, confidence=1.2)
    with pytest.raises(ValueError, match="sets of models"):
        bayesian_constrained_plan([one] * 14, 0.1, confidence=0.5)


def test_infeasible_limits_say_how_low_costs_can_be():
    hurting = [two_bridges(0.9), replace(two_bridges(0.5), cost=0.25 + two_bridges(0.5).cost)]
    with pytest.raises(InfeasibleError, match=r"^no policy has cost in the worst model below 0\.6 \(limit 0\.1\)$"):
        robust_constrained_plan(hurting, 0.1)
    with pytest.raises(InfeasibleError, match=r"cost kept with weight 0\.5 below 0\.1 \(limit 0\.05\)"):
        bayesian_constrained_plan(hurting, 0.05, confidence=0.5)
    with pytest.raises(InfeasibleError, match="worst-case cost below"):
        rectangular_constrained_plan(hurting, 0.05)
    with pytest.raises(InfeasibleError, match="mean cost below"):
        bayesian_constrained_plan(hurting, 0.05)


def test_other_bad_input_is_named():
    model = costly_problem(0)
    for arguments in ({}, {"exceedance": 0.1, "confidence": 0.9}):
        with pytest.raises(ValueError, match="give one of exceedance and confidence"):
            distributional_constrained_plan(model, 1.0, horizon=2, **arguments)
    with pytest.raises(ValueError, match=r"exceedance must lie in \[0, 1\]"):
        distributional_constrained_plan(model, 1.0, exceedance=-0.1, horizon=2)
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\)"):
        distributional_constrained_plan(model, 1.0, confidence=1.0, horizon=2)
    with pytest.raises(ValueError, match="limit must be finite and at least 0"):
        distributional_constrained_plan(model, -1.0, exceedance=0.1, horizon=2)
    with pytest.raises(ValueError, match="cost must not be negative"):
        distributional_constrained_plan(replace(model, cost=-model.cost), 1.0, exceedance=0.1, horizon=2)
    with pytest.raises(ValueError, match="levels of cost are too many"):
        distributional_constrained_plan(model, 1e4, exceedance=0.1, horizon=2)
    with pytest.raises(ValueError, match="counts must have shape"):
        sampled_models(model, np.zeros((3, 3)), 1, seed=0)
    with pytest.raises(ValueError, match="counts must be finite"):
        sampled_models(model, -np.ones((3, 2, 3)), 1, seed=0)
    with pytest.raises(ValueError, match="number must be at least 1"):
        sampled_models(model, np.zeros((3, 2, 3)), 0, seed=0)
    policy = bayesian_constrained_plan([two_bridges(1.0), two_bridges(0.0)], 0.1).policy
    with pytest.raises(ValueError, match="cannot occur in state 1 after 1 steps"):
        policy.probabilities(1, 1, np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"step must lie in 0…1"):
        policy.probabilities(2, 0, np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="no candidate that is still possible"):
        policy.next_belief(np.array([1.0, 0.0]), 0, 0, 2)


# Planted faults

Plant = Callable[[pytest.MonkeyPatch], None]


def swap(name: str, wrong: Callable[..., Callable]) -> Plant:
    """Puts ``wrong(healthy)`` in the place of a function of the module."""
    return lambda patch: patch.setattr(uncertain, name, wrong(getattr(uncertain, name)))


def problem_with(**changes: Callable) -> Plant:
    def wrong(healthy):
        def build(*given):
            problem = healthy(*given)
            return replace(problem, **{name: change(problem) for name, change in changes.items()})

        return build

    return swap("_belief_problem", wrong)


def only_the_mean(healthy):
    """Nature answers with the average in place of the worst."""

    def mean(q: np.ndarray, axis: int) -> np.ndarray:
        return q.mean(axis=axis)

    def build(transition, reward, cost, *rest):
        average = [np.broadcast_to(each.mean(axis=0, keepdims=True), each.shape) for each in (transition, reward, cost)]
        return healthy(*average, *rest)

    return build


def capped_too_low(healthy):
    return lambda model, units, top, penalty: healthy(model, np.minimum(units, 1), top, penalty)


FAULTS: dict[str, tuple[Plant, tuple[Callable[[], None], ...]]] = {
    "returns averaged over models": (
        problem_with(returns=lambda p: np.broadcast_to(p.returns.mean(axis=0), p.returns.shape).copy()),
        (robust_plan_is_the_best_guarantee_of_all_policies_with_memory, worst_case_prior_admits_no_larger_mean),
    ),
    "costs averaged over models": (
        problem_with(costs=lambda p: np.broadcast_to(p.costs.mean(axis=0), p.costs.shape).copy()),
        (
            robust_plan_is_the_best_guarantee_of_all_policies_with_memory,
            chance_constraint_holds_in_enough_models_and_no_plan_is_better,
        ),
    ),
    "prior forgotten in the shares": (
        problem_with(returns=lambda p: p.returns * p.prior[:, None]),
        (
            robust_plan_is_the_best_guarantee_of_all_policies_with_memory,
            bayesian_plan_is_the_best_mean_of_all_policies_with_memory,
        ),
    ),
    "cost not discounted": (
        problem_with(costs=lambda p: p.costs / p.flow.weight),
        (bayesian_plan_is_the_best_mean_of_all_policies_with_memory,),
    ),
    "weights forgotten": (
        swap("_fitting", lambda healthy: lambda models, weights, *rest: healthy(models, None, *rest)),
        (bayesian_plan_is_the_best_mean_of_all_policies_with_memory,),
    ),
    "sets that weigh too little": (
        swap("_least_sets", lambda healthy: lambda prior, confidence: [[int(prior.argmax())]]),
        (chance_constraint_holds_in_enough_models_and_no_plan_is_better,),
    ),
    "only the full set": (
        swap("_least_sets", lambda healthy: lambda prior, confidence: [list(range(len(prior)))]),
        (chance_constraint_holds_in_enough_models_and_no_plan_is_better,),
    ),
    "nature answers with the mean": (
        swap("_Rectangle", only_the_mean),
        (rectangular_plan_keeps_its_promises_and_its_bound,),
    ),
    "lottery takes the best return": (
        swap("_best_lottery", lambda healthy: lambda seen, limit: [(int(np.argmax([each[1] for each in seen])), 1.0)]),
        (rectangular_plan_keeps_its_promises_and_its_bound,),
    ),
    "lottery takes a single policy": (
        swap("_best_lottery", lambda healthy: lambda seen, limit: healthy(seen, limit)[:1]),
        (rectangular_plan_keeps_its_promises_and_its_bound, one_candidate_is_the_ordinary_constrained_optimum),
    ),
    "cost so far grows by one at most": (
        swap("_with_cost_so_far", capped_too_low),
        (exceedance_is_limited_at_the_least_loss_of_return, cost_tail_is_limited_at_the_least_loss_of_return),
    ),
    "cost so far forgotten at the cap": (
        swap(
            "_with_cost_so_far",
            lambda healthy: (
                lambda model, units, top, penalty: healthy(
                    model, units, top, lambda level: penalty(np.minimum(level, top))
                )
            ),
        ),
        (cost_tail_is_limited_at_the_least_loss_of_return,),
    ),
    "at the limit counts as above it": (
        swap(
            "_with_cost_so_far",
            lambda healthy: (
                lambda model, units, top, penalty: healthy(model, units, top, lambda level: penalty(level + 1))
            ),
        ),
        (exceedance_is_limited_at_the_least_loss_of_return,),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    plant, caught_by = FAULTS[name]
    plant(monkeypatch)
    for holds in caught_by:
        with pytest.raises((AssertionError, InfeasibleError, RuntimeError, pytest.fail.Exception)):
            holds()


@pytest.mark.parametrize("weight", [1e-6, 1e-9, 1e-11])
def test_a_candidate_of_next_to_no_weight_still_has_its_limit(weight):
    """With confidence 1 every candidate counts, however unlikely; the visits' scale must not swallow its cost."""
    solved = 0
    for models, steps, discount, points, _ in cases(16, 1, count=2):
        limit = points[..., 1].min(axis=0).mean() + 0.3 * np.ptp(points[..., 1])
        value = best_lottery(points[..., 0] @ [1 - weight, weight], points[:, :, 1], np.full(2, limit))
        if value is None:
            continue
        plan = bayesian_constrained_plan(models, limit, [1 - weight, weight], discount, steps, confidence=1.0)
        assert (plan.costs <= limit + 1e-7).all(), f"{plan.costs} over {limit}"
        assert plan.expected_return == pytest.approx(value, abs=1e-6)
        assert plan.kept_weight == pytest.approx(1.0)
        solved += 1
    assert solved > 8


def test_sampled_models_of_next_to_no_counts_are_still_models():
    model = next(iter(cases(16, 1, count=1)))[0][0]
    draws = sampled_models(model, np.zeros_like(model.transition), 200, seed=0, pseudo_count=1e-4)
    mean = np.mean([draw.transition for draw in draws], axis=0)
    possible = model.transition > 0
    assert all(np.allclose(draw.transition.sum(axis=2), 1) for draw in draws)
    assert abs(mean - possible / possible.sum(axis=2, keepdims=True)).max() < 0.2, "one successor each, all as likely"
