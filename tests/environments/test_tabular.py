"""Drawing from many distributions at once, finding a state by its observation, and simulating any finite model."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularEnvironment, TabularModel, uniform_policy
from ca14lib.environments.tabular import CategoricalRows, row_index


class Quantiles:
    """Stands in for a generator: the mid-points of equal parts of [0, 1) in place of random numbers."""

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return (np.arange(shape[0]) + 0.5) / shape[0]


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value)


def distributions(seed: int, rows: int, outcomes: int, zeros: float) -> np.ndarray:
    """Random rows with many exact zeros, at either end too, and at least one entry above."""
    rng = np.random.default_rng(seed)
    weight = rng.exponential(size=(rows, outcomes)) * (rng.random((rows, outcomes)) >= zeros)
    weight[np.arange(rows), rng.integers(outcomes, size=rows)] += 0.1
    return weight / weight.sum(axis=1, keepdims=True)


@given(
    seed=st.integers(0, 10**6), rows=st.integers(1, 6), outcomes=st.integers(1, 7), zeros=st.sampled_from([0, 0.5, 0.9])
)
def test_draws_have_exactly_the_rows_probabilities(seed, rows, outcomes, zeros):
    probability, draws = distributions(seed, rows, outcomes, zeros), 1_000
    sampler = CategoricalRows(probability)
    for row in range(rows):
        drawn = sampler.draw(np.full(draws, row), Quantiles())
        share = np.bincount(drawn, minlength=outcomes) / draws
        assert abs(share - probability[row]).max() <= 1.001 / draws
        assert (probability[row][drawn] > 0).all()


@given(seed=st.integers(0, 10**6), zeros=st.sampled_from([0.3, 0.8]))
def test_outcomes_of_probability_zero_are_never_drawn(seed, zeros):
    probability = distributions(seed, 30, 5, zeros)
    row = np.arange(30)
    for value in (0.0, 5e-324, 0.5, 1 - 1e-12):
        drawn = CategoricalRows(probability).draw(row, Constant(value))
        assert (probability[row, drawn] > 0).all()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_the_largest_random_number_stays_in_its_own_row(row):
    """1 − 2⁻⁵³ can come out of ``Generator.random``; added to the number of a row it is rounded up."""
    probability = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    (drawn,) = CategoricalRows(probability).draw(np.array([row]), Constant(1 - 2**-53))
    assert probability[row, drawn] > 0


def test_rounding_of_a_rows_sum_does_not_leak_into_the_next():
    probability = np.array([[0.5, 0.5 - 1e-9, 0.0], [0.0, 0.5 - 1e-9, 0.5], [1.0, 0.0, 0.0]])
    drawn = CategoricalRows(probability).draw(np.array([0, 1, 2]), Constant(1 - 1e-10))
    assert drawn.tolist() == [1, 2, 0]


def test_row_index_finds_every_row_of_a_table_of_vectors():
    table = np.array([[0, 0], [0, 1], [2, 5]], dtype=np.float32)
    np.testing.assert_array_equal(row_index(table, table[[2, 0, 0, 1]]), [2, 0, 0, 1])


def test_row_index_finds_every_row_of_a_table_of_numbers():
    np.testing.assert_array_equal(row_index(np.array([10, 20, 30]), np.array([30, 10, 10])), [2, 0, 0])


def test_row_index_gives_the_first_of_equal_rows():
    assert row_index(np.array([[1], [0], [1], [0]]), np.array([[0], [1]])).tolist() == [1, 0]


@given(hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 9)))
def test_row_index_inverts_indexing(index):
    table = np.random.default_rng(0).permutation(10)[:, None] * np.array([1.0, -2.0])
    np.testing.assert_array_equal(row_index(table, table[index]), index)


def test_row_index_names_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"observation \[7\] belongs to no state"):
        row_index(np.arange(3), np.array([1, 7]))


def test_whole_numbers_are_not_taken_for_the_fractions_above_them():
    with pytest.raises(ValueError, match="belongs to no state"):
        row_index(np.array([[0.5], [1.0]]), np.array([[0]]))


def test_row_index_refuses_observations_of_another_width():
    """Two observations of two numbers each are not four observations of one number."""
    with pytest.raises(ValueError, match="shape"):
        row_index(np.arange(3), np.array([[0, 1], [1, 2]]))


def test_observations_that_float32_cannot_hold_are_still_found_in_the_data():
    """The environment shows float32; the model may hold 0.1 in double precision."""
    model = TabularModel(
        transition=[[[0, 1.0]], [[0, 1.0]]], reward=[[1.0], [0]], terminal=[False, True], observation=[[0.1], [0.2]]
    )
    environment = TabularEnvironment(model, 3)
    observation, _ = environment.reset(seed=0)
    assert environment.state_index(observation).tolist() == [0, 0, 0]
    _, reward, terminated, truncated, info = environment.step(np.zeros(3, dtype=int))
    data = OfflineDataset(
        observation,
        np.zeros(3, dtype=int),
        reward,
        info["final_obs"],
        terminated,
        truncated,
        observation_space=environment.single_observation_space,
        action_space=environment.single_action_space,
    )
    assert data.visit_counts(model).tolist() == [[3], [0]]


def test_integer_observations_live_in_a_discrete_space_and_vectors_in_a_box():
    chain = {"transition": np.eye(2)[[[1], [1]]], "reward": np.zeros((2, 1))}
    numbers = TabularEnvironment(TabularModel(**chain))
    assert numbers.single_observation_space == gym.spaces.Discrete(2)
    vectors = TabularEnvironment(TabularModel(**chain, observation=[[0.0, 3.0], [1.0, 3.0]]))
    space = vectors.single_observation_space
    assert (space.low.tolist(), space.dtype) == ([0, 3], np.float32)
    assert (space.high > space.low).all()
    observation, _ = vectors.reset(seed=0)
    assert observation.dtype == np.float32
    assert observation[0] in space


def test_uniform_policy_shares_equally_among_allowed_actions():
    model = TabularModel(
        transition=np.full((2, 3, 2), 0.5),
        reward=np.zeros((2, 3)),
        action_mask=[[True, False, True], [False, True, False]],
    )
    assert uniform_policy(model).tolist() == [[0.5, 0, 0.5], [0, 1, 0]]


# Horizons


def random_model(seed: int, *, horizon: int | None, observes_time: bool, vectors: bool, costs: int = 1) -> TabularModel:
    rng = np.random.default_rng(seed)
    return TabularModel(
        transition=rng.dirichlet(np.full(5, 0.5), size=(5, 2)),
        reward=rng.normal(size=(5, 2, 5)),
        cost=rng.random((costs, 5, 2, 5)),
        terminal=[False] * 4 + [True],
        observation=[[0.5 * s, s % 2] for s in range(5)] if vectors else np.arange(5),
        horizon=horizon,
        observes_time=observes_time,
    )


def assert_horizon_is_simulated(environment: TabularEnvironment, steps: int = 60) -> None:
    """Ends in a terminal state or at the horizon, called a termination; the time left is shown if the model says so."""
    model, rng = environment.model, np.random.default_rng(1)
    elapsed = np.zeros(environment.num_envs, dtype=int)
    table = np.asarray(model.observation, dtype=np.float32).reshape(5, -1)

    def states_shown(observation: np.ndarray) -> np.ndarray:
        assert observation.dtype == np.float32 or not model.observes_time
        observation = observation.reshape(len(observation), -1)
        if model.observes_time:
            left = (model.horizon - elapsed) / model.horizon
            np.testing.assert_array_equal(observation[:, -1], left.astype(np.float32))
            np.testing.assert_array_equal(environment.state_index(observation), environment._state)
            observation = observation[:, :-1]
        return (observation[:, None] == table).all(axis=2).argmax(axis=1)

    observation, info = environment.reset(seed=0)
    assert (info["cost"] == 0).all()
    assert all(row in environment.single_observation_space for row in observation)
    state, endings = states_shown(observation), 0
    for _ in range(steps):
        action = rng.integers(2, size=environment.num_envs)
        observation, reward, terminated, truncated, info = environment.step(action)
        elapsed += 1
        last, last_info = (info["final_obs"], info["final_info"]) if terminated.any() else (observation, info)
        shown = last.reshape(len(last), -1)[:, : table.shape[1]]
        following = (shown[:, None] == table).all(axis=2).argmax(axis=1)
        if model.observes_time:
            left = (model.horizon - elapsed) / model.horizon
            np.testing.assert_array_equal(last[:, -1], left.astype(np.float32))
        assert not truncated.any()
        np.testing.assert_array_equal(terminated, model.terminal[following] | (elapsed == model.horizon))
        np.testing.assert_array_equal(reward, model.reward[state, action, following])
        np.testing.assert_array_equal(
            last_info["cost"].reshape(len(last), -1), model.cost[:, state, action, following].T
        )
        endings += (terminated & ~model.terminal[following]).sum()
        elapsed[terminated] = 0
        state = states_shown(observation)
    assert model.horizon is None or endings > 0


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize(("horizon", "observes_time"), [(4, True), (1, True), (4, False), (None, False)])
def test_horizon_is_simulated_and_the_time_is_seen_where_the_model_says_so(horizon, observes_time, vectors):
    model = random_model(3, horizon=horizon, observes_time=observes_time, vectors=vectors)
    environment = TabularEnvironment(model, 12)
    assert (environment.horizon, environment.spawn(3).horizon) == (horizon, horizon)
    assert_horizon_is_simulated(environment)


class EndsLate(TabularEnvironment):
    def advance(self, action):
        self.horizon += 1
        result = super().advance(action)
        self.horizon -= 1
        return result


class ShowsTheTimePassed(TabularEnvironment):
    def _remaining(self):
        return 1 - super()._remaining()


class ForgetsToRestartTheClock(TabularEnvironment):
    def _remaining(self):
        self._shown = np.minimum(getattr(self, "_shown", 1.0), super()._remaining())
        return self._shown


class ShowsNoTime(TabularEnvironment):
    def _remaining(self):
        return np.ones(self.num_envs, np.float32)


@pytest.mark.parametrize("faulty", [EndsLate, ShowsTheTimePassed, ForgetsToRestartTheClock, ShowsNoTime])
def test_check_of_the_horizon_notices_the_fault(faulty):
    model = random_model(3, horizon=4, observes_time=True, vectors=True)
    with pytest.raises(AssertionError):
        assert_horizon_is_simulated(faulty(model, 12))


@pytest.mark.parametrize(("costs", "shape"), [(1, (6,)), (3, (6, 3))])
def test_a_single_cost_has_no_axis_of_its_own(costs, shape):
    environment = TabularEnvironment(random_model(0, horizon=None, observes_time=False, vectors=False, costs=costs), 6)
    assert environment.reset(seed=0)[1]["cost"].shape == shape
    assert environment.step(np.zeros(6, dtype=int))[-1]["cost"].shape == shape
