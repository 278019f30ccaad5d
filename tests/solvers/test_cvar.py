"""CVaR-optimal policies against all policies that remember the past, simulation, and what must hold of any tail."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ca14lib.environments import TabularModel, tabular_model
from ca14lib.solvers import (
    CVaROptimum,
    cvar,
    cvar_optimum,
    policy_cost_distribution,
    policy_costs,
    policy_return,
    policy_return_distribution,
    smallest_cost_cvar,
    value_iteration,
)

TAILS = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0)


def small_problem(seed: int) -> TabularModel:
    """Three states (the last one terminal for odd seeds), two actions, rewards on a grid of 0.5, perhaps masked."""
    rng = np.random.default_rng(seed)
    weight = rng.exponential(size=(3, 2, 3)) * (rng.random((3, 2, 3)) < 0.7)
    stuck = weight.sum(axis=2) == 0
    weight[stuck, rng.integers(3, size=stuck.sum())] = 1.0
    mask = rng.random((3, 2)) < 0.8
    mask[np.arange(3), rng.integers(2, size=3)] = True
    initial = rng.dirichlet(np.ones(3)) if seed % 4 == 0 else np.eye(3)[0]
    return TabularModel(
        transition=weight / weight.sum(axis=2, keepdims=True),
        reward=rng.integers(-4, 5, size=(3, 2, 3) if rng.random() < 0.7 else (3, 2)) / 2,
        cost=rng.integers(0, 4, size=(1, 3, 2, 3)) / 4,
        terminal=np.arange(3) == 2 if seed % 2 else None,
        initial=initial,
        action_mask=mask if rng.random() < 0.4 else None,
    )


Outcome = tuple[tuple[float, float], ...]  # (return, probability), sorted


def mixed(parts: list[tuple[float, float, Outcome]]) -> Outcome:
    total: dict[float, float] = {}
    for chance, earned, outcome in parts:
        for later, probability in outcome:
            total[earned + later] = total.get(earned + later, 0.0) + chance * probability
    return tuple(sorted((value, round(probability, 12)) for value, probability in total.items()))


def outcomes_with_memory(model: TabularModel, state: int, left: int) -> set[Outcome]:
    """The distributions of the return that some deterministic policy with memory has from a state."""
    if left == 0 or model.terminal[state]:
        return {((0.0, 1.0),)}
    found: set[Outcome] = set()
    for action in range(2):
        if model.action_mask is not None and not model.action_mask[state, action]:
            continue
        moves = np.flatnonzero(model.transition[state, action])
        earned = [float(model.reward[(state, action, move)[: model.reward.ndim]]) for move in moves]
        chance = model.transition[state, action, moves]
        for later in product(*(outcomes_with_memory(model, move, left - 1) for move in moves)):
            found.add(mixed([*zip(chance, earned, later)]))
    return found


def tail_mean(outcome: Outcome, tail: float) -> float:
    """Mean of the worst share, atom by atom."""
    left, total = tail, 0.0
    for value, probability in outcome:
        part = min(left, probability)
        total += part * value
        left -= part
    return total / (tail - left)


def with_memory(model: TabularModel, steps: int) -> list[Outcome]:
    starts = np.flatnonzero(model.initial)
    choices = product(*(outcomes_with_memory(model, start, steps) for start in starts))
    return [mixed([(model.initial[start], 0.0, part) for start, part in zip(starts, choice)]) for choice in choices]


def result(optimum: CVaROptimum) -> Outcome:
    return tuple(zip(optimum.values, optimum.probabilities))


def windy_ledge(fall: float = -20.0, wind: float = 0.1) -> TabularModel:
    """A 6 × 4 grid with a ravine along y = 0 from the start (0, 0) to the goal (5, 0); falling ends the episode."""
    end = 24
    transition, reward = np.zeros((25, 4, 25)), np.zeros((25, 4, 25))
    transition[end, :, end] = 1.0
    for state in range(end):
        for action, blown in product(range(4), range(4)):
            x, y = divmod(state, 4)
            dx, dy = [(0, 1), (0, -1), (-1, 0), (1, 0)][blown]
            x, y = min(max(x + dx, 0), 5), min(max(y + dy, 0), 3)
            fell = y == 0 and 0 < x < 5
            following = end if fell else 4 * x + y
            transition[state, action, following] += wind / 4 + (1 - wind) * (action == blown)
            reward[state, action, following] = fall if fell else 10.0 if (x, y) == (5, 0) else -0.5
    return TabularModel(transition, reward, terminal=np.isin(np.arange(25), [20, end]), horizon=30)


# What must hold; each is also run against the faults planted at the end of the file


def no_policy_with_memory_is_better_and_one_is_as_good() -> None:
    remembering = 0
    for seed in range(30):
        model, steps = small_problem(seed), 2 + seed % 2
        outcomes, memoryless = with_memory(model, steps), without_memory(model, steps)
        for tail in (0.1, 0.3, 0.5, 0.8, 1.0):
            optimum = cvar_optimum(model, tail, steps)
            best = max(tail_mean(outcome, tail) for outcome in outcomes)
            assert optimum.value == pytest.approx(best, abs=1e-8)
            means = [tail_mean(each, 1.0) for each in outcomes if tail_mean(each, tail) > best - 1e-9]
            assert optimum.expected_return <= max(means) + 1e-8
            remembering += best > max(tail_mean(outcome, tail) for outcome in memoryless) + 1e-6
    assert remembering > 5, "memory must matter in some of the problems"


def without_memory(model: TabularModel, steps: int) -> list[Outcome]:
    """The distributions of the return of every deterministic policy of step and state."""
    mask = np.ones((3, 2), bool) if model.action_mask is None else model.action_mask
    found = []
    for choice in product(*[np.flatnonzero(row)[: 2 - end] for row, end in zip(mask, model.terminal)] * steps):
        values, probabilities = policy_return_distribution(model, np.eye(2)[list(choice)].reshape(steps, 3, 2), steps)
        found.append(tuple(zip(values, probabilities)))
    return found


def policy_attains_the_value() -> None:
    problems = [(small_problem(seed), 4) for seed in range(20)] + [(windy_ledge(), 30)]
    for model, steps in problems:
        for tail in TAILS:
            optimum = cvar_optimum(model, tail, steps)
            assert tail_mean(result(optimum), tail) == pytest.approx(optimum.value, abs=1e-8)
            assert optimum.probabilities.sum() == pytest.approx(1.0)
            assert optimum.expected_return == pytest.approx(tail_mean(result(optimum), 1.0))
            below = optimum.probabilities[optimum.values < optimum.budget - 1e-9].sum()
            at_most = optimum.probabilities[optimum.values < optimum.budget + 1e-9].sum()
            assert below - 1e-9 <= tail <= at_most + 1e-9, "the budget is a quantile of the return"


def whole_tail_is_the_risk_neutral_optimum() -> None:
    for model, steps in [(small_problem(seed), 5) for seed in range(20)] + [(windy_ledge(), 30)]:
        neutral = value_iteration(model, 1.0, steps).optimal_return
        optimum = cvar_optimum(model, 1.0, steps)
        assert optimum.value == pytest.approx(neutral, abs=1e-8)
        assert optimum.expected_return == pytest.approx(neutral, abs=1e-8)


def value_grows_with_the_tail_from_the_worst_case_to_the_mean() -> None:
    for model, steps in [(small_problem(seed), 4) for seed in range(20)] + [(windy_ledge(), 30)]:
        values = [cvar_optimum(model, tail, steps).value for tail in (1e-9, *TAILS)]
        assert (np.diff(values) >= -1e-9).all()
        if steps == 4:  # on the ledge the worst case is rarer than any tail
            assert values[0] == pytest.approx(best_worst_case(model, steps), abs=1e-6)
        neutral = value_iteration(model, 1.0, steps).policy
        outcome = tuple(zip(*policy_return_distribution(model, neutral, steps)))
        for tail, value in zip(TAILS, values[1:]):
            assert tail_mean(outcome, tail) <= value + 1e-9


def best_worst_case(model: TabularModel, steps: int) -> float:
    """Largest return that can be guaranteed, by a plain recursion."""
    value = np.zeros(model.num_states)
    rewards = model.reward if model.reward.ndim == 3 else np.repeat(model.reward[..., None], model.num_states, 2)
    for _ in range(steps):
        worst = np.where(model.transition > 0, rewards + value, np.inf).min(axis=2)
        if model.action_mask is not None:
            worst[~model.action_mask & ~model.terminal[:, None]] = -np.inf
        value = np.where(model.terminal, 0.0, worst.max(axis=1))
    return float(value[model.initial > 0].min())


def gamble_is_taken_only_when_the_budget_is_out_of_reach() -> None:
    """Chance gives 0 or −2 (half each) and leads back to one state: a sure 0, or a gamble for +2 or −1 (half each).

    Worst half: who has lost gambles (−3 and 0 in place of −2), who has not takes the sure 0, and (−3 + 0) / 2 = −1.5. A
    policy that sees only step and state has −2 however it mixes: it must treat both alike.
    """
    transition = np.zeros((6, 2, 6))
    transition[0, :, [1, 2]] = 0.5
    transition[[1, 2], :, 3] = 1.0
    transition[3, 0, 4] = 1.0
    transition[3, 1, [4, 5]] = 0.5
    transition[[4, 5], :, 5] = 1.0
    reward = np.zeros((6, 2, 6))
    reward[0, :, 2] = -2.0
    reward[3, 1, 4], reward[3, 1, 5] = 2.0, -1.0
    model = TabularModel(transition, reward, terminal=np.arange(6) > 3, horizon=3)
    half = cvar_optimum(model, 0.5)
    assert half.value == pytest.approx(-1.5)
    assert half.expected_return == pytest.approx(-0.75)
    assert half.policy.act(2, [3, 3], [half.budget, half.budget + 2]).tolist() == [0, 1]
    for share in (0.0, 0.3, 1.0):
        table = np.tile([1 - share, share], (6, 1))
        assert tail_mean(tuple(zip(*policy_return_distribution(model, table))), 0.5) == pytest.approx(-2.0)
    assert cvar_optimum(model, 0.75).value == pytest.approx(-1.0)
    assert cvar_optimum(model, 1.0).value == pytest.approx(-0.5)


PROPERTIES = {
    each.__name__: each
    for each in (
        no_policy_with_memory_is_better_and_one_is_as_good,
        policy_attains_the_value,
        whole_tail_is_the_risk_neutral_optimum,
        value_grows_with_the_tail_from_the_worst_case_to_the_mean,
        gamble_is_taken_only_when_the_budget_is_out_of_reach,
    )
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property_holds(name):
    PROPERTIES[name]()


# Other properties


def test_among_equal_tails_the_larger_mean_is_chosen():
    """What lies above the tail is left to the mean: the sure 1 is the tail, the rest may gamble."""
    transition = np.zeros((3, 2, 3))
    transition[0, :, [1, 2]] = 0.5
    transition[1:, :, 2] = 1.0
    reward = np.zeros((3, 2, 3))
    reward[1, 0, 2], reward[1, 1, 2] = 5.0, 6.0
    model = TabularModel(transition, reward, terminal=[False, False, True], horizon=2)
    optimum = cvar_optimum(model, 0.5)
    assert optimum.value == pytest.approx(0.0)
    assert optimum.expected_return == pytest.approx(3.0)


def simulate(model: TabularModel, optimum: CVaROptimum, episodes: int, rng: np.random.Generator) -> np.ndarray:
    state = rng.choice(model.num_states, size=episodes, p=model.initial)
    collected = np.zeros(episodes)
    for step in range(optimum.horizon):
        action = optimum.policy.act(step, state, optimum.budget - collected)
        draws = rng.random(episodes)[:, None]
        following = (model.transition[state, action].cumsum(axis=1) < draws).sum(axis=1)
        following = np.minimum(following, model.num_states - 1)
        collected += model.reward[state, action, following]
        state = following
    return np.sort(collected)


def test_simulated_returns_have_the_tail_that_was_promised():
    model, episodes = windy_ledge(), 100_000
    for tail in (0.1, 0.5):
        optimum = cvar_optimum(model, tail)
        returns = simulate(model, optimum, episodes, np.random.default_rng(0))
        worst = returns[: int(tail * episodes)]
        assert worst.mean() == pytest.approx(optimum.value, abs=5 * worst.std() / np.sqrt(len(worst)) + 0.05)
        assert returns.mean() == pytest.approx(optimum.expected_return, abs=0.15)


def test_ledge_is_walked_for_the_mean_and_not_for_the_tail():
    model = windy_ledge()
    careful, bold = cvar_optimum(model, 0.1), cvar_optimum(model, 1.0)
    assert tail_mean(result(bold), 0.1) < careful.value - 0.2
    assert careful.expected_return < bold.expected_return - 0.2
    assert np.isclose(careful.values, -20).any()


def test_distribution_has_the_policys_mean_and_cost(random_policy):
    for seed in range(20):
        model = small_problem(seed)
        for horizon, timed in [(4, None), (4, 4)]:
            policy = random_policy(model, seed, timed)
            values, probabilities = policy_return_distribution(model, policy, horizon)
            assert (np.diff(values) > 0).all()
            assert (probabilities > 0).all()
            assert probabilities.sum() == pytest.approx(1)
            assert values @ probabilities == pytest.approx(policy_return(model, policy, 1.0, horizon), abs=1e-9)
            values, probabilities = policy_cost_distribution(model, policy, 0, horizon)
            assert values @ probabilities == pytest.approx(policy_costs(model, policy, 1.0, horizon)[0], abs=1e-9)


def test_distribution_of_a_function_of_the_total_is_that_of_its_table(random_policy):
    for seed in range(10):
        model = small_problem(seed)
        table = random_policy(model, seed, 3)
        expected = policy_return_distribution(model, table, 3)
        found = policy_return_distribution(model, lambda step, state, total, table=table: table[step, state], 3)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_distribution_of_coin_flips_is_binomial():
    transition = np.array([[[0.75, 0.25]], [[0.75, 0.25]]])
    model = TabularModel(transition, [[[0.0, 0.1]], [[0.0, 0.1]]], horizon=4)
    values, probabilities = policy_return_distribution(model, np.ones((2, 1)))
    assert values == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert probabilities == pytest.approx([0.75**4, 4 * 0.75**3 / 4, 6 * 0.75**2 / 16, 4 * 0.75 / 64, 1 / 256])


def test_smallest_cost_tail_mirrors_the_return():
    for seed in range(10):
        model = small_problem(seed)
        for confidence in (0.0, 0.5, 0.9):
            found = smallest_cost_cvar(model, confidence, horizon=2)
            outcomes = with_memory(replace(model, reward=-model.cost[0]), 2)
            best = max(tail_mean(outcome, 1 - confidence) for outcome in outcomes)
            assert found.value == pytest.approx(best, abs=1e-8)


def test_unit_is_the_largest_that_divides_every_reward():
    for factor in (1.0, 0.1, 0.25, 3.0):
        model = small_problem(4)
        scaled = replace(model, reward=factor * np.rint(2 * model.reward))
        assert cvar_optimum(scaled, 0.3, 2).policy.unit == pytest.approx(factor)
    model = tabular_model("CA14/GridWorld-v0")
    assert cvar_optimum(model, 0.3, 12).policy.unit == pytest.approx(0.1)
    assert cvar_optimum(model, 0.3, 12).value == pytest.approx(0.3)
    assert cvar_optimum(replace(model, reward=0 * model.reward), 0.3, 12).value == 0


def test_finer_declared_grid_changes_nothing():
    model = small_problem(2)
    coarse, fine = cvar_optimum(model, 0.3, 3), cvar_optimum(model, 0.3, 3, resolution=0.05)
    assert fine.value == pytest.approx(coarse.value)
    assert fine.values == pytest.approx(coarse.values)


# Bad input


@pytest.mark.parametrize("tail", [0.0, -0.1, 1.01, float("nan")])
def test_tail_outside_its_range_is_named(tail):
    with pytest.raises(ValueError, match=rf"tail must lie in \(0, 1\], got {tail}"):
        cvar_optimum(small_problem(0), tail, 3)


def test_other_bad_input_is_named():
    model = small_problem(0)
    with pytest.raises(ValueError, match="horizon must be given"):
        cvar_optimum(model, 0.5)
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        cvar_optimum(model, 0.5, 0)
    with pytest.raises(ValueError, match="is on no grid"):
        cvar_optimum(replace(model, reward=model.reward * np.pi), 0.5, 2)
    with pytest.raises(ValueError, match=r"multiple of resolution 0\.3"):
        cvar_optimum(model, 0.5, 2, resolution=0.3)
    with pytest.raises(ValueError, match="resolution must be finite and positive"):
        cvar_optimum(model, 0.5, 2, resolution=0.0)
    with pytest.raises(ValueError, match="too many; round the rewards"):
        cvar_optimum(replace(model, reward=model.reward * 1e4), 0.5, 900, resolution=1.0)
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\), got 1"):
        smallest_cost_cvar(model, 1.0, horizon=2)
    with pytest.raises(ValueError, match=r"constraint must lie in 0…0, got 1"):
        policy_cost_distribution(model, np.full((3, 2), 0.5), 1, 2)
    with pytest.raises(ValueError, match="must give probabilities"):
        policy_return_distribution(model, lambda step, state, total: np.ones((len(state), 2)), 2)
    with pytest.raises(ValueError, match=r"step must lie in 0…1, got 2"):
        cvar_optimum(model, 0.5, 2).policy.act(2, [0], [0.0])
    masked = replace(model, action_mask=np.eye(2)[[0, 0, 0]] > 0)
    with pytest.raises(ValueError, match="action_mask forbids"):
        policy_return_distribution(masked, lambda step, state, total: np.full((len(state), 2), 0.5), 2)


# Planted faults

Plant = Callable[[pytest.MonkeyPatch], None]


def swap(name: str, wrong: Callable[..., Callable]) -> Plant:
    """Puts ``wrong(healthy)`` in the place of a function of the module."""
    return lambda patch: patch.setattr(cvar, name, wrong(getattr(cvar, name)))


def mean_reward_of_a_pair(healthy):
    return lambda model, signal, *rest: healthy(model, np.rint(model.expected_reward * 2) / 2, *rest)


FAULTS: dict[str, tuple[Plant, tuple[Callable[[], None], ...]]] = {
    "tail taken for its complement": (
        swap("_best_budget", lambda healthy: lambda budget, short, tail: healthy(budget, short, max(1 - tail, 1e-9))),
        (no_policy_with_memory_is_better_and_one_is_as_good, whole_tail_is_the_risk_neutral_optimum),
    ),
    "shortfall not divided by the tail": (
        swap("_best_budget", lambda healthy: lambda budget, short, tail: healthy(budget, short, 1.0)),
        (no_policy_with_memory_is_better_and_one_is_as_good, policy_attains_the_value),
    ),
    "largest budget that ties": (
        swap(
            "_best_budget",
            lambda healthy: lambda budget, short, tail: (healthy(budget, short, tail)[0], float(budget.max())),
        ),
        (policy_attains_the_value, gamble_is_taken_only_when_the_budget_is_out_of_reach),
    ),
    "budget not reduced by the reward": (
        swap(
            "_looked_up",
            lambda healthy: (
                lambda short, mean, low, neutral, state, budget, unit: healthy(
                    short, mean, low, neutral, state, np.broadcast_to(budget[:1], budget.shape), unit
                )
            ),
        ),
        (no_policy_with_memory_is_better_and_one_is_as_good,),
    ),
    "missed budget counted without the reward to come": (
        swap(
            "_looked_up",
            lambda healthy: (
                lambda short, mean, low, neutral, state, budget, unit: healthy(
                    short, mean, low, np.zeros_like(neutral), state, budget, unit
                )
            ),
        ),
        (no_policy_with_memory_is_better_and_one_is_as_good, whole_tail_is_the_risk_neutral_optimum),
    ),
    "reward averaged over successors": (
        swap("_edges", mean_reward_of_a_pair),
        (no_policy_with_memory_is_better_and_one_is_as_good, gamble_is_taken_only_when_the_budget_is_out_of_reach),
    ),
    "policy acts on what was collected": (
        lambda patch: patch.setattr(
            cvar.BudgetPolicy,
            "__call__",
            lambda policy, step, state, collected: np.eye(policy.num_actions)[
                policy.act(step, state, policy.budget + collected)
            ],
        ),
        (policy_attains_the_value,),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    plant, caught_by = FAULTS[name]
    plant(monkeypatch)
    for holds in caught_by:
        with pytest.raises(AssertionError):
            holds()
