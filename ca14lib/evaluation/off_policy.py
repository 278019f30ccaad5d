"""Off-policy evaluation: a policy's return, estimated from another one's data. Book: offline/off_policy_evaluation.

Three estimators: fitted Q evaluation (Le, Voloshin and Yue, 2019), importance sampling (Precup, Sutton and Singh, 2000)
and doubly robust evaluation (Jiang and Li, 2016; weighted: Thomas and Brunskill, 2016). Each returns an
:class:`Estimate` with a bootstrap interval over whole episodes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel
from ca14lib.evaluation.logs import (
    Array,
    EvaluatedPolicy,
    Log,
    check_arguments,
    given_values,
    probabilities,
    propensities,
)
from ca14lib.evaluation.network_fqe import FittedQConfig, network_values
from ca14lib.evaluation.resampling import (
    CHUNK,
    episode_ratios,
    finite_interval,
    point_estimate,
    resampled_counts,
    reweighted,
    weight_report,
)
from ca14lib.evaluation.tabular_fqe import Bounds, Table

__all__ = ["Estimate", "FittedQConfig", "doubly_robust", "fitted_q_evaluation", "importance_sampling"]

Kind = Literal["ordinary", "weighted", "per_decision", "weighted_per_decision"]


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
    check_arguments(dataset, discount, confidence, resamples)
    log = Log.of(dataset)
    probability = probabilities(policy, log, dataset, model, deterministic)
    propensity, source = propensities(log, dataset, behaviour, model)
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
    estimate = reweighted(numerator, denominator if "weighted" in kind else None, confidence, resamples, seed)
    return Estimate(
        *estimate[:3], f"importance_sampling/{kind}", log.episodes, confidence, *weight_report(ratios),
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
    check_arguments(dataset, discount, confidence, resamples)
    log = Log.of(dataset)
    probability = probabilities(policy, log, dataset, model, deterministic)
    if not log.repeats or config is not None:
        _refuse_assumptions(unseen_value, value_bounds)
        config = config or FittedQConfig()
        counts = resampled_counts(log.episodes, config.refits, seed)
        q = network_values(
            dataset, log, probability, np.vstack([np.ones(log.episodes), counts]), discount, config, seed
        )
        first = (probability * q).sum(axis=2)[:, log.state[log.start]]  # [1 + refits, episodes]
        values = (first * np.vstack([np.ones(log.episodes), counts])).mean(axis=1)
        half = float(stats.t.ppf((1 + confidence) / 2, config.refits - 1) * values[1:].std(ddof=1))
        return Estimate(
            float(values[0]), float(values[0]) - half, float(values[0]) + half, "fitted_q_evaluation", log.episodes,
            confidence, unseen_share=log.unseen_share(probability),
        )  # fmt: skip
    table = Table(log, probability, discount)
    whole = np.ones((1, log.episodes))
    value = float(table.returns(whole, unseen_value)[0])
    if not np.isfinite(value):
        raise ValueError(
            "undiscounted, the policy may never end in what the data show of the problem: its value is not defined; "
            "give a discount below 1"
        )
    chunk = max(CHUNK // (10 * max(table.size, log.episodes)), 1)
    counts = resampled_counts(log.episodes, resamples, seed)
    resampled = np.concatenate([table.returns(counts[i : i + chunk], unseen_value) for i in range(0, resamples, chunk)])
    low, high, undefined = finite_interval(value, resampled, confidence)
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
    check_arguments(dataset, discount, confidence, resamples)
    log = Log.of(dataset)
    probability = probabilities(policy, log, dataset, model, deterministic)
    propensity, source = propensities(log, dataset, behaviour, model)
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
        numerator = columns(given_values(q, log, dataset, model)[None], fold)
    else:
        if not 2 <= folds <= log.episodes:
            raise ValueError(f"folds must lie in 2…{log.episodes}, the number of episodes, got {folds}")
        fold = np.random.default_rng([seed, 1]).permutation(log.episodes) % folds
        others = (fold != np.arange(folds)[:, None]).astype(np.float64)
        if not log.repeats or config is not None:
            _refuse_assumptions(unseen_value, value_bounds)
            values = network_values(dataset, log, probability, others, discount, config or FittedQConfig(), seed)
        else:
            table = Table(log, probability, discount)
            values = table.values(others, unseen_value)
            if not np.isfinite(values).all():
                raise ValueError(
                    "undiscounted, the policy may never end in what the data show of the problem: its value is not "
                    "defined; give a discount below 1"
                )
            if value_bounds is not None:
                for end in table.bounds(value_bounds, unseen_value):
                    assumed = table.values(others, unseen_value, nowhere=end)
                    ends.append(point_estimate(columns(assumed, fold), denominator))
        numerator = columns(values, fold)
    value, low, high, undefined = reweighted(numerator, denominator, confidence, resamples, seed)
    if ends:
        low, high = low + min(min(ends) - value, 0.0), high + max(max(ends) - value, 0.0)
    return Estimate(
        value, low, high, f"doubly_robust/{kind}", log.episodes, confidence, *weight_report(ratios),
        log.unseen_share(probability), source, undefined,
    )  # fmt: skip


def _refuse_assumptions(unseen_value: float | None, value_bounds: Bounds | None) -> None:
    if unseen_value is not None or value_bounds is not None:
        raise ValueError(
            "unseen_value and value_bounds need a table fitted to observations that repeat; here values are a "
            "network's, or given"
        )
