"""Games of other libraries: what reaches a batch when agents leave, episodes end, and spaces differ."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo import ParallelEnv

from ca14lib.environments import ParallelView, multi_agent_environment
from ca14lib.environments import team_adapters as module
from ca14lib.environments.team_adapters import GymTeam, ParallelTeams


class Countdown(ParallelEnv):
    """Agent i terminates after i + 2 steps; everybody observes the step; masks forbid action 1 to agent 0."""

    metadata = {"name": "countdown"}

    def __init__(self, agents: int = 3, limit: int = 100, sizes: tuple[int, ...] = (1, 1, 1), masks: bool = True):
        self.possible_agents = [f"p{index}" for index in range(agents)]
        self.agents: list[str] = []
        self.limit, self.sizes, self.masks, self.seeds = limit, sizes, masks, []
        self.received: list[dict] = []

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(0, 100, (self.sizes[self.possible_agents.index(agent)],), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        self.agents, self.clock = list(self.possible_agents), 1
        self.seeds.append(seed)
        return self._seen(), self._infos()

    def _seen(self) -> dict:
        return {name: np.full(1, self.clock, dtype=np.float32) for name in self.agents}

    def _infos(self) -> dict:
        free = {name: {"action_mask": np.array([1, name != "p0"], dtype=np.int8)} for name in self.agents}
        return free if self.masks else {name: {} for name in self.agents}

    def step(self, actions: dict) -> tuple[dict, dict, dict, dict, dict]:
        self.received.append(actions)
        self.clock += 1
        seen, infos = self._seen(), self._infos()
        over = {name: self.clock >= self.possible_agents.index(name) + 3 for name in self.agents}
        cut = {name: self.clock > self.limit and not over[name] for name in self.agents}
        rewards = dict.fromkeys(self.agents, 1.0)
        self.agents = [name for name in self.agents if not over[name] and not cut[name]]
        return seen, rewards, over, cut, infos


def play(game: ParallelTeams, steps: int) -> list[tuple]:
    action = np.zeros((game.num_envs, game.num_agents), dtype=np.int64)
    return [game.step(action) for _ in range(steps)]


def leaves_early_as_promised(make: Any) -> bool:
    game = make(2, Countdown)
    game.reset(seed=0)
    one, two, three, four = play(game, 4)
    return bool(
        one[4]["alive"].all()
        # p0 leaves in step 2: its reward of that step counts, then it observes zeros and receives nothing
        and (two[1] == 1).all() and not two[2].any()
        and (two[4]["alive"] == [False, True, True]).all() and (two[0][:, 0] == 0).all() and (two[0][:, 1:] == 3).all()
        and (three[1] == [0, 1, 1]).all() and (three[4]["alive"] == [False, False, True]).all()
        # p2 is the last to leave: the episode terminates, its last observation is kept, the next episode has begun
        and four[2].all() and not four[3].any() and (four[1] == [0, 0, 1]).all()
        and (four[4]["final_obs"][:, 2] == 5).all() and (four[4]["final_obs"][:, :2] == 0).all()
        and (four[0] == 1).all() and four[4]["alive"].all()
        and (four[4]["final_info"]["state"] == [0, 0, 5]).all() and (four[4]["state"] == 1).all()
    )  # fmt: skip


def test_agents_that_leave_early_are_not_alive_and_observe_zeros() -> None:
    assert leaves_early_as_promised(ParallelTeams)


def test_planted_the_reset_observation_in_place_of_the_final_one_is_noticed() -> None:
    class Leaking(ParallelTeams):
        def step(self, actions: np.ndarray) -> tuple:
            result = super().step(actions)
            if "final_obs" in result[4]:
                result[4]["final_obs"] = result[0].copy()
            return result

    assert not leaves_early_as_promised(Leaking)


def test_planted_an_array_shared_with_the_caller_is_noticed() -> None:
    class Shared(ParallelTeams):
        def _observe(self) -> np.ndarray:
            return self._observation

    assert not leaves_early_as_promised(Shared)


def test_planted_ending_with_the_first_agent_is_noticed() -> None:
    class Hasty(ParallelTeams):
        def advance(self, action: np.ndarray) -> tuple:
            reward, terminated, truncated = super().advance(action)
            return reward, terminated | ~self._alive.all(axis=1), truncated

    assert not leaves_early_as_promised(Hasty)


def test_planted_keeping_what_a_departed_agent_saw_is_noticed() -> None:
    class Haunted(ParallelTeams):
        def _store(self, copy: int, observations: dict, infos: dict, shown: Any) -> None:
            super()._store(copy, observations, infos, list(observations))

    assert not leaves_early_as_promised(Haunted)


def test_departed_agents_send_no_actions() -> None:
    game = ParallelTeams(1, Countdown)
    game.reset(seed=0)
    play(game, 4)
    assert [sorted(actions) for actions in game.games[0].received] == [
        ["p0", "p1", "p2"], ["p0", "p1", "p2"], ["p1", "p2"], ["p2"],
    ]  # fmt: skip


def test_a_truncated_game_is_truncated_and_its_agents_are_alive() -> None:
    game = ParallelTeams(1, lambda: Countdown(limit=2))
    game.reset(seed=0)
    _, (_, _, terminated, truncated, info) = play(game, 2)
    assert truncated[0]
    assert not terminated[0]
    assert info["final_info"]["alive"].tolist() == [[False, True, True]]  # p0 came to its own end in that step
    assert (info["final_obs"] == 3).all()


def test_the_adapters_own_limit_truncates_too() -> None:
    game = ParallelTeams(1, Countdown, time_limit=2)
    game.reset(seed=0)
    _, (_, _, terminated, truncated, _) = play(game, 2)
    assert truncated[0]
    assert not terminated[0]


def test_masks_are_passed_on_and_departed_agents_may_do_anything() -> None:
    game = ParallelTeams(1, Countdown)
    _, info = game.reset(seed=0)
    assert info["action_mask"].tolist() == [[[True, False], [True, True], [True, True]]]
    assert play(game, 2)[1][4]["action_mask"].all()
    assert "action_mask" not in ParallelTeams(1, lambda: Countdown(masks=False)).reset(seed=0)[1]


def test_masks_beside_observations_are_passed_on() -> None:
    class Beside(Countdown):
        def observation_space(self, agent: str) -> gym.Space:
            mask = gym.spaces.MultiBinary(2)
            return gym.spaces.Dict({"observation": super().observation_space(agent), "action_mask": mask})

        def _seen(self) -> dict:
            masks = super()._infos()
            return {name: {"observation": seen} | masks[name] for name, seen in super()._seen().items()}

        def _infos(self) -> dict:
            return {name: {} for name in self.agents}

    observation, info = ParallelTeams(1, Beside).reset(seed=0)
    assert observation.shape == (1, 3, 1)
    assert info["action_mask"][0, 0].tolist() == [True, False]


def test_unequal_observations_are_refused_by_name_and_size() -> None:
    with pytest.raises(ValueError, match=r"p0: \(1,\), p1: \(2,\), p2: \(1,\)"):
        ParallelTeams(1, lambda: Countdown(sizes=(1, 2, 1)))


def test_unequal_actions_are_refused_by_name_and_size() -> None:
    class Unequal(Countdown):
        def action_space(self, agent: str) -> gym.Space:
            return gym.spaces.Discrete(2 + (agent == "p1"))

    with pytest.raises(ValueError, match="p0: 2, p1: 3, p2: 2"):
        ParallelTeams(1, Unequal)


def test_every_reset_of_a_copy_has_a_seed_of_its_own() -> None:
    game = ParallelTeams(2, Countdown)
    game.reset(seed=0)
    play(game, 8)
    seeds = [seed for copy in game.games for seed in copy.seeds if seed != 0]  # 0 is the constructor's look
    assert len(set(seeds)) == len(seeds) >= 6


def test_actions_out_of_range_are_refused() -> None:
    game = ParallelTeams(1, Countdown)
    game.reset(seed=0)
    with pytest.raises(ValueError, match="0…1, got 2"):
        game.step(np.full((1, 3), 2))


def test_a_single_space_is_no_team() -> None:
    with pytest.raises(ValueError, match="Tuple"):
        GymTeam(gym.make("CartPole-v1"))


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module, "import_module", missing)
    for name in ("MPE2/simple_spread_v3", "Foraging/Foraging-8x8-2p-3f-v3", "rware/rware-tiny-2ag-v2", "VMAS/balance"):
        with pytest.raises(ImportError, match=r'pip install "ca14lib\[games\]"'):
            multi_agent_environment(name, 1)


GAMES = [
    ("mpe2", "MPE2/simple_spread_v3", {}),
    ("mpe2", "MPE2/simple_spread_v3", {"continuous_actions": True}),
    ("lbforaging", "Foraging/Foraging-8x8-2p-3f-v3", {}),
    ("rware", "rware/rware-tiny-2ag-v2", {"max_steps": 12}),
    ("vmas", "VMAS/balance", {"time_limit": 12}),
    ("vmas", "VMAS/balance", {"time_limit": 12, "continuous": True}),
]


def rollout(name: str, arguments: dict, steps: int = 27, other: Any = None) -> tuple[list, list]:
    game = multi_agent_environment(name, 2, **arguments)
    game.action_space.seed(0)
    seen, ends = [game.reset(seed=3)[0]], []
    for _ in range(steps):
        if other is not None:
            other.step(other.action_space.sample())
        observation, reward, terminated, truncated, info = game.step(game.action_space.sample())
        seen += [observation, reward, info["state"]]
        ends.append((terminated, truncated))
        assert observation.dtype == np.float32
        assert reward.dtype == np.float64
        assert observation.shape == (2, *game.single_observation_space.shape)
        assert info["state"].shape == (2, *game.state_space.shape)
    return seen, ends


@pytest.mark.parametrize("library, name, arguments", GAMES)
def test_equal_seeds_repeat_and_time_limits_truncate(library: str, name: str, arguments: dict) -> None:
    pytest.importorskip(library)
    steps = 52 if library == "lbforaging" else 27
    (seen, ends), (again, _) = rollout(name, arguments, steps), rollout(name, arguments, steps)
    assert all((one == other).all() for one, other in zip(seen, again, strict=True))
    assert sum(truncated.sum() for _, truncated in ends) >= 2
    assert not any((terminated & truncated).any() for terminated, truncated in ends)


def test_two_vmas_games_do_not_disturb_each_other() -> None:
    pytest.importorskip("vmas")
    other = multi_agent_environment("VMAS/balance", 2, time_limit=3)
    other.reset(seed=9)
    alone, _ = rollout("VMAS/balance", {"time_limit": 4}, 9)
    beside, _ = rollout("VMAS/balance", {"time_limit": 4}, 9, other)
    assert all((one == two).all() for one, two in zip(alone, beside, strict=True))


def test_foraging_is_terminated_when_the_food_is_gone_and_truncated_with_food_left() -> None:
    pytest.importorskip("lbforaging")
    game = multi_agent_environment("Foraging/Foraging-8x8-2p-3f-v3", 1)
    game.reset(seed=0)
    field = game.games[0].env.unwrapped.field
    *_, terminated, truncated, _ = game.step(np.zeros((1, 2), dtype=np.int64))
    assert not terminated[0]
    assert not truncated[0]
    field[:] = 0
    *_, terminated, truncated, _ = game.step(np.zeros((1, 2), dtype=np.int64))
    assert terminated[0]
    assert not truncated[0]


@pytest.mark.parametrize(
    "name", ["MPE2/simple_tag_v3", "MPE2/no_game_v1", "Foraging/no-game-v3", "rware/no-game-v2", "VMAS/no_game"]
)
def test_games_that_are_not_there_or_not_a_team_are_refused(name: str) -> None:
    for library in ("mpe2", "lbforaging", "rware", "vmas"):
        pytest.importorskip(library)
    with pytest.raises(ValueError, match=r"no game|no scenario|adversary_0"):
        multi_agent_environment(name, 1)


def test_view_of_an_adapted_game_drops_who_has_left() -> None:
    view = ParallelView(ParallelTeams(1, Countdown))
    view.reset(seed=0)
    there = []
    while view.agents:
        there.append(list(view.agents))
        view.step(dict.fromkeys(view.agents, 0))
    assert there == [["p0", "p1", "p2"], ["p0", "p1", "p2"], ["p1", "p2"], ["p2"]]
