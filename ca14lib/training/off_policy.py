"""The loop that trains an off-policy agent in an environment, resumable bit for bit."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ca14lib.agents.base import Agent, restored_generator
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.data import ReplayBuffer
from ca14lib.training.history import History
from ca14lib.training.vector import successors, vector_environment

Evaluate = Callable[[Agent], Mapping[str, float]]


def train_off_policy(
    agent: Agent,
    environment: str,
    steps: int,
    *,
    environment_arguments: Mapping[str, Any] | None = None,
    num_envs: int = 1,
    start_steps: int = 1_000,
    updates_per_step: float = 1.0,
    batch_size: int = 256,
    capacity: int = 1_000_000,
    seed: int = 0,
    buffer: ReplayBuffer | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    log_every: int = 1_000,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train an agent by acting in an environment and learning from a replay buffer.

    With the same arguments on the same machine the history is bit-equal, whether the run was interrupted or not: if
    ``checkpoint`` exists, training goes on from it. Environments are reset at every checkpoint, interrupted or not; the
    episodes cut there count as truncated. The checkpoint holds the replay buffer too.

    Args:
        agent: The agent, changed in place.
        environment: Gymnasium id.
        steps: Environment steps in all, those of the checkpoint included; a multiple of ``num_envs``.
        environment_arguments: Keyword arguments of the environment.
        num_envs: Environments stepped together.
        start_steps: Steps with uniform actions before the first update.
        updates_per_step: Gradient updates per environment step.
        batch_size: Transitions per update.
        capacity: Transitions that the replay buffer keeps.
        seed: Fixes the environment, the uniform actions and which transitions are drawn.
        buffer: An empty replay buffer to fill, when its content is wanted afterwards; None makes one.
        evaluate: Function of the agent whose numbers are logged, for example
            :class:`ca14lib.evaluation.RolloutEvaluation`; called on schedule and at the end.
        evaluate_every: Steps between evaluations; None for the end only.
        log_every: Steps over which logged losses and episode returns are averaged.
        checkpoint: File to write on schedule and at the end, and to resume from.
        checkpoint_every: Steps between checkpoints; None for the end only.
        progress: Show a progress bar.
    Returns:
        Losses, ``episode_return`` (mean of the training episodes that ended since the last log) and what ``evaluate``
        gave, by environment step.
    Raises:
        ValueError: If a number is out of range, agent and environment do not fit, or the checkpoint is of another run.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    schedule = {"steps": steps, "start_steps": start_steps, "log_every": log_every}
    schedule |= {"evaluate_every": num_envs if evaluate_every is None else evaluate_every}
    schedule |= {"checkpoint_every": num_envs if checkpoint_every is None else checkpoint_every}
    for name, value in schedule.items():
        if not isinstance(value, int | np.integer) or value < num_envs * (name != "start_steps") or value % num_envs:
            raise ValueError(f"{name} must be a positive multiple of num_envs={num_envs}, got {value}")
    if not 0 < updates_per_step < math.inf or batch_size < 1:
        raise ValueError(f"updates_per_step and batch_size must be positive, got {updates_per_step} and {batch_size}")
    vector = vector_environment(environment, num_envs, **(environment_arguments or {}))
    for name in ("observation_space", "action_space"):
        if getattr(agent, name) != getattr(vector, f"single_{name}"):
            raise ValueError(
                f"the agent's {name} is {getattr(agent, name)}, {environment}'s {getattr(vector, f'single_{name}')}"
            )
    if buffer is None:
        buffer = ReplayBuffer(
            agent.observation_space, agent.action_space, min(capacity, max(steps, num_envs)),
            num_envs=num_envs, device=agent.device,
        )  # fmt: skip
    if buffer.added or buffer.num_envs != num_envs:
        raise ValueError(
            f"buffer must be empty and for {num_envs} environments, got {buffer.num_envs} and {len(buffer)}"
        )
    run = {
        "environment": environment, "num_envs": num_envs, "start_steps": start_steps, "batch_size": batch_size,
        "updates_per_step": updates_per_step, "capacity": buffer.steps * num_envs, "seed": seed, "log_every": log_every,
        "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every,
    }  # fmt: skip
    if environment_arguments:
        run["environment_arguments"] = repr(sorted(environment_arguments.items()))
    generator = torch.Generator(agent.device).manual_seed(seed)
    history, start, resets = History(), 0, 0
    if checkpoint is not None and Path(checkpoint).exists():
        history, start, resets = _resume(Path(checkpoint), agent, buffer, generator, run, steps)
    observation, actions = _reset(vector, seed, resets)
    totals: dict[str, Tensor] = {}
    summed, due, returns, running = 0, 0.0, [], np.zeros(num_envs)
    bar = tqdm(total=steps, initial=start, disable=not progress, desc=type(agent).__name__, unit="step", leave=False,
               mininterval=0.5)  # fmt: skip
    for step in range(start + num_envs, steps + 1, num_envs):
        action = actions() if step <= start_steps else agent.act(observation)
        following, reward, terminated, truncated, info = vector.step(action)
        ended = terminated | truncated
        buffer.add(
            observation=observation, action=action, reward=reward, terminated=terminated,
            next_observation=successors(following, ended, info), truncated=truncated & ~terminated,
        )  # fmt: skip
        running += reward
        returns += running[ended].tolist()
        running[ended] = 0
        observation = following
        due += num_envs * updates_per_step if step > start_steps else 0
        while due >= 1:
            for name, loss in agent.update(buffer.sample(batch_size, generator)).items():
                totals[name] = totals[name] + loss if name in totals else loss
            summed, due = summed + 1, due - 1
        bar.update(num_envs)
        saves = step == steps or (checkpoint_every is not None and step % checkpoint_every == 0)
        if step % log_every == 0 or saves:
            history.add(step, {name: float(total) / summed for name, total in totals.items()})
            history.add(step, {"episode_return": float(np.mean(returns))} if returns else {})
            totals, summed, returns = {}, 0, []
        if evaluate is not None and (step == steps or (evaluate_every is not None and step % evaluate_every == 0)):
            history.add(step, evaluate(agent))
        if saves:
            buffer.end_episodes()
            resets, due, running = resets + 1, 0.0, np.zeros(num_envs)
            observation, actions = _reset(vector, seed, resets)
            if checkpoint is not None:
                _save(Path(checkpoint), agent, buffer, generator, {"step": step, "resets": resets, "run": run}, history)
    bar.close()
    vector.close()
    return history


def _reset(vector: Any, seed: int, resets: int) -> tuple[Any, Callable[[], Any]]:
    """Environments and uniform actions from new seeds: nothing of what came before a checkpoint is carried over."""
    state = np.random.SeedSequence([seed, resets]).generate_state(2)
    observation, _ = vector.reset(seed=int(state[0] % 2**31))
    vector.action_space.seed(int(state[1] % 2**31))
    return observation, vector.action_space.sample


def _save(
    path: Path, agent: Agent, buffer: ReplayBuffer, generator: torch.Generator, loop: dict[str, Any], history: History
) -> None:
    tensors, metadata = agent.state()
    held = min(buffer.added, buffer.steps)
    tensors |= {f"replay.{name}": column[:held] for name, column in buffer.columns.items()}
    tensors["loop.generator"] = generator.get_state()
    loop |= {"history": history.rows, "added": buffer.added}
    write_checkpoint(path, tensors, metadata | {"loop": loop})


def _resume(
    path: Path, agent: Agent, buffer: ReplayBuffer, generator: torch.Generator, run: dict[str, Any], steps: int
) -> tuple[History, int, int]:
    tensors, metadata = read_checkpoint(path)
    loop = metadata.get("loop", {})
    if "added" not in loop or "loop.generator" not in tensors:
        raise ValueError(f"{path} holds no off-policy training run to resume; load its agent with agent.load")
    for name in sorted(run.keys() | loop["run"].keys(), key=lambda name: (name == "capacity", name)):
        stored, value = loop["run"].get(name), run.get(name)
        # a ring of another size will do as long as nothing in it had to be overwritten
        fits = name == "capacity" and stored is not None and loop["added"] * buffer.num_envs <= min(stored, value)
        if stored != value and not fits:
            raise ValueError(f"{path} is of another run: its {name} is {stored}, expected {value}")
    if loop["step"] > steps:
        raise ValueError(f"{path} has seen {loop['step']} steps already, more than the {steps} asked for")
    held = min(loop["added"], buffer.steps)
    for name, column in buffer.columns.items():
        stored = tensors.get(f"replay.{name}")
        if stored is None or stored.shape != column[:held].shape:
            raise ValueError(f"{path}: the stored replay buffer does not fit")
    resumed = restored_generator(tensors["loop.generator"], generator.device)
    agent.restore(tensors, metadata)
    generator.set_state(resumed.get_state())
    for name, column in buffer.columns.items():
        column[:held] = tensors[f"replay.{name}"].to(column.device)
    buffer.added = loop["added"]
    return History(loop["history"]), loop["step"], loop["resets"]
