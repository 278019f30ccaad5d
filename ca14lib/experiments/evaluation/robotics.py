"""An arm with faults and a hopper of another body: agents and controllers over grids of conditions.

Book: evaluation/robotics. Everybody is judged on the same held episodes; a planner that is told target, faults and
delay sets the 1 of the arm's scale, an arm at rest its 0.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.pid_lagrangian import PIDLagrangian, PIDLagrangianConfig
from ca14lib.data import Normalizer
from ca14lib.environments.applications.robotics import (
    DAMPING,
    ELBOW_LIMIT,
    FOREARM,
    INTERVAL,
    LINK,
    REACH,
    ROTOR,
    TORQUE,
    UPPER_ARM,
    ArmController,
    ComputedTorque,
    ReacherDomainVector,
    TransposedJacobian,
    joint_angles,
)
from ca14lib.environments.domains import Ranges, parameter_grid
from ca14lib.environments.perturbed import ParameterDrift, Perturbation, PerturbedVector
from ca14lib.environments.velocity import VELOCITY_LIMITS
from ca14lib.evaluation.rollouts import EVALUATION_STREAM, RolloutEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.experiments.safe.velocity import AIMED, LIMIT, observation_normalizer
from ca14lib.metrics.intervals import interval_table
from ca14lib.metrics.robustness import retained_share
from ca14lib.networks import DiagonalGaussianPolicy
from ca14lib.training.collect import collect
from ca14lib.training.on_policy import train_on_policy

Array = NDArray[np.float64]

# The arm

ARM = "CA14/ReacherDomain-v0"
EPISODE = 50  # steps
TRAINED: Ranges = {"shoulder": (0.5, 1.0), "elbow": (0.5, 1.0), "noise": (0.0, 2.0), "delay": (0, 2)}
TESTED: Ranges = {"shoulder": (0.0, 1.0), "elbow": (0.0, 1.0), "noise": (0.0, 4.0), "delay": (0, 4)}
EPISODES = 100  # held, of every condition
GRID_EPISODES = 40  # held, of every point of the grid
STEPS, NUM_ENVS = 100_000, 32


class Condition(NamedTuple):
    """Faults of the arm: what differs from the nominal parameters, and what changes during the episode."""

    parameters: Mapping[str, float]
    perturbations: tuple[Perturbation, ...] = ()


CONDITIONS = {
    "as built": Condition({}),
    "noisy sensors": Condition({"noise": 4.0}),
    "late actions": Condition({"delay": 4.0}),
    "dead shoulder": Condition({"shoulder": 0.0}),
    "fading elbow": Condition({}, (ParameterDrift("elbow", -1.0, 25),)),
}

CONTROLLERS: dict[str, list[ArmController]] = {
    "computed torque": [
        ComputedTorque(frequency, ratio) for frequency in (4.0, 5.0, 6.0, 7.0, 8.0, 10.0) for ratio in (0.6, 0.8, 1.0)
    ],
    "transposed Jacobian": [
        TransposedJacobian(stiffness, damping)
        for stiffness in (800.0, 1_600.0, 3_200.0, 6_400.0) for damping in (6.0, 10.0, 15.0, 25.0)
    ],
}  # fmt: skip
RECIPES: dict[str, Ranges] = {"PPO, one arm": {}, "PPO, many arms": TRAINED}
TUNING_EPISODES = 200  # of training draws, for every setting of a controller

# chosen on seed 100
ARM_SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3, "learning_rate_decay": 0.97, "discount": 0.97, "gae_lambda": 0.9, "epochs": 8,
    "minibatches": 8, "max_kl": 0.03,
}  # fmt: skip


INITIAL_LOG_STD = -1.8  # the usual -0.5 alone costs 37 of return an episode, by the squared actions


def arm_grid() -> list[dict[str, float]]:
    """Three values of each parameter, both ends of ``TESTED`` included; without the arm whose motors are both dead."""
    return [point for point in parameter_grid(TESTED, 3) if point["shoulder"] or point["elbow"]]


def is_inside(point: Mapping[str, float], ranges: Ranges) -> bool:
    """Whether a point lies within all ranges, ends included."""
    bounds = {name: np.broadcast_to(np.asarray(given, dtype=np.float64), (2,)) for name, given in ranges.items()}
    return all(low <= point[name] <= high for name, (low, high) in bounds.items())


def held_starts(episodes: int) -> Array:
    """Initial states ``[episodes, 6]`` that no training sees, the same for everybody."""
    seed = int(np.random.SeedSequence([EVALUATION_STREAM, 0]).generate_state(1)[0] % 2**31)
    environment = ReacherDomainVector(episodes)
    environment.reset(seed=seed)
    return environment.state


def arm_episodes(agent: Any, points: list[Condition], starts: Array) -> tuple[Array, Array]:
    """Return and steps of overload of an episode from every start at every point.

    Args:
        agent: Has ``act(observation, deterministic=)``, or is a plan: actions ``[P, E, T, 2]``.
        points: P conditions with the same perturbations.
        starts: ``[E, 6]``.
    Returns:
        ``[P, E]`` each.
    """
    copies, shape = len(points) * len(starts), (len(points), len(starts))
    environment = PerturbedVector(ReacherDomainVector(copies, time_limit=None), points[0].perturbations)
    nominal = {name: one.nominal for name, one in ReacherDomainVector.PARAMETERS.items()}
    values = [nominal | dict(point.parameters) for point in points]
    parameters = {name: np.repeat([one[name] for one in values], len(starts)) for name in nominal}
    options = {"parameters": parameters, "state": np.tile(starts, (len(points), 1))}
    observation, _ = environment.reset(seed=0, options=options)
    returns, overload = np.zeros(copies), np.zeros(copies)
    for step in range(EPISODE):
        if isinstance(agent, np.ndarray):
            action = agent[:, :, step].reshape(copies, 2)
        else:
            action = agent.act(observation, deterministic=True)
        observation, reward, _, _, info = environment.step(action)
        returns += reward
        overload += info["cost"]
    return returns.reshape(shape), overload.reshape(shape)


# What the arm's returns are measured with


def responses() -> tuple[Array, Array]:
    """What a torque does to the angles of an arm whose links weigh nothing (book eq. robotics-response).

    Returns:
        For every joint the angle after step t to a unit of torque in step j, ``[2, T, T]``, and to a unit of speed at
        the start, ``[2, T]``.
    """
    inertia = np.array([UPPER_ARM + FOREARM, FOREARM])[:, None, None] + ROTOR
    kept = np.exp(-DAMPING * INTERVAL / inertia)
    passed = np.arange(EPISODE)[:, None] - np.arange(EPISODE)  # whole steps since the torque's own
    torque = np.where(passed >= 0, INTERVAL / DAMPING - inertia * (1 - kept) * kept ** np.maximum(passed, 0), 0.0)
    coasting = (inertia * (1 - kept ** np.arange(1, EPISODE + 1)))[:, 0]
    return torque, coasting


def planned(points: list[Condition], starts: Array, iterations: int = 400) -> NDArray[np.float32]:
    """Actions ``[P, E, T, 2]`` that are nearly the best for an arm that is known, from every start at every point.

    Gradient descent on the return through :func:`responses`, from three first guesses: to either bend of the elbow by
    the way of a critically damped oscillator, and rest. The best of the three by their returns on the arm itself is
    kept, so that what is reported is what can be had.

    Args:
        points: P conditions with the same perturbations; their noise does not matter to who knows the state.
        starts: ``[E, 6]``.
        iterations: Of Adam.
    """
    guesses = [_descended(points, starts, bend, iterations) for bend in (1.0, -1.0, 0.0)]
    returns = np.stack([arm_episodes(guess, points, starts)[0] for guess in guesses])
    best = returns.argmax(axis=0)
    return np.take_along_axis(np.stack(guesses), best[None, ..., None, None], axis=0)[0]


def _descended(points: list[Condition], starts: Array, bend: float, iterations: int) -> NDArray[np.float32]:
    left, delay = _strength(points), np.array([int(point.parameters.get("delay", 0)) for point in points])
    torque, coasting = (torch.as_tensor(one, dtype=torch.float32) for one in responses())
    state = torch.as_tensor(starts, dtype=torch.float32)
    free = state[:, None, :2] + state[:, None, 2:4] * coasting.T  # [E, T, 2]
    steps = torch.arange(EPISODE)
    sent = steps - torch.as_tensor(delay)[:, None]  # [P, T]
    arrives = (sent >= 0)[:, None, :, None] * torch.as_tensor(left, dtype=torch.float32)[:, None] * TORQUE
    index = sent.clamp(min=0)[:, None, :, None].expand(-1, len(starts), -1, 2)
    first = np.zeros((EPISODE, len(starts), 2))
    if bend:
        goal = joint_angles(starts[:, 4:], np.full(len(starts), bend)) - starts[:, :2]
        goal[:, 0] = (goal[:, 0] + np.pi) % (2 * np.pi) - np.pi
        time, frequency = INTERVAL * (np.arange(EPISODE) + 0.5)[:, None, None], 8.0
        first = frequency**2 * (1 - frequency * time) * np.exp(-frequency * time) * goal / TORQUE
    begun = np.broadcast_to(first.transpose(1, 0, 2), (len(points), len(starts), EPISODE, 2))
    plan = torch.tensor(begun, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([plan], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        action = plan.clamp(-1.0, 1.0)
        applied = action.gather(2, index) * arrives
        angles = free + torch.einsum("jtk,pekj->petj", torque, applied)
        shoulder, elbow = angles.unbind(-1)
        both = shoulder + elbow
        x = LINK * shoulder.cos() + REACH * both.cos() - state[:, 4, None]
        y = LINK * shoulder.sin() + REACH * both.sin() - state[:, 5, None]
        stop = (elbow.abs() - ELBOW_LIMIT).clamp(min=0.0).square()
        loss = ((x.square() + y.square() + 1e-8).sqrt() + 10 * stop).sum() + action.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return plan.detach().clamp(-1.0, 1.0).numpy()


def _strength(points: list[Condition]) -> Array:
    """Share of the torque that a motor has in every step, ``[P, T, 2]``."""
    left = np.ones((len(points), EPISODE, 2))
    for row, point in zip(left, points):
        for joint, name in enumerate(("shoulder", "elbow")):
            row[:, joint] = point.parameters.get(name, 1.0)
            for drift in point.perturbations:
                if isinstance(drift, ParameterDrift) and drift.parameter == name:
                    row[:, joint] += np.minimum(np.arange(1, EPISODE + 1) / drift.steps, 1.0) * drift.change
    return left


def arm_yardsticks(episodes: int = EPISODES, grid_episodes: int = GRID_EPISODES, iterations: int = 400) -> pd.DataFrame:
    """Mean held returns at rest and of the planner, for every condition and every point of the grid.

    Returns:
        Columns ``condition`` (empty on the grid), the parameters, ``rest``, ``planner``.
    """
    starts, few = held_starts(episodes), held_starts(grid_episodes)
    rows = []
    for name, condition in CONDITIONS.items():
        reached = [
            float(arm_episodes(plan, [condition], starts)[0].mean())
            for plan in (np.zeros((1, episodes, EPISODE, 2)), planned([condition], starts, iterations))
        ]
        rows.append({"condition": name, "rest": reached[0], "planner": reached[1]})
    # whoever knows the state does not mind noise: one plan for all its levels
    grid = arm_grid()
    quiet = [Condition(point) for point in grid if point["noise"] == 0.0]
    rest = arm_episodes(np.zeros((len(quiet), grid_episodes, EPISODE, 2)), quiet, few)[0].mean(axis=1)
    best = arm_episodes(planned(quiet, few, iterations), quiet, few)[0].mean(axis=1)
    found = {_quiet(dict(one.parameters)): both for one, both in zip(quiet, zip(rest, best))}
    for point in grid:
        low, high = found[_quiet(point)]
        rows.append({"condition": "", **point, "rest": float(low), "planner": float(high)})
    return pd.DataFrame(rows)


def _quiet(point: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(value for name, value in point.items() if name != "noise")


# Who drives it


def tuned_controller(name: str, seed: int, episodes: int = TUNING_EPISODES) -> ArmController:
    """The best setting of a controller on training draws of the arm.

    Args:
        name: Key of ``CONTROLLERS``.
        seed: Of the draws.
        episodes: For every setting, the same for all.
    """
    environment = ReacherDomainVector(episodes, ranges=TRAINED)
    environment.reset(seed=seed)
    starts, drawn = environment.state, environment.parameters
    points = [Condition({key: float(values[row]) for key, values in drawn.items()}) for row in range(episodes)]
    reached = [_diagonal(controller, points, starts) for controller in CONTROLLERS[name]]
    return CONTROLLERS[name][int(np.argmax(reached))]


def _diagonal(controller: ArmController, points: list[Condition], starts: Array) -> float:
    """Mean return of one episode at every point, each from a start of its own."""
    environment = ReacherDomainVector(len(points), time_limit=None)
    parameters = {name: np.array([point.parameters[name] for point in points]) for name in environment.names}
    observation, _ = environment.reset(seed=0, options={"parameters": parameters, "state": starts})
    total = 0.0
    for _ in range(EPISODE):
        observation, reward, *_ = environment.step(controller.act(observation))
        total += float(reward.mean())
    return total


def trained_arm(ranges: Ranges, seed: int, *, steps: int = STEPS, perturbations: tuple[Perturbation, ...] = ()) -> PPO:
    """Train PPO on the arm.

    Args:
        ranges: From which parameters are drawn for every episode.
        seed: Of agent, normalizer's data and environments.
        steps: Environment steps of all copies together.
        perturbations: Within every episode.
    """
    spaces = ReacherDomainVector(1)
    data = collect(ARM, "random", 100, seed=seed)
    agent = PPO(
        spaces.single_observation_space, spaces.single_action_space, PPOConfig(**ARM_SETTINGS),
        normalizer=Normalizer.fit(data.transitions.observation, 0.01), seed=seed,
    )  # fmt: skip
    assert isinstance(agent.policy, DiagonalGaussianPolicy)
    torch.nn.init.constant_(agent.policy.log_std, INITIAL_LOG_STD)
    arguments = {"environment": ARM, "perturbations": perturbations, "ranges": ranges}
    train_on_policy(
        agent, "CA14/Perturbed-v0", steps, num_envs=NUM_ENVS, rollout_steps=EPISODE, seed=seed, progress=False,
        environment_arguments=arguments,
    )  # fmt: skip
    return agent


def _driver(name: str, seed: int, steps: int) -> Any:
    if name in CONTROLLERS:
        return tuned_controller(name, seed)
    if name in RECIPES:
        return trained_arm(RECIPES[name], seed, steps=steps)
    raise ValueError(f"driver must be one of {', '.join([*CONTROLLERS, *RECIPES])}, got {name!r}")


def arm_run(
    driver: str, seed: int, *, steps: int = STEPS, episodes: int = EPISODES, grid_episodes: int = GRID_EPISODES
) -> list[dict[str, Any]]:
    """Tune or train one driver of the arm and judge it in every condition and over the grid.

    Args:
        driver: Key of ``CONTROLLERS`` or ``RECIPES``.
        seed: Of tuning or training.
        steps: Environment steps of training.
        episodes: Held episodes of every condition.
        grid_episodes: Held episodes of every point of the grid.
    Returns:
        Rows with ``condition``, empty on the grid, the parameters there, ``return`` and ``overload``, steps of an
        episode in which a motor is asked for more than its rated torque.
    Raises:
        ValueError: If the driver is unknown.
    """
    agent = _driver(driver, seed, steps)
    rows = []
    for name, condition in CONDITIONS.items():
        returns, overload = arm_episodes(agent, [condition], held_starts(episodes))
        rows.append({"condition": name, "return": float(returns.mean()), "overload": float(overload.mean())})
    grid = arm_grid()
    returns, overload = arm_episodes(agent, [Condition(point) for point in grid], held_starts(grid_episodes))
    for point, reached, over in zip(grid, returns.mean(axis=1), overload.mean(axis=1)):
        rows.append({"condition": "", **point, "return": float(reached), "overload": float(over)})
    return rows


def oracle_run(condition: str, seed: int, *, steps: int = STEPS, episodes: int = EPISODES) -> dict[str, float]:
    """Train PPO in the very condition that it is judged in.

    Args:
        condition: Key of ``CONDITIONS``.
        seed: Of agent and environments.
        steps: Environment steps of training.
        episodes: Held.
    Returns:
        ``return`` and ``overload``.
    """
    parameters, perturbations = CONDITIONS[condition]
    agent = trained_arm(dict(parameters), seed, steps=steps, perturbations=perturbations)
    returns, overload = arm_episodes(agent, [CONDITIONS[condition]], held_starts(episodes))
    return {"return": float(returns.mean()), "overload": float(overload.mean())}


# The hopper

HOPPER = "CA14/HopperVelocityDomain-v0"
BODIES: dict[str, Ranges] = {"one body": {}, "many bodies": {"mass": (0.75, 1.25), "friction": (0.5, 1.0)}}
MASSES, FRICTIONS = (0.5, 0.75, 1.0, 1.25, 1.5), (0.5, 1.0, 1.5)
HOPPER_STEPS, HOPPER_ENVS, HOPPER_ROLLOUT = 50_000, 8, 128
HOPPER_EPISODES = 2  # of every point of the grid
HOPPER_BOUND = 1_000 * (1.0 + VELOCITY_LIMITS["Hopper"])  # of an episode without a step over the limit

# chosen on seed 100; a twentieth of the steps of the experiment on the speed limit alone, with fewer passes over each
HOPPER_SETTINGS = PIDLagrangianConfig(
    cost_limits=(AIMED,), discount=0.995, gae_lambda=0.97, minibatches=8, epochs=6, learning_rate=1e-3,
    learning_rate_decay=0.98, max_kl=0.03, initial_multiplier=0.1, proportional=0.03, integral=0.0005, derivative=0.0,
    smoothing=0.5, max_multiplier=4.0,
)  # fmt: skip


def hopper_grid() -> list[dict[str, float]]:
    """Masses and frictions from end to end; those of training with both of their ends are among them."""
    return [{"mass": mass, "friction": friction} for mass in MASSES for friction in FRICTIONS]


def trained_hopper(body: str, seed: int, *, steps: int = HOPPER_STEPS, normalizer_episodes: int = 50) -> PIDLagrangian:
    """Train a hopper that keeps its speed limit in one body, or in one that is drawn for every episode.

    Args:
        body: Key of ``BODIES``.
        seed: Of agent, normalizer's data and environments.
        steps: Environment steps, rounded up to whole rollouts.
        normalizer_episodes: Of random actions in the nominal body.
    Raises:
        ValueError: If the body is unknown.
    """
    if body not in BODIES:
        raise ValueError(f"body must be one of {', '.join(BODIES)}, got {body!r}")
    environment = gym.make(HOPPER)
    agent = PIDLagrangian(
        environment.observation_space, environment.action_space, HOPPER_SETTINGS,
        normalizer=observation_normalizer(seed, normalizer_episodes), seed=seed,
    )  # fmt: skip
    environment.close()
    train_on_policy(
        agent, HOPPER, steps, num_envs=HOPPER_ENVS, rollout_steps=HOPPER_ROLLOUT, seed=seed, progress=False,
        environment_arguments={"ranges": BODIES[body]},
    )  # fmt: skip
    return agent


def hopper_run(
    body: str, seed: int, *, steps: int = HOPPER_STEPS, episodes: int = HOPPER_EPISODES, normalizer_episodes: int = 50
) -> list[dict[str, float]]:
    """Train in some bodies and judge, without a further step of learning, in all of the grid.

    Args:
        body: Key of ``BODIES``.
        seed: Of training; the held episodes are the same for all.
        steps: Environment steps of training.
        episodes: Held episodes of every point of the grid.
        normalizer_episodes: Of random actions.
    Returns:
        One row per point: ``mass``, ``friction``, ``return``, ``share`` of the bound for episodes that keep the limit,
        ``length``, ``cost`` (steps over the speed limit) and ``within``, 1.0 if that is at most 25.
    """
    agent = trained_hopper(body, seed, steps=steps, normalizer_episodes=normalizer_episodes)
    rows = []
    for point in hopper_grid():
        found = RolloutEvaluation(HOPPER, episodes, 0, environment_arguments={"ranges": point})(agent)
        rows.append({
            **point, "return": found["return"], "share": found["return"] / HOPPER_BOUND, "length": found["length"],
            "cost": found["cost_0"], "within": float(found["cost_0"] <= LIMIT),
        })  # fmt: skip
    return rows


# The tables


def arm_tables(runs: pd.DataFrame, oracles: pd.DataFrame, yardsticks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables of the arm from what its runs returned.

    Args:
        runs: Rows of :func:`arm_run` with ``driver`` and ``seed``.
        oracles: Rows of :func:`oracle_run` with ``condition`` and ``seed``; as built it is PPO of one arm.
        yardsticks: Of :func:`arm_yardsticks`.
    Returns:
        ``evaluation_robotics`` by condition and driver; ``evaluation_robotics_grid``, mean and least share over the
        grid, inside and outside of training; ``evaluation_robotics_shift``, the mean share at every value of a
        parameter, over the others.
    """
    by_condition = _condition_table(runs[runs.condition != ""], oracles, yardsticks[yardsticks.condition != ""])
    keys = list(TESTED)
    grid = runs[runs.condition == ""].merge(yardsticks.loc[yardsticks.condition == "", [*keys, "rest", "planner"]])
    grid["share"] = retained_share(grid["return"], grid["rest"], grid["planner"])
    grid["inside"] = [is_inside(point, TRAINED) for point in grid[keys].to_dict("records")]
    each = []
    for (driver, seed), points in grid.groupby(["driver", "seed"], sort=False):
        row = {"driver": driver, "seed": seed, "share": points["share"].mean(), "overload": points["overload"].mean()}
        for region, part in (("inside", points[points.inside]), ("outside", points[~points.inside])):
            row |= {f"{region}_share": part["share"].mean(), f"{region}_worst": part["share"].min()}
        each.append(row)
    columns = ["share", "inside_share", "inside_worst", "outside_share", "outside_worst", "overload"]
    summary = interval_table(pd.DataFrame(each), ["driver"], columns)
    by_point = grid.groupby(["driver", *keys], sort=False)["share"].mean()
    summary["worst_at"] = [
        ", ".join(f"{name} {value:g}" for name, value in zip(keys, by_point[driver].idxmin()))
        for driver in summary["driver"]
    ]
    shifts = []
    for name in keys:
        means = grid.groupby(["driver", name, "seed"], sort=False)["share"].mean().reset_index()
        table = interval_table(means, ["driver", name], ["share"]).rename(columns={name: "value"})
        table.insert(1, "parameter", name)
        shifts.append(table)
    return {
        "evaluation_robotics": by_condition, "evaluation_robotics_grid": summary,
        "evaluation_robotics_shift": pd.concat(shifts, ignore_index=True),
    }  # fmt: skip


def _condition_table(runs: pd.DataFrame, oracles: pd.DataFrame, marks: pd.DataFrame) -> pd.DataFrame:
    columns = ["condition", "seed", "return", "overload"]
    own = runs.loc[(runs.driver == "PPO, one arm") & (runs.condition == "as built"), columns]
    specialists = pd.concat([own, oracles[columns]]).assign(driver="PPO, this arm")
    judged = pd.concat([runs[["driver", *columns]], specialists]).merge(marks[["condition", "rest", "planner"]])
    judged["share"] = retained_share(judged["return"], judged["rest"], judged["planner"])
    table = interval_table(judged, ["condition", "driver"], ["return", "share", "overload"])
    marks = marks.set_index("condition")
    table = table.join(marks[["rest", "planner"]], on="condition")
    oracle = table[table.driver == "PPO, this arm"].set_index("condition")["return_iqm"]
    gained = table["condition"].map(oracle) - table["rest"]
    # a share of an oracle that is no better than an arm at rest says nothing
    table["of_oracle"] = ((table["return_iqm"] - table["rest"]) / gained).where(gained > 0)
    order = {name: index for index, name in enumerate(CONDITIONS)}
    return table.sort_values("condition", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def hopper_table(runs: pd.DataFrame) -> pd.DataFrame:
    """``evaluation_robotics_hopper``: means over the grid, inside and outside of what many bodies were drawn from.

    Args:
        runs: Rows of :func:`hopper_run` with ``body`` and ``seed``.
    """
    inside = np.array(
        [is_inside(point, BODIES["many bodies"]) for point in runs[["mass", "friction"]].to_dict("records")]
    )
    nominal = ((runs.mass == 1.0) & (runs.friction == 1.0)).to_numpy()
    rows = []
    for region, chosen in (("nominal", nominal), ("inside", inside), ("outside", ~inside)):
        for (body, seed), tests in runs[chosen].groupby(["body", "seed"], sort=False):
            means = tests[["return", "share", "length", "cost", "within"]].mean()
            extremes = {"worst_share": tests["share"].min(), "worst_cost": tests["cost"].max()}
            rows.append({"tested": region, "body": body, "seed": seed} | means.to_dict() | extremes)
    columns = ["return", "share", "worst_share", "length", "cost", "worst_cost", "within"]
    return interval_table(pd.DataFrame(rows), ["tested", "body"], columns)


def robotics(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``evaluation_robotics`` with ``_grid``, ``_shift``, ``_hopper`` and the ``_runs`` of arm and hopper."""
    drivers: dict[str, list[Any]] = {"driver": [*CONTROLLERS, *RECIPES]}
    specialists: dict[str, list[Any]] = {"condition": [name for name in CONDITIONS if name != "as built"]}
    bodies: dict[str, list[Any]] = {"body": list(BODIES)}
    sizes: dict[str, int] = {}
    if quick:
        sizes = {"episodes": 20, "grid_episodes": 5, "iterations": 20}
        drivers |= {"steps": [6_400], "episodes": [20], "grid_episodes": [5]}
        specialists |= {"condition": ["dead shoulder"], "steps": [6_400], "episodes": [20]}
        bodies |= {"steps": [4_096], "episodes": [1], "normalizer_episodes": [10]}
    frames = [
        finished(sweeps(function, grid)).drop(columns=["steps", "normalizer_episodes", "seconds"], errors="ignore")
        for function, grid in ((arm_run, drivers), (oracle_run, specialists), (hopper_run, bodies))
    ]
    runs, oracles, hoppers = frames
    tables = arm_tables(runs, oracles, arm_yardsticks(**sizes))
    named = pd.concat([runs[runs.condition != ""].drop(columns=list(TESTED)), oracles.assign(driver="PPO, this arm")])
    return tables | {
        "evaluation_robotics_hopper": hopper_table(hoppers),
        "evaluation_robotics_runs": named[["driver", "condition", "seed", "return", "overload"]],
        "evaluation_robotics_hopper_runs": hoppers.drop(columns="episodes", errors="ignore"),
    }  # fmt: skip
