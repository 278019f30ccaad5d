"""The loop that leads one agent through a sequence of finite problems. Book: evaluation/continual."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ca14lib.agents.hybrid.continual import ContinualDQN
from ca14lib.data.replay import COLUMNS, ReplayBuffer
from ca14lib.data.reservoir import Reservoir
from ca14lib.data.transitions import Transitions
from ca14lib.environments import TabularModel
from ca14lib.environments.tabular import TabularEnvironment
from ca14lib.training.history import History
from ca14lib.training.vector import successors

FISHER_ROWS = 512  # transitions from which the importance of weights is estimated


def train_continual(
    agent: ContinualDQN,
    tasks: Sequence[TabularModel],
    stages: Sequence[Sequence[int]],
    *,
    steps: int,
    time_limit: int,
    num_envs: int = 4,
    batch_size: int = 64,
    memory: int = 0,
    share: float = 0.5,
    seed: int = 0,
    evaluate: Callable[[ContinualDQN], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train on one stage after another; what a stage has collected is lost at its end, but for what a memory keeps.

    Args:
        agent: The agent, changed in place; :meth:`ContinualDQN.consolidate` is called after every stage.
        tasks: Problems with observations of one shape.
        stages: For each stage the tasks that are trained together in it: one for a sequence, all for joint training.
        steps: Steps of a stage in all its copies together, a multiple of ``num_envs``; one update per ``num_envs``.
        time_limit: Artificial limit of an episode.
        num_envs: Copies, shared out equally among the tasks of a stage.
        batch_size: Transitions per update.
        memory: Capacity of the reservoir of earlier stages; 0 for none.
        share: Of every batch that is replayed from the reservoir, once it holds something.
        seed: Fixes environments, memory and batches.
        evaluate: Function of the agent whose numbers are logged before the first stage and after every stage.
        evaluate_every: Steps between further evaluations; None for none.
        progress: Show a progress bar.
    Returns:
        What ``evaluate`` gave, by step.
    Raises:
        ValueError: If a number is out of range or a stage does not fit.
    """
    _check(tasks, stages, steps, num_envs, memory, share, evaluate_every)
    generator = torch.Generator(agent.device).manual_seed(seed)
    reservoir = Reservoir(memory) if memory else None
    history, done = History(), 0
    if evaluate is not None:
        history.add(0, evaluate(agent))
    bar = tqdm(total=steps * len(stages), disable=not progress, desc=type(agent).__name__, unit="step", leave=False)
    for number, stage in enumerate(stages):
        world = _World([tasks[task] for task in stage], num_envs, time_limit, [seed, number])
        buffer = ReplayBuffer(agent.observation_space, agent.action_space, steps, num_envs=num_envs)
        for _ in range(0, steps, num_envs):
            buffer.add(**world.step(agent))
            agent.update(_batch(buffer, reservoir, batch_size, share, generator))
            done += num_envs
            bar.update(num_envs)
            middle = evaluate_every is not None and done % evaluate_every == 0 and done % steps
            if evaluate is not None and middle:
                history.add(done, evaluate(agent))
        agent.consolidate(buffer.sample(min(FISHER_ROWS, steps), generator))
        if reservoir is not None:
            reservoir.add(_contents(buffer), generator)
        if evaluate is not None:
            history.add(done, evaluate(agent))
    bar.close()
    return history


class _World:
    """Copies of several tasks, stepped together."""

    def __init__(self, models: Sequence[TabularModel], num_envs: int, time_limit: int, seed: list[int]) -> None:
        copies = num_envs // len(models)
        self.environments = [TabularEnvironment(model, copies, time_limit=time_limit) for model in models]
        seeds = np.random.SeedSequence(seed).generate_state(len(models)) % 2**31
        self.seen = np.concatenate([e.reset(seed=int(s))[0] for e, s in zip(self.environments, seeds, strict=True)])

    def step(self, agent: ContinualDQN) -> dict[str, NDArray]:
        """One step of every copy, as the replay buffer takes it."""
        action, parts, following = agent.act(self.seen), [], []
        for environment, chosen in zip(self.environments, np.split(action, len(self.environments)), strict=True):
            seen, reward, terminated, truncated, info = environment.step(chosen)
            after = successors(seen, terminated | truncated, info)
            parts.append((reward, after, terminated, truncated & ~terminated))
            following.append(seen)
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        values = dict(zip(COLUMNS, (self.seen, action, *columns), strict=True))
        self.seen = np.concatenate(following)
        return values


def _batch(
    buffer: ReplayBuffer, reservoir: Reservoir | None, size: int, share: float, generator: torch.Generator
) -> Transitions:
    """New rows, then replayed ones, which are marked."""
    replayed = round(share * size) if reservoir is not None and len(reservoir) else 0
    parts = [buffer.sample(size - replayed, generator)]
    if replayed and reservoir is not None:
        parts.append(reservoir.sample(replayed, generator))
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in (*COLUMNS, "cost")}
    mark: Tensor = (torch.arange(size) >= size - replayed).float()
    return Transitions(**joined, value_target=mark)


def _contents(buffer: ReplayBuffer) -> Transitions:
    """Everything that a buffer holds, oldest first."""
    columns: dict[str, Any] = {name: column.flatten(0, 1)[: len(buffer)] for name, column in buffer.columns.items()}
    return Transitions(**columns, cost=columns["reward"].new_zeros((len(buffer), 0)))


def _check(
    tasks: Sequence[TabularModel], stages: Sequence[Sequence[int]], steps: int, num_envs: int, memory: int,
    share: float, evaluate_every: int | None,
) -> None:  # fmt: skip
    if num_envs < 1 or steps < num_envs or steps % num_envs:
        raise ValueError(f"steps must be a positive multiple of num_envs={num_envs}, got {steps}")
    if evaluate_every is not None and (evaluate_every < num_envs or evaluate_every % num_envs):
        raise ValueError(f"evaluate_every must be a positive multiple of num_envs={num_envs}, got {evaluate_every}")
    for stage in stages:
        if not stage or num_envs % len(stage) or not all(0 <= task < len(tasks) for task in stage):
            raise ValueError(
                f"a stage must name some of {len(tasks)} tasks, and num_envs={num_envs} be a multiple of their number, "
                f"got {list(stage)}"
            )
    if memory < 0 or not 0 <= share < 1:
        raise ValueError(f"memory must be at least 0 and share in [0, 1), got {memory} and {share}")
