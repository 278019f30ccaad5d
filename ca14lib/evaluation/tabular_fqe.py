"""Fitted Q evaluation where observations repeat: a table, exact, for many weightings of the episodes at once.

Le, Voloshin and Yue (2019). Book: offline/off_policy_evaluation. In shapes, K is the number of weightings, U that of
distinct observations, A that of actions.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve

from ca14lib.evaluation.logs import Array, Log

Bounds = tuple[float, float] | Literal["tried"]

DENSE_ROWS = 100  # up to here all resamples are solved at once as dense systems
FILLED_ROWS = 2_000  # up to here a sparse factorisation, which fills up, is slower than a dense one


class Table:
    """The policy's Bellman equation on counted transitions (book eq. ope-fqe), for many weightings at once.

    A weighting says how often each episode counts. What is unknown has a value by assumption: ``unseen_value`` is that
    of actions that a weighting does not hold, or None for the average over those it holds at the observation;
    ``nowhere``, where it is given, that of actions that no episode holds.

    Args:
        log: The recorded episodes.
        probability: The policy's probabilities of all actions at every distinct observation, ``[U, A]``.
        discount: In (0, 1]; at 1 the policy has no value where it may never end.
    """

    def __init__(self, log: Log, probability: Array, discount: float) -> None:
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
