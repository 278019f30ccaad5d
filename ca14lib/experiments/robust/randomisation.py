"""UncertainGrid: agents trained in one world, in many, and in many with memory, beside a planner that sees the world.

Book: robust/domain_randomisation. All agents learn by the same updates from the same number of steps, with a critic
that sees cell and parameters in training; they differ in what they train on and in what they remember.
"""

import time
from typing import Any, NamedTuple

import pandas as pd

from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.environments import multi_agent_environment
from ca14lib.evaluation.uncertain_grid import UncertainGridEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table, iqm_interval
from ca14lib.training.multi_agent import train_multi_agent

GAME = "Solo/CA14/UncertainGrid-v0"
LEVELS = (0.1, 0.3, 0.5)  # the original's
STEPS = 1_500_000
EPISODES = 1_000  # held, of each level
# points of the shift curves: one parameter of all held episodes of a level is set, the others stay as they were drawn
SHIFT_LEVEL = 0.3
SHIFTS: dict[str, tuple[float, ...]] = {
    "action_failure": (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
    "observation_noise": (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
}


class Recipe(NamedTuple):
    """How an agent is trained: in drawn worlds or in the one of level 0, and whether it has memory."""

    randomised: bool
    memory: bool


RECIPES = {
    "one world": Recipe(randomised=False, memory=False),
    "many worlds": Recipe(randomised=True, memory=False),
    "many worlds, memory": Recipe(randomised=True, memory=True),
}

# chosen with seeds from 100 on; an entropy weight that falls sooner leaves agents with memory no better than without
LOOP: dict[str, Any] = {"num_envs": 128, "rollout_steps": 32}
SETTINGS: dict[str, Any] = {
    "hidden_sizes": (64, 64), "learning_rate": 1e-3, "learning_rate_decay": 0.995, "value_learning_rate": 1e-3,
    "epochs": 4, "minibatches": 4, "discount": 0.99, "entropy_weight": 0.01, "final_entropy_weight": 0.001,
    "annealing": 0.99,
}  # fmt: skip


def trained_walker(recipe: str, level: float, seed: int, *, steps: int = STEPS) -> MAPPO:
    """Train one agent on UncertainGrid.

    Args:
        recipe: Key of ``RECIPES``.
        level: Of uncertainty in training; ignored where the recipe has one world.
        seed: Of agent and environments.
        steps: Environment steps of all copies together.
    Raises:
        ValueError: If the recipe is unknown or a number out of range.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
    randomised, memory = RECIPES[recipe]
    # memory needs the last action to tell what failed; without memory only the present observation counts
    arguments = {"uncertainty": level if randomised else 0.0, "previous_action": memory}
    agent = MAPPO.for_game(
        multi_agent_environment(GAME, 1, **arguments), MAPPOConfig(**SETTINGS, recurrent=memory), seed=seed
    )
    train_multi_agent(agent, GAME, steps, environment_arguments=arguments, seed=seed, progress=False, **LOOP)
    return agent


def held_evaluations(
    levels: tuple[float, ...] = LEVELS, episodes: int = EPISODES
) -> dict[float, UncertainGridEvaluation]:
    """The held episodes of every level, the same for all agents and seeds."""
    return {level: UncertainGridEvaluation(episodes, environment_arguments={"uncertainty": level}) for level in levels}


def shift_curve(
    agent: MAPPO, parameter: str, *, level: float = SHIFT_LEVEL, values: tuple[float, ...] | None = None,
    episodes: int = EPISODES,
) -> pd.DataFrame:  # fmt: skip
    """Return on a level's held episodes with one parameter set to one value after another.

    Args:
        agent: Whom to test.
        parameter: ``"action_failure"`` or ``"observation_noise"``; the level draws it from 0 to ``level``.
        level: From which all other parameters are drawn.
        values: Of the parameter; None for the experiment's.
        episodes: Number of held episodes.
    Returns:
        One row per value: ``parameter``, ``value``, ``return``, ``bound``, ``uniform``, ``share``.
    """
    held = UncertainGridEvaluation(episodes, environment_arguments={"uncertainty": level}).parameters
    rows = []
    for value in SHIFTS[parameter] if values is None else values:
        result = UncertainGridEvaluation(parameters=held.changed(**{parameter: value}))(agent)
        kept = {name: result[name] for name in ("return", "bound", "uniform", "share")}
        rows.append({"parameter": parameter, "value": value} | kept)
    return pd.DataFrame(rows)


def randomisation_run(
    recipe: str, level: float, seed: int, *, steps: int = STEPS, episodes: int = EPISODES
) -> list[dict[str, Any]]:
    """Train one agent and test it at every level, and along the shifts if it was trained at their level.

    Args:
        recipe: Key of ``RECIPES``.
        level: Of training; 0 for the recipe with one world.
        seed: Of agent and environments.
        steps: Environment steps of training.
        episodes: Held episodes of every level.
    Returns:
        Rows with ``parameter`` empty, one per ``tested`` level: ``return`` with drawn actions, ``bound``, ``uniform``,
        ``share``, ``share_of_bound``, ``share_of_bound_best`` with the best actions in place of drawn ones,
        ``arrived``, and ``training_seconds`` of processor time; then the rows of the shift curves.
    """
    begun = time.process_time()
    agent = trained_walker(recipe, level, seed, steps=steps)
    spent, rows = time.process_time() - begun, []
    for tested, evaluation in held_evaluations(episodes=episodes).items():
        result = evaluation(agent)
        evaluation.deterministic = True
        best = evaluation(agent)["share_of_bound"]
        kept = {name: result[name] for name in ("return", "bound", "uniform", "share", "share_of_bound", "arrived")}
        rows.append(
            {"parameter": "", "tested": tested} | kept | {"share_of_bound_best": best, "training_seconds": spent}
        )
    if level in (0.0, SHIFT_LEVEL):
        for parameter in SHIFTS:
            rows += shift_curve(agent, parameter, episodes=episodes).to_dict("records")
    return rows


def gains(tests: pd.DataFrame) -> pd.DataFrame:
    """Differences of the share of the bound between recipes at their own levels, seed by seed, with intervals."""
    rows = []
    for level in tests["tested"].unique():
        own = tests[(tests.tested == level) & (tests.level.isin([0.0, level]))]
        by_recipe = own.pivot(index="seed", columns="recipe", values="share_of_bound")
        for more, less in (
            ("many worlds, memory", "many worlds"), ("many worlds", "one world"), ("many worlds, memory", "one world"),
        ):  # fmt: skip
            if more in by_recipe and less in by_recipe:
                gain = iqm_interval((by_recipe[more] - by_recipe[less]).to_numpy())
                rows.append(
                    {"level": level, "recipe": more, "compared_with": less, "seeds": len(by_recipe)}
                    | {"gain_iqm": gain.estimate, "gain_low": gain.low, "gain_high": gain.high}
                )
    return pd.DataFrame(rows)


def randomisation_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``robust_randomisation`` with ``_gain``, ``_transfer``, ``_shift`` and ``_runs``."""
    settings: list[dict[str, Any]] = [{"recipe": ["one world"], "level": [0.0]}]
    settings.append({"recipe": ["many worlds", "many worlds, memory"], "level": list(LEVELS)})
    if quick:
        settings = [{**grid, "level": grid["level"][-1:], "steps": [100_000], "episodes": [200]} for grid in settings]
    frames = [finished(sweeps(randomisation_run, grid)) for grid in settings]
    runs = pd.concat(frames, ignore_index=True).drop(columns=["steps", "episodes"], errors="ignore")
    tests, shifts = runs[runs.parameter == ""], runs[runs.parameter != ""]
    by = ["recipe", "level", "tested"]
    transfer = interval_table(tests, by, ["share_of_bound", "share_of_bound_best"])
    groups = tests.groupby(by, sort=False)
    for name in ("arrived", "share"):
        transfer[name] = groups[name].mean().to_numpy()
    transfer["training_seconds"] = groups["training_seconds"].median().to_numpy()
    for name in ("bound", "uniform"):  # the same for all seeds
        transfer[name] = [tests[tests.tested == level][name].iloc[0] for level in transfer["tested"]]
    own = transfer[transfer.level.isin([0.0]) | (transfer.level == transfer.tested)].copy()
    curves = interval_table(shifts, ["recipe", "parameter", "value"], ["return"])
    curves["bound"] = [
        shifts[(shifts.parameter == row.parameter) & (shifts.value == row.value)]["bound"].iloc[0]
        for row in curves.itertuples()
    ]
    name = "robust_randomisation"
    return {
        name: own.drop(columns="level").rename(columns={"tested": "level"}).sort_values("level", kind="stable"),
        f"{name}_gain": gains(tests), f"{name}_transfer": transfer, f"{name}_shift": curves,
        f"{name}_runs": tests.drop(columns=["seconds", "parameter", "value"]),
    }  # fmt: skip
