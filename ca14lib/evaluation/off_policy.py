"""Off-policy evaluation: a policy's return, estimated from another one's data. Book: offline/off_policy_evaluation.

Three estimators: fitted Q evaluation (Le, Voloshin and Yue, 2019), importance sampling (Precup, Sutton and Singh, 2000)
and doubly robust evaluation (Jiang and Li, 2016; weighted: Thomas and Brunskill, 2016). Each returns an
:class:`Estimate` with a bootstrap interval over whole episodes.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, get_args

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve
from torch.func import functional_call, stack_module_state

from ca14lib.agents.base import Agent, DiscreteAgent, require
from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel
from ca14lib.environments.tabular import row_index
from ca14lib.networks import mlp

Array = NDArray[np.floating]
EvaluatedPolicy = NDArray[np.float64] | DiscreteAgent | Callable[[NDArray], NDArray]
Bounds = tuple[float, float] | Literal["tried"]
Kind = Literal["ordinary", "weighted", "per_decision", "weighted_per_decision"]

MOST_ROWS = 5_000  # a table is solved up to this many distinct observations
DENSE_ROWS = 100  # up to here all resamples are solved at once as dense systems
FILLED_ROWS = 2_000  # up to here a sparse factorisation, which fills up, is slower than a dense one
CHUNK = 8_000_000  # numbers held at a time by loops over resamples


@dataclass(frozen=True)
class Estimate:
    """An estimated return with its interval, and what to know before believing it.

    Attributes:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end.
        estimator: Name of the estimator.
        episodes: Number of episodes it rests on.
        confidence: Nominal coverage of the interval.
        effective_sample_size: :math:`(\\sum w)^2 / \\sum w^2` over the episodes' importance weights: how many equally
            weighted episodes would be as precise; NaN where no weights are used.
        largest_weight: Share of the largest weight in the sum of all; NaN where no weights are used.
        unseen_share: Probability that the policy, at an observation drawn from the recorded decisions, takes an action
            that the data hold nowhere at that observation; NaN where observations hardly ever repeat.
        propensities: ``"recorded"``, ``"given"`` or ``"estimated"`` (by counting) probabilities of the behaviour, or
            ``"not used"``.
        undefined_resamples: Share of bootstrap resamples in which the estimator is not defined; they are left out.
    """

    value: float
    low: float
    high: float
    estimator: str
    episodes: int
    confidence: float = 0.95
    effective_sample_size: float = np.nan
    largest_weight: float = np.nan
    unseen_share: float = np.nan
    propensities: str = "not used"
    undefined_resamples: float = 0.0

    def covers(self, value: float, tolerance: float = 1e-6) -> bool:
        """Whether the interval contains a value, up to rounding (relative to the value, at least absolute)."""
        slack = tolerance * max(1.0, abs(value))
        return bool(self.low - slack <= value <= self.high + slack)


@dataclass(frozen=True)
class FittedQConfig:
    """Settings of fitted Q evaluation with networks, for observations that do not repeat."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    batch_size: int = 256
    updates: int = 3_000
    target_rate: float = 0.01  # η, eq. polyak
    refits: int = 20  # bootstrap resamples, each with a network of its own

    def __post_init__(self) -> None:
        for name in ("batch_size", "updates"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(self.refits >= 2, "refits", self.refits, "at least 2, to have an interval")


# The pure functions


def episode_ratios(ratio: Array, episode: NDArray[np.intp], step: NDArray[np.intp]) -> Array:
    r"""Cumulative importance ratios :math:`w_t` of every episode (book eq. ope-ratio).

    After an episode's end its last ratio is carried on: in the absorbing state both policies do the same.

    Args:
        ratio: :math:`\pi(a_t|s_t) / \pi_\beta(a_t|s_t)` of every transition, ``[N]``.
        episode: Episode number of every transition, ``[N]``.
        step: Time step of every transition, ``[N]``.
    Returns:
        ``[episodes, T]``, T being the length of the longest episode.
    """
    padded = np.ones((int(episode[-1]) + 1, int(step.max()) + 1))
    padded[episode, step] = ratio
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.cumprod(padded, axis=1)
    if not np.isfinite(product).all():
        raise ValueError("importance ratios multiply to more than 1e308: the policy is too far from the behaviour")
    return product


def ratio_sum(numerator: Array, denominator: Array | None, weight: Array) -> Array:
    """Sum over columns of weighted column means, self-normalised where a denominator is given (book eq. ope-wis).

    Args:
        numerator: ``[episodes, K]``.
        denominator: ``[episodes, K]``, or None for plain means.
        weight: How often each episode counts, ``[B, episodes]``.
    Returns:
        ``[B]``: ``sum_k (weight @ numerator)_k / (weight @ denominator)_k``; NaN where a denominator is 0.
    """
    if denominator is None:
        return (weight @ numerator).sum(axis=1) / weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((weight @ numerator) / (weight @ denominator)).sum(axis=1)


def basic_interval(value: float, resampled: Array, confidence: float) -> tuple[float, float]:
    """Basic bootstrap interval (book eq. ope-bootstrap): the resamples' quantiles, reflected at the estimate.

    An estimator that is biased on the data is biased once more on resamples of the data; the percentile interval
    counts that bias twice, the reflection takes it off.

    Args:
        value: The estimate.
        resampled: Estimates on resampled episodes, finite, ``[B]``.
        confidence: Nominal coverage in (0, 1).
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(2 * value - high), float(2 * value - low)


# The estimators


def importance_sampling(
    dataset: OfflineDataset,
    policy: EvaluatedPolicy,
    kind: Kind = "ordinary",
    *,
    discount: float = 1.0,
    behaviour: EvaluatedPolicy | None = None,
    model: TabularModel | None = None,
    deterministic: bool = True,
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    r"""Reweight recorded returns by how much likelier the policy makes their actions.

    The estimand is the expected discounted return *within the recorded steps*,
    :math:`\mathbb E_\pi[\sum_{t<T} \gamma^t r_t]`, where an episode ends at time T as the recorded ones do: by
    itself or at their time limit. Nothing is added for what would follow a truncation. Where the data were cut after
    H steps, the exact value to compare with is ``policy_return(model, policy, discount, horizon=H)``.

    ``"ordinary"`` (book eq. ope-is) and ``"per_decision"`` (book eq. ope-pdis) are unbiased when the behaviour's
    probabilities are right and positive wherever the policy's are. The weighted forms (book eq. ope-wis) divide by the
    sum of the weights in place of their number: biased, consistent, of less variance. An action that the policy takes
    and the behaviour never does cannot be seen in the data's weights: look at ``unseen_share``.

    Args:
        dataset: Whole episodes with discrete actions.
        policy: The policy to evaluate: a table of probabilities ``[S, A]``, an agent with discrete actions, or a
            function from observations ``[N, …]`` to probabilities ``[N, A]``.
        kind: Which of the four.
        discount: :math:`\gamma` in (0, 1].
        behaviour: The policy that recorded the data, in the forms of ``policy``. None takes the recorded
            log-probabilities, and without those the frequencies of actions at each observation, which observations
            must then repeat. Resamples do not estimate them anew.
        model: The finite problem whose observations index the rows of a table; not needed where observations are
            states.
        deterministic: Of an agent, evaluate the greedy policy.
        confidence: Nominal coverage of the interval.
        resamples: Bootstrap resamples of whole episodes.
        seed: Fixes the resamples.
    Returns:
        The estimate. With all rewards equal to 0 it is 0 with interval [0, 0].
    Raises:
        ValueError: If actions are not discrete, an argument is out of range, there is a single episode, a recorded
            action has propensity 0, or no recorded episode is possible under the policy.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    _check(dataset, discount, confidence, resamples)
    log = _Log.of(dataset)
    probability = _probabilities(policy, log, dataset, model, deterministic)
    propensity, source = _propensities(log, dataset, behaviour, model)
    ratios = episode_ratios(probability[log.state, log.action] / propensity, log.episode, log.step)
    if not ratios[:, -1].any():
        raise ValueError(
            "every recorded episode holds an action that the policy never takes: there is nothing to weigh; "
            "give a stochastic policy, more episodes, or use fitted_q_evaluation"
        )
    rewards = log.padded(log.reward) * discount ** np.arange(ratios.shape[1])
    if kind in ("ordinary", "weighted"):
        numerator, denominator = ratios[:, -1:] * rewards.sum(axis=1, keepdims=True), ratios[:, -1:]
    else:
        numerator, denominator = ratios * rewards, ratios
    estimate = _reweighted(numerator, denominator if "weighted" in kind else None, confidence, resamples, seed)
    return Estimate(
        *estimate[:3], f"importance_sampling/{kind}", log.episodes, confidence, *_weight_report(ratios),
        log.unseen_share(probability), source, estimate[3],
    )  # fmt: skip


def fitted_q_evaluation(
    dataset: OfflineDataset,
    policy: EvaluatedPolicy,
    *,
    discount: float = 1.0,
    model: TabularModel | None = None,
    deterministic: bool = True,
    unseen_value: float | None = None,
    value_bounds: Bounds | None = None,
    config: FittedQConfig | None = None,
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    r"""Solve the policy's Bellman equation on the data and average its value over the recorded first observations.

    The estimand is :math:`J(\pi)` *without* the time limits of the recording: a truncated step bootstraps from what
    follows it, a terminated one does not (book eq. ope-fqe). The exact value to compare with is
    ``policy_return(model, policy, discount)``.

    Where observations repeat, :math:`Q` is the exact least-squares solution, a table; the interval solves it anew for
    every resample. Elsewhere it is a network, fitted by regression to targets of a Polyak-averaged copy; the interval
    is then Student's around the estimate, with the spread of ``config.refits`` networks on resampled episodes.

    What a table says of pairs that the data do not hold is an assumption, not an estimate:

    - ``unseen_value=None``: an action never tried at an observation is worth the policy's average over those tried
      there; where it takes none of the tried ones, their average in the data; an observation at which nothing was tried
      (it ends a truncated episode) is worth 0.
    - ``unseen_value=c``: all of these are worth ``c``. 0 is pessimistic where rewards are positive and optimistic where
      they are negative.
    - ``value_bounds=(least, largest)``: besides, the interval is widened by as far as the estimate moves when every
      pair that the data do not hold is worth the least, or the largest. ``"tried"`` takes the least and the largest
      value of all tried pairs: nothing unknown is assumed to be worse or better than all that is known.

    Without bounds the interval states the error of sampling alone.

    Args:
        dataset: Whole episodes with discrete actions.
        policy: As in :func:`importance_sampling`.
        discount: :math:`\gamma` in (0, 1].
        model: As in :func:`importance_sampling`.
        deterministic: Of an agent, evaluate the greedy policy.
        unseen_value: Value of what was never tried; tables only.
        value_bounds: Least and largest possible value of a state-action pair, or ``"tried"``; tables only.
        config: Settings of the network. Given, a network is used even where observations repeat.
        confidence: Nominal coverage of the interval.
        resamples: Bootstrap resamples of whole episodes; for a network see ``config``.
        seed: Fixes resamples, weights and batches.
    Returns:
        The estimate. With all rewards equal to 0 it is 0 (tables: with interval [0, 0]).
    Raises:
        ValueError: If actions are not discrete, an argument is out of range, there is a single episode, or,
            undiscounted, the policy may never end in what the data show of the problem.
    """
    _check(dataset, discount, confidence, resamples)
    log = _Log.of(dataset)
    probability = _probabilities(policy, log, dataset, model, deterministic)
    if not log.repeats or config is not None:
        _refuse_assumptions(unseen_value, value_bounds)
        config = config or FittedQConfig()
        counts = _resampled_counts(log.episodes, config.refits, seed)
        q = _network_values(
            dataset, log, probability, np.vstack([np.ones(log.episodes), counts]), discount, config, seed
        )
        first = (probability * q).sum(axis=2)[:, log.state[log.start]]  # [1 + refits, episodes]
        values = (first * np.vstack([np.ones(log.episodes), counts])).mean(axis=1)
        half = float(stats.t.ppf((1 + confidence) / 2, config.refits - 1) * values[1:].std(ddof=1))
        return Estimate(
            float(values[0]), float(values[0]) - half, float(values[0]) + half, "fitted_q_evaluation", log.episodes,
            confidence, unseen_share=log.unseen_share(probability),
        )  # fmt: skip
    table = _Table(log, probability, discount)
    whole = np.ones((1, log.episodes))
    value = float(table.returns(whole, unseen_value)[0])
    if not np.isfinite(value):
        raise ValueError(
            "undiscounted, the policy may never end in what the data show of the problem: its value is not defined; "
            "give a discount below 1"
        )
    chunk = max(CHUNK // (10 * max(table.size, log.episodes)), 1)
    counts = _resampled_counts(log.episodes, resamples, seed)
    resampled = np.concatenate([table.returns(counts[i : i + chunk], unseen_value) for i in range(0, resamples, chunk)])
    low, high, undefined = _finite_interval(value, resampled, confidence)
    if value_bounds is not None:
        ends = [
            float(table.returns(whole, unseen_value, nowhere=end)[0])
            for end in table.bounds(value_bounds, unseen_value)
        ]
        low, high = low + min(min(ends) - value, 0.0), high + max(max(ends) - value, 0.0)
    return Estimate(
        value, low, high, "fitted_q_evaluation", log.episodes, confidence,
        unseen_share=log.unseen_share(probability), undefined_resamples=undefined,
    )  # fmt: skip


def doubly_robust(
    dataset: OfflineDataset,
    policy: EvaluatedPolicy,
    kind: Literal["ordinary", "weighted"] = "ordinary",
    *,
    discount: float = 1.0,
    q: NDArray[np.float64] | Callable[[NDArray], NDArray] | None = None,
    behaviour: EvaluatedPolicy | None = None,
    model: TabularModel | None = None,
    deterministic: bool = True,
    unseen_value: float | None = None,
    value_bounds: Bounds | None = None,
    folds: int = 5,
    config: FittedQConfig | None = None,
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    r"""A model's estimate, corrected by the importance-weighted errors of its Bellman equation (book eq. ope-dr).

    The estimand is that of :func:`fitted_q_evaluation`, :math:`J(\pi)` without the recording's time limits: the step
    that a limit cuts bootstraps from the model, so what follows the cut is as right as the model is.

    Either of two things suffices. With right propensities the ordinary form is unbiased for whatever values the model
    has, as long as these do not come from the same episodes; with right values it is so for whatever propensities. The
    values are therefore fitted as by :func:`fitted_q_evaluation`, in turn on all folds of the episodes but one, and
    corrected on that one. The weighted form divides the weights of each step by their sum.

    Args:
        dataset: Whole episodes with discrete actions.
        policy: As in :func:`importance_sampling`.
        kind: ``"ordinary"`` or ``"weighted"``.
        discount: :math:`\gamma` in (0, 1].
        q: Values to correct in place of fitted ones: a table ``[S, A]`` or a function from observations ``[N, …]`` to
            ``[N, A]``; they must not come from these episodes.
        behaviour: As in :func:`importance_sampling`.
        model: As in :func:`importance_sampling`; also for a table ``q``.
        deterministic: Of an agent, evaluate the greedy policy.
        unseen_value: As in :func:`fitted_q_evaluation`.
        value_bounds: As in :func:`fitted_q_evaluation`; pairs missing in all folds count.
        folds: Number of folds, at least 2 and at most the number of episodes.
        config: As in :func:`fitted_q_evaluation`.
        confidence: Nominal coverage of the interval.
        resamples: Bootstrap resamples of whole episodes; the values are not fitted anew.
        seed: Fixes folds, resamples, weights and batches.
    Returns:
        The estimate. With all rewards equal to 0 it is 0 (tables: with interval [0, 0]). Where no recorded action is
        one of the policy's, nothing is corrected and the estimate is the model's.
    Raises:
        ValueError: If actions are not discrete, an argument is out of range, there is a single episode, a recorded
            action has propensity 0, or, undiscounted, the policy may never end in what a fold shows of the problem.
    """
    if kind not in ("ordinary", "weighted"):
        raise ValueError(f"kind must be ordinary or weighted, got {kind!r}")
    _check(dataset, discount, confidence, resamples)
    log = _Log.of(dataset)
    probability = _probabilities(policy, log, dataset, model, deterministic)
    propensity, source = _propensities(log, dataset, behaviour, model)
    ratios = episode_ratios(probability[log.state, log.action] / propensity, log.episode, log.step)
    discounts = discount ** np.arange(ratios.shape[1])

    def columns(values: Array, fold: NDArray[np.intp]) -> Array:
        """V(s₀) and the discounted, weighted Bellman errors of every episode, ``[episodes, 1 + T]``."""
        own = fold[log.episode]
        state_value = (probability * values).sum(axis=2)
        following = np.where(log.terminated, 0.0, state_value[own, log.following])
        error = log.reward + discount * following - values[own, log.state, log.action]
        start = state_value[fold, log.state[log.start]]
        return np.hstack([start[:, None], ratios * discounts * log.padded(error)])

    denominator = np.hstack([np.ones((log.episodes, 1)), ratios]) if kind == "weighted" else None
    ends: list[float] = []
    if q is not None:
        _refuse_assumptions(unseen_value, value_bounds)
        fold = np.zeros(log.episodes, dtype=np.intp)
        numerator = columns(_given_values(q, log, dataset, model)[None], fold)
    else:
        if not 2 <= folds <= log.episodes:
            raise ValueError(f"folds must lie in 2…{log.episodes}, the number of episodes, got {folds}")
        fold = np.random.default_rng([seed, 1]).permutation(log.episodes) % folds
        others = (fold != np.arange(folds)[:, None]).astype(np.float64)
        if not log.repeats or config is not None:
            _refuse_assumptions(unseen_value, value_bounds)
            values = _network_values(dataset, log, probability, others, discount, config or FittedQConfig(), seed)
        else:
            table = _Table(log, probability, discount)
            values = table.values(others, unseen_value)
            if not np.isfinite(values).all():
                raise ValueError(
                    "undiscounted, the policy may never end in what the data show of the problem: its value is not "
                    "defined; give a discount below 1"
                )
            if value_bounds is not None:
                for end in table.bounds(value_bounds, unseen_value):
                    assumed = table.values(others, unseen_value, nowhere=end)
                    ends.append(_point(columns(assumed, fold), denominator))
        numerator = columns(values, fold)
    value, low, high, undefined = _reweighted(numerator, denominator, confidence, resamples, seed)
    if ends:
        low, high = low + min(min(ends) - value, 0.0), high + max(max(ends) - value, 0.0)
    return Estimate(
        value, low, high, f"doubly_robust/{kind}", log.episodes, confidence, *_weight_report(ratios),
        log.unseen_share(probability), source, undefined,
    )  # fmt: skip


# What the estimators share


@dataclass(frozen=True)
class _Log:
    """Recorded episodes with observations as numbers of distinct rows.

    ``row`` holds the distinct observations at which a decision is taken or a truncated episode ends; where a step
    terminates, ``following`` is 0 and means nothing.
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
    numbered: bool  # observations are numbers, not vectors

    @classmethod
    def of(cls, dataset: OfflineDataset) -> "_Log":
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
        """See :class:`Estimate`."""
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


def _check(dataset: OfflineDataset, discount: float, confidence: float, resamples: int) -> None:
    space = dataset.action_space
    if not isinstance(space, gym.spaces.Discrete) or space.start != 0:
        raise ValueError(f"off-policy evaluation needs a Discrete action space from 0, got {space}")
    require(0 < discount <= 1, "discount", discount, "in (0, 1]")
    require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
    require(resamples >= 1, "resamples", resamples, "at least 1")
    if dataset.num_episodes < 2:
        raise ValueError("an interval over episodes needs at least two episodes, got one")


def _refuse_assumptions(unseen_value: float | None, value_bounds: Bounds | None) -> None:
    if unseen_value is not None or value_bounds is not None:
        raise ValueError(
            "unseen_value and value_bounds need a table fitted to observations that repeat; here values are a "
            "network's, or given"
        )


def _table_rows(log: _Log, dataset: OfflineDataset, model: TabularModel | None, states: int) -> NDArray[np.intp]:
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


def _probabilities(
    policy: EvaluatedPolicy, log: _Log, dataset: OfflineDataset, model: TabularModel | None, deterministic: bool
) -> Array:
    """Probabilities of all actions at every distinct observation, ``[U, A]``."""
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


def _propensities(
    log: _Log,
    dataset: OfflineDataset,
    behaviour: EvaluatedPolicy | None,
    model: TabularModel | None,
) -> tuple[Array, str]:
    """Probability of every recorded action under the behaviour, ``[N]``, all positive, and where it comes from."""
    recorded = dataset.transitions.behaviour_log_prob
    if behaviour is not None:
        source = "given"
        propensity = _probabilities(behaviour, log, dataset, model, deterministic=False)[log.state, log.action]
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


def _weight_report(ratios: Array) -> tuple[float, float]:
    """Effective sample size and share of the largest weight, of the weights of whole episodes."""
    weight = ratios[:, -1]
    total = weight.sum()
    return (0.0, np.nan) if total == 0 else (float(total**2 / (weight**2).sum()), float(weight.max() / total))


def _resampled_counts(episodes: int, resamples: int, seed: int) -> Array:
    """How often each episode occurs in each resample, ``[resamples, episodes]``."""
    drawn = np.random.default_rng([seed, 0]).integers(episodes, size=(resamples, episodes))
    drawn += episodes * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.reshape(-1), minlength=resamples * episodes)
    return counts.reshape(resamples, episodes).astype(np.float64)


def _point(numerator: Array, denominator: Array | None) -> float:
    return float(ratio_sum(*_possible(numerator, denominator), np.ones((1, len(numerator))))[0])


def _possible(numerator: Array, denominator: Array | None) -> tuple[Array, Array | None]:
    """The columns at which some episode still has a weight: where none has, there is nothing to average."""
    if denominator is None:
        return numerator, None
    alive = denominator.any(axis=0)
    return numerator[:, alive], denominator[:, alive]


def _reweighted(
    numerator: Array, denominator: Array | None, confidence: float, resamples: int, seed: int
) -> tuple[float, float, float, float]:
    """Estimate, interval and share of undefined resamples of :func:`ratio_sum`."""
    value = _point(numerator, denominator)
    numerator, denominator = _possible(numerator, denominator)
    if denominator is None:
        numerator = numerator.sum(axis=1, keepdims=True)
    chunk = max(CHUNK // len(numerator), 1)
    counts = _resampled_counts(len(numerator), resamples, seed)
    parts = [ratio_sum(numerator, denominator, counts[i : i + chunk]) for i in range(0, resamples, chunk)]
    return value, *_finite_interval(value, np.concatenate(parts), confidence)


def _finite_interval(value: float, resampled: Array, confidence: float) -> tuple[float, float, float]:
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        raise ValueError("the estimator is defined in no bootstrap resample; more episodes are needed")
    return *basic_interval(value, defined, confidence), 1 - len(defined) / len(resampled)


def _given_values(
    q: NDArray[np.float64] | Callable[[NDArray], NDArray],
    log: _Log,
    dataset: OfflineDataset,
    model: TabularModel | None,
) -> Array:
    values = np.asarray(q(log.row)) if callable(q) else np.asarray(q)[_table_rows(log, dataset, model, len(q))]
    if values.shape != (len(log.row), log.num_actions) or not np.isfinite(values).all():
        raise ValueError(f"q must give finite values of shape {(len(log.row), log.num_actions)}, got {values.shape}")
    return values.astype(np.float64)


class _Table:
    """The policy's Bellman equation on counted transitions, for many weightings of the episodes at once."""

    def __init__(self, log: _Log, probability: Array, discount: float) -> None:
        self.log, self.probability, self.discount = log, probability, discount
        states, actions = probability.shape
        following = np.where(log.terminated, states, log.following)
        code = (log.state * actions + log.action) * (states + 1) + following
        triple, where = np.unique(code, return_inverse=True)
        pair, self._triple_pair = np.unique(triple // (states + 1), return_inverse=True)
        self._pair_state, self._pair_action = np.divmod(pair, actions)
        self._following = triple % (states + 1)
        self._going_on = self._following < states
        shape = (len(triple), log.episodes)
        self._visits = csr_array((np.ones(len(where)), (where, log.episode)), shape=shape)
        rewards = csr_array((log.reward, (self._triple_pair[where], log.episode)), shape=(len(pair), log.episodes))
        self._rewards = rewards
        self._to_pair = _sums(self._triple_pair, len(pair))
        self._to_state = _sums(self._pair_state, states)
        self._first = csr_array(
            (np.ones(log.episodes), (log.state[log.start], np.arange(log.episodes))), shape=(states, log.episodes)
        )
        self._pair_probability = probability[self._pair_state, self._pair_action]
        # probability of actions that no episode holds; rounding must not make it negative
        self._nowhere = np.maximum(1 - self._to_state @ self._pair_probability, 0.0)
        self._nowhere[self._nowhere < 1e-12] = 0.0
        self.size = shape[0]

    def returns(self, weights: Array, unseen_value: float | None, nowhere: float | None = None) -> Array:
        """Estimated return for every weighting ``[K, episodes]``, ``[K]``; NaN where the policy may never end."""
        value = self._solve(weights, unseen_value, nowhere)[0]
        first = (self._first @ weights.T).T / weights.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.where(first > 0, first * value, 0.0).sum(axis=1)

    def values(self, weights: Array, unseen_value: float | None, nowhere: float | None = None) -> Array:
        """Q for every weighting, ``[K, U, A]``."""
        value, count, reward, average = self._solve(weights, unseen_value, nowhere)
        ahead = np.hstack([value, np.zeros((len(value), 1))])[:, self._following].T
        onward = self._to_pair @ ((self._visits @ weights.T) * ahead)
        seen = count > 0
        q = (reward + self.discount * onward) / np.where(seen, count, 1)
        known = self._to_state @ (average * np.where(seen, q, 0.0))  # [U, K]: what an untried action is taken for
        table = np.empty((len(value), *self.probability.shape))
        table[:] = (known.T if unseen_value is None else np.full_like(known.T, unseen_value))[:, :, None]
        if nowhere is not None:
            table[:, self.log.counts() == 0] = nowhere
        pairs = table[:, self._pair_state, self._pair_action]
        table[:, self._pair_state, self._pair_action] = np.where(seen.T, q.T, pairs)
        return table

    def bounds(self, bounds: Bounds, unseen_value: float | None) -> tuple[float, float]:
        """Least and largest value of what was never tried: those given, or those of all that was tried."""
        if bounds == "tried":
            seen = self.log.counts() > 0
            tried = self.values(np.ones((1, self.log.episodes)), unseen_value)[0][seen]
            return float(tried.min()), float(tried.max())
        least, largest = bounds
        if isinstance(bounds, str) or not (np.isfinite(least) and np.isfinite(largest) and least <= largest):
            raise ValueError(f"value_bounds must be 'tried' or finite, the least value first, got {bounds!r}")
        return least, largest

    def _solve(
        self, weights: Array, unseen_value: float | None, nowhere: float | None
    ) -> tuple[Array, Array, Array, Array]:
        """V ``[K, U]``, then per pair and weighting: visits, reward sums, weights of the average over tried actions."""
        visits = self._visits @ weights.T
        count, reward = self._to_pair @ visits, self._rewards @ weights.T
        seen = count > 0
        taken = self._pair_probability[:, None] * seen
        mass, tried = self._to_state @ taken, self._to_state @ count
        at = self._pair_state
        # the policy's own proportions among tried actions, or the data's where it takes none of them
        average = np.where(mass[at] > 1e-12, taken / np.maximum(mass[at], 1e-12), count / np.maximum(tried[at], 1e-12))
        missing = np.zeros_like(self._nowhere) if nowhere is None else self._nowhere
        constant = missing[:, None] * (nowhere or 0.0)
        if unseen_value is None:
            share = average * (1 - missing)[at, None]
        else:
            share = taken
            constant = constant + np.maximum(1 - mass - missing[:, None], 0.0) * unseen_value
        share = share / np.where(seen, count, 1)
        system = constant + self._to_state @ (share * reward)
        onward = self.discount * (share[self._triple_pair] * visits)[self._going_on]
        state = at[self._triple_pair][self._going_on]
        value = _solve_blocks(onward, state, self._following[self._going_on], system, self._first @ weights.T > 0,
                              closed=self.discount == 1.0)  # fmt: skip
        return value, count, reward, average


def _sums(group: NDArray[np.intp], groups: int) -> csr_array:
    """The matrix that adds up the rows of each group."""
    return csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(groups, len(group)))


def _solve_blocks(
    onward: Array, state: NDArray[np.intp], following: NDArray[np.intp], constant: Array, first: NDArray[np.bool_],
    *, closed: bool,
) -> Array:  # fmt: skip
    """Solve V = constant + M V for K matrices M of one pattern.

    Args:
        onward: Entries of the matrices, ``[nonzeros, K]``, rows sorted.
        state: Row of every entry.
        following: Column of every entry.
        constant: ``[U, K]``.
        first: True where episodes begin, ``[U, K]``.
        closed: Rows may sum to 1 (no discount): then a state from which no end is ever reached has no value.
    Returns:
        ``[K, U]``; a block is NaN if its episodes may come to a state without a value.
    """
    size, blocks = constant.shape
    matrix, right = _block_diagonal(onward, state, following, size), constant.T.copy()
    lost = np.zeros((blocks, size), dtype=bool)
    if closed:
        reaches = csr_array(((matrix.data > 0).astype(np.float64), matrix.indices, matrix.indptr), shape=matrix.shape)
        ends = _closure(reaches, matrix.sum(axis=1) < 1 - 1e-9)
        lost = _closure(reaches, ~ends).reshape(blocks, size)
        ends = ends.reshape(blocks, size)
        right[~ends] = 0.0
        onward = onward * ends.T[state]
        matrix = _block_diagonal(onward, state, following, size)
    if size <= DENSE_ROWS:
        full = np.zeros((blocks, size, size))
        np.add.at(full, (slice(None), state, following), onward.T)  # type: ignore[arg-type]
        value = np.linalg.solve(np.eye(size) - full, right[..., None])[..., 0]
    else:
        value = np.full((blocks, size), np.nan)
        for most in (40, 200) if blocks > 1 else ():  # most blocks settle soon; the others go on by themselves
            left = np.flatnonzero(np.isnan(value).any(axis=1))
            if len(left):
                part = matrix if len(left) == blocks else _block_diagonal(onward[:, left], state, following, size)
                value[left] = _bicgstab(part, right[left], most=most)
        for block in np.flatnonzero(np.isnan(value).any(axis=1)):
            system = eye_array(size) - _block_diagonal(onward[:, [block]], state, following, size)
            if size <= FILLED_ROWS:
                value[block] = np.linalg.solve(system.toarray(), right[block])
            else:
                value[block] = spsolve(system.tocsc(), right[block])
    value[(lost & first.T).any(axis=1)] = np.nan
    return value


def _block_diagonal(entries: Array, state: NDArray[np.intp], following: NDArray[np.intp], size: int) -> csr_array:
    """Matrices of one pattern along a diagonal, from their entries ``[nonzeros, K]``."""
    blocks = entries.shape[1]
    column = following + size * np.arange(blocks)[:, None]
    begin = np.concatenate([[0], np.cumsum(np.tile(np.bincount(state, minlength=size), blocks))])
    return csr_array((entries.T.reshape(-1), column.reshape(-1), begin), shape=(size * blocks, size * blocks))


def _closure(step: csr_array, member: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All states that can come to a member."""
    while True:
        larger = member | (step @ member.astype(np.float64) > 0)
        if (larger == member).all():
            return member
        member = larger


def _bicgstab(matrix: csr_array, right: Array, *, most: int, tolerance: float = 1e-7) -> Array:
    """Stabilised biconjugate gradients (van der Vorst, 1992) on (1 − M) x = right, all blocks at once.

    Args:
        matrix: Block diagonal.
        right: ``[blocks, size]``.
        most: Iterations.
        tolerance: Of the residual, relative to the largest entry of ``right``.

    Returns:
        ``[blocks, size]``; NaN in blocks that have not converged.
    """

    def dot(a: Array, b: Array) -> Array:
        return np.einsum("ij,ij->i", a, b)[:, None]

    def residual_of(x: Array) -> Array:
        return x - (matrix @ x.reshape(-1)).reshape(right.shape)

    tiny = 1e-300
    x = right.copy()
    scale = max(abs(right).max(), tiny)
    residual = x - residual_of(x)
    shadow, direction = residual.copy(), residual.copy()
    rho = dot(shadow, residual)
    with np.errstate(all="ignore"):
        for _ in range(most):
            if (abs(residual).max(axis=1) <= tolerance * scale).all():
                break
            image = residual_of(direction)
            length = rho / (dot(shadow, image) + tiny)
            half = residual - length * image
            image_half = residual_of(half)
            relax = dot(image_half, half) / (dot(image_half, image_half) + tiny)
            x += length * direction + relax * half
            residual = half - relax * image_half
            following = dot(shadow, residual)
            direction = residual + following / (rho + tiny) * length / (relax + tiny) * (direction - relax * image)
            rho = following
        x[~(abs(residual).max(axis=1) <= tolerance * scale)] = np.nan
    return x


def _network_values(
    dataset: OfflineDataset,
    log: _Log,
    probability: Array,
    weights: Array,
    discount: float,
    config: FittedQConfig,
    seed: int,
) -> Array:
    """Q by fitted evaluation with one network per weighting, all trained at once; ``[K, U, A]``.

    Weights are whole numbers: how often an episode's transitions stand in the network's data.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        networks = [mlp(dataset.observation_space, log.num_actions, config.hidden_sizes) for _ in weights]
    parameters, buffers = stack_module_state(networks)
    bare = deepcopy(networks[0]).to("meta")
    target = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=config.learning_rate)

    def forward(values: dict[str, torch.Tensor], observation: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda own, x: functional_call(bare, (own, buffers), (x,)), in_dims=(0, 0))(
            values, observation
        )

    normalizer = dataset.normalizer()
    row = torch.as_tensor(log.row) if normalizer is None else normalizer.cpu()(torch.as_tensor(log.row))
    policy = torch.as_tensor(probability, dtype=torch.float32)
    state, following, action = (torch.as_tensor(x) for x in (log.state, log.following, log.action))
    reward = torch.as_tensor(log.reward, dtype=torch.float32)
    going_on = torch.as_tensor(discount * ~log.terminated, dtype=torch.float32)
    own = [torch.as_tensor(np.repeat(np.arange(len(log.state)), w[log.episode].astype(np.intp))) for w in weights]
    sizes = torch.tensor([len(rows) for rows in own], dtype=torch.float64)[:, None]
    offsets = torch.cat([torch.zeros(1, 1), sizes.cumsum(0)[:-1]]).long()
    pool = torch.cat(own)
    for _ in range(config.updates):
        draw = torch.rand((len(weights), config.batch_size), generator=generator, dtype=torch.float64)
        batch = pool[offsets + (draw * sizes).long()]  # [K, B]
        with torch.no_grad():
            ahead = (policy[following[batch]] * forward(target, row[following[batch]])).sum(dim=-1)
            goal = reward[batch] + going_on[batch] * ahead
        q = forward(parameters, row[state[batch]]).gather(-1, action[batch][..., None]).squeeze(-1)
        loss = 0.5 * (goal - q).square().mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, value in parameters.items():
                target[name].lerp_(value, config.target_rate)
    with torch.no_grad():
        everywhere = row.expand(len(weights), *row.shape)
        return forward(parameters, everywhere).double().numpy()
