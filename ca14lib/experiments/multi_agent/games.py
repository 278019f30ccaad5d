"""Matrix games: which dynamics reach an equilibrium, what the weight of the team changes, and who climbs the hill.

Book: multi_agent/games.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.environments import game_payoffs, mixed_motives
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import (
    Play,
    cooperation_rate,
    expected_payoffs,
    fictitious_play,
    multiplicative_weights,
    nash_conv,
    nash_conv_path,
    softmax_policy_gradient,
    team_optimum,
)

ZERO_SUM_GAMES = ("matching_pennies", "rock_paper_scissors", "weighted_rock_paper_scissors")
DILEMMAS = ("prisoners_dilemma", "stag_hunt")
TEAM_GAMES = ("climbing", "penalty")
TEAM_WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
REACHED = 0.01  # NashConv that counts as an equilibrium
OPTIMAL = 0.99  # share of the optimum that counts as reached
RECORDS = 40

# name -> (dynamic, its settings, rounds); rates and rounds were chosen with the starts of seeds 0 to 3
DYNAMICS: dict[str, tuple[Callable[..., Play], dict[str, Any], int]] = {
    "fictitious play": (fictitious_play, {}, 100_000),
    "multiplicative weights": (multiplicative_weights, {"rate": 0.03}, 200_000),
    "optimistic weights": (multiplicative_weights, {"rate": 0.3, "optimistic": True}, 20_000),
    "policy gradient": (softmax_policy_gradient, {"rate": 0.1}, 200_000),
}
LEARNER_RATE = 0.5  # of the learners in dilemmas and teams
LEARNER_STEPS = 5_000


def random_start(payoffs: NDArray[np.float64], seed: int) -> list[NDArray[np.float64]]:
    """One strategy per player, uniform over the simplex."""
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(size)) for size in payoffs.shape[1:]]


def zero_sum_play(algorithm: str, game: str, seed: int, *, steps: int | None = None, record: int | None = None) -> Play:
    """Self-play of one dynamic from a random start.

    Args:
        algorithm: Key of ``DYNAMICS``.
        game: One of ``ZERO_SUM_GAMES``.
        seed: Of the start.
        steps: Rounds; None for the dynamic's number.
        record: Rounds to record; None for all.
    """
    dynamic, settings, rounds = DYNAMICS[algorithm]
    payoffs = game_payoffs(game)
    return dynamic(payoffs, steps or rounds, start=random_start(payoffs, seed), record=record, **settings)


def zero_sum_run(algorithm: str, game: str, seed: int, *, steps: int | None = None) -> list[dict[str, float]]:
    """NashConv along one run of self-play.

    Returns:
        Rows at rounds spread evenly in their logarithm, with ``step`` and the NashConv of the ``average`` and of the
        ``last`` strategies; the last row also holds ``late``, the mean over the second half of all rounds of the
        NashConv of the strategies then played, and ``final`` 1 (0 in the other rows).
    """
    play, payoffs = zero_sum_play(algorithm, game, seed, steps=steps), game_payoffs(game)
    average, last = (nash_conv_path(payoffs, play, which) for which in ("average", "last"))
    rounds = len(average)
    shown = np.unique(np.geomspace(1, rounds, RECORDS).round().astype(int)) - 1
    late = float(last[rounds // 2 :].mean())
    return [
        {"step": int(row) + 1, "average": float(average[row]), "last": float(last[row]), "late": late,
         "final": float(row == rounds - 1)}
        for row in shown
    ]  # fmt: skip


def zero_sum_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds of the NashConv at the end, with the number of seeds whose average is an equilibrium."""
    final = runs[runs["final"] == 1.0]
    by = ["algorithm", "game"]
    table = interval_table(final, by, ["average", "late"])
    groups = [group for _, group in final.groupby(by, sort=False)]
    table["reached"] = [int((group["average"] <= REACHED).sum()) for group in groups]
    table["average_worst"] = [float(group["average"].max()) for group in groups]
    table["late_best"] = [float(group["late"].min()) for group in groups]
    table["steps"] = [int(group["step"].iloc[0]) for group in groups]
    return table


def history_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Median, least and largest NashConv over seeds at every recorded round."""
    groups = runs.groupby(["algorithm", "game", "step"], sort=False)[["average", "last"]].agg(["median", "min", "max"])
    groups.columns = [f"{column}_{statistic}" for column, statistic in groups.columns]
    return groups.reset_index()


def dilemma_run(game: str, team_weight: float, seed: int, *, steps: int | None = None) -> dict[str, float]:
    """Two independent learners in a dilemma in which everyone's reward holds a share of the team's.

    Returns:
        ``cooperation`` of the last strategies, ``welfare``, their expected sum of payoffs as a share of the best sum,
        and their ``nash_conv`` in the game that they learn.
    """
    payoffs = game_payoffs(game)
    rewards = mixed_motives(payoffs, team_weight)
    start = random_start(payoffs, seed)
    play = softmax_policy_gradient(rewards, steps or LEARNER_STEPS, rate=LEARNER_RATE, start=start, record=2)
    last = play.at(-1, "last")
    return {
        "cooperation": cooperation_rate(last),
        "welfare": float(expected_payoffs(payoffs, last).sum() / team_optimum(payoffs)[1]),
        "nash_conv": nash_conv(rewards, last),
    }


def team_run(game: str, learners: str, seed: int, *, steps: int | None = None) -> dict[str, float]:
    """Two learners of a team, independent or as one learner of joint actions, from the same random start.

    They follow the natural policy gradient: the plain one waits so long on plateaus that a joint learner would look
    stuck as well.

    Args:
        game: One of ``TEAM_GAMES``.
        learners: ``"independent"`` or ``"joint"``.
        seed: Of the start.
        steps: Rounds; None for the experiment's number.
    Returns:
        ``share`` of the team's optimum that the last strategies expect, and ``optimal``, 1 if it is at least 0.99.
    """
    payoffs = game_payoffs(game)
    start, best = random_start(payoffs, seed), team_optimum(payoffs)[1]
    if learners == "joint":
        # one player of all joint actions, beside one who has nothing to choose
        payoffs = payoffs.reshape(2, -1, 1)
        start = [np.outer(*start).reshape(-1), np.ones(1)]
    play = multiplicative_weights(payoffs, steps or LEARNER_STEPS, rate=LEARNER_RATE, start=start, record=2)
    share = float(expected_payoffs(payoffs, play.at(-1, "last")).sum() / best)
    return {"share": share, "optimal": float(share >= OPTIMAL)}


def games_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Zero-sum games, dilemmas and team games.

    Makes the tables ``multi_agent_games``, ``multi_agent_games_history``, ``multi_agent_games_runs``,
    ``multi_agent_dilemmas`` and ``multi_agent_climbing``.
    """
    fewer: dict[str, list[Any]] = {"steps": [2_000]} if quick else {}
    played = finished(sweeps(zero_sum_run, {"algorithm": list(DYNAMICS), "game": list(ZERO_SUM_GAMES)} | fewer))
    weights = list(TEAM_WEIGHTS[::5] if quick else TEAM_WEIGHTS)
    dilemmas = finished(sweeps(dilemma_run, {"game": list(DILEMMAS), "team_weight": weights} | fewer))
    teams = finished(sweeps(team_run, {"game": list(TEAM_GAMES), "learners": ["independent", "joint"]} | fewer))
    optimal = [int(group["optimal"].sum()) for _, group in teams.groupby(["game", "learners"], sort=False)]
    final = played[played["final"] == 1.0]
    return {
        "multi_agent_games": zero_sum_table(played),
        "multi_agent_games_history": history_table(played),
        "multi_agent_games_runs": final.drop(columns=["seconds", "final", "last"]),
        "multi_agent_dilemmas": interval_table(dilemmas, ["game", "team_weight"], ["cooperation", "welfare"]),
        "multi_agent_climbing": interval_table(teams, ["game", "learners"], ["share"]).assign(optimal=optimal),
    }
