"""What a channel is worth: TargetGrid with a view of two cells, and meanings that have to be named.

Book: multi_agent/communication.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.multi_agent.base import MultiAgent
from ca14lib.agents.multi_agent.commnet import CommNet, CommNetConfig
from ca14lib.agents.multi_agent.communication import CommunicatingTeam
from ca14lib.agents.multi_agent.dial import DIAL, DIALConfig
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.tarmac import TarMAC, TarMACConfig
from ca14lib.environments import ReferentialGame, multi_agent_environment
from ca14lib.evaluation import TeamEvaluation
from ca14lib.experiments.multi_agent.target_grid import (
    EPISODES,
    PPO_SETTINGS,
    ROLLOUTS,
    TARGET_GRID,
    TeamEntry,
    target_grid_training,
)
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.communication import channel_value, message_entropy, speaker_consistency, topographic_similarity
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.multi_agent import train_multi_agent

VIEW = {"view_radius": 2}
VIEW_STEPS = 400_000
MODES = ("open", "cut", "scrambled")

# Settings were chosen with training seeds from 100 on; the tables report seeds 0, 1, …
_VIEW: dict[str, Any] = PPO_SETTINGS | {"learning_rate": 1e-3}
VIEW_TEAMS: dict[str, TeamEntry] = {
    "TarMAC": TeamEntry(TarMAC, TarMACConfig(**_VIEW), VIEW_STEPS, ROLLOUTS),
    "CommNet": TeamEntry(CommNet, CommNetConfig(**_VIEW), VIEW_STEPS, ROLLOUTS),
    "DIAL": TeamEntry(DIAL, DIALConfig(**_VIEW), VIEW_STEPS, ROLLOUTS),
    "TarMAC trained deaf": TeamEntry(TarMAC, TarMACConfig(**_VIEW, channel="cut"), VIEW_STEPS, ROLLOUTS),
    "MAPPO": TeamEntry(MAPPO, MAPPOConfig(**_VIEW), VIEW_STEPS, ROLLOUTS),
}

REFERENTIAL = "ReferentialGame"
REFERENTIAL_SIZES: dict[str, dict[str, Any]] = {
    "2 attributes, 3 values": {"attributes": 2, "values": 3, "symbols": 3, "length": 2},
    "2 attributes, 4 values": {"attributes": 2, "values": 4, "symbols": 4, "length": 2},
}
REFERENTIAL_STEPS = 400_000
REFERENTIAL_CONFIG = MAPPOConfig(
    hidden_sizes=(64,), learning_rate=5e-3, value_learning_rate=5e-3, entropy_weight=0.5, final_entropy_weight=0.0,
    annealing=0.985, epochs=4, minibatches=4,
)  # fmt: skip


def view_run(team: str, seed: int, *, steps: int | None = None) -> list[dict[str, Any]]:
    """Train one team that sees two cells far, and judge it with its channel open, cut and scrambled.

    Args:
        team: Key of ``VIEW_TEAMS``.
        seed: Of team and games.
        steps: Steps of all copies together; None for the team's number.
    Returns:
        One row per channel, a single one for a team without: ``channel``, ``return``, ``share`` of the bound,
        ``finished`` and ``length``, of the policy as it acts, over 1,000 held starts.
    """
    entry = VIEW_TEAMS[team]
    agent, _ = target_grid_training(entry, seed, steps=steps, arguments=VIEW, judged=False)
    judge = TeamEvaluation(TARGET_GRID, EPISODES, environment_arguments=VIEW)
    rows = []
    hears = isinstance(agent, CommunicatingTeam) and agent.config.channel == "open"
    for mode in MODES if hears else ("none",):
        if hears:
            assert isinstance(agent, CommunicatingTeam)
            with agent.channel(mode):
                values = judge(agent)
        else:
            values = judge(agent)
        rows.append({"channel": mode} | {name: values[name] for name in ("return", "share", "finished", "length")})
    return rows


def view_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, and what the open channel is worth against each other one, in team return."""
    table = interval_table(runs, ["team", "channel"], ["share", "return", "finished", "length"])
    worth = []
    for row in table.itertuples():
        own = runs[(runs["team"] == row.team) & (runs["channel"] == "open")].sort_values("seed")["return"]
        other = runs[(runs["team"] == row.team) & (runs["channel"] == row.channel)].sort_values("seed")["return"]
        same = row.channel in ("open", "none")
        worth.append([np.nan] * 3 if same else list(channel_value(own.to_numpy(), other.to_numpy())))
    table[["worth", "worth_low", "worth_high"]] = worth
    return table


def deaf_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What an open channel is worth against the same team trained without hearing, seed by seed."""
    hearing = runs[(runs["team"] == "TarMAC") & (runs["channel"] == "open")].sort_values("seed")["return"]
    deaf = runs[runs["team"] == "TarMAC trained deaf"].sort_values("seed")["return"]
    worth, low, high = channel_value(hearing.to_numpy(), deaf.to_numpy())
    return pd.DataFrame([{"team": "TarMAC", "worth": worth, "worth_low": low, "worth_high": high, "seeds": len(deaf)}])


def referential_training(size: str, seed: int, *, steps: int = REFERENTIAL_STEPS) -> MultiAgent:
    """Train a speaker and a listener.

    Args:
        size: Key of ``REFERENTIAL_SIZES``.
        seed: Of team and games.
        steps: Steps of all copies together.
    """
    arguments = REFERENTIAL_SIZES[size]
    team = MAPPO.for_game(multi_agent_environment(REFERENTIAL, 1, **arguments), REFERENTIAL_CONFIG, seed=seed)
    train_multi_agent(
        team, REFERENTIAL, steps, environment_arguments=arguments, num_envs=128, rollout_steps=8, seed=seed,
        log_every=20, progress=False,
    )  # fmt: skip
    return team


def spoken(team: MultiAgent, size: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All meanings ``[V^K, K]`` and what the speaker most probably says for each, ``[V^K, L]``."""
    arguments = REFERENTIAL_SIZES[size]
    attributes, values = arguments["attributes"], arguments["values"]
    meanings = np.stack(np.meshgrid(*[np.arange(values)] * attributes, indexing="ij"), axis=-1).reshape(-1, attributes)
    game = ReferentialGame(len(meanings), **arguments)
    observation, info = game.reset(seed=0, options={"meanings": meanings})
    for _ in range(arguments["length"]):
        action = team.act(observation, mask=info["action_mask"], deterministic=True)
        observation, _, _, _, info = game.step(action)
    return game.decoded(info["state"])


def referential_run(size: str, seed: int, *, steps: int = REFERENTIAL_STEPS) -> dict[str, float]:
    """Train a speaker and a listener and judge their language.

    Args:
        size: Key of ``REFERENTIAL_SIZES``.
        seed: Of team and games.
        steps: Steps of all copies together.
    Returns:
        ``right``, the share of attributes named rightly by the most probable actions, the same with the channel
        ``cut`` and ``scrambled``, ``topographic`` similarity, ``entropy`` of the messages in bits, ``consistency`` of
        the speaker, and the number of different ``messages``.
    """
    team, arguments = referential_training(size, seed, steps=steps), REFERENTIAL_SIZES[size]
    right = {
        mode: TeamEvaluation(
            REFERENTIAL, EPISODES, environment_arguments=arguments | {"channel": mode}, deterministic=True
        )(team)["return"]
        for mode in MODES
    }
    meanings, messages = spoken(team, size)
    named = np.ravel_multi_index(tuple(messages.T), (arguments["symbols"],) * arguments["length"])
    whole = np.ravel_multi_index(tuple(meanings.T), (arguments["values"],) * arguments["attributes"])
    return {
        "right": right["open"], "cut": right["cut"], "scrambled": right["scrambled"],
        "topographic": topographic_similarity(meanings, messages),
        "entropy": message_entropy(named, arguments["symbols"] ** arguments["length"]),
        "consistency": speaker_consistency(whole, named), "messages": float(len(np.unique(named))),
    }  # fmt: skip


def referential_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per size, beside what can be had without hearing."""
    columns = ["right", "cut", "scrambled", "topographic", "entropy", "consistency", "messages"]
    table = interval_table(runs, ["size"], columns)
    table["meanings"] = [REFERENTIAL_SIZES[s]["values"] ** REFERENTIAL_SIZES[s]["attributes"] for s in table["size"]]
    table["unheard"] = [1 / REFERENTIAL_SIZES[s]["values"] for s in table["size"]]
    return table


def communication_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Limited views (``multi_agent_view``, ``…_runs``, ``…_deaf``) and a language (``multi_agent_referential``)."""
    grid: dict[str, list[Any]] = {"team": list(VIEW_TEAMS)}
    sizes: dict[str, list[Any]] = {"size": list(REFERENTIAL_SIZES)}
    if quick:
        grid = {"team": ["TarMAC", "TarMAC trained deaf"], "steps": [50_000]}
        sizes = {"size": list(REFERENTIAL_SIZES)[:1], "steps": [100_000]}
    views = finished(sweeps(view_run, grid))
    languages = finished(sweeps(referential_run, sizes))
    return {
        "multi_agent_view": view_table(views), "multi_agent_view_runs": views.drop(columns="seconds"),
        "multi_agent_view_deaf": deaf_table(views), "multi_agent_referential": referential_table(languages),
        "multi_agent_referential_runs": languages.drop(columns="seconds"),
    }  # fmt: skip
