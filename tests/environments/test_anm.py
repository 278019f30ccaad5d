"""The wrapper of the operator's grid, through a small stand-in, and on gym-anm itself where it is installed."""

import importlib.util
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ca14lib.environments.applications import anm
from ca14lib.environments.applications.anm import GridOperator, grid_operator, model_predictive_agent, require_anm

installed = importlib.util.find_spec("gym_anm") is not None
needs_anm = pytest.mark.skipif(not installed, reason="gym-anm is not installed: the extra energy")


class StandIn(gym.Env):
    """A grid of one line: it loses the square of the power, is overloaded beyond 5 and collapses at 9."""

    def __init__(self, actions: gym.Space | None = None) -> None:
        self.observation_space = gym.spaces.Box(np.array([-10.0, 0.0]), np.array([10.0, 95.0]), dtype=np.float64)
        self.action_space = gym.spaces.Box(-10.0, 10.0, (6,), np.float64) if actions is None else actions
        self.gamma, self.simulator = 0.995, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.flow, self.clock = 0.0, int(self.np_random.integers(96))
        return np.array([self.flow, self.clock]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.flow, self.clock = float(action[0]), (self.clock + 1) % 96
        self.e_loss, self.penalty = min(self.flow**2 / 100, 1.0), 100 * max(abs(self.flow) - 5, 0) / 10
        over = abs(self.flow) >= 9
        return np.array([self.flow, self.clock]), -20_000.0 if over else -self.e_loss - self.penalty, over, False, {}


def power(value: float) -> np.ndarray:
    return np.full(6, value, dtype=np.float32)


def test_rewards_costs_and_the_limit_of_time() -> None:
    grid = GridOperator(StandIn(), time_limit=3)
    observation, info = grid.reset(seed=0)
    assert info["cost"] == 0
    assert observation[0] == 0  # scaled: the middle of −10 to 10
    seen = [grid.step(power(value)) for value in (3.0, 7.0, -2.0)]
    assert [step[1] for step in seen] == pytest.approx([-0.09, -0.49 - 20.0, -0.04])
    assert [step[4]["cost"] for step in seen] == pytest.approx([0.0, 20.0, 0.0])
    assert [step[4]["energy_loss"] for step in seen] == pytest.approx([0.09, 0.49, 0.04])
    assert [step[3] for step in seen] == [False, False, True]
    assert seen[1][0][0] == pytest.approx(0.7)


def test_a_collapse_ends_the_episode_and_pays_what_it_is_told_to() -> None:
    grid = GridOperator(StandIn(), time_limit=1, collapse_reward=-50.0)
    grid.reset(seed=0)
    _, reward, terminated, truncated, info = grid.step(power(9.5))
    assert (reward, terminated, truncated, info["cost"]) == (-50.0, True, False, 100.0)


def test_rewards_can_be_scaled_and_costs_stay() -> None:
    grid = GridOperator(StandIn(), reward_scale=0.1)
    grid.reset(seed=0)
    _, reward, *_, info = grid.step(power(7.0))
    assert (reward, info["cost"]) == (pytest.approx(-2.049), pytest.approx(20.0))


def test_episodes_can_begin_at_an_hour() -> None:
    grid = GridOperator(StandIn())
    for hour in (0, 7, 23):
        observation, _ = grid.reset(seed=hour, options={"hour": hour})
        assert round((observation[1] + 1) / 2 * 95) // 4 == hour
    with pytest.raises(ValueError, match="24"):
        grid.reset(options={"hour": 24})


def test_gymnasium_accepts_the_wrapped_stand_in() -> None:
    check_env(GridOperator(StandIn(), time_limit=5), skip_render_check=True)


@pytest.mark.parametrize(
    "arguments", [{"time_limit": 0}, {"time_limit": 2.5}, {"collapse_reward": 1.0}, {"reward_scale": 0.0}]
)
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        GridOperator(StandIn(), **arguments)


def test_unbounded_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="actions must be a bounded Box"):
        GridOperator(StandIn(gym.spaces.Discrete(3)))


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym_anm", None)
    with pytest.raises(ImportError, match=r"ca14lib\[energy\]"):
        require_anm()
    with pytest.raises(ImportError, match=r"ca14lib\[energy\]"):
        grid_operator()


def test_predictive_agents_get_the_grid_and_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Planner:
        def __init__(self, simulator, actions, gamma, margin, steps):
            self.settings = (gamma, margin, steps)

        def act(self, grid):
            assert isinstance(grid, StandIn)
            return self.settings

    library = SimpleNamespace(MPCAgentConstant=Planner, MPCAgentPerfect=None)
    monkeypatch.setattr(anm, "require_anm", lambda: library)
    grid = GridOperator(StandIn())
    assert model_predictive_agent(grid, "constant", planning_steps=4, safety_margin=0.9)() == (0.995, 0.9, 4)
    with pytest.raises(ValueError, match="hope"):
        model_predictive_agent(grid, "hope", planning_steps=4, safety_margin=0.9)


@needs_anm
def test_the_real_grid_is_run_by_its_authors_controller() -> None:
    grid = grid_operator(time_limit=4)
    observation, _ = grid.reset(seed=0, options={"hour": 12})
    assert grid.observation_space.contains(observation)
    plan = model_predictive_agent(grid, "perfect", planning_steps=8, safety_margin=0.92)
    total, parts = 0.0, 0.0
    for _ in range(4):
        observation, reward, terminated, truncated, info = grid.step(plan())
        total, parts = total + reward, parts - info["cost"] - info["energy_loss"]
    assert truncated
    assert not terminated
    assert total == pytest.approx(parts)
    assert total > -5.0
