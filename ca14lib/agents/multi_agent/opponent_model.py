"""Opponent modelling: estimate the others' policies from their actions, answer best. Book: multi_agent/competition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents.base import require
from ca14lib.solvers.games import action_values, game_tensor


@dataclass(frozen=True)
class OpponentModelConfig:
    forgetting: float = 1.0  # γ, weight of an action one observation older; 1 never forgets
    prior: float = 1.0  # κ, observations of every action that are imagined before the first

    def __post_init__(self) -> None:
        require(0 < self.forgetting <= 1, "forgetting", self.forgetting, "in (0, 1]")
        require(0 < self.prior < float("inf"), "prior", self.prior, "positive and finite")


def discounted_cross_entropy(
    probabilities: ArrayLike, actions: Sequence[int], forgetting: float, prior: float
) -> float:
    r"""What a model of one opponent minimises: old actions weigh less, imagined ones keep it off the edge.

    .. math:: -\sum_{s\le t}\gamma^{t-s}\ln q(a_s)-\kappa\sum_a\ln q(a)

    Args:
        probabilities: :math:`q`, ``[A]``, positive.
        actions: :math:`a_1,\dots,a_t`, the newest last.
        forgetting: :math:`\gamma` in (0, 1].
        prior: :math:`\kappa`, positive.
    """
    log = np.log(np.asarray(probabilities, dtype=np.float64))
    weights = forgetting ** np.arange(len(actions) - 1, -1, -1)
    return float(-(weights * log[np.asarray(actions, dtype=np.int64)]).sum() - prior * log.sum())


class OpponentModel:
    """The policies of other agents, one distribution for each of them in each context.

    The estimate is the exact minimiser of :func:`discounted_cross_entropy`: discounted counts of the actions plus the
    prior, normalised. With ``forgetting`` below 1 about the last 1 / (1 − forgetting) observations of a context count,
    so that the model follows an opponent who changes; with 1 it is the empirical distribution of fictitious play.

    Args:
        num_opponents: Agents that are modelled, at least 1.
        num_actions: A, of each.
        contexts: Situations that are told apart, for example what was played last; 1 for none.
        config: Forgetting and prior.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, num_opponents: int, num_actions: int, *, contexts: int = 1, config: OpponentModelConfig | None = None
    ) -> None:
        for name, value in (("num_opponents", num_opponents), ("num_actions", num_actions), ("contexts", contexts)):
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            require(bool(whole and value >= 1), name, value, "a positive integer")
        self.config = config or OpponentModelConfig()
        self.num_opponents, self.num_actions, self.contexts = num_opponents, num_actions, contexts
        self.counts = np.zeros((contexts, num_opponents, num_actions))

    def observe(self, actions: ArrayLike, context: int = 0) -> None:
        """Take in one action of every opponent, ``[num_opponents]``.

        Raises:
            ValueError: If the shape is another or an action or the context does not exist.
        """
        chosen = self._checked(actions, context)
        self.counts[context] *= self.config.forgetting
        self.counts[context, np.arange(self.num_opponents), chosen] += 1.0

    def probabilities(self, context: int = 0) -> NDArray[np.float64]:
        """Estimated policies, ``[num_opponents, A]``."""
        weights = self.counts[context] + self.config.prior
        return weights / weights.sum(axis=-1, keepdims=True)

    def cross_entropy(self, actions: ArrayLike, context: int = 0) -> float:
        """Mean over opponents of minus the log-probability of what they did: how surprising it was."""
        chosen = self._checked(actions, context)
        return float(-np.log(self.probabilities(context)[np.arange(self.num_opponents), chosen]).mean())

    def forget(self) -> None:
        """Begin anew."""
        self.counts[:] = 0.0

    def _checked(self, actions: ArrayLike, context: int) -> NDArray[np.integer]:
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_opponents,) or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be integers of shape ({self.num_opponents},), got {chosen.dtype} of shape {chosen.shape}"
            )
        if chosen.min() < 0 or chosen.max() >= self.num_actions:
            raise ValueError(f"actions must lie in 0…{self.num_actions - 1}, got {chosen.tolist()}")
        if not 0 <= context < self.contexts:
            raise ValueError(f"context must lie in 0…{self.contexts - 1}, got {context}")
        return chosen


class BestResponder:
    """A player of a matrix game who answers best to its model of the others; ties are broken at random.

    Args:
        payoffs: ``[n, A, …, A]``, with equally many actions for all, or a square matrix for a zero-sum game.
        player: Which player it is, 0…n − 1.
        config: Of its model.
        exploration: Probability of a uniformly random action instead.
        seed: Fixes ties and exploration.

    Raises:
        ValueError: If payoffs are malformed, players differ in their number of actions, or a number is out of range.
    """

    def __init__(
        self, payoffs: ArrayLike, player: int = 0, config: OpponentModelConfig | None = None, *,
        exploration: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.payoffs = game_tensor(payoffs)
        players, actions = len(self.payoffs), self.payoffs.shape[1]
        if len(set(self.payoffs.shape[1:])) != 1:
            raise ValueError(f"all players need the same number of actions, got {self.payoffs.shape[1:]}")
        require(0 <= player < players, "player", player, f"in 0…{players - 1}")
        require(0 <= exploration <= 1, "exploration", exploration, "in [0, 1]")
        self.player, self.exploration = player, exploration
        self.model = OpponentModel(players - 1, actions, config=config)
        self.draws = np.random.default_rng(seed)

    def values(self) -> NDArray[np.float64]:
        """What every own action is worth against the model, ``[A]``."""
        others = list(self.model.probabilities())
        own = np.full(self.model.num_actions, 1.0 / self.model.num_actions)  # does not count
        return action_values(self.payoffs, [*others[: self.player], own, *others[self.player :]])[self.player]

    def act(self) -> int:
        """An action that is best against the model."""
        if self.exploration and self.draws.random() < self.exploration:
            return int(self.draws.integers(self.model.num_actions))
        values = self.values()
        return int(self.draws.choice(np.flatnonzero(values >= values.max() - 1e-12)))

    def observe(self, actions: ArrayLike) -> None:
        """Take in what all players did in a round, ``[n]``, the own action among them."""
        chosen = np.asarray(actions)
        if chosen.shape != (len(self.payoffs),):
            raise ValueError(f"actions must have shape ({len(self.payoffs)},), got {chosen.shape}")
        self.model.observe(np.delete(chosen, self.player))


def regret(payoffs: ArrayLike, strategies: Sequence[ArrayLike], player: int, action: int) -> float:
    """How much more than the action the best one would have paid in expectation against the others' strategies.

    Args:
        payoffs: The game.
        strategies: What the players truly play, one distribution each; the player's own does not count.
        player: Whose regret.
        action: What it did.
    """
    values = action_values(payoffs, strategies)[player]
    return float(values.max() - values[action])
