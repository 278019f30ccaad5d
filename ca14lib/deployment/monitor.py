"""A policy under supervision: alarms, a watchdog over costs, and a fallback. Book: evaluation/deployment.

:class:`RuntimeMonitor` has the ``act`` of an agent and is told after every step what it cost. It hands a copy of the
environment over to the fallback when observations are strange for several steps in a row, when a number is not finite,
or when what the policy wants to do might break the limit, and writes down every time it does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents import OnPolicyAgent
from ca14lib.deployment.detection import Detector
from ca14lib.environments import TabularModel

CostToGo = Callable[[NDArray, NDArray], NDArray[np.float64]]
LOG_COLUMNS = ["step", "copy", "episode", "event", "cause", "score", "predicted_cost"]
TIE = 1e-9  # costs this close to the limit keep it


class Acts(Protocol):
    """Anything with the ``act`` of an agent."""

    def act(self, observation: ArrayLike, *, deterministic: bool = False) -> NDArray:
        """Actions ``[N, …]`` for observations ``[N, …]``."""


class Hysteresis:
    """N switches that neither flicker nor hesitate for ever (book eq. evaluation-hysteresis).

    A switch goes on after ``patience`` values in a row over ``enter`` and off after ``release`` values in a row of at
    most ``leave``.

    Args:
        copies: N.
        enter: Values over it count towards on.
        leave: Values of at most it count towards off; None for ``enter``.
        patience: Steps in a row, at least 1.
        release: Steps in a row, at least 1; None never goes off again before :meth:`reset`.
    Raises:
        ValueError: If ``leave`` exceeds ``enter`` or a number of steps is not positive.
    """

    def __init__(
        self, copies: int, enter: float, leave: float | None = None, *, patience: int = 1, release: int | None = 1
    ) -> None:
        self.enter, self.leave = float(enter), float(enter if leave is None else leave)
        if not self.leave <= self.enter:
            raise ValueError(f"leave must be at most enter, {self.enter}, got {self.leave}")
        if patience < 1 or (release is not None and release < 1):
            raise ValueError(f"patience and release must be at least 1 step, got {patience} and {release}")
        self.patience, self.release = patience, release
        self.on = np.zeros(copies, dtype=np.bool_)
        self._streak = np.zeros(copies, dtype=np.int64)  # steps in a row that speak for a change

    def step(self, value: NDArray[np.float64]) -> NDArray[np.bool_]:
        """The switches after one more value each, ``[N]``; NaN counts as over every threshold."""
        over, under = ~(value <= self.enter), value <= self.leave
        self._streak = np.where(np.where(self.on, under, over), self._streak + 1, 0)
        needed = np.where(self.on, math.inf if self.release is None else self.release, self.patience)
        changes = self._streak >= needed
        self.on = self.on ^ changes
        self._streak[changes] = 0
        return self.on.copy()

    def reset(self, where: NDArray[np.bool_]) -> None:
        """Switch some off and forget what they saw."""
        self.on[where], self._streak[where] = False, 0


@dataclass(frozen=True)
class Alarm:
    """When observations count as strange.

    Attributes:
        detector: Scores observations.
        threshold: Of :func:`~ca14lib.deployment.detection.conformal_threshold`.
        leave: The score at which strangeness counts as over; None for the threshold.
        patience: Steps in a row over the threshold; calibrate the threshold on
            :func:`~ca14lib.deployment.detection.persistent_peak` with the same number.
        release: Steps in a row back under ``leave``; None keeps the alarm until the episode ends.
    """

    detector: Detector
    threshold: float
    leave: float | None = None
    patience: int = 1
    release: int | None = None


@dataclass(frozen=True)
class Watchdog:
    """When an action counts as too dear (book eq. evaluation-watchdog).

    Attributes:
        limit: Largest cost of an episode.
        cost_to_go: Function of observations ``[N, …]`` and actions ``[N, …]`` to ``[N]``: what the action costs
            together with what the fallback may still cost after it. None reacts only when the limit is exceeded.
        margin: The policy gets the copy back only where it would stay under the limit by as much.
    """

    limit: float
    cost_to_go: CostToGo | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.limit < math.inf:
            raise ValueError(f"limit must be finite and not negative, got {self.limit}")
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin must be finite and not negative, got {self.margin}")


class RuntimeMonitor:
    """Watches a policy in N copies of an environment, and hands each over to a fallback when it has to.

    Call :meth:`act`, step the environment, call :meth:`observe`, in turns.

    Args:
        policy: What is watched: an agent, an exported policy.
        fallback: What takes over, with an ``act`` of its own.
        num_envs: N.
        alarm: Against strange observations; None for none.
        watchdog: Over costs; None for none.
    """

    def __init__(
        self,
        policy: Acts,
        fallback: Acts,
        *,
        num_envs: int = 1,
        alarm: Alarm | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.policy, self.fallback, self.num_envs = policy, fallback, num_envs
        self.alarm, self.watchdog = alarm, watchdog
        self._strange = self._dear = None
        if alarm is not None:
            self._strange = Hysteresis(
                num_envs, alarm.threshold, alarm.leave, patience=alarm.patience, release=alarm.release
            )
        if watchdog is not None:
            self._dear = Hysteresis(num_envs, watchdog.limit + TIE, watchdog.limit + TIE - watchdog.margin)
        self.spent = np.zeros(num_envs)
        self.handed_over = np.zeros(num_envs, dtype=np.bool_)
        self.steps = self.fallback_steps = 0
        self._episode = np.zeros(num_envs, dtype=np.int64)
        self._rows: list[dict[str, Any]] = []
        self._waiting = False

    @property
    def log(self) -> pd.DataFrame:
        """Every hand-over and hand-back: step, copy, episode, event, cause, score and predicted cost of the episode."""
        return pd.DataFrame(self._rows, columns=LOG_COLUMNS)

    def act(
        self, observation: ArrayLike, *, mask: NDArray[np.bool_] | None = None, deterministic: bool = True
    ) -> NDArray:
        """What is executed: the policy's actions, or the fallback's in the copies that are handed over.

        Where an observation holds NaN or infinity, both get 0 in the place of such numbers, and the fallback acts.

        Args:
            observation: ``[N, …]``.
            mask: ``[N, A]``, true where an action is allowed, or None; both policies get it.
            deterministic: Passed to the policy; the fallback is always deterministic.
        Raises:
            ValueError: If the last step was not observed, or the number of copies is another.
        """
        seen = np.asarray(observation)
        if len(seen) != self.num_envs:
            raise ValueError(f"observation must be of {self.num_envs} copies, got {len(seen)}")
        if self._waiting:
            raise ValueError("call observe with what the last step cost before the next act")
        broken = ~np.isfinite(seen.reshape(len(seen), -1)).all(axis=1)
        whole = np.nan_to_num(seen, nan=0.0, posinf=0.0, neginf=0.0) if broken.any() else seen
        keywords = {} if mask is None else {"mask": mask}
        action = np.asarray(self.policy.act(whole, deterministic=deterministic, **keywords))
        score = np.where(broken, np.inf, np.nan)
        strange = np.zeros(self.num_envs, dtype=np.bool_)
        if self._strange is not None and self.alarm is not None:
            score = self.alarm.detector.score(seen)
            strange = self._strange.step(score)
        predicted, dear = np.full(self.num_envs, np.nan), np.zeros(self.num_envs, dtype=np.bool_)
        if self._dear is not None and self.watchdog is not None:
            ahead = self.watchdog.cost_to_go
            predicted = self.spent + (0.0 if ahead is None else np.asarray(ahead(whole, action), dtype=np.float64))
            dear = self._dear.step(predicted)
        over = broken | strange | dear
        self._note(over, {"not finite": broken, "strange": strange, "cost": dear}, score, predicted)
        if over.any():
            instead = np.asarray(self.fallback.act(whole, deterministic=True, **keywords))
            action = np.where(over.reshape(-1, *[1] * (action.ndim - 1)), instead, action).astype(action.dtype)
        self.handed_over, self._waiting = over, True
        self.steps += self.num_envs
        self.fallback_steps += int(over.sum())
        return action

    def observe(self, cost: ArrayLike | None = None, ended: ArrayLike | None = None) -> None:
        """What the step did.

        Args:
            cost: ``[N]``, of the step just made, those of ended episodes too; needed by a watchdog.
            ended: ``[N]`` bool, copies whose episode is over; None for none.
        Raises:
            ValueError: If there was no step, or a watchdog gets no finite cost.
        """
        if not self._waiting:
            raise ValueError("observe follows act, once for each step")
        over = np.zeros(self.num_envs, np.bool_) if ended is None else np.asarray(ended, dtype=np.bool_)
        if over.shape != (self.num_envs,):
            raise ValueError(f"ended must have shape ({self.num_envs},), got {over.shape}")
        if self.watchdog is not None:
            paid = np.asarray(np.nan if cost is None else cost, dtype=np.float64)
            if paid.size != self.num_envs or not np.isfinite(paid).all() or (paid < 0).any():
                raise ValueError(f"a watchdog needs {self.num_envs} finite costs of at least 0, got {cost!r}")
            self.spent = np.where(over, 0.0, self.spent + paid.reshape(self.num_envs))
        for switch in (self._strange, self._dear):
            if switch is not None:
                switch.reset(over)
        self.handed_over = self.handed_over & ~over
        self._episode += over
        self._waiting = False

    def _note(
        self, over: NDArray[np.bool_], causes: dict[str, NDArray[np.bool_]], score: NDArray, predicted: NDArray
    ) -> None:
        for copy in np.flatnonzero(over != self.handed_over):
            self._rows.append(
                {
                    "step": self.steps // self.num_envs,
                    "copy": int(copy),
                    "episode": int(self._episode[copy]),
                    "event": "hand over" if over[copy] else "hand back",
                    "cause": ", ".join(name for name, holds in causes.items() if holds[copy]),
                    "score": float(score[copy]),
                    "predicted_cost": float(predicted[copy]),
                }
            )


# Costs to go


def worst_cost_of(model: TabularModel, policy: NDArray[np.float64], horizon: int, constraint: int = 0) -> NDArray:
    """The most that an action, and then a policy for the rest of the horizon, can cost.

    Book eq. evaluation-worst-cost.

    Args:
        model: A finite problem whose costs are exact: by transition, or by state and action if nothing is random.
        policy: ``[S, A]``; whatever it may do counts.
        horizon: H.
        constraint: Which cost.
    Returns:
        ``[H + 1, S, A]`` by steps left.
    """
    cost = model.cost[constraint]
    cost = np.broadcast_to(cost[..., None] if cost.ndim == 2 else cost, model.transition.shape)
    possible = (model.transition > 0) & ~model.terminal[:, None, None]
    after = np.zeros((model.num_states, model.num_actions))
    steps = [after]
    for _ in range(horizon):
        value = np.where(policy > 0, after, -np.inf).max(axis=1)
        after = np.where(possible, cost + value, -np.inf).max(axis=2)
        after = np.where(model.terminal[:, None], 0.0, after)
        steps.append(after)
    return np.stack(steps)


def shield_cost(allowed: Callable[[NDArray], NDArray[np.bool_]]) -> CostToGo:
    """A cost to go from a shield for discrete actions: 0 where the action is allowed, infinite where it is not.

    Args:
        allowed: Function of observations to allowed actions ``[N, A]``, such as ``ModelShield``.
    """

    def cost_to_go(observation: NDArray, action: NDArray) -> NDArray[np.float64]:
        fine = np.take_along_axis(allowed(observation), np.asarray(action)[:, None], axis=1)[:, 0]
        return np.where(fine, 0.0, np.inf)

    return cost_to_go


def critic_cost(agent: OnPolicyAgent, constraint: int = 0) -> CostToGo:
    """A cost to go from a learned critic: what the agent itself expects to pay from here on, whatever the action.

    An estimate of a mean, not a bound, and of the agent, not of the fallback: it guarantees nothing, not even that the
    limit is kept on average.

    Args:
        agent: With at least one cost limit.
        constraint: Which of its costs.
    Raises:
        ValueError: If the agent has no such critic.
    """
    if not 0 <= constraint < agent.num_costs:
        raise ValueError(f"constraint must be one of the agent's {agent.num_costs} costs, got {constraint}")

    def cost_to_go(observation: NDArray, action: NDArray) -> NDArray[np.float64]:
        with torch.no_grad():
            value = agent._values(agent._input(agent._observation_tensor(observation)))
        return value[:, 1 + constraint].double().cpu().numpy().clip(min=0.0)

    return cost_to_go
