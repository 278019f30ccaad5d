"""Credit in teams: what one agent's action contributed, and how noisy gradients are that do not know it.

Book: multi_agent/credit. Tables of a one-step game have one axis of actions for each agent, ``[A_1, …, A_n]``; signals,
what each agent learns from, have the agents in front of them, ``[n, A_1, …, A_n]``.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments import MultiAgentEnvironment

Array = NDArray[np.float64]


def difference_signal(team: ArrayLike, default: int | ArrayLike = 0) -> Array:
    r"""Difference rewards of a one-step game (book eq. difference-reward).

    :math:`D^i(\boldsymbol a) = r(\boldsymbol a) - r(c^i, \boldsymbol a^{-i})`:
    what the team has because agent i did not do its default.

    Args:
        team: Payoff of the team ``[A_1, …, A_n]``.
        default: c, an action for all agents or one for each.
    Returns:
        ``[n, A_1, …, A_n]``.
    """
    table = np.asarray(team, dtype=np.float64)
    defaults = np.broadcast_to(np.asarray(default), (table.ndim,))
    for axis, action in enumerate(defaults):
        if not 0 <= action < table.shape[axis]:
            raise ValueError(f"default must be an action of every agent, got {action} of {table.shape[axis]}")
    return np.stack([table - table.take([int(action)], axis=axis) for axis, action in enumerate(defaults)])


def counterfactual_signal(team: ArrayLike, policies: ArrayLike) -> Array:
    r"""Advantages over the mean of the own policy (book eq. counterfactual-baseline).

    Args:
        team: Payoff of the team ``[A, …, A]``, or a critic's estimate of it.
        policies: Probabilities ``[n, A]``.
    Returns:
        :math:`r(\boldsymbol a) - \sum_b \pi^i(b)\, r(b, \boldsymbol a^{-i})`, ``[n, A, …, A]``.
    """
    table, policy = np.asarray(team, dtype=np.float64), np.asarray(policies, dtype=np.float64)
    return minus_own_mean(np.broadcast_to(table, (table.ndim, *table.shape)), policy)


def own_critic_signal(team: ArrayLike, policies: ArrayLike) -> Array:
    r"""What each agent's own action is worth with the others' averaged out.

    Args:
        team: Payoff of the team ``[A, …, A]``.
        policies: Probabilities ``[n, A]`` that the others are averaged over. Those of now make the exact critic of an
            independent learner; those of some time ago make the critic that it learns from old experience.
    Returns:
        :math:`q^i(a^i) = \mathbb E[r(a^i, \boldsymbol a^{-i})]`, ``[n, A, …, A]``; :func:`minus_own_mean` gives it a
        baseline.
    """
    table, policy = np.asarray(team, dtype=np.float64), np.asarray(policies, dtype=np.float64)
    signals = []
    for agent in range(table.ndim):
        worth = np.moveaxis(table, agent, 0)
        for other in reversed([j for j in range(table.ndim) if j != agent]):
            worth = worth @ policy[other]
        shape = [-1 if axis == agent else 1 for axis in range(table.ndim)]
        signals.append(np.broadcast_to(worth.reshape(shape), table.shape))
    return np.stack(signals)


def minus_own_mean(signal: ArrayLike, policies: ArrayLike) -> Array:
    """A signal ``[n, A, …, A]`` minus its mean over the own action, which changes no gradient's mean.

    Args:
        signal: ``[n, A, …, A]``.
        policies: Probabilities of the own actions ``[n, A]``.
    """
    signals, policy = np.asarray(signal, dtype=np.float64), np.asarray(policies, dtype=np.float64)
    means = [np.tensordot(own, policy[agent], axes=(agent, 0)) for agent, own in enumerate(signals)]
    return np.stack([own - np.expand_dims(mean, agent) for agent, (own, mean) in enumerate(zip(signals, means))])


class GradientMoments(NamedTuple):
    """Exact mean and variance of a policy gradient from one joint action.

    Attributes:
        mean: ``[n, A]``, with respect to each agent's logits.
        variance: ``[n]``, sum over an agent's logits.
    """

    mean: Array
    variance: Array


def gradient_moments(signal: ArrayLike, policies: ArrayLike) -> GradientMoments:
    r"""Moments of :math:`\nabla_{\ell^i} \log\pi^i(a^i)\, S^i(\boldsymbol a)` (book eq. credit-variance).

    All joint actions are enumerated.

    Args:
        signal: S, ``[n, A, …, A]``.
        policies: Softmax policies ``[n, A]``, independent of one another.
    Raises:
        ValueError: If shapes disagree, or a row of the policies is no distribution.
    """
    signals, policy = np.asarray(signal, dtype=np.float64), _policies(policies)
    if signals.shape != (len(policy), *[policy.shape[1]] * len(policy)):
        raise ValueError(f"signal must have shape [n, A, …, A] for policies {policy.shape}, got {signals.shape}")
    chance = joint_probabilities(policy)
    means, variances = [], []
    for agent, row in enumerate(policy):
        axes = tuple(axis for axis in range(len(policy)) if axis != agent)
        # first and second moment of the signal, on each own action, times its probability
        first, second = ((chance * signals[agent] ** power).sum(axis=axes) for power in (1, 2))
        score = np.eye(len(row)) - row  # [a, logit]
        mean = first @ score
        means.append(mean)
        variances.append(second @ score**2 - mean**2)
    return GradientMoments(np.stack(means), np.stack(variances).sum(axis=1))


def joint_probabilities(policies: ArrayLike) -> Array:
    """Probabilities ``[A, …, A]`` of the joint actions of independent policies ``[n, A]``."""
    chance = np.ones(())
    for row in _policies(policies):
        chance = np.multiply.outer(chance, row)
    return chance


class Credit(NamedTuple):
    """How well a signal serves the team (Wolpert and Tumer, 2001).

    Attributes:
        aligned: ``[n]``, share of an agent's changes of action that change its signal in the direction in which they
            change the team's payoff, among those that change the payoff. 1: who climbs its signal climbs the payoff.
        sensitive: ``[n]``, mean change of an agent's signal through its own action, over that through the others'
            together; infinite where the others have no influence.
    """

    aligned: Array
    sensitive: Array


def credit(signal: ArrayLike, team: ArrayLike) -> Credit:
    """Alignment and sensitivity of a signal, over all joint actions with equal weight.

    Args:
        signal: ``[n, A, …, A]``.
        team: ``[A, …, A]``.
    """
    signals, table = np.asarray(signal, dtype=np.float64), np.asarray(team, dtype=np.float64)
    if signals.shape != (table.ndim, *table.shape):
        raise ValueError(f"signal must have shape {(table.ndim, *table.shape)}, got {signals.shape}")
    aligned, sensitive = [], []
    for agent, own in enumerate(signals):
        change, change_of_team = _changes(own, agent), _changes(table, agent)
        matters = abs(change_of_team) > 1e-12
        agrees = np.sign(np.where(abs(change) > 1e-12, change, 0.0)) == np.sign(change_of_team)
        aligned.append(agrees[matters].mean() if matters.any() else 1.0)
        # the others together: all their actions are redrawn, the own one is kept
        rows = np.moveaxis(own, agent, 0).reshape(own.shape[agent], -1)
        others = _mean_gap(rows)
        through_own = abs(change).mean()
        sensitive.append(through_own / others if others > 1e-12 else np.inf)
    return Credit(np.array(aligned), np.array(sensitive))


def _changes(table: Array, axis: int) -> Array:
    """Differences between all pairs of different entries along an axis, ``[pairs, …]``."""
    rows = np.moveaxis(table, axis, 0)
    first, second = np.triu_indices(len(rows), k=1)
    return rows[first] - rows[second]


def _mean_gap(rows: Array) -> float:
    """Mean absolute difference of two independent draws from each row ``[A, K]``, by sorting."""
    count = rows.shape[1]
    weights = 2 * np.arange(count) - count + 1
    return float((np.sort(rows, axis=1) @ weights).mean() * 2 / count**2)


def _policies(policies: ArrayLike) -> Array:
    policy = np.asarray(policies, dtype=np.float64)
    if policy.ndim != 2 or (policy < 0).any() or not np.allclose(policy.sum(axis=1), 1.0):
        raise ValueError(f"policies must be distributions [n, A], got {policy.tolist()}")
    return policy


def game_difference_rewards(game: MultiAgentEnvironment, action: NDArray, default: int | ArrayLike = 0) -> Array:
    r"""Difference rewards of a step in any game (book eq. difference-reward): it is played again, n times, in copies.

    Copies of a game with random events draw the same numbers as the game itself, unless a changed action changes how
    many are drawn.

    Args:
        game: Stands before the step, and is left so.
        action: ``[N, n]``, or ``[N, n, D]``.
        default: c, the action in place of an agent's own: one for all agents, or one for each (``[n]`` or ``[n, D]``).
    Returns:
        :math:`r(s, \boldsymbol a) - r(s, (c^i, \boldsymbol a^{-i}))` with the team's reward r, the sum
        over agents; ``[N, n]``.
    """
    actions = np.asarray(action)
    shape = actions.shape[1:]
    given = np.asarray(default, dtype=actions.dtype)
    defaults = np.broadcast_to(given, shape)

    def reward(joint: NDArray) -> Array:
        return copy.deepcopy(game).advance(joint)[0].sum(axis=1)

    checked = game._checked(actions)
    taken, rows = reward(checked), []
    for agent in range(game.num_agents):
        changed = checked.copy()
        changed[:, agent] = defaults[agent]
        rows.append(taken - reward(game._checked(changed)))
    return np.stack(rows, axis=1)


class DifferenceRewards(MultiAgentEnvironment):
    """A game whose agents receive difference rewards in place of their own; all else is the game's.

    The sum over agents is not the team's return any more: judge a team that was trained so in the game itself.

    Args:
        game: The game, not to be stepped by anybody else.
        default: See :func:`game_difference_rewards`.
    """

    least_agents = 1

    def __init__(self, game: MultiAgentEnvironment, default: int | ArrayLike = 0) -> None:
        self.game, self.default = game, default
        super().__init__(
            game.num_envs, game.num_agents, game.agent_observation_space, game.agent_action_space,
            game.state_space, time_limit=game.time_limit, horizon=game.horizon, render_mode=game.render_mode,
        )  # fmt: skip
        self.game._elapsed, self.game._started = self._elapsed, True  # one clock

    def spawn(self, num_envs: int) -> "DifferenceRewards":
        game = self.game.spawn(num_envs)
        assert isinstance(game, MultiAgentEnvironment)
        return DifferenceRewards(game, self.default)

    def _restart(self, count: int, options: dict[str, Any] | None) -> Any:
        self.game.np_random = self.np_random  # one generator
        return self.game._restart(count, options)

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self.game._place(where, states)

    def _transition(self, action: NDArray) -> tuple[Array, NDArray[np.bool_]]:
        reward = game_difference_rewards(self.game, action, self.default)
        return reward, self.game._transition(action)[1]

    def _observe(self) -> NDArray:
        return self.game._observe()

    def _state(self) -> NDArray[np.float32]:
        return self.game._state()

    def _report(self) -> dict[str, Any]:
        return self.game._report()

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return self.game._frame(index)
