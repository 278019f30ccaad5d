"""Exact values of playing with a partner: cross-play, best responses, and the best that a stranger can do.

A repeated game of two players with A actions each and H rounds. A player sees the last round and how many are left: a
**table** is ``[H, 1 + A², A]``, probabilities of the actions in every round and view; view 0 is that of the first
round, view 1 + a·A + b that after the own action a and the partner's b. ``payoff`` is ``[A, A]``, what the team
receives, the own action first; it is symmetric, so that both seats see the same game. Book: evaluation/partners.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.dynamic_programming import value_iteration
from ca14lib.solvers.uncertain import bayesian_constrained_plan

Array = NDArray[np.float64]

MOST_ACTIONS = 8  # whose permutations are enumerated


def symmetries(payoff: ArrayLike) -> NDArray[np.intp]:
    """Every renaming of the actions that leaves the payoff as it is, ``[P, A]`` (book eq. partners-symmetry).

    Args:
        payoff: ``[A, A]``, symmetric, A at most 8.
    Raises:
        ValueError: If the payoff is malformed.
    """
    table = _payoff(payoff)
    if len(table) > MOST_ACTIONS:
        raise ValueError(f"symmetries are enumerated for at most {MOST_ACTIONS} actions, got {len(table)}")
    found = [each for each in permutations(range(len(table))) if np.allclose(table[np.ix_(each, each)], table)]
    return np.array(found, dtype=np.intp)


def renamed(table: ArrayLike, names: ArrayLike) -> Array:
    """The same policy with action a called ``names[a]`` (book eq. partners-symmetry).

    Args:
        table: ``[H, 1 + A², A]``.
        names: A permutation ``[A]``.
    """
    policy, new = np.asarray(table, dtype=np.float64), np.asarray(names, dtype=np.intp)
    actions = policy.shape[-1]
    if sorted(new.tolist()) != list(range(actions)):
        raise ValueError(f"names must be a permutation of 0…{actions - 1}, got {names!r}")
    views = np.append(0, 1 + (new[:, None] * actions + new).ravel())
    result = np.empty_like(policy)
    result[:, views[:, None], new] = policy
    return result


def cross_play(payoff: ArrayLike, first: ArrayLike, second: ArrayLike) -> float:
    """What a team of two tables receives in expectation over all rounds (book eq. partners-cross-play).

    Args:
        payoff: ``[A, A]``.
        first: ``[H, 1 + A², A]``, of one player.
        second: Of the other.
    Raises:
        ValueError: If shapes disagree or a row is no distribution.
    """
    pays = _payoff(payoff)
    own, other = _table(first, pays), _table(second, pays)
    if own.shape != other.shape:
        raise ValueError(f"both tables need the same number of rounds, got {len(own)} and {len(other)}")
    count = len(pays)
    joint = own[0, 0][:, None] * other[0, 0]
    total = float((joint * pays).sum())
    for step in range(1, len(own)):
        mine = own[step, 1:].reshape(count, count, count)  # [a, b, next a]
        theirs = other[step, 1:].reshape(count, count, count).swapaxes(0, 1)  # their view is (b, a)
        joint = np.einsum("ab,abc,abd->cd", joint, mine, theirs)
        total += float((joint * pays).sum())
    return total


def other_play_value(payoff: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> float:
    """Cross-play with a partner whose actions are renamed at random (book eq. partners-other-play).

    Args:
        payoff: ``[A, A]``.
        first: ``[H, 1 + A², A]``.
        second: The partner's; None for the same.
    """
    partner = first if second is None else second
    return float(np.mean([cross_play(payoff, first, renamed(partner, names)) for names in symmetries(payoff)]))


def partner_model(payoff: ArrayLike, partner: ArrayLike) -> TabularModel:
    """The problem of playing with a known partner: its states are (round, view), and a last one that is terminal.

    Args:
        payoff: ``[A, A]``.
        partner: ``[H, 1 + A², A]``.
    Returns:
        A model with H·(1 + A²) + 1 states, in the order of rounds, horizon H and one cost that is 0.
    """
    pays = _payoff(payoff)
    theirs = _table(partner, pays)
    rounds, views, count = theirs.shape
    size = rounds * views + 1
    transition, reward = np.zeros((size, count, size)), np.zeros((size, count))
    transition[-1, :, -1] = 1.0
    own, other = np.divmod(np.arange(count * count), count)
    mirrored = np.append(0, 1 + other * count + own)  # the partner's view of each of mine
    for step in range(rounds):
        chance = theirs[step, mirrored]  # [V, B]
        reward[step * views : (step + 1) * views] = chance @ pays.T
        for action in range(count):
            rows = np.arange(step * views, (step + 1) * views)
            if step + 1 == rounds:
                transition[rows, action, -1] = 1.0
            else:
                following = (step + 1) * views + 1 + action * count + np.arange(count)
                transition[rows[:, None], action, following] = chance
    terminal = np.arange(size) == size - 1
    return TabularModel(
        transition, reward, cost=np.zeros((1, size, count)), terminal=terminal, initial=np.eye(size)[0], horizon=rounds
    )


def best_partner_return(payoff: ArrayLike, partner: ArrayLike) -> float:
    """The most that anyone can receive together with this partner, known from the start (eq. partners-best-response).

    Args: as :func:`partner_model`.
    """
    return value_iteration(partner_model(payoff, partner)).optimal_return


def stranger_optimum(payoff: ArrayLike, partners: Sequence[ArrayLike], weights: ArrayLike | None = None) -> float:
    """The most that can be received with a partner drawn from these and not named (book eq. partners-stranger).

    Exact over all policies with memory of the whole episode: the belief over partners is the state.

    Args:
        payoff: ``[A, A]``.
        partners: Tables ``[H, 1 + A², A]``.
        weights: Probabilities of the partners; None for equal ones.
    """
    models = [partner_model(payoff, partner) for partner in partners]
    chosen = None if weights is None else np.asarray(weights, dtype=np.float64)
    return bayesian_constrained_plan(models, np.inf, chosen).expected_return


def stubborn(lever: int, actions: int, rounds: int) -> Array:
    """Who always takes the same action."""
    return np.broadcast_to(np.eye(actions)[lever], (rounds, 1 + actions**2, actions)).copy()


def imitator(opening: ArrayLike, rounds: int) -> Array:
    """Who repeats what the partner did last, and opens with a distribution ``[A]``."""
    first = np.asarray(opening, dtype=np.float64)
    count = len(first)
    return np.broadcast_to(np.vstack([first, np.tile(np.eye(count), (count, 1))]), (rounds, 1 + count**2, count)).copy()


def win_stay(opening: ArrayLike, rounds: int) -> Array:
    """Who repeats an action that matched, and otherwise draws again from the opening distribution ``[A]``."""
    first = np.asarray(opening, dtype=np.float64)
    count = len(first)
    table = np.tile(first, (1 + count**2, 1))
    matched = 1 + np.arange(count) * (count + 1)
    table[matched] = np.eye(count)
    return np.broadcast_to(table, (rounds, *table.shape)).copy()


def _payoff(payoff: ArrayLike) -> Array:
    table = np.asarray(payoff, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise ValueError(f"payoff must be [A, A] with at least two actions, got shape {table.shape}")
    if not np.isfinite(table).all() or not np.allclose(table, table.T):
        raise ValueError("payoff must be finite and symmetric: both seats have to see the same game")
    return table


def _table(table: ArrayLike, payoff: Array) -> Array:
    policy, count = np.asarray(table, dtype=np.float64), len(payoff)
    if policy.ndim != 3 or not len(policy) or policy.shape[1:] != (1 + count**2, count):
        raise ValueError(f"a table must be [H, {1 + count**2}, {count}], got shape {policy.shape}")
    if not (policy >= 0).all() or not np.allclose(policy.sum(axis=-1), 1.0, atol=1e-6):
        raise ValueError("rows of a table must be distributions over the actions")
    return policy
