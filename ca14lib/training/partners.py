"""Training for partners that are never met: Other-Play and fictitious co-play. Book: evaluation/partners.

Self-play finds a team that fits itself. **Other-Play** (Hu et al., 2020) plays with itself under other names, so that
no convention helps that a stranger could not have guessed. **Fictitious co-play** (Strouse et al., 2021) trains against
a population of teams that played themselves, each as it was at the start, half-way and at the end.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.base import MultiAgent
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.environments.lever_game import LEVERS, LeverGame
from ca14lib.environments.multi_agent import MultiAgentEnvironment
from ca14lib.training.multi_agent import train_multi_agent
from ca14lib.training.self_play import OpponentPool, train_self_play

GAME = "LeverGame"
TEAM = IPPOConfig(
    hidden_sizes=(32,), learning_rate=3e-3, discount=1.0, gae_lambda=0.9, epochs=4, minibatches=2, entropy_weight=0.05,
    final_entropy_weight=0.002, annealing=0.97, team_reward=False,
)  # fmt: skip


@dataclass(frozen=True)
class PartnersConfig:
    levers: tuple[float, ...] = LEVERS
    horizon: int = 5  # H
    updates: int = 120  # of every team
    num_envs: int = 64
    population: int = 4  # N, teams that play themselves, eq. partners-co-play
    stages: int = 3  # of each: the beginning, the end, and what lies between at equal distances
    team: IPPOConfig = TEAM

    def __post_init__(self) -> None:
        for name in ("horizon", "updates", "num_envs", "population"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, name, value, "a positive integer")
        whole = isinstance(self.stages, int) and not isinstance(self.stages, bool)
        require(whole and 2 <= self.stages <= self.updates + 1, "stages", self.stages, "from 2 to updates + 1")
        require(not self.team.team_reward, "team", self.team, "with team_reward=False: strangers share no reward")

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the game."""
        return {"levers": self.levers, "horizon": self.horizon}

    def steps(self, updates: int) -> int:
        """Environment steps of some updates: each sees whole episodes of all copies."""
        return updates * self.num_envs * self.horizon


class PartnerPool(OpponentPool):
    """Partners from outside, which do not change: who learns with them does not join them.

    The loop of self-play adds the learner to its pool every few updates; here that does nothing, and :meth:`meet` is
    how a partner gets in.
    """

    def add(self, agent: MultiAgent) -> None:
        """The learner stays outside."""

    def meet(self, agent: MultiAgent) -> None:
        """Keep a copy of a team as a partner.

        Raises:
            ValueError: If the pool is full: no partner gives way.
        """
        if len(self) == self.capacity:
            raise ValueError(f"the pool holds its {self.capacity} partners already")
        super().add(agent)


def self_play_team(config: PartnersConfig, seed: int, *, relabelled: bool = False) -> IPPO:
    """A team that plays itself; with ``relabelled`` under other names (book eq. partners-other-play).

    Args:
        config: Game and settings.
        seed: Of team and game.
        relabelled: Other-Play.
    """
    team = new_team(config, seed)
    play_itself(team, config, config.updates, seed, relabelled=relabelled)
    return team


def new_team(config: PartnersConfig, seed: int) -> IPPO:
    """An untrained team for the game."""
    return IPPO.for_game(LeverGame(1, **config.arguments), config.team, seed=seed)


def play_itself(team: IPPO, config: PartnersConfig, updates: int, seed: int, *, relabelled: bool = False) -> None:
    """Some updates of self-play, in place."""
    train_multi_agent(
        team, GAME, config.steps(updates), environment_arguments=config.arguments | {"relabelled": relabelled},
        num_envs=config.num_envs, rollout_steps=config.horizon, seed=seed, progress=False,
    )  # fmt: skip


def partner_population(config: PartnersConfig, seed: int) -> PartnerPool:
    """Teams that play themselves, each kept at several stages of its training (book eq. partners-co-play).

    Args:
        config: Their number, stages and settings.
        seed: Of all; each team's own seed follows from it.
    """
    pool = PartnerPool(config.population * config.stages, seed=seed)
    marks = np.linspace(0, config.updates, config.stages).round().astype(int)
    for member in range(config.population):
        own = int(np.random.SeedSequence([seed, member]).generate_state(1)[0] % 2**31)
        team = new_team(config, own)
        pool.meet(team)
        for stage, updates in enumerate(np.diff(marks)):
            play_itself(team, config, int(updates), own + stage)
            pool.meet(team)
    return pool


def co_play_team(config: PartnersConfig, seed: int, pool: PartnerPool | None = None) -> IPPO:
    """A team whose seats learn with partners of a population only (book eq. partners-co-play).

    Args:
        config: Game and settings.
        seed: Of team, game and population.
        pool: Partners; None makes a population with :func:`partner_population`.
    Raises:
        ValueError: If the pool is empty.
    """
    pool = partner_population(config, seed) if pool is None else pool
    if not len(pool):
        raise ValueError("co-play needs partners, the pool is empty")
    team = new_team(config, seed)
    train_self_play(
        team, GAME, config.steps(config.updates), environment_arguments=config.arguments, num_envs=config.num_envs,
        rollout_steps=config.horizon, pool=pool, latest=0.0, opponents=4, snapshot_every=1, seed=seed, progress=False,
    )  # fmt: skip
    return team


def policy_tables(team: MultiAgent, game: MultiAgentEnvironment) -> NDArray[np.float64]:
    """What each seat of a team does in every round and view, ``[2, H, 1 + A², A]``, as :mod:`ca14lib.solvers.partners`.

    Args:
        team: A team without memory that has ``probabilities``.
        game: A matrix game of two players with one round of memory.
    Raises:
        ValueError: If the game is another one.
    """
    memory, count = getattr(game, "memory", None), getattr(game, "num_actions", 0)
    if memory != 1 or game.num_agents != 2:
        raise ValueError(f"tables are for two players and one round of memory, got {game.num_agents} and {memory}")
    rounds = game.horizon or 1
    own, other = np.divmod(np.arange(count**2), count)
    eye = np.eye(count, dtype=np.float32)
    views = np.vstack([np.zeros((1, 2 * count), np.float32), np.column_stack([eye[own], eye[other]])])
    left = np.repeat((rounds - np.arange(rounds, dtype=np.float32)) / rounds, len(views))
    seen = np.column_stack([np.tile(views, (rounds, 1)), left])
    chances = team.probabilities(np.repeat(seen[:, None], 2, axis=1))  # type: ignore[operator]
    table = np.asarray(chances, dtype=np.float64)
    table /= table.sum(axis=-1, keepdims=True)
    return np.moveaxis(table.reshape(rounds, len(views), 2, count), 2, 0)


def shorter(config: PartnersConfig, updates: int) -> PartnersConfig:
    """The same with fewer updates."""
    return replace(config, updates=updates)
