"""Recorded episodes as off-policy evaluation reads them, and probabilities of actions at what they observed.

Book: offline/off_policy_evaluation. In shapes, N is the number of transitions, U that of distinct observations, A that
of actions, S that of rows of a policy table.
"""

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from ca14lib.agents.base import Agent, DiscreteAgent, require
from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel
from ca14lib.environments.tabular import row_index

Array = NDArray[np.floating]
EvaluatedPolicy = NDArray[np.float64] | DiscreteAgent | Callable[[NDArray], NDArray]

MOST_ROWS = 5_000  # a table is solved up to this many distinct observations


@dataclass(frozen=True)
class Log:
    """Recorded episodes with observations as numbers of distinct rows.

    Attributes:
        row: The distinct observations at which a decision is taken or a truncated episode ends, ``[U, …]``.
        state: Number of the observation at which each step is taken, ``[N]``.
        following: Number of the one that follows, ``[N]``; where a step terminates it is 0 and means nothing.
        action: ``[N]``.
        reward: ``[N]``.
        terminated: ``[N]``.
        episode: Episode number of every step, from 0, not decreasing, ``[N]``.
        step: Time step within the episode, ``[N]``.
        start: Index of the first step of every episode, ``[episodes]``.
        num_actions: A.
        numbered: Whether observations are numbers, not vectors.
    """

    row: NDArray
    state: NDArray[np.intp]
    following: NDArray[np.intp]
    action: NDArray[np.intp]
    reward: Array
    terminated: NDArray[np.bool_]
    episode: NDArray[np.intp]
    step: NDArray[np.intp]
    start: NDArray[np.intp]
    num_actions: int
    numbered: bool

    @classmethod
    def of(cls, dataset: OfflineDataset) -> "Log":
        """The log of a dataset of whole episodes with discrete actions."""
        data = dataset.transitions.to("cpu")
        length = dataset.episode_lengths()
        start = np.cumsum(length) - length
        episode = np.repeat(np.arange(len(length)), length)
        going_on = ~data.terminated
        seen = torch.cat([data.observation, data.next_observation[going_on]]).numpy()
        row, index = _distinct_rows(seen)
        following = np.zeros(len(data), dtype=np.intp)
        following[going_on.numpy()] = index[len(data) :]
        return cls(
            row, index[: len(data)], following, data.action.numpy().astype(np.intp),
            data.reward.double().numpy(), data.terminated.numpy(), episode, np.arange(len(data)) - start[episode],
            start,
            int(dataset.action_space.n),  # type: ignore[attr-defined]
            isinstance(dataset.observation_space, gym.spaces.Discrete),
        )  # fmt: skip

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.start)

    @property
    def repeats(self) -> bool:
        """Whether observations are numbers, or repeat often enough to count and to solve a table."""
        return self.numbered or len(self.row) <= min(MOST_ROWS, max(len(self.state) / 2, 1))

    def padded(self, values: Array) -> Array:
        """Values of transitions ``[N]`` as ``[episodes, T]``, 0 after an episode's end."""
        table = np.zeros((self.episodes, int(self.step.max()) + 1))
        table[self.episode, self.step] = values
        return table

    def counts(self) -> Array:
        """How often every action was taken at every distinct observation, ``[U, A]``."""
        size = len(self.row) * self.num_actions
        pair = self.state * self.num_actions + self.action
        return np.bincount(pair, minlength=size).astype(np.float64).reshape(-1, self.num_actions)

    def unseen_share(self, probability: Array) -> float:
        """Probability of actions that the data hold nowhere, averaged over recorded decisions; NaN without repeats.

        Args:
            probability: The policy's probabilities of all actions at every distinct observation, ``[U, A]``.
        """
        counts = self.counts()
        missing = (probability * (counts == 0)).sum(axis=1)
        return float(missing @ counts.sum(axis=1) / counts.sum()) if self.repeats else np.nan


def _distinct_rows(rows: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """The distinct rows of ``[N, …]`` and the number of each row among them; faster than sorting whole rows."""
    flat = rows.reshape(len(rows), -1)
    first, code = np.zeros(1, dtype=np.intp), np.zeros(len(rows), dtype=np.intp)
    for column in flat.T:
        level = np.unique(column, return_inverse=True)[1].reshape(-1)
        _, first, code = np.unique(code * (level.max() + 1) + level, return_index=True, return_inverse=True)
    return rows[first], code.reshape(-1).astype(np.intp)


def check_arguments(dataset: OfflineDataset, discount: float, confidence: float, resamples: int) -> None:
    """Raise a ValueError that names what off-policy evaluation cannot use, in the data or in an argument."""
    space = dataset.action_space
    if not isinstance(space, gym.spaces.Discrete) or space.start != 0:
        raise ValueError(f"off-policy evaluation needs a Discrete action space from 0, got {space}")
    require(0 < discount <= 1, "discount", discount, "in (0, 1]")
    require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
    require(resamples >= 1, "resamples", resamples, "at least 1")
    if dataset.num_episodes < 2:
        raise ValueError("an interval over episodes needs at least two episodes, got one")


def _table_rows(log: Log, dataset: OfflineDataset, model: TabularModel | None, states: int) -> NDArray[np.intp]:
    """The row of a table ``[S, A]`` for every distinct observation; decisions are taken where nothing has ended."""
    if model is not None:
        if model.num_states != states:
            raise ValueError(f"the table has {states} rows, the model {model.num_states} states")
        alive = np.flatnonzero(~model.terminal)
        return alive[row_index(model.observation[alive], log.row)]
    space = dataset.observation_space
    if not isinstance(space, gym.spaces.Discrete) or space.start != 0:
        raise ValueError(
            f"a table over observations in {space} needs `model`, which says what each row's state looks like"
        )
    if space.n != states:
        raise ValueError(f"a table over observations in {space} must have {space.n} rows, got {states}")
    return log.row.astype(np.intp)


def probabilities(
    policy: EvaluatedPolicy, log: Log, dataset: OfflineDataset, model: TabularModel | None, deterministic: bool
) -> Array:
    """Probabilities of all actions at every distinct observation.

    Args:
        policy: A table ``[S, A]``, an agent with discrete actions, or a function from ``[N, …]`` to ``[N, A]``.
        log: The log of ``dataset``.
        dataset: Its spaces say which row of a table an observation has.
        model: The finite problem whose observations index the rows of a table; None where observations are states.
        deterministic: Of an agent, take the greedy policy.
    Returns:
        ``[U, A]``; every row sums to 1.
    Raises:
        ValueError: If the policy does not fit the data or does not hold probabilities.
    """
    if isinstance(policy, DiscreteAgent):
        if policy.num_actions != log.num_actions:
            raise ValueError(f"the agent has {policy.num_actions} actions, the data {log.num_actions}")
        table = policy.probabilities(log.row, deterministic=deterministic)
    elif isinstance(policy, Agent):
        raise ValueError(f"off-policy evaluation needs an agent with discrete actions, got {type(policy).__name__}")
    elif isinstance(policy, np.ndarray):
        if policy.ndim != 2:
            raise ValueError(f"a policy table must have shape [S, A], got {policy.shape}")
        table = policy[_table_rows(log, dataset, model, len(policy))]
    elif callable(policy):
        table = np.asarray(policy(log.row))
    else:
        raise ValueError(f"policy must be a table, an agent or a function, got {type(policy).__name__}")
    table = np.asarray(table, dtype=np.float64)
    shape = (len(log.row), log.num_actions)
    if table.shape != shape:
        raise ValueError(f"policy must give probabilities of shape {shape} or [S, {shape[1]}], got {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any() or not np.allclose(table.sum(axis=1), 1.0, atol=1e-5):
        worst = abs(table.sum(axis=1) - 1).argmax()
        raise ValueError(f"policy must hold probabilities that sum to 1 over actions, got {table[worst]}")
    return table / table.sum(axis=1, keepdims=True)


def propensities(
    log: Log,
    dataset: OfflineDataset,
    behaviour: EvaluatedPolicy | None,
    model: TabularModel | None,
) -> tuple[Array, str]:
    """Probability of every recorded action under the behaviour, and where it comes from.

    Args:
        log: The log of ``dataset``.
        dataset: Holds the recorded log-probabilities, if there are any.
        behaviour: The policy that recorded the data. None takes the recorded probabilities, and without those the
            frequencies of actions at each observation.
        model: As in :func:`probabilities`.
    Returns:
        ``[N]``, all positive, and ``"given"``, ``"recorded"`` or ``"estimated"``.
    Raises:
        ValueError: If a recorded action has probability 0, or nothing can be counted.
    """
    recorded = dataset.transitions.behaviour_log_prob
    if behaviour is not None:
        source = "given"
        propensity = probabilities(behaviour, log, dataset, model, deterministic=False)[log.state, log.action]
    elif recorded is not None:
        source = "recorded"
        propensity = np.exp(recorded.cpu().double().numpy())
    elif log.repeats:
        source = "estimated"
        counts = log.counts()
        propensity = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[log.state, log.action]
    else:
        raise ValueError(
            "the data hold no behaviour_log_prob, and their observations hardly ever repeat, so that nothing can be "
            "counted; give the behaviour policy"
        )
    wrong = ~((propensity > 0) & (propensity <= 1 + 1e-5))
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(
            f"propensities must lie in (0, 1]: the {source} probability of recorded action {log.action[step]} at "
            f"observation {log.row[log.state[step]]} (transition {step}) is {propensity[step]:.6g}"
        )
    return propensity, source


def given_values(
    q: NDArray[np.float64] | Callable[[NDArray], NDArray],
    log: Log,
    dataset: OfflineDataset,
    model: TabularModel | None,
) -> Array:
    """Values of all actions at every distinct observation, from a table ``[S, A]`` or a function; ``[U, A]``."""
    values = np.asarray(q(log.row)) if callable(q) else np.asarray(q)[_table_rows(log, dataset, model, len(q))]
    if values.shape != (len(log.row), log.num_actions) or not np.isfinite(values).all():
        raise ValueError(f"q must give finite values of shape {(len(log.row), log.num_actions)}, got {values.shape}")
    return values.astype(np.float64)
