"""The offline training loop: batches from a fixed dataset, nothing else."""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ca14lib.agents.base import Agent, restored_generator
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.data import OfflineDataset
from ca14lib.training.history import History

Evaluate = Callable[[Agent], Mapping[str, float]]


def train_offline(
    agent: Agent,
    dataset: OfflineDataset,
    updates: int,
    *,
    batch_size: int = 256,
    seed: int = 0,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    log_every: int = 500,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train an agent on a dataset.

    With the same agent seed, ``seed``, data and machine the history is bit-equal, whether the run was interrupted or
    not: if ``checkpoint`` exists, training goes on from it. An agent that relabels the data
    (:meth:`ca14lib.agents.Agent.relabel`) is asked on its schedule; its labels are part of the checkpoint.

    Args:
        agent: The agent, changed in place.
        dataset: The data, on the agent's device.
        updates: Total number of updates, those of the checkpoint included.
        batch_size: Transitions per update.
        seed: Fixes which transitions are drawn.
        evaluate: Function of the agent whose numbers are logged, for example
            :class:`ca14lib.evaluation.ExactEvaluation`; called at step 0, on schedule and at the end.
        evaluate_every: Updates between evaluations; None for start and end only.
        log_every: Updates over which logged losses are averaged.
        checkpoint: File to write on schedule and at the end, and to resume from.
        checkpoint_every: Updates between checkpoints; None for the end only.
        tensorboard: Folder for TensorBoard event files (needs the ``tensorboard`` extra).
        progress: Show a progress bar.
    Raises:
        ValueError: If a number is out of range, agent and data do not fit, or the checkpoint is of another run.
    """
    schedule: dict[str, int | None] = {
        "updates": updates, "batch_size": batch_size, "log_every": log_every,
        "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every,
    }  # fmt: skip
    for name, value in schedule.items():
        if value is not None and (not isinstance(value, int | np.integer) or value < (0 if name == "updates" else 1)):
            raise ValueError(f"{name} must be a positive integer, got {value}")
    updates, batch_size, log_every = int(updates), int(batch_size), int(log_every)
    evaluate_every, checkpoint_every = (None if n is None else int(n) for n in (evaluate_every, checkpoint_every))
    _check_fit(agent, dataset)
    generator = torch.Generator(dataset.device).manual_seed(seed)
    history, start = History(), 0
    value_target: Tensor | None = None  # what the agent last made of the data, if it relabels them
    run: dict[str, int | None] = {"data": _fingerprint(dataset), "batch_size": batch_size, "seed": seed}
    run |= {"log_every": log_every, "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every}
    if checkpoint is not None and Path(checkpoint).exists():
        history, start, value_target = _resume(Path(checkpoint), agent, generator, run, updates)
    writer = None if tensorboard is None else _tensorboard(tensorboard)

    def log(step: int, values: Mapping[str, float]) -> None:
        history.add(step, values)
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    def save(step: int) -> None:
        if checkpoint is not None:
            tensors, metadata = agent.state()
            tensors["loop.generator"] = generator.get_state()
            if value_target is not None:
                tensors["loop.value_target"] = value_target
            loop = {"step": step, "run": run, "history": history.rows}
            write_checkpoint(checkpoint, tensors, metadata | {"loop": loop})

    labelled = dataset if value_target is None else dataset.relabelled(value_target)
    totals: dict[str, Tensor] = {}  # losses since they were last logged; converted to floats only then
    summed = 0
    if start == 0 and evaluate is not None:
        log(0, evaluate(agent))
    for step in tqdm(range(start + 1, updates + 1), initial=start, total=updates, disable=not progress,
                     desc=type(agent).__name__, unit="update", leave=False, mininterval=0.5):  # fmt: skip
        if agent.relabel_every is not None and (step - 1) % agent.relabel_every == 0:
            value_target = agent.relabel(dataset)
            labelled = dataset if value_target is None else dataset.relabelled(value_target)
        for name, loss in agent.update(labelled.sample(batch_size, generator)).items():
            totals[name] = totals[name] + loss if name in totals else loss
        summed += 1
        last = step == updates
        saves = last or (checkpoint_every is not None and step % checkpoint_every == 0)
        # a checkpoint logs too: no sum is left over that a resumed run would lack
        if step % log_every == 0 or saves:
            log(step, {name: float(total) / summed for name, total in totals.items()})
            totals, summed = {}, 0
        if evaluate is not None and (last or (evaluate_every is not None and step % evaluate_every == 0)):
            log(step, evaluate(agent))
        if saves:
            save(step)
    if writer is not None:
        writer.close()
    return history


def _check_fit(agent: Agent, dataset: OfflineDataset) -> None:
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(agent, name), getattr(dataset, name)
        if ours != theirs:
            raise ValueError(f"the agent's {name} is {ours}, the dataset's is {theirs}")
    if agent.device.type != dataset.device.type:
        raise ValueError(f"the agent is on {agent.device}, the dataset on {dataset.device}; move it with dataset.to(…)")


def _fingerprint(dataset: OfflineDataset) -> int:
    """A checksum by which a resumed run recognises its data."""
    checksum = len(dataset)
    for name in ("observation", "action", "reward", "next_observation", "terminated", "truncated"):
        checksum = zlib.crc32(getattr(dataset.transitions, name).cpu().numpy().tobytes(), checksum)
    return checksum


def _resume(
    path: Path, agent: Agent, generator: torch.Generator, run: dict[str, Any], updates: int
) -> tuple[History, int, Tensor | None]:
    tensors, metadata = read_checkpoint(path)
    loop = metadata.get("loop")
    if loop is None or "loop.generator" not in tensors:
        raise ValueError(f"{path} holds an agent but no training run to resume; load it with agent.load")
    for name, value in run.items():
        if loop["run"].get(name) != value:
            raise ValueError(f"{path} is of another run: its {name} is {loop['run'].get(name)}, expected {value}")
    if loop["step"] > updates:
        raise ValueError(f"{path} has seen {loop['step']} updates already, more than the {updates} asked for")
    try:
        resumed = restored_generator(tensors["loop.generator"], generator.device)
    except ValueError as error:
        raise ValueError(f"{path}: the training run cannot go on: {error}") from error
    value_target = tensors.get("loop.value_target")
    if agent.relabel_every is not None and loop["step"] > 0 and value_target is None:
        raise ValueError(f"{path} lacks the labels of its training run: it cannot go on")
    agent.restore(tensors, metadata)
    generator.set_state(resumed.get_state())
    value_target = None if value_target is None else value_target.to(agent.device)
    return History(loop["history"]), loop["step"], value_target


def _tensorboard(folder: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard= needs the extra: pip install 'ca14lib[tensorboard]'") from error
    return SummaryWriter(str(folder))
