"""Intersection: vehicles that must cross among others without colliding. Book: multi_agent/environments.

The simulator is highway-env (E. Leurent, 2018), the optional extra ``applications``.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ca14lib.environments.batched import require_integer
from ca14lib.environments.team_adapters import ParallelTeams, require_library

SPEEDS = (0.0, 4.5, 9.0)  # m/s, what a vehicle can aim for
FEATURES = ("presence", "x", "y", "vx", "vy", "cos_h", "sin_h")


class Crossing(ParallelEnv):
    """One junction of four roads on which some vehicles are controlled, as a PettingZoo ``ParallelEnv``.

    An agent is there until it has crashed or passed the junction; the episode ends when no agent is left.

    Args:
        num_agents: Controlled vehicles, one on each road in turn, at least 2 and at most 4.
        seen: Vehicles in an observation, the own one first, then the nearest, at least 1.
        traffic: Other vehicles at the start, at least 0.
        destination: ``"o1"``, the western exit, or another of ``"o0"`` … ``"o3"`` for all; None draws one of the three
            last for each vehicle.
        spawn_probability: That another vehicle enters in a step, in [0, 1].
        duration: Steps of one second after which the episode is truncated.
        collision_reward: What a crash pays.
        simulation_frequency: Steps of the physics per second, at least 1; highway-env's own is 15.
        render_mode: ``"rgb_array"`` or None.
    """

    metadata = {"name": "Crossing", "render_modes": ["rgb_array"]}

    def __init__(
        self,
        *,
        num_agents: int = 2,
        seen: int = 5,
        traffic: int = 3,
        destination: str | None = "o1",
        spawn_probability: float = 0.2,
        duration: int = 13,
        collision_reward: float = -5.0,
        simulation_frequency: int = 5,
        render_mode: str | None = None,
    ) -> None:
        for name, value, least in (
            ("num_agents", num_agents, 2), ("seen", seen, 1), ("traffic", traffic, 0), ("duration", duration, 1),
            ("simulation_frequency", simulation_frequency, 1),
        ):  # fmt: skip
            require_integer(name, value, least)
        if num_agents > 4:
            raise ValueError(f"num_agents must be at most 4, one on each road, got {num_agents}")
        if not 0.0 <= spawn_probability <= 1.0:
            raise ValueError(f"spawn_probability must lie in [0, 1], got {spawn_probability}")
        if destination not in (None, "o0", "o1", "o2", "o3"):
            raise ValueError(f"destination must be None or one of o0, o1, o2, o3, got {destination!r}")
        if not np.isfinite(collision_reward):
            raise ValueError(f"collision_reward must be finite, got {collision_reward}")
        require_library("highway_env", 'pip install "ca14lib[applications]"')
        from highway_env.envs.intersection_env import MultiAgentIntersectionEnv

        kinematics = {
            "type": "Kinematics", "vehicles_count": seen, "features": list(FEATURES), "absolute": True,
            "features_range": {"x": [-100, 100], "y": [-100, 100], "vx": [-20, 20], "vy": [-20, 20]},
        }  # fmt: skip
        self.simulator = MultiAgentIntersectionEnv(
            config={
                "observation": {"type": "MultiAgentObservation", "observation_config": kinematics},
                "action": {
                    "type": "MultiAgentAction",
                    "action_config": {
                        "type": "DiscreteMetaAction", "lateral": False, "longitudinal": True,
                        "target_speeds": list(SPEEDS),
                    },
                },
                "controlled_vehicles": num_agents, "initial_vehicle_count": traffic, "destination": destination,
                "spawn_probability": spawn_probability, "collision_reward": collision_reward,
                "simulation_frequency": simulation_frequency, "offscreen_rendering": True,
            },
            render_mode=render_mode,
        )  # fmt: skip
        self.duration, self.render_mode = duration, render_mode
        self.possible_agents = [f"vehicle_{index}" for index in range(num_agents)]
        self.agents: list[str] = []
        self._space = gym.spaces.Box(-np.inf, np.inf, (seen * len(FEATURES),), np.float32)
        self._actions = gym.spaces.Discrete(len(SPEEDS))

    def observation_space(self, agent: str) -> gym.Space:
        return self._space

    def action_space(self, agent: str) -> gym.Space:
        return self._actions

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode."""
        observation, _ = self.simulator.reset(seed=seed)
        self.agents, self._elapsed = list(self.possible_agents), 0
        return self._by_agent(observation), {name: {} for name in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """One second; agents that have left keep their last target speed."""
        there = self.agents
        idle = 1
        joint = tuple(actions[name] if name in there else idle for name in self.possible_agents)
        observation, _, _, _, info = self.simulator.step(joint)
        self._elapsed += 1
        by_agent = self._by_agent(observation)
        vehicles = dict(zip(self.possible_agents, self.simulator.controlled_vehicles, strict=True))
        rewards = dict(zip(self.possible_agents, info["agents_rewards"], strict=True))
        over = dict(zip(self.possible_agents, map(bool, info["agents_terminated"]), strict=True))
        cut = self._elapsed >= self.duration
        infos = {
            name: {
                "crashed": bool(vehicles[name].crashed), "arrived": bool(self.simulator.has_arrived(vehicles[name])),
                "speed": float(vehicles[name].speed),
            }
            for name in there
        }  # fmt: skip
        self.agents = [] if cut else [name for name in there if not over[name]]
        return (
            {name: by_agent[name] for name in there},
            {name: float(rewards[name]) for name in there},
            {name: over[name] for name in there},
            {name: cut and not over[name] for name in there},
            infos,
        )

    def _by_agent(self, observation: Any) -> dict[str, NDArray[np.float32]]:
        rows = (np.asarray(seen, dtype=np.float32).reshape(-1) for seen in observation)
        return dict(zip(self.possible_agents, rows, strict=True))

    def render(self) -> Any:
        """RGB frame."""
        return self.simulator.render()

    def close(self) -> None:
        """Free the simulator's window."""
        self.simulator.close()


class Intersection(ParallelTeams):
    r"""``"Intersection/v1"``: two to four controlled vehicles cross a junction among others.

    Actions once a second: 0 slower, 1 keep, 2 faster, among target speeds 0, 4.5 and 9 m/s; the way is fixed. An
    observation is ``seen`` rows of presence, position, velocity and heading (cosine and sine), the own vehicle first,
    in the junction's frame, scaled to about [−1, 1], in one row. Per step a vehicle receives 0 to 1 for speeds from 7
    to 9 m/s, ``collision_reward`` when it crashes, and 1 instead when it has passed. Who has crashed or passed is no
    longer ``alive``. ``info`` tells, ``[N, n]`` each, who has ``"crashed"`` or ``"arrived"`` in this episode.

    Simplified: others follow highway-env's driver model, which yields by fixed priorities; sensors are exact, and see
    through vehicles; one decision a second, of five steps of the physics by default; there are no pedestrians and no
    lane changes; rewards are each vehicle's own, where highway-env's cooperative reward is their mean; a crash ends
    the episode of those involved only, and the wreck stays in the way.

    Arguments besides ``num_envs`` are those of :class:`Crossing`.
    """

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **arguments: Any) -> None:
        self.arguments = arguments
        self._crashed = self._arrived = np.zeros(0, dtype=np.bool_)
        duration = arguments.get("duration", 13)
        super().__init__(
            num_envs, lambda: Crossing(render_mode=render_mode, **arguments), time_limit=duration,
            render_mode=render_mode,
        )  # fmt: skip
        self._crashed, self._arrived = np.zeros((2, num_envs, self.num_agents), dtype=np.bool_)

    @classmethod
    def named(cls, name: str, num_envs: int, **arguments: Any) -> "Intersection":
        """``"Intersection/v1"``."""
        if name != "Intersection/v1":
            raise ValueError(f"unknown game {name!r}; there is 'Intersection/v1'")
        return cls(num_envs, **arguments)

    def spawn(self, num_envs: int) -> "Intersection":
        return type(self)(num_envs, **self.arguments)

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self._crashed[where] = self._arrived[where] = False
        super()._place(where, states)

    def _store(self, copy: int, observations: dict, infos: dict, shown: Any) -> None:
        super()._store(copy, observations, infos, shown)
        for name, info in infos.items():
            if info:
                self._crashed[copy, self._index[name]] |= info["crashed"]
                self._arrived[copy, self._index[name]] |= info["arrived"]

    def _report(self) -> dict[str, Any]:
        return super()._report() | {"crashed": self._crashed.copy(), "arrived": self._arrived.copy()}
