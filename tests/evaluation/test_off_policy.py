"""Off-policy evaluation against enumeration, pencil and paper, and exact solvers; and faults that these must notice."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from ca14lib.agents.offline.bc import DiscreteBC
from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel, behaviour_policy, tabular_model
from ca14lib.evaluation import (
    Estimate,
    FittedQConfig,
    doubly_robust,
    fitted_q_evaluation,
    importance_sampling,
    logs,
    off_policy,
    resampling,
    tabular_fqe,
)
from ca14lib.solvers import policy_evaluation, policy_return
from ca14lib.training import collect

GRID = "CA14/GridWorld-v0"
END = 3
BEHAVIOUR = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
TARGET = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
KINDS = ("ordinary", "weighted", "per_decision", "weighted_per_decision")


@functools.cache
def chain(loops: bool) -> TabularModel:
    """Three states and an end, two actions, outcomes with probabilities in quarters; with loops it may never end."""
    transition = np.zeros((4, 2, 4))
    transition[0, 0] = [0.25, 0.5, 0, 0.25] if loops else [0, 0.5, 0.25, 0.25]
    transition[0, 1] = [0, 0.25, 0.75, 0]
    transition[1, 0] = [0.5, 0, 0.25, 0.25] if loops else [0, 0, 0.5, 0.5]
    transition[1, 1] = [0, 0, 0.75, 0.25]
    transition[2, 0] = [0, 0.25, 0, 0.75] if loops else [0, 0, 0, 1]
    transition[2, 1] = [0, 0, 0, 1]
    transition[END, :, END] = 1
    reward = np.arange(32.0).reshape(4, 2, 4) % 7 - 2
    return TabularModel(transition, reward, terminal=np.arange(4) == END, initial=[0.75, 0.25, 0, 0])


def paths(model: TabularModel, limit: int) -> Iterator[tuple[float, list[tuple]]]:
    """Every possible episode under the behaviour with its probability."""

    def onward(state: int, steps: list[tuple], probability: float) -> Iterator[tuple[float, list[tuple]]]:
        for action in range(2):
            for following in np.flatnonzero(model.transition[state, action]):
                chance = probability * BEHAVIOUR[state, action] * model.transition[state, action, following]
                ended, cut = following == END, following != END and len(steps) + 1 == limit
                step = (state, action, model.reward[state, action, following], following, ended, cut)
                if ended or cut:
                    yield chance, [*steps, (*step, np.log(BEHAVIOUR[state, action]))]
                else:
                    yield from onward(int(following), [*steps, (*step, np.log(BEHAVIOUR[state, action]))], chance)

    for first in np.flatnonzero(model.initial):
        yield from onward(int(first), [], model.initial[first])


def dataset_of(episodes: list[list[tuple]], states: int = 4, actions: int = 2) -> OfflineDataset:
    """Episodes of steps (state, action, reward, following, terminated, truncated, log-probability)."""
    columns = list(zip(*[step for episode in episodes for step in episode], strict=True))
    names = ("observation", "action", "reward", "next_observation", "terminated", "truncated", "behaviour_log_prob")
    arrays = {name: np.array(column) for name, column in zip(names, columns, strict=True)}
    if any(value is None for value in columns[-1]):
        del arrays["behaviour_log_prob"]
    return OfflineDataset(
        **arrays, observation_space=gym.spaces.Discrete(states), action_space=gym.spaces.Discrete(actions)
    )


@functools.cache
def enumerated(loops: bool, limit: int = 3) -> OfflineDataset:
    """Every possible episode as often as it is likely: an average over it is an expectation."""
    episodes = []
    for chance, steps in paths(chain(loops), limit):
        times = chance * 4 * 16**limit
        assert times == pytest.approx(round(times)), "multiplicities must be whole numbers"
        episodes.append((round(times), steps))
    shared = functools.reduce(np.gcd, [times for times, _ in episodes])
    return dataset_of([steps for times, steps in episodes for _ in range(times // shared)])


# What must hold; each is also run against the faults planted at the end of the file


def importance_sampling_is_unbiased() -> None:
    for discount in (1.0, 0.8):
        for loops in (False, True):
            truth = policy_return(chain(loops), TARGET, discount, horizon=3)
            for kind in ("ordinary", "per_decision"):
                estimate = importance_sampling(enumerated(loops), TARGET, kind, discount=discount, resamples=2)
                assert estimate.value == pytest.approx(truth, abs=1e-5)


HALF, QUARTER = np.log(0.5), np.log(0.25)
TWO_EPISODES = [
    [(0, 0, 1.0, 1, False, False, HALF), (1, 1, 2.0, END, True, False, QUARTER)],
    [(0, 1, 4.0, END, True, False, HALF)],
]
# ratios: 0.9 / 0.5 = 1.8, then 0.8 / 0.25 = 3.2; and 0.1 / 0.5 = 0.2; discount 1/2
HAND = {
    "ordinary": (1.8 * 3.2 * 2 + 0.2 * 4) / 2,
    "weighted": (1.8 * 3.2 * 2 + 0.2 * 4) / (1.8 * 3.2 + 0.2),
    "per_decision": (1.8 * 1 + 1.8 * 3.2 * 1 + 0.2 * 4) / 2,
    "weighted_per_decision": (1.8 * 1 + 0.2 * 4) / 2.0 + 1.8 * 3.2 * 1 / (1.8 * 3.2 + 0.2),
}


def importance_sampling_is_what_pencil_and_paper_say() -> None:
    data = dataset_of(TWO_EPISODES)
    for kind, value in HAND.items():
        estimate = importance_sampling(data, TARGET, kind, discount=0.5, resamples=2)
        assert estimate.value == pytest.approx(value, rel=1e-5)
    weights = np.array([1.8 * 3.2, 0.2])
    assert estimate.effective_sample_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-5)
    assert estimate.largest_weight == pytest.approx(weights.max() / weights.sum(), rel=1e-5)


def fitted_q_is_exact_with_exact_frequencies() -> None:
    for discount in (1.0, 0.8):
        for loops in (False, True):
            estimate = fitted_q_evaluation(enumerated(loops), TARGET, discount=discount, resamples=2)
            assert estimate.value == pytest.approx(policy_return(chain(loops), TARGET, discount), abs=1e-5)


def wrong_values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 2))


def doubly_robust_needs_only_the_propensities() -> None:
    for discount in (1.0, 0.8):
        estimate = doubly_robust(enumerated(False), TARGET, discount=discount, q=wrong_values(), resamples=2)
        assert estimate.value == pytest.approx(policy_return(chain(False), TARGET, discount), abs=1e-5)


def doubly_robust_needs_only_the_values() -> None:
    wrong = np.full((4, 2), 0.5) + 0.4 * np.array([1, -1])
    for discount in (1.0, 0.8):
        q = policy_evaluation(chain(True), TARGET, discount).q
        truth = policy_return(chain(True), TARGET, discount)
        estimate = doubly_robust(enumerated(True), TARGET, discount=discount, q=q, behaviour=wrong, resamples=2)
        assert estimate.value == pytest.approx(truth, abs=1e-5)


def doubly_robust_is_what_pencil_and_paper_say() -> None:
    q = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    start, middle = 0.9 * 1 + 0.1 * 2, 0.2 * 3 + 0.8 * 4
    first = [1.8 * (1 + 0.5 * middle - 1), 1.8 * 3.2 * 0.5 * (2 - 4)]
    second = 0.2 * (4 - 2)
    data = dataset_of(TWO_EPISODES)
    ordinary = doubly_robust(data, TARGET, discount=0.5, q=q, resamples=2)
    assert ordinary.value == pytest.approx(start + (sum(first) + second) / 2, rel=1e-5)
    weighted = doubly_robust(data, TARGET, "weighted", discount=0.5, q=q, resamples=2)
    assert weighted.value == pytest.approx(start + (first[0] + second) / 2 + first[1] / (1.8 * 3.2 + 0.2), rel=1e-5)


def doubly_robust_values_come_from_other_episodes() -> None:
    always = np.array([[1.0, 0.0]])
    data = dataset_of(
        [[(0, 0, 1.0, 0, True, False, HALF)], [(0, 0, 3.0, 0, True, False, QUARTER)]], states=1, actions=2
    )
    # the first is corrected from 3, the second from 1
    estimate = doubly_robust(data, always, folds=2, resamples=2)
    assert estimate.value == pytest.approx(((3 + 2 * (1 - 3)) + (1 + 4 * (3 - 1))) / 2)


def intervals_reflect_the_resamples() -> None:
    resampled = np.arange(101.0)
    assert resampling.basic_interval(60.0, resampled, 0.9) == pytest.approx((25.0, 115.0))


def a_resample_is_a_dataset_of_its_own() -> None:
    data = collect(GRID, "mixed", 40, seed=0)
    model, policy = tabular_model(GRID), behaviour_policy(GRID, "random")
    log = logs.Log.of(data)
    table = tabular_fqe.Table(log, logs.probabilities(policy, log, data, model, True), 0.9)
    counts = resampling.resampled_counts(40, 5, seed=0)
    assert (counts.sum(axis=1) == 40).all()
    for unseen_value in (None, -1.0):
        anew = [
            fitted_q_evaluation(
                data.episodes(np.repeat(np.arange(40), row.astype(int))), policy, discount=0.9, model=model,
                unseen_value=unseen_value, resamples=2,
            ).value
            for row in counts
        ]  # fmt: skip
        assert table.returns(counts, unseen_value) == pytest.approx(anew)


PROPERTIES: list[Callable[[], None]] = [
    importance_sampling_is_unbiased,
    importance_sampling_is_what_pencil_and_paper_say,
    fitted_q_is_exact_with_exact_frequencies,
    doubly_robust_needs_only_the_propensities,
    doubly_robust_needs_only_the_values,
    doubly_robust_is_what_pencil_and_paper_say,
    doubly_robust_values_come_from_other_episodes,
    intervals_reflect_the_resamples,
    a_resample_is_a_dataset_of_its_own,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda function: function.__name__.replace("_", "-"))
def test_property(holds: Callable[[], None]) -> None:
    holds()


# Importance sampling


def test_weights_of_the_behaviour_itself_are_one():
    data = enumerated(True)
    mean = data.episode_returns(0.9).mean()
    for kind in KINDS:
        estimate = importance_sampling(data, BEHAVIOUR, kind, discount=0.9, resamples=2)
        assert estimate.value == pytest.approx(mean, abs=1e-5)
        assert estimate.effective_sample_size == pytest.approx(data.num_episodes)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_the_second_moment_of_the_weights_grows_like_a_power_of_the_horizon(horizon):
    behaviour, policy = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    actions = np.array(np.meshgrid(*[[0, 1]] * horizon)).reshape(horizon, -1).T
    ratio = (policy / behaviour)[actions].reshape(-1)
    episode, step = np.divmod(np.arange(ratio.size), horizon)
    weight = resampling.episode_ratios(ratio, episode, step)[:, -1]
    assert weight.mean() == pytest.approx(1)  # all action sequences are equally likely
    assert (weight**2).mean() == pytest.approx((policy**2 / behaviour).sum() ** horizon)


def test_counted_propensities_replace_missing_ones():
    recorded = enumerated(False)
    bare = dataset_of([[(0, 0, 1.0, END, True, False, None)]] * 3 + [[(0, 1, 0.0, END, True, False, None)]])
    policy = np.tile([0.5, 0.5], (4, 1))
    estimate = importance_sampling(bare, policy, resamples=2)
    assert estimate.propensities == "estimated"
    assert estimate.value == pytest.approx(3 / 4 * (0.5 / 0.75) * 1.0)
    assert importance_sampling(recorded, policy, resamples=2).propensities == "recorded"
    assert importance_sampling(recorded, policy, behaviour=BEHAVIOUR, resamples=2).propensities == "given"


def test_nothing_is_added_after_a_truncation():
    loop = [(0, 0, 1.0, 0, False, False, 0.0)] * 2 + [(0, 0, 1.0, 0, False, True, 0.0)]
    data = dataset_of([loop, loop], states=1, actions=1)
    for kind in KINDS:
        assert importance_sampling(data, np.ones((1, 1)), kind, discount=0.5, resamples=2).value == 1.75
    assert fitted_q_evaluation(data, np.ones((1, 1)), discount=0.5, resamples=2).value == pytest.approx(2)
    assert doubly_robust(data, np.ones((1, 1)), discount=0.5, folds=2, resamples=2).value == pytest.approx(2)


# Fitted Q evaluation

UNTRIED = [  # action 1 of state 0 and everything in state 2 were never tried
    [(0, 0, 1.0, 1, False, False, HALF), (1, 0, 3.0, END, True, False, HALF)],
    [(0, 0, 1.0, 2, False, True, HALF)],
]


@pytest.mark.parametrize(
    "unseen_value, value",
    [(None, 1 + 0.5 * 3 / 2), (0.0, 0.5 * (1 + 0.5 * 1.5 / 2)), (2.0, 0.5 * (1 + 0.5 * (2.5 + 2) / 2) + 1)],
)
def test_what_was_never_tried_is_worth_what_is_assumed(unseen_value, value):
    policy = np.full((4, 2), 0.5)
    data = dataset_of(UNTRIED)
    estimate = fitted_q_evaluation(data, policy, discount=0.5, unseen_value=unseen_value, resamples=2)
    assert estimate.value == pytest.approx(value)
    assert estimate.unseen_share == pytest.approx(0.5)


def test_a_policy_of_untried_actions_gets_the_value_of_the_data():
    data = dataset_of([[(0, 0, 2.0, END, True, False, HALF)]] * 2)
    other = np.tile([0.0, 1.0], (4, 1))
    assert fitted_q_evaluation(data, other, resamples=2).value == pytest.approx(2)
    assert fitted_q_evaluation(data, other, unseen_value=0.0, resamples=2).value == 0
    assert fitted_q_evaluation(data, other, resamples=2).unseen_share == 1
    with pytest.raises(ValueError, match="every recorded episode holds an action that the policy never takes"):
        importance_sampling(data, other)
    assert doubly_robust(data, other, folds=2, resamples=2).value == pytest.approx(2)


@pytest.mark.parametrize("estimator", [fitted_q_evaluation, doubly_robust])
def test_bounds_widen_the_interval_by_what_unseen_pairs_could_do(estimator):
    data = dataset_of([[(0, 0, 2.0, END, True, False, HALF)]] * 8)
    policy = np.full((4, 2), 0.5)
    plain = estimator(data, policy, resamples=5)
    wide = estimator(data, policy, value_bounds=(-1.0, 4.0), resamples=5)
    assert (plain.value, plain.low, plain.high) == pytest.approx((2, 2, 2))
    assert (wide.value, wide.low, wide.high) == pytest.approx((2, 0.5, 3))


@pytest.mark.parametrize("estimator", [fitted_q_evaluation, doubly_robust])
def test_bounds_may_be_the_range_of_what_was_tried(estimator):
    data = dataset_of([[(s, s, r, END, True, False, HALF)] for s, r in ((0, 1.0), (0, 1.0), (1, 5.0), (1, 5.0))] * 4)
    policy = np.full((4, 2), 0.5)
    plain, wide = (estimator(data, policy, value_bounds=bounds, resamples=5) for bounds in (None, "tried"))
    assert wide.value == plain.value == pytest.approx(3)
    # half of the decisions are unseen: at 1 or 5 they make 2 or 4
    assert wide.low - plain.low == pytest.approx(-1)
    assert wide.high - plain.high == pytest.approx(1)


def test_bounds_change_nothing_where_everything_was_tried():
    data = enumerated(True)
    for estimator in (fitted_q_evaluation, doubly_robust):
        plain, wide = (estimator(data, TARGET, value_bounds=b, resamples=5) for b in (None, (-100.0, 100.0)))
        assert (plain.low, plain.high) == pytest.approx((wide.low, wide.high))


def test_sparse_and_dense_solutions_agree(monkeypatch):
    data = collect(GRID, "random", 30, seed=0)
    policy, model = behaviour_policy(GRID, "mixed"), tabular_model(GRID)
    dense = fitted_q_evaluation(data, policy, model=model, resamples=50)
    monkeypatch.setattr(tabular_fqe, "DENSE_ROWS", 0)
    sparse = fitted_q_evaluation(data, policy, model=model, resamples=50)
    assert (sparse.value, sparse.low, sparse.high) == pytest.approx((dense.value, dense.low, dense.high), abs=1e-5)
    monkeypatch.setattr(tabular_fqe, "_bicgstab", lambda matrix, right, most: np.full_like(right, np.nan))
    for rows in (2_000, 0):
        monkeypatch.setattr(tabular_fqe, "FILLED_ROWS", rows)
        direct = fitted_q_evaluation(data, policy, model=model, resamples=50)
        assert (direct.low, direct.high) == pytest.approx((dense.low, dense.high))


def test_an_undiscounted_policy_that_never_ends_has_no_value(monkeypatch):
    circle = [(0, 0, -1.0, 1, False, False, HALF), (1, 0, -1.0, 0, False, True, HALF)]
    out = [(0, 1, 0.0, END, True, False, HALF)]
    data, policy = dataset_of([circle, out]), np.tile([1.0, 0.0], (4, 1))
    for rows in (100, 0):
        monkeypatch.setattr(tabular_fqe, "DENSE_ROWS", rows)
        with pytest.raises(ValueError, match="may never end"):
            fitted_q_evaluation(data, policy)
        assert fitted_q_evaluation(data, policy, discount=0.5, resamples=2).value == pytest.approx((-2 + -2) / 2)


def test_a_network_comes_close_to_the_table():
    data = enumerated(False)
    truth = policy_return(chain(False), TARGET, 0.9)
    config = FittedQConfig(hidden_sizes=(32,), updates=300, learning_rate=1e-2, target_rate=0.1, refits=2)
    estimate = fitted_q_evaluation(data, TARGET, discount=0.9, config=config)
    assert estimate.value == pytest.approx(truth, abs=0.15)
    assert estimate.low < estimate.value < estimate.high
    again = fitted_q_evaluation(data, TARGET, discount=0.9, config=config)
    assert again == estimate
    corrected = doubly_robust(data, TARGET, discount=0.9, config=config, folds=2, resamples=50)
    assert corrected.covers(truth)


def test_observations_that_never_repeat_get_a_network():
    generator = np.random.default_rng(0)
    place = generator.normal(size=(400, 2)).astype(np.float32)
    action = generator.integers(2, size=400)
    data = OfflineDataset(
        place, action, place[:, 0] * action, place + 1, np.ones(400, bool), np.zeros(400, bool),
        observation_space=gym.spaces.Box(-10, 10, (2,)), action_space=gym.spaces.Discrete(2),
    )  # fmt: skip

    def follows_sign(observation):
        return np.stack([observation[:, 0] < 0, observation[:, 0] >= 0], axis=1).astype(float)

    config = FittedQConfig(hidden_sizes=(32,), updates=500, refits=3)
    estimate = fitted_q_evaluation(data, follows_sign, discount=0.9, config=config)
    assert estimate.value == pytest.approx(np.maximum(place[:, 0], 0).mean(), abs=0.1)
    assert np.isnan(estimate.unseen_share)
    with pytest.raises(ValueError, match="no behaviour_log_prob"):
        importance_sampling(data, follows_sign)
    with pytest.raises(ValueError, match="need a table"):
        fitted_q_evaluation(data, follows_sign, unseen_value=0.0)


# Doubly robust


def test_right_values_make_every_episode_of_a_deterministic_problem_exact():
    data = collect(GRID, "random", 20, seed=0)
    model, policy = tabular_model(GRID), behaviour_policy(GRID, "mixed")
    truth = policy_evaluation(model, policy, 0.9)
    for kind in ("ordinary", "weighted"):
        estimate = doubly_robust(data, policy, kind, discount=0.9, q=truth.q, model=model, resamples=20)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((truth.expected_return,) * 3, abs=1e-4)


def test_values_of_zero_leave_per_decision_importance_sampling():
    data = enumerated(False)
    for kind, other in (("ordinary", "per_decision"), ("weighted", "weighted_per_decision")):
        corrected = doubly_robust(data, TARGET, kind, discount=0.8, q=np.zeros((4, 2)), resamples=30)
        weighted = importance_sampling(data, TARGET, other, discount=0.8, resamples=30)
        for field in ("value", "low", "high"):
            assert getattr(corrected, field) == pytest.approx(getattr(weighted, field))


# Intervals


def test_the_interval_of_a_mean_is_as_wide_as_the_normal_one():
    data = collect(GRID, "mixed", 400, seed=0)
    returns = data.episode_returns(0.99)
    estimate = importance_sampling(
        data, behaviour_policy(GRID, "mixed"), discount=0.99, model=tabular_model(GRID), resamples=4_000
    )
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * returns.std() / np.sqrt(400), rel=0.1)
    narrow = importance_sampling(
        data, behaviour_policy(GRID, "mixed"), discount=0.99, model=tabular_model(GRID), confidence=0.5
    )
    assert narrow.high - narrow.low < 0.5 * (estimate.high - estimate.low)


def test_rewards_of_zero_are_worth_zero_for_certain():
    data = dataset_of([[(*step[:2], 0.0, *step[3:]) for step in episode] for episode in TWO_EPISODES * 3])
    for estimate in (
        *(importance_sampling(data, TARGET, kind) for kind in KINDS),
        fitted_q_evaluation(data, TARGET),
        doubly_robust(data, TARGET),
        doubly_robust(data, TARGET, "weighted"),
    ):
        assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_constant_rewards_are_the_weighted_estimate():
    data = dataset_of([[(0, a, 3.0, END, True, False, HALF)] for a in (0, 1, 1, 0)])
    for kind in ("weighted", "weighted_per_decision"):
        estimate = importance_sampling(data, TARGET, kind)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3, 3, 3))


def test_resamples_without_any_weight_are_left_out_and_counted():
    policy = np.tile([1.0, 0.0], (4, 1))
    data = dataset_of([[(0, a, float(a), END, True, False, HALF)] for a in (0, 1, 1, 1)])
    estimate = importance_sampling(data, policy, "weighted", resamples=2_000)
    assert estimate.undefined_resamples == pytest.approx(0.75**4, abs=0.04)
    assert importance_sampling(data, policy, resamples=50).undefined_resamples == 0


def test_covering_allows_for_rounding_only():
    estimate = Estimate(1.0, 0.5, 2.0, "test", 10)
    assert estimate.covers(0.5)
    assert estimate.covers(2.0 + 1e-7)
    assert not estimate.covers(2.001)
    assert not replace(estimate, low=np.nan).covers(1.0)


# Policies


def test_a_policy_may_be_a_table_a_function_or_an_agent():
    data, model = collect(GRID, "mixed", 50, seed=0), tabular_model(GRID)
    agent = DiscreteBC(data.observation_space, data.action_space, normalizer=data.normalizer(), seed=0)
    for deterministic in (True, False):
        table = agent.policy_table(model, deterministic)
        # the untrained greedy policy takes no whole recorded path, so only fitted Q compares
        forms = [agent, lambda o, d=deterministic: agent.probabilities(o, deterministic=d), table]
        values = [
            fitted_q_evaluation(data, form, discount=0.9, model=model, deterministic=deterministic, resamples=2).value
            for form in forms
        ]
        assert values == pytest.approx([values[0]] * 3, abs=1e-5)


def test_a_table_over_observed_cells_needs_the_model():
    data = collect(GRID, "mixed", 5, seed=0)
    with pytest.raises(ValueError, match="needs `model`"):
        importance_sampling(data, behaviour_policy(GRID, "mixed"))


# Bad input


def continuous_actions() -> OfflineDataset:
    zeros = np.zeros((2, 1), np.float32)
    return OfflineDataset(
        zeros, zeros, np.zeros(2), zeros, np.ones(2, bool), np.zeros(2, bool),
        observation_space=gym.spaces.Box(-1, 1, (1,)), action_space=gym.spaces.Box(-1, 1, (1,)),
    )  # fmt: skip


@pytest.mark.parametrize("estimator", [importance_sampling, fitted_q_evaluation, doubly_robust])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"discount": 0.0}, "discount must be in"),
        ({"discount": 1.1}, "discount must be in"),
        ({"confidence": 1.0}, "confidence must be in"),
        ({"resamples": 0}, "resamples must be at least 1"),
        ({"policy": np.full((4, 2), 0.6)}, "sum to 1"),
        ({"policy": np.full((3, 2), 0.5)}, "must have 4 rows, got 3"),
        ({"policy": np.full((4, 3), 1 / 3)}, "shape"),
        ({"policy": np.full(4, 0.5)}, "shape"),
        ({"policy": "random"}, "table, an agent or a function, got str"),
        ({"dataset": dataset_of(TWO_EPISODES[:1])}, "at least two episodes"),
        ({"dataset": continuous_actions()}, "Discrete action space"),
    ],
)
def test_bad_input_is_named(estimator, change, message):
    arguments = {"dataset": dataset_of(TWO_EPISODES), "policy": TARGET} | change
    with pytest.raises(ValueError, match=message):
        estimator(arguments.pop("dataset"), arguments.pop("policy"), **arguments)


@pytest.mark.parametrize("estimator", [importance_sampling, doubly_robust])
def test_propensities_of_zero_are_named(estimator):
    data = dataset_of(TWO_EPISODES)
    without = BEHAVIOUR.copy()
    without[1] = [1.0, 0.0]
    with pytest.raises(ValueError, match=r"given probability of recorded action 1 at observation 1 .* is 0"):
        estimator(data, TARGET, behaviour=without)
    vanishing = dataset_of([[(*step[:-1], -1000.0) for step in episode] for episode in TWO_EPISODES])
    with pytest.raises(ValueError, match="recorded probability of recorded action 0"):
        estimator(vanishing, TARGET)
    impossible = dataset_of([[(*step[:-1], 0.5) for step in episode] for episode in TWO_EPISODES])
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        estimator(impossible, TARGET)


def test_data_without_truncation_flags_are_refused_where_they_are_made():
    columns = dict.fromkeys(("observation", "action", "next_observation"), np.zeros(2, int)) | {"reward": np.zeros(2)}
    spaces = {"observation_space": gym.spaces.Discrete(1), "action_space": gym.spaces.Discrete(1)}
    with pytest.raises(TypeError, match="truncated"):
        OfflineDataset(**columns, terminated=np.array([False, True]), **spaces)
    with pytest.raises(ValueError, match="truncated must be a vector of booleans"):
        OfflineDataset(**columns, terminated=np.array([False, True]), truncated=np.zeros(2), **spaces)
    with pytest.raises(ValueError, match="neither terminated nor truncated"):
        OfflineDataset(**columns, terminated=np.zeros(2, bool), truncated=np.zeros(2, bool), **spaces)


def test_other_bad_input_is_named():
    data = dataset_of(TWO_EPISODES)
    with pytest.raises(ValueError, match="kind must be one of ordinary"):
        importance_sampling(data, TARGET, "normal")
    with pytest.raises(ValueError, match="kind must be ordinary or weighted"):
        doubly_robust(data, TARGET, "per_decision")
    with pytest.raises(ValueError, match=r"folds must lie in 2…2"):
        doubly_robust(data, TARGET, folds=3)
    with pytest.raises(ValueError, match="q must give finite values"):
        doubly_robust(data, TARGET, q=np.full((4, 2), np.nan))
    with pytest.raises(ValueError, match="least value first"):
        fitted_q_evaluation(data, TARGET, value_bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match="refits must be at least 2"):
        FittedQConfig(refits=1)
    far = dataset_of([[(0, 0, 0.0, 0, False, False, -80.0)] * 20 + [(0, 0, 0.0, END, True, False, -80.0)]] * 2)
    with pytest.raises(ValueError, match="too far from the behaviour"):
        importance_sampling(far, TARGET)
    agent = DiscreteBC(gym.spaces.Discrete(4), gym.spaces.Discrete(3))
    with pytest.raises(ValueError, match="the agent has 3 actions, the data 2"):
        fitted_q_evaluation(data, agent)


# Planted faults

MODULES = (off_policy, logs, resampling, tabular_fqe)
Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """Wrong code for one name, wherever a module looks it up, and the properties each of which must notice it."""

    name: str
    wrong: Callable[[Callable], Callable]
    caught_by: tuple[Callable[[], None], ...]


def ends(how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Callable], Callable]:
    """The estimators read other flags of termination."""

    def wrong(of: Callable) -> Callable:
        def read(dataset: OfflineDataset) -> logs.Log:
            flags = how(dataset.transitions.terminated, dataset.transitions.truncated).numpy()
            log = of(dataset)
            return replace(log, terminated=flags)

        return read

    return wrong


def other_start(init: Callable) -> Callable:
    def wrong(self, *arguments) -> None:
        init(self, *arguments)
        visits = np.ones(len(self.log.state)) / self.log.episodes
        self._first = csr_array(
            (visits, (self.log.state, self.log.episode)), shape=(len(self.log.row), self.log.episodes)
        )

    return wrong


def steps_apart(_: Callable) -> Callable:
    def wrong(ratio: np.ndarray, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        padded = np.ones((int(episode[-1]) + 1, int(step.max()) + 1))
        padded[episode, step] = ratio
        return padded

    return wrong


def weights_end(right: Callable) -> Callable:
    def wrong(ratio: np.ndarray, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        running = np.zeros((int(episode[-1]) + 1, int(step.max()) + 1))
        running[episode, step] = 1.0
        return right(ratio, episode, step) * running

    return wrong


def percentile(_: Callable) -> Callable:
    return lambda value, resampled, c: tuple(np.quantile(resampled, [(1 - c) / 2, (1 + c) / 2]))


def no_discount(init: Callable) -> Callable:
    return lambda self, log, probability, discount: init(self, log, probability, 1.0)


def greedy(init: Callable) -> Callable:
    return lambda self, log, p, discount: init(self, log, np.eye(p.shape[1])[p.argmax(axis=1)], discount)


def all_folds(values: Callable) -> Callable:
    return lambda self, weights, *rest, **more: values(self, np.ones_like(weights), *rest, **more)


FAULTS = [
    Fault("episode_ratios", lambda right: lambda ratio, *rest: right(1 / ratio, *rest),
          (importance_sampling_is_unbiased, importance_sampling_is_what_pencil_and_paper_say,
           doubly_robust_needs_only_the_propensities, doubly_robust_is_what_pencil_and_paper_say)),
    Fault("episode_ratios", steps_apart,
          (importance_sampling_is_unbiased, doubly_robust_needs_only_the_propensities)),
    Fault("episode_ratios", lambda right: lambda *all: np.roll(right(*all), 1, axis=1),
          (importance_sampling_is_unbiased, doubly_robust_needs_only_the_propensities)),
    Fault("episode_ratios", weights_end,
          (importance_sampling_is_what_pencil_and_paper_say, doubly_robust_is_what_pencil_and_paper_say)),
    Fault("ratio_sum", lambda right: lambda numerator, denominator, weight: right(numerator, None, weight),
          (importance_sampling_is_what_pencil_and_paper_say, doubly_robust_is_what_pencil_and_paper_say)),
    Fault("basic_interval", percentile, (intervals_reflect_the_resamples,)),
    Fault("Log.of", ends(lambda terminated, truncated: terminated | truncated),
          (fitted_q_is_exact_with_exact_frequencies, doubly_robust_needs_only_the_values)),
    Fault("Log.of", ends(lambda terminated, truncated: torch.zeros_like(terminated)),
          (fitted_q_is_exact_with_exact_frequencies, doubly_robust_is_what_pencil_and_paper_say)),
    Fault("Log.padded", lambda right: lambda self, values: -right(self, values),
          (importance_sampling_is_unbiased, doubly_robust_needs_only_the_propensities)),
    Fault("Table.__init__", no_discount, (fitted_q_is_exact_with_exact_frequencies,)),
    Fault("resampled_counts", lambda right: lambda *sizes, seed: np.minimum(right(*sizes, seed), 1.0),
          (a_resample_is_a_dataset_of_its_own,)),
    Fault("Table.__init__", greedy, (fitted_q_is_exact_with_exact_frequencies,)),
    Fault("Table.__init__", other_start, (fitted_q_is_exact_with_exact_frequencies,)),
    Fault("Table.values", all_folds, (doubly_robust_values_come_from_other_episodes,)),
]  # fmt: skip


@functools.cache
def passes_on_healthy_code(holds: Callable[[], None]) -> bool:
    holds()
    return True


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_planted_fault_is_caught(number, monkeypatch):
    fault = FAULTS[number]
    assert all(passes_on_healthy_code(holds) for holds in fault.caught_by)
    owner, _, name = fault.name.rpartition(".")
    places = [module for module in MODULES if hasattr(module, owner or name)]
    if owner:
        places = [getattr(places[0], owner)]  # all of them look up the same class
    wrong = fault.wrong(getattr(places[0], name))
    for place in places:
        monkeypatch.setattr(place, name, staticmethod(wrong) if name == "of" else wrong)
    for holds in fault.caught_by:
        with pytest.raises((AssertionError, ValueError)):
            holds()


def test_every_estimator_has_three_faults_and_every_property_can_fail():
    noticed = [holds for fault in FAULTS for holds in fault.caught_by]
    for estimator in ("importance_sampling", "fitted_q", "doubly_robust"):
        faults = [f for f in FAULTS if any(holds.__name__.startswith(estimator) for holds in f.caught_by)]
        assert len(faults) >= 3
    assert set(PROPERTIES) == set(noticed)
