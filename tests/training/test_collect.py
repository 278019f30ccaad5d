"""Collected data are what the policy does in the environment, episode by episode, and nothing else."""

import time

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import DQN, DQNConfig
from ca14lib.agents.base import Agent
from ca14lib.agents.offline import DiscreteBC, DiscreteBCConfig
from ca14lib.environments import (
    GridWorld,
    GridWorldVector,
    TabularEnvironment,
    TabularModel,
    behaviour_policy,
    tabular_model,
)
from ca14lib.environments.batched import SingleEnvironment
from ca14lib.solvers import occupancy_measure, policy_return
from ca14lib.training import collect
from ca14lib.training.collect import FOREIGN_COPIES, MAX_COPIES

GRID = "CA14/GridWorld-v0"


def columns(dataset):
    names = ("observation", "action", "reward", "next_observation", "terminated", "truncated")
    return {name: getattr(dataset.transitions, name).numpy() for name in names}


def same(first, second):
    a, b = columns(first), columns(second)
    return all(np.array_equal(a[name], b[name]) for name in a)


def coin_model() -> TabularModel:
    """Half of the episodes take one step, the other half nine; both actions do the same."""
    states = 11
    transition = np.zeros((states, 2, states))
    transition[0, :, [1, 2]] = 0.5
    for state in range(2, 10):
        transition[state, :, state + 1] = 1.0
    terminal = np.isin(np.arange(states), [1, 10])
    transition[terminal] = np.eye(states)[terminal][:, None]
    reward = np.ones((states, 2))
    reward[0] = 0.0
    return TabularModel(transition, reward, terminal=terminal)


class CoinEnvironment(SingleEnvironment):
    def __init__(self):
        super().__init__(TabularEnvironment(coin_model(), 1))


@pytest.mark.parametrize("episodes", [1, 7, 300, MAX_COPIES + 1, 3 * MAX_COPIES + 17])
def test_exactly_as_many_whole_episodes_as_asked_for(episodes):
    data = collect(CoinEnvironment(), "random", episodes, seed=0)
    assert data.num_episodes == episodes
    assert set(data.episode_lengths()) <= {1, 9}


@pytest.mark.parametrize("episodes", [2_000, 5_000, 20_000])
def test_short_episodes_are_not_over_represented(episodes):
    """Half of the episodes are nine times as long: whoever keeps the first to finish sees too few of them."""
    lengths = collect(CoinEnvironment(), "random", episodes, seed=1).episode_lengths()
    assert abs((lengths == 9).mean() - 0.5) < 4 * 0.5 / np.sqrt(episodes)


@pytest.mark.parametrize("behaviour", ["expert", "mixed", "random"])
def test_returns_and_visits_agree_with_the_exact_model(behaviour):
    model, policy = tabular_model(GRID), behaviour_policy(GRID, behaviour)
    data = collect(GRID, behaviour, 4_000, seed=2)
    returns = data.episode_returns()
    margin = 4 * returns.std() / np.sqrt(len(returns)) + 1e-5
    assert abs(returns.mean() - policy_return(model, policy, horizon=50)) < margin
    visits = data.visit_counts(model) / data.num_episodes
    assert abs(visits - occupancy_measure(model, policy, horizon=50)).max() < 0.12


@pytest.mark.parametrize("behaviour", ["expert", "mixed", "random"])
def test_behaviour_log_probabilities_are_those_of_the_behaviour(behaviour):
    policy = behaviour_policy(GRID, behaviour)
    data = collect(GRID, behaviour, 200, seed=3)
    transitions = data.transitions
    cell = (transitions.observation[:, 0] * 5 + transitions.observation[:, 1]).long().numpy()
    stated = transitions.behaviour_log_prob.numpy()
    model = tabular_model(GRID)
    order = (model.observation[:, 0] * 5 + model.observation[:, 1]).astype(int)
    table = np.empty_like(policy)
    table[order] = policy
    assert np.allclose(np.exp(stated), table[cell, transitions.action.numpy()], rtol=1e-6)


def test_episodes_start_anew_and_run_to_their_end():
    data = collect(GRID, "random", 300, seed=4)
    found = columns(data)
    goal = (found["next_observation"] == 4).all(axis=1)
    assert (found["terminated"] == goal).all()
    assert not (found["terminated"] & found["truncated"]).any()
    for rows in data.episode_slices:
        assert (found["observation"][rows.start] == 0).all()
        length = rows.stop - rows.start
        assert found["truncated"][rows.stop - 1] == (length == 50 and not found["terminated"][rows.stop - 1])
        assert length <= 50


def test_the_last_observation_is_the_one_before_the_reset():
    data = collect(GRID, "expert", 5, seed=0)
    found = columns(data)
    last = [rows.stop - 1 for rows in data.episode_slices]
    assert (found["next_observation"][last] == 4).all()
    assert found["reward"][last] == pytest.approx([1.0] * 5)
    cut = columns(collect(gym.make(GRID, time_limit=3), "expert", 2, seed=0))
    assert (cut["next_observation"][[2, 5]] == [3, 0]).all()
    assert cut["truncated"].tolist() == [False, False, True] * 2


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data():
    assert same(collect(GRID, "mixed", 50, seed=5), collect(GRID, "mixed", 50, seed=5))
    assert not same(collect(GRID, "mixed", 50, seed=5), collect(GRID, "mixed", 50, seed=6))


def test_collecting_leaves_the_given_environment_and_the_global_generator_alone():
    environment = gym.make(GRID)
    environment.reset(seed=0)
    environment.step(3)
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    collect(environment, "random", 10, seed=0)
    assert environment.step(3)[0].tolist() == [2.0, 0.0]
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_parameters_of_the_environment_count():
    data = collect(gym.make(GRID, size=3, time_limit=7), "random", 200, seed=0)
    assert data.transitions.observation.max() == 2
    assert data.episode_lengths().max() == 7
    assert data.environment_id == GRID


def test_a_dataset_says_where_it_comes_from():
    data = collect(GRID, "mixed", 3, seed=8)
    assert (data.environment_id, data.policy, data.seed) == (GRID, "mixed", 8)

    def upwards(observation):
        return np.zeros(len(observation), dtype=int)

    assert collect(GRID, upwards, 3, seed=8).policy == "upwards"
    agent = DiscreteBC(data.observation_space, data.action_space, DiscreteBCConfig(hidden_sizes=(4,)))
    assert collect(GRID, agent, 3, seed=8).policy == "DiscreteBC"


def test_an_agent_acts_stochastically_and_its_data_are_those_of_its_policy_table():
    environment, model = gym.make(GRID), tabular_model(GRID)
    agent = DQN(
        environment.observation_space, environment.action_space, DQNConfig(hidden_sizes=(8,), exploration=0.6), seed=3
    )
    data = collect(environment, agent, 400, seed=0)
    visits = data.visit_counts(model)
    rows = visits.sum(axis=1) > 300
    assert rows.any()
    shares = visits[rows] / visits[rows].sum(axis=1, keepdims=True)
    table = agent.policy_table(model, deterministic=False)[rows]
    assert (abs(shares - table) < 4 * np.sqrt(0.25 / visits[rows].sum(axis=1, keepdims=True))).all()


def test_a_function_sees_batches_and_its_actions_are_taken():
    seen = []

    def diagonal(observation):
        seen.append(observation.shape)
        return np.where(observation[:, 0] > observation[:, 1], 0, 3)

    data = collect(GRID, diagonal, 20, seed=0)
    assert set(seen) == {(20, 2)}
    assert data.episode_returns() == pytest.approx([0.3] * 20)
    assert data.transitions.behaviour_log_prob is None


def test_any_gymnasium_environment_is_collected_from():
    generator = np.random.default_rng(0)
    data = collect("CartPole-v1", lambda o: generator.integers(2, size=len(o)), 12, seed=0)
    found = columns(data)
    assert (data.num_episodes, data.environment_id) == (12, "CartPole-v1")
    assert found["observation"].shape[1:] == (4,)
    assert found["reward"].tolist() == [1.0] * len(data)
    assert found["terminated"].sum() == 12
    assert not found["truncated"].any()
    assert abs(found["observation"][[rows.start for rows in data.episode_slices]]).max() <= 0.05
    assert len({tuple(row) for row in found["observation"][[rows.start for rows in data.episode_slices]]}) == 12


def test_the_steps_of_a_foreign_environment_are_its_own():
    data = collect("CartPole-v1", lambda o: (o[:, 2] > 0).astype(int), 2, seed=1)
    environment, found = gym.make("CartPole-v1"), columns(data)
    environment.reset(seed=0)
    for rows in data.episode_slices:
        environment.reset()
        environment.unwrapped.state = tuple(found["observation"][rows.start].astype(np.float64))
        for step in range(rows.start, rows.stop):
            observation, _, terminated, _, _ = environment.step(int(found["action"][step]))
            assert np.allclose(observation, found["next_observation"][step], atol=1e-4)
            assert terminated == found["terminated"][step]


def test_a_time_limit_added_by_gymnasium_truncates():
    data = collect(gym.make(GRID, max_episode_steps=4), "expert", 3, seed=0)
    assert data.episode_lengths().tolist() == [4, 4, 4]
    assert data.transitions.truncated.sum() == 3
    assert not data.transitions.terminated.any()


def test_an_end_at_the_moment_of_the_limit_is_an_end():
    data = collect(gym.make(GRID, max_episode_steps=8), "expert", 2, seed=0)
    assert data.transitions.terminated.sum() == 2
    assert not data.transitions.truncated.any()


def test_a_wrapped_environment_keeps_its_wrapper():
    scaled = gym.wrappers.TransformReward(gym.make(GRID), lambda reward: 10 * reward)
    data = collect(scaled, "expert", 2, seed=0)
    assert data.episode_returns() == pytest.approx([3.0, 3.0])
    assert np.exp(data.transitions.behaviour_log_prob.numpy()) == pytest.approx([1.0] * 16)


def test_costs_are_those_of_the_step_even_at_the_end():
    model = coin_model()
    cost = np.broadcast_to(np.arange(11.0)[:, None], (11, 2))[None].copy()
    costly = TabularModel(model.transition, model.reward, cost=cost, terminal=model.terminal)

    class Costly(SingleEnvironment):
        def __init__(self):
            super().__init__(TabularEnvironment(costly, 1))

    transitions = collect(Costly(), "random", 100, seed=0).transitions
    assert transitions.cost.shape == (len(transitions), 1)
    assert (transitions.cost[:, 0] == transitions.observation).all()
    wrapped = collect(gym.wrappers.TransformReward(Costly(), lambda r: r), "random", 20, seed=0).transitions
    assert (wrapped.cost[:, 0] == wrapped.observation).all()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (("CA14/Nowhere-v0", "random", 1, 0), "CA14/Nowhere-v0.*CA14/GridWorld-v0"),
        ((GRID, "genius", 1, 0), "genius.*expert, mixed, random"),
        (("CartPole-v1", "expert", 1, 0), "expert.*offers random"),
        ((GRID, "random", 0, 0), "episodes.*0"),
        ((GRID, "random", -3, 0), "episodes.*-3"),
        ((GRID, 3, 1, 0), "policy.*int"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        collect(*arguments)


@pytest.mark.parametrize("environment", [GRID, "CartPole-v1"])
@pytest.mark.parametrize(
    "action", [np.array(1), np.array([[1]]), np.array([1, 0, 1]), np.array([7])], ids=["scalar", "column", "three", "7"]
)
def test_actions_of_the_wrong_shape_or_range_are_refused(environment, action):
    with pytest.raises(ValueError, match="action"):
        collect(environment, lambda observation: action, 1, seed=0)


@pytest.mark.parametrize("behaviour, episodes", [("expert", 10_000), ("mixed", 15_000), ("random", 8_000)])
def test_the_datasets_of_the_original_are_collected_in_under_three_seconds(behaviour, episodes):
    took = []
    for _ in range(2):
        start = time.perf_counter()
        data = collect(GRID, behaviour, episodes, seed=0)
        took.append(time.perf_counter() - start)
        if min(took) < 3:
            break
    assert data.num_episodes == episodes
    assert min(took) < 3


def test_random_actions_fill_every_box_and_every_discrete_space():
    for environment, volume in (("Pendulum-v1", 4.0), ("Hopper-v5", 8.0)):
        data = collect(environment, "random", 8, seed=0)
        action, space = data.transitions.action, data.action_space
        assert action.shape[1:] == space.shape
        assert (action >= torch.as_tensor(space.low)).all()
        assert (action <= torch.as_tensor(space.high)).all()
        spread = 4 * (space.high - space.low) / np.sqrt(12 * len(data))
        assert (abs(action.mean(0).numpy() - (space.low + space.high) / 2) < spread).all()
        torch.testing.assert_close(data.transitions.behaviour_log_prob.exp(), torch.full((len(data),), 1 / volume))
        assert data.policy == "random"
    pole = collect("CartPole-v1", "random", 100, seed=0)
    assert abs(pole.action_distribution() - 0.5).max() < 4 * 0.5 / np.sqrt(len(pole))
    assert pole.transitions.behaviour_log_prob.exp().tolist() == pytest.approx([0.5] * len(pole))


def test_random_actions_in_an_unbounded_box_are_refused():
    class Unbounded(gym.Env):
        observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Box(-np.inf, np.inf, (2,))

    with pytest.raises(ValueError, match=r"random.*bounded.*inf"):
        collect(Unbounded(), "random", 1, seed=0)


def test_actions_that_are_neither_discrete_nor_box_are_refused():
    class Switches(gym.Env):
        observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.MultiBinary(3)

    with pytest.raises(ValueError, match=r"Discrete or Box actions.*MultiBinary"):
        collect(Switches(), "random", 1, seed=0)


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1", "Hopper-v5"])
def test_foreign_environments_repeat_with_the_seed_and_only_then(environment):
    first, again, other = (collect(environment, "random", 20, seed=seed) for seed in (3, 3, 4))
    assert same(first, again)
    assert len(first) != len(other) or not same(first, other)


def test_copies_of_a_foreign_environment_are_stepped_together():
    seen = []

    def push(observation):
        seen.append(len(observation))
        return np.zeros((len(observation), 1))

    data = collect("Pendulum-v1", push, FOREIGN_COPIES + 5, seed=0)
    assert set(seen) == {FOREIGN_COPIES}
    assert len(seen) == 400
    assert data.num_episodes == FOREIGN_COPIES + 5
    assert data.episode_lengths().tolist() == [200] * data.num_episodes
    assert data.transitions.truncated.sum() == data.num_episodes
    assert not data.transitions.terminated.any()


def test_the_transitions_of_a_pendulum_are_its_dynamics_to_the_last_step():
    data = collect("Pendulum-v1", "random", 20, seed=5)
    found, environment = columns(data), gym.make("Pendulum-v1").unwrapped
    for step in [*range(0, len(data), 37), *(rows.stop - 1 for rows in data.episode_slices)]:
        cosine, sine, speed = found["observation"][step].astype(np.float64)
        environment.reset(seed=0)
        environment.state = np.array([np.arctan2(sine, cosine), speed])
        observation, reward, *_ = environment.step(found["action"][step])
        np.testing.assert_allclose(observation, found["next_observation"][step], atol=1e-5)
        assert reward == pytest.approx(found["reward"][step], abs=1e-3)


def test_falling_hoppers_terminate_and_start_upright_again():
    data = collect("Hopper-v5", "random", 40, seed=0)
    found = columns(data)
    assert found["terminated"].sum() == 40
    starts = found["observation"][[rows.start for rows in data.episode_slices]]
    lasts = found["next_observation"][[rows.stop - 1 for rows in data.episode_slices]]
    assert abs(starts[:, 1]).max() < 0.01  # angle of the torso
    unhealthy = (lasts[:, 0] < 0.7) | (abs(lasts[:, 1]) > 0.2) | (abs(lasts[:, 1:]) > 100).any(axis=1)
    assert unhealthy.all()


def test_short_episodes_of_a_foreign_environment_are_not_over_represented():
    class Lottery(gym.Env):
        """Half of the episodes take one step, the other half nine."""

        observation_space, action_space = gym.spaces.Box(0, 9, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.left = self.np_random.choice([1, 9])
            return np.full(1, self.left, np.float32), {}

        def step(self, action):
            self.left -= 1
            return np.full(1, self.left, np.float32), 0.0, bool(self.left == 0), False, {}

    gym.register("Lottery-v0", Lottery)
    try:
        lengths = collect("Lottery-v0", "random", 500, seed=1).episode_lengths()
    finally:
        del gym.registry["Lottery-v0"]
    assert set(lengths) == {1, 9}
    assert abs((lengths == 9).mean() - 0.5) < 4 * 0.5 / np.sqrt(500)


def test_rounding_is_clipped_to_the_box_and_more_is_refused():
    data = collect("Pendulum-v1", lambda o: np.full((len(o), 1), 2.0001), 1, seed=0)
    assert data.transitions.action.unique().tolist() == [2.0]
    for wrong, complaint in ((2.1, "2.1"), (np.nan, "nan"), (-np.inf, "inf")):
        with pytest.raises(ValueError, match=f"actions in Box.*{complaint}"):
            collect("Pendulum-v1", lambda o, w=wrong: np.full((len(o), 1), w), 1, seed=0)
    with pytest.raises(ValueError, match=r"shape \(1, 1\), got \(1,\)"):
        collect("Pendulum-v1", lambda o: np.zeros(len(o)), 1, seed=0)


def test_one_bad_action_among_many_is_refused():
    def one_bad(observation):
        action = np.zeros(len(observation), dtype=int)
        action[-1] = 7
        return action

    for environment in (GRID, "CartPole-v1"):
        with pytest.raises(ValueError, match=r"actions in Discrete.*7"):
            collect(environment, one_bad, 5, seed=0)


class Gaussian(Agent):
    """Acts at random around zero and says with what density."""

    def _build(self):
        pass

    def act(self, observation, *, mask=None, deterministic=False):
        noise = torch.randn(len(observation), 1, generator=self.generator)
        return (0.3 * noise).clamp(-2, 2).numpy()

    def action_log_prob(self, observation, action):
        return torch.distributions.Normal(0.0, 0.3).log_prob(torch.as_tensor(action)).sum(-1).numpy()


def test_an_agent_that_knows_its_log_probabilities_has_them_stored():
    environment = gym.make("Pendulum-v1")
    spaces = environment.observation_space, environment.action_space
    data = collect("Pendulum-v1", Gaussian(*spaces, seed=1), 20, seed=0)
    expected = torch.distributions.Normal(0.0, 0.3).log_prob(data.transitions.action).sum(-1)
    torch.testing.assert_close(data.transitions.behaviour_log_prob, expected)
    assert same(data, collect("Pendulum-v1", Gaussian(*spaces, seed=1), 20, seed=0))
    assert data.policy == "Gaussian"
    one_by_one = collect(environment, Gaussian(*spaces, seed=1), 3, seed=0)
    assert one_by_one.episode_lengths().tolist() == [200] * 3


class Clock(gym.Env):
    """Shows the time, ends after four steps, and reports the time as its cost from one step to another."""

    observation_space, action_space = gym.spaces.Box(0, 9, (1,)), gym.spaces.Discrete(2)

    def __init__(self, first: int = 1, last: int = 4) -> None:
        self.first, self.last = first, last

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        info = {"cost": float(self.time)} if self.first <= self.time <= self.last else {}
        return np.full(1, self.time, np.float32), 0.0, self.time == 4, False, info


def test_costs_of_a_foreign_environment_are_those_of_the_step_even_at_the_end():
    gym.register("Clock-v0", Clock)
    try:
        transitions = collect("Clock-v0", "random", 20, seed=0).transitions
    finally:
        del gym.registry["Clock-v0"]
    assert transitions.cost[:, 0].tolist() == transitions.next_observation[:, 0].tolist()
    assert transitions.next_observation[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0] * 20


def test_a_direct_instance_has_no_id_but_is_collected_from():
    data = collect(GridWorld(size=3), "expert", 2, seed=0)
    assert data.environment_id is None
    assert data.episode_lengths().tolist() == [4, 4]


def test_the_dynamics_of_a_derived_environment_are_its_own():
    """A copy made for the batch must not fall back to the class it derives from."""

    class TwiceAsDear(TabularEnvironment):
        def _transition(self, action):
            reward, terminated = super()._transition(action)
            return 2 * reward, terminated

    class Windy(GridWorldVector):
        def _transition(self, action):
            return super()._transition(np.zeros_like(action))

    for derived, check in (
        (TwiceAsDear(coin_model(), 1), lambda data: set(data.episode_returns()) <= {0.0, 16.0}),
        (Windy(1), lambda data: data.transitions.observation[:, 0].max() == 0),
    ):
        try:
            data = collect(SingleEnvironment(derived), "random", 5, seed=0)
        except (ValueError, NotImplementedError, TypeError):
            continue  # refusing is better than wrong data
        assert check(data)


@pytest.mark.parametrize("first, last", [(3, 4), (1, 2), (4, 4), (2, 3)])
def test_costs_that_are_reported_at_some_steps_only_are_refused(first, last):
    gym.register("Clock-v0", Clock)
    try:
        for environment in (Clock(first, last), gym.make("Clock-v0", first=first, last=last)):
            with pytest.raises(ValueError, match=r"info\['cost'\] must be reported at every step or at none"):
                collect(environment, "random", 3, seed=0)
    finally:
        del gym.registry["Clock-v0"]
