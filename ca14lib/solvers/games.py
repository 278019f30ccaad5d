"""Exact answers for matrix games: best responses, equilibria, team optima, and the dynamics that look for them.

Conventions: ``payoffs`` is ``[n, A_1, …, A_n]``, players first, or a matrix ``[A, B]``, which stands for the zero-sum
game whose first player receives it. ``strategies`` are one distribution per player, ``[A_1], …, [A_n]``.
Book: multi_agent/games.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog, nnls

SUM = 1e-6  # how far a distribution's sum may be from 1
Strategies = list[NDArray[np.float64]]


def game_tensor(payoffs: ArrayLike) -> NDArray[np.float64]:
    """Payoffs as ``[n, A_1, …, A_n]``; a matrix is completed to the zero-sum game.

    Raises:
        ValueError: If the shape fits no game or a payoff is not finite.
    """
    table = np.asarray(payoffs, dtype=np.float64)
    if table.ndim == 2:
        table = np.stack([table, -table])
    if table.ndim < 3 or len(table) != table.ndim - 1 or table.size == 0:
        raise ValueError(f"payoffs must be a matrix or have shape [n, A_1, …, A_n], got {np.shape(payoffs)}")
    if not np.isfinite(table).all():
        raise ValueError(f"payoffs must be finite, got {table[~np.isfinite(table)][0]}")
    return table


def action_values(payoffs: ArrayLike, strategies: Sequence[ArrayLike]) -> Strategies:
    """What each action of each player is worth against the others' strategies (book eq. games-action-values).

    Returns:
        One vector ``[A_i]`` per player.
    Raises:
        ValueError: If payoffs or strategies are malformed.
    """
    table = game_tensor(payoffs)
    return _action_values(table, _checked(table, strategies))


def expected_payoffs(payoffs: ArrayLike, strategies: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Expected payoff of every player, ``[n]`` (book eq. games-expected-payoff).

    Raises:
        ValueError: If payoffs or strategies are malformed.
    """
    table = game_tensor(payoffs)
    chosen = _checked(table, strategies)
    values = _action_values(table, chosen)
    return np.array([strategy @ value for strategy, value in zip(chosen, values)])


def best_response(payoffs: ArrayLike, strategies: Sequence[ArrayLike], player: int) -> tuple[int, float]:
    """The first best action of a player against the others' strategies, and its payoff.

    Args:
        payoffs: The game.
        strategies: One per player; the player's own does not count.
        player: 0…n − 1.
    Raises:
        ValueError: If payoffs or strategies are malformed or there is no such player.
    """
    table = game_tensor(payoffs)
    if not 0 <= player < len(table):
        raise ValueError(f"player must lie in 0…{len(table) - 1}, got {player}")
    values = _action_values(table, _checked(table, strategies))[player]
    return int(values.argmax()), float(values.max())


def nash_conv(payoffs: ArrayLike, strategies: Sequence[ArrayLike]) -> float:
    """What the players could gain in sum by each answering best to the others (book eq. nash-conv).

    Exact, for any number of players. It is zero at a Nash equilibrium and positive everywhere else.

    Args:
        payoffs: ``[n, A_1, …, A_n]``, or a matrix for a zero-sum game.
        strategies: One distribution per player.
    Raises:
        ValueError: If payoffs or strategies are malformed.
    """
    table = game_tensor(payoffs)
    chosen = _checked(table, strategies)
    values = _action_values(table, chosen)
    return float(sum(value.max() - strategy @ value for strategy, value in zip(chosen, values)))


def nash_conv_path(payoffs: ArrayLike, play: "Play", which: str = "average") -> NDArray[np.float64]:
    """NashConv of every record of a two-player game, ``[R]`` (book eq. nash-conv).

    Args:
        payoffs: The game.
        play: What was recorded.
        which: ``"average"`` or ``"last"``.
    Raises:
        ValueError: If payoffs are malformed, there are not two players, or ``which`` is neither of the two.
    """
    table = game_tensor(payoffs)
    if len(table) != 2:
        raise ValueError(f"nash_conv_path is for two players, got {len(table)}")
    first, second = play.rows(which)
    values = (second @ table[0].T, first @ table[1])
    return sum(value.max(axis=1) - (rows * value).sum(axis=1) for rows, value in zip((first, second), values))


@dataclass(frozen=True, eq=False)
class ZeroSumSolution:
    """Optimal strategies of both players and the value of the game."""

    strategies: Strategies
    value: float


def zero_sum_equilibrium(matrix: ArrayLike) -> ZeroSumSolution:
    """An equilibrium of a two-player zero-sum game, by linear programming (book eq. games-minimax-lp).

    Args:
        matrix: What the first player wins, ``[A, B]``.
    Raises:
        ValueError: If the matrix is malformed.
    """
    table = game_tensor(matrix)
    if np.ndim(matrix) != 2:
        raise ValueError(f"a zero-sum game is given by its matrix [A, B], got shape {np.shape(matrix)}")
    row, value = _guaranteed(table[0])
    column, _ = _guaranteed(-table[0].T)
    return ZeroSumSolution([row, column], value)


def pure_equilibria(payoffs: ArrayLike) -> list[tuple[int, ...]]:
    """All joint actions from which no player gains by deviating alone, in lexicographic order (ties count).

    Raises:
        ValueError: If payoffs are malformed.
    """
    table = game_tensor(payoffs)
    stable = np.ones(table.shape[1:], dtype=bool)
    for player, payoff in enumerate(table):
        stable &= payoff >= payoff.max(axis=player, keepdims=True)
    return [tuple(int(action) for action in joint) for joint in np.argwhere(stable)]


def support_enumeration(payoffs: ArrayLike, *, tolerance: float = 1e-9) -> list[Strategies]:
    """All Nash equilibria of a two-player game that is not degenerate (book eq. games-support).

    For every pair of supports of equal size the indifference equations are solved and the solution is kept if it is an
    equilibrium. In a degenerate game, where a strategy has more best answers than actions in its support, whole
    families of equilibria exist and only some are found. The number of pairs grows exponentially with the actions.

    Returns:
        One pair of distributions per equilibrium, small supports first.
    Raises:
        ValueError: If payoffs are malformed or there are not two players.
    """
    table = game_tensor(payoffs)
    if len(table) != 2:
        raise ValueError(f"support enumeration is for two players, got {len(table)}")
    rows, columns = table.shape[1:]
    found: list[Strategies] = []
    for size in range(1, min(rows, columns) + 1):
        for first in itertools.combinations(range(rows), size):
            for second in itertools.combinations(range(columns), size):
                # the second player's mixture makes the first indifferent, and the other way round
                column = _indifferent(table[0][np.ix_(first, second)], second, columns)
                row = _indifferent(table[1][np.ix_(first, second)].T, first, rows)
                if row is None or column is None:
                    continue
                scale = max(1.0, float(np.abs(table).max()))
                if nash_conv(table, [row, column]) <= tolerance * scale:
                    found.append([row, column])
    return found


@dataclass(frozen=True, eq=False)
class Play:
    """What a learning dynamic did, at the recorded steps.

    Attributes:
        steps: Number of rounds played, ``[R]``, from 1.
        last: Strategy of every player in that round, ``[R, A_i]`` each.
        average: Mean of the strategies of all rounds so far, ``[R, A_i]`` each.
    """

    steps: NDArray[np.int64]
    last: Strategies
    average: Strategies

    def rows(self, which: str = "average") -> Strategies:
        """``average`` or ``last``, by name.

        Raises:
            ValueError: If it is neither of the two.
        """
        if which not in ("average", "last"):
            raise ValueError(f"which must be 'average' or 'last', got {which!r}")
        return self.average if which == "average" else self.last

    def at(self, record: int, which: str = "average") -> Strategies:
        """Strategies of one record, ``"average"`` or ``"last"``."""
        return [rows[record] for rows in self.rows(which)]


def fictitious_play(
    payoffs: ArrayLike, steps: int, *, start: Sequence[ArrayLike] | None = None, record: int | None = None
) -> Play:
    """Everyone answers best to the others' average play so far (Brown, 1951; book eq. games-fictitious-play).

    All players move at the same time; of several best actions the first is taken.

    Args:
        payoffs: The game; in two-player zero-sum games the average converges to the equilibria.
        steps: Rounds, at least 1.
        start: What is believed before the first round, one distribution per player, which weighs as one round in the
            answers and is not part of the averages; None for no belief, then everybody begins with action 0.
        record: Number of rounds to record, spread evenly in their logarithm; None for all.
    Raises:
        ValueError: If payoffs or the start are malformed or there are no steps.
    """
    table = game_tensor(payoffs)
    counts = [np.zeros(size) for size in table.shape[1:]]
    recorder = _Recorder(table, steps, record)
    believed = counts if start is None else _checked(table, start)
    one_hot = [np.eye(size) for size in table.shape[1:]]
    if len(table) == 2:
        # sums of payoffs instead of products with averages: a round adds one column and one row
        columns, rows = table[0].T.copy(), table[1].copy()
        sums = [table[0] @ believed[1], believed[0] @ table[1]]
        for step in range(1, steps + 1):
            first, second = int(sums[0].argmax()), int(sums[1].argmax())
            counts[0][first] += 1.0
            counts[1][second] += 1.0
            if step in recorder.wanted:
                recorder.keep(step, [one_hot[0][first], one_hot[1][second]], counts)
            sums[0] += columns[second]
            sums[1] += rows[first]
        return recorder.play()
    for step in range(1, steps + 1):
        # products of sums instead of averages: a positive factor that moves no best answer
        chosen = [int(value.argmax()) for value in _action_values(table, [c + b for c, b in zip(counts, believed)])]
        for count, action in zip(counts, chosen):
            count[action] += 1.0
        if step in recorder.wanted:
            recorder.keep(step, [rows[action] for rows, action in zip(one_hot, chosen)], counts)
    return recorder.play()


def multiplicative_weights(
    payoffs: ArrayLike, steps: int, *, rate: float | None = None, optimistic: bool = False,
    start: Sequence[ArrayLike] | None = None, record: int | None = None,
) -> Play:  # fmt: skip
    """Actions' weights grow with the exponential of their payoffs (book eq. games-multiplicative-weights).

    Also called Hedge; it is the natural policy gradient of a softmax policy, and for small rates its path follows the
    replicator dynamics. Payoffs are divided by each player's range, so that the rate has no unit.

    Args:
        payoffs: The game.
        steps: Rounds T, at least 1.
        rate: :math:`\\eta`; None for :math:`\\sqrt{2\\ln A/T}`, with the bound of book eq. games-average-bound.
        optimistic: Count the newest payoffs twice and take the previous ones back (book eq. games-optimistic).
        start: First strategies, positive everywhere; None for uniform.
        record: Number of rounds to record, spread evenly in their logarithm; None for all.
    Raises:
        ValueError: If payoffs or strategies are malformed or a number is out of range.
    """
    table = game_tensor(payoffs)
    current = _interior(table, start)
    if rate is not None and not rate > 0.0:
        raise ValueError(f"rate must be positive, got {rate}")
    sizes = table.shape[1:]
    rates = [np.sqrt(2 * np.log(max(size, 2)) / max(steps, 1)) if rate is None else rate for size in sizes]
    scale = [step / (float(np.ptp(payoff)) or 1.0) for step, payoff in zip(rates, table)]
    logits = [np.log(strategy) for strategy in current]
    previous: Strategies = [np.zeros(size) for size in sizes]

    def update(values: Strategies) -> Strategies:
        for player, value in enumerate(values):
            gain = value if not optimistic else 2 * value - previous[player]
            logits[player] += scale[player] * gain
            logits[player] -= logits[player].max()
        previous[:] = values
        return [_softmax(logit) for logit in logits]

    return _played(table, current, update, steps, record)


def softmax_policy_gradient(
    payoffs: ArrayLike, steps: int, *, rate: float = 0.1, start: Sequence[ArrayLike] | None = None,
    record: int | None = None,
) -> Play:  # fmt: skip
    """Independent learners: everyone climbs the exact gradient of its own payoff (book eq. games-policy-gradient).

    What self-play with a softmax policy does when its gradient has no noise. The parameters are logits.

    Args:
        payoffs: The game.
        steps: Rounds, at least 1.
        rate: Step size :math:`\\eta` in the logits.
        start: First strategies, positive everywhere; None for uniform.
        record: Number of rounds to record, spread evenly in their logarithm; None for all.
    Raises:
        ValueError: If payoffs or strategies are malformed or a number is out of range.
    """
    table = game_tensor(payoffs)
    current = _interior(table, start)
    if not rate > 0.0:
        raise ValueError(f"rate must be positive, got {rate}")
    logits = [np.log(strategy) for strategy in current]

    def update(values: Strategies) -> Strategies:
        for player, value in enumerate(values):
            strategy = _softmax(logits[player])
            logits[player] += rate * strategy * (value - strategy @ value)
        return [_softmax(logit) for logit in logits]

    return _played(table, current, update, steps, record)


def replicator_dynamics(
    payoffs: ArrayLike, start: Sequence[ArrayLike], *, duration: float, records: int = 500
) -> Play:  # fmt: skip
    """The continuous limit: actions grow at the rate of their advantage (book eq. games-replicator).

    Integrated with the Runge–Kutta method of order 8 to a relative tolerance of 1e-10.

    Args:
        payoffs: The game.
        start: First strategies.
        duration: Time to integrate, positive.
        records: Number of equally spaced times to record, the start included; ``steps`` of the result counts them.
    Raises:
        ValueError: If payoffs or strategies are malformed or a number is out of range.
    """
    from scipy.integrate import solve_ivp

    table = game_tensor(payoffs)
    first = _checked(table, start)
    if not duration > 0.0 or records < 2:
        raise ValueError(f"needs a positive duration and at least 2 records, got {duration} and {records}")
    cuts = np.cumsum(table.shape[1:])[:-1]

    def flow(_: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        strategies = np.split(state, cuts)
        values = _action_values(table, strategies)
        return np.concatenate([x * (value - x @ value) for x, value in zip(strategies, values)])

    solved = solve_ivp(
        flow, (0.0, duration), np.concatenate(first), method="DOP853", rtol=1e-10, atol=1e-12,
        t_eval=np.linspace(0.0, duration, records),
    )  # fmt: skip
    last = np.split(solved.y.T, cuts, axis=1)
    seen = np.arange(1, records + 1)
    return Play(seen, last, [np.cumsum(rows, axis=0) / seen[:, None] for rows in last])


def team_optimum(payoffs: ArrayLike) -> tuple[tuple[int, ...], float]:
    """The joint action with the largest sum of payoffs, the first of several, and that sum.

    Raises:
        ValueError: If payoffs are malformed.
    """
    total = game_tensor(payoffs).sum(axis=0)
    best = np.unravel_index(int(total.argmax()), total.shape)
    return tuple(int(action) for action in best), float(total.max())


@dataclass(frozen=True, eq=False)
class Factorisation:
    """The closest table of a class of joint values.

    Attributes:
        values: The fitted table, ``[A_1, …, A_n]``.
        error: Mean squared error over uniformly drawn joint actions.
        joint_action: Joint action with the largest fitted value, the first of several.
    """

    values: NDArray[np.float64]
    error: float

    @property
    def joint_action(self) -> tuple[int, ...]:
        return tuple(int(a) for a in np.unravel_index(int(self.values.argmax()), self.values.shape))


def additive_factorisation(payoff: ArrayLike) -> Factorisation:
    """The sum of one function per player that is closest to a team's payoff (book eq. additive-fit).

    What VDN learns from uniformly drawn joint actions.

    Args:
        payoff: Payoff of the team, ``[A_1, …, A_n]``.
    Raises:
        ValueError: If the payoff has fewer than two axes or is not finite.
    """
    table = _team_payoff(payoff)
    axes = range(table.ndim)
    means = [table.mean(axis=tuple(other for other in axes if other != axis), keepdims=True) for axis in axes]
    fitted: NDArray[np.float64] = sum(means) - (table.ndim - 1) * table.mean()
    return Factorisation(fitted, float(((fitted - table) ** 2).mean()))


def monotonic_factorisation(payoff: ArrayLike) -> Factorisation:
    """The table monotonic in one utility per player that is closest to a team's payoff (book eq. monotonic-mixing).

    The best that QMIX could learn from uniformly drawn joint actions. A monotonic function of utilities orders each
    player's actions once, whatever the others do; for every choice of orders the closest such table is an isotonic
    regression, solved exactly as a non-negative least squares problem. All orders are tried: for few actions only.

    Args:
        payoff: Payoff of the team, ``[A_1, …, A_n]``.
    Raises:
        ValueError: If the payoff has fewer than two axes or is not finite, or there are more than 5,000 orders.
    """
    table = _team_payoff(payoff)
    orders = [list(itertools.permutations(range(size))) for size in table.shape]
    count = int(np.prod([len(order) for order in orders]))
    if count > 5_000:
        raise ValueError(
            f"monotonic_factorisation tries every order of actions, {count} here; at most 5000 are allowed"
        )
    differences = _order_differences(table.shape)
    best: Factorisation | None = None
    for choice in itertools.product(*orders):
        ordered = table[np.ix_(*choice)]
        flat = ordered.reshape(-1)
        # projection on {D f ≥ 0}: what is left after the projection on the polar cone, spanned by the rows of −D
        multipliers, _ = nnls(-differences.T, flat)
        fitted = (flat + differences.T @ multipliers).reshape(table.shape)
        error = float(((fitted - ordered) ** 2).mean())
        if best is None or error < best.error - 1e-12:
            values = np.empty_like(table)
            values[np.ix_(*choice)] = fitted
            best = Factorisation(values, error)
    assert best is not None
    return best


def nondominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points lie on the Pareto front: no other is at least as good in all and better in one objective.

    Args:
        points: ``[P, M]``, larger is better. Equal points do not dominate each other.
    Returns:
        Mask ``[P]`` (book eq. pareto-front).
    Raises:
        ValueError: If the points are not ``[P, M]`` or not finite.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"points must have shape [P, M], got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"points must be finite, got {values[~np.isfinite(values)][0]}")
    other, own = values[None], values[:, None]
    dominated = np.all(other >= own, axis=2) & np.any(other > own, axis=2)
    front: NDArray[np.bool_] = ~np.any(dominated, axis=1)
    return front


def cooperation_rate(strategies: Sequence[ArrayLike], action: int = 0) -> float:
    """Mean probability over players of the cooperative action, 0 in the course's dilemmas.

    Args:
        strategies: One distribution per player.
        action: The action that counts as cooperation.
    """
    return float(np.mean([np.asarray(strategy)[action] for strategy in strategies]))


def _action_values(table: NDArray[np.float64], strategies: Strategies) -> Strategies:
    if len(table) == 2:
        return [table[0] @ strategies[1], strategies[0] @ table[1]]
    values = []
    for player in range(len(table)):
        rest = table[player]
        for other in reversed(range(len(table))):  # from the last axis on, so that the axes in front keep their place
            if other != player:
                rest = np.moveaxis(rest, other, -1) @ strategies[other]
        values.append(rest)
    return values


def _checked(table: NDArray[np.float64], strategies: Sequence[ArrayLike]) -> Strategies:
    chosen = [np.asarray(strategy, dtype=np.float64) for strategy in strategies]
    shapes = [(size,) for size in table.shape[1:]]
    if [strategy.shape for strategy in chosen] != shapes:
        raise ValueError(f"strategies must have shapes {shapes}, got {[strategy.shape for strategy in chosen]}")
    for player, strategy in enumerate(chosen):
        if not (strategy >= -SUM).all() or abs(strategy.sum() - 1.0) > SUM:
            raise ValueError(f"strategy {player} must be a distribution, got {strategy}")
    return chosen


def _interior(table: NDArray[np.float64], start: Sequence[ArrayLike] | None) -> Strategies:
    if start is None:
        return [np.full(size, 1.0 / size) for size in table.shape[1:]]
    chosen = _checked(table, start)
    for player, strategy in enumerate(chosen):
        if not (strategy > 0.0).all():
            raise ValueError(f"start {player} must be positive everywhere, got {strategy}")
    return chosen


def _guaranteed(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The row mixture with the largest guaranteed payoff, and that payoff."""
    rows, columns = matrix.shape
    objective = np.append(np.zeros(rows), -1.0)
    bounds = [(0.0, None)] * rows + [(None, None)]
    found = linprog(
        objective, A_ub=np.column_stack([-matrix.T, np.ones(columns)]), b_ub=np.zeros(columns),
        A_eq=np.append(np.ones(rows), 0.0)[None], b_eq=[1.0], bounds=bounds, method="highs",
    )  # fmt: skip
    strategy = np.clip(found.x[:-1], 0.0, None)
    return strategy / strategy.sum(), float(found.x[-1])


def _indifferent(
    payoff: NDArray[np.float64], support: tuple[int, ...], size: int
) -> NDArray[np.float64] | None:  # fmt: skip
    """The mixture over ``support`` at which all rows of ``payoff`` pay the same; None if it is no distribution."""
    count = len(support)
    system = np.zeros((count + 1, count + 1))
    system[:count, :count], system[:count, count], system[count, :count] = payoff, -1.0, 1.0
    try:
        solution = np.linalg.solve(system, np.append(np.zeros(count), 1.0))[:count]
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(solution).all() or (solution <= 0.0).any():
        return None
    strategy = np.zeros(size)
    strategy[list(support)] = solution / solution.sum()
    return strategy


def _played(
    table: NDArray[np.float64], current: Strategies, update: Callable[[Strategies], Strategies], steps: int,
    record: int | None,
) -> Play:  # fmt: skip
    """All players update at the same time, each from the others' strategies of the same round."""
    recorder = _Recorder(table, steps, record)
    sums = [np.zeros(size) for size in table.shape[1:]]
    for step in range(1, steps + 1):
        for total, strategy in zip(sums, current):
            total += strategy
        if step in recorder.wanted:
            recorder.keep(step, current, sums)
        current = update(_action_values(table, current))
    return recorder.play()


class _Recorder:
    """Keeps the last and the average strategies of the wanted rounds; the last round is always wanted."""

    def __init__(self, table: NDArray[np.float64], steps: int, record: int | None) -> None:
        if steps < 1 or (record is not None and record < 1):
            raise ValueError(f"steps and record must be at least 1, got {steps} and {record}")
        rounds = np.arange(1, steps + 1) if record is None else np.geomspace(1, steps, record).round().astype(int)
        self.wanted = {*rounds.tolist(), steps}
        sizes, count = table.shape[1:], len(self.wanted)
        self._steps = np.array(sorted(self.wanted), dtype=np.int64)
        self._last = [np.empty((count, size)) for size in sizes]
        self._average = [np.empty((count, size)) for size in sizes]
        self._next = 0

    def keep(self, step: int, strategies: Strategies, sums: Strategies) -> None:
        for player, (strategy, total) in enumerate(zip(strategies, sums)):
            self._last[player][self._next] = strategy
            self._average[player][self._next] = total / step
        self._next += 1

    def play(self) -> Play:
        return Play(self._steps, self._last, self._average)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def _team_payoff(payoff: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(payoff, dtype=np.float64)
    if table.ndim < 2 or table.size == 0:
        raise ValueError(f"a team's payoff needs one axis per player and at least two, got shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(f"payoffs must be finite, got {table[~np.isfinite(table)][0]}")
    return table


def _order_differences(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Matrix D with one row for every pair of neighbours along every axis: the later entry minus the earlier one."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    rows = []
    for axis in range(len(shape)):
        earlier, later = (np.delete(index, end, axis=axis).reshape(-1) for end in (-1, 0))
        for before, after in zip(earlier, later):
            row = np.zeros(index.size)
            row[after], row[before] = 1.0, -1.0
            rows.append(row)
    return np.array(rows).reshape(-1, index.size)
