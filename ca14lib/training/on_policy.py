"""The loop that trains an on-policy agent in many copies of an environment, resumable bit for bit."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ca14lib.agents.base import Agent
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.data import Rollout
from ca14lib.training.history import History
from ca14lib.training.vector import step_cost, successors, vector_environment

Evaluate = Callable[[Agent], Mapping[str, float]]
Shield = Callable[[NDArray, dict[str, Any]], NDArray[np.bool_]]
ActionFilter = Callable[[NDArray, NDArray], NDArray]


def train_on_policy(
    agent: OnPolicyAgent,
    environment: str,
    steps: int,
    *,
    environment_arguments: Mapping[str, Any] | None = None,
    num_envs: int = 128,
    rollout_steps: int = 50,
    seed: int = 0,
    shield: Shield | None = None,
    action_filter: ActionFilter | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    log_every: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train an agent on rollouts of its own policy.

    An iteration is ``num_envs * rollout_steps`` environment steps and one ``agent.update``. With the same arguments on
    the same machine the history is bit-equal, whether the run was interrupted or not: if ``checkpoint`` exists,
    training goes on from it. Environments are reset at every checkpoint, interrupted or not.

    Args:
        agent: The agent, changed in place.
        environment: Gymnasium id. An agent with cost limits needs ``info["cost"]`` at every step.
        steps: Environment steps in all, those of the checkpoint included; rounded up to whole iterations.
        environment_arguments: Keyword arguments of the environment.
        num_envs: Environments stepped together.
        rollout_steps: Steps of each between two updates.
        seed: Fixes the environments.
        shield: Function of observations ``[N, …]`` and the environment's info to a mask ``[N, A]`` of the actions that
            are allowed; the agent draws among those, and learns with the probabilities of that draw.
        action_filter: Function of observations and continuous actions ``[N, D]`` to the actions that are executed; for
            the learner it is a part of the environment.
        evaluate: Function of the agent whose numbers are logged, for example
            :class:`ca14lib.evaluation.ConstrainedEvaluation`; called at step 0, on schedule and at the end.
        evaluate_every: Iterations between evaluations; None for start and end only.
        log_every: Iterations over which what is logged is averaged; None for each.
        checkpoint: File to write on schedule and at the end, and to resume from.
        checkpoint_every: Iterations between checkpoints; None for the end only.
        tensorboard: Folder for TensorBoard event files (needs the ``tensorboard`` extra).
        progress: Show a progress bar.
    Returns:
        By environment step: what ``update`` returned; of the episodes that ended ``episode_return``,
        ``episode_length`` and, per constraint k, ``episode_cost_k`` (mean), ``worst_cost_k`` and ``violation_rate_k``
        (share above the limit); from the first step on ``total_cost_k``, ``total_violations_k`` (episodes above the
        limit) and ``time_in_violation_k`` (share of steps with a cost); and what ``evaluate`` gave.
    Raises:
        ValueError: If a number is out of range, agent and environment do not fit, the checkpoint is of another run, or
            costs are missing, negative or not finite.
    """
    schedule = {"steps": steps, "num_envs": num_envs, "rollout_steps": rollout_steps}
    optional = {"evaluate_every": evaluate_every, "log_every": log_every, "checkpoint_every": checkpoint_every}
    schedule |= {name: value for name, value in optional.items() if value is not None}
    for name, value in schedule.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    # NumPy's integers would be refused by the checkpoint's JSON, after all the work
    steps, num_envs, rollout_steps, seed = int(steps), int(num_envs), int(rollout_steps), int(seed)
    evaluate_every, log_every, checkpoint_every = (
        None if value is None else int(value) for value in (evaluate_every, log_every, checkpoint_every)
    )
    if not isinstance(agent, OnPolicyAgent):
        raise ValueError(f"train_on_policy needs an on-policy agent, got {type(agent).__name__}")
    if shield is not None and not agent.discrete:
        raise ValueError("a shield masks discrete actions; give an action_filter for continuous ones")
    if action_filter is not None and agent.discrete:
        raise ValueError("an action_filter corrects continuous actions; give a shield for discrete ones")
    vector = vector_environment(environment, num_envs, **(environment_arguments or {}))
    for name in ("observation_space", "action_space"):
        if getattr(agent, name) != getattr(vector, f"single_{name}"):
            raise ValueError(
                f"the agent's {name} is {getattr(agent, name)}, {environment}'s {getattr(vector, f'single_{name}')}"
            )
    iteration_steps = num_envs * rollout_steps
    iterations = -(-steps // iteration_steps)
    run = {
        "environment": environment, "num_envs": num_envs, "rollout_steps": rollout_steps, "seed": seed,
        "evaluate_every": evaluate_every, "log_every": log_every, "checkpoint_every": checkpoint_every,
        "environment_arguments": repr(sorted((environment_arguments or {}).items())),
        "shield": shield is not None, "action_filter": action_filter is not None,
    }  # fmt: skip
    history, start, resets, tally = History(), 0, 0, None
    if checkpoint is not None and Path(checkpoint).exists():
        history, start, resets, tally = _resume(Path(checkpoint), agent, run, iterations)
    collector = _Collector(agent, vector, environment, seed, resets, shield, action_filter)
    tracker = SafetyTally(agent.config.cost_limits, tally)
    writer = None if tensorboard is None else _tensorboard(tensorboard)

    def log(iteration: int, values: Mapping[str, float]) -> None:
        history.add(iteration * iteration_steps, values)
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(name, value, iteration * iteration_steps)

    if start == 0 and evaluate is not None:
        log(0, evaluate(agent))
    totals: dict[str, Tensor] = {}
    rollouts: list[Rollout] = []
    bar = tqdm(total=iterations * iteration_steps, initial=start * iteration_steps, disable=not progress, unit="step",
               desc=type(agent).__name__, leave=False, mininterval=0.5)  # fmt: skip
    for iteration in range(start + 1, iterations + 1):
        rollout = collector.rollout(rollout_steps)
        for name, loss in agent.update(rollout).items():
            totals[name] = totals[name] + loss if name in totals else loss
        rollouts.append(rollout)
        bar.update(iteration_steps)
        last = iteration == iterations
        saves = last or (checkpoint_every is not None and iteration % checkpoint_every == 0)
        if saves or iteration % (log_every or 1) == 0:
            log(iteration, {name: float(total) / len(rollouts) for name, total in totals.items()})
            log(iteration, tracker(rollouts))
            totals, rollouts = {}, []
        if evaluate is not None and (last or (evaluate_every is not None and iteration % evaluate_every == 0)):
            log(iteration, evaluate(agent))
        if saves:
            resets += 1
            collector.restart(resets)
            if checkpoint is not None:
                tensors, metadata = agent.state()
                loop = {"iteration": iteration, "resets": resets, "run": run, "history": history.rows}
                write_checkpoint(checkpoint, tensors, metadata | {"loop": loop | {"tally": tracker.totals}})
    bar.close()
    vector.close()
    if writer is not None:
        writer.close()
    return history


class _Collector:
    """Steps the environments and keeps what the next rollout goes on from."""

    def __init__(
        self, agent: OnPolicyAgent, vector: gym.vector.VectorEnv, name: str, seed: int, resets: int,
        shield: Shield | None, action_filter: ActionFilter | None,
    ) -> None:  # fmt: skip
        self.agent, self.vector, self.name, self.seed = agent, vector, name, seed
        self.shield, self.action_filter = shield, action_filter
        self.num_costs = agent.num_costs
        self.restart(resets)

    def restart(self, resets: int) -> None:
        """Reset every environment from new seeds: nothing of what came before is carried over."""
        state = np.random.SeedSequence([self.seed, resets]).generate_state(1)
        self.observation, self.info = self.vector.reset(seed=int(state[0] % 2**31))
        self._forget()

    def _forget(self) -> None:
        copies = self.vector.num_envs
        self.running_return, self.running_length = np.zeros(copies), np.zeros(copies, dtype=np.int64)
        self.running_cost = np.zeros((copies, self.num_costs))

    def rollout(self, steps: int) -> Rollout:
        agent, vector = self.agent, self.vector
        if agent.whole_episodes:
            self.observation, self.info = vector.reset()
            self._forget()
        columns: dict[str, list[Any]] = {}
        episodes: dict[str, list[NDArray]] = {"return": [], "cost": [], "length": []}

        def store(**values: Any) -> None:
            for name, value in values.items():
                columns.setdefault(name, []).append(value)

        for _ in range(steps):
            observation = self.observation
            if self.shield is not None:
                mask = np.asarray(self.shield(observation, self.info))
                store(action_mask=mask)
            else:
                mask = None
            action, log_prob = agent.sample(observation, mask)
            executed = agent.executed(action)
            if self.action_filter is not None:
                executed = np.asarray(self.action_filter(observation, executed), dtype=executed.dtype)
            following, reward, terminated, truncated, info = vector.step(executed)
            if not np.isfinite(reward).all():
                raise ValueError(f"rewards must be finite, {self.name} gave {reward[~np.isfinite(reward)][0]}")
            ended = terminated | truncated
            cost = self._cost(info, ended)
            self.running_return += reward
            self.running_cost += cost
            self.running_length += 1
            if ended.any():
                # episodes that began elsewhere than the task's teach, but do not count
                restarted = np.asarray(info.get("restarted", False))
                if agent.whole_episodes and restarted.any():
                    raise ValueError(
                        f"{type(agent).__name__} weighs whole episodes, which have to begin at the task's start: "
                        f"make {self.name} without restarts"
                    )
                counted = ended & ~restarted
                episodes["return"].append(self.running_return[counted])
                episodes["cost"].append(self.running_cost[counted])
                episodes["length"].append(self.running_length[counted])
                self.running_return[ended] = self.running_length[ended] = 0
                self.running_cost[ended] = 0.0
            store(
                observation=observation, action=action, log_prob=log_prob, reward=reward, cost=cost,
                next_observation=successors(following, ended, info), terminated=terminated,
                truncated=truncated & ~terminated,
            )  # fmt: skip
            self.observation, self.info = following, info
        device = agent.device

        def joined(name: str) -> Tensor:
            values = columns[name]
            if isinstance(values[0], Tensor):
                return torch.stack(values)
            stacked = torch.as_tensor(np.stack(values), device=device)
            return stacked.float() if stacked.is_floating_point() else stacked

        def finished(name: str, empty: tuple[int, ...]) -> Tensor:
            parts = episodes[name]
            return torch.as_tensor(np.concatenate(parts) if parts else np.zeros(empty), device=device).float()

        return Rollout(
            **{name: joined(name) for name in columns},
            episode_return=finished("return", (0,)),
            episode_cost=finished("cost", (0, self.num_costs)),
            episode_length=finished("length", (0,)),
        )

    def _cost(self, info: dict[str, Any], ended: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The checked costs ``[N, K]`` of a step."""
        if not self.num_costs:
            return np.zeros((len(ended), 0))
        cost = step_cost(info, ended)
        if cost is None:
            raise ValueError(
                f"{self.name} reports no info['cost'], which {type(self.agent).__name__} needs; "
                "ca14lib.environments.CostWrapper adds a cost function to an environment"
            )
        if cost.shape[1] != self.num_costs:
            raise ValueError(
                f"{self.name} reports {cost.shape[1]} costs a step, {type(self.agent).__name__} has "
                f"{self.num_costs} cost limits"
            )
        if not (cost >= 0).all() or not np.isfinite(cost).all():
            bad = cost[~((cost >= 0) & np.isfinite(cost))][0]
            raise ValueError(f"costs must be finite and not negative, {self.name} reported info['cost'] = {bad}")
        return cost


class SafetyTally:
    """What a training run has cost so far, counted over all of its steps and episodes.

    Args:
        limits: K cost limits.
        totals: Counts to go on from, as :attr:`totals` holds them.
    """

    def __init__(self, limits: tuple[float, ...], totals: Mapping[str, float] | None = None) -> None:
        self.limits = np.asarray(limits, dtype=np.float64)
        self.totals: dict[str, float] = dict(totals or {})

    def __call__(self, rollouts: list[Rollout]) -> dict[str, float]:
        """Numbers to log for some rollouts; the totals go on."""
        returns = torch.cat([rollout.episode_return for rollout in rollouts]).cpu().numpy()
        lengths = torch.cat([rollout.episode_length for rollout in rollouts]).cpu().numpy()
        costs = torch.cat([rollout.episode_cost for rollout in rollouts]).double().cpu().numpy()
        values: dict[str, float] = {}
        if len(returns):
            values |= {"episode_return": float(returns.mean()), "episode_length": float(lengths.mean())}
        self._add("episodes", len(returns))
        steps = self._add("steps", sum(rollout.size for rollout in rollouts))
        for k, limit in enumerate(self.limits):
            above = costs[:, k] > limit + 1e-6 * max(1.0, limit)  # sums in single precision
            if len(returns):
                values[f"episode_cost_{k}"] = float(costs[:, k].mean())
                values[f"worst_cost_{k}"] = float(costs[:, k].max())
                values[f"violation_rate_{k}"] = float(above.mean())
            paid = sum(float(rollout.cost[..., k].double().sum()) for rollout in rollouts)
            costly = sum(int((rollout.cost[..., k] > 0).sum()) for rollout in rollouts)
            values[f"total_cost_{k}"] = self._add(f"cost_{k}", paid)
            values[f"total_violations_{k}"] = self._add(f"violations_{k}", int(above.sum()))
            values[f"time_in_violation_{k}"] = self._add(f"costly_{k}", costly) / steps
        return values

    def _add(self, name: str, amount: float) -> float:
        self.totals[name] = self.totals.get(name, 0) + amount
        return self.totals[name]


def _resume(
    path: Path, agent: OnPolicyAgent, run: dict[str, Any], iterations: int
) -> tuple[History, int, int, dict[str, float]]:
    tensors, metadata = read_checkpoint(path)
    loop = metadata.get("loop", {})
    if "tally" not in loop:
        raise ValueError(f"{path} holds no on-policy training run to resume; load its agent with agent.load")
    for name, value in run.items():
        if loop["run"].get(name) != value:
            raise ValueError(f"{path} is of another run: its {name} is {loop['run'].get(name)}, expected {value}")
    if loop["iteration"] > iterations:
        raise ValueError(
            f"{path} has seen {loop['iteration']} iterations already, more than the {iterations} asked for"
        )
    agent.restore(tensors, metadata)
    return History(loop["history"]), loop["iteration"], loop["resets"], loop["tally"]


def _tensorboard(folder: str | Path) -> Any:
    from ca14lib.training.offline import _tensorboard as writer

    return writer(folder)
