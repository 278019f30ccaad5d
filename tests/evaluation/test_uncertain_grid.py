"""Evaluation on held episodes of UncertainGrid: hand-runs, memory, what is held fixed, faults, bad input."""

import inspect
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.agents import PPO, PPOConfig
from ca14lib.agents.multi_agent import IPPO, IPPOConfig
from ca14lib.environments import multi_agent_environment
from ca14lib.environments.uncertain_grid import UncertainGrid, UncertainGridParameters, UncertainGridVector
from ca14lib.evaluation import uncertain_grid
from ca14lib.evaluation.uncertain_grid import UncertainGridEvaluation

UP, DOWN, LEFT, RIGHT = range(4)
SPACES = UncertainGridVector(1).single_observation_space, UncertainGridVector(1).single_action_space


class Scripted:
    """An agent without memory, from a function of observations to actions."""

    observation_space, action_space = SPACES

    def __init__(self, policy) -> None:
        self.policy, self.deterministic = policy, None

    def act(self, observation, *, mask=None, deterministic=False):
        self.deterministic = deterministic
        return self.policy(observation)


class Counting:
    """Goes right five times and then up: where it stands it knows from its memory alone."""

    observation_space, action_space = SPACES
    memory_size = 1

    def initial_memory(self, count):
        return np.zeros((count, 1))

    def act(self, observation, memory, *, mask=None, deterministic=False):
        return np.where(memory[:, 0] < 5, RIGHT, UP), memory + 1


def nearer(observation):
    """Towards the goal along the longer side, by what is seen."""
    return np.where(observation[:, 2] > observation[:, 3], RIGHT, UP)


def uniform(seed: int = 0):
    generator = np.random.default_rng(seed)
    return Scripted(lambda observation: generator.integers(4, size=len(observation)))


def altered(old: str, new: str) -> ModuleType:
    source = inspect.getsource(uncertain_grid)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the source"
    module = ModuleType("altered_uncertain_grid")
    exec(compile(source.replace(old, new), "altered", "exec"), module.__dict__)
    return module


def returns_are_those_of_a_hand_run(module: ModuleType) -> None:
    """Without noise and failures an episode is one walk, whoever else is in the batch."""
    held = UncertainGridParameters.of([3, 5, 7, 9], obstacles=[(1, 1)], count=4)
    found = module.UncertainGridEvaluation(parameters=held).episodes_of(Scripted(nearer))
    for row in range(4):
        environment, total, steps, ended = UncertainGrid(), 0.0, 0, False
        shown, _ = environment.reset(seed=0, options={"parameters": held.rows(slice(row, row + 1))})
        while not ended:
            shown, reward, terminated, truncated, _ = environment.step(int(nearer(shown[None])[0]))
            total, steps, ended = total + reward, steps + 1, terminated or truncated
        assert found["return"][row] == pytest.approx(total)
        assert found["length"][row] == steps
        assert found["arrived"][row] == terminated
    assert found["arrived"].tolist() == [False] * 4, "it runs into the obstacle for ever"
    other = module.UncertainGridEvaluation(parameters=UncertainGridParameters.of([3, 5], count=2))
    result = other(Scripted(nearer))
    assert (result["arrived"], result["length"], result["share"]) == (1.0, 6.0, pytest.approx(1.0))


def memory_is_carried_through_an_episode(module: ModuleType) -> None:
    result = module.UncertainGridEvaluation(parameters=UncertainGridParameters.of(6, observation_noise=1.0, count=9))(
        Counting()
    )
    assert result["return"] == pytest.approx(8.65)
    assert result["share_of_bound"] == pytest.approx(1.0)


def held_episodes_are_the_same_for_all(module: ModuleType) -> None:
    arguments = {"environment_arguments": {"uncertainty": 0.5}, "seed": 3}
    evaluation = module.UncertainGridEvaluation(300, **arguments)
    first = evaluation.episodes_of(Scripted(nearer))
    evaluation.episodes_of(uniform())
    again = evaluation.episodes_of(Scripted(nearer))
    other = module.UncertainGridEvaluation(300, **arguments).episodes_of(Scripted(nearer))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name], other[name])
    # along two sides there is always a free shortest way: whoever walks there needs the steps of the held sizes
    held = evaluation.parameters.changed(observation_noise=0.0, action_failure=0.0)
    walker = Scripted(lambda shown: np.where(shown[:, 2] > 1e-6, RIGHT, UP))
    evaluation = module.UncertainGridEvaluation(parameters=held)
    walked = evaluation.episodes_of(walker)
    np.testing.assert_array_equal(walked["length"], 2 * held.size - 2)
    np.testing.assert_allclose(walked["return"], evaluation.bound)


def uniform_moves_have_share_zero(module: ModuleType) -> None:
    evaluation = module.UncertainGridEvaluation(1000, environment_arguments={"uncertainty": 0.3})
    result = evaluation(uniform())
    assert abs(result["return"] - result["uniform"]) < 4 * result["return_std"] / np.sqrt(1000)
    assert abs(result["share"]) < 0.1


PROPERTIES = [
    returns_are_those_of_a_hand_run, memory_is_carried_through_an_episode, held_episodes_are_the_same_for_all,
    uniform_moves_have_share_zero,
]  # fmt: skip

FAULTS = {
    "steps after the end count": (
        "np.where(running, reward.reshape(count), 0.0)", "reward.reshape(count)",
        [returns_are_those_of_a_hand_run, uniform_moves_have_share_zero],
    ),
    "memory is thrown away": (
        "        policy = TeamPolicy(agent, deterministic=self.deterministic)\n",
        "        policy = lambda *seen: TeamPolicy(agent, deterministic=self.deterministic)(*seen)\n",
        [memory_is_carried_through_an_episode],
    ),
    "episodes are drawn anew": (
        'options={"parameters": self._played}', "options=None",
        [returns_are_those_of_a_hand_run, held_episodes_are_the_same_for_all],
    ),
    "what happens in them is not fixed": ("reset(seed=self._seed, ", "reset(", [held_episodes_are_the_same_for_all]),
    "running out of time counts as arrival": (
        "arrived |= running & terminated", "arrived |= running & (terminated | truncated)",
        [returns_are_those_of_a_hand_run],
    ),
    "the bound is the zero": (
        'share_of_range(result["return"], result["uniform"], result["bound"])',
        'result["return"] / result["bound"]', [uniform_moves_have_share_zero],
    ),
}  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda property_: property_.__name__.replace("_", "-"))
def test_property(holds):
    holds(uncertain_grid)


@pytest.mark.parametrize("name", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_planted_fault_is_caught(name):
    old, new, caught_by = FAULTS[name]
    module = altered(old, new)
    for holds in caught_by:
        with pytest.raises(AssertionError):
            holds(module)


def test_held_episodes_are_none_that_training_draws():
    evaluation = UncertainGridEvaluation(200, environment_arguments={"uncertainty": 0.5})
    held = set(evaluation.parameters.action_failure.tolist())
    for seed in range(20):
        environment = UncertainGridVector(200, uncertainty=0.5)
        environment.reset(seed=seed)
        assert not held & set(environment.parameters.action_failure.tolist())
    other = UncertainGridEvaluation(200, environment_arguments={"uncertainty": 0.5}, seed=1)
    assert not held & set(other.parameters.action_failure.tolist())


def test_noise_on_rewards_changes_returns_and_not_their_mean():
    arguments = {"uncertainty": 0.5, "reward_noise": 2.0, "num_obstacles": 0}
    quiet, loud = (
        UncertainGridEvaluation(800, environment_arguments=arguments, reward_noise=noise) for noise in (False, True)
    )
    difference = loud.episodes_of(Scripted(nearer))["return"] - quiet.episodes_of(Scripted(nearer))["return"]
    assert difference.std() > 3
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(800)
    np.testing.assert_array_equal(quiet.bound, loud.bound)
    assert (quiet.parameters.reward_noise == 2.0).all()


def test_no_agent_exceeds_the_bound_and_noise_costs_it_something():
    shares = []
    for noise in (0.0, 0.1, 0.5):
        evaluation = UncertainGridEvaluation(
            800, environment_arguments={"uncertainty": 0.3, "observation_noise": noise, "num_obstacles": 0}
        )
        shares.append(evaluation(Scripted(nearer))["share_of_bound"])
    assert shares[0] == pytest.approx(1.0, abs=0.01)
    assert shares[0] > shares[1] > shares[2] + 0.01


def test_an_agent_of_the_course_is_evaluated_and_asked_for_its_best_actions():
    agent = PPO(*SPACES, PPOConfig(hidden_sizes=(8,)))
    result = UncertainGridEvaluation(50)(agent)
    assert set(result) == {
        "return", "length", "arrived", "return_std", "bound", "uniform", "share", "share_of_bound"
    }  # fmt: skip
    for deterministic in (True, False):
        scripted = Scripted(nearer)
        UncertainGridEvaluation(5, deterministic=deterministic)(scripted)
        assert scripted.deterministic is deterministic


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("previous_action", [False, True])
def test_a_team_of_one_plays_the_same_held_episodes(recurrent, previous_action):
    game = multi_agent_environment("Solo/CA14/UncertainGrid-v0", 1, previous_action=previous_action)
    team = IPPO.for_game(game, IPPOConfig(hidden_sizes=(8,), recurrent=recurrent))
    evaluation = UncertainGridEvaluation(30, environment_arguments={"uncertainty": 0.5}, deterministic=True)
    first, again = evaluation.episodes_of(team), evaluation.episodes_of(team)
    assert first["return"].shape == (30,)
    np.testing.assert_array_equal(first["return"], again["return"])
    assert (evaluation.bound - first["return"]).mean() > 0


def test_a_game_of_one_and_the_environment_give_the_same_returns():
    """A script that reads the first six numbers, as a single agent and as a team."""

    class Team(Scripted):
        def act(self, observation, *, mask=None, deterministic=False):
            return self.policy(observation[:, 0])[:, None]

    team = Team(nearer)
    game = multi_agent_environment("Solo/CA14/UncertainGrid-v0", 1)
    team.observation_space, team.action_space = game.single_observation_space, game.single_action_space
    evaluation = UncertainGridEvaluation(200, environment_arguments={"uncertainty": 0.5})
    alone, as_team = evaluation.episodes_of(Scripted(nearer)), evaluation.episodes_of(team)
    np.testing.assert_array_equal(alone["length"], as_team["length"])
    np.testing.assert_allclose(alone["return"], as_team["return"])


def test_a_share_of_a_bound_that_is_not_positive_is_left_out():
    held = UncertainGridParameters.of(6, action_failure=0.97, count=20)
    assert "share_of_bound" not in UncertainGridEvaluation(parameters=held)(Scripted(nearer))


def test_where_nothing_that_is_done_matters_there_is_no_share():
    evaluation = UncertainGridEvaluation(parameters=UncertainGridParameters.of(6, action_failure=1.0, count=3))
    assert evaluation.bound == pytest.approx(-20.0)
    with pytest.raises(ValueError, match="the optimum must exceed the reference"):
        evaluation(Scripted(nearer))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"environment_arguments": {"time_limit": None}}, "time_limit must be a number, got None"),
        ({"environment_arguments": {"uncertainty": 2}}, r"uncertainty must lie in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UncertainGridEvaluation(**arguments)


def test_an_agent_for_another_environment_is_refused():
    agent = Scripted(nearer)
    agent.action_space = gym.spaces.Discrete(5)
    with pytest.raises(ValueError, match=r"the agent's action_space is Discrete\(5\), UncertainGrid's Discrete\(4\)"):
        UncertainGridEvaluation(5)(agent)
