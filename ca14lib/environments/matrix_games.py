"""Matrix games, played once or repeatedly, and the payoff tables of the well-known ones. Book: multi_agent/games."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.multi_agent import MultiAgentEnvironment

TILE = 24  # pixels of a cell in the picture
EMPTY, CHOSEN = (238, 238, 238), (0, 114, 178)


def zero_sum_game(matrix: ArrayLike) -> NDArray[np.float64]:
    """Payoffs ``[2, A, B]`` of two players of whom the second loses what the first wins.

    Args:
        matrix: What the first player wins, ``[A, B]``.
    Raises:
        ValueError: If the matrix is not two-dimensional or holds a number that is not finite.
    """
    table = _table(matrix, 2)
    return np.stack([table, -table])


def symmetric_game(matrix: ArrayLike) -> NDArray[np.float64]:
    """Payoffs ``[2, A, A]`` of two players in the same position.

    Args:
        matrix: What a player receives for its own action (row) against the other's (column), ``[A, A]``.
    Raises:
        ValueError: If the matrix is not square or holds a number that is not finite.
    """
    table = _table(matrix, 2)
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"a symmetric game needs a square matrix, got shape {table.shape}")
    return np.stack([table, table.T])


def team_game(matrix: ArrayLike) -> NDArray[np.float64]:
    """Payoffs ``[n, A_1, …, A_n]`` of n players who share one payoff equally: their sum is the matrix.

    Args:
        matrix: Payoff of the team, ``[A_1, …, A_n]`` with n ≥ 2.
    Raises:
        ValueError: If there are fewer than two axes or a number is not finite.
    """
    table = _table(matrix, None)
    return np.stack([table / table.ndim] * table.ndim)


def _table(matrix: ArrayLike, axes: int | None) -> NDArray[np.float64]:
    table = np.asarray(matrix, dtype=np.float64)
    if table.ndim < 2 or (axes is not None and table.ndim != axes) or table.size == 0:
        raise ValueError(f"a payoff table needs {axes or 'at least 2'} axes and entries, got shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(f"payoffs must be finite, got {table[~np.isfinite(table)][0]}")
    return table


# name -> (payoffs, names of the actions, source of the numbers)
MATRIX_GAMES: dict[str, tuple[NDArray[np.float64], tuple[str, ...], str]] = {
    # whoever defects is better off whatever the other does, and both defecting is worse for both than both cooperating
    "prisoners_dilemma": (
        symmetric_game([[3, 0], [5, 1]]), ("cooperate", "defect"), "Axelrod, The Evolution of Cooperation (1984)",
    ),
    # two pure equilibria: the better one needs trust
    "stag_hunt": (symmetric_game([[4, 0], [3, 3]]), ("stag", "hare"), "Skyrms, The Stag Hunt (2004)"),
    # the prize is 2, a fight that is lost costs 4
    "chicken": (
        symmetric_game([[1, 0], [2, -1]]), ("dove", "hawk"),
        "Maynard Smith and Price, The logic of animal conflict (1973)",
    ),
    "battle_of_the_sexes": (
        np.array([[[2.0, 0], [0, 1]], [[1, 0], [0, 2]]]), ("first", "second"),
        "Luce and Raiffa, Games and Decisions (1957), payoffs 2, 1 and 0",
    ),
    "matching_pennies": (zero_sum_game([[1, -1], [-1, 1]]), ("heads", "tails"), "classical"),
    "rock_paper_scissors": (
        zero_sum_game([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]), ("rock", "paper", "scissors"), "classical",
    ),
    # rock's win over scissors counts double: the equilibrium is (1/4, 1/2, 1/4)
    "weighted_rock_paper_scissors": (
        zero_sum_game([[0, -1, 2], [1, 0, -1], [-2, 1, 0]]), ("rock", "paper", "scissors"), "this course",
    ),
    # the best joint action is surrounded by the worst ones
    "climbing": (
        team_game([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]), ("a", "b", "c"),
        "Claus and Boutilier, The dynamics of reinforcement learning in cooperative multiagent systems (1998)",
    ),
    # two best joint actions, and a penalty for choosing different ones
    "penalty": (
        team_game([[10, 0, -100], [0, 2, 0], [-100, 0, 10]]), ("a", "b", "c"),
        "Claus and Boutilier (1998), with the penalty −100",
    ),
}  # fmt: skip


def game_payoffs(name: str) -> NDArray[np.float64]:
    """Payoffs ``[n, A, …, A]`` of a game of :data:`MATRIX_GAMES`, a copy.

    Raises:
        ValueError: If there is no such game; the message lists those there are.
    """
    if name not in MATRIX_GAMES:
        raise ValueError(f"unknown matrix game {name!r}; there are {', '.join(MATRIX_GAMES)}")
    return MATRIX_GAMES[name][0].copy()


def mixed_motives(payoffs: ArrayLike, team_weight: float) -> NDArray[np.float64]:
    """Payoffs of players who also care for the team (book eq. team-weight): the sum over players stays what it was.

    Args:
        payoffs: ``[n, …]``, players first.
        team_weight: :math:`w` in [0, 1]: 0 is everyone for oneself, 1 the mean of all for everybody.
    Raises:
        ValueError: If the weight lies outside [0, 1].
    """
    if not 0.0 <= team_weight <= 1.0:
        raise ValueError(f"team_weight must lie in [0, 1], got {team_weight}")
    own = np.asarray(payoffs, dtype=np.float64)
    return (1.0 - team_weight) * own + team_weight * own.mean(axis=0, keepdims=True)


class MatrixGame(MultiAgentEnvironment):
    """One matrix game for n players, ``horizon`` rounds of it.

    In every round all players act at once, and each receives its entry of the payoffs. The number of rounds is part of
    the task: the last one is ``terminated``, and the share of rounds that is left is observed.

    Observation of agent i, float32: for each of the last ``memory`` rounds, the newest first, the actions of agents
    i, i + 1, …, n, 1, …, i − 1 as one-hot vectors (zeros for rounds before the first), then the share of the rounds
    that is left, 1 at the start. Own actions come first, so that one network can play every role of a symmetric game.
    State: the same with the agents in their own order. ``info["payoff"]``, ``[N, n]``: what the table paid in the last
    round, before ``team_weight``.

    Args:
        num_envs: Number of copies.
        game: Key of :data:`MATRIX_GAMES`; not used when ``payoffs`` are given.
        payoffs: ``[n, A, …, A]``, what each player receives for each joint action, with equally many actions for all.
        horizon: Rounds of the game, at least 1.
        memory: Rounds that are observed, at least 0.
        team_weight: :math:`w` in [0, 1], the weight of the mean over all in everyone's reward (book eq. team-weight).
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If the game is unknown, players differ in their number of actions, or a number is out of range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        game: str = "prisoners_dilemma",
        payoffs: ArrayLike | None = None,
        horizon: int = 1,
        memory: int = 1,
        team_weight: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        table = game_payoffs(game) if payoffs is None else np.array(payoffs, dtype=np.float64)
        self.game = game if payoffs is None else "given payoffs"
        if table.ndim < 3 or len(table) != table.ndim - 1:
            raise ValueError(f"payoffs must have shape [n, A, …, A] with n axes of actions, got {table.shape}")
        if len(set(table.shape[1:])) != 1 or table.shape[1] < 1:
            raise ValueError(f"all players need the same number of actions, got {table.shape[1:]}")
        if not np.isfinite(table).all():
            raise ValueError(f"payoffs must be finite, got {table[~np.isfinite(table)][0]}")
        require_integer("horizon", horizon, 1)
        require_integer("memory", memory, 0)
        agents, actions = len(table), table.shape[1]
        self.payoffs, self.team_weight = table, float(team_weight)
        self._rewards = mixed_motives(table, team_weight).reshape(agents, -1).T.copy()  # [A^n, n]
        self._paid = table.reshape(agents, -1).T.copy()
        self._place_value = actions ** np.arange(agents - 1, -1, -1)
        self.memory, self.num_actions = memory, actions
        # row a is the one-hot vector of action a; the last row, action −1, is the one of a round that was not played
        self._one_hot = np.vstack([np.eye(actions, dtype=np.float32), np.zeros((1, actions), dtype=np.float32)])
        size = memory * agents * actions + 1
        super().__init__(
            num_envs,
            agents,
            gym.spaces.Box(0.0, 1.0, (size,), np.float32),
            gym.spaces.Discrete(actions),
            gym.spaces.Box(0.0, 1.0, (size,), np.float32),
            time_limit=None,
            horizon=horizon,
            render_mode=render_mode,
        )
        # agent i's view of the agents: itself first
        self._order = (np.arange(agents)[:, None] + np.arange(agents)) % agents
        self._played = np.full((num_envs, memory, agents), -1, dtype=np.int64)
        self._last = np.full((num_envs, agents), -1, dtype=np.int64)
        self._payoff = np.zeros((num_envs, agents))

    @property
    def action_names(self) -> Sequence[str]:
        """Names of the actions, numbers where payoffs were given."""
        if self.game in MATRIX_GAMES:
            return MATRIX_GAMES[self.game][1]
        return tuple(str(action) for action in range(self.num_actions))

    def spawn(self, num_envs: int) -> "MatrixGame":
        copy = type(self)(
            num_envs, payoffs=self.payoffs, horizon=self.horizon or 1, memory=self.memory, team_weight=self.team_weight
        )
        copy.game = self.game
        return copy

    def _restart(self, count: int, options: dict[str, Any] | None) -> None:
        return None

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self._played[where], self._last[where], self._payoff[where] = -1, -1, 0.0

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        joint = action @ self._place_value
        self._payoff = self._paid[joint]
        self._last = action.copy()
        if self.memory:
            self._played = np.concatenate([action[:, None], self._played[:, :-1]], axis=1)
        return self._rewards[joint], np.zeros(self.num_envs, dtype=np.bool_)

    def _observe(self) -> NDArray[np.float32]:
        seen = self._one_hot[self._played[:, :, self._order]]  # [N, memory, n, n, A]
        rows = np.moveaxis(seen, 2, 1).reshape(self.num_envs, self.num_agents, -1)
        left = np.broadcast_to(self._remaining()[:, None, None], (self.num_envs, self.num_agents, 1))
        return np.concatenate([rows, left], axis=2)

    def _state(self) -> NDArray[np.float32]:
        rows = self._one_hot[self._played].reshape(self.num_envs, -1)
        return np.column_stack([rows, self._remaining()])

    def _report(self) -> dict[str, Any]:
        return {"payoff": self._payoff.copy()}

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return action_picture(self._last[index], self.num_actions)


def action_picture(actions: NDArray[np.integer], num_actions: int) -> NDArray[np.uint8]:
    """One row of cells for each agent, that of its last action filled; RGB ``[n·24, A·24, 3]``.

    Args:
        actions: Last action of every agent, ``[n]``, −1 before the first.
        num_actions: A.
    """
    cells = np.full((len(actions), num_actions, 3), EMPTY, dtype=np.uint8)
    acted = np.flatnonzero(actions >= 0)
    cells[acted, actions[acted]] = CHOSEN
    picture = np.repeat(np.repeat(cells, TILE, axis=0), TILE, axis=1)
    picture[::TILE] = picture[:, ::TILE] = 255
    return picture
