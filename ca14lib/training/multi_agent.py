"""The loop that trains a team in many copies of a game, resumable bit for bit."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ca14lib.agents.base import restored_generator
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.agents.multi_agent.base import MultiAgent
from ca14lib.data import EpisodeReplay, JointReplay, JointTransitions
from ca14lib.environments import MultiAgentEnvironment, multi_agent_environment
from ca14lib.training.history import History

Evaluate = Callable[[Any], Mapping[str, float]]
Replay = JointReplay | EpisodeReplay


def train_multi_agent(
    agent: MultiAgent,
    environment: str,
    steps: int,
    *,
    environment_arguments: Mapping[str, Any] | None = None,
    num_envs: int = 64,
    rollout_steps: int = 16,
    start_steps: int = 1_000,
    updates: int = 1,
    batch_size: int = 256,
    capacity: int = 100_000,
    seed: int = 0,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    log_every: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train a team on what it lives through in a game.

    An iteration is ``rollout_steps`` steps in each of ``num_envs`` copies, and then learning: one ``agent.update`` on
    those steps for a team that learns from rollouts, ``updates`` of them on batches of a replay for the others. With
    the same arguments on the same machine the history is bit-equal, whether the run was interrupted or not: if
    ``checkpoint`` exists, training goes on from it. Games are reset at every checkpoint, interrupted or not.

    Args:
        agent: The team, changed in place.
        environment: Name of a game (:func:`ca14lib.environments.multi_agent_environment`).
        steps: Steps of all copies together, in each of which all agents act; rounded up to whole iterations.
        environment_arguments: Keyword arguments of the game.
        num_envs: Copies stepped together.
        rollout_steps: Steps of each copy between two updates.
        start_steps: Steps in the replay before the first update.
        updates: Updates per iteration, for teams that learn from a replay.
        batch_size: Transitions, or episodes, per update from a replay.
        capacity: Transitions, or episodes, that the replay keeps.
        seed: Fixes the games and which experience is drawn.
        evaluate: Function of the team whose numbers are logged, for example
            :class:`ca14lib.evaluation.TeamEvaluation`; called at step 0, on schedule and at the end.
        evaluate_every: Iterations between evaluations; None for start and end only.
        log_every: Iterations over which what is logged is averaged; None for each.
        checkpoint: File to write on schedule and at the end, and to resume from; it holds the replay too.
        checkpoint_every: Iterations between checkpoints; None for the end only.
        tensorboard: Folder for TensorBoard event files (needs the ``tensorboard`` extra).
        progress: Show a progress bar.
    Returns:
        By step: what ``update`` returned; of the episodes that ended ``episode_return`` (sum over agents),
        ``episode_length`` and ``finished`` (share that ended truly, not by the time limit); what ``evaluate`` gave.
    Raises:
        ValueError: If a number is out of range, team and game do not fit, or the checkpoint is of another run.
    """
    numbers = {
        "steps": steps, "num_envs": num_envs, "rollout_steps": rollout_steps, "updates": updates,
        "batch_size": batch_size, "capacity": capacity,
    }  # fmt: skip
    optional = {"evaluate_every": evaluate_every, "log_every": log_every, "checkpoint_every": checkpoint_every}
    for name, value in (numbers | {key: value for key, value in optional.items() if value is not None}).items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    for name, value in (("seed", seed), ("start_steps", start_steps)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
    if not isinstance(agent, MultiAgent):
        raise ValueError(f"train_multi_agent needs a team, got {type(agent).__name__}")
    game = multi_agent_environment(environment, int(num_envs), **(environment_arguments or {}))
    for name, own, other in (
        ("observation_space", agent.observation_space, game.single_observation_space),
        ("action_space", agent.action_space, game.single_action_space),
        ("state_space", agent.state_space, game.state_space),
    ):
        if own != other:
            raise ValueError(f"the team's {name} is {own}, {environment}'s {other}")
    iteration_steps = int(num_envs) * int(rollout_steps)
    iterations = -(-int(steps) // iteration_steps)
    run = {
        "environment": environment, "environment_arguments": repr(sorted((environment_arguments or {}).items())),
        "start_steps": int(start_steps), "seed": int(seed),
        **{name: int(value) for name, value in numbers.items() if name != "steps"},
        **{name: None if value is None else int(value) for name, value in optional.items()},
    }  # fmt: skip
    collector = TeamCollector(agent, game, int(seed))
    replay = _replay(agent, game, collector.masks, int(capacity))
    generator = torch.Generator(agent.device).manual_seed(int(seed))
    history, start, resets = History(), 0, 0
    if checkpoint is not None and Path(checkpoint).exists():
        history, start, resets = _resume(Path(checkpoint), agent, replay, generator, run, iterations)
        collector.restart(resets)
    writer = None
    if tensorboard is not None:
        from ca14lib.training.offline import _tensorboard

        writer = _tensorboard(tensorboard)

    def log(iteration: int, values: Mapping[str, float]) -> None:
        history.add(iteration * iteration_steps, values)
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(name, value, iteration * iteration_steps)

    if start == 0 and evaluate is not None:
        log(0, evaluate(agent))
    totals: dict[str, Tensor] = {}
    learnt = 0
    bar = tqdm(total=iterations * iteration_steps, initial=start * iteration_steps, disable=not progress, unit="step",
               desc=type(agent).__name__, leave=False, mininterval=0.5)  # fmt: skip
    for iteration in range(start + 1, iterations + 1):
        rollout = collector.collect(int(rollout_steps), replay)
        batches: list[JointTransitions] = []
        if replay is None:
            batches = [rollout]
        elif iteration * iteration_steps > start_steps and len(replay) >= _least(replay, int(batch_size)):
            batches = [replay.sample(int(batch_size), generator) for _ in range(int(updates))]
        for batch in batches:
            for name, loss in agent.update(batch).items():
                totals[name] = totals[name] + loss if name in totals else loss
            learnt += 1
        bar.update(iteration_steps)
        last = iteration == iterations
        saves = last or (checkpoint_every is not None and iteration % checkpoint_every == 0)
        if saves or iteration % (log_every or 1) == 0:
            log(iteration, {name: float(total) / learnt for name, total in totals.items()})
            log(iteration, collector.episodes())
            totals, learnt = {}, 0
        if evaluate is not None and (last or (evaluate_every is not None and iteration % evaluate_every == 0)):
            log(iteration, evaluate(agent))
        if saves:
            resets += 1
            collector.restart(resets)
            if isinstance(replay, JointReplay):
                replay.end_episodes()
            elif isinstance(replay, EpisodeReplay):
                replay.drop_unfinished()
            if checkpoint is not None:
                loop = {"iteration": iteration, "resets": resets, "run": run, "history": history.rows}
                _save(Path(checkpoint), agent, replay, generator, loop)
    bar.close()
    game.close()
    if writer is not None:
        writer.close()
    return history


class TeamCollector:
    """Steps the copies of a game with a team and keeps what the next steps go on from.

    Args:
        agent: The team.
        game: The game.
        seed: Fixes the game.
        draw: Function of observations, memory and masks to :class:`~ca14lib.agents.multi_agent.Drawn`; by default the
            team's own ``sample``. Self-play puts in opponents here.
        learns: ``[N, n]`` bool, agents to learn from, or None for all.
    """

    def __init__(
        self, agent: MultiAgent, game: MultiAgentEnvironment, seed: int, *,
        draw: Callable[..., Any] | None = None, learns: NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        self.agent, self.game, self.seed = agent, game, seed
        self.draw, self.learns = agent.sample if draw is None else draw, learns
        self.restart(0)

    @property
    def masks(self) -> bool:
        """Whether the game forbids actions."""
        return "action_mask" in self.info

    def restart(self, resets: int) -> None:
        """Reset every copy from new seeds: nothing of what came before is carried over."""
        state = np.random.SeedSequence([self.seed, resets]).generate_state(1)
        self.observation, self.info = self.game.reset(seed=int(state[0] % 2**31))
        copies = self.game.num_envs
        self.memory = self.agent.initial_memory(copies)
        self.running_return, self.running_length = np.zeros(copies), np.zeros(copies, dtype=np.int64)
        self._ended: list[NDArray] = []

    def collect(self, steps: int, replay: Replay | None = None) -> JointTransitions:
        """The next steps of all copies ``[T, N, …]``; they are added to a replay, too, if there is one."""
        game, rows = self.game, []
        memory = self.memory
        for _ in range(steps):
            mask = self.info.get("action_mask")
            drawn = self.draw(self.observation, self.memory, mask)
            following, reward, terminated, truncated, info = game.step(self.agent.executed(drawn.action))
            if not np.isfinite(reward).all():
                raise ValueError(f"rewards must be finite, the game gave {reward[~np.isfinite(reward)][0]}")
            ended = terminated | truncated
            final, final_info = (info["final_obs"], info["final_info"]) if ended.any() else (following, info)
            learns = self.info.get("alive")
            if self.learns is not None:
                learns = self.learns if learns is None else learns & self.learns
            row: dict[str, Any] = {
                "observation": self.observation, "state": self.info["state"], "action": drawn.action, "reward": reward,
                "next_observation": final, "next_state": final_info["state"], "terminated": terminated,
                "truncated": truncated & ~terminated, "log_prob": drawn.log_prob, "action_mask": mask,
                "next_action_mask": final_info.get("action_mask"), "learns": learns, "noise": drawn.noise,
            }  # fmt: skip
            if replay is not None:
                replay.add(**{name: row[name] for name in replay.columns if name in row})
            rows.append(row)
            self._count(reward, ended, terminated)
            self.observation, self.info, self.memory = following, info, drawn.memory
            if self.memory is not None and ended.any():
                keep = torch.as_tensor(~ended, device=self.memory.device).reshape(-1, 1, 1)
                self.memory = self.memory * keep
        columns = {
            name: _stacked([row[name] for row in rows], self.agent.device)
            for name in rows[0]
            if rows[0][name] is not None
        }
        return JointTransitions(**columns, memory=memory)

    def _count(self, reward: NDArray, ended: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> None:
        self.running_return += reward.sum(axis=1)
        self.running_length += 1
        if ended.any():
            self._ended.append(
                np.stack([self.running_return[ended], self.running_length[ended], terminated[ended]], axis=1)
            )
            self.running_return[ended] = self.running_length[ended] = 0

    def episodes(self) -> dict[str, float]:
        """Means over the episodes that ended since the last call; empty if none did."""
        if not self._ended:
            return {}
        means = np.concatenate(self._ended).mean(axis=0)
        self._ended = []
        return dict(zip(("episode_return", "episode_length", "finished"), means.tolist(), strict=True))


def _stacked(values: list[Any], device: torch.device) -> Tensor:
    if isinstance(values[0], Tensor):
        return torch.stack(values)
    stacked = torch.as_tensor(np.stack(values), device=device)
    return stacked.float() if stacked.is_floating_point() else stacked


def _replay(agent: MultiAgent, game: MultiAgentEnvironment, masks: bool, capacity: int) -> Replay | None:
    spaces = (agent.observation_space, agent.action_space, agent.state_space)
    keywords: dict[str, Any] = {"num_envs": game.num_envs, "masks": masks, "device": agent.device}
    if agent.experience == "rollouts":
        return None
    if agent.experience == "transitions":
        return JointReplay(*spaces, max(capacity, game.num_envs), **keywords)  # type: ignore[arg-type]
    length = game.time_limit or game.horizon
    if length is None:
        raise ValueError(f"{type(agent).__name__} replays whole episodes: the game needs a time limit or a horizon")
    return EpisodeReplay(*spaces, capacity, length, **keywords)  # type: ignore[arg-type]


def _least(replay: Replay, batch_size: int) -> int:
    """What a replay must hold before a batch can be drawn: whole episodes are drawn without repetition."""
    return batch_size if isinstance(replay, EpisodeReplay) else 1


def _save(path: Path, agent: MultiAgent, replay: Replay | None, generator: torch.Generator, loop: dict) -> None:
    tensors, metadata = agent.state()
    if replay is not None:
        tensors |= {f"replay.{name}": column[: _held(replay)] for name, column in replay.columns.items()}
    tensors["loop.generator"] = generator.get_state()
    loop = loop | {"added": 0 if replay is None else replay.added, "kind": "multi-agent"}
    write_checkpoint(path, tensors, metadata | {"loop": loop})


def _held(replay: Replay) -> int:
    """Rows of a replay's columns that hold something."""
    return min(replay.added, replay.capacity if isinstance(replay, EpisodeReplay) else replay.steps)


def _resume(
    path: Path, agent: MultiAgent, replay: Replay | None, generator: torch.Generator, run: dict[str, Any],
    iterations: int,
) -> tuple[History, int, int]:  # fmt: skip
    tensors, metadata = read_checkpoint(path)
    loop = metadata.get("loop", {})
    if loop.get("kind") != "multi-agent":
        raise ValueError(f"{path} holds no multi-agent training run to resume; load its team with agent.load")
    for name, value in run.items():
        if loop["run"].get(name) != value:
            raise ValueError(f"{path} is of another run: its {name} is {loop['run'].get(name)}, expected {value}")
    if loop["iteration"] > iterations:
        raise ValueError(
            f"{path} has seen {loop['iteration']} iterations already, more than the {iterations} asked for"
        )
    resumed = restored_generator(tensors.get("loop.generator"), generator.device)
    if replay is not None:
        replay.added = loop["added"]
        for name, column in replay.columns.items():
            stored = tensors.get(f"replay.{name}")
            if stored is None or stored.shape != column[: _held(replay)].shape:
                raise ValueError(f"{path}: the stored replay does not fit")
            column[: _held(replay)] = stored.to(column.device)
    agent.restore(tensors, metadata)
    generator.set_state(resumed.get_state())
    return History(loop["history"]), loop["iteration"], loop["resets"]
