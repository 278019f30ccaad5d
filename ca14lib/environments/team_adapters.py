"""Games of other libraries as batched games of the course: PettingZoo, level-based foraging, warehouses, VMAS.

The libraries are optional, the extra ``games``. Book: multi_agent/environments.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ca14lib.environments.batched import require_integer
from ca14lib.environments.multi_agent import MultiAgentEnvironment

INSTALL = 'pip install "ca14lib[games]"'


class ParallelTeams(MultiAgentEnvironment):
    """``num_envs`` copies of a PettingZoo ``ParallelEnv`` whose agents have equal spaces; autoreset ``SAME_STEP``.

    The copies are stepped one after the other: this makes a game usable, not fast. Every reset of a copy is seeded
    from ``self.np_random``.

    An agent that leaves while others go on is not ``alive`` from then on: it observes zeros, receives 0, and its
    actions go nowhere. An episode is over when nobody is left. It then counts as truncated if the game truncated anyone
    in its last step, and as terminated otherwise.

    The state is the game's own ``state()`` in one row where it has one, otherwise all observations in one row. Masks
    of allowed actions are taken from ``"action_mask"`` in an agent's info or observation.

    Args:
        num_envs: Number of copies.
        make: Function that makes a copy.
        time_limit: Steps after which an episode is truncated here, if the game has not ended it; None for none. It is
            also how long teams that replay whole episodes take an episode to be at most.
        render_mode: ``"rgb_array"`` for games made with that mode, or None.

    Raises:
        ValueError: If agents differ in their spaces, or a space is not supported; the message names them.
    """

    least_agents = 1

    def __init__(
        self, num_envs: int, make: Callable[[], ParallelEnv], *, time_limit: int | None = None,
        render_mode: str | None = None,
    ) -> None:  # fmt: skip
        require_integer("num_envs", num_envs, 1)
        self.make = make
        self.games = [make() for _ in range(num_envs)]
        first = self.games[0]
        self._names = list(first.possible_agents)
        self._index = {name: index for index, name in enumerate(self._names)}
        observation_space = equal_space("observations", {name: _seen(first, name) for name in self._names})
        action_space = equal_space("actions", {name: first.action_space(name) for name in self._names})
        if not isinstance(observation_space, gym.spaces.Box):
            raise ValueError(f"agents need Box observations, got {observation_space}")
        observation_space = gym.spaces.Box(  # some games state their bounds in float64 and observe in integers
            observation_space.low.astype(np.float32), observation_space.high.astype(np.float32), dtype=np.float32
        )
        shape = (num_envs, len(self._names))
        self._observation = np.zeros((*shape, *observation_space.shape), dtype=np.float32)
        self._alive = np.ones(shape, dtype=np.bool_)
        self._mask: NDArray[np.bool_] | None = None
        self._own_state = _state_space(first)
        size = int(np.prod(observation_space.shape)) * len(self._names)
        state_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        if self._own_state is not None:
            state_space = gym.spaces.Box(-np.inf, np.inf, (int(np.prod(self._own_state.shape)),), np.float32)
        self._states = np.zeros((num_envs, *state_space.shape), dtype=np.float32)
        super().__init__(
            num_envs, len(self._names), observation_space, action_space,  # type: ignore[arg-type]
            state_space, time_limit=time_limit, render_mode=render_mode,
        )  # fmt: skip

    @classmethod
    def named(cls, name: str, num_envs: int, **arguments: Any) -> "ParallelTeams":
        """``"MPE2/simple_spread_v3"``, ``"Foraging/Foraging-8x8-2p-3f-v3"``, ``"rware/rware-tiny-2ag-v2"``, ….

        Args:
            name: Family and name of the game.
            num_envs: Number of copies.
            arguments: Keyword arguments of the game.
        Raises:
            ImportError: If the family's library is not installed.
            ValueError: If the family is unknown or has no such game.
        """
        family, _, game = name.partition("/")
        if family not in FAMILIES:
            raise ValueError(f"unknown family of games {family!r}; there are {', '.join(FAMILIES)}")
        library, maker, limit = FAMILIES[family]
        require_library(library)

        def make() -> ParallelEnv:
            return maker(game, arguments)

        return cls(num_envs, make, time_limit=limit(make()), render_mode=arguments.get("render_mode"))

    def spawn(self, num_envs: int) -> "ParallelTeams":
        return type(self)(num_envs, self.make, time_limit=self.time_limit)

    @property
    def agent_names(self) -> list[str]:
        return list(self._names)

    def _restart(self, count: int, options: dict[str, Any] | None) -> list[tuple[int, dict[str, Any] | None]]:
        return [(int(seed), options) for seed in self.np_random.integers(2**31, size=count)]

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        for copy, (seed, options) in zip(np.arange(self.num_envs)[where], states, strict=True):
            observations, infos = self.games[copy].reset(seed=seed, options=options)
            self._alive[copy] = True
            self._store(copy, observations, infos, self._names)

    def _store(self, copy: int, observations: dict, infos: dict, shown: Sequence[str]) -> None:
        """Keep what a copy's agents see, zeros and no mask for those that are not to be shown."""
        self._observation[copy] = 0.0
        if self._mask is not None:
            self._mask[copy] = True
        for name in shown:
            seen, index = observations[name], self._index[name]
            mask = infos.get(name, {}).get("action_mask")
            if isinstance(seen, dict):
                mask, seen = seen.get("action_mask", mask), seen["observation"]
            self._observation[copy, index] = seen
            if mask is not None:
                if self._mask is None:
                    self._mask = np.ones((self.num_envs, self.num_agents, len(mask)), dtype=np.bool_)
                self._mask[copy, index] = np.asarray(mask, dtype=np.bool_)
        if self._own_state is None:
            self._states[copy] = self._observation[copy].reshape(-1)
        else:
            self._states[copy] = np.asarray(self.games[copy].state()).reshape(-1)

    def advance(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """One step of all copies without automatic reset; the games truncate, and so does the time limit."""
        reward = np.zeros((self.num_envs, self.num_agents))
        terminated, truncated = np.zeros((2, self.num_envs), dtype=np.bool_)
        for copy, game in enumerate(self.games):
            there = list(game.agents)
            if not there:
                raise gym.error.ResetNeeded("the episode has ended: call reset() before the next step")
            chosen = {name: self._for_game(action[copy, self._index[name]]) for name in there}
            observations, rewards, over, cut, infos = game.step(chosen)
            left = [name for name in game.agents if not (over.get(name) or cut.get(name))]
            truncated[copy] = not left and any(cut.get(name) and not over.get(name) for name in there)
            terminated[copy] = not left and not truncated[copy]
            # whoever is truncated is alive: there is a next state to bootstrap from
            alive = left or [name for name in there if not over.get(name)]
            self._alive[copy] = [name in alive for name in self._names]
            for name in there:
                reward[copy, self._index[name]] = rewards[name]
            self._store(copy, observations, infos, left or there)
        self._elapsed += 1
        if self.time_limit is not None:
            truncated |= (self._elapsed >= self.time_limit) & ~terminated
        return reward, terminated, truncated

    def _for_game(self, action: Any) -> Any:
        space = self.agent_action_space
        return int(action) if isinstance(space, gym.spaces.Discrete) else np.asarray(action, dtype=space.dtype)

    def _observe(self) -> NDArray[np.float32]:
        return self._observation.copy()

    def _state(self) -> NDArray[np.float32]:
        return self._states.copy()

    def _report(self) -> dict[str, Any]:
        report = {"alive": self._alive.copy()}
        return report if self._mask is None else report | {"action_mask": self._mask.copy()}

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return np.asarray(self.games[index].render(), dtype=np.uint8)

    def close_extras(self, **keywords: Any) -> None:
        for game in self.games:
            game.close()


class GymTeam(ParallelEnv):
    """A Gymnasium environment with ``Tuple`` spaces and lists of rewards, as foraging and warehouses have them.

    Args:
        env: The environment.
    """

    metadata = {"name": "gym_team"}

    def __init__(self, env: gym.Env) -> None:
        self.env = env
        spaces = env.observation_space, env.action_space
        for space in spaces:
            if not isinstance(space, gym.spaces.Tuple):
                raise ValueError(f"a game of several agents needs Tuple spaces, got {space}")
        self._spaces = spaces
        self.possible_agents = [f"agent_{index}" for index in range(len(spaces[0]))]  # type: ignore[arg-type]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> gym.Space:
        return self._spaces[0][self.possible_agents.index(agent)]  # type: ignore[index]

    def action_space(self, agent: str) -> gym.Space:
        return self._spaces[1][self.possible_agents.index(agent)]  # type: ignore[index]

    def truly_over(self) -> bool | None:
        """Whether an episode that the environment has just ended is over because of the task; None: as it said."""
        return None

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode."""
        observations, _ = self.env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return dict(zip(self.agents, observations, strict=True)), {name: {} for name in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """One step of all agents."""
        names = self.agents
        result: Any = self.env.step(tuple(actions[name] for name in names))
        observations, rewards, terminated, truncated, _ = result
        # a few libraries give one flag per agent
        over, cut = bool(np.all(terminated)), bool(np.all(truncated))
        if (over or cut) and (truly := self.truly_over()) is not None:
            over, cut = truly, not truly
        self.agents = [] if over or cut else names
        return (
            dict(zip(names, observations, strict=True)),
            {name: float(reward) for name, reward in zip(names, rewards, strict=True)},
            dict.fromkeys(names, over),
            dict.fromkeys(names, cut),
            {name: {} for name in names},
        )

    def render(self) -> Any:
        """What the environment draws."""
        return self.env.render()

    def close(self) -> None:
        """Free what the environment holds."""
        self.env.close()


class ForagingTeam(GymTeam):
    """Level-based foraging (Christianos et al., 2020; Papoudakis et al., 2021).

    The library calls every end ``terminated``; here an episode that ended with food on the field is ``truncated``.
    """

    def truly_over(self) -> bool:
        return int(self.env.unwrapped.field.sum()) == 0  # type: ignore[attr-defined]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        # the library looks for free cells while players still stand where the last episode left them, so that an
        # equally seeded episode would depend on the one before
        for player in self.env.unwrapped.players:  # type: ignore[attr-defined]
            player.position = None
        return super().reset(seed=seed, options=options)


class WarehouseTeam(GymTeam):
    """Multi-robot warehouse (Papoudakis et al., 2021): a task without an end, so that every end is ``truncated``."""

    def truly_over(self) -> bool:
        return False


def _particles(game: str, arguments: dict[str, Any]) -> ParallelEnv:
    try:
        module = import_module(f"mpe2.{game}")
    except ModuleNotFoundError as error:
        raise ValueError(f"mpe2 has no game {game!r}; one is 'simple_spread_v3'") from error
    return module.parallel_env(**arguments)


def _gym_team(library: str, wrapper: type[GymTeam]) -> Callable[[str, dict[str, Any]], ParallelEnv]:
    def make(game: str, arguments: dict[str, Any]) -> ParallelEnv:
        import_module(library)  # registers its games
        try:
            return wrapper(gym.make(game, disable_env_checker=True, **arguments))
        except gym.error.UnregisteredEnv as error:
            raise ValueError(f"{library} has no game {game!r}: {error}") from error

    return make


def _limit(*path: str) -> Callable[[Any], int | None]:
    def read(game: Any) -> int | None:
        for name in path:
            game = getattr(game, name)
        return None if game is None else int(game)

    return read


# prefix -> (library, function that makes a copy, function that reads a copy's time limit)
FAMILIES: dict[str, tuple[str, Callable[[str, dict[str, Any]], ParallelEnv], Callable[[Any], int | None]]] = {
    "MPE2": ("mpe2", _particles, _limit("unwrapped", "max_cycles")),
    "Foraging": (
        "lbforaging", _gym_team("lbforaging", ForagingTeam), _limit("env", "unwrapped", "_max_episode_steps"),
    ),
    "rware": ("rware", _gym_team("rware", WarehouseTeam), _limit("env", "unwrapped", "max_steps")),
}  # fmt: skip


class VMASTeams(MultiAgentEnvironment):
    """``num_envs`` copies of a scenario of VMAS (Bettini et al., 2022), which steps them together itself, on the CPU.

    VMAS draws from one generator for all of its environments; each game here keeps a generator state of its own, so
    that two games do not disturb each other.

    Args:
        num_envs: Number of copies.
        scenario: Name of a scenario, for example ``"balance"``.
        continuous: Continuous instead of discrete actions.
        time_limit: Steps after which an episode is truncated.
        arguments: Keyword arguments of the scenario.

    Raises:
        ImportError: If VMAS is not installed.
        ValueError: If there is no such scenario, or its agents differ in their spaces.
    """

    least_agents = 1

    def __init__(
        self, num_envs: int, scenario: str, *, continuous: bool = False, time_limit: int | None = 100, **arguments: Any
    ) -> None:
        require_integer("num_envs", num_envs, 1)
        vmas = require_library("vmas")
        if scenario not in {*vmas.scenarios, *vmas.mpe_scenarios, *vmas.debug_scenarios}:
            raise ValueError(f"vmas has no scenario {scenario!r}; there are {', '.join(sorted(vmas.scenarios))}")
        self.scenario, self.continuous, self.arguments = scenario, continuous, arguments
        self._shared = vmas.simulator.environment.Environment.vmas_random_state
        self._draws = list(self._shared)
        with self._own_draws():
            self.simulator = vmas.make_env(
                scenario, num_envs, device="cpu", continuous_actions=continuous, max_steps=None, seed=0,
                terminated_truncated=True, **arguments,
            )  # fmt: skip
        self._names = [agent.name for agent in self.simulator.agents]
        shown = zip(self._names, self.simulator.observation_space, strict=True)
        acted = zip(self._names, self.simulator.action_space, strict=True)
        observation_space = equal_space("observations", {name: _converted(space) for name, space in shown})
        action_space = equal_space("actions", {name: _converted(space) for name, space in acted})
        width = len(self._names) * int(np.prod(observation_space.shape or (1,)))
        self._observation = np.zeros((num_envs, len(self._names), *(observation_space.shape or ())), dtype=np.float32)
        super().__init__(
            num_envs, len(self._names), observation_space, action_space,  # type: ignore[arg-type]
            gym.spaces.Box(-np.inf, np.inf, (width,), np.float32), time_limit=time_limit,
        )  # fmt: skip

    @classmethod
    def named(cls, name: str, num_envs: int, **arguments: Any) -> "VMASTeams":
        """``"VMAS/balance"`` and so on; keyword arguments are those of the constructor."""
        return cls(num_envs, name.partition("/")[2], **arguments)

    def spawn(self, num_envs: int) -> "VMASTeams":
        return type(self)(
            num_envs, self.scenario, continuous=self.continuous, time_limit=self.time_limit, **self.arguments
        )

    @property
    def agent_names(self) -> list[str]:
        return list(self._names)

    @contextmanager
    def _own_draws(self) -> Any:
        """Put this game's generator state where VMAS looks for it, and keep it afterwards."""
        others = list(self._shared)
        self._shared[:] = self._draws
        try:
            yield
        finally:
            self._draws = list(self._shared)
            self._shared[:] = others

    def _restart(self, count: int, options: dict[str, Any] | None) -> int:
        if options:
            raise ValueError(f"VMAS takes no options at a reset, got {sorted(options)}")
        return int(self.np_random.integers(2**31))

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        with self._own_draws():
            if isinstance(where, slice):
                self._keep(self.simulator.reset(seed=states))
                return
            for copy in where:
                self.simulator.reset_at(int(copy), return_observations=False)
            (seen,) = self.simulator.get_from_scenario(
                get_observations=True, get_rewards=False, get_infos=False, get_dones=False
            )
        self._keep(seen)

    def _keep(self, seen: Sequence[Any]) -> None:
        self._observation = np.stack([rows.detach().numpy() for rows in seen], axis=1).astype(np.float32, copy=False)

    def _transition(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        torch = import_module("torch")
        chosen = [torch.as_tensor(rows.reshape(self.num_envs, -1)).float() for rows in action.swapaxes(0, 1)]
        with self._own_draws():
            seen, rewards, terminated, _, _ = self.simulator.step(chosen)
        self._keep(seen)
        return np.stack([row.detach().numpy() for row in rewards], axis=1).astype(np.float64), terminated.numpy().copy()

    def _observe(self) -> NDArray[np.float32]:
        return self._observation.copy()

    def _state(self) -> NDArray[np.float32]:
        return self._observation.reshape(self.num_envs, -1).copy()


def require_library(library: str, extra: str = INSTALL) -> Any:
    """The imported library.

    Raises:
        ImportError: If it is not installed; the message says what to install.
    """
    try:
        return import_module(library)
    except ImportError as error:
        raise ImportError(f"this game needs {library}, which is not installed: {extra}") from error


def equal_space(what: str, spaces: dict[str, gym.Space]) -> gym.Space:
    """The one space of all agents.

    Args:
        what: ``"observations"`` or ``"actions"``, for the message.
        spaces: Space by agent.
    Raises:
        ValueError: If agents differ; the message names them and their sizes.
    """
    kept = list(spaces.values())
    if all(_size(space) == _size(kept[0]) for space in kept):
        first = kept[0]
        if isinstance(first, gym.spaces.Box) and any(space != first for space in kept):
            # equal shapes with other bounds: what any agent may see
            boxes = [space for space in kept if isinstance(space, gym.spaces.Box)]
            low, high = np.min([box.low for box in boxes], axis=0), np.max([box.high for box in boxes], axis=0)
            if what == "actions":
                raise ValueError(f"agents need equal bounds of actions, got {spaces}")
            return gym.spaces.Box(low, high, dtype=first.dtype)
        return first
    sizes = ", ".join(f"{name}: {_size(space)}" for name, space in spaces.items())
    raise ValueError(f"agents need equal {what} to be one team, got {sizes}")


def _size(space: gym.Space) -> Any:
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else space.shape


def _seen(game: ParallelEnv, name: str) -> gym.Space:
    """The space of what an agent observes, without the mask that some games put beside it."""
    space = game.observation_space(name)
    return space["observation"] if isinstance(space, gym.spaces.Dict) else space


def _state_space(game: ParallelEnv) -> gym.spaces.Box | None:
    try:
        game.reset(seed=0)
        game.state()
        space = game.state_space
    except (AttributeError, NotImplementedError):
        return None
    return space if isinstance(space, gym.spaces.Box) else None


def _converted(space: Any) -> gym.Space:
    """A space of the older package that VMAS uses, as Gymnasium's."""
    if hasattr(space, "n"):
        return gym.spaces.Discrete(int(space.n))
    return gym.spaces.Box(np.asarray(space.low), np.asarray(space.high), dtype=np.float32)
