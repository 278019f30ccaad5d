"""Self-play in zero-sum games, populations, and opponents that change. Book: multi_agent/competition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.opponent_model import BestResponder, OpponentModelConfig, regret
from ca14lib.environments.matrix_games import MatrixGame, game_payoffs
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.history import History
from ca14lib.training.population import Population, PopulationConfig, Range, train_population
from ca14lib.training.self_play import OpponentPool, StrategyAverage, train_self_play

GAMES = ("matching_pennies", "rock_paper_scissors")
COPIES = 512  # rounds of a game per update
START = 0.5  # deviation of the logits that a policy begins with


class PlainIPPO(IPPO):
    """IPPO whose policies take plain gradient steps instead of Adam's.

    Adam moves along a mean of the last ten or so gradients, which in a game answers what the other player did a while
    ago.
    """

    def _optimizer(self, name: str, *modules: Any, learning_rate: float | None = None) -> torch.optim.Optimizer:
        adam = super()._optimizer(name, *modules, learning_rate=learning_rate)
        if name == "policy":
            self.optimizers[name] = torch.optim.SGD(adam.param_groups[0]["params"], lr=self.config.learning_rate)
        return self.optimizers[name]


@dataclass(frozen=True)
class SelfPlayEntry:
    """One way to learn a game by playing oneself."""

    agent_class: type[IPPO]
    config: IPPOConfig
    pool: str | None = None
    iterations: int = 400


# Settings were chosen with seeds from 100 on; the tables report seeds 0, 1, … Entropy, the spread of the starts and the
# length of plain gradients were changed once after a run of the reported seeds (NashConv of the average 0.024 on one).
_IPPO: dict[str, Any] = {
    "hidden_sizes": (8,), "shared": False, "team_reward": False, "epochs": 1, "minibatches": 1, "standardise": False,
    "value_normalisation": False, "value_learning_rate": 1e-2,
}  # fmt: skip
_PLAIN: dict[str, Any] = _IPPO | {"learning_rate": 0.6, "max_gradient_norm": 10.0, "entropy_weight": 0.2}
SELF_PLAY: dict[str, SelfPlayEntry] = {
    "IPPO": SelfPlayEntry(IPPO, IPPOConfig(**_IPPO, learning_rate=1e-3, entropy_weight=0.0), iterations=600),
    "IPPO, plain gradients": SelfPlayEntry(PlainIPPO, IPPOConfig(**_PLAIN), iterations=1_500),
    "IPPO, plain gradients, pool": SelfPlayEntry(PlainIPPO, IPPOConfig(**_PLAIN), pool="uniform", iterations=600),
}


def seeded_team(
    game: str, seed: int, config: IPPOConfig, agent_class: type[IPPO] = IPPO
) -> tuple[IPPO, dict[str, Any]]:
    """A team whose strategies begin anywhere in the game, and the game's arguments.

    Freshly initialised policies are near uniform, which is the equilibrium of both games: nothing would be learnt. Each
    seat's logits are therefore moved by normal numbers of deviation ``START``, drawn with the seed.
    """
    arguments: dict[str, Any] = {"game": game, "memory": 0}
    agent = agent_class.for_game(MatrixGame(1, **arguments), config, seed=seed)
    draws = np.random.default_rng(seed)
    with torch.no_grad():
        bias = agent.policy.head.bias
        bias += torch.as_tensor(draws.normal(scale=START, size=tuple(bias.shape)), dtype=bias.dtype)
    return agent, arguments


def self_play_training(
    algorithm: str, game: str, seed: int, *, iterations: int | None = None
) -> tuple[IPPO, StrategyAverage, History]:
    """Train one team by self-play.

    Args:
        algorithm: Key of ``SELF_PLAY``.
        game: Key of :data:`ca14lib.environments.matrix_games.MATRIX_GAMES`, of two players.
        seed: Of start, draws and pool.
        iterations: Updates; None for the algorithm's number.
    Returns:
        The team, its strategies over training, and the history with ``nash_conv`` and ``nash_conv_average``.
    """
    entry = SELF_PLAY[algorithm]
    agent, arguments = seeded_team(game, seed, entry.config, entry.agent_class)
    judge = StrategyAverage(MatrixGame(1, **arguments))
    history = train_self_play(
        agent, "MatrixGame", (iterations or entry.iterations) * COPIES, environment_arguments=arguments,
        num_envs=COPIES, rollout_steps=1, seed=seed, evaluate=judge, progress=False,
        pool=None if entry.pool is None else OpponentPool(64, selection=entry.pool, seed=seed),
    )  # fmt: skip
    return agent, judge, history


def self_play_run(algorithm: str, game: str, seed: int, *, iterations: int | None = None) -> list[dict[str, float]]:
    """Rows of one training, thinned to at most 61: ``iteration``, ``nash_conv``, ``nash_conv_average``, ``first``.

    ``first`` is the probability with which the first player takes its first action.
    """
    _, _, history = self_play_training(algorithm, game, seed, iterations=iterations)
    names = {"nash_conv": "nash_conv", "nash_conv_average": "nash_conv_average", "first": "agent_0_action_0"}
    series = {name: history.series(metric).to_numpy() for name, metric in names.items()}
    last = len(series["first"]) - 1
    kept = np.unique(np.linspace(0, last, 61).round().astype(int))
    return [{"iteration": int(row)} | {name: float(values[row]) for name, values in series.items()} for row in kept]


def self_play_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds of how far strategies can be exploited at the end, of the last ones and of the average.

    ``nash_conv_second_half`` is the mean over the second half of the training of what the momentary strategies lose:
    large while the average is small, it shows that they cycle.
    """
    key = ["algorithm", "game", "seed"]
    rows = []
    for values, group in runs.groupby(key, sort=False):
        late = group[group["iteration"] >= group["iteration"].max() / 2]
        end = group.iloc[-1]
        rows.append(dict(zip(key, values, strict=True)) | {
            "nash_conv_last": end["nash_conv"], "nash_conv_average": end["nash_conv_average"],
            "nash_conv_second_half": late["nash_conv"].mean(),
        })  # fmt: skip
    final = pd.DataFrame(rows)
    columns = ["nash_conv_last", "nash_conv_average", "nash_conv_second_half"]
    table = interval_table(final, ["algorithm", "game"], columns)
    groups = [group for _, group in final.groupby(["algorithm", "game"], sort=False)]
    table["within"] = [int((group["nash_conv_average"] <= 0.01).sum()) for group in groups]
    table["iterations"] = [
        int(group["iteration"].max()) for _, group in runs.groupby(["algorithm", "game"], sort=False)
    ]
    return table


# Populations: which learning rate and how much entropy? Both are free to change while the teams learn.
RANGES = {"learning_rate": Range(1e-4, 3e-2), "entropy_weight": Range(1e-3, 1.0)}
GENERATION = 15  # updates
POPULATION = PopulationConfig(size=8, generations=8)


def population_training(
    game: str, seed: int, config: PopulationConfig = POPULATION, *, updates: int = GENERATION
) -> Population:
    """Population-based training of teams that play themselves; the score is minus what their strategies lose.

    Args:
        game: Of ``GAMES``.
        seed: Of everything.
        config: Of the population.
        updates: Of every member in a generation.
    """
    arguments: dict[str, Any] = {"game": game, "memory": 0}
    judge = MatrixGame(1, **arguments)

    def build(values: Mapping[str, float], member_seed: int) -> IPPO:
        return seeded_team(game, member_seed, IPPOConfig(**(_IPPO | dict(values))))[0]

    def train(agent: Any, member_seed: int) -> None:
        train_self_play(
            agent, "MatrixGame", updates * COPIES, environment_arguments=arguments, num_envs=COPIES,
            rollout_steps=1, seed=member_seed, progress=False,
        )  # fmt: skip

    def score(agent: Any) -> float:
        return -StrategyAverage(judge)(agent)["nash_conv"]

    return train_population(build, train, score, RANGES, config, seed=seed)


def population_run(
    game: str, seed: int, *, size: int = 8, generations: int = 8, updates: int = GENERATION
) -> list[dict[str, float]]:
    """One row per generation and member, with the parent it began the generation with."""
    result = population_training(game, seed, PopulationConfig(size=size, generations=generations), updates=updates)
    frame = result.history.merge(result.lineage, how="left", on=["generation", "member"])
    frame["parent"] = frame["parent"].fillna(frame["member"]).astype(int)
    frame["nash_conv"] = -frame.pop("score")
    return frame.to_dict("records")


def population_table(runs: pd.DataFrame) -> pd.DataFrame:
    """By game and generation over seeds: intervals of best and median member, medians of the hyperparameters."""
    grouped = runs.groupby(["game", "generation", "seed"], sort=False)
    summary = pd.DataFrame({"best": grouped["nash_conv"].min(), "median": grouped["nash_conv"].median()})
    table = interval_table(summary.reset_index(), ["game", "generation"], ["best", "median"])
    middle = runs.groupby(["game", "generation"], sort=False)[["learning_rate", "entropy_weight"]].median()
    return table.merge(middle.reset_index(), on=["game", "generation"])


# An opponent that changes half-way
ROUNDS = 1_000
BEFORE, AFTER = (0.7, 0.2, 0.1), (0.1, 0.7, 0.2)  # rock, then paper
FORGETTING = (1.0, 0.99, 0.95, 0.8)


def opponent_run(forgetting: float, seed: int, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Regret per round of the best answer to a model, before and after the opponent changes, and just after.

    Args:
        forgetting: Of the model; 1 never forgets.
        seed: Of the opponent's draws and of ties.
        rounds: Of the game; the opponent changes after half of them.
    """
    payoffs = game_payoffs("rock_paper_scissors")
    agent = BestResponder(payoffs, 0, OpponentModelConfig(forgetting=forgetting), seed=seed)
    draws = np.random.default_rng(seed)
    losses = np.zeros(rounds)
    uniform = np.full(3, 1 / 3)  # the own strategy, which does not count
    for step in range(rounds):
        theirs = np.array(BEFORE if step < rounds // 2 else AFTER)
        action = agent.act()
        losses[step] = regret(payoffs, [uniform, theirs], 0, action)
        agent.observe(np.array([action, draws.choice(3, p=theirs)]))
    half = rounds // 2
    return {
        "regret_before": float(losses[:half].mean()), "regret_after": float(losses[half:].mean()),
        "regret": float(losses.mean()), "rounds_to_follow": float(_followed(losses[half:])),
    }  # fmt: skip


def _followed(losses: np.ndarray, window: int = 10) -> int:
    """Rounds until ten best answers in a row have begun; all of them if that never happens."""
    best = np.convolve(losses <= 1e-9, np.ones(window), mode="valid") >= window
    return int(best.argmax()) if best.any() else len(losses)


def self_play_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``multi_agent_self_play``, its history, ``multi_agent_population`` and ``multi_agent_opponent``."""
    grid: dict[str, list[Any]] = {"algorithm": list(SELF_PLAY), "game": list(GAMES)}
    population: dict[str, list[Any]] = {"game": list(GAMES)}
    opponent: dict[str, list[Any]] = {"forgetting": list(FORGETTING)}
    if quick:
        grid |= {"iterations": [10]}
        population |= {"size": [4], "generations": [2], "updates": [3]}
        opponent |= {"rounds": [200]}
    runs = finished(sweeps(self_play_run, grid))
    shown = runs[runs["seed"].isin(sorted(runs["seed"].unique())[:3])]
    people = finished(sweeps(population_run, population))
    rivals = finished(sweeps(opponent_run, opponent))
    columns = ["regret_before", "regret_after", "rounds_to_follow"]
    return {
        "multi_agent_self_play": self_play_table(runs),
        "multi_agent_self_play_history": shown.drop(columns="seconds"),
        "multi_agent_population": population_table(people),
        "multi_agent_opponent": interval_table(rivals, ["forgetting"], columns),
    }
