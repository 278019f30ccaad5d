"""Shields from a model: the greatest safe set, no more and no less, and no violation in all of a run."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.agents.ppo import PPO
from ca14lib.agents.safe import shield
from ca14lib.agents.safe.shield import BudgetShield, ModelShield
from ca14lib.environments import TabularModel
from ca14lib.environments.safe_cliff import SafeCliffVector
from ca14lib.environments.safe_grid import SafeGridVector
from ca14lib.solvers import policy_evaluation
from ca14lib.training import train_on_policy

SEEDS = st.integers(0, 10**6)


def random_problem(seed: int, *, masked: bool | None = None, **keywords: object) -> tuple[TabularModel, np.ndarray]:
    """Four states and two or three actions with few successors, and which states must not be entered."""
    rng = np.random.default_rng(seed)
    states, actions = 4, int(rng.integers(2, 4))
    weight = rng.exponential(size=(states, actions, states)) * (rng.random((states, actions, states)) < 0.35)
    stuck = weight.sum(axis=2) == 0
    weight[stuck, rng.integers(states, size=stuck.sum())] = 1.0
    mask = None
    if rng.random() < 0.4 if masked is None else masked:
        mask = rng.random((states, actions)) < 0.6
        mask[np.arange(states), rng.integers(actions, size=states)] = True
    model = TabularModel(
        transition=weight / weight.sum(axis=2, keepdims=True),
        reward=np.zeros((states, actions)),
        terminal=np.arange(states) == states - 1 if rng.random() < 0.5 else None,
        initial=np.full(states, 1 / states),
        action_mask=mask,
        **keywords,
    )
    return model, rng.random(states) < 0.4


def policies(model: TabularModel) -> list[np.ndarray]:
    """Every deterministic policy, as actions ``[S]``."""
    usable = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
    return [np.array(choice) for choice in product(*(np.flatnonzero(row) for row in usable))]


def chance_of_violation(model: TabularModel, violation: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Of a stationary policy within 2⁴⁰ steps, by squaring the chain with an extra state for "has violated"."""
    states = np.arange(model.num_states)
    rows = model.transition[states, choice] * ~violation[states, choice]
    chain = np.zeros((len(states) + 1, len(states) + 1))
    chain[:-1, :-1], chain[-1, -1] = rows, 1.0
    chain[:-1, -1] = (model.transition[states, choice] * violation[states, choice]).sum(axis=1)
    for _ in range(40):
        chain = chain @ chain
        chain /= chain.sum(axis=1, keepdims=True)
    return chain[:-1, -1]


def worst_chance(model: TabularModel, violation: np.ndarray, mask: np.ndarray, horizon: int) -> np.ndarray:
    """Greatest probability of a violation within a horizon among policies that take only what the masks allow.

    ``mask`` is ``[S, A]`` or, by steps left, ``[H + 1, S, A]``.
    """
    value = np.zeros(model.num_states)
    for left in range(1, horizon + 1):
        table = mask if mask.ndim == 2 else mask[left]
        q = (model.transition * violation).sum(axis=2) + (model.transition * ~violation) @ value
        q[model.terminal] = 0.0
        value = np.where(table, q, -np.inf).max(axis=1)
    return value


def index(observation: np.ndarray) -> np.ndarray:
    return np.asarray(observation).reshape(len(observation), -1)[:, 0].astype(np.intp)


def timed(states: np.ndarray, left: int, horizon: int) -> np.ndarray:
    return np.stack([states, np.full(len(states), left / horizon)], axis=1)


# Properties. Each is run on the healthy code and must fail on the faults named for it.


def the_safe_set_is_that_of_the_best_policy() -> None:
    for seed in range(60):
        model, unsafe = random_problem(seed)
        violation = shield.violating_transitions(model, unsafe=unsafe)
        least = np.min([chance_of_violation(model, violation, choice) for choice in policies(model)], axis=0)
        safe = shield.safe_sets(model, violation)
        np.testing.assert_array_equal(safe, least < 1e-9)
        found = shield.violation_probability(model, violation).min(axis=1)
        np.testing.assert_allclose(np.where(model.terminal, 0.0, found), least, atol=1e-6)


def what_is_allowed_never_violates_from_a_safe_state() -> None:
    for seed in range(60):
        for horizon in (None, 6):
            model, unsafe = random_problem(seed, horizon=horizon, observes_time=horizon is not None)
            made = ModelShield(model, index, unsafe=unsafe)
            safe = made.tables.safe if horizon is None else made.tables.safe[horizon]
            steps = 200 if horizon is None else horizon
            assert worst_chance(model, made.violation, made.tables.mask, steps)[safe].max(initial=0.0) == 0.0


def what_is_forbidden_in_a_safe_state_risks_a_violation() -> None:
    for seed in range(60):
        for horizon in (None, 6):
            model, unsafe = random_problem(seed, horizon=horizon, observes_time=horizon is not None)
            made = ModelShield(model, index, unsafe=unsafe)
            tables = made.tables
            usable = np.ones(tables.mask.shape, bool) if model.action_mask is None else model.action_mask
            forbidden = ~tables.mask & usable & ~tables.falls_back[..., None] & ~model.terminal[:, None]
            assert (tables.violation[forbidden] > 0).all()
            np.testing.assert_array_equal(
                tables.falls_back & ~model.terminal, (tables.violation.min(axis=-1) > 0) & ~model.terminal
            )


def without_a_safe_action_the_least_violation_is_taken() -> None:
    found = 0
    for seed in range(60):
        model, unsafe = random_problem(seed)
        made = ModelShield(model, index, unsafe=unsafe)
        q = shield.violation_probability(model, made.violation)
        for state in np.flatnonzero(made.tables.falls_back):
            np.testing.assert_array_equal(made.tables.mask[state], q[state] <= q[state].min() + 1e-9)
            found += not made.tables.mask[state].all()
    assert found > 5


def the_mask_of_an_observation_is_that_of_the_time_it_shows() -> None:
    """A corridor of four cells with a hazard at its end: with two steps left only the hazard's neighbour matters."""
    transition = np.zeros((4, 2, 4))
    for cell in range(4):
        transition[cell, 0, max(cell - 1, 0)] = transition[cell, 1, min(cell + 1, 3)] = 1.0
    transition[2, 0] = np.eye(4)[3]  # from cell 2 on there is no way back
    model = TabularModel(
        transition, np.zeros((4, 2)), observation=np.arange(4), horizon=3, observes_time=True,
        initial=np.eye(4)[0],
    )  # fmt: skip
    made = ModelShield(model, index, unsafe=np.arange(4) == 3)
    right = [made(timed(np.array([0, 1]), left, 3))[:, 1].tolist() for left in (3, 2, 1)]
    assert right == [[True, False], [True, False], [True, True]]
    assert made.start_is_safe


def a_random_agent_behind_the_shield_never_enters_a_hazard() -> None:
    for layout in ("original", "bridges"):
        environment = SafeGridVector(64, layout=layout)
        made = ModelShield.of(environment, unsafe=environment.hazard)
        entries, steps = entries_of_random_agent(environment, made, 400)
        assert steps == 64 * 400
        assert entries == 0
        assert made.fallbacks == 0
        assert made.calls == steps


def a_budget_is_kept_against_the_worst_outcome() -> None:
    """In cell 0, the first action costs 1, the second 0 or 3; after it, the actions of cell 1 cost 1 and 2."""
    transition, cost = np.zeros((4, 2, 4)), np.zeros((1, 4, 2, 4))
    transition[0, 0, 1] = transition[1, :, 3] = transition[2, :, 3] = transition[3, :, 3] = 1.0
    transition[0, 1, [1, 2]] = 0.9, 0.1
    cost[0, 0, 0, 1], cost[0, 0, 1, 2], cost[0, 1, :, 3] = 1.0, 3.0, [1.0, 2.0]
    model = TabularModel(
        transition, np.zeros((4, 2)), cost, np.arange(4) == 3, horizon=3, observes_time=True, observation=np.arange(4)
    )
    made = BudgetShield(model, index, 2.5)
    assert made.least_budget == 2.0
    assert made(timed(np.array([0]), 3, 3), {"cost": np.zeros(1)}).tolist() == [[True, False]]
    assert made(timed(np.array([1]), 2, 3), {"cost": np.ones(1)}).tolist() == [[True, False]]
    assert made(timed(np.array([0]), 3, 3), {"cost": np.ones(1)}).tolist() == [[True, False]], "a new episode"
    assert made(timed(np.array([1]), 2, 3), {"cost": np.zeros(1)}).tolist() == [[True, True]]
    assert made.fallbacks == 0


def entries_of_random_agent(environment: SafeGridVector, made: Callable, steps: int) -> tuple[int, int]:
    """Hazard cells entered and steps made, from the costs of all steps, those that end an episode included."""
    rng = np.random.default_rng(0)
    observation, info = environment.reset(seed=0)
    entries = taken = 0
    for _ in range(steps):
        mask = made(observation, info)
        assert mask.dtype == bool
        assert mask.any(axis=1).all()
        action = (rng.random(mask.shape) * mask).argmax(axis=1)
        observation, _, terminated, truncated, info = environment.step(action)
        cost = step_cost(info, terminated | truncated)
        entries += int((cost >= environment.layout.hazard_cost).sum())
        taken += len(cost)
    return entries, taken


def step_cost(info: dict, ended: np.ndarray) -> np.ndarray:
    return np.where(ended, info["final_info"]["cost"], info["cost"]) if ended.any() else info["cost"]


PROPERTIES = [
    the_safe_set_is_that_of_the_best_policy,
    what_is_allowed_never_violates_from_a_safe_state,
    what_is_forbidden_in_a_safe_state_risks_a_violation,
    without_a_safe_action_the_least_violation_is_taken,
    the_mask_of_an_observation_is_that_of_the_time_it_shows,
    a_random_agent_behind_the_shield_never_enters_a_hazard,
    a_budget_is_kept_against_the_worst_outcome,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds()


# Faults


def looks_one_step_ahead(patch):
    """As the original's ``get_safe_actions``: what cannot be undone later is not seen."""
    patch.setattr(shield, "safe_sets", lambda model, violation, horizon=None, **_: np.ones(
        model.num_states if horizon is None else (horizon + 1, model.num_states), bool))  # fmt: skip


def one_safe_successor_is_enough(patch):
    def probability(model, violation, safe):
        return 1.0 - (model.transition * ~(violation | ~safe) > 0).any(axis=2) * 1.0

    patch.setattr(shield, "leaving_probability", probability)


def every_action_must_be_safe(patch):
    """The set that is safe whatever is done, instead of the one that can be kept safe."""
    healthy = shield.leaving_probability

    def probability(model, violation, safe):
        return np.broadcast_to(healthy(model, violation, safe).max(axis=1, keepdims=True), model.transition.shape[:2])

    patch.setattr(shield, "leaving_probability", probability)


def an_ended_episode_counts_as_unsafe(patch):
    healthy = shield.safe_sets
    patch.setattr(shield, "safe_sets", lambda model, *a, **k: healthy(model, *a, **k) & ~model.terminal)


def steps_taken_for_steps_left(patch):
    healthy = shield._rows

    def rows(model, state_index, observation, horizon):
        found = healthy(model, state_index, observation, horizon)
        return found if horizon is None else (horizon - found[0], found[1])

    patch.setattr(shield, "_rows", rows)


def the_fallback_allows_everything(patch):
    """As the original's ``get_safe_actions`` where no action is safe."""
    patch.setattr(shield, "violation_probability", lambda model, violation, horizon=None: np.zeros(
        violation.shape[:2] if horizon is None else (horizon + 1, *violation.shape[:2])))  # fmt: skip


def the_fallback_takes_the_likeliest_violation(patch):
    healthy = shield.violation_probability
    patch.setattr(shield, "violation_probability", lambda *a, **k: -healthy(*a, **k))


def the_mask_is_inverted(patch):
    healthy = shield.shield_tables

    def tables(*arguments, **keywords):
        found = healthy(*arguments, **keywords)
        mask = np.where(found.mask.all(axis=-1, keepdims=True), True, ~found.mask)
        return shield.ShieldTables(found.safe, mask, found.falls_back, found.violation)

    patch.setattr(shield, "shield_tables", tables)


def the_budget_is_planned_for_the_mean_outcome(patch):
    def mean(model, horizon, constraint=0):
        q, steps = np.zeros((model.num_states, model.num_actions)), []
        for _ in range(horizon + 1):
            steps.append(q)
            q = model.expected_cost[constraint] + model.transition @ q.min(axis=1)
        return np.stack(steps)

    patch.setattr(shield, "worst_case_cost", mean)


def the_budget_looks_at_the_next_step_only(patch):
    healthy = shield.worst_case_cost
    patch.setattr(shield, "worst_case_cost", lambda model, horizon, constraint=0: np.broadcast_to(
        healthy(model, 1, constraint)[-1], (horizon + 1, model.num_states, model.num_actions)))  # fmt: skip


def what_was_spent_is_never_forgotten(patch):
    healthy = BudgetShield.__call__

    def call(self, observation, info):
        before = 0.0 if self.spent is None else self.spent
        mask = healthy(self, observation, info)
        self.spent = np.maximum(self.spent, before + np.asarray(info["cost"]))
        return mask

    patch.setattr(BudgetShield, "__call__", call)


FAULTS = [
    (the_budget_is_planned_for_the_mean_outcome, a_budget_is_kept_against_the_worst_outcome),
    (the_budget_looks_at_the_next_step_only, a_budget_is_kept_against_the_worst_outcome),
    (what_was_spent_is_never_forgotten, a_budget_is_kept_against_the_worst_outcome),
    (looks_one_step_ahead, the_safe_set_is_that_of_the_best_policy),
    (looks_one_step_ahead, what_is_allowed_never_violates_from_a_safe_state),
    (looks_one_step_ahead, the_mask_of_an_observation_is_that_of_the_time_it_shows),
    (one_safe_successor_is_enough, what_is_allowed_never_violates_from_a_safe_state),
    (every_action_must_be_safe, what_is_forbidden_in_a_safe_state_risks_a_violation),
    (an_ended_episode_counts_as_unsafe, what_is_forbidden_in_a_safe_state_risks_a_violation),
    (steps_taken_for_steps_left, the_mask_of_an_observation_is_that_of_the_time_it_shows),
    (the_fallback_allows_everything, without_a_safe_action_the_least_violation_is_taken),
    (the_fallback_takes_the_likeliest_violation, without_a_safe_action_the_least_violation_is_taken),
    (the_mask_is_inverted, a_random_agent_behind_the_shield_never_enters_a_hazard),
]


@pytest.mark.parametrize("plant, holds", FAULTS, ids=lambda function: function.__name__)
def test_planted_fault_is_caught(plant, holds, monkeypatch):
    holds()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        holds()


# More about the model shield


@given(seed=SEEDS)
def test_more_steps_left_leave_fewer_safe_states_until_the_set_for_ever_is_reached(seed):
    model, unsafe = random_problem(seed)
    violation = shield.violating_transitions(model, unsafe=unsafe)
    rounds, final = shield.safe_sets(model, violation, 12), shield.safe_sets(model, violation)
    assert rounds[0].all()
    assert (rounds[:-1] >= rounds[1:]).all()
    np.testing.assert_array_equal(rounds[-1], final)


@given(seed=SEEDS, tolerance=st.sampled_from([0.02, 0.1, 0.3]))
def test_a_tolerance_a_step_adds_up_to_no_more_than_its_compound(seed, tolerance):
    model, unsafe = random_problem(seed)
    made = ModelShield(model, index, unsafe=unsafe, tolerance=tolerance)
    for horizon in (1, 3, 8):
        worst = worst_chance(model, made.violation, made.tables.mask, horizon)
        assert worst[made.tables.safe].max(initial=0.0) <= 1 - (1 - tolerance) ** horizon + 1e-9
    strict = ModelShield(model, index, unsafe=unsafe)
    assert (made.tables.safe >= strict.tables.safe).all()


@given(seed=SEEDS)
def test_the_threshold_on_cost_and_the_unsafe_states_say_the_same(seed):
    model, unsafe = random_problem(seed)
    cost = np.broadcast_to(np.where(unsafe, 1.0, 0.1), (1, *model.transition.shape))
    priced = TabularModel(
        model.transition, model.reward, cost, model.terminal, model.initial, action_mask=model.action_mask
    )
    by_state = ModelShield(model, index, unsafe=unsafe)
    by_cost = ModelShield(priced, index, cost_threshold=0.5)
    np.testing.assert_array_equal(by_state.tables.mask, by_cost.tables.mask)


@given(seed=SEEDS)
def test_every_row_allows_something_and_nothing_that_the_model_forbids(seed):
    for fallback in ("least_violation", "recovery", "safe_policy"):
        model, unsafe = random_problem(seed, masked=True, horizon=5, observes_time=True)
        uniform = model.action_mask / model.action_mask.sum(axis=1, keepdims=True)
        made = ModelShield(model, index, unsafe=unsafe, fallback=fallback, safe_policy=uniform)
        assert made.tables.mask.any(axis=-1).all()
        assert not (made.tables.mask & ~model.action_mask)[:, ~model.terminal].any()


def trap() -> TabularModel:
    """Cell 0 is safe; from the hazards 1 and 2 action 0 leads back, at once or by way of 2; cell 3 has no way back."""
    back, on = [0, 2, 0, 3], [1, 3, 3, 3]
    return TabularModel(np.stack([np.eye(4)[back], np.eye(4)[on]], axis=1), np.zeros((4, 2)), initial=np.eye(4)[0])


def test_recovery_takes_the_cheapest_way_back():
    model, unsafe = trap(), np.array([False, True, True, True])
    violation = shield.violating_transitions(model, unsafe=unsafe)
    safe = shield.safe_sets(model, violation)
    assert safe.tolist() == [True, False, True, False]  # in cell 2 a violation has happened; none need follow
    cost = shield.recovery_cost(model, violation, safe, step_cost=0.01, discount=0.99)
    assert cost[1, 0] == pytest.approx(1.01)
    assert cost[3, 0] == pytest.approx(1.01 / 0.01)
    recovery = ModelShield(model, index, unsafe=unsafe, fallback="recovery").tables
    assert recovery.mask[1].tolist() == [True, False]
    least = ModelShield(model, index, unsafe=unsafe).tables
    assert least.mask[1].tolist() == [True, True]  # a violation is certain either way: its probability says no more
    assert recovery.mask[2].tolist() == [True, False]
    assert recovery.falls_back.tolist() == [False, True, False, True]


@given(seed=SEEDS)
def test_trust_in_a_safe_policy_allows_only_what_it_can_still_save(seed):
    model, unsafe = random_problem(seed, masked=False)
    choice = policies(model)[seed % len(policies(model))]
    policy = np.eye(model.num_actions)[choice]
    made = ModelShield(model, index, unsafe=unsafe, safe_policy=policy, trust="safe_policy", fallback="safe_policy")
    safe = made.tables.safe
    np.testing.assert_array_equal(safe, chance_of_violation(model, made.violation, choice) < 1e-9)
    assert made.tables.mask[safe, choice[safe]].all(), "the safe policy itself is allowed"
    assert worst_chance(model, made.violation, made.tables.mask, 100)[safe].max(initial=0.0) == 0.0
    assert (ModelShield(model, index, unsafe=unsafe).tables.safe >= safe).all()
    stuck = made.tables.falls_back
    np.testing.assert_array_equal(made.tables.mask[stuck], policy[stuck] > 0)


@pytest.mark.learning
def test_training_behind_the_shield_enters_no_hazard():
    """Every step of PPO's training is counted, with the shield and without."""
    environment = SafeGridVector(1)
    entries = {}
    for name, made in (
        ("shield", ModelShield.of(environment, unsafe=environment.hazard)),
        ("none", lambda observation, info: np.ones((len(observation), 4), bool)),
    ):
        counted = []

        def counting(observation, info, made=made, counted=counted):
            cost = np.asarray(info["cost"])
            if "_final_obs" in info:
                cost = np.where(info["_final_obs"], info["final_info"]["cost"], cost)
            counted.append(int((cost >= 1).sum()))
            return made(observation, info)

        agent = PPO(environment.single_observation_space, environment.single_action_space, seed=0)
        train_on_policy(agent, "CA14/SafeGrid-v0", 25_000, shield=counting, progress=False)
        assert len(counted) * 128 >= 25_000
        entries[name] = sum(counted)
    assert entries["shield"] == 0
    assert entries["none"] > 1_000


@given(seed=SEEDS)
def test_behind_the_shield_any_policy_has_its_own_ratios_and_no_violations(seed):
    rng = np.random.default_rng(seed)
    model, unsafe = random_problem(seed, masked=False, horizon=5, observes_time=True)
    made = ModelShield(model, index, unsafe=unsafe)
    policy = rng.dirichlet(np.ones(model.num_actions), size=model.num_states)
    policy[0] = np.eye(model.num_actions)[0]
    table = made.shielded(policy)
    assert table.shape == (5, *policy.shape)
    np.testing.assert_allclose(table.sum(axis=-1), 1.0)
    violated = shield.violating_transitions(model, unsafe=unsafe)
    priced = TabularModel(
        model.transition, (model.transition * violated).sum(axis=2), terminal=model.terminal, horizon=5,
        initial=model.initial,
    )  # fmt: skip
    number = policy_evaluation(priced, table).value[0]  # the expected number of violations
    assert number[made.tables.safe[5]].max(initial=0.0) == 0.0
    for left in (1, 5):
        mask = made.tables.mask[left]
        for state in range(1, model.num_states):
            allowed = np.flatnonzero(mask[state])
            ratio = table[5 - left, state, allowed] / policy[state, allowed]
            np.testing.assert_allclose(ratio, ratio[0])
            assert table[5 - left, state].sum() == pytest.approx(table[5 - left, state, allowed].sum())


def test_a_slippery_shore_has_no_safe_start_and_the_shield_says_so():
    environment = SafeGridVector(32, layout="shore")
    made = ModelShield.of(environment, unsafe=environment.hazard)
    assert not made.start_is_safe
    entries, steps = entries_of_random_agent(environment, made, 200)
    free, _ = entries_of_random_agent(environment, lambda observation, info: np.ones((len(observation), 4), bool), 200)
    assert 0 < made.fallbacks < made.calls == steps
    assert 0 < entries < 0.1 * free


# The budget


@pytest.mark.parametrize("layout, budget", [("original", 0.6), ("bridges", 0.0), ("bridges", 1.0)])
def test_no_episode_costs_more_than_the_budget(layout, budget):
    environment = SafeGridVector(32, layout=layout)
    made = BudgetShield.of(environment, budget)
    assert made.least_budget <= budget
    totals, running = [], np.zeros(32)
    rng = np.random.default_rng(1)
    observation, info = environment.reset(seed=1)
    for _ in range(160):
        mask = made(observation, info)
        action = (rng.random(mask.shape) * mask).argmax(axis=1)
        observation, _, terminated, truncated, info = environment.step(action)
        running += step_cost(info, terminated | truncated)
        totals += running[terminated | truncated].tolist()
        running[terminated | truncated] = 0.0
    assert made.fallbacks == 0
    assert len(totals) > 64
    assert max(totals) <= budget + 1e-9
    if layout == "bridges" and budget:
        assert max(totals) == budget, "the budget is there to be used"


def test_the_budget_test_notices_a_budget_that_is_never_spent(monkeypatch):
    healthy = BudgetShield.__call__
    unspent = {"cost": np.zeros(32)}
    monkeypatch.setattr(BudgetShield, "__call__", lambda self, observation, info: healthy(self, observation, unspent))
    with pytest.raises(AssertionError):
        test_no_episode_costs_more_than_the_budget("bridges", 1.0)


def test_an_impossible_budget_falls_back_to_the_least_cost():
    environment = SafeGridVector(4)
    made = BudgetShield.of(environment, 0.0)
    assert made.least_budget == pytest.approx(0.1)
    observation, info = environment.reset(seed=0)
    mask = made(observation, info)
    assert made.fallbacks == 4
    assert made.worst_case[-1][0][mask[0]] == pytest.approx(0.1)
    assert mask.any(axis=1).all()


# Bad input


def test_bad_input_is_refused():
    model, unsafe = random_problem(0, masked=False)
    for arguments, message in (
        ({}, "neither"),
        ({"unsafe": unsafe, "cost_threshold": 0.1}, "both"),
        ({"unsafe": unsafe.astype(float)}, "booleans"),
        ({"unsafe": unsafe[:2]}, "booleans"),
        ({"cost_threshold": 0.5}, "constraint"),
        ({"unsafe": unsafe, "tolerance": 1.0}, "tolerance"),
        ({"unsafe": unsafe, "fallback": "stop"}, "fallback"),
        ({"unsafe": unsafe, "trust": "me"}, "trust"),
        ({"unsafe": unsafe, "fallback": "safe_policy"}, "safe_policy"),
        ({"unsafe": unsafe, "safe_policy": np.ones((4, 9))}, "safe_policy"),
    ):
        with pytest.raises(ValueError, match=message):
            ModelShield(model, index, **arguments)
    made = ModelShield(model, lambda observation: np.full(len(observation), 7), unsafe=unsafe)
    with pytest.raises(ValueError, match="state_index"):
        made(np.zeros(3))
    with pytest.raises(ValueError, match="observes"):
        BudgetShield(model, index, 1.0)
    environment = SafeGridVector(2)
    for arguments, message in (((-1.0,), "budget"), ((float("nan"),), "budget"), ((1.0, 3), "constraint")):
        with pytest.raises(ValueError, match=message):
            BudgetShield.of(environment, arguments[0], constraint=(*arguments, 0)[1])
    made = BudgetShield.of(environment, 1.0)
    observation, info = environment.reset(seed=0)
    with pytest.raises(ValueError, match="cost"):
        made(observation, {})
    made(observation, info)
    observation, *_, info = environment.step(np.array([0, 0]))
    with pytest.raises(ValueError, match="start of their episodes"):
        made(observation[:1], {"cost": info["cost"][:1]})


def test_what_follows_the_time_in_an_observation_is_not_taken_for_it():
    """SafeCliff shows its remaining budget after the time; the mask is that without it."""
    plain = SafeCliffVector(4, wind=0.0)
    expected = ModelShield.of(plain, cost_threshold=0.5)(plain.reset(seed=0)[0])
    for budget in (0.0, 3.0, 9.0):
        environment = SafeCliffVector(4, wind=0.0, observe_budget=budget)
        seen = environment.reset(seed=0)[0]
        assert (ModelShield.of(environment, cost_threshold=0.5)(seen) == expected).all()
    with pytest.raises(ValueError, match="share of the horizon left at 2, got 2 numbers"):
        ModelShield.of(plain, cost_threshold=0.5)(plain.reset(seed=0)[0][:, :2])


def test_a_mask_that_allows_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one action in every row"):
        shield.masked_policy(np.full((2, 3), 1 / 3), np.array([[True, False, False], [False, False, False]]))
