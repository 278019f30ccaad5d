"""LeverGame: two strangers pull the same lever, or get nothing. Book: evaluation/partners."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.matrix_games import MatrixGame, team_game

LEVERS = (1.0, 1.0, 1.0, 0.9)


class LeverGame(MatrixGame):
    """Two players pull one lever each, ``horizon`` times; if it is the same, the team receives what the lever pays.

    Levers that pay the same are told apart by their place alone: that is a convention, which two players may have and
    strangers have not (Hu et al., 2020, with ten levers and one pull). Observations and state are those of
    :class:`~ca14lib.environments.matrix_games.MatrixGame` with one round of memory.

    With ``relabelled`` the second player sees the levers under other labels: for every episode each copy draws, for
    each set of levers that pay the same, a permutation, and uses it for what the second player does and sees (book eq.
    partners-other-play). Payoffs do not change. It is meant for training; ``state`` keeps the true labels.

    Args:
        num_envs: Number of copies.
        levers: What each lever pays to the team, at least two finite numbers of at least 0.
        horizon: Pulls.
        relabelled: Whether the second player's labels are drawn anew for every episode.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If there are fewer than two levers or one pays a number that is negative or not finite.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        levers: Sequence[float] = LEVERS,
        horizon: int = 5,
        relabelled: bool = False,
        render_mode: str | None = None,
    ) -> None:
        pays = np.asarray(levers, dtype=np.float64)
        if pays.ndim != 1 or len(pays) < 2:
            raise ValueError(f"levers must be at least two numbers, got {levers!r}")
        if not (np.isfinite(pays) & (pays >= 0)).all():
            raise ValueError(f"levers must pay finite numbers of at least 0, got {levers!r}")
        super().__init__(num_envs, payoffs=team_game(np.diag(pays)), horizon=horizon, memory=1, render_mode=render_mode)
        self.levers, self.relabelled = tuple(float(pay) for pay in pays), bool(relabelled)
        self._alike = [np.flatnonzero(pays == pay) for pay in np.unique(pays)]
        # the true lever behind each label of the second player, and the label of each lever; −1 is no lever
        self._lever = np.tile(np.arange(len(pays)), (num_envs, 1))
        self._label = self._lever.copy()

    def spawn(self, num_envs: int) -> "LeverGame":
        return type(self)(num_envs, levers=self.levers, horizon=self.horizon or 1, relabelled=self.relabelled)

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        super()._place(where, states)
        if self.relabelled:
            copies = np.arange(self.num_envs)[where]
            for levers in self._alike:
                drawn = np.tile(levers, (len(copies), 1))
                self._lever[copies[:, None], levers] = self.np_random.permuted(drawn, axis=1)
            self._label[copies] = np.argsort(self._lever[copies], axis=1)

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        pulled = np.take_along_axis(self._lever, action[:, 1:], axis=1)
        return super()._transition(np.column_stack([action[:, 0], pulled[:, 0]]))

    def _observe(self) -> NDArray[np.float32]:
        seen = super()._observe()
        if self.relabelled:
            # entry l of each one-hot vector is that of label l: where the lever behind it was pulled
            vectors = seen[:, 1, :-1].reshape(self.num_envs, self.num_agents, -1)
            renamed = np.take_along_axis(vectors, self._lever[:, None, :], axis=2)
            seen[:, 1, :-1] = renamed.reshape(self.num_envs, -1)
        return seen
