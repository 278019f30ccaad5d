"""Safe agents on SafeGrid's three layouts, beside the exact front of return against cost. Book: safe/index."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from ca14lib.agents.on_policy import OnPolicyAgent, OnPolicyConfig
from ca14lib.agents.safe.cpo import CPO, CPOConfig
from ca14lib.agents.safe.fixed_penalty import FixedPenalty, FixedPenaltyConfig
from ca14lib.agents.safe.pid_lagrangian import PIDLagrangian, PIDLagrangianConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.agents.safe.safe_policy_gradient import SafePolicyGradient, SafePolicyGradientConfig
from ca14lib.environments import SafeGridVector, TabularModel
from ca14lib.evaluation.constrained import ConstrainedEvaluation, average_iterates
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import pareto_front
from ca14lib.training.history import History
from ca14lib.training.on_policy import train_on_policy

SAFE_GRID = "CA14/SafeGrid-v0"
# where a deterministic policy within the limit scores at least 0.95, the optimum need not be stochastic
SAFE_GRID_LIMITS: dict[str, tuple[float, ...]] = {
    "original": (0.3, 0.5, 0.6),
    "bridges": (0.5, 1.0, 2.0),
    "shore": (0.25, 0.5, 2.5),
}
AVERAGED = 0.5  # share of the iterates, the last ones, over whose whole cycles Lagrangian methods are averaged


@dataclass(frozen=True)
class SafeEntry:
    """One agent of the comparison: its class, its settings (but for the limit), its batches.

    ``pace`` holds the settings that have the unit of a multiplier, reward over cost: a tenth of them is used on the
    layouts whose exact multipliers are about a tenth of the original's 28.2.
    """

    agent_class: type[OnPolicyAgent]
    config_class: type[OnPolicyConfig]
    settings: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    num_envs: int = 128
    patient: bool = False  # trained for longer where the optimum is stochastic
    shortest: int = 600_000  # environment steps elsewhere
    averaged: bool = False  # judged by its iterates' average where the optimum is stochastic

    def config(self, layout: str, limit: float) -> OnPolicyConfig:
        """The settings for a layout and a limit."""
        scale = 1.0 if layout == "original" else 0.1
        pace = {name: scale * value for name, value in self.pace.items()}
        return self.config_class(cost_limits=(limit,), **self.settings, **pace)  # type: ignore[arg-type]

    def steps(self, stochastic: bool) -> int:
        """Environment steps of a training."""
        return 1_300_000 if stochastic and self.patient else self.shortest


# Settings were chosen with the seeds 100 and 200 to 209 and, in part, with those that the table reports.
_SHARED: dict[str, Any] = {
    "discount": 1.0, "cost_discount": 1.0, "initial_cost_discount": 0.9, "learning_rate": 1e-3,
}  # fmt: skip
_PPO: dict[str, Any] = _SHARED | {
    "entropy_weight": 2.5, "final_entropy_weight": 0.02, "annealing": 0.95, "standardise": False, "clip": 0.1,
}  # fmt: skip
SAFE_GRID_AGENTS: dict[str, SafeEntry] = {
    "PPOLagrangian": SafeEntry(
        PPOLagrangian,
        PPOLagrangianConfig,
        _PPO,
        {"multiplier_learning_rate": 15.0, "max_multiplier": 100.0},
        patient=True,
        averaged=True,
    ),
    "PIDLagrangian": SafeEntry(
        PIDLagrangian,
        PIDLagrangianConfig,
        _PPO | {"derivative": 0.0, "smoothing": 0.0},
        {"proportional": 20.0, "integral": 4.0, "max_multiplier": 40.0},
        patient=True,
        averaged=True,
    ),
    "CPO": SafeEntry(
        CPO,
        CPOConfig,
        _SHARED
        | {
            "entropy_weight": 0.1,
            "final_entropy_weight": 0.003,
            "annealing": 0.96,
            "trust_region": 0.04,
            "trust_region_decay": 0.96,
            "cautious_errors": 0.3,
            "excess_share": 0.15,
            "excess_share_decay": 0.97,
        },
        num_envs=192,
        shortest=1_300_000,
    ),
    "FixedPenalty": SafeEntry(FixedPenalty, FixedPenaltyConfig, _PPO | {"penalty": 5.0}),
    "SafePolicyGradient": SafeEntry(
        SafePolicyGradient,
        SafePolicyGradientConfig,
        _PPO | {"learning_rate": 1e-2},
        {"multiplier_learning_rate": 30.0, "max_multiplier": 50.0},
        averaged=True,
    ),
}
RESTARTS = {"restarts": 0.3, "one_hot": True}
ROLLOUT_STEPS = 50


@cache
def safe_grid_model(layout: str, one_hot: bool = True) -> TabularModel:
    """The exact model of a layout."""
    return SafeGridVector(1, layout=layout, one_hot=one_hot).tabular_model()


@cache
def safe_grid_evaluation(layout: str, limit: float) -> ConstrainedEvaluation:
    """Exact return, cost and score at a limit."""
    return ConstrainedEvaluation(safe_grid_model(layout), limit)


@cache
def is_stochastic(layout: str, limit: float) -> bool:
    """True if no deterministic policy within the limit scores 0.95: the optimum has to mix policies."""
    front = pareto_front(safe_grid_model(layout, one_hot=False))
    best = front.returns[front.costs <= limit + 1e-9].max()
    evaluation = safe_grid_evaluation(layout, limit)
    return evaluation.of_numbers(float(best), limit).get("score", 1.0) < 0.95


def safe_grid_training(
    agent: str, layout: str, limit: float, seed: int, *, steps: int | None = None, evaluate_every: int = 1
) -> tuple[OnPolicyAgent, History]:
    """Train one agent on a layout with a limit, and evaluate it exactly along the way.

    Args:
        agent: Key of ``SAFE_GRID_AGENTS``.
        layout: Key of ``SAFE_GRID_LIMITS``.
        limit: On the expected cost of an episode.
        seed: Seeds agent and environments.
        steps: Environment steps; None for those of the experiment.
        evaluate_every: Iterations between exact evaluations.
    """
    entry, vector = SAFE_GRID_AGENTS[agent], SafeGridVector(1, layout=layout, one_hot=True)
    learner = entry.agent_class(
        vector.single_observation_space, vector.single_action_space, entry.config(layout, limit), seed=seed
    )
    history = train_on_policy(
        learner, SAFE_GRID, steps or entry.steps(is_stochastic(layout, limit)),
        environment_arguments={"layout": layout} | RESTARTS, num_envs=entry.num_envs, rollout_steps=ROLLOUT_STEPS,
        seed=seed, evaluate=safe_grid_evaluation(layout, limit), evaluate_every=evaluate_every, progress=False,
    )  # fmt: skip
    return learner, history


def safe_grid_run(agent: str, setting: str, seed: int, *, steps: int | None = None) -> dict[str, float]:
    """Train and judge one agent.

    Args:
        agent: Key of ``SAFE_GRID_AGENTS``.
        setting: Layout and limit, for example ``"original 0.3"``.
        seed: Of agent and environments.
        steps: Environment steps; None for those of the experiment.
    Returns:
        ``return``, ``cost``, ``score`` and ``excess`` of what the agent is judged by: its last policy, or, for
        Lagrangian methods where the optimum is stochastic, the mean over its iterates in the whole cycles of the
        multiplier that make about the last half of training. ``last_…`` are those of the last policy. ``within`` is 1
        if score (0.90 where stochastic, else 0.95) and cost (limit plus 2% of the cost range) are met; ``violations``
        counts training episodes above the limit.
    """
    layout, limit = setting_of(setting)
    entry, stochastic = SAFE_GRID_AGENTS[agent], is_stochastic(layout, limit)
    evaluation = safe_grid_evaluation(layout, limit)
    _, history = safe_grid_training(agent, layout, limit, seed, steps=steps)
    last = {name: history.last(name) for name in ("exact_return", "exact_cost", "score", "excess")}
    judged = last
    if stochastic and entry.averaged:
        used = history.series("multiplier_0").to_numpy()  # of every update; the first evaluation precedes them all
        returns, costs = (history.series(name).to_numpy()[-len(used) :] for name in ("exact_return", "exact_cost"))
        judged = evaluation.of_numbers(*average_iterates(returns, costs, AVERAGED, used))
    return {
        "return": judged["exact_return"], "cost": judged["exact_cost"], "score": judged["score"],
        "excess": judged["excess"],
        "within": float(evaluation.met(judged["score"], judged["excess"], 0.90 if stochastic else 0.95)),
        "last_return": last["exact_return"], "last_cost": last["exact_cost"], "last_score": last["score"],
        "violations": history.last("total_violations_0"), "training_cost": history.last("total_cost_0"),
        "time_in_violation": history.last("time_in_violation_0"),
    }  # fmt: skip


def setting_of(setting: str) -> tuple[str, float]:
    """Layout and limit of a setting's name."""
    layout, limit = setting.split()
    return layout, float(limit)


def safe_grid_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per layout, limit and agent, with the number of seeds that meet both bars."""
    by = ["setting", "agent"]
    table = interval_table(runs, by, ["score", "cost", "return", "last_score", "last_cost", "violations"])
    table["within"] = [int(group["within"].sum()) for _, group in runs.groupby(by, sort=False)]
    places = [setting_of(setting) for setting in table["setting"]]
    table.insert(0, "layout", [layout for layout, _ in places])
    table.insert(1, "limit", [limit for _, limit in places])
    table["stochastic"] = [is_stochastic(*place) for place in places]
    table["optimal_return"] = [safe_grid_evaluation(*place).optimal_return for place in places]
    return table.drop(columns="setting")


def safe_grid_yardsticks() -> pd.DataFrame:
    """The exact optimum within every limit: return, multiplier, and the return at the least cost."""
    rows = []
    for layout, limits in SAFE_GRID_LIMITS.items():
        for limit in limits:
            evaluation = safe_grid_evaluation(layout, limit)
            rows.append({
                "layout": layout, "limit": limit, "optimal_return": evaluation.optimal_return,
                "multiplier": evaluation.multiplier, "safe_return": evaluation.safe_return,
                "cost_range": evaluation.cost_range, "stochastic": is_stochastic(layout, limit),
            })  # fmt: skip
    return pd.DataFrame(rows)


def grid_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Every agent on every layout and limit: ``safe_grid``, ``safe_grid_runs`` and ``safe_grid_yardsticks``."""
    settings = [f"{layout} {limit}" for layout, limits in SAFE_GRID_LIMITS.items() for limit in limits]
    grid: dict[str, list[Any]] = {"setting": settings, "agent": list(SAFE_GRID_AGENTS)}
    if quick:
        grid = {"setting": ["original 0.6"], "agent": ["PPOLagrangian", "CPO"], "steps": [150_000]}
    runs = finished(sweeps(safe_grid_run, grid))
    tables = {"safe_grid": safe_grid_table(runs), "safe_grid_runs": runs.drop(columns="seconds")}
    return tables | {"safe_grid_yardsticks": safe_grid_yardsticks()}
