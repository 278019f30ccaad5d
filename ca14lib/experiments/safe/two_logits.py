"""A constrained problem whose policy has two parameters, so that every step of CPO can be drawn. Book: safe/cpo.

A delivery firm decides twice. First whether to *take* an order, which pays 1 and costs 0.2; if it does not, another
order comes with probability 0.4, else the day ends. Then whether to drive *fast*: slow pays 1 and costs 0.1, fast pays
3 and costs 1. The parameters are the two logits, of taking and of driving fast.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents.safe.cpo import Dual, trust_region_dual
from ca14lib.environments import TabularModel

Array = NDArray[np.float64]
ANOTHER = 0.4  # probability of a second decision after an order was not taken
TAKEN = (1.0, 0.2)  # reward and cost
SLOW, FAST = (1.0, 0.1), (3.0, 1.0)
BACKTRACKS, BACKTRACK_FACTOR = 10, 0.8


class Linearised(NamedTuple):
    """The problem of one update, per step of an episode (book eq. cpo-linearised)."""

    objective: Array  # g, gradient of the loss, [2]
    cost: Array  # b, [2]
    excess: float  # c
    hessian: Array  # H, [2, 2]

    def forms(self) -> tuple[float, float, float]:
        """q, r and s (book eq. cpo-scalars)."""
        g, b = (np.linalg.solve(self.hessian, vector) for vector in (self.objective, self.cost))
        return float(self.objective @ g), float(self.objective @ b), float(self.cost @ b)

    def step(self, dual: Dual) -> Array:
        """The step ``[2]`` of a solution of the dual (book eqs. cpo-step and cpo-recovery)."""
        objective: Array = np.zeros(2) if dual.case == 0 else self.objective
        towards = np.linalg.solve(self.hessian, objective + dual.cost_multiplier * self.cost)
        return np.asarray(-towards / dual.trust_multiplier, dtype=np.float64)


@dataclass(frozen=True)
class TwoLogits:
    """The delivery firm with a limit on the expected cost of a day.

    All functions of logits ``[…, 2]`` are exact and work on whole planes of them.

    Attributes:
        limit: On the expected cost of a day.
        damping: Added to the Fisher matrix: where a share is nearly 0 or 1 its logit hardly changes the policy, and a
            step would be as long as it is idle.
    """

    limit: float = 0.5
    damping: float = 0.003

    def model(self) -> TabularModel:
        """States order, road and end; action 1 takes the order, or drives fast."""
        transition = np.zeros((3, 2, 3))
        transition[0, 0], transition[0, 1], transition[1:, :, 2] = (0.0, ANOTHER, 1 - ANOTHER), (0.0, 1.0, 0.0), 1.0
        reward, cost = np.array([[(0.0, 0.0), TAKEN], [SLOW, FAST], [(0.0, 0.0)] * 2]).transpose(2, 0, 1)
        return TabularModel(transition, reward, cost[None], terminal=np.array([False, False, True]))

    def policy(self, logits: ArrayLike) -> Array:
        """The policy as a table ``[…, 3, 2]``."""
        bold = _shares(logits)
        bold = np.concatenate([bold, np.zeros_like(bold[..., :1])], axis=-1)
        return np.stack([1 - bold, bold], axis=-1)

    def expected(self, logits: ArrayLike) -> tuple[Array, Array]:
        """Exact return and exact cost of a day, ``[…]`` each."""
        shares = _shares(logits)
        take, fast = shares[..., 0], shares[..., 1]
        road = _reached(take)
        value, cost = (take * TAKEN[kind] + road * (SLOW[kind] + fast * (FAST[kind] - SLOW[kind])) for kind in range(2))
        return value, cost

    def surrogates(self, logits: ArrayLike, new: ArrayLike) -> tuple[Array, Array]:
        """What data of one policy say about others: mean advantages per step of reward and of cost (eq. cpo-problem).

        Args:
            logits: The policy of the data, ``[2]``.
            new: The policies asked about, ``[…, 2]``.
        """
        gaps, visits = self._gaps(logits), self._visits(logits)
        change = _shares(new) - _shares(logits)
        reward, cost = (((visits * gap) * change).sum(axis=-1) for gap in gaps)
        return reward, cost

    def divergence(self, logits: ArrayLike, new: ArrayLike) -> Array:
        """Mean KL divergence per step from the policy of the data to others, ``[…]``."""
        old, new = np.asarray(logits, dtype=float), np.asarray(new, dtype=float)
        bold = _shares(old)
        # -log(1 + exp(-x)) is the log-probability of the bold action, -log(1 + exp(x)) that of the other
        loss = bold * (np.logaddexp(0, -new) - np.logaddexp(0, -old))
        loss = loss + (1 - bold) * (np.logaddexp(0, new) - np.logaddexp(0, old))
        return (loss * self._visits(logits)).sum(axis=-1)

    def linearised(self, logits: ArrayLike) -> Linearised:
        """Gradients, excess and Fisher matrix at a policy ``[2]``, exact."""
        reward, cost = self._gaps(logits)
        share, visits = _shares(logits), self._visits(logits)
        slope = share * (1 - share)
        excess = float(self.expected(logits)[1] - self.limit) / self._length(logits)
        return Linearised(
            -visits * slope * reward, visits * slope * cost, excess, np.diag(visits * slope + self.damping)
        )

    def line_search(self, logits: ArrayLike, step: ArrayLike, case: int, delta: float) -> float:
        """Share of a step that keeps what was approximated (book eq. cpo-line-search); 0 if none does."""
        start, step = np.asarray(logits, dtype=float), np.asarray(step, dtype=float)
        excess = self.linearised(start).excess
        for share in BACKTRACK_FACTOR ** np.arange(BACKTRACKS):
            reward, cost = self.surrogates(start, start + share * step)
            improves, affordable = case <= 1 or reward >= 0, case == 4 or cost <= max(-excess, 0.0)
            if improves and affordable and self.divergence(start, start + share * step) <= delta:
                return float(share)
        return 0.0

    def iterates(self, logits: ArrayLike, updates: int, delta: float) -> tuple[Array, list[int]]:
        """CPO with exact gradients: the logits before and after every update, ``[updates + 1, 2]``, and the cases."""
        path, cases = [np.asarray(logits, dtype=float)], []
        for _ in range(updates):
            problem = self.linearised(path[-1])
            dual = trust_region_dual(*problem.forms(), problem.excess, delta)
            step = problem.step(dual)
            path.append(path[-1] + self.line_search(path[-1], step, dual.case, delta) * step)
            cases.append(dual.case)
        return np.array(path), cases

    def _length(self, logits: ArrayLike) -> float:
        return float(1 + _reached(_shares(logits)[..., 0]))

    def _visits(self, logits: ArrayLike) -> Array:
        """Share of the steps of an episode that each decision has, ``[2]``."""
        road = _reached(_shares(logits)[0])
        return np.array([1.0, road]) / (1 + road)

    def _gaps(self, logits: ArrayLike) -> tuple[Array, Array]:
        """By how much the bold action is ahead in each decision, in reward and in cost, ``[2]`` each."""
        fast = _shares(logits)[1]
        following = [slow + fast * (quick - slow) for slow, quick in zip(SLOW, FAST)]
        reward, cost = (
            np.array([TAKEN[kind] + (1 - ANOTHER) * following[kind], FAST[kind] - SLOW[kind]]) for kind in range(2)
        )
        return reward, cost


def _shares(logits: ArrayLike) -> Array:
    """Probabilities of the bold actions, ``[…, 2]``."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, dtype=float))), dtype=np.float64)


def _reached(take: Array) -> Array:
    """Probability that the second decision is made."""
    return ANOTHER + (1 - ANOTHER) * take
